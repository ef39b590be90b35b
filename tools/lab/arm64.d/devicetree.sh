# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Sourced by tools/lab/arm64: the device tree that Xen boots with, made of QEMU's
# own tree plus the modules and the dom0less guests, and where QEMU puts each
# module in memory.
#
# LAB_ARM_GUESTS   one word a guest, in the order of their domids (from 1), or
#                  "none". "linux": Debian's kernel and the lab's initramfs; else
#                  the path of an arm64 Image that runs alone. A word may go on
#                  with ",vcpus=N" (2), ",mem=MIB" (192; 32 for an Image).
#                  Default: "linux linux".
# LAB_ARM_CMDLINE  what is added to every guest's command line.
# LAB_ARM_DEVICES  virtio-mmio nodes a Linux guest has, 0 to 11 (1). All must be
#                  served before "domu go", or the guest dies of an access.
# LAB_ARM_DOMU_N   further properties of guest N's node, as source text.

ARM64_KERNEL=0x50000000
ARM64_DOM0_RAMDISK=0x54000000
ARM64_DOMU_RAMDISK=0x58000000
# The partial trees and the guests' own images: a slot each, from here.
ARM64_SLOTS=0x5c000000
ARM64_SLOT_SIZE=0x01000000
ARM64_SLOTS_MAX=16

