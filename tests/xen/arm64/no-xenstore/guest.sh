# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
# In each guest that has no xenstore: its disk is all it shares with dom0. Reads the first 2 MiB, writes the third, and
# reports in the last sector: "read SUM written SUM beat N", again and again, N growing. "off" in the sector before it
# ends the guest. Sourced by the lab's init.
disk=/dev/vda
last=$(($(cat /sys/block/vda/size) - 1))

part()
{
    dd if=$disk bs=64k skip="$1" count="$2" iflag=direct 2>/dev/null | md5sum | cut -d' ' -f1
}

[ -b $disk ] || { say failed "no $disk"; return 1; }
read=$(part 0 32)
dd if=/dev/urandom of=$disk bs=64k seek=32 count=16 conv=fsync 2>/dev/null || { say failed "write"; return 1; }
written=$(part 32 16)
beat=0
while [ "$(dd if=$disk bs=512 skip=$((last - 1)) count=1 iflag=direct 2>/dev/null | head -c 3)" != off ]; do
    beat=$((beat + 1))
    printf 'read %s written %s beat %s\n' "$read" "$written" $beat | dd of=$disk bs=512 seek=$last conv=sync,fsync 2>/dev/null ||
        { say failed "report $beat"; return 1; }
    sleep 0.5
done
say off "after beat $beat"
