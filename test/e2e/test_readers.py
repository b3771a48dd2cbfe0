"""Unmodified programs on data that an independent client wrote."""

import filecmp
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import unittest

import data
from harness import CLEAN_ENV, SLOW, Case, drop_kernel_cache, md5, run

SHAPE = (96, 80, 24)


def reference():
    import numpy
    return (numpy.arange(numpy.prod(SHAPE), dtype="int64").reshape(SHAPE)
            * 2654435761 % 100003).astype("int32")


class Reader(Case):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix="r2fs-data-")
        self.addCleanup(run, "rm", "-rf", self.folder)

    def local(self, name):
        return os.path.join(self.folder, name)

    def script(self, text):
        path = self.local("script.py")
        with open(path, "w") as f:
            f.write(text)
        return path


class Zarr(Reader):
    def write(self, folder, zarr_format, **options):
        import zarr
        root = zarr.open_group(folder, mode="w", zarr_format=zarr_format)
        array = root.create_array("a", shape=SHAPE, dtype="int32",
                                  fill_value=-1, **options)
        array[:] = reference()
        # mostly missing chunks: only one corner is written
        sparse = root.create_array("sparse", shape=SHAPE, dtype="int32",
                                   fill_value=7, **options)
        sparse[0:4, 0:4, 0:4] = 5
        root.attrs["title"] = "made for a test"

    def check(self, m):
        import zarr
        want = reference()
        root = zarr.open_group(m.path + "/data/x.zarr", mode="r")
        self.assertEqual(root.attrs["title"], "made for a test")
        a, sparse = root["a"], root["sparse"]
        self.assertTrue((a[17:50, 3, 5:20] == want[17:50, 3, 5:20]).all())
        self.assertTrue((a[:] == want).all())
        self.assertTrue((sparse[0:4, 0:4, 0:4] == 5).all())
        self.assertTrue((sparse[:][20:, 20:, :] == 7).all())
        self.assertEqual(sorted(root.array_keys()), ["a", "sparse"])

    def read(self, **options):
        self.write(self.local("x.zarr"), **options)
        self.server.put_tree(self.local("x.zarr"), "data/x.zarr/")
        m = self.mount("--metadata-ttl", "indefinite")
        self.check(m)
        self.server.reset()
        drop_kernel_cache()
        self.check(m)
        self.assertEqual(self.requests(), 0)
        m.unmount()
        m = self.mount("--metadata-ttl", "indefinite", cache=m.cache)
        self.server.reset()
        self.check(m)
        self.assertEqual(self.requests(), 0)

    def test_v2(self):
        self.read(zarr_format=2, chunks=(16, 16, 24))

    def test_v3(self):
        self.read(zarr_format=3, chunks=(16, 16, 24))

    def test_v3_sharded(self):
        self.read(zarr_format=3, chunks=(8, 8, 8), shards=(48, 40, 24))

    def xarray(self, version):
        import numpy
        import xarray
        values = reference() + 0.5 # 0 would be read as missing
        dataset = xarray.Dataset(
            {"t": (("x", "y", "z"), values)},
            coords={"x": numpy.arange(SHAPE[0]), "y": numpy.arange(SHAPE[1])})
        consolidated = version == 2
        dataset.to_zarr(self.local("x.zarr"), zarr_format=version,
                        consolidated=consolidated)
        self.server.put_tree(self.local("x.zarr"), "x.zarr/")
        m = self.mount()
        got = xarray.open_zarr(m.path + "/x.zarr", chunks=None,
                               consolidated=consolidated)
        self.assertTrue((got["t"].values == values).all())
        self.assertEqual(float(got["t"].sel(x=5, y=6)[7]), values[5, 6, 7])

    def test_xarray_v2(self):
        self.xarray(2)

    def test_xarray_v3(self):
        self.xarray(3)


LOADER = r"""
import hashlib, os, sys
import torch.utils.data

class Files(torch.utils.data.Dataset):
    def __init__(self, folder):
        self.paths = [os.path.join(folder, n) for n in os.listdir(folder)]
    def __len__(self):
        return len(self.paths)
    def __getitem__(self, i):
        with open(self.paths[i], "rb") as f:
            return hashlib.md5(f.read()).hexdigest()

if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(
        Files(sys.argv[1]), batch_size=8, num_workers=4, shuffle=True,
        timeout=120)
    for epoch in range(2):
        for digest in sorted(d for batch in loader for d in batch):
            print(digest)
"""

SAFETENSORS = r"""
import hashlib, sys
import numpy
from safetensors import safe_open
with safe_open(sys.argv[1], framework="numpy") as f:
    for name in sorted(f.keys()):
        tensor = f.get_tensor(name)
        print(name, hashlib.md5(numpy.ascontiguousarray(tensor)).hexdigest())
"""


