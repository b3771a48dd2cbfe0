"""Workloads that read files of every size."""

import os

import access
import demands
from access import MIB, first_byte, read_all, read_at, read_whole
from content import verify
from measure import drop_kernel_cache
from server import CONNECTIONS, HUGE
from writing import large as write_large

STEP = 8 * MIB # a range of the bare client
BLOCK = 65536


def ranges(signer, key, size):
    return [signer.get(key, o, min(o + STEP, size) - 1)
            for o in range(0, size, STEP)]


def pieces(size):
    """Requests for a file of unknown size: the first one tells it, and may not
    bring more than a program that only looks at the file can bear."""
    return 1 + max(0, -(-(size - MIB) // STEP))


def turns(c, group, work, peer, side, files=0, size=0):
    """A warm workload; side(path of a folder) gives what to run there. r2fs
    takes turns with the local disk and with the FUSE daemon that does
    nothing."""
    ours, native, nothing = side
    others = {}
    if peer.name == "r2fs":
        others = {"native": native}
        if nothing:
            others["FUSE alone"] = nothing
    c.rec.turns(group, work, peer, ours, others, files, size)


def small(c):
    """Small files of one folder, 16 threads and one: cold, warm, after a
    remount."""
    n, size, g = c.scale(2000, 500), BLOCK, "small files"
    names = [f"small{n}/f{i:05}" for i in range(n)]
    c.server.fill([(name, size) for name in names])
    native = c.native_files(names)
    total, rec = n * size, c.rec
    cold = f"{n} files of 64 KiB, 16 threads, cold"
    serial = n // 10
    one = f"{serial} files of 64 KiB, one thread, cold"

    def work(peer):
        files = c.server.files(peer.path, names)
        rec.peer(g, cold, peer, lambda: read_all(files, 16), n, total, n)
        drop_kernel_cache()
        rec.peer(g, "… again, kernel cache dropped", peer,
                 lambda: read_all(files, 16), n, total, 0)
        peer.remount()
        rec.peer(g, "… again, after a remount", peer,
                 lambda: read_all(files, 16), n, total, 0)
        with c.nothing(n, size) as top:
            idle = [(f"{top}/{os.path.basename(x)}", None) for x in names]
            for threads, text in (16, "16 threads"), (1, "one thread"):
                turns(c, g, f"… again, {text}", peer, (
                    lambda: read_all(files, threads),
                    lambda: read_all(native, threads),
                    top and (lambda: read_all(idle, threads))), n, total)
        verify(files if peer.name == "r2fs" else files[::20])

    def in_turn(peer):
        files = c.server.files(peer.path, names[:serial])
        # a tenth of the folder, then it stops: what is ahead was in vain, no
        # more than it read and than --ahead-files
        rec.peer(g, one, peer, lambda: read_all(files, 1), serial,
                 serial * size, serial, most=serial + min(serial, 48))

    c.each(g, work, lambda p: p.keep_names())
    s = c.server.signer()
    lines = [s.get(x) for x in names]
    rec.limit(g, cold, lines, 16, n, total)
    rec.limit(g, cold, lines, CONNECTIONS, n, total)
    rec.arithmetic(g, cold, 16, n, total, c.bandwidth, n)
    if rec.variant:
        return
    c.each(g, in_turn, lambda p: p.keep_names())
    rec.limit(g, one, lines[:serial], 1, serial, serial * size)
    rec.limit(g, one, lines[:serial], CONNECTIONS, serial, serial * size)


def large(c):
    """One large object from end to end, then blocks of it."""
    size, g, rec = c.scale(1024, 256) * MIB, "large file", c.rec
    key = f"large/{size // MIB}.bin"
    c.server.fill([(key, size)])
    cold, random = f"{size // MIB} MiB sequential, cold", "64 KiB random, warm"
    count = c.scale(8000, 2000)
    places = access.offsets(size, BLOCK, count)
    native = c.native_files([key])[0]

    def work(peer):
        file = c.server.files(peer.path, [key])[0]
        os.listdir(os.path.dirname(file[0]))
        rec.peer(g, cold, peer, lambda: read_whole(file), 0, size,
                 pieces(size), most=pieces(size) + 6)
        drop_kernel_cache()
        rec.peer(g, "… again, kernel cache dropped", peer,
                 lambda: read_whole(file), 0, size, 0)
        verify([file])
        with c.nothing(1, size) as top:
            idle = (f"{top}/f00000", None)
            turns(c, g, "… again", peer, (
                lambda: read_whole(file), lambda: read_whole(native),
                top and (lambda: read_whole(idle))), 0, size)
            turns(c, g, random, peer, (
                lambda: read_at(file, places, BLOCK),
                lambda: read_at(native, places, BLOCK),
                top and (lambda: read_at(idle, places, BLOCK))), count,
                count * BLOCK)

    c.each(g, work)
    s = c.server.signer()
    rec.limit(g, cold, ranges(s, key, size), CONNECTIONS, 0, size)
    if not rec.variant:
        drop_kernel_cache()
        rec.plain(g, "… again, kernel cache dropped", "native",
                  lambda: read_whole(native), 0, size)
    os.unlink(native[0])


def random(c):
    """64 KiB blocks of an object of 4 GiB, everywhere in it."""
    key, count, g = "huge/f00000000", c.scale(200, 40), "random"
    places = access.offsets(HUGE, BLOCK, count)
    cold = f"{count} blocks of 64 KiB of a 4 GiB object, cold"
    warm = "… the same blocks again"
    native = os.path.join(c.native, "huge")
    with open(native, "wb") as f:
        f.truncate(HUGE)
        for off in places:
            f.seek(off)
            f.write(c.server.contents[key].data(off, BLOCK))

    def work(peer):
        file = c.server.files(peer.path, [key])[0]
        os.listdir(os.path.dirname(file[0]))
        c.rec.peer(g, cold, peer, lambda: read_at(file, places, BLOCK), count,
                   count * BLOCK, count)
        again = places[::-1] * 5
        with c.nothing(1, HUGE) as top:
            turns(c, g, warm, peer, (
                lambda: read_at(file, again, BLOCK),
                lambda: read_at((native, file[1]), again, BLOCK),
                top and (lambda: read_at((f"{top}/f00000", None), again,
                                         BLOCK))),
                  5 * count, 5 * count * BLOCK)

    c.each(g, work)
    s = c.server.signer()
    lines = [s.get(key, o, o + BLOCK - 1) for o in places]
    c.rec.limit(g, cold, lines, 1, count, count * BLOCK)
    c.rec.arithmetic(g, cold, 1, count, count * BLOCK, c.bandwidth, count)
    os.unlink(native)


def start(c):
    """The first byte of objects never seen, one after the other."""
    n, g = 20, "large file"
    names = [f"first/d{i:02}/a.bin" for i in range(n)]
    c.server.fill([(x, 16 * MIB) for x in names])
    label = f"first byte of {n} files in turn"

    def work(peer):
        files = c.server.files(peer.path, names)
        for path, _ in files:
            os.listdir(os.path.dirname(path))

        def run():
            times = sorted(first_byte(f) for f in files)
            return {"first_byte": times[n // 2]}
        c.rec.peer(g, label, peer, run, n)

    c.each(g, work)
    s = c.server.signer()
    c.rec.limit(g, label, [s.get(names[0], 0, MIB - 1)], 1, 1)
    c.rec.arithmetic(g, label, 1, n, files=n)


def tls(c):
    """Two of them through TLS, which a process of its own adds for all."""
    with c.variant("TLS"), c.server.tls():
        small(c)
        large(c)


def zero(c):
    """The same without latency: what the programs themselves cost."""
    with c.variant("0 ms", latency=0):
        small(c)
        large(c)


def link(c):
    """Large files where not the machine is the limit but the link to R2."""
    with c.variant(demands.LINK, link=400_000_000):
        large(c)
        write_large(c)


READING = {"small": small, "large": large, "random": random, "start": start}
VARIANTS = {"link": link, "tls": tls, "zero": zero}
