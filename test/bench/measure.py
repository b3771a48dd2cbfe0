"""One measurement: what a piece of work took and cost."""

import os
import time

from server import dollars


class Recorder:
    """Collects rows; a row is a dictionary with these keys, some absent:
    group, work, peer, seconds, files, bytes, ops, class_a, class_b, free,
    dollars, fetched, rss, cpu, error, first_byte."""

    def __init__(self, server, say):
        self.server, self.say = server, say
        self.rows = []

    def add(self, **row):
        self.rows.append(row)
        self.say(row)
        return row

    def peer(self, group, work, peer, fn, files=0, size=0):
        """Runs fn and notes it as peer's."""
        self.server.reset()
        peer.forget_peak()
        cpu = peer.cpu_seconds()
        start = time.monotonic()
        extra = fn() or {}
        seconds = time.monotonic() - start
        stats = self.server.stats()
        return self.add(
            group=group, work=work, peer=peer.name, seconds=seconds,
            files=files, bytes=size,
            ops={k: v for k, v in stats["ops"].items() if v},
            class_a=stats["class_a"], class_b=stats["class_b"],
            free=stats["free"], dollars=dollars(stats),
            fetched=stats["bytes_out"], rss=peer.peak_memory(),
            cpu=peer.cpu_seconds() - cpu, **extra)

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
            dollars=dollars(stats), fetched=stats["bytes_out"])

    def seconds(self, work, peer):
        for r in self.rows:
            if r["work"] == work and r["peer"] == peer and "seconds" in r:
                return r["seconds"]
        return None


def drop_kernel_cache():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")
