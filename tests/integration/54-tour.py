#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The five-minute tour of README.md, literally, with the programs that were built. Its state directory is another one, because two may take the tour at once."""
import argparse
import os
import re
import signal
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import docpage  # noqa: E402
from e2e import marked, wait_for  # noqa: E402
from service_helpers import ROOT, Report  # noqa: E402

TOUR = "/tmp/weft-tour"
BUILDING = ("packaging/install-deps", "make -j2", "export PATH=$PWD/build/bin:$PATH")      # done before tests run
# What the commands print, by a word of their block
SHOWN = (("weft up", r"weft is up: http://127\.0\.0\.1:\d+"), ("add.py::add '", r"^3$"), ("run -- tr", r"^HELLO$"), ("--map", r"^1001$"), ("run shout", r"^HELLO$"),
         ("--trace", r"^7$"), ("weft tasks", r"success"), ("weft logs", r"\d\d:\d\d:\d\d"), ("weft top", r"1 online"), ("weft console", r"http://127\.0\.0\.1:\d+/console/"),
         ("tour.py", r"^\[0, 1, 4, 9, 16\]$"), ("curl", r'^\{"tasks":\['))


def main():
    arg = argparse.ArgumentParser(description=__doc__)
    arg.add_argument("--build", default="build")
    programs = os.path.join(os.path.abspath(arg.parse_args().build), "bin")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report()
    with open(os.path.join(ROOT, "README.md")) as f:
        text = docpage.section(f.read(), "A five-minute tour")
    report.check("the tour builds first", all("    %s\n" % line in text for line in BUILDING))
    with tempfile.TemporaryDirectory(prefix="weft-t-") as place:
        state = os.path.join(place, "tour")
        parts = ["\n".join(line for line in block.replace(TOUR, state).split("\n") if line not in BUILDING) for block in docpage.blocks(text)]
        env = {"HOME": place, "PATH": programs + ":/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        done = docpage.run(parts, env, ROOT, [os.path.join(programs, "weft"), "down", "--state", state])
        wait_for(lambda: not marked(state), 30, "the end of %r" % marked(state))
    for block, ok, said in done:
        report.check(docpage.title(block.replace(state, TOUR)), ok, said)
    for word, shown in SHOWN:
        said = [said for block, _, said in done if word in block]
        report.check("what `%s` shows" % word.strip("' "), len(said) == 1 and re.search(shown, said[0], re.M), said)
    report.end()


main()
