/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stopping is exact: under a device that defers every access and a backend that delays every completion, each way to
 * stop happens, and no byte of guest memory changes after the stop has ended.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_mmio.h>

#include "fixture.h"
#include "virtio_blk_driver.h"

#define BASE 0xfe000000u
enum { HOLD = 0x00, FREE = 0x04, ADDRESS = 0x08, ADDRESS_HIGH = 0x0c, START = 0x10, STATE = 0x14 }; /* tests/modules */
#define PATTERN 0xd7
#define IO_BYTES 4096u
#define TARGET 0x300000u

#define DISK_SECTORS 12288u
#define LONG_BYTES (5u << 20) /* more than virtio-blk maps at once: it goes in parts */
#define REQUESTS 8u
#define REQUEST_BYTES 16384u
#define ARENA 0x400000u
#define ARENA_SIZE 0x800000u

static struct fixture f;
static struct virtio_driver driver;
static struct virtio_blk blk;
static uint8_t snapshot[ARENA_SIZE];

static void stop(void)
{
    fixture_stop(&f);
}

static void start_hvm(void)
{
    fixture_start(&f, MOCK_HVM, 2);
}

/* ---- the deferring device ---- */

static void run_defer(const char *options)
{
    char device[128];
    snprintf(device, sizeof(device), "test-defer,base=0x%x,%s", BASE, options);
    fixture_run(&f, "--module", getenv("MODULE_TEST_DEFER"), "--exit-when-gone", "--device", device, NULL);
}

static struct fixture_vcpu *hold(unsigned vcpu)
{
    struct mock_access access = {.space = MOCK_MMIO, .read = true, .size = 4, .addr = BASE + HOLD};
    return fixture_access(&f, vcpu, &access);
}

static const uint8_t *target; /* taken while the domain lives; its pages can be looked at afterwards */

static void begin_io(void)
{
    target = memset(mock_guest_ram(f.guest, TARGET, IO_BYTES), 0, IO_BYTES);
    vcpu_mmio_write(f.guest, 0, BASE + ADDRESS, 4, TARGET);
    vcpu_mmio_write(f.guest, 0, BASE + ADDRESS_HIGH, 4, 0);
    vcpu_mmio_write(f.guest, 0, BASE + START, 4, 1);
    ck_assert_uint_eq(vcpu_mmio_read(f.guest, 0, BASE + STATE, 4), 1);
}

static bool target_is(uint8_t byte)
{
    const uint8_t *at = target;
    for (unsigned i = 0; i < IO_BYTES; i++) {
        if (at[i] != byte) {
            return false;
        }
    }
    return true;
}

START_TEST(deferred_accesses_take_turns)
{
    run_defer("delay=300");
    struct fixture_vcpu *first = hold(0), *second = hold(1);
    uint64_t one, two;
    ck_assert_int_eq(fixture_join(first, &one), MOCK_DONE);
    ck_assert_int_eq(fixture_join(second, &two), MOCK_DONE);
    ck_assert_uint_eq(one, 1); /* the second reached the device only after the first had ended */
    ck_assert_uint_eq(two, 2);
    ck_assert_uint_eq(vcpu_mmio_read(f.guest, 0, BASE + FREE, 4), 3);
}
END_TEST

START_TEST(sigterm_under_a_deferred_access)
{
    run_defer("delay=0");
    struct fixture_vcpu *held = hold(0);
    fixture_terminate(&f);
    ck_assert_int_eq(fixture_join(held, NULL), MOCK_DONE);
    fixture_expect_clean(&f);
}
END_TEST

START_TEST(sigterm_lets_io_finish)
{
    run_defer("delay=500");
    begin_io();
    fixture_terminate(&f);
    ck_assert(target_is(PATTERN));
    fixture_expect_clean(&f);
}
END_TEST

START_TEST(death_under_all)
{
    struct mock_domain_info info;
    run_defer("delay=0");
    begin_io();
    struct fixture_vcpu *held = hold(1);
    ck_assert_int_eq(mock_domain_kill(f.guest), 0);
    ck_assert_int_eq(fixture_join(held, NULL), MOCK_DEAD);
    ck_assert_int_eq(fixture_status(f.daemon), 0);
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
    ck_assert_msg(!info.exists, "a zombie: %llu foreign pages", (unsigned long long)info.foreign_pages);
    ck_assert(target_is(0)); /* cancelled, not finished */
}
END_TEST

