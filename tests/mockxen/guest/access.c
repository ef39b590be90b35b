/* SPDX-License-Identifier: BSD-2-Clause */
/* Instructions: cut into requests as Xen's emulator cuts them, driven to their end, and the plain calls over
 * that. */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAX_REPS 4096u
#define MAX_WIDE 64u

static bool is_ram(struct mock_guest *g, uint64_t gpa)
{
    return gpa >> 12 < MX_MAX_GFN && (g->p2m[gpa >> 12] & MX_P2M_FRAME);
}

/** A write to this RAM goes to a server instead. */
static bool is_watched(struct mock_guest *g, uint64_t gpa)
{
    return is_ram(g, gpa) && g->p2m[gpa >> 12] >> MX_P2M_TYPE_SHIFT == 4;
}

static uint64_t masked(uint64_t value, unsigned size)
{
    return size >= 8 ? value : value & ((1ull << 8 * size) - 1);
}

static void merge(struct operand *o, unsigned size, uint64_t data, bool arm)
{
    unsigned at = o->done % 8;

    if (arm) {
        o->value = data; /* 4.17 takes the register whole */
    } else {
        o->value &= ~(masked(~0ull, size) << 8 * at);
        o->value |= masked(data, size) << 8 * at;
    }
}

/** Next piece of an operand: in MMIO within its page, a power of two of at most 8 bytes, largest first. */
static uint32_t piece_size(const struct mock_guest *g, const struct operand *o)
{
    uint64_t at = o->addr + o->done;
    uint64_t left = o->size - o->done, page = MX_PAGE - at % MX_PAGE;
    uint32_t chunk = 8;

    if (o->pio || g->profile == MOCK_ARM64 || mx_broken(g->mock->g, MX_BREAK_PAGE_SPLIT)) {
        return o->size;
    }
    left = left < page ? left : page;
    while (chunk > left) {
        chunk >>= 1;
    }
    return chunk;
}

static void ram_copy(struct mock_guest *g, uint64_t gpa, unsigned size, uint64_t *data, bool write)
{
    for (unsigned i = 0; i < size; i++) {
        uint8_t *byte = guest_byte(g, gpa + i);

        if (write && byte) {
            *byte = (uint8_t)(*data >> 8 * i);
            guest_mark_dirty(g, gpa + i);
        } else if (!write) {
            *data = (*data & ~(0xffull << 8 * i)) | (uint64_t)(byte ? *byte : 0xff) << 8 * i;
        }
    }
}

/** One piece of the operand at hand: RAM at once, the rest by request. */
static enum req_fate operand_step(struct mock_guest *g, unsigned vcpu)
{
    struct vcpu *v = &g->vcpu[vcpu];
    struct operand *o = &v->op;
    uint64_t at = o->addr + o->done, data = o->value >> 8 * (o->done % 8);
    struct ioreq r = { .addr = at, .count = 1, .dir = o->read };

    v->step = r.size = piece_size(g, o);
    if (!o->pio && is_ram(g, at) && (o->read || !is_watched(g, at))) {
        v->answer = 0;
        ram_copy(g, at, r.size, o->read ? &v->answer : &data, !o->read);
        return REQ_DONE;
    }
    r.type = o->pio ? IOREQ_TYPE_PIO : IOREQ_TYPE_COPY;
    r.data = o->read ? 0 : g->profile == MOCK_ARM64 ? o->value : masked(data, r.size);
    return request_start(g, vcpu, &r, &v->answer);
}

/** Elements from `gpa` on (in the direction of df) that Xen takes at once; one that straddles pages goes
 * alone. Going down, Xen leaves the element at the very start of a RAM page to the next round, that of an
 * MMIO page not. */
static uint64_t in_page(uint64_t gpa, unsigned size, bool df, bool ram)
{
    uint64_t off = gpa % MX_PAGE, n;

    if (off + size > MX_PAGE) {
        return 1;
    }
    if (!df) {
        return (MX_PAGE - off) / size;
    }
    n = ram ? (off + size - 1) / size : off / size + 1;
    return n ? n : 1;
}

static uint64_t element_at(const struct mock_access *a, uint64_t base, uint64_t n)
{
    return a->df ? base - n * a->size : base + n * a->size;
}

