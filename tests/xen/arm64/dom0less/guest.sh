# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
# Case 6, in each dom0less guest: reads the disk with both vCPUs at once, mounts
# its file system, writes, syncs, remounts and reads back; draws entropy, writes
# to the console. Sourced by the lab's init, which has `say`.
disk=/dev/vda
half=$(($(cat /sys/block/vda/size) / 16)) # in pages of 4 KiB

drop()
{
    sync
    echo 3 >/proc/sys/vm/drop_caches
}

sum()
{
    md5sum "$1" | cut -d' ' -f1
}

# Each vCPU has its own slot and event channel: make both be used.
read_halves()
{
    taskset 1 dd if=$disk of=/dev/null bs=4k count="$half" 2>/dev/null &
    taskset 2 dd if=$disk of=/dev/null bs=4k skip="$half" 2>/dev/null || return 1
    wait $! || return 1
}

write_and_read_back()
{
    mkdir -p /mnt && mount -t ext4 $disk /mnt || return 1
    say original "$(sum /mnt/original)"
    dd if=/dev/urandom of=/mnt/written bs=64k count=24 conv=fsync 2>/dev/null || return 1
    written=$(sum /mnt/written)
    umount /mnt || return 1
    drop
    mount -t ext4 $disk /mnt || return 1
    say written "$written"
    say reread "$(sum /mnt/written)"
    umount /mnt
}

case6()
{
    [ -b $disk ] || { say failed "no $disk"; return 1; }
    say vcpus "$(nproc)"
    say before "$(sum $disk)"
    drop
    read_halves || { say failed "reading with both vCPUs"; return 1; }
    write_and_read_back || { say failed "the file system"; return 1; }
    echo "guest $(xenstore-read domid) was here" >/dev/hvc0 || { say failed "the console"; return 1; }
    say entropy "$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c)"
    drop
    say after "$(sum $disk)"
    say irq "$(grep virtio /proc/interrupts | head -n 1 | tr -s ' ')"
}

case6
