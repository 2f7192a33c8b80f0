#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of docs/from-globus-compute.md, literally and in their order, in one shell. Arguments: BUILD, the Python that has the SDK.

run.py starts this program in namespaces of its own, because the page uses port 5000. Not run: `ssh` to another host.
"""
import os
import subprocess
import sys
import tempfile

from environment import HERE, loopback_up

PAGE = os.path.join(HERE, "..", "..", "..", "docs", "from-globus-compute.md")
MARK, FAILED = "---- end of block %d: ", "---- failed: "


def blocks(text):
    """The indented parts, as a reader would copy them."""
    found, now = [], []
    for line in text.split("\n") + ["."]:
        if line.startswith("    ") or (now and not line):
            now.append(line[4:])
        elif now:
            found.append("\n".join(now).strip("\n"))
            now = []
    return found


def script(parts):
    out = ["trap 'echo \"%s$BASH_COMMAND\"' ERR\n" % FAILED]
    for i, block in enumerate(parts):
        if block.startswith("import "):         # for a Python script, which needs none of the variables
            block = "env -u GLOBUS_SDK_ENVIRONMENT -u GLOBUS_COMPUTE_CLIENT_SECRET -u GLOBUS_COMPUTE_CLIENT_ID python3 - <<'PYTHON'\n%s\n" \
                    "print(client.get_endpoint_status(os.environ['WEFT_ENDPOINT'])['status'])\nPYTHON" % block
        out.append("%s\necho \"%s$?\"\n" % (block, MARK % i))
    return "".join(out)


def run(build, python, home):
    with open(PAGE) as f:
        parts = [b for b in blocks(f.read()) if not b.startswith("ssh ")]
    env = {"HOME": home, "PATH": "%s:%s:/usr/bin:/bin" % (os.path.join(os.path.abspath(build), "bin"), os.path.dirname(python)), "LANG": "C.UTF-8"}
    shell = subprocess.Popen(["/bin/bash", "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                             cwd=home, env=env)
    try:
        text = shell.communicate(script(parts), timeout=300)[0]
    except subprocess.TimeoutExpired:
        shell.kill()
        text = shell.communicate()[0]
    finally:
        subprocess.run([os.path.join(os.path.abspath(build), "bin", "weft"), "down"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return parts, text


def main():
    build, python = sys.argv[1:]
    loopback_up()
    with tempfile.TemporaryDirectory(prefix="weft-t-") as home:
        parts, text = run(build, python, home)
    failed = 0

    def check(name, ok, why):
        nonlocal failed
        failed += not ok
        print(("ok - " if ok else "not ok - ") + name + ("" if ok else ": " + why.replace("\n", " | ")[-1500:]))

    rest = text
    for i, block in enumerate(parts):
        said, found, rest = rest.partition(MARK % i)
        check(block.split("\n")[0][:70].replace(":", ""), found and rest.split("\n")[0] == "0" and FAILED not in said, said)
        rest = rest.partition("\n")[2]
    for words in ("weft is up", "hello you, this is", "hello world, this is", "success", "mine", "online"):
        check("it shows '%s'" % words, words in text, text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
