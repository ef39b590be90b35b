/* SPDX-License-Identifier: BSD-2-Clause */
/* An image whose old guest's last I/O is not over yet: who waits, and for how long. */
#include <errno.h>

#include "change_rig.h"

#define DISK "knob,id=one,base=0xf0000000,value=1"
#define MORE "knob,id=two,base=0xf0001000,value=2"
#define THIRD "knob,id=three,base=0xf0002000,value=3"

/* Guest 7 has the image, its domain is dead, and its last I/O goes on until old_one_ended. */
static struct fake_xen *old_one_ends(void)
{
    struct fake_xen *fake = rig_start(true);
    rig_domains("7=web");
    rig_add(fake, RIG_SPEC("7", false, NULL, DISK ",lock=image"));
    rig_expect(fake, "7", "running", true);
    knobs.slow = true;
    fake_mark_dead(fake, 7);
    return fake;
}

static void old_one_ended(struct fake_xen *fake)
{
    knobs.slow = false;
    knob_finish(rig_knob(fake, "7", "one"));
}

/* The new domain's guest waits for the old one's last I/O, then it has the image. */
START_TEST(lock_passes_at_reboot)
{
    struct fake_xen *fake = old_one_ends();
    rig_add(fake, RIG_SPEC("8", false, NULL, DISK ",lock=image"));
    rig_domains("8=web");
    rig_expect(fake, "8", "attaching", false);
    fake_run_ms(fake, 300);
    ck_assert_str_eq(rig_status(fake, "8").state, "attaching");
    ck_assert_ptr_nonnull(strstr(rig_status(fake, "8").why, "in use"));
    struct knob *old = rig_knob(fake, "7", "one");
    ck_assert(old->locked && old->io);
    knobs.slow = false;
    knob_finish(old);
    rig_expect(fake, "8", "running", true);
    /* A lock that nobody is about to give up is an error at once. */
    rig_add(fake, RIG_SPEC("9", false, NULL, DISK ",lock=image"));
    rig_domains("8=web 9=db");
    fake_run_ms(fake, 50);
    ck_assert_uint_ne(fake_logged(fake, "domid 9: failed"), 0);
    rig_add_device(fake, "8", MORE ",lock=image", "in use");
    rig_stop(fake);
}
END_TEST

/* A device is added while its guest waits for a lock: it is there as soon as the guest runs. */
START_TEST(added_while_the_lock_is_awaited)
{
    struct fake_xen *fake = old_one_ends();
    struct rig_answer answer = { 0 };
    struct iod_error error;
    struct device_spec spec;
    rig_add(fake, RIG_SPEC("8", false, NULL, DISK ",lock=image"));
    rig_domains("8=web");
    rig_expect(fake, "8", "attaching", false);
    device_spec_parse(&spec, MORE, &error);
    ck_assert_int_eq(daemon_add_device(fake_daemon(fake), "8", &spec, rig_done, &answer, &error), 0);
    device_spec_finish(&spec);
    fake_run_ms(fake, 100);
    ck_assert(!answer.done);
    old_one_ended(fake);
    rig_expect(fake, "8", "running", true);
    fake_run_ms(fake, 20);
    ck_assert(answer.done && answer.error == 0);
    rig_remove_device(fake, "8", "two", REMOVAL_ASK, NULL); /* nothing of the addition is left */
    rig_add_device(fake, "8", MORE, NULL);
    rig_stop(fake);
}
END_TEST

/* A domain that ends while its guest waits for a lock. */
START_TEST(lock_is_not_needed_any_more)
{
    struct fake_xen *fake = old_one_ends();
    rig_domains("8=web2");
    rig_add(fake, RIG_SPEC("8", false, NULL, DISK ",lock=image"));
    rig_expect(fake, "8", "attaching", false);
    fake_run_ms(fake, 100);
    fake_mark_dead(fake, 8);
    if (_i) {
        rig_domains("");
        fake_run_ms(fake, 100);
        ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 1);
    }
    old_one_ended(fake);
    fake_run_ms(fake, 200);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 0);
    ck_assert_uint_ne(fake_logged(fake, "domid 8: gone"), 0);
    rig_stop(fake);
}
END_TEST

