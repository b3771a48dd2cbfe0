"""A cache folder that is too small, full, killed over, or damaged."""

import errno
import glob
import hashlib
import os
import subprocess
import tempfile
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from harness import BUCKET, R2FS, Case, drop_kernel_cache, run


class SmallDisk(Case):
    def setUp(self):
        super().setUp()
        self.disk = tempfile.mkdtemp(prefix="r2fs-disk-")
        run("mount", "-t", "tmpfs", "-o", "size=96M", "none", self.disk)
        self.sums = {}
        for i in range(20):
            body = os.urandom(10 << 20)
            self.sums[f"d/{i}"] = hashlib.md5(body).hexdigest()
            self.server.put(f"d/{i}", body)

    def tearDown(self):
        super().tearDown()
        subprocess.run(["umount", self.disk], timeout=20)
        os.rmdir(self.disk)

    def read_all(self, m):
        for name, want in self.sums.items():
            got = hashlib.md5(m.read(name)).hexdigest()
            self.assertEqual(got, want, name)

    def test_reading_more_than_fits(self):
        m = self.mount("--min-free", "16M", cache=f"{self.disk}/cache")
        self.read_all(m)
        free = os.statvfs(self.disk)
        self.assertGreaterEqual(free.f_bavail * free.f_frsize, 15 << 20)
        self.read_all(m)

    def test_a_disk_that_others_fill(self):
        m = self.mount("--min-free", "1M", cache=f"{self.disk}/cache")
        self.fill_the_disk()
        self.read_all(m)
        os.unlink(f"{self.disk}/hog")
        self.read_all(m)

    def fill_the_disk(self):
        with open(f"{self.disk}/hog", "wb") as f:
            try:
                while True:
                    f.write(b"x" * (1 << 20))
            except OSError as e:
                self.assertEqual(e.errno, errno.ENOSPC)

    def test_neighbours_on_a_full_disk(self):
        m = self.mount("--min-free", "1M", cache=f"{self.disk}/cache")
        os.listdir(f"{m.path}/d")
        self.fill_the_disk()
        self.server.latency(100)
        self.server.reset()
        fd = os.open(f"{m.path}/d/0", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        with ThreadPoolExecutor(2) as pool:
            one = pool.submit(os.pread, fd, 32 << 10, 5 << 20)
            time.sleep(0.03)
            # its first block is on its way for the other, and will be dropped
            two = pool.submit(os.pread, fd, 96 << 10, (5 << 20) + (32 << 10))
            self.assertEqual(len(one.result(20)) + len(two.result(20)),
                             128 << 10)
        os.close(fd)
        self.assertLessEqual(self.server.stats()["ops"]["GET"], 4)

    def test_a_stream_on_a_full_disk(self):
        m = self.mount("--min-free", "1M", cache=f"{self.disk}/cache")
        os.listdir(f"{m.path}/d")
        self.fill_the_disk()
        self.server.latency(20)
        self.server.reset()
        self.read_all(m)
        # two for each of 20 files, and not all of what came too early is kept
        self.assertLessEqual(self.server.stats()["ops"]["GET"], 70)
        self.assertLessEqual(self.server.stats()["bytes_out"], 250 << 20)

    def test_writing_more_than_fits(self):
        m = self.mount("--min-free", "1M", cache=f"{self.disk}/cache")
        m.expected_errors = True
        with self.assertRaises(OSError) as e:
            with open(f"{m.path}/big", "wb", buffering=0) as f:
                for _ in range(200):
                    f.write(b"x" * (1 << 20))
        self.assertEqual(e.exception.errno, errno.ENOSPC)
        os.unlink(f"{m.path}/big")
        with open(f"{m.path}/small", "wb") as f:
            f.write(b"works")
        self.assertEqual(m.read("small"), b"works")
        self.read_all(m)

    def free(self):
        s = os.statvfs(self.disk)
        return s.f_bavail * s.f_frsize

    def fill(self, m, f):
        """Writes until the disk is said to be full; how many MiB."""
        with self.assertRaises(OSError) as e:
            for n in range(200):
                f.write(bytes([n]) * (1 << 20))
        self.assertEqual(e.exception.errno, errno.ENOSPC)
        with self.assertRaises(OSError):
            f.write(b"x" * (1 << 20))
        self.assertGreaterEqual(self.free(), 64 << 20)
        self.assertLess(self.free(), 69 << 20)
        with open(m.log) as log:
            lines = [line for line in log if " big " in line]
        self.assertEqual(len(lines), 1, lines)
        self.assertIn("--min-free", lines[0])
        return n

    def test_writing_leaves_min_free(self):
        m = self.mount("--min-free", "64M", cache=f"{self.disk}/cache")
        m.expected_errors = True
        f = open(f"{m.path}/big", "wb", buffering=0)
        n = self.fill(m, f)
        f.close()
        body = self.server.client().get_object(
            Bucket=BUCKET, Key="big")["Body"].read()
        self.assertEqual(len(body), n << 20)
        self.assertEqual(body[::1 << 20], bytes(range(n)))
        with open(f"{m.path}/small", "wb") as f:
            f.write(b"works")
        self.assertEqual(m.read("small"), b"works")

    def test_what_was_written_before_the_disk_was_full_is_kept(self):
        m = self.mount("--min-free", "64M", cache=f"{self.disk}/cache")
        m.expected_errors = True
        f = open(f"{m.path}/big", "wb", buffering=0)
        n = self.fill(m, f)
        m.crash()
        with self.assertRaises(OSError):
            f.close()
        m.start()
        entry = run(R2FS, "recover", "list", m.path).stdout.split()
        out = os.path.join(m.dir, "out")
        run(R2FS, "recover", "export", m.path, entry[0], out)
        with open(out, "rb") as f:
            self.assertEqual(f.read()[::1 << 20], bytes(range(n)))

    def test_the_cache_gives_way_to_what_is_written(self):
        m = self.mount("--min-free", "48M", cache=f"{self.disk}/cache")
        self.read_all(m)
        self.assertLess(self.free(), 60 << 20)
        with open(f"{m.path}/big", "wb") as f:
            f.write(b"x" * (24 << 20))
        self.assertGreaterEqual(self.free(), 48 << 20)
        self.read_all(m)

    def test_the_cache_gives_way_to_copies_of_what_is_sent(self):
        """A file that never rests is sent from copies of its parts."""
        m = self.mount("--min-free", "16M", "--part-size", "6M",
                       cache=f"{self.disk}/cache")
        fd = os.open(f"{m.path}/big", os.O_CREAT | os.O_RDWR)
        for i in range(36):
            os.pwrite(fd, b"x" * (1 << 20), i << 20)
        self.read_all(m)
        self.server.faults("op=PART action=delay:200")
        done, least = threading.Event(), [self.free()]

        def restless():
            n = 0
            while not done.is_set():
                for i in range(36):
                    os.pwrite(fd, b"%8d" % n, i << 20)
                n += 1
                least.append(self.free())
                time.sleep(0.01)

        writer = threading.Thread(target=restless)
        writer.start()
        try:
            self.within(30, lambda: os.close(os.dup(fd)))
        finally:
            done.set()
            writer.join()
        self.server.faults("")
        os.close(fd)
        self.assertGreaterEqual(min(least), 15 << 20)
        self.read_all(m)

    def test_a_tiny_cache(self):
        m = self.mount("--cache-size", "16M", cache=f"{self.disk}/cache")
        self.read_all(m)
        used = int(run("du", "-sm", self.disk).stdout.split()[0])
        self.assertLessEqual(used, 17)


class Killed(Case):
    BODY = os.urandom(3 << 20)

    def filled(self):
        """A mount whose cache holds d/f, and has been committed."""
        self.server.put("d/f", self.BODY)
        m = self.mount("--metadata-ttl", "indefinite", "--read-only")
        self.assertEqual(m.read("d/f"), self.BODY)
        time.sleep(1)
        return m

    def again(self, m):
        """GETs that it costs to read d/f in a mount after the first."""
        drop_kernel_cache()
        m.start()
        self.server.reset()
        self.assertTrue(m.read("d/f") == self.BODY)
        return self.server.stats()["ops"]["GET"]

    def test_what_was_read_is_still_there(self):
        m = self.filled()
        m.crash()
        self.assertEqual(self.again(m), 0)

    def test_flipped_bytes_after_an_unclean_end(self):
        m = self.filled()
        m.crash()
        path, = glob.glob(f"{m.cache}/*/data/*/*")
        for off in (0, 65535, 1 << 20, len(self.BODY) - 1):
            with open(path, "r+b") as f:
                f.seek(off)
                old = f.read(1)
                f.seek(off)
                f.write(bytes([old[0] ^ 1]))
        self.assertGreater(self.again(m), 0)
        self.assertGreaterEqual(m.stats()["cache"]["verify_failures"], 3)
        m.unmount()
        self.assertEqual(self.again(m), 0) # mended, not only passed over

    def test_a_damaged_database_is_noticed(self):
        body = os.urandom(1 << 20)
        self.server.put("d/f", body)
        m = self.mount("--metadata-ttl", "indefinite")
        self.assertEqual(m.read("d/f"), body)
        m.unmount()
        for path in glob.glob(f"{m.cache}/*/cache.mdb"):
            with open(path, "r+b") as f:
                f.write(b"garbage" * 3000)
        m.start()
        self.assertEqual(m.read("d/f"), body)


if __name__ == "__main__":
    unittest.main()
