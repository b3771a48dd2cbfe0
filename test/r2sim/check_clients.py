"""Clients that nobody here wrote, boto3 and the AWS command line, ask r2sim
for every operation and provoke every error; what they cannot send (they would
normalise or refuse it) goes by the raw wire, signed by botocore. This file
runs all of it:

    .venv/bin/python test/r2sim/check_clients.py [CLASS[.TEST]...]

R2SIM names the server's binary, if it is not in build/.
"""

import json
import os
import subprocess
import sys
import unittest

from check_access import *  # noqa: F401,F403
from check_copies import *  # noqa: F401,F403
from check_faults import *  # noqa: F401,F403
from check_multipart import *  # noqa: F401,F403
from check_objects import *  # noqa: F401,F403
from sim import KEY, MIB, SECRET, Case, joined


class CommandLine(Case):
    def aws(self, *argv, status=0):
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("AWS_")}
        env.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET,
                   AWS_DEFAULT_REGION="auto", HOME=self.sim.dir,
                   AWS_CONFIG_FILE=os.path.join(self.sim.dir, "config"))
        p = subprocess.run(
            [sys.executable, "-m", "awscli", *argv, "--endpoint-url",
             self.sim.endpoint], env=env, capture_output=True, text=True,
            timeout=120)
        self.assertEqual(p.returncode, status, p.stdout + p.stderr)
        return p.stdout + p.stderr

    def test_session(self):
        big = os.path.join(self.sim.dir, "big")
        back = os.path.join(self.sim.dir, "back")
        body = os.urandom(20 * MIB)
        with open(big, "wb") as f:
            f.write(body)
        self.aws("s3", "mb", "s3://cli-bucket")
        self.aws("s3", "cp", "--quiet", big, "s3://cli-bucket/dir/big")
        head = json.loads(self.aws("s3api", "head-object", "--bucket",
                                   "cli-bucket", "--key", "dir/big"))
        parts = [body[i:i + 8 * MIB] for i in range(0, len(body), 8 * MIB)]
        self.assertEqual(head["ETag"], joined(parts))
        # R2 takes no condition on the source of a part's copy; the command
        # line sends one.
        self.assertIn("NotImplemented", self.aws(
            "s3", "mv", "s3://cli-bucket/dir/big", "s3://cli-bucket/moved",
            status=1))
        self.aws("s3api", "copy-object", "--bucket", "cli-bucket", "--key",
                 "moved", "--copy-source", "cli-bucket/dir/big")
        self.assertIn("moved", self.aws("s3", "ls", "s3://cli-bucket/"))
        self.aws("s3", "cp", "--quiet", "s3://cli-bucket/moved", back)
        with open(back, "rb") as f:
            self.assertEqual(f.read(), body)
        self.assertIn("BucketNotEmpty",
                      self.aws("s3", "rb", "s3://cli-bucket", status=1))
        self.aws("s3", "rm", "--recursive", "--quiet", "s3://cli-bucket/")
        self.aws("s3", "rb", "s3://cli-bucket")
        self.assertIn("NoSuchBucket", self.aws(
            "s3api", "list-objects-v2", "--bucket", "cli-bucket",
            status=255))


if __name__ == "__main__":
    unittest.main()
