/* SPDX-License-Identifier: BSD-2-Clause */
/* libxenforeignmemory: mockxen names the frames, we map them from the domain's memfd, one mmap per run of
 * frames. */
#include "shim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xenforeignmemory.h>

#include "foreign.h"

#define FDS 512u    /* frames' descriptors kept open, one a domain */

struct xenforeignmemory_handle {
    struct shim shim;
    Xentoolcore__Active_Handle ah;
    int restricted;
    pthread_mutex_t lock;
    struct { uint32_t domid, gen; int fd; } fds[FDS];   /* at domid % FDS */
};

struct xenforeignmemory_resource_handle {
    domid_t domid;
    uint32_t gen;
    uint32_t frame[2];
    unsigned long nr;
    void *addr;
};

static int restrict_cb(Xentoolcore__Active_Handle *ah, domid_t domid)
{
    return xenforeignmemory_restrict(
        (xenforeignmemory_handle *)((char *)ah - offsetof(xenforeignmemory_handle, ah)), domid);
}

xenforeignmemory_handle *xenforeignmemory_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    xenforeignmemory_handle *h;

    (void)logger;
    if (open_flags) {
        errno = EINVAL;
        return NULL;
    }
    h = calloc(1, sizeof(*h));
    if (!h || shim_open(&h->shim) < 0) {
        free(h);
        return NULL;
    }
    for (unsigned i = 0; i < FDS; i++) {
        h->fds[i].fd = -1;
    }
    h->restricted = -1;
    pthread_mutex_init(&h->lock, NULL);
    h->ah.restrict_callback = restrict_cb;
    xentoolcore__register_active_handle(&h->ah);
    return h;
}

int xenforeignmemory_close(xenforeignmemory_handle *h)
{
    if (!h) {
        return 0;
    }
    xentoolcore__deregister_active_handle(&h->ah);
    for (unsigned i = 0; i < FDS; i++) {
        if (h->fds[i].fd >= 0) {
            close(h->fds[i].fd);
        }
    }
    shim_close(&h->shim);
    free(h);
    return 0;
}

int xenforeignmemory_restrict(xenforeignmemory_handle *h, domid_t domid)
{
    struct mx_req req = { .op = MX_RESTRICT, .domid = domid };
    struct mx_rep rep;

    if (shim_call(&h->shim, &req, NULL, 0, &rep, NULL, 0, NULL) < 0) {
        return -1;
    }
    h->restricted = domid;
    return 0;
}

/** Descriptor of a domain's frames; owned by the handle. Called under h->lock. */
static int frames_fd(xenforeignmemory_handle *h, uint32_t domid, uint32_t gen)
{
    struct mx_req req = { .op = MX_FRAMES_FD, .domid = domid };
    struct mx_rep rep;
    unsigned at = domid % FDS;
    int fds[2];

    if (h->fds[at].fd >= 0 && h->fds[at].domid == domid && h->fds[at].gen == gen) {
        return h->fds[at].fd;
    }
    if (shim_call(&h->shim, &req, NULL, 0, &rep, NULL, 0, fds) < 0) {
        return -1;
    }
    if (h->fds[at].fd >= 0) {
        close(h->fds[at].fd);
    }
    h->fds[at].fd = fds[0];
    h->fds[at].domid = domid;
    h->fds[at].gen = (uint32_t)rep.v[0];
    return fds[0];
}

static void drop_fd(xenforeignmemory_handle *h, uint32_t domid, uint32_t gen)
{
    unsigned at = domid % FDS;

    pthread_mutex_lock(&h->lock);
    if (h->fds[at].fd >= 0 && h->fds[at].domid == domid && h->fds[at].gen == gen) {
        close(h->fds[at].fd);
        h->fds[at].fd = -1;
    }
    pthread_mutex_unlock(&h->lock);
}

/** Map one run of consecutive frames over reserved addresses. */
static int map_run(xenforeignmemory_handle *h, const struct foreign_run *run, int prot)
{
    void *want = (void *)run->addr, *got = want;
    int fd;

    if (run->frame != FOREIGN_HOLE) {
        pthread_mutex_lock(&h->lock);
        fd = frames_fd(h, run->domid, run->gen);
        got = fd < 0 ? MAP_FAILED
                     : mmap(want, (size_t)run->pages * MX_PAGE, prot, MAP_SHARED | MAP_FIXED, fd,
                            (off_t)run->frame * MX_PAGE);
        pthread_mutex_unlock(&h->lock);
    }
    return got == want ? foreign_add(run) : -1;
}

