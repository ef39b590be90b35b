/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-blk as ioreqd serves it: negotiation, configuration, every kind of request, with the data
 * verified. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk_rig.h"

static struct rig rig;

/* One assertion for all the bytes, for Check writes a file at each: is this the image as it was at
 * `offset`? */
static void expect_pattern(const uint8_t *bytes, uint64_t offset, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != fixture_pattern(offset + i)) {
            ck_abort_msg("%s: byte %llu is 0x%x; expected 0x%x", rig_place_name(rig.place),
                         (unsigned long long)offset + i, bytes[i], fixture_pattern(offset + i));
        }
    }
}

/* ---- negotiation ---- */

START_TEST(features_are_negotiated)
{
    rig_open(&rig, (enum rig_place)_i, "");
    uint64_t offered = rig.driver.transport->device_features(&rig.driver);
    uint64_t expected = VIRTIO_BLK_ALL & ~VIRTIO_FEATURE(VIRTIO_BLK_F_SIZE_MAX) &
                        ~VIRTIO_FEATURE(VIRTIO_BLK_F_RO) & ~VIRTIO_FEATURE(VIRTIO_BLK_F_MQ);
    if (rig_is_legacy(rig.place)) {
        expected &= ~VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
    }
    ck_assert_msg((offered & expected) == expected, "offered 0x%llx lacks 0x%llx",
                  (unsigned long long)offered, (unsigned long long)(expected & ~offered));
    ck_assert_uint_eq(offered & VIRTIO_FEATURE(VIRTIO_F_RING_PACKED), 0);
    ck_assert_uint_eq(offered & VIRTIO_FEATURE(VIRTIO_BLK_F_RO), 0);
    ck_assert_int_eq(virtio_negotiate(&rig.driver, VIRTIO_BLK_ALL), 0);
    ck_assert_uint_eq(rig.driver.features & ~offered, 0);
    ck_assert_int_eq(virtio_reset(&rig.driver), 0);
    ck_assert_uint_eq(virtio_status(&rig.driver), 0);
    rig_stop(&rig);
}
END_TEST

