"""Renaming: what it costs, and what is where when R2 refuses, somebody else
writes meanwhile, or the daemon dies."""

import errno
import os
import unittest

from harness import BUCKET, Case, wait_until


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


if __name__ == "__main__":
    unittest.main()
