"""r2sim with the data of the workloads, and the bare client that fills it
and shows what it can give."""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../e2e"))
import harness  # noqa: E402
from signing import Signer  # noqa: E402

# another build's r2sim, to compare two of r2fs on the same one
harness.R2SIM = os.environ.get("R2FS_SIM", harness.R2SIM)

LIMIT = os.path.join(harness.BUILD, "test/bench/bench-limit")
CONNECTIONS = 64 # what r2fs uses unless told otherwise
CLASS_A, CLASS_B = 4.50e-6, 0.36e-6 # dollars a request


class Server(harness.Server):
    def __init__(self, latency_ms, bandwidth):
        self.latency_ms, self.bandwidth = latency_ms, bandwidth
        self.filled = set()
        super().__init__(
            "--synthetic", f"{harness.BUCKET}:list/:50000:100",
            "--synthetic", f"{harness.BUCKET}:find/:300000:100:1000")
        self.bucket = harness.BUCKET
        # random once, repeated with a different beginning for every object
        self.pattern = os.path.join(self.dir, "pattern")
        with open(self.pattern, "wb") as f:
            for _ in range(64):
                f.write(os.urandom(1 << 20))

    def shape(self, on=True):
        self.latency(self.latency_ms if on else 0)
        self.control(f"bandwidth?bytes={self.bandwidth if on else 0}")

    def signer(self):
        return Signer(self.endpoint, self.bucket, harness.KEY, harness.SECRET)

    def client_run(self, lines, connections=CONNECTIONS):
        """The bare client: its JSON."""
        p = subprocess.run([LIMIT, str(connections)], timeout=600,
                           input="\n".join(lines) + "\n", text=True,
                           capture_output=True)
        if p.returncode:
            raise RuntimeError(f"the bare client failed: {p.stdout}{p.stderr}")
        return json.loads(p.stdout)

    def fill(self, what, objects):
        """PUTs (key, size) once; keys get different bytes."""
        if what in self.filled:
            return
        self.filled.add(what)
        self.shape(False)
        s = self.signer()
        lines, big = [], []
        for i, (key, size) in enumerate(objects):
            offset = i * 4099 % (32 << 20)
            if size <= 32 << 20:
                lines.append(s.put(key, self.pattern, offset, size))
            else:
                big.append((key, size))
        if lines:
            self.client_run(lines, 8)
        for key, size in big:
            self.fill_big(s, key, size)

    def fill_big(self, s, key, size):
        path = os.path.join(self.dir, "big")
        pattern = os.path.getsize(self.pattern)
        with open(self.pattern, "rb") as f, open(path, "wb") as out:
            for start in range(0, size, pattern):
                f.seek(0)
                out.write(f.read(min(pattern, size - start)))
        self.client_run([s.put(key, path, 0, size)], 1)
        os.unlink(path)

    def keys(self, prefix):
        pages = self.client().get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix)
        return [o["Key"] for p in pages for o in p.get("Contents", ())]

    def puts(self):
        """Files stored since the last reset, folders' markers too."""
        return self.stats()["ops"].get("PUT", 0)

    def completed(self):
        ops = self.stats()["ops"]
        return ops.get("COMPLETE", 0) + ops.get("PUT", 0)


def dollars(stats):
    return stats["class_a"] * CLASS_A + stats["class_b"] * CLASS_B

