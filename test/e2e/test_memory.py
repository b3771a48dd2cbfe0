"""Memory: --memory holds, whatever is read at once. The harness looks when a
mount ends (harness.memory_limit)."""

import os
import threading
import time
import unittest

from harness import RSS_LIMIT, Case, run, wait_until

MIB = 1 << 20
FILES = 64
SIZE = 12 * MIB


class Memory(Case):
    """64 readers of 64 files, far more than the budget, over a slow line."""

    def body(self, i):
        return bytes([1 + i]) * SIZE

    def fill(self):
        for i in range(FILES):
            self.server.put(f"d/{i:02}", self.body(i))
        self.server.latency(20)

    def read_one(self, m, i, wrong):
        try:
            with open(f"{m.path}/d/{i:02}", "rb") as f:
                while part := f.read(MIB):
                    if part.count(1 + i) != len(part):
                        wrong.append(f"{i} at {f.tell()}")
                if f.tell() != SIZE:
                    wrong.append(f"{i} ends at {f.tell()}")
        except OSError as e:
            wrong.append(f"{i}: {e}")

    def read_all(self, m):
        wrong = []
        threads = [threading.Thread(target=self.read_one, args=(m, i, wrong))
                   for i in range(FILES)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])

    def holds(self, budget, *options):
        self.fill()
        m = self.mount("--memory", f"{budget}M", *options)
        self.read_all(m)
        print(f"# --memory {budget}M {' '.join(options)}: most "
              f"{m.memory() >> 20} MiB", flush=True)
        wait_until(lambda: not m.stats()["process"]["buffer_bytes"])

    def test_64m(self):
        self.holds(64)

    def test_128m(self):
        self.holds(128)

    def test_cache_too_small(self):
        self.holds(64, "--cache-size", "128M")


class Names(Case):
    """The kernel keeps what `ls -l` shows; the daemon does not keep it all."""

    server_options = ("--synthetic", "bucket:few/:50000:100",
                      "--synthetic", "bucket:many/:300000:100")

    def anonymous(self, m):
        with open(f"/proc/{m.pid}/status") as f:
            return next(int(line.split()[1]) << 10 for line in f
                        if line.startswith("RssAnon:"))

    def show(self, m, folder, n):
        self.server.reset()
        out = run("ls", "-l", f"{m.path}/{folder}", timeout=240).stdout
        self.assertEqual(out.count(" f00"), n)
        self.assertEqual(self.requests(), n // 1000)
        return self.anonymous(m)

    def test_300000_take_no_more_than_50000(self):
        m = self.mount("--memory", "128M", "--metadata-ttl", "indefinite")
        held = f"{m.path}/few/f00000007"
        with open(held) as f:
            where = f"/proc/self/fd/{f.fileno()}"
            few = self.show(m, "few", 50000)
            many = self.show(m, "many", 300000)
            self.assertEqual(os.readlink(where), held)
            self.assertEqual(os.fstat(f.fileno()).st_ino,
                             os.stat(held).st_ino)
        names = m.stats()["names"]
        print(f"# {few >> 20} MiB after 50,000 names, {many >> 20} MiB after "
              f"300,000: {names}", flush=True)
        self.assertLess(names["inodes"], 50000)
        self.assertLess(many - few, RSS_LIMIT or 24 * MIB)


class OneStream(Case):
    """A file far larger than the budget, read once from end to end as fast as
    it comes: the window grows to its most. The default budget is in the
    command line so that it, and not the limit of ordinary use, holds."""

    server_options = ("--synthetic", "bucket:big/:1:1073741824")

    def read(self, budget):
        m = self.mount("--memory", f"{budget}M")
        name, = os.listdir(f"{m.path}/big")
        n = 0
        with open(f"{m.path}/big/{name}", "rb", buffering=0) as f:
            start = time.monotonic()
            while part := f.read(MIB):
                n += len(part)
        took = time.monotonic() - start
        self.assertEqual(n, 1 << 30)
        print(f"# --memory {budget}M, one stream: most {m.memory() >> 20} "
              f"MiB, {1024 / took:.0f} MiB/s", flush=True)
        m.unmount() # looks at the memory

    def test_default_budget(self):
        self.read(512)


if __name__ == "__main__":
    unittest.main()
