"""Other people's suites, each a function (Target, mode) -> {case: outcome}.

An outcome is "pass", "fail" or "skip". A suite that ends before its time
because of a crash or a hang raises; nothing is taken for a pass by silence.
"""

import glob
import os
import re
import subprocess
import sys
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../..")


class Target:
    """A folder to run in: a local one or a mount."""

    def __init__(self, name, path, scratch, remount=lambda: None):
        self.name = name
        self.path = path
        self.scratch = scratch  # a local folder for results
        self.remount = remount  # so that nothing is answered from memory
        self.text = ""

    def run(self, *argv, timeout, cwd=None, env=None):
        """Status and output; a program that takes too long is killed."""
        log = os.path.join(self.scratch, "log")
        with open(log, "w") as out:
            p = subprocess.Popen([str(a) for a in argv], stdout=out,
                                 stderr=out, cwd=cwd or self.path,
                                 env=env or os.environ,
                                 start_new_session=True)
            try:
                status = p.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, 9)
                status = "time limit"
                try:
                    p.wait(20)
                except subprocess.TimeoutExpired:
                    raise RuntimeError(f"{argv[0]} hangs on {self.name}")
        with open(log, errors="replace") as f:
            self.text = re.sub(r"\x1b\[[0-9;]*m", "", f.read())
        return status


def tool(name):
    absent = os.path.join(HERE, "tools/absent")
    if os.path.exists(absent):
        with open(absent) as f:
            raise Skip(f.read().strip())
    path = os.path.join(HERE, "tools/bin", name)
    if not os.path.exists(path):
        raise RuntimeError(f"{path} is missing: run scripts/setup suites")
    return path


class Skip(Exception):
    """The suite cannot be run here; says why."""


# --- pjdfstest ----------------------------------------------------------------

# What O_RDONLY with O_TRUNC does is undefined, and it depends on the moment
# whether the kernel refuses it for a running program.
UNSTEADY = ["open::etxtbsy"]


def pjdfstest(t, mode):
    words = {"ok": "pass", "FAILED": "fail", "skipped": "skip"}
    cases = {}
    t.run(tool("pjdfstest"), "-c", os.path.join(HERE, "pjdfstest.toml"),
          timeout=300)
    for line in t.text.splitlines():
        m = re.fullmatch(r"(\w+(?:::\w+)+)\s+(ok|FAILED|skipped)", line)
        if m:
            cases[m[1]] = words[m[2]]
    total = re.search(r"^Summary: .* (\d+) total$", t.text, re.M)
    if not total or int(total[1]) != len(cases):
        raise RuntimeError("pjdfstest did not come to its end")
    return dict(cases, **dict.fromkeys(UNSTEADY, "skip"))


# --- fsx ------------------------------------------------------------------------

FSX = {
    "default": [("fsx", 1, 100000), ("fsx-large", 3, 120)],
    "writeback": [("fsx-store", 4, 100000)],
}


def fsx(t, mode):
    cases = {}
    for config, seed, ops in FSX[mode]:
        name = f"{config}.{seed}"
        status = t.run(tool("fsx"), "-q", "-q", "-f",
                       os.path.join(HERE, config + ".toml"), "-P", t.scratch,
                       "-S", seed, "-N", ops, name, timeout=150)
        good = status == 0 and "All operations completed" in t.text
        if not good:
            print(f"{name} on {t.name}: status {status}\n{t.text[-3000:]}")
        cases[name] = "pass" if good else "fail"
    return cases


# --- CPython ---------------------------------------------------------------------

PYTHON = """dbm_dumb file fcntl filecmp fileio glob mailbox mmap os pathlib
 posix shelve shutil sqlite3 tarfile tempfile zipfile"""


def python_with_tests():
    """One of which expected.txt knows the names of the tests."""
    python = "/usr/bin/python3.11"
    try:
        if subprocess.run([python, "-c", "import test.test_os"],
                          capture_output=True, timeout=60).returncode == 0:
            return python
    except OSError:
        raise Skip("no Python 3.11") from None
    raise RuntimeError("Python's own tests are missing: run scripts/setup "
                       "suites")


def cpython(t, mode):
    result = os.path.join(t.scratch, "junit.xml")
    cases = {}
    t.run(python_with_tests(), "-m", "test", "--tempdir", t.path, "--timeout",
          "120", "--junit-xml", result,
          *("test_" + m for m in PYTHON.split()), timeout=400)
    for case in xml.etree.ElementTree.parse(result).iter("testcase"):
        outcome = "pass"
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = "fail"
        elif case.find("skipped") is not None:
            outcome = "skip"
        name = case.get("name").removeprefix("test.")
        if cases.get(name) != "fail":
            cases[name] = outcome
    if "Tests result:" not in t.text:
        raise RuntimeError("Python's tests did not come to their end")
    return cases


# --- stress-ng ---------------------------------------------------------------------

STRESS = """access chdir chmod chown copy-file dentry dir dirdeep dirmany
 fallocate fcntl filename flock getdent hdd inotify iomix link locka
 lockf lockofd mmap mknod open readahead rename seek sendfile symlink
 sync-file touch utime xattr"""


def stress(t, mode):
    cases = {}
    for name in STRESS.split():
        status = t.run("stress-ng", f"--{name}", 1, "--timeout", "1s",
                       "--verify", "--temp-path", t.path, timeout=60)
        if status in (3, 4):
            cases[name] = "skip"
        elif status == 0 and "skipp" not in t.text:
            cases[name] = "pass"
        elif status == 0:
            cases[name] = "skip"
        else:
            print(f"stress-ng --{name} on {t.name}: {status}\n"
                  f"{t.text[-1500:]}")
            cases[name] = "fail"
    return cases


# --- fio -----------------------------------------------------------------------------

FIO = {
    "sequential": ["--rw=write", "--bs=1M", "--size=96M"],
    "random": ["--rw=randwrite", "--bs=4k", "--size=8M"],
    "mixed-sizes": ["--rw=randwrite", "--bsrange=512-256k", "--bs_unaligned",
                    "--size=24M"],
    "many-files": ["--rw=write", "--bs=4k", "--size=2M", "--nrfiles=64"],
    "mmap": ["--rw=randwrite", "--bs=4k", "--size=8M", "--ioengine=mmap"],
}


def fio(t, mode):
    """Written by one process; verified by another after a remount."""
    cases = {}
    common = ["--directory=" + t.path, "--verify=crc32c", "--verify_fatal=1",
              "--end_fsync=1", "--randseed=7"]
    for name, job in FIO.items():
        status = t.run("fio", f"--name={name}", *common, *job,
                       "--do_verify=0", timeout=90, cwd=t.scratch)
        cases[name] = "pass" if status == 0 else "fail"
        if status:
            print(f"fio {name} on {t.name}: {status}\n{t.text[-2000:]}")
    t.remount()
    for name, job in FIO.items():
        status = t.run("fio", f"--name={name}", *common, *job,
                       "--verify_only=1", timeout=90, cwd=t.scratch)
        read = re.search(r"READ: .*io=\d", t.text)
        if status or not read:
            print(f"fio {name} verified on {t.name}: {status}\n"
                  f"{t.text[-2000:]}")
            cases[name] = "fail"
    for path in glob.glob(os.path.join(t.path, "*.*.*")):
        os.unlink(path)
    return cases


SUITES = {"pjdfstest": pjdfstest, "fsx": fsx, "fio": fio, "cpython": cpython,
          "stress-ng": stress}
# Those that are run with --writeback too.
AGAIN = ("pjdfstest", "fsx", "fio")
