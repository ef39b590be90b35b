/* SPDX-License-Identifier: BSD-2-Clause */
/* Entry of the bare-metal PVH guest: 32-bit, flat, no paging, no interrupts. The image sits at 1 MiB. */
        .section .note, "a", @note
        .align 4
        .long 4, 4, 18                  /* name size, value size, XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz "Xen"
        .align 4
        .long _start

        .text
        .code32
        .globl _start, die
_start:
        cli
        cld
        movl $stack_top, %esp
        movl $bss_start, %edi
        movl $bss_end, %ecx
        subl %edi, %ecx
        xorl %eax, %eax
        rep stosb
        lgdt gdt_pointer
        ljmp $8, $1f
1:      movl $16, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        call bare_main
die:    lidt no_idt                     /* a triple fault: Xen says "crash", xl destroys the domain */
        ud2

        .data
        .align 8
gdt:    .quad 0
        .quad 0x00cf9a000000ffff
        .quad 0x00cf92000000ffff
gdt_pointer:
        .word 23
        .long gdt
no_idt: .word 0
        .long 0

        .bss
        .align 16
        .skip 8192
stack_top:
        .section .note.GNU-stack, "", @progbits
