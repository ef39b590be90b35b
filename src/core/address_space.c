/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/address_space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- interval sets ---- */

static int set_reserve(struct interval_set *set, unsigned count)
{
    if (count <= set->room) {
        return 0;
    }
    unsigned room = set->room ? set->room * 2 : 4;
    if (room < count) {
        room = count;
    }
    struct interval *items = realloc(set->items, room * sizeof(*items));
    if (!items) {
        return -ENOMEM;
    }
    set->items = items;
    set->room = room;
    return 0;
}

void interval_set_clear(struct interval_set *set)
{
    free(set->items);
    memset(set, 0, sizeof(*set));
}

/* Adjacent also when the one before ends at the very top: no wrap. */
static bool touches(const struct interval *item, uint64_t start, uint64_t end)
{
    bool before = item->end < start && item->end + 1 != start;
    bool after = end < item->start && end + 1 != item->start;
    return !before && !after;
}

bool interval_set_touches(const struct interval_set *set, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < set->count; i++) {
        if (touches(&set->items[i], start, end)) {
            return true;
        }
    }
    return false;
}

int interval_set_add(struct interval_set *set, uint64_t start, uint64_t end)
{
    int result = set_reserve(set, set->count + 1);
    if (result) {
        return result;
    }
    unsigned kept = 0, at = 0;
    for (unsigned i = 0; i < set->count; i++) {
        struct interval item = set->items[i];
        if (touches(&item, start, end)) {
            start = item.start < start ? item.start : start;
            end = item.end > end ? item.end : end;
        } else {
            if (item.end < start) {
                at = kept + 1;
            }
            set->items[kept++] = item;
        }
    }
    memmove(&set->items[at + 1], &set->items[at], (kept - at) * sizeof(set->items[0]));
    set->items[at] = (struct interval){start, end};
    set->count = kept + 1;
    return 0;
}

int interval_set_remove(struct interval_set *set, uint64_t start, uint64_t end)
{
    int result = set_reserve(set, set->count + 1);
    if (result) {
        return result;
    }
    for (unsigned i = 0; i < set->count;) {
        struct interval *item = &set->items[i];
        if (item->end < start || item->start > end) {
            i++;
        } else if (item->start < start && item->end > end) {
            memmove(item + 1, item, (set->count - i) * sizeof(*item));
            set->count++;
            item[0].end = start - 1;
            item[1].start = end + 1;
            return 0;
        } else if (item->start < start) {
            item->end = start - 1;
            i++;
        } else if (item->end > end) {
            item->start = end + 1;
            i++;
        } else {
            memmove(item, item + 1, (set->count - i - 1) * sizeof(*item));
            set->count--;
        }
    }
    return 0;
}

int interval_set_minus(struct interval_set *result, const struct interval_set *a,
                       const struct interval_set *b)
{
    for (unsigned i = 0; i < a->count; i++) {
        int error = interval_set_add(result, a->items[i].start, a->items[i].end);
        if (error) {
            return error;
        }
    }
    for (unsigned i = 0; i < b->count; i++) {
        int error = interval_set_remove(result, b->items[i].start, b->items[i].end);
        if (error) {
            return error;
        }
    }
    return 0;
}

/* ---- the space ---- */

void address_space_init(struct address_space *space, uint64_t limit)
{
    memset(space, 0, sizeof(*space));
    space->limit = limit;
    list_init(&space->placements);
}

void address_space_finish(struct address_space *space)
{
    struct placement *placement;
    list_for_each(placement, &space->placements, struct placement, link) {
        list_remove(&placement->link);
        if (!placement->region) {
            free(placement);
        }
    }
    free(space->segments);
    interval_set_clear(&space->claimed);
    memset(space, 0, sizeof(*space));
    list_init(&space->placements);
}

int address_space_place(struct address_space *space, struct placement *placement, uint64_t base,
                        uint64_t length)
{
    if (!length || base > space->limit || length - 1 > space->limit - base) {
        return -ERANGE;
    }
    list_remove(&placement->link);
    placement->start = base;
    placement->end = base + (length - 1);
    list_add_tail(&space->placements, &placement->link);
    space->dirty = true;
    return 0;
}

void address_space_remove(struct address_space *space, struct placement *placement)
{
    if (!list_empty(&placement->link)) {
        list_remove(&placement->link);
        space->dirty = true;
    }
}

