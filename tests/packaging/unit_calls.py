#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""unit_calls.py CALLS FILE...: would systemd let these system calls (with commas) pass? FILE: the unit, then drop-ins, also one
that stands in a manual page; their SystemCallFilter= lines are put together as systemd.exec(5) says. Status 1 names the others."""
import subprocess
import sys


def expand(name):
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    words = [line.strip() for line in text.splitlines() if line.startswith("    ") and not line.strip().startswith("#")]
    return set().union(*(expand(word) for word in words))


def main():
    allowed = expand("@default")
    lines = [line.strip().replace("\\", "") for path in sys.argv[2:] for line in open(path, encoding="utf-8")]
    for line in lines:
        if line.startswith("SystemCallFilter="):
            names = line.split("=", 1)[1]
            calls = set().union(*(expand(name) for name in names.lstrip("~").split()))
            allowed = allowed - calls if names.startswith("~") else allowed | calls
    refused = [call for call in sys.argv[1].split(",") if call not in allowed]
    if refused:
        sys.exit("refused: " + " ".join(refused))


main()
