/* SPDX-License-Identifier: BSD-2-Clause */
/* Devices and guests that come and go while the daemon runs. */
#include <errno.h>

#include "change_rig.h"

#define DISK "knob,id=one,base=0xf0000000,value=1"
#define MORE "knob,id=two,base=0xf0001000,value=2"

static struct fake_xen *start_web(void)
{
    struct fake_xen *fake = rig_start(true);
    rig_add(fake, RIG_SPEC("web", true, NULL, DISK));
    rig_expect(fake, "web", "waiting", false);
    rig_domains("7=web/u-1");
    rig_expect(fake, "web", "running", true);
    return fake;
}

/* ---- events ---- */

START_TEST(states_are_told)
{
    struct fake_xen *fake = start_web();
    ck_assert_str_eq(rig_events(), "web:waiting web:attaching web:running web/one:added");
    fake_mark_dead(fake, 7);
    rig_domains("");
    rig_expect(fake, "web", "waiting", false);
    ck_assert_str_eq(rig_events(), "web:detaching web:gone web:waiting");
    rig_domains("9=web/u-1");
    rig_expect(fake, "web", "running", true);
    ck_assert_int_eq(rig_status(fake, "web").domid, 9);
    iod_device_broken(rig_knob(fake, "web", "one")->device, "it fell off");
    ck_assert(!rig_status(fake, "web").served);
    ck_assert_str_eq(rig_status(fake, "web").why, "one: it fell off");
    ck_assert_str_eq(rig_events(), "web:attaching web:running web/one:added web/one:error");
    rig_stop(fake);
    ck_assert_str_eq(rig_events(), "web:detaching web:stopped");
}
END_TEST

static unsigned heard;

static void remove_itself(struct daemon_listener *listener, const struct daemon_event *event)
{
    heard++;
    daemon_unlisten(listener);
}

/* Removes the other one, and the guest that has just come to run: from inside the event. */
static struct daemon_listener other = { .event = remove_itself };
static struct fake_xen *told;
static struct rig_answer removed;

static void remove_all(struct daemon_listener *listener, const struct daemon_event *event)
{
    struct iod_error error;
    if (event->kind == EVENT_GUEST_STATE && strcmp(event->text, "running") == 0) {
        daemon_unlisten(&other);
        ck_assert_int_eq(daemon_remove_guest(fake_daemon(told), "web", rig_done, &removed, &error), 0);
    }
}

START_TEST(listeners_may_do_anything)
{
    struct fake_xen *fake = told = rig_start(true);
    struct daemon_listener itself = { .event = remove_itself }, verbs = { .event = remove_all };
    daemon_listen(fake_daemon(fake), &itself);
    daemon_listen(fake_daemon(fake), &verbs);
    rig_add(fake, RIG_SPEC("web", true, NULL, DISK));
    ck_assert_uint_eq(heard, 1);
    daemon_listen(fake_daemon(fake), &other);
    rig_domains("7=web");
    fake_run_ms(fake, 30);
    ck_assert(removed.done);
    ck_assert_uint_eq(heard, 2); /* "attaching", then it had removed itself */
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 0);
    daemon_unlisten(&verbs);
    rig_stop(fake);
}
END_TEST

/* ---- devices ---- */

START_TEST(a_device_comes_and_goes)
{
    struct fake_xen *fake = start_web();
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), UINT32_MAX);
    rig_add_device(fake, "web", MORE, NULL);
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), 2);
    ck_assert_uint_eq(fake_ranges(fake)->mapped, 2);
    rig_add_device(fake, "7", "knob,base=0xf0002000,value=3", NULL); /* by domid; an id of its own */
    ck_assert_ptr_nonnull(rig_knob(fake, "web", "knob2"));
    rig_add_device(fake, "web", MORE, "has this id");
    rig_add_device(fake, "web", "knob,base=0xf0002008", "taken by knob2");
    rig_add_device(fake, "web", "nonsense", "nonsense");
    rig_add_device(fake, "nobody", MORE, "no guest nobody");
    /* A reboot keeps it. */
    fake_mark_dead(fake, 7);
    rig_domains("8=web/u-1");
    rig_expect(fake, "8", "running", true);
    ck_assert_ptr_nonnull(rig_knob(fake, "web", "two"));
    ck_assert_ptr_nonnull(rig_knob(fake, "web", "knob2"));
    unsigned mapped = fake_ranges(fake)->mapped;
    rig_remove_device(fake, "web", "two", REMOVAL_ASK, NULL);
    ck_assert_ptr_null(rig_knob(fake, "web", "two"));
    ck_assert_uint_eq(fake_ranges(fake)->mapped, mapped - 1);
    rig_remove_device(fake, "web", "two", REMOVAL_FORCE, "no device two");
    fake_mark_dead(fake, 8);
    rig_domains("9=web/u-1");
    rig_expect(fake, "9", "running", true);
    ck_assert_ptr_null(rig_knob(fake, "web", "two"));
    ck_assert_ptr_nonnull(rig_knob(fake, "web", "knob2"));
    rig_stop(fake);
}
END_TEST

