/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory and registers gone wild: rings where no memory is, pages that are taken away, descriptors that
 * change while they are read, registers written at random. The daemon lives and the disk beside does not
 * notice.
 */
#include <check.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk_hand.h"

#define WAIT_MS 5000

static struct rig rig;

/* ---- rings that are not where they should be ---- */

static enum outcome with_rings(uint64_t desc_gpa, uint64_t avail_gpa, uint64_t used_gpa)
{
    ck_assert_int_eq(virtio_negotiate(&rig.driver, VIRTIO_BLK_ALL), 0);
    struct virtio_queue *queue = virtio_ring_make(&rig.driver, 0, 128);
    ck_assert_ptr_nonnull(queue);
    rig.driver.queues[0] = queue;
    struct hand hand = hand_make(&rig);
    queue->desc_gpa = desc_gpa ? desc_gpa : queue->desc_gpa;
    queue->avail_gpa = avail_gpa ? avail_gpa : queue->avail_gpa;
    queue->used_gpa = used_gpa ? used_gpa : queue->used_gpa;
    if (rig.driver.transport->queue_enable(queue)) {
        return REFUSED;
    }
    virtio_start(&rig.driver);
    hand_sound(&hand);
    hand_offer(&hand, 0);
    virtio_queue_publish(queue);
    virtio_queue_notify(queue);
    return hand_see(&hand, 200);
}

