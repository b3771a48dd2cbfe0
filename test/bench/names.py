"""Workloads on names alone."""

import os
import subprocess

from measure import drop_kernel_cache


def count_lines(*argv):
    """Different ones."""
    p = subprocess.run(argv, capture_output=True, text=True, check=True)
    return len(set(p.stdout.splitlines()))


def wanted(n, m):
    if n != m:
        raise RuntimeError(f"{n} names instead of {m}")


def ls(c):
    """ls -l of one folder of many names."""
    n = c.server.listed

    def work(peer):
        def run():
            wanted(count_lines("ls", "-l", f"{peer.path}/list") - 1, n)
        c.rec.peer("names", f"ls -l of {n} names, cold", peer, run, n,
                   fewest=n // 1000)
        c.rec.peer("names", "… again", peer, run, n, fewest=0)

    c.each("names", work, lambda p: p.keep_names())
    c.rec.arithmetic("names", f"ls -l of {n} names, cold", 1, n // 1000,
                     files=n)


def find(c):
    """find over many names in folders of 1,000."""
    n = c.server.found
    label = f"find of {n} names in {n // 1000} folders, cold"

    def work(peer):
        def run():
            wanted(count_lines("find", f"{peer.path}/find", "-type", "f"), n)
        c.rec.peer("names", label, peer, run, n, fewest=n // 1000 + 1)
        drop_kernel_cache()
        peer.remount()
        c.rec.peer("names", "… find after a remount", peer, run, n, fewest=0)

    c.each("names", work, lambda p: p.keep_names())
    c.rec.arithmetic("names", label, 1, n // 1000, files=n)


def missing(c):
    """Chunks that are not there, in a folder that is."""
    n = 200
    c.server.fill([(f"missing/c{i}", 10) for i in range(10)])

    def work(peer):
        def run():
            for i in range(n):
                if os.path.exists(f"{peer.path}/missing/no{i}"):
                    raise RuntimeError("a name that does not exist")
        c.rec.peer("names", f"stat of {n} missing names, folder unlisted",
                   peer, run, n, fewest=2)
        os.listdir(f"{peer.path}/missing")
        drop_kernel_cache()
        c.rec.peer("names", "… folder listed", peer, run, n, fewest=0)

    c.each("names", work)


NAMES = {"ls": ls, "find": find, "missing": missing}
