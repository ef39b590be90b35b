# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=dash
#
# In the guest: reads the disk, lets the driver go, and binds it again when dom0 says so. The lab's init has `say`
# and `await`.
disk=/dev/vda
driver=/sys/bus/platform/drivers/virtio-mmio
node=2000000.virtio

read_disk()
{
    [ -b $disk ] || return 1
    md5sum $disk | cut -d' ' -f1
}

# The first try meets no emulator, and its successor answers what was pending with ones: no virtio device. Not at
# once again: the successor needs a moment to claim the range.
rebind()
{
    say rebinding yes
    tries=0
    until [ -b $disk ]; do
        tries=$((tries + 1))
        [ $tries -le 20 ] || return 1
        echo $node >$driver/bind 2>/dev/null
        sleep 1
    done
    say tries $tries
}

restart()
{
    say first "$(read_disk)"
    echo $node >$driver/unbind || { say failed "unbind"; return 1; }
    say unbound yes
    await rebind
    rebind || { say failed "the device did not come back"; return 1; }
    say second "$(read_disk)"
}

restart
