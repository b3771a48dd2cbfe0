"""Readers and daemons that are told to stop."""

import errno
import os
import signal
import subprocess
import sys
import time
import unittest

import data
from harness import Case, R2FS, run, wait_until


class Endings(Case):
    def setUp(self):
        super().setUp()
        self.server.put("f/x", data.versioned(3 << 20, 1))
        self.server.put("f/y", b"y")

    def blocked(self, rules, *argv):
        m = self.mount()
        self.server.faults(rules)
        p = subprocess.Popen(["prlimit", "--core=0"] +
                             [a.replace("MNT", m.path) for a in argv],
                             stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        time.sleep(0.7)
        self.assertIsNone(p.poll())
        return m, p

    def test_signals_to_a_blocked_reader(self):
        for rules, argv in (
                ("op=GET key=f/x action=stall:5000", ("cat", "MNT/f/x")),
                ("op=GET key=f/x skip=1 action=delay:20000",
                 ("cat", "MNT/f/x")),
                ("op=GET key=f/y action=delay:20000", ("stat", "MNT/f/y")),
                ("op=LIST action=delay:20000", ("ls", "MNT/f"))):
            for sig in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                if sig == signal.SIGQUIT and "skip=1" in rules:
                    continue  # the kernel's read-ahead tells of no signal
                with self.subTest(rules=rules, sig=sig):
                    m, p = self.blocked(rules, *argv)
                    p.send_signal(sig)
                    self.assertEqual(self.within(3, lambda: p.wait(20)), -sig)
                    self.server.faults("")
                    self.assertEqual(len(m.read("f/x")), 3 << 20)
                    m.unmount()

    def test_signals_to_those_who_wait_for_another(self):
        """Three list a folder, one request is on its way."""
        m, first = self.blocked("op=LIST action=delay:20000", "ls", "MNT/f")
        others = [subprocess.Popen(["ls", m.path + "/f"],
                                   stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
                  for _ in range(2)]
        time.sleep(0.5)
        for p in *others, first:
            self.assertIsNone(p.poll())
            p.kill()
            self.assertEqual(self.within(3, lambda: p.wait(25)),
                             -signal.SIGKILL)
        self.server.faults("")
        self.assertEqual(len(m.read("f/x")), 3 << 20)

    def test_a_timer_and_then_the_end(self):
        """The kernel tells of the first signal only."""
        go_on = ("import os, signal, sys\n"
                 "signal.signal(signal.SIGALRM, lambda *a: None)\n"
                 "signal.signal(signal.SIGQUIT, lambda *a: None)\n"
                 "with open(sys.argv[1], 'rb') as f: f.read()")
        for key, rules in (("f/y", "op=GET key=f/y action=delay:20000"),
                           ("f/x", "op=GET key=f/x skip=1 "
                            "action=delay:20000")):
            with self.subTest(key=key):
                m, p = self.blocked(rules, sys.executable, "-c", go_on,
                                    "MNT/" + key)
                for sig in (signal.SIGALRM, signal.SIGQUIT):
                    p.send_signal(sig)
                    time.sleep(0.5)
                    self.assertIsNone(p.poll())
                p.kill()
                self.assertEqual(self.within(3, lambda: p.wait(25)),
                                 -signal.SIGKILL)
                self.server.faults("")
                self.assertEqual(len(m.read("f/x")), 3 << 20)
                m.unmount()

    def ends(self, m, seconds=15):
        wait_until(lambda: not os.path.exists(f"/proc/{m.pid}") or
                   m.foreground and m.foreground.poll() is not None, seconds)
        m.wait_for_end()
        self.assertFalse(os.path.ismount(m.path))
        m.mounted = False

    def test_signals_to_the_daemon(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            m = self.mount()
            m.read("f/x")
            os.kill(m.pid, sig)
            self.ends(m)

    def test_signal_while_others_ask(self):
        ask = ("import os, sys\nwhile True: os.statvfs(sys.argv[1])")
        for _ in range(4):
            m = self.mount()
            askers = [subprocess.Popen([sys.executable, "-c", ask, m.path],
                                       stderr=subprocess.DEVNULL)
                      for _ in range(4)]
            time.sleep(0.3)
            os.kill(m.pid, signal.SIGTERM)
            self.ends(m)
            for p in askers:
                p.kill()
                p.wait()

    def test_signal_while_busy(self):
        m, p = self.blocked("op=GET key=f/x action=delay:20000", "cat",
                            "MNT/f/x")
        os.kill(m.pid, signal.SIGTERM)
        self.ends(m)
        self.assertNotEqual(p.wait(10), 0)

    def test_signal_with_a_file_open(self):
        m = self.mount()
        fd = os.open(m.path + "/f/x", os.O_RDONLY)
        os.read(fd, 10)
        os.kill(m.pid, signal.SIGTERM)
        self.ends(m)
        try:
            os.close(fd)
        except OSError as e:
            self.assertEqual(e.errno, errno.ENOTCONN)

    def test_hangup_reopens_the_log(self):
        m = self.mount()
        os.rename(m.log, m.log + ".1")
        os.kill(m.pid, signal.SIGHUP)
        wait_until(lambda: os.path.exists(m.log))
        self.assertEqual(len(m.read("f/x")), 3 << 20)

    def test_umount_while_busy(self):
        m = self.mount()
        with open(m.path + "/f/x", "rb") as f:
            p = run(R2FS, "umount", m.path, check=False)
            self.assertEqual(p.returncode, 1)
            self.assertIn("in use", p.stderr)
            self.assertEqual(len(f.read()), 3 << 20)
        m.unmount()

    def test_umount_while_requests_are_under_way(self):
        m = self.mount()
        self.server.faults("op=GET key=f/x skip=1 action=delay:20000")
        with open(m.path + "/f/x", "rb", buffering=0) as f:
            f.read(65536)  # what follows is being fetched ahead
        self.within(15, m.unmount)


if __name__ == "__main__":
    unittest.main()
