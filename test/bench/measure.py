"""One measurement: what a piece of work took and cost."""

import os
import statistics
import time

from server import dollars


class Recorder:
    """Collects rows; a row is a dictionary with these keys, some absent:
    group, work, peer, seconds, files, bytes, ops, class_a, class_b, free,
    requests, fewest, most, dollars, fetched, rss, budget, cpu, error,
    first_byte, hit_ratio, passthrough, io_uring, variant.

    fewest: the requests that could do it, by arithmetic; most: how many are
    still right, a twentieth above unless said otherwise."""

    def __init__(self, server, say):
        self.server, self.say = server, say
        self.rows = []
        self.variant = None

    def add(self, **row):
        if self.variant:
            row["variant"] = self.variant
            row["group"] += ", " + self.variant
        self.rows.append(row)
        self.say(row)
        return row

    def peer(self, group, work, peer, fn, files=0, size=0, fewest=None,
             most=None):
        """Runs fn and notes it as peer's."""
        self.begin(peer)
        cpu = peer.cpu_seconds()
        start = time.monotonic()
        got = fn()
        extra = got if isinstance(got, dict) else {}
        seconds = time.monotonic() - start
        return self.cost(group, work, peer, seconds, cpu, files, size, fewest,
                         most, extra)

    def begin(self, peer):
        self.server.reset()
        peer.forget_peak()

    def cost(self, group, work, peer, seconds, cpu, files, size, fewest, most,
             extra):
        stats = self.server.stats()
        if fewest is not None:
            extra = dict(extra, fewest=fewest,
                         most=int(fewest * 1.05) if most is None else most)
        if peer.budget:
            extra = dict(extra, budget=peer.budget)
        return self.add(
            group=group, work=work, peer=peer.name, seconds=seconds,
            files=files, bytes=size,
            ops={k: v for k, v in stats["ops"].items() if v},
            class_a=stats["class_a"], class_b=stats["class_b"],
            free=stats["free"], dollars=dollars(stats),
            requests=stats["class_a"] + stats["class_b"] + stats["free"],
            fetched=stats["bytes_out"], rss=peer.peak_memory(),
            cpu=peer.cpu_seconds() - cpu, **extra)

    def turns(self, group, work, peer, fn, others, files=0, size=0, rounds=3):
        """fn of the peer and what it is compared with, taking turns; medians.
        `others` is a dictionary of name and function. Not one request is
        needed."""
        times = {name: [] for name in (peer.name, *others)}
        self.begin(peer)
        cpu, ours = peer.cpu_seconds(), 0
        for _ in range(rounds):
            for name, f in ((peer.name, fn), *others.items()):
                before = peer.cpu_seconds()
                start = time.monotonic()
                f()
                times[name].append(time.monotonic() - start)
                if name == peer.name:
                    ours += peer.cpu_seconds() - before
        middle = {n: statistics.median(t) for n, t in times.items()}
        row = self.cost(group, work, peer, middle[peer.name], cpu, files,
                        size, 0, 0, peer.features())
        row["cpu"] = ours / rounds
        for name in others:
            self.add(group=group, work=work, peer=name, files=files,
                     bytes=size, seconds=middle[name])
        return row

    def plain(self, group, work, name, fn, files=0, size=0):
        """Runs fn, which no peer and no server has a part in."""
        start = time.monotonic()
        fn()
        return self.add(group=group, work=work, peer=name, files=files,
                        bytes=size, seconds=time.monotonic() - start)

    def limit(self, group, work, lines, connections, files=0, size=0):
        """The bare client's."""
        self.server.shape()
        self.server.reset()
        got = self.server.client_run(lines, connections)
        stats = self.server.stats()
        return self.add(
            group=group, work=work, peer=f"bare client, {connections}",
            files=files, bytes=size, seconds=got["seconds"],
            first_byte=got["first_byte"], class_a=stats["class_a"],
            class_b=stats["class_b"], free=stats["free"],
            requests=stats["class_a"] + stats["class_b"] + stats["free"],
            dollars=dollars(stats), fetched=stats["bytes_out"])

    def arithmetic(self, group, work, lanes, trips, size=0, rate=0, files=0):
        """`trips` round trips on `lanes` connections, and `size` bytes at
        `rate` a second and connection."""
        seconds = -(-trips // lanes) * self.server.latency_ms / 1000
        if size:
            seconds += size / rate / lanes
        return self.add(group=group, work=work, peer=f"arithmetic, {lanes}",
                        files=files, bytes=size, seconds=seconds)


def drop_kernel_cache():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")
