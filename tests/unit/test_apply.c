/* SPDX-License-Identifier: BSD-2-Clause */
/* A source's list of guests, applied again and again. */
#include <errno.h>

#include "change_rig.h"

static int apply(struct fake_xen *fake, const char *source, struct guest_spec *specs, unsigned count,
                 struct iod_error *error)
{
    memset(error, 0, sizeof(*error));
    int result = daemon_apply(fake_daemon(fake), source, specs, count, error);
    for (unsigned i = 0; i < count; i++) {
        guest_spec_finish(&specs[i]);
    }
    return result;
}

#define APPLY(fake, ...) \
    do { \
        struct guest_spec specs[] = {__VA_ARGS__}; \
        struct iod_error said; \
        ck_assert_msg(apply(fake, "file", specs, sizeof(specs) / sizeof(specs[0]), &said)  == 0, "%s", said.text ); \
    } while (0)
#define REFUSED(fake, says, ...) \
    do { \
        struct guest_spec specs[] = {__VA_ARGS__}; \
        struct iod_error said; \
        ck_assert_int_ne(apply(fake, "file", specs, sizeof(specs) / sizeof(specs[0]), &said) , 0); \
        ck_says(said, says); \
    } while (0)
#define WEB(...) RIG_SPEC("web", true, "web.conf:1", __VA_ARGS__)
#define DB(...) RIG_SPEC("db", true, "db.conf:1", __VA_ARGS__)
#define A "knob,base=0xf0000000,value=1"
#define B "knob,base=0xf0001000,value=2"
#define C "knob,base=0xf0002000,value=3"

START_TEST(what_stays_does_not_notice)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web 8=db");
    APPLY(fake, WEB(A, B), DB(C));
    rig_expect(fake, "web", "running", true);
    rig_expect(fake, "db", "running", true);
    unsigned created = knobs.created, started = knobs.started;
    rig_events();
    /* The same again; in another order; with a third device. */
    APPLY(fake, WEB(A, B), DB(C));
    APPLY(fake, DB(C), WEB(B, A));
    ck_assert_uint_eq(knobs.created, created); /* no trial of what has passed one: it costs time that all guests wait */
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(knobs.started, started);
    ck_assert_str_eq(rig_events(), "");
    APPLY(fake, WEB(C, B, A), DB(C));
    rig_expect(fake, "web", "running", true);
    ck_assert_uint_eq(knobs.started, started + 1);
    ck_assert_str_eq(rig_events(), "web/knob2:added"); /* knob0 and knob1 are A's and B's for good */
    ck_assert_uint_eq(fake_in(fake, 0xf0002000, 4), 3);
    APPLY(fake, WEB(C, B), DB(C));
    fake_run_ms(fake, 20);
    ck_assert_str_eq(rig_events(), "web/knob0:removed");
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), 2);
    /* The list stays for the next boot. */
    fake_mark_dead(fake, 7);
    rig_domains("9=web 8=db");
    rig_expect(fake, "9", "running", true);
    ck_assert_ptr_nonnull(rig_knob(fake, "web", "knob2"));
    ck_assert_ptr_null(rig_knob(fake, "web", "knob0"));
    rig_events();
    APPLY(fake, WEB(C, B));
    fake_run_ms(fake, 20);
    ck_assert_str_eq(rig_events(), "db:detaching db:stopped");
    struct iod_error error;
    ck_assert_int_eq(daemon_apply(fake_daemon(fake), "file", NULL, 0, &error), 0);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 0);
    ck_assert_uint_gt(knobs.created, created);
    rig_stop(fake);
}
END_TEST

