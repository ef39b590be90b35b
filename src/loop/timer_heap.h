/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The armed timers of one loop, earliest first: a binary heap of pointers whose room is reserved when a timer
 * is made, so that arming never allocates and never fails.
 */
#ifndef LOOP_TIMER_HEAP_H
#define LOOP_TIMER_HEAP_H

#include <stddef.h>
#include <stdint.h>

#define HEAP_OUT SIZE_MAX /* the position of an entry that is in no heap */

/* Embedded in its owner. */
struct heap_entry {
    uint64_t at_ns;
    size_t position;
};

struct timer_heap {
    struct heap_entry **entries;
    size_t count, room, reserved;
};

/* Makes room for one entry more (0 or -ENOMEM); given back by timer_heap_release. */
int timer_heap_reserve(struct timer_heap *heap);
void timer_heap_release(struct timer_heap *heap);
void timer_heap_finish(struct timer_heap *heap); /* frees the array */

/* Puts an entry in, or moves it to its new time. */
void timer_heap_set(struct timer_heap *heap, struct heap_entry *entry, uint64_t at_ns);
void timer_heap_remove(struct timer_heap *heap, struct heap_entry *entry); /* no-op when it is out */
struct heap_entry *timer_heap_first(const struct timer_heap *heap);        /* NULL: empty */

#endif
