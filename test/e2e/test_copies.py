"""Copies within the mount: made by R2, and never at the mercy of what becomes
of their source."""

import os
import time
import unittest

from harness import BUCKET, Case, copy_file, drop_kernel_cache, wait_until


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
        copy_file(self.path(a), self.path(b))

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


class Sources:
    """What becomes of a copy whose source changes at once, cached or not."""

    def test_the_source_is_removed(self):
        for a, b in ("a", "x"), ("b", "y"):
            if a == "a":
                self.m.read(a)
                time.sleep(0.3)
            self.cp(a, b)
            os.unlink(self.path(a))
            self.assertEqual(self.m.read(b), a.encode() * 300000)
        self.m.unmount()
        self.assertEqual(self.body("x"), b"a" * 300000)
        self.assertEqual(self.body("y"), b"b" * 300000)

    def test_the_source_is_replaced(self):
        self.m.read("a")
        time.sleep(0.3)
        for a, b in ("a", "x"), ("b", "y"):
            self.cp(a, b)
            with open(self.path(a), "wb") as f:
                f.write(b"new")
            self.assertEqual(self.m.read(b), a.encode() * 300000)
        self.m.unmount()
        self.assertEqual(self.body("x"), b"a" * 300000)
        self.assertEqual(self.body("y"), b"b" * 300000)
        self.assertEqual(self.body("a"), b"new")

    def test_under_a_temporary_name(self):
        self.m.read("a")
        time.sleep(0.3)
        for a, b in ("a", "x"), ("b", "y"):
            self.cp(a, b + ".tmp")
            os.unlink(self.path(a))
            os.rename(self.path(b + ".tmp"), self.path(b))
            self.assertEqual(self.m.read(b), a.encode() * 300000)
        self.m.unmount()
        self.assertEqual(self.body("x"), b"a" * 300000)
        self.assertEqual(self.body("y"), b"b" * 300000)

    def test_the_backup_of_a_file_about_to_change(self):
        for a in "ab":
            if a == "a":
                self.m.read(a)
                time.sleep(0.3)
            self.cp(a, a + ".tmp")
            with open(self.path(a), "wb") as f:
                f.write(b"new")
            os.rename(self.path(a + ".tmp"), self.path(a + ".old"))
        self.m.unmount()
        self.assertEqual(self.body("a.old"), b"a" * 300000)
        self.assertEqual(self.body("b.old"), b"b" * 300000)


class SourcesOfJournalClose(Sources, Copies):
    options = ("--writeback",)

    def test_a_crash_keeps_the_bytes(self):
        self.m.read("a")
        time.sleep(0.3)
        self.server.faults("op=COPY action=status:503\nop=PUT action=status:503")
        self.cp("a", "x")
        self.m.crash()
        self.server.faults("")
        self.s3.delete_object(Bucket=BUCKET, Key="a")
        self.m.start()
        self.assertEqual(self.m.read("x"), b"a" * 300000)
        self.m.unmount()
        self.assertEqual(self.body("x"), b"a" * 300000)

    def test_what_is_not_cached_is_stored_by_close(self):
        os.listdir(self.m.path)
        self.cp("b", "y")
        self.assertEqual(self.body("y"), b"b" * 300000)


class Stored(Sources, Copies):
    def test_over_another_object_of_the_same_size(self):
        self.m.read("a")
        self.m.read("b")
        self.cp("a", "b")
        self.assertEqual(self.read_back("b")[0], b"a" * 300000)
        self.assertEqual(self.body("b"), b"a" * 300000)

    def test_a_cached_source_costs_a_temporary_name_one_copy(self):
        os.listdir(self.m.path)
        self.m.read("a")
        time.sleep(0.3)

        def copy():
            self.cp("a", "x.tmp")
            os.rename(self.path("x.tmp"), self.path("x"))

        self.assertEqual(self.counted(copy)[1], {"COPY": 1})
        self.assertEqual(self.body("x"), b"a" * 300000)

    def test_over_an_object_that_was_there_before(self):
        os.listdir(self.m.path)
        b = os.open(self.path("b"), os.O_RDONLY)
        self.server.put("z", b"z")
        time.sleep(2.2) # two times in whole seconds are compared

        def copy():
            z = os.open(self.path("z"), os.O_WRONLY | os.O_CREAT)
            self.assertEqual(os.copy_file_range(b, z, 1 << 30), 300000)
            os.close(z)

        n = self.counted(copy)[1]
        self.assertEqual(n.pop("COPY"), 2)
        self.assertEqual(set(n), {"HEAD"})
        self.assertEqual(self.body("z"), b"b" * 300000)
        os.close(b)

    def write(self, name, size, mode="wb"):
        data = os.urandom(size)
        with open(self.path(name), mode) as f:
            f.write(data)
        return data

    def test_what_was_copied_reads_back_without_a_request(self):
        for size in (100000, 60 << 20):
            data = self.write("c", size)
            time.sleep(0.5)
            self.assertEqual(
                self.counted(lambda: self.cp("c", "x"))[1], {"COPY": 1})
            self.assertEqual(self.read_back("x"), (data, {}))
            self.assertEqual(self.read_back("c"), (data, {}))
            os.unlink(self.path("x"))

    def test_what_was_changed_reads_back_without_a_request(self):
        size = 60 << 20
        want = bytearray(self.write("c", size))
        want += self.write("c", 9, "ab")
        self.assertEqual(self.read_back("c"), (bytes(want), {}))
        fd = os.open(self.path("c"), os.O_RDWR)
        os.pwrite(fd, b"middle", size // 2 - 3)
        want[size // 2 - 3:size // 2 + 3] = b"middle"
        os.fsync(fd)
        self.assertEqual(self.read_back("c"), (bytes(want), {}))
        os.ftruncate(fd, size - 1000)
        os.ftruncate(fd, size)
        want[size - 1000:] = bytes(1000)
        os.close(fd)
        self.assertEqual(self.read_back("c"), (bytes(want), {}))
        self.m.unmount()
        self.assertEqual(self.body("c"), want)

    def test_of_what_was_not_cached_the_rest_is_asked_for(self):
        data = os.urandom(40 << 20)
        self.server.put("b", data)
        data += self.write("b", 9, "ab")
        self.assertEqual(self.read_back("b")[0], data)

    def goes_before_the_close(self, size):
        data = self.write("c", size)
        time.sleep(0.5)
        c = os.open(self.path("c"), os.O_RDONLY)
        x = os.open(self.path("x"), os.O_WRONLY | os.O_CREAT)
        self.assertEqual(os.copy_file_range(c, x, 1 << 30), size)
        os.close(c)
        os.unlink(self.path("c"))
        os.close(x)
        self.assertEqual(self.body("x"), data)

    def test_the_source_goes_before_the_close(self):
        self.goes_before_the_close(300000)

    def test_a_large_source_goes_before_the_close(self):
        self.goes_before_the_close(40 << 20)


if __name__ == "__main__":
    unittest.main()
