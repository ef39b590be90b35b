/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who is visible where in one space of a guest (ports, or physical addresses). Regions may overlap: the one
 * placed last is on top. Changes take effect at address_space_commit, which tells what the hypervisor must
 * learn.
 */
#ifndef CORE_ADDRESS_SPACE_H
#define CORE_ADDRESS_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/list.h"

struct iod_region;

struct segment {
    uint64_t start, end;       /* inclusive */
    uint64_t base;             /* where the region begins */
    struct iod_region *region; /* NULL: a hole that a removed device left (reads 0) */
};

struct interval {
    uint64_t start, end; /* inclusive */
};

struct interval_set { /* sorted, disjoint, never adjacent */
    struct interval *items;
    unsigned count, room;
};

struct placement {
    struct list link;
    struct iod_region *region; /* NULL: a hole, owned by the space */
    uint64_t start, end;
};

struct address_space {
    uint64_t limit;         /* the last address */
    struct list placements; /* bottom to top */
    struct segment *segments;
    unsigned segment_count;
    struct interval_set claimed; /* the union of the segments */
    bool dirty;
};

void address_space_init(struct address_space *space, uint64_t limit);
void address_space_finish(struct address_space *space);

/* The placement is embedded in the region. -ERANGE if it does not fit. */
int address_space_place(struct address_space *space, struct placement *placement, uint64_t base,
                        uint64_t length);
void address_space_remove(struct address_space *space, struct placement *placement);
/* The region is about to be freed: until the next commit its segments read 0, as a hole does. */
void address_space_forget(struct address_space *space, const struct iod_region *region);
/* Keeps the range claimed below everything else. -ENOMEM. */
int address_space_add_hole(struct address_space *space, uint64_t start, uint64_t end);

/*
 * Rebuilds the view; `gained` and `lost` say how `claimed` changed (the caller frees both). -ENOMEM: nothing
 * changed.
 */
int address_space_commit(struct address_space *space, struct interval_set *gained, struct interval_set *lost);

/*
 * The segment that holds the address, or NULL and *gap_end = the last address before the next segment. O(log
 * n).
 */
const struct segment *address_space_find(const struct address_space *space, uint64_t address,
                                         uint64_t *gap_end);

/* ---- interval sets; -ENOMEM leaves the set as it was ---- */
int interval_set_add(struct interval_set *set, uint64_t start, uint64_t end);
int interval_set_remove(struct interval_set *set, uint64_t start, uint64_t end);
/* a minus b, into an empty set. */
int interval_set_minus(struct interval_set *result, const struct interval_set *a,
                       const struct interval_set *b);
void interval_set_clear(struct interval_set *set);
/* adjacent or overlapping */
bool interval_set_touches(const struct interval_set *set, uint64_t start, uint64_t end);

#endif
