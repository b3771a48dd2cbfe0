"""Workloads that write. The clock stops when the server has the objects:
at once for a mount whose close waits for that."""

import hashlib
import os
import shutil
import time
from urllib.parse import quote

import access
from access import MIB


def wait_stored(c, peer, prefix, n):
    """rclone uploads after close has returned."""
    if peer.waits:
        return
    end = time.monotonic() + 120
    while c.server.puts() < n:
        if time.monotonic() > end or peer.killed:
            raise RuntimeError(f"not all of {prefix} was stored")
        time.sleep(0.01)


def small(c):
    """Small files by 8 threads into one folder, then the folder renamed and
    removed."""
    n, size, threads = c.scale(500, 160), 65536, 8
    data = os.urandom(size)
    label = f"{n} files of 64 KiB written by {threads} threads"
    moved, gone = "… mv of the folder", "… rm -rf of it"

    def work(peer):
        top = f"w-{peer.name}"
        folder = os.path.join(peer.path, top)
        os.mkdir(folder)
        paths = [f"{folder}/f{i:05}" for i in range(n)]

        def write():
            access.write_all(paths, data, threads)
            wait_stored(c, peer, top, n)
        c.rec.peer("writing", label, peer, write, n, n * size)
        check_files(c, top, n)
        c.rec.peer("writing", moved, peer,
                   lambda: os.rename(folder, folder + "-moved"), n)
        check_files(c, f"{top}-moved", n)
        c.rec.peer("writing", gone, peer,
                   lambda: shutil.rmtree(folder + "-moved"), n)
        check_files(c, f"{top}-moved", 0)

    c.each("writing", work)
    s = c.server.signer()
    lines = [s.put(f"w-bare/f{i:05}", c.server.pattern, i * 4096, size)
             for i in range(n)]
    c.rec.limit("writing", label, lines, threads, n, n * size)
    c.rec.add(group="writing", work=label, peer=f"arithmetic, {threads}",
              files=n, seconds=-(-n // threads) * c.latency)


def check_files(c, top, n):
    """Markers of folders aside."""
    c.server.shape(False)
    keys = [k for k in c.server.keys(f"{top}/") if not k.endswith("/")]
    c.server.shape()
    if len(keys) != n:
        raise RuntimeError(f"{len(keys)} objects below {top}, not {n}")


def rename(c):
    """The habit of zarr, pip and editors: a temporary name, then rename."""
    n, size = c.scale(200, 60), 65536
    data = os.urandom(size)

    def work(peer):
        top = f"r-{peer.name}"
        folder = os.path.join(peer.path, top)
        os.mkdir(folder)

        def run():
            for i in range(n):
                path = f"{folder}/c{i:04}"
                access.write_file(path + ".tmp", data)
                os.rename(path + ".tmp", path)
            wait_stored(c, peer, top, n)
        c.rec.peer("writing", f"{n} files of 64 KiB, temporary name and "
                   "rename, one thread", peer, run, n, n * size)
        check_files(c, top, n)

    c.each("writing", work)
    c.rec.add(group="writing", work=f"{n} files of 64 KiB, temporary name "
              "and rename, one thread", peer="arithmetic, 1", files=n,
              seconds=n * c.latency)


def large(c):
    """One large file, written and closed."""
    size = c.scale(1024, 256) * MIB
    label = f"{size // MIB} MiB sequential, close included"

    def work(peer):
        path = os.path.join(peer.path, f"large-{peer.name}.bin")

        def run():
            access.write_large(path, size)
            wait_large(c, peer, f"large-{peer.name}.bin", size)
        c.rec.peer("writing", label, peer, run, 1, size)

    c.each("writing", work, one_put)
    bare_multipart(c, label, size, 16)


def one_put(peer):
    """s3fs 1.90 puts R2's upload ids, which have a plus in them, into the
    query as they are, and its parts are refused."""
    if peer.name == "s3fs":
        peer.options.append("nomultipart")


def wait_large(c, peer, key, size):
    end = time.monotonic() + 120
    while not peer.waits and c.server.completed() < 1:
        if time.monotonic() > end or peer.killed:
            raise RuntimeError("not stored")
        time.sleep(0.01)


def bare_multipart(c, label, size, connections):
    part = 16 * MIB
    s3 = c.server.client()
    key = dict(Bucket=c.server.bucket, Key="large-bare.bin")
    upload = dict(key, UploadId=s3.create_multipart_upload(**key)["UploadId"])
    s = c.server.signer()
    query = "partNumber={}&uploadId=" + quote(upload["UploadId"], safe="")
    count = size // part
    with open(c.server.pattern, "rb") as f:
        etags = []
        for i in range(count):
            f.seek(i * MIB % (32 * MIB))
            etags.append(hashlib.md5(f.read(part)).hexdigest())
    lines = [s.put("large-bare.bin", c.server.pattern, i * MIB % (32 * MIB),
                   part, query.format(i + 1)) for i in range(count)]
    row = c.rec.limit("writing", label, lines, connections, 1, size)
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [
        {"PartNumber": i + 1, "ETag": e} for i, e in enumerate(etags)]})
    row["seconds"] += 2 * c.latency # to begin and to complete it
    row["class_a"] += 2


WRITING = {"write-small": small, "write-rename": rename,
           "write-large": large}
