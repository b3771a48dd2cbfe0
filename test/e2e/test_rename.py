"""Renaming: what it costs, and what is where when R2 refuses, somebody else
writes meanwhile, or the daemon dies."""

import errno
import os
import unittest

from harness import BUCKET, Case, drop_kernel_cache, wait_until


class Renaming(Case):
    def setUp(self):
        super().setUp()
        self.s3 = self.server.client()

    def keys(self, prefix=""):
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=prefix)
        return sorted(o["Key"] for p in pages for o in p.get("Contents", []))

    def body(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def ops(self):
        return {k: n for k, n in self.server.stats()["ops"].items() if n}

    def counted(self, fn):
        before = self.ops()
        fn()
        after = self.ops()
        return {k: n - before.get(k, 0) for k, n in after.items()
                if n != before.get(k, 0)}

    def rename(self, a, b):
        os.rename(f"{self.m.path}/{a}", f"{self.m.path}/{b}")

    def write(self, name, text):
        with open(f"{self.m.path}/{name}", "w") as f:
            f.write(text)


class Refused(Renaming):
    """What R2 refuses has not happened: the names that are shown work."""

    def setUp(self):
        super().setUp()
        self.server.put("d/a", b"aaa")
        self.server.put("d/b", b"old")
        self.m = self.mount("--metadata-ttl", "600")
        self.m.expected_errors = True
        os.listdir(f"{self.m.path}/d")
        self.m.read("d/a")
        self.m.read("d/b")

    def refused(self, op, fn):
        self.server.faults(f"op={op} action=status:403")
        with self.assertRaises(PermissionError):
            fn()
        self.server.faults("")
        self.assertEqual(sorted(os.listdir(f"{self.m.path}/d")), ["a", "b"])
        self.assertEqual(os.stat(f"{self.m.path}/d/b").st_nlink, 1)

    def assert_usable(self):
        self.assertEqual(self.m.read("d/b"), b"old")
        self.write("d/b", "new content")
        self.assertEqual(self.m.read("d/b"), b"new content")
        self.assertEqual(self.body("d/b"), b"new content")

    def test_unlink(self):
        self.refused("DELETE", lambda: os.unlink(f"{self.m.path}/d/b"))
        self.assert_usable()

    def test_unlink_of_an_open_file(self):
        fd = os.open(f"{self.m.path}/d/b", os.O_RDWR)
        os.pwrite(fd, b"OLD", 0)
        self.refused("DELETE", lambda: os.unlink(f"{self.m.path}/d/b"))
        self.assertEqual(os.pread(fd, 3, 0), b"OLD")
        os.close(fd)
        self.assertEqual(self.body("d/b"), b"OLD")
        os.unlink(f"{self.m.path}/d/b")
        self.assertEqual(self.keys(), ["d/a"])

    def test_rename_over(self):
        self.refused("COPY", lambda: self.rename("d/a", "d/b"))
        self.assert_usable()
        self.rename("d/a", "d/b")
        self.assertEqual(self.m.read("d/b"), b"aaa")
        self.assertEqual(self.keys(), ["d/b"])

    def test_rename_over_that_leaves_the_old_name(self):
        fd = os.open(f"{self.m.path}/d/b", os.O_RDONLY)
        self.refused("DELETE", lambda: self.rename("d/a", "d/b"))
        self.assertEqual(os.pread(fd, 3, 0), b"old")
        os.close(fd)
        self.assertEqual(self.keys(), ["d/a", "d/b"])
        for name in "ab":
            self.assertEqual(self.m.read(f"d/{name}"), b"aaa")
            self.write(f"d/{name}", name)
            self.assertEqual(self.body(f"d/{name}"), name.encode())


class InParts(Renaming):
    """R2 gives the copy of an object that was uploaded in parts another ETag:
    nobody of this mount may take it for another version."""

    parts = [os.urandom(5 << 20), os.urandom(5 << 20), b"end"]

    def setUp(self):
        super().setUp()
        for key in ("d/s/big", "d/two", "d/three"):
            self.put_parts(key)
        self.server.put("d/two/x", b"x")
        self.m = self.mount("--metadata-ttl", "600")
        for name in ("d", "d/s", "d/two"):
            os.listdir(f"{self.m.path}/{name}")

    def put_parts(self, key):
        where = {"Bucket": BUCKET, "Key": key}
        where["UploadId"] = self.s3.create_multipart_upload(
            **where)["UploadId"]
        etags = [self.s3.upload_part(Body=body, PartNumber=i + 1, **where)
                 ["ETag"] for i, body in enumerate(self.parts)]
        self.s3.complete_multipart_upload(MultipartUpload={"Parts": [
            {"PartNumber": i + 1, "ETag": etag}
            for i, etag in enumerate(etags)]}, **where)

    def move(self):
        n = self.counted(lambda: self.rename("d", "e"))
        self.assertEqual(n, {"LIST": 1, "COPY": 4, "DELETES": 1})
        self.assertNotIn("-", self.s3.head_object(
            Bucket=BUCKET, Key="e/s/big")["ETag"])

    def read_a_little(self, name):
        fd = os.open(f"{self.m.path}/{name}", os.O_RDONLY)
        os.pread(fd, 5, 7 << 20)
        os.close(fd)
        self.assertLess(self.m.stats()["requests"]["bytes_in"], 5 << 20)

    def test_partly_cached(self):
        self.read_a_little("d/s/big")
        self.move()
        drop_kernel_cache()
        before = self.m.stats()["requests"]["bytes_in"]
        self.assertEqual(self.m.read("e/s/big"), b"".join(self.parts))
        after = self.m.stats()["requests"]["bytes_in"]
        self.assertLess(after - before, sum(len(p) for p in self.parts))

    def test_cached_is_kept(self):
        self.m.read("d/two.r2object")
        self.move()
        drop_kernel_cache()
        self.assertEqual(
            self.counted(lambda: self.assertEqual(
                self.m.read("e/two.r2object"), b"".join(self.parts))), {})

    def test_append(self):
        self.read_a_little("d/three")
        self.move()
        with open(f"{self.m.path}/e/three", "ab") as f:
            f.write(b"more")
        self.assertEqual(self.body("e/three"), b"".join(self.parts) + b"more")

    def test_open(self):
        fd = os.open(f"{self.m.path}/d/three", os.O_RDWR)
        os.pread(fd, 5, 0)
        self.move()
        self.assertEqual(os.pread(fd, 3, 10 << 20), b"end")
        os.pwrite(fd, b"END", 10 << 20)
        os.close(fd)
        self.assertEqual(self.body("e/three"),
                         b"".join(self.parts[:2]) + b"END")


if __name__ == "__main__":
    unittest.main()
