#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Case 1 on arm64, in dom0: the conformance program (FILE "conformance") against
# the freestanding guest that the lab booted as domain 1. Its lines go to
# $LAB_RESULTS/arm64.txt; the host compares them.
cp "$LAB_SHARE/files/conformance" . && chmod 755 conformance || exit 1
# Xen creates this guest, so only here can anybody end it: R28 wants it gone.
{
    echo "# Xen $(xl info xen_version), arm64"
    timeout 120 ./conformance --domid 1 --profile arm64 --kill "xl destroy 1" 2>conformance.err
} >"$LAB_RESULTS/arm64.txt"
status=$?
cat "$LAB_RESULTS/arm64.txt"
sed 's/^/conformance: /' conformance.err
exit $status
