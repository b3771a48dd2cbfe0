"""The results as JSON and Markdown."""

import json
import os
import platform

import demands
import plot


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
        return ["", "", ""]
    millionth = row["dollars"] * 1e6 / max(row["files"], 1)
    unit = f"{millionth:.2f}" if row["files"] else ""
    return [str(row["class_a"]), str(row["class_b"]), unit]


def rate(row):
    if row["seconds"] <= 0:
        return ["", ""]
    files = f"{row['files'] / row['seconds']:.0f}" if row["files"] else ""
    size = row.get("bytes", 0)
    mb = f"{size / row['seconds'] / 1e6:.0f}" if size else ""
    return [files, mb]


def cells(row):
    if "error" in row:
        return [row["peer"], f"failed: {row['error']}"] + [""] * 7
    daemon = ["", ""]
    if "rss" in row:
        daemon = [str(row["rss"] >> 20), f"{row['cpu']:.2f}"]
    return [row["peer"], f"{row['seconds']:.3f}", *rate(row),
            *requests(row), *daemon]


HEAD = ["mount", "seconds", "files/s", "MB/s", "class A", "class B",
        "$ a million files", "peak MiB", "CPU s"]


def table(rows):
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    lines += ["| " + " | ".join(cells(r)) + " |" for r in rows]
    return "\n".join(lines)


def markdown(rows):
    parts = []
    for group in dict.fromkeys(r["group"] for r in rows):
        parts.append(f"### {group}\n")
        mine = [r for r in rows if r["group"] == group]
        for work in dict.fromkeys(r["work"] for r in mine):
            parts.append(f"**{work or 'failed'}**\n")
            parts.append(table([r for r in mine if r["work"] == work]) + "\n")
    return "\n".join(parts)


def write(o, rows, seconds):
    os.makedirs(o.out, exist_ok=True)
    about = dict(machine(), latency_ms=o.latency, bandwidth_mb=o.bandwidth,
                 seconds=round(seconds))
    with open(os.path.join(o.out, "results.json"), "w") as f:
        json.dump({"about": about, "rows": rows}, f, indent=1)
    with open(os.path.join(o.out, "results.md"), "w") as f:
        f.write(" · ".join(f"{k} {v}" for k, v in about.items()) + "\n\n")
        f.write(demands.table(rows) + "\n")
        f.write(markdown(rows))
    for group in dict.fromkeys(r["group"] for r in rows):
        mine = [r for r in rows if r["group"] == group and "error" not in r]
        name = group.replace(" ", "-") + ".svg"
        with open(os.path.join(o.out, name), "w") as f:
            f.write(plot.bars(group, mine))
    print(f"bench: {o.out}/results.md, results.json, *.svg")
