/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Split rings: what a friendly and what a hostile driver may put there. Over virtio-mmio, as that needs the
 * least.
 */
#include <linux/virtio_mmio.h>

#include "fake_virtio.h"
#include "virtio/walk.h"

#define ALL_RING_FEATURES                                                                                    \
    ((UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC) | (UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX))

static struct guest *guest;
static struct iod_device *device;
static struct fake_virtio fake;
static struct iod_region *region;

static void reg(unsigned offset, uint32_t value)
{
    fake_write(region, offset, 4, value);
}

static void enable_queue(unsigned index, uint32_t size)
{
    reg(VIRTIO_MMIO_QUEUE_SEL, index);
    reg(VIRTIO_MMIO_QUEUE_NUM, size);
    reg(VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)FAKE_DESC);
    reg(VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)FAKE_AVAIL);
    reg(VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)FAKE_USED);
    reg(VIRTIO_MMIO_QUEUE_READY, 1);
}

static void bring_up(uint64_t features)
{
    features |= UINT64_C(1) << VIRTIO_F_VERSION_1;
    reg(VIRTIO_MMIO_STATUS, 0);
    reg(VIRTIO_MMIO_STATUS, 1);
    reg(VIRTIO_MMIO_STATUS, 3);
    for (unsigned half = 0; half < 2; half++) {
        reg(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
        reg(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * half)));
    }
    reg(VIRTIO_MMIO_STATUS, 11);
    enable_queue(0, FAKE_SIZE);
    reg(VIRTIO_MMIO_STATUS, 15);
    ck_assert_uint_eq(fake_read(region, VIRTIO_MMIO_STATUS, 4), 15);
    fake_tasks(device);
}

static void setup(void)
{
    struct iod_error error = {0};

    guest = fake_guest(ARCH_ARM, GUEST_UNKNOWN);
    device = fake_device(guest, "test");
    device->keys.has_base = device->keys.has_irq = true;
    device->keys.base = 0x02000000;
    device->keys.irq = 33;
    ck_assert_msg(fake_virtio_add(&fake, device, &error) != NULL, "%s", error.text);
    region = fake_region(device, 0);
    fake_start(device);
    fake.keep = true;
}

static void teardown(void)
{
    fake_device_free(device);
    fake_guest_free(guest);
}