/* Until it is open, nobody can reach it; one that does not open leaves no trace. */
START_TEST(a_device_that_opens_late_or_never)
{
    struct fake_xen *fake = start_web();
    struct rig_answer answer = { 0 };
    struct iod_error error;
    struct device_spec spec;
    rig_events();
    rig_add_device(fake, "web", MORE ",open=fail", "it is stuck");
    ck_assert_str_eq(rig_events(), "web/two:error");
    ck_assert_uint_eq(fake_ranges(fake)->mapped, 1);
    device_spec_parse(&spec, MORE ",open=later", &error);
    ck_assert_int_eq(daemon_add_device(fake_daemon(fake), "web", &spec, rig_done, &answer, &error), 0);
    device_spec_finish(&spec);
    fake_out(fake, KNOB, 4, 0); /* an access may commit what is dirty */
    ck_assert_uint_eq(fake_ranges(fake)->mapped, 1);
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), UINT32_MAX);
    ck_assert(!answer.done);
    ck_assert(!rig_status(fake, "web").served);
    rig_add_device(fake, "web", "knob,base=0xf0001008", "taken by two"); /* though it has no range yet */
    rig_remove_device(fake, "web", "two", REMOVAL_ASK, "is being added");
    knob_opened(rig_knob(fake, "web", "two"), 0);
    rig_expect(fake, "web", "running", true);
    ck_assert(answer.done && answer.error == 0);
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), 2);
    /* The guest dies while another one opens. */
    memset(&answer, 0, sizeof(answer));
    device_spec_parse(&spec, "knob,id=three,base=0xf0002000,open=later", &error);
    ck_assert_int_eq(daemon_add_device(fake_daemon(fake), "web", &spec, rig_done, &answer, &error), 0);
    device_spec_finish(&spec);
    fake_mark_dead(fake, 7);
    rig_domains("");
    rig_expect(fake, "web", "detaching", false);
    knob_opened(rig_knob(fake, "web", "three"), 0);
    rig_expect(fake, "web", "waiting", false);
    ck_assert(answer.done && answer.error == 0); /* it comes with the domain */
    rig_stop(fake);
}
END_TEST

/* By force: nobody waits for its open, neither who asked for it nor who removes it; its id is free when that has ended. */
START_TEST(removed_while_it_opens)
{
    struct fake_xen *fake = start_web();
    struct rig_answer answer = { 0 };
    struct iod_error error;
    struct device_spec spec;
    device_spec_parse(&spec, MORE ",open=later", &error);
    ck_assert_int_eq(daemon_add_device(fake_daemon(fake), "web", &spec, rig_done, &answer, &error), 0);
    device_spec_finish(&spec);
    fake_run_ms(fake, 5);
    struct knob *opening = rig_knob(fake, "web", "two");
    rig_remove_device(fake, "web", "two", REMOVAL_FORCE, NULL);
    fake_run_ms(fake, 5);
    ck_assert(answer.done && answer.error == -ECANCELED);
    ck_assert(rig_status(fake, "web").served);
    rig_add_device(fake, "web", MORE, "still being removed");
    if (_i == 2) { /* the guest goes meanwhile */
        fake_mark_dead(fake, 7);
        rig_domains("");
        rig_expect(fake, "web", "detaching", false);
    }
    knob_opened(opening, _i == 1 ? -EIO : 0);
    fake_run_ms(fake, 20);
    ck_assert_ptr_null(rig_knob(fake, "web", "two"));
    if (_i < 2) {
        rig_add_device(fake, "web", MORE, NULL);
        ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), 2);
    } else {
        rig_expect(fake, "web", "waiting", false);
    }
    rig_stop(fake);
}
END_TEST

