/* SPDX-License-Identifier: BSD-2-Clause */
/* Xen's part between an instruction and an emulator: who gets a request, the slot's protocol, what nobody
 * gets. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#include <xen/hvm/dm_op.h>
#include <xen/sched.h>

#define CMOS_RTC 14u
#define BUF_ATOMIC 2u
#define P2M_IOREQ 4u                    /* memory type whose writes go to a server */
#define VGA_BASE 0xa0000u
#define VGA_END 0xc0000u

struct span { uint32_t type; uint64_t first, last; };

static bool contains(const struct mx_ranges *r, uint64_t first, uint64_t last)
{
    uint32_t lo = 0, hi = r->nr, mid;

    while (lo < hi) {
        mid = (lo + hi) / 2;
        if (r->r[mid].end < first) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < r->nr && r->r[lo].start <= first && last <= r->r[lo].end;
}

/** What is looked for in the servers' ranges; a config cycle is rewritten. */
static struct span span_of(struct mock_guest *g, struct ioreq *r)
{
    uint32_t cf8 = g->d->cf8;
    uint64_t len = (uint64_t)r->count * r->size;

    if (r->type == IOREQ_TYPE_PIO && (r->addr & ~3ull) == 0xcfc && (cf8 & 0x80000000u)) {
        uint64_t sbdf = cf8 >> 8 & 0xffff;

        r->addr = sbdf << 32 | (cf8 & 0xfc) | (r->addr & 3);
        return (struct span){ XEN_DMOP_IO_RANGE_PCI, sbdf, sbdf };
    }
    if (r->type == IOREQ_TYPE_PIO) {
        return (struct span){ XEN_DMOP_IO_RANGE_PORT, r->addr, r->addr + r->size - 1 };
    }
    if (r->df) {
        return (struct span){ XEN_DMOP_IO_RANGE_MEMORY, r->addr + r->size - len, r->addr + r->size - 1 };
    }
    return (struct span){ XEN_DMOP_IO_RANGE_MEMORY, r->addr, r->addr + len - 1 };
}

/** Highest id first; -1: nobody. */
static int pick_server(struct mock_guest *g, struct ioreq *r)
{
    uint64_t addr = r->addr;
    struct span s = span_of(g, r);

    for (int n = MX_MAX_SERVERS - 1; n >= 0; n--) {
        int id = mx_broken(g->mock->g, MX_BREAK_LOWEST_FIRST) ? (int)MX_MAX_SERVERS - 1 - n : n;
        struct mx_server *v = &g->d->server[id];

        if (v->used && v->enabled && contains(&v->ranges[s.type], s.first, s.last)) {
            if (s.type == XEN_DMOP_IO_RANGE_PCI) {
                r->type = IOREQ_TYPE_PCI_CONFIG;
            }
            return id;
        }
    }
    r->addr = addr;
    return -1;
}

static struct ioreq *slot_of(struct mock_guest *g, const struct mx_server *s, unsigned vcpu)
{
    return (struct ioreq *)(g->frames + (size_t)(s->ioreq_frame - 1) * MX_PAGE) + vcpu;
}

/** Byte 30 of a slot: state in bits 0-3 beside the flags; the emulator stores to it while we look. */
static _Atomic uint8_t *flags_of(struct ioreq *slot)
{
    return (_Atomic uint8_t *)((uint8_t *)slot + 30);
}

static void set_state(struct ioreq *slot, unsigned state)
{
    _Atomic uint8_t *f = flags_of(slot);

    atomic_store(f, (uint8_t)((atomic_load(f) & 0xf0) | state));
}

/** Fill the slot; lock held. On REQ_SENT *port is what to notify once the lock is dropped. */
static enum req_fate slot_send(struct mock_guest *g, unsigned vcpu, unsigned id, const struct ioreq *req,
                               uint32_t *port)
{
    struct mx_server *s = &g->d->server[id];
    struct vcpu *v = &g->vcpu[vcpu];
    struct ioreq *slot, copy = *req;

    if (!s->ioreq_frame) {
        return REQ_PANIC; /* Xen follows a null pointer; noted when the server was enabled */
    }
    slot = slot_of(g, s, vcpu);
    if ((atomic_load(flags_of(slot)) & 0xf) != STATE_IOREQ_NONE || slot->vp_eport != s->port[vcpu]) {
        return REQ_BAD;
    }
    copy.state = STATE_IOREQ_NONE;
    copy.vp_eport = s->port[vcpu];
    memcpy(slot, &copy, sizeof(copy));
    v->seen = atomic_load(&g->pub->wake[vcpu]);
    v->out[id].gen = s->gen;
    v->out[id].prev = g->profile == MOCK_ARM64 ? STATE_IOREQ_READY : STATE_IOREQ_NONE;
    v->out[id].req = copy;
    v->pending |= 1u << id;
    set_state(slot, STATE_IOREQ_READY);
    *port = g->d->drop[vcpu] ? 0 : s->port[vcpu];
    return REQ_SENT;
}

/** Put a write into the ring if it may go there. Lock held. */
static bool buffered(struct mock_guest *g, unsigned id, const struct ioreq *r, uint32_t *port)
{
    struct mx_server *s = &g->d->server[id];
    static const uint8_t log2_size[9] = { [1] = 0, [2] = 1, [4] = 2, [8] = 3 };
    _Atomic uint32_t *ptr;
    struct buf_ioreq e = { 0 }, *ring;
    uint32_t rd, wr, qw = r->size == 8;

    if (!s->bufmode || !s->buf_frame || r->addr > 0xfffff || r->data_is_ptr || r->count != 1) {
        return false;
    }
    ptr = (_Atomic uint32_t *)(g->frames + (size_t)(s->buf_frame - 1) * MX_PAGE);
    ring = (struct buf_ioreq *)(ptr + 2);
    rd = atomic_load(&ptr[0]);
    wr = atomic_load(&ptr[1]);
    if (wr - rd >= IOREQ_BUFFER_SLOT_NUM - qw) {
        return false;
    }
    e.type = r->type;
    e.dir = r->dir;
    e.size = log2_size[r->size];
    e.addr = (uint32_t)r->addr;
    e.data = (uint32_t)r->data;
    ring[wr % IOREQ_BUFFER_SLOT_NUM] = e;
    if (qw) {
        e.data = (uint32_t)(r->data >> 32);
        ring[(wr + 1) % IOREQ_BUFFER_SLOT_NUM] = e;
    }
    atomic_store(&ptr[1], wr + 1 + qw);
    /* ATOMIC: both pointers step back together once the reader passed the end. */
    for (uint32_t i = 0; s->bufmode == BUF_ATOMIC && i < IOREQ_BUFFER_SLOT_NUM &&
                         atomic_load(&ptr[0]) >= IOREQ_BUFFER_SLOT_NUM; i++) {
        uint64_t old = atomic_load((_Atomic uint64_t *)ptr);
        uint32_t n = (uint32_t)old / IOREQ_BUFFER_SLOT_NUM * IOREQ_BUFFER_SLOT_NUM;
        uint64_t new = ((old >> 32) - n) << 32 | ((uint32_t)old - n);

        (void)atomic_compare_exchange_strong((_Atomic uint64_t *)ptr, &old, new);
    }
    *port = s->buf_port;
    return true;
}

/** Does Xen answer this itself? */
static bool xen_owns(struct mock_guest *g, const struct ioreq *r)
{
    static const struct { uint16_t first, last; } hvm[] = {
        { 0x20, 0x21 }, { 0xa0, 0xa1 }, { 0x4d0, 0x4d1 }, { 0x40, 0x43 }, { 0x61, 0x61 } };
    uint64_t pm = g->acpi_moved ? 0xb000 : 0x1f40;

    if (g->profile == MOCK_ARM64) {
        return false;
    }
    if (r->type == IOREQ_TYPE_COPY) {
        return r->addr >> 12 == 0xfee00 || (g->profile == MOCK_HVM && (r->addr >> 12 == 0xfec00 ||
                                                                       r->addr >> 12 == 0xfed00));
    }
    if (r->addr == 0xe9 && r->dir == IOREQ_WRITE && r->size == 1) {
        return true;
    }
    if ((r->addr == 0x80 || r->addr == 0xed) && r->size == 1) {
        return true; /* the ports for delays never trap: they are the machine's own */
    }
    if (g->profile == MOCK_HVM && r->size == 4 && (r->addr == pm || r->addr == pm + 8)) {
        return true;
    }
    if (g->profile == MOCK_HVM && r->addr == 0x70 && r->dir == IOREQ_WRITE) {
        g->cmos_index = r->data & 0x7f;
    }
    if (g->profile == MOCK_HVM && (r->addr == 0x70 || r->addr == 0x71) && r->size == 1) {
        return g->cmos_index < CMOS_RTC; /* what lies above the clock's registers is a server's */
    }
    for (unsigned i = 0; g->profile == MOCK_HVM && i < sizeof(hvm) / sizeof(hvm[0]); i++) {
        if (r->addr >= hvm[i].first && r->addr + r->size - 1 <= hvm[i].last) {
            return true;
        }
    }
    return false;
}

/** Nobody claims it: ones, also into the RAM of a string read. */
static uint64_t unclaimed(struct mock_guest *g, const struct ioreq *r)
{
    uint64_t gpa = r->data;

    for (uint32_t i = 0; r->data_is_ptr && r->dir == IOREQ_READ && i < r->count; i++) {
        for (uint32_t b = 0; b < r->size; b++) {
            uint8_t *byte = guest_byte(g, gpa + b);

            if (byte) {
                *byte = 0xff;
            }
        }
        gpa = r->df ? gpa - r->size : gpa + r->size;
    }
    return mx_broken(g->mock->g, MX_BREAK_READS_ZERO) ? 0 : ~0ull;
}

/** Lock held. */
static enum req_fate route(struct mock_guest *g, unsigned vcpu, struct ioreq *r, uint64_t *answer,
                           uint32_t *port)
{
    uint32_t entry;
    int id;

    if (xen_owns(g, r)) {
        *answer = 0;
        return REQ_DONE;
    }
    if (g->profile != MOCK_ARM64 && r->type == IOREQ_TYPE_PIO && r->addr == 0xcf8 && r->size == 4 &&
        r->dir == IOREQ_WRITE && !r->data_is_ptr) {
        g->d->cf8 = (uint32_t)r->data; /* latched, and offered all the same */
    }
    entry = r->type == IOREQ_TYPE_COPY && r->addr >> 12 < MX_MAX_GFN ? g->p2m[r->addr >> 12] : 0;
    if ((entry & MX_P2M_FRAME) && entry >> MX_P2M_TYPE_SHIFT == P2M_IOREQ && g->d->type4_server) {
        id = (int)g->d->type4_server - 1;
        id = g->d->server[id].enabled ? id : -1;
    } else {
        id = pick_server(g, r);
    }
    if (id < 0) {
        if (g->profile == MOCK_ARM64) {
            return REQ_BAD;
        }
        *answer = unclaimed(g, r);
        return REQ_DONE;
    }
    if (g->profile == MOCK_HVM && r->type == IOREQ_TYPE_COPY && r->dir == IOREQ_WRITE &&
        r->addr >= VGA_BASE && r->addr < VGA_END && buffered(g, (unsigned)id, r, port)) {
        return REQ_DONE;
    }
    return slot_send(g, vcpu, (unsigned)id, r, port);
}

static bool stopped(const struct mock_guest *g)
{
    return atomic_load(&g->d->gone) || atomic_load(&g->d->shut);
}

enum req_fate request_start(struct mock_guest *g, unsigned vcpu, const struct ioreq *req, uint64_t *answer)
{
    struct ioreq r = *req;
    enum req_fate fate;
    uint32_t port = 0;

    *answer = r.data_is_ptr || r.dir == IOREQ_READ ? 0 : r.data;
    mx_lock(&g->d->lock);
    fate = stopped(g) ? REQ_DEAD : route(g, vcpu, &r, answer, &port);
    mx_unlock(&g->d->lock);
    if (port) {
        guest_notify(g, port);
    }
    return fate;
}

enum req_fate request_send(struct mock_guest *g, unsigned vcpu, unsigned id, const struct ioreq *req)
{
    enum req_fate fate = REQ_DEAD;
    uint32_t port = 0;

    mx_lock(&g->d->lock);
    if (!stopped(g) && id < MX_MAX_SERVERS && g->d->server[id].used && g->d->server[id].enabled) {
        fate = slot_send(g, vcpu, id, req, &port);
    }
    mx_unlock(&g->d->lock);
    if (port) {
        guest_notify(g, port);
    }
    return fate;
}

enum req_fate request_invalidate(struct mock_guest *g, unsigned vcpu)
{
    struct ioreq req = { .type = IOREQ_TYPE_INVALIDATE, .size = 4, .dir = IOREQ_WRITE, .data = ~0ull };
    enum req_fate fate = REQ_DONE, one;
    uint32_t seen = atomic_load(&g->pub->wake[vcpu]);

    for (unsigned id = 0; id < MX_MAX_SERVERS && !mx_broken(g->mock->g, MX_BREAK_INVALIDATE); id++) {
        if (!g->d->server[id].used || !g->d->server[id].enabled) {
            continue;
        }
        one = request_send(g, vcpu, id, &req);
        /* A server whose slot is broken is left out, as Xen does after its message. */
        fate = one == REQ_SENT ? REQ_SENT : fate;
    }
    g->vcpu[vcpu].seen = seen; /* an answer to the first may come before the last is sent */
    return fate;
}

/** One server's slot after a wake. Lock held. True when it needs no more waiting. */
static bool slot_look(struct mock_guest *g, unsigned vcpu, unsigned id, bool *crash)
{
    struct vcpu *v = &g->vcpu[vcpu];
    struct mx_server *s = &g->d->server[id];
    struct ioreq *slot;
    unsigned state;

    if (!s->used || s->gen != v->out[id].gen) {
        if (g->profile == MOCK_ARM64) {
            mx_panic(g->mock->g, "domain %u: vCPU %u woke after its server was destroyed (Arm)", g->domid,
                     vcpu);
        }
        v->answer = v->out[id].req.dir == IOREQ_READ ? 0 : v->out[id].req.data;
        return true;
    }
    slot = slot_of(g, s, vcpu);
    state = atomic_load(flags_of(slot)) & 0xf;
    if (state == STATE_IOREQ_NONE) {
        v->answer = ~0ull;
        return true;
    }
    if (state > STATE_IORESP_READY || state < v->out[id].prev) {
        *crash = true;
        return true;
    }
    if (state == STATE_IORESP_READY) {
        set_state(slot, STATE_IOREQ_NONE);
        v->answer = slot->data;
        return true;
    }
    /* Arm remembers over the sleep what it saw; x86 starts afresh. */
    v->out[id].prev = g->profile == MOCK_ARM64 ? state : STATE_IOREQ_NONE;
    return false;
}

enum mock_status request_look(struct mock_guest *g, unsigned vcpu)
{
    struct mx_req req = { .op = MX_DOM_SHUTDOWN, .domid = g->domid, .a = { SHUTDOWN_crash } };
    struct vcpu *v = &g->vcpu[vcpu];
    struct mx_rep rep;
    bool crash = false;

    mx_lock(&g->d->lock);
    if (atomic_load(&g->d->gone) || atomic_load(&g->d->crashed)) {
        v->pending = 0;
        mx_unlock(&g->d->lock);
        return MOCK_DEAD;
    }
    for (unsigned id = 0; id < MX_MAX_SERVERS; id++) {
        if ((v->pending >> id & 1) && slot_look(g, vcpu, id, &crash)) {
            v->pending &= ~(1u << id);
        }
    }
    mx_unlock(&g->d->lock);
    if (crash) {
        v->pending = 0;
        (void)mock_rpc(g->mock, &req, NULL, 0, &rep, NULL, 0, NULL);
        return MOCK_CRASHED;
    }
    return v->pending ? MOCK_BLOCKED : MOCK_DONE;
}

void mock_acpi_ports_moved(struct mock_guest *g, bool moved)
{
    g->acpi_moved = moved;
}

int mock_timeoffset(struct mock_guest *g, int64_t delta_s)
{
    struct ioreq r = { .type = IOREQ_TYPE_TIMEOFFSET, .size = 8, .count = 1, .dir = IOREQ_WRITE,
                       .data = (uint64_t)delta_s };
    uint32_t port[MX_MAX_SERVERS] = { 0 };

    if (g->profile != MOCK_HVM) {
        return -EINVAL;
    }
    mx_lock(&g->d->lock);
    for (unsigned id = 0; id < MX_MAX_SERVERS; id++) {
        if (g->d->server[id].used && g->d->server[id].enabled) {
            (void)buffered(g, id, &r, &port[id]);
        }
    }
    mx_unlock(&g->d->lock);
    for (unsigned id = 0; id < MX_MAX_SERVERS; id++) {
        if (port[id]) {
            guest_notify(g, port[id]);
        }
    }
    return 0;
}
