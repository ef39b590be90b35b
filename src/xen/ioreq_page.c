/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may write what: Xen fills a slot, orders it before READY, and does not touch it again until it reads
 * RESP_READY; then it stores NONE at once and the slot is its own. A state goes up only: Xen crashes a domain
 * whose slot it saw go back (a non-zero state below the last one it read).
 */
#include "xen/ioreq_page.h"

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(struct ioreq) * PAGES_SLOTS == HV_PAGE_SIZE, "slots fill one page");
_Static_assert(sizeof(struct ioreq) % sizeof(uint64_t) == 0, "a slot is copied by words");
_Static_assert(sizeof(struct buffered_iopage) <= HV_PAGE_SIZE, "the ring fits one page");
_Static_assert(sizeof(struct buf_ioreq) == sizeof(uint64_t), "a ring entry is one word");

/* The byte that holds the bit-fields: state, data_is_ptr, dir, df. It stands right before `type`. */
#define FLAGS_OFFSET (offsetof(struct ioreq, type) - 1)

static uint8_t *flags_of(const struct ioreq *slot)
{
    return (uint8_t *)(uintptr_t)slot + FLAGS_OFFSET;
}

static unsigned state_in(uint8_t flags)
{
    struct ioreq view = {0};

    memcpy((uint8_t *)&view + FLAGS_OFFSET, &flags, sizeof(flags));
    return view.state;
}

static uint8_t with_state(uint8_t flags, unsigned state)
{
    struct ioreq view = {0};

    memcpy((uint8_t *)&view + FLAGS_OFFSET, &flags, sizeof(flags));
    view.state = state & 0xf;
    memcpy(&flags, (uint8_t *)&view + FLAGS_OFFSET, sizeof(flags));
    return flags;
}

static enum request_type type_of(uint8_t type)
{
    switch (type) {
    case IOREQ_TYPE_PIO:
        return REQUEST_PIO;
    case IOREQ_TYPE_COPY:
        return REQUEST_COPY;
    case IOREQ_TYPE_PCI_CONFIG:
        return REQUEST_PCI_CONFIG;
    case IOREQ_TYPE_TIMEOFFSET:
        return REQUEST_TIMEOFFSET;
    case IOREQ_TYPE_INVALIDATE:
        return REQUEST_INVALIDATE;
    default:
        return REQUEST_OTHER;
    }
}

/* ---- slots ---- */

uint32_t ioreq_slot_port(const struct ioreq_pages *pages, unsigned vcpu)
{
    return vcpu < PAGES_SLOTS ? __atomic_load_n(&pages->slots[vcpu].vp_eport, __ATOMIC_RELAXED) : 0;
}

enum slot_state ioreq_slot_state(const struct ioreq_pages *pages, unsigned vcpu)
{
    if (vcpu >= PAGES_SLOTS) {
        return SLOT_NONE;
    }
    switch (state_in(__atomic_load_n(flags_of(&pages->slots[vcpu]), __ATOMIC_ACQUIRE))) {
    case STATE_IOREQ_READY:
        return SLOT_READY;
    case STATE_IOREQ_INPROCESS:
        return SLOT_INPROCESS;
    case STATE_IORESP_READY:
        return SLOT_RESP_READY;
    default: /* none, or a state that does not exist: not ours to touch */
        return SLOT_NONE;
    }
}

/* Each word is read once: what is checked later is what was copied here. */
static void copy_slot(struct ioreq *to, const struct ioreq *slot)
{
    uint64_t words[sizeof(*slot) / sizeof(uint64_t)];

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        words[i] = __atomic_load_n((const uint64_t *)(const void *)slot + i, __ATOMIC_RELAXED);
    }
    memcpy(to, words, sizeof(*to));
}

int ioreq_slot_take(struct ioreq_pages *pages, unsigned vcpu, bool resume, struct request *request)
{
    enum slot_state state = ioreq_slot_state(pages, vcpu); /* acquires what Xen stored before it */
    struct ioreq ioreq;

    if (state != SLOT_READY && !(resume && state == SLOT_INPROCESS)) {
        return 0;
    }
    copy_slot(&ioreq, &pages->slots[vcpu]);
    if (state == SLOT_READY) {
        uint8_t *flags = flags_of(&pages->slots[vcpu]);
        __atomic_store_n(flags, with_state(__atomic_load_n(flags, __ATOMIC_RELAXED), STATE_IOREQ_INPROCESS),
                         __ATOMIC_RELAXED);
    }
    *request = (struct request){
        .type = type_of(ioreq.type),
        .addr = ioreq.addr,
        .data = ioreq.data,
        .count = ioreq.count,
        .size = ioreq.size,
        .read = ioreq.dir == IOREQ_READ,
        .df = ioreq.df,
        .data_is_ptr = ioreq.data_is_ptr,
    };
    return 1;
}

