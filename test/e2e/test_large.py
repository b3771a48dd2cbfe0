"""Large objects: what moves when little of them changes, and the memory it
takes."""

import hashlib
import os
import shutil
import threading
import time
import unittest

from harness import BUCKET, R2FS, Case, copy_file, run, wait_until

GIB = 1 << 30


class Large(Case):
    limit = 600

    def sent(self, m):
        r = m.stats()["requests"]
        counts = {k: v["sent"] for k, v in r.items()
                  if isinstance(v, dict) and "sent" in v}
        return counts, r["bytes_out"], r["bytes_in"]

    def moved(self, m, fn):
        before, out, back = self.sent(m)
        fn()
        after, out2, back2 = self.sent(m)
        return ({k: after[k] - before[k] for k in after
                 if after[k] != before[k]}, out2 - out, back2 - back)

    def part(self, off, n):
        return self.server.s3.get_object(
            Bucket=BUCKET, Key="big",
            Range=f"bytes={off}-{off + n - 1}")["Body"].read()

    def test_append_and_change_in_5_gib(self):
        self.server.s3 = self.server.client()
        m = self.mount("--deadline", "120")
        p = f"{m.path}/big"
        fd = os.open(p, os.O_CREAT | os.O_RDWR)
        os.ftruncate(fd, 5 * GIB)
        os.pwrite(fd, b"head", 0)
        os.close(fd)

        def append():
            with open(p, "ab") as f:
                f.write(b"x" * 4096)

        n, out, back = self.moved(m, append)
        self.assertLess(out + back, 40 << 20)
        self.assertLessEqual(n["MPU_COPY"], 32)
        self.assertEqual(os.stat(p).st_size, 5 * GIB + 4096)
        self.assertEqual(self.part(5 * GIB - 1, 3), b"\0xx")
        self.assertEqual(self.part(0, 5), b"head\0")

        def change():
            fd = os.open(p, os.O_RDWR)
            os.pwrite(fd, b"MIDDLE", 3 * GIB)
            os.close(fd)

        n, out, back = self.moved(m, change)
        self.assertLess(out + back, 80 << 20)
        self.assertEqual(self.part(3 * GIB - 1, 8), b"\0MIDDLE\0")

    def test_20_gib_with_holes(self):
        """Written as holes and some data; R2 stores the zeros."""
        self.server.s3 = self.server.client()
        m = self.mount("--deadline", "120", "--writeback")
        p = f"{m.path}/big"
        data = {0: b"head", 7 * GIB - 2: b"across", 13 * GIB: b"m" * 70000,
                20 * GIB - 4: b"tail"}

        def write():
            fd = os.open(p, os.O_CREAT | os.O_RDWR)
            os.ftruncate(fd, 20 * GIB)
            for off, text in data.items():
                os.pwrite(fd, text, off)
            self.assertEqual(os.lseek(fd, 100000, os.SEEK_DATA),
                             7 * GIB - 2)
            os.close(fd)
            wait_until(lambda: m.stats()["requests"]["MPU_COMPLETE"][
                "finished"], 500)

        used = shutil.disk_usage(m.dir).used
        n, out, _ = self.moved(m, write)
        # the HEAD: is the key still free, before all is put together
        self.assertEqual(n, {"MPU_CREATE": 1, "MPU_PART": 1280,
                             "HEAD": 1, "MPU_COMPLETE": 1})
        self.assertGreaterEqual(out, 20 * GIB)
        self.assertLess(shutil.disk_usage(m.dir).used - used, GIB)
        head = self.server.s3.head_object(Bucket=BUCKET, Key="big")
        self.assertEqual(head["ContentLength"], 20 * GIB)
        for off, text in data.items():
            self.assertEqual(self.part(off, len(text)), text)
            with open(p, "rb") as f:
                f.seek(off)
                self.assertEqual(f.read(len(text)), text)
        self.assertEqual(self.part(9 * GIB, 3), b"\0\0\0")


class LargeCopies(Case):
    """The kernel asks for less than 4 GiB at once."""

    size = 9 * GIB // 2
    server_options = ("--synthetic", f"{BUCKET}:big/:1:{size}")
    limit = 600

    def setUp(self):
        super().setUp()
        self.m = self.mount("--deadline", "120")
        self.source = f"{self.m.path}/big/f00000000"
        os.listdir(f"{self.m.path}/big")
        os.listdir(self.m.path)

    def counted(self, fn):
        before = self.server.stats()["ops"]
        fn()
        after = self.server.stats()["ops"]
        return {k: after[k] - before[k] for k in after
                if after[k] != before[k] and k != "HEAD"}

    def same(self, off, n):
        a, b = (os.open(p, os.O_RDONLY)
                for p in (self.source, f"{self.m.path}/copy"))
        self.assertEqual(os.pread(a, n, off), os.pread(b, n, off))
        os.close(a)
        os.close(b)

    def test_a_whole_one_is_one_copy(self):
        n = self.counted(lambda: copy_file(self.source,
                                           f"{self.m.path}/copy"))
        self.assertEqual(n, {"COPY": 1})
        self.assertEqual(os.stat(f"{self.m.path}/copy").st_size, self.size)
        self.same(self.size - 1000, 2000)

    def test_the_beginning_alone_is_copied_by_r2_too(self):
        def copy():
            a = os.open(self.source, os.O_RDONLY)
            b = os.open(f"{self.m.path}/copy", os.O_WRONLY | os.O_CREAT)
            self.assertEqual(os.copy_file_range(a, b, GIB + 5), GIB + 5)
            os.close(b)
            os.close(a)

        n = self.counted(copy)
        self.assertEqual(n, {"CREATE": 1, "PARTCOPY": 3, "COMPLETE": 1})
        self.assertLess(self.m.stats()["requests"]["bytes_out"], 4096)
        self.assertEqual(os.stat(f"{self.m.path}/copy").st_size, GIB + 5)
        self.same(GIB - 1000, 1005)


class LargeRename(Case):
    """More than R2 copies by one request."""

    size = 5 * GIB + 5
    server_options = ("--synthetic", f"{BUCKET}:big/:1:{size}")
    limit = 600

    def put(self, s3, key):
        where = {"Bucket": BUCKET, "Key": key}
        where["UploadId"] = s3.create_multipart_upload(
            **where, Metadata={"mtime": "1000.5", "color": "red"},
            ContentType="text/plain")["UploadId"]
        step = 4 * GIB
        parts = [s3.upload_part_copy(
            **where, PartNumber=i + 1,
            CopySource={"Bucket": BUCKET, "Key": "big/f00000000"},
            CopySourceRange=f"bytes={a}-{min(a + step, self.size) - 1}")
            for i, a in enumerate(range(0, self.size, step))]
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": [
            {"PartNumber": i + 1, "ETag": p["CopyPartResult"]["ETag"]}
            for i, p in enumerate(parts)]})

    def test_metadata_stays(self):
        s3 = self.server.client()
        self.put(s3, "d/x")
        m = self.mount("--deadline", "120")
        os.listdir(f"{m.path}/d")
        before = self.server.stats()["ops"]
        os.rename(f"{m.path}/d/x", f"{m.path}/d/y")
        after = self.server.stats()["ops"]
        self.assertEqual(
            {k: n - before[k] for k, n in after.items() if n != before[k]},
            {"HEAD": 2, "CREATE": 1, "PARTCOPY": 11, "COMPLETE": 1,
             "DELETE": 1})
        os.rename(f"{m.path}/d", f"{m.path}/e")
        head = s3.head_object(Bucket=BUCKET, Key="e/y")
        self.assertEqual(head["Metadata"], {"mtime": "1000.5", "color": "red"})
        self.assertEqual(head["ContentType"], "text/plain")
        self.assertEqual(head["ContentLength"], self.size)


