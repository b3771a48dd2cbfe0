"""That the benchmark's checks see what is wrong."""

import argparse
import os
import sys
import tempfile
import unittest

import access
import demands
from content import MIB, Changed, Computed, Cut, PATTERN, Wrong, verify
from oracle import best, recency

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "../e2e"))
import report  # noqa: E402


class Bytes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pattern = os.urandom(PATTERN)

    def file(self, content, change=None):
        f = tempfile.NamedTemporaryFile()
        self.addCleanup(f.close)
        data = bytearray(content.data(0, content.size))
        if change is not None:
            data[change] ^= 1
        f.write(data)
        f.flush()
        return f.name, content

    def contents(self):
        small = Cut(self.pattern, 3, 100000)
        return [small, Cut(self.pattern, 1, 35 * MIB), Computed("k", 70001),
                Changed(small, 99990, b"x" * 100)]

    def test_right(self):
        for c in self.contents():
            file = self.file(c)
            self.assertEqual(access.read_whole(file), c.size)
            verify([file])

    def test_one_byte(self):
        for c in self.contents():
            with self.assertRaises(Wrong):
                access.read_whole(self.file(c, c.size - 1))
            with self.assertRaises(Wrong):
                verify([self.file(c, c.size // 2)])

    def test_length(self):
        path, c = self.file(self.contents()[0])
        os.truncate(path, c.size - 1)
        for read in (access.read_whole, lambda f: verify([f])):
            with self.assertRaises(Wrong):
                read((path, c))

    def test_places_differ(self):
        c = Cut(self.pattern, 1, 300 * MIB)
        starts = {c.data(i * MIB, 16) for i in range(300)}
        self.assertEqual(len(starts), 300)
        self.assertNotEqual(c.data(0, 64), Cut(self.pattern, 2,
                                               c.size).data(0, 64))

    def test_process(self):
        def work(i):
            if i == 1:
                raise Wrong("on purpose")
        with self.assertRaises(Wrong):
            access.in_processes(2, work)


class Figures(unittest.TestCase):
    def test_hit_ratios(self):
        order = list(range(10)) * 3
        self.assertEqual(sum(recency(order, 5)), 0)
        self.assertGreaterEqual(sum(best(order, 5)), 10)
        self.assertEqual(sum(best(order, 10)), 20)
        self.assertEqual(sum(recency(order, 10)), 20)

    def test_too_many_requests(self):
        row = {"peer": "r2fs", "group": "g", "work": "w", "requests": 12,
               "fewest": 10, "most": 10}
        self.assertEqual(demands.miscounted([row]), [row])
        self.assertEqual(demands.miscounted([dict(row, requests=10)]), [])
        met = {text: ok for text, _, _, ok in demands.found([row])}
        self.assertFalse(met["g: w: requests / fewest"])

    def test_any_group_has_a_plot(self):
        row = {"peer": "r2fs", "group": "a file, a link of 4 MB/s",
               "work": "w", "seconds": 1.0, "files": 0, "bytes": MIB}
        with tempfile.TemporaryDirectory() as out:
            report.write(argparse.Namespace(out=out), [row],
                         report.about(argparse.Namespace(
                             latency=30, bandwidth=50, quick=True), 1, [], {}))
            self.assertIn("a-file-a-link-of-4-MB-s.svg", os.listdir(out))


if __name__ == "__main__":
    unittest.main()
