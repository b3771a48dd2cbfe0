"""Renaming: what it costs, and what is where when R2 refuses, somebody else
writes meanwhile, or the daemon dies."""

import concurrent.futures
import errno
import os
import threading
import time
import unittest

from harness import BUCKET, R2FS, Case, drop_kernel_cache, run, wait_until


class Renaming(Case):
    def setUp(self):
        super().setUp()
        self.s3 = self.server.client()

    def keys(self, prefix=""):
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=prefix)
        return sorted(o["Key"] for p in pages for o in p.get("Contents", []))

    def body(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def ops(self):
        return {k: n for k, n in self.server.stats()["ops"].items() if n}

    def counted(self, fn):
        before = self.ops()
        fn()
        after = self.ops()
        return {k: n - before.get(k, 0) for k, n in after.items()
                if n != before.get(k, 0)}

    def put_parts(self, key, parts, **kw):
        where = {"Bucket": BUCKET, "Key": key}
        where["UploadId"] = self.s3.create_multipart_upload(
            **where, **kw)["UploadId"]
        etags = [self.s3.upload_part(Body=body, PartNumber=i + 1, **where)
                 ["ETag"] for i, body in enumerate(parts)]
        self.s3.complete_multipart_upload(MultipartUpload={"Parts": [
            {"PartNumber": i + 1, "ETag": etag}
            for i, etag in enumerate(etags)]}, **where)

    def rename(self, a, b):
        os.rename(f"{self.m.path}/{a}", f"{self.m.path}/{b}")

    def write(self, name, text):
        with open(f"{self.m.path}/{name}", "w") as f:
            f.write(text)


class Refused(Renaming):
    """What R2 refuses has not happened: the names that are shown work."""

    def setUp(self):
        super().setUp()
        self.server.put("d/a", b"aaa")
        self.server.put("d/b", b"old")
        self.m = self.mount("--metadata-ttl", "600")
        self.m.expected_errors = True
        os.listdir(f"{self.m.path}/d")
        self.m.read("d/a")
        self.m.read("d/b")

    def refused(self, op, fn):
        self.server.faults(f"op={op} action=status:403")
        with self.assertRaises(PermissionError):
            fn()
        self.server.faults("")
        self.assertEqual(sorted(os.listdir(f"{self.m.path}/d")), ["a", "b"])
        self.assertEqual(os.stat(f"{self.m.path}/d/b").st_nlink, 1)

    def assert_usable(self):
        self.assertEqual(self.m.read("d/b"), b"old")
        self.write("d/b", "new content")
        self.assertEqual(self.m.read("d/b"), b"new content")
        self.assertEqual(self.body("d/b"), b"new content")

    def test_unlink(self):
        self.refused("DELETE", lambda: os.unlink(f"{self.m.path}/d/b"))
        self.assert_usable()

    def test_unlink_of_an_open_file(self):
        fd = os.open(f"{self.m.path}/d/b", os.O_RDWR)
        os.pwrite(fd, b"OLD", 0)
        self.refused("DELETE", lambda: os.unlink(f"{self.m.path}/d/b"))
        self.assertEqual(os.pread(fd, 3, 0), b"OLD")
        os.close(fd)
        self.assertEqual(self.body("d/b"), b"OLD")
        os.unlink(f"{self.m.path}/d/b")
        self.assertEqual(self.keys(), ["d/a"])

    def test_rename_over(self):
        self.refused("COPY", lambda: self.rename("d/a", "d/b"))
        self.assert_usable()
        self.rename("d/a", "d/b")
        self.assertEqual(self.m.read("d/b"), b"aaa")
        self.assertEqual(self.keys(), ["d/b"])

    def test_rename_over_that_leaves_the_old_name(self):
        fd = os.open(f"{self.m.path}/d/b", os.O_RDONLY)
        self.refused("DELETE", lambda: self.rename("d/a", "d/b"))
        self.assertEqual(os.pread(fd, 3, 0), b"old")
        os.close(fd)
        self.assertEqual(self.keys(), ["d/a", "d/b"])
        for name in "ab":
            self.assertEqual(self.m.read(f"d/{name}"), b"aaa")
            self.write(f"d/{name}", name)
            self.assertEqual(self.body(f"d/{name}"), name.encode())


    def test_rename_that_leaves_the_old_name_again(self):
        for mode, text in (os.O_WRONLY, b"aaa"), (os.O_RDWR, b"AAA"):
            self.write("d/a", "aaa")
            fd = os.open(f"{self.m.path}/d/a", mode)
            os.pwrite(fd, b"AAA", 0)
            os.fsync(fd)
            os.pwrite(fd, text, 0)
            if text == b"AAA":
                os.fsync(fd)
            self.refused("DELETE", lambda: self.rename("d/a", "d/b"))
            self.s3.delete_object(Bucket=BUCKET, Key="d/b")
            self.rename("d/a", "d/b")
            self.assertEqual(self.keys(), ["d/b"])
            os.close(fd)
            self.assertEqual(self.body("d/b"), text)

    def test_rename_that_leaves_the_old_name_is_stored_there(self):
        fd = os.open(f"{self.m.path}/d/a", os.O_WRONLY)
        os.pwrite(fd, b"AAA", 0)
        self.refused("DELETE", lambda: self.rename("d/a", "d/b"))
        self.assertEqual(self.body("d/a"), b"aaa")
        os.close(fd)
        self.assertEqual(self.body("d/a"), b"AAA")


class InParts(Renaming):
    """R2 gives the copy of an object that was uploaded in parts another ETag:
    nobody of this mount may take it for another version."""

    parts = [os.urandom(5 << 20), os.urandom(5 << 20), b"end"]

    def setUp(self):
        super().setUp()
        for key in ("d/s/big", "d/two", "d/three"):
            self.put_parts(key, self.parts)
        self.server.put("d/two/x", b"x")
        self.m = self.mount("--metadata-ttl", "600")
        for name in ("d", "d/s", "d/two"):
            os.listdir(f"{self.m.path}/{name}")

    def move(self):
        n = self.counted(lambda: self.rename("d", "e"))
        self.assertEqual(n, {"LIST": 1, "COPY": 4, "DELETES": 1})
        self.assertNotIn("-", self.s3.head_object(
            Bucket=BUCKET, Key="e/s/big")["ETag"])

    def read_a_little(self, name):
        fd = os.open(f"{self.m.path}/{name}", os.O_RDONLY)
        os.pread(fd, 5, 7 << 20)
        os.close(fd)
        self.assertLess(self.m.stats()["requests"]["bytes_in"], 5 << 20)

    def test_partly_cached(self):
        self.read_a_little("d/s/big")
        self.move()
        drop_kernel_cache()
        before = self.m.stats()["requests"]["bytes_in"]
        self.assertEqual(self.m.read("e/s/big"), b"".join(self.parts))
        after = self.m.stats()["requests"]["bytes_in"]
        self.assertLess(after - before, sum(len(p) for p in self.parts))

    def test_cached_is_kept(self):
        self.m.read("d/two.r2object")
        self.move()
        drop_kernel_cache()
        self.assertEqual(
            self.counted(lambda: self.assertEqual(
                self.m.read("e/two.r2object"), b"".join(self.parts))), {})

    def test_append(self):
        self.read_a_little("d/three")
        self.move()
        with open(f"{self.m.path}/e/three", "ab") as f:
            f.write(b"more")
        self.assertEqual(self.body("e/three"), b"".join(self.parts) + b"more")

    def test_open(self):
        fd = os.open(f"{self.m.path}/d/three", os.O_RDWR)
        os.pread(fd, 5, 0)
        self.move()
        self.assertEqual(os.pread(fd, 3, 10 << 20), b"end")
        os.pwrite(fd, b"END", 10 << 20)
        os.close(fd)
        self.assertEqual(self.body("e/three"),
                         b"".join(self.parts[:2]) + b"END")


    def test_chmod_whose_answer_is_lost(self):
        self.server.faults("op=COPY count=1 action=lost")
        os.chmod(f"{self.m.path}/d/three", 0o600)
        with open(f"{self.m.path}/d/three", "ab") as f:
            os.fsync(f.fileno())
            f.write(b"+")
        self.assertEqual(self.body("d/three"), b"".join(self.parts) + b"+")


class Folders(Renaming):
    def fill(self, n, *options):
        self.names = [f"s{i % 3}/f{i:04}" for i in range(n)]
        self.server.put(f"p/d/{self.names[0]}")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: self.server.put(
                f"p/d/{name}", name.encode()), self.names))
        self.m = self.mount("--metadata-ttl", "600", *options)
        self.m.expected_errors = True
        for root, _, _ in os.walk(f"{self.m.path}/p"):
            os.listdir(root)

    def log(self):
        with open(self.m.log) as f:
            return f.read()

    def stopped(self, error, rules=""):
        self.server.faults(rules)
        with self.assertRaises(OSError) as e:
            self.rename("p/d", "p/e")
        self.assertEqual(e.exception.errno, error)
        self.server.faults("")

    def shown(self, top):
        os.listdir(os.path.dirname(f"{self.m.path}/{top}"))
        path = f"{self.m.path}/{top}"
        return sorted(os.path.relpath(f"{root}/{name}", path)
                      for root, _, names in os.walk(path) for name in names)

    def stored(self, top):
        return [k[len(top) + 1:] for k in self.keys(f"{top}/")]

    def assert_all_moved(self):
        self.assertEqual(os.listdir(f"{self.m.path}/p"), ["e"])
        self.assertEqual(self.stored("p/d"), [])
        self.assertEqual(self.stored("p/e"), sorted(self.names))
        self.assertEqual(self.shown("p/e"), sorted(self.names))
        self.assertEqual(self.m.read(f"p/e/{self.names[1]}"),
                         self.names[1].encode())


