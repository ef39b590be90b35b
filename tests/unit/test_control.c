/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket: the protocol, the commands, answers that come later, and an answer without memory. */
#include <errno.h>
#include <sys/socket.h>

#include "control_rig.h"

START_TEST(greeting_and_version)
{
    struct peer peer = {.fd = dial()};
    json_t *greeting = next(&peer);
    json_t *version = json_object_get(json_object_get(json_object_get(greeting, "QMP"), "version"), "ioreqd");

    ck_assert_int_eq(json_integer_value(json_object_get(version, "minor")), 2);
    json_decref(greeting);
    ck_has(ask(&peer, "{\"execute\":\"qmp_capabilities\"}"), "{\"return\":{}}");
    ck_has(ask(&peer, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[]}}"), "{\"return\":{}}");
    ck_has(ask(&peer, "{\"execute\":\"version\"}"), "\"version\":\"1.2.3\",\"build\":\"abc\"");
    part(&peer);
}
END_TEST

START_TEST(errors_name_what_was_expected)
{
    expect("{\"execute\":\"nonsense\"}",
           "\"class\":\"CommandNotFound\",\"desc\":\"there is no command 'nonsense'\"");
    expect("{}", "expected {\\\"execute\\\"");
    expect("{\"execute\":7}", "CommandNotFound");
    expect("{\"execute\":\"show\"}", "expected an argument 'guest'");
    expect("{\"execute\":\"show\",\"arguments\":[]}", "arguments: expected an object");
    expect("{\"execute\":\"show\",\"arguments\":{\"guest\":5}}", "argument 'guest': expected a string");
    expect("{\"execute\":\"show\",\"arguments\":{\"guest\":\"\"}}", "argument 'guest': expected a string");
    expect("{\"execute\":\"show\",\"arguments\":{\"guest\":\"g1\",\"x\":1}}", "it has no argument 'x'");
    expect("{\"execute\":\"show\",\"arguments\":{\"guest\":\"g9\"}}", "\"class\":\"DeviceNotFound\"");
    expect("{\"execute\":\"wait\",\"arguments\":{\"guest\":\"g1\",\"timeout\":-1}}",
           "expected a number, 0 or more");
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"x\",\"devices\":[\"a\",1]}}",
           "a list of at most 256 strings");
    expect("{\"execute\":\"log-level\",\"arguments\":{\"level\":\"loud\"}}",
           "expected error, warning, info or debug");
    expect("{\"execute\":\"list\",\"execute\":\"list\"}", "duplicate");
    expect("{\"execute\":\"\\u0000\"}", "not JSON");
    expect("{]", "not JSON");
}
END_TEST

START_TEST(the_id_comes_back)
{
    struct peer peer = meet();

    ck_has(ask(&peer, "{\"execute\":\"version\",\"id\":\"one\"}"), "\"id\":\"one\"");
    ck_has(ask(&peer, "{\"execute\":\"nonsense\",\"id\":[1,{}]}"), "\"id\":[1,{}]");
    part(&peer);
}
END_TEST

START_TEST(commands_lists_itself)
{
    struct peer peer = meet();
    const char *text = ask(&peer, "{\"execute\":\"commands\"}");

    ck_has(text, "\"name\":\"commands\"");
    ck_has(text, "{\"name\":\"guest\",\"type\":\"string\",\"required\":true}");
    part(&peer);
}
END_TEST

START_TEST(list_and_show)
{
    struct peer peer = meet();
    const char *text = ask(&peer, "{\"execute\":\"list\"}");

    ck_has(text, "\"guests\":[{\"domain\":\"g1\",\"domid\":1,\"bytes\":\"?? is no "
                 "UTF-8\",\"served\":true,\"devices\":3}");
    text = ask(&peer, "{\"execute\":\"show\",\"arguments\":{\"guest\":\"g1\"}}");
    ck_has(text, "\"devices\":[{\"index\":0,\"large\":9223372036854775807}");
    text = ask(&peer, "{\"execute\":\"stats\",\"arguments\":{\"brief\":true}}");
    ck_has(text, "{\"daemon\":{\"guests\":2},\"guests\":[{\"domain\":\"g1\"");
    text = ask(&peer, "{\"execute\":\"latency\",\"arguments\":{\"brief\":true}}");
    ck_has(text, "\"on\":false,\"guests\":[{\"domain\":\"g1\",\"domid\":1,\"bytes\":\"?? is no "
                 "UTF-8\",\"served\":true,\"devices\":3}");
    ck_has(ask(&peer, "{\"execute\":\"stuck\",\"arguments\":{\"guest\":\"g9\"}}"), "DeviceNotFound");
    part(&peer);
}
END_TEST

static void expect_verb(struct peer *peer, const char *command, const char *verb)
{
    ck_has(ask(peer, command), "{\"return\":");
    ck_assert_str_eq(rig.fake.said, verb);
}

