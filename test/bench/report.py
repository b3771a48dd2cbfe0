"""The results as JSON and Markdown."""

import json
import os
import platform
import re

import demands
import plot
from peers import ALL as PEERS


def machine():
    with open("/proc/cpuinfo") as f:
        cpu = [x.split(":", 1)[1].strip() for x in f
               if x.startswith("model name")]
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) >> 20
    with open("/proc/loadavg") as f:
        load = f.read().split()[0]
    return {"cpu": f"{len(cpu)} × {cpu[0] if cpu else platform.machine()}",
            "memory": f"{memory} GiB", "kernel": platform.release(),
            "load": load}


def requests(row):
    if "class_a" not in row:
        return ["", "", "", ""]
    millionth = row["dollars"] * 1e6 / max(row["files"], 1)
    unit = f"{millionth:.2f}" if row["files"] else ""
    few = row.get("fewest")
    few = "" if few is None else f"{row['requests']} / {few}"
    return [str(row["class_a"]), str(row["class_b"]), few, unit]


def rate(row):
    if row["seconds"] <= 0:
        return ["", ""]
    files = f"{row['files'] / row['seconds']:.0f}" if row["files"] else ""
    size = row.get("bytes", 0)
    mb = f"{size / row['seconds'] / 1e6:.0f}" if size else ""
    return [files, mb]


def cells(row):
    if "error" in row:
        return [row["peer"], f"failed: {row['error']}"] + [""] * 9
    hits = f"{row['hit_ratio']:.2f}" if "hit_ratio" in row else ""
    if "seconds" not in row:
        return [row["peer"]] + [""] * 9 + [hits]
    daemon = ["", ""]
    if "rss" in row:
        daemon = [str(row["rss"] >> 20), f"{row['cpu']:.2f}"]
    return [row["peer"], f"{row['seconds']:.3f}", *rate(row),
            *requests(row), *daemon, hits]


HEAD = ["mount", "seconds", "files/s", "MB/s", "class A", "class B",
        "requests / fewest", "$ a million files", "peak MiB", "CPU s",
        "hit ratio"]


def table(rows):
    """Without the columns that nothing is in."""
    grid = [HEAD, *(cells(r) for r in rows)]
    used = [i for i in range(len(HEAD)) if i < 2 or
            any(line[i] for line in grid[1:])]
    head, *lines = [[line[i] for i in used] for line in grid]
    marks = ["---"] + ["--:"] * (len(used) - 1)
    return "\n".join("| " + " | ".join(x) + " |"
                     for x in (head, marks, *lines))


def markdown(rows):
    parts = []
    for group in dict.fromkeys(r["group"] for r in rows):
        parts.append(f"### {group}\n")
        mine = [r for r in rows if r["group"] == group]
        for work in dict.fromkeys(r["work"] for r in mine):
            parts.append(f"**{work or 'failed'}**\n")
            parts.append(table([r for r in mine if r["work"] == work]) + "\n")
    return "\n".join(parts)


def about(o, seconds, absent, took):
    return dict(machine(), latency_ms=o.latency, bandwidth_mb=o.bandwidth,
                seconds=round(seconds), quick=o.quick, absent=absent,
                took=took)


def headline(facts):
    release = ".".join(facts["kernel"].split(".")[:2])
    text = (f"{facts['cpu']}, {facts['memory']}, Linux {release}, "
            f"load {facts['load']} at the end; {facts['latency_ms']:g} ms to "
            f"the first byte, {facts['bandwidth_mb']} MB/s a connection; "
            f"{facts['seconds'] // 60 + 1} minutes")
    if facts["quick"]:
        text += ", `--quick`"
    if facts["absent"]:
        text += f". Not installed: {', '.join(facts['absent'])}"
    return text + ".\n"


def write(o, rows, facts):
    os.makedirs(o.out, exist_ok=True)
    with open(os.path.join(o.out, "results.json"), "w") as f:
        json.dump({"about": facts, "rows": rows}, f, indent=1)
    with open(os.path.join(o.out, "results.md"), "w") as f:
        f.write("\n".join([headline(facts), demands.table(rows),
                           markdown(rows)]))
    for group in dict.fromkeys(r["group"] for r in rows):
        mine = [r for r in rows if r["group"] == group and "error" not in r]
        name = re.sub(r"[^\w-]+", "-", group.replace(",", "")) + ".svg"
        if mine:
            with open(os.path.join(o.out, name), "w") as f:
                f.write(plot.bars(group, mine))
    print(f"bench: {o.out}/results.md, results.json, *.svg")


# The page in docs: what stands between these marks comes from the results.
MARK = "<!-- {} of the results: scripts/bench --docs -->"


def summary(rows, names):
    """One line a workload: what r2fs took, its peers and the limits."""
    lines = ["| workload | " + " | ".join(names) + " | limits |",
             "|---" * (len(names) + 2) + "|"]
    for group, work in dict.fromkeys((r["group"], r["work"]) for r in rows
                                     if r["work"]):
        mine = {r["peer"]: r for r in rows if r["group"] == group and
                r["work"] == work}
        limits = "; ".join(f"{n} {brief(r)}" for n, r in mine.items()
                           if n not in names)
        cols = [brief(mine[n]) if n in mine else "–" for n in names]
        lines.append(f"| {group}: {work} | " + " | ".join(cols) +
                     f" | {limits} |")
    return "\n".join(lines) + "\n"


def brief(row):
    if "seconds" not in row:
        return f"hits {row['hit_ratio']:.2f}"
    parts = [f"{row['seconds']:.2f} s"]
    if "cpu" in row:
        free = f" {row['free']} free" if row["free"] else ""
        few = row.get("fewest")
        parts += [f"{row['class_a']} A {row['class_b']} B{free}" +
                  ("" if few is None else f" of {few}"),
                  f"{row['rss'] >> 20} MiB", f"{row['cpu']:.1f} CPU s"]
    if "hit_ratio" in row:
        parts.append(f"hits {row['hit_ratio']:.2f}")
    return ", ".join(parts)


def docs(results, page):
    """Puts the tables of results.json into the page."""
    with open(results) as f:
        got = json.load(f)
    with open(page) as f:
        text = f.read()
    rows = got["rows"]
    names = [n for n in PEERS if any(r["peer"] == n for r in rows)]
    failed = [f"- {r['peer']}, {r['group']}: {r['error']}" for r in rows
              if "error" in r]
    parts = [headline(got["about"]), demands.table(rows),
             "A is class A, B class B, then the fewest requests that could "
             "do it.\n", summary(rows, names)]
    if failed:
        parts.append("Not measured:\n\n" + "\n".join(failed) + "\n")
    begin, end = MARK.format("begin"), MARK.format("end")
    head, rest = text.split(begin, 1)
    tail = rest.split(end, 1)[1]
    with open(page, "w") as f:
        f.write("\n".join([head + begin, "", "\n".join(parts), end]) + tail)
    print(f"bench: {page}")