START_TEST(rings_in_wrong_places)
{
    rig_start_pair(&rig, (enum rig_place)_i, "");
    uint64_t end = rig_ram_end(&rig);
    const uint64_t wrong[] = {NOWHERE, end - 64, UINT64_MAX - 15, UINT64_MAX - 4095, end, 1ull << 63};
    struct virtio_arena arena = rig.driver.arena;
    for (unsigned i = 0; i < 3 * sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint64_t gpa = wrong[i / 3];
        enum outcome outcome =
            with_rings(i % 3 == 0 ? gpa : 0, i % 3 == 1 ? gpa & ~1ull : 0, i % 3 == 2 ? gpa & ~3ull : 0);
        /* A used ring is missed when something is used; half an available ring shows an index of 0. */
        bool quiet = i % 3 == 2 || (i % 3 == 1 && gpa == end - 64);
        ck_assert_msg(outcome == BROKEN || outcome == REFUSED || (quiet && outcome == IGNORED),
                      "%s: ring %u at 0x%llx: outcome %d", rig_place_name(rig.place), i % 3,
                      (unsigned long long)gpa, outcome);
        rig_expect_disk_works(&rig.other);
        rig.driver.arena = arena;
    }
    ck_assert_int_eq(virtio_reset(&rig.driver), 0);
    rig_restart(&rig);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* Not aligned (2.7): the queue is not enabled, or the device breaks; it never touches such a ring. */
START_TEST(rings_that_are_not_aligned)
{
    rig_start_pair(&rig, (enum rig_place)_i, "");
    uint64_t gpa = rig_memory(&rig, 16384, NULL);
    for (unsigned i = 0; i < 3; i++) {
        enum outcome outcome = with_rings(i == 0 ? gpa + 8 : 0, i == 1 ? gpa + 1 : 0, i == 2 ? gpa + 2 : 0);
        ck_assert_msg(outcome == BROKEN || outcome == REFUSED, "%s: ring %u: outcome %d",
                      rig_place_name(rig.place), i, outcome);
    }
    rig_restart(&rig);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* ---- memory that goes away ---- */

START_TEST(a_ballooned_buffer_is_an_io_error)
{
    rig_start_pair(&rig, (enum rig_place)_i, "");
    uint64_t gpa = (rig_memory(&rig, 3 * 4096, NULL) + 4095) / 4096 * 4096;
    struct virtio_buffer data = {.gpa = gpa, .length = 4096, .write = true};
    ck_assert_int_eq(virtio_blk_io(&rig.blk, 0, VIRTIO_BLK_T_IN, 0, &data, 1, false), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(vcpu_decrease_reservation(rig.f.guest, 0, gpa / 4096, 1), MOCK_DONE);
    ck_assert_int_eq(virtio_blk_io(&rig.blk, 0, VIRTIO_BLK_T_IN, 0, &data, 1, false), VIRTIO_BLK_S_IOERR);
    rig_expect_disk_works(&rig.blk);
    ck_assert_int_eq(mock_populate(rig.f.guest, gpa / 4096, 1), 0);
    ck_assert_int_eq(virtio_blk_io(&rig.blk, 0, VIRTIO_BLK_T_IN, 3, &data, 1, false), VIRTIO_BLK_S_OK);
    uint8_t bytes[4096]; /* a failed page is not remembered as failed, and an old one not as mapped */
    ck_assert_int_eq(mock_guest_read(rig.f.guest, gpa, bytes, sizeof(bytes)), 0);
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        if (bytes[i] != fixture_pattern(3 * 512 + i)) {
            ck_abort_msg("byte %u", i);
        }
    }
    rig_expect_disk_works(&rig.other);
    rig_stop(&rig);
}
END_TEST

START_TEST(a_ballooned_ring_breaks_the_device)
{
    rig_start_pair(&rig, (enum rig_place)_i, "");
    struct virtio_queue *queue = rig.driver.queues[0];
    rig_expect_disk_works(&rig.blk);
    uint64_t gfn = queue->avail_gpa / 4096;
    ck_assert_int_eq(vcpu_decrease_reservation(rig.f.guest, 0, gfn, 1), MOCK_DONE);
    virtio_queue_notify(queue);
    ck_assert_int_eq(virtio_wait_needs_reset(&rig.driver, WAIT_MS), 0);
    rig_expect_disk_works(&rig.other);
    ck_assert_int_eq(mock_populate(rig.f.guest, gfn, 1), 0);
    rig_restart(&rig);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* ---- memory that changes while it is read ---- */

struct flicker {
    struct hand hand;
    atomic_bool end;
};

static void *flicker_run(void *argument)
{
    struct flicker *flicker = argument;
    unsigned seed = 5;
    while (!atomic_load(&flicker->end)) {
        struct vring_desc *desc = &flicker->hand.table[(unsigned)rand_r(&seed) % 3];
        desc->next = (uint16_t)(rand_r(&seed) % 5);
        desc->flags = (uint16_t)(rand_r(&seed) % 8);
        desc->len = rand_r(&seed) % 4 ? 512 : (uint32_t)rand_r(&seed);
        flicker->hand.head->type = (uint32_t)rand_r(&seed) % 16;
        flicker->hand.head->sector = rand_r(&seed) % 2 ? 5 : (uint64_t)rand_r(&seed) << 33;
    }
    return NULL;
}

START_TEST(descriptors_that_change_while_they_are_read)
{
    rig_start_pair(&rig, (enum rig_place)_i, "");
    struct virtio_arena arena = rig.driver.arena;
    for (unsigned round = 0; round < 100; round++) {
        struct flicker flicker = {.end = false};
        pthread_t thread;
        rig_start_disk(&rig, VIRTIO_BLK_ALL, 1, 64);
        flicker.hand = hand_make(&rig);
        hand_sound(&flicker.hand);
        ck_assert_int_eq(pthread_create(&thread, NULL, flicker_run, &flicker), 0);
        for (unsigned i = 0; i < 32; i++) {
            hand_desc(&flicker.hand, i, flicker.hand.table_gpa, 48, VRING_DESC_F_INDIRECT, 0);
            hand_offer(&flicker.hand, i);
            virtio_queue_publish(flicker.hand.queue);
            virtio_queue_notify(flicker.hand.queue);
        }
        atomic_store(&flicker.end, true);
        pthread_join(thread, NULL);
        ck_assert_int_eq(virtio_reset(&rig.driver), 0);
        rig.driver.arena = arena;
    }
    rig_expect_daemon_lives(&rig);
    rig_expect_disk_works(&rig.other);
    rig_restart(&rig);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* ---- registers at random ---- */

static uint64_t odd_value(void)
{
    static const uint64_t values[] = {0,    1,     2,      3,       0x7f,       0x80,
                                      0xff, 0x100, 0xffff, 0x10000, 0x7fffffff, 0xffffffff};
    return rand() % 2 ? values[(unsigned)rand() % 12] : (uint64_t)(unsigned)rand() << 4;
}

static void write_at_random(uint64_t base, uint32_t length, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned width = 1u << rand() % 4;
        uint64_t offset = (unsigned)rand() % length;
        offset = rand() % 4 ? offset & ~(uint64_t)(width - 1) : offset;
        if (offset + width > length) {
            continue;
        }
        if (rand() % 4 == 0) {
            vcpu_mmio_read(rig.f.guest, 0, base + offset, width);
        } else {
            vcpu_mmio_write(rig.f.guest, 0, base + offset, width, odd_value());
        }
    }
}

static void config_at_random(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned width = 1u << rand() % 3, offset = (unsigned)rand() % 256 & ~(width - 1);
        if (offset >= PCI_BASE_ADDRESS_0 && offset < PCI_BASE_ADDRESS_0 + 24) {
            continue; /* it may not be laid over the other disk: that one is to be seen working */
        }
        vcpu_pci_write(rig.f.guest, 0, rig.driver.pci.sbdf, offset, width, (uint32_t)odd_value());
    }
}

static void reopen(void)
{
    const struct virtio_driver old = rig.driver;
    struct virtio_arena arena = old.arena;
    int result;
    if (rig_is_pci(rig.place)) {
        result = virtio_pci_open(&rig.driver, rig.f.guest, 0, old.pci.sbdf, VIRTIO_ID_BLOCK_DEVICE,
                                 old.interrupt, 0xe0000000, arena);
    } else {
        result = virtio_mmio_open(&rig.driver, rig.f.guest, 0, old.mmio.base, VIRTIO_ID_BLOCK_DEVICE,
                                  old.interrupt, old.line, arena);
    }
    ck_assert_int_eq(result, 0);
}

START_TEST(registers_written_at_random)
{
    rig_start_pair(&rig, (enum rig_place)_i, "");
    srand(1234 + (unsigned)_i);
    struct virtio_arena arena = rig.driver.arena;
    for (unsigned round = 0; round < 20; round++) {
        rig_start_disk(&rig, VIRTIO_BLK_ALL, 1, 0);
        if (rig_is_pci(rig.place)) {
            for (unsigned bar = 0; bar < 6; bar++) {
                if (rig.driver.pci.bars[bar]) {
                    write_at_random(rig.driver.pci.bars[bar], (uint32_t)rig.driver.pci.bar_sizes[bar], 100);
                }
            }
            write_at_random(rig.driver.pci.common, 0x40, 100);
            config_at_random(30);
        } else {
            write_at_random(rig.driver.mmio.base, 0x200, 250);
        }
        rig_expect_disk_works(&rig.other);
        virtio_close(&rig.driver);
        rig.driver.arena = arena;
        reopen();
        ck_assert_int_eq(virtio_reset(&rig.driver), 0);
    }
    rig_restart(&rig);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* Each test is a case of its own, so that CK_RUN_CASE=name runs it alone. From place `from` to before
 * `to`. */
#define ADD(test, from, to)                                                                                  \
    do {                                                                                                     \
        TCase *tests = tcase_create(#test);                                                                  \
        tcase_set_timeout(tests, 180);                                                                       \
        tcase_add_loop_test(tests, test, from, to);                                                          \
        suite_add_tcase(suite, tests);                                                                       \
    } while (0)

int main(void)
{
    Suite *suite = suite_create("virtio-wild");
    ADD(rings_in_wrong_places, PLACE_MMIO_ARM, PLACE_MMIO_ARM + 1);
    ADD(rings_in_wrong_places, PLACE_PCI_MSIX_HVM, PLACE_PCI_MSIX_HVM + 1);
    ADD(rings_that_are_not_aligned, PLACE_MMIO_ARM, PLACE_MMIO_ARM + 1);
    ADD(rings_that_are_not_aligned, PLACE_PCI_MSIX_HVM, PLACE_PCI_MSIX_HVM + 1);
    ADD(a_ballooned_buffer_is_an_io_error, PLACE_MMIO_ARM, PLACE_PCI_MSIX_HVM + 1);
    ADD(a_ballooned_ring_breaks_the_device, PLACE_MMIO_ARM, PLACE_PCI_MSIX_HVM + 1);
    ADD(descriptors_that_change_while_they_are_read, PLACE_MMIO_ARM, PLACE_PCI_MSIX_HVM + 1);
    ADD(registers_written_at_random, 0, PLACES);
    return fixture_main(suite);
}
