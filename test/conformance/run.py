#!/usr/bin/env python3
"""Runs the conformance cases against servers.

    run.py BUILD [SERVER...]        r2sim, miniflare, swift; default the first two

Starts each server over an empty folder, lets boto3 (a client r2fs has no part
in) put objects for the cases to read, runs BUILD/test/conformance/conformance,
and lets boto3 read what the cases left. The last line of each server is
"SERVER: N passed, N failed".
"""

import hashlib
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
KEY = "0123456789abcdef0123456789abcdef"
SECRET = "conformance-secret"
BUCKET = "bucket"
LIMIT = 300  # seconds for the cases of one server


def node():
    inside = os.path.join(ROOT, ".venv/bin/node")
    return inside if os.path.exists(inside) else "node"


def command(server, build, scratch):
    """What to start, and the key id that the server wants."""
    if server == "r2sim":
        secret = os.path.join(scratch, "secret")
        with open(os.open(secret, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
            f.write(SECRET)
        data = os.path.join(scratch, "data")
        os.mkdir(data)
        return [os.path.join(build, "test/r2sim/r2sim"), "--data", data,
                "--bucket", BUCKET, "--access-key", KEY, "--secret-key-file",
                secret, "--die-with-parent"], KEY
    if server == "miniflare":
        return [node(), os.path.join(ROOT, "test/servers/miniflare/server.mjs"),
                BUCKET], KEY
    if server == "swift":
        return [os.path.join(ROOT, "test/servers/swift/server.py"),
                BUCKET], "r2fs:test"
    sys.exit(f"no such server: {server}")


class Server:
    def __init__(self, name, build):
        self.name = name
        self.dir = tempfile.TemporaryDirectory(prefix="r2fs-conformance-")
        argv, self.key = command(name, build, self.dir.name)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith(("AWS_", "R2_"))}
        self.env.update(R2_ACCESS_KEY_ID=self.key, R2_SECRET_ACCESS_KEY=SECRET)
        self.process = subprocess.Popen(argv, env=self.env, text=True,
                                        stdout=subprocess.PIPE)
        port = self.read("listening")
        self.endpoint = (f"http://127.0.0.1:{port}" if name == "r2sim"
                         else self.read("endpoint"))
        self.env["CONFORMANCE_ENDPOINT"] = self.endpoint

    def read(self, word):
        line = self.process.stdout.readline().split()
        if len(line) != 2 or line[0] != word:
            sys.exit(f"{self.name} did not start: {line}")
        return line[1]

    def client(self):
        import boto3
        from botocore.config import Config
        return boto3.client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id=self.key,
            aws_secret_access_key=SECRET, region_name="auto",
            config=Config(request_checksum_calculation="when_required",
                          response_checksum_validation="when_required",
                          s3={"addressing_style": "path"},
                          retries={"max_attempts": 1}))

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.dir.cleanup()


# What boto3 writes for the cases of foreign.c, and reads from them.
NAMES = ["plain", "a b+c%d", "\u00e9t\u00e9/\u65e5\u672c", "x/y/z", "q?a=b&c#d"]


def body(name, n=3000):
    line = name.encode() + b"\n"
    return (line * (n // len(line) + 1))[:n]


def put_foreign(s3):
    for name in NAMES:
        data = body(name)
        s3.put_object(Bucket=BUCKET, Key="foreign/" + name, Body=data,
                      ContentType="text/x-foreign",
                      Metadata={"sum": hashlib.md5(data).hexdigest(),
                                "mode": "33188"})


def check_ours(s3):
    """Whether boto3 finds what the cases left under ours/."""
    names = [o["Key"] for p in s3.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix="ours/") for o in p.get("Contents", [])]
    want = sorted(["ours/" + n for n in NAMES] + ["ours/copy", "ours/parts"])
    if sorted(names) != want:
        return f"keys are {names}"
    for name in NAMES + ["copy"]:
        o = s3.get_object(Bucket=BUCKET, Key="ours/" + name)
        if o["Body"].read() != body("plain" if name == "copy" else name):
            return f"bytes of {name}"
        if o["Metadata"] != {"mtime": "1700000000.5", "name": "ours"}:
            return f"metadata of {name}: {o['Metadata']}"
        if o["ContentType"] != "text/x-ours":
            return f"content type of {name}: {o['ContentType']}"
    o = s3.get_object(Bucket=BUCKET, Key="ours/parts")
    if o["Body"].read() != body("parts", 6 << 20):
        return "bytes of the upload in parts"
    return None


def run(name, build):
    server = Server(name, build)
    good = bad = 0
    try:
        s3 = server.client()
        put_foreign(s3)
        p = subprocess.run(
            [os.path.join(build, "test/conformance/conformance"), name,
             server.endpoint, BUCKET], env=server.env, timeout=LIMIT,
            stdout=subprocess.PIPE, text=True)
        lines = p.stdout.splitlines()
        for i, line in enumerate(lines):
            if line.startswith("not ok"):
                bad += 1
                print(f"{name}: {line}")
                print("\n".join(x for x in lines[i + 1:i + 3]
                                if x.startswith("#")))
            elif line.startswith("ok"):
                good += 1
        if lines[-1:] != [f"1..{good + bad}"]:
            bad += 1
            print(f"{name}: the cases ended early, status {p.returncode}")
        why = check_ours(s3)
        if why:
            bad += 1
            print(f"{name}: another client disagrees: {why}")
        else:
            good += 1
    finally:
        server.stop()
    print(f"{name}: {good} passed, {bad} failed")
    return bad == 0


def main():
    build = os.path.abspath(sys.argv[1])
    os.environ.pop("AWS_CA_BUNDLE", None)
    ok = [run(s, build) for s in sys.argv[2:] or ["r2sim", "miniflare"]]
    sys.exit(0 if all(ok) else 1)


if __name__ == "__main__":
    main()
