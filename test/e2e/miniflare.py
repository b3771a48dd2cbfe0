"""Cloudflare's own local R2 as a server of the tests."""

import os
import subprocess

from harness import BUCKET, CLEAN_ENV, HERE, KEY, SECRET, Server

SCRIPT = os.path.join(HERE, "../servers/miniflare/server.mjs")
NODE = os.path.join(HERE, "../../.venv/bin/node")  # of scripts/setup test


class Miniflare:
    client = Server.client
    put = Server.put

    def __init__(self):
        env = dict(CLEAN_ENV, R2_ACCESS_KEY_ID=KEY,
                   R2_SECRET_ACCESS_KEY=SECRET)
        self.process = subprocess.Popen(
            [NODE, SCRIPT, BUCKET], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=env)
        for line in self.process.stdout:
            if line.startswith("endpoint "):
                self.endpoint = line.split()[1]
                return
        raise AssertionError("miniflare did not start")

    def kill(self):
        self.process.kill()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()
