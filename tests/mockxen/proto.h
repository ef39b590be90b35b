/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What mockxen, the shim libraries and the guest library share: the messages on the control socket and the
 * layout of the two kinds of shared memory. The hot path (access, notify, interrupt) uses shared memory only;
 * mockxen itself owns every change of servers, ranges, ports and the physmap, and makes it under the domain's
 * lock.
 */
#ifndef MOCKXEN_PROTO_H
#define MOCKXEN_PROTO_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest.h"

#define MX_PAGE 4096u
#define MX_MAX_DOMS 1024u       /* slots; zombies keep theirs */
#define MX_MAX_DOMID 0x7ff0u    /* DOMID_FIRST_RESERVED */
#define MX_MAX_VCPUS 128u
#define MX_MAX_SERVERS 8u
#define MX_MAX_RANGES 256u
#define MX_MAX_HANDLES 1024u    /* event channel files open at once */
#define MX_LPORTS 65536u        /* emulators' local ports */
#define MX_GPORTS 1024u         /* a domain's own ports: libxl's default limit is 1023 */
#define MX_MAX_GFN (1u << 24)   /* 64 GiB of guest-physical space */
#define MX_GRANTS 8192u
#define MX_GSIS 48u
#define MX_SPIS 288u            /* INTIDs below this exist: 32 + 256 */
#define MX_MSIS 1024u           /* distinct (address, data) pairs kept */
#define MX_MSG_MAX (64u * 1024)
#define MX_MAP_CHUNK 4096u      /* pages in one map message */
#define MX_PANICS 64u
#define MX_PANIC_LEN 120u

/* ---- physmap entries: frame + 1 in the low bits, memory type above; 0 is a hole */
#define MX_P2M_FRAME 0x0fffffffu
#define MX_P2M_TYPE_SHIFT 28

/* ---- global shared memory: one per instance */

/** Rules that MOCKXEN_BREAK=NAME makes the mock get wrong, so that a test can see the conformance run notice.
 */
#define MX_BREAKS(X) \
    X(NINE_SERVERS, "nine-servers") X(OVERLAP, "overlap-allowed") X(BIND_TWICE, "bind-twice") \
    X(LOWEST_FIRST, "lowest-id-first") X(READS_ZERO, "none-reads-zero") X(PAGE_SPLIT, "no-page-split") \
    X(INVALIDATE, "no-invalidate") X(HOLE_MAPS, "hole-maps") X(MSI_MODE, "msi-mode-unchecked") \
    X(WIRES_REPEAT, "wires-repeat")
#define MX_BREAK_ENUM(id, name) MX_BREAK_##id,
enum mx_break { MX_BREAKS(MX_BREAK_ENUM) MX_BREAK_NR };

enum mx_lport_kind { MX_LP_FREE, MX_LP_UNBOUND, MX_LP_XEN, MX_LP_GUEST, MX_LP_VIRQ, MX_LP_DEAD };
#define MX_MASKED 1u
#define MX_PENDING 2u

/** A port in an emulator's hands. `flags` change under the handle's lock; the rest is mockxen's. */
struct mx_lport {
    _Atomic uint32_t flags;
    _Atomic uint32_t kind;
    _Atomic uint32_t handle;    /* index + 1 of the owner, 0 = free */
    uint16_t slot;              /* domain slot of the peer */
    uint16_t vcpu;              /* vCPU that a notification wakes */
    uint32_t gport;             /* peer's port; for MX_LP_VIRQ the VIRQ */
    uint32_t remote;            /* domid */
};

/** An open event channel file. */
struct mx_handle {
    pthread_mutex_t lock;       /* robust: covers sends, drains and port flags */
    _Atomic uint32_t gen;       /* 0 = free */
    _Atomic uint32_t watch;     /* a masked port got pending: mockxen must look at unmasks */
    uint32_t partial_len;       /* bytes of an unmask cut in the middle */
    uint8_t partial[4];
};

/** What everybody may know of a domain. */
struct mx_dom_pub {
    _Atomic uint32_t gen;       /* 0 = slot free */
    _Atomic uint32_t dying;
    _Atomic uint32_t drop_all;  /* swallow events towards emulators */
    uint16_t domid;
    uint8_t profile;            /* enum mock_profile */
    uint8_t type_unknown;
    uint32_t nr_vcpus;
    uint32_t target_of;         /* domid of its stub domain, 0 = none */
    _Atomic uint32_t wake[MX_MAX_VCPUS]; /* futex: bumped by each notification towards the vCPU */
};

struct mx_global {
    uint32_t magic, size;
    _Atomic uint32_t armed[MOCK_CALL_MAX];  /* a fault waits: ask mockxen before the call */
    _Atomic uint64_t calls[MOCK_CALL_MAX];
    uint32_t breaks;                        /* 1 << enum mx_break: rules broken on purpose */
    _Atomic uint32_t panics;
    char panic_text[MX_PANICS][MX_PANIC_LEN];
    uint16_t slot_of[MX_MAX_DOMID];         /* slot + 1 of a domid */
    struct mx_handle handles[MX_MAX_HANDLES];
    struct mx_dom_pub doms[MX_MAX_DOMS];
    struct mx_lport lports[MX_LPORTS];
};
#define MX_MAGIC 0x6d6f636bu

/* ---- per-domain shared memory */

struct mx_pin {
    uint8_t level, masked, irr, unused;
    uint32_t asserted;          /* wires */
    uint64_t delivered;
};

