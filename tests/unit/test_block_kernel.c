/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the backend "file" asks of the kernel: durability, short results, what a file system lacks, bounced
 * direct I/O.
 */
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

#include "backend/bounce.h"
#include "backend/ring.h"
#include "core/device.h"
#include "core/inside.h"
#include "block_rig.h"
#include "fake_xen.h"
#include "unit.h"

/* ---- the bounce pool by itself ---- */

struct waiter {
    struct bounce_waiter base;
    struct bounce *bounce;
    size_t length;
    void *got;
};

static void waiter_ready(struct bounce_waiter *base)
{
    struct waiter *waiter = (struct waiter *)base;
    waiter->got = bounce_take(waiter->bounce, waiter->length);
    if (waiter->got == NULL) {
        bounce_wait(waiter->bounce, base);
    }
}

START_TEST(bounce_in_order)
{
    struct bounce bounce = { 0 };
    void *pieces[BOUNCE_PAGES];
    ck_assert_int_eq(bounce_init(&bounce), 0);
    for (unsigned i = 0; i < BOUNCE_PAGES; i++) {
        pieces[i] = bounce_take(&bounce, 1 + i % BOUNCE_PAGE);
        ck_assert_ptr_nonnull(pieces[i]);
        ck_assert_uint_eq((uintptr_t)pieces[i] % BOUNCE_PAGE, 0);
        memset(pieces[i], (int)i, BOUNCE_PAGE);
    }
    ck_assert_ptr_null(bounce_take(&bounce, 1));
    struct waiter waiters[3];
    for (unsigned i = 0; i < 3; i++) {
        waiters[i] = (struct waiter){ .base.ready = waiter_ready,
                                      .bounce = &bounce,
                                      .length = i == 0 ? 3 * BOUNCE_PAGE : 1 };
        bounce_wait(&bounce, &waiters[i].base);
    }
    bounce_give(&bounce, pieces[100], BOUNCE_PAGE);
    ck_assert_ptr_null(waiters[1].got); /* not past the first, though it would fit */
    bounce_give(&bounce, pieces[101], BOUNCE_PAGE);
    ck_assert_ptr_null(bounce_take(&bounce, 1));
    bounce_give(&bounce, pieces[102], BOUNCE_PAGE);
    ck_assert_ptr_eq(waiters[0].got, pieces[100]);
    ck_assert_ptr_null(waiters[1].got);
    bounce_leave(&waiters[1].base);
    bounce_give(&bounce, pieces[1023], BOUNCE_PAGE);
    ck_assert_ptr_null(waiters[1].got);
    ck_assert_ptr_eq(waiters[2].got, pieces[1023]);
    bounce_finish(&bounce);
}
END_TEST

/* Which writes and zeros are durable before they complete, and what a flush does. */
START_TEST(durability)
{
    /* of a write, a write with FUA, a zero, a zero with FUA, a flush: durable writes, then syncs */
    static const unsigned expected[4][5][2] = {
        { { 0, 0 }, { 1, 0 }, { 0, 0 }, { 0, 1 }, { 0, 1 } }, /* writeback */
        { { 1, 0 }, { 1, 0 }, { 0, 1 }, { 0, 1 }, { 0, 1 } }, /* writethrough */
        { { 0, 0 }, { 1, 0 }, { 0, 0 }, { 0, 1 }, { 0, 1 } }, /* none */
        { { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 }, { 0, 0 } }, /* unsafe */
    };
    static const struct {
        enum iod_block_op op;
        unsigned flags;
    } requests[5] = { { IOD_BLOCK_WRITE, 0 },
                      { IOD_BLOCK_WRITE, IOD_BLOCK_FUA },
                      { IOD_BLOCK_ZERO, 0 },
                      { IOD_BLOCK_ZERO, IOD_BLOCK_FUA },
                      { IOD_BLOCK_FLUSH, 0 } };
    struct fake_xen *fake = start_disk(caches[_i]);
    for (unsigned i = 0; i < 5; i++) {
        memset(&kernel, 0, sizeof(kernel));
        ck_assert_int_eq(run_one(fake, requests[i].op, requests[i].flags, 0, i < 4 ? 4096 : 0, 0), 0);
        ck_assert_uint_eq(kernel.durable_writes, expected[_i][i][0]);
        ck_assert_uint_eq(kernel.syncs, expected[_i][i][1]);
    }
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(short_results)
{
    struct fake_xen *fake = start_disk(caches[_i]);
    kernel.fault = FAULT_SHORT;
    struct ticket *scatter = submit(disks[0], IOD_BLOCK_READ, 0, 8192, 1 << 18, 0x10000, 4096);
    iod_block_kick(disks[0]->block);
    fake_run(fake, all_done, disks[0]);
    ck_assert_int_eq(scatter->result, 0);
    check_words(fake_ram(fake) + 0x10000, 8192, 1 << 18);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 8192, 1 << 18, 0x10000), 0);
    ck_assert_uint_gt(kernel.writes, 2);
    fake_stop(fake);
    uint8_t *back = malloc(IMAGE);
    read_image(0, back, IMAGE);
    check_words(back, 0, IMAGE);
    free(back);
    remove_image();
}
END_TEST

