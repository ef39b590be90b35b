#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Does ioreqd(8) name every option of the program and of each device that is built in? check_manual.py MANUAL IOREQD"""
import re
import subprocess
import sys


def text_of(manual):
    """The manual without what groff takes for itself: fonts, escapes, macros that alternate them."""
    lines = []
    for line in open(manual, encoding="utf-8"):
        macro = re.match(r"\.([BI]|[BIR]{2})\s+(.*)", line)
        if macro:
            words = re.findall(r'"([^"]*)"|(\S+)', macro.group(2))
            line = ("" if len(macro.group(1)) == 2 else " ").join(a or b for a, b in words)
        lines.append(re.sub(r"\\f.|\\&", "", line).replace("\\-", "-").rstrip("\n"))
    return "\n".join(lines)


def help_of(ioreqd, *about):
    return subprocess.run([ioreqd, "--help", *about], stdout=subprocess.PIPE, text=True, check=True).stdout


def wanted(ioreqd):
    """Yields (where, what the manual must say)."""
    for option in re.findall(r"--[a-z][a-z-]+", help_of(ioreqd)):
        yield "--help", option
    listing = help_of(ioreqd, "device=?")
    for name in re.findall(r"^  (\S+)", listing.split("Block backends")[0], re.M):
        yield "device=?", name
        for key in re.findall(r"^  ([a-z.-]+)=", help_of(ioreqd, f"device={name}"), re.M):
            yield f"device={name}", key + "="


def main():
    manual, ioreqd = text_of(sys.argv[1]), sys.argv[2]
    asked = set(wanted(ioreqd))
    missing = sorted((where, what) for where, what in asked
                     if not re.search(r"(?<![\w.-])" + re.escape(what) + (r"" if what.endswith("=") else r"(?![\w-])"), manual))
    for where, what in missing:
        print(f"{sys.argv[1]}: does not name {what} (ioreqd --help {where})")
    print(f"{len(asked)} names sought in the manual, {len(missing)} missing")
    return 1 if missing or len(asked) < 40 else 0


sys.exit(main())
