#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Job for tools/xen-lab --arch arm64: the conformance program on real Xen with one dom0less guest.
#   LAB_ARM_GUESTS=BUILD/tests/conformance/guest/guest-arm64.img,vcpus=2 tools/xen-lab run --arch arm64 \
#       tests/conformance/lab-arm64.sh ARM64-BUILD/tests/conformance/conformance tests/conformance/expected
# Prints the difference to expected/arm64.txt and leaves arm64.txt in the results. Arguments (after --):
# options for the program; then nothing is compared.
set -u
files=$LAB_SHARE/files
cp "$files/conformance" . || exit 2
chmod 755 conformance
failed=0

echo "LAB-STAGE: conformance arm64" >/dev/console
{
    echo "# Xen $(xl info xen_version), arm64"
    ./conformance --domid 1 --profile arm64 --kill "xl destroy 1" "$@" || failed=1
} >"$LAB_RESULTS/arm64.txt"
if [ $# -gt 0 ]; then
    cat "$LAB_RESULTS/arm64.txt"
elif ! diff -u "$files/expected/arm64.txt" "$LAB_RESULTS/arm64.txt"; then
    echo "conformance: arm64 differs from expected/arm64.txt"
    failed=1
fi
exit $failed