START_TEST(death_waits_for_what_cannot_be_cancelled)
{
    struct mock_domain_info info;
    run_defer("delay=1500,stubborn=on");
    begin_io();
    ck_assert_int_eq(mock_domain_kill(f.guest), 0);
    ck_assert_int_eq(fixture_status(f.daemon), 0);
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    ck_assert(target_is(PATTERN)); /* into pages that were still held for it */
    ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
    ck_assert(!info.exists);
}
END_TEST

/* ---- the delaying backend ---- */

static void run_disk(const char *bus, const char *filter)
{
    char device[400];
    ck_assert(bus && filter);
    const char *image = fixture_image(&f, "disk.img", DISK_SECTORS * 512);
    snprintf(device, sizeof(device), "virtio-blk,bus=%s,%s,path=%s,block.filter=delay,%s", bus,
             strcmp(bus, "pci") ? "base=0xfe001000,irq=5" : "addr=5", image, filter);
    fixture_run(&f, "--exit-when-gone", "--device", "pci-host", "--device", device, NULL);
    struct virtio_arena arena = virtio_arena_make(f.guest, ARENA, ARENA_SIZE);
    if (strcmp(bus, "pci")) {
        ck_assert_int_eq(virtio_mmio_open(&driver, f.guest, 0, 0xfe001000, VIRTIO_ID_BLOCK_DEVICE,
                                          VIRTIO_POLL, 0, arena), 0);
    } else {
        ck_assert_int_eq(virtio_pci_open(&driver, f.guest, 0, 5 << 3, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_MSIX,
                                         0xe0000000, arena), 0);
    }
    ck_assert_int_eq(virtio_blk_start(&blk, &driver, VIRTIO_BLK_ALL, 1, 0), 0);
}

static void close_disk(void)
{
    virtio_blk_finish(&blk);
    virtio_close(&driver);
}

/* REQUESTS reads, or writes of 0x5a, in flight. Returns the gpa of the first one's data. */
static uint64_t begin_requests(uint32_t type)
{
    uint64_t first = 0;
    for (unsigned i = 0; i < REQUESTS; i++) {
        void *memory;
        uint64_t gpa = virtio_arena_take(&driver.arena, REQUEST_BYTES, 512, &memory);
        first = first ? first : gpa;
        memset(memory, 0x5a, REQUEST_BYTES);
        struct virtio_blk_request *request = virtio_blk_begin(&blk, type, i * (REQUEST_BYTES / 512));
        struct virtio_buffer data = {.gpa = gpa, .length = REQUEST_BYTES, .write = type == VIRTIO_BLK_T_IN};
        ck_assert_ptr_nonnull(request);
        ck_assert_int_ge(virtio_blk_put(&blk, 0, request, &data, 1, i % 2), 0);
    }
    virtio_queue_kick(driver.queues[0]);
    usleep(50000);
    return first;
}

static void expect_still(unsigned milliseconds)
{
    const void *arena = mock_guest_ram(f.guest, ARENA, ARENA_SIZE);
    memcpy(snapshot, arena, ARENA_SIZE);
    usleep(milliseconds * 1000);
    ck_assert_int_eq(memcmp(snapshot, arena, ARENA_SIZE), 0);
}

