"""Workloads on names alone."""

import os
import subprocess

from measure import drop_kernel_cache


def count_lines(*argv):
    p = subprocess.run(argv, capture_output=True, text=True, check=True)
    return len(p.stdout.splitlines())


def wanted(n, m):
    if n != m:
        raise RuntimeError(f"{n} names instead of {m}")


def ls(c):
    """ls -l of one folder of 50,000 names."""
    n = 50000

    def work(peer):
        def run():
            wanted(count_lines("ls", "-l", f"{peer.path}/list") - 1, n)
        c.rec.peer("names", f"ls -l of {n} names, cold", peer, run, n)
        c.rec.peer("names", "… again", peer, run, n)

    c.each("names", work, lambda p: p.keep_names())
    c.rec.add(group="names", work=f"ls -l of {n} names, cold",
              peer="arithmetic, 1", files=n, seconds=n / 1000 * c.latency)


def find(c):
    """find over 300,000 names in 300 folders."""
    n = 300000

    def work(peer):
        def run():
            wanted(count_lines("find", f"{peer.path}/find", "-type", "f"), n)
        c.rec.peer("names", f"find of {n} names in 300 folders, cold", peer,
                   run, n)
        drop_kernel_cache()
        peer.remount()
        c.rec.peer("names", "… find after a remount", peer, run, n)

    c.each("names", work, lambda p: p.keep_names())
    c.rec.add(group="names", work=f"find of {n} names in 300 folders, cold",
              peer="arithmetic, 1", files=n, seconds=n / 1000 * c.latency)


def missing(c):
    """Chunks that are not there, in a folder that is."""
    n = 200
    c.server.fill("missing", [(f"missing/c{i}", 10) for i in range(10)])

    def work(peer):
        def run():
            for i in range(n):
                if os.path.exists(f"{peer.path}/missing/no{i}"):
                    raise RuntimeError("a name that does not exist")
        c.rec.peer("names", f"stat of {n} missing names, folder unlisted",
                   peer, run, n)
        os.listdir(f"{peer.path}/missing")
        drop_kernel_cache()
        c.rec.peer("names", "… folder listed", peer, run, n)

    c.each("names", work)


NAMES = {"ls": ls, "find": find, "missing": missing}
