"""Workloads of training: many files, many readers, many epochs."""

import os
import random

from access import MIB, read_all
from measure import drop_kernel_cache


def epochs(c):
    """Epochs over data twice the cache, in order and shuffled: how much of
    the later ones the cache answers."""
    n, size = c.scale(256, 96), 2 * MIB
    names = [f"epochs/shard-{i:05}.tar" for i in range(n)]
    c.server.fill("epochs", [(x, size) for x in names])
    total = n * size

    for order in "sequential", "shuffled":
        def work(peer):
            rng = random.Random(1)
            paths = [os.path.join(peer.path, x) for x in names]
            last = None
            for epoch in range(1, 4):
                if order == "shuffled":
                    rng.shuffle(paths)
                drop_kernel_cache()
                last = c.rec.peer(
                    "epochs", f"{order}, cache half the data, epoch {epoch}",
                    peer, lambda: read_all(paths, 4, size), n, total)
                last["hit_ratio"] = max(0, 1 - last["fetched"] / total)

        c.each("epochs", work, lambda p: p.cache_size(total // 2))


def readers(c):
    """64 readers of 64 large files at once: memory."""
    n, size = 64, c.scale(32, 8) * MIB
    names = [f"readers/model-{i:02}.bin" for i in range(n)]
    c.server.fill("readers", [(x, size) for x in names])

    def work(peer):
        paths = [os.path.join(peer.path, x) for x in names]
        c.rec.peer("training", f"{n} readers of {n} files of {size // MIB} "
                   "MiB, cold", peer, lambda: read_all(paths, n, size), n,
                   n * size)

    c.each("training", work)
    s = c.server.signer()
    step = 8 * MIB
    lines = [s.get(x, o, min(o + step, size) - 1)
             for o in range(0, size, step) for x in names]
    c.rec.limit("training", f"{n} readers of {n} files of {size // MIB} MiB, "
                "cold", lines, n, n, n * size)


TRAINING = {"epochs": epochs, "readers": readers}
