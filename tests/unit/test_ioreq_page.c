/* SPDX-License-Identifier: BSD-2-Clause */
/* src/xen/ioreq_page.c against memory that this test fills as Xen does. */
#include <pthread.h>
#include <sched.h>

#include "xen/ioreq_page.h"

#include "unit.h"

static _Alignas(4096) struct ioreq slots[PAGES_SLOTS];
static _Alignas(4096) struct buffered_iopage ring;
static struct ioreq_pages pages = {.slots = slots, .ring = &ring};

static void setup(void)
{
    memset(slots, 0, sizeof(slots));
    memset(&ring, 0, sizeof(ring));
    pages.ring = &ring;
}

/* ---- slots ---- */

static const struct ioreq outb = {.addr = 0x3f8,
                                  .data = 0x41,
                                  .count = 1,
                                  .size = 1,
                                  .vp_eport = 9,
                                  .state = STATE_IOREQ_READY,
                                  .dir = IOREQ_WRITE,
                                  .type = IOREQ_TYPE_PIO};

START_TEST(slot_is_taken_once_and_answered)
{
    struct request request;

    slots[3] = outb;
    ck_assert_uint_eq(ioreq_slot_port(&pages, 3), 9);
    ck_assert_int_eq(ioreq_slot_state(&pages, 3), SLOT_READY);
    ck_assert_int_eq(ioreq_slot_take(&pages, 3, false, &request), 1);
    ck_assert_int_eq(request.type, REQUEST_PIO);
    ck_assert_uint_eq(request.addr, 0x3f8);
    ck_assert_uint_eq(request.data, 0x41);
    ck_assert_uint_eq(request.count, 1);
    ck_assert_uint_eq(request.size, 1);
    ck_assert(!request.read && !request.df && !request.data_is_ptr);
    ck_assert_uint_eq(slots[3].state, STATE_IOREQ_INPROCESS);
    ck_assert_int_eq(ioreq_slot_take(&pages, 3, false, &request), 0);
    ioreq_slot_answer(&pages, 3, 0x1122334455667788);
    ck_assert_uint_eq(slots[3].state, STATE_IORESP_READY);
    ck_assert_uint_eq(slots[3].data, 0x1122334455667788);
    ck_assert_int_eq(ioreq_slot_take(&pages, 3, true, &request), 0);
}
END_TEST

START_TEST(flags_are_read_and_kept)
{
    struct request request;

    slots[0] = (struct ioreq){.addr = 0xfe000000,
                              .data = 0x7000,
                              .count = 4096,
                              .size = 8,
                              .state = STATE_IOREQ_READY,
                              .data_is_ptr = 1,
                              .dir = IOREQ_READ,
                              .df = 1,
                              .type = IOREQ_TYPE_COPY};
    ck_assert_int_eq(ioreq_slot_take(&pages, 0, false, &request), 1);
    ck_assert_int_eq(request.type, REQUEST_COPY);
    ck_assert(request.read && request.df && request.data_is_ptr);
    ck_assert_uint_eq(request.count, 4096);
    ck_assert_uint_eq(request.size, 8);
    ioreq_slot_answer(&pages, 0, 1);
    ck_assert(slots[0].data_is_ptr && slots[0].df && slots[0].dir == IOREQ_READ);
    ck_assert_uint_eq(slots[0].addr, 0xfe000000);
    ck_assert_uint_eq(slots[0].type, IOREQ_TYPE_COPY);
}
END_TEST

START_TEST(types_are_known_or_other)
{
    static const struct {
        uint8_t xen;
        enum request_type ours;
    } types[] = {{IOREQ_TYPE_PIO, REQUEST_PIO},
                 {IOREQ_TYPE_COPY, REQUEST_COPY},
                 {IOREQ_TYPE_PCI_CONFIG, REQUEST_PCI_CONFIG},
                 {IOREQ_TYPE_TIMEOFFSET, REQUEST_TIMEOFFSET},
                 {IOREQ_TYPE_INVALIDATE, REQUEST_INVALIDATE},
                 {3, REQUEST_OTHER},
                 {9, REQUEST_OTHER},
                 {255, REQUEST_OTHER}};
    struct request request;

    slots[1] = outb;
    slots[1].type = types[_i].xen;
    ck_assert_int_eq(ioreq_slot_take(&pages, 1, false, &request), 1);
    ck_assert_int_eq(request.type, types[_i].ours);
}
END_TEST

