/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entry of the x86 guest: 32-bit, flat, no paging, both as a PVH kernel (PHYS32_ENTRY note) and as the
 * firmware of an HVM guest. The image sits at 1 MiB; vCPU 1 enters at vcpu_entry by VCPUOP_initialise.
 */
        .section .note, "a", @note
        .align 4
        .long 4, 4, 18                  /* name size, value size, XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz "Xen"
        .align 4
        .long _start

        .text
        .code32
        .globl _start, vcpu_entry, irq_table, hypercall_page, load_tables
_start:
        cli
        cld
        movl $stack0_top, %esp
        movl $bss_start, %edi
        movl $bss_end, %ecx
        subl %edi, %ecx
        xorl %eax, %eax
        rep stosb
        call load_tables
        pushl $0
        call guest_main

vcpu_entry:
        cli
        cld
        movl $stack1_top, %esp
        call load_tables
        pushl $1
        call guest_main

load_tables:
        lgdt gdt_pointer
        ljmp $8, $1f
1:      movl $16, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl %eax, %fs
        movl %eax, %gs
        lidt idt_pointer
        ret

/* One stub per vector, 16 bytes apart; vectors with an error code leave it in place of the zero. */
        .align 16
irq_table:
        .set vector, 0
        .rept 256
        .align 16
        .set has_error_code, 0
        .if vector < 32
        .set has_error_code, (0x27d00 >> vector) & 1
        .endif
        .if has_error_code == 0
        pushl $0
        .endif
        pushl $vector
        jmp irq_common
        .set vector, vector + 1
        .endr

irq_common:
        pusha
        cld
        pushl 36(%esp)                  /* error code */
        pushl 44(%esp)                  /* address of the instruction */
        pushl 40(%esp)                  /* vector */
        call x86_interrupt
        addl $12, %esp
        testl %eax, %eax
        jz 1f
        movl %eax, 40(%esp)             /* go on there, not at the instruction that faulted */
1:      popa
        addl $8, %esp
        iret

        .data
        .align 8
gdt:    .quad 0
        .quad 0x00cf9a000000ffff
        .quad 0x00cf92000000ffff
gdt_pointer:
        .word 23
        .long gdt
        .globl idt_pointer
idt_pointer:
        .word 2047
        .long idt

        .bss
        .align 4096
hypercall_page: .skip 4096
        .globl idt
idt:    .skip 2048
        .skip 8192
stack0_top:
        .skip 8192
stack1_top:
        .section .note.GNU-stack, "", @progbits
