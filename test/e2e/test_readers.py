"""Unmodified programs on data that an independent client wrote."""

import filecmp
import json
import os
import pathlib
import subprocess
import sys

import numpy
import pytest

import data
from harness import SLOW, drop_caches, run

SHAPE = (96, 80, 24)


def reference():
    return (numpy.arange(numpy.prod(SHAPE), dtype="int32").reshape(SHAPE)
            * 2654435761 % 100003).astype("int32")


def same_tree(a, b):
    comparison = filecmp.dircmp(a, b, ignore=[], hide=[])
    assert not comparison.left_only and not comparison.right_only, (
        comparison.left_only, comparison.right_only)
    for name in comparison.common_files:
        assert (pathlib.Path(a) / name).read_bytes() == (
            pathlib.Path(b) / name).read_bytes(), name
    for name in comparison.common_dirs:
        same_tree(pathlib.Path(a) / name, pathlib.Path(b) / name)


@pytest.fixture
def tree(bench):
    folder = bench.folder / "tree"
    folder.mkdir()
    data.sample_tree(folder)
    return folder


# ---- zarr and xarray ----

def write_zarr(folder, kind):
    import zarr
    options = {
        "v2": dict(zarr_format=2, chunks=(16, 16, 24)),
        "v3": dict(zarr_format=3, chunks=(16, 16, 24)),
        "sharded": dict(zarr_format=3, chunks=(8, 8, 8), shards=(48, 40, 24)),
    }[kind]
    root = zarr.open_group(str(folder), mode="w",
                           zarr_format=options["zarr_format"])
    array = root.create_array("a", shape=SHAPE, dtype="int32", fill_value=-1,
                              **options)
    array[:] = reference()
    # mostly missing chunks: only one corner is written
    sparse = root.create_array("sparse", shape=SHAPE, dtype="int32",
                               fill_value=7, **options)
    sparse[0:4, 0:4, 0:4] = 5
    root.attrs["title"] = "made for a test"


@pytest.mark.sanity
@pytest.mark.parametrize("kind", ["v2", "v3", "sharded"])
def test_zarr(bench, sim, kind):
    import zarr
    local = bench.folder / "local.zarr"
    write_zarr(local, kind)
    sim.put_tree("test", local, "data/x.zarr/")
    mount = bench.mount(sim, metadata_ttl="indefinite")
    want = reference()

    def check():
        root = zarr.open_group(str(mount.path / "data" / "x.zarr"), mode="r")
        assert root.attrs["title"] == "made for a test"
        array = root["a"]
        assert (array[17:50, 3, 5:20] == want[17:50, 3, 5:20]).all()
        assert (array[:] == want).all()
        sparse = root["sparse"][:]
        assert (sparse[0:4, 0:4, 0:4] == 5).all()
        assert (sparse[20:, 20:, :] == 7).all()
        assert sorted(root.array_keys()) == ["a", "sparse"]

    check()
    for _ in range(2):
        sim.reset()
        check()
        assert sim.total == 0, sim.stats()
        mount.remount()
        drop_caches()


@pytest.mark.parametrize("version", [2, 3])
def test_xarray_open_zarr(bench, sim, version):
    import xarray
    values = reference().astype("float64")
    dataset = xarray.Dataset(
        {"t": (("x", "y", "z"), values)},
        coords={"x": numpy.arange(SHAPE[0]), "y": numpy.arange(SHAPE[1])})
    local = bench.folder / "local.zarr"
    dataset.to_zarr(str(local), zarr_format=version, consolidated=version == 2)
    sim.put_tree("test", local, "x.zarr/")
    mount = bench.mount(sim)
    got = xarray.open_zarr(str(mount.path / "x.zarr"), chunks=None,
                           consolidated=version == 2)
    assert (got["t"].values == values).all()
    assert float(got["t"].sel(x=5, y=6)[7]) == values[5, 6, 7]


# ---- torch and safetensors ----

LOADER = r"""
import hashlib, pathlib, sys
import torch.utils.data

class Files(torch.utils.data.Dataset):
    def __init__(self, folder):
        self.paths = sorted(pathlib.Path(folder).iterdir())
    def __len__(self):
        return len(self.paths)
    def __getitem__(self, i):
        return hashlib.md5(self.paths[i].read_bytes()).hexdigest()

if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(
        Files(sys.argv[1]), batch_size=8, num_workers=4, shuffle=True,
        timeout=120)
    for epoch in range(2):
        for digest in sorted(d for batch in loader for d in batch):
            print(digest)
"""


