# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
# In each guest of the stock xl case: works on its disk. The first time it writes data and its checksum and ends as
# "first=" on the command line says (reboot, off); the next time it checks the data and goes on until it is ended.
disk=/dev/vda
first=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^first=//p')

sum() { dd if=$disk bs=64k skip=1 count=16 iflag=direct 2>/dev/null | md5sum | cut -d' ' -f1; }

[ -b $disk ] || { say failed "no $disk"; return 1; }
head=$(dd if=$disk bs=512 count=1 iflag=direct 2>/dev/null | tr -d '\000')
case $head in
"written "*)
    [ "$head" = "written $(sum)" ] || { say failed "the disk has $(sum), not $head"; return 1; }
    beat=0
    while :; do
        beat=$((beat + 1))
        printf 'beat %s of %s' $beat "$(sum)" | dd of=$disk bs=512 seek=1 conv=sync,fsync 2>/dev/null || say failed "beat $beat"
        sleep 0.5
    done
    ;;
*)
    dd if=/dev/urandom of=$disk bs=64k seek=1 count=16 conv=fsync 2>/dev/null || { say failed "write"; return 1; }
    printf 'written %s' "$(sum)" | dd of=$disk bs=512 conv=sync,fsync 2>/dev/null || { say failed "report"; return 1; }
    say "first" "$head"
    case $first in
    reboot) reboot -f ;;
    *) poweroff -f ;;
    esac
    sleep 60
    ;;
esac