class Costs(Folders):
    def test_two_pages(self):
        self.fill(1500)
        n = self.counted(lambda: self.rename("p/d", "p/e"))
        self.assertEqual(n, {"LIST": 2, "COPY": 1500, "DELETES": 2})
        for moved in (1000, 1500):
            self.assertIn(f"rename of p/d/ to p/e/: {moved} keys moved",
                          self.log())
        self.assertEqual(self.counted(self.assert_shown), {"GET": 1})
        self.assert_all_moved()

    def assert_shown(self):
        self.assertEqual(self.shown("p/e"), sorted(self.names))
        self.m.read(f"p/e/{self.names[7]}")

    def test_mv(self):
        self.fill(2000)
        n = self.counted(lambda: run("mv", f"{self.m.path}/p/d",
                                     f"{self.m.path}/p/e"))
        self.assertEqual(n, {"LIST": 2, "COPY": 2000, "DELETES": 2})
        self.assert_all_moved()

    def test_sixteen_at_a_time(self):
        self.fill(100)
        self.server.reset()
        self.server.latency(50)
        self.rename("p/d", "p/e")
        self.assertEqual(self.server.stats()["concurrent_max"], 16)
        self.server.latency(0)
        self.assert_all_moved()


class Meanwhile(Folders):
    """What is done below a folder while it moves is done when it has moved."""

    def setUp(self):
        super().setUp()
        self.fill(3)
        self.server.faults("op=COPY key=*/s2/* action=delay:2000")
        self.t = threading.Thread(target=self.rename, args=("p/d", "p/e"))
        self.t.start()
        wait_until(lambda: len(self.stored("p/e")) >= 2)

    def moved(self, names):
        self.t.join()
        self.server.faults("")
        self.names = names
        self.assert_all_moved()
        self.m.unmount()
        self.m.start()
        self.assertEqual(self.shown("p/e"), sorted(names))

    def test_a_file_is_written(self):
        n = self.counted(lambda: (self.write("p/d/s0/f0000", "new"),
                                  self.t.join()))
        self.assertEqual(n, {"HEAD": 1, "DELETES": 1, "PUT": 1})
        self.moved(self.names)
        self.assertEqual(self.body("p/e/s0/f0000"), b"new")
        self.assertEqual(self.m.read("p/e/s0/f0000"), b"new")

    def test_names_are_made(self):
        self.write("p/d/s0/new", "p/e/s0/new")
        self.moved([*self.names, "s0/new"])

    def test_an_attribute_is_changed(self):
        os.chmod(f"{self.m.path}/p/d/s0/f0000", 0o600)
        self.moved(self.names)
        mode = self.s3.head_object(Bucket=BUCKET, Key="p/e/s0/f0000")[
            "Metadata"]["mode"]
        self.assertEqual(int(mode) & 0o777, 0o600)

    def test_files_come_and_go(self):
        os.unlink(f"{self.m.path}/p/d/s0/f0000")
        self.write("q", "s2/new")
        self.t.join() # until then the kernel may say that there is no p/e
        self.rename("q", "p/e/s2/new")
        self.moved(["s1/f0001", "s2/f0002", "s2/new"])
        self.assertEqual(self.m.read("p/e/s2/new"), b"s2/new")


