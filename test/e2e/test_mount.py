"""Starting, refusing to start, options, and the tools around a mount."""

import errno
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

import harness
from harness import (ACCESS_KEY, IS_ROOT, R2FS, SECRET, MountFailed,
                     mount_entry, run)

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root")


def refused(bench, server, *words, seconds=40, **kwargs):
    """The mount must fail soon, with all the words on the terminal."""
    mount = bench.mount(server, start=False, **kwargs)
    began = time.monotonic()
    with pytest.raises(MountFailed) as failure:
        mount.mount()
    assert time.monotonic() - began < seconds
    text = failure.value.text
    for word in words:
        assert re.search(word, text), (word, text)
    assert SECRET not in text
    assert not mount_entry(mount.path)
    return failure.value


# ---- it starts ----

@pytest.mark.sanity
def test_it_answers_once_the_command_has_ended(bench, sim):
    sim.put_all("test", [("hello.txt", b"hello\n")])
    mount = bench.mount(sim)
    assert (mount.path / "hello.txt").read_text() == "hello\n"
    assert mount_entry(mount.path)[0] == "fuse.r2fs"
    mount.umount()
    assert not mount.alive()
    assert os.listdir(mount.path) == []


def test_foreground(bench, sim):
    sim.put_all("test", [("x", b"x")])
    mount = bench.mount(sim, start=False)
    daemon = subprocess.Popen([str(a) for a in mount.argv(foreground=True)],
                              env=mount.env(), stdin=subprocess.DEVNULL)
    try:
        assert harness.wait_until(lambda: mount_entry(mount.path), 20)
        mount.adopt()
        assert mount.pid == daemon.pid
        assert (mount.path / "x").read_bytes() == b"x"
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20 * harness.SLOW) == 0
        assert not mount_entry(mount.path)
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait(10)


@pytest.mark.sanity
def test_an_empty_bucket(bench, sim):
    mount = bench.mount(sim)
    assert os.listdir(mount.path) == []
    assert not (mount.path / "x").exists()


# ---- it says why not ----

@pytest.mark.sanity
def test_wrong_key(bench, sim):
    path = bench.folder / "wrong"
    path.write_text("f" * 32 + ":" + SECRET + "\n")
    path.chmod(0o600)
    refused(bench, sim, "401|access key", credentials=path)


def test_wrong_secret(bench, sim):
    path = bench.folder / "wrong"
    path.write_text(ACCESS_KEY + ":not-it\n")
    path.chmod(0o600)
    failure = refused(bench, sim, "secret access key", credentials=path)
    assert "not-it" not in failure.text


def test_key_of_the_wrong_length(bench, sim):
    path = bench.folder / "wrong"
    path.write_text("short:" + SECRET + "\n")
    path.chmod(0o600)
    refused(bench, sim, "32", credentials=path)


def test_no_such_bucket(bench, sim):
    refused(bench, sim, "no-such-bucket", "no such bucket|[Cc]heck",
            target="no-such-bucket")


def test_not_a_bucket_name(bench, sim):
    refused(bench, sim, "bucket name", target="Not_A_Bucket")


def test_nothing_listens(bench, sim):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    refused(bench, sim, "refused|nothing answers",
            endpoint="http://127.0.0.1:%d" % port, deadline="3")


def test_a_name_that_does_not_resolve(bench, sim):
    refused(bench, sim, "resolve", endpoint="https://r2fs.invalid",
            deadline="3")


def test_a_server_that_says_nothing(bench, sim):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(16)
        refused(bench, sim, "deadline|[Tt]im", seconds=20 * harness.SLOW,
                endpoint="http://127.0.0.1:%d" % s.getsockname()[1],
                deadline="2")


def test_clock_off(bench, sim):
    """A request that is corrected by the server's clock goes through; one that
    is refused all the same says what to do."""
    sim.put_all("test", [("x", b"x")])
    sim.faults("action=skew:7200")
    try:
        mount = bench.mount(sim)
    except MountFailed as failure:
        assert "clock" in failure.text
    else:
        assert (mount.path / "x").read_bytes() == b"x"
        assert abs(mount.stats()["mount"]["clock_skew_s"]) > 3600


def test_plain_http_elsewhere(bench, sim):
    refused(bench, sim, "allow-http", endpoint="http://192.0.2.1:80")


