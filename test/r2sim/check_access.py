"""Buckets, signatures, scopes and what R2 refuses."""

import http.client
import re
import socket
import unittest

import boto3

from sim import B, KEY, SECRET, Case


class Buckets(Case):
    def test_life(self):
        s3 = self.s3
        s3.create_bucket(Bucket="new-1", CreateBucketConfiguration={
            "LocationConstraint": "weur"})
        self.refused(409, "BucketConflict", s3.create_bucket, Bucket="new-1")
        self.assertEqual(s3.get_bucket_location(
            Bucket="new-1")["LocationConstraint"], "WEUR")
        r = s3.head_bucket(Bucket="new-1")["ResponseMetadata"]["HTTPHeaders"]
        self.assertEqual(r["x-amz-bucket-region"], "auto")
        self.assertEqual([b["Name"] for b in s3.list_buckets()["Buckets"]],
                         [B, "new-1"])
        r = self.sim.raw("GET", "/?max-keys=1")
        self.assertEqual((r[1]["cf-is-truncated"],
                          r[1]["cf-next-continuation-token"]), ("true", B))
        r = self.sim.raw("GET", "/", headers={"cf-prefix": "new"})
        self.assertEqual(re.findall(b"<Name>(.*?)</Name>", r[2]), [b"new-1"])
        s3.put_object(Bucket="new-1", Key="k", Body=b"")
        self.refused(409, "BucketNotEmpty", s3.delete_bucket, Bucket="new-1")
        s3.delete_object(Bucket="new-1", Key="k")
        id = s3.create_multipart_upload(Bucket="new-1", Key="k")["UploadId"]
        self.refused(409, "BucketNotEmpty", s3.delete_bucket, Bucket="new-1")
        s3.abort_multipart_upload(Bucket="new-1", Key="k", UploadId=id)
        s3.delete_bucket(Bucket="new-1")
        self.refused(404, "404", s3.head_bucket, Bucket="new-1")
        self.refused(404, "NoSuchBucket", s3.delete_bucket, Bucket="new-1")
        s3.create_bucket(Bucket="new-1")
        for name in "ab", "-ab", "A" * 5, "a.b", "x" * 64:
            self.wire(400, "InvalidBucketName", "PUT", f"/{name}")
        self.wire(404, "NoSuchBucket", "PUT", "/made/k", b"x")
        self.wire(200, None, "PUT", "/made/k", b"x",
                  {"cf-create-bucket-if-missing": "true"})

    def test_settings(self):
        s3 = self.s3
        r = s3.get_bucket_versioning(Bucket=B)
        self.assertNotIn("Status", r)
        r = s3.get_bucket_encryption(Bucket=B)
        rule = r["ServerSideEncryptionConfiguration"]["Rules"][0]
        self.assertEqual(
            rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"],
            "AES256")
        self.refused(404, "NoSuchTagSet", s3.get_bucket_tagging, Bucket=B)
        self.refused(404, "ObjectLockConfigurationNotFoundError",
                     s3.get_object_lock_configuration, Bucket=B)
        self.refused(404, "ReplicationConfigurationNotFoundError",
                     s3.get_bucket_replication, Bucket=B)
        self.refused(501, "NotImplemented", s3.get_bucket_policy, Bucket=B)
        self.refused(501, "NotImplemented", s3.put_bucket_acl, Bucket=B,
                     ACL="private")
        self.wire(400, "InvalidArgument", "PUT", f"/{B}?odd=1")
        self.wire(400, "InvalidArgument", "GET", f"/{B}?location&odd=1")
        self.wire(200, None, "POST", f"/{B}")
        self.wire(404, "RouteNotFound", "PATCH", f"/{B}")
        self.wire(404, "RouteNotFound", "PATCH", f"/{B}/k")

    def test_what_r2_lacks(self):
        self.put("k", b"x")
        for call in (self.s3.get_object_tagging, self.s3.get_object_acl):
            self.refused(501, "NotImplemented", call, Bucket=B, Key="k")
        for kw in ({"Tagging": "a=b"}, {"GrantRead": "id=1"},
                   {"WebsiteRedirectLocation": "/x"},
                   {"ServerSideEncryption": "aws:kms"},
                   {"ExpectedBucketOwner": "1"},
                   {"ObjectLockMode": "COMPLIANCE"}):
            self.refused(501, "NotImplemented", self.put, "n", b"", **kw)
        self.refused(400, "InvalidStorageClass", self.put, "n", b"",
                     StorageClass="GLACIER")
        self.put("y", b"", ACL="public-read", ServerSideEncryption="AES256")
        self.wire(501, "NotImplemented", "PUT", f"/{B}/n", b"",
                  {"x-amz-acl": "odd"})
        self.wire(200, None, "PUT", f"/{B}/n", b"", {"x-amz-odd": "odd"})
        self.refused(501, "NotImplemented", self.s3.delete_object, Bucket=B,
                     Key="k", MFA="x")
        self.wire(204, None, "DELETE", f"/{B}/k?tagging")
        self.refused(404, "NoSuchKey", self.get, "k")
        self.wire(501, "NotImplemented", "PUT", f"/{B}/n", b"x",
                  payload="STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        self.wire(501, "NotImplemented", "PUT", f"/{B}/n", b"x",
                  {"Content-Encoding": "aws-chunked"})


