# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# Sourced by tools/lab/arm64: what the arm64 lab boots. Two parts are kept on
# their own, for they change seldom and take longest: the hypervisor, cross-built
# from Debian's source package (Debian's own has no ioreq servers), and the
# unpacked arm64 packages. The initramfs images are packed from them.

ARM64_TRIPLET=aarch64-linux-gnu

# The folder's name says what made it, so that a changed recipe makes a new one.
# arm64_part NAME KEY BUILDER: sets ARM64_PART; runs BUILDER DIR once.
arm64_part()
{
    local name=$1 key=$2 builder=$3 dir

    dir=$(arm64_cache)/$name
    ARM64_PART=$dir
    [ "$(cat "$dir/.stamp" 2>/dev/null)" = "$key" ] && return
    rm -rf "$dir" "$dir.new"
    mkdir -p "$dir.new"
    "$builder" "$dir.new" || lab_die "cannot make $name"
    echo "$key" >"$dir.new/.stamp"
    mv "$dir.new" "$dir"
}

arm64_hypervisor_config()
{
    cat <<'END'
CONFIG_EXPERT=y
CONFIG_UNSUPPORTED=y
CONFIG_IOREQ_SERVER=y
CONFIG_DEBUG=y
END
}

# init-dom0less of 4.17 writes each vCPU's availability to a path that ends in a
# slash, which xenstored refuses; and it would write "offline" for all of them (it
# takes the CPU pool's number for a mask of vCPUs), whereupon Linux unplugs them.
arm64_build_init_dom0less()
{
    local src=$1 out=$2 sysroot=$3 libs

    sed -e 's#cpu/%u/availability/"#cpu/%u/availability"#' -e 's/(info->cpupool & (1 << i)) ?/true ?/' \
        "$src/tools/helpers/init-dom0less.c" >"$src/tools/helpers/init-dom0less-fixed.c"
    libs="-lxenlight -lxenguest -lxenctrl -lxenstore -lxenevtchn -lxenforeignmemory -lxentoollog"
    # shellcheck disable=SC2086 # a list
    $ARM64_TRIPLET-gcc --sysroot="$sysroot" -O2 -D__XEN_TOOLS__ -D_GNU_SOURCE -o "$out" \
        "$src/tools/helpers/init-dom0less-fixed.c" "$src/tools/helpers/init-dom-json.c" \
        $libs -Wl,--allow-shlib-undefined
}

arm64_build_hypervisor()
{
    local dir=$1 src=$1/src make

    lab_stage "cross-building the hypervisor from Debian's source package"
    arm64_source "$src" xen
    make=(make -C "$src/xen" "XEN_TARGET_ARCH=arm64" "CROSS_COMPILE=$ARM64_TRIPLET-" -j "$(nproc)")
    cp "$src/xen/arch/arm/configs/arm64_defconfig" "$src/xen/.config"
    arm64_hypervisor_config >>"$src/xen/.config"
    { "${make[@]}" olddefconfig && "${make[@]}"; } >"$dir/build.log" 2>&1 ||
        { tail -n 30 "$dir/build.log" >&2; arm64_say "the hypervisor does not build"; return 1; }
    grep -q '^CONFIG_IOREQ_SERVER=y' "$src/xen/.config" ||
        { arm64_say "the hypervisor's configuration has no ioreq servers"; return 1; }
    arm64_build_init_dom0less "$src" "$dir/init-dom0less" "$(arm64_cache)/sysroot" || return 1
    cp "$src/xen/xen" "$src/xen/.config" "$dir" || return 1
    rm -rf "$src"
}

arm64_packages=(
    busybox-static xen-utils-4.17 xenstore-utils e2fsprogs
    libc6 libgcc-s1 libxenmisc4.17 libxencall1 libxendevicemodel1 libxenevtchn1 libxenforeignmemory1
    libxengnttab1 libxenhypfs1 libxenstore4 libxentoolcore1 libxentoollog1 libyajl2 libuuid1 zlib1g
    libfdt1 libext2fs2 libcom-err2 libss2 libblkid1 libevent-core-2.1-7 libevent-2.1-7 liburing2
    libnl-3-200 libnl-route-3-200 libncurses6 libncursesw6 libtinfo6 libconfig9 libjansson4 libbz2-1.0 liblzma5 libzstd1 liblzo2-2
)

