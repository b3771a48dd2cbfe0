"""Buckets shared with s3fs and rclone: what they wrote reads right here, what
this mount wrote reads right there."""

import json
import os
import subprocess
import tempfile
import time
import unittest

from harness import BUCKET, KEY, SECRET, Case, run


class Interop(Case):
    def setUp(self):
        super().setUp()
        self.dir = tempfile.mkdtemp(prefix="r2fs-interop-")
        self.other = os.path.join(self.dir, "s3fs")
        os.mkdir(self.other)
        self.mounted = False

    def tearDown(self):
        if self.mounted:
            self.unmount_s3fs()
        super().tearDown()

    def mount_s3fs(self):
        passwd = os.path.join(self.dir, "passwd")
        with open(os.open(passwd, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
            f.write(f"{KEY}:{SECRET}\n")
        run("s3fs", BUCKET, self.other, "-o", f"passwd_file={passwd}", "-o",
            f"url={self.server.endpoint}", "-o", "use_path_request_style",
            "-o", "endpoint=auto", "-o", "use_xattr", timeout=30)
        end = time.monotonic() + 20
        while not os.path.ismount(self.other) and time.monotonic() < end:
            time.sleep(0.1)
        self.mounted = True

    def unmount_s3fs(self):
        subprocess.run(["umount", self.other], timeout=20)
        self.mounted = False

    def fill(self, root):
        os.mkdir(f"{root}/d")
        with open(f"{root}/d/f", "wb") as f:
            f.write(b"content" * 1000)
        os.chmod(f"{root}/d/f", 0o640)
        os.chown(f"{root}/d/f", 12, 34)
        os.utime(f"{root}/d/f", (1500000000, 1500000000))
        os.setxattr(f"{root}/d/f", "user.color", b"blue\0")
        os.symlink("f", f"{root}/d/link")

    def check(self, root):
        p = f"{root}/d/f"
        with open(p, "rb") as f:
            self.assertEqual(f.read(), b"content" * 1000)
        st = os.stat(p)
        self.assertEqual((st.st_mode & 0o777, st.st_uid, st.st_gid,
                          int(st.st_mtime)), (0o640, 12, 34, 1500000000))
        self.assertEqual(os.getxattr(p, "user.color"), b"blue\0")

    def test_s3fs_reads_ours(self):
        m = self.mount()
        self.fill(m.path)
        m.unmount()
        self.mount_s3fs()
        self.check(self.other)
        self.assertEqual(os.readlink(f"{self.other}/d/link"), "f")

    def test_ours_reads_s3fs(self):
        self.mount_s3fs()
        self.fill(self.other)
        self.unmount_s3fs()
        m = self.mount()
        self.check(m.path)
        # a listing shows a file; the first look at it shows the link
        with open(f"{m.path}/d/link", "rb") as f:
            f.read()
        m.unmount()
        m.start()
        self.assertEqual(os.readlink(f"{m.path}/d/link"), "f")

    def rclone(self, *args):
        env = dict(os.environ, RCLONE_CONFIG_R_TYPE="s3",
                   RCLONE_CONFIG_R_PROVIDER="Other",
                   RCLONE_CONFIG_R_ENDPOINT=self.server.endpoint,
                   RCLONE_CONFIG_R_ACCESS_KEY_ID=KEY,
                   RCLONE_CONFIG_R_SECRET_ACCESS_KEY=SECRET,
                   RCLONE_CONFIG_R_REGION="auto",
                   RCLONE_S3_NO_CHECK_BUCKET="true")
        env.pop("AWS_CA_BUNDLE", None)
        return run("rclone", *args, env=env, timeout=60).stdout

    def test_rclone_both_ways(self):
        m = self.mount()
        with open(f"{m.path}/ours", "wb") as f:
            f.write(b"1234")
        os.utime(f"{m.path}/ours", (1400000000, 1400000000))
        m.unmount()
        entry = json.loads(self.rclone("lsjson", f"R:{BUCKET}"))[0]
        self.assertEqual((entry["Path"], entry["Size"]), ("ours", 4))
        self.assertTrue(entry["ModTime"].startswith("2014-05-13T16:53:20"))
        local = os.path.join(self.dir, "theirs")
        with open(local, "wb") as f:
            f.write(b"567")
        os.utime(local, (1300000000, 1300000000))
        self.rclone("copy", local, f"R:{BUCKET}/sub")
        m.start()
        with open(f"{m.path}/sub/theirs", "rb") as f:
            self.assertEqual(f.read(), b"567")
        self.assertEqual(int(os.stat(f"{m.path}/sub/theirs").st_mtime),
                         1300000000)


if __name__ == "__main__":
    unittest.main()