/* A file system that does neither RWF_DSYNC nor fallocate: the same promises by other means. */
START_TEST(unsupported_by_file_system)
{
    uint8_t *back = malloc(IMAGE);
    struct fake_xen *fake = start_disk(caches[_i]);
    memset(&kernel, 0, sizeof(kernel));
    kernel.fault = FAULT_UNSUPPORTED;
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, IOD_BLOCK_FUA, 0, 4096, 0), 0);
    ck_assert_uint_eq(kernel.syncs, _i != 3);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_ZERO, IOD_BLOCK_UNMAP | IOD_BLOCK_FUA, PART, 3 * PART - 512, 0),
                     0);
    ck_assert_uint_eq(kernel.syncs, _i != 3 ? 2 : 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_DISCARD, 0, 8 * PART, PART, 0), -EOPNOTSUPP);
    fake_stop(fake);
    read_image(0, back, IMAGE);
    for (unsigned i = PART; i < 4 * PART - 512; i++) {
        ck_assert_int_eq(back[i], 0);
    }
    check_words(back + 4096, 4096, PART - 4096);
    check_words(back + 4 * PART - 512, 4 * PART - 512, 12 * PART + 512);
    free(back);
    remove_image();
}
END_TEST

START_TEST(failed_flush_is_told)
{
    struct fake_xen *fake = start_disk("");
    kernel.fault = FAULT_BAD_SYNC;
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_FLUSH, 0, 0, 0, 0), -EBADF);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_FLUSH, 0, 0, 0, 0), -EBADF);
    ck_assert_int_eq(fake_logged(fake, "flush at 0"), 1);
    fake_stop(fake);
    remove_image();
}
END_TEST

START_TEST(direct_io_is_bounced)
{
    struct fake_xen *fake = start_disk("cache=none");
    memset(&kernel, 0, sizeof(kernel));
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_WRITE, 0, 0, 1 << 16, 0x10000), 0);
    ck_assert_int_eq(run_one(fake, IOD_BLOCK_READ, 0, 0, 1 << 16, 0x10000), 0);
    ck_assert_uint_eq(kernel.writes, 1);
    ck_assert_uint_eq(kernel.pinned, 0);
    fake_stop(fake);
    remove_image();
}
END_TEST

/* on-exit=leave: the guest, its disk and the ring go inside the ring's own completion. */
START_TEST(last_completion_frees_all)
{
    uint8_t back[4096];
    struct fake_xen *fake = start_disk(caches[_i]);
    struct guest *guest = list_first(&fake_daemon(fake)->guests, struct guest, link);
    guest->spec.on_exit = ON_EXIT_LEAVE;
    memset(fake_ram(fake), 0x3c, 4096);
    for (unsigned i = 0; i < 40; i++) {
        submit(disks[0], IOD_BLOCK_WRITE, IOD_BLOCK_FUA, (uint64_t)i * 4096, 4096, 0, 4096);
    }
    iod_block_kick(disks[0]->block);
    fake_stop(fake);
    read_image(39 * 4096, back, sizeof(back));
    ck_assert_int_eq(back[0] & back[4095], 0x3c);
    remove_image();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("block_kernel");
    TCase *c = tcase_create("block_kernel");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, make_image, NULL);
    tcase_add_test(c, bounce_in_order);
    tcase_add_loop_test(c, durability, 0, 4);
    tcase_add_loop_test(c, short_results, 0, 4);
    tcase_add_loop_test(c, unsupported_by_file_system, 0, 4);
    tcase_add_test(c, failed_flush_is_told);
    tcase_add_test(c, direct_io_is_bounced);
    tcase_add_loop_test(c, last_completion_frees_all, 0, 4);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
