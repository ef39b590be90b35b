#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Case 6, in dom0: one ioreqd serves two dom0less guests; run by tests/xen/run-arm64.
# FILEs: disk1.img disk2.img guest.sh, and "expected" with lines "GUEST KEY SUM" computed on the host.
name=dom0less-arm64
ioreqd=

failed()
{
    echo "CASE $name: FAILED $*"
    if [ -f ioreqd.log ]; then
        echo "ioreqd's last words:"
        tail -n 20 ioreqd.log
    fi
    [ -z "$ioreqd" ] || kill -KILL "$ioreqd" 2>/dev/null
    cp ioreqd.log "$LAB_RESULTS/" 2>/dev/null
    exit 1
}

# Until a guest's server claims the range, the guest must not touch it.
await_ready()
{
    tries=100
    until grep -q "$1" ioreqd.log; do
        kill -0 "$ioreqd" 2>/dev/null || failed "ioreqd ended at start"
        tries=$((tries - 1))
        [ $tries -gt 0 ] || failed "ioreqd did not say \"$1\" in 20 s"
        sleep 0.2
    done
}

# expect GUEST KEY VALUE
expect()
{
    got=$(domu get "$1" "$2") || failed "guest $1 said nothing about $2"
    [ "$got" = "$3" ] || failed "guest $1: $2 is $got, expected $3"
    echo "guest $1: $2 $got"
}

check_guest()
{
    n=$1
    domu wait "$n" status 120 >/dev/null || failed "guest $n did not end"
    problem=$(domu get "$n" failed) && failed "guest $n: $problem"
    expect "$n" vcpus 2
    expect "$n" before "$(sed -n "s/^$n before //p" "$LAB_SHARE/files/expected")"
    expect "$n" original "$(sed -n "s/^$n original //p" "$LAB_SHARE/files/expected")"
    expect "$n" reread "$(domu get "$n" written)"
    echo "guest $n: interrupts $(domu get "$n" irq)"
    domu get "$n" irq | grep -q 'GICv3 33 ' || failed "guest $n: its interrupt is not INTID 33"
}

# The image as the daemon left it, against what the guest read last.
check_image()
{
    sum=$(md5sum "disk$1.img" | cut -d' ' -f1)
    expect "$1" after "$sum"
    e2fsck -fn "disk$1.img" >fsck.log 2>&1 || failed "guest $1: e2fsck: $(tail -n 3 fsck.log)"
    { echo "$1 after $sum"; echo "$1 written $(domu get "$1" written)"; } >>"$LAB_RESULTS/sums"
    gzip -1 -c "disk$1.img" >"$LAB_RESULTS/disk$1.img.gz"
}

cp "$LAB_SHARE"/files/disk?.img . || failed "no room for the disks"
device=virtio-blk,bus=mmio,base=0x2000000,irq=33
ioreqd --domain 1 --device $device,path="$PWD/disk1.img" --domain 2 --device $device,path="$PWD/disk2.img" \
    >ioreqd.log 2>&1 &
ioreqd=$!
await_ready "${IOREQD_READY:-READY}"
echo "ioreqd serves both guests"

domu go 1
domu go 2
check_guest 1
check_guest 2
kill -0 $ioreqd 2>/dev/null || failed "ioreqd died"
kill -TERM $ioreqd
wait $ioreqd
status=$?
[ $status -eq 0 ] || failed "ioreqd ended with status $status after SIGTERM"
check_image 1
check_image 2
cp ioreqd.log "$LAB_RESULTS/"
echo "CASE $name: ok"
