"""What POSIX says of times, links, and files in use, on a mount over r2sim."""

import os
import threading
import unittest

from harness import BUCKET, Case


class Posix(Case):
    options = ()

    def setUp(self):
        super().setUp()
        self.m = self.mount(*self.options)
        self.s3 = self.server.client()

    def path(self, name):
        return os.path.join(self.m.path, name)

    def body(self, key):
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def make(self, name, data=b""):
        with open(self.path(name), "wb") as f:
            f.write(data)
        return self.path(name)


class InUse(Posix):
    def test_close_while_another_thread_writes(self):
        size, block, errors = 8 << 20, 64 << 10, []
        fd = os.open(self.path("f"), os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, os.urandom(size), 0)
        end = threading.Event()

        def write():
            n = 0
            while not end.is_set():
                n += 1
                try:
                    os.pwrite(fd, os.urandom(block),
                              n * 7 * block % (size - block))
                except OSError as e:
                    errors.append(e)
                    return

        thread = threading.Thread(target=write)
        thread.start()
        try:
            for _ in range(4):
                with open(self.path("f"), "r+b") as f:
                    f.write(b"x")
        finally:
            end.set()
            thread.join()
        self.assertEqual(errors, [])
        os.close(fd)
        with open(self.path("f"), "rb") as f:
            self.assertEqual(f.read(), self.body("f"))


if __name__ == "__main__":
    unittest.main()
