"""Starting, stopping, and being told why not."""

import errno
import json
import mmap
import os
import re
import resource
import signal
import subprocess
import tempfile
import unittest

from harness import BUCKET, CLEAN_ENV, Case, KEY, Mount, R2FS, SECRET, \
    Server, certificate, run, tls, wait_until


class Mounting(Case):
    def refused(self, *words, options=(), **kw):
        m = Mount(self.server, *options, **kw)
        p = run(*m.argv, check=False)
        m.stop()
        self.assertNotEqual(p.returncode, 0, p)
        for w in words:
            self.assertIn(w, p.stderr)
        self.assertNotIn(SECRET, p.stderr)

    def listed(self, *options):
        """All mounts of this machine: others may be dead, ours are not."""
        return run(R2FS, "status", *options, check=False).stdout

    def test_status_stats_and_umount(self):
        self.server.put("x", b"1")
        m = self.mount()
        self.assertIn(m.path, self.listed())
        out = run(R2FS, "status", m.path).stdout
        self.assertIn("bucket at http://127.0.0.1", out)
        self.assertIn("failures     none", out)
        one = json.loads(run(R2FS, "status", "--json", m.path).stdout)
        self.assertEqual(one["process"]["pid"], m.pid)
        self.assertIsNone(one["health"]["last_failure"])
        self.assertIn(one["mount"], [json.loads(line)["mount"] for line
                                     in self.listed("--json").splitlines()])
        self.assertEqual(m.stats()["requests"]["class_a"], 1)
        self.assertIn("requests.class_a 1", run(R2FS, "stats", m.path).stdout)
        m.unmount()
        self.assertFalse(os.path.ismount(m.path))
        wait_until(lambda: not os.path.exists(f"/proc/{m.pid}"))
        p = run(R2FS, "umount", m.path, check=False)
        self.assertIn("nothing is mounted", p.stderr)

    def test_a_long_path(self):
        m = Mount(self.server)
        self.mounts.append(m)
        m.path = m.argv[-1] = os.path.join(m.dir, "d" * 100, "mnt")
        os.makedirs(m.path)
        m.start()
        self.assertIn(m.path, self.listed())
        m.unmount()
        self.assertNotIn(m.path, self.listed())

    def test_trouble_is_shown(self):
        self.server.put("x", b"1")
        m = self.mount("--deadline", "1")
        self.server.faults("op=GET key=x action=status:503")
        with self.assertRaises(OSError):
            m.read("x")
        health = m.stats()["health"]
        self.assertGreaterEqual(health["failures"], 1)
        self.assertEqual(health["last_failure"]["op"], "GET")
        self.assertEqual(health["last_failure"]["http_status"], 503)
        self.assertLess(health["last_failure"]["seconds_ago"], 20)
        out = run(R2FS, "status", m.path).stdout
        self.assertRegex(out, r"failures +\d+, the last \d+ s ago: GET")
        self.assertIn("HTTP 503", out)
        self.server.faults("")
        latency = m.stats()["requests"]["LIST"]
        self.assertLessEqual(latency["p50_us"], latency["p99_us"])
        self.assertGreater(latency["p50_us"], 0)

    def read_by_64k(self, path):
        """Past what the kernel has, and without its reading ahead."""
        n = 0
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, 65536)
        while got := os.preadv(fd, [buffer], n):
            n += got
        os.close(fd)
        return n

    def test_what_stats_count(self):
        size, ms = 768 << 10, 40 # of one GET each
        for name in "ab":
            self.server.put(f"d/{name}", os.urandom(size))
        m = self.mount("--metadata-ttl", "indefinite")
        before = m.stats()
        self.server.latency(ms)
        for name in "ab":
            self.assertEqual(self.read_by_64k(f"{m.path}/d/{name}"), size)
        cold = m.stats()

        def grown(new, old, part, *names):
            return tuple(new[part][n] - old[part][n] for n in names)

        self.assertEqual(grown(cold, before, "reads", "bytes",
                               "fetched_bytes"), (2 * size, 2 * size))
        self.assertEqual(grown(cold, before, "requests", "class_a", "class_b",
                               "retries", "failures", "bytes_out"),
                         (0, 2, 0, 0, 0))
        self.assertEqual(grown(cold, before, "cache", "data_bytes",
                               "evicted_bytes"), (2 * size, 0))
        self.assertGreaterEqual(cold["requests"]["bytes_in"] -
                                before["requests"]["bytes_in"], 2 * size)
        get = cold["requests"]["GET"]
        self.assertEqual((get["sent"], get["finished"]), (2, 2))
        self.assertLessEqual(ms * 1000, get["p50_us"])
        self.assertLessEqual(get["p50_us"], get["p99_us"])
        self.assertLessEqual(get["p99_us"], get["max_us"])
        self.assertLessEqual(ms * 1000, get["mean_us"])
        self.assertLessEqual(get["mean_us"], get["max_us"])
        for name in "ab":
            self.assertEqual(self.read_by_64k(f"{m.path}/d/{name}"), size)
        warm = m.stats()
        self.assertEqual(warm["requests"], cold["requests"])
        if not warm["mount"]["passthrough"]: # the kernel reads by itself
            self.assertEqual(grown(warm, cold, "reads", "count", "bytes",
                                   "hit_bytes", "fetches", "fetched_bytes"),
                             (2 * size // 65536, 2 * size, 2 * size, 0, 0))

    def test_umount_of_a_daemon_that_nobody_reaps(self):
        m = Mount(self.server)
        self.mounts.append(m)
        m.start_in_foreground()
        self.within(20, lambda: run(R2FS, "umount", m.path))
        m.wait_for_end()
        m.mounted = False

    def test_wrong_credentials(self):
        m = Mount(self.server)
        for line, word in ((f"{'f' * 32}:{SECRET}", "does not know"),
                           ("short:x", "32 hex"),
                           (f"{KEY}:wrong", "secret access key is wrong")):
            with open(m.creds, "w") as f:
                f.write(line)
            p = run(*m.argv, check=False)
            self.assertEqual(p.returncode, 1)
            self.assertIn(word, p.stderr)
        os.chmod(m.creds, 0o644)
        self.assertIn("chmod 600", run(*m.argv, check=False).stderr)
        m.stop()

    def test_refusals_on_the_terminal(self):
        self.refused("no such bucket", bucket="missing-bucket")
        self.refused("not a bucket name", bucket="Bad_Name")
        self.refused("nothing answers", endpoint="http://127.0.0.1:9",
                     options=("--deadline", "2"))
        self.refused("--cache-size", options=("--cash-size", "1G"))
        m = Mount(self.server)
        os.rmdir(m.path)
        self.assertIn("mkdir", run(*m.argv, check=False).stderr)
        m.stop()

    def test_each_refusal_says_what_to_do(self):
        for action, *words in (
                ("status:503", "HTTP 503", "cloudflarestatus.com"),
                ("html:502", "HTTP 502", "cloudflarestatus.com"),
                ("html:200", "malformed", "check --endpoint"),
                ("html:301", "HTTP 301", "check --endpoint"),
                ("status:400", "HTTP 400", "check --endpoint"),
                ("drop", "eset", "firewall or proxy"),
                ("cut:20", "firewall or proxy"),
                ("delay:9000", "the deadline ended", "check the network"),
                ("status:403 code=AccessDenied", "Object Read")):
            with self.subTest(action=action):
                self.server.faults("op=LIST action=" + action)
                self.refused(*words, options=("--deadline", "1"))

    def in_other_dev(self, device, *argv):
        """With a /dev of its own, where this makes /dev/fuse."""
        return run("unshare", "-m", "sh", "-ec",
                   "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; "
                   + device + '; exec "$@"', "sh", *argv, check=False)

    def test_no_device(self):
        m = Mount(self.server)
        fuse = "mknod -m {} /dev/fuse c 10 {}"
        nobody = ("setpriv", "--reuid", "65534", "--regid", "65534",
                  "--clear-groups")
        doctor = (R2FS, "doctor", "--allow-other")
        for device, argv, word in (
                ("true", m.argv, "/dev/fuse is missing: load the module"),
                ("true", doctor, "/dev/fuse is missing: load the module"),
                ("cp -a /dev/null /dev/fuse", doctor, "is another device"),
                (fuse.format(600, 229), nobody + doctor, "cannot be opened"),
                ("mount --bind /dev/null /etc/fuse.conf; " +
                 fuse.format(666, 229), nobody + doctor, "user_allow_other"),
                (fuse.format(666, 229), doctor, "the right to mount")):
            with self.subTest(device=device, argv=argv):
                p = self.in_other_dev(device, *argv)
                self.assertIn(word, p.stdout + p.stderr)
                self.assertEqual(p.returncode, word != "the right to mount")
        m.stop()

    def test_cache_folder_in_use(self):
        m = self.mount()
        self.refused("in use", str(m.pid), options=("--cache-dir", m.cache))

    def test_two_folders_of_a_bucket_share_a_cache_dir(self):
        for d in "ab":
            self.server.put(f"{d}/x", d.encode() * 200000)
        with tempfile.TemporaryDirectory() as cache:
            for _ in range(2):
                mounts = [self.mount("--metadata-ttl", "indefinite",
                                     cache=cache, bucket=f"{BUCKET}/{d}")
                          for d in "ab"]
                self.server.reset()
                for m, d in zip(mounts, "ab"):
                    self.assertEqual(m.read("x"), d.encode() * 200000)
                for m in mounts:
                    m.unmount()
            self.assertEqual(self.requests(), 0)

    def test_no_right_to_mount(self):
        m = Mount(self.server)
        p = run("setpriv", "--bounding-set", "-sys_admin", *m.argv,
                check=False)
        m.stop()
        self.assertEqual(p.returncode, 1)
        self.assertIn("Operation not permitted", p.stderr)  # of libfuse
        self.assertIn("CAP_SYS_ADMIN", p.stderr)
        p = run("setpriv", "--bounding-set", "-sys_admin", R2FS, "doctor",
                check=False)
        self.assertIn("CAP_SYS_ADMIN", p.stdout)

    def test_read_only(self):
        self.server.put("d/x", b"1")
        m = self.mount("--read-only")
        for op in (lambda: open(m.path + "/d/new", "w"),
                   lambda: open(m.path + "/d/x", "a"),
                   lambda: os.unlink(m.path + "/d/x"),
                   lambda: os.mkdir(m.path + "/e"),
                   lambda: os.chmod(m.path + "/d/x", 0o600),
                   lambda: os.rename(m.path + "/d/x", m.path + "/y")):
            with self.assertRaises(OSError) as e:
                op()
            self.assertEqual(e.exception.errno, errno.EROFS)

    def test_options_of_ownership(self):
        self.server.put("d/x", b"1")
        m = self.mount("-o", "uid=12,gid=34,file_mode=664,umask=002")
        st = os.stat(m.path + "/d/x")
        self.assertEqual((st.st_uid, st.st_gid, st.st_mode & 0o777),
                         (12, 34, 0o664 & ~0o002))

    def test_allow_other(self):
        self.server.put("x", b"1")
        other = ["setpriv", "--reuid", "65534", "--regid", "65534",
                 "--clear-groups", "cat"]
        m = self.mount("--allow-other")
        os.chmod(m.dir, 0o755)
        self.assertEqual(run(*other, m.path + "/x").stdout, "1")
        m = self.mount()
        os.chmod(m.dir, 0o755)
        p = run(*other, m.path + "/x", check=False)
        self.assertNotEqual(p.returncode, 0)

    def test_mount_helper_form(self):
        self.server.put("x", b"1")
        m = Mount(self.server)
        with tempfile.TemporaryDirectory() as d:
            helper = os.path.join(d, "mount.r2fs")
            os.symlink(os.path.realpath(R2FS), helper)
            run(helper, BUCKET, m.path, "-o",
                f"rw,endpoint={self.server.endpoint},credentials={m.creds},"
                f"cache_dir={m.cache},min_free=64M,_netdev,nofail")
            m.mounted = True
            self.assertEqual(m.read("x"), b"1")
            m.stop()

    def test_environment_credentials_and_no_secret_anywhere(self):
        self.server.put("x", b"1")
        m = Mount(self.server, "--log-level", "debug")
        env = dict(CLEAN_ENV, R2_ACCESS_KEY_ID=KEY,
                   R2_SECRET_ACCESS_KEY=SECRET)
        i = m.argv.index("--credentials")
        del m.argv[i:i + 2]
        run(*m.argv, env=env)
        m.mounted = True
        m.read("x")
        pid = m.stats()["process"]["pid"]
        with open(f"/proc/{pid}/cmdline") as f:
            self.assertNotIn(SECRET, f.read())
        with open(f"/proc/{pid}/environ") as f:
            self.assertNotIn(SECRET, f.read())
        if resource.getrlimit(resource.RLIMIT_CORE)[1]:
            self.assertEqual(resource.prlimit(pid, resource.RLIMIT_CORE)[0], 1)
        os.kill(pid, signal.SIGHUP)
        self.assertEqual(m.read("x"), b"1")
        self.assertNotIn(SECRET, json.dumps(m.stats()))
        m.stop()
        self.assertNotIn(SECRET, m.log_text)

    def test_a_certificate_must_be_trusted_and_fit(self):
        self.server.put("x", b"1")
        with tempfile.TemporaryDirectory() as d:
            cert, key = certificate(d)
            with tls(self.server.port, cert, key) as endpoint:
                self.refused("TLS failed", "certificate", "--ca-bundle",
                             endpoint=endpoint)
                m = self.mount("--ca-bundle", cert, endpoint=endpoint)
                self.assertEqual(m.read("x"), b"1")
            for other in ("DNS:localhost", "IP:127.0.0.2"):
                cert, key = certificate(d, other)
                with tls(self.server.port, cert, key) as endpoint:
                    self.refused("TLS failed", "127.0.0.1", endpoint=endpoint,
                                 options=("--ca-bundle", cert))
        self.refused("TLS failed", endpoint="https://127.0.0.1:" +
                     str(self.server.port))

    def test_doctor(self):
        m = Mount(self.server)
        argv = [R2FS, "doctor", "--endpoint", self.server.endpoint,
                "--credentials", m.creds, "--cache-dir", m.cache,
                "--min-free", "1M"]
        self.assertIn("can be listed", run(*argv, BUCKET).stdout)
        p = run(*argv, "missing-bucket", check=False)
        self.assertEqual(p.returncode, 1)
        self.assertIn("FAIL", p.stdout)
        self.server.faults("op=LIST action=skew:-200")
        self.assertRegex(run(*argv, BUCKET).stdout,
                         "WARN  this machine's clock is off by (199|200) s")
        m.stop()

    def test_doctor_tells_what_is_too_old(self):
        out = run(R2FS, "doctor").stdout
        kernel = re.match(r"(\d+)\.(\d+)", os.uname().release).groups()
        libfuse = re.search(r"libfuse (\d+)\.(\d+)", out).groups()
        old = [kind for kind, needs in (("kernel", ((6, 9), (6, 14))),
                                        ("libfuse", ((3, 17), (3, 18))))
               if tuple(map(int, kernel if kind == "kernel" else libfuse))
               < max(needs)]
        for kind in "kernel", "libfuse":
            self.assertEqual(bool(re.search(f"WARN  {kind} ", out)),
                             kind in old, out)
            self.assertEqual(bool(re.search(f"OK    {kind} ", out)),
                             kind not in old, out)

    def test_dead_mount_is_named(self):
        m = self.mount()
        os.stat(m.path) # the kernel knows its attributes for a while
        m.kill()
        m2 = Mount(self.server)
        m2.argv[-1] = m.path
        p = run(*m2.argv, check=False)
        self.assertIn("umount -l", p.stderr)
        for command in ("status", "stats"):
            p = run(R2FS, command, m.path, check=False)
            self.assertEqual(p.returncode, 1)
            self.assertIn("dead mount", p.stderr)
        m2.stop()
        m.detach()

    def test_sigterm_unmounts(self):
        m = self.mount()
        os.kill(m.pid, signal.SIGTERM)
        wait_until(m.ended)
        self.assertFalse(os.path.ismount(m.path))
        m.mounted = False
        m.wait_for_end()


class SessionTokens(Case):
    """Temporary credentials: the token is asked for with the key."""

    TOKEN = "session-token-0123456789+/=="

    def make_server(self):
        d = tempfile.TemporaryDirectory()
        self.addCleanup(d.cleanup)
        path = os.path.join(d.name, "token")
        with open(path, "w") as f:
            f.write(self.TOKEN)
        return Server("--session-token-file", path, "--synthetic",
                      f"{BUCKET}:d/:1:100")

    def works(self, m):
        self.assertEqual(os.listdir(f"{m.path}/d"), ["f00000000"])
        self.assertEqual(len(m.read("d/f00000000")), 100)
        with open(f"{m.path}/new", "wb") as f:
            f.write(b"written")
        m.stop()
        self.assertNotIn(self.TOKEN, m.log_text)

    def credentials(self, m, *lines):
        with open(m.creds, "w") as f:
            f.write("\n".join((f"access_key_id = {KEY}",
                               f"secret_access_key = {SECRET}", *lines, "")))

    def prepare(self):
        m = Mount(self.server, "--log-level", "debug")
        self.mounts.append(m)
        return m

    def test_of_a_file(self):
        m = self.prepare()
        self.credentials(m, f"session_token = {self.TOKEN}")
        self.works(m.start())

    def test_of_the_environment(self):
        m = self.prepare()
        i = m.argv.index("--credentials")
        del m.argv[i:i + 2]
        environment = dict(m.env(), R2_ACCESS_KEY_ID=KEY,
                           R2_SECRET_ACCESS_KEY=SECRET,
                           R2_SESSION_TOKEN=self.TOKEN)
        m.env = lambda: environment
        self.works(m.start())

    def test_without_or_a_wrong_one(self):
        m = self.prepare()
        for lines in (), ("session_token = wrong",):
            self.credentials(m, *lines)
            p = run(*m.argv, check=False)
            self.assertEqual(p.returncode, 1)
            self.assertIn("not without its session token", p.stderr)
            self.assertFalse(os.path.ismount(m.path))


if __name__ == "__main__":
    unittest.main()