void address_space_forget(struct address_space *space, const struct iod_region *region)
{
    for (unsigned i = 0; i < space->segment_count; i++) {
        if (space->segments[i].region == region) {
            space->segments[i].region = NULL;
        }
    }
}

int address_space_add_hole(struct address_space *space, uint64_t start, uint64_t end)
{
    struct placement *known;
    list_for_each(known, &space->placements, struct placement, link) {
        if (!known->region && known->start <= start && known->end >= end) {
            return 0; /* the same place as before: holes don't pile up */
        }
    }
    struct placement *hole = calloc(1, sizeof(*hole));
    if (!hole) {
        return -ENOMEM;
    }
    hole->start = start;
    hole->end = end;
    list_add_head(&space->placements, &hole->link);
    space->dirty = true;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The topmost placement that covers the address. */
static const struct placement *top_at(const struct address_space *space, uint64_t address)
{
    for (struct list *l = space->placements.prev; l != &space->placements; l = l->prev) {
        const struct placement *placement = list_entry(l, struct placement, link);
        if (placement->start <= address && address <= placement->end) {
            return placement;
        }
    }
    return NULL;
}

static bool continues(const struct segment *last, const struct placement *placement, uint64_t start)
{
    return last->end + 1 == start && last->region == placement->region && last->base == placement->start;
}

/* Between two neighbouring edges the visible placement never changes. */
static int build_segments(const struct address_space *space, struct segment **segments, unsigned *count)
{
    unsigned placements = 0;
    for (struct list *l = space->placements.next; l != &space->placements; l = l->next) {
        placements++;
    }
    unsigned edge_count = 0;
    uint64_t *edges = calloc(2 * placements + 1, sizeof(*edges));
    *segments = calloc(2 * placements + 1, sizeof(**segments));
    *count = 0;
    if (!edges || !*segments) {
        free(edges);
        free(*segments);
        return -ENOMEM;
    }
    for (struct list *l = space->placements.next; l != &space->placements; l = l->next) {
        const struct placement *placement = list_entry(l, struct placement, link);
        edges[edge_count++] = placement->start;
        if (placement->end < space->limit) {
            edges[edge_count++] = placement->end + 1;
        }
    }
    qsort(edges, edge_count, sizeof(*edges), by_value);
    for (unsigned i = 0; i < edge_count; i++) {
        if (i + 1 < edge_count && edges[i] == edges[i + 1]) {
            continue;
        }
        uint64_t end = i + 1 < edge_count ? edges[i + 1] - 1 : space->limit;
        const struct placement *top = top_at(space, edges[i]);
        if (!top) {
            continue;
        }
        if (*count && continues(&(*segments)[*count - 1], top, edges[i])) {
            (*segments)[*count - 1].end = end;
        } else {
            (*segments)[(*count)++] =
                (struct segment){.start = edges[i], .end = end, .base = top->start, .region = top->region};
        }
    }
    free(edges);
    return 0;
}

int address_space_commit(struct address_space *space, struct interval_set *gained, struct interval_set *lost)
{
    memset(gained, 0, sizeof(*gained));
    memset(lost, 0, sizeof(*lost));
    if (!space->dirty) {
        return 0;
    }
    struct segment *segments;
    unsigned count;
    struct interval_set claimed = {0};
    int error = build_segments(space, &segments, &count);
    if (error) {
        return error;
    }
    for (unsigned i = 0; i < count && !error; i++) {
        error = interval_set_add(&claimed, segments[i].start, segments[i].end);
    }
    if (!error) {
        error = interval_set_minus(gained, &claimed, &space->claimed);
    }
    if (!error) {
        error = interval_set_minus(lost, &space->claimed, &claimed);
    }
    if (error) {
        free(segments);
        interval_set_clear(&claimed);
        interval_set_clear(gained);
        interval_set_clear(lost);
        return error;
    }
    free(space->segments);
    interval_set_clear(&space->claimed);
    space->segments = segments;
    space->segment_count = count;
    space->claimed = claimed;
    space->dirty = false;
    return 0;
}

const struct segment *address_space_find(const struct address_space *space, uint64_t address,
                                         uint64_t *gap_end)
{
    unsigned low = 0, high = space->segment_count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        const struct segment *segment = &space->segments[middle];
        if (address < segment->start) {
            high = middle;
        } else if (address > segment->end) {
            low = middle + 1;
        } else {
            return segment;
        }
    }
    *gap_end = low < space->segment_count ? space->segments[low].start - 1 : UINT64_MAX;
    return NULL;
}