START_TEST(long_answers_come_in_parts)
{
    struct peer peer = meet();
    const char *text;

    rig.fake.guests = 10;
    text = ask(&peer, "{\"execute\":\"list\",\"arguments\":{\"first\":3,\"count\":2}}");
    ck_has(text, "\"guests\":[{\"domain\":\"g4\"");
    ck_has(text, "{\"domain\":\"g5\"");
    ck_assert_ptr_null(strstr(text, "g6"));
    ck_has(ask(&peer, "{\"execute\":\"list\",\"arguments\":{\"first\":10}}"), "\"guests\":[]");
    text = ask(&peer, "{\"execute\":\"stats\",\"arguments\":{\"first\":9,\"brief\":true}}");
    ck_has(text, "\"guests\":[{\"domain\":\"g10\",\"domid\":10");
    ck_has(text, "\"devices\":[{\"index\":0,");
    ck_has(ask(&peer, "{\"execute\":\"list\",\"arguments\":{\"first\":1e300}}"), "\"guests\":[]");
    part(&peer);
}
END_TEST

START_TEST(verbs_reach_the_daemon)
{
    struct peer peer = meet();

    rig.fake.at_once = true;
    rig.fake.status.served = true;
    expect_verb(&peer,
                "{\"execute\":\"add\",\"arguments\":{\"guest\":\"g1\",\"device\":\"virtio-blk,path=/a,,b\"}}",
                "add-device g1 virtio-blk,path=/a,,b");
    expect_verb(&peer, "{\"execute\":\"remove\",\"arguments\":{\"guest\":\"g1\",\"device\":\"disk0\"}}",
                "remove-device g1 disk0");
    expect_verb(
        &peer,
        "{\"execute\":\"remove\",\"arguments\":{\"guest\":\"g1\",\"device\":\"disk0\",\"force\":true}}",
        "remove-device g1 disk0 force");
    expect_verb(&peer, "{\"execute\":\"detach\",\"arguments\":{\"guest\":\"g1\"}}", "remove-guest g1");
    expect_verb(&peer, "{\"execute\":\"pause\",\"arguments\":{\"guest\":\"g1\"}}", "pause g1");
    expect_verb(&peer, "{\"execute\":\"resume\",\"arguments\":{\"guest\":\"g1\"}}", "resume g1");
    expect_verb(&peer, "{\"execute\":\"resize\",\"arguments\":{\"guest\":\"g1\",\"device\":\"d\"}}",
                "resize g1 d");
    expect_verb(&peer, "{\"execute\":\"log-level\",\"arguments\":{\"level\":\"debug\"}}", "log-level 3");
    expect_verb(&peer, "{\"execute\":\"latency\",\"arguments\":{\"action\":\"on\"}}", "latency 1");
    expect_verb(&peer, "{\"execute\":\"latency\",\"arguments\":{\"action\":\"reset\",\"guest\":\"g1\"}}",
                "latency reset g1");
    expect_verb(
        &peer,
        "{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"uart16550,base=1\"],"
        "\"slots\":4,"
        "\"type\":\"pvh\",\"arch\":\"x86\",\"stuck-limit\":500,\"stuck\":\"ones\"}}",
        "add-guest g1 devices=1 first=uart16550,base=1 slots=4 wait=0 type=2 stuck=500 from=ioreqctl attach");
    part(&peer);
}
END_TEST

START_TEST(attach_checks_what_the_command_line_checks)
{
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\"}}", "expected at least one device");
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"40000\",\"devices\":[\"a\"]}}",
           "less than 32752");
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a b\"]}}",
           "expected NAME,key=value");
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"type\":\"pv\"}}",
           "expected one of hvm, pvh");
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"],\"arch\":\"arm\","
           "\"type\":\"hvm\"}}",
           "of x86 guests only");
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"],\"arch\":\"x86\","
           "\"type\":\"hvm\","
           "\"slots\":1}}",
           "of PVH guests only");
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"],\"slots\":29}}",
           "at most 28 slots");
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"],\"slots\":1.5}}",
           "'slots': expected a whole number");
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"],\"slots\":\"nan\"}}",
           "'slots': expected a whole number");
    expect("{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"],\"stuck-limit\":0}}",
           "stuck-limit of 1 to");
    expect(
        "{\"execute\":\"attach\",\"arguments\":{\"guest\":\"g1\",\"devices\":[\"a\"],\"map-limit\":\"x\"}}",
        "map-limit");
    ck_assert_str_eq(rig.fake.said, "");
}
END_TEST

START_TEST(reload_says_what_is_wrong)
{
    struct peer peer = meet();

    ck_has(ask(&peer, "{\"execute\":\"reload\"}"), "{\"return\":{}}");
    rig.reload_result = EINVAL;
    ck_has(ask(&peer, "{\"execute\":\"reload\"}"), "ioreqd.conf:3: no such device");
    ck_assert_uint_eq(rig.reloads, 2);
    part(&peer);
}
END_TEST