/* A modern device must not be driven as a legacy one, nor with a bit it did not offer (2.2, 3.1.1, 6.1). */
START_TEST(bad_features_are_refused)
{
    rig_open(&rig, (enum rig_place)_i, "");
    const struct virtio_transport *transport = rig.driver.transport;
    if (!rig_is_legacy(rig.place)) {
        ck_assert_int_eq(virtio_negotiate(&rig.driver, VIRTIO_BLK_ALL & ~VIRTIO_FEATURE(VIRTIO_F_VERSION_1)),
                         -ENOTSUP);
        ck_assert_int_eq(virtio_reset(&rig.driver), 0);
        transport->set_status(&rig.driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
        transport->set_driver_features(&rig.driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(57));
        transport->set_status(&rig.driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                                               VIRTIO_CONFIG_S_FEATURES_OK);
        ck_assert_uint_eq(virtio_status(&rig.driver) & VIRTIO_CONFIG_S_FEATURES_OK, 0);
    }
    rig_start_disk(&rig, VIRTIO_BLK_ALL, 1, 0);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

START_TEST(status_goes_one_way)
{
    rig_start(&rig, (enum rig_place)_i, "");
    const struct virtio_transport *transport = rig.driver.transport;
    uint8_t before = virtio_status(&rig.driver);
    ck_assert_uint_eq(before & VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_DRIVER_OK);
    transport->set_status(&rig.driver,
                          VIRTIO_CONFIG_S_ACKNOWLEDGE); /* a driver must not clear bits (2.1.1) */
    rig_expect_disk_works(&rig.blk);
    transport->set_status(&rig.driver, before | VIRTIO_CONFIG_S_NEEDS_RESET); /* this bit is the device's */
    ck_assert_uint_eq(virtio_status(&rig.driver) & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

/* Before DRIVER_OK nothing may be consumed (2.1.2); old legacy drivers did not keep to that, and are
 * served (3.1.2). */
START_TEST(nothing_is_served_before_driver_ok)
{
    rig_open(&rig, (enum rig_place)_i, "");
    ck_assert_int_eq(virtio_negotiate(&rig.driver, VIRTIO_BLK_ALL), 0);
    ck_assert_int_eq(virtio_queue_set_up(&rig.driver, 0, 0), 0);
    rig.blk = (struct virtio_blk){.driver = &rig.driver, .queues = 1};
    struct virtio_blk_request *request = virtio_blk_begin(&rig.blk, VIRTIO_BLK_T_FLUSH, 0);
    ck_assert_int_eq(virtio_blk_put(&rig.blk, 0, request, NULL, 0, false), 0);
    virtio_queue_publish(rig.driver.queues[0]);
    virtio_queue_notify(rig.driver.queues[0]);
    if (!rig_is_legacy(rig.place)) {
        ck_assert_int_eq(virtio_queue_wait(rig.driver.queues[0], 100), -ETIMEDOUT);
    }
    virtio_start(&rig.driver);
    virtio_queue_notify(rig.driver.queues[0]);
    ck_assert_ptr_eq(virtio_blk_reap(&rig.blk, 0, VIRTIO_TIMEOUT_MS, NULL), request);
    ck_assert_uint_eq(virtio_blk_end(&rig.blk, request), VIRTIO_BLK_S_OK);
    rig_stop(&rig);
}
END_TEST

START_TEST(queues_are_as_negotiated)
{
    rig_open(&rig, (enum rig_place)_i, ",queues=4,queue-size=64");
    ck_assert_int_eq(virtio_negotiate(&rig.driver, VIRTIO_BLK_ALL), 0);
    ck_assert(virtio_has(&rig.driver, VIRTIO_BLK_F_MQ));
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_uint_eq(rig.driver.transport->queue_size_max(&rig.driver, i), 64);
        ck_assert(!rig.driver.transport->queue_enabled(&rig.driver, i));
    }
    ck_assert_uint_eq(rig.driver.transport->queue_size_max(&rig.driver, 4), 0);
    ck_assert_uint_eq(rig.driver.transport->queue_size_max(&rig.driver, 63), 0);
    ck_assert_int_eq(virtio_queue_set_up(&rig.driver, 2, 8), 0);
    ck_assert(rig.driver.transport->queue_enabled(&rig.driver, 2));
    ck_assert(!rig.driver.transport->queue_enabled(&rig.driver, 1));
    ck_assert_int_eq(virtio_reset(&rig.driver), 0);
    ck_assert(!rig.driver.transport->queue_enabled(&rig.driver, 2));
    rig_stop(&rig);
}
END_TEST

/* ---- configuration ---- */

START_TEST(configuration)
{
    rig_start(&rig, (enum rig_place)_i, ",queues=3,queue-size=32,serial=ABC");
    const struct virtio_blk_config *config = &rig.blk.config;
    ck_assert_uint_eq(config->capacity, RIG_SECTORS);
    ck_assert_uint_eq(config->seg_max, 30);
    ck_assert_uint_eq(config->blk_size, 512);
    ck_assert_uint_eq(config->num_queues, 3);
    ck_assert_uint_ne(config->max_discard_sectors, 0);
    ck_assert_uint_ne(config->max_write_zeroes_sectors, 0);
    ck_assert_uint_ge(config->max_discard_seg, 1);
    /* A wider field by wider reads: the same bytes. */
    uint64_t low = rig.driver.transport->config_read(&rig.driver, 0, 4);
    ck_assert_uint_eq(low, RIG_SECTORS);
    ck_assert_uint_eq(rig.driver.transport->config_read(&rig.driver, 34, 2), 3);
    /* The capacity can't be written, and behind the structure there is nothing. */
    rig.driver.transport->config_write(&rig.driver, 0, 4, 1);
    ck_assert_uint_eq(rig.driver.transport->config_read(&rig.driver, 0, 4), RIG_SECTORS);
    rig.driver.transport->config_read(&rig.driver, 0xf0, 4);
    rig_expect_disk_works(&rig.blk);
    rig_stop(&rig);
}
END_TEST

START_TEST(write_cache_can_be_switched)
{
    rig_start(&rig, (enum rig_place)_i, "");
    const unsigned wce = offsetof(struct virtio_blk_config, wce);
    ck_assert(virtio_has(&rig.driver, VIRTIO_BLK_F_CONFIG_WCE));
    ck_assert_uint_eq(rig.driver.transport->config_read(&rig.driver, wce, 1), 1);
    rig.driver.transport->config_write(&rig.driver, wce, 1, 0);
    ck_assert_uint_eq(rig.driver.transport->config_read(&rig.driver, wce, 1), 0);
    rig_expect_disk_works(&rig.blk);
    rig.driver.transport->config_write(&rig.driver, wce, 1, 1);
    ck_assert_uint_eq(rig.driver.transport->config_read(&rig.driver, wce, 1), 1);
    rig_stop(&rig);
}
END_TEST

START_TEST(get_id)
{
    char id[VIRTIO_BLK_ID_BYTES + 1];
    rig_start(&rig, (enum rig_place)_i, ",serial=WX-0123456789abcdefg");
    ck_assert_int_eq(virtio_blk_get_id(&rig.blk, id), VIRTIO_BLK_S_OK);
    ck_assert_str_eq(id, "WX-0123456789abcdefg"); /* 20 characters: no NUL on the wire (5.2.6.1) */
    rig_stop(&rig);
    rig_start(&rig, (enum rig_place)_i, ",serial=short");
    ck_assert_int_eq(virtio_blk_get_id(&rig.blk, id), VIRTIO_BLK_S_OK);
    ck_assert_str_eq(id, "short");
    rig_stop(&rig);
}
END_TEST

/* ---- requests ---- */

START_TEST(reads_the_whole_image)
{
    rig_start(&rig, (enum rig_place)_i, "");
    uint8_t *bytes = malloc(RIG_IMAGE_SIZE);
    ck_assert_int_eq(virtio_blk_read(&rig.blk, 0, bytes, RIG_IMAGE_SIZE), VIRTIO_BLK_S_OK);
    expect_pattern(bytes, 0, RIG_IMAGE_SIZE);
    free(bytes);
    rig_stop(&rig);
}
END_TEST

START_TEST(what_is_written_reaches_the_image)
{
    rig_start(&rig, (enum rig_place)_i, "");
    static uint8_t bytes[1 << 20], back[1 << 20];
    srand(1);
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)rand();
    }
    ck_assert_int_eq(virtio_blk_write(&rig.blk, 77, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(virtio_blk_flush(&rig.blk), VIRTIO_BLK_S_OK);
    rig_read_image(&rig, 77 * 512, back, sizeof(back));
    ck_assert_mem_eq(bytes, back, sizeof(bytes));
    uint8_t around[1024];
    rig_read_image(&rig, 76 * 512, around, 512);
    rig_read_image(&rig, 77 * 512 + sizeof(bytes), around + 512, 512);
    expect_pattern(around, 76 * 512, 512);
    expect_pattern(around + 512, 77 * 512 + sizeof(bytes), 512);
    rig_stop(&rig);
}
END_TEST

START_TEST(zeroes_and_discards)
{
    rig_start(&rig, (enum rig_place)_i, "");
    uint8_t bytes[16 * 512], zeroes[8 * 512] = {0};
    ck_assert_int_eq(virtio_blk_write_zeroes(&rig.blk, 104, 8, false), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(virtio_blk_read(&rig.blk, 100, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(bytes + 4 * 512, zeroes, sizeof(zeroes));
    expect_pattern(bytes, 100 * 512, 4 * 512);
    expect_pattern(bytes + 12 * 512, 112 * 512, 4 * 512);
    ck_assert_int_eq(virtio_blk_write_zeroes(&rig.blk, 200, 8, true), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(virtio_blk_read(&rig.blk, 200, bytes, sizeof(zeroes)), VIRTIO_BLK_S_OK);
    ck_assert_mem_eq(bytes, zeroes, sizeof(zeroes));
    ck_assert_int_eq(virtio_blk_discard(&rig.blk, 304, 64), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(virtio_blk_read(&rig.blk, 296, bytes, 8 * 512), VIRTIO_BLK_S_OK);
    expect_pattern(bytes, 296 * 512, 8 * 512);
    rig_stop(&rig);
}
END_TEST

static int one(uint32_t type, uint64_t sector, uint32_t length, bool write)
{
    struct virtio_buffer data = {
        .gpa = rig_memory(&rig, length ? length : 1, NULL), .length = length, .write = write};
    return virtio_blk_io(&rig.blk, 0, type, sector, &data, 1, false);
}

static int range(uint32_t type, uint64_t sector, uint32_t sectors, uint32_t flags, uint32_t length)
{
    struct virtio_blk_discard_write_zeroes *ranges;
    struct virtio_buffer data = {.gpa = rig_memory(&rig, sizeof(*ranges) * 4, &ranges), .length = length};
    for (unsigned i = 0; i < 4; i++) {
        ranges[i] = (struct virtio_blk_discard_write_zeroes){
            .sector = sector, .num_sectors = sectors, .flags = flags};
    }
    return virtio_blk_io(&rig.blk, 0, type, 0, &data, 1, false);
}

START_TEST(what_cannot_be_done_is_an_error)
{
    rig_start(&rig, (enum rig_place)_i, "");
    /* behind the end, over the end, and where sector * 512 overflows */
    ck_assert_int_eq(one(VIRTIO_BLK_T_IN, RIG_SECTORS, 512, true), VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(one(VIRTIO_BLK_T_IN, RIG_SECTORS - 1, 1024, true), VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(one(VIRTIO_BLK_T_OUT, RIG_SECTORS, 512, false), VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(one(VIRTIO_BLK_T_IN, UINT64_MAX, 512, true), VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(one(VIRTIO_BLK_T_OUT, UINT64_MAX / 512 + 1, 512, false), VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(one(VIRTIO_BLK_T_IN, RIG_SECTORS - 1, 512, true), VIRTIO_BLK_S_OK);
    /* not whole sectors */
    ck_assert_int_eq(one(VIRTIO_BLK_T_IN, 0, 511, true), VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(one(VIRTIO_BLK_T_OUT, 0, 513, false), VIRTIO_BLK_S_IOERR);
    /* unknown, SCSI, and what the features do not promise */
    ck_assert_int_eq(one(2, 0, 512, true), VIRTIO_BLK_S_UNSUPP);
    ck_assert_int_eq(one(0xffffffff, 0, 512, false), VIRTIO_BLK_S_UNSUPP);
    ck_assert_int_eq(one(14, 0, 16, false), VIRTIO_BLK_S_UNSUPP);
    /* ranges: over the end, unknown flags, not whole entries, too many, none */
    ck_assert_int_eq(range(VIRTIO_BLK_T_DISCARD, RIG_SECTORS, 1, 0, 16), VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(range(VIRTIO_BLK_T_WRITE_ZEROES, RIG_SECTORS - 1, 2, 0, 16), VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(range(VIRTIO_BLK_T_WRITE_ZEROES, UINT64_MAX, 1, 0, 16), VIRTIO_BLK_S_IOERR);
    ck_assert_int_eq(range(VIRTIO_BLK_T_WRITE_ZEROES, 8, 8, 2, 16), VIRTIO_BLK_S_UNSUPP);
    ck_assert_int_eq(range(VIRTIO_BLK_T_DISCARD, 8, 8, 1, 16), VIRTIO_BLK_S_UNSUPP);
    ck_assert_int_ne(range(VIRTIO_BLK_T_DISCARD, 8, 8, 0, 15), VIRTIO_BLK_S_OK);
    ck_assert_int_ne(range(VIRTIO_BLK_T_DISCARD, 8, 8, 0, 16 * (rig.blk.config.max_discard_seg + 1)),
                     VIRTIO_BLK_S_OK);
    rig_expect_disk_works(&rig.blk);
    uint8_t first[512];
    rig_read_image(&rig, 0, first, sizeof(first));
    ck_assert_uint_eq(first[3], fixture_pattern(3)); /* the refused write wrote nothing */
    rig_stop(&rig);
}
END_TEST

START_TEST(readonly_disk)
{
    uint8_t bytes[512];
    rig_start(&rig, (enum rig_place)_i, ",readonly=on");
    ck_assert(virtio_has(&rig.driver, VIRTIO_BLK_F_RO));
    ck_assert_int_eq(one(VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
    ck_assert_int_ne(range(VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0, 16), VIRTIO_BLK_S_OK);
    ck_assert_int_ne(range(VIRTIO_BLK_T_DISCARD, 0, 8, 0, 16), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(virtio_blk_read(&rig.blk, 0, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
    expect_pattern(bytes, 0, sizeof(bytes));
    rig_stop(&rig);
}
END_TEST

/* Each test is a case of its own, so that CK_RUN_CASE=name runs it alone. From place `from` to before
 * `to`. */
#define ADD(test, from, to)                                                                                  \
    do {                                                                                                     \
        TCase *tests = tcase_create(#test);                                                                  \
        tcase_set_timeout(tests, 120);                                                                       \
        tcase_add_loop_test(tests, test, from, to);                                                          \
        suite_add_tcase(suite, tests);                                                                       \
    } while (0)

int main(void)
{
    Suite *suite = suite_create("virtio-blk");
    ADD(features_are_negotiated, 0, PLACES);
    ADD(bad_features_are_refused, 0, PLACES);
    ADD(status_goes_one_way, 0, PLACES);
    ADD(nothing_is_served_before_driver_ok, 0, PLACES);
    ADD(queues_are_as_negotiated, 0, PLACES);
    ADD(configuration, 0, PLACES);
    ADD(write_cache_can_be_switched, 0, PLACES);
    ADD(get_id, PLACE_MMIO_HVM, PLACE_MMIO_HVM + 1);
    ADD(reads_the_whole_image, 0, PLACES);
    ADD(what_is_written_reaches_the_image, 0, PLACES);
    ADD(zeroes_and_discards, PLACE_MMIO_ARM, PLACE_PCI_MSIX_HVM + 1);
    ADD(what_cannot_be_done_is_an_error, PLACE_MMIO_ARM, PLACE_PCI_MSIX_HVM + 1);
    ADD(readonly_disk, PLACE_PCI_MSIX_HVM, PLACE_PCI_MSIX_HVM + 1);
    return fixture_main(suite);
}