def test_no_endpoint(bench, sim):
    mount = bench.mount(sim, start=False)
    done = run(R2FS, "mount", "test", mount.path, check=False,
               env=mount.env())
    assert done.returncode and "--account-id" in done.stderr


def test_no_credentials(bench, sim):
    refused(bench, sim, "credentials|R2_ACCESS_KEY_ID", credentials=None,
            env={"HOME": str(bench.folder)})


def test_credentials_that_others_can_read(bench, sim):
    path = bench.folder / "open"
    path.write_text("%s:%s\n" % (ACCESS_KEY, SECRET))
    path.chmod(0o644)
    refused(bench, sim, "600", credentials=path)


def test_a_cache_in_use(bench, sim):
    mount = bench.mount(sim)
    refused(bench, sim, str(mount.pid), "cache")
    assert os.listdir(mount.path) == []


def test_mountpoint_missing(bench, sim):
    mount = bench.mount(sim, start=False)
    mount.path.rmdir()
    with pytest.raises(MountFailed, match="mkdir"):
        mount.mount()
    mount.path.write_text("")
    with pytest.raises(MountFailed, match="not a folder"):
        mount.mount()


def test_mountpoint_in_use(bench, sim):
    mount = bench.mount(sim)
    done = run(*mount.argv(cache_dir=bench.folder / "other"), check=False,
               env=mount.env())
    assert done.returncode and "r2fs umount" in done.stderr


def test_a_dead_mount_is_explained(bench, sim):
    mount = bench.mount(sim)
    os.kill(mount.pid, signal.SIGKILL)
    harness.wait_until(lambda: not mount.alive(), 20)
    with pytest.raises(MountFailed, match="umount -l|dead mount"):
        mount.mount()
    mount.kill()
    mount.mount()


@pytest.mark.parametrize("option,words", [
    (["--metadata-tll", "5"], "--metadata-ttl"),
    (["--cache-size", "many"], "--cache-size"),
    (["--cache-size", "1"], "at least"),
    (["--max-connections", "0"], "--max-connections"),
    (["--file-mode", "9"], "octal"),
    (["--preset", "magic"], "training"),
    (["--log-level", "loud"], "debug"),
    (["-o", "cache_size"], "value"),
    (["-x"], "unknown"),
    (["extra"], "too many"),
])
def test_bad_options(bench, sim, option, words):
    mount = bench.mount(sim, start=False)
    argv = mount.argv()
    done = run(*(argv[:2] + option + argv[2:]), check=False, env=mount.env())
    assert done.returncode == 2, done
    assert words in done.stderr and not mount_entry(mount.path), done.stderr


# ---- options ----

@pytest.mark.sanity
def test_a_prefix(bench, sim):
    sim.put_all("test", [("top", b"1"), ("in/x", b"2"), ("in/side/y", b"3"),
                         ("inside", b"4")])
    for target in ("test/in", "test/in/"):
        mount = bench.mount(sim, target=target)
        assert sorted(os.listdir(mount.path)) == ["side", "x"]
        assert (mount.path / "side" / "y").read_bytes() == b"3"
        assert not (mount.path / "top").exists()
        mount.umount()


def test_an_endpoint_with_a_path(bench):
    sim = bench.sim(path_prefix="/some/where")
    sim.url += "/some/where"
    sim.put_all("test", [("a b/%", b"1")])
    mount = bench.mount(sim)
    assert (mount.path / "a b" / "%").read_bytes() == b"1"


def test_a_session_token(bench):
    token = bench.folder / "token"
    token.write_text("a-session-token\n")
    sim = bench.sim(session_token_file=token)
    sim.session_token = "a-session-token"
    sim.put_all("test", [("x", b"1")])
    env = {"R2_ACCESS_KEY_ID": ACCESS_KEY, "R2_SECRET_ACCESS_KEY": SECRET,
           "R2_SESSION_TOKEN": "a-session-token"}
    mount = bench.mount(sim, credentials=None, env=env)
    assert (mount.path / "x").read_bytes() == b"1"
    mount.umount()
    refused(bench, sim, "40[13]", credentials=None,
            env={**env, "R2_SESSION_TOKEN": "another"})


