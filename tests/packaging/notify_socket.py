#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Plays the service manager's end of sd_notify: prints each line that comes to the socket. notify_socket.py PATH"""
import socket
import sys

server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
server.bind(sys.argv[1])
while True:
    print(server.recv(65536).decode(errors="replace"), flush=True)