# The virtio-mmio window as libxl lays it out, all eleven devices with an
# interrupt of their own: base 0x02000000 + n * 0x200, INTID 33 + n (SPI 1 + n).
# Nodes without xen,reg are copied, not mapped: accesses trap. The GIC's phandle is
# the one that libxl gives its guests, so that the tree is good for xl's device_tree= too.
# arm64_partial_tree DEVICES
arm64_partial_tree()
{
    local n

    cat <<'END'
/dts-v1/;
/ {
    #address-cells = <2>;
    #size-cells = <2>;
    gic: gic { #interrupt-cells = <3>; interrupt-controller; phandle = <0xfde8>; };
    passthrough {
        compatible = "simple-bus";
        #address-cells = <2>;
        #size-cells = <2>;
        ranges;
END
    for ((n = 0; n < $1; n++)); do
        printf '        virtio@%x {\n            compatible = "virtio,mmio";\n' $((0x02000000 + n * 0x200))
        printf '            reg = <0x0 0x%08x 0x0 0x200>;\n' $((0x02000000 + n * 0x200))
        printf '            interrupt-parent = <&gic>;\n            interrupts = <0 %d 1>;\n' $((1 + n))
        printf '            dma-coherent;\n        };\n'
    done
    printf '    };\n};\n'
}

# arm64_module FILE ADDRESS COMPATIBLE [BOOTARGS]: a node, and the file in
# ARM64_LOADERS for QEMU (once an address).
arm64_module()
{
    local file=$1 address=$2 compatible=$3 bootargs=${4:-} loader

    printf 'module@%x { compatible = %s; reg = <0x0 0x%x 0x0 0x%x>;' \
        $((address)) "$compatible" $((address)) "$(stat -L -c %s "$file")"
    [ -z "$bootargs" ] || printf ' bootargs = "%s";' "$bootargs"
    printf ' };\n'
    loader="loader,file=$file,addr=$((address)),force-raw=on"
    grep -qxF -e "$loader" "$LAB_TMP/loaders" 2>/dev/null || echo "$loader" >>"$LAB_TMP/loaders"
}

# arm64_guest NUMBER SPEC RAMDISK: one dom0less domain.
arm64_guest()
{
    local number=$1 kernel=${2%%,*} spec=,$2 ramdisk=$3 vcpus=2 mem=192 slot cmdline properties

    [ "$kernel" = linux ] || mem=32
    case $spec in *,vcpus=*) vcpus=${spec##*,vcpus=} vcpus=${vcpus%%,*} ;; esac
    case $spec in *,mem=*) mem=${spec##*,mem=} mem=${mem%%,*} ;; esac
    case $vcpus$mem in *[!0-9]*) lab_die "LAB_ARM_GUESTS: $2: vcpus=NUMBER and mem=MIB expected" ;; esac
    [ "$number" -le $((ARM64_SLOTS_MAX / 2)) ] || lab_die "LAB_ARM_GUESTS: at most $((ARM64_SLOTS_MAX / 2)) guests"

    slot=$((ARM64_SLOTS + (number - 1) * 2 * ARM64_SLOT_SIZE))
    printf 'domU%d {\ncompatible = "xen,domain"; #address-cells = <2>; #size-cells = <2>;\n' "$number"
    printf 'cpus = <%d>; memory = <0x0 0x%x>; vpl011; xen,enhanced = "enabled";\n' "$vcpus" $((mem * 1024))
    properties=LAB_ARM_DOMU_$number
    printf '%s\n' "${!properties:-}"
    if [ "$kernel" = linux ]; then
        cmdline="console=ttyAMA0 loglevel=4${LAB_ARM_CMDLINE:+ $LAB_ARM_CMDLINE}"
        arm64_module "$LAB_IMG/Image" $ARM64_KERNEL '"multiboot,kernel", "multiboot,module"' "$cmdline"
        arm64_module "$ramdisk" $ARM64_DOMU_RAMDISK '"multiboot,ramdisk", "multiboot,module"'
        # Xen takes the GIC's phandle from the partial tree; one that refers to
        # no GIC has none, and the guest hangs.
        if [ "${LAB_ARM_DEVICES:-1}" -gt 0 ]; then
            cp "$LAB_TMP/partial.dtb" "$LAB_TMP/partial-$number.dtb"
            arm64_module "$LAB_TMP/partial-$number.dtb" $slot '"multiboot,device-tree", "multiboot,module"'
        fi
    else
        [ -f "$kernel" ] || lab_die "LAB_ARM_GUESTS: no such image: $kernel"
        [ "$(stat -L -c %s "$kernel")" -le $((ARM64_SLOT_SIZE)) ] || lab_die "LAB_ARM_GUESTS: $kernel is over 16 MiB"
        arm64_module "$(realpath "$kernel")" $((slot + ARM64_SLOT_SIZE)) '"multiboot,kernel", "multiboot,module"' \
            "${LAB_ARM_CMDLINE:-}"
    fi
    printf '};\n'
}

# arm64_tree QEMU-TREE RAMDISK: the whole source.
arm64_tree()
{
    local qemu_tree=$1 ramdisk=$2 number=0 guest xen dom0
    local guests=${LAB_ARM_GUESTS:-linux linux}

    xen="console=dtuart dtuart=/pl011@9000000 dom0_mem=512M dom0_max_vcpus=1 bootscrub=0 loglvl=all"
    # credit2, the default, comes to a standstill now and then under QEMU's threads.
    xen+=" guest_loglvl=all sched=credit conring_size=256k"
    dom0="console=hvc0 loglevel=4 clk_ignore_unused panic=1"
    cat "$qemu_tree"
    printf '/ {\nchosen {\n#address-cells = <2>; #size-cells = <2>;\n'
    printf 'xen,xen-bootargs = "%s";\nxen,dom0-bootargs = "%s";\n' "$xen" "$dom0"
    arm64_module "$LAB_IMG/Image" $ARM64_KERNEL \
        '"xen,linux-zimage", "xen,multiboot-module", "multiboot,kernel", "multiboot,module"'
    arm64_module "$LAB_IMG/dom0.cpio" $ARM64_DOM0_RAMDISK \
        '"xen,linux-initrd", "xen,multiboot-module", "multiboot,ramdisk", "multiboot,module"'
    if [ "$guests" != none ]; then
        for guest in $guests; do
            number=$((number + 1))
            arm64_guest "$number" "$guest" "$ramdisk"
        done
    fi
    printf '};\npl061@9030000 { status = "disabled"; };\n};\n'
}