@pytest.mark.parametrize("names", [
    {"R2_ACCESS_KEY_ID": ACCESS_KEY, "R2_SECRET_ACCESS_KEY": SECRET,
     "R2_ENDPOINT": "URL"},
    {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
     "AWS_ENDPOINT_URL_S3": "URL"},
    {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
     "AWS_ENDPOINT_URL": "URL"},
])
def test_everything_from_the_environment(bench, sim, names):
    sim.put_all("test", [("x", b"1")])
    env = {k: sim.url if v == "URL" else v for k, v in names.items()}
    mount = bench.mount(sim, endpoint="", credentials=None, env=env,
                        start=False)
    argv = [a for a in mount.argv()]
    at = argv.index("--endpoint")
    del argv[at:at + 2]
    run(*argv, env=mount.env())
    mount.adopt()
    assert (mount.path / "x").read_bytes() == b"1"


def test_a_profile(bench, sim):
    sim.put_all("test", [("x", b"1")])
    shared = bench.folder / "shared"
    shared.write_text("[default]\naws_access_key_id = wrong\n"
                      "aws_secret_access_key = wrong\n[r2]\n"
                      "aws_access_key_id = %s\naws_secret_access_key = %s\n"
                      % (ACCESS_KEY, SECRET))
    shared.chmod(0o600)
    mount = bench.mount(sim, credentials=None, profile="r2",
                        env={"AWS_SHARED_CREDENTIALS_FILE": str(shared)})
    assert (mount.path / "x").read_bytes() == b"1"


def test_owner_and_modes(bench, sim):
    sim.put_all("test", [("d/f", b"1")])
    mount = bench.mount(sim, uid=1234, gid=2345, file_mode="640",
                        dir_mode="750")
    for path, mode in ((mount.path / "d", 0o750), (mount.path / "d/f", 0o640),
                       (mount.path, 0o750)):
        st = path.stat()
        assert (st.st_uid, st.st_gid) == (1234, 2345), path
        assert stat.S_IMODE(st.st_mode) == mode, path
    mount.umount()
    mount = bench.mount(sim, umask="027")
    assert stat.S_IMODE((mount.path / "d/f").stat().st_mode) == 0o640
    assert stat.S_IMODE((mount.path / "d").stat().st_mode) == 0o750


@pytest.mark.sanity
def test_it_is_read_only(bench, sim):
    sim.put_all("test", [("d/f", b"1")])
    mount = bench.mount(sim)
    f = mount.path / "d" / "f"
    for attempt in (
            lambda: (mount.path / "new").write_bytes(b"x"),
            lambda: f.write_bytes(b"x"),
            lambda: open(f, "ab").close(),
            lambda: os.truncate(f, 0),
            lambda: f.unlink(),
            lambda: os.rename(f, mount.path / "g"),
            lambda: (mount.path / "newdir").mkdir(),
            lambda: (mount.path / "d").rmdir(),
            lambda: os.chmod(f, 0o600),
            lambda: os.utime(f, (1, 1)),
            lambda: os.symlink("x", mount.path / "s"),
            lambda: os.link(f, mount.path / "l"),
            lambda: os.setxattr(f, "user.x", b"1")):
        with pytest.raises(OSError) as error:
            attempt()
        assert error.value.errno == errno.EROFS, error.value
    assert f.read_bytes() == b"1"


@needs_root
def test_allow_other(bench, sim):
    sim.put_all("test", [("d/f", b"1")])
    os.chmod(bench.folder, 0o755)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534",
              "--clear-groups"]
    mount = bench.mount(sim, allow_other=True)
    assert run(*nobody, "cat", mount.path / "d/f").stdout == "1"
    mount.umount()
    mount = bench.mount(sim, allow_other=True, file_mode="600")
    assert run(*nobody, "cat", mount.path / "d/f", check=False).returncode
    mount.umount()
    mount = bench.mount(sim)
    assert run(*nobody, "ls", mount.path, check=False).returncode