/* Lessons: putting a taken-over INPROCESS back to READY makes Xen crash the guest. */
START_TEST(resume_takes_inprocess_as_it_is)
{
    struct request request;

    slots[5] = outb;
    slots[5].state = STATE_IOREQ_INPROCESS;
    ck_assert_int_eq(ioreq_slot_take(&pages, 5, false, &request), 0);
    ck_assert_int_eq(ioreq_slot_take(&pages, 5, true, &request), 1);
    ck_assert_uint_eq(slots[5].state, STATE_IOREQ_INPROCESS);
    ck_assert_uint_eq(request.data, 0x41);
}
END_TEST

/* In every one of the 16 states: nothing but READY and INPROCESS is ever written, and a state only rises. */
START_TEST(no_state_is_lowered_or_invented)
{
    struct ioreq before = outb;
    struct request request;
    unsigned state = (unsigned)_i;

    before.state = state & 0xf;
    slots[7] = before;
    int taken = ioreq_slot_take(&pages, 7, true, &request);
    ck_assert_int_eq(taken, state == STATE_IOREQ_READY || state == STATE_IOREQ_INPROCESS);
    ck_assert_uint_eq(slots[7].state, state == STATE_IOREQ_READY ? STATE_IOREQ_INPROCESS : state);
    slots[7] = before;
    ioreq_slot_answer(&pages, 7, 0x99);
    if (state == STATE_IOREQ_READY || state == STATE_IOREQ_INPROCESS) {
        ck_assert_uint_eq(slots[7].state, STATE_IORESP_READY);
    } else {
        ck_assert_mem_eq(&slots[7], &before, sizeof(before));
    }
}
END_TEST

START_TEST(vcpu_past_the_page_is_refused)
{
    static const unsigned past[] = {PAGES_SLOTS, PAGES_SLOTS + 1, 1u << 27, ~0u};
    struct request request;

    for (unsigned i = 0; i < PAGES_SLOTS; i++) {
        slots[i] = outb;
    }
    ck_assert_uint_eq(ioreq_slot_port(&pages, past[_i]), 0);
    ck_assert_int_eq(ioreq_slot_state(&pages, past[_i]), SLOT_NONE);
    ck_assert_int_eq(ioreq_slot_take(&pages, past[_i], true, &request), 0);
    ioreq_slot_answer(&pages, past[_i], 1);
    ck_assert_int_eq(ioreq_slot_take(&pages, PAGES_SLOTS - 1, true, &request), 1);
}
END_TEST

/* Xen on another CPU: fills the slot, READY; waits for RESP_READY, stores NONE before it reads the data, as
 * Xen does. */
enum { ROUNDS = 20000 };

static void *xen_side(void *arg)
{
    uint8_t *flags = (uint8_t *)&slots[0] + offsetof(struct ioreq, type) - 1;

    for (uint64_t i = 1; i <= ROUNDS; i++) {
        slots[0].addr = i;
        slots[0].data = ~i;
        slots[0].count = (uint32_t)i;
        slots[0].size = 4;
        __atomic_store_n(flags, STATE_IOREQ_READY, __ATOMIC_RELEASE);
        while ((__atomic_load_n(flags, __ATOMIC_ACQUIRE) & 0xf) != STATE_IORESP_READY) {
            sched_yield();
        }
        __atomic_store_n(flags, STATE_IOREQ_NONE, __ATOMIC_RELAXED);
        if (slots[0].data != i * 3) {
            return (void *)(uintptr_t)i;
        }
    }
    return NULL;
}

