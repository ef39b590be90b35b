/* SPDX-License-Identifier: BSD-2-Clause */
/* Who looks at a guest: counters, latency, accesses that wait too long, traces. */
#include <errno.h>

#include "core/latency.h"
#include "core/stats.h"
#include "core/stuck.h"
#include "core/trace.h"
#include "watch_rig.h"

static void begin_in(uint64_t address)
{
    fake_begin_rep(fake, true, address, 4, 1, 0x1000); /* the answer goes to memory: nobody else waits for it */
}

static uint32_t answer_in_memory(void)
{
    uint32_t value;
    memcpy(&value, fake_ram(fake) + 0x1000, sizeof(value));
    return value;
}

/* ---- counters ---- */

START_TEST(counters)
{
    fake_in(fake, FIRST + PLAIN, 4);
    fake_in(fake, FIRST + PLAIN, 4);
    fake_out(fake, SECOND + PLAIN, 4, 1);
    fake_out(fake, SECOND + PLAIN, 1, 1); /* no such width: a guest error */
    fake_in(fake, 0x7000, 1);             /* nobody's */
    const char *lines = shown(stats_list);
    expect(lines, "list.0.domain=7");
    expect(lines, "list.0.domid=7");
    expect(lines, "list.0.stats.accesses.mmio=4");
    expect(lines, "list.0.stats.accesses.pio=1");
    expect(lines, "list.0.stats.handler-calls=3");
    expect(lines, "list.0.stats.points.take=5");
    expect(lines, "list.0.stats.points.answer=5");
    expect(lines, "list.0.stats.notifies=5");
    expect(lines, "list.0.stats.unclaimed=1");
    expect(lines, "list.0.stats.guest-errors=1");
    expect(lines, "list.0.stats.waiting=0");
    expect(lines, "list.0.servers.0.accesses=5");
    expect(lines, "list.0.devices.0.id=first");
    expect(lines, "list.0.devices.0.regions.0.name=registers");
    expect(lines, "list.0.devices.0.regions.0.hits=2");
    expect(lines, "list.0.devices.1.accesses=1");
    expect(lines, "list.0.devices.1.guest-errors=1");
    struct iod_error error = { 0 };
    ck_assert_int_eq(stats_list(daemon_, "8", "list", make_lines(), &error), -ENOENT);
}
END_TEST

/* ---- latency ---- */

START_TEST(latency)
{
    fake_in(fake, FIRST + PLAIN, 4);
    ck_assert_uint_eq(number_of(shown(latency_list), "list.0.count"), 0);
    latency_set(daemon_, true);
    for (unsigned i = 0; i < 10; i++) {
        fake_in(fake, FIRST + PLAIN, 4);
    }
    begin_in(SECOND + HOLD);
    fake_run_ms(fake, 20);
    iod_access_complete(keepers[1]->access, 1);
    fake_run_ms(fake, 5);
    latency_set(daemon_, false);
    fake_in(fake, FIRST + PLAIN, 4);
    const char *lines = shown(latency_list);
    expect(lines, "list.0.count=11");
    expect(lines, "list.0.devices.0.count=10");
    expect(lines, "list.0.devices.0.regions.0.name=registers");
    expect(lines, "list.0.devices.1.count=1");
    ck_assert_uint_ge(number_of(lines, "list.0.devices.1.max-ns"), 20000000);
    ck_assert_uint_ge(number_of(lines, "list.0.devices.1.buckets.0.below-ns"), 20000000);
    ck_assert_uint_eq(number_of(lines, "list.0.devices.1.buckets.0.count"), 1);
    ck_assert_uint_ge(number_of(lines, "list.0.max-ns"), number_of(lines, "list.0.p50-ns") / 2);
    ck_assert_int_eq(latency_reset(daemon_, NULL, NULL), 0);
    ck_assert_uint_eq(number_of(shown(latency_list), "list.0.count"), 0);
}
END_TEST

/* ---- accesses that wait too long ---- */

static unsigned stuck_events;

static void count_stuck(struct daemon_listener *listener, const struct daemon_event *event)
{
    stuck_events += event->kind == EVENT_STUCK;
}

static struct daemon_listener listener = { .event = count_stuck };

static void set_policy(enum stuck_policy policy)
{
    guest->spec.stuck = policy;
    guest->spec.stuck_ms = 30;
    stuck_events = 0;
    daemon_listen(daemon_, &listener);
}

