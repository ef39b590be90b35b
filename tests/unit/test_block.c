/* SPDX-License-Identifier: BSD-2-Clause */
/* The block layer, the backend "file" over its io_uring, and the filters, under the real core. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <ioreqd/block.h>
#include <ioreqd/dma.h>

#include "backend/ring.h"
#include "core/device.h"
#include "core/inside.h"
#include "block_rig.h"
#include "fake_xen.h"
#include "unit.h"

/* ---- tests ---- */


START_TEST(reads_and_writes)
{
    struct fake_xen *fake = start_disk(caches[_i]);
    const struct iod_block_limits *limits = iod_block_limits(disks[0]->block);
    uint8_t *ram = fake_ram(fake), back[8192];
    ck_assert_uint_eq(limits->capacity, IMAGE);
    ck_assert(limits->volatile_cache == (_i != 1));
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 8192, 1 << 20, 0x10000), 0);
    check_words(ram + 0x10000, 8192, 1 << 20);
    memset(ram + 0x10000, 0x5a, 8192);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, IOD_BLOCK_FUA, 4096, 8192, 0x10000), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_FLUSH, 0, 0, 0, 0), 0);
    read_image(4096, back, sizeof(back));
    ck_assert_mem_eq(back, ram + 0x10000, sizeof(back));
    fake_stop(fake);
    remove_image();
}
END_TEST

/* Odd pieces, that neither direct I/O nor one vector could take as they are. */
START_TEST(scattered)
{
    struct fake_xen *fake = start_disk(caches[_i]);
    struct ticket *request = submit(disks[0], IOD_BLOCK_READ, 0, 512 * 3, 512 * 77, 0x10003, 517);
    iod_block_kick(disks[0]->block);
    fake_run(fake, all_done, disks[0]);
    ck_assert_int_eq(request->result, 0);
    check_words(fake_ram(fake) + 0x10003, 512 * 3, 512 * 77);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(refuses_what_is_wrong)
{
    struct fake_xen *fake = start_disk("");
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, IMAGE, 512, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, IMAGE - 512, 1024, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, UINT64_MAX - 511, 1024, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 1, 512, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 0, 100, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_DISCARD, 0, 0, UINT64_C(1) << 40, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, (enum iod_block_op)99, 0, 0, 512, 0), -EOPNOTSUPP);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(readonly_is_kept)
{
    struct fake_xen *fake = start_disk("readonly=on");
    ck_assert(iod_block_limits(disks[0]->block)->readonly);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 0, 512, 0), -EROFS);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_DISCARD, 0, 0, 512, 0), -EROFS);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_FLUSH, 0, 0, 0, 0), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 0, 512, 0), 0);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(discard_and_zero)
{
    uint8_t *back = malloc(IMAGE);
    struct stat before, after;
    struct fake_xen *fake = start_disk(caches[_i]);
    stat(image, &before);
    ck_assert_uint_gt(iod_block_limits(disks[0]->block)->max_discard, 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_DISCARD, 0, PART, 4 * PART, 0), 0);
    stat(image, &after);
    ck_assert_int_le(after.st_blocks + 4 * PART / 512, before.st_blocks);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_ZERO, IOD_BLOCK_FUA, 8 * PART, PART, 0), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_ZERO, IOD_BLOCK_UNMAP, 10 * PART, 512, 0), 0);
    fake_stop(fake);
    read_image(0, back, IMAGE);
    check_words(back, 0, PART);
    check_words(back + 5 * PART, 5 * PART, 3 * PART);
    check_words(back + 9 * PART, 9 * PART, PART);
    check_words(back + 10 * PART + 512, 10 * PART + 512, PART);
    uint8_t *zeros = calloc(1, PART);
    ck_assert_mem_eq(back + PART, zeros, PART);
    ck_assert_mem_eq(back + 8 * PART, zeros, PART);
    ck_assert_mem_eq(back + 10 * PART, zeros, 512);
    free(zeros);
    free(back);
    remove_image();
}
END_TEST

