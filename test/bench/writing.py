"""Workloads that write. The clock stops when the server has the objects:
at once for a mount whose close waits for that."""

import hashlib
import os
import shutil
import time
from urllib.parse import quote

import access
from access import MIB
from content import Changed


def wait_stored(c, peer, prefix, n):
    """rclone uploads after close has returned."""
    if peer.waits:
        return
    end = time.monotonic() + 120
    while c.server.puts() < n:
        if time.monotonic() > end or peer.killed:
            raise RuntimeError(f"not all of {prefix} was stored")
        time.sleep(0.01)


def remove(peer, folder):
    """Also from the bucket: removals in a row may be gathered, and fsync of a
    folder is the way to wait for them."""
    shutil.rmtree(folder)
    fd = os.open(peer.path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        pass  # s3fs and rclone remove at once
    finally:
        os.close(fd)


def small(c):
    """Small files by 8 threads into one folder, then the folder renamed and
    removed."""
    n, size, threads = c.scale(500, 96), 65536, 8
    contents = [c.server.content(i, size) for i in range(n)]
    label = f"{n} files of 64 KiB written by {threads} threads"
    moved, gone = "… mv of the folder", "… rm -rf of it"
    batches = -(-n // 1000)

    def work(peer):
        top = f"w-{peer.name}"
        folder = os.path.join(peer.path, top)
        os.mkdir(folder)
        jobs = [(f"{folder}/f{i:05}", x.data(0, size))
                for i, x in enumerate(contents)]

        def write():
            access.write_all(jobs, threads)
            wait_stored(c, peer, top, n)
        c.rec.peer("writing", label, peer, write, n, n * size, n,
                   most=n + 1)
        check_files(c, peer, top, contents)
        c.rec.peer("writing", moved, peer,
                   lambda: os.rename(folder, folder + "-moved"), n, 0,
                   n + batches, most=n + 5 + n // 50)
        check_files(c, peer, f"{top}-moved", contents)
        c.rec.peer("writing", gone, peer,
                   lambda: remove(peer, folder + "-moved"), n, 0, batches,
                   most=batches + 8)
        check_files(c, peer, f"{top}-moved", [])

    c.each("writing", work, writes=True)
    s = c.server.signer()
    lines = [s.put(f"w-bare/f{i:05}", c.server.pattern, i * 4096, size)
             for i in range(n)]
    c.rec.limit("writing", label, lines, threads, n, n * size)
    c.rec.arithmetic("writing", label, threads, n, n * size, c.bandwidth, n)


def check_files(c, peer, top, contents):
    """That these are stored, markers of folders aside, and some of their
    bytes."""
    if peer.foreign:
        return
    c.server.shape(False)
    keys = [k for k in c.server.keys(f"{top}/") if not k.endswith("/")]
    if len(keys) != len(contents):
        raise RuntimeError(f"{len(keys)} objects below {top}, not "
                           f"{len(contents)}")
    for i in range(0, len(contents), 8):
        c.server.check_stored(sorted(keys)[i], contents[i])
    c.server.shape()


def rename(c):
    """The habit of zarr, pip and editors: a temporary name, then rename."""
    n, size = c.scale(200, 40), 65536
    contents = [c.server.content(i, size) for i in range(n)]
    label = f"{n} files of 64 KiB, temporary name and rename, one thread"

    def work(peer):
        top = f"r-{peer.name}"
        folder = os.path.join(peer.path, top)
        os.mkdir(folder)
        datas = [x.data(0, size) for x in contents]

        def run():
            for i, data in enumerate(datas):
                path = f"{folder}/c{i:04}"
                access.write_file(path + ".tmp", data)
                os.rename(path + ".tmp", path)
            wait_stored(c, peer, top, n)
        c.rec.peer("writing", label, peer, run, n, n * size, n)
        check_files(c, peer, top, contents)

    c.each("writing", work, writes=True)
    s = c.server.signer()
    c.rec.limit("writing", label,
                [s.put(f"r-bare/f{i:05}", c.server.pattern, i * 4096, size)
                 for i in range(n)], 1, n, n * size)
    c.rec.arithmetic("writing", label, 1, n, n * size, c.bandwidth, n)


def large(c):
    """One large file, written and closed."""
    size = c.scale(1024, 256) * MIB
    label = f"{size // MIB} MiB sequential, close included"
    content = c.server.content(1, size)
    part = 16 * MIB

    def work(peer):
        key = f"large-{peer.name}.bin"
        path = os.path.join(peer.path, key)

        def run():
            access.write_content(path, content)
            wait_large(c, peer)
        c.rec.peer("writing", label, peer, run, 1, size, size // part + 3,
                   most=size // part + 4)
        if not peer.foreign:
            c.server.check_stored(key, content)

    c.each("writing", work, one_put, writes=True)
    bare_multipart(c, label, size, 16)


def change(c):
    """1 MiB at the end of a large object that is not cached, and 1 MiB in
    the middle of another."""
    size, new = c.scale(256, 64) * MIB, os.urandom(MIB)
    begin, look, complete, smallest = 1, 1, 1, 5 * MIB
    fixed = begin + look + complete
    for what, off, flags, fewest in (
            ("appended to", size, os.O_APPEND, fixed + 2),
            ("rewritten in the middle of", size // 2, 0,
             fixed + -(-size // smallest) + 2)):
        label = f"1 MiB {what} {size // MIB} MiB"

        def work(peer):
            key = f"change/{peer.name}-{off // MIB}-of-{size // MIB}.bin"
            base = c.server.contents[key]
            path = os.path.join(peer.path, key)
            os.stat(path)

            def run():
                access.write_at(path, new, off, flags)
                wait_large(c, peer)
            c.rec.peer("writing", label, peer, run, 1, MIB, fewest,
                       most=8 + size // (5 * MIB))
            c.server.check_stored(key, Changed(base, off, new))

        c.server.fill([(f"change/{n}-{off // MIB}-of-{size // MIB}.bin",
                        size) for n in c.names])
        c.each("writing", work, one_put)


def one_put(peer):
    """s3fs 1.90 puts R2's upload ids, which have a plus in them, into the
    query as they are, and its parts are refused."""
    if peer.name == "s3fs":
        peer.options.append("nomultipart")


def wait_large(c, peer):
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
    row["requests"] += 2


WRITING = {"write-small": small, "write-rename": rename,
           "write-large": large, "change": change}