static uint32_t fewest(uint64_t a, uint64_t b, uint64_t c)
{
    a = a < MAX_REPS ? a : MAX_REPS;
    a = a < b ? a : b;
    return (uint32_t)(a < c ? a : c);
}

/** Addresses of the two sides of the element at hand: where it is read, where it is written. */
struct sides {
    uint64_t from, to;
    bool from_pio, to_pio;
};

static struct sides sides_of(const struct vcpu *v)
{
    const struct mock_access *a = &v->a;
    uint64_t mem = element_at(a, a->data, v->done);
    bool pio = a->space == MOCK_PIO;
    uint64_t io = pio ? a->addr : element_at(a, a->addr, v->done);

    return a->read ? (struct sides){ io, mem, pio, false } : (struct sides){ mem, io, false, pio };
}

/** The element goes by itself: read whole, then written whole. */
static void begin_element(struct vcpu *v, const struct sides *s)
{
    bool store = v->a.stos;

    v->in_operand = true;
    v->second_half = store;
    v->op = store ? (struct operand){ .addr = s->to, .size = v->a.size, .value = v->a.data }
                  : (struct operand){ .addr = s->from, .size = v->a.size, .pio = s->from_pio, .read = true };
}

/** The operand is through: on to the element's other half, or to the next element. */
static void end_operand(struct vcpu *v)
{
    struct sides s = sides_of(v);

    if (!v->a.rep || v->second_half) {
        v->in_operand = false;
        v->result = v->op.read ? v->op.value : 0;
        v->done++;
        return;
    }
    v->second_half = true;
    v->op = (struct operand){ .addr = s.to, .size = v->a.size, .pio = s.to_pio, .value = v->op.value };
}

/** One request for many elements; returns false if this round's element must go by itself. */
static bool batch(struct mock_guest *g, unsigned vcpu, const struct sides *s, enum req_fate *fate)
{
    struct vcpu *v = &g->vcpu[vcpu];
    struct mock_access *a = &v->a;
    uint64_t left = a->count - v->done, io = s->to, ram = s->from;
    struct ioreq r = { .size = a->size, .df = a->df, .type = IOREQ_TYPE_COPY };
    bool from_ram = !s->from_pio && is_ram(g, s->from), to_ram = !s->to_pio && is_ram(g, s->to);

    if (left == 1) {
        return false;
    }
    if (a->stos) {
        if (to_ram && !is_watched(g, s->to)) {
            return false;
        }
        r.data = masked(a->data, a->size);
        v->step = r.count = fewest(left, in_page(io, a->size, a->df, false), MAX_REPS);
    } else {
        if (from_ram == to_ram) {
            return false;
        }
        io = to_ram ? s->from : s->to;
        ram = to_ram ? s->to : s->from;
        r.dir = to_ram;
        r.data_is_ptr = 1;
        r.data = ram;
        r.type = s->from_pio || s->to_pio ? IOREQ_TYPE_PIO : IOREQ_TYPE_COPY;
        v->step = r.count = fewest(left, in_page(ram, a->size, a->df, true),
                                   r.type == IOREQ_TYPE_PIO ? MAX_REPS : in_page(io, a->size, a->df, false));
    }
    r.addr = io;
    *fate = request_start(g, vcpu, &r, &v->answer);
    return true;
}

/** Take in what the last request brought. */
static void advance(struct mock_guest *g, struct vcpu *v)
{
    v->fresh = false;
    if (v->what == VCPU_RAW) {
        v->result = v->answer;
        v->done = 1;
        return;
    }
    if (!v->in_operand) {
        v->done += v->step;
        return;
    }
    if (v->op.read) {
        merge(&v->op, v->step, v->answer, g->profile == MOCK_ARM64);
    }
    v->op.done += v->step;
    if (v->op.done >= v->op.size) {
        end_operand(v);
    }
}

static bool finished(const struct vcpu *v)
{
    return v->what == VCPU_INVALIDATE || (v->what == VCPU_RAW && v->done) ||
           (v->what == VCPU_ACCESS && !v->in_operand && v->done >= (v->a.rep ? v->a.count : 1));
}

static enum mock_status end(struct vcpu *v, enum mock_status status)
{
    v->what = VCPU_IDLE;
    v->pending = 0;
    v->last = status;
    return status;
}

