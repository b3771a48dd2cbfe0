"""What the objects of the workloads contain, so that every reader can check
what it got: no two places of an object, and no two objects, are equal.

While the clock runs a reader compares 64 bytes of every 64 KiB, which costs
it next to nothing; `verify` compares everything, outside of the clock.
"""

import os
from concurrent.futures import ThreadPoolExecutor

MIB = 1 << 20
STRIDE, SAMPLE = 65536, 64
PATTERN = 64 * MIB # random bytes that objects are cut from
SMALL = 32 * MIB # up to here an object is one cut
STEP = 524309 # prime to PATTERN - MIB: cuts repeat after that many


class Wrong(RuntimeError):
    pass


class Content:
    """Base: `size`, and `data(off, n)`, the bytes that are right."""

    def check(self, path, buf, off, n):
        """Samples of the n bytes in buf, read at off."""
        for o in (*range(0, n, STRIDE), max(0, n - SAMPLE)):
            w = min(SAMPLE, n - o)
            if buf[o:o + w] != self.data(off + o, w):
                raise Wrong(f"{path}: wrong bytes at {off + o}")

    def check_all(self, path, buf, off, n):
        if buf[:n] != self.data(off, n):
            raise Wrong(f"{path}: wrong bytes in {off}+{n}")


class Cut(Content):
    """Object number i of a workload: a piece of the pattern; of a large one
    every MiB is a piece of its own."""

    def __init__(self, pattern, i, size):
        self.pattern, self.size = pattern, size
        self.start = i * 4099 % SMALL

    def place(self, off):
        """Where in the pattern the byte at off is, and how many follow."""
        if self.size <= SMALL:
            return self.start + off, self.size - off
        block, within = divmod(off, MIB)
        start = (self.start + block * STEP) % (PATTERN - MIB)
        return start + within, min(MIB - within, self.size - off)

    def data(self, off, n):
        parts = []
        while n > 0:
            at, left = self.place(off)
            if left <= 0:
                break
            parts.append(self.pattern[at:at + min(n, left)])
            off, n = off + left, n - left
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Changed(Content):
    """Another content with bytes written over it, or beyond its end."""

    def __init__(self, base, off, data):
        self.base, self.off, self.new = base, off, data
        self.size = max(base.size, off + len(data))

    def data(self, off, n):
        n = min(n, self.size - off)
        out = bytearray(self.base.data(off, n).ljust(n, b"\0"))
        first = max(off, self.off)
        last = min(off + n, self.off + len(self.new))
        if first < last:
            out[first - off:last - off] = self.new[first - self.off:
                                                   last - self.off]
        return bytes(out)


class Computed(Content):
    """r2sim's synthetic objects: each 8 bytes a hash of key and place."""

    MASK = (1 << 64) - 1

    def __init__(self, key, size):
        self.size = size
        self.seed = 1469598103934665603
        for c in key.encode():
            self.seed = (self.seed ^ c) * 1099511628211 & self.MASK

    def word(self, i):
        y = (self.seed + i) * 0x9E3779B97F4A7C15 & self.MASK
        return (y ^ y >> 29).to_bytes(8, "little")

    def data(self, off, n):
        n = min(n, self.size - off)
        first, last = off // 8, (off + n + 7) // 8
        words = b"".join(self.word(i) for i in range(first, last))
        return words[off % 8:off % 8 + n]


def verify(files, threads=8):
    """Every byte of (path, content), read anew from the mount."""
    def one(file):
        path, content = file
        with open(path, "rb", buffering=0) as f:
            off = 0
            while buf := f.read(MIB):
                content.check_all(path, buf, off, len(buf))
                off += len(buf)
        if off != content.size:
            raise Wrong(f"{path}: {off} bytes instead of {content.size}")
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, files))


def write_native(path, content):
    """The same bytes on the local disk."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        for off in range(0, content.size, MIB):
            f.write(content.data(off, MIB))