/* More than the ring, the quota and (direct) the bounce pool hold: all wait their turn, none is lost. */
START_TEST(many_at_once)
{
    struct fake_xen *fake = start_disk(caches[_i]);
    struct iod_error error;
    struct ring *ring = daemon_service_get(fake_daemon(fake), &ring_service, &error);
    const struct ring_stats *stats = ring_stats(ring);
    unsigned count = 600;
    for (unsigned i = 0; i < count; i++) {
        submit(disks[0], IOD_BLOCK_READ, 0, (i * 7919ull % 1000) * 4096, 4096, 0x100000 + i * 4096, 4096);
    }
    iod_block_kick(disks[0]->block);
    fake_run(fake, all_done, disks[0]);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(((struct ticket *)disks[0]->requests[i])->result, 0);
        check_words(fake_ram(fake) + 0x100000 + i * 4096, (i * 7919ull % 1000) * 4096, 4096);
    }
    ck_assert_uint_eq(stats->operations, count);
    ck_assert_msg(stats->enters * 2 < count, "%lu calls for %u requests", (unsigned long)stats->enters,
                  count);
    daemon_service_put(fake_daemon(fake), &ring_service);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(bounce_pool_runs_out)
{
    struct fake_xen *fake = start_disk("cache=none");
    for (unsigned i = 0; i < 12; i++) { /* 12 MiB through a pool of 4 */
        submit(disks[0], IOD_BLOCK_READ, 0, (uint64_t)(i % 4) << 20, 1 << 20, 0x100000 + ((uint64_t)i << 20),
               1 << 16);
    }
    iod_block_kick(disks[0]->block);
    fake_run(fake, all_done, disks[0]);
    for (unsigned i = 0; i < 12; i++) {
        ck_assert_int_eq(((struct ticket *)disks[0]->requests[i])->result, 0);
        check_words(fake_ram(fake) + 0x100000 + ((size_t)i << 20), (uint64_t)(i % 4) << 20, 1 << 20);
    }
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(second_writer_is_refused)
{
    struct iod_error error = { 0 };
    struct fake_xen *first = start_disk("");
    struct fake_xen *second = try_disk(_i == 0 ? "" : "readonly=on", &error);
    ck_assert_ptr_nonnull(second);
    ck_assert(!fake_running(second));
    ck_assert_int_eq(fake_logged(second, "disk.img: is in use by another process"), 1);
    fake_stop(second);
    ck_assert(fake_running(first));
    fake_stop(first);
    struct fake_xen *reader = start_disk("readonly=on"), *other = start_disk("readonly=on");
    fake_stop(reader);
    fake_stop(other);
    remove_image();
}
END_TEST

/* Two disks of one guest are no different: the lock belongs to the open file. */
START_TEST(same_image_twice)
{
    struct iod_error error = { 0 };
    char text[128];
    snprintf(text, sizeof(text), "test-disk,path=%s", image);
    const char *devices[] = { text, text };
    struct fake_xen *fake = fake_start(&disk_module, GUEST_HVM, devices, 2, &error);
    ck_assert_ptr_nonnull(fake);
    ck_assert(!fake_running(fake));
    ck_assert_int_eq(fake_logged(fake, "is in use by another process or device"), 1);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(truncated_under_us)
{
    struct fake_xen *fake = start_disk("");
    ck_assert_int_eq(truncate(image, 1 << 20), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 2 << 20, 4096, 0), -EIO);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, (1 << 20) - 4096, 8192, 0), -EIO);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 0, 4096, 0), 0);
    ck_assert_int_eq(fake_logged(fake, "Input/output error"), 1); /* said once */
    fake_stop(fake);
    remove_image();
}
END_TEST

/* A full disk as a small file-size limit shows it: part of the write goes, then none. */
START_TEST(no_room)
{
    struct fake_xen *fake = start_disk("");
    struct rlimit limit = { 1 << 20, RLIM_INFINITY };
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, (1 << 20) - 4096, 8192, 0), -EFBIG);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, (1 << 20) - 4096, 4096, 0), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 2 << 20, 4096, 0), -EFBIG);
    ck_assert_int_eq(fake_logged(fake, "File too large"), 1);
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(odd_size)
{
    ck_assert_int_eq(truncate(image, IMAGE - 100), 0);
    struct fake_xen *fake = start_disk(caches[_i]);
    const struct iod_block_limits *limits = iod_block_limits(disks[0]->block);
    ck_assert_uint_eq(limits->capacity, IMAGE / limits->sector * limits->sector - limits->sector);
    ck_assert_int_eq(fake_logged(fake, "not a multiple"), 1);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, limits->capacity - limits->sector, limits->sector, 0),
                     0);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(bad_options)
{
    static const struct {
        const char *options, *says;
    } cases[] = {
        { "block=nosuch", "nosuch" },
        { "block=delay", "is a filter" },
        { "block.filter=file", "not a filter" },
        { "cache=maybe", "cache" },
        { "block.nokey=1", "nokey" },
    };
    struct iod_error error = { 0 };
    ck_assert_ptr_null(try_disk(cases[_i].options, &error));
    ck_says(error, cases[_i].says);
    remove_image();
}
END_TEST