static bool one_event(void *self)
{
    return stuck_events > 0;
}

static bool answered(void *self)
{
    return fake_answered(fake);
}

START_TEST(stuck_wait)
{
    set_policy(STUCK_WAIT);
    begin_in(FIRST + HOLD);
    fake_run(fake, one_event, NULL);
    fake_run_ms(fake, 100);
    ck_assert_uint_eq(stuck_events, 1); /* once */
    ck_assert_uint_eq(fake_logged(fake, "stuck: vCPU 0 waits for a 4 byte read of mmio 0xf0000000, "
                                        "first registers"), 1);
    ck_assert(!fake_answered(fake));
    const char *lines = shown(stuck_list);
    expect(lines, "list.0.vcpu=0");
    expect(lines, "list.0.type=mmio");
    expect(lines, "list.0.address=4026531840");
    expect(lines, "list.0.write=false");
    expect(lines, "list.0.state=deferred");
    expect(lines, "list.0.device=first");
    expect(lines, "list.0.region=registers");
    expect(lines, "list.0.reported=true");
    ck_assert_uint_ge(number_of(lines, "list.0.waits-ns"), 30000000);
    iod_access_complete(keepers[0]->access, 0x99);
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(answer_in_memory(), 0x99);
    ck_assert_str_eq(shown(stuck_list), "\n");
}
END_TEST

/* An answer that comes in time is never reported, though many are waited for. */
START_TEST(stuck_not)
{
    set_policy(STUCK_WAIT);
    guest->spec.stuck_ms = 2000;
    for (unsigned i = 0; i < 5; i++) {
        begin_in(FIRST + HOLD);
        fake_run_ms(fake, 20);
        iod_access_complete(keepers[0]->access, i);
        fake_run(fake, answered, NULL);
    }
    ck_assert_uint_eq(stuck_events, 0);
}
END_TEST

/*
 * The read is given up; whatever the device does later finds nobody, though the vCPU waits for another
 * device then.
 */
START_TEST(stuck_ones_read)
{
    set_policy(STUCK_ONES);
    begin_in(FIRST + HOLD);
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(answer_in_memory(), 0xffffffff);
    struct iod_access *late = keepers[0]->access;
    ck_assert_uint_eq(fake_in(fake, FIRST + PLAIN, 4), 0xffffffff); /* at once: it owes an answer still */
    guest->spec.stuck_ms = 60000;
    begin_in(SECOND + HOLD);
    fake_run_ms(fake, 10);
    iod_access_complete(late, 0x11);
    fake_run_ms(fake, 10);
    ck_assert(!fake_answered(fake));
    iod_access_complete(keepers[1]->access, 0x22);
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(answer_in_memory(), 0x22);
    ck_assert_uint_eq(fake_in(fake, FIRST + PLAIN, 4), 0x42);
    expect(shown(stats_list), "list.0.stats.stuck-ended=1");
    iod_access_complete(late, 0x33); /* once too often: a device's fault that harms nobody */
    ck_assert_uint_eq(fake_in(fake, FIRST + PLAIN, 4), 0x42);
}
END_TEST

/* A write is never ended early: its end may free memory that the device still writes to. */
START_TEST(stuck_ones_write)
{
    set_policy(STUCK_ONES);
    fake_begin_out(fake, FIRST + HOLD, 4, 1);
    fake_run(fake, one_event, NULL);
    fake_run_ms(fake, 50);
    ck_assert(!fake_answered(fake));
    iod_access_complete(keepers[0]->access, 0);
    fake_run(fake, answered, NULL);
}
END_TEST

static void set_true(void *self)
{
    *(bool *)self = true;
}

/* Parked before a device that is quiet for too long. */
START_TEST(stuck_ones_parked)
{
    struct device_stop stop;
    bool quiet = false;
    set_policy(STUCK_ONES);
    device_stop(keepers[0]->device, &stop, IOD_FINISH, set_true, &quiet);
    ck_assert(quiet);
    begin_in(FIRST + PLAIN);
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(answer_in_memory(), 0xffffffff);
    fake_begin_out(fake, FIRST + PLAIN, 4, 5);
    fake_run_ms(fake, 60);
    ck_assert(!fake_answered(fake));
    expect(shown(stuck_list), "list.0.state=parked");
    device_resume(keepers[0]->device);
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(keepers[0]->last, 5);
    ck_assert_uint_eq(fake_in(fake, FIRST + PLAIN, 4), 0x42);
    device_stop(keepers[0]->device, &stop, IOD_FINISH, set_true, &quiet);
    guest->spec.stuck_ms = 60000;
    begin_in(FIRST + PLAIN);
    fake_run_ms(fake, 20);
    ck_assert(!fake_answered(fake)); /* it answered since: it is waited for again */
    device_resume(keepers[0]->device);
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(answer_in_memory(), 0x42);
}
END_TEST

