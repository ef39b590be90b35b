/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `trace` and `capture`: live records, and frames of network devices, as events. They wait in the ring of the
 * core's trace while the client does not read; a frame does not wait: it is copied or dropped.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/inside.h"
#include "core/trace.h"

#define BATCH 64u              /* records in one event */
#define OUT_FRAMES (1u << 20)  /* bytes of frames that wait to be sent */
#define HEADER_BYTES 12u       /* virtio_net_hdr_v1: always whole */
#define FRAME_BYTES_MAX 65562u /* of one frame, with its header */

struct client_trace {
    struct trace *records, *frames; /* or NULL */
    uint64_t dropped;               /* told to the client */
    uint64_t frames_dropped;        /* not told yet */
    size_t snap;                    /* bytes of a frame that are wanted */
};

/* ---- records ---- */

enum shape { SHAPE_SLOT, SHAPE_ACCESS, SHAPE_CALL, SHAPE_QUEUE, SHAPE_FRAME, SHAPE_GUEST, SHAPE_TEXT };

static enum shape shape_of(unsigned probe)
{
#define PROBE_SHAPE(name, shape, what) SHAPE_##shape,
    static const unsigned char shapes[] = {PROBES(PROBE_SHAPE)};
#undef PROBE_SHAPE
    return probe < PROBE_COUNT ? shapes[probe] : SHAPE_TEXT;
}

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text[0]) {
        json_object_set_new(object, key, text_json(text));
    }
}

/* Addresses and data are 64 bits, which JSON's readers don't all have. */
static void set_hex(json_t *object, const char *key, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof(text), "0x%" PRIx64, value);
    json_object_set_new(object, key, json_string(text));
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)(value & INT64_MAX)));
}

static const char *type_name(unsigned type)
{
    switch (type) {
    case REQUEST_PIO:
        return "pio";
    case REQUEST_COPY:
        return "mmio";
    case REQUEST_PCI_CONFIG:
        return "pci-config";
    default:
        return "other";
    }
}

/* Without one: the buffered ring. */
static void set_vcpu(json_t *object, const struct trace_record *record)
{
    if (record->vcpu != TRACE_NO_VCPU) {
        set_number(object, "vcpu", record->vcpu);
    }
}

static void set_access(json_t *object, const struct trace_record *record)
{
    set_vcpu(object, record);
    set_text(object, "type", type_name(record->type));
    set_text(object, "way", record->read ? "read" : "write");
    set_hex(object, "address", record->address);
    set_number(object, "size", record->size);
    set_hex(object, "value", record->value);
    if (record->latency_ns) {
        set_number(object, "latency-ns", record->latency_ns);
    }
}

static json_t *record_json(const struct trace_record *record)
{
    json_t *object = json_object();

    set_number(object, "time-ns", record->time_ns);
    set_text(object, "probe", probe_name(record->probe));
    set_number(object, "domid", record->domid);
    set_text(object, "device", record->device);
    switch (shape_of(record->probe)) {
    case SHAPE_SLOT:
        set_vcpu(object, record);
        break;
    case SHAPE_ACCESS:
    case SHAPE_CALL:
        set_text(object, "region", record->text);
        set_access(object, record);
        break;
    case SHAPE_QUEUE:
        set_number(object, "queue", record->queue);
        set_number(object, "first", record->address);
        set_number(object, "second", record->value);
        break;
    case SHAPE_FRAME:
        set_number(object, "queue", record->queue);
        set_number(object, "bytes", record->value);
        break;
    case SHAPE_GUEST:
        set_number(object, "first", record->address);
        set_number(object, "second", record->value);
        break;
    case SHAPE_TEXT:
        set_text(object, "text", record->text);
        break;
    }
    return object;
}

static unsigned take_records(void *self, const struct trace_record *records, unsigned count, uint64_t dropped)
{
    struct client *client = self;
    struct client_trace *trace = client->trace;
    unsigned taken = 0;

    while (taken < count && client->out.length <= OUT_HIGH) {
        json_t *list = json_array();
        for (unsigned i = 0; i < BATCH && taken < count; i++) {
            json_array_append_new(list, record_json(&records[taken++]));
        }
        json_t *data = json_pack("{s:o,s:I}", "records", list, "dropped", (json_int_t)dropped);
        json_t *message = event_message("TRACE", data);
        client_send(client, message, true);
        json_decref(message);
        trace->dropped = dropped;
    }
    return taken;
}

/* ---- frames ---- */

static size_t put_base64(char *to, const uint8_t *from, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *at = to;

    for (size_t i = 0; i < length; i += 3) {
        size_t left = length - i;
        uint32_t bits = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
                        (left > 2 ? from[i + 2] : 0);
        *at++ = digits[bits >> 18];
        *at++ = digits[bits >> 12 & 63];
        *at++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *at++ = left > 2 ? digits[bits & 63] : '=';
    }
    return (size_t)(at - to);
}

static size_t gather(uint8_t *to, size_t room, const struct iovec *iov, unsigned count)
{
    size_t length = 0;

    for (unsigned i = 0; i < count && length < room; i++) {
        size_t part = iov[i].iov_len < room - length ? iov[i].iov_len : room - length;
        memcpy(to + length, iov[i].iov_base, part);
        length += part;
    }
    return length;
}

