"""Made-up contents: the same bytes for the same arguments."""

import random
import struct
import zlib

BLOCK = 4096


def blob(size, seed=0):
    return random.Random(zlib.crc32(repr((size, seed)).encode())).randbytes(size)


def versioned(size, version):
    """Every 4 KiB say which version and which block they are."""
    blocks = (size + BLOCK - 1) // BLOCK
    return b"".join(struct.pack("<QQ", version, i) * (BLOCK // 16)
                    for i in range(blocks))[:size]


def versions_in(data, offset=0):
    """The versions found in data read at a multiple of 4 KiB; checks places."""
    found = set()
    for at in range(0, len(data) - 15, BLOCK):
        version, block = struct.unpack_from("<QQ", data, at)
        assert block == (offset + at) // BLOCK, (block, offset + at)
        found.add(version)
    return found


def png(width, height, seed=0):
    """A small RGB image, as any viewer reads it."""
    def chunk(kind, body):
        return (struct.pack(">I", len(body)) + kind + body +
                struct.pack(">I", zlib.crc32(kind + body)))

    rows = b"".join(b"\0" + bytes((x * 3 + seed * 40 + c * 85 + y) & 255
                                  for x in range(width) for c in range(3))
                    for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" +
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def sample_tree(folder):
    """A small tree of the shapes that buckets have; returns nothing."""
    contents = {
        "readme.txt": b"hello\n",
        "empty": b"",
        "one": b"1",
        "block-1": blob(65535, 1),
        "block": blob(65536, 2),
        "block+1": blob(65537, 3),
        "large.bin": blob(9 * 1024 * 1024 + 12345, 4),
        "a folder/with spaces.txt": b"spaces\n",
        "a folder/plus+percent%41&quote'\".txt": b"odd characters\n",
        "deep/er/and/deeper/leaf": b"leaf\n",
        "names/\u00fc\u00f1\u00ef/\u65e5\u672c\u8a9e.txt": b"utf-8\n",
        "names/.hidden": b"hidden\n",
        "names/" + "n" * 255: b"longest name\n",
    }
    for i in range(40):
        contents["many/%03d.dat" % i] = blob(1000 + i * 777, i)
    for name, body in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    (folder / "empty folder").mkdir()