/* Goes and comes under its id, in this order: the new one wants the old one's lock and range. */
START_TEST(a_device_that_changes)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web");
    APPLY(fake, WEB("knob,id=one,base=0xf0000000,value=1,lock=image", B));
    rig_expect(fake, "web", "running", true);
    rig_events();
    APPLY(fake, WEB("knob,id=one,base=0xf0000000,value=9,lock=image", B));
    rig_expect(fake, "web", "running", true);
    ck_assert_uint_eq(fake_in(fake, KNOB, 4), 9);
    ck_assert_str_eq(rig_events(), "web/one:removed web/one:added");
    /* Its driver is at work: the whole list is refused. */
    fake_out(fake, KNOB, 4, 1);
    REFUSED(fake, "web.conf:1: guest web: one of guest web would go, but: the guest turns it",
            WEB("knob,id=one,base=0xf0000000,value=10"), DB(C));
    REFUSED(fake, "the guest turns it", DB(C));
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 1);
    ck_assert_uint_eq(fake_in(fake, KNOB, 4), 9);
    ck_assert_str_eq(rig_events(), "");
    fake_out(fake, KNOB, 4, 0);
    APPLY(fake, WEB("knob,id=one,base=0xf0000000,value=10"), DB(C));
    rig_expect(fake, "web", "running", true);
    ck_assert_uint_eq(fake_in(fake, KNOB, 4), 10);
    rig_stop(fake);
}
END_TEST

START_TEST(a_bad_list_changes_nothing)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web");
    APPLY(fake, WEB(A));
    rig_expect(fake, "web", "running", true);
    rig_events();
    REFUSED(fake, "web.conf:1", WEB(A, "knob,base=0xf0000008"));
    REFUSED(fake, "db.conf:1: no device 'nonsense'", DB("nonsense"), WEB(B));
    REFUSED(fake, "db.conf:1: guest db: is in the list twice", WEB(B), DB(C), DB(C));
    REFUSED(fake, "twice", WEB(B), RIG_SPEC("7", true, NULL, C), RIG_SPEC("0x7", true, NULL, C));
    struct guest_spec pvh = WEB(A);
    pvh.type = GUEST_PVH;
    REFUSED(fake, "its type can't be changed", pvh);
    fake_run_ms(fake, 20);
    ck_assert_str_eq(rig_events(), "");
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 1);
    ck_assert(rig_status(fake, "web").served);
    /* Of a guest that does not run, all may change. */
    fake_mark_dead(fake, 7);
    rig_domains("");
    rig_expect(fake, "web", "waiting", false);
    pvh = WEB(A);
    pvh.type = GUEST_PVH;
    APPLY(fake, pvh);
    rig_domains("8=web");
    rig_expect(fake, "web", "running", true);
    ck_assert_int_eq(guest_type(guest_find(fake_daemon(fake), "web", &(struct iod_error){ 0 })), GUEST_PVH);
    rig_stop(fake);
}
END_TEST

/* A guest is asked to let go of a device only by a list that is good. */
START_TEST(a_bad_list_asks_nobody)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web");
    APPLY(fake, WEB(A, B));
    rig_expect(fake, "web", "running", true);
    fake_out(fake, KNOB, 4, 2);
    struct iod_device *device = rig_knob(fake, "web", "knob0")->device;
    REFUSED(fake, "db.conf:1: no device 'nonsense'", WEB(B), DB("nonsense"));
    ck_assert(!device_asked(device));
    REFUSED(fake, "web.conf:1: guest web: knob0 of guest web would go, but: the guest turns it", WEB(B), DB(C));
    ck_assert(device_asked(device));
    rig_stop(fake);
}
END_TEST

/* Another source's, and what was added by hand. */
START_TEST(other_sources)
{
    struct fake_xen *fake = rig_start(true);
    struct iod_error error;
    rig_domains("7=web");
    rig_add(fake, RIG_SPEC("7", false, "xenstore", A));
    rig_expect(fake, "7", "running", true);
    APPLY(fake, WEB(B));
    rig_expect(fake, "web", "running", true);
    struct guest_spec tree[] = { RIG_SPEC("web", true, "tree", C) };
    ck_assert_int_eq(apply(fake, "device tree", tree, 1, &error), 0);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 3);
    ck_assert_uint_eq(fake_in(fake, 0xf0002000, 4), 3);
    ck_assert_int_eq(daemon_apply(fake_daemon(fake), "file", NULL, 0, &error), 0);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 2);
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), UINT32_MAX);
    ck_assert_uint_eq(fake_in(fake, 0xf0002000, 4), 3);
    ck_assert_uint_eq(fake_in(fake, 0xf0000000, 4), 1);
    rig_remove_guest(fake, "7");
    ck_assert_uint_eq(fake_in(fake, 0xf0000000, 4), UINT32_MAX);
    ck_assert_uint_eq(fake_in(fake, 0xf0002000, 4), 3);
    rig_stop(fake);
}
END_TEST

