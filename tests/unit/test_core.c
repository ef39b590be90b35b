/* SPDX-License-Identifier: BSD-2-Clause */
/* What only the core's inside can be asked: accesses, broken devices, timers and ranges in unusual orders. */
#include <ioreqd/loop.h>

#include "core_rig.h"

/* ---- accesses that nobody ends ---- */

/* The device never ends its access and still says that it is quiet: the vCPU is answered, nothing dangles. */
START_TEST(deferred_to_the_end)
{
    struct fake_xen *fake = rig_start();
    guest_of(fake)->spec.on_exit = _i == 0 ? ON_EXIT_DESTROY : ON_EXIT_LEAVE;
    fake_begin_out(fake, HOLD, 4, 1);
    fake_run_ms(fake, 10);
    ck_assert(!fake_answered(fake));
    hooks.destroyed = 0;
    if (_i == 2) {
        fake_kill(fake);
        ck_assert_uint_eq(hooks.destroyed, 1);
        fake_stop(fake);
        return;
    }
    struct daemon *daemon = fake_daemon(fake);
    daemon_stop(daemon, nothing, NULL);
    fake_run_ms(fake, 50);
    ck_assert_uint_eq(daemon_guests(daemon), 0);
    ck_assert_uint_eq(hooks.destroyed, 1);
    /* Left: its successor's, as it is. Destroyed: answered. */
    ck_assert_int_eq(fake_slot(fake), _i == 1 ? SLOT_INPROCESS : SLOT_NONE);
    fake_free(fake);
}
END_TEST

/* ---- a device that can't go on ---- */

/* Broken in whatever state: its accesses end, and the guest's others go on. */
START_TEST(broken_in_open)
{
    hooks.break_in_open = true;
    struct fake_xen *fake = rig_start();
    ck_assert(fake_running(fake));
    ck_assert_uint_eq(fake_in(fake, PLAIN, 4), 0xffffffff);
    fake_stop(fake);
}
END_TEST

START_TEST(broken_while_stopped)
{
    struct fake_xen *fake = rig_start();
    struct device_stop stop;
    bool quiet = false;
    device_stop(hooks.probe->device, &stop, IOD_FINISH, set_true, &quiet);
    ck_assert(quiet);
    fake_begin_out(fake, PLAIN, 4, 0); /* parked */
    fake_run_ms(fake, 10);
    ck_assert(!fake_answered(fake));
    iod_device_broken(hooks.probe->device, "while stopped");
    fake_run_ms(fake, 10);
    ck_assert(fake_answered(fake));
    device_resume(hooks.probe->device);
    ck_assert_uint_eq(fake_in(fake, PLAIN, 4), 0xffffffff);
    fake_stop(fake);
}
END_TEST

START_TEST(broken_with_a_deferred_access)
{
    struct fake_xen *fake = rig_start();
    fake_begin_out(fake, HOLD, 4, 1);
    fake_run_ms(fake, 10);
    ck_assert(!fake_answered(fake));
    iod_device_broken(hooks.probe->device, "with an access in its hands");
    fake_run_ms(fake, 10);
    ck_assert(fake_answered(fake));
    fake_stop(fake);
}
END_TEST

/* Broken by its own handler, then broken again: once. */
START_TEST(broken_in_a_handler)
{
    struct fake_xen *fake = rig_start();
    fake_out(fake, BREAK, 4, 1);
    iod_device_broken(hooks.probe->device, "again");
    ck_assert_uint_eq(fake_in(fake, PLAIN, 4), 0xffffffff);
    ck_assert_uint_eq(fake_logged(fake, "stopped: "), 1);
    fake_stop(fake);
}
END_TEST

/* ---- timers ---- */

START_TEST(timers_wait_for_a_stopped_device)
{
    struct fake_xen *fake = rig_start();
    struct iod_device *device = hooks.probe->device;
    struct device_stop stop;
    bool quiet = false;
    iod_timer_set(hooks.probe->timer, iod_guest_ns(device) + 10000000);
    device_stop(device, &stop, IOD_FINISH, set_true, &quiet);
    ck_assert(quiet);
    fake_run_ms(fake, 40);
    ck_assert_uint_eq(hooks.fired, 0);
    device_resume(device);
    ck_assert_uint_eq(hooks.fired, 0); /* not inside the call */
    fake_run_ms(fake, 5);
    ck_assert_uint_eq(hooks.fired, 1);
    fake_run_ms(fake, 5);
    ck_assert_uint_eq(hooks.fired, 1);
    /* Cancelled while held back: never. */
    quiet = false;
    iod_timer_set(hooks.probe->timer, 0);
    device_stop(device, &stop, IOD_FINISH, set_true, &quiet);
    fake_run_ms(fake, 5);
    iod_timer_cancel(hooks.probe->timer);
    device_resume(device);
    fake_run_ms(fake, 5);
    ck_assert_uint_eq(hooks.fired, 1);
    fake_stop(fake);
}
END_TEST

