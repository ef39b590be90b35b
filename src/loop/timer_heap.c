/* SPDX-License-Identifier: BSD-2-Clause */
#include "loop/timer_heap.h"

#include <errno.h>
#include <stdlib.h>

int timer_heap_reserve(struct timer_heap *heap)
{
    if (heap->reserved == heap->room) {
        size_t room = heap->room ? heap->room * 2 : 16;
        struct heap_entry **entries = reallocarray(heap->entries, room, sizeof(*entries));
        if (!entries) {
            return -ENOMEM;
        }
        heap->entries = entries;
        heap->room = room;
    }
    heap->reserved++;
    return 0;
}

void timer_heap_release(struct timer_heap *heap)
{
    heap->reserved--;
}

void timer_heap_finish(struct timer_heap *heap)
{
    free(heap->entries);
    *heap = (struct timer_heap){0};
}

static void place(struct timer_heap *heap, struct heap_entry *entry, size_t position)
{
    heap->entries[position] = entry;
    entry->position = position;
}

/* Moves the entry up or down from `position`, where there is a gap, to where it belongs. */
static void sift(struct timer_heap *heap, struct heap_entry *entry, size_t position)
{
    while (position > 0 && heap->entries[(position - 1) / 2]->at_ns > entry->at_ns) {
        place(heap, heap->entries[(position - 1) / 2], position);
        position = (position - 1) / 2;
    }
    for (;;) {
        size_t child = position * 2 + 1;
        if (child + 1 < heap->count && heap->entries[child + 1]->at_ns < heap->entries[child]->at_ns) {
            child++;
        }
        if (child >= heap->count || heap->entries[child]->at_ns >= entry->at_ns) {
            break;
        }
        place(heap, heap->entries[child], position);
        position = child;
    }
    place(heap, entry, position);
}

void timer_heap_set(struct timer_heap *heap, struct heap_entry *entry, uint64_t at_ns)
{
    entry->at_ns = at_ns;
    sift(heap, entry, entry->position == HEAP_OUT ? heap->count++ : entry->position);
}

void timer_heap_remove(struct timer_heap *heap, struct heap_entry *entry)
{
    size_t position = entry->position;

    if (position == HEAP_OUT) {
        return;
    }
    entry->position = HEAP_OUT;
    struct heap_entry *last = heap->entries[--heap->count];
    if (last != entry) {
        sift(heap, last, position);
    }
}

struct heap_entry *timer_heap_first(const struct timer_heap *heap)
{
    return heap->count ? heap->entries[0] : NULL;
}
