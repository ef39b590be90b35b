# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# shellcheck disable=SC2154 # here: set by the sourcing script
# The x86 lab's images, built once from Debian packages into $LAB_IMG:
#   xen, vmlinux       the hypervisor and the ELF kernel of dom0
#   dom0.cpio          dom0's initramfs, with the guests' kernels and initramfs in /guest
#   dom0-libs          the names of dom0's libraries
# Nothing is installed on the host: packages are downloaded by apt-get and unpacked.

x86_roots=(xen-hypervisor-4.17-amd64 xen-utils-4.17 xen-utils-common xenstore-utils qemu-system-xen
    qemu-system-data seabios busybox-static e2fsprogs
    libxendevicemodel1 libxenevtchn1 libxenforeignmemory1 libxengnttab1 libxenstore4 libxencall1)
# Libraries are taken from dependencies; these are not libraries that any program here links.
x86_not='^lib(perl|python|pam-modules)'
x86_dom0_modules=(xen-privcmd xen-evtchn xen-gntdev xen-gntalloc xenfs 9p 9pnet_virtio virtio_pci loop crc32c_generic ext4 tun bridge)
x86_guest_modules=(virtio_pci virtio_blk virtio_net virtio_mmio virtio_console virtio-rng crc32c_generic ext4 nvme)

x86_images()
{
    local kernel packages
    kernel=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }')
    [ -n "$kernel" ] || lab_die "apt does not know linux-image-amd64 (apt-get update?)"
    packages=$(lab_closure '^(lib|zlib)' "${x86_roots[@]}" | grep -vE "$x86_not")
    # shellcheck disable=SC2086 # a list of names
    x86_versions=$(lab_versions "$kernel" $packages) || exit 2
    x86_kernel_version=${kernel#linux-image-}
    lab_image "$(lab_key "$here/x86-images.sh" "$here/x86-guest-init" "$here/x86-loader.S" <<<"$x86_versions")" x86_build_images
}

x86_build_images()
{
    local to=$1 root=$LAB_TMP/root
    lab_stage "building the images (once): downloading packages"
    # shellcheck disable=SC2086 # a list of packages
    lab_unpack "$root" $x86_versions
    lab_stage "building the images: kernel, initramfs of guest and dom0"
    zcat "$root/boot/xen-4.17-amd64.gz" >"$to/xen" || lab_die "no hypervisor in its package"
    x86_unpack_kernel "$root/boot/vmlinuz-$x86_kernel_version" "$to/vmlinux"
    depmod -b "$root" "$x86_kernel_version"
    x86_build_guest "$root" "$LAB_TMP/guest"
    x86_build_dom0 "$root" "$LAB_TMP/dom0" "$to"
    rm -rf "$root"
}

# x86_unpack_kernel BZIMAGE ELF: takes the ELF kernel out of a bzImage (Linux' boot protocol 2.08 says where it
# is), so that nobody has to do so in software emulation.
x86_unpack_kernel()
{
    local sects offset length
    sects=$(od -An -tu1 -j $((0x1f1)) -N 1 "$1")
    offset=$(od -An -tu4 -j $((0x248)) -N 4 "$1")
    length=$(od -An -tu4 -j $((0x24c)) -N 4 "$1")
    # The payload's last four bytes are its unpacked size, not part of the xz stream.
    tail -c "+$(((sects + 1) * 512 + offset + 1))" "$1" | head -c $((length - 4)) | xz -dc --single-stream >"$2" ||
        lab_die "the kernel in $1 is not packed by xz"
}

# x86_hvm_loader BZIMAGE OUT: the real-mode part of the stock kernel with our loader (x86-loader.S) behind it.
x86_hvm_loader()
{
    local sects
    sects=$(od -An -tu1 -j $((0x1f1)) -N 1 "$1")
    as --64 -o "$LAB_TMP/loader.o" "$here/x86-loader.S" || lab_die "cannot assemble x86-loader.S"
    ld -Ttext=0x100000 --oformat binary -o "$LAB_TMP/loader.bin" "$LAB_TMP/loader.o" ||
        lab_die "cannot link x86-loader.S"
    { head -c $(((sects + 1) * 512)) "$1"; cat "$LAB_TMP/loader.bin"; } >"$2" || lab_die "cannot write $2"
}

