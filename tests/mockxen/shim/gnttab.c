/* SPDX-License-Identifier: BSD-2-Clause */
/* libxengnttab: grants map whole or not at all; their pages take direct I/O. gntalloc and dmabuf are absent,
 * as on a Debian dom0 without those modules. */
#include "shim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xengnttab.h>

#define MAX_COUNT 65536u
#define CHUNK 1024u         /* grants in one message */
#define COPY_PAGES 1u

/** One mapping, found again by its address. */
struct mapping {
    struct mapping *next;
    void *addr;
    uint32_t count;
    uint8_t *notify;        /* byte to clear at unmap, or NULL */
    struct mx_gmap page[];
};

struct xengntdev_handle {
    struct shim shim;
    Xentoolcore__Active_Handle ah;
    pthread_mutex_t lock;
    struct mapping *maps;
};

static int restrict_cb(Xentoolcore__Active_Handle *ah, domid_t domid)
{
    xengnttab_handle *h = (xengnttab_handle *)((char *)ah - offsetof(struct xengntdev_handle, ah));

    (void)domid;
    return xentoolcore__restrict_by_dup2_null(h->shim.fd);
}

xengnttab_handle *xengnttab_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    xengnttab_handle *h;

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
    pthread_mutex_init(&h->lock, NULL);
    h->ah.restrict_callback = restrict_cb;
    xentoolcore__register_active_handle(&h->ah);
    return h;
}

/** The kernel ends an mmap that outlives the file only at munmap; here the records go, the process's end does
 * the rest. */
int xengnttab_close(xengnttab_handle *h)
{
    struct mapping *m;

    if (!h) {
        return 0;
    }
    xentoolcore__deregister_active_handle(&h->ah);
    while ((m = h->maps)) {
        h->maps = m->next;
        free(m);
    }
    shim_close(&h->shim);
    free(h);
    return 0;
}

int xengnttab_fd(xengnttab_handle *h)
{
    return h->shim.fd;
}

int xengnttab_set_max_grants(xengnttab_handle *h, uint32_t nr_grants)
{
    (void)h;
    (void)nr_grants;
    return 0;
}

static void put_grants(xengnttab_handle *h, const struct mx_gmap *page, uint32_t nr)
{
    struct mx_rep rep;
    uint32_t at, n;

    for (at = 0; at < nr; at += n) {
        struct mx_req req = { .op = MX_GNT_UNMAP };

        n = nr - at < CHUNK ? nr - at : CHUNK;
        (void)shim_call(&h->shim, &req, &page[at], n * sizeof(*page), &rep, NULL, 0, NULL);
    }
}

/** Ask for all references; none is held if one fails. */
static int get_grants(xengnttab_handle *h, const struct mx_gref *ref, struct mx_gmap *page, uint32_t nr,
                      int prot)
{
    struct mx_rep rep;
    uint32_t at, n;
    int err;

    for (at = 0; at < nr; at += n) {
        n = nr - at < CHUNK ? nr - at : CHUNK;
        struct mx_req req = { .op = MX_GNT_MAP, .a = { n, !!(prot & PROT_WRITE) } };

        if (shim_call(&h->shim, &req, &ref[at], n * sizeof(*ref), &rep, &page[at], n * sizeof(*page), NULL) <
            0) {
            err = errno;
            put_grants(h, page, at);
            errno = err;
            return -1;
        }
    }
    return 0;
}

static int frames_fd(xengnttab_handle *h, uint32_t domid)
{
    struct mx_req req = { .op = MX_FRAMES_FD, .domid = domid };
    struct mx_rep rep;
    int fds[2];

    return shim_call(&h->shim, &req, NULL, 0, &rep, NULL, 0, fds) < 0 ? -1 : fds[0];
}

