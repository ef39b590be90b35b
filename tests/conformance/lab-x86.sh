#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Job for tools/xen-lab: the conformance program on real Xen, an HVM and a PVH guest in turn.
#   tools/xen-lab run tests/conformance/lab-x86.sh BUILD/tests/conformance/conformance \
#       BUILD/tests/conformance/guest-x86.elf tests/conformance/expected
# Prints the difference to expected/PROFILE.txt and leaves PROFILE.txt in the results. Arguments (after --):
# PROFILES (default "pvh hvm"), then options for the program.
set -u
files=$LAB_SHARE/files
cp "$files/conformance" "$files/guest-x86.elf" . || exit 2
chmod 755 conformance
profiles=${1:-pvh hvm}
[ $# -eq 0 ] || shift
failed=0

# libxl only waits for a device model to say "running"; the servers are the conformance program's.
cat >/usr/bin/conformance-dm <<'END'
#!/bin/sh
while [ $# -gt 0 ]; do
    [ "$1" != -d ] || domid=$2
    shift
done
xenstore-write "/local/domain/0/device-model/$domid/state" running
exec sleep 3600
END
chmod 755 /usr/bin/conformance-dm

config()
{
    echo "name = \"conformance-$1\"
type = \"$1\"
memory = 32
vcpus = 2
on_poweroff = \"destroy\"
on_crash = \"preserve\""
    if [ "$1" = pvh ]; then
        echo "kernel = \"$PWD/guest-x86.elf\""
    else
        echo "firmware_override = \"$PWD/guest-x86.elf\"
device_model_version = \"qemu-xen-traditional\"
device_model_override = \"/usr/bin/conformance-dm\"
serial = \"none\"
vga = \"none\"
xen_platform_pci = 0"
    fi
}

for profile in $profiles; do
    echo "LAB-STAGE: conformance $profile" >/dev/console
    config "$profile" >"$profile.cfg"
    if ! xl create "$profile.cfg" >xl.log 2>&1; then
        cat xl.log
        failed=1
        continue
    fi
    domid=$(xl domid "conformance-$profile")
    {
        echo "# Xen $(xl info xen_version), $profile"
        ./conformance --domid "$domid" --profile "$profile" --kill "xl destroy $domid" "$@" || failed=1
    } >"$LAB_RESULTS/$profile.txt"
    xl destroy "$domid" 2>/dev/null
    if [ $# -gt 0 ]; then
        cat "$LAB_RESULTS/$profile.txt"
    elif ! diff -u "$files/expected/$profile.txt" "$LAB_RESULTS/$profile.txt"; then
        echo "conformance: $profile differs from expected/$profile.txt"
        failed=1
    fi
done
exit $failed
