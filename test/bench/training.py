"""Workloads of training: many files, many readers, many epochs, and a cache
that does not hold them all."""

import random

from access import MIB, in_processes, read_all
from content import verify
from measure import drop_kernel_cache
from oracle import best, recency
from reading import pieces, ranges

SHARD = 2 * MIB


def loader(c):
    """A DataLoader: 4 worker processes, samples in another order in every
    epoch."""
    n, size, workers = c.scale(1200, 240), 110000, 4
    names = [f"samples/c{i % 10}/{i:06}.jpg" for i in range(n)]
    c.server.fill([(x, size) for x in names])
    label = f"{n} samples of 110 kB, {workers} workers"

    def work(peer):
        files = c.server.files(peer.path, names)
        rng = random.Random(3)
        for epoch in range(1, 4):
            rng.shuffle(files)
            c.rec.peer("training", f"{label}, epoch {epoch}", peer,
                       lambda: in_processes(
                           workers,
                           lambda i: read_all(files[i::workers], 1)),
                       n, n * size, n if epoch == 1 else 0,
                       most=n + n // 10 + 8 if epoch == 1 else 0)
        if peer.name == "r2fs":
            verify(files)

    c.each("training", work, lambda p: p.keep_names())
    s = c.server.signer()
    c.rec.limit("training", f"{label}, epoch 1", [s.get(x) for x in names],
                workers, n, n * size)


def readers(c):
    """64 readers of 64 large files at once, with little memory."""
    n, size, memory = 64, c.scale(32, 8) * MIB, 256 * MIB
    names = [f"readers/{size // MIB}/model-{i:02}.bin" for i in range(n)]
    c.server.fill([(x, size) for x in names])
    label = f"{n} readers of {n} files of {size // MIB} MiB, cold"

    def work(peer):
        files = c.server.files(peer.path, names)
        c.rec.peer("training", label, peer, lambda: read_all(files, n), n,
                   n * size, n * pieces(size), most=2 * n * size // MIB)
        if peer.name == "r2fs":
            verify(files[::8])

    c.each("training", work, lambda p: p.small_memory(memory))
    s = c.server.signer()
    lines = [x for some in zip(*(ranges(s, k, size) for k in names))
             for x in some]
    c.rec.limit("training", label, lines, n, n, n * size)


def shards(c):
    n = c.scale(192, 64)
    names = [f"epochs/shard-{i:05}.tar" for i in range(n)]
    c.server.fill([(x, SHARD) for x in names])
    return names


def mix(c, what, passes, measured):
    """Passes over shards, each a list of (label, numbers of shards), with a
    cache that holds half of all. The hit ratio of those that are measured,
    and of what could be known beforehand."""
    names = shards(c)
    order = [i for _, part in passes for i in part]
    room = len(names) // 2
    known = {"best possible": best(order, room),
             "least recently used": recency(order, room)}
    text = f"{what}, cache half the data"

    def work(peer):
        files = c.server.files(peer.path, names)
        for label, part in passes:
            size = len(part) * SHARD

            def run():
                read_all([files[i] for i in part], 4)
                fetched = c.server.stats()["bytes_out"]
                return {"hit_ratio": max(0, 1 - fetched / size)}
            drop_kernel_cache()
            c.rec.peer("hit ratio", f"{text}: {label}", peer, run, len(part),
                       size)

    c.each("hit ratio", work,
           lambda p: p.cache_size(len(names) * SHARD // 2))
    begin = 0
    for label, part in passes:
        end = begin + len(part)
        for name, hits in known.items():
            if label in measured:
                c.rec.add(group="hit ratio", work=f"{text}: {label}",
                          peer=name, files=len(part),
                          hit_ratio=sum(hits[begin:end]) / len(part))
        begin = end


def epochs(c):
    """Epochs over data twice the cache, in order and shuffled."""
    n = len(shards(c))
    rng = random.Random(1)
    for what in "sequential", "shuffled":
        passes = []
        for epoch in range(1, 4):
            order = list(range(n))
            if what == "shuffled":
                rng.shuffle(order)
            passes.append((f"epoch {epoch}", order))
        mix(c, what, passes, {"epoch 2", "epoch 3"})


def mixes(c):
    """Shards by popularity, and a scan through a set that is in use."""
    n = len(shards(c))
    rng = random.Random(5)
    weights = [1 / (i + 1) for i in range(n)]
    draw = lambda k: rng.choices(range(n), weights, k=k)
    mix(c, "Zipf", [("beginning", draw(n)), ("later", draw(2 * n))],
        {"later"})
    hot, rest = list(range(n // 4)), list(range(n // 4, n))
    mix(c, "scan through a hot set",
        [("hot set", hot * 3), ("scan", rest), ("hot set after", hot)],
        {"hot set after"})


TRAINING = {"loader": loader, "readers": readers, "epochs": epochs,
            "mixes": mixes}
