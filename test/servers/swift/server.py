#!/usr/bin/python3
"""OpenStack Swift with its S3 API, for the tests.

A second opinion on the client, written by people who never saw R2: strict on
canonical paths, digests and keys. It answers 501 to a conditional PUT.

    server.py [--port N] [--dir DIR] [BUCKET...]

Port 0 (the default) takes a free one; without --dir the data is in a temporary
folder, gone at the end; without names there is one bucket, "test". The
credentials are those of the environment (R2_ACCESS_KEY_ID, which must read
ACCOUNT:USER here, and R2_SECRET_ACCESS_KEY), else the ones below; the region is
"auto". Once it serves it prints

    listening PORT
    endpoint http://127.0.0.1:PORT

It ends on SIGTERM or SIGINT, and when the process that started it is gone. Its
daemons (proxy, account, container, object, memcached) are its children and
cannot outlive it. It needs no root, and neither reads nor writes /etc/swift.
What the daemons say is in DIR/log/.
"""

import argparse
import base64
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

KEY = os.environ.get("R2_ACCESS_KEY_ID") or "r2fs:test"
SECRET = os.environ.get("R2_SECRET_ACCESS_KEY") or "r2fs-test-secret"
BACKENDS = ("account", "container", "object")
START_SECONDS = 60
PR_SET_PDEATHSIG = 1

# The rings say where an account, a container and an object live: here all on
# the one "device" of a one-zone, one-replica cluster.
SWIFT_CONF = """
[swift-hash]
swift_hash_path_prefix = r2fs
swift_hash_path_suffix = r2fs
"""

COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
bind_timeout = 5
user = {user}
swift_dir = {conf}
devices = {devices}
mount_check = false
fallocate_reserve = 0
workers = 0
log_level = WARNING
"""

BACKEND = COMMON + """
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

PROXY = COMMON + """
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:s3api]
use = egg:swift#s3api
location = auto
max_upload_part_num = 10000
[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
rate_limit_under_size = 0
[filter:tempauth]
use = egg:swift#tempauth
user64_{account}_{name} = {secret} .admin
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
""" + "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in (
    "catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk",
    "copy", "dlo", "versioned_writes", "symlink"))


def serve(kind, folder):
    """Becomes one of Swift's daemons, configured by the scratch folder alone."""
    conf = os.path.join(folder, "conf")
    from swift.common.utils import set_swift_dir
    set_swift_dir(conf)
    from swift.common.wsgi import run_wsgi
    return run_wsgi(os.path.join(conf, f"{kind}.conf"), f"{kind}-server",
                    verbose=True)


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(count):
    """Held together until all are known, so that no two are the same."""
    held = [socket.socket() for _ in range(count)]
    for sock in held:
        sock.bind(("127.0.0.1", 0))
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports


def b64(text):
    return base64.b64encode(text.encode()).decode().rstrip("=")


def write_rings(conf, ports):
    from swift.common.ring import RingBuilder
    for kind in BACKENDS:
        ring = RingBuilder(4, 1, 0)
        ring.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1,
                      "ip": "127.0.0.1", "port": ports[kind], "device": "d1",
                      "replication_ip": "127.0.0.1",
                      "replication_port": ports[kind]})
        ring.rebalance()
        ring.get_ring().save(os.path.join(conf, f"{kind}.ring.gz"))


def configure(folder, ports):
    conf = os.path.join(folder, "conf")
    devices = os.path.join(folder, "data")
    for path in (conf, os.path.join(folder, "log"),
                 os.path.join(devices, "d1")):
        os.makedirs(path, exist_ok=True)
    account, name = KEY.split(":", 1)
    values = {"user": pwd.getpwuid(os.getuid()).pw_name, "conf": conf,
              "devices": devices, "memcached": ports["memcached"],
              "account": b64(account), "name": b64(name), "secret": SECRET}

    def write(file, text):
        path = os.path.join(conf, file)
        with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600)) as out:
            out.write(text)

    write("swift.conf", SWIFT_CONF)
    write("proxy.conf", PROXY.format(port=ports["proxy"], **values))
    for kind in BACKENDS:
        write(f"{kind}.conf",
              BACKEND.format(kind=kind, port=ports[kind], **values))
    write_rings(conf, ports)


def start(name, argv, folder):
    with open(os.path.join(folder, "log", name), "ab") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log,
                                stderr=log, preexec_fn=die_with_parent)


def start_all(folder, ports):
    memcached = ["memcached", "-l", "127.0.0.1", "-p", str(ports["memcached"]),
                 "-U", "0", "-m", "16", "-t", "1",
                 "-u", pwd.getpwuid(os.getuid()).pw_name]
    children = {"memcached": start("memcached", memcached, folder)}
    for kind in BACKENDS + ("proxy",):
        argv = [sys.executable, os.path.abspath(__file__), "--daemon", kind,
                "--dir", folder]
        children[kind] = start(kind, argv, folder)
    return children


def stop_all(children):
    for child in children.values():
        child.terminate()
    deadline = time.monotonic() + 3
    for child in children.values():
        try:
            child.wait(max(0.05, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def dead(children):
    return [name for name, child in children.items() if child.poll() is not None]


def tail(folder, name):
    with open(os.path.join(folder, "log", name), errors="replace") as log:
        return "".join(log.readlines()[-10:])


def request(url, method="GET", **headers):
    asked = urllib.request.Request(url, method=method, headers={
        name.replace("_", "-"): value for name, value in headers.items()})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return direct.open(asked, timeout=5)


def make_buckets(base, buckets):
    """Through Swift's own API; raises until every daemon answers."""
    with request(base + "/auth/v1.0", X_Auth_User=KEY,
                 X_Auth_Key=SECRET) as reply:
        token = reply.headers["X-Auth-Token"]
        account = reply.headers["X-Storage-Url"]
    for bucket in buckets:
        request(f"{account}/{bucket}", "PUT", X_Auth_Token=token,
                Content_Length="0").close()


def await_start(folder, children, base, buckets):
    deadline = time.monotonic() + START_SECONDS
    while True:
        for name in dead(children):
            raise SystemExit(f"swift: {name} ended:\n{tail(folder, name)}")
        try:
            return make_buckets(base, buckets)
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"swift: not ready after {START_SECONDS} s: "
                                 f"{error}\n{tail(folder, 'proxy')}") from error
        time.sleep(0.1)


def run(folder, port, buckets):
    parent = os.getppid()
    names = ("memcached",) + BACKENDS + ("proxy",)
    ports = dict(zip(names, free_ports(len(names))))
    ports["proxy"] = port or ports["proxy"]
    configure(folder, ports)
    children = start_all(folder, ports)
    try:
        base = f"http://127.0.0.1:{ports['proxy']}"
        await_start(folder, children, base, buckets)
        print(f"listening {ports['proxy']}\nendpoint {base}", flush=True)
        while os.getppid() == parent:
            for name in dead(children):
                raise SystemExit(f"swift: {name} ended:\n{tail(folder, name)}")
            time.sleep(0.25)
    finally:
        stop_all(children)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dir")
    parser.add_argument("--daemon", help=argparse.SUPPRESS)
    parser.add_argument("buckets", nargs="*", default=["test"])
    args = parser.parse_args()
    if args.daemon:
        return serve(args.daemon, args.dir)
    if ":" not in KEY:
        parser.error("R2_ACCESS_KEY_ID must read ACCOUNT:USER for Swift")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    folder = os.path.abspath(args.dir or tempfile.mkdtemp(prefix="r2fs-swift-"))
    try:
        run(folder, args.port, args.buckets)
    finally:
        if not args.dir:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
