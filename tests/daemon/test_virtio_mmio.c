/* SPDX-License-Identifier: BSD-2-Clause */
/* The registers of virtio-mmio, version 2 and legacy, one by one (VIRTIO 1.2, sections 4.2.2 and 4.2.4). */
#include <check.h>
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk_hand.h"

static struct rig rig;

static uint32_t get(unsigned offset)
{
    return (uint32_t)vcpu_mmio_read(rig.f.guest, 0, rig.driver.mmio.base + offset, 4);
}

static void set(unsigned offset, uint32_t value)
{
    vcpu_mmio_write(rig.f.guest, 0, rig.driver.mmio.base + offset, 4, value);
}

START_TEST(identity)
{
    rig_open(&rig, (enum rig_place)_i, "");
    ck_assert_uint_eq(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    ck_assert_uint_eq(get(VIRTIO_MMIO_VERSION), rig_is_legacy(rig.place) ? 1 : 2);
    ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_BLOCK_DEVICE);
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    set(VIRTIO_MMIO_MAGIC_VALUE, 0);
    set(VIRTIO_MMIO_VERSION, 9);
    set(VIRTIO_MMIO_DEVICE_ID, 9);
    ck_assert_uint_eq(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    ck_assert_uint_eq(get(VIRTIO_MMIO_VERSION), rig_is_legacy(rig.place) ? 1 : 2);
    ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_BLOCK_DEVICE);
    rig_stop(&rig);
}
END_TEST

/* A driver uses 32 bits (4.2.2.2); what else comes must not do half a deed. */
START_TEST(other_widths)
{
    rig_start(&rig, (enum rig_place)_i, "");
    uint64_t base = rig.driver.mmio.base;
    uint8_t status = virtio_status(&rig.driver);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, base, 1), 0x76);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, base + 2, 2), 0x7472);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, base, 8) & 0xffffffff, 0x74726976);
    vcpu_mmio_write(rig.f.guest, 0, base + VIRTIO_MMIO_STATUS, 1, 0);
    vcpu_mmio_write(rig.f.guest, 0, base + VIRTIO_MMIO_STATUS + 1, 2, 0);
    ck_assert_uint_eq(virtio_status(&rig.driver), status);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

START_TEST(feature_words)
{
    rig_open(&rig, (enum rig_place)_i, "");
    set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    uint32_t low = get(VIRTIO_MMIO_DEVICE_FEATURES);
    ck_assert_uint_ne(low, 0);
    set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    uint32_t high = get(VIRTIO_MMIO_DEVICE_FEATURES);
    ck_assert_uint_eq(high & 1, !rig_is_legacy(rig.place)); /* VIRTIO_F_VERSION_1 */
    static const uint32_t beyond[] = {2, 3, 64, 0x80000000, 0xffffffff};
    for (unsigned i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
        set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, beyond[i]);
        ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_FEATURES), 0);
    }
    rig_stop(&rig);
}
END_TEST

START_TEST(queues_that_are_not_there)
{
    rig_start(&rig, (enum rig_place)_i, "");
    static const uint32_t beyond[] = {1, 2, 1024, 0x10000, 0x80000000, 0xffffffff};
    for (unsigned i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
        set(VIRTIO_MMIO_QUEUE_SEL, beyond[i]);
        ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
        if (rig_is_legacy(rig.place)) {
            set(VIRTIO_MMIO_QUEUE_PFN, 5);
            ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_PFN), 0);
        } else {
            set(VIRTIO_MMIO_QUEUE_NUM, 16);
            set(VIRTIO_MMIO_QUEUE_READY, 1);
            ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
        }
        set(VIRTIO_MMIO_QUEUE_NOTIFY, beyond[i]);
    }
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

