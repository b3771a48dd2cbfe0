"""The mounts that are compared: each with the options its own documentation
recommends for speed, and a cache folder of its own.

A peer is made for one workload: start, then stop; remount keeps the cache.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import harness

TICK = os.sysconf("SC_CLK_TCK")


def empty(folder):
    """Frees the space alone: ext4 without a journal looks at every inode that
    was deleted in the last minutes whenever it makes one, so that thousands of
    deletions slow down the next mount's cache."""
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            if os.path.isfile(path) and not os.path.islink(path):
                os.truncate(path, 0)


class Peer:
    name = None
    program = None
    waits = True # what close has returned for is stored
    foreign = False # cannot read objects that others wrote
    budget = None # bytes of memory it was told to keep to
    retired = [] # folders to delete when nothing is measured any more

    def __init__(self, server, options=()):
        self.server = server
        self.options = list(options)
        self.dir = tempfile.mkdtemp(prefix=f"bench-{self.name}-")
        self.path = os.path.join(self.dir, "mnt")
        self.cache = os.path.join(self.dir, "cache")
        self.log = os.path.join(self.dir, "log")
        os.mkdir(self.path)
        os.mkdir(self.cache)
        self.process = None
        self.killed = False

    @classmethod
    def present(cls):
        return shutil.which(cls.program) is not None

    def argv(self):
        raise NotImplementedError

    def environment(self):
        return harness.CLEAN_ENV

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                self.argv(), stdout=log, stderr=log, env=self.environment(),
                stdin=subprocess.DEVNULL, start_new_session=True)
        end = time.monotonic() + 30
        while not os.path.ismount(self.path):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name} did not mount: {self.tail()}")
            time.sleep(0.02)
        os.statvfs(self.path)
        return self

    def features(self):
        """What its statistics say about how it reads."""
        return {}

    def small_memory(self, size):
        """A budget for buffers, where there is such an option."""

    def tail(self):
        with open(self.log, errors="replace") as f:
            return f.read()[-1500:]

    def unmount(self):
        if self.process is None:
            return
        subprocess.run(["umount", self.path], timeout=120,
                       capture_output=True)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def remount(self):
        self.unmount()
        return self.start()

    def kill(self):
        """The end of patience: every call that waits for it fails."""
        self.killed = True
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        subprocess.run(["umount", "-l", self.path], capture_output=True,
                       timeout=30)

    def stop(self):
        try:
            self.unmount()
        finally:
            if not os.path.ismount(self.path):
                self.retired.append(self.dir)
                empty(self.dir)

    def patience(self, seconds):
        timer = threading.Timer(seconds, self.kill)
        timer.daemon = True
        timer.start()
        return timer

    # what it cost

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            words = f.read().rsplit(")", 1)[1].split()
        return sum(int(w) for w in words[11:15]) / TICK

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as f:
            f.write("5")

    def peak_memory(self):
        """Without the pages of mapped files, which the kernel takes back when
        it needs them."""
        kib = {}
        with open(f"/proc/{self.process.pid}/status") as f:
            for line in f:
                name, value = line.split(":", 1)
                if name in ("VmHWM", "RssFile"):
                    kib[name] = int(value.split()[0])
        return 1024 * (kib["VmHWM"] - kib["RssFile"])


