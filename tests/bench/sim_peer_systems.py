# SPDX-License-Identifier: Apache-2.0
"""Other systems doing the same work on the same machine: Parsl's HighThroughputExecutor, from PyPI, in a venv under the build.

No-op tasks and echoes of 100 kB and 1 MB with two workers, from submit to the last result. Prints a line {"skip": reason} when
PyPI cannot be reached.
"""
import argparse
import json
import os
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = "2026.10.26"          # fixed, so that figures compare
INSTALL_S, RUN_S = 300, 900


def venv(build):
    """The venv's Python; raises with a reason when it cannot be made."""
    where = os.path.join(build, "venv", "parsl-" + VERSION)
    python, done = os.path.join(where, "bin", "python"), os.path.join(where, "installed")
    if not os.path.exists(done):
        subprocess.run([sys.executable, "-m", "venv", "--clear", where], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=INSTALL_S)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "parsl==" + VERSION], check=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=INSTALL_S)
        open(done, "w").close()
    return python


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--build", default="build")
    ap.add_argument("--quick", action="store_true")
    a = ap.parse_args()
    try:
        python = venv(os.path.abspath(a.build))
    except (subprocess.SubprocessError, OSError) as e:
        text = (getattr(e, "stderr", None) or b"").decode("utf-8", "replace").strip().splitlines()
        print(json.dumps({"skip": "parsl: not installed from PyPI: %s" % (text[-1] if text else e)}))
        return 0
    env = dict(os.environ, PATH=os.path.dirname(python) + ":" + os.environ["PATH"])
    # a session of its own: whatever of its processes is left can be ended with it
    p = subprocess.Popen([python, os.path.join(HERE, "parsl_htex.py")] + (["--quick"] if a.quick else []), stdout=subprocess.PIPE,
                         stdin=subprocess.DEVNULL, env=env, universal_newlines=True, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        out, _ = p.communicate(timeout=RUN_S)
    finally:
        try:
            os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        p.wait()
    sys.stdout.write(out)
    return p.returncode


if __name__ == "__main__":
    sys.exit(main())
