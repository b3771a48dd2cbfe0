"""Runs workloads on r2fs and its peers, all against the same server, and
writes what came out. scripts/bench starts it."""

import argparse
import gc
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from context import Context  # noqa: E402
from peers import ALL  # noqa: E402
from names import NAMES  # noqa: E402
from reading import READING  # noqa: E402
from training import TRAINING  # noqa: E402
from writing import WRITING  # noqa: E402
import report  # noqa: E402

WORK = {**READING, **NAMES, **TRAINING, **WRITING}


def options():
    p = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    p.add_argument("--quick", action="store_true",
                   help="less data, r2fs alone: two or three minutes")
    p.add_argument("--work", default="", metavar="NAMES",
                   help="only these, with commas: " + " ".join(WORK))
    p.add_argument("--peers", metavar="NAMES",
                   help="mounts to compare: " + " ".join(ALL))
    p.add_argument("--latency", type=float, default=30, metavar="MS",
                   help="to the first byte of an answer (default 30)")
    p.add_argument("--bandwidth", type=int, default=50, metavar="MB",
                   help="of one connection, a second (default 50)")
    p.add_argument("--patience", type=int, default=100, metavar="S",
                   help="a mount that takes longer for a workload is ended "
                   "(default 100)")
    p.add_argument("--r2fs", action="append", default=[], metavar="OPTION",
                   help="a further option of r2fs mount, --r2fs=--memory=1G")
    p.add_argument("--out", required=True, metavar="DIR")
    o = p.parse_args()
    o.work = [w for w in o.work.split(",") if w] or list(WORK)
    names = o.peers or ("r2fs" if o.quick else ",".join(ALL))
    o.peers = [n for n in names.split(",") if n]
    for given, known in ((o.work, WORK), (o.peers, ALL)):
        for n in given:
            if n not in known:
                p.error(f"{n}: not one of {' '.join(known)}")
    return o


def main():
    o = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)) # and clean up
    absent = [n for n in o.peers if not ALL[n].present()]
    for n in absent:
        print(f"bench: {n} is not installed and left out", file=sys.stderr)
    c = Context([n for n in o.peers if n not in absent], o.quick,
                o.latency, o.bandwidth * 1000000, o.r2fs, o.patience)
    start = time.monotonic()
    try:
        for w in o.work:
            WORK[w](c)
            gc.collect()
    finally:
        report.write(o, c.rec.rows, time.monotonic() - start)
        c.close()
    bad = [r for r in c.rec.rows if "error" in r and r["peer"] == "r2fs"]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