@needs_root
def test_as_an_ordinary_user(bench, sim):
    if not shutil.which("fusermount3"):
        pytest.fail("fusermount3 is missing: run scripts/setup build")
    sim.put_all("test", [("d/f", b"1")])
    home = bench.folder / "home"
    home.mkdir()
    shutil.copy(R2FS, bench.folder / "r2fs")
    mount = bench.mount(sim, start=False, env={"HOME": str(home),
                                               "XDG_RUNTIME_DIR": str(home)})
    argv = mount.argv()
    argv[0] = bench.folder / "r2fs"
    user = ["setpriv", "--reuid", "65534", "--regid", "65534",
            "--clear-groups"]
    for path in [bench.folder, *bench.folder.glob("**/*")]:
        if "sim" not in path.parts:
            os.chown(path, 65534, 65534)
    os.chown(mount.credentials(), 65534, 65534)
    run(*user, *argv, env=mount.env())
    try:
        assert mount_entry(mount.path)[0] == "fuse.r2fs"
        assert run(*user, "cat", mount.path / "d/f").stdout == "1"
        status = run(*user, argv[0], "status", env=mount.env()).stdout
        assert str(mount.path) in status
    finally:
        run(*user, argv[0], "umount", mount.path, env=mount.env())
    assert not mount_entry(mount.path)


def test_dash_o(bench, sim):
    sim.put_all("test", [("d/f", b"1")])
    mount = bench.mount(sim, start=False)
    options = "rw,noexec,noatime,_netdev,x-systemd.automount,uid=77," \
        "file_mode=600,metadata-ttl=indefinite,endpoint=%s,credentials=%s," \
        "cache-dir=%s,min-free=1M,log-file=%s" % (
            sim.url, mount.credentials(), mount.cache, mount.log)
    run(R2FS, "mount", "test", mount.path, "-o", options, env=mount.env())
    mount.adopt()
    st = (mount.path / "d/f").stat()
    assert st.st_uid == 77 and stat.S_IMODE(st.st_mode) == 0o600
    assert "noexec" in mount_entry(mount.path)[2]


@needs_root
def test_mount_8(bench, sim):
    """mount -t r2fs, through a helper as an installation places it."""
    sim.put_all("test", [("d/f", b"1")])
    helper = pathlib.Path("/sbin/mount.r2fs")
    if helper.exists() or helper.is_symlink():
        pytest.skip("%s exists: an installed r2fs is left alone" % helper)
    mount = bench.mount(sim, start=False)
    options = "endpoint=%s,credentials=%s,cache-dir=%s,min-free=1M," \
        "log-file=%s" % (sim.url, mount.credentials(), mount.cache, mount.log)
    helper.symlink_to(R2FS)
    try:
        run("mount", "-t", "r2fs", "test", mount.path, "-o", options,
            env=mount.env())
        mount.adopt()
        assert (mount.path / "d/f").read_bytes() == b"1"
        run("umount", mount.path)
        assert harness.wait_until(lambda: not mount.alive(), 20)
    finally:
        helper.unlink()


def test_the_installed_names(bench, sim):
    """What `meson install` puts in place, and mount.r2fs with its operands
    first, as mount(8) calls it."""
    where = bench.folder / "dest"
    run("meson", "install", "-C", harness.BUILD, "--no-rebuild", "--destdir",
        where, timeout=120)
    names = {p.name: p for p in where.glob("**/*") if not p.is_dir()}
    assert "r2fs" in names and "mount.r2fs" in names, sorted(names)
    assert any(n.startswith("r2fs.1") for n in names), sorted(names)
    sim.put_all("test", [("x", b"1")])
    mount = bench.mount(sim, start=False)
    helper = bench.folder / "mount.r2fs"
    helper.symlink_to(names["r2fs"])
    run(helper, "test", mount.path, "-o", "rw,endpoint=%s,credentials=%s,"
        "cache-dir=%s,min-free=1M,log-file=%s" % (
            sim.url, mount.credentials(), mount.cache, mount.log),
        env=mount.env())
    assert mount_entry(mount.path)[0] == "fuse.r2fs"
    assert (mount.path / "x").read_bytes() == b"1"
    mount.pid = mount.stats()["process"]["pid"]


# ---- tools ----