/** Map `nr` pages of one reply at `base`. */
static int map_chunk(xenforeignmemory_handle *h, uint32_t dom, uint32_t gen, char *base, int prot,
                     const int32_t *frame, size_t nr)
{
    struct foreign_run run = { .domid = dom, .gen = gen };
    size_t i, n;

    for (i = 0; i < nr; i += n) {
        run.addr = (uintptr_t)base + i * MX_PAGE;
        run.frame = frame[i] < 0 ? FOREIGN_HOLE : (uint32_t)frame[i];
        for (n = 1; i + n < nr; n++) {
            if (frame[i] < 0 ? frame[i + n] >= 0 : frame[i + n] != frame[i] + (int32_t)n) {
                break;
            }
        }
        run.pages = (uint32_t)n;
        if (map_run(h, &run, prot) < 0) {
            return -1;
        }
    }
    return 0;
}

/** Ask for the pages, map them, fill err[]. Returns -1 + errno only if nothing may be said page by page. */
static int map_all(xenforeignmemory_handle *h, uint32_t dom, char *base, int prot, size_t num,
                   const xen_pfn_t arr[], int err[])
{
    int32_t frame[MX_MAP_CHUNK];
    struct mx_rep rep;
    size_t at, nr;

    for (at = 0; at < num; at += nr) {
        nr = num - at < MX_MAP_CHUNK ? num - at : MX_MAP_CHUNK;
        struct mx_req req = { .op = MX_MAP, .domid = dom, .a = { nr } };

        if (shim_call(&h->shim, &req, &arr[at], nr * sizeof(*arr), &rep, frame, sizeof(frame), NULL) < 0) {
            if (errno != ESRCH) {
                return -1;
            }
            /* no such domain: every page fails by itself */
            for (size_t i = 0; i < nr; i++) {
                frame[i] = -ESRCH;
            }
            rep.v[0] = 0;
        }
        for (size_t i = 0; i < nr; i++) {
            err[at + i] = frame[i] < 0 ? frame[i] : 0;
        }
        if (map_chunk(h, dom, (uint32_t)rep.v[0], base + at * MX_PAGE, prot, frame, nr) < 0) {
            return -1;
        }
    }
    return 0;
}

void *xenforeignmemory_map2(xenforeignmemory_handle *h, uint32_t dom, void *addr, int prot, int flags,
                            size_t num, const xen_pfn_t arr[], int err[])
{
    int *errs = err, saved = 0;
    void *base;

    if (!num) {
        errno = EINVAL;
        return NULL;
    }
    if (h->restricted >= 0 && (uint32_t)h->restricted != dom) {
        errno = EPERM;
        return NULL;
    }
    if (!errs) {
        errs = malloc(num * sizeof(*errs));
        if (!errs) {
            return NULL;
        }
    }
    base = mmap(addr, num * MX_PAGE, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (flags & MAP_FIXED), -1, 0);
    if (base == MAP_FAILED) {
        saved = errno;
        base = NULL;
    } else if (map_all(h, dom, base, prot, num, arr, errs) < 0) {
        saved = errno;
    } else {
        for (size_t i = 0; !err && !saved && i < num; i++) {
            saved = -errs[i];
        }
    }
    if (saved && base) {
        (void)xenforeignmemory_unmap(h, base, num);
        base = NULL;
    }
    if (!err) {
        free(errs);
    }
    if (!base) {
        errno = saved;
    }
    return base;
}

void *xenforeignmemory_map(xenforeignmemory_handle *h, uint32_t dom, int prot, size_t pages,
                           const xen_pfn_t arr[], int err[])
{
    return xenforeignmemory_map2(h, dom, NULL, prot, 0, pages, arr, err);
}

