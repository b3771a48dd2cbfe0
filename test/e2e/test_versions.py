"""An object replaced under its readers: bytes of one version, or ESTALE."""

import errno
import os
import threading
import time
import unittest

import data
from harness import BUCKET, Case, drop_kernel_cache, wait_until


class Versions(Case):
    size = 6 << 20

    def put(self, version, size=None):
        self.server.put("f", data.versioned(self.size if size is None
                                            else size, version))

    def test_replaced_between_two_ranges(self):
        self.put(1)
        m = self.mount()
        with open(m.path + "/f", "rb", buffering=0) as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            got = data.versions_in(f.read(65536))
            self.put(2)
            drop_kernel_cache()
            for at in range(0, self.size, 65536):
                try:
                    got |= data.versions_in(os.pread(f.fileno(), 65536, at), at)
                except OSError as e:
                    self.assertEqual(e.errno, errno.ESTALE)
        self.assertEqual(got, {1})
        self.settles_on(m, 2)

    def settles_on(self, m, version):
        for _ in range(4):
            try:
                with open(m.path + "/f", "rb") as f:
                    body = f.read()
                got = data.versions_in(body)
                self.assertEqual(len(got), 1)
                if got == {version}:
                    self.assertEqual(len(body), os.stat(m.path + "/f").st_size)
                    return
            except OSError as e:
                self.assertEqual(e.errno, errno.ESTALE)
        self.fail(f"version {version} does not appear")

    def test_replaced_by_another_size(self):
        self.put(1)
        m = self.mount("--metadata-ttl", "minimal")
        for version, size in ((2, 2 << 20), (3, 9 << 20), (4, 1000)):
            with open(m.path + "/f", "rb") as f:
                f.read(4096)
                self.put(version, size)
                try:
                    self.assertEqual(data.versions_in(
                        os.pread(f.fileno(), 65536, 0)), {version - 1})
                except OSError as e:
                    self.assertEqual(e.errno, errno.ESTALE)
            time.sleep(0.2)
            self.settles_on(m, version)

    def test_replaced_by_a_shorter_one(self):
        """The kernel believes the old size and would read zeros after the
        end of the new version."""
        for old, new in ((300000, 200000), (300000, 199999), (8192, 100),
                         (5000, 4097), (9 << 20, (2 << 20) + 5), (3000, 0)):
            with self.subTest(old=old, new=new):
                self.put(1, old)
                m = self.mount("--ahead-files", "0")
                self.assertEqual(os.stat(m.path + "/f").st_size, old)
                self.put(2, new)
                for _ in range(3):
                    try:
                        with open(m.path + "/f", "rb") as f:
                            body = f.read()
                        break
                    except OSError as e:
                        self.assertEqual(e.errno, errno.ESTALE)
                self.assertEqual(body, data.versioned(new, 2))
                m.unmount()

    def test_replaced_all_the_time(self):
        self.put(1)
        m = self.mount("--metadata-ttl", "minimal")
        over = threading.Event()
        writer = threading.Thread(target=self.replace_until, args=(over,))
        writer.start()
        seen, stale = set(), 0
        end = time.monotonic() + 6
        try:
            while time.monotonic() < end:
                try:
                    with open(m.path + "/f", "rb") as f:
                        got = data.versions_in(f.read())
                    self.assertLessEqual(len(got), 1)
                    seen |= got
                except OSError as e:
                    self.assertEqual(e.errno, errno.ESTALE)
                    stale += 1
        finally:
            over.set()
            writer.join()
        self.assertGreater(len(seen), 2, f"{stale} times ESTALE")

    def replace_until(self, over):
        for version in range(2, 1000):
            if over.wait(0.15):
                return
            self.put(version, self.size + version % 3 * 70000)

    def test_a_version_that_comes_back(self):
        self.put(1)
        m = self.mount("--metadata-ttl", "minimal")
        with open(m.path + "/f", "rb", buffering=0) as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            f.read(65536)
            self.put(2)
            with self.assertRaises(OSError) as e:
                os.pread(f.fileno(), 65536, 4 << 20)
            self.assertEqual(e.exception.errno, errno.ESTALE)
            self.put(1)
            time.sleep(0.2)
            # while somebody still holds the handle to which it was lost
            self.settles_on(m, 1)

    def test_removed(self):
        self.put(1)
        m = self.mount("--metadata-ttl", "minimal")
        with open(m.path + "/f", "rb", buffering=0) as f:
            f.read(4096)
            self.server.s3.delete_object(Bucket=BUCKET, Key="f")
            with self.assertRaises(OSError) as e:
                for at in range(0, self.size, 1 << 20):
                    os.pread(f.fileno(), 65536, at)
            self.assertEqual(e.exception.errno, errno.ESTALE)
        time.sleep(0.2)
        with self.assertRaises(FileNotFoundError):
            open(m.path + "/f", "rb")

    def test_a_handle_keeps_no_version_left_behind(self):
        m = self.mount()
        path = f"{m.path}/log"

        def fds():
            return sum("/data/" in os.path.realpath(f"/proc/{m.pid}/fd/{fd}")
                       for fd in os.listdir(f"/proc/{m.pid}/fd"))

        with open(path, "wb") as f:
            f.write(b"0" * 2000)
        with open(path, "rb", buffering=0) as reader:
            for i in range(1, 7):
                with open(path, "ab") as f:
                    f.write(b"%d" % i * 2000)
                drop_kernel_cache()
                body = os.pread(reader.fileno(), 20000, 0)
                self.assertEqual(body[::2000], b"0123456"[:i + 1])
                wait_until(lambda: fds() <= 1)


if __name__ == "__main__":
    unittest.main()
