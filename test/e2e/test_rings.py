"""Requests through io_uring, where libfuse and the kernel have it."""

import os
import signal
import subprocess
import threading
import time
import unittest

from harness import Case, wait_until

SWITCH = "/sys/module/fuse/parameters/enable_uring"


class Rings(Case):
    def setUp(self):
        super().setUp()
        self.before = None
        if os.path.exists(SWITCH):
            with open(SWITCH) as f:
                self.before = f.read()

    def tearDown(self):
        self.switch(self.before)
        super().tearDown()

    def switch(self, value):
        if value is not None and os.access(SWITCH, os.W_OK):
            with open(SWITCH, "w") as f:
                f.write(value)

    def with_rings(self, *options):
        if self.before is None:
            self.skipTest("this kernel has no FUSE over io_uring")
        self.switch("Y")
        m = self.mount("--io-uring", *options)
        if not m.stats()["mount"]["io_uring"]:
            self.skipTest("this libfuse has no io_uring, or root is needed")
        return m

    def test_reads_and_writes(self):
        body = os.urandom(9 << 20)
        self.server.put("a", body)
        m = self.with_rings()
        self.assertEqual(m.read("a"), body)
        for i in range(200):
            with open(f"{m.path}/f{i}", "wb") as f:
                f.write(body[i:i + 5000])
        with open(f"{m.path}/large", "wb") as f:
            f.write(body)
        self.assertEqual(len(os.listdir(m.path)), 202)
        self.assertEqual(m.read("f7"), body[7:5007])
        self.assertEqual(m.read("large"), body)
        self.assertLess(m.memory(), 100 << 20)

    def test_without_the_switch(self):
        self.server.put("a", b"x")
        self.switch("N")
        m = self.mount("--io-uring")
        self.assertFalse(m.stats()["mount"]["io_uring"])
        self.assertEqual(m.read("a"), b"x")
        with open(m.log) as f:
            self.assertIn("no io_uring: ", f.read())

    def test_a_killed_reader_ends(self):
        self.server.put("a", b"x" * 100000)
        m = self.with_rings()
        os.stat(f"{m.path}")
        self.server.latency(20000)
        p = subprocess.Popen(["cat", f"{m.path}/a"],
                             stdout=subprocess.DEVNULL)
        time.sleep(1)
        self.assertIsNone(p.poll())
        p.kill()
        self.within(3, lambda: p.wait(20))
        self.server.latency(0)

    def test_ended_by_a_signal_while_busy(self):
        for i in range(20):
            self.server.put(f"f{i}", os.urandom(1 << 20))
        m = self.with_rings()
        end = threading.Event()

        def read():
            while not end.is_set():
                for i in range(20):
                    try:
                        m.read(f"f{i}")
                    except OSError:
                        return
        readers = [threading.Thread(target=read) for _ in range(8)]
        for t in readers:
            t.start()
        time.sleep(1)
        os.kill(m.pid, signal.SIGTERM)
        try:
            wait_until(lambda: not os.path.exists(f"/proc/{m.pid}"), 20)
            m.mounted = False
        finally:
            end.set()
            for t in readers:
                t.join(20)
        self.assertFalse(os.path.ismount(m.path))

    def test_forced_off_while_busy(self):
        self.server.put("a", b"x" * 100000)
        m = self.with_rings()
        self.server.latency(3000)
        p = subprocess.Popen(["cat", f"{m.path}/a"],
                             stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        wait_until(lambda: m.stats()["requests"]["in_flight"])
        subprocess.run(["umount", "-f", m.path], timeout=20,
                       stderr=subprocess.DEVNULL)
        self.assertNotEqual(p.wait(20), 0)
        wait_until(m.ended)
        m.mounted = False
        m.detach()
        with open(m.log) as f:
            self.assertIn(f"{m.path} is unmounted", f.read())


if __name__ == "__main__":
    unittest.main()
