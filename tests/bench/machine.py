# SPDX-License-Identifier: Apache-2.0
"""What the figures of bench.json were measured on, and what was measured."""
import os
import platform
import re
import subprocess
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def text_of(path):
    try:
        with open(path, errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def said(*argv):
    """The first line that a program prints; "" when it cannot be had."""
    try:
        out = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return out.stdout.split("\n")[0] if out.returncode == 0 else ""


def first(pattern, text, default="unknown"):
    m = re.search(pattern, text, re.M)
    return m.group(1).strip() if m else default


def machine(build):
    """commit: of which the programs of this build were made, "unknown" where that cannot be told; modified: the sources differ from it now."""
    commit = first(r'"([0-9a-f]{40})"', text_of(os.path.join(build, "gen", "service", "git_sha.inc")))
    changed = os.path.exists(os.path.join(ROOT, ".git")) and (said("git", "rev-parse", "HEAD") != commit or bool(said("git", "status", "--porcelain", "-uno")))
    return {"commit": commit, "modified": changed, "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "cpu": first(r"^(?:model name|Model|cpu model)\s*:\s*(.+)", text_of("/proc/cpuinfo"), platform.processor() or "unknown"),
            "cpus": len(os.sched_getaffinity(0)), "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "arch": platform.machine(), "kernel": platform.release(), "system": first(r'^PRETTY_NAME="?([^"\n]+)', text_of("/etc/os-release")),
            "python": platform.python_version(), "redis": first(r"v=(\S+)", said("redis-server", "--version"))}
