"""Reads that the kernel answers from the cache's files by itself: whatever
else is open, overwritten or evicted meanwhile, the bytes must be right."""

import errno
import mmap
import os
import subprocess
import threading
import time
import unittest

from harness import SLOW, Case, drop_kernel_cache, wait_until

MIB = 1 << 20


class Passthrough(Case):
    def prepare(self, *options, **files):
        """A mount with these files cached; skips where the kernel cannot."""
        for name, body in files.items():
            self.server.put(name, body)
        m = self.mount(*options)
        for name, body in files.items():
            self.assertEqual(m.read(name), body)
            self.settle(m, name, body)
        return m

    def passed(self, m):
        return m.stats()["reads"]["passthrough_opens"]

    def settle(self, m, name, body):
        """Until the bytes that arrived are in the data file."""
        def passes():
            before = self.passed(m)
            self.assertEqual(m.read(name), body)
            return self.passed(m) > before
        if not m.stats()["mount"]["passthrough"]:
            self.skipTest("this libfuse or kernel has no passthrough")
        wait_until(passes, 5)

    def get(self, fd, n, off=0):
        return os.pread(fd, n, off)

    def test_reads_do_not_reach_the_daemon(self):
        body = os.urandom(5 * MIB + 123)
        m = self.prepare(a=body)
        drop_kernel_cache()
        before = m.stats()["reads"]["count"]
        self.assertEqual(m.read("a"), body)
        self.assertEqual(m.stats()["reads"]["count"], before)
        fd = os.open(f"{m.path}/a", os.O_RDONLY)
        self.assertEqual(self.get(fd, 1000, len(body) - 100), body[-100:])
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as view:
            self.assertEqual(view[:], body)
        out = os.open(f"{m.dir}/copy", os.O_RDWR | os.O_CREAT)
        self.assertEqual(os.sendfile(out, fd, 0, len(body)), len(body))
        os.lseek(out, 0, 0)
        self.assertEqual(os.read(out, len(body) + 1), body)
        os.close(out)
        os.close(fd)
        self.assertEqual(m.stats()["reads"]["count"], before)

    def test_small_and_empty(self):
        self.server.put("empty", b"")
        self.server.put("small", b"x" * 128 * 1024)
        m = self.prepare(a=os.urandom(128 * 1024 + 1))
        before = self.passed(m)
        for _ in range(3):
            self.assertEqual(m.read("empty"), b"")
            self.assertEqual(m.read("small"), b"x" * 128 * 1024)
        self.assertEqual(self.passed(m), before)

    def test_half_cached_and_open_elsewhere(self):
        body = os.urandom(24 * MIB)
        self.server.put("a", body)
        m = self.mount()
        first = os.open(f"{m.path}/a", os.O_RDONLY)
        self.assertEqual(self.get(first, 100), body[:100])
        second = os.open(f"{m.path}/a", os.O_RDONLY)
        for off in range(0, len(body), MIB):
            self.assertEqual(self.get(second, MIB, off), body[off:off + MIB])
        third = os.open(f"{m.path}/a", os.O_RDONLY)
        for fd in first, second, third:
            self.assertEqual(self.get(fd, MIB, 7 * MIB),
                             body[7 * MIB:8 * MIB])
        os.close(first)
        os.close(second)
        self.assertEqual(self.get(third, len(body)), body)
        os.close(third)
        self.settle(m, "a", body)

    def test_overwritten_elsewhere_while_open(self):
        old, new = os.urandom(3 * MIB), os.urandom(2 * MIB)
        m = self.prepare("--metadata-ttl", "minimal", a=old)
        before = self.passed(m)
        fd = os.open(f"{m.path}/a", os.O_RDONLY)
        self.assertEqual(self.passed(m), before + 1)
        view = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        self.server.put("a", new)
        wait_until(lambda: m.read("a") == new, 5)
        self.assertEqual(self.get(fd, len(old) + 1), old)
        self.assertEqual(os.stat(f"{m.path}/a").st_size, len(new))
        self.settle(m, "a", new)
        self.assertEqual(self.get(fd, len(old) + 1), old)
        self.assertEqual(view[:], old)
        # no name leads to what this shows
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        self.assertEqual(self.get(again, len(old)), old)
        os.close(again)
        os.close(fd)
        self.assertEqual(m.read("a"), new)
        self.assertEqual(view[:], old)
        with os.scandir(m.path) as entries:
            self.assertEqual(os.stat(f"{m.path}/a").st_ino,
                             next(entries).inode())

    def test_opened_the_moment_another_version_is_seen(self):
        """The kernel asks for a name once more, not twice."""
        bodies = [bytes([i]) * (200000 + i) for i in range(13)]
        m = self.prepare("--metadata-ttl", "minimal", a=bodies[0])
        held = []
        for body in bodies[1:]:
            held.append(os.open(f"{m.path}/a", os.O_RDONLY))
            self.server.put("a", body)
            end = time.monotonic() + 20 * SLOW
            while m.read("a") != body:
                self.assertLess(time.monotonic(), end)
            self.settle(m, "a", body)
        for fd, body in zip(held, bodies):
            self.assertEqual(self.get(fd, 300000), body)
            os.close(fd)

    def test_written_here_while_open(self):
        old = os.urandom(2 * MIB)
        m = self.prepare(a=old)
        reader = os.open(f"{m.path}/a", os.O_RDONLY)
        self.assertEqual(self.get(reader, 10), old[:10])
        view = mmap.mmap(reader, 0, prot=mmap.PROT_READ)
        writer = os.open(f"{m.path}/a", os.O_RDWR)
        want = bytearray(old)

        def write(data, off):
            os.pwrite(writer, data, off)
            want[off:off + len(data)] = data
            self.assertEqual(self.get(reader, len(want) + 1), want)
            self.assertEqual(os.pread(writer, len(want) + 1, 0), want)
            self.assertEqual(os.fstat(reader).st_size, len(want))
            self.assertEqual(os.fstat(writer).st_size, len(want))
        write(b"changed", 1000)
        write(b"grown" * 1000, len(old))
        self.assertEqual(view[1000:1007], b"changed")
        other = os.open(f"{m.path}/a", os.O_RDONLY)
        self.assertEqual(self.get(other, len(want) + 1), want)
        shared = mmap.mmap(writer, 0)
        shared[5:9] = b"mmap"
        shared.flush()
        want[5:9] = b"mmap"
        os.fsync(writer)
        self.assertEqual(self.get(reader, len(want) + 1), want)
        self.assertEqual(self.body("a"), want)
        write(b"again", 77)
        os.ftruncate(writer, MIB)
        del want[MIB:]
        self.assertEqual(self.get(reader, 2 * MIB), want)
        shared.close()
        os.close(writer)
        self.assertEqual(self.body("a"), want)
        for fd in reader, other:
            self.assertEqual(self.get(fd, len(want) + 1), want)
            os.close(fd)
        self.assertEqual(m.read("a"), want)
        self.settle(m, "a", bytes(want))

    def body(self, key):
        return self.server.client().get_object(
            Bucket="bucket", Key=key)["Body"].read()

    def test_emptied_replaced_and_removed_while_open(self):
        old, new = os.urandom(MIB), b"new content"
        m = self.prepare(a=old, b=old, c=old)
        fds = [os.open(f"{m.path}/{n}", os.O_RDONLY) for n in "abc"]
        with open(f"{m.path}/a", "wb") as f:
            self.assertEqual(self.get(fds[0], 10), b"")
            f.write(new)
        self.assertEqual(self.get(fds[0], 100), new)
        with open(f"{m.path}/.b.tmp", "wb") as f:
            f.write(new)
        os.rename(f"{m.path}/.b.tmp", f"{m.path}/b")
        os.unlink(f"{m.path}/c")
        self.assertEqual(m.read("a"), new)
        self.assertEqual(m.read("b"), new)
        for fd in fds[1:]:
            self.assertEqual(self.get(fd, len(old) + 1), old)
        for fd in fds:
            os.close(fd)
        self.assertEqual(sorted(os.listdir(m.path)), ["a", "b"])
        self.assertEqual(self.body("a"), new)

    def test_a_growing_log(self):
        first = b"first\n" * 50000
        m = self.prepare(log=first)
        reader = open(f"{m.path}/log", "rb")
        self.assertEqual(reader.read(), first)
        for i in range(3):
            with open(f"{m.path}/log", "ab") as f:
                f.write(b"line %d\n" % i)
            self.assertEqual(reader.read(), b"line %d\n" % i)
            self.assertEqual(os.fstat(reader.fileno()).st_size,
                             reader.tell())
        os.truncate(f"{m.path}/log", 3)
        self.assertEqual(os.pread(reader.fileno(), 100, 0), b"fir")
        reader.close()
        self.assertEqual(m.read("log"), b"fir")

    def test_evicted_under_pressure_while_open(self):
        body = os.urandom(6 * MIB)
        for i in range(12):
            self.server.put(f"other{i}", os.urandom(8 * MIB))
        m = self.prepare("--cache-size", "32M", a=body, b=body)
        kept = os.open(f"{m.path}/a", os.O_RDONLY)
        closed = os.open(f"{m.path}/b", os.O_RDONLY)
        view = mmap.mmap(closed, 0, prot=mmap.PROT_READ)
        os.close(closed)
        for i in range(12):
            m.read(f"other{i}")
        self.assertGreater(m.stats()["cache"]["evicted_bytes"], 32 * MIB)
        drop_kernel_cache()
        self.assertEqual(self.get(kept, len(body)), body)
        self.assertEqual(view[:], body)
        os.close(kept)
        view.close()

    def test_a_program_is_run(self):
        with open("/bin/bash", "rb") as f:
            program = f.read()
        m = self.prepare("--file-mode", "755", bash=program)
        for _ in range(2):
            subprocess.run([f"{m.path}/bash", "-c", "exit 0"], check=True,
                           timeout=20)

    def test_a_writer_among_readers(self):
        """Each open of theirs takes the file for the kernel's own reads, which
        must not send the writer away more than the once it can bear."""
        m = self.prepare(a=os.urandom(256 * 1024))
        end = time.monotonic() + 8
        refused = []

        def read():
            while time.monotonic() < end:
                try:
                    with open(f"{m.path}/a", "rb") as f:
                        os.pread(f.fileno(), 4096, 0)
                except OSError as e:
                    if e.errno != errno.ESTALE:
                        refused.append(repr(e))

        readers = [threading.Thread(target=read) for _ in range(6)]
        for t in readers:
            t.start()
        while time.monotonic() < end:
            try:
                os.close(os.open(f"{m.path}/a", os.O_RDWR))
            except OSError as e:
                refused.append(repr(e))
        for t in readers:
            t.join()
        self.assertEqual(refused, [])

    def test_opened_and_closed_by_many(self):
        """Readers, writers and half-cached opens side by side: no open may
        fail, no byte may be of nobody."""
        size = 2 * MIB
        bodies = [bytes([i]) * size for i in range(1, 9)]
        m = self.prepare("--metadata-ttl", "minimal", a=bodies[0])
        end = threading.Event()
        problems = []

        def read():
            while not end.is_set():
                try:
                    with open(f"{m.path}/a", "rb") as f:
                        n = 0
                        for off in range(0, size, 256 * 1024):
                            data = os.pread(f.fileno(), 65536, off)
                            if len(data) < 65536 or data.strip(
                                    bytes(range(1, 9))):
                                problems.append(f"{len(data)} bytes at {off}")
                except OSError as e:
                    if e.errno != 116: # replaced while it was read
                        problems.append(repr(e))

        def write():
            for body in bodies[1:] * 3:
                with open(f"{m.path}/a", "r+b") as f:
                    for off in range(0, size, 65536):
                        os.pwrite(f.fileno(), body[:65536], off)
        readers = [threading.Thread(target=read) for _ in range(4)]
        for t in readers:
            t.start()
        try:
            write()
        finally:
            end.set()
            for t in readers:
                t.join()
        self.assertEqual(problems, [])
        self.assertEqual(m.read("a"), bodies[-1])
        self.assertEqual(self.body("a"), bodies[-1])


if __name__ == "__main__":
    unittest.main()
