"""What a writing mount promises, one case each, over Cloudflare's local R2."""

import errno
import glob
import os
import signal
import stat
import subprocess
import threading
import time
import unittest

from harness import BUCKET, R2FS, Case, copy_file, run, wait_until
from test_programs import Writing


class Patterns(Writing):
    def test_append_truncate_and_holes(self):
        p = f"{self.m.path}/f"
        with open(p, "wb") as f:
            f.write(b"hello")
        with open(p, "ab") as f:
            f.write(b" world")
        self.assertEqual(self.body("f"), b"hello world")
        os.truncate(p, 3)
        self.assertEqual(self.body("f"), b"hel")
        os.truncate(p, 6)
        self.assertEqual(self.body("f"), b"hel\0\0\0")
        fd = os.open(p, os.O_RDWR)
        os.pwrite(fd, b"x", 20)
        os.posix_fallocate(fd, 0, 30)
        os.close(fd)
        self.assertEqual(self.body("f"), b"hel" + b"\0" * 17 + b"x" + b"\0" * 9)

    def test_a_child_that_inherits_a_file_uploads_nothing(self):
        f = open(f"{self.m.path}/log", "w")
        f.write("first")
        f.flush()
        before = self.sent()
        for _ in range(5):
            run("true")
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        self.assertEqual(self.sent(), before)
        f.close()
        self.assertEqual(self.body("log"), b"first")
        run("sh", "-c", f"exec 3>{self.m.path}/g; (echo sub >&3); echo x >&3")
        self.assertEqual(self.body("g"), b"sub\nx\n")

    def test_two_handles_see_each_other(self):
        p = f"{self.m.path}/f"
        a = os.open(p, os.O_RDWR | os.O_CREAT)
        b = os.open(p, os.O_RDONLY)
        os.pwrite(a, b"one", 0)
        self.assertEqual(os.pread(b, 10, 0), b"one")
        os.fsync(a)
        self.assertEqual(self.body("f"), b"one")
        os.pwrite(a, b"two", 0)
        self.assertEqual(os.pread(b, 10, 0), b"two")
        os.close(a)
        self.assertEqual(os.pread(b, 10, 0), b"two")
        os.close(b)
        self.assertEqual(self.body("f"), b"two")

    def test_open_files_survive_unlink_and_rename(self):
        self.m.unmount()
        self.server.put("r", b"r" * 3000000)
        self.m.start()
        r = os.open(f"{self.m.path}/r", os.O_RDONLY)
        os.unlink(f"{self.m.path}/r")
        self.assertEqual(self.keys(), [])
        self.assertEqual(os.pread(r, 5, 2999990), b"rrrrr")
        os.close(r)
        w = os.open(f"{self.m.path}/w", os.O_RDWR | os.O_CREAT)
        os.write(w, b"before")
        os.rename(f"{self.m.path}/w", f"{self.m.path}/v")
        os.write(w, b" after")
        os.close(w)
        self.assertEqual(self.body("v"), b"before after")
        self.assertEqual(self.keys(), ["v"])

    def test_cp_within_the_mount_is_a_copy_by_r2(self):
        with open(f"{self.m.path}/a", "wb") as f:
            f.write(b"a" * 3000000)
        time.sleep(0.3)
        out = self.m.stats()["requests"]["bytes_out"]
        n = self.counted(lambda: copy_file(f"{self.m.path}/a",
                                           f"{self.m.path}/b"))
        self.assertEqual(n, {"COPY": 1})
        self.assertEqual(self.m.stats()["requests"]["bytes_out"], out)
        self.assertEqual(self.body("b"), b"a" * 3000000)
        copy_file(f"{self.m.path}/a", f"{self.m.path}/c")
        with open(f"{self.m.path}/c", "r+b") as f:
            f.write(b"changed")
        self.assertEqual(self.body("c")[:9], b"changedaa")
        self.assertEqual(self.body("a")[:9], b"aaaaaaaaa")

    def test_rename_over_an_open_file(self):
        for name in "ab":
            with open(f"{self.m.path}/{name}", "w") as f:
                f.write(name * 9)
        b = os.open(f"{self.m.path}/b", os.O_RDONLY)
        os.rename(f"{self.m.path}/a", f"{self.m.path}/b")
        self.assertEqual(os.pread(b, 9, 0), b"b" * 9)
        os.close(b)
        self.assertEqual(self.body("b"), b"a" * 9)
        self.assertEqual(self.keys(), ["b"])

    def test_temporary_names_cost_one_put(self):
        def write():
            with open(f"{self.m.path}/x.tmp", "w") as f:
                f.write("content")
                f.flush()
                os.fsync(f.fileno())
            os.rename(f"{self.m.path}/x.tmp", f"{self.m.path}/x")

        os.listdir(self.m.path)
        self.assertEqual(self.counted(write), {"PUT": 1})
        self.assertEqual(self.body("x"), b"content")

        def move():
            with open(f"{self.m.path}/plain", "w") as f:
                f.write("content")
            os.rename(f"{self.m.path}/plain", f"{self.m.path}/y")

        self.assertEqual(self.counted(move),
                         {"PUT": 1, "COPY": 1, "DELETE": 1})
        self.assertEqual(self.keys(), ["x", "y"])

    def test_noreplace_and_exchange(self):
        for name in "ab":
            with open(f"{self.m.path}/{name}", "w") as f:
                f.write(name)
        run("mv", "-n", f"{self.m.path}/a", f"{self.m.path}/b",
                check=False)
        self.assertEqual(self.body("b"), b"b")
        out = run("python3", "-c", "import ctypes,os,sys\n"
                  "l=ctypes.CDLL(None,use_errno=True)\n"
                  "for f in (1,2):\n"
                  " r=l.renameat2(-100,sys.argv[1].encode(),-100,"
                  "sys.argv[2].encode(),f)\n"
                  " print(r,ctypes.get_errno())", f"{self.m.path}/a",
                  f"{self.m.path}/b").stdout
        self.assertEqual(out, f"-1 {errno.EEXIST}\n-1 {errno.EINVAL}\n")

    def tmpfile(self, flags=0):
        try:
            return os.open(self.m.path, os.O_TMPFILE | os.O_RDWR | flags, 0o640)
        except OSError as e:
            if e.errno == errno.EOPNOTSUPP:
                self.skipTest("libfuse before 3.18 has no O_TMPFILE")
            raise

    def publish(self, fd, name):
        # with a descriptor Python calls linkat, which follows /proc
        os.link(f"/proc/self/fd/{fd}", f"{self.m.path}/{name}", src_dir_fd=fd)

    def test_files_without_a_name(self):
        os.listdir(self.m.path)

        def unnamed():
            fd = self.tmpfile()
            os.write(fd, b"never seen")
            os.fsync(fd)
            self.assertEqual(os.pread(fd, 5, 0), b"never")
            os.close(fd)

        self.assertEqual(self.counted(unnamed), {})
        self.assertEqual(os.listdir(self.m.path), [])

        def named():
            fd = self.tmpfile()
            os.write(fd, b"content")
            self.publish(fd, "a")
            self.assertEqual(self.body("a"), b"content")
            with self.assertRaises(PermissionError):
                self.publish(fd, "b")
            os.close(fd)

        self.assertEqual(self.counted(named), {"PUT": 1})
        self.assertEqual(os.listdir(self.m.path), ["a"])
        self.assertEqual(stat.S_IMODE(os.stat(f"{self.m.path}/a").st_mode),
                         0o640)
        with open(f"{self.m.path}/a", "rb") as f:
            self.assertEqual(f.read(), b"content")

        fd = self.tmpfile()
        os.write(fd, b"other")
        with self.assertRaises(FileExistsError):
            self.publish(fd, "a")
        # made behind our back: still no overwriting
        self.s3.put_object(Bucket=BUCKET, Key="theirs", Body=b"theirs")
        with self.assertRaises(FileExistsError):
            self.publish(fd, "theirs")
        self.publish(fd, "c")
        os.write(fd, b" and more")
        os.close(fd)
        self.assertEqual(self.body("c"), b"other and more")
        self.assertEqual(self.body("theirs"), b"theirs")
        fd = self.tmpfile(os.O_EXCL)
        with self.assertRaises(OSError):
            self.publish(fd, "d")
        os.close(fd)
        self.m.expected_errors = True
        self.assertEqual(self.keys(), ["a", "c", "theirs"])

    def test_folders(self):
        os.makedirs(f"{self.m.path}/a/b")
        with open(f"{self.m.path}/a/b/f", "w") as f:
            f.write("x")
        for fn, want in ((lambda: os.rmdir(f"{self.m.path}/a"),
                          errno.ENOTEMPTY),
                         (lambda: os.unlink(f"{self.m.path}/a"),
                          errno.EISDIR),
                         (lambda: os.mkdir(f"{self.m.path}/a"), errno.EEXIST),
                         (lambda: os.rmdir(f"{self.m.path}/a/b/f"),
                          errno.ENOTDIR)):
            with self.assertRaises(OSError) as e:
                fn()
            self.assertEqual(e.exception.errno, want)
        self.server.put("a/c", b"by another")
        os.unlink(f"{self.m.path}/a/b/f")
        os.rmdir(f"{self.m.path}/a/b")
        self.assertEqual(self.keys(), ["a/", "a/c"])

    def test_links_and_pipes(self):
        with open(f"{self.m.path}/f", "w") as f:
            f.write("x")
        os.symlink("f", f"{self.m.path}/l")
        os.mkfifo(f"{self.m.path}/p")
        with self.assertRaises(OSError) as e:
            os.link(f"{self.m.path}/f", f"{self.m.path}/h")
        self.assertEqual(e.exception.errno, errno.EPERM)
        self.m.unmount()
        self.m.start()
        self.assertEqual(os.readlink(f"{self.m.path}/l"), "f")
        self.assertTrue(stat.S_ISFIFO(os.stat(f"{self.m.path}/p").st_mode))

    def test_attributes(self):
        p = f"{self.m.path}/f"
        with open(p, "w") as f:
            f.write("x")
        before = self.sent()
        os.chmod(p, 0o640)
        os.chown(p, 12, 34)
        os.utime(p, ns=(0, 1234567890123456789))
        os.setxattr(p, "user.color", b"blue\0\xff")
        time.sleep(1)
        after = self.sent()
        self.assertEqual(after["COPY"] - before["COPY"], 1)
        self.assertEqual(after["PUT"], before["PUT"])
        meta = self.s3.head_object(Bucket=BUCKET, Key="f")["Metadata"]
        self.assertEqual(meta["mode"], str(0o100640))
        self.assertEqual((meta["uid"], meta["gid"]), ("12", "34"))
        self.assertEqual(meta["mtime"], "1234567890.123456789")
        self.m.unmount()
        self.m = self.mount()
        p = f"{self.m.path}/f"
        with open(p) as f:  # a listing does not carry metadata, a GET does
            f.read()
        st = os.stat(p)
        self.assertEqual((st.st_mode & 0o777, st.st_uid, st.st_gid,
                          st.st_mtime_ns),
                         (0o640, 12, 34, 1234567890123456789))
        self.assertEqual(os.getxattr(p, "user.color"), b"blue\0\xff")
        os.removexattr(p, "user.color")
        with self.assertRaises(OSError):
            os.getxattr(p, "user.color")

    def test_content_type_of_others_stays(self):
        self.m.unmount()
        self.server.put("page", b"<html>", ContentType="text/html",
                        Metadata={"team": "a"})
        self.m.start()
        with open(f"{self.m.path}/page", "a") as f:
            f.write("more")
        os.chmod(f"{self.m.path}/page", 0o600)
        time.sleep(0.8)
        h = self.s3.head_object(Bucket=BUCKET, Key="page")
        self.assertEqual(h["ContentType"], "text/html")
        self.assertEqual(h["Metadata"]["team"], "a")