@pytest.mark.sanity
def test_status_stats_and_umount(bench, sim):
    sim.put_all("test", [("x", b"1" * 1000)])
    mount = bench.mount(sim)
    (mount.path / "x").read_bytes()
    status = run(R2FS, "status", mount.path).stdout
    assert str(mount.path) in status and sim.url in status
    assert str(mount.path) in run(R2FS, "status").stdout
    stats = mount.stats()
    assert stats["requests"]["get"]["sent"] == 1
    assert stats["reads"]["read_bytes"] == 1000
    assert stats["process"]["rss_bytes"] > 1 << 20
    flat = run(R2FS, "stats", mount.path).stdout
    assert re.search(r"^reads\.bytes 1000$", flat, re.M), flat
    with open(mount.path / "x"):
        done = run(R2FS, "umount", mount.path, check=False)
        assert done.returncode == 1 and "in use" in done.stderr
    mount.umount()
    done = run(R2FS, "umount", mount.path, check=False)
    assert done.returncode == 1 and "nothing is mounted" in done.stderr
    assert run(R2FS, "stats", mount.path, check=False).returncode == 1
    assert run(R2FS, "status", mount.path, check=False).returncode == 1


def test_doctor(bench, sim):
    mount = bench.mount(sim, start=False)
    argv = [R2FS, "doctor", "--endpoint", sim.url, "--credentials",
            mount.credentials(), "--cache-dir", mount.cache, "--min-free",
            "1M", "test"]
    done = run(*argv, env=mount.env())
    assert "/dev/fuse" in done.stdout and "can be listed" in done.stdout
    assert "FAIL" not in done.stdout and SECRET not in done.stdout
    done = run(*argv[:-1], "no-such-bucket", check=False, env=mount.env())
    assert done.returncode == 1 and "FAIL" in done.stdout


def test_help_names_every_option(bench, sim):
    text = run(R2FS, "mount", "--help").stdout
    man = run(R2FS, "help", "--man").stdout.replace("\\-", "-")
    for option in ("endpoint", "credentials", "cache-dir", "cache-size",
                   "min-free", "memory", "metadata-ttl", "negative-ttl",
                   "preset", "read-only", "uid", "gid", "file-mode",
                   "dir-mode", "umask", "allow-other", "max-connections",
                   "deadline", "log-level", "log-file", "account-id",
                   "jurisdiction", "profile"):
        assert "--" + option in text and "--" + option in man, option
    assert run(R2FS, "version").stdout.startswith("r2fs ")
    assert run(R2FS, "frobnicate", check=False).returncode == 2


@pytest.mark.sanity
def test_secrets_stay_secret(bench, sim):
    sim.put_all("test", [("x", b"1")])
    mount = bench.mount(sim, log_level="debug")
    (mount.path / "x").read_bytes()
    proc = pathlib.Path("/proc/%d" % mount.pid)
    assert SECRET.encode() not in (proc / "cmdline").read_bytes()
    assert SECRET not in json.dumps(mount.stats())
    assert SECRET not in mount.log.read_text()
    assert SECRET not in run(R2FS, "status").stdout
    for path in mount.cache.glob("**/*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert stat.S_IMODE(next(mount.cache.iterdir()).stat().st_mode) == 0o700


def test_hangup_reads_credentials_again(bench, sim):
    """The key is revoked, a new one is put in the file."""
    sim.put_all("test", [("a", b"1"), ("b", b"2")])
    mount = bench.mount(sim)
    mount.allowed.append(".")
    assert (mount.path / "a").read_bytes() == b"1"
    secret = sim.folder / "secret"
    sim.stop()
    secret.write_text("another-secret\n")
    sim.secret = "another-secret"
    sim.start()
    mount.credentials().write_text(ACCESS_KEY + ":another-secret\n")
    os.kill(mount.pid, signal.SIGHUP)
    time.sleep(0.3)
    assert (mount.path / "b").read_bytes() == b"2"


def test_the_log_file_can_be_rotated(bench, sim):
    mount = bench.mount(sim)
    assert mount.log.read_text()
    mount.log.rename(bench.folder / "old.log")
    os.kill(mount.pid, signal.SIGHUP)
    assert harness.wait_until(mount.log.exists, 10)


def test_statfs_and_friends(bench, sim):
    sim.put_all("test", [("d/f", b"1" * 5000)])
    mount = bench.mount(sim)
    st = os.statvfs(mount.path)
    assert st.f_namemax == 255 and st.f_bavail > 0 and st.f_blocks > 0
    run("df", mount.path)
    assert os.access(mount.path / "d/f", os.R_OK)
    st = (mount.path / "d/f").stat()
    assert st.st_size == 5000 and st.st_nlink == 1
    assert st.st_blocks * 512 >= 5000
    assert (mount.path / "d").stat().st_nlink >= 1
    assert abs(st.st_mtime - time.time()) < 600