/* ---- answers that come later ---- */

START_TEST(the_next_command_waits_for_the_answer)
{
    struct peer peer = meet();

    say(&peer, PAUSE VERSION);
    ck_assert_ptr_null(next_within(&peer, 50));
    ck_assert_ptr_nonnull(rig.fake.done);
    fake_daemon_answer(&rig.fake, -EIO, "the disk does not answer");
    json_t *first = next(&peer), *second = next(&peer);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(first, "error"), "desc")),
                     "the disk does not answer");
    ck_assert_int_eq(json_integer_value(json_object_get(second, "id")), 2);
    json_decref(first);
    json_decref(second);
    part(&peer);
}
END_TEST

START_TEST(a_client_may_go_before_its_answer)
{
    struct peer peer = meet();

    say(&peer, PAUSE);
    run_ms(20);
    ck_assert_ptr_nonnull(rig.fake.done);
    part(&peer);
    run_ms(20);
    ck_assert_uint_eq(rig.control->client_count, 0);
    fake_daemon_answer(&rig.fake, 0, "");
    ck_assert(list_empty(&rig.control->calls));
}
END_TEST

START_TEST(the_control_may_go_before_the_answer)
{
    struct peer peer = meet();

    say(&peer, PAUSE);
    run_ms(20);
    rig_destroy();
    fake_daemon_answer(&rig.fake, 0, "");
    receive(&peer);
    ck_assert(peer.ended);
    part(&peer);
}
END_TEST

START_TEST(a_half_closed_client_gets_its_answers)
{
    struct peer peer = meet();

    say(&peer, VERSION PAUSE VERSION);
    shutdown(peer.fd, SHUT_WR);
    json_decref(next(&peer));
    run_ms(20);
    fake_daemon_answer(&rig.fake, 0, "");
    json_decref(next(&peer));
    json_decref(next(&peer));
    ck_assert_ptr_null(next_within(&peer, 100));
    ck_assert(peer.ended);
    ck_assert_uint_eq(rig.control->client_count, 0);
    part(&peer);
}
END_TEST

/* ---- memory ---- */

static unsigned allocations, fail_at;

static void *failing_malloc(size_t size)
{
    return ++allocations == fail_at ? NULL : malloc(size);
}

/* Each allocation of the JSON library fails once: an answer comes all the same, and it is JSON. */
static void try_without_memory(const char *command)
{
    allocations = 0;
    for (fail_at = 1; fail_at == 1 || allocations >= fail_at - 1; fail_at++) {
        struct peer peer = meet();
        say(&peer, command);
        allocations = 0;
        json_set_alloc_funcs(failing_malloc, free);
        run_ms(2);
        fake_daemon_tell(&rig.fake, EVENT_BACKEND, "lost");
        run_ms(1);
        json_set_alloc_funcs(malloc, free);
        json_decref(next(&peer));
        ck_has(ask(&peer, "\n" VERSION), "\"id\":2");
        part(&peer);
        run_ms(1);
        ck_assert_uint_lt(fail_at, 5000);
    }
    ck_assert_uint_gt(fail_at, 5);
}

START_TEST(no_memory_for_an_answer)
{
    static const char *const commands[] = {
        VERSION,
        "{\"execute\":\"list\"}",
        "{\"execute\":\"show\",\"arguments\":{\"guest\":\"g1\"},\"id\":[1]}",
        "{\"execute\":\"stats\"}",
        "{\"execute\":\"nonsense\"}",
        "{\"execute\":\"show\",\"arguments\":{\"guest\":\"g9\"}}",
        "{\"execute\":\"trace\",\"arguments\":{\"probes\":[\"take\"]}}",
        "{\"execute\":\"probes\"}",
        "not JSON",
    };

    try_without_memory(commands[_i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("control");
    TCase *tc;

    tc = rig_case(suite, "protocol");
    tcase_add_test(tc, greeting_and_version);
    tcase_add_test(tc, errors_name_what_was_expected);
    tcase_add_test(tc, the_id_comes_back);
    tcase_add_test(tc, commands_lists_itself);
    tcase_add_test(tc, list_and_show);
    tcase_add_test(tc, long_answers_come_in_parts);
    tcase_add_test(tc, verbs_reach_the_daemon);
    tcase_add_test(tc, attach_checks_what_the_command_line_checks);
    tcase_add_test(tc, reload_says_what_is_wrong);
    tc = rig_case(suite, "answers that come later");
    tcase_add_test(tc, the_next_command_waits_for_the_answer);
    tcase_add_test(tc, a_client_may_go_before_its_answer);
    tcase_add_test(tc, the_control_may_go_before_the_answer);
    tcase_add_test(tc, a_half_closed_client_gets_its_answers);
    tc = rig_case(suite, "memory");
    tcase_add_loop_test(tc, no_memory_for_an_answer, 0, 9);
    return unit_run(suite);
}
