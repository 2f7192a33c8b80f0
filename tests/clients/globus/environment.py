#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a fabric on port 5000, which the SDK's environment `local` means, and environment_checks.py with nothing but environment variables.

The port may be taken on this machine: run.py starts this program in namespaces of its own, where nothing is but loopback.
Arguments: BUILD, the Python that has the SDK.
"""
import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "lib"))
from fabric import Fabric  # noqa: E402

SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41


def loopback_up():
    with socket.socket() as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))


def main():
    build, python = sys.argv[1:]
    loopback_up()
    with tempfile.TemporaryDirectory(prefix="weft-t-") as home, Fabric(build, workers=1, python=python, port=5000) as f:
        status, who = f.http("GET", "/v3/whoami")
        assert status == 200, who
        env = {"PATH": os.environ["PATH"], "HOME": home, "GLOBUS_COMPUTE_USER_DIR": home, "GLOBUS_SDK_ENVIRONMENT": "local",
               "GLOBUS_SDK_SERVICE_URL_AUTH": "http://localhost:5000/", "GLOBUS_COMPUTE_CLIENT_ID": who["user_id"],
               "GLOBUS_COMPUTE_CLIENT_SECRET": f.token}
        return subprocess.run([python, os.path.join(HERE, "environment_checks.py"), "wrong"], env=env, timeout=300).returncode


if __name__ == "__main__":
    sys.exit(main())