/* Shown with its reason; another list, or another domain, and it is tried again. */
START_TEST(a_guest_that_fails)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web 8=db");
    APPLY(fake, WEB("knob,base=0xf0000000,open=fail"), DB(B));
    rig_expect(fake, "web", "failed", false);
    rig_expect(fake, "db", "running", true);
    ck_assert_ptr_nonnull(strstr(rig_status(fake, "web").why, "it is stuck"));
    ck_assert_int_eq(rig_status(fake, "web").domid, 7);
    if (_i == 0) {
        APPLY(fake, WEB(A), DB(B));
        rig_expect(fake, "web", "running", true);
    } else if (_i == 1) {
        rig_add_device(fake, "web", "knob,id=good,base=0xf0005000", NULL);
        rig_expect(fake, "web", "failed", false);
        rig_remove_device(fake, "web", "knob0", REMOVAL_ASK, NULL);
        rig_expect(fake, "web", "running", true);
        ck_assert_ptr_nonnull(rig_knob(fake, "web", "good"));
    } else if (_i == 2) {
        rig_events();
        fake_mark_dead(fake, 7);
        rig_domains("8=db");
        rig_expect(fake, "web", "waiting", false);
        rig_domains("8=db 9=web");
        rig_expect(fake, "web", "failed", false);
        ck_assert_int_eq(rig_status(fake, "web").domid, 9);
    } else {
        rig_remove_guest(fake, "web");
        ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 1);
    }
    rig_stop(fake);
}
END_TEST

/* One device of a running guest fails: the rest goes on, and the next list tries it again. */
START_TEST(a_device_that_fails)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web");
    APPLY(fake, WEB(A));
    rig_expect(fake, "web", "running", true);
    fake_ranges(fake)->fail = 0xf0001000;
    rig_events();
    APPLY(fake, WEB(A, B));
    fake_run_ms(fake, 50);
    ck_assert_str_eq(rig_events(), "web/knob1:error"); /* once */
    ck_assert(!rig_status(fake, "web").served);
    ck_assert_ptr_nonnull(strstr(rig_status(fake, "web").why, "can't be claimed"));
    ck_assert_uint_eq(fake_in(fake, KNOB, 4), 1);
    fake_ranges(fake)->fail = 0;
    APPLY(fake, WEB(A, B));
    rig_expect(fake, "web", "running", true);
    rig_stop(fake);
}
END_TEST

/* An image moves from one guest to another in one list. */
START_TEST(a_lock_that_moves)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web 8=db");
    APPLY(fake, WEB(A, B ",lock=image"), DB(C));
    rig_expect(fake, "web", "running", true);
    rig_expect(fake, "db", "running", true);
    knobs.slow = true;
    struct knob *old = rig_knob(fake, "web", "knob1");
    APPLY(fake, DB(C, B ",lock=image"), WEB(A));
    fake_run_ms(fake, 200);
    ck_assert(!rig_status(fake, "db").served);
    ck_assert_uint_eq(fake_logged(fake, "error"), 0);
    knobs.slow = false;
    knob_finish(old);
    rig_expect(fake, "db", "running", true);
    rig_stop(fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("apply");
    TCase *c = tcase_create("apply");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, what_stays_does_not_notice);
    tcase_add_test(c, a_device_that_changes);
    tcase_add_test(c, a_bad_list_changes_nothing);
    tcase_add_test(c, a_bad_list_asks_nobody);
    tcase_add_test(c, other_sources);
    tcase_add_loop_test(c, a_guest_that_fails, 0, 4);
    tcase_add_test(c, a_device_that_fails);
    tcase_add_test(c, a_lock_that_moves);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
