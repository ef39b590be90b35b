#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tests/mockxen/test_abi.sh SHIM_DIR: each shim exports what Debian's library of the same SONAME exports, under the same
# version nodes; mockxen_is_foreign is the one addition.
set -u
shims=$1 failed=0
export LC_ALL=C
symbols() {
    objdump -T "$1" | awk '/ DF \.text/ { print $(NF-1), $NF }' | sort
}
for name in devicemodel evtchn foreignmemory gnttab toolcore; do
    real=$(ldconfig -p | awk -v lib="libxen$name.so.1" '$1 == lib { print $NF; exit }')
    shim=$shims/libxen$name.so.1
    if [ -z "$real" ] || [ ! -e "$shim" ]; then
        echo "FAILED $name: no Debian library or no $shim"
        failed=1
        continue
    fi
    soname=$(objdump -p "$shim" | awk '/SONAME/ { print $2 }')
    [ "$soname" = "libxen$name.so.1" ] || { echo "FAILED $name: SONAME $soname"; failed=1; }
    difference=$(diff <(symbols "$real") <(symbols "$shim" | grep -v mockxen_is_foreign))
    if [ -n "$difference" ]; then
        echo "FAILED $name: $difference"
        failed=1
    else
        echo "ok libxen$name.so.1: $(symbols "$real" | wc -l) symbols, as in Debian's"
    fi
done
exit $failed
