/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

#define RECORDS_DEFAULT 4096u

struct trace {
    struct list link; /* of the daemon */
    struct daemon *daemon;
    unsigned index;   /* the bit of guest_watch.traces */
    char *domain, *device; /* NULL: all */
    uint32_t probes;
    trace_sink *sink;       /* or */
    capture_sink *capture;
    void *self;
    struct loop_task *task; /* delivers */
    struct trace_record *records;
    unsigned room, first, count;
    uint64_t dropped;
    bool full;       /* the sink is: until trace_resume */
    bool delivering; /* inside the sink */
    bool stopped;    /* there */
};

/* ---- who sees whom ---- */

uint32_t trace_mask(struct guest *guest)
{
    struct daemon *daemon = guest->daemon;
    struct trace *trace;
    uint32_t mask = 0;
    guest->watch.traces = 0;
    list_for_each(trace, &daemon->watch.traces, struct trace, link) {
        struct guest *wanted = trace->domain ? guest_find(daemon, trace->domain, NULL) : guest;
        if (wanted && guest_host(wanted) == guest) {
            guest->watch.traces |= (uint8_t)(1u << trace->index);
            mask |= trace->probes;
        }
    }
    return mask & PROBE_BIT(answer) ? mask | PROBE_BIT(event) : mask; /* the answer tells the time since */
}

static void changed(struct daemon *daemon)
{
    struct guest *guest;
    list_for_each(guest, &daemon->guests, struct guest, link) {
        watch_guest_known(guest);
    }
}

/* ---- records ---- */

static bool wants(const struct trace *trace, const struct guest *guest, unsigned probe, const char *device)
{
    return (guest->watch.traces >> trace->index & 1) && (trace->probes >> probe & 1) &&
           (!trace->device || !strcmp(trace->device, device));
}

static void put(struct trace *trace, const struct trace_record *record)
{
    if (trace->count == trace->room) {
        trace->dropped++;
        return;
    }
    trace->records[(trace->first + trace->count++) % trace->room] = *record;
    if (!trace->full) {
        trace->daemon->loop->ops->task_last(trace->task);
    }
}

void trace_note(struct guest *guest, const struct trace_record *record)
{
    struct trace *trace;
    list_for_each(trace, &guest->daemon->watch.traces, struct trace, link) {
        if (trace->sink && wants(trace, guest, record->probe, record->device)) {
            put(trace, record);
        }
    }
}

void trace_frame(struct guest *guest, const struct iod_device *device, struct capture_frame *frame)
{
    struct loop *loop = guest->daemon->loop;
    struct trace *trace;
    list_for_each(trace, &guest->daemon->watch.traces, struct trace, link) {
        if (trace->capture && wants(trace, guest, frame->sent ? PROBE_send : PROBE_receive, device->id)) {
            frame->time_ns = frame->time_ns ? frame->time_ns : loop->ops->now_ns(loop);
            frame->domid = guest->domid;
            frame->device = device->id;
            trace->capture(trace->self, frame);
        }
    }
}

static void destroy(struct trace *trace)
{
    trace->daemon->loop->ops->task_remove(trace->task);
    free(trace->domain);
    free(trace->device);
    free(trace->records);
    free(trace);
}

static void deliver(void *self)
{
    struct trace *trace = self;
    trace->delivering = true;
    while (trace->count && !trace->full && !trace->stopped) {
        unsigned run = trace->room - trace->first;
        run = trace->count < run ? trace->count : run;
        unsigned taken = trace->sink(trace->self, &trace->records[trace->first], run, trace->dropped);
        taken = taken < run ? taken : run;
        trace->full = taken < run;
        trace->first = (trace->first + taken) % trace->room;
        trace->count -= taken;
    }
    trace->delivering = false;
    if (trace->stopped) {
        destroy(trace);
    }
}

/* ---- the rooms' side ---- */

static bool copy_text(char **to, const char *text)
{
    *to = text ? strdup(text) : NULL;
    return !text || *to;
}

static int free_index(const struct daemon *daemon)
{
    const struct trace *trace;
    unsigned used = 0;
    list_for_each(trace, &daemon->watch.traces, const struct trace, link) {
        used |= 1u << trace->index;
    }
    return used == (1u << TRACES_MAX) - 1 ? -1 : __builtin_ctz(~used);
}

static struct trace *begin(struct daemon *daemon, const struct trace_filter *filter, uint32_t probes,
                           unsigned records, struct iod_error *error)
{
    int index = free_index(daemon);
    if (index < 0) {
        iod_fail(error, ENOSPC, "%u traces run already, and that is the most", TRACES_MAX);
        return NULL;
    }
    struct trace *trace = calloc(1, sizeof(*trace));
    if (!trace) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    trace->daemon = daemon;
    trace->index = (unsigned)index;
    trace->probes = probes;
    trace->room = records;
    trace->records = records ? calloc(records, sizeof(*trace->records)) : NULL;
    trace->task = daemon->loop->ops->task_add(daemon->loop, deliver, trace);
    if (!trace->task || (records && !trace->records) || !copy_text(&trace->domain, filter->domain) ||
        !copy_text(&trace->device, filter->device)) {
        iod_fail(error, ENOMEM, "out of memory");
        destroy(trace);
        return NULL;
    }
    list_add_tail(&daemon->watch.traces, &trace->link);
    return trace;
}

struct trace *trace_start(struct daemon *daemon, const struct trace_filter *filter, unsigned records,
                          trace_sink *sink, void *self, struct iod_error *error)
{
    const uint32_t all = (uint32_t)((UINT64_C(1) << PROBE_COUNT) - 1);
    if (records > TRACE_RECORDS_MAX || (filter->probes & ~all)) {
        iod_fail(error, EINVAL, "a trace of %u records: expected at most %u, and probes that exist", records,
                 TRACE_RECORDS_MAX);
        return NULL;
    }
    struct trace *trace = begin(daemon, filter, filter->probes ? filter->probes : all,
                                records ? records : RECORDS_DEFAULT, error);
    if (trace) {
        trace->sink = sink;
        trace->self = self;
        changed(daemon);
    }
    return trace;
}

struct trace *capture_start(struct daemon *daemon, const struct trace_filter *filter, capture_sink *sink, void *self,
                            struct iod_error *error)
{
    struct trace *trace = begin(daemon, filter, PROBE_BIT(receive) | PROBE_BIT(send), 0, error);
    if (trace) {
        trace->capture = sink;
        trace->self = self;
        changed(daemon);
    }
    return trace;
}

void trace_resume(struct trace *trace)
{
    trace->full = false;
    if (trace->count) {
        trace->daemon->loop->ops->task_soon(trace->task);
    }
}

uint64_t trace_dropped(const struct trace *trace)
{
    return trace->dropped;
}

void trace_stop(struct trace *trace)
{
    if (!trace) {
        return;
    }
    list_remove(&trace->link);
    changed(trace->daemon);
    if (trace->delivering) {
        trace->stopped = true;
    } else {
        destroy(trace);
    }
}
