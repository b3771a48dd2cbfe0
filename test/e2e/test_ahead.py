"""Files are fetched before they are asked for, where it pays and only there."""

import itertools
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

from harness import Case, SLOW, drop_kernel_cache

RTT = 0.03


def body(name):
    return random.Random(name).randbytes(20000)


class Ahead(Case):
    def fill(self, names):
        self.server.put("warm-up")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: self.server.put(n, body(n)), names))

    def read(self, m, names):
        """Seconds and requests for reading the names one by one."""
        self.server.reset()
        start = time.monotonic()
        for n in names:
            self.assertEqual(m.read(n), body(n), n)
        return (time.monotonic() - start) / SLOW, self.server.stats()

    def check_fast(self, m, names, extra, times):
        seconds, stats = self.read(m, names)
        self.assertLessEqual(stats["total"], len(names) + extra)
        self.assertLess(seconds, len(names) * RTT / times)

    def test_one_by_one_in_order_of_name(self):
        names = [f"dir/f{i:04}.jpg" for i in range(300)]
        self.fill(names)
        self.server.latency(30)
        m = self.mount()
        self.check_fast(m, names, 6, 4)
        drop_kernel_cache()
        _, stats = self.read(m, names)
        self.assertEqual(stats["total"], 0)

    def test_names_without_numbers_follow_the_listing(self):
        names = sorted("dir/" + "".join(w) for w in itertools.product(
            "abcdef", "ghijkl", "mnopqr"))
        self.fill(names)
        self.server.latency(30)
        m = self.mount()
        os.listdir(f"{m.path}/dir")
        self.check_fast(m, names, 0, 4)

    def test_chunks_along_every_axis(self):
        side = 7
        names = {(i, j, k): f"a.zarr/c/{i}/{j}/{k}" for i, j, k in
                 itertools.product(range(side), repeat=3)}
        self.fill(names.values())
        self.server.latency(30)
        for order in ((0, 1, 2), (0, 2, 1), (2, 1, 0)):
            keys = sorted(names, key=lambda c: [c[a] for a in order])
            m = self.mount()
            with self.subTest(order):
                # folders have to be found, and where rows end: a window of
                # names that are not there, for each axis
                self.check_fast(m, [names[k] for k in keys], 100, 2.5)
            m.stop()
            self.mounts.remove(m)

    def test_random_order_costs_less_than_a_tenth_more(self):
        names = [f"dir/f{i:04}" for i in range(400)]
        self.fill(names)
        random.Random(5).shuffle(names)
        m = self.mount()
        _, stats = self.read(m, names[:200])
        self.assertLessEqual(stats["total"], 220)

    def test_a_reader_that_stops_leaves_no_more_than_its_window(self):
        names = [f"dir/f{i:04}" for i in range(400)]
        self.fill(names)
        m = self.mount()
        _, before = self.read(m, names[:20])
        time.sleep(0.5)
        self.assertLessEqual(self.server.stats()["total"], 20 + 24)

    def test_a_small_cache_keeps_what_was_read(self):
        """64 files of 2 MiB, and a cache for half of them."""
        names = [f"dir/f{i:02}" for i in range(64)]
        for n in names:
            self.server.put(n, random.Random(n).randbytes(2 << 20))
        m = self.mount("--cache-size", "70M")

        def requests(names):
            self.server.reset()
            for n in names:
                self.assertEqual(m.read(n), random.Random(n).randbytes(
                    2 << 20))
            drop_kernel_cache()
            return self.server.stats()["total"]

        # the first MiB that brings the size too, and the rest
        self.assertLessEqual(requests(names), 2 * 64 + 8)
        self.assertLessEqual(requests(names), 64 * 0.75)
        hot = names[:16]
        for _ in range(3):
            requests(hot)
        requests(names[16:])
        self.assertLessEqual(requests(hot), 4)

    def test_unmounting_does_not_wait_for_what_nobody_asked_for(self):
        names = [f"dir/f{i:04}" for i in range(200)]
        self.fill(names)
        m = self.mount()
        self.read(m, names[:60])
        self.server.latency(2000)
        for n in names[60:62]:
            m.read(n)
        self.within(15, m.unmount)