START_TEST(a_range_that_is_refused)
{
    struct fake_xen *fake = start_web();
    fake_ranges(fake)->fail = 0xf0001000;
    rig_add_device(fake, "web", MORE, "can't be claimed");
    ck_assert_ptr_null(rig_knob(fake, "web", "two"));
    fake_ranges(fake)->fail = 0;
    rig_add_device(fake, "web", MORE, NULL);
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), 2);
    rig_stop(fake);
}
END_TEST

START_TEST(asked_and_forced)
{
    struct fake_xen *fake = start_web();
    struct rig_answer answer = { 0 };
    struct iod_error error;
    fake_out(fake, KNOB, 4, 1);
    rig_remove_device(fake, "web", "one", REMOVAL_ASK, "the guest turns it");
    ck_assert(rig_status(fake, "web").served);
    knobs.slow = true;
    ck_assert_int_eq(daemon_remove_device(fake_daemon(fake), "web", "one", REMOVAL_FORCE, rig_done, &answer,
                                          &error), 0);
    rig_remove_device(fake, "web", "one", REMOVAL_FORCE, "being removed already");
    fake_run_ms(fake, 10);
    ck_assert(!answer.done);
    knobs.slow = false;
    rig_events();
    knob_finish(rig_knob(fake, "web", "one"));
    rig_expect(fake, "web", "running", true);
    fake_run_ms(fake, 5);
    ck_assert(answer.done && answer.error == 0);
    ck_assert_str_eq(rig_events(), "web/one:removed");
    rig_stop(fake);
}
END_TEST

/* Before its domain is there, and while it is being attached. */
/* The guest was asked, and lets go of a device that is on its way out for another reason already. */
START_TEST(let_go_twice)
{
    struct fake_xen *fake = start_web();
    struct rig_answer answer = { 0 };
    struct iod_error error = { 0 };
    struct iod_device *device = rig_knob(fake, "web", "one")->device;
    fake_out(fake, KNOB, 4, 2);
    ck_assert_int_eq(daemon_remove_device(fake_daemon(fake), "web", "one", REMOVAL_ASK, rig_done, &answer, &error), 0);
    ck_assert(device_asked(device));
    knobs.slow = true;
    struct guest *guest = guest_find(fake_daemon(fake), "web", &error);
    spec_drop(&guest->spec, "one"); /* as a list does that lacks it */
    guest_reconcile(guest);
    struct detach *detach = device->detach;
    ck_assert_ptr_nonnull(detach);
    device_let_go(device);
    ck_assert_ptr_eq(device->detach, detach);
    knobs.slow = false;
    knob_finish(rig_knob(fake, "web", "one"));
    fake_run_ms(fake, 20);
    ck_assert(answer.done);
    ck_assert_ptr_null(rig_knob(fake, "web", "one"));
    rig_stop(fake);
}
END_TEST

START_TEST(devices_of_a_guest_that_waits)
{
    struct fake_xen *fake = rig_start(true);
    rig_add(fake, RIG_SPEC("web", true, NULL, DISK ",open=later"));
    rig_add_device(fake, "web", "knob,id=two,base=0xf0000008", "taken by");
    rig_add_device(fake, "web", MORE, NULL);
    rig_add_device(fake, "web", "knob,id=four,base=0xf0004000", NULL);
    rig_remove_device(fake, "web", "four", REMOVAL_ASK, NULL);
    rig_domains("7=web");
    rig_expect(fake, "web", "attaching", false);
    fake_run_ms(fake, 10);
    ck_assert_ptr_null(rig_knob(fake, "web", "four"));
    struct rig_answer answer = { 0 };
    struct iod_error error;
    struct device_spec spec;
    device_spec_parse(&spec, "knob,id=three,base=0xf0003000", &error);
    ck_assert_int_eq(daemon_add_device(fake_daemon(fake), "web", &spec, rig_done, &answer, &error), 0);
    device_spec_finish(&spec);
    rig_remove_device(fake, "web", "two", REMOVAL_ASK, NULL);
    knob_opened(rig_knob(fake, "web", "one"), 0);
    rig_expect(fake, "web", "running", true);
    ck_assert(answer.done && answer.error == 0);
    ck_assert_ptr_nonnull(rig_knob(fake, "web", "three"));
    ck_assert_ptr_null(rig_knob(fake, "web", "two"));
    ck_assert_uint_eq(fake_ranges(fake)->mapped, 2);
    rig_stop(fake);
}
END_TEST