START_TEST(two_sides_agree)
{
    pthread_t xen;
    void *wrong;

    ck_assert_int_eq(pthread_create(&xen, NULL, xen_side, NULL), 0);
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        struct request request;
        while (!ioreq_slot_take(&pages, 0, false, &request)) {
            sched_yield();
        }
        ck_assert_uint_eq(request.addr, i);
        ck_assert_uint_eq(request.data, ~i);
        ck_assert_uint_eq(request.count, (uint32_t)i);
        ioreq_slot_answer(&pages, 0, i * 3);
    }
    ck_assert_int_eq(pthread_join(xen, &wrong), 0);
    ck_assert_ptr_null(wrong);
}
END_TEST

/* ---- the buffered ring ---- */

static bool ring_put(const struct ioreq *p, bool atomic)
{
    struct buf_ioreq entry = {
        .type = p->type, .dir = p->dir, .addr = (uint32_t)p->addr & 0xfffff, .data = (uint32_t)p->data};
    unsigned size = p->size == 8 ? 3 : p->size == 4 ? 2 : p->size == 2 ? 1 : 0;
    uint32_t need = p->size == 8 ? 2 : 1;

    entry.size = size & 3;
    if (ring.write_pointer - ring.read_pointer > IOREQ_BUFFER_SLOT_NUM - need) {
        return false;
    }
    ring.buf_ioreq[ring.write_pointer % IOREQ_BUFFER_SLOT_NUM] = entry;
    if (need == 2) {
        entry.data = (uint32_t)(p->data >> 32);
        ring.buf_ioreq[(ring.write_pointer + 1) % IOREQ_BUFFER_SLOT_NUM] = entry;
    }
    ring.write_pointer += need;
    while (atomic && ring.read_pointer >= IOREQ_BUFFER_SLOT_NUM) {
        ring.read_pointer -= IOREQ_BUFFER_SLOT_NUM;
        ring.write_pointer -= IOREQ_BUFFER_SLOT_NUM;
    }
    return true;
}

/* Several times round, with quadwords between. */
static void round_and_round(bool atomic)
{
    struct request request;
    uint64_t put = 0, got = 0;

    while (got < 5000) {
        struct ioreq p = {.addr = 0xa0000 + put % 0x20000,
                          .data = put * 0x0123456789abcdef,
                          .dir = IOREQ_WRITE,
                          .type = IOREQ_TYPE_COPY,
                          .size = 1u << put % 4};
        while (ring_put(&p, atomic)) {
            put++;
            p = (struct ioreq){.addr = 0xa0000 + put % 0x20000,
                               .data = put * 0x0123456789abcdef,
                               .dir = IOREQ_WRITE,
                               .type = IOREQ_TYPE_COPY,
                               .size = 1u << put % 4};
        }
        for (unsigned i = 0; i < 300 && ioreq_ring_take(&pages, &request); i++, got++) {
            uint64_t data = got * 0x0123456789abcdef;
            ck_assert_int_eq(request.type, REQUEST_COPY);
            ck_assert_uint_eq(request.addr, 0xa0000 + got % 0x20000);
            ck_assert_uint_eq(request.size, 1u << got % 4);
            ck_assert_uint_eq(request.data, got % 4 == 3 ? data : (uint32_t)data);
            ck_assert_uint_eq(request.count, 1);
            ck_assert(!request.read && !request.data_is_ptr);
        }
    }
    ck_assert_uint_gt(put, got - 1);
}

START_TEST(ring_legacy)
{
    round_and_round(false);
}
END_TEST

START_TEST(ring_atomic_is_moved_back_by_xen)
{
    round_and_round(true);
    ck_assert_uint_lt(ring.read_pointer, 2 * IOREQ_BUFFER_SLOT_NUM);
}
END_TEST

START_TEST(ring_empty_or_absent)
{
    struct request request;

    ck_assert_int_eq(ioreq_ring_take(&pages, &request), 0);
    pages.ring = NULL;
    ck_assert_int_eq(ioreq_ring_take(&pages, &request), 0);
}
END_TEST

