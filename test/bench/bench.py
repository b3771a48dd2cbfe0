"""Runs workloads on r2fs and its peers, all against the same server, and
writes what came out. scripts/bench starts it."""

import argparse
import gc
import os
import signal
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../e2e")]
from context import Context  # noqa: E402
from arrays import ARRAYS  # noqa: E402
from peers import ALL  # noqa: E402
from names import NAMES  # noqa: E402
from reading import READING, VARIANTS  # noqa: E402
from training import TRAINING  # noqa: E402
from writing import WRITING  # noqa: E402
import demands  # noqa: E402
import report  # noqa: E402

WORK = {**READING, **ARRAYS, **TRAINING, **NAMES, **WRITING, **VARIANTS}


def options():
    p = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    p.add_argument("--quick", action="store_true",
                   help="less data, r2fs alone, wrong when a workload "
                   "needs too many requests: about a minute and a half")
    p.add_argument("--work", default="", metavar="NAMES",
                   help="only these, with commas: " + " ".join(WORK))
    p.add_argument("--peers", metavar="NAMES",
                   help="mounts to compare: " + " ".join(ALL))
    p.add_argument("--latency", type=float, default=30, metavar="MS",
                   help="to the first byte of an answer (default 30)")
    p.add_argument("--bandwidth", type=int, default=50, metavar="MB",
                   help="of one connection, a second (default 50)")
    p.add_argument("--patience", type=int, default=60, metavar="S",
                   help="a mount that takes longer for a workload is ended "
                   "(default 60)")
    p.add_argument("--r2fs", action="append", default=[], metavar="OPTION",
                   help="a further option of r2fs mount, --r2fs=--memory=1G")
    p.add_argument("--docs", metavar="PAGE",
                   help="run nothing: put the tables of the last results "
                   "into this page, docs/benchmarks.md")
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


def run(c, name):
    """What goes wrong outside of a mount does not end the other workloads."""
    try:
        start = time.monotonic()
        WORK[name](c)
        c.took[name] = round(time.monotonic() - start, 1)
    except Exception as e:
        traceback.print_exc()
        c.rec.add(group=name, work="", peer="bench", error=repr(e)[-300:])


def main():
    o = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)) # and clean up
    if o.docs:
        report.docs(os.path.join(o.out, "results.json"), o.docs)
        return
    absent = [n for n in o.peers if not ALL[n].present()]
    if absent:
        print(f"bench: not installed and left out: {', '.join(absent)}",
              file=sys.stderr)
    c = Context([n for n in o.peers if n not in absent], o.quick,
                o.latency, o.bandwidth * 1000000, o.r2fs, o.patience)
    start = time.monotonic()
    try:
        for w in o.work:
            run(c, w)
            gc.collect()
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; the results are of what was done")
    finally:
        c.close()
        report.write(o, c.rec.rows,
                     report.about(o, time.monotonic() - start, absent,
                                  c.took))
    sys.exit(verdict(o, c.rec.rows))


def verdict(o, rows):
    """1 when r2fs failed at something, or needed more requests than it is
    known to; never because of time."""
    bad = [r for r in rows if "error" in r and r["peer"] in ("r2fs", "bench")]
    many = demands.miscounted(rows)
    for r in many:
        print(f"bench: {r['group']}: {r['work']}: {r['requests']} requests, "
              f"not {r['most']} at most: {r['ops']}", file=sys.stderr)
    return 1 if bad or (many and o.quick) else 0


if __name__ == "__main__":
    main()
