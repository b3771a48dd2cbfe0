"""What every workload gets: the server, the peers, the recorder, the scale."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

import harness
from content import write_native
from measure import Recorder
from peers import ALL, Peer
from server import Server

NOTHING = os.path.join(harness.BUILD, "test/bench/nothing")


class Context:
    def __init__(self, names, quick, latency, bandwidth, options, patience):
        self.patience = patience # seconds a mount may take for a workload
        self.quick = quick
        self.bandwidth = bandwidth
        self.names = names
        self.options = options # further ones of r2fs
        listed, found = self.scale((50000, 300000), (10000, 30000))
        self.server = Server(latency, bandwidth, listed, found)
        self.rec = Recorder(self.server, say)
        self.took = {} # workload -> seconds, all in all
        self.native = tempfile.mkdtemp(prefix="bench-native-")

    @property
    def latency(self):
        return self.server.latency_ms / 1000

    def close(self):
        self.server.stop()
        for folder in [self.native, *Peer.retired]:
            shutil.rmtree(folder, ignore_errors=True)

    def scale(self, full, quick):
        return quick if self.quick else full

    @contextlib.contextmanager
    def variant(self, name, latency=None, link=0):
        """Rows recorded meanwhile belong to this variant of the run, which
        is a small one unless a link, bytes a second of all connections
        together, is what it is about."""
        quick, before = self.quick, self.server.latency_ms
        self.quick = quick or not link
        self.server.link = link
        self.rec.variant = name
        if latency is not None:
            self.server.latency_ms = latency
        try:
            yield
        finally:
            self.quick, self.server.latency_ms = quick, before
            self.server.link = 0
            self.rec.variant = None

    def each(self, group, fn, prepare=None, writes=False, alone=False,
             patience=1):
        """fn(peer) for every peer, or r2fs alone, on a fresh mount with an
        empty cache. A peer that fails or outstays its welcome, so many times
        the usual patience, gets a row that says so."""
        for name in self.names:
            if alone and name != "r2fs":
                continue
            peer = ALL[name](self.server,
                             self.options if name == "r2fs" else ())
            timer = peer.patience(self.patience * patience)
            try:
                if peer.foreign and not writes:
                    raise RuntimeError("reads only what it wrote itself")
                if prepare:
                    prepare(peer)
                self.server.shape()
                os.sync() # what the last one left unwritten is not this one's
                peer.start()
                fn(peer)
            except Exception as e:
                self.failed(group, peer, e)
            except BaseException:
                peer.kill()
                raise
            finally:
                timer.cancel()
                peer.stop()
            self.server.shape(False)

    def failed(self, group, peer, e):
        why = "out of patience" if peer.killed else str(e)
        if peer.name == "r2fs":
            traceback.print_exc()
        why = (why or repr(e)).strip().replace("\n", " ")[-300:]
        self.rec.add(group=group, work="", peer=peer.name, error=why)

    def native_files(self, keys):
        """The same bytes on the local disk."""
        files = self.server.files(self.native, keys)
        for path, content in files:
            if not os.path.exists(path):
                write_native(path, content)
        return files

    @contextlib.contextmanager
    def nothing(self, count, size):
        """The folder of a FUSE daemon that does nothing, with files f00000
        on; None where it cannot be had."""
        top = tempfile.mkdtemp(prefix="bench-nothing-")
        p = subprocess.Popen([NOTHING, top, str(count), str(size)],
                             start_new_session=True,
                             stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 20
            while not os.path.ismount(top) and p.poll() is None:
                if time.monotonic() > end:
                    break
                time.sleep(0.02)
            yield top if os.path.ismount(top) else None
        finally:
            subprocess.run(["umount", "-l", top], capture_output=True,
                           timeout=30)
            p.kill()
            p.wait(20)
            os.rmdir(top)


def say(row):
    if "error" in row:
        text = f"FAILED: {row['error']}"
    elif "seconds" not in row:
        text = f"hit ratio {row['hit_ratio']:.3f}"
    else:
        text = f"{row['seconds']:8.3f} s"
        for k in ("class_a", "class_b"):
            if k in row:
                text += f"  {k[-1].upper()} {row[k]}"
        if row.get("fewest") is not None:
            text += f" (of {row['fewest']})"
        if "first_byte" in row:
            text += f"  first byte {row['first_byte'] * 1000:.1f} ms"
        if "hit_ratio" in row:
            text += f"  hit ratio {row['hit_ratio']:.3f}"
        if "rss" in row:
            text += f"  {row['rss'] >> 20} MiB  cpu {row['cpu']:.2f} s"
    print(f"{row['group']:12} {row['work']:44} {row['peer']:16} {text}",
          file=sys.stderr, flush=True)