START_TEST(bad_paths)
{
    static const struct {
        const char *path, *says;
    } cases[] = { { "/nonexistent/disk.img", "No such file" },
                  { "/dev/null", "neither a file nor" },
                  { "/tmp", "directory" } };
    struct iod_error error = { 0 };
    char text[128];
    snprintf(text, sizeof(text), "test-disk,path=%s", cases[_i].path);
    const char *devices[] = { text };
    struct fake_xen *fake = fake_start(&disk_module, GUEST_HVM, devices, 1, &error);
    ck_assert_ptr_nonnull(fake);
    ck_assert(!fake_running(fake));
    ck_assert_msg(fake_logged(fake, cases[_i].says) >= 1, "%s", fake_log(fake));
    fake_stop(fake);
    remove_image();
}
END_TEST

static void count_change(void *self)
{
    ++*(unsigned *)self;
}

/* Grown, shrunk, and the same: with a filter above it too. */
START_TEST(resized)
{
    struct fake_xen *fake = start_disk(_i == 0   ? ""
                                       : _i == 1 ? "cache=none"
                                                 : "block.filter=delay,block.filter.delay=1");
    struct daemon *daemon = fake_daemon(fake);
    const char *id = iod_device_id(disks[0]->device);
    const struct iod_block_limits *limits = iod_block_limits(disks[0]->block);
    struct iod_error error;
    unsigned changes = 0;
    iod_block_on_change(disks[0]->block, count_change, &changes);
    ck_assert_int_eq(daemon_resize_device(daemon, "7", id, &error), 0);
    ck_assert_uint_eq(changes, 0);
    submit(disks[0], IOD_BLOCK_READ, 0, 0, 65536, 0, 4096); /* in flight meanwhile */
    iod_block_kick(disks[0]->block);
    ck_assert_int_eq(truncate(image, IMAGE * 2 + 100), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, IMAGE, 4096, 0), -EINVAL);
    ck_assert_int_eq(daemon_resize_device(daemon, "7", id, &error), 0);
    ck_assert_uint_eq(changes, 1);
    ck_assert_uint_eq(limits->capacity, IMAGE * 2);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, IMAGE * 2 - 4096, 4096, 0), 0);
    ck_assert_int_eq(truncate(image, IMAGE / 2), 0);
    ck_assert_int_eq(daemon_resize_device(daemon, "7", id, &error), 0);
    ck_assert_uint_eq(changes, 2);
    ck_assert_uint_eq(limits->capacity, IMAGE / 2);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, IMAGE / 2, 4096, 0), -EINVAL);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, IMAGE / 2 - 4096, 4096, 0), 0);
    ck_assert_int_eq(daemon_resize_device(daemon, "7", "nobody", &error), -ENOENT);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(error_filter)
{
    struct fake_xen *fake =
        start_disk("block.filter=error,block.filter.error=ENOSPC,block.filter.every=3,block.filter.op=read");
    for (unsigned i = 1; i <= 9; i++) {
        ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 0, 512, 0), i % 3 == 0 ? -ENOSPC : 0);
        ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 0, 512, 0), 0);
    }
    fake_stop(fake);
    remove_image();
}
END_TEST

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

START_TEST(delay_filter)
{
    struct fake_xen *fake =
        start_disk(_i == 0 ? "block.filter=delay,block.filter.delay=50"
                           : "block.filter=delay,block.filter.delay=50,block.filter.when=before");
    uint64_t before = now_ms();
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 4096, 4096, 0), 0);
    ck_assert_uint_ge(now_ms() - before, 50);
    check_words(fake_ram(fake), 4096, 4096);
    fake_stop(fake);
    remove_image();
}
END_TEST

/* SIGTERM: what is in flight is done, however long it takes. */
START_TEST(finish_waits)
{
    uint8_t back[4096];
    struct fake_xen *fake =
        start_disk(_i == 0 ? "block.filter=delay,block.filter.delay=200"
                           : "block.filter=delay,block.filter.delay=200,block.filter.when=before");
    memset(fake_ram(fake), 0x77, 4096);
    submit(disks[0], IOD_BLOCK_WRITE, 0, 0, 4096, 0, 4096);
    iod_block_kick(disks[0]->block);
    uint64_t before = now_ms();
    fake_stop(fake);
    ck_assert_uint_ge(now_ms(), before + 195);
    read_image(0, back, sizeof(back));
    ck_assert_int_eq(back[0], 0x77);
    ck_assert_int_eq(back[4095], 0x77);
    remove_image();
}
END_TEST

static void set_true(void *self)
{
    *(bool *)self = true;
}

static bool is_true(void *self)
{
    return *(bool *)self;
}

/*
 * A reset under delayed requests: what has not begun is given back and never touches image or memory; what is
 * done is told as it ended. Then the disk goes on.
 */
