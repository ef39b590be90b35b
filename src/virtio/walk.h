/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From descriptors to a chain: pure functions over descriptors that were copied out of guest memory once, so
 * that they are fuzzed as they are. Virtio 1.2, section 2.7.5.
 */
#ifndef VIRTIO_WALK_H
#define VIRTIO_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/virtio.h>

#define VIRTQ_TABLE_MAX 1024u /* descriptors in an indirect table */

/* As in guest memory (little-endian). */
struct virtq_desc {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

enum walk_step {
    WALK_NEXT,  /* go on with descriptor `next` of the same table */
    WALK_TABLE, /* go on with descriptor 0 of the indirect table at `table` */
    WALK_END,   /* the chain is complete */
    WALK_BAD,   /* malformed; `why` says how */
};

struct walk {
    struct iod_chain *chain;
    unsigned entries;      /* in the table being walked */
    unsigned left;         /* descriptors that may still follow: a chain that is longer has a loop */
    bool indirect;         /* may a descriptor refer to an indirect table */
    uint16_t next;
    uint64_t table;
    unsigned table_entries;
    const char *why;
};

/* Begins a chain at a table of `entries` descriptors. */
void walk_begin(struct walk *walk, struct iod_chain *chain, unsigned entries, bool indirect);
/* Takes one descriptor. After WALK_TABLE the walk expects the first one of that table. */
enum walk_step walk_take(struct walk *walk, const struct virtq_desc *desc);

/* How many new entries the driver offers: avail idx minus ours; -1 if more than the ring can hold. */
int walk_available(uint16_t avail, uint16_t next, uint16_t size);
/* Did the index pass `event` when it went from `before` to `now`? Section 2.7.10. */
bool walk_event_passed(uint16_t event, uint16_t now, uint16_t before);

/* Is this a ring that a guest may ask for? NULL, or what is wrong. Section 2.7. */
const char *walk_ring_check(uint16_t size, uint16_t max, uint64_t desc, uint64_t driver, uint64_t device);

#endif
