"""Keys that are odd names, and keys that cannot be names at all."""

import os
import unicodedata

import pytest

from harness import drop_caches, run

pytestmark = pytest.mark.sanity


def tree(path):
    found = {}
    for here, dirs, files in os.walk(path):
        rel = os.path.relpath(here, path)
        for d in dirs:
            found[os.path.normpath(os.path.join(rel, d))] = None
        for f in files:
            with open(os.path.join(here, f), "rb") as file:
                found[os.path.normpath(os.path.join(rel, f))] = file.read()
    return found


def test_ordinary_odd_names(bench, sim):
    names = ["with space", " leading", "trailing ", "new\nline", "tab\there",
             "percent%41", "plus+", "amp&amp;", "quote'\"", "back\\slash",
             "star*?", "[brackets]", "semi;colon", "hash#", "~tilde", "=",
             "\u00fcml\u00e4ut", "\u65e5\u672c", "\U0001f600", "-dash",
             "..dots", "...", ".hidden", "a.r2objectx", "\x01control", "\x7f"]
    items = [(n, n.encode()) for n in names]
    items += [("dir/" + n, n.encode()) for n in names]
    sim.put_all("test", items)
    mount = bench.mount(sim)
    assert tree(mount.path) == {**{k: v for k, v in items}, "dir": None}
    drop_caches()
    for name in names:  # by name alone too
        assert (mount.path / "dir" / name).read_bytes() == name.encode()
    other = bench.mount(sim, cache=bench.folder / "cache2")
    for name in names:
        assert (other.path / "dir" / name).read_bytes() == name.encode()


def test_markers_and_empty_things(bench, sim):
    sim.put_all("test", [("marked/", b""), ("marked/file", b"1"),
                         ("alone/", b""), ("empty", b""),
                         ("outer/inner/", b""), ("weighty/", b"a body")])
    mount = bench.mount(sim)
    assert tree(mount.path) == {
        "marked": None, "marked/file": b"1", "alone": None, "empty": b"",
        "outer": None, "outer/inner": None, "weighty": None}
    assert os.listdir(mount.path / "alone") == []
    assert (mount.path / "empty").stat().st_size == 0
    assert (mount.path / "alone").is_dir()


def test_markers_by_name_alone(bench, sim):
    sim.put_all("test", [("alone/", b""), ("outer/inner/", b"")])
    mount = bench.mount(sim)
    assert (mount.path / "outer" / "inner").is_dir()
    assert (mount.path / "alone").is_dir()
    assert not (mount.path / "alone" / "x").exists()


def test_keys_that_cannot_be_names_are_hidden_and_counted(bench, sim):
    bad = ["double//slash", "dot/./x", "dotdot/../x", "x" * 256,
           "sub/" + "y" * 300, "/leading"]
    good = ["double/ok", "dot/ok", "dotdot/ok", "sub/ok", "x" * 255]
    sim.put_all("test", [(k, b"bad") for k in bad] +
                [(k, b"good") for k in good])
    mount = bench.mount(sim)
    found = tree(mount.path)
    assert {k for k, v in found.items() if v} == set(good)
    assert all(v == b"good" for v in found.values() if v)
    assert mount.stats()["names"]["hidden_keys"] >= len(bad) - 1
    with pytest.raises(OSError):
        os.stat(mount.path / ("x" * 256))
    # a path through them leads nowhere else
    assert sorted(os.listdir(mount.path / "dotdot")) == ["ok"]


def test_an_object_beside_a_folder(bench, sim):
    sim.put_all("test", [("a", b"the object"), ("a/b", b"below"),
                         ("plain", b"p")])
    for listed in (True, False):
        mount = bench.mount(sim, cache=bench.folder / ("c%d" % listed))
        if listed:
            assert sorted(os.listdir(mount.path)) == ["a", "a.r2object",
                                                      "plain"]
        assert (mount.path / "a" / "b").read_bytes() == b"below"
        assert (mount.path / "a.r2object").read_bytes() == b"the object"
        assert not (mount.path / "plain.r2object").exists()


def test_a_real_name_with_the_suffix(bench, sim):
    sim.put_all("test", [("x.r2object", b"real")])
    mount = bench.mount(sim)
    assert (mount.path / "x.r2object").read_bytes() == b"real"
    assert os.listdir(mount.path) == ["x.r2object"]


def test_both_spellings_of_a_letter(bench, sim):
    """R2 takes canonically equal keys for one object."""
    nfd = unicodedata.normalize("NFD", "caf\u00e9")
    nfc = unicodedata.normalize("NFC", nfd)
    sim.put_all("test", [("d/" + nfd, b"coffee")])
    mount = bench.mount(sim)
    assert os.listdir(mount.path / "d") == [nfd]
    assert (mount.path / "d" / nfd).read_bytes() == b"coffee"
    assert (mount.path / "d" / nfc).read_bytes() == b"coffee"
    assert not (mount.path / "d" / "cafe").exists()


