"""Requests are money: how many each habit of a reader costs, exactly."""

import concurrent.futures
import os
import random

import pytest

from data import blob
from harness import SLOW, drop_caches, read_all, run
import time

pytestmark = pytest.mark.sanity

FILES = 2000
SIZE = 65536


def seed_files(sim, count=FILES, size=SIZE, folder="d"):
    bodies = {"%s/%06d.bin" % (folder, i): blob(size, i) for i in range(count)}
    sim.put_all("test", bodies.items())
    return bodies


def check_read(mount, bodies):
    keys = list(bodies)
    random.Random(7).shuffle(keys)
    got = read_all([mount.path / k for k in keys], 16)
    for key, data in zip(keys, got):
        assert data == bodies[key], key


@pytest.fixture
def epoch(bench):
    sim = bench.sim()
    bodies = seed_files(sim)
    sim.latency(30)
    return sim, bodies


def test_an_epoch_of_small_files(bench, epoch):
    sim, bodies = epoch
    mount = bench.mount(sim, metadata_ttl="indefinite")
    sim.reset()
    names = sorted(os.listdir(mount.path / "d"))
    assert names == sorted(k.split("/")[1] for k in bodies)
    check_read(mount, bodies)
    stats = sim.stats()
    assert stats["total"] <= 2020, stats
    assert stats["ops"]["HEAD"] == 0, stats
    assert stats["bytes_out"] < FILES * SIZE * 1.1

    sim.reset()
    drop_caches()
    check_read(mount, bodies)
    assert sim.total == 0, sim.stats()

    mount.remount()
    sim.reset()
    check_read(mount, bodies)
    assert sim.total == 0, sim.stats()

    # Nothing but the cache can have answered: the server is gone.
    sim.stop()
    drop_caches()
    check_read(mount, bodies)


def test_small_files_by_known_paths(bench, epoch):
    """No listing by the reader: the paths come from a manifest."""
    sim, bodies = epoch
    mount = bench.mount(sim)
    sim.reset()
    check_read(mount, bodies)
    stats = sim.stats()
    assert stats["total"] <= 2020, stats
    sim.reset()
    drop_caches()
    check_read(mount, bodies)
    assert sim.total == 0, sim.stats()


def test_one_cold_file_is_one_get(bench, sim):
    sim.put_all("test", [("x/one", b"1" * 5000), ("two", b"2" * 5000)])
    mount = bench.mount(sim)
    sim.reset()
    assert (mount.path / "two").read_bytes() == b"2" * 5000
    assert sim.stats()["ops"]["GET"] == 1
    assert sim.total == 1, sim.stats()


def test_stat_then_read_is_one_get(bench, sim):
    sim.put_all("test", [("x/deep/one", b"1" * 5000)])
    mount = bench.mount(sim)
    sim.reset()
    path = mount.path / "x" / "deep" / "one"
    assert path.stat().st_size == 5000
    assert path.read_bytes() == b"1" * 5000
    stats = sim.stats()
    # two folders above: each may cost a look at the name and a listing
    assert stats["ops"]["GET"] <= 3, stats
    assert stats["total"] <= 5, stats


def test_missing_names_in_a_listed_folder(bench, sim):
    sim.put_all("test", [("d/%d" % i, b"x") for i in range(10)])
    mount = bench.mount(sim)
    os.listdir(mount.path / "d")
    sim.reset()
    for i in range(200):
        assert not (mount.path / "d" / ("missing-%d" % i)).exists()
    assert sim.total == 0, sim.stats()


def test_missing_names_in_an_unlisted_folder(bench, sim):
    sim.put_all("test", [("d/%d" % i, b"x") for i in range(10)])
    mount = bench.mount(sim)
    assert (mount.path / "d").is_dir()
    sim.reset()
    for i in range(200):
        assert not (mount.path / "d" / ("missing-%d" % i)).exists()
    assert sim.total <= 2, sim.stats()


