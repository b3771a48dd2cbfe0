"""Made-up contents: the same bytes for the same arguments."""

import os
import random
import struct
import zlib

BLOCK = 4096


def blob(size, seed=0):
    return random.Random(zlib.crc32(repr((size, seed)).encode())
                         ).randbytes(size)


def versioned(size, version):
    """Every 4 KiB say which version and which block they are."""
    blocks = (size + BLOCK - 1) // BLOCK
    return b"".join(struct.pack("<QQ", version, i) * (BLOCK // 16)
                    for i in range(blocks))[:size]


def versions_in(data, offset=0):
    """The versions found in data read at a multiple of 4 KiB. Every byte is
    checked: it must be the one of that version at that place."""
    found = set()
    for at in range(0, len(data), BLOCK):
        piece = data[at:at + BLOCK]
        version = struct.unpack_from("<Q", piece)[0]
        word = struct.pack("<QQ", version, (offset + at) // BLOCK)
        if piece != (word * (BLOCK // 16))[:len(piece)]:
            raise AssertionError(f"wrong bytes at {offset + at}: "
                                 f"{piece[:32].hex()}")
        found.add(version)
    return found


def sample_tree(folder):
    """A small tree of the shapes that buckets have, as name -> body."""
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
        contents[f"many/{i:03}.dat"] = blob(1000 + i * 777, i)
    for name, body in contents.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(body)
    return contents
