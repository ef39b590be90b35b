/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entry of the arm64 guest: a Linux Image header, then vCPU 0; vCPU 1 enters at vcpu_entry by PSCI.
 * An identity map (1 GiB blocks: the first device, RAM write-back) keeps our view of the mailbox
 * coherent with dom0's cached one.
 */
        .section .head, "ax"
        .globl _start
_start: b       start
        .long   0
        .quad   0x80000                 /* text offset */
        .quad   image_end - _start
        .quad   0xa                     /* little endian, 4 KiB pages, anywhere */
        .quad   0, 0, 0
        .ascii  "ARM\x64"
        .long   0

        .text
start:
        adrp    x1, bss_start
        add     x1, x1, :lo12:bss_start
        adrp    x2, image_end
        add     x2, x2, :lo12:image_end
1:      str     xzr, [x1], #8
        cmp     x1, x2
        b.lo    1b
        adrp    x1, stack0_top
        add     sp, x1, :lo12:stack0_top
        adrp    x0, page_table
        mov     x1, #0x405              /* block, device-nGnRnE (attribute 1), accessed */
        str     x1, [x0]
        movz    x1, #0x701              /* block, attribute 0, inner shareable, accessed */
        movk    x1, #0x4000, lsl #16
        str     x1, [x0, #8]
        movz    x1, #0x8000, lsl #16
        movk    x1, #0x701
        str     x1, [x0, #16]
        dsb     sy
        bl      mmu_on
        mov     x0, #0
        bl      guest_main

        .globl  vcpu_entry
vcpu_entry:
        adrp    x1, stack1_top
        add     sp, x1, :lo12:stack1_top
        bl      mmu_on
        mov     x0, #1
        bl      guest_main

mmu_on: adrp    x0, page_table
        msr     ttbr0_el1, x0
        mov     x1, #0x00ff             /* attribute 0 normal write-back, 1 device-nGnRnE */
        msr     mair_el1, x1
        ldr     x1, =0x803519           /* T0SZ 25, write-back walks, inner shareable, no TTBR1 */
        mrs     x2, id_aa64mmfr0_el1
        and     x2, x2, #7
        cmp     x2, #2                  /* 40 bits of physical address are plenty */
        mov     x3, #2
        csel    x2, x2, x3, lo
        orr     x1, x1, x2, lsl #32
        msr     tcr_el1, x1
        adrp    x1, vectors
        add     x1, x1, :lo12:vectors
        msr     vbar_el1, x1
        tlbi    vmalle1
        ic      iallu
        dsb     sy
        isb
        mrs     x1, sctlr_el1
        mov     x2, #0x1005             /* MMU, data cache, instruction cache */
        orr     x1, x1, x2
        bic     x1, x1, #2              /* no alignment checks */
        msr     sctlr_el1, x1
        mov     x1, #(3 << 20)
        msr     cpacr_el1, x1
        isb
        ret

        .macro  save
        sub     sp, sp, #176
        stp     x0, x1, [sp, #0]
        stp     x2, x3, [sp, #16]
        stp     x4, x5, [sp, #32]
        stp     x6, x7, [sp, #48]
        stp     x8, x9, [sp, #64]
        stp     x10, x11, [sp, #80]
        stp     x12, x13, [sp, #96]
        stp     x14, x15, [sp, #112]
        stp     x16, x17, [sp, #128]
        stp     x18, x30, [sp, #144]
        .endm

        .macro  vector handler
        .align  7
        save
        bl      \handler
        b       leave
        .endm

        .align  11
vectors:
        .rept   4
        vector  arm64_exception
        .endr
        vector  arm64_exception
        vector  arm64_irq
        vector  arm64_irq
        vector  arm64_exception
        .rept   8
        vector  arm64_exception
        .endr

leave:  ldp     x0, x1, [sp, #0]
        ldp     x2, x3, [sp, #16]
        ldp     x4, x5, [sp, #32]
        ldp     x6, x7, [sp, #48]
        ldp     x8, x9, [sp, #64]
        ldp     x10, x11, [sp, #80]
        ldp     x12, x13, [sp, #96]
        ldp     x14, x15, [sp, #112]
        ldp     x16, x17, [sp, #128]
        ldp     x18, x30, [sp, #144]
        add     sp, sp, #176
        eret
        .ltorg

        .bss
        .align  12
page_table: .skip 4096
        .skip   8192
stack0_top:
        .skip   8192
stack1_top:
