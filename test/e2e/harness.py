"""What the end-to-end tests share: a server, a mount, and the rule that
nothing may hang. Data is written by boto3, a client r2fs has no part in.

Environment:
  R2FS_BUILD         the build folder
  R2FS_RUNNER        a command line to run the daemon under, such as valgrind;
                     the daemon then stays in the foreground and must end with
                     status 0, so that leaks are reported too
  R2FS_SLOW          factor on every time limit
  R2FS_MORE          further options of every mount
  R2FS_RSS_LIMIT_MB  most memory a daemon may have had, instead of all narrower
                     limits, which say nothing of a sanitizer's memory
"""

import argparse
import contextlib
import glob
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("R2FS_BUILD", os.path.join(HERE, "../../build"))
R2FS = os.path.join(BUILD, "src/r2fs")
R2SIM = os.path.join(BUILD, "test/r2sim/r2sim")
TLS = os.path.join(BUILD, "test/bench/bench-tls")
KEY = "0123456789abcdef0123456789abcdef"
SECRET = "e2e-secret-0123456789"
BUCKET = "bucket"
MIB = 1 << 20
SLOW = float(os.environ.get("R2FS_SLOW", "1"))
RUNNER = shlex.split(os.environ.get("R2FS_RUNNER", ""))
MORE = shlex.split(os.environ.get("R2FS_MORE", ""))
RSS_LIMIT = int(os.environ.get("R2FS_RSS_LIMIT_MB", "0")) * MIB
TEST_LIMIT = 180 # seconds, times SLOW
CLEAN_ENV = {k: v for k, v in os.environ.items()
             if not k.startswith(("AWS_", "R2_"))}


def run(*argv, timeout=60, check=True, env=None, **kw):
    p = subprocess.run([str(a) for a in argv], timeout=timeout * SLOW,
                       capture_output=True, text=True,
                       env=env or CLEAN_ENV, **kw)
    if check and p.returncode != 0:
        raise AssertionError(f"{argv}: {p.returncode}\n{p.stdout}{p.stderr}")
    return p


def copy_file(a, b):
    """What cp does since coreutils 9.0."""
    with open(a, "rb") as source, open(b, "wb") as target:
        while os.copy_file_range(source.fileno(), target.fileno(), 1 << 62):
            pass


def certificate(folder, name="IP:127.0.0.1"):
    """One for that name which nobody has signed, and its key: two paths."""
    cert, key = (os.path.join(folder, n) for n in ("cert", "key"))
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out",
        cert, "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
        f"subjectAltName={name}")
    return cert, key