def test_missing_names_by_many_threads(bench, sim):
    sim.put_all("test", [("d/%d" % i, b"x") for i in range(10)])
    sim.latency(30)
    mount = bench.mount(sim)
    assert (mount.path / "d").is_dir()
    sim.reset()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(
            lambda i: (mount.path / "d" / ("missing-%d" % i)).exists(),
            range(200)))
    assert not any(found)
    # 16 different names may be on their way before the first is answered
    assert sim.total <= 34, sim.stats()


def test_the_same_missing_name_is_asked_for_once(bench, sim):
    sim.put_all("test", [("d/x", b"x")])
    sim.latency(100)
    mount = bench.mount(sim)
    assert (mount.path / "d").is_dir()
    sim.reset()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda i: (mount.path / "d" / "no").exists(),
                              range(64)))
    assert not any(found)
    assert sim.total <= 2, sim.stats()


def test_one_block_is_fetched_once(bench, sim):
    body = blob(3 << 20, 1)
    sim.put_all("test", [("f", body)])
    sim.latency(50)
    mount = bench.mount(sim)
    sim.reset()
    assert all(d == body for d in read_all([mount.path / "f"] * 16, 16))
    assert sim.stats()["bytes_out"] <= len(body) * 1.1


@pytest.mark.timeout(600)
def test_ls_l_of_50000_names(bench):
    sim = bench.sim(synthetic="test:big/:50000:1000")
    mount = bench.mount(sim)
    before = mount.rss()
    sim.reset()
    done = run("ls", "-l", mount.path / "big", timeout=200)
    lines = done.stdout.splitlines()
    assert len(lines) == 50001
    assert lines[1].endswith(" f00000000") and " 1000 " in lines[1]
    stats = sim.stats()
    assert stats["ops"]["LIST"] <= 51, stats
    assert stats["ops"]["HEAD"] == 0 and stats["total"] <= 51, stats
    assert mount.rss() - before < 100 << 20
    sim.reset()
    drop_caches()
    assert len(run("ls", "-l", mount.path / "big",
                   timeout=200).stdout.splitlines()) == 50001
    assert sim.total == 0, sim.stats()
    names = sorted(os.listdir(mount.path / "big"))
    assert names == ["f%08d" % i for i in range(50000)]


@pytest.mark.timeout(600)
def test_find_in_300_folders_after_a_remount(bench):
    folders, each = 300, 1000
    sim = bench.sim(synthetic="test:t/:%d:1000:%d" % (folders * each, each))
    mount = bench.mount(sim, metadata_ttl="indefinite")
    sim.reset()
    first = run("find", mount.path / "t", timeout=300).stdout
    assert len(first.splitlines()) == 1 + folders + folders * each
    stats = sim.stats()
    assert stats["ops"]["LIST"] <= folders + 5 + folders, stats
    assert stats["ops"]["HEAD"] == 0, stats
    mount.remount()
    drop_caches()
    sim.reset()
    began = time.monotonic()
    again = run("find", mount.path / "t", timeout=300).stdout
    took = time.monotonic() - began
    assert sorted(again.splitlines()) == sorted(first.splitlines())
    assert sim.total == 0, sim.stats()
    assert took < 15 * SLOW, took


def test_du_and_ls_r_cost_only_the_listings(bench, sim):
    sim.put_all("test", [("t/%d/%d" % (d, i), b"x" * i)
                         for d in range(8) for i in range(50)])
    mount = bench.mount(sim)
    sim.reset()
    run("ls", "-lR", mount.path / "t")
    run("du", "-a", "--apparent-size", mount.path / "t")
    run("find", mount.path / "t", "-size", "+0")
    stats = sim.stats()
    assert stats["ops"]["LIST"] <= 10, stats
    assert stats["total"] <= 10, stats


def test_counts_agree_with_the_daemon(bench, sim):
    sim.put_all("test", [("d/%d" % i, blob(100000, i)) for i in range(30)])
    sim.reset()
    mount = bench.mount(sim)
    run("cp", "-r", mount.path / "d", bench.folder / "copy")
    stats, own = sim.stats(), mount.stats()["requests"]
    assert own["class_a"] == stats["class_a"], (own, stats)
    assert own["class_b"] == stats["class_b"], (own, stats)
    assert own["retries"] == 0 and own["failures"] == 0, own
