#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Manual pages of the devices, one each, from what the program says of their options.

Usage: device_manual.py IOREQD list               the names, one a line
       device_manual.py IOREQD page NAME          ioreqd-NAME(8), to standard output
"""
import re
import subprocess
import sys


def help_of(ioreqd, about):
    return subprocess.run([ioreqd, "--help", f"device={about}"], stdout=subprocess.PIPE, text=True, check=True).stdout


def names(ioreqd):
    section = help_of(ioreqd, "?").split("\n", 1)[1]
    for line in section.splitlines():
        if not line.startswith("  "):
            return
        yield line.split()[0]


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in ".'" else text


def page(ioreqd, name):
    first, *lines = help_of(ioreqd, name).splitlines()
    summary = first.split(": ", 1)[1]
    out = ['.\\" SPDX-License-Identifier: BSD-2-Clause', '.\\" Made from the option schema of the device.',
           f'.TH IOREQD\\-{escape(name.upper())} 8 "2026" "ioreqd" "System administration"',
           ".SH NAME", f"ioreqd\\-{escape(name)} \\- {escape(summary)}", ".SH SYNOPSIS",
           f'.BI "\\-\\-device {escape(name)}" [,KEY=VALUE]...', ".SH DESCRIPTION",
           f"{escape(name)} is a device of", ".BR ioreqd (8):", escape(summary) + ".",
           "The same text is taken on the command line, in", ".BR ioreqd.conf (5),", "in xenstore and by",
           ".BR \"ioreqctl add\" .", ".SH OPTIONS"]
    options = 0
    for line in lines:
        match = re.match(r"  (\S+?)=(\S+)\s+(.*)", line)
        if match:
            options += 1
            out += [".TP", f".BI {escape(match[1])}= {escape(match[2])}", escape(match[3]) + "."]
        elif line.endswith(":") and not line.startswith(" "):
            if options == 0 and out[-1] == ".SH OPTIONS":
                out.append("It has no options of its own.")
            out.append(f".SS {escape(line[:-1])}")
        else:
            out.append(escape(line))
    out += [".SH SEE ALSO", ".BR ioreqd (8),", ".BR ioreqd.conf (5)"]
    return "\n".join(out) + "\n"


def main():
    if sys.argv[2] == "list":
        print("\n".join(names(sys.argv[1])))
    else:
        sys.stdout.write(page(sys.argv[1], sys.argv[3]))


main()
