"""What was asked before a change of this mount, and comes after it, is old."""

import ctypes
import os
import struct
import threading
import time
import unittest

from harness import BUCKET, Case

libc = ctypes.CDLL("libc.so.6", use_errno=True)
SYS_GETDENTS64 = 217


def getdents(fd, size=8192):
    """One call's names, with the position after each."""
    data = ctypes.create_string_buffer(size)
    n = libc.syscall(SYS_GETDENTS64, fd, data, size)
    if n < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    got, at = [], 0
    while at < n:
        _, off, length, _ = struct.unpack_from("<QqHB", data.raw, at)
        got.append((data.raw[at + 19:at + length].split(b"\0")[0].decode(),
                    off))
        at += length
    return got


def rest(fd):
    got = []
    while chunk := getdents(fd):
        got += chunk
    return got


def names(entries):
    return [n for n, _ in entries if n not in (".", "..")]


class OldBatches(Case):
    """A handle of a folder holds records of names that change meanwhile."""

    def begin(self, cold):
        for i in range(300):
            self.server.put(f"d/f{i:03}", b"old")
        self.m = self.mount()
        if not cold:
            os.listdir(f"{self.m.path}/d")
        fd = os.open(f"{self.m.path}/d", os.O_RDONLY | os.O_DIRECTORY)
        self.look(names(getdents(fd))) # so that the kernel uses readdirplus
        return fd

    def look(self, listed):
        for n in listed:
            try:
                os.stat(f"{self.m.path}/d/{n}")
            except FileNotFoundError:
                pass

    def finish(self, fd):
        listed = []
        while chunk := names(getdents(fd)):
            listed += chunk
            self.look(n for n in chunk if n not in self.changed)
        os.close(fd)
        return listed

    def path(self, name):
        return f"{self.m.path}/d/{name}"

    def stored(self, cold):
        fd = self.begin(cold)
        self.changed = ("f200",)
        with open(self.path("f200"), "w") as f:
            f.write("new content")
        self.finish(fd)
        self.assertEqual(os.stat(self.path("f200")).st_size, 11)
        self.assertEqual(self.m.read("d/f200"), b"new content")
        with open(self.path("f200"), "a") as f:
            f.write("+")
        body = self.server.s3.get_object(Bucket=BUCKET, Key="d/f200")["Body"]
        self.assertEqual(body.read(), b"new content+")

    def removed(self, cold):
        fd = self.begin(cold)
        self.changed = ("f200", "f201")
        os.unlink(self.path("f200"))
        os.rename(self.path("f201"), self.path("g201"))
        self.assertEqual(set(self.changed) & set(self.finish(fd)), set())
        for name in self.changed:
            self.assertFalse(os.path.exists(self.path(name)))
        self.assertEqual(self.m.read("d/g201"), b"old")
        os.close(os.open(self.path("f200"),
                         os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    def test_stored_while_the_cache_is_read(self):
        self.stored(cold=False)

    def test_stored_while_r2_is_listed(self):
        self.stored(cold=True)

    def test_removed_while_the_cache_is_read(self):
        self.removed(cold=False)

    def test_removed_while_r2_is_listed(self):
        self.removed(cold=True)


class OldAnswers(Case):
    def late(self, what):
        """Runs what while its GET takes 1.5 s."""
        self.server.faults("op=GET key=d/x count=1 action=delay:1500")
        got = []
        t = threading.Thread(target=lambda: got.append(what()))
        t.start()
        time.sleep(0.3)
        return t, got

    def prepare(self, *options):
        self.server.put("d/x", b"old")
        self.server.put("d/y", b"1")
        time.sleep(1.2) # what is stored now is newer than R2's whole seconds
        self.m = self.mount(*options)
        self.assertEqual(self.m.read("d/x"), b"old")
        return f"{self.m.path}/d/x"

    def test_a_store_is_newer_than_what_was_asked_before(self):
        path = self.prepare("--metadata-ttl", "3")
        with open(path, "r+b", buffering=0) as f:
            time.sleep(3.2)
            t, got = self.late(lambda: os.stat(path).st_size)
            f.write(b"NEWNEWNEW")
        t.join()
        self.assertEqual(got, [9])
        self.assertEqual(os.stat(path).st_size, 9)
        self.assertEqual(self.m.read("d/x"), b"NEWNEWNEW")

    def test_a_removal_is_newer_than_what_was_asked_before(self):
        path = self.prepare("--metadata-ttl", "3")
        with open(path, "rb", buffering=0) as f:
            time.sleep(3.2)
            t, _ = self.late(lambda: self.stat_of(f))
            os.unlink(path)
            self.assertFalse(os.path.exists(path))
            t.join()
        self.assertFalse(os.path.exists(path))
        self.assertEqual(os.listdir(f"{self.m.path}/d"), ["y"])

    @staticmethod
    def stat_of(f):
        try:
            return os.fstat(f.fileno()).st_size
        except OSError as e:
            return e.errno

    def test_many_who_ask_at_once_share_a_slow_answer(self):
        self.server.put("d/x", b"x")
        m = self.mount("--metadata-ttl", "minimal")
        self.server.faults("op=GET key=d/x action=delay:400")
        self.server.reset()
        threads = [threading.Thread(target=os.stat, args=(f"{m.path}/d/x",))
                   for _ in range(8)]

        def all_of_them():
            for t in threads:
                t.start()
            for t in threads:
                t.join()
        self.within(2, all_of_them)


if __name__ == "__main__":
    unittest.main()
