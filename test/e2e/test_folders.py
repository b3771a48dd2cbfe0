"""Reading a folder: positions, going back, and what it costs."""

import ctypes
import os
import random
import threading
import time
import unittest

from harness import BUCKET, Case
from test_late import getdents, names, rest

libc = ctypes.CDLL("libc.so.6", use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.opendir.argtypes = [ctypes.c_char_p]
for f in (libc.readdir, libc.rewinddir, libc.closedir):
    f.argtypes = [ctypes.c_void_p]


class Positions(Case):
    def fill(self, n):
        """Files, folders, and names between a folder and its key."""
        want = set()
        for i in range(n):
            for key in ((f"n{i:04}/x", f"n{i:04}-b", f"n{i:04}!")
                        if i % 3 else (f"n{i:04}",)):
                self.server.put("d/" + key, b"1")
                want.add(key.split("/")[0])
        return want

    def folder(self, m):
        return os.open(f"{m.path}/d", os.O_RDONLY | os.O_DIRECTORY)

    def all_names(self, entries, want):
        got = names(entries)
        self.assertEqual(len(got), len(set(got)))
        self.assertEqual(set(got), want)

    def go_back(self, fd, want):
        """seekdir to where telldir was once: the rest is what came then."""
        got = rest(fd)
        self.all_names(got, want)
        for k in sorted(random.Random(1).sample(range(len(got)), 12),
                        reverse=True):
            os.lseek(fd, got[k][1], os.SEEK_SET)
            self.all_names(got[:k + 1] + rest(fd), want)
        return got

    def test_back_into_a_listing_that_has_ended(self):
        want = self.fill(1000)
        fd = self.folder(self.mount())
        self.go_back(fd, want)
        os.close(fd)

    def test_one_order_of_listing_and_cache(self):
        want = self.fill(400)
        m = self.mount()
        fd = self.folder(m)
        first = names(rest(fd))
        os.close(fd)
        fd = self.folder(m)
        self.assertEqual(names(self.go_back(fd, want)), first)
        os.close(fd)

    def test_back_while_names_come_and_go(self):
        want = self.fill(1000)
        fd = self.folder(m := self.mount())
        got = rest(fd)
        self.all_names(got, want)
        there = set(want)
        listed = names(got)
        for n in [n for n in listed[:900] if n.endswith("!")]:
            os.unlink(f"{m.path}/d/{n}")
            there.remove(n)
        k = len(got) - 300
        os.lseek(fd, got[k][1], os.SEEK_SET)
        # those that are gone were before; what is left comes once
        again = names(rest(fd))
        self.assertEqual(len(again), len(set(again)))
        self.assertEqual(set(listed[len(listed) - len(again):]), set(again))
        self.assertEqual(len(again), 299)
        os.close(fd)

    def read(self, d):
        got = []
        while p := libc.readdir(d):
            got.append(ctypes.string_at(p + 19).decode())
        return got

    def rewound(self, m):
        d = libc.opendir(f"{m.path}/d".encode())
        self.assertIn("n0000", self.read(d))
        with open(f"{m.path}/d/new", "w") as f:
            f.write("x")
        os.unlink(f"{m.path}/d/n0000")
        libc.rewinddir(d)
        got = self.read(d)
        libc.closedir(d)
        self.assertIn("new", got)
        self.assertNotIn("n0000", got)

    def test_rewinddir_shows_what_is_there_now(self):
        self.fill(10)
        m = self.mount()
        self.rewound(m)

    def test_rewinddir_of_what_is_cached(self):
        self.fill(10)
        m = self.mount()
        os.listdir(f"{m.path}/d")
        self.rewound(m)


class Cost(Case):
    def test_a_cold_folder_is_shown_without_a_lookup_for_each_name(self):
        for i in range(900):
            self.server.put(f"d/f{i:03}", b"1")
        m = self.mount()
        before = m.stats()
        self.server.reset()
        seen = 0
        with os.scandir(f"{m.path}/d") as entries: # as ls -l does
            for e in entries:
                seen += e.stat(follow_symlinks=False).st_size
        self.assertEqual(seen, 900)
        after = m.stats()
        self.assertEqual(after["names"]["lookups"] -
                         before["names"]["lookups"], 1) # the folder's
        self.assertLess(after["mount"]["kernel_requests"] -
                        before["mount"]["kernel_requests"], 90)
        self.assertEqual(self.server.stats()["ops"]["LIST"], 1)


class Races(Case):
    """What this mount does while a page is on its way."""

    def test_the_folder_above_is_renamed(self):
        for i in range(5):
            self.server.put(f"d/sub/f{i}", b"1")
        m = self.mount("--metadata-ttl", "3")
        os.listdir(f"{m.path}/d/sub")
        fd = os.open(f"{m.path}/d/sub", os.O_RDONLY | os.O_DIRECTORY)
        time.sleep(3.2)
        # R2 has nothing in the old place then, and the new name is not there
        self.server.faults("op=DELETES count=1 action=delay:1500")
        t = threading.Thread(target=os.rename,
                             args=(f"{m.path}/d", f"{m.path}/e"))
        t.start()
        time.sleep(0.7)
        rest(fd)
        t.join()
        os.close(fd)
        self.assertEqual(sorted(os.listdir(f"{m.path}/e/sub")),
                         [f"f{i}" for i in range(5)])
        self.assertEqual(m.read("e/sub/f3"), b"1")

    def test_below_a_page_of_many_folders(self):
        for f in range(4):
            for i in range(4):
                self.server.put(f"d/s{f}/f{i}", b"1")
        m = self.mount()
        d = f"{m.path}/d"
        for f in range(4):
            os.stat(f"{d}/s{f}/f0") # by itself: nothing else is known
        self.server.faults("op=LIST count=1 action=delay:1200")
        t = threading.Thread(target=os.path.exists, args=(f"{d}/missing",))
        t.start()
        time.sleep(0.3)
        os.unlink(f"{d}/s0/f0")
        with open(f"{d}/s1/new", "w") as f:
            f.write("x")
        os.chmod(f"{d}/s2/f0", 0o600)
        os.rename(f"{d}/s3/f0", f"{d}/s3/g0")
        t.join()
        rest = ["f1", "f2", "f3"]
        for f, want in enumerate((rest, ["f0", *rest, "new"], ["f0", *rest],
                                  [*rest, "g0"])):
            self.assertEqual(sorted(os.listdir(f"{d}/s{f}")), want)
        self.assertEqual(os.stat(f"{d}/s2/f0").st_mode & 0o777, 0o600)

    def test_a_name_is_stored_before_another_joins(self):
        for i in range(100):
            self.server.put(f"d/f{i:02}", b"1")
        self.server.control("limits?page=5")
        m = self.mount()
        fd = os.open(f"{m.path}/d", os.O_RDONLY | os.O_DIRECTORY)
        self.assertTrue(getdents(fd, 256))
        with open(f"{m.path}/d/a", "w") as f:
            f.write("x")
        got = os.listdir(f"{m.path}/d")
        os.close(fd)
        self.assertIn("a", got)


if __name__ == "__main__":
    unittest.main()