/* Only what waits for the lock is made anew: the other device of the guest stays as it is, open. */
START_TEST(others_stay_open)
{
    struct fake_xen *fake = old_one_ends();
    rig_add(fake, RIG_SPEC("8", false, NULL, MORE, DISK ",lock=image", THIRD));
    rig_domains("8=web");
    rig_expect(fake, "8", "attaching", false);
    unsigned serials[] = { rig_knob(fake, "8", "two")->serial, rig_knob(fake, "8", "three")->serial };
    unsigned before = knobs.created;
    fake_run_ms(fake, 300);
    ck_assert_uint_ge(knobs.created - before, 3);
    ck_assert_uint_le(knobs.created - before, 7); /* one each 50 ms */
    old_one_ended(fake);
    rig_expect(fake, "8", "running", true);
    ck_assert_uint_eq(rig_knob(fake, "8", "two")->serial, serials[0]);
    ck_assert_uint_eq(rig_knob(fake, "8", "three")->serial, serials[1]);
    struct list *first = rig_knob(fake, "8", "two")->device->link.next; /* in the spec's order still */
    ck_assert_ptr_eq(first, &rig_knob(fake, "8", "one")->device->link);
    ck_assert_ptr_eq(first->next, &rig_knob(fake, "8", "three")->device->link);
    rig_stop(fake);
}
END_TEST

/* Its device is taken out of the spec meanwhile: the guest waits no more. */
START_TEST(removed_while_the_lock_is_awaited)
{
    struct fake_xen *fake = old_one_ends();
    rig_add(fake, RIG_SPEC("8", false, NULL, MORE, DISK ",lock=image"));
    rig_domains("8=web");
    rig_expect(fake, "8", "attaching", false);
    rig_remove_device(fake, "8", "one", REMOVAL_ASK, NULL);
    rig_expect(fake, "8", "running", true);
    ck_assert_ptr_null(rig_knob(fake, "8", "one"));
    old_one_ended(fake);
    rig_stop(fake);
}
END_TEST

/*
 * The lock is somebody else's, and other guests end all the time: only what ended when the wait began is waited
 * for. Both by a guest that begins and by a device that is added.
 */
START_TEST(lock_that_is_not_coming)
{
    struct fake_xen *fake = rig_start(true);
    struct rig_answer answer = { 0 };
    struct iod_error error;
    struct device_spec spec;
    rig_domains("6=keeper 7=web 8=db");
    rig_add(fake, RIG_SPEC("6", false, NULL, DISK ",lock=image"));
    rig_add(fake, RIG_SPEC("7", false, NULL, DISK));
    rig_add(fake, RIG_SPEC("8", false, NULL, DISK));
    rig_expect(fake, "6", "running", true);
    rig_expect(fake, "7", "running", true);
    rig_expect(fake, "8", "running", true);
    if (_i) {
        rig_add(fake, RIG_SPEC("9", false, NULL, THIRD));
        rig_domains("6=keeper 7=web 8=db 9=new");
        rig_expect(fake, "9", "running", true);
    }
    knobs.slow = true;
    fake_mark_dead(fake, 7);
    if (_i) {
        device_spec_parse(&spec, MORE ",lock=image", &error);
        ck_assert_int_eq(daemon_add_device(fake_daemon(fake), "9", &spec, rig_done, &answer, &error), 0);
        device_spec_finish(&spec);
        fake_run_ms(fake, 5);
    } else {
        rig_add(fake, RIG_SPEC("9", false, NULL, DISK ",lock=image"));
        rig_domains("6=keeper 7=web 8=db 9=new");
        rig_expect(fake, "9", "attaching", false);
    }
    fake_mark_dead(fake, 8);
    rig_domains("6=keeper 7=web 9=new");
    fake_run_ms(fake, 200);
    ck_assert(!answer.done);
    ck_assert_uint_eq(fake_logged(fake, "domid 9: failed"), 0);
    knob_finish(rig_knob(fake, "7", "one"));
    fake_run_ms(fake, 200);
    ck_assert_ptr_nonnull(rig_knob(fake, "8", "one")); /* ends still */
    if (_i) {
        ck_assert(answer.done && answer.error != 0);
        ck_assert_ptr_nonnull(strstr(answer.why, "in use"));
    } else {
        ck_assert_uint_ne(fake_logged(fake, "domid 9: failed"), 0);
    }
    knobs.slow = false;
    knob_finish(rig_knob(fake, "8", "one"));
    rig_stop(fake);
}
END_TEST

