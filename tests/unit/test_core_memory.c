/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest memory as the core gives it to a device: while it is stopped, in a hole, at the very top. */
#include <errno.h>

#include <ioreqd/dma.h>

#include "core_rig.h"

/* Only a device that runs reaches guest memory; it said that it is quiet. */
START_TEST(dma_while_stopped)
{
    struct fake_xen *fake = rig_start();
    struct iod_device *device = hooks.probe->device;
    struct iod_mapping *mapping;
    const struct iod_extent extent = { 0x1000, 64 };
    struct iod_window *window = iod_window_open(device, 0x1000, 64);
    struct device_stop stop;
    bool quiet = false;
    char byte = 7;
    ck_assert_int_eq(iod_dma_write(device, 0x1000, &byte, 1), 0);
    ck_assert_int_eq(iod_window_write(window, 1, &byte, 1), 0);
    device_stop(device, &stop, IOD_CANCEL, set_true, &quiet);
    ck_assert(quiet);
    byte = 9;
    ck_assert_int_eq(iod_dma_write(device, 0x1000, &byte, 1), -EFAULT);
    ck_assert_int_eq(iod_dma_map(device, &extent, 1, IOD_TO_GUEST, &mapping), -EFAULT);
    ck_assert_int_eq(iod_window_write(window, 1, &byte, 1), -EFAULT);
    ck_assert_uint_eq(fake_ram(fake)[0x1000], 7);
    ck_assert_uint_eq(fake_ram(fake)[0x1001], 7);
    device_resume(device);
    ck_assert_int_eq(iod_window_write(window, 1, &byte, 1), 0);
    iod_window_close(window);
    fake_stop(fake);
    ck_assert_int_eq(hooks.dma, -EFAULT); /* in destroy */
}
END_TEST

struct pace {
    struct fake_xen *fake;
    struct loop_task *task;
    unsigned seen, worst;
};

static void look_at_pace(void *self)
{
    struct pace *pace = self;
    unsigned maps = fake_ranges(pace->fake)->maps;
    pace->worst = maps - pace->seen > pace->worst ? maps - pace->seen : pace->worst;
    pace->seen = maps;
    fake_loop(pace->fake)->ops->task_again(pace->task);
}

static bool answered(void *self)
{
    return fake_answered(self);
}

/* A REP from or to memory that is not there asks the hypervisor at each element: few of them in one round. */
START_TEST(holes_are_dear)
{
    struct fake_xen *fake = rig_start();
    struct pace pace = { .fake = fake };
    pace.task = fake_loop(fake)->ops->task_add(fake_loop(fake), look_at_pace, &pace);
    fake_loop(fake)->ops->task_again(pace.task);
    fake_begin_rep(fake, _i, PLAIN, 4, 1000, FAKE_RAM + 0x1000000);
    fake_run(fake, answered, fake);
    ck_assert_uint_ge(fake_ranges(fake)->maps, 2000);
    ck_assert_msg(pace.worst <= 48, "%u maps in one round", pace.worst);
    fake_loop(fake)->ops->task_remove(pace.task);
    fake_stop(fake);
}
END_TEST

/* A ring that the guest puts at the very top. */
START_TEST(window_over_the_top)
{
    struct fake_xen *fake = rig_start();
    struct iod_window *window = iod_window_open(hooks.probe->device, UINT64_MAX - 0xf, 8192);
    uint8_t bytes[64];
    for (size_t offset = 0; offset <= 8192 - sizeof(bytes); offset += 16) {
        ck_assert_int_eq(iod_window_read(window, offset, bytes, sizeof(bytes)), -EFAULT);
    }
    iod_window_close(window);
    fake_stop(fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core_memory");
    TCase *c = tcase_create("core_memory");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, holes_are_dear, 0, 2);
    tcase_add_test(c, dma_while_stopped);
    tcase_add_test(c, window_over_the_top);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