/* The line is put together by hand: this is in the middle of a frame's way. */
static void take_frame(void *self, const struct capture_frame *frame)
{
    struct client *client = self;
    struct client_trace *trace = client->trace;
    size_t room = trace->snap < FRAME_BYTES_MAX ? trace->snap : FRAME_BYTES_MAX;
    uint8_t *bytes = client->out.length < OUT_FRAMES ? malloc(room) : NULL;
    char *line = bytes ? malloc(room / 3 * 4 + 512) : NULL;

    if (!line) {
        trace->frames_dropped++;
        free(bytes);
        return;
    }
    size_t length = gather(bytes, room, frame->iov, frame->count);
    json_t *device = text_json(frame->device);
    char *name = device ? json_dumps(device, JSON_ENCODE_ANY) : NULL; /* an id is at most 31 bytes */
    int at = snprintf(line, 400,
                      "{\"event\":\"FRAME\",\"data\":{\"time-ns\":%" PRIu64
                      ",\"domid\":%u,\"device\":%.300s,\"pair\":%u,"
                      "\"sent\":%s,\"bytes\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"frame\":\"",
                      frame->time_ns, frame->domid, name ? name : "\"\"", frame->pair,
                      frame->sent ? "true" : "false", frame->bytes, trace->frames_dropped);
    size_t end = (size_t)at + put_base64(line + at, bytes, length);
    memcpy(line + end, "\"}}\r\n", 5);
    client_send_line(client, line, end + 5);
    trace->frames_dropped = 0;
    free(name);
    json_decref(device);
    free(line);
    free(bytes);
}

/* ---- begin and end ---- */

void client_trace_resume(struct client *client)
{
    if (client->trace && client->trace->records && client->out.length <= OUT_HIGH) {
        trace_resume(client->trace->records);
    }
}

static void stop(struct trace **trace)
{
    if (*trace) {
        trace_stop(*trace);
        *trace = NULL;
    }
}

void client_trace_end(struct client *client)
{
    if (client->trace) {
        stop(&client->trace->records);
        stop(&client->trace->frames);
        free(client->trace);
        client->trace = NULL;
    }
}

static int get_trace(struct client *client, struct iod_error *error)
{
    if (!client->trace) {
        client->trace = calloc(1, sizeof(*client->trace));
    }
    return client->trace ? 0 : iod_fail(error, ENOMEM, "out of memory");
}

static int find_probes(json_t *arguments, uint32_t *probes, struct iod_error *error)
{
    json_t *list = json_object_get(arguments, "probes");

    *probes = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        int probe = probe_find(name);
        if (probe < 0) {
            return iod_fail(error, EINVAL, "trace: there is no probe '%.40s'; ioreqctl(1) lists them",
                            name);
        }
        *probes |= UINT32_C(1) << probe;
    }
    return 0;
}

static void run_trace(struct call *call, json_t *arguments)
{
    struct client *client = call->client;
    struct trace_filter filter = {.domain = argument_text(arguments, "guest"),
                                  .device = argument_text(arguments, "device")};
    struct iod_error error = {0};
    double records = argument_number(arguments, "records", 0);
    int ret = get_trace(client, &error);

    ret = ret ? ret : find_probes(arguments, &filter.probes, &error);
    if (!ret && records > TRACE_RECORDS_MAX) {
        ret = iod_fail(&error, EINVAL, "trace: records: expected at most %u", TRACE_RECORDS_MAX);
    }
    if (!ret) {
        stop(&client->trace->records);
        if (argument_flag(arguments, "on", true)) {
            client->trace->records =
                trace_start(call->control->daemon, &filter, (unsigned)records, take_records, client, &error);
            ret = client->trace->records ? 0 : -error.code;
        }
    }
    call_done(call, ret, error.text);
}

static void run_capture(struct call *call, json_t *arguments)
{
    struct client *client = call->client;
    struct trace_filter filter = {.domain = argument_text(arguments, "guest"),
                                  .device = argument_text(arguments, "device")};
    struct iod_error error = {0};
    double snap = argument_number(arguments, "snap", FRAME_BYTES_MAX);
    int ret = get_trace(client, &error);

    if (!ret) {
        stop(&client->trace->frames);
        client->trace->snap = snap < HEADER_BYTES ? HEADER_BYTES : snap < FRAME_BYTES_MAX ? (size_t)snap : FRAME_BYTES_MAX;
        if (argument_flag(arguments, "on", true)) {
            client->trace->frames = capture_start(call->control->daemon, &filter, take_frame, client, &error);
            ret = client->trace->frames ? 0 : -error.code;
        }
    }
    call_done(call, ret, error.text);
}

static void run_probes(struct call *call, json_t *arguments)
{
    json_t *list = json_array();

    (void)arguments;
    for (unsigned i = 0; i < PROBE_COUNT; i++) {
        json_array_append_new(list, json_pack("{s:s,s:s}", "name", probe_name(i), "what", probe_what(i)));
    }
    call_return(call, list);
}

static const struct argument trace_arguments[] = {
    {"guest", ARGUMENT_TEXT, false}, {"device", ARGUMENT_TEXT, false},    {"probes", ARGUMENT_TEXTS, false},
    {"on", ARGUMENT_FLAG, false},    {"records", ARGUMENT_COUNT, false}, {.name = NULL},
};
static const struct argument capture_arguments[] = {
    {"guest", ARGUMENT_TEXT, false},
    {"device", ARGUMENT_TEXT, false},
    {"snap", ARGUMENT_COUNT, false},
    {"on", ARGUMENT_FLAG, false},
    {.name = NULL},
};

const struct command trace_commands[] = {
    {"trace", "send TRACE events to this client, or no more", trace_arguments, run_trace},
    {"capture", "send network frames to this client, or no more", capture_arguments, run_capture},
    {"probes", "the probe points of trace", NULL, run_probes},
    {.name = NULL},
};