class R2fs(Peer):
    name = "r2fs"
    program = harness.R2FS
    budget = 512 << 20

    def argv(self):
        creds = os.path.join(self.dir, "credentials")
        with open(os.open(creds, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
            f.write(f"{harness.KEY}:{harness.SECRET}\n")
        ca = ["--ca-bundle", self.server.ca] if self.server.ca else []
        return [harness.R2FS, "mount", "-f", "--endpoint",
                self.server.mounted_endpoint, "--credentials", creds,
                "--cache-dir", self.cache, "--min-free", "64M",
                "--log-level", "warn", *ca, *self.options,
                self.server.bucket, self.path]

    def features(self):
        s = json.loads(harness.run(harness.R2FS, "stats", "--json",
                                   self.path).stdout)
        return {"passthrough": s["reads"].get("passthrough_opens", 0),
                "io_uring": bool(s["mount"].get("io_uring"))}

    def small_memory(self, size):
        self.budget = size
        self.options += ["--memory", str(size)]

    def cache_size(self, size):
        self.options += ["--cache-size", str(size)]

    def keep_names(self):
        self.options += ["--metadata-ttl", "indefinite"]

    def unmount(self):
        if self.process and self.process.poll() is None and not self.killed:
            subprocess.run([harness.R2FS, "umount", self.path], timeout=120,
                           capture_output=True)
        super().unmount()


class S3fs(Peer):
    name = "s3fs"
    program = "s3fs"

    def argv(self):
        creds = os.path.join(self.dir, "passwd")
        with open(os.open(creds, os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
            f.write(f"{harness.KEY}:{harness.SECRET}\n")
        options = [
            f"url={self.server.mounted_endpoint}", "use_path_request_style",
            "endpoint=auto", f"passwd_file={creds}",
            f"use_cache={self.cache}", "kernel_cache", "max_background=1000",
            "enable_noobj_cache", "parallel_count=16",
            "multireq_max=64", "multipart_size=16", "ensure_diskfree=64",
            "max_stat_cache_size=400000", "stat_cache_expire=3600",
            *(["ssl_verify_hostname=0", "no_check_certificate"]
              if self.server.ca else []), *self.options]
        return ["s3fs", self.server.bucket, self.path, "-f", "-o",
                ",".join(options)]

    def cache_size(self, size):
        """It knows only how much of the disk to leave free."""
        raise NotImplementedError("s3fs has no limit of the cache's size")

    def keep_names(self):
        self.options = [o for o in self.options
                        if not o.startswith("stat_cache_expire")]
        self.options.append("stat_cache_expire=360000")


class Rclone(Peer):
    name = "rclone"
    program = "rclone"
    waits = False # it uploads after close

    def argv(self):
        return ["rclone", "mount", f"r2:{self.server.bucket}", self.path,
                "--config", "/dev/null", "--cache-dir", self.cache,
                "--vfs-cache-mode", "full", "--vfs-write-back", "0s",
                "--vfs-read-chunk-size", "16M", "--vfs-read-ahead", "128M",
                "--vfs-fast-fingerprint", "--buffer-size", "32M",
                "--dir-cache-time", "100h", "--attr-timeout", "60s",
                "--no-modtime", "--use-server-modtime", "--max-read-ahead",
                "1M", "--transfers", "16", "--checkers", "16",
                "--s3-upload-concurrency", "16", "--s3-chunk-size", "16M",
                "--s3-disable-checksum", "--s3-no-check-bucket",
                "--s3-no-head",
                *(["--ca-cert", self.server.ca] if self.server.ca else []),
                *self.options]

    def environment(self):
        remote = {"TYPE": "s3", "PROVIDER": "Cloudflare", "REGION": "auto",
                  "ACCESS_KEY_ID": harness.KEY,
                  "SECRET_ACCESS_KEY": harness.SECRET,
                  "ENDPOINT": self.server.mounted_endpoint,
                  "FORCE_PATH_STYLE": "true"}
        return dict(harness.CLEAN_ENV, **{
            f"RCLONE_CONFIG_R2_{k}": v for k, v in remote.items()})

    def cache_size(self, size):
        self.options += ["--vfs-cache-max-size", str(size),
                         "--vfs-cache-poll-interval", "1s"]

    def keep_names(self):
        pass


def aws(server):
    """The variables that most S3 programs read."""
    return dict(harness.CLEAN_ENV, AWS_ACCESS_KEY_ID=harness.KEY,
                AWS_SECRET_ACCESS_KEY=harness.SECRET, AWS_REGION="auto",
                **({"AWS_CA_BUNDLE": server.ca, "SSL_CERT_FILE": server.ca}
                   if server.ca else {}))


class Geesefs(Peer):
    """Stores after close returns, unless told to fsync on close."""

    name = program = "geesefs"

    def argv(self):
        return [self.program, "-f", "--endpoint",
                self.server.mounted_endpoint, "--region", "auto",
                "--memory-limit", "1000", "--max-flushers", "16",
                "--max-parallel-parts", "16", "--fsync-on-close",
                "--stat-cache-ttl", "1h", "--cache", self.cache,
                *self.more(), *self.options, self.server.bucket, self.path]

    def more(self):
        """R2 wants parts of one size; the default schedule grows."""
        return ["--part-sizes", "16:10000"]

    def environment(self):
        return aws(self.server)

    def cache_size(self, size):
        raise NotImplementedError(f"{self.name} does not limit its cache")

    def keep_names(self):
        pass


class Tigrisfs(Geesefs):
    name = program = "tigrisfs"


class Goofys(Geesefs):
    name = program = "goofys"

    def argv(self):
        return [self.program, "-f", "--endpoint",
                self.server.mounted_endpoint, "--region", "auto",
                "--stat-cache-ttl", "1h", "--type-cache-ttl", "1h",
                *self.options, self.server.bucket, self.path]


class Mountpoint(Geesefs):
    name, program = "mountpoint-s3", "mount-s3"

    def argv(self):
        return [self.program, "-f", "--endpoint-url",
                self.server.mounted_endpoint, "--region", "auto",
                "--force-path-style", "--allow-delete", "--allow-overwrite",
                "--metadata-ttl", "indefinite", "--cache", self.cache,
                "--upload-checksums", "off", *self.options,
                self.server.bucket, self.path]

    def cache_size(self, size):
        self.options += ["--max-cache-size", str(size >> 20)]


class Juicefs(Geesefs):
    """Names in a database beside the cache; an object is a block of its
    own."""

    name = program = "juicefs"
    foreign = True

    def start(self):
        db = f"sqlite3://{self.dir}/names.db"
        if not os.path.exists(f"{self.dir}/names.db"):
            harness.run(
                self.program, "format", "--storage", "s3", "--bucket",
                f"{self.server.mounted_endpoint}/{self.server.bucket}",
                "--access-key", harness.KEY, "--secret-key", harness.SECRET,
                "--trash-days", "0", db, "bench", env=self.environment())
        return super().start()

    def argv(self):
        return [self.program, "mount", f"sqlite3://{self.dir}/names.db",
                self.path, "--cache-dir", self.cache, "--no-usage-report",
                "--max-uploads", "64", "--buffer-size", "512",
                "--entry-cache", "60", "--dir-entry-cache", "60",
                "--attr-cache", "60", *self.options]

    def cache_size(self, size):
        self.options += ["--cache-size", str(size >> 20)]


ALL = {p.name: p for p in (R2fs, S3fs, Rclone, Geesefs, Tigrisfs, Goofys,
                           Mountpoint, Juicefs)}