class ReadMeanwhile(Folders):
    """Who has a folder open finds and reads what is in it while it moves."""

    def setUp(self):
        super().setUp()
        self.server.put("p/d/a/open", b"o" * (12 << 20))
        self.server.put("p/d/a/parts", b"")
        self.put_parts("p/d/a/parts", [b"a" * (5 << 20), b"b" * (5 << 20)])
        for name in "known", "unknown", "cached":
            self.server.put(f"p/d/a/{name}", name.encode())
        self.fill(1100, "--memory", "64M")
        self.m.read("p/d/a/cached")
        self.fds = [os.open(f"{self.m.path}/p/d/a", os.O_RDONLY)]

    def close(self):
        while self.fds:
            os.close(self.fds.pop())

    def tearDown(self):
        self.t.join()
        self.close()
        super().tearDown()

    def forget(self):
        self.close()
        self.m.unmount()
        self.m.start()
        self.fds = [os.open(f"{self.m.path}/p/d/a", os.O_RDONLY)]

    def begin(self):
        """Until the first page is under the new keys alone."""
        self.server.faults("op=COPY skip=1050 action=delay:600")
        self.t = threading.Thread(target=self.rename, args=("p/d", "p/e"))
        self.t.start()
        wait_until(lambda: len(self.stored("p/d")) < 200)

    def end(self):
        self.t.join()
        self.server.faults("")
        self.assertEqual(self.stored("p/d"), [])

    def read(self, name):
        fd = os.open(name, os.O_RDONLY, dir_fd=self.fds[0])
        with open(fd, "rb") as f:
            return f.read()

    def test_files_that_are_open(self):
        for name in "open", "parts":
            fd = os.open(f"{self.m.path}/p/d/a/{name}", os.O_RDONLY)
            self.fds.append(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            os.pread(fd, 1000, 0)
        self.begin()
        got = [os.pread(fd, 1000, 9 << 20) for fd in self.fds[1:]]
        self.end()
        self.assertEqual(got, [b"o" * 1000, b"b" * 1000])

    def test_files_that_are_opened(self):
        self.begin()
        for name in "cached", "known":
            self.assertEqual(self.read(name), name.encode())
        with self.assertRaises(FileNotFoundError):
            self.read("none")
        self.end()

    def test_names_that_are_looked_up(self):
        self.forget()
        self.begin()
        self.assertEqual(os.stat("unknown", dir_fd=self.fds[0]).st_size, 7)
        self.assertEqual(self.read("unknown"), b"unknown")
        self.end()

    def test_listing(self):
        self.forget()
        self.begin()
        self.assertEqual(sorted(os.listdir(self.fds[0])),
                         ["cached", "known", "open", "parts", "unknown"])
        self.end()


class Crash(Folders):
    """The next mount goes on, and shows no name where it is not."""

    def crash(self, rules, copies):
        self.server.reset()
        self.server.faults(rules)
        t = threading.Thread(target=self.quietly_rename)
        t.start()
        wait_until(lambda: self.ops().get("COPY", 0) >= copies)
        time.sleep(0.5)
        self.m.crash()
        t.join()
        self.server.faults("")

    def quietly_rename(self):
        try:
            self.rename("p/d", "p/e")
        except OSError:
            pass

    def test_while_copying(self):
        self.fill(40, "--metadata-ttl", "indefinite")
        self.m.read(f"p/d/{self.names[5]}")
        self.crash("op=COPY skip=20 action=delay:3000", 20)
        self.assertEqual(self.stored("p/d"), sorted(self.names))
        self.assertIn(len(self.stored("p/e")), range(20, 40))
        self.m.start()
        self.assertIn("the rename of p/d/ to p/e/ goes on", self.log())
        self.assert_all_moved()

    def test_what_is_owed_below_moves_along(self):
        self.fill(3, "--writeback")
        self.write("p/d/s0/x.tmp", "closed")
        fd = os.open(f"{self.m.path}/p/d/s0/open", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"open")
        self.crash("op=COPY key=*/s2/* action=delay:3000", 3)
        with self.assertRaises(OSError):
            os.close(fd)
        self.m.start()
        self.assertEqual(os.listdir(f"{self.m.path}/p"), ["e"])
        self.assertEqual(self.m.read("p/e/s0/x.tmp"), b"closed")
        self.assertIn("p/e/s0/open", run(
            R2FS, "recover", "list", self.m.path).stdout)
        self.m.unmount()
        self.assertEqual(self.stored("p/e"),
                         sorted([*self.names, "s0/x.tmp"]))
        self.assertEqual(self.stored("p/d"), [])

    def test_in_the_second_page(self):
        self.fill(1100)
        self.crash("op=COPY skip=1050 action=delay:3000", 1050)
        self.assertEqual(len(self.stored("p/d")), 100)
        self.m.start()
        self.assert_all_moved()

    def test_objects_in_parts(self):
        self.fill(3)
        for name, meta in (("own", {"mtime": "7.000000003"}), ("theirs", {})):
            self.put_parts(f"p/d/{name}", [name.encode()], Metadata=meta)
            self.names.append(name)
        self.crash("op=DELETES action=delay:3000\n"
                   "op=DELETES action=drop", 5)
        self.assertEqual(len(self.keys()), 10)
        self.m.start()
        self.assert_all_moved()

    def owed_of_an_object_in_parts(self, faults):
        """R2 gives the copy another ETag."""
        self.put_parts("p/d/big", [b"a" * (5 << 20), b"b" * 1000])
        self.fill(3, "--writeback")
        fd = os.open(f"{self.m.path}/p/d/big", os.O_RDWR)
        os.pwrite(fd, b"changed", (5 << 20) + 10)
        os.fsync(fd)
        self.crash(faults, 4)
        with self.assertRaises(OSError):
            os.close(fd)
        self.m.start()
        self.m.unmount()
        body = self.s3.get_object(Bucket=BUCKET, Key="p/e/big")["Body"].read()
        self.assertEqual(body, b"a" * (5 << 20) + b"b" * 10 + b"changed" +
                         b"b" * 983)
        self.assertEqual(self.stored("p/d"), [])

    def test_owed_of_an_object_in_parts_when_it_is_copied(self):
        self.owed_of_an_object_in_parts("op=COPY key=*/s2/* action=delay:3000")

    def test_owed_of_an_object_in_parts_when_the_old_one_goes(self):
        self.owed_of_an_object_in_parts("op=DELETES action=delay:3000\n"
                                        "op=DELETES action=drop")

    def test_owed_of_an_object_in_parts_when_the_old_one_is_gone(self):
        self.owed_of_an_object_in_parts("op=DELETES action=lost")

    def test_objects_in_parts_of_somebody_else(self):
        self.fill(3)
        self.put_parts("p/d/big", [b"ours"])
        self.crash("op=DELETES action=delay:3000\n"
                   "op=DELETES action=drop", 4)
        self.put_parts("p/e/big", [b"else"])
        self.m.start()
        self.assertIn("p/e/big is there already", self.log())
        self.assertEqual(self.body("p/d/big"), b"ours")
        self.assertEqual(self.body("p/e/big"), b"else")

    def test_what_somebody_stored_meanwhile_stays(self):
        self.fill(10)
        self.crash("op=COPY skip=2 action=delay:3000\n"
                   "op=COPY skip=2 action=drop", 2)
        missing = sorted(set(self.names) - set(self.stored("p/e")))
        self.server.put(f"p/e/{missing[0]}", b"theirs")
        self.m.start()
        self.assertIn(f"p/e/{missing[0]} is there already", self.log())
        self.assertEqual(self.body(f"p/e/{missing[0]}"), b"theirs")
        self.assertEqual(self.body(f"p/d/{missing[0]}"), missing[0].encode())
        self.assertEqual(sorted(os.listdir(f"{self.m.path}/p")), ["d", "e"])
        self.m.unmount()
        self.s3.delete_object(Bucket=BUCKET, Key=f"p/e/{missing[0]}")
        self.m.start()
        self.assert_all_moved()


class Stopped(Folders):
    """A folder's rename that fails on its way."""

    def test_of_a_page_nothing_moves(self):
        self.fill(40)
        self.stopped(errno.EACCES, "op=COPY skip=20 action=status:403")
        self.assertEqual(self.stored("p/e"), [])
        self.assertEqual(os.listdir(f"{self.m.path}/p"), ["d"])
        self.assertEqual(self.shown("p/d"), sorted(self.names))
        for name in self.names:
            self.assertEqual(self.m.read(f"p/d/{name}"), name.encode())
        self.rename("p/d", "p/e")
        self.assert_all_moved()

    def test_after_a_page_it_can_be_repeated(self):
        self.fill(1200)
        self.stopped(errno.EACCES, "op=COPY skip=1100 action=status:403")
        self.assertEqual(len(self.stored("p/d")), 200)
        self.assertEqual(self.shown("p/d"), self.stored("p/d"))
        self.assertEqual(self.shown("p/e"), self.stored("p/e"))
        for name in self.names[::100]:
            there = "p/e" if name in self.shown("p/e") else "p/d"
            self.assertEqual(self.m.read(f"{there}/{name}"), name.encode())
        self.rename("p/d", "p/e")
        self.assert_all_moved()

    def test_of_unknown_outcome(self):
        self.fill(40, "--deadline", "2")
        self.server.put("p/d/s0/f0000", b"with", Metadata={"mtime": "7.3"})
        self.stopped(errno.ETIMEDOUT,
                     "op=COPY,HEAD key=p/e/s0/f0000 action=lost")
        self.assertEqual(self.stored("p/e"), ["s0/f0000"])
        self.rename("p/d", "p/e")
        self.assert_all_moved()

    def test_an_answer_that_is_lost(self):
        self.put_parts("p/d/big", [b"ours"])
        self.fill(3)
        self.names.append("big")
        fd = os.open(f"{self.m.path}/p/d/big", os.O_RDWR)
        os.pread(fd, 1, 0)
        self.server.faults("op=COPY count=4 action=lost")
        self.rename("p/d", "p/e")
        os.pwrite(fd, b"O", 0)
        os.close(fd)
        self.assertEqual(self.body("p/e/big"), b"Ours")
        self.assert_all_moved()

    def test_nothing_of_others_is_replaced(self):
        self.fill(40)
        self.server.put("p/e/s1/f0001", b"theirs")
        self.stopped(errno.ENOTEMPTY)
        self.assertEqual(self.stored("p/e"), ["s1/f0001"])
        self.assertEqual(self.body("p/e/s1/f0001"), b"theirs")
        self.assertEqual(self.stored("p/d"), sorted(self.names))
        self.assertEqual(self.shown("p/d"), sorted(self.names))
        self.assertEqual(self.shown("p/e"), ["s1/f0001"])
        os.unlink(f"{self.m.path}/p/e/s1/f0001")
        self.rename("p/d", "p/e")
        self.assert_all_moved()

    def test_what_was_made_since_is_not_empty(self):
        self.fill(40)
        os.makedirs(f"{self.m.path}/p/e/x")
        self.stopped(errno.ENOTEMPTY)


if __name__ == "__main__":
    unittest.main()
