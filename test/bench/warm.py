#!/usr/bin/env python3
"""Warm reads beside native files and beside a FUSE daemon that does nothing,
taking turns in one run; medians and ratios.

  R2FS_BUILD=build .venv/bin/python test/bench/warm.py [ROUNDS]

"no pages" means that the mount's own pages were dropped (POSIX_FADV_DONTNEED)
before the round: what is read then comes from the daemon, or with passthrough
from the data file, whose pages are those of the native workload's kind.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "../e2e"))
from harness import BUILD, Mount, Server, wait_until  # noqa: E402

MIB = 1 << 20
LARGE = 512 * MIB
SMALL, SMALL_BYTES = 2000, 65536
buffer = bytearray(MIB)


def sequential(path):
    fd = os.open(path, os.O_RDONLY)
    while os.readv(fd, [buffer]):
        pass
    os.close(fd)


def scattered(path):
    fd = os.open(path, os.O_RDONLY)
    rng = random.Random(1)
    view = memoryview(buffer)[:65536]
    for _ in range(4000):
        os.preadv(fd, [view], rng.randrange(LARGE // 65536) * 65536)
    os.close(fd)


def small(paths):
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.readv(fd, [buffer])
        os.close(fd)


def drop(paths):
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


class Nothing:
    """The daemon that does nothing, with `count` files of `size` bytes."""

    def __init__(self, count, size):
        self.path = tempfile.mkdtemp(prefix="r2fs-nothing-")
        self.process = subprocess.Popen([
            os.path.join(BUILD, "test/bench/nothing"), self.path, str(count),
            str(size), *sys.argv[2:3]])
        wait_until(lambda: os.path.ismount(self.path))

    def stop(self):
        subprocess.run(["umount", self.path], check=True, timeout=30)
        self.process.wait(30)
        os.rmdir(self.path)


def native(directory, name, body):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(body)
    return path


def measure(title, rounds, sides, work, before=None):
    times = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, what in sides.items():
            if before and name != "native":
                before(what)
            start = time.perf_counter()
            work(what)
            if turn:
                times[name].append(time.perf_counter() - start)
    middle = {name: statistics.median(t) for name, t in times.items()}
    print(f"{title:34}" + "".join(
        f"  {name} {s * 1000:8.1f} ms" for name, s in middle.items())
        + f"  r2fs: {middle['native'] / middle['r2fs']:.2f} of native, "
        f"{middle['nothing'] / middle['r2fs']:.2f} of nothing", flush=True)


def run(server, scratch, rounds):
    body = os.urandom(LARGE)
    server.put("large/f00000", body)
    blocks = [os.urandom(SMALL_BYTES) for _ in range(8)]
    names = [f"small/f{i:05}" for i in range(SMALL)]
    for i, name in enumerate(names):
        server.put(name, blocks[i % 8])
    m = Mount(server, "--metadata-ttl", "indefinite", *sys.argv[3:]).start()
    mounts = [m]
    try:
        one, many = Nothing(1, LARGE), Nothing(SMALL, SMALL_BYTES)
        mounts += [one, many]
        large = {"native": native(scratch, "large", body),
                 "r2fs": f"{m.path}/large/f00000",
                 "nothing": f"{one.path}/f00000"}
        little = {"native": [native(scratch, n, blocks[i % 8])
                             for i, n in enumerate(names)],
                  "r2fs": [f"{m.path}/{n}" for n in names],
                  "nothing": [f"{many.path}/f{i:05}" for i in range(SMALL)]}
        sequential(large["r2fs"])
        time.sleep(2)
        measure("sequential, 512 MiB", rounds, large, sequential)
        measure("sequential, no pages", rounds, large, sequential,
                lambda p: drop([p]))
        measure("64 KiB random, 4000", rounds, large, scattered)
        measure("64 KiB random, no pages", rounds, large, scattered,
                lambda p: drop([p]))
        measure("2000 files of 64 KiB", rounds, little, small)
        measure("2000 files, no pages", rounds, little, small, drop)
        stats = m.stats()
        print("passthrough opens:", stats["reads"]["passthrough_opens"],
              "requests read:", stats["reads"]["count"],
              "libfuse:", stats["mount"]["libfuse"],
              "io_uring:", stats["mount"]["io_uring"])
    finally:
        for x in mounts:
            x.stop()


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    server = Server()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            run(server, scratch, rounds)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
