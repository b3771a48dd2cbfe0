"""Copies within the mount: made by R2, and never at the mercy of what becomes
of their source."""

import os
import time
import unittest

from harness import BUCKET, Case, drop_kernel_cache, run, wait_until


class Copies(Case):
    options = ()

    def setUp(self):
        super().setUp()
        self.s3 = self.server.client()
        for name in "ab":
            self.server.put(name, name.encode() * 300000)
        self.m = self.mount(*self.options)

    def path(self, name):
        return f"{self.m.path}/{name}"

    def cp(self, a, b):
        run("cp", self.path(a), self.path(b))

    def body(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def counted(self, fn):
        before = self.server.stats()["ops"]
        result = fn()
        after = self.server.stats()["ops"]
        return result, {k: after[k] - before[k] for k in after
                        if after[k] != before[k]}

    def read_back(self, name):
        """What a program sees, with nothing left in the kernel."""
        time.sleep(0.3)
        drop_kernel_cache()
        return self.counted(lambda: self.m.read(name))


class Stored(Copies):
    def test_over_another_object_of_the_same_size(self):
        self.m.read("a")
        self.m.read("b")
        self.cp("a", "b")
        self.assertEqual(self.read_back("b")[0], b"a" * 300000)
        self.assertEqual(self.body("b"), b"a" * 300000)


if __name__ == "__main__":
    unittest.main()
