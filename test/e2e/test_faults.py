"""Whatever goes wrong on the way: the right bytes or a plain errno within the
deadline, never wrong bytes, never a hang."""

import errno
import os
import time
import unittest

import data
from harness import SLOW, Case

PLAIN = {errno.EIO, errno.ETIMEDOUT, errno.EACCES, errno.ECONNREFUSED,
         errno.ECONNRESET, errno.EBADMSG, errno.ESTALE, errno.EINVAL}
SMALL = 100 * 1024
LARGE = 3 << 20 # more than the first GET asks for


def read(path):
    with open(path, "rb") as f:
        return f.read()


class SlowLink(Case):
    """All connections together bring 2 MB a second."""

    def test_a_stream_does_not_stand_in_its_own_way(self):
        body = os.urandom(1 << 20)
        self.server.put("f", body * 64)
        m = self.mount("--deadline", "6")
        self.server.control("link?bytes=2000000")
        start = time.monotonic()
        with open(f"{m.path}/f", "rb", buffering=0) as f:
            for _ in range(16):
                self.assertTrue(f.read(1 << 20) == body)
        took = time.monotonic() - start
        self.server.control("link?bytes=0")
        stats = m.stats()["requests"]
        self.assertEqual((stats["failures"], stats["retries"]), (0, 0))
        # 8 s for what was read, and what lies ahead at the beginning
        self.assertLess(took, 30 * SLOW)


class Faulty(Case):
    """Each step takes a file of its own, so that it begins cold. The files
    lie in folders that are not listed when the mount starts, looking one up
    does not list them (of a large file the first GET brings a part), and none
    is brought before it is asked for."""

    def setUp(self):
        super().setUp()
        self.bodies = {size: data.versioned(size, size)
                       for size in (0, SMALL, LARGE)}
        self.unused = {size: [] for size in self.bodies}
        for size in self.bodies:
            for i in range(30):
                name = f"{size}-{i}/file"
                self.server.put(name, self.bodies[size])
                self.unused[size].append(name)

    def mount(self, *options):
        return super().mount("--ahead-files", "0", *options)

    def fresh(self, size):
        return self.unused[size].pop()

    def right(self, m, rules, sizes=(SMALL, LARGE), seconds=15):
        for size in sizes:
            name = self.fresh(size)
            self.server.faults(rules + " key=*/file")
            with self.subTest(rules=rules, size=size):
                got = self.within(seconds, lambda: read(f"{m.path}/{name}"))
                self.assertTrue(got == self.bodies[size])
            self.server.faults("")
            self.assertTrue(read(f"{m.path}/{name}") == self.bodies[size])

    def fails(self, m, rules, seconds, sizes=(SMALL, LARGE), errnos=PLAIN):
        for size in sizes:
            name = self.fresh(size)
            self.server.faults(rules + " key=*/file")
            with self.subTest(rules=rules, size=size):
                with self.assertRaises(OSError) as e:
                    self.within(seconds, lambda: read(f"{m.path}/{name}"))
                self.assertIn(e.exception.errno, errnos, e.exception)
            self.server.faults("")
            self.assertTrue(read(f"{m.path}/{name}") == self.bodies[size])


class Reads(Faulty):
    def test_what_passes(self):
        m = self.mount()
        for action in ("status:500", "status:503", "status:429", "html:502",
                       "html:200", "cut:1", "cut:70000", "range", "whole",
                       "gzip", "delay:700"):
            for skip in (0, 1):
                self.right(m, f"op=GET skip={skip} count=1 action={action}",
                           (LARGE,) if skip else (SMALL, LARGE))

    def test_bursts(self):
        m = self.mount()
        self.right(m, "op=GET count=2 action=status:503", (SMALL,))
        self.right(m, "op=GET count=4 action=status:500")
        self.right(m, "op=GET count=5 action=cut:66000", (LARGE,))
        self.right(m, "op=* count=3 action=html:502")

    def test_what_stays(self):
        m = self.mount("--deadline", "2")
        for action in ("status:500", "status:503", "html:502", "html:200",
                       "cut:1", "range", "whole"):
            if action != "whole": # all of a small object is what was asked
                self.fails(m, f"op=GET action={action}", 8, (SMALL,))
            self.fails(m, f"op=GET skip=1 action={action}", 8, (LARGE,))
        self.fails(m, "op=GET action=status:403", 2, (SMALL,),
                   {errno.EACCES})
        self.fails(m, "op=GET action=delay:20000", 5, (SMALL,),
                   {errno.ETIMEDOUT})

    def test_stalls_past_the_deadline(self):
        m = self.mount("--deadline", "2")
        self.fails(m, "op=GET action=stall:5000", 5, (SMALL,),
                   {errno.ETIMEDOUT})
        self.fails(m, "op=GET skip=1 action=stall:5000", 8, (LARGE,),
                   {errno.ETIMEDOUT})

    def test_one_stall_is_passed_over(self):
        m = self.mount()
        self.right(m, "op=GET count=1 action=stall:5000", (LARGE,), 20)

    def test_another_etag_in_the_middle(self):
        m = self.mount("--deadline", "5")
        for skip in (0, 1, 2):
            name = self.fresh(LARGE)
            self.server.faults(f"op=GET key=*/file skip={skip} count=1 "
                               "action=etag")
            for _ in range(3):
                try:
                    got = read(f"{m.path}/{name}")
                    break
                except OSError as e:
                    self.assertEqual(e.errno, errno.ESTALE)
            self.server.faults("")
            self.assertTrue(got == self.bodies[LARGE])

    def test_empty_object(self):
        m = self.mount()
        self.right(m, "op=GET count=1 action=status:500", (0,))
        self.right(m, "op=HEAD count=1 action=status:500", (0,))


class Listings(Case):
    server_options = ("--synthetic", "bucket:many/:2500:100")
    names = [f"f{i:08}" for i in range(2500)]

    def listed(self, m, rules, seconds=15):
        """A mount a time, because a folder is listed once."""
        self.server.faults(rules)
        with self.subTest(rules=rules):
            got = self.within(seconds,
                              lambda: sorted(os.listdir(m.path + "/many")))
            self.assertTrue(got == self.names)

    def test_what_passes(self):
        m = self.mount("--metadata-ttl", "minimal")
        for action in ("status:500", "status:503", "html:200", "html:502",
                       "badxml", "delay:500"):
            for skip in (0, 1, 2):
                self.listed(m, f"op=LIST skip={skip} count=1 action={action}")
                time.sleep(0.15)

    def test_what_stays(self):
        m = self.mount("--deadline", "2", "--metadata-ttl", "minimal")
        for action in ("status:500", "badxml", "html:200", "delay:9000",
                       "status:403"):
            for skip in (0, 1):
                rules = f"op=LIST skip={skip} action={action}"
                self.server.faults(rules)
                with self.subTest(rules=rules):
                    with self.assertRaises(OSError) as e:
                        self.within(8, lambda: os.listdir(m.path + "/many"))
                    self.assertIn(e.exception.errno, PLAIN)
                self.listed(m, "")
                time.sleep(0.15)

    def test_a_listing_cut_short_hides_nothing(self):
        m = self.mount("--deadline", "2")
        self.server.faults("op=LIST skip=1 action=badxml")
        with self.assertRaises(OSError):
            os.listdir(m.path + "/many")
        self.server.faults("")
        self.assertEqual(os.stat(m.path + "/many/f00002499").st_size, 100)
        self.listed(m, "")


if __name__ == "__main__":
    unittest.main()
