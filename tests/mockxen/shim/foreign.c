/* SPDX-License-Identifier: BSD-2-Clause */
#include "foreign.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct foreign_run *runs;
static size_t nr_runs, cap_runs;

static uintptr_t run_end(const struct foreign_run *r)
{
    return r->addr + (uintptr_t)r->pages * PAGE;
}

/** Index of the first run that ends above addr. */
static size_t find(uintptr_t addr)
{
    size_t lo = 0, hi = nr_runs, mid;

    while (lo < hi) {
        mid = lo + (hi - lo) / 2;
        if (run_end(&runs[mid]) <= addr) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static int insert(size_t at, const struct foreign_run *run)
{
    struct foreign_run *more;

    if (nr_runs == cap_runs) {
        more = realloc(runs, (cap_runs ? 2 * cap_runs : 64) * sizeof(*runs));
        if (!more) {
            return -1;
        }
        runs = more;
        cap_runs = cap_runs ? 2 * cap_runs : 64;
    }
    memmove(&runs[at + 1], &runs[at], (nr_runs - at) * sizeof(*runs));
    runs[at] = *run;
    nr_runs++;
    return 0;
}

int foreign_add(const struct foreign_run *run)
{
    int rc;

    pthread_rwlock_wrlock(&lock);
    rc = insert(find(run->addr), run);
    pthread_rwlock_unlock(&lock);
    return rc;
}

static struct foreign_run part(const struct foreign_run *r, uintptr_t from, uintptr_t to)
{
    struct foreign_run p = *r;

    p.addr = from;
    p.pages = (uint32_t)((to - from) / PAGE);
    p.frame = r->frame == FOREIGN_HOLE ? FOREIGN_HOLE : r->frame + (uint32_t)((from - r->addr) / PAGE);
    return p;
}

void foreign_cut(uintptr_t addr, size_t pages, void (*gone)(void *arg, const struct foreign_run *piece),
                 void *arg)
{
    uintptr_t end = addr + pages * PAGE, from, to;
    struct foreign_run r, piece;
    size_t at;

    pthread_rwlock_wrlock(&lock);
    for (at = find(addr); at < nr_runs && runs[at].addr < end;) {
        r = runs[at];
        from = r.addr > addr ? r.addr : addr;
        to = run_end(&r) < end ? run_end(&r) : end;
        piece = part(&r, from, to);
        nr_runs--;
        memmove(&runs[at], &runs[at + 1], (nr_runs - at) * sizeof(*runs));
        /* What stays at either side was there before: after a removal and within the old capacity but for
         * one. */
        if (to < run_end(&r)) {
            struct foreign_run tail = part(&r, to, run_end(&r));

            (void)insert(at, &tail);
        }
        if (r.addr < from) {
            struct foreign_run head = part(&r, r.addr, from);

            (void)insert(at++, &head);
        }
        gone(arg, &piece);
    }
    pthread_rwlock_unlock(&lock);
}

bool mockxen_is_foreign(const void *addr, size_t len)
{
    uintptr_t at = (uintptr_t)addr;
    bool hit = false;
    size_t i;

    if (!len) {
        return false;
    }
    pthread_rwlock_rdlock(&lock);
    i = find(at);
    hit = i < nr_runs && runs[i].addr < at + len;
    pthread_rwlock_unlock(&lock);
    return hit;
}