/* ---- guests ---- */

START_TEST(guests_go)
{
    struct fake_xen *fake = start_web();
    rig_add(fake, RIG_SPEC("db", true, NULL, DISK));
    rig_refused(fake, RIG_SPEC("db", true, NULL, DISK), "is here already");
    rig_events();
    rig_remove_guest(fake, "db");
    ck_assert_str_eq(rig_events(), "db:stopped");
    rig_remove_guest(fake, "7");
    ck_assert_str_eq(rig_events(), "web:detaching web:stopped");
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 0);
    rig_domains("7=web/u-1"); /* nobody waits for it any more */
    fake_run_ms(fake, 20);
    ck_assert_str_eq(rig_events(), "");
    rig_stop(fake);
}
END_TEST

/* A zombie: its domain is dead, its I/O is not. It can still be told to go for good. */
START_TEST(removed_while_it_dies)
{
    struct fake_xen *fake = start_web();
    struct rig_answer answer = { 0 };
    struct iod_error error;
    knobs.slow = true;
    fake_mark_dead(fake, 7);
    rig_domains("");
    rig_expect(fake, "web", "detaching", false);
    ck_assert_int_eq(daemon_remove_guest(fake_daemon(fake), "web", rig_done, &answer, &error), 0);
    fake_run_ms(fake, 10);
    ck_assert(!answer.done);
    ck_assert_int_eq(daemon_remove_guest(fake_daemon(fake), "web", rig_done, &answer, &error), -EBUSY);
    knobs.slow = false;
    knob_finish(rig_knob(fake, "web", "one"));
    fake_run_ms(fake, 10);
    ck_assert(answer.done && answer.error == 0);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 0);
    rig_stop(fake);
}
END_TEST

START_TEST(names_uuids_and_new_names)
{
    struct fake_xen *fake = rig_start(true);
    rig_add(fake, RIG_SPEC("uuid:AB-1", true, NULL, DISK));
    rig_add(fake, RIG_SPEC("web", true, NULL, "knob,id=w,base=0xf0000000"));
    rig_domains("7=temporary/ab-1 8=other");
    rig_expect(fake, "uuid:ab-1", "running", true);
    ck_assert_int_eq(rig_status(fake, "temporary").domid, 7);
    ck_assert_str_eq(rig_status(fake, "7").domain, "uuid:AB-1");
    ck_assert_str_eq(rig_status(fake, "7").name, "temporary");
    rig_domains("7=final/ab-1 8=web"); /* both were renamed */
    rig_expect(fake, "web", "running", true);
    ck_assert_int_eq(rig_status(fake, "final").domid, 7);
    rig_domains("7=final/ab-1 8=old"); /* the guest stays */
    fake_run_ms(fake, 20);
    ck_assert(rig_status(fake, "web").served);
    ck_assert_int_eq(rig_status(fake, "old").domid, 8);
    fake_mark_dead(fake, 8);
    rig_domains("7=final/ab-1 9=old"); /* after its end it is found by its key, not by its last name */
    rig_expect(fake, "web", "waiting", false);
    rig_domains("7=final/ab-1 9=web");
    rig_expect(fake, "web", "running", true);
    rig_stop(fake);
}
END_TEST

/* A domain that xenstore never tells of (dom0less), known by its domid. */
START_TEST(never_introduced)
{
    struct fake_xen *fake = rig_start(true);
    struct guest_spec spec = RIG_SPEC("7", true, NULL, DISK);
    spec.arch = _i == 0 ? ARCH_X86 : ARCH_ARM;
    fake_mark_dead(fake, 7);
    rig_domains("8=other");
    rig_add(fake, spec);
    fake_run_ms(fake, 1500);
    ck_assert_str_eq(rig_status(fake, "7").state, "waiting");
    ck_assert_str_eq(rig_status(fake, "7").why, "its domain does not exist yet");
    fake_mark_dead(fake, -1);
    if (_i == 0) {
        fake_run_ms(fake, 1500); /* a toolstack may still be building it */
        ck_assert_str_eq(rig_status(fake, "7").state, "waiting");
    }
    rig_expect_within(fake, "7", "running", true, 9000);
    rig_stop(fake);
}
END_TEST

