"""Workloads of arrays and models: Zarr, sharded Zarr, safetensors."""

import random

from access import MIB, in_processes, map_tensors, read_all, read_shard
from content import verify
from reading import pieces, ranges
from server import CONNECTIONS

CHUNK = 1000000


def axes(shape):
    """name -> key for sorting: the order of a scan along that axis."""
    rng = random.Random(7)
    return {"along the last axis": lambda k: k,
            "along the middle axis": lambda k: (k[0], k[2], k[1]),
            "along the first axis": lambda k: (k[2], k[1], k[0]),
            "in random order": lambda k: rng.random()}


def zarr(c):
    """Chunks of a Zarr v3 array, one after the other, along each axis. Peers
    that fetch nothing ahead take as long for any order: one will do."""
    n = c.scale(10, 5)
    keys = [(x, y, z) for x in range(n) for y in range(n) for z in range(n)]
    name = lambda k: f"zarr/c/{k[0]}/{k[1]}/{k[2]}"
    c.server.fill([(name(k), CHUNK) for k in keys])
    total = len(keys) * CHUNK
    label = f"{len(keys)} chunks of 1 MB, one reader"
    s = c.server.signer()
    for order, by in axes(n).items():
        path = [name(k) for k in sorted(keys, key=by)]
        if "random" in order:
            path = path[:200]
            total, label = len(path) * CHUNK, f"{len(path)} of these chunks"

        def work(peer):
            files = c.server.files(peer.path, path)
            c.rec.peer("zarr", f"{label}, {order}", peer,
                       lambda: read_all(files, 1), len(path), total,
                       len(path), most=len(path) * 21 // 20 + 8)
            if peer.name == "r2fs":
                verify(files)
        c.each("zarr", work, alone="last" not in order, patience=4)
        c.rec.limit("zarr", f"{label}, {order}", [s.get(x) for x in path],
                    CONNECTIONS, len(path), total)
    c.rec.arithmetic("zarr", f"{label}, {order}", 1, len(path), total,
                     c.bandwidth, len(path))


def sharded(c):
    """Shards of a sharded Zarr array: the index at the end, then chunks."""
    count, chunks = c.scale(8, 4), 24
    size = chunks * CHUNK + 16 * chunks + 4
    names = [f"sharded/c/0/{i}" for i in range(count)]
    c.server.fill([(x, size) for x in names])
    total = count * size
    label = f"{count} shards of {chunks} chunks of 1 MB, one reader"

    def work(peer):
        files = c.server.files(peer.path, names)

        def run():
            for f in files:
                read_shard(f, CHUNK)
        c.rec.peer("zarr", label, peer, run, count, total,
                   count * (1 + pieces(size)),
                   most=2 * count * (1 + pieces(size)))
        if peer.name == "r2fs":
            verify(files)

    c.each("zarr", work)
    s = c.server.signer()
    lines = [x for k in names for x in ranges(s, k, size)]
    c.rec.limit("zarr", label, lines, CONNECTIONS, count, total)


def mapped(c):
    """safetensors: 4 processes map one file and read all its tensors."""
    size, readers = c.scale(512, 128) * MIB, 4
    key = f"model/{size // MIB}.safetensors"
    c.server.fill([(key, size)])
    label = f"{size // MIB} MiB mapped by {readers} processes"

    def work(peer):
        file = c.server.files(peer.path, [key])[0]
        run = lambda: in_processes(
            readers, lambda i: map_tensors(file, 16 * MIB))
        c.rec.peer("models", label + ", cold", peer, run, 0, size,
                   pieces(size), most=pieces(size) * 3 // 2)
        c.rec.peer("models", "… again", peer, run, 0, size, 0)

    c.each("models", work)
    s = c.server.signer()
    c.rec.limit("models", label + ", cold", ranges(s, key, size), CONNECTIONS,
                0, size)


ARRAYS = {"zarr": zarr, "sharded": sharded, "mapped": mapped}
