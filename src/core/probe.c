/* SPDX-License-Identifier: BSD-2-Clause */
/* The points by name, and those of the rooms above the core. */
#include <string.h>

#include <ioreqd/block.h>

#include "core/points.h"
#include "core/trace.h"

static const struct {
    const char *name, *what;
} probes[] = {
#define PROBE_ENTRY(name, shape, what) {#name, what},
    PROBES(PROBE_ENTRY)
#undef PROBE_ENTRY
};

const char *probe_name(enum probe probe)
{
    return (unsigned)probe < PROBE_COUNT ? probes[probe].name : "?";
}

const char *probe_what(enum probe probe)
{
    return (unsigned)probe < PROBE_COUNT ? probes[probe].what : "";
}

int probe_find(const char *name)
{
    for (int i = 0; i < PROBE_COUNT; i++) {
        if (!strcmp(probes[i].name, name)) {
            return i;
        }
    }
    return -1;
}

/* ---- shape QUEUE: what the device's own counters make of it ---- */

static void count_kick(struct iod_device *device, uint64_t first, uint64_t second)
{
    device->watch.kicks++;
}

static void count_pop(struct iod_device *device, uint64_t first, uint64_t bytes)
{
    watch_allow(device->guest, bytes);
    device->watch.pops++;
}

static void count_push(struct iod_device *device, uint64_t first, uint64_t second)
{
    device->watch.pushes++;
}

static void count_interrupt(struct iod_device *device, uint64_t first, uint64_t second)
{
    device->watch.interrupts++;
}

static void count_reset(struct iod_device *device, uint64_t first, uint64_t second)
{
    device->watch.resets++;
    limit_charge(device->guest, DEED_RESET, 1);
}

/* The kernel's part of a request is not measured: a copy of its bytes is what it costs at least. */
static void count_submit(struct iod_device *device, uint64_t operation, uint64_t bytes)
{
    struct device_watch *watch = &device->watch;

    watch->submits++;
    watch->submitted_bytes += bytes;
    if (operation == IOD_BLOCK_READ) {
        watch->reads++;
        watch->read_bytes += bytes;
    } else if (operation == IOD_BLOCK_WRITE) {
        watch->writes++;
        watch->written_bytes += bytes;
    }
    if (__builtin_expect(device->guest->watch.account.measured, 0)) {
        limit_spend(device->guest, SUBMIT_NS + bytes / SUBMIT_BYTES_PER_NS);
    }
}

static void count_finish(struct iod_device *device, uint64_t first, uint64_t second)
{
    device->watch.finishes++;
}

static void look_queue(enum probe probe, struct iod_device *device, unsigned queue, uint64_t first, uint64_t second)
{
    struct trace_record record = {.probe = (uint8_t)probe, .vcpu = TRACE_NO_VCPU, .queue = (uint16_t)queue,
                                  .address = first, .value = second};
    watch_record(device->guest, device, &record);
}

#define PROBE_DEFINE_QUEUE(name) \
    void probe_##name(struct iod_device *device, unsigned queue, uint64_t first, uint64_t second) \
    { \
        struct guest *guest = device->guest; \
        USDT(name, guest->domid, device->id, queue, first, second); \
        count_##name(device, first, second); \
        if (point_passed(guest, PROBE_##name)) { \
            look_queue(PROBE_##name, device, queue, first, second); \
        } \
    }

/* ---- shape FRAME ---- */

static void count_receive(struct iod_device *device, uint64_t bytes)
{
    device->watch.received++;
    device->watch.received_bytes += bytes;
}

static void count_send(struct iod_device *device, uint64_t bytes)
{
    device->watch.sent++;
    device->watch.sent_bytes += bytes;
    if (__builtin_expect(device->guest->watch.account.measured, 0)) {
        limit_spend(device->guest, SUBMIT_NS + bytes / SUBMIT_BYTES_PER_NS);
    }
}

static void look_frame(enum probe probe, struct iod_device *device, unsigned pair, const struct iovec *iov,
                       unsigned count, uint64_t bytes)
{
    struct trace_record record = {.probe = (uint8_t)probe, .vcpu = TRACE_NO_VCPU, .queue = (uint16_t)pair,
                                  .value = bytes};
    struct capture_frame frame = {.pair = (uint16_t)pair, .sent = probe == PROBE_send, .iov = iov, .count = count,
                                  .bytes = bytes};
    watch_record(device->guest, device, &record);
    trace_frame(device->guest, device, &frame);
}

#define PROBE_DEFINE_FRAME(name) \
    void probe_##name(struct iod_device *device, unsigned pair, const struct iovec *iov, unsigned count, \
                      uint64_t bytes) \
    { \
        struct guest *guest = device->guest; \
        USDT(name, guest->domid, device->id, pair, bytes); \
        count_##name(device, bytes); \
        if (point_passed(guest, PROBE_##name)) { \
            look_frame(PROBE_##name, device, pair, iov, count, bytes); \
        } \
    }

#define PROBE_DEFINE_SLOT(name)
#define PROBE_DEFINE_ACCESS(name)
#define PROBE_DEFINE_CALL(name)
#define PROBE_DEFINE_GUEST(name)
#define PROBE_DEFINE_TEXT(name)
#define PROBE_DEFINE(name, shape, what) PROBE_DEFINE_##shape(name)
PROBES(PROBE_DEFINE)