START_TEST(stuck_detach)
{
    set_policy(STUCK_DETACH);
    if (_i == 0) {
        begin_in(FIRST + HOLD);
    } else {
        fake_begin_out(fake, FIRST + HOLD, 4, 1);
    }
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(stuck_events, 1);
    ck_assert_uint_eq(fake_logged(fake, "stopped: the guest waited for it longer than 30 ms"), 1);
    ck_assert_uint_eq(fake_in(fake, FIRST + PLAIN, 4), 0xffffffff);
    iod_access_complete(keepers[0]->access, 7);
    ck_assert_uint_eq(fake_in(fake, SECOND + PLAIN, 4), 0x42);
}
END_TEST

static void paused(void *self, int error, const char *why)
{
    ck_assert_int_eq(error, 0);
    *(bool *)self = true;
}

static bool is_true(void *self)
{
    return *(bool *)self;
}

/* A paused guest's accesses wait by intent. */
START_TEST(stuck_paused)
{
    struct iod_error error = { 0 };
    bool done = false;
    set_policy(STUCK_DETACH);
    ck_assert_int_eq(daemon_pause_guest(daemon_, "7", paused, &done, &error), 0);
    fake_run(fake, is_true, &done);
    begin_in(FIRST + PLAIN);
    fake_run_ms(fake, 100);
    ck_assert_uint_eq(stuck_events, 0);
    expect(shown(stuck_list), "list.0.reported=false");
    ck_assert_int_eq(daemon_resume_guest(daemon_, "7", &error), 0);
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(answer_in_memory(), 0x42);
}
END_TEST

/* ---- traces ---- */

struct seen {
    struct trace *trace;
    struct trace_record records[64];
    unsigned count, room, stop_at;
    uint64_t dropped;
};

static unsigned see(void *self, const struct trace_record *records, unsigned count, uint64_t dropped)
{
    struct seen *seen = self;
    unsigned taken = 0;
    seen->dropped = dropped;
    while (taken < count && seen->room > 0) {
        seen->room--;
        seen->records[seen->count++ % 64] = records[taken++];
    }
    if (seen->stop_at && seen->count >= seen->stop_at) {
        trace_stop(seen->trace);
        seen->trace = NULL;
    }
    return taken;
}

START_TEST(trace_filters)
{
    struct seen all = { .room = 1000 }, some = { .room = 1000 }, none = { .room = 1000 };
    struct trace_filter filter = { .domain = "7", .device = "second", .probes = PROBE_BIT(enter) | PROBE_BIT(leave) };
    struct trace_filter other = { .domain = "8" }, every = { 0 };
    all.trace = trace_start(daemon_, &every, 0, see, &all, NULL);
    some.trace = trace_start(daemon_, &filter, 0, see, &some, NULL);
    none.trace = trace_start(daemon_, &other, 0, see, &none, NULL);
    fake_in(fake, FIRST + PLAIN, 4);
    fake_out(fake, SECOND + PLAIN, 4, 0x77);
    fake_run_ms(fake, 2);
    ck_assert_uint_eq(none.count, 0);
    ck_assert_uint_eq(some.count, 2);
    ck_assert_uint_eq(some.records[0].probe, PROBE_enter);
    ck_assert_uint_eq(some.records[0].address, PLAIN);
    ck_assert_uint_eq(some.records[0].value, 0x77);
    ck_assert_uint_eq(some.records[0].domid, 7);
    ck_assert(!some.records[0].read);
    ck_assert_str_eq(some.records[0].device, "second");
    ck_assert_str_eq(some.records[0].text, "registers");
    ck_assert_uint_eq(all.count, 12); /* event, take, enter, leave, answer, notify: twice */
    static const uint8_t order[] = { PROBE_event, PROBE_take, PROBE_enter, PROBE_leave, PROBE_answer, PROBE_notify };
    for (unsigned i = 0; i < 12; i++) {
        ck_assert_uint_eq(all.records[i].probe, order[i % 6]);
        ck_assert(i == 0 || all.records[i].time_ns >= all.records[i - 1].time_ns);
    }
    ck_assert_uint_eq(all.records[1].address, FIRST + PLAIN);
    ck_assert_uint_eq(all.records[4].value, 0x42);
    ck_assert_uint_gt(all.records[4].latency_ns, 0);
    trace_stop(none.trace);
    trace_stop(some.trace);
    trace_stop(all.trace);
    ck_assert_uint_eq(guest->watch.mask, 0);
    fake_in(fake, FIRST + PLAIN, 4);
    ck_assert_uint_eq(all.count, 12);
}
END_TEST

