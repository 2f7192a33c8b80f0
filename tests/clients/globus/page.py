#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the commands of docs/from-globus-compute.md, literally and in their order, in one shell. Arguments: BUILD, the Python that has the SDK.

run.py starts this program in namespaces of its own, because the page uses port 5000. Not run: `ssh` to another host.
"""
import os
import sys
import tempfile

from environment import HERE, loopback_up

sys.path.insert(0, os.path.join(HERE, "..", "..", "lib"))
import docpage  # noqa: E402

PAGE = os.path.join(HERE, "..", "..", "..", "docs", "from-globus-compute.md")


def runnable(block):
    """A Python script, which needs none of the variables, as a command; other blocks are commands."""
    if not block.startswith("import "):
        return block
    return "env -u GLOBUS_SDK_ENVIRONMENT -u GLOBUS_COMPUTE_CLIENT_SECRET -u GLOBUS_COMPUTE_CLIENT_ID python3 - <<'PYTHON'\n%s\n" \
           "print(client.get_endpoint_status(os.environ['WEFT_ENDPOINT'])['status'])\nPYTHON" % block


def main():
    build, python = sys.argv[1:]
    programs = os.path.join(os.path.abspath(build), "bin")
    loopback_up()
    with open(PAGE) as f:
        parts = [runnable(b) for b in docpage.blocks(f.read()) if not b.startswith("ssh ")]
    with tempfile.TemporaryDirectory(prefix="weft-t-") as home:
        env = {"HOME": home, "PATH": "%s:%s:/usr/bin:/bin" % (programs, os.path.dirname(python)), "LANG": "C.UTF-8"}
        done = docpage.run(parts, env, home, [os.path.join(programs, "weft"), "down"])
    failed = 0

    def check(name, ok, why):
        nonlocal failed
        failed += not ok
        print(("ok - " if ok else "not ok - ") + name + ("" if ok else ": " + why.replace("\n", " | ")[-1500:]))

    for block, ok, said in done:
        check(docpage.title(block), ok, said)
    text = "".join(said for _, _, said in done)
    for words in ("weft is up", "hello you, this is", "hello world, this is", "success", "mine", "online"):
        check("it shows '%s'" % words, words in text, text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
