/* SPDX-License-Identifier: BSD-2-Clause */
/* One domain that two sources of guests name. */
#include <errno.h>

#include "change_rig.h"

#define DISK "knob,id=one,base=0xf0000000,value=1"
#define MORE "knob,id=two,base=0xf0001000,value=2"

/* ---- one domain, two specs ---- */

/* "7" runs with two devices, the host; "web", the same domain, joins it with two more. */
static struct fake_xen *start_joined(void)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web");
    rig_add(fake, RIG_SPEC("7", false, "xenstore", "knob,base=0xf0000000,value=1"));
    rig_expect(fake, "7", "running", true);
    rig_add(fake, RIG_SPEC("web", true, "file", "knob,base=0xf0001000,value=2"));
    rig_expect(fake, "web", "running", true);
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), 2);
    ck_assert_uint_eq(fake_ranges(fake)->bound, 1); /* one server */
    ck_assert_ptr_nonnull(rig_knob(fake, "7", "knob1")); /* "knob0" was taken */
    rig_add_device(fake, "web", "knob,id=more,base=0xf0002000,value=3", NULL);
    rig_add_device(fake, "7", "knob,id=most,base=0xf0003000,value=4", NULL);
    rig_events();
    return fake;
}

/* The joined one goes. */
START_TEST(joined_one_goes)
{
    struct fake_xen *fake = start_joined();
    rig_remove_guest(fake, "web");
    ck_assert_ptr_null(rig_knob(fake, "7", "knob1"));
    ck_assert_ptr_null(rig_knob(fake, "7", "more"));
    ck_assert_uint_eq(fake_in(fake, KNOB, 4), 1);
    ck_assert(rig_status(fake, "7").served);
    ck_assert_str_eq(rig_events(), "web/knob1:removed web/more:removed web:stopped");
    rig_stop(fake);
}
END_TEST

/* The host goes: the other one takes its place, unnoticed. */
START_TEST(joined_host_goes)
{
    struct fake_xen *fake = start_joined();
    unsigned started = knobs.started;
    rig_remove_guest(fake, "7");
    ck_assert_ptr_null(rig_knob(fake, "web", "knob0"));
    ck_assert_ptr_null(rig_knob(fake, "web", "most"));
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), 2);
    ck_assert_uint_eq(fake_in(fake, 0xf0002000, 4), 3);
    ck_assert(rig_status(fake, "web").served);
    ck_assert_uint_eq(knobs.started, started);
    ck_assert_str_eq(rig_events(), "7/knob0:removed 7/most:removed 7:stopped");
    fake_mark_dead(fake, 7);
    rig_domains("8=web");
    rig_expect(fake, "8", "running", true);
    ck_assert_ptr_nonnull(rig_knob(fake, "web", "more"));
    rig_stop(fake);
}
END_TEST

/* The domain dies: each goes its own way. */
START_TEST(joined_domain_dies)
{
    struct fake_xen *fake = start_joined();
    fake_mark_dead(fake, 7);
    rig_domains("");
    rig_expect(fake, "web", "waiting", false);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 1);
    ck_assert_str_eq(rig_events(), "7:detaching web:detaching 7:gone web:gone web:waiting");
    rig_domains("8=web");
    rig_expect(fake, "web", "running", true);
    ck_assert_ptr_null(rig_knob(fake, "web", "most"));
    ck_assert_ptr_nonnull(rig_knob(fake, "web", "more"));
    rig_stop(fake);
}
END_TEST

/* A device goes by way of either. */
START_TEST(joined_device_goes_by_either)
{
    struct fake_xen *fake = start_joined();
    rig_remove_device(fake, "7", "more", REMOVAL_ASK, NULL);
    rig_remove_device(fake, "web", "most", REMOVAL_ASK, NULL);
    ck_assert(rig_status(fake, "web").served);
    ck_assert(rig_status(fake, "7").served);
    rig_stop(fake);
}
END_TEST

/* The host goes under I/O, and meanwhile the other one too. */
START_TEST(joined_both_go_under_io)
{
    struct fake_xen *fake = start_joined();
    struct rig_answer one = { 0 }, two = { 0 };
    struct iod_error error;
    knobs.slow = true;
    struct knob *knob = rig_knob(fake, "7", "knob0"), *most = rig_knob(fake, "7", "most");
    struct knob *knob1 = rig_knob(fake, "7", "knob1"), *more = rig_knob(fake, "7", "more");
    ck_assert_int_eq(daemon_remove_guest(fake_daemon(fake), "7", rig_done, &one, &error), 0);
    fake_run_ms(fake, 5);
    ck_assert_int_eq(daemon_remove_guest(fake_daemon(fake), "web", rig_done, &two, &error), 0);
    fake_run_ms(fake, 5);
    ck_assert(!one.done && !two.done);
    knob_finish(knob);
    knob_finish(most);
    fake_run_ms(fake, 5);
    ck_assert(one.done && !two.done);
    knobs.slow = false;
    knob_finish(knob1);
    knob_finish(more);
    fake_run_ms(fake, 20);
    ck_assert(two.done);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 0);
    rig_stop(fake);
}
END_TEST

