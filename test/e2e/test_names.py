"""Which keys become which names."""

import errno
import os
import unicodedata
import unittest

from harness import BUCKET, Case, run, wait_until


class Names(Case):
    def test_ordinary_and_strange_names(self):
        names = ["plain", "with space", "per%cent", "plus+and&amp;", "new\nline",
                 "tab\there", "quote'\"", "uml\u00e4ut", "\u4e2d\u6587",
                 "x" * 255, "...", ".hidden", "a=b?c#d", "\U0001f600"]
        for n in names:
            self.server.put("d/" + n, n.encode())
        m = self.mount()
        for n in names:
            self.assertEqual(m.read("d/" + n), n.encode())
        self.assertEqual(sorted(os.listdir(m.path + "/d")), sorted(names))
        for n in names:
            self.assertEqual(m.read("d/" + n), n.encode())

    def test_keys_that_cannot_be_names_are_hidden_and_counted(self):
        for key in ("ok", "a//b", "./x", "../y", "d/./z", "d/../w", "d/ok",
                    "y" * 256):
            self.server.put_raw(key, b"1")
        m = self.mount()
        self.assertEqual(sorted(os.listdir(m.path)), ["a", "d", "ok"])
        self.assertEqual(os.listdir(m.path + "/a"), [])
        self.assertEqual(os.listdir(m.path + "/d"), ["ok"])
        self.assertEqual(m.stats()["names"]["hidden_keys"], 6)

    def test_object_beside_folder(self):
        self.server.put("a", b"object")
        self.server.put("a-b", b"between")
        self.server.put("a/b", b"inside")
        m = self.mount()
        self.assertEqual(sorted(os.listdir(m.path)), ["a", "a-b", "a.r2object"])
        self.assertTrue(os.path.isdir(m.path + "/a"))
        self.assertEqual(m.read("a/b"), b"inside")
        self.assertEqual(m.read("a.r2object"), b"object")

    def test_object_beside_folder_below_one_of_that_suffix(self):
        body = os.urandom(3 << 20) # more than a lookup brings
        self.server.put("x.r2object/a", body)
        self.server.put("x.r2object/a/b", b"inside")
        self.server.put("x.r2object/real.r2object", b"real")
        for i in range(4):
            self.server.put(f"before/{i}")
        self.server.control("limits?page=2") # so that no page shows x below
        m = self.mount()
        os.stat(f"{m.path}/x.r2object/a.r2object") # nor a listing of it
        self.assertTrue(m.read("x.r2object/a.r2object") == body)
        self.assertEqual(m.read("x.r2object/real.r2object"), b"real")

    def test_object_beside_folder_is_written(self):
        s3 = self.server.client()
        for key in "abcd":
            self.server.put(key, b"object")
            self.server.put(f"{key}/x", b"inside")
        m = self.mount()
        for name in "abcd":
            with open(f"{m.path}/{name}.r2object", "wb") as f:
                f.write(name.encode())
        os.chmod(f"{m.path}/c.r2object", 0o600)
        wait_until(lambda: s3.head_object(Bucket=BUCKET, Key="c")["Metadata"]
                   ["mode"] == str(0o100600))
        os.unlink(f"{m.path}/a.r2object")
        for name in "bc":
            os.rename(f"{m.path}/{name}.r2object", f"{m.path}/new-{name}")
        m.unmount()
        m.start()
        os.unlink(f"{m.path}/d.r2object")
        with open(f"{m.path}/new-b", "ab") as f:
            f.write(b"+")
        self.assertEqual(
            [o["Key"] for o in s3.list_objects_v2(Bucket=BUCKET)["Contents"]],
            ["a/x", "b/x", "c/x", "d/x", "new-b", "new-c"])
        self.assertEqual(m.read("new-b"), b"b+")
        self.assertEqual(m.read("new-c"), b"c")

    def test_object_beside_one_of_several_folders(self):
        for key in "c", "a/1", "b/1", "c/1", "d":
            self.server.put(key, key.encode())
        m = self.mount()
        self.assertEqual(sorted(os.listdir(m.path)),
                         ["a", "b", "c", "c.r2object", "d"])
        self.assertEqual(m.read("c.r2object"), b"c")

    def test_object_beside_folder_on_another_page(self):
        self.server.put("a", b"object")
        for i in range(1100):
            self.server.put(f"a-{i:05}", b"x")
        self.server.put("a/b", b"inside")
        m = self.mount()
        os.listdir(m.path)
        names = os.listdir(m.path)
        self.assertEqual(len(names), 1102)
        self.assertIn("a.r2object", names)
        self.assertEqual(m.read("a.r2object"), b"object")

    def test_markers_empty_files_and_empty_folders(self):
        self.server.put("empty/", b"")
        self.server.put("d/", b"")
        self.server.put("d/x", b"x")
        self.server.put("zero", b"")
        m = self.mount()
        self.assertEqual(sorted(os.listdir(m.path)), ["d", "empty", "zero"])
        self.assertEqual(os.listdir(m.path + "/empty"), [])
        self.assertEqual(os.listdir(m.path + "/d"), ["x"])
        self.assertEqual(m.read("zero"), b"")
        self.assertEqual(os.stat(m.path + "/zero").st_size, 0)

    def test_unlisted_empty_file(self):
        for i in range(1001):
            self.server.put(f"k{i:04}", b"")
        m = self.mount()
        self.assertEqual(m.read("k1000"), b"")

    def test_missing_names(self):
        self.server.put("d/x", b"x")
        m = self.mount()
        for name in ("nope", "d/nope", "d/x/y", "x" * 256):
            with self.assertRaises(OSError):
                os.stat(os.path.join(m.path, name))

    def test_a_link_that_a_listing_shows_as_a_file(self):
        self.server.put("target", b"content")
        for n in ("read", "written"):
            self.server.put(n, b"target", Metadata={"mode": "41471"})
        m = self.mount()
        os.listdir(m.path)
        p = run("cp", "-a", f"{m.path}/read", m.dir, check=False)
        self.assertIn("Stale file handle", p.stderr)
        run("cp", "-a", f"{m.path}/read", m.dir)
        self.assertEqual(os.readlink(f"{m.dir}/read"), "target")
        self.assertEqual(m.read("read"), b"content")
        self.assertEqual(os.lstat(f"{m.path}/written").st_size, 6)
        with open(f"{m.path}/written", "ab") as f:
            f.write(b" more")
        self.assertEqual(m.read("target"), b"content more")
        self.assertEqual(os.readlink(f"{m.path}/written"), "target")
        self.assertEqual(
            self.server.s3.head_object(Bucket=BUCKET, Key="written")
            ["ContentLength"], 6)

    def test_two_spellings_are_one_name(self):
        one, two = (unicodedata.normalize(form, "d\u00e9j\u00e0")
                    for form in ("NFC", "NFD"))
        m = self.mount()
        d = f"{m.path}/d"
        for a, b in ((one, two), (two, one)):
            os.mkdir(d)
            with open(f"{d}/{a}", "w") as f:
                f.write("first")
            with self.assertRaises(FileExistsError):
                open(f"{d}/{b}", "x")
            with self.assertRaises(FileExistsError):
                os.mkdir(f"{d}/{b}")
            with open(f"{d}/{b}", "r+") as f:
                f.write("second")
            self.assertEqual(m.read(f"d/{a}"), b"second")
            self.assertEqual(os.listdir(d), [a])
            self.assertEqual(os.stat(f"{d}/{a}").st_ino,
                             os.stat(f"{d}/{b}").st_ino)
            os.rename(f"{d}/{a}", f"{d}/{b}")
            self.assertEqual(os.listdir(d), [a])
            with open(f"{d}/other", "w") as f:
                f.write("third")
            os.rename(f"{d}/other", f"{d}/{b}")
            self.assertEqual(os.listdir(d), [a])
            self.assertEqual(m.read(f"d/{a}"), b"third")
            os.unlink(f"{d}/{b}")
            with self.assertRaises(FileNotFoundError):
                m.read(f"d/{a}")
            self.assertEqual(os.listdir(d), [])
            os.rmdir(d)
        self.assertEqual(self.server.client().list_objects_v2(
            Bucket=BUCKET)["KeyCount"], 0)

    def test_metadata_of_s3fs_and_rclone(self):
        self.server.put("s3fs", b"1", Metadata={
            "mode": "33184", "uid": "12", "gid": "34", "mtime": "1600000000"})
        self.server.put("rclone", b"1", Metadata={
            "mode": "100600", "mtime": "1600000000.5"})
        self.server.put("link", b"s3fs", Metadata={"mode": "41471"})
        self.server.put("zz", b"", Metadata={"colour": "red"})
        m = self.mount()
        for n in ("s3fs", "rclone", "link", "zz"):
            with self.assertRaises(OSError):
                os.getxattr(f"{m.path}/{n}", "user.none",
                            follow_symlinks=False)
        m.unmount()
        m = self.mount(cache=m.cache)
        st = os.stat(m.path + "/s3fs")
        self.assertEqual((st.st_mode & 0o777, st.st_uid, st.st_gid,
                          st.st_mtime), (0o640, 12, 34, 1600000000))
        self.assertEqual(os.stat(m.path + "/rclone").st_mode & 0o777, 0o600)
        self.assertEqual(os.readlink(m.path + "/link"), "s3fs")
        self.assertEqual(os.getxattr(m.path + "/zz", "user.colour"), b"red")
        self.assertEqual(os.listxattr(m.path + "/zz"), ["user.colour"])
        self.assertEqual(os.getxattr(m.path + "/zz", "user.r2fs.key"), b"zz")
        for name in "security.selinux", "system.posix_acl_access":
            with self.assertRaises(OSError) as e:
                os.getxattr(m.path + "/zz", name)
            self.assertEqual(e.exception.errno, errno.EOPNOTSUPP)

    def test_a_list_of_attributes_costs_no_request_for_ls(self):
        self.server.put("d/x", b"1", Metadata={"colour": "red"})
        m = self.mount()
        os.listdir(m.path + "/d")
        self.server.reset()
        path = m.path + "/d/x"
        self.assertEqual(os.listxattr(path), [])
        self.assertEqual(self.requests(), 0)
        with open(path) as f:
            self.assertEqual(os.listxattr(f.fileno()), ["user.colour"])
        self.assertEqual(os.listxattr(path), ["user.colour"])
        self.assertEqual(self.server.stats()["ops"]["HEAD"], 1)

    def test_prefix_mount(self):
        self.server.put("a/b/c", b"1")
        self.server.put("other", b"2")
        m = self.mount(bucket="bucket/a")
        self.assertEqual(os.listdir(m.path), ["b"])
        self.assertEqual(m.read("b/c"), b"1")


if __name__ == "__main__":
    unittest.main()