static enum req_fate step(struct mock_guest *g, unsigned vcpu)
{
    struct vcpu *v = &g->vcpu[vcpu];
    enum req_fate fate = REQ_DONE;
    struct sides s;

    if (!v->in_operand) {
        s = sides_of(v);
        if (batch(g, vcpu, &s, &fate)) {
            return fate;
        }
        begin_element(v, &s);
    }
    return operand_step(g, vcpu);
}

/** A slot that Xen may not use: what the vCPU's instruction makes of it. */
static enum mock_status bad_slot(struct mock_guest *g, const struct vcpu *v)
{
    struct mx_req req = { .op = MX_DOM_SHUTDOWN, .domid = g->domid, .a = { 3 /* SHUTDOWN_crash */ } };
    struct mx_rep rep;

    if (g->profile == MOCK_ARM64 || v->a.space == MOCK_MMIO || v->a.rep) {
        return MOCK_FAULT;
    }
    (void)mock_rpc(g->mock, &req, NULL, 0, &rep, NULL, 0, NULL);
    return MOCK_CRASHED;
}

/** Run on until a request is outstanding or the instruction ended. */
static enum mock_status run(struct mock_guest *g, unsigned vcpu)
{
    struct vcpu *v = &g->vcpu[vcpu];
    enum req_fate fate;

    for (;;) {
        if (v->fresh) {
            advance(g, v);
        }
        if (finished(v)) {
            return end(v, MOCK_DONE);
        }
        if (g->d->invalidate[vcpu]) {
            g->d->invalidate[vcpu] = 0;
            if (request_invalidate(g, vcpu) == REQ_SENT) {
                return MOCK_BLOCKED;
            }
        }
        fate = step(g, vcpu);
        switch (fate) {
        case REQ_SENT:
            v->fresh = true;
            return MOCK_BLOCKED;
        case REQ_DONE:
            v->fresh = true;
            break;
        case REQ_BAD:
            return end(v, bad_slot(g, v));
        case REQ_DEAD:
            return end(v, MOCK_DEAD);
        default:
            return end(v, MOCK_PANIC);
        }
    }
}

int mock_access_start(struct mock_guest *g, unsigned vcpu, const struct mock_access *a)
{
    struct vcpu *v = vcpu < g->d->online ? &g->vcpu[vcpu] : NULL;
    bool pow2 = a->size && !(a->size & (a->size - 1));
    unsigned max = g->profile == MOCK_ARM64 ? 8 : MAX_WIDE;

    if (a->space == MOCK_PIO) {
        max = g->profile == MOCK_ARM64 || a->addr > 0xffff ? 0 : 4;
    } else if (a->rep) {
        max = g->profile == MOCK_ARM64 ? 0 : 8;
    }
    if (!v || !pow2 || a->size > max) {
        return -EINVAL;
    }
    if (v->what != VCPU_IDLE) {
        return -EBUSY;
    }
    v->what = VCPU_ACCESS;
    v->a = *a;
    v->done = v->result = 0;
    v->second_half = v->fresh = false;
    v->in_operand = !a->rep;
    v->op = (struct operand){ .addr = a->addr, .size = a->size, .pio = a->space == MOCK_PIO, .read = a->read,
                              .value = a->read ? 0 : a->data };
    v->last = MOCK_BLOCKED;
    (void)run(g, vcpu);
    return 0;
}

int mock_raw_request(struct mock_guest *g, unsigned vcpu, unsigned id, const struct ioreq *req)
{
    struct vcpu *v = vcpu < g->d->online ? &g->vcpu[vcpu] : NULL;

    if (!v) {
        return -EINVAL;
    }
    if (v->what != VCPU_IDLE) {
        return -EBUSY;
    }
    v->a = (struct mock_access){ 0 };
    v->done = v->result = 0;
    v->in_operand = v->second_half = false;
    switch (request_send(g, vcpu, id, req)) {
    case REQ_SENT:
        v->what = VCPU_RAW;
        v->fresh = true;
        v->last = MOCK_BLOCKED;
        return 0;
    case REQ_BAD:
        return -EBUSY;
    default:
        return -ENOENT;
    }
}