static void expect_broken(const char *why)
{
    ck_assert_int_eq(fake_pop(&fake), 0);
    ck_assert_uint_eq(fake_read(region, VIRTIO_MMIO_STATUS, 4), 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
    ck_assert_msg(strstr(device->last_error, why) != NULL, "'%s' does not say '%s'", device->last_error, why);
    ck_assert(!iod_virtq_ready(iod_virtio_queue(fake.virtio, 0)));
    ck_assert_int_eq(fake_pop(&fake), 0);
    ck_assert_uint_eq(device->guest_errors, 1); /* once, not at each look */
}

START_TEST(a_chain)
{
    bring_up(0);
    fake_set(guest, 3, FAKE_BASE + 0x10, 16, VRING_DESC_F_NEXT, 5);
    fake_set(guest, 5, FAKE_BASE + 0x100, 0, VRING_DESC_F_NEXT, 1); /* empty: skipped */
    fake_set(guest, 1, FAKE_BASE + 0x200, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 0);
    fake_set(guest, 0, FAKE_BASE + 0x400, 1, VRING_DESC_F_WRITE, 77);
    fake_offer(guest, 3);
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert_uint_eq(fake.chain.out, 1);
    ck_assert_uint_eq(fake.chain.in, 2);
    ck_assert_uint_eq(fake.chain.out_length, 16);
    ck_assert_uint_eq(fake.chain.in_length, 513);
    ck_assert_uint_eq(fake.chain.head, 3);
    ck_assert_uint_eq(fake.extents[1].address, FAKE_BASE + 0x200);
    ck_assert_int_eq(fake_pop(&fake), 0);
    /* Seen at the flush, not before. */
    iod_virtq_push(iod_virtio_queue(fake.virtio, 0), 3, 513);
    ck_assert_uint_eq(fake_used(guest)[1], 0);
    ck_assert_uint_eq(device->raised, 0);
    iod_virtq_flush(iod_virtio_queue(fake.virtio, 0));
    ck_assert_uint_eq(fake_used(guest)[1], 1);
    ck_assert_uint_eq(fake_used_element(guest, 0)->id, 3);
    ck_assert_uint_eq(fake_used_element(guest, 0)->len, 513);
    ck_assert_uint_eq(device->raised, 1);
    iod_virtq_flush(iod_virtio_queue(fake.virtio, 0)); /* nothing new: no interrupt */
    ck_assert_uint_eq(device->raised, 1);
}
END_TEST

START_TEST(unpop_gives_the_same_chain_again)
{
    bring_up(0);
    fake_set(guest, 2, FAKE_BASE, 4, 0, 0);
    fake_offer(guest, 2);
    ck_assert_int_eq(fake_pop(&fake), 1);
    iod_virtq_unpop(iod_virtio_queue(fake.virtio, 0));
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert_uint_eq(fake.chain.head, 2);
    ck_assert_int_eq(fake_pop(&fake), 0);
}
END_TEST

START_TEST(indices_wrap)
{
    bring_up(0);
    fake.keep = false;
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    for (unsigned i = 0; i < 70000; i++) {
        fake_offer(guest, 0);
        reg(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        fake_tasks(device);
    }
    ck_assert_uint_eq(fake.popped, 70000);
    ck_assert_uint_eq(fake_used(guest)[1], 70000 % 65536);
    ck_assert_uint_eq(device->raised, 70000);
    ck_assert_uint_eq(device->guest_errors, 0);
}
END_TEST

START_TEST(several_kicks_are_one_drain)
{
    bring_up(0);
    fake.keep = false;
    fake.notified[0] = 0;
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    for (unsigned i = 0; i < 5; i++) {
        fake_offer(guest, 0);
        reg(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    }
    ck_assert_uint_eq(fake.notified[0], 0);
    fake_tasks(device);
    ck_assert_uint_eq(fake.notified[0], 1);
    ck_assert_uint_eq(fake.popped, 5);
    ck_assert_uint_eq(device->raised, 1);
}
END_TEST

/* A driver that refills the ring while it is drained (another vCPU) can't hold us. */
START_TEST(a_drain_ends)
{
    bring_up(0);
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    for (unsigned i = 0; i < FAKE_SIZE; i++) {
        fake_offer(guest, 0);
        ck_assert_int_eq(fake_pop(&fake), 1);
    }
    fake_offer(guest, 0);
    ck_assert_int_eq(fake_pop(&fake), 0);
    fake.notified[0] = 0;
    ck_assert_uint_eq(fake_tasks(device), 1); /* but it is not forgotten */
    ck_assert_uint_eq(fake.notified[0], 1);
    ck_assert_int_eq(fake_pop(&fake), 1);
}
END_TEST

/* What a notification brings is looked at once for each: an entry may be popped before its own, and need not be. */
START_TEST(empty_kicks)
{
    bring_up(0);
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    for (unsigned i = 0; i < 5; i++) {
        fake_offer(guest, 0);
        ck_assert_int_eq(fake_pop(&fake), 1); /* the device was still at it */
        iod_virtq_push(iod_virtio_queue(fake.virtio, 0), 0, 0);
        reg(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        fake_tasks(device);
    }
    fake.keep = false;
    fake_offer(guest, 0);
    reg(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    reg(VIRTIO_MMIO_QUEUE_NOTIFY, 0); /* two of them are looked at together */
    fake_tasks(device);
    ck_assert_uint_eq(device->deeds[DEED_EMPTY_KICK], 0);
    for (unsigned i = 0; i < 7; i++) {
        reg(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
        fake_tasks(device);
    }
    ck_assert_uint_eq(device->deeds[DEED_EMPTY_KICK], 7);
    ck_assert_uint_eq(device->guest_errors, 0);
}
END_TEST

START_TEST(suppression_by_flags)
{
    struct iod_virtq *queue = iod_virtio_queue(fake.virtio, 0);

    bring_up(0);
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    fake_avail(guest)[0] = VRING_AVAIL_F_NO_INTERRUPT;
    fake_offer(guest, 0);
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert_uint_eq(fake_used(guest)[0], VRING_USED_F_NO_NOTIFY);
    iod_virtq_push(queue, 0, 0);
    iod_virtq_flush(queue);
    ck_assert_uint_eq(device->raised, 0);
    ck_assert_int_eq(fake_pop(&fake), 0);
    ck_assert_uint_eq(fake_used(guest)[0], 0); /* none left: kick me */
}
END_TEST

START_TEST(event_index)
{
    struct iod_virtq *queue = iod_virtio_queue(fake.virtio, 0);

    bring_up(ALL_RING_FEATURES);
    ck_assert_int_eq(fake_pop(&fake), 0);
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    fake_avail(guest)[2 + FAKE_SIZE] = 1; /* tell me at the second */
    for (unsigned i = 0; i < 3; i++) {
        fake_offer(guest, 0);
        ck_assert_int_eq(fake_pop(&fake), 1);
        iod_virtq_push(queue, 0, 0);
        iod_virtq_flush(queue);
        ck_assert_uint_eq(device->raised, i == 0 ? 0 : 1);
    }
    ck_assert_uint_eq(*fake_avail_event(guest), 0);
    ck_assert_int_eq(fake_pop(&fake), 0);
    ck_assert_uint_eq(*fake_avail_event(guest), 3);
    ck_assert_uint_eq(fake_used(guest)[0], 0);
    /* A batch that passes the event interrupts once. */
    fake_avail(guest)[2 + FAKE_SIZE] = 4;
    fake_offer(guest, 0);
    fake_offer(guest, 0);
    fake_offer(guest, 0);
    while (fake_pop(&fake)) {
        iod_virtq_push(queue, 0, 0);
    }
    iod_virtq_flush(queue);
    ck_assert_uint_eq(device->raised, 2);
}
END_TEST

/* While a chain is in flight an empty ring is not asked for kicks before the batch is over. */
START_TEST(kicks_asked_for_last)
{
    struct iod_virtq *queue = iod_virtio_queue(fake.virtio, 0);

    bring_up(ALL_RING_FEATURES);
    fake_tasks(device);
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    fake_offer(guest, 0);
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert_int_eq(fake_pop(&fake), 0);
    ck_assert_uint_eq(*fake_avail_event(guest), 0);
    iod_virtq_push(queue, 0, 0);
    iod_virtq_flush(queue);
    fake_offer(guest, 0); /* the driver was quick, and sends no kick: nobody asked for one */
    fake.notified[0] = 0;
    fake_tasks(device); /* the end of the batch */
    fake_tasks(device);
    ck_assert_uint_eq(*fake_avail_event(guest), 1);
    ck_assert_uint_eq(fake.notified[0], 1);
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert_int_eq(fake_pop(&fake), 0);
    ck_assert_uint_eq(*fake_avail_event(guest), 1);
    fake_tasks(device); /* it is still in flight, and may be for long */
    ck_assert_uint_eq(*fake_avail_event(guest), 2);
    fake_tasks(device);
    ck_assert_uint_eq(fake.notified[0], 1);
}
END_TEST

/* A device that puts chains back because they are too few hears of the next one, and only of that. */
START_TEST(kicks_for_more_than_was_put_back)
{
    struct iod_virtq *queue = iod_virtio_queue(fake.virtio, 0);

    bring_up(_i ? ALL_RING_FEATURES : 0);
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    fake_offer(guest, 0);
    fake_offer(guest, 0);
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert_int_eq(fake_pop(&fake), 0);
    iod_virtq_unpop(queue);
    iod_virtq_unpop(queue);
    fake.notified[0] = 0;
    fake_tasks(device); /* the end of the batch: asks for kicks */
    fake_tasks(device);
    ck_assert_uint_eq(fake.notified[0], 0); /* what it knows already is no news */
    ck_assert_uint_eq(*fake_avail_event(guest), _i ? 2 : 0);
    ck_assert_uint_eq(fake_used(guest)[0], 0);
    ck_assert_int_eq(fake_pop(&fake), 1); /* it is all still there */
    ck_assert_int_eq(fake_pop(&fake), 1);
    fake_offer(guest, 0);
    ck_assert_int_eq(fake_pop(&fake), 1);
}
END_TEST

START_TEST(indirect)
{
    struct vring_desc *table = fake_at(guest, FAKE_BASE + 0x8000, 16 * 1024);

    bring_up(ALL_RING_FEATURES);
    table[0] = (struct vring_desc){.addr = FAKE_BASE, .len = 16, .flags = VRING_DESC_F_NEXT, .next = 2};
    table[2] = (struct vring_desc){.addr = FAKE_BASE + 64, .len = 8, .flags = VRING_DESC_F_WRITE};
    fake_set(guest, 0, FAKE_BASE + 0x100, 5, VRING_DESC_F_NEXT, 1); /* a plain one may stand before it */
    fake_set(guest, 1, FAKE_BASE + 0x8000, 48, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 0);
    fake_offer(guest, 0);
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert_uint_eq(fake.chain.out, 2);
    ck_assert_uint_eq(fake.chain.in, 1);
    ck_assert_uint_eq(fake.chain.out_length, 21);
}
END_TEST

/* Each row makes one chain bad in one way. */
static const struct bad_chain {
    struct vring_desc main[3], table[3];
    uint32_t features; /* INDIRECT_DESC or not */
    const char *why;
} bad_chains[] = {
    {.main = {{FAKE_BASE, 4, VRING_DESC_F_NEXT, 1}, {FAKE_BASE, 4, VRING_DESC_F_NEXT, 0}}, .why = "loop"},
    {.main = {{FAKE_BASE, 0, VRING_DESC_F_NEXT, 0}}, .why = "loop"},
    {.main = {{FAKE_BASE, 4, VRING_DESC_F_NEXT, FAKE_SIZE}}, .why = "beyond the table"},
    {.main = {{FAKE_BASE, 4, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1}, {FAKE_BASE, 4, 0, 0}},
     .why = "readable buffer"},
    {.main = {{UINT64_MAX - 2, 4, 0, 0}}, .why = "address space"},
    {.main = {{FAKE_BASE, UINT32_MAX, VRING_DESC_F_NEXT, 1}, {FAKE_BASE, 2, 0, 0}}, .why = "2^32"},
    {.main = {{FAKE_BASE + 0x8000, 16, VRING_DESC_F_INDIRECT, 0}}, .why = "not negotiated"},
    {.main = {{FAKE_BASE + 0x8000, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1}},
     .features = 1,
     .why = "both"},
    {.main = {{FAKE_BASE + 0x8000, 0, VRING_DESC_F_INDIRECT, 0}}, .features = 1, .why = "wrong length"},
    {.main = {{FAKE_BASE + 0x8000, 17, VRING_DESC_F_INDIRECT, 0}}, .features = 1, .why = "wrong length"},
    {.main = {{FAKE_BASE + 0x8000, 16 * 1025, VRING_DESC_F_INDIRECT, 0}},
     .features = 1,
     .why = "wrong length"},
    {.main = {{UINT64_MAX - 7, 16, VRING_DESC_F_INDIRECT, 0}}, .features = 1, .why = "wrong length"},
    {.main = {{16, 16, VRING_DESC_F_INDIRECT, 0}}, .features = 1, .why = "not in memory"},
    {.main = {{FAKE_BASE + 0x8000, 32, VRING_DESC_F_INDIRECT, 0}},
     .table = {{FAKE_BASE + 0x8000, 16, VRING_DESC_F_INDIRECT, 0}},
     .features = 1,
     .why = "inside an indirect"},
    {.main = {{FAKE_BASE + 0x8000, 32, VRING_DESC_F_INDIRECT, 0}},
     .table = {{FAKE_BASE, 4, VRING_DESC_F_NEXT, 2}},
     .features = 1,
     .why = "beyond the table"},
    {.main = {{FAKE_BASE + 0x8000, 32, VRING_DESC_F_INDIRECT, 0}},
     .table = {{FAKE_BASE, 4, VRING_DESC_F_NEXT, 1}, {FAKE_BASE, 4, VRING_DESC_F_NEXT, 0}},
     .features = 1,
     .why = "loop"},
};

START_TEST(hostile_chains)
{
    const struct bad_chain *bad = &bad_chains[_i];

    bring_up(bad->features ? UINT64_C(1) << VIRTIO_RING_F_INDIRECT_DESC : 0);
    memcpy(fake_desc(guest, 0), bad->main, sizeof(bad->main));
    memcpy(fake_at(guest, FAKE_BASE + 0x8000, 48), bad->table, sizeof(bad->table));
    fake_offer(guest, 0);
    expect_broken(bad->why);
}
END_TEST

START_TEST(chain_of_too_many_buffers)
{
    struct vring_desc *table = fake_at(guest, FAKE_BASE + 0x8000, 17 * 16);

    bring_up(ALL_RING_FEATURES);
    for (unsigned i = 0; i < 17; i++) {
        table[i] = (struct vring_desc){.addr = FAKE_BASE, .len = 1, .flags = i < 16 ? VRING_DESC_F_NEXT : 0,
                                       .next = (uint16_t)(i + 1)};
    }
    fake_set(guest, 0, FAKE_BASE + 0x8000, 17 * 16, VRING_DESC_F_INDIRECT, 0);
    fake_offer(guest, 0);
    expect_broken("too many");
}
END_TEST

START_TEST(hostile_heads_and_indices)
{
    bring_up(0);
    fake_offer(guest, FAKE_SIZE);
    expect_broken("head");
    device->guest_errors = 0;
    bring_up(0);
    fake_avail(guest)[1] = FAKE_SIZE + 1;
    expect_broken("ahead of");
    device->guest_errors = 0;
    memset(fake_avail(guest), 0, 64);
    bring_up(0);
    fake_avail(guest)[1] = 0xffff; /* backwards */
    expect_broken("ahead of");
}
END_TEST

START_TEST(rings_that_are_not_there)
{
    bring_up(0);
    reg(VIRTIO_MMIO_STATUS, 0);
    device->guest_errors = 0;
    bring_up(0);
    reg(VIRTIO_MMIO_QUEUE_READY, 0);
    reg(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
    reg(VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x2000);
    reg(VIRTIO_MMIO_QUEUE_USED_LOW, 0x3000);
    reg(VIRTIO_MMIO_QUEUE_READY, 1);
    expect_broken("not in memory");
}
END_TEST

START_TEST(queues_that_are_not_acceptable)
{
    const struct {
        uint32_t offset, value;
    } bad[] = {{VIRTIO_MMIO_QUEUE_NUM, 0},          {VIRTIO_MMIO_QUEUE_NUM, 3},
               {VIRTIO_MMIO_QUEUE_NUM, 16},         {VIRTIO_MMIO_QUEUE_NUM, 0x10008},
               {VIRTIO_MMIO_QUEUE_DESC_LOW, 0x108}, {VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x101},
               {VIRTIO_MMIO_QUEUE_USED_LOW, 0x102}};

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        reg(VIRTIO_MMIO_STATUS, 0);
        reg(VIRTIO_MMIO_QUEUE_SEL, 0);
        reg(VIRTIO_MMIO_QUEUE_NUM, FAKE_SIZE);
        reg(bad[i].offset, bad[i].value);
        reg(VIRTIO_MMIO_QUEUE_READY, 1);
        ck_assert_uint_eq(fake_read(region, VIRTIO_MMIO_QUEUE_READY, 4), 0);
        ck_assert_uint_eq(device->guest_errors, i + 1);
    }
}
END_TEST

START_TEST(disabling_waits_for_what_is_in_flight)
{
    struct iod_virtq *queue = iod_virtio_queue(fake.virtio, 0);

    bring_up(0);
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    fake_offer(guest, 0);
    fake_offer(guest, 0);
    fake_offer(guest, 0);
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert(!fake_write(region, VIRTIO_MMIO_QUEUE_READY, 4, 0));
    ck_assert_int_eq(fake_pop(&fake), 0); /* nothing more is taken */
    iod_virtq_push(queue, 0, 0);
    iod_virtq_flush(queue);
    ck_assert_ptr_nonnull(device->access);
    iod_virtq_push(queue, 0, 0);
    ck_assert_ptr_nonnull(device->access);
    iod_virtq_flush(queue);
    ck_assert_ptr_null(device->access);
    ck_assert_uint_eq(fake_used(guest)[1], 2);
    ck_assert_uint_eq(fake_read(region, VIRTIO_MMIO_QUEUE_READY, 4), 0);
    ck_assert_uint_eq(iod_virtq_size(queue), 0);
    ck_assert_uint_eq(fake.queue_resets, 1);
    /* What comes now touches nothing. */
    iod_virtq_push(queue, 0, 0);
    iod_virtq_flush(queue);
    ck_assert_uint_eq(fake_used(guest)[1], 2);
    ck_assert(fake_write(region, VIRTIO_MMIO_QUEUE_READY, 4, 0)); /* again: at once */
}
END_TEST

START_TEST(a_cancelled_device_lets_the_disabling_end)
{
    bring_up(0);
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    fake_offer(guest, 0);
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert(!fake_write(region, VIRTIO_MMIO_QUEUE_READY, 4, 0));
    fake_stop(device); /* unplug: the device gave the chain up */
    ck_assert_ptr_null(device->access);
}
END_TEST

START_TEST(stop_publishes_and_start_looks_again)
{
    struct iod_virtq *queue = iod_virtio_queue(fake.virtio, 0);

    bring_up(0);
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    fake_offer(guest, 0);
    ck_assert_int_eq(fake_pop(&fake), 1);
    iod_virtq_push(queue, 0, 0);
    reg(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    fake_stop(device);
    ck_assert_uint_eq(fake_used(guest)[1], 1);
    ck_assert_uint_eq(fake_tasks(device), 0);
    fake_offer(guest, 0);
    ck_assert_int_eq(fake_pop(&fake), 0);
    fake.notified[0] = 0;
    fake_start(device);
    fake_tasks(device);
    ck_assert_uint_eq(fake.notified[0], 1);
    ck_assert_int_eq(fake_pop(&fake), 1);
}
END_TEST

START_TEST(pure_helpers)
{
    ck_assert_int_eq(walk_available(5, 5, 8), 0);
    ck_assert_int_eq(walk_available(3, 0xfffd, 8), 6);
    ck_assert_int_eq(walk_available(8, 0, 8), 8);
    ck_assert_int_eq(walk_available(9, 0, 8), -1);
    ck_assert(walk_event_passed(4, 5, 4));
    ck_assert(!walk_event_passed(5, 5, 4));
    ck_assert(!walk_event_passed(3, 5, 4));
    ck_assert(walk_event_passed(0xffff, 0, 0xfffe));
    ck_assert(!walk_event_passed(7, 7, 7));
    ck_assert_ptr_null(walk_ring_check(8, 8, 0x1000, 0x2000, 0x3000));
    ck_assert_ptr_nonnull(walk_ring_check(8, 8, UINT64_MAX - 15, 0x2000, 0x3000));
    ck_assert_ptr_nonnull(walk_ring_check(8, 8, 0x1000, UINT64_MAX - 1, 0x3000));
    ck_assert_ptr_nonnull(walk_ring_check(8, 8, 0x1000, 0x2000, UINT64_MAX - 3));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtq");
    TCase *tests = tcase_create("virtq");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_chain);
    tcase_add_test(tests, unpop_gives_the_same_chain_again);
    tcase_add_test(tests, indices_wrap);
    tcase_add_test(tests, several_kicks_are_one_drain);
    tcase_add_test(tests, a_drain_ends);
    tcase_add_test(tests, empty_kicks);
    tcase_add_test(tests, suppression_by_flags);
    tcase_add_test(tests, event_index);
    tcase_add_test(tests, kicks_asked_for_last);
    tcase_add_loop_test(tests, kicks_for_more_than_was_put_back, 0, 2);
    tcase_add_test(tests, indirect);
    tcase_add_loop_test(tests, hostile_chains, 0, (int)(sizeof(bad_chains) / sizeof(bad_chains[0])));
    tcase_add_test(tests, chain_of_too_many_buffers);
    tcase_add_test(tests, hostile_heads_and_indices);
    tcase_add_test(tests, rings_that_are_not_there);
    tcase_add_test(tests, queues_that_are_not_acceptable);
    tcase_add_test(tests, disabling_waits_for_what_is_in_flight);
    tcase_add_test(tests, a_cancelled_device_lets_the_disabling_end);
    tcase_add_test(tests, stop_publishes_and_start_looks_again);
    tcase_add_test(tests, pure_helpers);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
