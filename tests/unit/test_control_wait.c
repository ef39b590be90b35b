/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket: those who wait for a guest, by `wait` or by `attach`. */
#include <errno.h>

#include "control_rig.h"

#define WAIT "{\"execute\":\"wait\",\"arguments\":{\"guest\":\"g1\"}}"
#define WAIT_MS(ms) "{\"execute\":\"wait\",\"arguments\":{\"guest\":\"g1\",\"timeout\":0." #ms "}}"

START_TEST(wait_ends_when_served)
{
    struct peer peer = meet();

    say(&peer, WAIT);
    ck_assert_ptr_null(next_within(&peer, 30));
    fake_daemon_tell(&rig.fake, EVENT_DEVICE_ADDED, "");
    ck_assert_ptr_null(next_within(&peer, 30)); /* not yet */
    rig.fake.status.served = true;
    fake_daemon_tell(&rig.fake, EVENT_DEVICE_ADDED, "");
    json_t *answer = next(&peer);
    ck_assert_ptr_nonnull(json_object_get(answer, "return"));
    json_decref(answer);
    ck_has(ask(&peer, WAIT), "return"); /* at once */
    part(&peer);
}
END_TEST

START_TEST(wait_says_why_not)
{
    struct peer peer = meet();

    strcpy(rig.fake.status.why, "disk0: no such file");
    ck_has(ask(&peer, WAIT_MS(05)), "not served within 0.05 s: it is waiting: disk0: no such file");
    say(&peer, WAIT);
    run_ms(20);
    fake_daemon_tell(&rig.fake, EVENT_GUEST_STATE, "failed");
    rig.fake.known = false; /* forgotten after the event */
    json_t *answer = next(&peer);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(answer, "error"), "desc")),
                     "it has failed: disk0: no such file");
    json_decref(answer);
    ck_has(ask(&peer, WAIT), "no guest g1 is known");
    part(&peer);
}
END_TEST

START_TEST(wait_for_a_guest_that_becomes_known)
{
    struct peer peer = meet();

    rig.fake.known = false;
    ck_has(ask(&peer, WAIT_MS(02)), "not served within 0.02 s: no guest g1 is known");
    say(&peer, "{\"execute\":\"wait\",\"arguments\":{\"guest\":\"g1\",\"timeout\":60}}");
    ck_assert_ptr_null(next_within(&peer, 20));
    rig.fake.known = rig.fake.status.served = true;
    fake_daemon_tell(&rig.fake, EVENT_GUEST_STATE, "running");
    json_t *answer = next(&peer);
    ck_assert_ptr_nonnull(json_object_get(answer, "return"));
    json_decref(answer);
    part(&peer);
}
END_TEST

START_TEST(waiting_clients_may_go)
{
    struct peer one = meet(), other = meet();

    say(&one, WAIT);
    say(&other, WAIT_MS(9));
    run_ms(20);
    part(&one);
    run_ms(20);
    ck_assert_uint_eq(rig.control->client_count, 1);
    ck_assert_ptr_eq(rig.control->calls.next, rig.control->calls.prev); /* one of the two calls is left */
    ck_assert(!list_empty(&rig.control->calls));
    fake_daemon_tell(&rig.fake, EVENT_GUEST_STATE, "failed");
    rig_destroy(); /* the other one still waits, and its timer runs */
    run_ms(10);
    part(&other);
}
END_TEST

START_TEST(attach_answers_when_served)
{
    struct peer peer = meet();

    say(&peer, "{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"]}}");
    ck_assert_ptr_null(next_within(&peer, 30));
    strcpy(rig.fake.status.why, "no such domain");
    fake_daemon_tell(&rig.fake, EVENT_GUEST_STATE, "failed");
    json_t *answer = next(&peer);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(answer, "error"), "desc")),
                     "it has failed: no such domain");
    json_decref(answer);
    ck_has(ask(&peer,
               "{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"],\"wait\":true}}"),
           "return");
    rig.fake.fail = EEXIST;
    ck_has(ask(&peer, "{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"]}}"),
           "the fake refuses");
    ck_assert(list_empty(&rig.control->calls));
    part(&peer);
}
END_TEST

START_TEST(wait_for_one_that_failed_before)
{
    rig.fake.status.state = "failed";
    strcpy(rig.fake.status.why, "no such image");
    expect("{\"execute\":\"wait\",\"arguments\":{\"guest\":\"g1\"}}", "it has failed: no such image");
}
END_TEST

START_TEST(attach_says_why_when_the_guest_fails_at_once)
{
    strcpy(rig.fake.status.why, "no such domain");
    rig.fake.stillborn = true;
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"]}}",
           "it has failed: no such domain");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("control_wait");
    TCase *tc;

    tc = rig_case(suite, "wait");
    tcase_add_test(tc, wait_ends_when_served);
    tcase_add_test(tc, wait_says_why_not);
    tcase_add_test(tc, wait_for_a_guest_that_becomes_known);
    tcase_add_test(tc, waiting_clients_may_go);
    tcase_add_test(tc, attach_answers_when_served);
    tcase_add_test(tc, wait_for_one_that_failed_before);
    tcase_add_test(tc, attach_says_why_when_the_guest_fails_at_once);
    return unit_run(suite);
}
