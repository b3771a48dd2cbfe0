"""Removing: how many requests it costs, when R2 has it, and what becomes of it
when R2 fails or the daemon dies."""

import errno
import os
import threading
import time
import unittest

from harness import BUCKET, R2FS, Case, run, wait_until


class Removing(Case):
    def setUp(self):
        super().setUp()
        self.s3 = self.server.client()

    def keys(self, prefix=""):
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=prefix)
        return sorted(o["Key"] for p in pages for o in p.get("Contents", []))

    def fill(self, *names):
        for name in names:
            self.server.put(name, b"x" * 10)

    def sent(self):
        return {k: v["sent"] for k, v in self.m.stats()["requests"].items()
                if isinstance(v, dict) and "sent" in v and v["sent"]}

    def counted(self, fn):
        before = self.sent()
        fn()
        after = self.sent()
        return {k: n - before.get(k, 0) for k, n in after.items()
                if n != before.get(k, 0)}

    def recover_list(self):
        return run(R2FS, "recover", "list", self.m.path).stdout

    def burst(self, *names):
        """Removes names as the last of a row, so that they are gathered."""
        for i in range(4):
            name = f"{self.m.path}/burst{i}"
            open(name, "w").close()
        for i in range(4):
            os.unlink(f"{self.m.path}/burst{i}")
        for name in names:
            os.unlink(f"{self.m.path}/{name}")


class Counts(Removing):
    def test_a_tree(self):
        names = [f"t/a{i % 10}/b{i % 40}/f{i}" for i in range(2000)]
        self.fill(*names)
        self.m = self.mount()

        def remove():
            run("rm", "-rf", f"{self.m.path}/t")
            fd = os.open(self.m.path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)

        n = self.counted(remove)
        self.assertEqual(self.keys(), [])
        # one listing for each of the 51 folders; those of the root and t are
        # asked for by name too
        self.assertLessEqual(n.pop("LIST"), 53)
        self.assertLessEqual(n.pop("DELETE", 0), 6)
        self.assertLessEqual(n.pop("DELETE_MANY"), 8)
        self.assertLessEqual(n.pop("GET", 0), 2)
        self.assertEqual(n, {})
        self.assertEqual(os.listdir(self.m.path), [])

    def test_one_is_gone_when_the_call_returns(self):
        self.fill("a", "b")
        self.m = self.mount()
        os.unlink(f"{self.m.path}/a")
        self.assertEqual(self.keys(), ["b"])
        os.unlink(f"{self.m.path}/b")
        self.assertEqual(self.keys(), [])


class Folders(Removing):
    """rmdir says the truth of what others put into a folder."""

    def test_made_here_and_filled_by_another(self):
        self.m = self.mount()
        os.mkdir(f"{self.m.path}/d")
        self.fill("d/x")
        with self.assertRaises(OSError) as e:
            os.rmdir(f"{self.m.path}/d")
        self.assertEqual(e.exception.errno, errno.ENOTEMPTY)
        self.assertEqual(self.keys(), ["d/", "d/x"])
        self.assertEqual(os.listdir(f"{self.m.path}/d"), ["x"])
        run("rm", "-r", f"{self.m.path}/d")
        self.assertEqual(self.keys(), [])

    def test_listed_here_and_filled_by_another(self):
        self.fill("d/")
        self.m = self.mount()
        self.assertEqual(os.listdir(f"{self.m.path}/d"), [])
        os.mkdir(f"{self.m.path}/e")
        self.fill("d/x")
        for fn in (lambda: os.rmdir(f"{self.m.path}/d"),
                   lambda: os.rename(f"{self.m.path}/e", f"{self.m.path}/d")):
            with self.assertRaises(OSError) as e:
                fn()
            self.assertEqual(e.exception.errno, errno.ENOTEMPTY)

    def test_one_asks(self):
        self.m = self.mount()
        os.listdir(self.m.path)

        def make_and_remove():
            os.mkdir(f"{self.m.path}/d")
            os.rmdir(f"{self.m.path}/d")

        self.assertEqual(self.counted(make_and_remove),
                         {"PUT": 1, "LIST": 1, "DELETE": 1})
        os.mkdir(f"{self.m.path}/d")
        with open(f"{self.m.path}/d/f", "w") as f:
            f.write("x")

        def not_empty():
            with self.assertRaises(OSError):
                os.rmdir(f"{self.m.path}/d")

        self.assertEqual(self.counted(not_empty), {})

    def test_of_many_the_first_ask(self):
        self.fill(*[f"t/d{i:02}/f" for i in range(50)])
        self.m = self.mount("--negative-ttl", "60")
        for root, _, _ in os.walk(f"{self.m.path}/t"):
            os.listdir(root)
        self.server.latency(250)

        def remove():
            for i in range(50):
                os.unlink(f"{self.m.path}/t/d{i:02}/f")
                os.rmdir(f"{self.m.path}/t/d{i:02}")

        n = self.counted(remove)
        self.assertEqual(n.pop("LIST"), 3)
        self.assertEqual(n.pop("DELETE"), 4)
        self.m.unmount()
        self.assertEqual(self.keys(), [])


