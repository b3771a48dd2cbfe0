"""How the workloads touch files: plain system calls, the same for a mount
and for the local disk. A file is (path, content); what is read is compared
with the content, and a wrong length or byte is an error."""

import mmap
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from content import MIB, Wrong

BUFFERS = threading.local()


def buffer(size):
    """One for each thread, as a program that reads many files has."""
    if len(getattr(BUFFERS, "data", b"")) != size:
        BUFFERS.data = bytearray(size)
    return BUFFERS.data


def read_whole(file, block=MIB):
    path, content = file
    buf = buffer(block)
    total = 0
    fd = os.open(path, os.O_RDONLY)
    try:
        while n := os.readv(fd, [buf]):
            if content:
                content.check(path, buf, total, n)
            total += n
    finally:
        os.close(fd)
    if content and total != content.size:
        raise Wrong(f"{path}: {total} bytes instead of {content.size}")
    return total


def read_all(files, threads, block=MIB):
    """Every file once."""
    if threads == 1:
        for f in files:
            read_whole(f, block)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda f: read_whole(f, block), files))


def first_byte(file):
    path, content = file
    start = time.monotonic()
    fd = os.open(path, os.O_RDONLY)
    got = os.read(fd, 1)
    seconds = time.monotonic() - start
    os.close(fd)
    if got != content.data(0, 1):
        raise Wrong(f"{path}: wrong first byte")
    return seconds


def offsets(size, block, count, seed=1):
    """Different ones, in random order."""
    return [b * block for b in
            random.Random(seed).sample(range(size // block), count)]


def read_at(file, places, block):
    path, content = file
    buf = buffer(block)
    fd = os.open(path, os.O_RDONLY)
    try:
        for off in places:
            if os.preadv(fd, [buf], off) != block:
                raise Wrong(f"{path}: short read at {off}")
            if content:
                content.check(path, buf, off, block)
    finally:
        os.close(fd)


def read_shard(file, chunk):
    """As a sharded Zarr array is read: the index at the end, then chunk
    after chunk of it."""
    path, content = file
    size = content.size
    count = size // chunk
    fd = os.open(path, os.O_RDONLY)
    try:
        n = size - count * chunk
        content.check(path, os.pread(fd, n, size - n), size - n, n)
        buf = buffer(chunk)
        for i in range(count):
            if os.preadv(fd, [buf], i * chunk) != chunk:
                raise Wrong(f"{path}: short read of chunk {i}")
            content.check(path, buf, i * chunk, chunk)
    finally:
        os.close(fd)


def map_tensors(file, tensor):
    """As safetensors loads a model: length and header, then every tensor out
    of the mapping, in the order of the header."""
    path, content = file
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0,
                                          prot=mmap.PROT_READ) as m:
        if len(m) != content.size:
            raise Wrong(f"{path}: {len(m)} bytes")
        content.check_all(path, m[:4096], 0, 4096)
        for off in range(0, content.size, tensor):
            n = min(tensor, content.size - off)
            content.check(path, memoryview(m)[off:off + n].tobytes(), off, n)


def in_processes(count, work):
    """work(i) in processes of their own; fails when one of them does."""
    children = []
    for i in range(count):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(i)
                status = 0
            except Exception as e:
                print(f"reader {i}: {e}", file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        children.append(pid)
    bad = [pid for pid in children if os.waitpid(pid, 0)[1]]
    if bad:
        raise Wrong(f"{len(bad)} of {count} processes failed")


def write_file(path, data, block=MIB):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while len(view):
            view = view[os.write(fd, view[:block]):]
    finally:
        os.close(fd)


def write_content(path, content):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for off in range(0, content.size, MIB):
            os.write(fd, content.data(off, MIB))
    finally:
        os.close(fd)


def write_at(path, data, off, flags=0):
    fd = os.open(path, os.O_WRONLY | flags)
    try:
        if os.pwrite(fd, data, off) != len(data):
            raise Wrong(f"{path}: short write")
    finally:
        os.close(fd)


def write_all(jobs, threads):
    """Files of (path, bytes)."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda j: write_file(*j), jobs))