def test_torch_dataloader(bench, sim):
    import hashlib
    bodies = {"train/%04d.bin" % i: data.blob(50000 + i, i) for i in range(200)}
    sim.put_all("test", bodies.items())
    script = bench.folder / "loader.py"
    script.write_text(LOADER)
    mount = bench.mount(sim)
    sim.reset()
    done = run(sys.executable, script, mount.path / "train", timeout=300)
    want = sorted(hashlib.md5(b).hexdigest() for b in bodies.values())
    assert done.stdout.split() == want * 2
    assert sim.total <= 210, sim.stats()


SAFETENSORS = r"""
import hashlib, sys
import numpy
from safetensors import safe_open
with safe_open(sys.argv[1], framework="numpy") as f:
    for name in sorted(f.keys()):
        tensor = f.get_tensor(name)
        print(name, hashlib.md5(numpy.ascontiguousarray(tensor)).hexdigest())
"""


@pytest.mark.sanity
def test_safetensors_from_four_processes(bench, sim):
    import hashlib
    import safetensors.numpy
    tensors = {"layer.%d" % i: numpy.frombuffer(
        data.blob(2 << 20, i), dtype="float32").reshape(512, 1024)
        for i in range(12)}
    local = bench.folder / "model.safetensors"
    safetensors.numpy.save_file(tensors, str(local))
    sim.put_all("test", [("model.safetensors", local)])
    script = bench.folder / "st.py"
    script.write_text(SAFETENSORS)
    mount = bench.mount(sim)
    sim.reset()
    readers = [subprocess.Popen(
        [sys.executable, str(script), str(mount.path / "model.safetensors")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)]
    want = "".join("%s %s\n" % (k, hashlib.md5(tensors[k]).hexdigest())
                   for k in sorted(tensors))
    for reader in readers:
        out, err = reader.communicate(timeout=120 * SLOW)
        assert reader.returncode == 0, err
        assert out == want
    # one read of the object for the four of them
    assert sim.stats()["bytes_out"] <= local.stat().st_size * 1.1


def test_numpy_mmap(bench, sim):
    want = numpy.frombuffer(data.blob(8 << 20, 3), dtype="uint16")
    local = bench.folder / "x.npy"
    numpy.save(local, want)
    sim.put_all("test", [("x.npy", local)])
    mount = bench.mount(sim)
    got = numpy.load(mount.path / "x.npy", mmap_mode="r")
    assert (got[::-4096] == want[::-4096]).all()
    assert (got == want).all()
    del got


def test_npz(bench, sim):
    arrays = {"a%d" % i: numpy.frombuffer(data.blob(400000, i), dtype="uint8")
              for i in range(5)}
    local = bench.folder / "x.npz"
    numpy.savez(local, **arrays)
    sim.put_all("test", [("x.npz", local)])
    mount = bench.mount(sim)
    with numpy.load(mount.path / "x.npz") as got:
        for name, want in arrays.items():
            assert (got[name] == want).all()


# ---- the old tools ----

@pytest.mark.sanity
def test_cp_tar_rsync_md5sum_find_du(bench, sim, tree):
    sim.put_tree("test", tree, "t/")
    mount = bench.mount(sim)
    there = mount.path / "t"
    run("cp", "-r", there, bench.folder / "copy")
    same_tree(tree, bench.folder / "copy")

    drop_caches()
    (bench.folder / "untar").mkdir()
    run("sh", "-c", 'tar -C "$1" -c . | tar -C "$2" -x', "sh", there,
        bench.folder / "untar")
    same_tree(tree, bench.folder / "untar")

    done = run("rsync", "-rcni", "--delete", "%s/" % there, "%s/" % tree)
    different = [l for l in done.stdout.splitlines() if l.startswith(">f")]
    assert different == [], done.stdout

    def sums(where):
        return run("sh", "-c", "find . -type f -print0 | sort -z | "
                   "xargs -0 md5sum", cwd=where).stdout

    assert sums(there) == sums(tree)
    find = ["find", ".", "-printf", "%y %s %P\n"]
    files = [sorted(l for l in run(*find, cwd=w).stdout.splitlines()
                    if l.startswith("f")) for w in (there, tree)]
    assert files[0] == files[1]
    du = ["du", "-ab", "--apparent-size"]
    sizes = [sorted(l for l in run(*du, cwd=w).stdout.splitlines()
                    if not (w / l.split("\t")[1]).is_dir())
             for w in (there, tree)]
    assert sizes[0] == sizes[1]
    run("grep", "-rq", "spaces", there)
    assert run("diff", "-r", tree, there).stdout == ""


def git(*argv, cwd=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env.update(GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_NOSYSTEM="1",
               GIT_AUTHOR_NAME="t", GIT_AUTHOR_EMAIL="t@example.org",
               GIT_COMMITTER_NAME="t", GIT_COMMITTER_EMAIL="t@example.org")
    return run("git", "-c", "safe.directory=*", "-c",
               "init.defaultBranch=main", *argv, cwd=cwd, env=env, timeout=120)


def test_git_clone(bench, sim, tree):
    work, bare = bench.folder / "work", bench.folder / "bare.git"
    work.mkdir()
    git("init", "-q", cwd=work)
    for n in range(3):
        for path in list(tree.glob("many/*"))[n * 10:n * 10 + 10]:
            (work / path.name).write_bytes(path.read_bytes())
        git("add", ".", cwd=work)
        git("commit", "-q", "-m", "commit %d" % n, cwd=work)
    git("clone", "-q", "--bare", work, bare)
    sim.put_tree("test", bare, "repo.git/")
    mount = bench.mount(sim)
    there = mount.path / "repo.git"
    git("clone", "-q", "--no-hardlinks", there, bench.folder / "clone")
    git("fsck", "--full", cwd=bench.folder / "clone")
    log = ["log", "--format=%H %s"]
    assert git(*log, cwd=bench.folder / "clone").stdout == git(
        *log, cwd=work).stdout
    assert (git("--git-dir", there, "rev-parse", "main").stdout ==
            git("rev-parse", "HEAD", cwd=work).stdout)


def test_import_of_a_package(bench, sim):
    package = bench.folder / "lib" / "mounted_package"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text("from .a import value\n")
    (package / "a.py").write_text("value = 42\n")
    (package / "sub" / "__init__.py").write_text("")
    (package / "sub" / "b.py").write_text(
        "import json\nfrom ..a import value\nprint(json.dumps(value + 1))\n")
    sim.put_tree("test", bench.folder / "lib", "lib/")
    mount = bench.mount(sim)
    argv = [sys.executable, "-c", "import mounted_package.sub.b"]
    env = {**os.environ, "PYTHONPATH": str(mount.path / "lib")}
    assert run(*argv, env=env).stdout == "43\n"
    sim.reset()
    drop_caches()
    assert run(*argv, env=env).stdout == "43\n"
    assert sim.total == 0, sim.stats()


def test_sqlite_reads_a_database(bench, sim):
    import sqlite3
    local = bench.folder / "x.db"
    with sqlite3.connect(local) as db:
        db.execute("create table t (a integer primary key, b text)")
        db.executemany("insert into t values (?, ?)",
                       ((i, "row %d" % i) for i in range(20000)))
    sim.put_all("test", [("x.db", local)])
    mount = bench.mount(sim)
    db = sqlite3.connect("file:%s?mode=ro&immutable=1" % (mount.path / "x.db"),
                         uri=True)
    assert db.execute("select count(*), sum(a) from t").fetchone() == (
        20000, 20000 * 19999 // 2)
    assert db.execute("select b from t where a = 12345").fetchone() == (
        "row 12345",)
    db.close()


def test_random_and_backward_reads(bench, sim):
    import random
    body = data.versioned(20 << 20, 1)
    sim.put_all("test", [("f", body)])
    mount = bench.mount(sim)
    rng = random.Random(5)
    with open(mount.path / "f", "rb", buffering=0) as f:
        for _ in range(300):
            at, n = rng.randrange(len(body)), rng.randrange(1, 200000)
            assert os.pread(f.fileno(), n, at) == body[at:at + n]
        for at in range(len(body) - 65536, -1, -65536):
            assert os.pread(f.fileno(), 65536, at) == body[at:at + 65536]
        assert os.pread(f.fileno(), 10, len(body)) == b""
        assert os.pread(f.fileno(), 10, len(body) - 3) == body[-3:]


def test_random_reads_do_not_fetch_much_more(bench):
    sim = bench.sim(synthetic="test:big/:1:4294967296")
    mount = bench.mount(sim)
    import random
    rng = random.Random(1)
    path = mount.path / "big" / "f00000000"
    assert path.stat().st_size == 4 << 30
    sim.reset()
    asked = 0
    with open(path, "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(100):
            at = rng.randrange((4 << 30) // 65536) * 65536
            asked += len(os.pread(f.fileno(), 65536, at))
    stats = sim.stats()
    assert stats["ops"]["GET"] <= 110, stats
    assert stats["bytes_out"] <= 2.1 * asked + (1 << 20), stats