def test_longest_key(bench, sim):
    key = "/".join(["k" * 200] * 5)  # 1004 bytes
    key += "/" + "z" * (1024 - len(key) - 1)
    assert len(key) == 1024
    sim.put_all("test", [(key, b"far down")])
    mount = bench.mount(sim)
    assert (mount.path / key).read_bytes() == b"far down"
    with pytest.raises(OSError):
        (mount.path / (key + "1")).read_bytes()


def test_sorting_traps(bench, sim):
    """'-' and '.' sort before '/': names around a folder's in a listing."""
    keys = ["a-b", "a.b", "a/b", "a/b/c", "a0", "a", "a!/x", "a!", "ab/",
            "ab", "ab/c"]
    sim.put_all("test", [(k, k.encode()) for k in keys])
    mount = bench.mount(sim)
    assert sorted(os.listdir(mount.path)) == sorted(
        ["a-b", "a.b", "a", "a.r2object", "a0", "a!", "a!.r2object", "ab",
         "ab.r2object"])
    assert sorted(os.listdir(mount.path / "a")) == ["b", "b.r2object"]
    assert (mount.path / "a" / "b" / "c").read_bytes() == b"a/b/c"
    assert (mount.path / "a" / "b.r2object").read_bytes() == b"a/b"


def test_shapes_of_a_listing(bench):
    """Folders across page ends, and a folder listed through pages."""
    sim = bench.sim()
    items = [("p/%04d/x" % i, b"x") for i in range(1100)]
    items += [("q/%04d" % i, b"x") for i in range(1000)]
    items += [("r/%04d" % i, b"x") for i in range(2001)]
    sim.put_all("test", items)
    mount = bench.mount(sim)
    for _ in range(2):
        assert len(os.listdir(mount.path / "p")) == 1100
        assert len(os.listdir(mount.path / "q")) == 1000
        assert len(os.listdir(mount.path / "r")) == 2001
        drop_caches()
    with os.scandir(mount.path / "r") as entries:  # left in the middle
        for i, entry in enumerate(entries):
            if i == 1500:
                break
    run("rmdir", "--ignore-fail-on-non-empty", mount.path / "r", check=False)


def test_stable_inode_numbers(bench, sim):
    sim.put_all("test", [("d/%d" % i, b"x") for i in range(20)])
    mount = bench.mount(sim, metadata_ttl="indefinite")

    def numbers():
        return {e.name: (e.inode(), e.stat().st_ino)
                for e in os.scandir(mount.path / "d")}

    first = numbers()
    assert all(a == b for a, b in first.values())
    assert len(set(first.values())) == 20
    drop_caches()
    assert numbers() == first
    mount.remount()
    assert numbers() == first


def test_metadata_of_other_tools(bench, sim):
    """s3fs writes decimal modes with the type, rclone octal and fractions."""
    def meta(**m):
        return {"Metadata": m}

    sim.put_all("test", [
        ("m/s3fs", b"1", meta(mode="33188", uid="1000", gid="1001",
                            mtime="1500000000")),
        ("m/rclone", b"2", meta(mode="100600", mtime="1500000000.25")),
        ("m/link", b"s3fs", meta(mode="41471", mtime="1500000000")),
        ("m/tagged", b"3", meta(colour="blue"))])
    mount = bench.mount(sim)
    m = mount.path / "m"
    (m / "s3fs").read_bytes()
    st = (m / "s3fs").stat()
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid) == (0o644, 1000, 1001)
    assert st.st_mtime == 1500000000
    (m / "rclone").read_bytes()
    st = (m / "rclone").stat()
    assert st.st_mode & 0o7777 == 0o600
    assert st.st_mtime == 1500000000.25
    assert os.readlink(m / "link") == "s3fs"
    assert (m / "link").read_bytes() == b"1"
    assert os.getxattr(m / "tagged", "user.colour") == b"blue"
    assert "user.colour" in os.listxattr(m / "tagged")
    assert os.getxattr(m / "tagged", "user.r2fs.key") == b"m/tagged"
    etag = os.getxattr(m / "tagged", "user.r2fs.etag").decode()
    assert etag.strip('"') == "eccbc87e4b5ce2fe28308fd9f2a7baf3"
    with pytest.raises(OSError):
        os.getxattr(m / "tagged", "user.none")
    sim.reset()
    for probe in ("security.selinux", "system.posix_acl_access",
                  "security.capability"):
        with pytest.raises(OSError):
            os.getxattr(m / "tagged", probe)
    assert sim.total == 0