static void nothing(void *self)
{
}

/* SIGTERM while a device of the joined one opens, which ends after its owner is no more. */
START_TEST(joined_opens_at_the_end)
{
    struct fake_xen *fake = rig_start(true);
    struct rig_answer answer = { 0 };
    struct iod_error error;
    struct device_spec spec;
    rig_domains("7=web");
    rig_add(fake, RIG_SPEC("7", false, NULL, DISK));
    rig_add(fake, RIG_SPEC("web", true, NULL, "knob,id=other,base=0xf0002000"));
    rig_expect(fake, "web", "running", true);
    device_spec_parse(&spec, MORE ",open=later", &error);
    ck_assert_int_eq(daemon_add_device(fake_daemon(fake), "web", &spec, rig_done, &answer, &error), 0);
    device_spec_finish(&spec);
    fake_run_ms(fake, 5);
    struct knob *knob = rig_knob(fake, "7", "two");
    ck_assert_ptr_nonnull(knob);
    daemon_stop(fake_daemon(fake), nothing, NULL);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 1); /* the host, which waits for the device */
    ck_assert(answer.done && answer.error == -ESHUTDOWN);
    memset(&answer, 0, sizeof(answer));
    knob_opened(knob, 0);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 0);
    ck_assert(!answer.done); /* once is enough */
    ck_assert_uint_eq(knobs.created, knobs.destroyed);
    fake_free(fake);
}
END_TEST

/* The host's own devices fail to open: the other one serves alone. */
START_TEST(joined_to_one_that_fails)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web");
    rig_add(fake, RIG_SPEC("7", false, NULL, "knob,base=0xf0000000,open=later"));
    rig_add(fake, RIG_SPEC("web", true, NULL, "knob,base=0xf0001000,value=2"));
    rig_expect(fake, "web", "attaching", false);
    fake_run_ms(fake, 10);
    rig_events();
    knob_opened(rig_knob(fake, "7", "knob0"), -EIO);
    rig_expect(fake, "web", "running", true);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 1);
    /* Its knob was renamed when it joined. */
    ck_assert_str_eq(rig_events(), "7/knob0:error 7:detaching web:detaching 7:failed web:waiting "
                                   "web:attaching web:running web/knob1:added");
    rig_stop(fake);
}
END_TEST

/* Both are there before the host runs: both are told. */
START_TEST(joined_while_attaching)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web");
    rig_add(fake, RIG_SPEC("7", false, NULL, "knob,base=0xf0000000,open=later"));
    rig_add(fake, RIG_SPEC("web", true, NULL, "knob,base=0xf0001000,value=2"));
    fake_run_ms(fake, 10);
    rig_events();
    knob_opened(rig_knob(fake, "7", "knob0"), 0);
    rig_expect(fake, "web", "running", true);
    ck_assert_str_eq(rig_events(), "7:running web:running 7/knob0:added web/knob1:added");
    rig_stop(fake);
}
END_TEST

/* An id that both sources chose by hand: the second one's device is not there, and it says so. */
START_TEST(joined_with_the_same_id)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web");
    rig_add(fake, RIG_SPEC("7", false, NULL, DISK));
    rig_add(fake, RIG_SPEC("web", true, NULL, "knob,id=one,base=0xf0001000"));
    rig_expect(fake, "web", "running", false);
    fake_run_ms(fake, 20);
    ck_assert_ptr_nonnull(strstr(rig_status(fake, "web").why, "has this id"));
    ck_assert(rig_status(fake, "7").served);
    rig_stop(fake);
}
END_TEST

/* The joined one goes, and nobody asked its driver: the memory of what is driven reads 0 then, as after a --force. */
START_TEST(joined_goes_while_driven)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web");
    rig_add(fake, RIG_SPEC("7", false, NULL, DISK));
    rig_add(fake, RIG_SPEC("web", true, NULL, MORE, "knob,id=three,base=0xf0002000,value=3"));
    rig_expect(fake, "web", "running", true);
    fake_out(fake, 0xf0001000, 4, 1);
    rig_remove_guest(fake, "web");
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), 0);
    ck_assert_uint_eq(fake_in(fake, 0xf0002000, 4), UINT32_MAX); /* its driver had let go of it */
    ck_assert_uint_eq(fake_in(fake, KNOB, 4), 1);
    rig_stop(fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("change_joined");
    TCase *c = tcase_create("change_joined");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, joined_one_goes);
    tcase_add_test(c, joined_host_goes);
    tcase_add_test(c, joined_domain_dies);
    tcase_add_test(c, joined_device_goes_by_either);
    tcase_add_test(c, joined_both_go_under_io);
    tcase_add_test(c, joined_opens_at_the_end);
    tcase_add_test(c, joined_to_one_that_fails);
    tcase_add_test(c, joined_while_attaching);
    tcase_add_test(c, joined_with_the_same_id);
    tcase_add_test(c, joined_goes_while_driven);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
