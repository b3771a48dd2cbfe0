"""r2sim for its own tests: a server, a client by boto3, and requests on the
raw wire, signed by botocore and sent as they are."""

import hashlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import unittest
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
R2SIM = os.environ.get("R2SIM", os.path.join(
    HERE, "../../build/test/r2sim/r2sim"))
KEY = "0123456789abcdef0123456789abcdef"
SECRET = "sim-secret-0123456789"
B = "bucket"
MIB = 1 << 20


class Sim:
    def __init__(self, *options, directory=None, auth=True):
        self.keep = directory is not None
        self.dir = directory or tempfile.mkdtemp(prefix="r2sim-")
        self.data = os.path.join(self.dir, "data")
        os.makedirs(self.data, exist_ok=True)
        argv = [R2SIM, "--data", self.data, "--bucket", "bucket",
                "--die-with-parent", *options]
        if auth:
            secret = os.path.join(self.dir, "secret")
            with open(secret, "w") as f:
                f.write(SECRET + "\n")
            argv += ["--access-key", KEY, "--secret-key-file", secret]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE,
                                        text=True)
        self.port = int(self.process.stdout.readline().split()[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def control(self, what, body=None):
        req = urllib.request.Request(f"{self.endpoint}/_r2sim/{what}",
                                     data=body)
        with urllib.request.urlopen(req, timeout=20) as r:
            return json.loads(r.read())

    def faults(self, rules):
        answer = self.control("faults", rules.encode() or b"\n")
        assert "bad_line" not in answer, answer

    def stats(self):
        return self.control("stats")

    def client(self, retries=0, **config):
        import boto3
        from botocore.config import Config
        from botocore.handlers import add_expect_header
        config = {"request_checksum_calculation": "when_required",
                  "response_checksum_validation": "when_required",
                  "s3": {"addressing_style": "path"}, **config}
        s3 = boto3.client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id=KEY,
            aws_secret_access_key=SECRET, region_name="auto",
            config=Config(retries={"max_attempts": retries}, proxies={},
                          read_timeout=30, **config))
        s3.meta.events.unregister("before-call.s3", add_expect_header)
        return s3

    def signed(self, method, path, body=b"", headers={}, secret=SECRET,
               key=KEY, payload=None, skew=0):
        """The headers of a signed request; path as it goes on the wire."""
        import datetime
        from botocore import auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        class Signer(auth.S3SigV4Auth):
            def payload(self, request):
                return payload or super().payload(request)

        req = AWSRequest(method, self.endpoint + path, data=body,
                         headers=dict(headers))
        now = datetime.datetime.now(datetime.timezone.utc)
        now += datetime.timedelta(seconds=skew)
        real = auth.get_current_datetime
        auth.get_current_datetime = lambda *a, **kw: now
        try:
            Signer(Credentials(key, secret), "s3", "auto").add_auth(req)
        finally:
            auth.get_current_datetime = real
        return dict(req.headers.items())

    def raw(self, method, path, body=b"", headers={}, sign=True, timeout=20,
            connection=None, **kw):
        """(status, headers in lower case, body)"""
        if sign:
            headers = self.signed(method, path, body, headers, **kw)
        c = connection or http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=timeout)
        c.putrequest(method, path, skip_accept_encoding=True)
        if "Content-Length" not in headers and (
                body or method in ("PUT", "POST")):
            c.putheader("Content-Length", str(len(body)))
        for name, value in headers.items():
            c.putheader(name, value)
        c.endheaders(body or None)
        r = c.getresponse()
        answer = (r.status, {k.lower(): v for k, v in r.getheaders()},
                  r.read())
        if not connection:
            c.close()
        return answer


def md5(data):
    return hashlib.md5(data).hexdigest()


def joined(parts):
    """The ETag of an upload in these parts."""
    digests = b"".join(hashlib.md5(p).digest() for p in parts)
    return f'"{hashlib.md5(digests).hexdigest()}-{len(parts)}"'


class Case(unittest.TestCase):
    options = ()

    def setUp(self):
        self.sim = Sim(*self.options)
        self.addCleanup(self.sim.stop)
        self.s3 = self.sim.client()
        self.addCleanup(self.s3.close)

    def put(self, key, body=b"", **kw):
        return self.s3.put_object(Bucket=B, Key=key, Body=body, **kw)

    def get(self, key, **kw):
        return self.s3.get_object(Bucket=B, Key=key, **kw)

    def refused(self, status, code, call, *args, **kw):
        from botocore.exceptions import ClientError
        with self.assertRaises(ClientError) as c:
            call(*args, **kw)
        r = c.exception.response
        self.assertEqual((r["ResponseMetadata"]["HTTPStatusCode"],
                          r["Error"]["Code"]), (status, code), r)
        return r

    def wire(self, status, code, method, path, *args, **kw):
        answer = self.sim.raw(method, path, *args, **kw)
        self.assertEqual(answer[0], status, answer)
        if code:
            self.assertIn(f"<Code>{code}</Code>".encode(), answer[2])
        return answer