static void *map_pages(xengnttab_handle *h, const struct mx_gmap *page, uint32_t nr, int prot)
{
    char *base =
        mmap(NULL, (size_t)nr * MX_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *got = base;
    uint32_t domid = 0;
    int fd = -1;

    for (uint32_t i = 0; base != MAP_FAILED && got != MAP_FAILED && i < nr; i++) {
        if (fd < 0 || page[i].domid != domid) {
            if (fd >= 0) {
                close(fd);
            }
            domid = page[i].domid;
            fd = frames_fd(h, domid);
        }
        got = fd < 0 ? MAP_FAILED
                     : mmap(base + (size_t)i * MX_PAGE, MX_PAGE, prot, MAP_SHARED | MAP_FIXED, fd,
                            (off_t)page[i].frame * MX_PAGE);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (got == MAP_FAILED && base != MAP_FAILED) {
        munmap(base, (size_t)nr * MX_PAGE);
    }
    return got == MAP_FAILED ? NULL : base;
}

static void *map_refs(xengnttab_handle *h, uint32_t nr, const struct mx_gref *ref, int prot,
                      struct mapping **out)
{
    struct mapping *m = calloc(1, sizeof(*m) + nr * sizeof(m->page[0]));
    int err;

    if (!m) {
        return NULL;
    }
    m->count = nr;
    if (get_grants(h, ref, m->page, nr, prot) == 0) {
        m->addr = map_pages(h, m->page, nr, prot);
        if (m->addr) {
            pthread_mutex_lock(&h->lock);
            m->next = h->maps;
            h->maps = m;
            pthread_mutex_unlock(&h->lock);
            if (out) {
                *out = m;
            }
            return m->addr;
        }
        put_grants(h, m->page, nr);
        errno = ENOMEM;
    }
    err = errno;
    free(m);
    errno = err;
    return NULL;
}

static void *map_any(xengnttab_handle *h, uint32_t count, const uint32_t *domids, uint32_t domid,
                     const uint32_t *refs, int prot)
{
    struct mx_gref *ref;
    void *addr;
    int err;

    if (!count || count > MAX_COUNT) {
        errno = EINVAL;
        return NULL;
    }
    ref = calloc(count, sizeof(*ref));
    if (!ref) {
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        ref[i].domid = domids ? domids[i] : domid;
        ref[i].ref = refs[i];
    }
    addr = map_refs(h, count, ref, prot, NULL);
    err = errno;
    free(ref);
    errno = err;
    return addr;
}

void *xengnttab_map_grant_ref(xengnttab_handle *h, uint32_t domid, uint32_t ref, int prot)
{
    return map_any(h, 1, NULL, domid, &ref, prot);
}

void *xengnttab_map_grant_refs(xengnttab_handle *h, uint32_t count, uint32_t *domids, uint32_t *refs,
                               int prot)
{
    return map_any(h, count, domids, 0, refs, prot);
}

void *xengnttab_map_domain_grant_refs(xengnttab_handle *h, uint32_t count, uint32_t domid, uint32_t *refs,
                                      int prot)
{
    return map_any(h, count, NULL, domid, refs, prot);
}

void *xengnttab_map_grant_ref_notify(xengnttab_handle *h, uint32_t domid, uint32_t ref, int prot,
                                     uint32_t notify_offset, evtchn_port_t notify_port)
{
    struct mx_gref one = { domid, ref };
    struct mapping *m = NULL;

    if (notify_offset != UINT32_MAX && notify_offset >= MX_PAGE) {
        errno = EINVAL;
        return NULL;
    }
    if (!map_refs(h, 1, &one, prot, &m)) {
        return NULL;
    }
    m->notify = notify_offset == UINT32_MAX ? NULL : (uint8_t *)m->addr + notify_offset;
    (void)notify_port; /* the port belongs to an event channel file this library can't see */
    return m->addr;
}

int xengnttab_unmap(xengnttab_handle *h, void *start_address, uint32_t count)
{
    struct mapping **at, *m;
    int rc = 0;

    pthread_mutex_lock(&h->lock);
    for (at = &h->maps; *at && (*at)->addr != start_address; at = &(*at)->next) {
    }
    m = *at;
    if (!m || m->count != count) {
        errno = EINVAL;
        rc = -1;
    } else {
        *at = m->next;
    }
    pthread_mutex_unlock(&h->lock);
    if (rc) {
        return rc;
    }
    if (m->notify) {
        *m->notify = 0;
    }
    munmap(m->addr, (size_t)count * MX_PAGE);
    put_grants(h, m->page, count);
    free(m);
    return 0;
}

/** Copy one segment through short mappings; the status as Xen's GNTST_*. */
static int16_t copy_segment(xengnttab_handle *h, const xengnttab_grant_copy_segment_t *s)
{
    bool from = s->flags & GNTCOPY_source_gref, to = s->flags & GNTCOPY_dest_gref;
    char *src = s->source.virt, *dst = s->dest.virt;

    if (s->len > MX_PAGE || (from && s->source.foreign.offset + s->len > (int)MX_PAGE) ||
        (to && s->dest.foreign.offset + s->len > (int)MX_PAGE)) {
        return GNTST_bad_copy_arg;
    }
    src = from ? xengnttab_map_grant_ref(h, s->source.foreign.domid, s->source.foreign.ref, PROT_READ) : src;
    dst = to ? xengnttab_map_grant_ref(h, s->dest.foreign.domid, s->dest.foreign.ref, PROT_READ | PROT_WRITE)
             : dst;
    if (src && dst) {
        memcpy(to ? dst + s->dest.foreign.offset : dst, from ? src + s->source.foreign.offset : src, s->len);
    }
    if (from && src) {
        (void)xengnttab_unmap(h, src, COPY_PAGES);
    }
    if (to && dst) {
        (void)xengnttab_unmap(h, dst, COPY_PAGES);
    }
    return src && dst ? GNTST_okay : GNTST_bad_gntref;
}

int xengnttab_grant_copy(xengnttab_handle *h, uint32_t count, xengnttab_grant_copy_segment_t *segs)
{
    if (shim_fault(&h->shim, MOCK_CALL_GRANT_COPY) < 0) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        segs[i].status = copy_segment(h, &segs[i]);
    }
    return 0;
}

static int absent(int err)
{
    errno = err;
    return -1;
}

int xengnttab_dmabuf_exp_from_refs(xengnttab_handle *h, uint32_t domid, uint32_t flags, uint32_t count,
                                   const uint32_t *refs, uint32_t *fd)
{
    (void)h; (void)domid; (void)flags; (void)count; (void)refs; (void)fd;
    return absent(ENOTTY);
}

int xengnttab_dmabuf_exp_wait_released(xengnttab_handle *h, uint32_t fd, uint32_t wait_to_ms)
{
    (void)h; (void)fd; (void)wait_to_ms;
    return absent(ENOTTY);
}

int xengnttab_dmabuf_imp_to_refs(xengnttab_handle *h, uint32_t domid, uint32_t fd, uint32_t count,
                                 uint32_t *refs)
{
    (void)h; (void)domid; (void)fd; (void)count; (void)refs;
    return absent(ENOTTY);
}

int xengnttab_dmabuf_imp_release(xengnttab_handle *h, uint32_t fd)
{
    (void)h; (void)fd;
    return absent(ENOTTY);
}

xengntshr_handle *xengntshr_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    (void)logger; (void)open_flags;
    errno = ENOENT; /* no /dev/xen/gntalloc */
    return NULL;
}

int xengntshr_close(xengntshr_handle *h)
{
    (void)h;
    return 0;
}

int xengntshr_fd(xengntshr_handle *h)
{
    (void)h;
    return absent(EBADF);
}

void *xengntshr_share_pages(xengntshr_handle *h, uint32_t domid, int count, uint32_t *refs, int writable)
{
    (void)h; (void)domid; (void)count; (void)refs; (void)writable;
    errno = EBADF;
    return NULL;
}

void *xengntshr_share_page_notify(xengntshr_handle *h, uint32_t domid, uint32_t *ref, int writable,
                                  uint32_t notify_offset, evtchn_port_t notify_port)
{
    (void)h; (void)domid; (void)ref; (void)writable; (void)notify_offset; (void)notify_port;
    errno = EBADF;
    return NULL;
}

int xengntshr_unshare(xengntshr_handle *h, void *start_address, uint32_t count)
{
    (void)h; (void)start_address; (void)count;
    return absent(EBADF);
}