class Order(Removing):
    """Whoever needs to know waits for what is gathered."""

    def setUp(self):
        super().setUp()
        self.names = [f"d/f{i}" for i in range(30)]
        self.fill(*self.names)
        self.m = self.mount()
        os.listdir(f"{self.m.path}/d")

    def test_made_again(self):
        self.burst(*self.names)
        for name in self.names:
            with open(f"{self.m.path}/{name}", "w") as f:
                f.write("new")
        time.sleep(1.5)
        self.assertEqual(self.keys(), sorted(self.names))
        body = self.s3.get_object(Bucket=BUCKET, Key="d/f7")["Body"].read()
        self.assertEqual(body, b"new")

    def test_renamed_onto(self):
        with open(f"{self.m.path}/other", "w") as f:
            f.write("y")
        self.burst(*self.names)
        os.rename(f"{self.m.path}/other", f"{self.m.path}/d/f29")
        time.sleep(1.5)
        self.assertEqual(self.keys(), ["d/f29"])

    def test_listing_and_folder(self):
        self.burst(*self.names)
        self.assertEqual(os.listdir(f"{self.m.path}/d"), [])
        os.rmdir(f"{self.m.path}/d")
        self.assertEqual(os.listdir(self.m.path), [])
        os.mkdir(f"{self.m.path}/d")
        time.sleep(1.5)
        self.assertEqual(self.keys(), ["d/"])
        self.assertEqual(os.listdir(f"{self.m.path}/d"), [])

    def test_fsync_of_the_folder(self):
        fd = os.open(f"{self.m.path}/d", os.O_RDONLY)
        self.burst(*self.names)
        os.fsync(fd)
        os.close(fd)
        self.assertEqual(self.keys(), [])

    def test_umount_waits(self):
        self.server.latency(300)
        self.burst(*self.names)
        self.m.unmount()
        self.server.latency(0)
        self.assertEqual(self.keys(), [])


class Trouble(Removing):
    def setUp(self):
        super().setUp()
        self.names = [f"d/f{i}" for i in range(30)]
        self.fill(*self.names)
        self.m = self.mount("--deadline", "3")
        self.m.expected_errors = True
        os.listdir(f"{self.m.path}/d")

    def test_refused_keys_are_back(self):
        self.server.faults("op=DELETEKEY key=d/f7 action=status:403\n"
                           "op=DELETE key=d/f7 action=status:403\n")
        self.burst(*self.names)
        wait_until(lambda: self.keys("d/") == ["d/f7"])
        wait_until(lambda: os.listdir(f"{self.m.path}/d") == ["f7"])
        with open(f"{self.m.path}/d/f7", "rb") as f:
            self.assertEqual(f.read(), b"x" * 10)
        with open(self.m.log) as f:
            self.assertIn("d/f7 could not be removed", f.read())

    def test_a_key_that_fails_once(self):
        self.server.faults("op=DELETEKEY key=d/f?7 count=2 action=status:500\n")
        self.burst(*self.names)
        wait_until(lambda: self.keys("d/") == [])
        self.assertEqual(os.listdir(f"{self.m.path}/d"), [])

    def test_a_crash_between(self):
        self.server.faults("op=DELETES action=drop\n")
        threading.Thread(target=self.burst, args=self.names,
                         daemon=True).start()
        wait_until(lambda: self.recover_list().count("to be removed") == 30)
        self.m.crash()
        self.server.faults("")
        self.assertEqual(len(self.keys("d/")), 30)
        # another writer's, since
        self.server.put("d/f3", b"newer")
        self.m.start()
        self.assertNotIn("f5", os.listdir(f"{self.m.path}/d"))
        wait_until(lambda: self.keys("d/") == ["d/f3"])
        wait_until(lambda: os.listdir(f"{self.m.path}/d") == ["f3"])

    def test_no_answer_for_a_while(self):
        self.server.faults("op=DELETES action=drop\n")
        self.burst(*self.names)
        self.assertIn("to be removed", self.recover_list())
        time.sleep(4)
        self.assertIn("to be removed", self.recover_list())
        self.server.faults("")
        wait_until(lambda: self.keys("d/") == [])
        self.assertEqual(os.listdir(f"{self.m.path}/d"), [])
        self.assertIn("empty", self.recover_list())


if __name__ == "__main__":
    unittest.main()
