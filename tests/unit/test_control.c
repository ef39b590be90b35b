/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket: the protocol, answers that come later, events. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

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

#define PAUSE "{\"execute\":\"pause\",\"arguments\":{\"guest\":\"g1\"},\"id\":1}"
#define VERSION "{\"execute\":\"version\",\"id\":2}"

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

/* ---- wait ---- */

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

/* ---- events ---- */

START_TEST(events_for_those_who_asked)
{
    struct peer one = meet(), other = meet();

    ck_has(ask(&one, "{\"execute\":\"events\"}"), "return");
    fake_daemon_tell(&rig.fake, EVENT_DEVICE_ERROR, "no space left");
    json_t *event = next(&one);
    ck_assert_str_eq(json_string_value(json_object_get(event, "event")), "DEVICE_ERROR");
    json_t *data = json_object_get(event, "data");
    ck_assert_str_eq(json_string_value(json_object_get(data, "guest")), "g1");
    ck_assert_int_eq(json_integer_value(json_object_get(data, "domid")), 7);
    ck_assert_str_eq(json_string_value(json_object_get(data, "text")), "no space left");
    ck_assert_ptr_nonnull(json_object_get(json_object_get(event, "timestamp"), "microseconds"));
    json_decref(event);
    ck_assert_ptr_null(next_within(&other, 30));
    ck_has(ask(&one, "{\"execute\":\"events\",\"arguments\":{\"on\":false}}"), "return");
    fake_daemon_tell(&rig.fake, EVENT_DEVICE_ERROR, "no space left");
    ck_assert_ptr_null(next_within(&one, 30));
    part(&one);
    part(&other);
}
END_TEST

START_TEST(events_are_dropped_and_counted)
{
    struct peer peer = meet();
    unsigned events = 0, dropped = 0;
    json_t *message;

    ck_has(ask(&peer, "{\"execute\":\"events\"}"), "return");
    for (unsigned i = 0; i < 20000; i++) {
        fake_daemon_tell(&rig.fake, EVENT_BACKEND, "lost: connection reset by peer");
        if (i % 1000 == 0) {
            run_ms(1);
        }
    }
    struct client *client = first_client();
    ck_assert_uint_le(client->out.length, OUT_EVENTS + 4096);
    ck_assert_uint_gt(client->dropped, 0);
    while ((message = next_within(&peer, 100))) {
        dropped += !strcmp(json_string_value(json_object_get(message, "event")), "EVENTS_DROPPED");
        events++;
        json_decref(message);
    }
    fake_daemon_tell(&rig.fake, EVENT_BACKEND, "back");
    message = next(&peer);
    ck_assert_str_eq(json_string_value(json_object_get(message, "event")), "EVENTS_DROPPED");
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(message, "data"), "count")),
                     (int)(20000 - events));
    ck_assert_uint_eq(dropped, 0);
    json_decref(message);
    json_decref(next(&peer));
    part(&peer);
}
END_TEST

/* ---- traces ---- */

START_TEST(trace_records_become_events)
{
    struct peer peer = meet();
    struct trace_record records[100] = {{0}};

    ck_has(ask(&peer, "{\"execute\":\"trace\",\"arguments\":{\"probes\":[\"nonsense\"]}}"),
           "there is no probe 'nonsense'");
    ck_has(
        ask(&peer, "{\"execute\":\"trace\",\"arguments\":{\"guest\":\"g1\",\"probes\":[\"take\",\"kick\"]}}"),
        "return");
    for (unsigned i = 0; i < 100; i++) {
        records[i] = (struct trace_record){.time_ns = i,
                                           .probe = PROBE_take,
                                           .type = REQUEST_COPY,
                                           .size = 4,
                                           .address = UINT64_MAX,
                                           .value = 5,
                                           .read = true,
                                           .device = "disk0"};
    }
    ck_assert_uint_eq(rig.fake.sink(rig.fake.sink_self, records, 100, 3), 100);
    json_t *event = next(&peer), *data = json_object_get(event, "data");
    ck_assert_str_eq(json_string_value(json_object_get(event, "event")), "TRACE");
    ck_assert_uint_eq(json_array_size(json_object_get(data, "records")), 64);
    ck_assert_int_eq(json_integer_value(json_object_get(data, "dropped")), 3);
    json_t *record = json_array_get(json_object_get(data, "records"), 1);
    ck_assert_str_eq(json_string_value(json_object_get(record, "address")), "0xffffffffffffffff");
    ck_assert_str_eq(json_string_value(json_object_get(record, "way")), "read");
    json_decref(event);
    json_decref(next(&peer));
    ck_has(ask(&peer, "{\"execute\":\"trace\",\"arguments\":{\"on\":false}}"), "return");
    ck_assert_ptr_null(rig.fake.sink);
    part(&peer);
}
END_TEST