/* A sink that is full: the ring fills, the rest is dropped and counted; nothing waits. */
START_TEST(trace_full)
{
    struct seen seen = { .room = 3 };
    struct trace_filter filter = { .probes = PROBE_BIT(take) };
    seen.trace = trace_start(daemon_, &filter, 10, see, &seen, NULL);
    for (unsigned i = 0; i < 20; i++) {
        fake_out(fake, FIRST + PLAIN, 4, i);
        ck_assert_uint_eq(keepers[0]->last, i);
    }
    ck_assert_uint_eq(seen.count, 3);
    ck_assert_uint_eq(trace_dropped(seen.trace), 7);
    seen.room = 100;
    trace_resume(seen.trace);
    fake_run_ms(fake, 2);
    ck_assert_uint_eq(seen.count, 13);
    ck_assert_uint_eq(seen.dropped, 7);
    for (unsigned i = 0; i < 13; i++) {
        ck_assert_uint_eq(seen.records[i].value, i);
    }
    seen.stop_at = 14;
    fake_out(fake, FIRST + PLAIN, 4, 0);
    fake_run_ms(fake, 2);
    ck_assert_ptr_null(seen.trace);
    fake_out(fake, FIRST + PLAIN, 4, 0);
    ck_assert_uint_eq(seen.count, 14);
}
END_TEST

START_TEST(trace_texts)
{
    struct seen seen = { .room = 100 };
    struct trace_filter filter = { .probes = PROBE_BIT(guest_error) };
    struct trace *traces[TRACES_MAX];
    struct iod_error error = { 0 };
    seen.trace = trace_start(daemon_, &filter, 0, see, &seen, NULL);
    fake_in(fake, FIRST + ERROR, 4);
    fake_in(fake, FIRST + ERROR, 4); /* too soon to be printed, not to be traced */
    fake_run_ms(fake, 2);
    ck_assert_uint_eq(seen.count, 2);
    ck_assert_str_eq(seen.records[1].text, "error 7");
    ck_assert_str_eq(seen.records[1].device, "first");
    ck_assert_uint_eq(fake_logged(fake, "error 7"), 1);
    for (unsigned i = 1; i < TRACES_MAX; i++) {
        traces[i] = trace_start(daemon_, &filter, 1, see, &seen, &error);
        ck_assert_ptr_nonnull(traces[i]);
    }
    ck_assert_ptr_null(trace_start(daemon_, &filter, 1, see, &seen, &error));
    ck_assert_int_eq(error.code, ENOSPC);
    for (unsigned i = 1; i < TRACES_MAX; i++) {
        trace_stop(traces[i]);
    }
    trace_stop(seen.trace);
    ck_assert_int_eq(probe_find("guest_error"), PROBE_guest_error);
    ck_assert_int_eq(probe_find("nothing"), -1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("watch");
    TCase *looking = tcase_create("looking");
    tcase_add_checked_fixture(looking, rig_begin, rig_end);
    tcase_set_timeout(looking, 60);
    tcase_add_test(looking, counters);
    tcase_add_test(looking, latency);
    tcase_add_test(looking, stuck_wait);
    tcase_add_test(looking, stuck_not);
    tcase_add_test(looking, stuck_ones_read);
    tcase_add_test(looking, stuck_ones_write);
    tcase_add_test(looking, stuck_ones_parked);
    tcase_add_loop_test(looking, stuck_detach, 0, 2);
    tcase_add_test(looking, stuck_paused);
    tcase_add_test(looking, trace_filters);
    tcase_add_test(looking, trace_full);
    tcase_add_test(looking, trace_texts);
    suite_add_tcase(suite, looking);
    return unit_run(suite);
}
