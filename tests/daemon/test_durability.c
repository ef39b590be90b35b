/* SPDX-License-Identifier: BSD-2-Clause */
/* No acknowledged write is lost: ioreqd killed under load, and what the kernel still holds dirty after an answer. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fixture.h"
#include "virtio_blk_driver.h"

#define SECTORS 4096u
#define BATCH 16u
#define KILLS 6u
#define SLOT 5u

static struct fixture f;
static struct virtio_driver driver;
static struct virtio_blk blk;
static char image[200];

static void start(void)
{
    fixture_start(&f, MOCK_PVH, 2);
    snprintf(image, sizeof(image), "%s", fixture_image(&f, "disk.img", SECTORS * 512));
}

static void stop(void)
{
    fixture_stop(&f);
}

static void run_disk(const char *options, uint64_t features)
{
    char device[300];
    snprintf(device, sizeof(device), "virtio-blk,addr=%u,path=%s%s", SLOT, image, options);
    fixture_run(&f, "--device", "pci-host", "--device", device, NULL);
    ck_assert_int_eq(virtio_pci_open(&driver, f.guest, 0, SLOT << 3, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_POLL, 0xe0000000,
                                     virtio_arena_make(f.guest, 0x100000, 0x800000)), 0);
    ck_assert_int_eq(virtio_blk_start(&blk, &driver, features, 1, 0), 0);
}

static void close_disk(void)
{
    virtio_blk_finish(&blk);
    virtio_close(&driver);
}

/* ---- killed under load ---- */

static uint64_t promised[SECTORS]; /* the newest number that was written and then flushed, each acknowledged */
static volatile bool killed;
static uint64_t next_number = 1;

/* One write in flight on each of BATCH sectors, then a flush: false when the daemon is gone. */
static bool write_and_flush(uint64_t data_gpa, uint8_t *data)
{
    unsigned sectors[BATCH];
    uint64_t first = next_number;
    for (unsigned i = 0; i < BATCH; i++, next_number++) {
        sectors[i] = (unsigned)(next_number * 37 % SECTORS);
        for (unsigned at = 0; at < 512; at += 8) {
            memcpy(data + i * 512 + at, &next_number, 8);
        }
        struct virtio_blk_request *request = virtio_blk_begin(&blk, VIRTIO_BLK_T_OUT, sectors[i]);
        struct virtio_buffer buffer = {.gpa = data_gpa + i * 512, .length = 512};
        ck_assert_ptr_nonnull(request);
        ck_assert_int_ge(virtio_blk_put(&blk, 0, request, &buffer, 1, false), 0);
    }
    virtio_queue_kick(driver.queues[0]);
    for (unsigned pass = 0; pass < BATCH + 1; pass++) {
        if (pass == BATCH) {
            struct virtio_blk_request *flush = virtio_blk_begin(&blk, VIRTIO_BLK_T_FLUSH, 0);
            ck_assert_int_ge(virtio_blk_put(&blk, 0, flush, NULL, 0, false), 0);
            virtio_queue_kick(driver.queues[0]);
        }
        struct virtio_blk_request *request;
        while (!(request = virtio_blk_reap(&blk, 0, 50, NULL))) {
            if (killed) {
                return false;
            }
        }
        ck_assert_uint_eq(virtio_blk_end(&blk, request), VIRTIO_BLK_S_OK);
    }
    for (unsigned i = 0; i < BATCH; i++) {
        promised[sectors[i]] = first + i;
    }
    return true;
}

static void *load(void *self)
{
    void *data;
    uint64_t gpa = virtio_arena_take(&driver.arena, BATCH * 512, 4096, &data);
    (void)self;
    while (write_and_flush(gpa, data)) {
    }
    return NULL;
}

/* A sector holds the promised number or a newer one, and the same all over: a sector is written as a whole. */
static uint64_t check_image(void)
{
    uint64_t kept = 0, numbers[64];
    int fd = open(image, O_RDONLY | O_CLOEXEC);
    for (unsigned sector = 0; sector < SECTORS; sector++) {
        ck_assert_int_eq(pread(fd, numbers, 512, (off_t)sector * 512), 512);
        if (!promised[sector]) {
            continue;
        }
        ck_assert_msg(numbers[0] >= promised[sector] && numbers[0] < next_number,
                      "sector %u holds %llu, %llu was promised", sector, (unsigned long long)numbers[0],
                      (unsigned long long)promised[sector]);
        ck_assert_mem_eq(numbers, numbers + 1, 512 - sizeof(numbers[0])); /* all the same */
        kept++;
    }
    close(fd);
    return kept;
}