void ioreq_slot_answer(struct ioreq_pages *pages, unsigned vcpu, uint64_t data)
{
    enum slot_state state = ioreq_slot_state(pages, vcpu);

    /* Nobody waits in a slot that is NONE or answered: writing there would break the vCPU's next request. */
    if (state != SLOT_READY && state != SLOT_INPROCESS) {
        return;
    }
    uint8_t *flags = flags_of(&pages->slots[vcpu]);
    __atomic_store_n(&pages->slots[vcpu].data, data, __ATOMIC_RELAXED);
    __atomic_store_n(flags, with_state(__atomic_load_n(flags, __ATOMIC_RELAXED), STATE_IORESP_READY),
                     __ATOMIC_RELEASE);
}

/* ---- the buffered ring ---- */

struct ring_pointers {
    uint32_t read, write;
};

/* Both at once: the atomic kind of ring has them moved back together by Xen, which leaves the slots where
 * they are. */
static struct ring_pointers ring_pointers(const struct buffered_iopage *ring)
{
    uint64_t both = __atomic_load_n((const uint64_t *)(const void *)ring, __ATOMIC_ACQUIRE);
    struct ring_pointers pointers;

    _Static_assert(offsetof(struct buffered_iopage, read_pointer) == 0, "pointers are one word");
    _Static_assert(offsetof(struct buffered_iopage, write_pointer) == sizeof(uint32_t),
                   "pointers are one word");
    memcpy(&pointers, &both, sizeof(pointers));
    return pointers;
}

static struct buf_ioreq ring_entry(const struct buffered_iopage *ring, uint32_t pointer)
{
    const struct buf_ioreq *entry = &ring->buf_ioreq[pointer % IOREQ_BUFFER_SLOT_NUM];
    uint64_t word = __atomic_load_n((const uint64_t *)(const void *)entry, __ATOMIC_RELAXED);
    struct buf_ioreq copy;

    memcpy(&copy, &word, sizeof(copy));
    return copy;
}

/* Fills *request from the entry at pointers.read; returns how many slots it takes. */
static uint32_t ring_decode(const struct buffered_iopage *ring, struct ring_pointers pointers,
                            struct request *request)
{
    struct buf_ioreq entry = ring_entry(ring, pointers.read);
    bool qword = entry.size == 3;

    *request = (struct request){.type = REQUEST_OTHER, .count = 1};
    if (entry.dir == IOREQ_READ) { /* nobody waits for an answer */
        return 1;
    }
    request->addr = entry.addr;
    request->size = 1u << entry.size;
    request->data = entry.data;
    if (qword) {
        struct buf_ioreq high = ring_entry(ring, pointers.read + 1);
        if (pointers.write - pointers.read < 2 || high.size != 3 || high.type != entry.type ||
            high.dir != entry.dir) {
            return 1; /* half a quadword */
        }
        request->data |= (uint64_t)high.data << 32;
    }
    request->type = type_of(entry.type);
    return qword ? 2 : 1;
}

int ioreq_ring_take(struct ioreq_pages *pages, struct request *request)
{
    struct ring_pointers pointers;
    uint32_t waiting, taken;

    if (!pages->ring) {
        return 0;
    }
    pointers = ring_pointers(pages->ring);
    waiting = pointers.write - pointers.read;
    if (waiting == 0) {
        return 0;
    }
    if (waiting > IOREQ_BUFFER_SLOT_NUM) {
        /* Xen never overruns: the pointers are broken, start anew where it writes. */
        *request = (struct request){.type = REQUEST_OTHER, .count = 1};
        taken = waiting;
    } else {
        taken = ring_decode(pages->ring, pointers, request);
    }
    /* Added, not stored: right for both kinds of ring. Released: the slot may be written again once Xen sees
     * it. */
    __atomic_fetch_add(&pages->ring->read_pointer, taken, __ATOMIC_RELEASE);
    return 1;
}
