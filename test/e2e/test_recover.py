"""What is left of a file whose store lost against another client: what was
written, always; of the version it was made from, what is still to be had."""

import os
import time
import unittest

from harness import BUCKET, R2FS, Case, run, wait_until

MB = 1 << 20


class Lost(Case):
    def setUp(self):
        super().setUp()
        self.s3 = self.server.client()

    def body(self, key="f"):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def lose(self, size, cached):
        """Appends to an object that another client replaces meanwhile; gives
        the entry of the journal and the bytes there were."""
        old = os.urandom(size)
        self.server.put("f", old)
        self.m = self.mount()
        self.m.expected_errors = True
        os.listdir(self.m.path)
        if cached:
            self.m.read("f")
            time.sleep(0.5)
        f = open(f"{self.m.path}/f", "ab")
        f.write(b"precious")
        f.flush()
        self.server.put("f", b"theirs")
        with self.assertRaises(OSError):
            f.close()
        wait_until(lambda: "failed" in self.recover("list").stdout)
        return self.recover("list").stdout.split()[0], old

    def recover(self, command, *args, check=True):
        return run(R2FS, "recover", *command.split(), self.m.path, *args,
                   check=check)

    def export(self, entry):
        out = os.path.join(self.m.dir, "out")
        p = self.recover("export", entry, out, check=False)
        with open(out, "rb") as f:
            return p, f.read()

    def log(self):
        with open(self.m.log) as f:
            return f.read()

    def partial(self, size):
        entry, _ = self.lose(size, cached=False)
        self.assertIn(f"{size} bytes", self.log())
        p, out = self.export(entry)
        self.assertEqual(p.returncode, 1)
        self.assertIn(f"bytes 0-{size - 1}:", p.stderr)
        self.assertEqual(len(out), size + 8)
        self.assertEqual(out[size:], b"precious")
        self.assertEqual(out[:size].count(0), size)
        stat = os.stat(os.path.join(self.m.dir, "out"))
        self.assertLess(stat.st_blocks * 512, MB)
        p = self.recover("retry", entry, check=False)
        self.assertIn("--force", p.stderr)
        p = self.recover("retry --force", entry, check=False)
        self.assertEqual(p.returncode, 1)
        self.assertIn("export", p.stderr)
        self.assertNotIn("--force", p.stderr)
        self.assertEqual(self.body(), b"theirs")
        self.recover("drop", entry)

    def whole(self, size):
        entry, old = self.lose(size, cached=True)
        p, out = self.export(entry)
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        self.assertEqual(out, old + b"precious")
        self.recover("retry --force", entry)
        self.assertEqual(self.body(), old + b"precious")

    def test_what_was_not_cached_is_missing(self):
        self.partial(12 * MB)

    def test_what_was_not_cached_of_a_large_one_is_missing(self):
        self.partial(40 * MB)

    def test_what_was_cached_is_kept(self):
        self.whole(12 * MB)

    def test_what_was_cached_of_a_large_one_is_kept(self):
        self.whole(40 * MB)

    def test_of_a_refused_store_nothing_is_missing(self):
        old = os.urandom(12 * MB)
        self.server.put("f", old)
        self.m = self.mount("--deadline", "2")
        self.m.expected_errors = True
        os.listdir(self.m.path)
        self.server.faults("op=PUT action=status:403")
        with self.assertRaises(PermissionError):
            with open(f"{self.m.path}/f", "ab") as f:
                f.write(b"precious")
        wait_until(lambda: "failed" in self.recover("list").stdout)
        entry = self.recover("list").stdout.split()[0]
        p, out = self.export(entry)
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        self.assertEqual(out, old + b"precious")

    def test_it_moves_along_with_its_folder(self):
        self.server.put("d/sub/other", b"other")
        self.server.put("dd/f", b"another folder")
        self.m = self.mount()
        self.m.expected_errors = True
        self.server.faults("op=PUT action=status:403")
        for name in "d/sub/f", "dd/f":
            with self.assertRaises(PermissionError):
                with open(f"{self.m.path}/{name}", "w") as f:
                    f.write("precious")
        self.server.faults("")
        wait_until(lambda: self.recover("list").stdout.count("failed") == 2)
        os.rename(f"{self.m.path}/d", f"{self.m.path}/e")
        entries = {line.split()[4]: line.split()[0]
                   for line in self.recover("list").stdout.splitlines()}
        self.assertEqual(sorted(entries), ["dd/f", "e/sub/f"])
        self.recover("retry", entries["e/sub/f"])
        self.assertEqual(self.body("e/sub/f"), b"precious")
        self.assertEqual(self.m.read("e/sub/f"), b"precious")
        self.assertEqual(sorted(os.listdir(self.m.path)), ["dd", "e"])


if __name__ == "__main__":
    unittest.main()
