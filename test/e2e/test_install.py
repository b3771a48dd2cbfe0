"""What `meson install` leaves, and mount(8) finding it: the helpers lie in a
copy of the machine's folders that only the test's mount namespace sees."""

import errno
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import BUCKET, BUILD, CLEAN_ENV, Case, Mount, R2FS, run

TREE = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))


def install(to):
    p = subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild",
                        "--quiet", "--skip-subprojects"], text=True,
                       env=dict(os.environ, DESTDIR=to), timeout=120,
                       capture_output=True)
    assert p.returncode == 0, p.stdout + p.stderr


def prefix():
    import json
    p = run("meson", "introspect", "--buildoptions", BUILD)
    return next(o["value"] for o in json.loads(p.stdout)
                if o["name"] == "prefix")


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix="r2fs-dest-")
        install(cls.dir)
        cls.root = cls.dir + prefix()

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.dir)

    def text(self, path):
        with open(os.path.join(self.root, path)) as f:
            return f.read()

    def test_files(self):
        self.assertEqual(run(f"{self.root}/bin/r2fs", "version").stdout,
                         run(R2FS, "version").stdout)
        for name in ("mount.r2fs", "mount.fuse.r2fs", "umount.r2fs",
                     "umount.fuse.r2fs"):
            self.assertEqual(os.path.realpath(f"{self.dir}/usr/sbin/{name}"),
                             os.path.realpath(f"{self.root}/bin/r2fs"))
        self.assertIn(".TH R2FS 1", self.text("share/man/man1/r2fs.1"))
        self.assertIn(".TH MOUNT.R2FS 8",
                      self.text("share/man/man8/mount.r2fs.8"))
        self.assertIn("Apache License", self.text("share/doc/r2fs/LICENSE"))
        self.assertIn("fstab", self.text("share/doc/r2fs/usage.md"))
        self.assertIn("[Service]",
                      self.text("share/doc/r2fs/examples/r2fs@.service"))

    def complete(self, *line):
        path = f"{self.root}/share/bash-completion/completions/r2fs"
        words = " ".join(f"'{w}'" for w in line)
        script = (f". '{path}'; compopt() {{ :; }}; COMP_WORDS=({words}); "
                  f"COMP_CWORD={len(line) - 1}; _r2fs; "
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        return run("bash", "-c", script).stdout.split()

    def test_completion(self):
        self.assertEqual(self.complete("r2fs", "um"), ["umount"])
        self.assertEqual(self.complete("r2fs", "mount", "--metadata"),
                         ["--metadata-ttl"])
        self.assertEqual(self.complete("r2fs", "mount", "--preset", "t"),
                         ["training"])
        self.assertEqual(self.complete("r2fs", "stats", "--"), ["--json"])
        self.assertIn("/usr", self.complete("r2fs", "mount", "b", "/us"))
        self.assertEqual(self.complete("r2fs", "mount", "--deadline", ""), [])


PRIVATE = ["unshare", "--mount", "--propagation", "private"]


class ByMount8(Case):
    def setUp(self):
        # Where / is no mount point, what the test mounts could get out.
        if run(*PRIVATE, "true", check=False).returncode:
            self.skipTest("no private mount namespace in a chroot")
        super().setUp()
        self.dest = tempfile.mkdtemp(prefix="r2fs-dest-")
        install(self.dest)
        for found in ("/usr/sbin/mount.fuse3",):
            if os.path.exists(found):
                shutil.copy(found, f"{self.dest}/usr/sbin/mount.fuse")
        self.server.put("x", b"1")
        self.m = Mount(self.server)
        self.mounts.append(self.m)

    def tearDown(self):
        super().tearDown()
        shutil.rmtree(self.dest)

    def script(self, text, check=True):
        """Runs text as root with the installed helpers in place; what it
        mounts is gone with its namespace."""
        with open(f"{self.m.dir}/fstab", "w") as f:
            f.write(f"{BUCKET} {self.m.path} r2fs {self.options()} 0 0\n")
        head = (f"set -e; d='{self.m.path}'; o='{self.options()}'; "
                f"t='{self.m.dir}/fstab'; "
                f"mount --bind '{self.dest}/usr/sbin' /usr/sbin; "
                f"mount --bind '{self.dest}{prefix()}/bin' {prefix()}/bin; ")
        return run(*PRIVATE, "bash", "-c", head + text, check=check,
                   env=dict(CLEAN_ENV, PATH="/usr/local/bin:/usr/bin:/bin"))

    def options(self):
        return (f"rw,_netdev,nofail,noatime,endpoint={self.server.endpoint},"
                f"credentials={self.m.creds},cache_dir={self.m.cache},"
                f"min_free=64M,log_file={self.m.log}")

    def test_mount_t_r2fs(self):
        out = self.script("mount -t r2fs bucket $d -o $o; cat $d/x; "
                          "findmnt -n -o SOURCE,FSTYPE,OPTIONS $d; "
                          "umount $d; ! pgrep -f \"r2fs.*$d\"").stdout
        self.assertRegex(out, r"^1bucket +fuse\.r2fs +rw,.*noatime")

    def test_umount_waits_so_that_mount_may_follow(self):
        self.script("for i in 1 2 3 4 5; do mount -t r2fs bucket $d -o $o; "
                    "umount $d; done")

    def test_fstab(self):
        out = self.script("mount -T $t $d; mount -T $t -a -t r2fs; "
                          "findmnt -n -o TARGET $d | wc -l; cat $d/x; "
                          "umount $d").stdout
        self.assertEqual(out, "1\n1")

    def test_type_fuse_r2fs(self):
        for gone in ("", "rm /usr/sbin/mount.fuse.r2fs; "):
            out = self.script(gone + "mount -t fuse.r2fs bucket $d -o $o; "
                              "cat $d/x; umount -l $d; "
                              "for i in $(seq 100); do "
                              "pgrep -f \"r2fs.*$d\" || break; sleep .1; "
                              "done").stdout
            self.assertEqual(out[0], "1")

    def test_flags_of_mount8(self):
        out = self.script("mount -f -v -t r2fs bucket $d -o $o; "
                          "! mountpoint -q $d; "
                          "mount -s -n -t r2fs bucket $d -o $o,colour=blue; "
                          "cat $d/x; umount $d").stdout
        self.assertTrue(out.endswith("1"), out)
        p = self.script("mount -t r2fs bucket $d -o $o,colour=blue",
                        check=False)
        self.assertNotEqual(p.returncode, 0)
        self.assertIn('unknown option "colour"', p.stderr)


class Documents(unittest.TestCase):
    """The help, the manual and the pages of docs name the same options."""

    def options(self):
        return set(re.findall(r"(?m)^  --([a-z-]+)",
                              run(R2FS, "help").stdout))

    def commands(self):
        return set(re.findall(r"(?m)^  r2fs ([a-z]+)",
                              run(R2FS, "help").stdout))

    def test_manual(self):
        plain = run(R2FS, "help", "--man").stdout.replace("\\-", "-")
        self.assertEqual(set(re.findall(r"(?m)^\.B --([a-z-]+)", plain)),
                         self.options())
        self.assertEqual(set(re.findall(r"(?m)^\.B r2fs ([a-z]+)", plain)),
                         self.commands())
        plain = run(R2FS, "help", "--man", "mount.r2fs").stdout
        plain = plain.replace("\\-", "-")
        self.assertEqual(set(re.findall(r"(?m)^\.TP\n\.B ([a-z-]+)", plain)),
                         self.options())

    def test_pages(self):
        known = set(re.findall("--([a-z-]+)", run(R2FS, "help").stdout))
        folder = os.path.join(TREE, "docs")
        with open(f"{folder}/usage.md") as f:
            usage = f.read()
        rows = set(re.findall(r"(?m)^\| `--([a-z-]+)", usage))
        self.assertEqual(rows, self.options())
        pages = [os.path.join(TREE, "README.md")]
        pages += [f"{folder}/{n}" for n in os.listdir(folder)
                  if n.endswith(".md")]
        for page in pages:
            with open(page) as f:
                text = f.read()
            for command, rest in re.findall(
                    r"(?m)^    (?:\S*/)?r2fs ([a-z]+)(.*)$", text):
                self.assertIn(command, self.commands(), page)
                for option in re.findall(r" --([a-z-]+)", rest):
                    self.assertIn(option, known, page)
            for target in re.findall(r"\]\(([^)#]+)", text):
                if "://" not in target:
                    path = os.path.join(os.path.dirname(page), target)
                    self.assertTrue(os.path.exists(path), (page, target))


    def test_messages(self):
        """What troubleshooting.md quotes is what the sources say."""
        sources = ""
        for folder, _, names in os.walk(os.path.join(TREE, "src")):
            for name in names:
                if name.endswith(".c"):
                    with open(os.path.join(folder, name)) as f:
                        sources += f.read()
        sources = re.sub(r'"\s*\n\s*"', "", sources).replace('\\"', '"')
        known = {os.strerror(e) for e in
                 (errno.EROFS, errno.EACCES, errno.ETIMEDOUT, errno.EIO,
                  errno.ESTALE, errno.ENOTCONN, errno.EEXIST,
                  errno.ENOSPC, errno.EDQUOT, errno.EPERM)} | {"target is busy"}
        checked = 0
        with open(os.path.join(TREE, "docs/troubleshooting.md")) as f:
            cells = re.findall(r"(?m)^\| (`[^|]*) \|", f.read())
        for message in re.findall("`([^`]+)`", " ".join(cells)):
            message = re.sub(r"^(mount|session|cache|r2|vfs): ", "", message)
            for part in re.split(r'"[XV]"|\b(?:[A-Z]|KEY|OP|REASON|ERROR)\b|…',
                                 message):
                part = part.strip(" :()\"-,")
                if len(part) > 3 and part not in known:
                    self.assertTrue(part in sources, part)
                    checked += 1
        self.assertGreater(checked, 60)


if __name__ == "__main__":
    unittest.main()