enum mock_status mock_access_wait(struct mock_guest *g, unsigned vcpu, int timeout_ms, uint64_t *value)
{
    struct vcpu *v = &g->vcpu[vcpu];
    int64_t deadline = mx_deadline(timeout_ms);
    enum mock_status status = v->last;
    uint32_t now;

    while (v->what != VCPU_IDLE) {
        now = atomic_load(&g->pub->wake[vcpu]);
        if (now == v->seen && !atomic_load(&g->d->gone)) {
            if (mx_futex_wait(&g->pub->wake[vcpu], v->seen, deadline) == -ETIMEDOUT) {
                return v->last = MOCK_BLOCKED;
            }
            continue;
        }
        v->seen = now;
        status = request_look(g, vcpu);
        if (status == MOCK_DONE) {
            status = run(g, vcpu);
        } else if (status != MOCK_BLOCKED) {
            status = end(v, status);
        }
    }
    if (value) {
        *value = status == MOCK_DONE ? v->result : ~0ull;
    }
    return status;
}

bool mock_vcpu_blocked(struct mock_guest *g, unsigned vcpu, int id)
{
    uint32_t pending = g->vcpu[vcpu].pending;

    return id < 0 ? pending != 0 : (pending >> id & 1) != 0;
}

enum mock_status mock_last_status(const struct mock_guest *g, unsigned vcpu)
{
    return g->vcpu[vcpu].last;
}

int mock_decrease_reservation_start(struct mock_guest *g, unsigned vcpu, uint64_t gfn, unsigned nr)
{
    struct mx_req req = { .op = MX_P2M_REMOVE, .domid = g->domid, .a = { gfn, nr, 0 } };
    struct vcpu *v = &g->vcpu[vcpu];
    struct mx_rep rep;
    int rc;

    if (v->what != VCPU_IDLE) {
        return -EBUSY;
    }
    rc = mock_rpc(g->mock, &req, NULL, 0, &rep, NULL, 0, NULL);
    if (rc < 0) {
        return rc;
    }
    v->what = VCPU_INVALIDATE;
    v->fresh = false;
    v->last = MOCK_BLOCKED;
    if (request_invalidate(g, vcpu) != REQ_SENT) {
        (void)end(v, MOCK_DONE);
    }
    return 0;
}

enum mock_status vcpu_decrease_reservation(struct mock_guest *g, unsigned vcpu, uint64_t gfn, unsigned nr)
{
    int rc = mock_decrease_reservation_start(g, vcpu, gfn, nr);

    return rc < 0 ? MOCK_FAULT : mock_access_wait(g, vcpu, g->timeout, NULL);
}

/** Start and wait as the plain calls do. */
static uint64_t whole(struct mock_guest *g, unsigned vcpu, const struct mock_access *a)
{
    uint64_t value = ~0ull;
    enum mock_status status;
    int rc = mock_access_start(g, vcpu, a);

    if (rc < 0) {
        fprintf(stderr, "mock: domain %u vCPU %u: access at %llx size %u: %s\n", g->domid, vcpu,
                (unsigned long long)a->addr, a->size, strerror(-rc));
        return ~0ull;
    }
    status = mock_access_wait(g, vcpu, g->timeout, &value);
    if (status == MOCK_BLOCKED) {
        fprintf(stderr, "mock: domain %u vCPU %u: access at %llx not answered within %d ms\n", g->domid, vcpu,
                (unsigned long long)a->addr, g->timeout);
        return ~0ull;
    }
    return value;
}

static uint64_t in(struct mock_guest *g, unsigned vcpu, uint16_t port, unsigned size)
{
    return whole(g, vcpu,
                 &(struct mock_access){ .space = MOCK_PIO, .read = true, .size = size, .addr = port });
}

static void out(struct mock_guest *g, unsigned vcpu, uint16_t port, unsigned size, uint32_t value)
{
    (void)whole(g, vcpu,
                &(struct mock_access){ .space = MOCK_PIO, .size = size, .addr = port, .data = value });
}

void vcpu_outb(struct mock_guest *g, unsigned vcpu, uint16_t port, uint8_t value)
{
    out(g, vcpu, port, 1, value);
}

void vcpu_outw(struct mock_guest *g, unsigned vcpu, uint16_t port, uint16_t value)
{
    out(g, vcpu, port, 2, value);
}

