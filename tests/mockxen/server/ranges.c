/* SPDX-License-Identifier: BSD-2-Clause */
/* Range sets with Xen's merging: sorted, disjoint, never adjacent; the limit counts merged ranges. */
#include <errno.h>
#include <string.h>

#include "server.h"

bool ranges_overlap(const struct mx_ranges *r, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < r->nr; i++) {
        if (r->r[i].start <= end && start <= r->r[i].end) {
            return true;
        }
    }
    return false;
}

bool ranges_contain(const struct mx_ranges *r, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < r->nr; i++) {
        if (r->r[i].start <= start && end <= r->r[i].end) {
            return true;
        }
    }
    return false;
}

static void drop(struct mx_ranges *r, uint32_t i)
{
    r->nr--;
    memmove(&r->r[i], &r->r[i + 1], (r->nr - i) * sizeof(r->r[0]));
}

static int insert(struct mx_ranges *r, uint32_t i, uint64_t start, uint64_t end)
{
    if (r->nr == MX_MAX_RANGES) {
        return -ENOMEM;
    }
    memmove(&r->r[i + 1], &r->r[i], (r->nr - i) * sizeof(r->r[0]));
    r->nr++;
    r->r[i].start = start;
    r->r[i].end = end;
    return 0;
}

int ranges_add(struct mx_ranges *r, uint64_t start, uint64_t end)
{
    uint32_t i = 0;
    int rc;

    while (i < r->nr && r->r[i].end < start) {
        i++;
    }
    /* Growing the one below needs no new entry; a new one just below its neighbour needs one before they
     * merge. */
    if (i > 0 && r->r[i - 1].end + 1 == start) {
        i--;
        r->r[i].end = end;
    } else {
        rc = insert(r, i, start, end);
        if (rc) {
            return rc;
        }
    }
    if (i + 1 < r->nr && r->r[i].end + 1 == r->r[i + 1].start) {
        r->r[i].end = r->r[i + 1].end;
        drop(r, i + 1);
    }
    return 0;
}

int ranges_remove(struct mx_ranges *r, uint64_t start, uint64_t end)
{
    uint32_t i = 0;
    uint64_t tail;
    int rc;

    while (i < r->nr && !(r->r[i].start <= start && end <= r->r[i].end)) {
        i++;
    }
    if (i == r->nr) {
        return -ENOENT;
    }
    if (r->r[i].start == start && r->r[i].end == end) {
        drop(r, i);
    } else if (r->r[i].start == start) {
        r->r[i].start = end + 1;
    } else if (r->r[i].end == end) {
        r->r[i].end = start - 1;
    } else {
        tail = r->r[i].end;
        rc = insert(r, i + 1, end + 1, tail);
        if (rc) {
            return rc;
        }
        r->r[i].end = start - 1;
    }
    return 0;
}
