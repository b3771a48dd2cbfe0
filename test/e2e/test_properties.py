"""What other clients said of an object stays when it is changed here."""

import datetime
import os
import time
import unittest

from harness import BUCKET, Case, wait_until

WHEN = datetime.datetime(2033, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
GIVEN = dict(ContentType="text/html; charset=utf-8", ContentEncoding="gzip",
             CacheControl="public, max-age=3600", ContentLanguage="de, en",
             ContentDisposition='attachment; filename="a b.html"',
             Expires=WHEN, Metadata={"team": "a b", "x": "1"})
LONG = "application/" + "x" * 80


class Properties(Case):
    def setUp(self):
        super().setUp()
        self.server.put("d/page", b"<html>", **GIVEN)
        self.server.put("d/long", b"long", ContentType=LONG)
        self.server.put("theirs/", b"", **GIVEN)
        self.s3 = self.server.client()
        self.m = self.mount()
        self.path = f"{self.m.path}/d/page"

    def counted(self, fn):
        before = self.server.stats()["ops"]
        fn()
        after = self.server.stats()["ops"]
        return {k: n - before.get(k, 0) for k, n in after.items()
                if n != before.get(k, 0)}

    def head(self, key="d/page"):
        return self.s3.head_object(Bucket=BUCKET, Key=key)

    def assert_kept(self, key="d/page"):
        h = self.head(key)
        for name, value in GIVEN.items():
            if name == "Metadata":
                for k, v in value.items():
                    self.assertEqual(h["Metadata"][k], v)
            elif name == "Expires":
                self.assertIn("02 Jan 2033", h["ExpiresString"])
            else:
                self.assertEqual(h[name], value, name)

    def settled(self, **want):
        def there():
            meta = self.head()["Metadata"]
            return all(meta.get(k) == v for k, v in want.items())
        wait_until(there)
        self.assert_kept()

    def test_attributes(self):
        os.stat(self.path)

        def change():
            os.chmod(self.path, 0o640)
            os.chown(self.path, 5, 6)
            os.utime(self.path, (1, 1234567890))
            os.setxattr(self.path, "user.color", b"blue")
            time.sleep(1)

        self.assertEqual(self.counted(change), {"COPY": 1})
        self.settled(mode=str(0o100640), uid="5", gid="6",
                     mtime="1234567890.000000000")
        os.removexattr(self.path, "user.color")
        time.sleep(1)
        self.assert_kept()
        self.assertEqual(self.head()["Metadata"]["mode"], str(0o100640))

    def test_after_a_listing_one_head(self):
        os.listdir(f"{self.m.path}/d")

        def change():
            os.chmod(self.path, 0o600)
            time.sleep(1)

        self.assertEqual(self.counted(change), {"HEAD": 1, "COPY": 1})
        self.settled(mode=str(0o100600))

    def test_content(self):
        with open(self.path, "ab") as f:
            f.write(b"more")
        self.assert_kept()
        with open(self.path, "wb") as f:
            f.write(b"anew")
        self.assert_kept()
        os.truncate(self.path, 2)
        self.assert_kept()
        body = self.s3.get_object(Bucket=BUCKET, Key="d/page")["Body"].read()
        self.assertEqual(body, b"an")

    def test_large_content(self):
        with open(self.path, "r+b") as f:
            f.truncate(40 << 20)
        self.assert_kept()

    def test_rename(self):
        os.rename(self.path, f"{self.m.path}/d/other")
        self.assert_kept("d/other")
        os.rename(f"{self.m.path}/d", f"{self.m.path}/e")
        self.assert_kept("e/other")

    def test_remount_and_writeback(self):
        self.m.unmount()
        self.m = self.mount("--writeback")
        self.path = f"{self.m.path}/d/page"
        with open(self.path, "ab") as f:
            f.write(b"more")
        self.m.unmount()
        self.assert_kept()

    def test_a_long_type(self):
        os.chmod(f"{self.m.path}/d/long", 0o600)
        wait_until(lambda: self.head("d/long")["Metadata"].get("mode"))
        self.assertEqual(self.head("d/long")["ContentType"], LONG)

    def test_ours_say_nothing_of_theirs(self):
        with open(f"{self.m.path}/new", "w") as f:
            f.write("x")
        h = self.head("new")
        self.assertEqual(h["CacheControl"], "no-transform")
        self.assertNotIn("ContentEncoding", h)
        self.assertFalse([n for n in os.listxattr(self.path) if ":" in n])

    def test_folders(self):
        os.mkdir(f"{self.m.path}/new")

        def change(name):
            path = f"{self.m.path}/{name}"
            os.chown(path, 5, 6)
            os.utime(path, (1, 1234567890))
            os.chmod(path, 0o700)
            self.assertEqual(os.stat(path).st_uid, 5)
            self.assertEqual(os.stat(path).st_mtime, 1234567890)
            time.sleep(1)

        self.assertEqual(self.counted(lambda: change("new")), {"PUT": 1})
        meta = self.head("new/")["Metadata"]
        self.assertEqual(meta["uid"], "5")
        self.assertEqual(meta["mode"], str(0o40700))
        n = self.counted(lambda: change("theirs"))
        self.assertEqual((n["HEAD"], n["PUT"]), (1, 1))
        self.assert_kept("theirs/")

    def test_a_folder_changed_and_gone(self):
        path = f"{self.m.path}/new"
        os.mkdir(path)
        os.chmod(path, 0o700)
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self.assertEqual(self.head("new/")["Metadata"]["mode"],
                         str(0o40700))
        os.mkdir(f"{path}/sub")
        os.chmod(path, 0o711)
        os.chmod(f"{path}/sub", 0o711)
        os.rename(path, f"{self.m.path}/moved")
        os.chmod(f"{self.m.path}/moved/sub", 0o722)
        os.rmdir(f"{self.m.path}/moved/sub")
        time.sleep(1)
        self.assertEqual([o["Key"] for o in self.s3.list_objects_v2(
            Bucket=BUCKET)["Contents"]], ["d/long", "d/page", "moved/",
                                     "theirs/"])
        self.assertEqual(self.head("moved/")["Metadata"]["mode"],
                         str(0o40711))
        os.mkdir(f"{self.m.path}/last")
        os.chmod(f"{self.m.path}/last", 0o700)
        self.m.unmount()
        self.assertEqual(self.head("last/")["Metadata"]["mode"],
                         str(0o40700))


if __name__ == "__main__":
    unittest.main()