/* Opening takes its time: that the image is locked may be heard when the one that held it has gone already. */
START_TEST(lock_that_was_just_given_up)
{
    struct fake_xen *fake = old_one_ends();
    rig_add(fake, RIG_SPEC("8", false, NULL, MORE ",open=later"));
    rig_domains("8=web");
    rig_expect(fake, "8", "attaching", false);
    fake_run_ms(fake, 10);
    old_one_ended(fake);
    fake_run_ms(fake, 50);
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 1);
    knob_opened(rig_knob(fake, "8", "two"), -EBUSY);
    fake_run_ms(fake, 100);
    ck_assert_uint_eq(fake_logged(fake, "domid 8: failed"), 0);
    struct knob *again = rig_knob(fake, "8", "two");
    ck_assert_ptr_nonnull(again);
    if (_i) { /* now it is somebody else's */
        knob_opened(again, -EBUSY);
        fake_run_ms(fake, 100);
        ck_assert_uint_ne(fake_logged(fake, "domid 8: failed"), 0);
    } else {
        knob_opened(again, 0);
        rig_expect(fake, "8", "running", true);
    }
    rig_stop(fake);
}
END_TEST

/* A device that was added, and waits for a lock, is not wanted any more: both are told at once. */
START_TEST(added_device_removed_while_it_waits)
{
    struct fake_xen *fake = old_one_ends();
    struct rig_answer answer = { 0 };
    struct iod_error error;
    struct device_spec spec;
    rig_add(fake, RIG_SPEC("8", false, NULL, THIRD));
    rig_domains("8=web");
    rig_expect(fake, "8", "running", true);
    device_spec_parse(&spec, MORE ",lock=image", &error);
    ck_assert_int_eq(daemon_add_device(fake_daemon(fake), "8", &spec, rig_done, &answer, &error), 0);
    device_spec_finish(&spec);
    fake_run_ms(fake, 120);
    ck_assert(!answer.done);
    rig_remove_device(fake, "8", "two", REMOVAL_ASK, "is being added");
    rig_remove_device(fake, "8", "two", REMOVAL_FORCE, NULL);
    fake_run_ms(fake, 5);
    ck_assert(answer.done && answer.error == -ECANCELED);
    ck_assert(rig_status(fake, "8").served);
    old_one_ended(fake);
    fake_run_ms(fake, 100);
    ck_assert_ptr_null(rig_knob(fake, "8", "two"));
    rig_stop(fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("change_lock");
    TCase *c = tcase_create("change_lock");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, lock_passes_at_reboot);
    tcase_add_test(c, added_while_the_lock_is_awaited);
    tcase_add_loop_test(c, lock_is_not_needed_any_more, 0, 2);
    tcase_add_test(c, others_stay_open);
    tcase_add_test(c, removed_while_the_lock_is_awaited);
    tcase_add_loop_test(c, lock_that_is_not_coming, 0, 2);
    tcase_add_loop_test(c, lock_that_was_just_given_up, 0, 2);
    tcase_add_test(c, added_device_removed_while_it_waits);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
