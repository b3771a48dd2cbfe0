"""Workloads that read."""

import os

from access import MIB, first_byte, read_all, read_random, read_whole
from measure import drop_kernel_cache
from server import CONNECTIONS


def small(c):
    """Small files of one folder, 16 threads: cold, warm, after a remount;
    then one thread."""
    n, size, threads = c.scale(2000, 500), 65536, 16
    names = [f"small/f{i:05}" for i in range(n)]
    c.server.fill("small", [(name, size) for name in names])
    total = n * size
    rec = c.rec
    cold = f"{n} files of 64 KiB, 16 threads, cold"

    def work(peer):
        paths = [os.path.join(peer.path, x) for x in names]
        read = lambda: read_all(paths, threads, size)
        rec.peer("small files", cold, peer, read, n, total)
        drop_kernel_cache()
        rec.peer("small files", "… again, kernel cache dropped", peer, read,
                 n, total)
        peer.remount()
        rec.peer("small files", "… again, after a remount", peer, read, n,
                 total)
        rec.peer("small files", "… again, one thread", peer,
                 lambda: read_all(paths, 1, size), n, total)

    c.each("small files", work, lambda p: p.keep_names())
    s = c.server.signer()
    c.server.shape()
    lines = [s.get(x) for x in names]
    rec.limit("small files", cold, lines, threads, n, total)
    rec.limit("small files", cold, lines, CONNECTIONS, n, total)
    trips = -(-n // threads) * (c.latency + size / c.bandwidth)
    rec.add(group="small files", work=cold, peer="arithmetic, 16", files=n,
            bytes=total, seconds=trips)
    paths = c.native_tree(names, size)
    read_all(paths, 1, size)
    rec.plain("small files", "… again, one thread", "native",
              lambda: read_all(paths, 1, size), n, total)


def large(c):
    """One large object from end to end."""
    size = c.scale(1024, 256) * MIB
    c.server.fill("large", [("large/a.bin", size)])
    cold, warm = f"{size // MIB} MiB sequential, cold", "… again"
    dropped = "… again, kernel cache dropped"
    rec, g = c.rec, "large file"

    def check(path):
        if read_whole(path) != size:
            raise RuntimeError("short")

    def work(peer):
        path = os.path.join(peer.path, "large/a.bin")
        os.listdir(os.path.dirname(path))
        rec.peer(g, cold, peer, lambda: check(path), 0, size)
        rec.peer(g, warm, peer, lambda: check(path), 0, size)
        drop_kernel_cache()
        rec.peer(g, dropped, peer, lambda: check(path), 0, size)
        for _ in range(2): # the second has the kernel's cache warm
            rec.rows = [r for r in rec.rows if not (
                r["work"] == "64 KiB random, warm" and r["peer"] == peer.name)]
            rec.peer(g, "64 KiB random, warm", peer,
                     lambda: read_random(path, size, 65536, 8000), 8000,
                     8000 * 65536)

    c.each(g, work)
    s = c.server.signer()
    step = 8 * MIB
    lines = [s.get("large/a.bin", o, min(o + step, size) - 1)
             for o in range(0, size, step)]
    rec.limit(g, cold, lines, CONNECTIONS, 0, size)
    path = os.path.join(c.native, "large")
    with open(path, "wb") as f:
        for _ in range(size // MIB):
            f.write(os.urandom(MIB))
    check(path)
    rec.plain(g, warm, "native", lambda: check(path), 0, size)
    drop_kernel_cache()
    rec.plain(g, dropped, "native", lambda: check(path), 0, size)
    rec.plain(g, "64 KiB random, warm", "native",
              lambda: read_random(path, size, 65536, 8000), 8000,
              8000 * 65536)
    os.unlink(path)


def start(c):
    """The first byte of objects never seen, one after the other."""
    n = 20
    names = [f"first/d{i:02}/a.bin" for i in range(n)]
    c.server.fill("first", [(x, 16 * MIB) for x in names])

    def work(peer):
        paths = [os.path.join(peer.path, x) for x in names]
        for p in paths:
            os.listdir(os.path.dirname(p))

        def run():
            times = sorted(first_byte(p) for p in paths)
            return {"first_byte": times[n // 2]}
        c.rec.peer("large file", f"first byte of {n} files in turn", peer,
                   run, n)

    c.each("large file", work)
    s = c.server.signer()
    c.rec.limit("large file", f"first byte of {n} files in turn",
                [s.get(names[0], 0, MIB - 1)], 1, 1)


def zarr(c):
    """Chunks of a Zarr v3 array, one after the other, along each axis."""
    shape = c.scale((6, 6, 6), (4, 4, 4))
    size = 1000000
    keys = [(x, y, z) for x in range(shape[0]) for y in range(shape[1])
            for z in range(shape[2])]
    name = lambda k: f"zarr/c/{k[0]}/{k[1]}/{k[2]}"
    c.server.fill("zarr", [(name(k), size) for k in keys])
    total = len(keys) * size
    orders = {"last axis": lambda k: k,
              "middle axis": lambda k: (k[0], k[2], k[1]),
              "first axis": lambda k: (k[2], k[1], k[0])}
    label = f"{len(keys)} chunks of 1 MB, one reader"
    for axis, order in orders.items():
        path_of = sorted(keys, key=order)

        def work(peer):
            paths = [os.path.join(peer.path, name(k)) for k in path_of]
            c.rec.peer("zarr", f"{label}, along the {axis}", peer,
                       lambda: read_all(paths, 1, size), len(keys), total)
        c.each("zarr", work)
    s = c.server.signer()
    lines = [s.get(name(k)) for k in keys]
    for axis in orders:
        c.rec.limit("zarr", f"{label}, along the {axis}", lines, CONNECTIONS,
                    len(keys), total)


READING = {"small": small, "large": large, "start": start, "zarr": zarr}