class Learning(Reader):
    def test_torch_dataloader(self):
        if run(sys.executable, "-c", "import torch", check=False).returncode:
            self.skipTest("no PyTorch for this Python")
        bodies = {f"train/{i:04}.bin": data.blob(50000 + i, i)
                  for i in range(200)}
        for name, body in bodies.items():
            self.server.put(name, body)
        m = self.mount()
        self.server.reset()
        done = run(sys.executable, self.script(LOADER), m.path + "/train")
        want = sorted(md5(b) for b in bodies.values())
        self.assertEqual(done.stdout.split(), want * 2)
        self.assertLessEqual(self.requests(), 202)

    def test_safetensors_from_four_processes(self):
        import numpy
        import safetensors.numpy
        tensors = {f"layer.{i}": numpy.frombuffer(
            data.blob(2 << 20, i), dtype="float32").reshape(512, 1024)
            for i in range(12)}
        local = self.local("model.safetensors")
        safetensors.numpy.save_file(tensors, local)
        self.server.put_tree(self.folder, "")
        script = self.script(SAFETENSORS)
        m = self.mount()
        self.server.reset()
        readers = [subprocess.Popen(
            [sys.executable, script, m.path + "/model.safetensors"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(4)]
        want = "".join(f"{k} {md5(tensors[k])}\n" for k in sorted(tensors))
        for r in readers:
            self.assertEqual(r.communicate(timeout=120 * SLOW)[0], want)
        # one read of the object for the four of them
        self.assertLessEqual(self.server.stats()["bytes_out"],
                             os.path.getsize(local) * 1.05)

    def test_numpy_mmap_and_npz(self):
        import numpy
        want = numpy.frombuffer(data.blob(8 << 20, 3), dtype="uint16")
        arrays = {f"a{i}": numpy.frombuffer(data.blob(400000, i), "uint8")
                  for i in range(5)}
        numpy.save(self.local("x.npy"), want)
        numpy.savez(self.local("x.npz"), **arrays)
        self.server.put_tree(self.folder, "")
        m = self.mount()
        got = numpy.load(m.path + "/x.npy", mmap_mode="r")
        self.assertTrue((got[::-4096] == want[::-4096]).all())
        self.assertTrue((got == want).all())
        del got
        with numpy.load(m.path + "/x.npz") as got:
            for name in arrays:
                self.assertTrue((got[name] == arrays[name]).all())


def same_tree(a, b):
    c = filecmp.dircmp(a, b, ignore=[], hide=[])
    assert not c.left_only and not c.right_only, (c.left_only, c.right_only)
    for name in c.common_files:
        with open(f"{a}/{name}", "rb") as f, open(f"{b}/{name}", "rb") as g:
            assert f.read() == g.read(), name
    for name in c.common_dirs:
        same_tree(f"{a}/{name}", f"{b}/{name}")


def git(*argv, cwd=None):
    env = {k: v for k, v in CLEAN_ENV.items() if not k.startswith("GIT_")}
    env.update(GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1",
               GIT_AUTHOR_NAME="t", GIT_AUTHOR_EMAIL="t@example.org",
               GIT_COMMITTER_NAME="t", GIT_COMMITTER_EMAIL="t@example.org")
    return run("git", "-c", "safe.directory=*", "-c",
               "init.defaultBranch=main", *argv, cwd=cwd, env=env,
               timeout=120).stdout


class OldTools(Reader):
    def setUp(self):
        super().setUp()
        self.tree = self.local("tree")
        data.sample_tree(self.tree)
        self.server.put_tree(self.tree, "t/")

    def test_cp(self):
        m = self.mount()
        run("cp", "-r", m.path + "/t", self.local("copy"))
        same_tree(self.tree, self.local("copy"))
        self.assertEqual(run("diff", "-r", self.tree, m.path + "/t").stdout,
                         "")

    def test_tar(self):
        m = self.mount()
        os.mkdir(self.local("out"))
        run("sh", "-c", 'tar -C "$1" -c . | tar -C "$2" -x', "sh",
            m.path + "/t", self.local("out"))
        same_tree(self.tree, self.local("out"))

    def test_rsync(self):
        m = self.mount()
        done = run("rsync", "-rcni", "--delete", m.path + "/t/",
                   self.tree + "/")
        different = [l for l in done.stdout.splitlines()
                     if not l.startswith(".")]
        self.assertEqual(different, [])

    def test_md5sum_find_du_grep(self):
        m = self.mount()
        there = m.path + "/t"

        def both(*argv):
            return [sorted(run(*argv, cwd=w).stdout.splitlines())
                    for w in (there, self.tree)]

        there_sums, sums = both("sh", "-c",
                                "find . -type f -print0 | xargs -0 md5sum")
        self.assertEqual(there_sums, sums)
        self.assertEqual(len(sums), 53)
        names, want = both("find", ".", "-printf", "%y %P\n")
        self.assertEqual(names, want)
        names, want = both("find", ".", "-type", "f", "-size", "+64k",
                           "-printf", "%s %P\n")
        self.assertEqual(names, want)
        sizes, want = both("sh", "-c", "du -ab --apparent-size | grep '[.]'")
        files = {l for l in want if os.path.isfile(
            os.path.join(self.tree, l.split("\t")[1]))}
        self.assertLessEqual(files, set(sizes))
        used, _ = both("du", "-s", "--block-size=1", ".")
        self.assertGreater(int(used[0].split()[0]), 9 << 20)
        self.assertIn("with spaces", run("grep", "-rl", "spaces",
                                         there).stdout)

    def test_git_clone(self):
        work, bare = self.local("work"), self.local("bare.git")
        os.mkdir(work)
        git("init", "-q", cwd=work)
        for n in range(3):
            run("sh", "-c", f"cp {self.tree}/many/{n}* {self.tree}/many/0* .",
                cwd=work, check=False)
            with open(f"{work}/n", "w") as f:
                f.write(str(n))
            git("add", ".", cwd=work)
            git("commit", "-q", "-m", f"commit {n}", cwd=work)
        git("clone", "-q", "--bare", work, bare)
        self.server.put_tree(bare, "repo.git/")
        for empty in ("refs/heads/", "refs/tags/", "objects/info/"):
            self.server.put(f"repo.git/{empty}")
        m = self.mount()
        there = m.path + "/repo.git"
        clone = self.local("clone")
        git("clone", "-q", "--no-hardlinks", there, clone)
        git("fsck", "--full", cwd=clone)
        log = ["log", "--format=%H %s"]
        self.assertEqual(git(*log, cwd=clone), git(*log, cwd=work))
        self.assertEqual(git("--git-dir", there, "rev-parse", "main"),
                         git("rev-parse", "HEAD", cwd=work))

    def test_import_of_a_package(self):
        package = {"__init__.py": "from .a import value\n",
                   "a.py": "value = 42\n",
                   "sub/__init__.py": "",
                   "sub/b.py": "import json\nfrom ..a import value\n"
                               "print(json.dumps(value + 1))\n"}
        for name, text in package.items():
            self.server.put(f"lib/mounted_package/{name}", text.encode())
        m = self.mount()
        argv = [sys.executable, "-c", "import mounted_package.sub.b"]
        env = dict(CLEAN_ENV, PYTHONPATH=m.path + "/lib")
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        self.assertEqual(run(*argv, env=env).stdout, "43\n")
        self.server.reset()
        drop_kernel_cache()
        self.assertEqual(run(*argv, env=env).stdout, "43\n")
        self.assertEqual(self.requests(), 0)

    def test_sqlite(self):
        with sqlite3.connect(self.local("x.db")) as db:
            db.execute("create table t (a integer primary key, b text)")
            db.executemany("insert into t values (?, ?)",
                           ((i, f"row {i}") for i in range(20000)))
        with open(self.local("x.db"), "rb") as f:
            self.server.put("x.db", f.read())
        m = self.mount()
        db = sqlite3.connect(f"file:{m.path}/x.db?mode=ro&immutable=1",
                             uri=True)
        self.assertEqual(db.execute("select count(*), sum(a) from t")
                         .fetchone(), (20000, 20000 * 19999 // 2))
        self.assertEqual(db.execute("select b from t where a = 12345")
                         .fetchone(), ("row 12345",))
        db.close()


class AnyOrder(Case):
    def test_random_and_backward(self):
        body = data.versioned(20 << 20, 1)
        self.server.put("f", body)
        m = self.mount()
        rng = random.Random(5)
        with open(m.path + "/f", "rb", buffering=0) as f:
            for _ in range(300):
                at, n = rng.randrange(len(body)), rng.randrange(1, 200000)
                self.assertEqual(os.pread(f.fileno(), n, at), body[at:at + n])
            for at in range(len(body) - 65536, -1, -65536):
                self.assertEqual(os.pread(f.fileno(), 65536, at),
                                 body[at:at + 65536])
            self.assertEqual(os.pread(f.fileno(), 10, len(body)), b"")
            self.assertEqual(os.pread(f.fileno(), 10, len(body) - 3),
                             body[-3:])


class RandomInLarge(Case):
    server_options = ("--synthetic", "bucket:big/:1:4294967296")

    def test_little_more_than_asked_for_is_fetched(self):
        m = self.mount()
        rng = random.Random(1)
        folder = m.path + "/big/"
        name, = os.listdir(folder)
        self.assertEqual(os.path.getsize(folder + name), 4 << 30)
        self.server.reset()
        asked = 0
        with open(folder + name, "rb", buffering=0) as f:
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            for _ in range(100):
                at = rng.randrange((4 << 30) // 65536) * 65536
                asked += len(os.pread(f.fileno(), 65536, at))
        stats = self.server.stats()
        self.assertEqual(asked, 100 * 65536)
        self.assertLessEqual(stats["ops"]["GET"], 110)
        self.assertLessEqual(stats["bytes_out"], 2.1 * asked + (1 << 20))


if __name__ == "__main__":
    unittest.main()
