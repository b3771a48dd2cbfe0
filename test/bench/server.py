"""r2sim with the data of the workloads, and the bare client that fills it
and shows what it can give."""

import contextlib
import json
import os
import subprocess

import harness
from content import Computed, Cut, MIB, PATTERN, SMALL
from signing import Signer

# another build's r2sim, to compare two of r2fs on the same one
harness.R2SIM = os.environ.get("R2FS_SIM", harness.R2SIM)

LIMIT = os.path.join(harness.BUILD, "test/bench/bench-limit")
CONNECTIONS = 64 # what r2fs uses unless told otherwise
CLASS_A, CLASS_B = 4.50e-6, 0.36e-6 # dollars a request
HUGE = 4096 * MIB


class Server(harness.Server):
    own_session = True # mounts are ended first, and in peace

    def __init__(self, latency_ms, bandwidth, listed, found):
        """`listed` names in one folder, `found` in folders of 1,000."""
        self.latency_ms, self.bandwidth = latency_ms, bandwidth
        self.listed, self.found = listed, found
        self.link = 0 # bytes a second of all connections, 0: no limit
        self.contents = {}
        b = harness.BUCKET
        super().__init__(
            "--synthetic", f"{b}:list/:{listed}:100",
            "--synthetic", f"{b}:find/:{found}:100:1000",
            "--synthetic", f"{b}:huge/:1:{HUGE}")
        self.bucket = b
        self.ca = None # of an https endpoint
        self.contents["huge/f00000000"] = Computed("huge/f00000000", HUGE)
        self.pattern = os.path.join(self.dir, "pattern")
        self.random = os.urandom(PATTERN)
        with open(self.pattern, "wb") as f:
            f.write(self.random)

    def shape(self, on=True):
        self.latency(self.latency_ms if on else 0)
        self.control(f"bandwidth?bytes={self.bandwidth if on else 0}")
        self.control(f"link?bytes={self.link if on else 0}")

    @contextlib.contextmanager
    def tls(self):
        """While it lasts, the endpoint is one of https."""
        cert, key = harness.certificate(self.dir)
        with harness.tls(self.port, cert, key) as self.public:
            self.ca = cert
            try:
                yield
            finally:
                self.ca = None

    @property
    def mounted_endpoint(self):
        """What mounts and the bare client talk to."""
        return self.public if self.ca else self.endpoint

    def signer(self):
        return Signer(self.mounted_endpoint, self.bucket, harness.KEY,
                      harness.SECRET)

    def client_run(self, lines, connections=CONNECTIONS):
        """The bare client: its JSON."""
        env = dict(os.environ, BENCH_CA=self.ca or "")
        p = subprocess.run([LIMIT, str(connections)], timeout=600,
                           input="\n".join(lines) + "\n", text=True,
                           capture_output=True, env=env)
        if p.returncode:
            raise RuntimeError(f"the bare client failed: {p.stdout}{p.stderr}")
        return json.loads(p.stdout)

    def content(self, i, size):
        return Cut(self.random, i, size)

    def fill(self, objects):
        """PUTs those of (key, size) that are not there yet."""
        self.shape(False)
        s = self.signer()
        lines = []
        for i, (key, size) in enumerate(objects):
            if key in self.contents:
                continue
            c = self.contents[key] = self.content(i, size)
            if size <= SMALL:
                lines.append(s.put(key, self.pattern, c.start, size))
            else:
                self.fill_big(s, key, c)
        if lines:
            self.client_run(lines, 8)

    def fill_big(self, s, key, content):
        path = os.path.join(self.dir, "big")
        with open(path, "wb") as out:
            for off in range(0, content.size, MIB):
                out.write(content.data(off, MIB))
        self.client_run([s.put(key, path, 0, content.size)], 1)
        os.unlink(path)

    def files(self, top, keys):
        """(path, content) of keys on a mount."""
        return [(os.path.join(top, k), self.contents[k]) for k in keys]

    def client(self):
        """One for all: boto3 takes long to make one."""
        if not hasattr(self, "s3"):
            self.s3 = super().client()
        return self.s3

    def keys(self, prefix):
        pages = self.client().get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix)
        return [o["Key"] for p in pages for o in p.get("Contents", ())]

    def check_stored(self, key, content):
        """The object, read past every mount, has these bytes."""
        self.shape(False)
        body = self.client().get_object(Bucket=self.bucket, Key=key)["Body"]
        off = 0
        while buf := body.read(MIB):
            content.check_all(key, buf, off, len(buf))
            off += len(buf)
        if off != content.size:
            raise RuntimeError(f"{key}: {off} bytes stored instead of "
                               f"{content.size}")
        self.shape()

    def puts(self):
        """Files stored since the last reset, folders' markers too."""
        return self.stats()["ops"].get("PUT", 0)

    def completed(self):
        ops = self.stats()["ops"]
        return ops.get("COMPLETE", 0) + ops.get("PUT", 0)


def dollars(stats):
    return stats["class_a"] * CLASS_A + stats["class_b"] * CLASS_B
