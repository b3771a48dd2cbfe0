"""What an end without warning, or somebody's hands, did to the cache folder."""

import glob
import os
import tempfile
import threading
import time
import unittest

import data
from harness import CLEAN_ENV, Case, Mount, drop_kernel_cache, run, \
    wait_until


class Restarts(Case):
    FILES = 60

    def setUp(self):
        super().setUp()
        self.bodies = {f"d/{i}": data.blob(30000 + 5000 * i, i)
                       for i in range(self.FILES)}
        self.bodies["large"] = data.versioned(20 << 20, 7)
        for name, body in self.bodies.items():
            self.server.put(name, body)

    def read_all(self, m):
        for name, body in self.bodies.items():
            self.assertTrue(m.read(name) == body, name)

    def filled(self, *options):
        m = self.mount("--metadata-ttl", "indefinite", "--read-only",
                       *options)
        os.listdir(m.path + "/d")
        self.read_all(m)
        return m

    def again(self, m, requests=None, *options):
        drop_kernel_cache()
        m = self.mount("--metadata-ttl", "indefinite", *options, cache=m.cache)
        self.server.reset()
        self.read_all(m)
        if requests is not None:
            self.assertLessEqual(self.requests(), requests)
        self.server.reset()
        drop_kernel_cache()
        self.read_all(m)
        self.assertEqual(self.requests(), 0)
        return m

    def data_files(self, m):
        def files():
            return glob.glob(m.cache + "/*/data/*/*")

        wait_until(lambda: len(files()) >= self.FILES)
        return files()

    def database(self, m):
        path, = glob.glob(m.cache + "/*/cache.mdb")
        return path

    def test_kill_and_mount_again(self):
        m = self.filled()
        time.sleep(1)  # commits are made a few times a second
        m.crash()
        self.again(m, 0)

    def test_kill_in_the_middle(self):
        m = self.mount("--metadata-ttl", "indefinite")
        for i in range(3):
            self.server.latency(5)
            reader = threading.Thread(target=self.read_what_comes, args=(m,))
            reader.start()
            time.sleep(0.05 + 0.1 * i)
            m.crash()
            reader.join()
            m = self.mount("--metadata-ttl", "indefinite", cache=m.cache)
        self.server.latency(0)
        self.read_all(m)

    def read_what_comes(self, m):
        for name, body in self.bodies.items():
            try:
                if m.read(name) != body:
                    self.wrong = name
            except OSError:
                return

    def test_machine_stopped_and_blocks_did_not_arrive(self):
        boot = tempfile.NamedTemporaryFile("w", suffix="boot")
        self.addCleanup(boot.close)
        CLEAN_ENV["R2FS_TEST_BOOT_ID"] = boot.name
        self.addCleanup(CLEAN_ENV.pop, "R2FS_TEST_BOOT_ID")
        boot.write("first\n")
        boot.flush()
        m = self.filled()
        time.sleep(1)
        m.crash()
        for path in self.data_files(m)[::3]:
            size = os.path.getsize(path)
            with open(path, "r+b") as f:
                f.write(bytes(min(size, 65536)))
        boot.seek(0)
        boot.write("second\n")
        boot.flush()
        m = self.again(m)
        self.assertGreater(m.stats()["cache"]["verify_failures"], 0)

    def test_data_files_cut_emptied_and_removed(self):
        m = self.filled()
        m.unmount()
        for i, path in enumerate(self.data_files(m)):
            if i % 4 == 0:
                os.unlink(path)
            elif i % 4 < 3:
                os.truncate(path, i % 4 * 20000)
        self.again(m)

    def test_data_files_cut_under_the_mount(self):
        m = self.filled()
        drop_kernel_cache()
        for i, path in enumerate(self.data_files(m)):
            os.truncate(path, i % 2 * 10000)
        self.read_all(m)

    def test_database_cut(self):
        m = self.filled()
        m.unmount()
        for part in (2, 10, 10**9):
            os.truncate(self.database(m), os.path.getsize(self.database(m))
                        // part)
            m = self.mount("--metadata-ttl", "indefinite", cache=m.cache)
            self.read_all(m)
            m.unmount()


class ReadOnlyFolder(Case):
    def test_it_is_refused(self):
        folder = tempfile.mkdtemp(prefix="r2fs-ro-")
        self.addCleanup(os.rmdir, folder)
        run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder)
        self.addCleanup(run, "umount", folder)
        m = Mount(self.server, cache=folder + "/c")
        p = run(*m.argv, check=False)
        m.stop()
        self.assertEqual(p.returncode, 1)
        self.assertIn("--cache-dir", p.stderr)
        self.assertIn("Read-only", p.stderr)


if __name__ == "__main__":
    unittest.main()
