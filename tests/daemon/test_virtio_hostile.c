/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hostile driver: broken rings, bad addresses, chains that no specification allows. The disk may ask for a
 * reset or fail the request; the daemon lives, the disk beside it does not notice, and after a reset all is
 * well again.
 */
#include <check.h>
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk_hand.h"

#define WAIT_MS 5000

static struct rig rig;

/* ---- misdeeds ---- */

static void head_behind_the_ring(struct hand *hand)
{
    hand_offer(hand, hand->queue->size);
}

static void head_far_behind_the_ring(struct hand *hand)
{
    hand_offer(hand, 0xffff);
}

static void next_behind_the_ring(struct hand *hand)
{
    hand_desc(hand, 1, hand->data_gpa, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, hand->queue->size);
    hand_offer(hand, 0);
}

static void chain_in_a_loop(struct hand *hand)
{
    hand_desc(hand, 2, hand->status_gpa, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
    hand_offer(hand, 0);
}

static void descriptor_that_follows_itself(struct hand *hand)
{
    hand_desc(hand, 0, hand->head_gpa, 16, VRING_DESC_F_NEXT, 0);
    hand_offer(hand, 0);
}

static void index_too_far_ahead(struct hand *hand)
{
    for (unsigned i = 0; i <= hand->queue->size; i++) {
        hand_offer(hand, 0);
    }
}

static void index_backwards(struct hand *hand)
{
    hand->queue->next_avail--;
}

static void readable_after_writable(struct hand *hand)
{
    hand_desc(hand, 2, hand->status_gpa, 1, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 3);
    hand_desc(hand, 3, hand->data_gpa, 16, 0, 0);
    hand_offer(hand, 0);
}

static void no_status(struct hand *hand)
{
    hand_desc(hand, 0, hand->head_gpa, 16, 0, 0);
    hand_offer(hand, 0);
}

static void no_header(struct hand *hand)
{
    hand_offer(hand, 1);
}

static void half_a_header(struct hand *hand)
{
    hand_desc(hand, 0, hand->head_gpa, 8, VRING_DESC_F_NEXT, 1);
    hand_offer(hand, 0);
}

static void empty_descriptors(struct hand *hand)
{
    hand_desc(hand, 1, hand->data_gpa, 0, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    hand_offer(hand, 0);
}

static void all_descriptors_empty(struct hand *hand)
{
    hand_desc(hand, 0, hand->head_gpa, 0, VRING_DESC_F_NEXT, 1);
    hand_desc(hand, 1, hand->data_gpa, 0, VRING_DESC_F_WRITE, 0);
    hand_offer(hand, 0);
}

static void unknown_flags(struct hand *hand)
{
    hand_desc(hand, 0, hand->head_gpa, 16, VRING_DESC_F_NEXT | 0xfff8, 1);
    hand_offer(hand, 0);
}

static void table_of_no_length(struct hand *hand)
{
    hand_offer_table(hand, hand->table_gpa, 0, 0);
}

static void table_of_odd_length(struct hand *hand)
{
    hand_offer_table(hand, hand->table_gpa, 3 * 16 + 1, 0);
}

static void table_of_huge_length(struct hand *hand)
{
    hand_offer_table(hand, hand->table_gpa, 0xfffffff0, 0);
}

static void table_with_a_next(struct hand *hand)
{
    hand_offer_table(hand, hand->table_gpa, 3 * 16, VRING_DESC_F_NEXT);
}

static void table_in_a_table(struct hand *hand)
{
    hand_entry(hand, 1, hand->table_gpa, 3 * 16, VRING_DESC_F_INDIRECT, 0);
    hand_offer_table(hand, hand->table_gpa, 3 * 16, 0);
}

static void table_in_a_loop(struct hand *hand)
{
    hand_entry(hand, 2, hand->status_gpa, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
    hand_offer_table(hand, hand->table_gpa, 3 * 16, 0);
}

static void next_behind_the_table(struct hand *hand)
{
    hand_entry(hand, 1, hand->data_gpa, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 3);
    hand_offer_table(hand, hand->table_gpa, 3 * 16, 0);
}

static void table_nowhere(struct hand *hand)
{
    hand_offer_table(hand, NOWHERE, 3 * 16, 0);
}

static void table_over_the_end_of_all(struct hand *hand)
{
    hand_offer_table(hand, UINT64_MAX - 15, 3 * 16, 0);
}

static void table_longer_than_the_ring(struct hand *hand)
{
    for (unsigned i = 1; i < 1000; i++) {
        hand_entry(hand, i, hand->data_gpa, 1, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, i + 1);
    }
    hand_entry(hand, 1000, hand->status_gpa, 1, VRING_DESC_F_WRITE, 0);
    hand_offer_table(hand, hand->table_gpa, 1001 * 16, 0);
}

static void data_nowhere(struct hand *hand)
{
    hand_desc(hand, 1, NOWHERE, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    hand_offer(hand, 0);
}

static void data_over_the_end_of_memory(struct hand *hand)
{
    uint64_t end = rig_ram_end(&rig);
    hand_desc(hand, 1, end - 256, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    hand_offer(hand, 0);
}

static void data_over_the_end_of_all(struct hand *hand)
{
    hand_desc(hand, 1, UINT64_MAX - 100, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    hand_offer(hand, 0);
}

static void data_of_huge_length(struct hand *hand)
{
    hand_desc(hand, 1, hand->data_gpa, 0xfffffe00, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    hand_offer(hand, 0);
}

static void data_of_huge_length_often(struct hand *hand)
{
    unsigned last = hand->queue->size - 1;
    for (unsigned i = 1; i < last; i++) {
        hand_desc(hand, i, hand->data_gpa, 0xfffffe00, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, i + 1);
    }
    hand_desc(hand, last, hand->status_gpa, 1, VRING_DESC_F_WRITE, 0);
    hand_offer(hand, 0);
}

/* DMA never reaches a region: the device's own registers. */
static void data_into_registers(struct hand *hand)
{
    uint64_t registers = rig_is_pci(rig.place) ? rig.driver.pci.common : rig.driver.mmio.base;
    hand_desc(hand, 1, registers, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    hand_offer(hand, 0);
}

static void header_nowhere(struct hand *hand)
{
    hand_desc(hand, 0, NOWHERE, 16, VRING_DESC_F_NEXT, 1);
    hand_offer(hand, 0);
}

static void status_nowhere(struct hand *hand)
{
    hand_desc(hand, 2, NOWHERE, 1, VRING_DESC_F_WRITE, 0);
    hand_offer(hand, 0);
}

/* The disk's contents become the descriptors while they are used. */
static void data_into_the_ring(struct hand *hand)
{
    hand_desc(hand, 1, hand->queue->desc_gpa, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    hand_offer(hand, 0);
    hand_offer(hand, 0);
    hand_offer(hand, 1);
}

static void the_same_head_many_times(struct hand *hand)
{
    for (unsigned i = 0; i < hand->queue->size; i++) {
        hand_offer(hand, 0);
    }
}

static const struct misdeed {
    const char *name;
    void (*commit)(struct hand *hand);
    unsigned allowed; /* outcomes */
    bool indirect;    /* needs VIRTIO_F_INDIRECT_DESC */
} misdeeds[] = {
#define MISDEED(name_, allowed_)                                                                             \
    {                                                                                                        \
        .name = #name_, .commit = name_, .allowed = (allowed_)                                               \
    }
#define MISDEED_TABLE(name_, allowed_)                                                                       \
    {                                                                                                        \
        .name = #name_, .commit = name_, .allowed = (allowed_), .indirect = true                             \
    }
    MISDEED(head_behind_the_ring, BROKEN),
    MISDEED(head_far_behind_the_ring, BROKEN),
    MISDEED(next_behind_the_ring, BROKEN),
    MISDEED(chain_in_a_loop, BROKEN),
    MISDEED(descriptor_that_follows_itself, BROKEN),
    MISDEED(index_too_far_ahead, BROKEN),
    MISDEED(index_backwards, BROKEN),
    MISDEED(readable_after_writable, BROKEN),
    MISDEED(no_status, BROKEN),
    MISDEED(no_header, BROKEN | FAILED),
    MISDEED(half_a_header, BROKEN | FAILED),
    MISDEED(empty_descriptors, BROKEN | FAILED | SERVED),
    MISDEED(all_descriptors_empty, BROKEN),
    MISDEED(unknown_flags, BROKEN | FAILED | SERVED),
    MISDEED_TABLE(table_of_no_length, BROKEN),
    MISDEED_TABLE(table_of_odd_length, BROKEN),
    MISDEED_TABLE(table_of_huge_length, BROKEN),
    MISDEED_TABLE(table_with_a_next, BROKEN),
    MISDEED_TABLE(table_in_a_table, BROKEN),
    MISDEED_TABLE(table_in_a_loop, BROKEN),
    MISDEED_TABLE(next_behind_the_table, BROKEN),
    MISDEED_TABLE(table_nowhere, BROKEN),
    MISDEED_TABLE(table_over_the_end_of_all, BROKEN),
    MISDEED_TABLE(table_longer_than_the_ring, BROKEN),
    MISDEED(data_nowhere, FAILED),
    MISDEED(data_over_the_end_of_memory, FAILED),
    MISDEED(data_over_the_end_of_all, BROKEN | FAILED),
    MISDEED(data_of_huge_length, BROKEN | FAILED),
    MISDEED(data_of_huge_length_often, BROKEN | FAILED),
    MISDEED(data_into_registers, FAILED),
    MISDEED(header_nowhere, BROKEN | FAILED),
    MISDEED(status_nowhere, BROKEN | SERVED | FAILED), /* nobody can see which */
    MISDEED(data_into_the_ring, BROKEN | FAILED | SERVED),
    MISDEED(the_same_head_many_times, BROKEN | FAILED | SERVED),
};
#define MISDEEDS (sizeof(misdeeds) / sizeof(misdeeds[0]))

/* ---- the course of one ---- */

/* A device that needs a reset serves nothing more until then. */
static void expect_nothing_served(struct hand *hand)
{
    uint16_t used = hand->queue->used->idx;
    hand_sound(hand);
    hand_offer(hand, 0);
    virtio_queue_publish(hand->queue);
    virtio_queue_notify(hand->queue);
    rest_ms(20);
    ck_assert_uint_eq(hand->queue->used->idx, used);
}

static void commit(const struct misdeed *misdeed)
{
    struct virtio_arena arena = rig.driver.arena;
    rig_start_disk(&rig, VIRTIO_BLK_ALL, 1, 128);
    struct hand hand = hand_make(&rig);
    hand_sound(&hand);
    misdeed->commit(&hand);
    virtio_queue_publish(hand.queue);
    virtio_queue_notify(hand.queue);
    enum outcome outcome = hand_see(&hand, WAIT_MS);
    ck_assert_msg(outcome & misdeed->allowed, "%s: %s: outcome %d is not one of %u",
                  rig_place_name(rig.place), misdeed->name, outcome, misdeed->allowed);
    if (outcome == BROKEN) {
        expect_nothing_served(&hand);
    }
    rig_expect_daemon_lives(&rig);
    rig_expect_disk_works(&rig.other);
    virtio_blk_finish(&rig.blk);
    ck_assert_int_eq(virtio_reset(&rig.driver), 0);
    rig.driver.arena = arena;
}

START_TEST(misdeeds_are_survived)
{
    rig_start_pair(&rig, (enum rig_place)_i, "");
    for (unsigned i = 0; i < MISDEEDS; i++) {
        commit(&misdeeds[i]);
    }
    rig_restart(&rig);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* Without the feature an indirect descriptor is a broken one (2.7.5.3.1). */
START_TEST(indirect_that_was_not_negotiated)
{
    rig_start_pair(&rig, (enum rig_place)_i, "");
    rig_start_disk(&rig, VIRTIO_BLK_FEATURES, 1, 0);
    struct hand hand = hand_make(&rig);
    hand_sound(&hand);
    hand_offer_table(&hand, hand.table_gpa, 3 * 16, 0);
    virtio_queue_publish(hand.queue);
    virtio_queue_notify(hand.queue);
    ck_assert_int_eq(hand_see(&hand, WAIT_MS), BROKEN);
    rig_expect_disk_works(&rig.other);
    rig_stop(&rig);
}
END_TEST

START_TEST(needs_reset_is_announced)
{
    rig_start_pair(&rig, (enum rig_place)_i, "");
    struct hand hand = hand_make(&rig);
    head_behind_the_ring(&hand);
    uint64_t config_msi = mock_msi_count(rig.f.guest, VIRTIO_MSI_ADDRESS, rig.driver.msi_data);
    virtio_queue_publish(hand.queue);
    virtio_queue_notify(hand.queue);
    ck_assert_int_eq(virtio_wait_needs_reset(&rig.driver, WAIT_MS), 0);
    if (rig.driver.interrupt == VIRTIO_MSIX) {
        ck_assert_int_eq(
            mock_msi_wait(rig.f.guest, VIRTIO_MSI_ADDRESS, rig.driver.msi_data, config_msi + 1, WAIT_MS), 0);
    } else {
        ck_assert_uint_eq(rig.driver.transport->interrupt_status(&rig.driver) & VIRTIO_MMIO_INT_CONFIG,
                          VIRTIO_MMIO_INT_CONFIG);
    }
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
    Suite *suite = suite_create("virtio-hostile");
    ADD(misdeeds_are_survived, 0, PLACES);
    ADD(indirect_that_was_not_negotiated, PLACE_MMIO_ARM, PLACE_PCI_MSIX_HVM + 1);
    ADD(needs_reset_is_announced, 0, PLACES);
    return fixture_main(suite);
}
