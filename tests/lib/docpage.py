# SPDX-License-Identifier: Apache-2.0
"""The commands of a page of the documentation, as its reader would copy them: its indented blocks, run in their order in one shell."""
import subprocess

MARK, FAILED = "---- end of block %d: ", "---- failed: "


def blocks(text):
    """The indented parts."""
    found, now = [], []
    for line in text.split("\n") + ["."]:
        if line.startswith("    ") or (now and not line):
            now.append(line[4:])
        elif now:
            found.append("\n".join(now).strip("\n"))
            now = []
    return found


def section(text, title):
    """What stands below a heading, up to the next."""
    return text.partition("\n## %s\n" % title)[2].partition("\n## ")[0]


def run(parts, env, cwd, down, timeout=300):
    """Run blocks; down: the command that stops what they have left. Returns what each did: [(block, whether every command of it succeeded, what it printed)]."""
    script = ["trap 'echo \"%s$BASH_COMMAND\"' ERR\n" % FAILED] + ["%s\necho \"%s$?\"\n" % (block, MARK % i) for i, block in enumerate(parts)]
    # not the script on standard input, which commands may read
    shell = subprocess.Popen(["/bin/bash", "-c", "".join(script)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                             cwd=cwd, env=env)
    try:
        rest = shell.communicate(timeout=timeout)[0]
    except subprocess.TimeoutExpired:
        shell.kill()
        rest = shell.communicate()[0]
    finally:
        subprocess.run(down, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = []
    for i, block in enumerate(parts):
        said, found, rest = rest.partition(MARK % i)
        status, _, rest = rest.partition("\n")
        done.append((block, bool(found) and status == "0" and FAILED not in said, said))
    return done


def title(block):
    """A block's first line, short enough for the name of a check."""
    return block.split("\n")[0][:70].replace(":", "")