x86_build_guest()
{
    local root=$1 guest=$2
    mkdir -p "$guest"/{proc,sys,dev,tmp,mnt,sbin,jobs,etc}
    lab_busybox "$root" "$guest"
    cp "$root/sbin/mke2fs" "$guest/sbin/mkfs.ext4"
    cp "$root/sbin/e2fsck" "$guest/sbin/"
    cp "$root/etc/mke2fs.conf" "$guest/etc/"
    lab_install_libs "$root" "$guest" lib/x86_64-linux-gnu "$guest"/sbin/*
    x86_loader "$root" "$guest"
    lab_install_modules "$root" "$guest" "$x86_kernel_version" "${x86_guest_modules[@]}"
    cp "$here/x86-guest-init" "$guest/init"
    chmod 755 "$guest/init"
}

# The dynamic loader at the path that programs name.
x86_loader()
{
    mkdir -p "$2/lib64"
    cp -L "$(find "$1/lib" "$1/lib64" "$1/usr/lib" -name ld-linux-x86-64.so.2 2>/dev/null | head -n 1)" "$2/lib64/" ||
        lab_die "no dynamic loader in libc6"
}

x86_build_dom0()
{
    local root=$1 dom0=$2 to=$3 xen=usr/lib/xen-4.17
    mkdir -p "$dom0"/{proc,sys,dev,tmp,run,root,share,out,mnt,guest,etc/xen,sbin,usr/bin,usr/sbin,usr/libexec} \
        "$dom0"/var/{lib/xenstored,lib/xen,log/xen/console} "$dom0/$xen"/{bin,boot} "$dom0"/usr/share/{qemu,seabios}
    ln -s /run "$dom0/var/run"
    ln -s /run/lock "$dom0/var/lock"
    lab_busybox "$root" "$dom0"
    cp "$root/$xen"/bin/{xl,xenstored,xenconsoled,xenconsole,xen-init-dom0,libxl-save-helper,xen-hvmctx,lsevtchn} \
        "$dom0/$xen/bin/"
    ln -s "/$xen/bin/xl" "$dom0/usr/sbin/xl"
    cp "$root/$xen/boot/hvmloader" "$dom0/$xen/boot/"
    cp -R "$root"/etc/xen/* "$dom0/etc/xen/"
    cp "$root/usr/libexec/xen-qemu-system-i386" "$dom0/usr/libexec/"
    cp "$root"/usr/share/qemu/{linuxboot_dma,linuxboot,kvmvapic}.bin "$dom0/usr/share/qemu/"
    cp -R "$root/usr/share/qemu/keymaps" "$dom0/usr/share/qemu/"
    cp "$root"/usr/share/seabios/{bios-256k,vgabios-stdvga}.bin "$dom0/usr/share/seabios/"
    cp "$root"/usr/bin/xenstore* "$dom0/usr/bin/"
    cp "$root"/sbin/{mke2fs,e2fsck,debugfs,dumpe2fs} "$dom0/sbin/"
    ln -s mke2fs "$dom0/sbin/mkfs.ext4"
    cp "$root/etc/mke2fs.conf" "$dom0/etc/"
    lab_install_libs "$root" "$dom0" lib/x86_64-linux-gnu "$dom0/$xen"/bin/* "$dom0"/usr/bin/* "$dom0"/sbin/* \
        "$dom0"/usr/libexec/* "$root"/usr/lib/x86_64-linux-gnu/libxen{devicemodel,evtchn,foreignmemory,gnttab}.so.1 \
        "$root/lib/x86_64-linux-gnu/libgcc_s.so.1"
    x86_loader "$root" "$dom0"
    find "$dom0/lib" -name '*.so*' -printf '%f\n' | sort >"$to/dom0-libs"
    lab_install_modules "$root" "$dom0" "$x86_kernel_version" "${x86_dom0_modules[@]}"
    ln "$to/vmlinux" "$dom0/guest/vmlinux" 2>/dev/null || cp "$to/vmlinux" "$dom0/guest/vmlinux"
    cp "$root/boot/vmlinuz-$x86_kernel_version" "$dom0/guest/vmlinuz"
    x86_hvm_loader "$dom0/guest/vmlinuz" "$dom0/guest/hvm-loader"
    lab_cpio "$LAB_TMP/guest" "$dom0/guest/initrd.cpio"
    lab_cpio "$dom0" "$to/dom0.cpio"
}