@contextlib.contextmanager
def tls(port, cert, key):
    """While it lasts, there is an endpoint of https before that port."""
    p = subprocess.Popen([TLS, cert, key, str(port)], text=True,
                         stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield f"https://127.0.0.1:{int(p.stdout.readline().split()[1])}"
    finally:
        p.kill()
        p.wait(20)
        p.stdout.close()


def sanitized(folder):
    """The environment in which sanitizers write what they find there."""
    log = f":log_path={folder}/sanitizer"
    env = dict(CLEAN_ENV, **{name: os.environ.get(name, "") + log for name in (
        "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")})
    env["TSAN_OPTIONS"] += f":suppressions={HERE}/tsan.supp"
    return env


def found(folder):
    """What they found."""
    text = ""
    for name in glob.glob(os.path.join(folder, "sanitizer*")):
        with open(name) as f:
            text += f.read()
    return text


class Server:
    """r2sim on a free port of the loopback."""

    own_session = False # whether a Ctrl-C at the terminal spares it

    def __init__(self, *options):
        self.dir = tempfile.mkdtemp(prefix="r2fs-e2e-")
        self.secret_file = os.path.join(self.dir, "secret")
        with open(self.secret_file, "w") as f:
            f.write(SECRET)
        os.mkdir(os.path.join(self.dir, "data"))
        self.options = options
        self.start()

    def start(self, *more):
        self.process = subprocess.Popen(
            [R2SIM, "--data", os.path.join(self.dir, "data"), "--bucket",
             BUCKET, "--access-key", KEY, "--secret-key-file",
             self.secret_file, "--die-with-parent", *self.options, *more],
            stdout=subprocess.PIPE, text=True, env=sanitized(self.dir),
            start_new_session=self.own_session)
        self.port = int(self.process.stdout.readline().split()[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def control(self, what, data=None):
        req = urllib.request.Request(f"{self.endpoint}/_r2sim/{what}",
                                     data=data)
        with urllib.request.urlopen(req, timeout=20) as r:
            return json.loads(r.read() or b"{}")

    def stats(self):
        return self.control("stats")

    def reset(self):
        return self.control("reset")

    def faults(self, rules):
        answer = self.control("faults", rules.encode() or b"\n")
        assert "bad_line" not in answer, answer

    def latency(self, ms):
        self.control(f"latency?ms={ms}")

    def client(self):
        import boto3
        from botocore.config import Config
        from botocore.handlers import add_expect_header
        os.environ.pop("AWS_CA_BUNDLE", None)
        s3 = boto3.client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id=KEY,
            aws_secret_access_key=SECRET, region_name="auto",
            config=Config(request_checksum_calculation="when_required",
                          response_checksum_validation="when_required",
                          s3={"addressing_style": "path"},
                          max_pool_connections=32,
                          retries={"max_attempts": 1}))
        # R2 sends no "100 Continue": boto3 would wait a second for it.
        s3.meta.events.unregister("before-call.s3", add_expect_header)
        return s3

    def put(self, key, body=b"", **kw):
        if not hasattr(self, "s3"):
            self.s3 = self.client()
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=body, **kw)

    def put_raw(self, key, body):
        """A key that clients would normalise: signed by botocore, sent as
        it is."""
        from urllib.parse import quote, urlsplit
        import http.client
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        path = f"/{BUCKET}/" + quote(key, safe="/~")
        req = AWSRequest("PUT", self.endpoint + path, data=body)
        S3SigV4Auth(Credentials(KEY, SECRET), "s3", "auto").add_auth(req)
        c = http.client.HTTPConnection(urlsplit(self.endpoint).netloc)
        c.request("PUT", path, body, dict(req.headers.items()))
        answer = c.getresponse()
        assert answer.status == 200, (key, answer.status, answer.read())
        c.close()

    def put_tree(self, directory, prefix):
        for root, _, files in os.walk(directory):
            for name in files:
                path = os.path.join(root, name)
                with open(path, "rb") as f:
                    self.put(prefix + os.path.relpath(path, directory),
                             f.read())

    def kill(self):
        self.process.kill()
        self.process.wait(20)
        self.process.stdout.close()

    def stop(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.kill()  # stalled answers sleep on
        self.process.stdout.close()
        text = found(self.dir)
        shutil.rmtree(self.dir, ignore_errors=True)
        assert not text, text[-12000:]


def memory_limit(argv):
    """What a daemon may have had (Mount.memory): what --memory gives to its
    buffers and 64 MiB beside, or 300 MiB. That is less than the default budget,
    which only large files read in sequence reach (test_memory)."""
    if RSS_LIMIT:
        return RSS_LIMIT
    p = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    p.add_argument("--memory")
    budget = p.parse_known_args(argv)[0].memory
    if budget is None:
        return 300 * MIB
    unit = {"M": MIB, "G": 1024 * MIB}[budget[-1]]
    return int(budget[:-1]) * unit + 64 * MIB


class Mount:
    """One r2fs mount; `options` go to the command line."""

    def __init__(self, server, *options, cache=None, bucket=BUCKET,
                 endpoint=None):
        self.server = server
        self.dir = tempfile.mkdtemp(prefix="r2fs-mnt-")
        self.path = os.path.join(self.dir, "mnt")
        self.cache = cache or os.path.join(self.dir, "cache")
        self.log = os.path.join(self.dir, "log")
        self.creds = os.path.join(self.dir, "creds")
        os.mkdir(self.path)
        with open(os.open(self.creds, os.O_CREAT | os.O_WRONLY, 0o600),
                  "w") as f:
            f.write(f"{KEY}:{SECRET}\n")
        self.argv = [R2FS, "mount", "--endpoint",
                     endpoint or server.endpoint, "--credentials", self.creds,
                     "--cache-dir", self.cache, "--min-free", "64M",
                     "--log-file", self.log, *MORE, *options, bucket, self.path]
        self.most_memory = memory_limit(self.argv)
        self.mounted = False
        self.foreground = self.pid = None

    def start(self):
        if RUNNER:
            self.start_in_foreground()
        else:
            run(*self.argv, env=self.env())
            self.mounted = True
        kind = run("stat", "-f", "-c", "%T", self.path).stdout.strip()
        assert kind == "fuseblk" or "fuse" in kind, kind
        self.pid = self.stats()["process"]["pid"]
        return self

    def env(self):
        return sanitized(self.dir)

    def start_in_foreground(self):
        with open(os.path.join(self.dir, "output"), "w") as out:
            self.foreground = subprocess.Popen(
                [*RUNNER, *self.argv, "-f"], stdout=out, stderr=out,
                env=self.env())
        end = time.monotonic() + 30 * SLOW
        while not os.path.ismount(self.path) or run(
                R2FS, "stats", self.path, check=False).returncode:
            if (self.foreground.poll() is not None or
                    time.monotonic() > end):
                raise AssertionError(self.output())
            time.sleep(0.1)
        self.mounted = True
        self.pid = self.foreground.pid

    def output(self):
        """What sanitizers and the runner had to say."""
        name = os.path.join(self.dir, "output")
        text = found(self.dir)
        if os.path.exists(name):
            with open(name) as f:
                text += f.read()
        return text

    def stats(self):
        return json.loads(run(R2FS, "stats", "--json", self.path).stdout)

    def memory(self):
        """The most memory the daemon has had, without the pages of files it
        has mapped (the metadata cache), which the kernel takes back when it
        needs them: VmHWM - RssFile, and RssAnon + RssShmem of now."""
        kib = {}
        if self.ended():
            return 0
        with open(f"/proc/{self.pid}/status") as f:
            for line in f:
                name, value = line.split(":", 1)
                if name in ("VmHWM", "RssAnon", "RssFile", "RssShmem"):
                    kib[name] = int(value.split()[0])
        return 1024 * max(kib["VmHWM"] - kib["RssFile"],
                          kib["RssAnon"] + kib["RssShmem"])

    def read(self, name):
        with open(os.path.join(self.path, name), "rb") as f:
            return f.read()

    def unmount(self):
        if not self.mounted:
            return
        self.mounted = False
        used = self.memory()
        try:
            run(R2FS, "umount", self.path, timeout=90)
        except Exception:
            self.detach()
            raise
        self.wait_for_end()
        if used > self.most_memory:
            raise AssertionError(f"memory: {used >> 20} MiB, limit "
                                 f"{self.most_memory >> 20}")

    def wait_for_end(self):
        if self.foreground is None:
            return
        status = self.foreground.wait(60 * SLOW)
        self.foreground = None
        if status:
            raise AssertionError(f"the daemon ended with {status}\n"
                                 + self.output()[-8000:])

    def ended(self):
        """Whether there is no daemon (any more)."""
        return (self.foreground is not None and
                self.foreground.poll() is not None or
                not os.path.exists(f"/proc/{self.pid}"))

    def kill(self):
        """kill -9; the mount is dead then, but there."""
        os.kill(self.pid, signal.SIGKILL)
        wait_until(self.ended)
        self.foreground = None
        self.mounted = False

    def crash(self):
        """kill -9, and the dead mount out of the way."""
        self.kill()
        self.detach()

    def detach(self):
        subprocess.run(["umount", "-l", self.path], timeout=20)

    def stop(self):
        try:
            self.unmount()
        finally:
            try:
                with open(self.log) as f:
                    self.log_text = f.read()
            except FileNotFoundError:
                self.log_text = ""
            self.found = found(self.dir)
            if not os.path.ismount(self.path):
                shutil.rmtree(self.dir, ignore_errors=True)


def wait_until(what, seconds=20):
    end = time.monotonic() + seconds * SLOW
    while not what():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.05)


def drop_kernel_cache():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def where_it_hangs(pid):
    for task in sorted(glob.glob(f"/proc/{pid}/task/*")):
        text = ""
        for name in ("comm", "syscall", "stack"):
            try:
                with open(f"{task}/{name}") as f:
                    text += f.read()
            except OSError:
                pass
        print(f"thread {os.path.basename(task)} of {pid}: {text}",
              file=sys.stderr)


class Case(unittest.TestCase):
    """A test with its server and mounts, and the checks after each. One that
    takes too long has its daemons killed, which ends every call that waits
    for them, and fails."""

    server_options = ()
    limit = TEST_LIMIT

    def setUp(self):
        self.mounts = []
        self.hung = False
        self.watchdog = threading.Timer(self.limit * SLOW, self.end_of_patience)
        self.watchdog.daemon = True
        self.watchdog.start()
        self.server = self.make_server()

    def make_server(self):
        return Server(*self.server_options)

    def end_of_patience(self):
        self.hung = True
        where_it_hangs(os.getpid())
        for m in self.mounts:
            if m.mounted:
                where_it_hangs(m.pid)
                os.kill(m.pid, signal.SIGKILL)
                m.detach()
        self.server.kill()

    def mount(self, *options, **kw):
        m = Mount(kw.pop("server", self.server), *options, **kw)
        self.mounts.append(m)
        return m.start()

    def tearDown(self):
        self.watchdog.cancel()
        problems = ["it hung"] if self.hung else []
        for m in self.mounts:
            try:
                m.stop()
            except Exception as e:  # the other mounts must be stopped too
                problems.append(str(e))
            expected = getattr(m, "expected_errors", False)
            for word in ("BUG at",) if expected else ("BUG at", " ERROR "):
                if word in getattr(m, "log_text", ""):
                    problems.append(m.log_text[-4000:])
            if getattr(m, "found", ""):
                problems.append(m.found[-12000:])
        try:
            self.server.stop()
        except Exception as e:
            problems.append(str(e))
        self.assertEqual(problems, [], "\n".join(problems))

    def requests(self):
        return self.server.stats()["total"]

    def within(self, seconds, what):
        start = time.monotonic()
        result = what()
        self.assertLess(time.monotonic() - start, seconds * SLOW)
        return result


def md5(data):
    import hashlib
    return hashlib.md5(data).hexdigest()
