/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/bounce.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

int bounce_init(struct bounce *bounce)
{
    void *at = mmap(NULL, (size_t)BOUNCE_PAGES * BOUNCE_PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return -ENOMEM;
    }
    /* A huge page would make the first 512 bytes of I/O cost 2 MiB of memory. */
    madvise(at, (size_t)BOUNCE_PAGES * BOUNCE_PAGE, MADV_NOHUGEPAGE);
    bounce->base = at;
    list_init(&bounce->waiters);
    return 0;
}

void bounce_finish(struct bounce *bounce)
{
    if (bounce->base != NULL) {
        munmap(bounce->base, (size_t)BOUNCE_PAGES * BOUNCE_PAGE);
        bounce->base = NULL;
    }
}

static bool page_used(const struct bounce *bounce, unsigned page)
{
    return bounce->used[page / 64] >> (page % 64) & 1;
}

static void mark(struct bounce *bounce, unsigned first, unsigned count, bool used)
{
    for (unsigned page = first; page < first + count; page++) {
        uint64_t bit = UINT64_C(1) << (page % 64);
        if (used) {
            bounce->used[page / 64] |= bit;
        } else {
            bounce->used[page / 64] &= ~bit;
        }
    }
}

/* The first page of a free run, or -1. Whole words that are full are stepped over at once. */
static int find_run(const struct bounce *bounce, unsigned count)
{
    unsigned run = 0;
    for (unsigned page = 0; page < BOUNCE_PAGES; page++) {
        if (page % 64 == 0 && bounce->used[page / 64] == UINT64_MAX) {
            page += 63;
            run = 0;
            continue;
        }
        run = page_used(bounce, page) ? 0 : run + 1;
        if (run == count) {
            return (int)(page + 1 - count);
        }
    }
    return -1;
}

static unsigned pages_of(size_t length)
{
    return (unsigned)((length + BOUNCE_PAGE - 1) / BOUNCE_PAGE);
}

void *bounce_take(struct bounce *bounce, size_t length)
{
    if (!list_empty(&bounce->waiters)) {
        return NULL;
    }
    int first = find_run(bounce, pages_of(length));
    if (first < 0) {
        return NULL;
    }
    mark(bounce, (unsigned)first, pages_of(length), true);
    return bounce->base + (size_t)first * BOUNCE_PAGE;
}

void bounce_give(struct bounce *bounce, void *piece, size_t length)
{
    size_t offset = (size_t)((uint8_t *)piece - bounce->base);
    mark(bounce, (unsigned)(offset / BOUNCE_PAGE), pages_of(length), false);
    /* Each waiter that is let in may find too little room and queue again (at the end): look at each once. */
    struct list ready;
    list_init(&ready);
    while (!list_empty(&bounce->waiters)) {
        struct list *first = bounce->waiters.next;
        list_remove(first);
        list_add_tail(&ready, first);
    }
    while (!list_empty(&ready)) {
        struct bounce_waiter *waiter = list_first(&ready, struct bounce_waiter, link);
        list_remove(&waiter->link);
        waiter->ready(waiter);
        if (!list_empty(&bounce->waiters)) {
            break; /* it did not fit; those behind it keep their place */
        }
    }
    while (!list_empty(&ready)) {
        struct list *first = ready.next;
        list_remove(first);
        list_add_tail(&bounce->waiters, first);
    }
}

void bounce_wait(struct bounce *bounce, struct bounce_waiter *waiter)
{
    list_add_tail(&bounce->waiters, &waiter->link);
}

void bounce_leave(struct bounce_waiter *waiter)
{
    list_remove(&waiter->link);
}
