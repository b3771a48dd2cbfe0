"""scripts/demo as a newcomer runs it: start, start again, stop."""

import os
import re
import subprocess
import tempfile
import unittest

from harness import BUCKET, CLEAN_ENV, HERE, KEY, SECRET, Server

TREE = os.path.realpath(os.path.join(HERE, "../.."))


class Demo(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix="r2fs-demo-")
        self.mountpoint = os.path.join(self.dir.name, "mnt")
        # Its own build, so that a demo somebody looks at is left alone.
        self.env = dict(CLEAN_ENV, R2FS_DEMO_MOUNT=self.mountpoint,
                        R2FS_DEMO_BUILD="build-demo-test")

    def tearDown(self):
        self.demo("stop", check=False)
        self.dir.cleanup()

    def demo(self, *argv, check=True, **env):
        p = subprocess.run(["scripts/demo", *argv], cwd=TREE, timeout=900,
                           env=dict(self.env, **env), text=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
        if check:
            self.assertEqual(p.returncode, 0, p.stdout)
        return p

    def server(self):
        path = os.path.join(TREE, "build-demo-test/state/server")
        with open(path) as f:
            return int(f.read().split()[0])

    def test_start_again_and_stop(self):
        out = self.demo().stdout
        self.assertEqual(out.count("equal to numpy's"), 4, out)
        self.assertIn(f"Mounted on {self.mountpoint}", out)
        for name in ("README.txt", "empty-file", "empty-folder", "images",
                     "shards", "zarr"):
            self.assertRegex(out, rf"(?m)^[-d]r.* {re.escape(name)}$")
        self.assertRegex(out, r"(?m)^requests\.class_b [1-9]")
        self.assertEqual(os.listdir(f"{self.mountpoint}/empty-folder"), [])
        with open(f"{self.mountpoint}/images/picture-0.png", "rb") as f:
            self.assertEqual(f.read(8), b"\x89PNG\r\n\x1a\n")

        pid = self.server()
        self.assertIn("It runs already", self.demo().stdout)
        self.assertEqual(self.server(), pid)

        with open(f"{self.mountpoint}/README.txt"):
            p = self.demo("stop", check=False)
            self.assertNotEqual(p.returncode, 0)
            self.assertIn("still mounted on", p.stdout)
        self.demo("stop")
        self.assertFalse(os.path.exists(self.mountpoint))
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        self.assertIn("nothing is running", self.demo("stop").stdout)

    def test_a_bucket_of_ones_own(self):
        server = Server()
        try:
            server.put("mine.txt", b"hello")
            out = self.demo(BUCKET, R2_ENDPOINT=server.endpoint,
                            R2_ACCESS_KEY_ID=KEY,
                            R2_SECRET_ACCESS_KEY=SECRET).stdout
            self.assertIn("mine.txt", out)
            self.assertNotIn(SECRET, out)
            self.demo("stop")
        finally:
            server.stop()

    def test_refusals(self):
        p = self.demo("--frob", check=False)
        self.assertIn("--help", p.stdout)
        os.mkdir(self.mountpoint)
        with open(f"{self.mountpoint}/mine", "w"):
            pass
        p = self.demo(check=False)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn("no empty folder", p.stdout)
        os.unlink(f"{self.mountpoint}/mine")
        p = self.demo("some-bucket", check=False)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn("--account-id", p.stdout)
        self.assertFalse(os.path.ismount(self.mountpoint))


if __name__ == "__main__":
    unittest.main()
