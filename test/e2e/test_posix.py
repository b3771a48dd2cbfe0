"""What POSIX says of times, links, and files in use, on a mount over r2sim."""

import os
import shutil
import threading
import time
import unittest

from harness import BUCKET, Case


class Posix(Case):
    options = ()

    def setUp(self):
        super().setUp()
        self.m = self.mount(*self.options)
        self.s3 = self.server.client()

    def path(self, name):
        return os.path.join(self.m.path, name)

    def body(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def make(self, name, data=b""):
        with open(self.path(name), "wb") as f:
            f.write(data)
        return self.path(name)


class Times(Posix):
    options = ("--metadata-ttl", "600")

    def times(self, name):
        st = os.stat(self.path(name), follow_symlinks=False)
        return st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns

    def later(self):
        time.sleep(0.02)

    def remount(self):
        self.m.unmount()
        self.m.start()

    def test_a_folder_changes_with_its_names(self):
        os.mkdir(self.path("d"))
        os.mkdir(self.path("e"))
        changes = [lambda: self.make("d/f", b"x"),
                   lambda: os.symlink("f", self.path("d/l")),
                   lambda: os.mkdir(self.path("d/s")),
                   lambda: os.rename(self.path("d/f"), self.path("d/g")),
                   lambda: os.rename(self.path("d/s"), self.path("e/s")),
                   lambda: os.unlink(self.path("d/l")),
                   lambda: os.rename(self.path("e/s"), self.path("d/s")),
                   lambda: os.rmdir(self.path("d/s"))]
        for n, change in enumerate(changes):
            before = self.times("d")
            self.later()
            change()
            self.assertGreater(self.times("d")[1:], before[1:], n)
        last, root = self.times("d"), self.times(".")
        os.stat(self.path("d/g"))
        self.assertEqual(os.listdir(self.path("d")), ["g"])
        self.remount()
        os.listdir(self.path("d"))
        self.assertEqual((self.times("d"), self.times(".")), (last, root))

    def test_a_folder_keeps_the_time_it_was_given(self):
        os.mkdir(self.path("d"))
        self.make("d/f")
        for name in ("d", "."):
            os.utime(self.path(name), (1000000000, 1100000000))
        self.assertEqual(self.times("d")[:2], (10**18, 11 * 10**17))
        self.assertGreater(self.times("d")[2], 15 * 10**17)
        self.remount()
        self.assertEqual(self.times("d")[:2], (10**18, 11 * 10**17))
        self.assertEqual(self.times(".")[1], 11 * 10**17)

    def test_ctime_tells_of_every_change(self):
        self.make("f", b"some")
        for n, change in enumerate([
                lambda p: os.chmod(p, 0o600), lambda p: os.chown(p, 1, 2),
                lambda p: os.utime(p, (10**9, 10**9)),
                lambda p: os.truncate(p, 2)]):
            before = self.times("f")
            self.later()
            change(self.path("f"))
            self.assertGreater(self.times("f")[2], before[2], n)

    def test_times_are_stored_as_s3fs_stores_them(self):
        p = self.make("f", b"some")
        os.utime(p, ns=(1234567890123456789, 1100000000000000000))
        self.later()
        before = self.times("f")
        self.assertEqual(before[:2], (1234567890123456789,
                                      1100000000000000000))
        self.remount()
        self.assertEqual(self.times("f"), before)
        meta = self.s3.head_object(Bucket=BUCKET, Key="f")["Metadata"]
        self.assertEqual(meta["atime"], "1234567890.123456789")
        self.assertEqual(meta["mtime"], "1100000000.000000000")
        self.assertEqual(int(meta["ctime"].replace(".", "")), before[2])
        self.make("g", b"x")
        meta = self.s3.head_object(Bucket=BUCKET, Key="g")["Metadata"]
        self.assertNotIn("ctime", meta)

    def test_an_access_time_costs_no_request(self):
        p = self.make("f", b"some")
        mtime = self.times("f")[1]
        before = self.requests()
        os.utime(p, ns=(10**18, mtime))
        time.sleep(0.5)
        self.assertEqual(self.requests(), before)
        self.remount()
        self.assertEqual(self.times("f")[:2], (10**18, mtime))

    def test_times_before_1970_and_far_away(self):
        p = self.make("f")
        os.utime(p, (-5, -5))
        self.assertEqual(self.times("f")[:2], (0, 0))
        os.utime(p, (2**40, 2**40))
        self.assertEqual(self.times("f")[1], 9 * 10**18)


class Attributes(Posix):
    def test_what_stat_shows_is_no_extended_attribute(self):
        p, q = self.make("f", b"some"), self.make("g", b"some")
        os.chmod(p, 0o600)
        os.setxattr(p, "user.own", b"1")
        shutil.copystat(p, q)
        for name in (p, q):
            self.assertIn("user.own", os.listxattr(name))
            self.assertNotIn("user.mode", os.listxattr(name))
        os.setxattr(p, "user.mode", b"x")
        self.assertEqual(os.getxattr(p, "user.mode"), b"x")
        self.assertEqual(os.stat(p).st_mode & 0o777, 0o600)
        os.removexattr(p, "user.mode")
        self.assertNotIn("user.mode", os.listxattr(p))

    def test_changing_one_changes_ctime(self):
        p = self.make("f", b"some")
        before = os.stat(p)
        time.sleep(0.02)
        os.setxattr(p, "user.own", b"1")
        after = os.stat(p)
        self.assertGreater(after.st_ctime_ns, before.st_ctime_ns)
        self.assertEqual(after.st_mtime_ns, before.st_mtime_ns)


class InUse(Posix):
    def test_unlinked_has_no_link(self):
        with open(self.path("f"), "wb") as f:
            f.write(b"x")
            f.flush()
            self.assertEqual(os.fstat(f.fileno()).st_nlink, 1)
            os.unlink(self.path("f"))
            st = os.fstat(f.fileno())
            self.assertEqual((st.st_nlink, st.st_size), (0, 1))

    def test_close_while_another_thread_writes(self):
        size, block, errors = 8 << 20, 64 << 10, []
        fd = os.open(self.path("f"), os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, os.urandom(size), 0)
        end = threading.Event()

        def write():
            n = 0
            while not end.is_set():
                n += 1
                try:
                    os.pwrite(fd, os.urandom(block),
                              n * 7 * block % (size - block))
                except OSError as e:
                    errors.append(e)
                    return

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(4):
                with open(self.path("f"), "r+b") as f:
                    f.write(b"x")
        finally:
            end.set()
            thread.join()
        self.assertEqual(errors, [])
        os.close(fd)
        with open(self.path("f"), "rb") as f:
            self.assertEqual(f.read(), self.body("f"))


if __name__ == "__main__":
    unittest.main()