class Races(Writing):
    def other(self):
        return self.mount()

    def test_overwritten_by_another(self):
        with open(f"{self.m.path}/a", "w") as f:
            f.write("first")
        time.sleep(1.2)
        f = open(f"{self.m.path}/a", "r+")
        f.write("mine!")
        f.flush()
        self.server.put("a", b"theirs")
        with self.assertRaises(OSError) as e:
            f.close()
        self.assertEqual(e.exception.errno, errno.ESTALE)
        self.assertEqual(self.body("a"), b"theirs")
        text = None
        end = time.monotonic() + 10  # the last close is seen a moment later
        while text != "theirs" and time.monotonic() < end:
            try:
                with open(f"{self.m.path}/a") as g:
                    text = g.read()
            except OSError as e:  # opened before, read after: another size
                self.assertEqual(e.errno, errno.ESTALE)
                continue
            self.assertIn(text, ("mine!", "theirs"))
        self.assertEqual(text, "theirs")
        self.recover("mine!", "a")

    def recover(self, want, key):
        line = run(R2FS, "recover", "list", self.m.path).stdout.split()
        self.assertEqual((line[1], line[4]), ("failed", key))
        p = run(R2FS, "recover", "retry", self.m.path, line[0], check=False)
        self.assertEqual(p.returncode, 1)
        self.assertIn("--force", p.stderr)
        out = os.path.join(self.local, "out")
        run(R2FS, "recover", "export", self.m.path, line[0], out)
        with open(out) as f:
            self.assertEqual(f.read(), want)
        run(R2FS, "recover", "retry", "--force", self.m.path, line[0])
        self.assertEqual(self.body(key), want.encode())
        self.assertIn("empty", run(R2FS, "recover", "list",
                                   self.m.path).stdout)

    def test_two_mounts_create_one_file(self):
        m2 = self.other()
        for name, how in (("f", errno.EEXIST), ("x.lock", errno.EEXIST)):
            won, lost = [], []

            def create(m):
                try:
                    fd = os.open(f"{m.path}/{name}", os.O_CREAT | os.O_EXCL |
                                 os.O_WRONLY, 0o644)
                    barrier.wait(20)
                    os.write(fd, m.path.encode())
                    os.close(fd)
                    won.append(m.path)
                except OSError as e:
                    barrier.abort()
                    lost.append(e.errno)
                except threading.BrokenBarrierError:
                    os.write(fd, m.path.encode())
                    os.close(fd)
                    won.append(m.path)

            barrier = threading.Barrier(2)
            threads = [threading.Thread(target=create, args=(m,))
                       for m in (self.m, m2)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(len(won), 1, (won, lost))
            self.assertEqual(lost, [how])
            self.assertEqual(self.body(name).decode(), won[0])

    def tearDown(self):
        for m in self.mounts:
            m.expected_errors = True
        super().tearDown()


class Crashes(Writing):
    def kill(self):
        os.kill(self.m.pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while os.path.exists(f"/proc/{self.m.pid}") and (
                time.monotonic() < end):
            time.sleep(0.05)
        subprocess.run(["umount", "-l", self.m.path], timeout=20)

    def test_owed_uploads_go_on(self):
        with open(f"{self.m.path}/x.tmp", "w") as f:
            f.write("owed")
        half = open(f"{self.m.path}/half", "w")
        half.write("half")
        half.flush()
        self.kill()
        self.m.start()
        with open(f"{self.m.path}/x.tmp") as f:
            self.assertEqual(f.read(), "owed")
        os.rename(f"{self.m.path}/x.tmp", f"{self.m.path}/x")
        if self.options:
            wait_until(lambda: "x" in self.keys())
        self.assertEqual(self.body("x"), b"owed")
        line = run(R2FS, "recover", "list", self.m.path).stdout
        self.assertIn("half", line)
        self.assertIn("before the file was closed", line)
        run(R2FS, "recover", "drop", self.m.path, line.split()[0])
        self.assertEqual(self.keys(), ["x"])

    def test_force_leaves_and_the_next_mount_goes_on(self):
        with open(f"{self.m.path}/x.tmp", "w") as f:
            f.write("owed")
        run(R2FS, "umount", "--force", self.m.path)
        self.assertEqual(self.keys(), [])
        self.m.start()
        self.m.unmount()
        self.assertEqual(self.body("x.tmp"), b"owed")


class CrashesOfJournalClose(Crashes):
    options = ("--writeback",)

    def test_nothing_closed_is_lost(self):
        for i in range(60):
            with open(f"{self.m.path}/f{i}", "wb") as f:
                f.write(bytes([i]) * 100000)
        self.kill()
        self.m.start()
        for i in range(60):
            with open(f"{self.m.path}/f{i}", "rb") as f:
                self.assertEqual(f.read(), bytes([i]) * 100000)
        self.m.unmount()
        for i in range(60):
            self.assertEqual(self.body(f"f{i}"), bytes([i]) * 100000)

    def test_what_was_renamed_stays_renamed(self):
        for i in range(40):
            with open(f"{self.m.path}/f{i}.partial", "wb") as f:
                f.write(bytes([i]) * 1000)
            os.rename(f"{self.m.path}/f{i}.partial", f"{self.m.path}/f{i % 20}")
        os.rename(f"{self.m.path}/f0", f"{self.m.path}/g")
        self.kill()
        self.m.start()
        names = ["g"] + [f"f{i}" for i in range(1, 20)]
        self.assertEqual(sorted(os.listdir(self.m.path)), sorted(names))
        self.m.unmount()
        self.assertEqual(self.keys(), sorted(names))
        self.assertEqual(self.body("g"), b"\x14" * 1000)
        self.assertEqual(self.body("f1"), b"\x15" * 1000)


class ResumedUpload(Case):
    """On r2sim, which counts what arrives and can be slow."""

    def kill(self, m):
        os.kill(m.pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while os.path.exists(f"/proc/{m.pid}") and time.monotonic() < end:
            time.sleep(0.05)
        subprocess.run(["umount", "-l", m.path], timeout=20)

    def ops(self):
        return self.server.stats()["ops"]

    def parts_sent(self, m, n):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if m.stats()["requests"]["MPU_PART"]["finished"] >= n:
                return
            time.sleep(0.05)
        self.fail("no part was uploaded")

    def test_a_rename_before_the_upload_waits_for_nothing(self):
        m = self.mount("--writeback")
        os.mkdir(m.path + "/d")
        self.server.faults("op=PUT action=delay:3000")
        before = self.server.stats()["total"]

        def write():
            for i in range(30):
                with open(f"{m.path}/d/{i}.partial", "wb") as f:
                    f.write(b"x" * 1000)
                os.rename(f"{m.path}/d/{i}.partial", f"{m.path}/d/{i}")

        self.within(3, write)
        self.server.faults("")
        m.unmount()
        self.assertEqual(self.server.stats()["total"] - before, 30)

    def test_a_rename_over_a_file_that_is_being_stored(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT key=f count=1 action=delay:1500")
        for text in ("first", "second"):
            with open(f"{m.path}/f.partial", "w") as f:
                f.write(text)
            os.rename(f"{m.path}/f.partial", f"{m.path}/f")
            wait_until(lambda: m.stats()["requests"]["PUT"]["sent"] > 0)
        m.unmount()
        body = self.server.client().get_object(
            Bucket=BUCKET, Key="f")["Body"].read()
        self.assertEqual(body, b"second")

    def test_attributes_changed_during_an_owed_upload(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT key=f count=1 action=delay:2000")
        with open(f"{m.path}/f", "wb") as f:
            f.write(b"x" * 1000)
        wait_until(lambda: m.stats()["requests"]["PUT"]["sent"])
        os.chmod(f"{m.path}/f", 0o600)
        wait_until(lambda: self.ops()["COPY"] == 1)
        head = self.server.client().head_object(Bucket=BUCKET, Key="f")
        self.assertEqual(head["Metadata"]["mode"], str(0o100600))
        wait_until(lambda: "empty" in run(R2FS, "recover", "list",
                                          m.path).stdout)
        m.unmount()
        self.assertEqual(self.ops()["PUT"], 1)

    def test_an_owed_upload_goes_on_where_it_was(self):
        m = self.mount("--writeback", "--part-size", "5M")
        self.server.control("bandwidth?bytes=8000000")
        block = os.urandom(1 << 20)
        with open(f"{m.path}/big", "wb") as f:
            for i in range(100):
                f.write(bytes([i]) + block[1:])
        self.parts_sent(m, 12)
        parts = m.stats()["requests"]["MPU_PART"]
        self.kill(m)
        self.server.control("bandwidth?bytes=0")
        m.start()
        m.unmount()
        names = {k: v for k, v in self.ops().items() if v}
        creates = sum(v for k, v in names.items() if "CREATE" in k.upper()
                      and "BUCKET" not in k.upper())
        self.assertEqual(creates, 1, names)
        again = parts["sent"] - parts["finished"]  # in flight at the kill
        self.assertLessEqual(again, 8)
        self.assertLessEqual(names["PART"], 20 + again + 1, parts)
        body = self.server.client().get_object(
            Bucket=BUCKET, Key="big")["Body"].read()
        self.assertEqual(len(body), 100 << 20)
        for i in range(100):
            self.assertEqual(body[i << 20:(i << 20) + 9],
                             bytes([i]) + block[1:9])

    def test_what_is_owed_survives_a_half_written_successor(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT action=status:503")
        for name in "abc":
            with open(f"{m.path}/{name}", "wb") as f:
                f.write(b"A" * 100000)
        a = os.open(f"{m.path}/a", os.O_WRONLY | os.O_TRUNC)
        os.write(a, b"B" * 10)
        b = os.open(f"{m.path}/b", os.O_WRONLY)
        os.ftruncate(b, 50000)
        os.pwrite(b, b"B" * 10, 70000)
        with open(f"{m.path}/c", "wb") as f:
            f.write(b"C")
        self.kill(m)
        for fd in (a, b):
            with self.assertRaises(OSError):
                os.close(fd)
        self.server.faults("")
        m.start()
        m.unmount()
        s3 = self.server.client()

        def body(key):
            return s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

        self.assertEqual(body("a"), b"A" * 100000)
        self.assertEqual(body("b"), b"A" * 50000)
        self.assertEqual(body("c"), b"C")
        self.assertEqual(os.listdir(glob.glob(m.cache + "/*/stage")[0]), [])

    def test_a_half_written_file_leaves_no_upload(self):
        m = self.mount("--part-size", "5M")
        f = open(f"{m.path}/big", "wb")
        for _ in range(100):
            f.write(b"x" * (1 << 20))
        self.parts_sent(m, 2)
        self.kill(m)
        with self.assertRaises(OSError):
            f.close()
        s3 = self.server.client()
        left = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        self.assertEqual(len(left), 1)
        m.start()
        left = s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        self.assertEqual(left, [])
        self.assertIn("big", run(R2FS, "recover", "list", m.path).stdout)


class PartsAtOnce(Case):
    """An upload begins with four parts at once and takes more while R2 takes
    them; R2 says by 429, 503 or 500 that there are too many."""

    def write(self, m, mib=200):
        with open(f"{m.path}/big", "wb") as f:
            for i in range(mib):
                f.write(bytes([i % 256]) * (1 << 20))
        head = self.server.client().head_object(Bucket=BUCKET, Key="big")
        self.assertEqual(head["ContentLength"], mib << 20)

    def test_more_while_they_are_stored(self):
        m = self.mount("--part-size", "5M")
        self.server.latency(50)
        self.write(m)
        s = self.server.stats()
        self.assertEqual(s["ops"]["PART"], 40)
        self.assertGreater(s["concurrent_max"], 8)
        self.assertLessEqual(s["concurrent_max"], 17)

    def test_no_more_than_r2_takes(self):
        for limit, most in ((4, 16), (2, 10)):
            m = self.mount("--part-size", "5M", "--deadline", "60")
            self.server.reset()
            self.server.control(f"limits?parts={limit}")
            self.server.latency(20)
            self.write(m, 400)
            s = self.server.stats()
            self.assertLessEqual(s["refused"], most)
            self.assertEqual(s["ops"]["PART"], 80 + s["refused"])
            os.unlink(f"{m.path}/big")
            m.unmount()

    def test_an_error_of_r2_means_fewer(self):
        m = self.mount("--part-size", "5M", "--deadline", "60")
        self.server.latency(20)
        self.server.faults("op=PART count=1 action=status:500\n"
                           "op=PART count=3 action=delay:1000")
        self.write(m)
        s = self.server.stats()
        self.assertEqual(s["ops"]["PART"], 41)
        self.assertEqual(s["concurrent_max"], 4)


class RefusedWrites(Case):
    """What R2 refuses is an error of close, and the bytes are kept."""

    def refused(self, m, rules, want, name="f"):
        self.server.faults(rules)
        f = open(f"{m.path}/{name}", "w")
        f.write("kept")
        with self.assertRaises(OSError) as e:
            f.close()
        self.assertEqual(e.exception.errno, want)
        self.server.faults("")
        end = time.monotonic() + 10
        while time.monotonic() < end:
            line = run(R2FS, "recover", "list", m.path).stdout
            if "failed" in line:
                break
            time.sleep(0.1)
        self.assertIn(name, line)
        run(R2FS, "recover", "retry", m.path, line.split()[0])
        with open(f"{m.path}/{name}") as f:
            self.assertEqual(f.read(), "kept")

    def test_errnos(self):
        m = self.mount("--deadline", "2", "--metadata-ttl", "minimal")
        m.expected_errors = True
        self.refused(m, "op=PUT action=status:403", errno.EACCES, "a")
        self.refused(m, "op=PUT action=status:503", errno.ETIMEDOUT, "b")
        self.refused(m, "op=PUT action=status:500", errno.EIO, "c")

    def test_quota_lock_and_a_network_that_is_gone(self):
        m = self.mount("--deadline", "2", "--metadata-ttl", "minimal")
        m.expected_errors = True
        self.refused(m, "op=PUT action=status:403 code=NotEntitled",
                     errno.EDQUOT, "a")
        self.refused(m, "op=PUT action=status:403 "
                     "code=ObjectLockedByBucketPolicy", errno.EPERM, "b")
        self.refused(m, "op=PUT action=drop", errno.ETIMEDOUT, "c")
        self.refused(m, "op=PUT action=drop:1", errno.ETIMEDOUT, "d")

    def lines(self, m, *words):
        with open(m.log) as f:
            return [line for line in f if all(w in line for w in words)]

    def test_one_line_says_what_failed_and_what_to_do(self):
        m = self.mount("--deadline", "2")
        m.expected_errors = True
        self.server.faults("op=PUT action=status:403")
        with self.assertRaises(PermissionError):
            with open(f"{m.path}/the-file", "w") as f:
                f.write("x")
        wait_until(lambda: "failed" in run(R2FS, "recover", "list",
                                           m.path).stdout)
        (line,) = self.lines(m, "the-file")
        for word in (" ERROR ", "HTTP 403", "cf-ray", "r2fs recover, entry"):
            self.assertIn(word, line)

    def test_what_is_owed_is_logged_once_and_when_it_is_stored(self):
        m = self.mount("--writeback", "--deadline", "1")
        m.expected_errors = True
        self.server.faults("op=PUT action=drop")
        with open(f"{m.path}/the-file", "w") as f:
            f.write("x")
        wait_until(lambda: self.server.stats()["ops"]["PUT"] > 0 or
                   self.lines(m, "the-file"))
        time.sleep(6)
        (line,) = self.lines(m, "the-file")
        self.assertIn("tried again", line)
        self.server.faults("")
        wait_until(lambda: len(self.lines(m, "the-file")) == 2)
        self.assertIn("is stored", self.lines(m, "the-file")[1])

    def test_what_is_owed_and_refused_is_given_up_once(self):
        m = self.mount("--writeback", "--deadline", "1")
        m.expected_errors = True
        self.server.faults("op=PUT action=drop")
        with open(f"{m.path}/the-file", "w") as f:
            f.write("x")
        wait_until(lambda: self.lines(m, "the-file"))
        self.server.faults("op=PUT action=status:403 code=NotEntitled")
        wait_until(lambda: "failed" in run(R2FS, "recover", "list",
                                           m.path).stdout)
        first, last = self.lines(m, "the-file")
        self.assertIn("tried again", first)
        self.assertIn("r2fs recover, entry", last)
        self.assertIn("Disk quota exceeded", last)

    def test_an_fsync_that_failed_and_a_close_that_did_not(self):
        m = self.mount("--deadline", "1")
        m.expected_errors = True
        self.server.faults("op=PUT action=status:403")
        with open(f"{m.path}/the-file", "w") as f:
            f.write("x")
            f.flush()
            for _ in range(3):
                with self.assertRaises(PermissionError):
                    os.fsync(f.fileno())
            self.server.faults("")
        self.assertEqual(len(self.lines(m, "the-file", " ERROR ")), 1)
        self.assertEqual(len(self.lines(m, "the-file", "is stored")), 1)

    def test_a_passing_trouble_is_not_seen(self):
        m = self.mount()
        for i, rule in enumerate(("op=PUT count=1 action=status:503",
                                  "op=PUT count=1 action=status:500",
                                  "op=PUT count=1 action=lost",
                                  "op=PUT count=1 action=cut:0")):
            self.server.faults(rule)
            with open(f"{m.path}/f{i}", "w") as f:
                f.write("content")
            body = self.server.client().get_object(
                Bucket=BUCKET, Key=f"f{i}")["Body"].read()
            self.assertEqual(body, b"content")


if __name__ == "__main__":
    unittest.main()
