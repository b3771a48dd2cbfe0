#!/usr/bin/env python3
"""Runs other people's file system tests in a local folder and on a mount.

  run.py [--missing FILE] [SUITE...]  all suites, or some: pjdfstest fsx fio
                                      cpython stress-ng

What passes in the local folder has to pass on the mount, with and without
--writeback. What does not is in expected.txt, a line each: SUITE CASE MODE
REASON. MODE is default, writeback or both; REASON is the bold word under which
docs/semantics.md says why. The run fails for a case that is not listed there,
for a listed one that passes or does not exist, and when a suite did not reach
the mount. --missing writes the lines that would have to be added. R2FS_BUILD
is the build to test. The last line: N passed, N failed, N skipped; a listed
case that fails is skipped.
"""

import os
import re
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../e2e")]

import cases  # noqa: E402
import harness  # noqa: E402

MODES = ["default", "writeback"]


class Verdict:
    def __init__(self, expected):
        self.expected = expected  # {(suite, case): {mode: reason}}
        self.passed = self.skipped = 0
        self.problems = []
        self.missing = []
        self.seen = set()

    def problem(self, text):
        print("FAILED:", text, flush=True)
        self.problems.append(text)

    def judge(self, suite, case, mode, outcome):
        """What the mount's outcome counts as, where a local folder passes."""
        listed = mode in self.expected.get((suite, case), {})
        if outcome == "pass" and listed:
            self.problem(f"{suite} {case} ({mode}) passes: take it off "
                         "expected.txt")
        elif outcome != "pass" and not listed:
            self.problem(f"{suite} {case} ({mode}): {outcome}")
            self.missing.append(f"{suite} {case} {mode}")
        if outcome == "pass":
            return "passed"
        return "listed" if listed else "failed"

    def compare(self, suite, mode, local, mounted):
        counts = dict.fromkeys(("passed", "failed", "listed", "skipped"), 0)
        if "pass" not in local.values():
            self.problem(f"{suite}: nothing passes in a local folder")
        for case in sorted(local):
            self.seen.add((suite, case))
            if local[case] != "pass":
                counts["skipped"] += 1
            else:
                counts[self.judge(suite, case, mode, mounted.get(
                    case, "was not run"))] += 1
        self.passed += counts["passed"]
        self.skipped += counts["skipped"] + counts["listed"]
        print(f"{suite} ({mode}):", ", ".join(
            f"{n} {word}" for word, n in counts.items()), flush=True)

    def check_list(self, suites):
        for suite, case in self.expected:
            if suite in suites and (suite, case) not in self.seen:
                self.problem(f"expected.txt: there is no {suite} {case}")


def read_expected():
    with open(os.path.join(HERE, "../../docs/semantics.md")) as f:
        reasons = set(re.findall(r"^- \*\*([a-z-]+)\*\*", f.read(), re.M))
    expected = {}
    with open(os.path.join(HERE, "expected.txt")) as f:
        for n, line in enumerate(f, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) != 4 or words[2] not in MODES + ["both"]:
                sys.exit(f"expected.txt:{n}: not SUITE CASE MODE REASON")
            if words[3] not in reasons:
                sys.exit(f"expected.txt:{n}: docs/semantics.md does not "
                         f"explain {words[3]}")
            for mode in MODES if words[2] == "both" else [words[2]]:
                expected.setdefault(tuple(words[:2]), {})[mode] = words[3]
    return expected


def on_local(suite):
    top = tempfile.mkdtemp(prefix="r2fs-suites-")
    try:
        os.chmod(top, 0o755)
        for name in ("folder", "scratch"):
            os.mkdir(os.path.join(top, name))
        return {mode: cases.SUITES[suite](cases.Target(
            "a local folder", os.path.join(top, "folder"),
            os.path.join(top, "scratch")), mode) for mode in modes(suite)}
    finally:
        shutil.rmtree(top, ignore_errors=True)


def modes(suite):
    return MODES if suite in cases.AGAIN else MODES[:1]


def mount(server, mode):
    m = harness.Mount(server, "--allow-other",
                      *(["--writeback"] if mode == "writeback" else []))
    os.chmod(m.dir, 0o755)
    return m


def remount(m):
    m.unmount()
    shutil.rmtree(m.cache)
    harness.drop_kernel_cache()
    m.start()


def on_mount(suite, mode):
    """The suite on a mount of its own, over r2sim. Mount.start checks that the
    folder is a fuse file system, and R2 must have seen new objects."""
    server = harness.Server()
    m = mount(server, mode)
    try:
        m.start()
        before = server.stats()["total"]
        scratch = os.path.join(m.dir, "scratch")
        os.mkdir(scratch)
        found = cases.SUITES[suite](cases.Target(
            "the mount", m.path, scratch, lambda: remount(m)), mode)
        if not os.path.ismount(m.path):
            raise RuntimeError("the mount is gone")
        m.unmount()
        if server.stats()["total"] == before:
            raise RuntimeError("no request reached R2")
        return found
    finally:
        end(m, server)


def end(m, server):
    """Whatever state it is in. Killing the daemon ends all calls into it."""
    if m.mounted:
        try:
            os.kill(m.pid, 9)
        except ProcessLookupError:
            pass
        m.detach()
        m.mounted = False
    log = ""
    if os.path.exists(m.log):
        with open(m.log, errors="replace") as f:
            log = f.read()
    for word in ("BUG", " ERROR "):
        if word in log:
            print(f"the log of the mount:\n{log[-3000:]}")
            break
    server.stop()
    if not os.path.ismount(m.path):
        shutil.rmtree(m.dir, ignore_errors=True)


def run_suite(suite, verdict):
    try:
        local = on_local(suite)
    except cases.Skip as e:
        print(f"skipped: {suite}: {e}")
        verdict.skipped += 1
        verdict.seen.update(c for c in verdict.expected if c[0] == suite)
        return
    except (RuntimeError, OSError) as e:
        verdict.problem(f"{suite} in a local folder: {e}")
        return
    for mode in modes(suite):
        try:
            found = on_mount(suite, mode)
        except Exception as e:  # the other suites are to be run
            verdict.problem(f"{suite} ({mode}): {e}")
            continue
        verdict.compare(suite, mode, local[mode], found)


def main(argv):
    missing_to = None
    if argv[:1] == ["--missing"]:
        missing_to, argv = argv[1], argv[2:]
    suites = argv or list(cases.SUITES)
    if not set(suites) <= set(cases.SUITES):
        print(__doc__)
        return 2
    verdict = Verdict(read_expected())
    for suite in suites:
        start = time.monotonic()
        run_suite(suite, verdict)
        print(f"{suite}: {time.monotonic() - start:.0f} s", flush=True)
    verdict.check_list(suites)
    if missing_to:
        with open(missing_to, "w") as f:
            f.write("".join(line + "\n" for line in verdict.missing))
    print(f"{verdict.passed} passed, {len(verdict.problems)} failed, "
          f"{verdict.skipped} skipped")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