/** Give references back: one message per run, for runs of one mapping nearly always are one. */
static void put_run(void *arg, const struct foreign_run *piece)
{
    xenforeignmemory_handle *h = arg;
    uint32_t run[2] = { piece->frame, piece->pages };
    struct mx_req req = { .op = MX_UNMAP, .domid = piece->domid, .a = { piece->gen, 0 } };
    struct mx_rep rep;

    if (piece->frame != FOREIGN_HOLE &&
        shim_call(&h->shim, &req, run, sizeof(run), &rep, NULL, 0, NULL) >= 0 && rep.v[0]) {
        drop_fd(h, piece->domid, piece->gen); /* the last page of a dead domain: let its memory go */
    }
}

int xenforeignmemory_unmap(xenforeignmemory_handle *h, void *addr, size_t num)
{
    if (munmap(addr, num * MX_PAGE) < 0) {
        return -1;
    }
    foreign_cut((uintptr_t)addr, num, put_run, h);
    return 0;
}

/** Map the frames of a resource, kept out of the foreign registry's unmap but not out of its look-up. */
static void *map_frames(xenforeignmemory_handle *h, xenforeignmemory_resource_handle *r, int prot, int flags)
{
    size_t len = r->nr * MX_PAGE;
    char *base = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *page = base;
    int fd;

    if (base == MAP_FAILED) {
        return NULL;
    }
    pthread_mutex_lock(&h->lock);
    fd = frames_fd(h, r->domid, r->gen);
    for (unsigned long i = 0; i < r->nr && page != MAP_FAILED; i++) {
        page = fd < 0 ? MAP_FAILED
                      : mmap(base + i * MX_PAGE, MX_PAGE, prot,
                             (flags & MAP_PRIVATE ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED, fd,
                             (off_t)r->frame[i] * MX_PAGE);
    }
    pthread_mutex_unlock(&h->lock);
    if (page == MAP_FAILED) {
        munmap(base, len);
        return NULL;
    }
    return base;
}

static void put_resource(xenforeignmemory_handle *h, const xenforeignmemory_resource_handle *r)
{
    struct mx_req req = { .op = MX_UNMAP, .domid = r->domid, .a = { r->gen, 1 } };
    uint32_t runs[4] = { r->frame[0], 1, r->frame[1], 1 };
    struct mx_rep rep;

    if (shim_call(&h->shim, &req, runs, r->nr * 8, &rep, NULL, 0, NULL) >= 0 && rep.v[0]) {
        drop_fd(h, r->domid, r->gen);
    }
}

xenforeignmemory_resource_handle *xenforeignmemory_map_resource(xenforeignmemory_handle *h, domid_t domid,
                                                                unsigned int type, unsigned int id,
                                                                unsigned long frame, unsigned long nr_frames,
                                                                void **paddr, int prot, int flags)
{
    struct mx_req req = { .op = MX_RES_MAP, .domid = domid, .a = { type, id, frame, nr_frames } };
    xenforeignmemory_resource_handle *r;
    struct mx_rep rep;
    int err;

    if (flags & ~(MAP_SHARED | MAP_PRIVATE)) {
        errno = EINVAL;
        return NULL;
    }
    r = calloc(1, sizeof(*r));
    if (!r) {
        return NULL;
    }
    r->domid = domid;
    if (shim_call(&h->shim, &req, NULL, 0, &rep, r->frame, sizeof(r->frame), NULL) < 0) {
        goto fail;
    }
    r->nr = nr_frames;
    r->gen = (uint32_t)rep.v[0];
    r->addr = map_frames(h, r, prot, flags);
    if (!r->addr) {
        put_resource(h, r);
        goto fail;
    }
    *paddr = r->addr;
    return r;
fail:
    err = errno;
    free(r);
    errno = err;
    return NULL;
}

int xenforeignmemory_unmap_resource(xenforeignmemory_handle *h, xenforeignmemory_resource_handle *r)
{
    int rc;

    if (!r) {
        return 0;
    }
    rc = munmap(r->addr, r->nr * MX_PAGE);
    put_resource(h, r);
    free(r);
    return rc;
}

int xenforeignmemory_resource_size(xenforeignmemory_handle *h, domid_t domid, unsigned int type,
                                   unsigned int id, size_t *size)
{
    struct mx_req req = { .op = MX_RES_SIZE, .domid = domid, .a = { type, id } };
    struct mx_rep rep;

    if (shim_call(&h->shim, &req, NULL, 0, &rep, NULL, 0, NULL) < 0) {
        return -1;
    }
    *size = (size_t)rep.v[0];
    return 0;
}