START_TEST(ring_timeoffset)
{
    struct ioreq p = {
        .addr = 0, .data = (uint64_t)-3600, .dir = IOREQ_WRITE, .type = IOREQ_TYPE_TIMEOFFSET, .size = 8};
    struct request request;

    ck_assert(ring_put(&p, true));
    ck_assert_int_eq(ioreq_ring_take(&pages, &request), 1);
    ck_assert_int_eq(request.type, REQUEST_TIMEOFFSET);
    ck_assert_int_eq((int64_t)request.data, -3600);
    ck_assert_int_eq(ioreq_ring_take(&pages, &request), 0);
}
END_TEST

/* QEMU dies on half a quadword; we skip it and go on with what follows. */
START_TEST(ring_half_a_quadword_is_skipped)
{
    struct ioreq p = {.addr = 0xa0000, .data = 7, .dir = IOREQ_WRITE, .type = IOREQ_TYPE_COPY, .size = 8};
    struct request request;

    ck_assert(ring_put(&p, false));
    ring.write_pointer--; /* the second half never came */
    ck_assert_int_eq(ioreq_ring_take(&pages, &request), 1);
    ck_assert_int_eq(request.type, REQUEST_OTHER);
    ck_assert_int_eq(ioreq_ring_take(&pages, &request), 0);

    ring.buf_ioreq[ring.write_pointer % IOREQ_BUFFER_SLOT_NUM].size = 3;
    ring.write_pointer++;
    p.size = 1;
    ck_assert(ring_put(&p, false));
    ck_assert_int_eq(ioreq_ring_take(&pages, &request), 1);
    ck_assert_int_eq(request.type, REQUEST_OTHER);
    ck_assert_int_eq(ioreq_ring_take(&pages, &request), 1);
    ck_assert_int_eq(request.type, REQUEST_COPY);
    ck_assert_uint_eq(request.size, 1);
}
END_TEST

START_TEST(ring_read_is_malformed)
{
    struct ioreq p = {.addr = 0xa0000, .dir = IOREQ_READ, .type = IOREQ_TYPE_COPY, .size = 4};
    struct request request;

    ck_assert(ring_put(&p, false));
    ck_assert_int_eq(ioreq_ring_take(&pages, &request), 1);
    ck_assert_int_eq(request.type, REQUEST_OTHER);
    ck_assert_int_eq(ioreq_ring_take(&pages, &request), 0);
}
END_TEST

/* Whatever the pointers say, draining ends after at most a ring's worth. */
START_TEST(ring_broken_pointers_end)
{
    static const struct {
        uint32_t read, write;
    } broken[] = {{0, 512}, {1, 0}, {0, ~0u}, {~0u - 5, 1000}, {600, 88}, {0, 0x80000000}};
    struct request request;
    unsigned taken = 0;

    ring.read_pointer = broken[_i].read;
    ring.write_pointer = broken[_i].write;
    while (ioreq_ring_take(&pages, &request)) {
        ck_assert_int_eq(request.type, REQUEST_OTHER);
        ck_assert_uint_le(++taken, IOREQ_BUFFER_SLOT_NUM);
    }
    ck_assert_uint_ge(taken, 1);
    ck_assert_uint_eq(ring.read_pointer, ring.write_pointer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ioreq_page");
    TCase *tc = tcase_create("ioreq_page");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, slot_is_taken_once_and_answered);
    tcase_add_test(tc, flags_are_read_and_kept);
    tcase_add_loop_test(tc, types_are_known_or_other, 0, 8);
    tcase_add_test(tc, resume_takes_inprocess_as_it_is);
    tcase_add_loop_test(tc, no_state_is_lowered_or_invented, 0, 16);
    tcase_add_loop_test(tc, vcpu_past_the_page_is_refused, 0, 4);
    tcase_add_test(tc, two_sides_agree);
    tcase_add_test(tc, ring_legacy);
    tcase_add_test(tc, ring_atomic_is_moved_back_by_xen);
    tcase_add_test(tc, ring_empty_or_absent);
    tcase_add_test(tc, ring_timeoffset);
    tcase_add_test(tc, ring_half_a_quadword_is_skipped);
    tcase_add_test(tc, ring_read_is_malformed);
    tcase_add_loop_test(tc, ring_broken_pointers_end, 0, 6);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
