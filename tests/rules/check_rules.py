#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The rules of the house that a compiler does not know: who may include whom, no mutable file-scope state, no exit.

Usage: check_rules.py SOURCE_ROOT [PROGRAM] [ARCHIVE.a...]
       check_rules.py --self-test      breaks each rule once and expects it to be seen
"""
import os
import re
import subprocess
import sys
import tempfile

# Room -> prefixes of "..." and <ioreqd/...> includes, and of system headers it alone may use.
ROOMS = {
    "include/ioreqd": {"own": ["ioreqd/"], "libraries": []},
    "devices": {"own": ["ioreqd/"], "libraries": []},
    "src/core": {"own": ["ioreqd/", "core/"], "libraries": []},
    "src/xen": {"own": ["ioreqd/", "core/", "xen/"], "libraries": ["xen"]},
    "src/loop": {"own": ["ioreqd/", "core/", "loop/"], "libraries": ["event2/"]},
    "src/pci": {"own": ["ioreqd/", "core/", "pci/"], "libraries": []},
    "src/virtio": {"own": ["ioreqd/", "core/", "virtio/"], "libraries": []},
    "src/backend": {"own": ["ioreqd/", "core/", "backend/"], "libraries": ["liburing"]},
    "src/config": {"own": ["ioreqd/", "core/", "config/"], "libraries": ["libfdt", "libconfig"]},
    "src/control": {"own": ["ioreqd/", "core/", "control/"], "libraries": ["jansson"]},
    "src/launch": {"own": ["ioreqd/", "core/", "loop/", "launch/"], "libraries": ["jansson"]},
    "src/main": {"own": ["ioreqd/", "core/", "xen/", "loop/", "backend/", "config/", "control/", "launch/", "main/"], "libraries": ["systemd/"]},
}
LIBRARIES = ["xen", "event2/", "liburing", "libfdt", "libconfig", "jansson", "systemd/", "curses", "check.h"]
# What lies behind core/inside.h is the core's alone.
PRIVATE = {"core/inside.h": "src/core"}
# Devices see registers, not the host: no header of theirs may open, poll, or run anything.
HOST_HEADERS = ["sys/socket", "sys/epoll", "sys/mman", "sys/ioctl", "sys/stat", "fcntl", "unistd", "poll", "pthread", "termios",
                "signal", "time.h", "stdio"]
EXITS = {"exit", "_exit", "abort", "quick_exit", "__assert_fail", "__assert_perror_fail"}
# A forked child that could not exec ends itself; nobody else's process does.
FORKED = {"spawned.c.o": {"_exit"}}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def room_of(path):
    for room in sorted(ROOMS, key=len, reverse=True):
        if path.startswith(room + "/"):
            return room
    return None


def check_include(path, number, quote, name, room):
    rule = ROOMS[room]
    project = quote == '"' or name.startswith("ioreqd/")
    where = f"{path}:{number}: "
    if room == "devices" and quote == '"':
        # A device that is a folder has headers of its own, in it.
        own = "/" not in name and os.path.dirname(path) != room
        return None if own else where + f"a device may include <ioreqd/...>, the C library and headers of its own folder, not {name}"
    if project and "/" in name:
        if not any(name.startswith(p) for p in rule["own"]):
            return where + f"{room} may not include {name}"
        if name in PRIVATE and PRIVATE[name] != room:
            return where + f"{name} is private to {PRIVATE[name]}"
        return None
    for library in LIBRARIES:
        if name.startswith(library) and library not in rule["libraries"]:
            return where + f"{room} may not use the library header {name}"
    if room == "devices" and any(name.startswith(h) for h in HOST_HEADERS):
        return where + f"a device may not reach the host through <{name}>"
    return None


def check_includes(root):
    faults = []
    for top in ("include", "src", "devices"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), root)
                room = room_of(path)
                if not name.endswith((".c", ".h")) or room is None:
                    continue
                with open(os.path.join(root, path), encoding="utf-8") as file:
                    for number, line in enumerate(file, 1):
                        match = INCLUDE.match(line)
                        fault = match and check_include(path, number, match[1], match[2], room)
                        if fault:
                            faults.append(fault)
    return faults


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check_objects(objects):
    """Variables in .data or .bss (constant tables live in .rodata or .data.rel.ro), and calls that end the process."""
    faults = []
    for path in objects:
        member = path
        for line in run("objdump", "-t", path).splitlines():
            if "file format" in line:
                member = line.split(":")[0]
            match = re.match(r"[0-9a-f]+ (.{7}) (\S+)\s+([0-9a-f]+)\s+(\S.*)$", line)
            if not match:
                continue
            section, size, name = match[2], int(match[3], 16), match[4].split()[-1]
            if section == "*UND*" and name in EXITS and name not in FORKED.get(os.path.basename(member), ()):
                faults.append(f"{member}: calls {name}")
            if re.match(r"\.(data|bss|tdata|tbss)($|\.(?!rel\.ro))", section) and size and "O" in match[1]:
                if not name.startswith(("__asan", "__odr_asan", ".L", "__ubsan", "__gcov", "__llvm", "__sancov", "_sub_")):
                    faults.append(f"{member}: {name} is mutable file-scope state ({section})")
    return faults


# What needs more than a device model's rights, or is not stable.
FORBIDDEN_LIBRARIES = ("libxenctrl", "libxenguest", "libxenlight", "libxenvchan", "libxenhypfs", "libxencall")


def check_program(path):
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", path))
    return [f"{path}: needs {name}" for name in needed if name.startswith(FORBIDDEN_LIBRARIES)]


EXAMPLE, SHOWN_IN, EXAMPLE_LINES = "tests/modules/sample.c", "HACKING.md", 60


def check_example(root):
    """The example device that HACKING.md shows is the file that tests compile, to the letter, and short."""
    with open(os.path.join(root, EXAMPLE), encoding="utf-8") as file:
        code = file.read()
    with open(os.path.join(root, SHOWN_IN), encoding="utf-8") as file:
        shown = re.findall(r"^```c\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)
    faults = []
    if code not in shown:
        faults.append(f"{SHOWN_IN}: no ```c block is identical to {EXAMPLE}")
    if code.count("\n") > EXAMPLE_LINES:
        faults.append(f"{EXAMPLE}: {code.count(chr(10))} lines; expected at most {EXAMPLE_LINES}")
    return faults


def self_test_example(root):
    """Each case: the file, what HACKING.md shows, is it a fault?"""
    cases = [("int a;\n", "int a;\n", False), ("int a;\n", "int b;\n", True), ("int a;\n" * 61, "int a;\n" * 61, True)]
    missed = []
    os.makedirs(os.path.join(root, os.path.dirname(EXAMPLE)), exist_ok=True)
    for code, shown, fault in cases:
        for path, text in ((EXAMPLE, code), (SHOWN_IN, f"text\n```c\n{shown}```\nmore\n")):
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        if bool(check_example(root)) != fault:
            missed.append(f"{EXAMPLE}: {code[:20]!r} against {shown[:20]!r}")
    return missed


def self_test():
    bad = {
        "devices/a.c": '#include "core/guest.h"\n',
        "devices/b.c": "#include <unistd.h>\n",
        "devices/c.c": '#include "d.h"\n',
        "devices/d/a.c": '#include "../e/e.h"\n',
        "devices/d/b.h": "#include <fcntl.h>\n",
        "src/core/a.c": "#include <xenctrl.h>\n",
        "src/pci/a.c": '#include "virtio/virtio.h"\n',
        "src/virtio/a.c": '#include "core/inside.h"\n',
        "src/loop/a.c": "#include <liburing.h>\n",
    }
    with tempfile.TemporaryDirectory() as root:
        for path, text in bad.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        good = os.path.join(root, "devices/d/good.c")
        with open(good, "w", encoding="utf-8") as file:
            file.write('#include "b.h"\n#include <ioreqd/dma.h>\n#include <string.h>\n')
        faults = check_includes(root)
        missed = [path for path in bad if not any(f.startswith(path + ":") for f in faults)]
        missed += [f"wrongly: {f}" for f in faults if f.startswith("devices/d/good.c")]
        source, target = os.path.join(root, "s.c"), os.path.join(root, "s.o")
        with open(source, "w", encoding="utf-8") as file:
            file.write("#include <stdlib.h>\nstatic int count; int f(void); int f(void) { if (++count > 3) exit(1); return count; }\n")
        run("cc", "-c", "-o", target, source)
        missed += self_test_example(root)
        faults = check_objects([target])
        missed += [w for w in ("count is mutable", "calls exit") if not any(w in f for f in faults)]
    for item in missed:
        print(f"not seen: {item}")
    return missed


def main():
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(1 if self_test() else 0)
    faults = check_includes(sys.argv[1])
    for path in sys.argv[2:]:
        faults += check_objects([path]) if path.endswith(".a") else check_program(path)
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


main()
