"""What every workload gets: the server, the peers, the recorder, the scale."""

import os
import shutil
import sys
import tempfile
import traceback

from measure import Recorder
from peers import ALL
from server import Server


class Context:
    def __init__(self, names, quick, latency, bandwidth, options, patience):
        self.patience = patience # seconds a mount may take for a workload
        self.quick = quick
        self.latency = latency / 1000
        self.bandwidth = bandwidth
        self.names = names
        self.options = options # further ones of r2fs
        self.server = Server(latency, bandwidth)
        self.rec = Recorder(self.server, say)
        self.native = tempfile.mkdtemp(prefix="bench-native-")

    def close(self):
        self.server.stop()
        shutil.rmtree(self.native, ignore_errors=True)

    def scale(self, full, quick):
        return quick if self.quick else full

    def each(self, group, fn, prepare=None, only=None):
        """fn(peer) for every peer on a fresh mount with an empty cache. A
        peer that fails or outstays its welcome gets a row that says so."""
        for name in self.names:
            if only and name not in only:
                continue
            peer = ALL[name](self.server,
                             self.options if name == "r2fs" else ())
            timer = peer.patience(self.patience)
            try:
                if prepare:
                    prepare(peer)
                self.server.shape()
                peer.start()
                fn(peer)
            except Exception as e:
                self.failed(group, peer, e)
            finally:
                timer.cancel()
                self.server.shape(False)
                peer.stop()

    def failed(self, group, peer, e):
        why = f"more than {self.patience} s" if peer.killed else str(e)
        if peer.name == "r2fs":
            traceback.print_exc()
        self.rec.add(group=group, work="", peer=peer.name,
                     error=why.strip().replace("\n", " ")[-300:])

    def native_tree(self, names, size):
        paths = [os.path.join(self.native, n) for n in names]
        data = os.urandom(size)
        for p in paths:
            os.makedirs(os.path.dirname(p), exist_ok=True)
            if not os.path.exists(p):
                with open(p, "wb") as f:
                    f.write(data)
        return paths


def say(row):
    if "error" in row:
        text = f"FAILED: {row['error']}"
    else:
        text = f"{row['seconds']:8.3f} s"
        for k in ("class_a", "class_b"):
            if k in row:
                text += f"  {k[-1].upper()} {row[k]}"
        if "first_byte" in row:
            text += f"  first byte {row['first_byte'] * 1000:.1f} ms"
        if "rss" in row:
            text += f"  {row['rss'] >> 20} MiB  cpu {row['cpu']:.2f} s"
    print(f"{row['group']:12} {row['work']:44} {row['peer']:16} {text}",
          file=sys.stderr, flush=True)