void vcpu_outl(struct mock_guest *g, unsigned vcpu, uint16_t port, uint32_t value)
{
    out(g, vcpu, port, 4, value);
}

uint8_t vcpu_inb(struct mock_guest *g, unsigned vcpu, uint16_t port)
{
    return (uint8_t)in(g, vcpu, port, 1);
}

uint16_t vcpu_inw(struct mock_guest *g, unsigned vcpu, uint16_t port)
{
    return (uint16_t)in(g, vcpu, port, 2);
}

uint32_t vcpu_inl(struct mock_guest *g, unsigned vcpu, uint16_t port)
{
    return (uint32_t)in(g, vcpu, port, 4);
}

uint64_t vcpu_mmio_read(struct mock_guest *g, unsigned vcpu, uint64_t gpa, unsigned size)
{
    return whole(g, vcpu,
                 &(struct mock_access){ .space = MOCK_MMIO, .read = true, .size = size, .addr = gpa });
}

void vcpu_mmio_write(struct mock_guest *g, unsigned vcpu, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)whole(g, vcpu,
                &(struct mock_access){ .space = MOCK_MMIO, .size = size, .addr = gpa, .data = value });
}

static enum mock_status rep(struct mock_guest *g, unsigned vcpu, const struct mock_access *a)
{
    g->vcpu[vcpu].last = MOCK_FAULT; /* stays if the instruction is refused */
    (void)whole(g, vcpu, a);
    return g->vcpu[vcpu].last;
}

enum mock_status vcpu_rep_outs(struct mock_guest *g, unsigned vcpu, uint16_t port, unsigned size,
                               uint64_t gpa, uint64_t count, bool df)
{
    return rep(g, vcpu,
               &(struct mock_access){ .space = MOCK_PIO,
                                      .rep = true,
                                      .df = df,
                                      .size = size,
                                      .addr = port,
                                      .data = gpa,
                                      .count = count });
}

enum mock_status vcpu_rep_ins(struct mock_guest *g, unsigned vcpu, uint16_t port, unsigned size, uint64_t gpa,
                              uint64_t count, bool df)
{
    return rep(g, vcpu,
               &(struct mock_access){ .space = MOCK_PIO,
                                      .read = true,
                                      .rep = true,
                                      .df = df,
                                      .size = size,
                                      .addr = port,
                                      .data = gpa,
                                      .count = count });
}

enum mock_status vcpu_rep_movs(struct mock_guest *g, unsigned vcpu, uint64_t dst, uint64_t src, unsigned size,
                               uint64_t count, bool df)
{
    return rep(g, vcpu,
               &(struct mock_access){ .space = MOCK_MMIO,
                                      .read = true,
                                      .rep = true,
                                      .df = df,
                                      .size = size,
                                      .addr = src,
                                      .data = dst,
                                      .count = count });
}

enum mock_status vcpu_rep_stos(struct mock_guest *g, unsigned vcpu, uint64_t gpa, unsigned size,
                               uint64_t count, bool df, uint64_t value)
{
    return rep(g, vcpu,
               &(struct mock_access){ .space = MOCK_MMIO,
                                      .rep = true,
                                      .stos = true,
                                      .df = df,
                                      .size = size,
                                      .addr = gpa,
                                      .data = value,
                                      .count = count });
}

static void config_address(struct mock_guest *g, unsigned vcpu, uint16_t sbdf, unsigned reg)
{
    vcpu_outl(g, vcpu, 0xcf8, 0x80000000u | (uint32_t)sbdf << 8 | (reg & 0xfc));
}

uint32_t vcpu_pci_read(struct mock_guest *g, unsigned vcpu, uint16_t sbdf, unsigned reg, unsigned size)
{
    config_address(g, vcpu, sbdf, reg);
    return (uint32_t)masked(in(g, vcpu, (uint16_t)(0xcfc + (reg & 3)), size), size);
}

void vcpu_pci_write(struct mock_guest *g, unsigned vcpu, uint16_t sbdf, unsigned reg, unsigned size,
                    uint32_t value)
{
    config_address(g, vcpu, sbdf, reg);
    out(g, vcpu, (uint16_t)(0xcfc + (reg & 3)), size, value);
}
