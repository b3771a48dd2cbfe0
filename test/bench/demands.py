"""What r2fs promises, beside what this run measured."""

MEMORY = 576 << 20 # the default budget of 512 MiB, and 64 MiB


class Rows:
    def __init__(self, rows):
        self.rows = [r for r in rows if "error" not in r]

    def find(self, peer, *words):
        for r in self.rows:
            if r["peer"].startswith(peer) and all(
                    w in r["work"] for w in words):
                return r
        return None

    def requests(self, *words):
        r = self.find("r2fs", *words)
        return r and r["class_a"] + r["class_b"] + r["free"]

    def ratio(self, over, *words):
        """r2fs's speed as a part of another's."""
        ours, other = self.find("r2fs", *words), self.find(over, *words)
        if not ours or not other:
            return None
        return other["seconds"] / max(ours["seconds"], 1e-9)


def at_most(value, limit, form="{}"):
    if value is None:
        return None
    return form.format(value), value <= limit


def at_least(value, limit, form="{:.2f}"):
    if value is None:
        return None
    return form.format(value), value >= limit


def slower(value, limit):
    """How many times the other's time, at most limit."""
    return at_most(value and 1 / value, limit, "{:.2f}")


SMALL = "files of 64 KiB, 16 threads, cold"


def reading(r):
    small = r.find("r2fs", SMALL)
    first = r.find("r2fs", "first byte")
    find = r.find("r2fs", "find after")
    yield ("small files, cold: requests a file", "≤ 1.01",
           small and at_most(r.requests(SMALL) / small["files"], 1.01,
                             "{:.3f}"))
    yield ("small files, cold: times the round trips of 16 threads",
           "≤ 1.2", slower(r.ratio("arithmetic", SMALL), 1.2))
    yield ("the same, of the bare client with 16 connections", "≤ 1.11",
           slower(r.ratio("bare client, 16", SMALL), 1.11))
    yield ("again, kernel cache dropped: requests", "0",
           at_most(r.requests("again, kernel"), 0))
    yield ("again, after a remount: requests", "0",
           at_most(r.requests("again, after a remount"), 0))
    yield ("small files, warm, one thread: of native", "≥ 0.4",
           at_least(r.ratio("native", "again, one thread"), 0.4))
    yield ("200 missing names, folder unlisted: requests", "≤ 2",
           at_most(r.requests("unlisted"), 2))
    yield ("200 missing names, folder listed: requests", "0",
           at_most(r.requests("folder listed"), 0))
    yield ("ls -l of 50,000 names: requests", "≤ 51",
           at_most(r.requests("ls -l"), 51))
    yield ("find of 300,000 names after a remount: requests", "0",
           at_most(r.requests("find after"), 0))
    yield ("the same: seconds", "< 3",
           at_most(find and find["seconds"], 3, "{:.2f}"))
    bare = r.find("bare", "first byte")
    if first and bare:
        yield ("first byte: times the bare client", "≤ 1.1",
               at_most(first["first_byte"] / bare["first_byte"], 1.1,
                       "{:.2f}"))


def speed(r):
    yield ("large file, cold: of the bare client", "≥ 0.9",
           at_least(r.ratio("bare", "MiB sequential, cold"), 0.9))
    large = [x["cpu"] / x["bytes"] if x else None for x in (
        r.find(n, "MiB sequential, cold") for n in ("r2fs", "rclone"))]
    if all(large):
        yield ("the same: CPU of the daemon, of rclone's", "< 1",
               at_most(large[0] / large[1], 1, "{:.2f}"))
    rows = [x for x in r.rows if x["group"] == "large file"]
    yield ("large file, warm: of native", "≥ 0.95",
           at_least(Rows(rows).ratio("native", "… again"), 0.95))
    yield ("64 KiB random, warm: of native", "≥ 0.9",
           at_least(r.ratio("native", "random, warm"), 0.9))
    for axis in "last", "middle", "first":
        words = "chunks", f"{axis} axis"
        yield (f"Zarr chunks, {axis} axis, cold: of the bare client",
               "≥ 0.5", at_least(r.ratio("bare", *words), 0.5))
        peers = [x for x in (r.ratio(n, *words) for n in ("s3fs", "rclone"))
                 if x]
        if peers:
            yield (f"Zarr chunks, {axis} axis, cold: of the best peer",
                   "≥ 10", at_least(min(peers), 10))
    for order in "sequential", "shuffled":
        for epoch in 2, 3:
            x = r.find("r2fs", order, f"epoch {epoch}")
            yield (f"epoch {epoch}, {order}, cache half the data: hit ratio",
                   "≥ 0.45", at_least(x and x["hit_ratio"], 0.45))
    most = max((x["rss"] for x in r.rows if x["peer"] == "r2fs" and
                "rss" in x), default=None)
    yield ("most memory in any workload, MiB", "≤ 576",
           at_most(most and most >> 20, MEMORY >> 20))


def writing(r):
    small = r.find("r2fs", "written by")
    temp = r.find("r2fs", "temporary")
    yield ("small files written: class A requests beyond one a file", "≤ 1",
           small and at_most(small["class_a"] - small["files"], 1))
    yield ("the same: times the round trips of 8 threads", "≤ 1.2",
           slower(r.ratio("arithmetic", "written by"), 1.2))
    yield ("large file written: times the bare client", "≤ 1.25",
           slower(r.ratio("bare", "close included"), 1.25))
    yield ("temporary name and rename: requests a file", "1",
           temp and at_most(r.requests("temporary") / temp["files"], 1.02,
                            "{:.2f}"))


def table(rows):
    r = Rows(rows)
    lines = ["| demand | target | measured | |", "|---|---|---|---|"]
    for part in reading, speed, writing:
        for text, target, got in part(r):
            if got is not None:
                lines.append(f"| {text} | {target} | {got[0]} | "
                             f"{'yes' if got[1] else '**no**'} |")
    return "\n".join(lines) + "\n"
