/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bounded pool of aligned memory for direct I/O: the kernel can't pin a foreign mapping, so such I/O goes
 * through here. Pages are touched from the bottom up, so that an idle or lightly loaded daemon keeps few of
 * them.
 */
#ifndef BACKEND_BOUNCE_H
#define BACKEND_BOUNCE_H

#include <stddef.h>
#include <stdint.h>

#include "core/list.h"

enum {
    BOUNCE_PAGE = 4096,
    BOUNCE_PAGES = 1024,          /* of the pool: 4 MiB of address space */
    BOUNCE_MAX = 64 * BOUNCE_PAGE /* bytes of one piece; longer I/O is done piece by piece */
};

/* Someone who found the pool empty. Embedded in the request; first come, first served. */
struct bounce_waiter {
    struct list link;
    void (*ready)(struct bounce_waiter *waiter); /* no longer waiting; try again */
};

struct bounce {
    uint8_t *base;
    uint64_t used[BOUNCE_PAGES / 64]; /* one bit a page */
    struct list waiters;
};

int bounce_init(struct bounce *bounce); /* 0 or -ENOMEM */
void bounce_finish(struct bounce *bounce);
/* A piece of `length` bytes (1 to BOUNCE_MAX), aligned to BOUNCE_PAGE; NULL: full, or others wait already. */
void *bounce_take(struct bounce *bounce, size_t length);
/* Gives the piece back and lets waiters try, in their order. */
void bounce_give(struct bounce *bounce, void *piece, size_t length);
void bounce_wait(struct bounce *bounce, struct bounce_waiter *waiter);
void bounce_leave(struct bounce_waiter *waiter);

#endif