START_TEST(timers_fire_while_io_finishes)
{
    struct fake_xen *fake = rig_start();
    struct iod_device *device = hooks.probe->device;
    struct device_stop stop;
    bool quiet = false;
    hooks.quiesce_later = true;
    iod_timer_set(hooks.probe->timer, iod_guest_ns(device) + 5000000);
    device_stop(device, &stop, IOD_FINISH, set_true, &quiet);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(hooks.fired, 1);
    ck_assert(!quiet);
    hooks.quiesce_later = false;
    iod_device_done(device, 0);
    ck_assert(quiet);
    device_resume(device);
    fake_stop(fake);
}
END_TEST

/* ---- ranges that change at run time ---- */

START_TEST(range_that_was_refused)
{
    struct fake_xen *fake = rig_start();
    fake_ranges(fake)->fail = SECOND + 0x1000;
    fake_out(fake, PLAIN, 4, 0x1000);
    ck_assert_uint_eq(fake_ranges(fake)->failed, 1);
    fake_out(fake, HOLD + 12, 4, 0); /* nothing changes: not asked again at each access */
    ck_assert_uint_eq(fake_ranges(fake)->failed, 1);
    fake_ranges(fake)->fail = 0;
    fake_out(fake, PLAIN, 4, 0x1000); /* placed anew where it was */
    ck_assert_uint_eq(fake_ranges(fake)->last, SECOND + 0x1000);
    fake_stop(fake);
}
END_TEST

/* The 257th range: a second server, made while the guest runs, whose event channels come late. */
START_TEST(server_made_at_run_time)
{
    hooks.extra = 255; /* and the registers: a server full */
    struct fake_xen *fake = rig_start();
    fake_hide_ports(fake, true);
    unsigned bound = fake_ranges(fake)->bound;
    ck_assert_uint_eq(fake_ranges(fake)->mapped, 256);
    fake_out(fake, PLAIN, 4, 0);
    ck_assert_uint_eq(fake_ranges(fake)->mapped, 257);
    fake_run_ms(fake, 30);
    ck_assert_uint_eq(fake_ranges(fake)->bound, bound);
    fake_hide_ports(fake, false);
    fake_run_ms(fake, 30);
    ck_assert_uint_eq(fake_ranges(fake)->bound, bound + 1);
    fake_stop(fake);
}
END_TEST

static void set_done(void *self, int error, const char *why)
{
    ck_assert_msg(error == 0, "%s", why);
    *(bool *)self = true;
}

static bool is_set(void *self)
{
    return *(bool *)self;
}

/* The detach is under way when the guest ends: its registers are gone, and still looked up. */
START_TEST(access_after_detach_in_a_stopping_guest)
{
    static const char *const texts[] = { "probe", "debugcon" };
    struct iod_error error = { 0 };
    struct fake_xen *fake = fake_start(&rig_module, GUEST_HVM, texts, 2, &error);
    struct testee *probe = hooks.probe;
    struct daemon *daemon = fake_daemon(fake);
    struct iod_device *other = list_entry(guest_of(fake)->devices.prev, struct iod_device, link);
    struct device_stop stop;
    bool detached = false;
    hooks.quiesce_later = true;
    device_stop(probe->device, &stop, IOD_FINISH, nothing, NULL);
    const char *id = probe->device->id;
    ck_assert_int_eq(daemon_remove_device(daemon, "7", id, REMOVAL_FORCE, set_done, &detached, &error), 0);
    ck_assert_ptr_nonnull(other);
    guest_of(fake)->stopping = 1000; /* something else is never quiet */
    guest_of(fake)->state = GUEST_STOPPING;
    iod_device_done(probe->device, 0);
    fake_run(fake, is_set, &detached);
    ck_assert_uint_eq(fake_in(fake, PLAIN, 4), 0); /* reads 0, as a hole does */
    guest_of(fake)->state = GUEST_RUNNING;
    fake_stop(fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("core");
    TCase *c = tcase_create("core");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, deferred_to_the_end, 0, 3);
    tcase_add_test(c, broken_in_open);
    tcase_add_test(c, broken_while_stopped);
    tcase_add_test(c, broken_with_a_deferred_access);
    tcase_add_test(c, broken_in_a_handler);
    tcase_add_test(c, timers_wait_for_a_stopped_device);
    tcase_add_test(c, timers_fire_while_io_finishes);
    tcase_add_test(c, range_that_was_refused);
    tcase_add_test(c, server_made_at_run_time);
    tcase_add_test(c, access_after_detach_in_a_stopping_guest);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
