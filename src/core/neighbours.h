/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Another emulator beside us on a guest (QEMU) that can be asked which PCI functions are its own: Xen lets two servers
 * claim one, and the higher id wins in silence. The embedder knows how to ask.
 */
#ifndef CORE_NEIGHBOURS_H
#define CORE_NEIGHBOURS_H

#include <stdint.h>

struct neighbour_claim {
    uint16_t sbdf;
    char owner[96]; /* "e1000 of QEMU" */
};

struct neighbours {
    /*
     * Asks about a domain that is served beside another emulator. known(self, ...) is called once, later; the claims
     * hold until it returns; nobody to ask, or no answer, is no claims, with one line of `why` (or NULL). Returns what
     * cancel takes, or NULL: out of memory, known is not called.
     */
    void *(*ask)(struct neighbours *neighbours, uint16_t domid,
                 void (*known)(void *self, const struct neighbour_claim *claims, unsigned count, const char *why),
                 void *self);
    void (*cancel)(struct neighbours *neighbours, void *query); /* before known was called */
};

#endif
