"""What a mount leaves in its journal, and what the next one makes of it."""

import contextlib
import ctypes
import glob
import mmap
import os
import struct
import subprocess
import sys
import threading
import time
import unittest

from harness import BUCKET, R2FS, Case, Server, run, wait_until


class Journal(Case):
    def setUp(self):
        super().setUp()
        self.s3 = self.server.client()

    def mount(self, *options, **kw):
        m = super().mount(*options, **kw)
        m.expected_errors = True
        return m

    def body(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def keys(self):
        return [o["Key"] for o in self.s3.list_objects_v2(
            Bucket=BUCKET).get("Contents", [])]

    def entries(self, m):
        lines = run(R2FS, "recover", "list", m.path).stdout.splitlines()
        return [line.split() for line in lines if "empty" not in line]

    def failed(self, m, key):
        return any(e[1] == "failed" and e[4] == key for e in self.entries(m))

    def settled(self, m):
        wait_until(lambda: not any(e[1] == "owed" for e in self.entries(m)))

    def counted(self, fn):
        before = self.server.stats()["ops"]
        fn()
        after = self.server.stats()["ops"]
        return {k: n - before.get(k, 0) for k, n in after.items()
                if n != before.get(k, 0)}

    def write(self, m, name, text, mode="w"):
        with open(f"{m.path}/{name}", mode) as f:
            f.write(text)


class Resumed(Journal):
    def interrupted(self, m, name, text, mode="w"):
        self.server.faults(f"op=PUT key={name} action=drop")
        self.write(m, name, text, mode)
        m.crash()
        self.server.faults("")

    def test_a_newer_version_of_another_stays(self):
        self.server.put("f", b"base")
        m = self.mount("--writeback")
        m.read("f")
        for name, mode in (("f", "w"), ("new", "w"), ("own", "x")):
            with self.subTest(name):
                self.interrupted(m, name, "ours", mode)
                self.server.put(name, b"theirs")
                time.sleep(2.5)
                m.start()
                self.settled(m)
                self.assertEqual(self.body(name), b"theirs")
                self.assertTrue(self.failed(m, name))
                self.assertEqual(m.read(name), b"theirs")

    def test_what_another_removed_is_stored(self):
        self.server.put("f", b"base")
        m = self.mount("--writeback")
        m.read("f")
        self.interrupted(m, "f", "ours")
        self.s3.delete_object(Bucket=BUCKET, Key="f")
        m.start()
        self.settled(m)
        self.assertEqual(self.body("f"), b"ours")

    def test_its_own_object_is_no_conflict(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT action=delay:1500 key=f")
        self.write(m, "f", "ours")
        wait_until(lambda: m.stats()["requests"]["PUT"]["sent"])
        m.crash()
        wait_until(lambda: self.keys() == ["f"])
        self.server.faults("")
        m.start()
        self.settled(m)
        self.assertEqual(self.entries(m), [])
        self.assertEqual(self.body("f"), b"ours")

    def test_its_own_upload_in_parts_is_no_conflict(self):
        m = self.mount("--writeback", "--part-size", "5M")
        self.server.faults("op=COMPLETE action=delay:3000")
        self.write(m, "f", "x" * (40 << 20))
        wait_until(lambda: m.stats()["requests"]["MPU_COMPLETE"]["sent"])
        m.crash()
        wait_until(lambda: self.keys() == ["f"])
        self.server.faults("")
        before = self.server.stats()["ops"]
        m.start()
        self.settled(m)
        after = self.server.stats()["ops"]
        self.assertEqual(self.entries(m), [])
        self.assertEqual(len(self.body("f")), 40 << 20)
        for op in ("CREATE", "PART", "PUT"):
            self.assertEqual(after[op], before[op], op)

    def test_the_content_before_is_no_conflict(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT action=delay:1000 key=f")
        self.write(m, "f", "first")
        wait_until(lambda: m.stats()["requests"]["PUT"]["sent"])
        self.server.faults("")
        f = open(f"{m.path}/f", "w")
        f.write("second")
        f.flush()
        os.fsync(f.fileno())
        self.server.faults("op=PUT key=f action=drop")
        wait_until(lambda: self.keys() == ["f"])
        wait_until(lambda: m.stats()["requests"]["PUT"]["finished"])
        time.sleep(0.1)
        m.crash()
        self.server.faults("")
        with self.assertRaises(OSError):
            f.close()
        m.start()
        self.settled(m)
        self.assertEqual(self.entries(m), [])
        self.assertEqual(self.body("f"), b"second")

    def test_of_two_versions_the_newer_is_stored(self):
        for first, second in (("f", "g"), ("g", "f")):
            with self.subTest(first):
                m = self.mount("--writeback")
                self.server.faults("op=PUT action=drop")
                for name in (first, second):
                    self.write(m, name, f"of {name}")
                (entry,) = [e for e in self.entries(m) if e[4] == "f"]
                stage = os.path.dirname(
                    glob.glob(f"{m.cache}/**/*.rec", recursive=True)[0])
                name = f"{stage}/{int(entry[0]):016x}"
                saved = {p: open(p, "rb").read()
                         for p in (name, name + ".rec")}
                os.rename(f"{m.path}/g", f"{m.path}/f")
                m.crash()
                for path, content in saved.items():
                    with open(path, "wb") as f:
                        f.write(content)
                self.server.faults("")
                m.start()
                self.settled(m)
                self.assertEqual(self.body("f"), b"of g")
                self.assertTrue(self.failed(m, "f"))
                m.unmount()


class Unheard(Journal):
    """R2 does what it is asked for, and its answer does not come in time."""

    def late(self, m, op="PUT", ms=4000):
        self.server.faults(f"op={op} key=f count=1 action=delay:{ms}")
        sent = {"PUT": "PUT", "COMPLETE": "MPU_COMPLETE"}[op]
        return lambda: wait_until(
            lambda: m.stats()["requests"][sent]["sent"])

    def arrived(self, m):
        wait_until(lambda: "f" in self.keys())
        self.settled(m)
        self.assertEqual(self.entries(m), [])

    def test_written_on_meanwhile(self):
        for there in (False, True):
            with self.subTest(there):
                if there:
                    self.server.put("f", b"base")
                m = self.mount("--writeback", "--deadline", "2")
                on_its_way = self.late(m)
                self.write(m, "f", "one", "a")
                on_its_way()
                time.sleep(2.3)
                self.server.faults("op=PUT action=status:503")
                self.write(m, "f", " two", "a")
                time.sleep(2.5)
                self.server.faults("")
                self.settled(m)
                self.assertEqual(self.entries(m), [])
                want = b"base" * there + b"one two"
                self.assertEqual(self.body("f"), want)
                self.assertEqual(m.read("f"), want)
                m.unmount()
                self.s3.delete_object(Bucket=BUCKET, Key="f")

    def test_fsync_again(self):
        self.server.put("f", b"base")
        m = self.mount("--deadline", "2")
        self.late(m)
        with open(f"{m.path}/f", "r+b", buffering=0) as f:
            f.write(b"B")
            with self.assertRaises(TimeoutError):
                os.fsync(f.fileno())
            wait_until(lambda: self.body("f") == b"Base")
            os.fsync(f.fileno())
            f.write(b"A")
        self.assertEqual(self.body("f"), b"BAse")
        self.assertEqual(self.entries(m), [])

    def test_in_parts(self):
        m = self.mount("--writeback", "--deadline", "2", "--part-size", "5M")
        on_its_way = self.late(m, "COMPLETE", 13000)
        self.write(m, "f", "x" * (40 << 20))
        on_its_way()
        self.server.faults("op=HEAD action=status:503")
        wait_until(lambda: self.keys() == ["f"])
        self.server.faults("")
        self.arrived(m)
        ops = self.server.stats()["ops"]
        self.assertEqual((ops["CREATE"], ops["PART"], ops["PUT"]), (1, 8, 0))

    def test_unlinked(self):
        m = self.mount("--writeback", "--deadline", "2")
        on_its_way = self.late(m)
        self.write(m, "f", "one")
        on_its_way()
        time.sleep(2.3)
        self.server.faults("op=PUT action=status:503")
        wait_until(lambda: self.keys() == ["f"])
        os.unlink(f"{m.path}/f")
        m.unmount()
        self.assertEqual(self.keys(), [])

    def test_of_a_program_that_was_killed(self):
        m = self.mount()
        on_its_way = self.late(m)
        p = subprocess.Popen([sys.executable, "-c", "import os\n"
                              "fd = os.open('f', os.O_CREAT | os.O_WRONLY)\n"
                              "os.write(fd, b'one')\n"
                              "os.close(fd)"], cwd=m.path)
        on_its_way()
        p.kill()
        p.wait()
        self.arrived(m)
        self.assertEqual(self.body("f"), b"one")


class RefusedWhileOpen(Journal):
    """What R2 refuses of a file that is still being written."""

    def written(self, m):
        self.server.faults("op=PUT action=status:403")
        f = open(f"{m.path}/f", "wb", buffering=0)
        f.write(b"A" * 1000)
        os.fsync(f.fileno())
        wait_until(lambda: "could not be stored" in open(m.log).read())
        time.sleep(0.1)
        f.write(b"C" * 10)
        return f

    def test_it_stays_whole(self):
        m = self.mount("--writeback")
        f = self.written(m)
        self.server.faults("")
        f.close()
        m.unmount()
        self.assertEqual(self.body("f"), b"A" * 1000 + b"C" * 10)

    def test_close_says_so(self):
        m = self.mount("--writeback")
        f = self.written(m)
        with self.assertRaises(PermissionError):
            f.close()
        wait_until(lambda: self.failed(m, "f"))
        self.server.faults("")
        (entry,) = self.entries(m)
        self.assertEqual(entry[2], "1010")
        run(R2FS, "recover", "retry", m.path, entry[0])
        self.assertEqual(self.body("f"), b"A" * 1000 + b"C" * 10)

    def test_what_the_journal_does_not_take_is_not_let_go_of(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT action=delay:500\n"
                           "op=PUT action=status:403")
        self.write(m, "f", "content")
        (record,) = glob.glob(f"{m.cache}/**/*.rec", recursive=True)
        os.unlink(record)
        os.mkdir(record)
        wait_until(lambda: "nor be kept" in open(m.log).read())
        self.assertEqual(m.read("f"), b"content")
        os.rmdir(record)
        self.server.faults("")
        wait_until(lambda: self.keys() == ["f"])
        self.assertEqual(self.body("f"), b"content")


class Watch:
    """What happens to the entries of a folder, in its order (inotify)."""

    MOVED_TO, DELETE = 0x80, 0x200

    def __init__(self, folder):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK)
        if libc.inotify_add_watch(self.fd, folder.encode(),
                                  self.MOVED_TO | self.DELETE) < 0:
            raise OSError(ctypes.get_errno(), folder)

    def events(self):
        found, data = [], os.read(self.fd, 65536)
        os.close(self.fd)
        while data:
            _, mask, _, size = struct.unpack_from("iIII", data)
            found.append((mask, data[16:16 + size].rstrip(b"\0").decode()))
            data = data[16 + size:]
        return found


class Replaced(Journal):
    """A rename over a file whose content is promised, and not in R2 yet."""

    def both(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT action=drop")
        self.write(m, "target", "old")
        self.write(m, "f", "newer")
        records = {}
        for record in glob.glob(f"{m.cache}/**/*.rec", recursive=True):
            with open(record) as f:
                records["f" if "key f\n" in f.read() else "target"] = record
        self.assertEqual(len(records), 2)
        return m, records

    def test_one_of_both_is_promised_at_every_moment(self):
        m, records = self.both()
        watch = Watch(os.path.dirname(records["f"]))
        os.rename(f"{m.path}/f", f"{m.path}/target")
        events = watch.events()
        names = {k: os.path.basename(path) for k, path in records.items()}
        self.assertLess(events.index((Watch.MOVED_TO, names["f"])),
                        events.index((Watch.DELETE, names["target"])))
        m.crash()
        self.server.faults("")
        m.start()
        self.settled(m)
        self.assertEqual(self.entries(m), [])
        self.assertEqual(self.keys(), ["target"])
        self.assertEqual(self.body("target"), b"newer")

    def test_a_crash_between_leaves_the_newer(self):
        m, records = self.both()
        data = records["target"][:-len(".rec")]
        for path in data, records["target"]:
            os.link(path, path + "-kept")
        os.rename(f"{m.path}/f", f"{m.path}/target")
        m.crash()
        for path in data, records["target"]:
            os.rename(path + "-kept", path)
        self.server.faults("")
        m.start()
        self.settled(m)
        self.assertEqual(self.body("target"), b"newer")
        self.assertTrue(self.failed(m, "target"))
        self.assertEqual(self.keys(), ["target"])

    def without_record(self, record):
        os.unlink(record)
        os.mkdir(record)

    def test_r2_has_what_the_journal_does_not_take(self):
        m, records = self.both()
        self.without_record(records["f"])
        self.server.faults("")
        self.server.faults("op=PUT key=f action=drop")
        os.rename(f"{m.path}/f", f"{m.path}/target")
        self.assertEqual(self.body("target"), b"newer")
        self.server.faults("")

    def test_neither_takes_it(self):
        m, records = self.both()
        self.without_record(records["f"])
        self.server.faults("op=PUT action=status:403")
        with self.assertRaises(OSError):
            os.rename(f"{m.path}/f", f"{m.path}/target")
        self.assertEqual(m.read("target"), b"old")
        self.assertEqual(m.read("f"), b"newer")
        os.rmdir(records["f"])
        self.server.faults("")
        m.unmount()
        self.assertEqual(self.body("target"), b"old")
        self.assertEqual(self.body("f"), b"newer")


class Unheard(Journal):
    """Of a store that got no answer: R2 may have the file, under a name that
    it loses now."""

    def unheard(self):
        m = self.mount("--writeback", "--deadline", "2")
        self.server.faults("op=PUT key=f count=1 action=lost\n"
                           "op=PUT action=drop\nop=HEAD action=drop")
        self.write(m, "f", "content")
        wait_until(lambda: self.server.stats()["ops"]["PUT"] > 1)
        self.assertEqual(self.keys(), ["f"])
        return m

    def test_a_rename_leaves_no_other(self):
        m = self.unheard()
        os.rename(f"{m.path}/f", f"{m.path}/g")
        self.server.faults("")
        wait_until(lambda: self.keys() == ["g"])
        self.assertEqual(self.body("g"), b"content")
        self.assertEqual(os.listdir(m.path), ["g"])

    def test_what_has_the_name_now_stays(self):
        m = self.unheard()
        stat = os.stat(f"{m.path}/f")
        os.rename(f"{m.path}/f", f"{m.path}/g")
        self.write(m, "f", "another")
        os.utime(f"{m.path}/f", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        self.server.faults("")
        m.unmount()
        self.assertEqual(self.keys(), ["f", "g"])
        self.assertEqual(self.body("f"), b"another")
        self.assertEqual(self.body("g"), b"content")


class Linked(Journal):
    def test_the_cache_has_what_r2_has(self):
        m = self.mount()
        self.write(m, "x.tmp", "stored")
        with open(f"{m.path}/x.tmp", "r+b", buffering=0) as f:
            mapping = mmap.mmap(f.fileno(), 0)
            self.server.faults("op=PUT key=y action=delay:1500")
            t = threading.Thread(target=os.link, args=(
                f"{m.path}/x.tmp", f"{m.path}/y"))
            t.start()
            wait_until(lambda: m.stats()["requests"]["PUT"]["sent"])
            time.sleep(0.3)
            mapping[:] = b"change"
            ctypes.CDLL(None).sync_file_range(
                f.fileno(), ctypes.c_long(0), ctypes.c_long(0), 7)
            t.join()
            mapping.close()
        self.assertEqual(self.body("y"), b"stored")
        self.assertEqual(m.read("y"), b"stored")
        self.assertEqual(m.read("x.tmp"), b"change")

    def test_the_cache_has_it_without_a_request(self):
        m = self.mount()
        self.write(m, "x.tmp", "stored")
        os.link(f"{m.path}/x.tmp", f"{m.path}/y")
        self.server.reset()
        self.assertEqual(m.read("y"), b"stored")
        self.assertEqual(self.server.stats()["ops"]["GET"], 0)


class HeldOpen(Journal):
    def test_what_was_closed_does_not_wait_for_the_next_close(self):
        m = self.mount("--writeback")
        self.write(m, "f", "one")
        with open(f"{m.path}/f", "r+b", buffering=0) as f:
            f.write(b"O")
            self.server.reset()
            time.sleep(1)
            self.assertEqual(self.server.stats()["ops"]["PUT"], 0)
            wait_until(lambda: self.keys() == ["f"])
            self.assertEqual(self.body("f"), b"One")
            f.write(b"N")
        m.unmount()
        self.assertEqual(self.body("f"), b"ONe")
        self.assertEqual(self.server.stats()["ops"]["PUT"], 2)


class AtOnce(Journal):
    """Close, and what is done to the name at the same moment."""

    def closed_during(self, m, name, fn):
        f = open(f"{m.path}/{name}", "wb", buffering=0)
        f.write(b"x" * 1000)
        t = threading.Thread(target=f.close)
        t.start()
        fn(f"{m.path}/{name}")
        t.join()

    def test_a_rename_keeps_the_promise(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT action=drop")
        for n in range(60):
            self.closed_during(m, f"a{n}",
                               lambda path: os.rename(path, path + ".b"))
        found = {(e[4], e[1]) for e in self.entries(m)}
        self.server.faults("")
        self.assertEqual(found, {(f"a{n}.b", "owed") for n in range(60)})

    def test_what_was_unlinked_is_not_recorded(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT action=drop")
        for n in range(200):
            self.closed_during(m, "f", os.unlink)
        entries = self.entries(m)
        self.server.faults("")
        self.assertEqual(entries, [])


class Attributes(Journal):
    """Of what is closed: they are sent a moment later, and not lost."""

    def change(self, m, name="f"):
        p = f"{m.path}/{name}"
        os.utime(p, ns=(0, 1234567890123456789))
        os.chmod(p, 0o600)
        if not os.path.isdir(p):
            os.setxattr(p, "user.k", b"v")

    def assert_stored(self, key="f"):
        meta = self.s3.head_object(Bucket=BUCKET, Key=key)["Metadata"]
        self.assertEqual(meta["mtime"], "1234567890.123456789")
        self.assertEqual(int(meta["mode"], 8 if meta["mode"][0] == "0"
                             else 10) & 0o777, 0o600)
        if not key.endswith("/"):
            self.assertIn("xattr", meta)

    def made(self, *options):
        self.server.put("f", b"content")
        m = self.mount(*options)
        os.mkdir(f"{m.path}/d")
        m.read("f")
        return m

    def again(self, m):
        """One request each: no byte of the content travels."""
        self.server.reset()
        m.start()
        self.assertEqual(os.stat(f"{m.path}/f").st_mtime_ns,
                         1234567890123456789)
        self.assertEqual(os.getxattr(f"{m.path}/f", "user.k"), b"v")
        self.assertEqual(os.stat(f"{m.path}/d").st_mode & 0o777, 0o600)
        m.unmount()
        ops = self.server.stats()["ops"]
        self.assertEqual((ops["COPY"], ops["PUT"], ops["GET"]), (1, 1, 0))
        self.assert_stored("f")
        self.assert_stored("d/")
        self.assertEqual(self.body("f"), b"content")
        self.server.reset()
        m.start()
        m.unmount()
        ops = self.server.stats()["ops"]
        self.assertEqual((ops["COPY"], ops["PUT"]), (0, 0))

    def test_killed_before_they_were_sent(self):
        for options in ((), ("--writeback",)):
            with self.subTest(options):
                m = self.made(*options)
                self.change(m)
                self.change(m, "d")
                m.crash()
                self.again(m)
                m.unmount()
                self.s3.delete_object(Bucket=BUCKET, Key="d/")

    def test_left_behind(self):
        m = self.made("--deadline", "2")
        self.server.faults("op=COPY action=drop\nop=PUT action=drop")
        self.change(m)
        self.change(m, "d")
        time.sleep(1)
        run(R2FS, "umount", "--force", m.path)
        m.mounted = False
        wait_until(lambda: not os.path.exists(f"/proc/{m.pid}"))
        self.server.faults("")
        self.again(m)

    def test_with_content_that_is_owed(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT action=drop")
        self.write(m, "f", "content")
        self.change(m)
        m.crash()
        self.server.faults("")
        m.start()
        m.unmount()
        self.assert_stored()
        self.assertEqual(self.body("f"), b"content")

    def test_while_others_are_sent(self):
        m = self.made()
        self.server.faults("op=COPY action=delay:1500\n"
                           "op=PUT action=delay:1500")
        for name in "fd":
            os.chmod(f"{m.path}/{name}", 0o640)
        time.sleep(0.8)
        self.change(m)
        self.change(m, "d")
        time.sleep(4)
        self.assert_stored("f")
        self.assert_stored("d/")

    def test_another_version_stays(self):
        m = self.made("--writeback")
        self.change(m)
        m.crash()
        self.server.put("f", b"theirs")
        m.start()
        self.settled(m)
        self.assertEqual(self.body("f"), b"theirs")
        self.assertNotIn("xattr", self.s3.head_object(
            Bucket=BUCKET, Key="f")["Metadata"])

    def test_of_what_was_removed(self):
        for options in ((), ("--writeback",)):
            with self.subTest(options):
                m = self.made(*options)
                self.server.faults("op=COPY action=drop")
                self.change(m)
                self.change(m, "d")
                fd = os.open(f"{m.path}/f", os.O_RDONLY)
                os.unlink(f"{m.path}/f")
                os.rmdir(f"{m.path}/d")
                m.crash()
                with contextlib.suppress(OSError):
                    os.close(fd)
                self.server.faults("")
                m.start()
                time.sleep(1)
                m.unmount()
                self.assertEqual(self.keys(), [])

    def test_bytes_written_since_are_kept(self):
        m = self.made()
        self.change(m)
        fd = os.open(f"{m.path}/f", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b" and more")
        m.crash()
        with contextlib.suppress(OSError):
            os.close(fd)
        m.start()
        self.assertTrue(self.failed(m, "f"))


class Uploads(Journal):
    """A multipart upload of a mount that died is not left in R2."""

    def uploads(self):
        return len(self.s3.list_multipart_uploads(Bucket=BUCKET).get(
            "Uploads", []))

    def interrupted(self, m, *command):
        self.server.faults("op=PART action=delay:3000\n"
                           "op=PARTCOPY action=delay:3000")
        p = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(lambda: self.uploads() == 1)
        m.crash()
        p.wait(60)
        self.server.faults("")

    def test_of_a_file_that_grew(self):
        m = self.mount("--part-size", "5M")
        for command in (("truncate", "-s", "100M"),
                        ("fallocate", "-l", "100M")):
            with self.subTest(command):
                self.interrupted(m, *command, m.path + "/f")
                m.start()
                self.assertEqual(self.uploads(), 0)
                self.assertEqual(self.keys(), [])

    def test_of_a_large_copy(self):
        self.server.stop()
        self.server = Server("--synthetic", "bucket:big/:1:5368709121")
        self.s3 = self.server.client()
        m = self.mount()
        os.listdir(m.path + "/big")
        self.interrupted(m, "mv", m.path + "/big", m.path + "/large")
        self.server.faults("op=PARTCOPY action=status:403")
        m.start()
        self.assertEqual(self.uploads(), 0)
        self.assertEqual(self.entries(m), [])

    def test_of_a_copy_that_was_written_to(self):
        self.server.put("a", b"a" * 300000)
        for options in ((), ("--writeback",)):
            with self.subTest(options):
                m = self.mount(*options)
                m.read("a")
                for more in (b"", b"more"):
                    a = os.open(m.path + "/a", os.O_RDONLY)
                    b = os.open(m.path + "/b", os.O_WRONLY | os.O_CREAT)
                    self.assertEqual(os.copy_file_range(a, b, 300000), 300000)
                    if more:
                        os.pwrite(b, more, 5)
                    m.crash()
                    for fd in (a, b):
                        with contextlib.suppress(OSError):
                            os.close(fd)
                    m.start()
                    self.assertEqual(self.failed(m, "b"), bool(more))
                    m.read("a")
                m.unmount()


class Unwritable(Journal):
    """Nothing is promised that the journal cannot keep."""

    def break_journal(self, m):
        stage, = glob.glob(m.cache + "/*/stage")
        self.broken = [f"{stage}/{i:016x}.{kind}.new" for i in range(1, 30)
                       for kind in ("rec", "attr")]
        for path in self.broken:
            os.mkdir(path)

    def mend_journal(self):
        for path in self.broken:
            os.rmdir(path)

    def test_what_is_closed_is_in_r2(self):
        for options, name in ((("--writeback",), "f"), ((), "x.tmp")):
            with self.subTest(options):
                m = self.mount(*options)
                self.break_journal(m)
                self.write(m, name, "content")
                self.assertEqual(self.body(name), b"content")
                self.server.faults("op=PUT action=status:403")
                with self.assertRaises(OSError):
                    self.write(m, "refused." + name, "content")
                self.server.faults("")
                self.mend_journal()
                m.unmount()

    def test_what_is_renamed_is_in_r2(self):
        m = self.mount("--writeback")
        self.server.faults("op=PUT count=1 action=delay:1000")
        self.write(m, "f.tmp", "content")
        self.break_journal(m)
        os.rename(m.path + "/f.tmp", m.path + "/f")
        m.crash()
        self.mend_journal()
        m.start()
        m.unmount()
        self.assertEqual(self.body("f"), b"content")

    def test_attributes_are_refused(self):
        self.server.put("f", b"content")
        m = self.mount("--writeback")
        os.mkdir(m.path + "/d")
        self.break_journal(m)
        for name in "fd":
            with self.assertRaises(OSError):
                os.chmod(f"{m.path}/{name}", 0o600)
        with self.assertRaises(OSError):
            os.setxattr(m.path + "/f", "user.k", b"v")
        self.mend_journal()


class Clocks(Journal):
    """Whose version is newer, whatever the clock of this machine shows."""

    def test_a_version_of_another_is_a_race(self):
        for skew in (-120, 0, 120):
            with self.subTest(skew):
                self.server.control(f"clock?skew={skew}")
                for name, old in ((f"new{skew}", None), (f"f{skew}", b"base")):
                    if old:
                        self.server.put(name, old)
                    m = self.mount()
                    if old:
                        m.read(name)
                    f = open(f"{m.path}/{name}", "w")
                    f.write("ours")
                    f.flush()
                    self.server.put(name, b"theirs")
                    time.sleep(1.5)
                    with self.assertRaises(OSError):
                        f.close()
                    self.assertEqual(self.body(name), b"theirs")
                    m.unmount()

    def test_old_knowledge_is_none(self):
        for skew in (-120, 0, 120):
            with self.subTest(skew):
                self.server.control(f"clock?skew={skew}")
                self.server.put(f"f{skew}", b"base")
                m = self.mount()
                m.read(f"f{skew}")
                os.listdir(m.path)
                for name in (f"new{skew}", f"f{skew}"):
                    self.server.put(name, b"theirs")
                time.sleep(2.2)
                for name in (f"new{skew}", f"f{skew}"):
                    self.write(m, name, "ours")
                    self.assertEqual(self.body(name), b"ours")
                m.unmount()


if __name__ == "__main__":
    unittest.main()
