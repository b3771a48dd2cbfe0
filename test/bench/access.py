"""How the workloads touch files: plain system calls, the same for a mount
and for the local disk."""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

MIB = 1 << 20


def read_whole(path, block=MIB):
    fd = os.open(path, os.O_RDONLY)
    buf = bytearray(block)
    total = 0
    try:
        while n := os.readv(fd, [buf]):
            total += n
    finally:
        os.close(fd)
    return total


def read_all(paths, threads, sizes=None, block=MIB):
    """Every file once; fails when a length is not what it must be."""
    def one(path):
        n = read_whole(path, block)
        if sizes is not None and n != sizes:
            raise RuntimeError(f"{path}: {n} bytes instead of {sizes}")
    if threads == 1:
        for p in paths:
            one(p)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, paths))


def first_byte(path):
    start = time.monotonic()
    fd = os.open(path, os.O_RDONLY)
    os.read(fd, 1)
    seconds = time.monotonic() - start
    os.close(fd)
    return seconds


def read_random(path, size, block, count, seed=1):
    rng = random.Random(seed)
    buf = bytearray(block)
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        for _ in range(count):
            off = rng.randrange(size // block) * block
            if os.preadv(fd, [buf], off) != block:
                raise RuntimeError(f"{path}: short read at {off}")
    finally:
        os.close(fd)


def write_file(path, data, block=MIB):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while len(view):
            view = view[os.write(fd, view[:block]):]
    finally:
        os.close(fd)


def write_large(path, size):
    block = os.urandom(MIB)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for _ in range(size // MIB):
        os.write(fd, block)
    os.close(fd)


def write_all(paths, data, threads):
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda p: write_file(p, data), paths))