static void expect_disk_works(void)
{
    uint8_t bytes[1024];
    ck_assert_int_eq(virtio_blk_start(&blk, &driver, VIRTIO_BLK_ALL, 1, 0), 0);
    ck_assert_int_eq(virtio_blk_read(&blk, 8, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        ck_assert_uint_eq(bytes[i], fixture_pattern(8 * 512 + i));
    }
}

static const char *const buses[] = {"pci", "mmio", "mmio-legacy"};
static const char *const whens[] = {"block.filter.delay=400,block.filter.when=before",
                                    "block.filter.delay=400,block.filter.when=after"};

START_TEST(reset_under_io)
{
    run_disk(buses[_i / 2], whens[_i % 2]);
    uint64_t data = begin_requests(VIRTIO_BLK_T_IN);
    driver.transport->set_status(&driver, 0); /* ends only when no I/O can touch memory any more */
    ck_assert_uint_eq(virtio_status(&driver), 0);
    if (_i % 2 == 0) { /* not begun: nothing was read */
        ck_assert_uint_eq(*(uint8_t *)mock_guest_ram(f.guest, data, 1), 0x5a);
    }
    expect_still(700);
    virtio_blk_finish(&blk);
    expect_disk_works();
    close_disk();
}
END_TEST

START_TEST(queue_disabled_under_io)
{
    run_disk("mmio", whens[_i]);
    begin_requests(VIRTIO_BLK_T_IN);
    vcpu_mmio_write(f.guest, 0, 0xfe001000 + VIRTIO_MMIO_QUEUE_SEL, 4, 0);
    vcpu_mmio_write(f.guest, 0, 0xfe001000 + VIRTIO_MMIO_QUEUE_READY, 4, 0);
    ck_assert_uint_eq(vcpu_mmio_read(f.guest, 0, 0xfe001000 + VIRTIO_MMIO_QUEUE_READY, 4), 0);
    expect_still(700);
    virtio_blk_finish(&blk);
    expect_disk_works();
    close_disk();
}
END_TEST

START_TEST(sigterm_under_io)
{
    run_disk("pci", whens[_i]);
    begin_requests(VIRTIO_BLK_T_OUT);
    fixture_terminate(&f);
    ck_assert_uint_eq(virtio_queue_pending(driver.queues[0]), REQUESTS);
    for (unsigned i = 0; i < REQUESTS; i++) { /* all were finished and handed back before it ended */
        struct virtio_blk_request *request = virtio_queue_take(driver.queues[0], NULL);
        ck_assert_ptr_nonnull(request);
        ck_assert_uint_eq(*request->status, VIRTIO_BLK_S_OK);
    }
    char path[200];
    snprintf(path, sizeof(path), "%s/disk.img", mock_dir(f.mock));
    static uint8_t image[REQUESTS * REQUEST_BYTES], written[REQUESTS * REQUEST_BYTES];
    memset(written, 0x5a, sizeof(written));
    FILE *file = fopen(path, "re");
    ck_assert_uint_eq(fread(image, 1, sizeof(image), file), sizeof(image));
    fclose(file);
    ck_assert_mem_eq(image, written, sizeof(image));
    expect_still(500);
    fixture_expect_clean(&f);
    close_disk();
}
END_TEST

/* Its parts go one after the other: those that have not begun are in flight all the same. */
START_TEST(sigterm_under_a_long_write)
{
    void *memory;
    char path[200];
    run_disk("pci", whens[_i]);
    uint64_t gpa = virtio_arena_take(&driver.arena, LONG_BYTES, 4096, &memory);
    ck_assert_uint_ne(gpa, 0);
    memset(memory, 0x5a, LONG_BYTES);
    struct virtio_blk_request *request = virtio_blk_begin(&blk, VIRTIO_BLK_T_OUT, 0);
    struct virtio_buffer data = {.gpa = gpa, .length = LONG_BYTES};
    ck_assert_int_ge(virtio_blk_put(&blk, 0, request, &data, 1, false), 0);
    virtio_queue_kick(driver.queues[0]);
    usleep(50000);
    fixture_terminate(&f);
    ck_assert_ptr_eq(virtio_queue_take(driver.queues[0], NULL), request);
    ck_assert_uint_eq(*request->status, VIRTIO_BLK_S_OK);
    snprintf(path, sizeof(path), "%s/disk.img", mock_dir(f.mock));
    uint8_t *image = malloc(LONG_BYTES);
    FILE *file = fopen(path, "re");
    ck_assert_uint_eq(fread(image, 1, LONG_BYTES, file), LONG_BYTES);
    ck_assert_mem_eq(image, memory, LONG_BYTES);
    fclose(file);
    free(image);
    fixture_expect_clean(&f);
    close_disk();
}
END_TEST

START_TEST(death_under_io)
{
    struct mock_domain_info info;
    run_disk("pci", whens[_i]);
    begin_requests(VIRTIO_BLK_T_IN);
    ck_assert_int_eq(mock_domain_kill(f.guest), 0);
    ck_assert_int_eq(fixture_status(f.daemon), 0);
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
    ck_assert_msg(!info.exists, "a zombie: %llu foreign pages", (unsigned long long)info.foreign_pages);
    close_disk();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stop");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, start_hvm, stop);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, deferred_accesses_take_turns);
    tcase_add_test(tcase, sigterm_under_a_deferred_access);
    tcase_add_test(tcase, sigterm_lets_io_finish);
    tcase_add_test(tcase, death_under_all);
    tcase_add_test(tcase, death_waits_for_what_cannot_be_cancelled);
    tcase_add_loop_test(tcase, reset_under_io, 0, 6);
    tcase_add_loop_test(tcase, queue_disabled_under_io, 0, 2);
    tcase_add_loop_test(tcase, sigterm_under_io, 0, 2);
    tcase_add_loop_test(tcase, sigterm_under_a_long_write, 0, 2);
    tcase_add_loop_test(tcase, death_under_io, 0, 2);
    suite_add_tcase(suite, tcase);
    return fixture_main(suite);
}
