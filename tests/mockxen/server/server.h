/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the mockxen process: one thread, one epoll loop; it owns domains, servers, ports and references.
 */
#ifndef MOCKXEN_SERVER_H
#define MOCKXEN_SERVER_H

#include <stdio.h>

#include "../common.h"

struct xen_dm_op;

/** Kinds of references a program holds on frames. */
enum ref_kind { REF_FOREIGN, REF_RESOURCE, REF_GRANT, REF_KINDS };

/** A program; its references end with it. Found by pid, watched by pidfd. */
struct proc {
    struct proc *next;
    pid_t pid;
    int pidfd;
    unsigned conns;
    struct procdom *doms;
};

/** References of one program on one domain. */
struct procdom {
    struct procdom *next;
    struct domain *dom;
    uint16_t *count[REF_KINDS];     /* per frame, allocated on first use */
    struct mx_gref *grants;         /* mapped grant references, one per mapping */
    unsigned nr_grants, cap_grants;
};

/** A range whose cache attribute is pinned; bounds inclusive. */
struct cache_pin {
    bool used;
    uint64_t start, end;
};
#define MAX_PINS 64u

struct domain {
    struct mx_dom *shm;
    struct mx_dom_pub *pub;
    uint32_t *p2m;
    uint32_t *refs;                 /* per frame: p2m or server 1, each mapping 1 */
    uint32_t *free_frames;
    uint32_t nr_free, nr_frames, next_frame;
    int shm_fd, frames_fd;
    uint32_t slot, gen;
    uint16_t domid;
    uint64_t total[REF_KINDS];
    uint32_t special_gfns;          /* HVM's 8 ioreq pages in use, bit each */
    uint32_t vram_nr;               /* track_dirty_vram active */
    uint64_t vram_first;
    struct cache_pin pins[MAX_PINS];
};

struct conn {
    struct conn *next;
    int fd;
    uint16_t caller;
    int restricted;                 /* domid or -1 */
    int handle;                     /* event channel file it speaks for, or -1 */
    bool closed;
    struct proc *proc;
    int64_t due;                    /* a reply is held back until then, 0 = none */
    void *held;
    size_t held_len;
};

struct evt_file {
    int fd;                         /* our end of the stream, -1 = free */
    ino_t ino;                      /* of the other end */
    uint16_t caller;
    int restricted;
};

struct fault { uint32_t countdown, times; bool for_ever, fired; int err; };

struct mx {
    struct mx_global *g;
    int g_fd, kick, epfd, listen;
    struct domain *doms[MX_MAX_DOMS];
    struct evt_file files[MX_MAX_HANDLES];
    uint32_t next_gen;
    uint32_t lport_top;             /* ports from here on were never used */
    uint16_t next_domid;
    struct conn *conns;
    struct proc *procs;
    struct fault fault[MOCK_CALL_MAX];
    uint32_t delay_ms;
    const char *xs_dir;
    FILE *log;
};

/** What a handler gets and fills. `out` holds MX_MSG_MAX bytes. */
struct call {
    struct mx *mx;
    struct conn *conn;
    const struct mx_req *req;
    const uint8_t *data;
    size_t len;
    struct mx_rep *rep;
    uint8_t *out;
    size_t out_len;
    int fds[2];
    unsigned nr_fds;
    bool slow;                      /* a map: subject to the delay */
};

/* domain.c */
struct domain *domain_find(struct mx *mx, uint32_t domid);
int domain_create(struct call *c);
int domain_kill(struct mx *mx, struct domain *d);
int domain_shutdown(struct mx *mx, struct domain *d, unsigned reason);
int domain_info(struct call *c);
int domain_add_vcpu(struct mx *mx, struct domain *d);
/** Free the slot of a killed domain that nobody references. */
void domain_reap(struct mx *mx, struct domain *d);
/** A zeroed frame with one reference, or -ENOMEM. */
int64_t frame_alloc(struct domain *d);
void frame_get(struct domain *d, uint32_t frame);
void frame_put(struct domain *d, uint32_t frame);
int p2m_remove(struct call *c, struct domain *d);
int p2m_add(struct call *c, struct domain *d);

/* dmop.c, server_ops.c */
/** Right of the caller to act on the domain at all, and the domain: 0 or -ESRCH, -EPERM, -EINVAL. */
int dm_target(struct call *c, struct domain **d);
int dm_op(struct call *c);
int dm_server_op(struct mx *mx, struct domain *d, uint16_t caller, struct xen_dm_op *op);
int server_free(struct mx *mx, struct domain *d, unsigned id);
void server_show_port(struct domain *d, struct mx_server *s, unsigned vcpu);
/** A shared page's memory. The mapping lives until unmapped by server_page_done(). */
void *server_page(struct domain *d, uint32_t frame);
void server_page_done(void *page);

/* main.c */
/** Count a call; -errno if an armed fault fires. */
int fault_fires(struct mx *mx, unsigned kind);

/* ranges.c */
int ranges_add(struct mx_ranges *r, uint64_t start, uint64_t end);
int ranges_remove(struct mx_ranges *r, uint64_t start, uint64_t end);
bool ranges_overlap(const struct mx_ranges *r, uint64_t start, uint64_t end);
bool ranges_contain(const struct mx_ranges *r, uint64_t start, uint64_t end);

/* evtchn.c */
int evt_call(struct call *c);
void evt_hup(struct mx *mx, unsigned handle);
void evt_watch(struct mx *mx);
/** Allocate a port of the domain; > 0 or -ENOSPC. */
int gport_alloc(struct domain *d, enum mx_gport_kind kind, uint16_t remote, unsigned vcpu);
void gport_free(struct mx *mx, struct domain *d, uint32_t port);
void evt_virq(struct mx *mx, uint32_t virq);

/* memory.c */
int mem_call(struct call *c);
void proc_release(struct mx *mx, struct proc *p);

/* xsdir.c */
void xs_domain(struct mx *mx, uint16_t domid, const char *what);

#endif