/* xenstored dies: who waits for a domid needs it no more, who waits for a name waits on. */
START_TEST(xenstore_is_lost)
{
    struct fake_xen *fake = rig_start(true);
    rig_add(fake, RIG_SPEC("7", true, NULL, DISK));
    rig_add(fake, RIG_SPEC("web", true, NULL, MORE));
    fake_run_ms(fake, 10);
    ck_assert_str_eq(rig_status(fake, "7").state, "waiting");
    rig_store_lost();
    rig_expect(fake, "7", "running", true);
    ck_assert_str_eq(rig_status(fake, "web").state, "waiting");
    rig_add(fake, RIG_SPEC("db", true, NULL, MORE));
    rig_expect(fake, "db", "waiting", false);
    ck_assert_ptr_nonnull(strstr(rig_status(fake, "db").why, "xenstore can't be reached"));
    rig_domains("7=web2 8=db");
    rig_expect(fake, "db", "running", true);
    rig_stop(fake);
}
END_TEST

/* Renamed while its devices open: still the same domain. */
START_TEST(renamed_while_attaching)
{
    struct fake_xen *fake = rig_start(true);
    rig_add(fake, RIG_SPEC("web", true, NULL, DISK ",open=later"));
    rig_domains("7=web");
    rig_expect(fake, "web", "attaching", false);
    fake_run_ms(fake, 10);
    rig_domains("7=bew");
    knob_opened(rig_knob(fake, "web", "one"), 0);
    rig_expect(fake, "web", "running", true);
    rig_stop(fake);
}
END_TEST

/* ---- pause ---- */

START_TEST(paused_and_resumed)
{
    struct fake_xen *fake = start_web();
    struct rig_answer answer = { 0 };
    struct iod_error error;
    knobs.slow = true;
    ck_assert_int_eq(daemon_resume_guest(fake_daemon(fake), "web", &error), -EINVAL);
    ck_assert_int_eq(daemon_pause_guest(fake_daemon(fake), "web", rig_done, &answer, &error), 0);
    fake_begin_out(fake, KNOB, 4, 1);
    fake_run_ms(fake, 10);
    ck_assert(!answer.done);
    ck_assert_int_eq(daemon_resume_guest(fake_daemon(fake), "web", &error), -EBUSY);
    knobs.slow = false;
    knob_finish(rig_knob(fake, "web", "one"));
    rig_expect(fake, "web", "paused", false);
    ck_assert(answer.done && answer.error == 0);
    ck_assert(!fake_answered(fake));
    rig_add_device(fake, "web", MORE, NULL); /* comes paused */
    unsigned started = knobs.started;
    ck_assert_int_eq(daemon_pause_guest(fake_daemon(fake), "web", rig_done, &answer, &error), -EBUSY);
    ck_assert_int_eq(daemon_resume_guest(fake_daemon(fake), "web", &error), 0);
    ck_assert_uint_eq(knobs.started, started + 2);
    rig_expect(fake, "web", "running", true);
    ck_assert(fake_answered(fake));
    /* It dies while it is paused; or the daemon ends. */
    memset(&answer, 0, sizeof(answer));
    ck_assert_int_eq(daemon_pause_guest(fake_daemon(fake), "web", rig_done, &answer, &error), 0);
    rig_expect(fake, "web", "paused", false);
    if (_i) {
        fake_mark_dead(fake, 7);
        rig_domains("");
        rig_expect(fake, "web", "waiting", false);
    }
    rig_stop(fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("change");
    TCase *c = tcase_create("change");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, states_are_told);
    tcase_add_test(c, listeners_may_do_anything);
    tcase_add_test(c, a_device_comes_and_goes);
    tcase_add_test(c, a_device_that_opens_late_or_never);
    tcase_add_loop_test(c, removed_while_it_opens, 0, 3);
    tcase_add_test(c, a_range_that_is_refused);
    tcase_add_test(c, asked_and_forced);
    tcase_add_test(c, let_go_twice);
    tcase_add_test(c, devices_of_a_guest_that_waits);
    tcase_add_test(c, guests_go);
    tcase_add_test(c, removed_while_it_dies);
    tcase_add_test(c, names_uuids_and_new_names);
    tcase_add_loop_test(c, never_introduced, 0, 2);
    tcase_add_test(c, xenstore_is_lost);
    tcase_add_test(c, renamed_while_attaching);
    tcase_add_loop_test(c, paused_and_resumed, 0, 2);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
