#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""fake_ioreqd.py SOCKET: a daemon of 300 guests, some with odd names, that finds an answer about more than 100 too large."""
import json
import os
import socket
import sys
import threading

MOST = 100
NAMES = ["gr\u00f6\u00dfe-\u00fcber-\u00e4\u00f6\u00fc", "\u65e5\u672c\u8a9e\u306e\u30b2\u30b9\u30c8\u540d", "a" * 120]
NAMES += [f"g{i}" for i in range(297)]


def of_list(index, name):
    # The last two are one domain by one text.
    index, name = (298, NAMES[298]) if index == 299 else (index, name)
    return {"domain": name, "domid": index, "state": "running", "served": True, "devices": 0, "memory": {"mapped": 4096}}


def of_stats(index, name):
    return {"domain": name, "domid": index, "stats": {"accesses": {"mmio": 5}, "waiting": 0}, "devices": []}


def of_latency(index, name):
    return {"domain": name, "domid": index, "count": 0, "buckets": [], "devices": []}


def answer(command, arguments):
    first, count = arguments.get("first", 0), arguments.get("count", 1 << 30)
    make = {"list": of_list, "stats": of_stats, "latency": of_latency}[command]
    if min(count, len(NAMES) - first) > MOST:
        return {"error": {"class": "AnswerTooLarge", "desc": "the answer is too large"}}
    guests = [make(i, name) for i, name in enumerate(NAMES)][first:first + count]
    return {"return": {"version": "0.1.0", "build": "", "pid": 1, "on": False, "guests": guests}}


def serve(connection):
    stream = connection.makefile("rwb")
    stream.write(b'{"QMP":{"version":{},"capabilities":[]}}\r\n')
    stream.flush()
    for line in stream:
        message = json.loads(line)
        reply = answer(message["execute"], message.get("arguments", {}))
        stream.write(json.dumps(dict(reply, id=message.get("id"))).encode() + b"\r\n")
        stream.flush()


def main():
    listener = socket.socket(socket.AF_UNIX)
    if os.path.exists(sys.argv[1]):
        os.unlink(sys.argv[1])
    listener.bind(sys.argv[1])
    listener.listen(5)
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


main()