class Authorisation(Case):
    def test_order_and_codes(self):
        path = f"/{B}?list-type=2"
        self.wire(200, None, "GET", path)
        self.wire(400, "InvalidArgument", "GET", path, sign=False)
        good = self.sim.signed("GET", path)
        for name, status, code in (
                ("X-Amz-Content-SHA256", 400, "InvalidRequest"),
                ("X-Amz-Date", 400, "InvalidArgument")):
            h = {k: v for k, v in good.items() if k.lower() != name.lower()}
            self.wire(status, code, "GET", path, headers=h, sign=False)
        for skew in -1000, 1000:
            self.wire(403, "RequestTimeTooSkewed", "GET", path, skew=skew)
        self.wire(200, None, "GET", path, skew=800)
        auth = good["Authorization"]
        for old, new, status, code in (
                ("AWS4-HMAC-SHA256", "AWS4-X", 400, "InvalidRequest"),
                ("Signature=", "Sig=", 400, "InvalidRequest"),
                ("/s3/", "/ec2/", 400, "InvalidArgument"),
                ("aws4_request", "aws5", 400, "InvalidArgument"),
                ("/auto/", "/", 400, "InvalidArgument"),
                (KEY, KEY[1:], 400, "InvalidArgument"),
                (KEY, KEY[::-1], 401, "Unauthorized"),
                ("host;", "", 401, "Unauthorized"),
                ("/auto/", "/weur/", 403, "SignatureDoesNotMatch")):
            self.assertIn(old, auth)
            h = {**good, "Authorization": auth.replace(old, new)}
            self.wire(status, code, "GET", path, headers=h, sign=False)
        r = self.wire(403, "SignatureDoesNotMatch", "GET", path,
                      secret="wrong")
        for tag in "StringToSign", "CanonicalRequest", "SignatureProvided":
            self.assertIn(f"<{tag}>".encode(), r[2])
        self.wire(401, "Unauthorized", "GET", "/nobucket", key=KEY[::-1])
        r = self.sim.raw("HEAD", f"/{B}/k", secret="wrong")
        self.assertEqual((r[0], r[2]), (403, b""))

    def test_regions(self):
        for region in "auto", "us-east-1", "weur":
            s3 = boto3.client("s3", endpoint_url=self.sim.endpoint,
                              aws_access_key_id=KEY, region_name=region,
                              aws_secret_access_key=SECRET)
            s3.list_objects_v2(Bucket=B)
            s3.close()

    def test_rotation_and_session_token(self):
        self.sim.control("credentials", b"%s new-secret" % KEY.encode())
        self.wire(403, "SignatureDoesNotMatch", "GET", f"/{B}")
        self.wire(200, None, "GET", f"/{B}", secret="new-secret")
        self.sim.control("credentials", f"{KEY} {SECRET} token".encode())
        self.wire(401, "Unauthorized", "GET", f"/{B}")
        self.wire(200, None, "GET", f"/{B}",
                  headers={"X-Amz-Security-Token": "token"})

    def test_length_is_needed(self):
        c = http.client.HTTPConnection("127.0.0.1", self.sim.port)
        c.putrequest("PUT", f"/{B}/k")
        for k, v in self.sim.signed("PUT", f"/{B}/k").items():
            c.putheader(k, v)
        c.putheader("Transfer-Encoding", "chunked")
        c.endheaders()
        r = c.getresponse()
        self.assertEqual(r.status, 411)
        self.assertIn(b"MissingContentLength", r.read())
        c.close()

    def test_too_large_and_never_100(self):
        for size, expect in ((5363466241, b"400"), (3, b"200")):
            s = socket.create_connection(("127.0.0.1", self.sim.port))
            headers = self.sim.signed("PUT", f"/{B}/k",
                                      payload="UNSIGNED-PAYLOAD")
            text = f"PUT /{B}/k HTTP/1.1\r\n" + "".join(
                f"{k}: {v}\r\n" for k, v in headers.items()) + (
                f"Host: 127.0.0.1:{self.sim.port}\r\n"
                f"Content-Length: {size}\r\nExpect: 100-continue\r\n\r\n")
            s.sendall(text.encode())
            if size == 3:
                s.settimeout(0.3)
                with self.assertRaises(TimeoutError):
                    s.recv(100)
                s.settimeout(10)
                s.sendall(b"abc")
            answer = s.recv(10000)
            self.assertTrue(answer.startswith(b"HTTP/1.1 " + expect), answer)
            if size > 3:
                self.assertIn(b"EntityTooLarge", answer)
            s.close()


class Scope(Case):
    options = ("--scope", "object")

    def test_object_token(self):
        self.put("k", b"x")
        for call, kw in ((self.s3.list_buckets, {}),
                         (self.s3.create_bucket, {"Bucket": "abc"}),
                         (self.s3.delete_bucket, {"Bucket": B})):
            self.refused(403, "AccessDenied", call, **kw)


class ReadScope(Case):
    options = ("--scope", "read", "--domain", "r2.test", "--synthetic",
               "bucket:s/:5:100000")

    def test_read_token(self):
        self.refused(403, "AccessDenied", self.put, "k", b"x")
        self.refused(403, "AccessDenied", self.s3.delete_object, Bucket=B,
                     Key="k")
        self.assertEqual(self.sim.stats()["class_a"], 0)

    def test_virtual_host_and_synthetic(self):
        a = self.get("s/f00000003")["Body"].read()
        self.assertEqual(len(a), 100000)
        path = "/s/f00000003"
        headers = self.sim.signed("GET", path,
                                  headers={"Host": "bucket.r2.test"})
        c = http.client.HTTPConnection("127.0.0.1", self.sim.port)
        c.putrequest("GET", path, skip_host=True)
        for k, v in headers.items():
            c.putheader(k, v)
        c.endheaders()
        r = c.getresponse()
        self.assertEqual((r.status, r.read()), (200, a))
        c.close()


if __name__ == "__main__":
    unittest.main()
