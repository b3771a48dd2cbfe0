"""Objects as boto3 sees them: bodies, ranges, conditions, digests, names."""

import datetime
import hashlib
import http.client
import os
import threading
import unittest
import urllib.error
import urllib.request
from urllib.parse import quote, unquote

from botocore.exceptions import ClientError

from sim import B, MIB, Case, md5


class Objects(Case):
    def test_put_get_head_delete(self):
        body = os.urandom(300000)
        meta = {"mode": "33188", "symlink": "../x y", "empty": ""}
        when = datetime.datetime(2030, 1, 2, 3, 4, 5)
        r = self.put("dir/a b", body, Metadata=meta, ContentType="text/x-c",
                     ContentEncoding="aws", CacheControl="no-transform",
                     ContentDisposition="inline", ContentLanguage="de",
                     Expires=when, StorageClass="STANDARD_IA")
        self.assertEqual(r["ETag"], f'"{md5(body)}"')
        g = self.get("dir/a b")
        self.assertEqual(g["Body"].read(), body)
        h = self.s3.head_object(Bucket=B, Key="dir/a b")
        for r in g, h:
            self.assertEqual(r["ContentLength"], len(body))
            self.assertEqual(r["Metadata"], meta)
            self.assertEqual(
                [r[k] for k in ("ContentType", "ContentEncoding",
                                "CacheControl", "ContentDisposition",
                                "ContentLanguage")],
                ["text/x-c", "aws", "no-transform", "inline", "de"])
            self.assertIn("2030", r["ExpiresString"])
            self.assertLess(abs(r["LastModified"].timestamp() -
                                datetime.datetime.now().timestamp()), 5)
        r = self.get("dir/a b", ResponseContentType="x/y",
                     ResponseCacheControl="none")
        self.assertEqual((r["ContentType"], r["CacheControl"]),
                         ("x/y", "none"))
        listed = self.s3.list_objects_v2(Bucket=B)["Contents"][0]
        self.assertEqual((listed["Key"], listed["Size"], listed["ETag"],
                          listed["StorageClass"]),
                         ("dir/a b", len(body), f'"{md5(body)}"',
                          "STANDARD_IA"))
        for _ in 1, 2:
            r = self.s3.delete_object(Bucket=B, Key="dir/a b")
            self.assertEqual(r["ResponseMetadata"]["HTTPStatusCode"], 204)
        self.refused(404, "NoSuchKey", self.get, "dir/a b")
        self.refused(404, "404", self.s3.head_object, Bucket=B, Key="dir/a b")
        self.refused(404, "NoSuchBucket", self.s3.get_object, Bucket="other",
                     Key="a")

    def test_defaults_and_empty_bodies(self):
        self.put("e")
        r = self.get("e")
        self.assertEqual((r["Body"].read(), r["ContentType"], r["ETag"]),
                         (b"", "application/octet-stream",
                          f'"{md5(b"")}"'))
        self.refused(416, "InvalidRange", self.get, "e", Range="bytes=0-0")

    def test_ranges(self):
        body = bytes(range(256)) * 400
        n = len(body)
        self.put("k", body)
        for text, a, b in (("0-0", 0, 1), ("5-99", 5, 100), ("7-", 7, n),
                           ("-3", n - 3, n), (f"-{n * 2}", 0, n),
                           (f"100-{n * 9}", 100, n), ("0-", 0, n)):
            r = self.get("k", Range=f"bytes={text}")
            self.assertEqual(r["ResponseMetadata"]["HTTPStatusCode"], 206)
            self.assertEqual(r["ContentRange"], f"bytes {a}-{b - 1}/{n}")
            self.assertEqual(r["Body"].read(), body[a:b])
        for text, status, code in (("bytes=-0", 416, "InvalidRange"),
                                   (f"bytes={n}-", 416, "InvalidRange"),
                                   ("bytes=9-5", 400, "InvalidArgument"),
                                   ("bytes=1-2,4-5", 400, "InvalidArgument"),
                                   ("lines=1-2", 400, "InvalidArgument"),
                                   ("bytes=x", 400, "InvalidArgument"),
                                   ("bytes=-", 400, "InvalidArgument")):
            self.refused(status, code, self.get, "k", Range=text)
        r = self.s3.head_object(Bucket=B, Key="k", Range="bytes=1-2")
        self.assertEqual(r["ContentLength"], 2)

    def test_conditions_of_reads(self):
        tag = self.put("k", b"x")["ETag"]
        old = datetime.datetime(2001, 1, 1)
        new = datetime.datetime(2099, 1, 1)
        self.get("k", IfMatch=tag)
        self.get("k", IfMatch="*")
        self.get("k", IfMatch=f'"no", {tag}')
        self.get("k", IfNoneMatch='"no"')
        self.get("k", IfModifiedSince=old)
        self.get("k", IfUnmodifiedSince=new)
        self.get("k", IfMatch=tag, IfUnmodifiedSince=old)
        self.get("k", IfNoneMatch='"no"', IfModifiedSince=new)
        for kw in ({"IfMatch": '"no"'}, {"IfUnmodifiedSince": old},
                   {"IfMatch": "W/" + tag}):
            self.refused(412, "PreconditionFailed", self.get, "k", **kw)
        for kw in ({"IfNoneMatch": tag}, {"IfNoneMatch": "*"},
                   {"IfNoneMatch": "W/" + tag}, {"IfModifiedSince": new}):
            self.refused(304, "304", self.get, "k", **kw)
        self.refused(412, "412", self.s3.head_object, Bucket=B, Key="k",
                     IfMatch='"no"')
        when = self.get("k")["LastModified"]
        self.get("k", IfUnmodifiedSince=when)
        self.refused(304, "304", self.get, "k", IfModifiedSince=when)

    def test_conditions_of_writes(self):
        tag = self.put("k", b"1", IfNoneMatch="*")["ETag"]
        self.refused(412, "PreconditionFailed", self.put, "k", b"2",
                     IfNoneMatch="*")
        self.refused(412, "PreconditionFailed", self.put, "k", b"2",
                     IfNoneMatch=tag)
        self.refused(412, "PreconditionFailed", self.put, "k", b"2",
                     IfMatch='"no"')
        self.refused(412, "PreconditionFailed", self.put, "none", b"2",
                     IfMatch=tag)
        self.assertEqual(self.get("k")["Body"].read(), b"1")
        self.put("k", b"2", IfMatch=tag)
        self.assertEqual(self.get("k")["Body"].read(), b"2")
        path = f"/{B}/k"
        old = "Mon, 01 Jan 2001 00:00:00 GMT"
        self.wire(412, "PreconditionFailed", "PUT", path, b"3",
                  {"If-Unmodified-Since": old})
        self.wire(200, None, "PUT", path, b"3", {"If-Modified-Since": old})

    def test_one_of_many_creators_wins(self):
        won, lost = [], []

        def create(i):
            s3 = self.sim.client()
            try:
                s3.put_object(Bucket=B, Key="k", Body=b"%d" % i,
                              IfNoneMatch="*")
                won.append(b"%d" % i)
            except ClientError as e:
                lost.append(e.response["Error"]["Code"])
            s3.close()

        threads = [threading.Thread(target=create, args=(i,))
                   for i in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(won), 1)
        self.assertEqual(set(lost), {"PreconditionFailed"})
        self.assertEqual(self.get("k")["Body"].read(), won[0])

    def test_digests(self):
        import base64
        body = b"some body"
        good = base64.b64encode(hashlib.md5(body).digest()).decode()
        bad = base64.b64encode(hashlib.md5(b"?").digest()).decode()
        self.put("k", body, ContentMD5=good)
        self.refused(400, "BadDigest", self.put, "k", body, ContentMD5=bad)
        self.refused(400, "InvalidDigest", self.put, "k", body,
                     ContentMD5="short")
        path = f"/{B}/k"
        self.wire(400, "XAmzContentSHA256Mismatch", "PUT", path, body,
                  payload=hashlib.sha256(b"?").hexdigest())
        self.wire(200, None, "PUT", path, body, payload="UNSIGNED-PAYLOAD")
        sums = {"sha256": hashlib.sha256(body), "sha1": hashlib.sha1(body)}
        for name, h in sums.items():
            text = base64.b64encode(h.digest()).decode()
            header = f"x-amz-checksum-{name}"
            r = self.wire(200, None, "PUT", path, body, {header: text})
            self.assertEqual(r[1][header], text)
            wrong = base64.b64encode(b"?" * h.digest_size).decode()
            self.wire(400, "BadDigest", "PUT", path, body, {header: wrong})
        # Published check values of "123456789".
        for name, value in (("crc32", 0xcbf43926), ("crc32c", 0xe3069283),
                            ("crc64nvme", 0xae8b14860a799888)):
            size = 8 if name == "crc64nvme" else 4
            text = base64.b64encode(value.to_bytes(size, "big")).decode()
            header = f"x-amz-checksum-{name}"
            self.wire(200, None, "PUT", path, b"123456789", {header: text})
            self.wire(400, "BadDigest", "PUT", path, b"12345678",
                      {header: text})
        self.wire(400, "InvalidRequest", "PUT", path, body,
                  {"x-amz-checksum-sha1": "x", "x-amz-checksum-sha256": "y"})
        s3 = self.sim.client(request_checksum_calculation="when_supported",
                             response_checksum_validation="when_supported")
        s3.put_object(Bucket=B, Key="c", Body=body)
        r = s3.get_object(Bucket=B, Key="c")
        self.assertEqual(r["Body"].read(), body)
        self.assertIn("ChecksumCRC32", r)
        s3.close()

    def test_metadata_limit_and_unicode(self):
        self.put("k", Metadata={"a": "x" * (8192 - 1)})
        self.refused(400, "MetadataTooLarge", self.put, "k",
                     Metadata={"a": "x" * 8192})
        path = f"/{B}/u"
        self.wire(200, None, "PUT", path, b"",
                  {"x-amz-meta-u": "=?utf-8?B?w7w=?=",
                   "x-amz-meta-q": "=?UTF-8?Q?=C3=BC_x?=",
                   "x-amz-meta-p": "plain"})
        r = self.sim.raw("GET", path)[1]
        self.assertEqual(r["x-amz-meta-u"], "=?utf-8?B?w7w=?=")
        self.assertEqual(r["x-amz-meta-q"], "=?utf-8?B?w7wgeA==?=")
        self.assertEqual(r["x-amz-meta-p"], "plain")

    def test_keys(self):
        names = [" lead", "a//b/", "a/./b", "../x", "ü", "😀", "a%2fb",
                 "a+b", "q?x=1&y", "tail/", "x" * 1024, "\x01\x7f", "a\nb"]
        for name in names:
            self.assertEqual(
                self.sim.raw("PUT", f"/{B}/{quote(name)}",
                             name.encode())[0], 200, name)
        for name in names:
            r = self.sim.raw("GET", f"/{B}/{quote(name)}")
            self.assertEqual(r[2], name.encode())
        r = self.s3.list_objects_v2(Bucket=B, EncodingType="url")
        self.assertEqual([unquote(o["Key"]) for o in r["Contents"]],
                         sorted(names, key=lambda s: s.encode()))
        self.assertIn("a%2F%2Fb%2F", [o["Key"] for o in r["Contents"]])
        long = f"/{B}/" + "x" * 1025
        for method in "GET", "PUT", "DELETE":
            self.wire(400, "InvalidObjectName", method, long)
        self.wire(400, "InvalidURI", "PUT", f"/{B}/a%ffb")
        self.wire(400, "InvalidURI", "PUT", f"/{B}/a%00b")

    def test_composed_and_decomposed_names_are_one(self):
        composed, decomposed = "d/\u00e9", "d/e\u0301"
        self.put(composed, b"1")
        self.assertEqual(self.get(decomposed)["Body"].read(), b"1")
        self.refused(412, "PreconditionFailed", self.put, decomposed, b"",
                     IfNoneMatch="*")
        self.put(decomposed, b"2")
        listed = self.s3.list_objects_v2(Bucket=B)["Contents"]
        self.assertEqual([o["Key"] for o in listed], [decomposed])
        self.put("e\u0301/x", b"")
        r = self.s3.list_objects_v2(Bucket=B, Delimiter="/")
        self.assertEqual([p["Prefix"] for p in r["CommonPrefixes"]],
                         ["d/", "e\u0301/"])
        self.s3.delete_object(Bucket=B, Key=composed)
        self.refused(404, "NoSuchKey", self.get, decomposed)

    def test_post_is_put(self):
        self.wire(200, None, "POST", f"/{B}/k", b"posted",
                  {"x-amz-copy-source": "ignored"})
        self.assertEqual(self.get("k")["Body"].read(), b"posted")
        self.wire(200, None, "PUT", f"/{B}/k?uploadId=x", b"over")
        self.assertEqual(self.get("k")["Body"].read(), b"over")

    def test_presigned(self):
        url = self.s3.generate_presigned_url(
            "put_object", Params={"Bucket": B, "Key": "p q"}, ExpiresIn=60)
        c = http.client.HTTPConnection("127.0.0.1", self.sim.port)
        c.request("PUT", url[len(self.sim.endpoint):], b"signed away")
        self.assertEqual(c.getresponse().status, 200)
        c.close()
        url = self.s3.generate_presigned_url(
            "get_object", Params={"Bucket": B, "Key": "p q"}, ExpiresIn=60)
        with urllib.request.urlopen(url) as r:
            self.assertEqual(r.read(), b"signed away")
        with self.assertRaises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(url.replace("p%20q", "pq"))
        self.assertEqual(e.exception.code, 403)
        e.exception.close()
        url = self.s3.generate_presigned_url(
            "get_object", Params={"Bucket": B, "Key": "p q"}, ExpiresIn=0)
        with self.assertRaises(urllib.error.HTTPError) as e:
            urllib.request.urlopen(url)
        self.assertIn(b"ExpiredRequest", e.exception.read())
        e.exception.close()


class Sparse(Case):
    def test_zeros_cost_no_disk(self):
        body = bytes(8 * MIB) + b"end" + bytes(100)
        self.put("k", body)
        self.assertEqual(self.get("k")["Body"].read(), body)
        used = sum(os.stat(os.path.join(root, f)).st_blocks * 512
                   for root, _, files in os.walk(self.sim.data)
                   for f in files)
        self.assertLess(used, 64 << 10)


if __name__ == "__main__":
    unittest.main()