arm64_unpack_packages()
{
    local dir=$1 kernel

    arm64_apt_update
    kernel=$(arm64_depends linux-image-arm64)
    arm64_unpack "$dir" "${arm64_packages[@]}" "$kernel"
    rm -rf "$dir/usr/share"
    mv "$dir"/boot/vmlinuz-* "$dir/Image" || return 1
    rm -rf "$dir"/lib/modules/*/kernel/{sound,drivers/{gpu,media,net/*/,iio,infiniband,staging,usb,hid,input}}
    ls "$dir/lib/modules" >"$dir/release" || return 1
    PATH=$PATH:/usr/sbin:/sbin depmod -b "$dir" "$(cat "$dir/release")" || return 1
}

# arm64_modules ROOT DEST MODULE...: the MODULEs and what they need; DEST/modules
# lists them in the order to insert them.
arm64_modules()
{
    local root=$1 dest=$2 release file
    shift 2

    release=$(cat "$root/release")
    mkdir -p "$dest/lib/modules"
    for module in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin modprobe -d "$root" -S "$release" --show-depends "$module" 2>/dev/null ||
            echo "missing $module"
    done | awk '$1 == "missing" || ($1 == "insmod" && !seen[$2]++) { print $1, $2 }' >"$dest/modules.list"
    if grep '^missing' "$dest/modules.list" >&2; then
        arm64_say "kernel $release lacks these modules"
        return 1
    fi
    while read -r _ file; do
        cp "$file" "$dest/lib/modules/" || return 1
        echo "${file##*/}"
    done <"$dest/modules.list" >"$dest/lib/modules/order"
    rm "$dest/modules.list"
}

# arm64_libraries ROOT DEST: copies from ROOT the libraries that the ELF files
# in DEST name, and those that they name in turn.
arm64_libraries()
{
    local root=$1 dest=$2 todo name found
    local lib=$dest/lib/$ARM64_TRIPLET

    mkdir -p "$lib"
    while :; do
        todo=$(find "$dest" -type f -print0 |
            xargs -0 $ARM64_TRIPLET-readelf -d 2>/dev/null |
            sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u |
            while read -r name; do [ -e "$lib/$name" ] || echo "$name"; done)
        [ -n "$todo" ] || break
        for name in $todo; do
            found=$(find "$root/lib/$ARM64_TRIPLET" "$root/usr/lib/$ARM64_TRIPLET" "$root/usr/lib/xen-4.17/lib" \
                -name "$name" -print -quit 2>/dev/null)
            [ -n "$found" ] || { arm64_say "no package holds the library $name"; return 1; }
            cp -L "$found" "$lib/$name" || return 1
        done
    done
    cp -L "$root/lib/$ARM64_TRIPLET/ld-linux-aarch64.so.1" "$dest/lib/ld-linux-aarch64.so.1"
}

arm64_base()
{
    local root=$1 dest=$2

    mkdir -p "$dest"/{bin,dev,etc,proc,sys,run,tmp,root,var/lib/xen,var/lib/xenstored,var/log/xen} || return 1
    ln -s bin "$dest/sbin"
    ln -s ../run "$dest/var/run"
    mkdir -p "$dest/run/xen" "$dest/run/xenstored"
    cp "$root/bin/busybox" "$dest/bin/" || return 1
    ln -s busybox "$dest/bin/sh"
    cp "$root"/usr/bin/xenstore "$dest/bin/" || return 1
    local verb
    for verb in chmod exists list ls read rm watch write; do
        ln -sf xenstore "$dest/bin/xenstore-$verb"
    done
}

# arm64_pack DIR FILE: uncompressed, for the emulated CPU is slow and memory is there.
arm64_pack()
{
    (cd "$1" && find . -print0 | LC_ALL=C sort -z |
        cpio --null --quiet --create --format=newc --owner=0:0) >"$2"
}

