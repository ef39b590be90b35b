/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket: events, and the records and frames of traces, for those who asked. */
#include "control_rig.h"

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

int main(void)
{
    Suite *suite = suite_create("control_events");
    TCase *tc;

    tc = rig_case(suite, "events");
    tcase_add_test(tc, events_for_those_who_asked);
    tcase_add_test(tc, events_are_dropped_and_counted);
    tc = rig_case(suite, "traces");
    tcase_add_test(tc, trace_records_become_events);
    tcase_add_test(tc, a_slow_client_leaves_records_in_the_ring);
    tcase_add_test(tc, frames_become_events);
    return unit_run(suite);
}