class Rewrite(Case):
    """Of a large object that somebody else removes meanwhile."""

    def test_a_base_that_is_gone_is_not_asked_for_again(self):
        self.server.put("big", b"1" * (64 << 20))
        m = self.mount("--writeback", "--part-size", "8M")
        m.expected_errors = True
        fd = os.open(f"{m.path}/big", os.O_RDWR)
        os.pwrite(fd, b"M" * (8 << 20), 0)
        self.server.s3.delete_object(Bucket=BUCKET, Key="big")
        self.server.reset()
        os.close(fd)
        wait_until(lambda: "failed" in run(R2FS, "recover", "list",
                                           m.path).stdout)
        time.sleep(1.5)
        self.assertEqual(self.server.stats()["ops"]["CREATE"], 1)


class Streamed(Case):
    """Metadata of a file whose upload begins while it is written."""

    def write(self, m, name):
        fd = os.open(f"{m.path}/{name}", os.O_CREAT | os.O_WRONLY, 0o644)
        for _ in range(64):
            os.write(fd, b"x" * (1 << 20))
        wait_until(lambda: m.stats()["requests"]["MPU_PART"]["finished"])
        return fd

    def test_attributes_set_before_close(self):
        self.server.s3 = self.server.client()
        m = self.mount()
        fd = self.write(m, "set")
        os.fchmod(fd, 0o600)
        os.setxattr(fd, "user.color", b"blue")
        os.utime(fd, (1000, 1000))
        os.close(fd)
        has = self.server.s3.head_object(Bucket=BUCKET, Key="set")["Metadata"]
        self.assertEqual(has["mode"], str(0o100600))
        self.assertEqual(has["mtime"], "1000.000000000")
        self.assertIn("xattr", has)
        self.assertEqual(self.server.stats()["ops"]["COPY"], 1)
        self.assertEqual(m.read("set"), b"x" * (64 << 20))
        os.close(self.write(m, "plain"))
        m.unmount()
        self.assertEqual(self.server.stats()["ops"]["COPY"], 1)

    def test_attributes_that_fail_at_first(self):
        self.server.s3 = self.server.client()
        m = self.mount("--deadline", "2")
        m.expected_errors = True
        self.server.faults("op=COPY action=status:503")
        fd = self.write(m, "set")
        os.fchmod(fd, 0o600)
        os.close(fd)
        self.server.faults("")
        m.unmount()
        has = self.server.s3.head_object(Bucket=BUCKET, Key="set")["Metadata"]
        self.assertEqual(has["mode"], str(0o100600))
        self.assertEqual(self.server.stats()["ops"]["PART"], 4)
        m.start()
        os.listdir(m.path)
        with open(f"{m.path}/set", "rb") as f:
            self.assertEqual(f.read(), b"x" * (64 << 20))
        self.assertEqual(os.stat(f"{m.path}/set").st_mode, 0o100600)


class Restless(Case):
    server_options = ("--conn-bandwidth", "20000000")

    def closed_while(self, m, write):
        """A file of 40 MiB, which write(fd, n) keeps changing; what it is."""
        fd = os.open(f"{m.path}/big", os.O_CREAT | os.O_RDWR)
        for i in range(40):
            os.pwrite(fd, b"x" * (1 << 20), i << 20)
        done = threading.Event()

        def restless():
            n = 0
            while not done.is_set():
                write(fd, n)
                n += 1

        writer = threading.Thread(target=restless)
        writer.start()
        try:
            self.within(30, lambda: os.close(os.dup(fd)))
        finally:
            done.set()
            writer.join()
        self.assertLessEqual(self.server.stats()["ops"]["PART"], 3 + 4)
        want = os.pread(fd, 40 << 20, 0)
        os.close(fd)
        self.server.s3 = self.server.client()
        body = self.server.s3.get_object(Bucket=BUCKET, Key="big")["Body"]
        self.assertEqual(hashlib.md5(body.read()).digest(),
                         hashlib.md5(want).digest())

    def test_close_ends_while_another_handle_writes(self):
        def write(fd, n):
            os.pwrite(fd, b"%8d" % n, 39 << 20)
            time.sleep(0.02)

        self.closed_while(self.mount(), write)

    def test_close_ends_while_another_handle_writes_everywhere(self):
        def write(fd, n):
            for i in range(40):
                os.pwrite(fd, b"%8d" % n, i << 20)
            time.sleep(0.005)

        self.closed_while(self.mount(), write)


if __name__ == "__main__":
    unittest.main()
