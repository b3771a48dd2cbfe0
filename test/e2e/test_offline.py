"""R2 goes away and comes back."""

import errno
import os
import signal
import time
import unittest

import data
from harness import BUCKET, Case, Mount, drop_kernel_cache, run, wait_until


PLAIN = (errno.EIO, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNREFUSED,
         errno.ECONNRESET)


class Unreachable(Case):
    def setUp(self):
        super().setUp()
        self.body = data.versioned(3 << 20, 1)
        self.server.put("d/cached", self.body)
        self.server.put("d/other", self.body)

    def go_away(self):
        self.server.kill()

    def come_back(self):
        self.server.start("--port", str(self.server.port))

    def fails(self, what, seconds=6):
        with self.assertRaises(OSError) as e:
            self.within(seconds, what)
        self.assertIn(e.exception.errno, PLAIN)

    def cached(self, *options):
        m = self.mount("--deadline", "2", *options)
        os.listdir(m.path + "/d")
        self.assertTrue(m.read("d/cached") == self.body)
        return m

    def test_within_the_ttl(self):
        m = self.cached()
        self.go_away()
        drop_kernel_cache()
        self.assertTrue(m.read("d/cached") == self.body)
        self.assertEqual(sorted(os.listdir(m.path + "/d")),
                         ["cached", "other"])
        self.fails(lambda: m.read("d/other"))
        self.come_back()
        self.assertTrue(m.read("d/other") == self.body)

    def test_after_the_ttl(self):
        m = self.cached("--metadata-ttl", "minimal")
        time.sleep(0.2)
        self.go_away()
        self.fails(lambda: m.read("d/cached"))
        self.fails(lambda: os.listdir(m.path + "/d"))
        self.fails(lambda: m.read("d/other"))
        self.come_back()
        self.assertTrue(m.read("d/cached") == self.body)
        self.assertTrue(m.read("d/other") == self.body)

    def test_offline_ok(self):
        m = self.cached("--metadata-ttl", "minimal", "--offline-ok")
        time.sleep(0.2)
        self.go_away()
        for _ in range(2):
            drop_kernel_cache()
            self.assertTrue(self.within(8, lambda: m.read("d/cached"))
                            == self.body)
            self.assertEqual(self.within(8, lambda: sorted(
                os.listdir(m.path + "/d"))), ["cached", "other"])
            self.fails(lambda: m.read("d/other"), 8)
        self.assertFalse(os.path.exists(m.path + "/d/nope"))
        # an answer stays within seconds while nothing answers
        self.within(8, lambda: [m.read("d/cached") for _ in range(20)])
        self.come_back()
        self.assertTrue(m.read("d/other") == self.body)
        self.server.put("d/cached", self.body[:5000])
        time.sleep(0.3)
        wait_until(lambda: len(m.read("d/cached")) == 5000)

    def test_offline_ok_mounts_without_r2(self):
        m = self.cached("--offline-ok")
        m.unmount()
        self.go_away()
        m = self.mount("--deadline", "2", "--offline-ok", "--metadata-ttl",
                       "minimal", cache=m.cache)
        self.assertTrue(m.read("d/cached") == self.body)
        self.assertEqual(os.listdir(m.path), ["d"])
        self.come_back()
        self.assertTrue(m.read("d/other") == self.body)

    def test_writing_goes_on_with_writeback(self):
        m = self.cached("--offline-ok", "--writeback", "--metadata-ttl",
                        "minimal")
        self.go_away()
        for name in ("d/cached", "d/new"):
            def write():
                with open(os.path.join(m.path, name), "wb") as f:
                    f.write(b"written")

            self.within(8, write)
            self.assertEqual(m.read(name), b"written")
        self.come_back()
        m.unmount()
        for name in ("d/cached", "d/new"):
            body = self.server.s3.get_object(Bucket=BUCKET, Key=name)["Body"]
            self.assertEqual(body.read(), b"written")

    def test_nothing_cached_is_no_mount(self):
        self.go_away()
        p = run(*Mount(self.server, "--offline-ok", "--deadline", "2").argv,
                check=False)
        self.assertEqual(p.returncode, 1)
        self.assertIn("nothing answers at the endpoint", p.stderr)

    def test_a_name_that_does_not_resolve(self):
        m = Mount(self.server, endpoint="https://no-such-account.invalid")
        p = self.within(9, lambda: run(*m.argv, check=False))
        self.assertEqual(p.returncode, 1)
        self.assertIn("--account-id", p.stderr)

    def test_frozen(self):
        """No refusal: packets that nobody answers."""
        m = self.cached("--metadata-ttl", "minimal", "--offline-ok")
        time.sleep(0.2)
        self.server.process.send_signal(signal.SIGSTOP)
        self.assertTrue(self.within(8, lambda: m.read("d/cached"))
                        == self.body)
        self.fails(lambda: m.read("d/other"), 8)
        self.server.process.send_signal(signal.SIGCONT)
        self.assertTrue(m.read("d/other") == self.body)


if __name__ == "__main__":
    unittest.main()