START_TEST(a_slow_client_leaves_records_in_the_ring)
{
    struct peer peer = meet();
    struct trace_record records[64] = {{0}};
    unsigned taken = 64, total = 0;
    json_t *event;

    ck_has(ask(&peer, "{\"execute\":\"trace\"}"), "return");
    while (taken == 64) {
        taken = rig.fake.sink(rig.fake.sink_self, records, 64, 0);
        total += taken;
        run_ms(1);
        ck_assert_uint_lt(total, 1000000);
    }
    struct client *client = first_client();
    ck_assert_uint_le(client->out.length, OUT_HIGH + 65536);
    rig.fake.resumed = 0;
    while ((event = next_within(&peer, 100))) {
        total -= (unsigned)json_array_size(json_object_get(json_object_get(event, "data"), "records"));
        json_decref(event);
    }
    ck_assert_uint_eq(total, 0);
    ck_assert_uint_gt(rig.fake.resumed, 0);
    part(&peer);
    run_ms(20);
    ck_assert_ptr_null(rig.fake.sink); /* its trace went with it */
}
END_TEST

START_TEST(frames_become_events)
{
    struct peer peer = meet();
    uint8_t bytes[200];
    struct iovec iov[2] = {{bytes, 12}, {bytes + 12, 188}};
    struct capture_frame frame = {
        .time_ns = 9, .domid = 7, .device = "net\"0", .sent = true, .iov = iov, .count = 2, .bytes = 200};

    memset(bytes, 0xa5, sizeof(bytes));
    ck_has(ask(&peer, "{\"execute\":\"capture\",\"arguments\":{\"guest\":\"g1\",\"snap\":100}}"), "return");
    rig.fake.capture(rig.fake.sink_self, &frame);
    json_t *event = next(&peer), *data = json_object_get(event, "data");
    ck_assert_str_eq(json_string_value(json_object_get(data, "device")), "net\"0");
    ck_assert_int_eq(json_integer_value(json_object_get(data, "bytes")), 200);
    ck_assert_uint_eq(json_string_length(json_object_get(data, "frame")), (100 + 2) / 3 * 4);
    ck_assert_int_eq(strncmp(json_string_value(json_object_get(data, "frame")), "paWlpaWl", 8), 0);
    json_decref(event);
    unsigned many = 0;
    struct client *client = first_client();
    for (; many < 100000 && client->out.length < (1 << 20); many++) {
        rig.fake.capture(rig.fake.sink_self, &frame);
    }
    ck_assert_uint_lt(many, 100000);
    rig.fake.capture(rig.fake.sink_self, &frame); /* dropped */
    while ((event = next_within(&peer, 100))) {
        json_decref(event);
    }
    rig.fake.capture(rig.fake.sink_self, &frame);
    event = next(&peer);
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(event, "data"), "dropped")), 1);
    json_decref(event);
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

static TCase *new_case(Suite *suite, const char *name)
{
    TCase *tc = tcase_create(name);

    tcase_add_checked_fixture(tc, rig_start, rig_stop);
    tcase_set_timeout(tc, 30);
    suite_add_tcase(suite, tc);
    return tc;
}

int main(void)
{
    Suite *suite = suite_create("control");
    TCase *tc;

    tc = new_case(suite, "protocol");
    tcase_add_test(tc, greeting_and_version);
    tcase_add_test(tc, errors_name_what_was_expected);
    tcase_add_test(tc, the_id_comes_back);
    tcase_add_test(tc, commands_lists_itself);
    tcase_add_test(tc, list_and_show);
    tcase_add_test(tc, long_answers_come_in_parts);
    tcase_add_test(tc, verbs_reach_the_daemon);
    tcase_add_test(tc, attach_checks_what_the_command_line_checks);
    tcase_add_test(tc, reload_says_what_is_wrong);
    tc = new_case(suite, "answers that come later");
    tcase_add_test(tc, the_next_command_waits_for_the_answer);
    tcase_add_test(tc, a_client_may_go_before_its_answer);
    tcase_add_test(tc, the_control_may_go_before_the_answer);
    tcase_add_test(tc, a_half_closed_client_gets_its_answers);
    tc = new_case(suite, "wait");
    tcase_add_test(tc, wait_ends_when_served);
    tcase_add_test(tc, wait_says_why_not);
    tcase_add_test(tc, wait_for_a_guest_that_becomes_known);
    tcase_add_test(tc, waiting_clients_may_go);
    tcase_add_test(tc, attach_answers_when_served);
    tcase_add_test(tc, wait_for_one_that_failed_before);
    tcase_add_test(tc, attach_says_why_when_the_guest_fails_at_once);
    tc = new_case(suite, "events");
    tcase_add_test(tc, events_for_those_who_asked);
    tcase_add_test(tc, events_are_dropped_and_counted);
    tc = new_case(suite, "traces");
    tcase_add_test(tc, trace_records_become_events);
    tcase_add_test(tc, a_slow_client_leaves_records_in_the_ring);
    tcase_add_test(tc, frames_become_events);
    tc = new_case(suite, "memory");
    tcase_add_loop_test(tc, no_memory_for_an_answer, 0, 9);
    return unit_run(suite);
}
