"""How many requests fsync and close cost: each that has something new is one
PUT, and one key gets no more than a few and then one a second, however many
ask; each who opens the file has a few. Where R2 refuses the second write
within a second, each key learns it by one refusal, and is written once a second
then, however often the file is opened."""

import os
import sqlite3
import threading
import time
import unittest

from harness import BUCKET, Case, run, wait_until

BURST = 4 # stores of a file before the limit of one a second


class Fsync(Case):
    options = ()
    limit_write = "off"

    def setUp(self):
        super().setUp()
        self.server.control(f"limits?write={self.limit_write}")
        self.m = self.mount(*self.options)
        self.s3 = self.server.client()

    def refused(self):
        return self.server.stats()["refused"]

    def refused_at_most(self, keys):
        """One refusal tells a key's pace; overlaps are never sent."""
        self.assertLessEqual(
            self.refused(), keys if self.limit_write == "second" else 0)

    def slowed_if_refused(self, took, seconds):
        if self.limit_write == "second":
            self.assertGreaterEqual(took, seconds)

    def ops(self):
        """What was served, by kind; refusals are PUTs here."""
        s = self.server.stats()
        ops = {k: n for k, n in s["ops"].items() if n}
        if s["refused"]:
            ops["PUT"] -= s["refused"]
        return ops

    def counted(self, fn):
        before = self.ops()
        fn()
        after = self.ops()
        return {k: n - before.get(k, 0) for k, n in after.items()
                if n != before.get(k, 0)}

    def body(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()


class Stored(Fsync):
    def test_one_put_each_and_none_for_nothing(self):
        fd = os.open(f"{self.m.path}/f", os.O_RDWR | os.O_CREAT)

        def sync(text):
            if text:
                os.write(fd, text)
            os.fsync(fd)

        self.assertEqual(self.counted(lambda: sync(b"a")).pop("PUT"), 1)
        self.assertEqual(self.body("f"), b"a")
        n = self.counted(lambda: [sync(b"") for _ in range(50)])
        self.assertEqual(n, {})
        self.assertEqual(self.counted(lambda: sync(b"b")), {"PUT": 1})
        self.assertEqual(self.body("f"), b"ab")
        self.assertEqual(self.counted(lambda: os.close(fd)), {})
        self.refused_at_most(1)

    def test_closing_in_a_loop_is_slowed_down_if_refused(self):
        start = time.monotonic()

        def loop():
            for i in range(BURST + 3):
                with open(f"{self.m.path}/f", "w") as f:
                    f.write(f"{i}")

        n = self.counted(loop)
        self.assertEqual(n.pop("PUT"), BURST + 3)
        self.slowed_if_refused(time.monotonic() - start, BURST + 2)
        self.assertEqual(self.body("f"), b"%d" % (BURST + 2))
        self.refused_at_most(1)

    def test_other_keys_are_not_slowed_down(self):
        def loop():
            for i in range(200):
                with open(f"{self.m.path}/f{i}", "w") as f:
                    f.write("x")

        n = self.counted(lambda: self.within(10, loop))
        self.assertEqual(n.pop("PUT"), 200)
        self.refused_at_most(0)

    def test_saving_by_rename_keeps_the_pace(self):
        def loop():
            for i in range(BURST + 2):
                with open(f"{self.m.path}/f.tmp", "w") as f:
                    f.write(f"{i}")
                os.rename(f"{self.m.path}/f.tmp", f"{self.m.path}/f")

        start = time.monotonic()
        n = self.counted(loop)
        self.assertEqual(n.pop("PUT"), BURST + 2)
        self.slowed_if_refused(time.monotonic() - start, BURST + 1)
        self.assertEqual(self.body("f"), b"%d" % (BURST + 1))
        self.refused_at_most(1)

    def test_through_a_descriptor_that_only_reads(self):
        w = os.open(f"{self.m.path}/f", os.O_WRONLY | os.O_CREAT)
        r = os.open(f"{self.m.path}/f", os.O_RDONLY)
        os.write(w, b"data")
        self.assertEqual(self.counted(lambda: os.fsync(r)).get("PUT"), 1)
        self.assertEqual(self.body("f"), b"data")
        os.write(w, b" and more")
        run("sync", f"{self.m.path}/f")
        self.assertEqual(self.body("f"), b"data and more")
        self.assertEqual(self.counted(lambda: os.fsync(r)), {})
        os.close(w)
        # the kernel tells of the close later: that, too, may store the mode
        self.assertEqual(self.counted(lambda: (os.fchmod(r, 0o600),
                                               os.fsync(r))), {"COPY": 1})
        mode = self.s3.head_object(Bucket=BUCKET, Key="f")["Metadata"]["mode"]
        self.assertEqual(int(mode) & 0o777, 0o600)
        self.assertEqual(self.counted(lambda: os.close(r)), {})

    def test_a_reader_whose_fsync_fails_takes_nothing_away(self):
        self.m.expected_errors = True
        w = os.open(f"{self.m.path}/f", os.O_WRONLY | os.O_CREAT)
        r = os.open(f"{self.m.path}/f", os.O_RDONLY)
        os.write(w, b"data")
        self.server.faults("op=PUT action=status:403")
        with self.assertRaises(PermissionError):
            os.fsync(r)
        self.server.faults("")
        os.close(r)
        os.close(w)
        self.assertEqual(self.body("f"), b"data")

    def test_a_loop_is_slowed_down(self):
        fd = os.open(f"{self.m.path}/f", os.O_RDWR | os.O_CREAT)
        start = time.monotonic()

        def loop():
            for i in range(BURST + 3):
                os.pwrite(fd, b"%03d" % i, 0)
                os.fsync(fd)

        n = self.counted(loop)
        self.assertEqual(n.pop("PUT"), BURST + 3)
        self.assertGreaterEqual(time.monotonic() - start, 2)
        self.assertEqual(self.body("f"), b"%03d" % (BURST + 2))
        os.close(fd)
        self.refused_at_most(1)

    def test_many_threads_share_a_store(self):
        fd = os.open(f"{self.m.path}/f", os.O_RDWR | os.O_CREAT)
        end = time.monotonic() + 4
        done = []

        def loop(t):
            while time.monotonic() < end:
                os.pwrite(fd, b"x", t)
                os.fsync(fd)
                done.append(t)

        def run():
            threads = [threading.Thread(target=loop, args=(t,))
                       for t in range(8)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()

        start = time.monotonic()
        n = self.counted(run)
        took = time.monotonic() - start
        self.assertLessEqual(n.pop("PUT"), BURST + took + 1)
        self.assertGreater(len(done), 8)
        self.assertEqual(self.body("f"), b"x" * 8)
        os.close(fd)
        self.refused_at_most(1)

    def test_sqlite(self):
        path = f"{self.m.path}/x.db"
        d = sqlite3.connect(path, isolation_level=None)
        d.execute("create table t(a)")
        time.sleep(BURST + 1)
        commits = 4

        def loop():
            for i in range(commits):
                d.execute("insert into t values(?)", (i,))

        n = self.counted(loop)
        # the journal before the database, then it goes; SQLite's own order
        self.assertLessEqual(n.pop("PUT"), 3 * commits)
        self.assertLessEqual(n.pop("DELETE", 0), commits)
        self.assertEqual(n, {})
        d.close()
        with open(os.path.join(self.m.dir, "copy.db"), "wb") as f:
            f.write(self.body("x.db"))
        d = sqlite3.connect(os.path.join(self.m.dir, "copy.db"))
        self.assertEqual(d.execute("select sum(a) from t").fetchone(),
                         (sum(range(commits)),))
        d.close()
        self.refused_at_most(2)


class StoredWithoutOverlap(Stored):
    limit_write = "overlap"


class StoredOnceASecond(Stored):
    limit_write = "second"


class Journalled(Fsync):
    options = ("--writeback",)

    def test_a_reader_makes_it_durable(self):
        self.server.faults("op=PUT action=status:503")
        w = os.open(f"{self.m.path}/f.tmp", os.O_WRONLY | os.O_CREAT)
        r = os.open(f"{self.m.path}/f.tmp", os.O_RDONLY)
        os.write(w, b"data")
        os.fsync(r)
        self.m.crash()
        self.server.faults("")
        for fd in (r, w):
            try:
                os.close(fd)
            except OSError:
                pass
        self.m.start()
        self.assertEqual(self.m.read("f.tmp"), b"data")

    def test_fsync_costs_no_request(self):
        fd = os.open(f"{self.m.path}/f", os.O_RDWR | os.O_CREAT)

        def loop():
            for i in range(100):
                os.pwrite(fd, b"%03d" % i, 0)
                os.fsync(fd)

        start = time.monotonic()
        n = self.counted(loop)
        took = time.monotonic() - start
        self.assertLessEqual(n.pop("PUT", 0), BURST + took + 1)
        os.close(fd)
        wait_until(lambda: "Contents" in self.s3.list_objects_v2(Bucket=BUCKET)
                   and self.body("f") == b"099")
        self.refused_at_most(1)

    def test_sqlite(self):
        d = sqlite3.connect(f"{self.m.path}/x.db", isolation_level=None)
        d.execute("create table t(a)")

        def loop():
            for i in range(50):
                d.execute("insert into t values(?)", (i,))

        start = time.monotonic()
        n = self.counted(loop)
        took = time.monotonic() - start
        # the journal is gone before it would be sent
        self.assertLessEqual(n.pop("PUT", 0), BURST + took + 1)
        self.assertEqual(n, {})
        d.close()
        self.m.unmount()
        with open(os.path.join(self.m.dir, "copy.db"), "wb") as f:
            f.write(self.body("x.db"))
        d = sqlite3.connect(os.path.join(self.m.dir, "copy.db"))
        self.assertEqual(d.execute("select count(*) from t").fetchone(), (50,))
        d.close()
        self.refused_at_most(1)


class JournalledWithoutOverlap(Journalled):
    limit_write = "overlap"


class JournalledOnceASecond(Journalled):
    limit_write = "second"


if __name__ == "__main__":
    unittest.main()