START_TEST(killed_under_load)
{
    static const char *const caches[] = {"", ",cache=none", ",cache=writethrough"};
    for (unsigned round = 0; round < KILLS; round++) {
        pthread_t thread;
        run_disk(caches[round % 3], VIRTIO_BLK_ALL);
        mock_set_timeout(f.guest, 400); /* a kick that the dead daemon never answers */
        killed = false;
        ck_assert_int_eq(pthread_create(&thread, NULL, load, NULL), 0);
        usleep(100000 + (unsigned)rand() % 200000);
        fixture_kill(&f);
        killed = true;
        pthread_join(thread, NULL);
        ck_assert_uint_gt(check_image(), 0);
        close_disk();
        /*
         * The vCPU may still wait for its kick's end: the next daemon answers it when it removes the dead
         * one's server.
         */
        mock_set_timeout(f.guest, FIXTURE_TIMEOUT_MS);
        if (mock_vcpu_blocked(f.guest, 0, -1)) {
            fixture_run(&f, "--device", "debugcon", NULL);
            ck_assert_int_eq(mock_access_wait(f.guest, 0, FIXTURE_TIMEOUT_MS, NULL), MOCK_DONE);
            fixture_terminate(&f);
        }
    }
}
END_TEST

/* ---- what the kernel still holds dirty ---- */

struct cachestat_range {
    uint64_t offset, length;
};
struct cachestat_result {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
};
#define SYS_CACHESTAT 451

/* Pages of the image that are not on the disk yet; -1: this kernel can't say. */
static int64_t dirty_pages(void)
{
    struct cachestat_range range = {0, 0};
    struct cachestat_result result;
    int fd = open(image, O_RDONLY | O_CLOEXEC);
    long failed = syscall(SYS_CACHESTAT, fd, &range, &result, 0);
    close(fd);
    return failed ? -1 : (int64_t)(result.dirty + result.writeback);
}

static void sync_image(void)
{
    int fd = open(image, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(fsync(fd), 0);
    close(fd);
}

static const struct {
    const char *options;
    uint64_t features;
    bool dirty_after_write, dirty_after_flush;
} modes[] = {
    {"", VIRTIO_BLK_ALL, true, false},
    {"", VIRTIO_BLK_ALL & ~VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) & ~VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE), false, false},
    {",cache=writethrough", VIRTIO_BLK_ALL, false, false},
    {",cache=unsafe", VIRTIO_BLK_ALL, true, true},
    {",cache=none",
     VIRTIO_BLK_ALL & ~VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) & ~VIRTIO_FEATURE(VIRTIO_BLK_F_CONFIG_WCE),
     false, false},
};

START_TEST(durable_when_answered)
{
    uint8_t bytes[65536];
    sync_image();
    if (dirty_pages() < 0) {
        printf("durable_when_answered: this kernel has no cachestat (Linux 6.5): not looked at\n");
        return;
    }
    run_disk(modes[_i].options, modes[_i].features);
    for (unsigned round = 0; round < 4; round++) {
        memset(bytes, (int)round + 1, sizeof(bytes));
        ck_assert_int_eq(virtio_blk_write(&blk, round * 128, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
        ck_assert_int_eq(dirty_pages() > 0, modes[_i].dirty_after_write);
        if (virtio_has(&driver, VIRTIO_BLK_F_FLUSH)) {
            ck_assert_int_eq(virtio_blk_flush(&blk), VIRTIO_BLK_S_OK);
            ck_assert_int_eq(dirty_pages() > 0, modes[_i].dirty_after_flush);
        }
    }
    close_disk();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("durability");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, start, stop);
    tcase_set_timeout(tcase, 200);
    tcase_add_test(tcase, killed_under_load);
    tcase_add_loop_test(tcase, durable_when_answered, 0, sizeof(modes) / sizeof(modes[0]));
    suite_add_tcase(suite, tcase);
    return fixture_main(suite);
}
