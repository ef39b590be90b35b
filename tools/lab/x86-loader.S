/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Protected-mode part of a bzImage whose kernel is in memory already.
 *
 * On Xen, QEMU hands -kernel and -initrd to the firmware byte by byte through a port: a minute for a Debian kernel
 * under software emulation, and the kernel's own unpacking comes on top. The lab has QEMU's "loader" device put the
 * unpacked ELF kernel and the initramfs straight into guest memory and gives -kernel the stock kernel's real-mode
 * part followed by this. Linux' boot protocol: entered at 0x100000 in flat 32-bit mode, %esi = boot_params; the
 * ELF kernel wants 64-bit mode, memory mapped one to one, %rsi = boot_params.
 */
    .code32
    .globl _start
_start:
    cli
    movl initrd_address, %eax
    movl %eax, 0x218(%esi)          /* hdr.ramdisk_image */
    movl initrd_size, %eax
    movl %eax, 0x21c(%esi)          /* hdr.ramdisk_size */

    /* Page tables: 4 GiB one to one in pages of 2 MiB, in the hole between this code and the kernel. */
    movl $TABLES, %edi
    xorl %eax, %eax
    movl $(6 * 4096 / 4), %ecx
    rep stosl
    movl $(TABLES + 0x1003), TABLES
    movl $4, %ecx
    movl $(TABLES + 0x1000), %edi
    movl $(TABLES + 0x2003), %eax
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x1000, %eax
    loop 1b
    movl $2048, %ecx
    movl $(TABLES + 0x2000), %edi
    movl $0x83, %eax
2:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    loop 2b

    movl %cr4, %eax
    orl $0x20, %eax                 /* PAE */
    movl %eax, %cr4
    movl $TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          /* EFER: LME */
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax           /* PG, PE */
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x10, $3f

    .code64
3:  movl $0x18, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %esi, %esi
    movl $KERNEL, %eax
    jmp *%rax

    .balign 8
gdt:
    .quad 0, 0
    .quad 0x00af9a000000ffff        /* 0x10: 64-bit code */
    .quad 0x00cf92000000ffff        /* 0x18: data */
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt

    /* The last 8 bytes of the file; filled in when the guest's initramfs is known. */
    .balign 16
    .skip 8
initrd_address:
    .long 0
initrd_size:
    .long 0
    .set TABLES, 0x200000
    .set KERNEL, 0x1000000
