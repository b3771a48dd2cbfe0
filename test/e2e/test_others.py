"""What others change of an object's metadata, which leaves its ETag."""

import os
import time
import unittest

from harness import BUCKET, Case

FOREIGN = {"Metadata": {"owner": "team-b", "mode": "33152"},
           "ContentType": "text/csv"}


class Others(Case):
    def setUp(self):
        super().setUp()
        self.server.put("d/x", b"data")
        self.server.put("d/y", b"1")

    def copy(self, key="d/x", **kw):
        """A COPY onto itself, which another second than before has seen."""
        time.sleep(1.1)
        self.server.s3.copy_object(
            Bucket=BUCKET, Key=key, CopySource={"Bucket": BUCKET, "Key": key},
            MetadataDirective="REPLACE", **(kw or FOREIGN))

    def head(self, key="d/x"):
        return self.server.s3.head_object(Bucket=BUCKET, Key=key)

    def ops(self):
        return {k: n for k, n in self.server.stats()["ops"].items() if n}

    def seen(self, m):
        path = f"{m.path}/d/x"
        return os.stat(path).st_mode & 0o777, os.getxattr(path, "user.owner")

    def test_seen_when_the_time_has_passed(self):
        m = self.mount("--metadata-ttl", "1")
        self.assertEqual(m.read("d/x"), b"data")
        self.copy()
        self.server.reset()
        self.assertEqual(self.seen(m), (0o600, b"team-b"))
        # the folder's, the file's, and what the file's was not enough for
        self.assertEqual(self.ops(), {"LIST": 1, "GET": 1, "HEAD": 1})
        self.assertEqual(m.read("d/x"), b"data")

    def test_seen_after_a_listing(self):
        m = self.mount("--metadata-ttl", "2")
        self.assertEqual(m.read("d/x"), b"data")
        self.copy()
        time.sleep(1)
        self.server.reset()
        self.assertEqual(sorted(os.listdir(f"{m.path}/d")), ["x", "y"])
        self.assertEqual(self.seen(m), (0o600, b"team-b"))
        self.assertEqual(self.ops(), {"LIST": 2, "HEAD": 1})

    def test_of_another_mount(self):
        a = self.mount("--metadata-ttl", "1")
        b = self.mount("--metadata-ttl", "1")
        self.assertEqual(a.read("d/x"), b"data")
        self.assertEqual(b.read("d/x"), b"data")
        time.sleep(1.1)
        os.chmod(f"{b.path}/d/x", 0o600)
        os.setxattr(f"{b.path}/d/x", "user.owner", b"b")
        b.unmount()
        time.sleep(1.1)
        self.assertEqual(self.seen(a), (0o600, b"b"))

    def test_kept_by_a_write(self):
        m = self.mount("--metadata-ttl", "1")
        self.assertEqual(m.read("d/x"), b"data")
        self.copy()
        with open(f"{m.path}/d/x", "a") as f:
            f.write("+more")
        got = self.head()
        self.assertEqual(got["Metadata"]["owner"], "team-b")
        self.assertEqual(got["Metadata"]["mode"], "33152")
        self.assertEqual(got["ContentType"], "text/csv")
        self.assertEqual(got["ContentLength"], 9)

    def test_kept_by_a_write_through_an_old_handle(self):
        m = self.mount("--metadata-ttl", "1")
        path = f"{m.path}/d/x"
        self.assertEqual(m.read("d/x"), b"data")
        with open(path, "a") as f:
            f.write("+more")
            f.flush()
            os.setxattr(path, "user.mine", b"1")
            self.copy()
            self.server.reset()
        self.assertEqual(self.ops(), {"HEAD": 1, "PUT": 1})
        got = self.head()
        self.assertEqual(got["Metadata"]["owner"], "team-b")
        self.assertEqual(got["Metadata"]["mode"], "33152")
        self.assertEqual(got["ContentType"], "text/csv")
        self.assertEqual(os.getxattr(path, "user.mine"), b"1")
        time.sleep(1.1)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)

    def test_our_chmod_wins_over_theirs(self):
        m = self.mount("--metadata-ttl", "1")
        path = f"{m.path}/d/x"
        with open(path, "a") as f:
            f.write("+more")
            f.flush()
            os.fchmod(f.fileno(), 0o640)
            self.copy()
        got = self.head()["Metadata"]
        self.assertEqual((got["owner"], got["mode"]), ("team-b", "33184"))

    def test_our_own_stores_are_no_others(self):
        m = self.mount("--metadata-ttl", "2")
        for n in range(3):
            with open(f"{m.path}/d/new{n}", "w") as f:
                f.write("x")
            os.chmod(f"{m.path}/d/new{n}", 0o600)
        os.symlink("x", f"{m.path}/d/link")
        with open(f"{m.path}/d/x", "a") as f:
            f.write("+")
        os.rename(f"{m.path}/d/y", f"{m.path}/d/z")
        time.sleep(2.5)
        self.server.reset()
        os.listdir(f"{m.path}/d")
        for n in range(3):
            self.assertEqual(os.stat(f"{m.path}/d/new{n}").st_mode & 0o777,
                             0o600)
        self.assertEqual(os.readlink(f"{m.path}/d/link"), "x")
        os.stat(f"{m.path}/d/x")
        os.stat(f"{m.path}/d/z")
        self.assertEqual(self.ops(), {"LIST": 2, "GET": 1}) # readlink

    def test_a_changed_link_stays_one(self):
        m = self.mount("--metadata-ttl", "2")
        os.symlink("x", f"{m.path}/d/link")
        meta = self.head("d/link")["Metadata"]
        self.copy("d/link", Metadata=dict(meta, owner="b"))
        time.sleep(1.5)
        os.listdir(f"{m.path}/d")
        self.assertEqual(os.readlink(f"{m.path}/d/link"), "x")


if __name__ == "__main__":
    unittest.main()
