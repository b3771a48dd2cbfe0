"""Rounds of trouble until the time is over: several threads do random
operations in folders of their own, beside them readers of files that do not
change, on a mount with a small cache and a server that errs; then the daemon
is killed or asked to go, mounted again, and everything compared with a local
folder and with what the server has. See scripts/soak."""

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import unittest

import data
from harness import BUCKET, Case, Server, wait_until
from test_model import UnderFaults, World, outcome, pick, tree

WORKERS, READERS, FILES, STEPS = 4, 2, 12, 250
MODES = [(), ("--writeback",)]
CHOICES = [("", "--metadata-ttl minimal", "--metadata-ttl indefinite"),
           ("", "--memory 64M"), ("", "--ahead-files 0"),
           ("--cache-size 64M", "--cache-size 256M", "--cache-size 1G"),
           ("", "--max-connections 4"), ("", "--part-size 5M")]


class Round(Case):
    """One round; the class attributes seed and say are set by main."""
    seed, say = 0, print

    def make_server(self):
        return Server("--latency", "2")

    def setUp(self):
        self.local = tempfile.mkdtemp(prefix="r2fs-soak-")
        self.wrong = []
        self.history = []
        super().setUp()

    def tearDown(self):
        shutil.rmtree(self.local, ignore_errors=True)
        super().tearDown()

    # ---- the threads ----

    def guarded(self, what, *args):
        try:
            what(*args)
        except Exception as e:
            self.wrong.append(f"{what.__name__}{args[:1]}: {e!r}"[:2000])

    def work(self, k, m):
        r = random.Random(f"{self.seed} {k}")
        mine = World(os.path.join(m.path, f"w{k}"))
        theirs = World(os.path.join(self.local, f"w{k}"), os.O_DIRECT)
        history = []
        try:
            for step in range(STEPS):
                fn, args = pick(r)
                want = outcome(fn, theirs, args)
                got = outcome(fn, mine, args)
                shown = [len(a) if isinstance(a, bytes) else a for a in args]
                history.append(f"{step} {fn.__name__} {shown} {str(want)[:40]}")
                if got != want:
                    raise AssertionError(
                        f"{str(got)[:60]} instead of {str(want)[:60]}: "
                        + "; ".join(history[-12:]))
        finally:
            mine.close_all()
            theirs.close_all()

    def read(self, k, m, over):
        r = random.Random(f"{self.seed} reader {k}")
        while not over.is_set():
            i = r.randrange(FILES)
            with open(f"{m.path}/fixed/{i}", "rb") as f:
                if r.random() < 0.3:
                    self.assertEqual(data.versions_in(f.read()), {i + 1})
                    continue
                for _ in range(8):
                    at = r.randrange(self.sizes[i] // 4096) * 4096
                    f.seek(at)
                    got = data.versions_in(f.read(65536), at)
                    self.assertEqual(got, {i + 1})

    def threads(self, m):
        over = threading.Event()
        work = [threading.Thread(target=self.guarded, args=(self.work, k, m))
                for k in range(WORKERS)]
        read = [threading.Thread(target=self.guarded,
                                 args=(self.read, k, m, over))
                for k in range(READERS)]
        for t in work + read:
            t.start()
        for t in work:
            t.join()
        over.set()
        for t in read:
            t.join()
        if self.wrong:
            self.fail("\n".join(self.wrong))

    # ---- the round ----

    def compare(self, root, kept):
        """kept: modes and links of names that only a listing has shown are not
        known before they are looked at."""
        for k in range(WORKERS):
            want = tree(os.path.join(self.local, f"w{k}"))
            got = tree(os.path.join(root, f"w{k}"))
            self.assertEqual(sorted(got), sorted(want))
            for name, value in want.items():
                if isinstance(value, tuple) and kept:
                    self.assertEqual(got[name][1], value[1], name)
                elif not kept:
                    self.assertEqual(got[name], value, name)

    def objects(self):
        s3 = self.server.client()
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [o["Key"] for page in pages for o in page.get("Contents", [])]
        for k in range(WORKERS):
            want = {}
            for name, value in tree(os.path.join(self.local, f"w{k}")).items():
                if isinstance(value, tuple):
                    want[f"w{k}/{name}"] = value[1]
            mine = [key for key in keys if key.startswith(f"w{k}/")
                    and not key.endswith("/") and key in want]
            self.assertEqual(sorted(mine), sorted(want))
            for key in mine:
                body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
                self.assertEqual(body, want[key], key)

    def fds(self, m):
        return len(os.listdir(f"/proc/{m.pid}/fd"))

    def end(self, m, r):
        """Everything is closed: what follows may lose nothing."""
        if r.random() < 0.5:
            m.crash()
            m.start()
            self.compare(m.path, True)
        m.unmount()

    def test_round(self):
        r = random.Random(self.seed)
        options = list(r.choice(MODES))
        for choice in CHOICES:
            options += r.choice(choice).split()
        self.say(f"seed {self.seed}: {' '.join(options)}")
        self.sizes = [r.randrange(1, 2400) * 4096 for _ in range(FILES)]
        for i, size in enumerate(self.sizes):
            self.server.put(f"fixed/{i}", data.versioned(size, i + 1))
        m = self.mount(*options)
        m.expected_errors = True
        for k in range(WORKERS):
            os.mkdir(f"{self.local}/w{k}")
            os.mkdir(f"{m.path}/w{k}")
        before = self.fds(m)
        self.server.faults(UnderFaults.FAULTS)
        try:
            self.threads(m)
        except AssertionError as e:
            with open(m.log) as log:
                raise AssertionError(f"{e}\nthe log ends:\n"
                                     + "".join(log.readlines()[-30:])) from e
        self.server.faults("")
        self.compare(m.path, False)
        wait_until(lambda: self.fds(m) <= before + 80)
        self.say(f"  {m.stats()['requests']['retries']} retries, "
                 f"{m.memory() >> 20} MiB, {self.fds(m)} descriptors")
        self.end(m, r)
        self.objects()
        again = self.mount("--read-only")
        self.compare(again.path, True)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("minutes", nargs="?", type=float, default=60)
    p.add_argument("--seed", type=int, help="only this round")
    a = p.parse_args()
    end, n = time.monotonic() + a.minutes * 60, 0
    while n == 0 or time.monotonic() < end and a.seed is None:
        Round.seed = random.randrange(10 ** 9) if a.seed is None else a.seed
        Round.say = staticmethod(lambda text: print(text, flush=True))
        result = unittest.TextTestRunner(verbosity=0, stream=sys.stdout).run(
            Round("test_round"))
        n += 1
        if not result.wasSuccessful():
            print(f"soak: round {n} failed; again: "
                  f"scripts/soak --seed {Round.seed}")
            return 1
    print(f"soak: {n} rounds, all well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