arm64_pack_dom0()
{
    local root=$1 parts=$2 img=$3 dest=$LAB_TMP/dom0 tool

    arm64_base "$root" "$dest" || return 1
    for tool in xenstored xl init-dom0less xenconsoled; do
        cp "$root/usr/lib/xen-4.17/bin/$tool" "$dest/bin/" || return 1
    done
    cp "$parts/hypervisor/init-dom0less" "$dest/bin/init-dom0less" || return 1
    cp "$root"/sbin/{e2fsck,mke2fs,debugfs,dumpe2fs} "$dest/bin/" || return 1
    ln -s mke2fs "$dest/bin/mkfs.ext4"
    mkdir -p "$dest/lib/$ARM64_TRIPLET"
    # Not in any NEEDED: libc opens it when a thread is cancelled.
    cp "$root/lib/$ARM64_TRIPLET/libgcc_s.so.1" "$dest/lib/$ARM64_TRIPLET/" || return 1
    # ioreqd's and the conformance program's own libraries.
    cp -L "$root"/usr/lib/$ARM64_TRIPLET/{libevent*-2.1.so.7,liburing.so.2,libconfig.so.9,libjansson.so.4} "$dest/lib/$ARM64_TRIPLET/" || return 1
    for tool in devicemodel evtchn foreignmemory gnttab store toolcore; do
        cp -L "$root"/usr/lib/$ARM64_TRIPLET/libxen$tool.so.[0-9] "$dest/lib/$ARM64_TRIPLET/" || return 1
    done
    cp -L "$root"/lib/$ARM64_TRIPLET/libncursesw.so.6 "$dest/lib/$ARM64_TRIPLET/" || return 1
    arm64_libraries "$root" "$dest" || return 1
    arm64_modules "$root" "$dest" xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xenfs virtio_mmio 9pnet_virtio 9p \
        crc32c_generic ext4 loop tun bridge || return 1
    cp "$LAB_HERE/arm64.d/dom0-init" "$dest/init" || return 1
    cp "$LAB_HERE/arm64.d/domu" "$dest/bin/domu" || return 1
    cp "$LAB_HERE/arm64.d/start-xenstore" "$dest/bin/start-xenstore" || return 1
    chmod 755 "$dest/init" "$dest/bin/domu" "$dest/bin/start-xenstore"
    arm64_pack "$dest" "$img/dom0.cpio"
}

arm64_pack_domu()
{
    local root=$1 img=$2 dest=$LAB_TMP/domu

    arm64_base "$root" "$dest" || return 1
    arm64_libraries "$root" "$dest" || return 1
    arm64_modules "$root" "$dest" virtio_mmio virtio_blk virtio_net virtio_console virtio-rng crc32c_generic ext4 || return 1
    cp "$LAB_HERE/arm64.d/domu-init" "$dest/init" || return 1
    chmod 755 "$dest/init"
    arm64_pack "$dest" "$img/domu.cpio"
}

# Builder for lab_image: the folder that a run needs.
arm64_build_images()
{
    local img=$1 parts

    parts=$(arm64_cache)
    ln "$parts/packages/Image" "$img/Image" 2>/dev/null || cp "$parts/packages/Image" "$img/Image" || return 1
    cp "$parts/hypervisor/xen" "$img/xen" || return 1
    cp "$parts/hypervisor/.config" "$img/xen.config" || return 1
    arm64_pack_dom0 "$parts/packages" "$parts" "$img" || return 1
    arm64_pack_domu "$parts/packages" "$img" || return 1
}

# arm64_images: sets LAB_IMG; builds what is missing.
arm64_images()
{
    local hv_key packages_key key

    arm64_locked
    hv_key=$(declare -f arm64_build_hypervisor arm64_hypervisor_config arm64_build_init_dom0less | sha256sum)
    packages_key=$({ declare -f arm64_unpack_packages; echo "${arm64_packages[*]}"; } | sha256sum)
    key=$(lab_key "$LAB_HERE/arm64" "$LAB_HERE"/arm64.d/{images.sh,dom0-init,domu-init,domu,start-xenstore} <<<"$hv_key $packages_key")
    if [ ! -e "$LAB_CACHE/$key/complete" ]; then
        lab_stage "building the arm64 lab's images (once; cache: $LAB_CACHE)"
        ARM64_CACHE_HELD=1 "$LAB_HERE/../cross/arm64" >/dev/null || lab_die "no sysroot"
        arm64_part packages "$packages_key" arm64_unpack_packages
        arm64_part hypervisor "$hv_key" arm64_build_hypervisor
    fi
    lab_image "$key" arm64_build_images
    arm64_unlock
}