/** Interrupt state; changed by the shims themselves, under the domain's lock. */
struct mx_irq {
    _Atomic uint32_t seq;       /* futex: bumped by each delivery or change of a line */
    uint32_t isa;               /* wire bits */
    uint8_t intx[32];           /* 4 wire bits per device */
    uint8_t route[4];
    struct mx_pin pin[MX_GSIS];
    uint64_t msi_total, msi_lost;
    struct { uint64_t addr; uint32_t data, used; uint64_t count; } msi[MX_MSIS];
    struct { uint32_t pending, count; } spi[MX_SPIS];
    uint32_t event_pending[MX_MAX_VCPUS];
};

struct mx_ranges {
    uint32_t nr;
    struct { uint64_t start, end; } r[MX_MAX_RANGES];
};

struct mx_server {
    uint32_t used, gen, enabled, bufmode, owner;
    uint32_t ioreq_frame, buf_frame;        /* frame + 1, 0 = none */
    uint32_t by_gfn, by_resource;
    uint32_t buf_port;
    uint32_t port[MX_MAX_VCPUS];            /* domain's own port numbers */
    struct mx_ranges ranges[3];
};

enum mx_gport_kind { MX_GP_FREE, MX_GP_RESERVED, MX_GP_XEN, MX_GP_GUEST };
struct mx_gport {
    _Atomic uint32_t peer;      /* local port of the emulator, 0 = unbound */
    _Atomic uint32_t count;     /* notifications that arrived (MX_GP_GUEST) */
    uint16_t remote;            /* who may bind */
    uint8_t kind, vcpu;
};

struct mx_grant {
    uint32_t gfn, flags;        /* MX_GRANT_* */
    uint16_t domid;
    uint16_t unused;
    _Atomic uint32_t maps;
};
#define MX_GRANT_VALID 1u
#define MX_GRANT_RDONLY 2u

struct mx_dom {
    pthread_mutex_t lock;       /* robust */
    uint32_t domid, slot, gen, profile, nr_vcpus, online;
    _Atomic uint32_t gone;      /* killed */
    _Atomic uint32_t shut, crashed;
    uint32_t reason;
    uint32_t cf8;
    uint32_t log_dirty;
    uint32_t type4_server;      /* id + 1 */
    uint32_t max_gfn;
    uint8_t invalidate[MX_MAX_VCPUS]; /* toolstack changed the p2m: tell before the next access */
    uint8_t drop[MX_MAX_VCPUS]; /* swallow this vCPU's events */
    struct mx_irq irq;
    struct mx_server server[MX_MAX_SERVERS];
    struct mx_gport gport[MX_GPORTS];
    struct mx_grant grant[MX_GRANTS];
};
#define MX_DOM_HEAD ((sizeof(struct mx_dom) + MX_PAGE - 1) / MX_PAGE * MX_PAGE)
#define MX_DOM_P2M MX_DOM_HEAD                                  /* uint32_t[MX_MAX_GFN] */
#define MX_DOM_DIRTY (MX_DOM_P2M + 4ul * MX_MAX_GFN)            /* one bit per gfn */
#define MX_DOM_SIZE (MX_DOM_DIRTY + MX_MAX_GFN / 8)

/* ---- control messages (SOCK_SEQPACKET): request head + payload, reply head + payload */

enum mx_op {
    MX_HELLO,    /* a0 = caller's domid; fd: global memory, kick eventfd */
    MX_DM_OP,    /* domid; payload: struct xen_dm_op, then its second buffer; reply payload: the op */
    MX_RESTRICT, /* domid */
    MX_FAULT,    /* a0 = kind: does an armed fault fire? */
    MX_MAP,   /* domid, a0 = nr; payload: gfns; reply payload: int32 frame or -errno each; v0: frames' gen */
    MX_UNMAP, /* domid, a0 = gen, a1 = nr; payload: frames (uint32) */
    MX_FRAMES_FD,    /* domid; fd: the domain's frames; v0 = gen */
    MX_DOM_FD,       /* a0 = slot; fd: the domain's shared memory */
    MX_RES_MAP,      /* domid, a0 type, a1 id, a2 frame, a3 nr; reply payload: frames; v0 = gen */
    MX_RES_SIZE,     /* domid, a0 type, a1 id; v0 bytes */
    MX_EVT_OPEN,     /* fd: the stream; v0 handle, v1 gen */
    MX_EVT_ADOPT,    /* a0 = inode of the stream */
    MX_EVT_RESTRICT, /* domid */
    MX_EVT_BIND,
    MX_EVT_ALLOC,
    MX_EVT_VIRQ,
    MX_EVT_UNBIND, /* a0 = port or virq; v0 = local port */
    MX_EVT_NOTIFY, /* a0 = local port whose peer is no Xen-bound port */
    MX_GNT_MAP, /* domid (ignored), a0 = nr, a1 = writable; payload: {domid, ref} pairs; reply: {slot, frame}
                 */
    MX_GNT_UNMAP, /* payload: {slot, frame, domid, ref} ... */
    /* guest library only */
    MX_DOM_CREATE,
    MX_DOM_KILL,
    MX_DOM_SHUTDOWN,
    MX_DOM_INFO,
    MX_DOM_TARGET,
    MX_VCPU_ADD,
    MX_P2M_REMOVE,
    MX_P2M_ADD,
    MX_HANDLE_FD,
    MX_GPORT_ALLOC,
    MX_SET_FAULT,
    MX_SET_DELAY,
};

struct mx_req {
    uint32_t op, domid;
    uint64_t a[5];
};

struct mx_rep {
    int32_t err;                /* 0 or negative errno */
    uint32_t unused;
    uint64_t v[4];
};

/** MX_DOM_CREATE's payload. */
struct mx_create {
    uint64_t ram_bytes;
    uint32_t profile, nr_vcpus, online, domid, type_unknown;
    uint8_t uuid[16];
    char name[64];
};

/** MX_GNT_MAP's elements. */
struct mx_gref { uint32_t domid, ref; };
struct mx_gmap { uint32_t domid, ref, frame, gen; };

#endif