START_TEST(queue_sizes)
{
    rig_open(&rig, (enum rig_place)_i, ",queue-size=64");
    static const uint32_t bad[] = {0, 3, 65, 128, 0x10000, 0xffffffff, 0x80000000};
    ck_assert_int_eq(virtio_negotiate(&rig.driver, VIRTIO_BLK_ALL), 0);
    struct virtio_queue *queue = virtio_ring_make(&rig.driver, 0, 64);
    ck_assert_ptr_nonnull(queue);
    rig.driver.queues[0] = queue;
    set(VIRTIO_MMIO_QUEUE_SEL, 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 64);
    set(VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)queue->desc_gpa);
    set(VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)queue->avail_gpa);
    set(VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)queue->used_gpa);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        set(VIRTIO_MMIO_QUEUE_NUM, bad[i]);
        set(VIRTIO_MMIO_QUEUE_READY, 1);
        ck_assert_msg(get(VIRTIO_MMIO_QUEUE_READY) == 0, "a queue of %u entries was enabled", bad[i]);
    }
    ck_assert_int_eq(rig.driver.transport->queue_enable(queue), 0);
    virtio_start(&rig.driver);
    rig.blk = (struct virtio_blk){.driver = &rig.driver, .queues = 1, .capacity = RIG_SECTORS};
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* The wire is high from the cause to its acknowledgement, and only the acknowledged causes go (4.2.2.1). */
START_TEST(interrupt_status)
{
    rig_start(&rig, (enum rig_place)_i, "");
    struct virtio_blk_request *request = virtio_blk_begin(&rig.blk, VIRTIO_BLK_T_FLUSH, 0);
    ck_assert_int_eq(virtio_blk_put(&rig.blk, 0, request, NULL, 0, false), 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    virtio_queue_kick(rig.driver.queues[0]);
    if (rig.driver.interrupt == VIRTIO_GSI) {
        ck_assert_int_eq(mock_gsi_wait_level(rig.f.guest, rig.driver.line, true, VIRTIO_TIMEOUT_MS), 0);
    } else {
        ck_assert_int_eq(mock_spi_take(rig.f.guest, rig.driver.line, VIRTIO_TIMEOUT_MS), 0);
    }
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    set(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    set(VIRTIO_MMIO_INTERRUPT_STATUS, 0); /* read-only */
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    set(VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    if (rig.driver.interrupt == VIRTIO_GSI) {
        ck_assert_int_eq(mock_gsi_wait_level(rig.f.guest, rig.driver.line, false, VIRTIO_TIMEOUT_MS), 0);
    }
    rig_stop(&rig);
}
END_TEST

/* A reset takes back the interrupt too (2.4.1): what several relatives forgot. */
START_TEST(reset_clears_everything)
{
    rig_start(&rig, (enum rig_place)_i, "");
    struct virtio_blk_request *request = virtio_blk_begin(&rig.blk, VIRTIO_BLK_T_FLUSH, 0);
    ck_assert_int_eq(virtio_blk_put(&rig.blk, 0, request, NULL, 0, false), 0);
    virtio_queue_kick(rig.driver.queues[0]);
    for (unsigned i = 0; get(VIRTIO_MMIO_INTERRUPT_STATUS) == 0 && i < 5000; i++) {
        rest_ms(1);
    }
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_VRING);
    set(VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 0); /* at once: Linux does not poll here */
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    if (rig.driver.interrupt == VIRTIO_GSI) {
        ck_assert_uint_eq(mock_gsi_level(rig.f.guest, rig.driver.line), 0);
    }
    ck_assert(!rig.driver.transport->queue_enabled(&rig.driver, 0));
    virtio_blk_end(&rig.blk, request);
    ck_assert_int_eq(virtio_reset(&rig.driver), 0);
    rig_restart(&rig);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* QueueReady 0, or PFN 0: the device gives the ring back at once; it may be set up anew without a reset. */
START_TEST(a_queue_is_taken_back)
{
    rig_start(&rig, (enum rig_place)_i, "");
    rig_expect_disk_works(&rig.blk);
    set(VIRTIO_MMIO_QUEUE_SEL, 0);
    set(rig_is_legacy(rig.place) ? VIRTIO_MMIO_QUEUE_PFN : VIRTIO_MMIO_QUEUE_READY, 0);
    ck_assert(!rig.driver.transport->queue_enabled(&rig.driver, 0));
    struct hand hand = hand_make(&rig);
    hand_sound(&hand);
    hand_offer(&hand, 0);
    virtio_queue_publish(hand.queue);
    virtio_queue_notify(hand.queue);
    ck_assert_int_eq(hand_see(&hand, 50), IGNORED);
    virtio_ring_free(rig.driver.queues[0]);
    rig.driver.queues[0] = NULL;
    ck_assert_int_eq(virtio_queue_set_up(&rig.driver, 0, 0), 0);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* There is no shared memory region: length and base read as -1 (4.2.2, SHMLen). */
START_TEST(no_shared_memory)
{
    rig_open(&rig, (enum rig_place)_i, "");
    set(VIRTIO_MMIO_SHM_SEL, 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffff);
    ck_assert_uint_eq(get(VIRTIO_MMIO_SHM_LEN_HIGH), 0xffffffff);
    rig_stop(&rig);
}
END_TEST

/* Rings at addresses above 4 GiB need both halves; what the low half alone says is not used. */
START_TEST(both_halves_of_an_address_count)
{
    rig_open(&rig, (enum rig_place)_i, "");
    ck_assert_int_eq(virtio_negotiate(&rig.driver, VIRTIO_BLK_ALL), 0);
    struct virtio_queue *queue = virtio_ring_make(&rig.driver, 0, 16);
    ck_assert_ptr_nonnull(queue);
    rig.driver.queues[0] = queue;
    struct hand hand = hand_make(&rig);
    queue->desc_gpa |= 1ull << 40;
    if (rig.driver.transport->queue_enable(queue) == 0) {
        virtio_start(&rig.driver);
        hand_sound(&hand);
        hand_offer(&hand, 0);
        virtio_queue_publish(queue);
        virtio_queue_notify(queue);
        ck_assert_int_eq(hand_see(&hand, 5000), BROKEN);
    }
    rig_restart(&rig);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* Each test is a case of its own, so that CK_RUN_CASE=name runs it alone. */
#define ADD(test, place)                                                                                     \
    do {                                                                                                     \
        TCase *tests = tcase_create(#test);                                                                  \
        tcase_set_timeout(tests, 180);                                                                       \
        tcase_add_loop_test(tests, test, place, (place) + 1);                                                \
        suite_add_tcase(suite, tests);                                                                       \
    } while (0)

int main(void)
{
    static const enum rig_place wired[] = {PLACE_MMIO_HVM, PLACE_MMIO_LEGACY_HVM, PLACE_MMIO_ARM,
                                           PLACE_MMIO_LEGACY_ARM};
    Suite *suite = suite_create("virtio-mmio");
    for (unsigned i = 0; i < sizeof(wired) / sizeof(wired[0]); i++) {
        int place = (int)wired[i];
        ADD(identity, place);
        ADD(other_widths, place);
        ADD(feature_words, place);
        ADD(queues_that_are_not_there, place);
        ADD(interrupt_status, place);
        ADD(reset_clears_everything, place);
        ADD(a_queue_is_taken_back, place);
        if (!rig_is_legacy(wired[i])) {
            ADD(queue_sizes, place);
            ADD(no_shared_memory, place);
            ADD(both_halves_of_an_address_count, place);
        }
    }
    return fixture_main(suite);
}