START_TEST(cancel_gives_back)
{
    bool before = _i != 0, quiet = false;
    struct fake_xen *fake =
        start_disk(before ? "block.filter=delay,block.filter.delay=3600000,block.filter.when=before"
                          : "block.filter=delay,block.filter.delay=3600000");
    uint8_t *ram = fake_ram(fake), back[4096];
    memset(ram, 0x77, 4096);
    struct ticket *write = submit(disks[0], IOD_BLOCK_WRITE, 0, 0, 4096, 0, 4096);
    struct ticket *read = submit(disks[0], IOD_BLOCK_READ, 0, 4096, 4096, 0x10000, 4096);
    iod_block_kick(disks[0]->block);
    fake_run_ms(fake, 50);
    ck_assert(!write->done && !read->done);
    struct device_stop stop;
    device_stop(disks[0]->device, &stop, IOD_CANCEL, set_true, &quiet);
    fake_run(fake, is_true, &quiet);
    ck_assert(write->done && read->done && disks[0]->asked_cancel);
    ck_assert_int_eq(write->result, before ? -ECANCELED : 0);
    ck_assert_int_eq(read->result, before ? -ECANCELED : 0);
    fake_run_ms(fake, 20);
    read_image(0, back, sizeof(back));
    if (before) {
        check_words(back, 0, sizeof(back));
        ck_assert_int_eq(ram[0x10000] | ram[0x10001] | ram[0x10002] | ram[0x10003] | ram[0x10fff], 0);
    } else {
        ck_assert_int_eq(back[0], 0x77);
        check_words(ram + 0x10000, 4096, 4096);
    }
    device_resume(disks[0]->device);
    submit(disks[0], IOD_BLOCK_READ, 0, 8192, 4096, 0x20000, 4096);
    iod_block_kick(disks[0]->block);
    fake_kill(fake); /* and death under them ends too */
    fake_stop(fake);
    remove_image();
}
END_TEST

/* More than the quota: the kernel's share ends as it ends, the rest is given back, each exactly once. */
START_TEST(cancel_without_filter)
{
    bool quiet = false;
    unsigned good = 0, given_back = 0, count = 500;
    struct fake_xen *fake = start_disk(_i == 0 ? "cache=none" : "");
    for (unsigned i = 0; i < count; i++) {
        submit(disks[0], IOD_BLOCK_READ, 0, (i % 64) << 16, 1 << 16, (uint64_t)(i % 64) << 16, 1 << 16);
    }
    if (_i != 2) {
        iod_block_kick(disks[0]->block);
    }
    if (_i == 0) {
        fake_run_ms(fake, 0);
    }
    struct device_stop stop;
    device_stop(disks[0]->device, &stop, IOD_CANCEL, set_true, &quiet);
    fake_run(fake, is_true, &quiet);
    for (unsigned i = 0; i < count; i++) {
        const struct ticket *ticket = disks[0]->requests[i];
        ck_assert(ticket->done);
        good += ticket->result == 0;
        given_back += ticket->result == -ECANCELED;
    }
    ck_assert_uint_eq(good + given_back, count);
    ck_assert(_i == 0 || given_back == count);
    device_resume(disks[0]->device);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 0, 4096, 0), 0);
    fake_stop(fake);
    remove_image();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("block");
    TCase *c = tcase_create("block");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, make_image, NULL);
    tcase_add_loop_test(c, reads_and_writes, 0, 4);
    tcase_add_loop_test(c, scattered, 0, 4);
    tcase_add_test(c, refuses_what_is_wrong);
    tcase_add_test(c, readonly_is_kept);
    tcase_add_loop_test(c, discard_and_zero, 0, 4);
    tcase_add_loop_test(c, many_at_once, 0, 4);
    tcase_add_test(c, bounce_pool_runs_out);
    tcase_add_loop_test(c, second_writer_is_refused, 0, 2);
    tcase_add_test(c, same_image_twice);
    tcase_add_test(c, truncated_under_us);
    tcase_add_test(c, no_room);
    tcase_add_loop_test(c, odd_size, 0, 4);
    tcase_add_loop_test(c, bad_options, 0, 5);
    tcase_add_loop_test(c, bad_paths, 0, 3);
    tcase_add_loop_test(c, resized, 0, 3);
    tcase_add_test(c, error_filter);
    tcase_add_loop_test(c, delay_filter, 0, 2);
    tcase_add_loop_test(c, finish_waits, 0, 2);
    tcase_add_loop_test(c, cancel_gives_back, 0, 2);
    tcase_add_loop_test(c, cancel_without_filter, 0, 3);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
