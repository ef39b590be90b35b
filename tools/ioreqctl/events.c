/* SPDX-License-Identifier: BSD-2-Clause */
/* `events` and `trace`: what goes on, live, until ^C or the end of the daemon. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ioreqctl.h"
#include "pcapng.h"

/* ---- events ---- */

static void print_stamp(const json_t *event)
{
    const json_t *stamp = json_object_get(event, "timestamp");
    time_t seconds = (time_t)member_number(stamp, "seconds");
    struct tm local;
    char text[32] = "";

    if (localtime_r(&seconds, &local)) {
        strftime(text, sizeof(text), "%H:%M:%S", &local);
    }
    printf("%s.%03" PRIu64 " ", text, member_number(stamp, "microseconds") / 1000);
}

void print_event(json_t *event)
{
    const json_t *data = json_object_get(event, "data");
    const char *name = member_text(event, "event"), *guest = member_text(data, "guest");
    const char *device = member_text(data, "device"), *text = member_text(data, "text");
    char domid[SHORT_MAX];

    print_stamp(event);
    if (!strcmp(name, "EVENTS_DROPPED")) {
        printf("%-14s %" PRIu64 " events were lost: read too slowly\n", name, member_number(data, "count"));
        return;
    }
    printf("%-14s %s", name, guest);
    if (json_object_get(data, "domid") && strcmp(member_domid(data, domid), guest)) {
        printf(" (domid %s)", domid);
    }
    text = text[0] ? text : member_text(data, "state");
    if (strncmp(text, device, strlen(device)) || text[strlen(device)] != ':') { /* what is wrong with it begins with it */
        printf("%s%s", device[0] ? ", " : "", device);
    }
    printf("%s%s\n", text[0] ? ": " : "", text);
}

/* Until `to`, which print writes, can't be written, or the daemon ends. */
static enum status follow(struct connection *connection, void (*print)(void *self, json_t *event), void *self,
                          FILE *to)
{
    json_t *event;

    while ((event = connection_next(connection))) {
        print(self, event);
        int error = errno;
        json_decref(event);
        if (ferror(to)) {
            if (error == EPIPE) { /* `| head` */
                clearerr(to);
            }
            errno = error;
            return STATUS_OK; /* or main, for a file its owner, says that it is not */
        }
    }
    fprintf(stderr, "ioreqctl: ioreqd closed the connection\n");
    return STATUS_NO_DAEMON;
}

static void print_raw(json_t *event)
{
    json_dumpf(event, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
}

static void show_event(void *self, json_t *event)
{
    const struct options *options = self;

    if (options->json) {
        print_raw(event);
    } else {
        print_event(event);
        fflush(stdout);
    }
}

enum status run_events(struct connection *connection, const struct options *options)
{
    json_t *value;

    connection->event = show_event;
    connection->self = (void *)options;
    enum status status = connection_call(connection, "events", NULL, &value);
    json_decref(value);
    return status ? status : follow(connection, show_event, (void *)options, stdout);
}

/* ---- trace ---- */

struct tracer {
    const struct options *options;
    FILE *to;
    struct pcapng *pcapng;
    int64_t offset_ns; /* wall clock minus monotonic */
    uint64_t dropped;
    uint64_t frames;
};

static int64_t clock_offset(void)
{
    struct timespec wall, monotonic;

    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    return (wall.tv_sec - monotonic.tv_sec) * 1000000000ll + wall.tv_nsec - monotonic.tv_nsec;
}

static void print_time(const struct tracer *tracer, uint64_t time_ns)
{
    int64_t wall = (int64_t)time_ns + tracer->offset_ns;
    time_t seconds = (time_t)(wall / 1000000000);
    struct tm local;
    char text[32] = "";

    if (localtime_r(&seconds, &local)) {
        strftime(text, sizeof(text), "%H:%M:%S", &local);
    }
    fprintf(tracer->to, "%s.%06d", text, (int)(wall % 1000000000 / 1000));
}

static void print_access(FILE *to, const json_t *record)
{
    char time[SHORT_MAX];

    fprintf(to, " %s %s %s/%" PRIu64 " = %s", member_text(record, "way"), member_text(record, "type"),
            member_text(record, "address"), member_number(record, "size"), member_text(record, "value"));
    if (json_object_get(record, "latency-ns")) {
        fprintf(to, " after %s", short_time(time, member_number(record, "latency-ns")));
    }
}

/* What a probe's two numbers are. */
static void print_numbers(FILE *to, const json_t *record)
{
    static const char *const names[][3] = {
        {"pop", "head", "bytes"},         {"push", "head", "written"},      {"interrupt", "used", NULL},
        {"submit", "operation", "bytes"}, {"finish", "operation", "error"},
        {"miss", "frame", "pages"},       {"invalidate", "held", "in-use"},
    };

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(member_text(record, "probe"), names[i][0])) {
            fprintf(to, " %s %" PRIu64, names[i][1], member_number(record, "first"));
            if (names[i][2]) {
                fprintf(to, " %s %" PRIu64, names[i][2], member_number(record, "second"));
            }
        }
    }
}

static void print_record(const struct tracer *tracer, const json_t *record)
{
    FILE *to = tracer->to;

    print_time(tracer, member_number(record, "time-ns"));
    fprintf(to, " %3" PRIu64, member_number(record, "domid"));
    if (json_object_get(record, "vcpu")) {
        fprintf(to, "v%-3" PRIu64, member_number(record, "vcpu"));
    } else {
        fprintf(to, "    ");
    }
    fprintf(to, " %-10s", member_text(record, "probe"));
    if (member_text(record, "device")[0]) {
        fprintf(to, " %s", member_text(record, "device"));
    }
    if (member_text(record, "region")[0]) {
        fprintf(to, " %s", member_text(record, "region"));
    }
    if (json_object_get(record, "queue")) {
        fprintf(to, " queue %" PRIu64, member_number(record, "queue"));
    }
    if (json_object_get(record, "bytes")) {
        fprintf(to, " %" PRIu64 " bytes", member_number(record, "bytes"));
    }
    if (json_object_get(record, "way")) {
        print_access(to, record);
    }
    print_numbers(to, record);
    fprintf(to, "%s%s\n", member_text(record, "text")[0] ? " " : "", member_text(record, "text"));
}

static void print_records(struct tracer *tracer, const json_t *data)
{
    json_t *record;
    size_t i;

    json_array_foreach(json_object_get(data, "records"), i, record)
    {
        if (tracer->options->json) {
            json_dumpf(record, tracer->to, JSON_COMPACT);
            fputc('\n', tracer->to);
        } else {
            print_record(tracer, record);
        }
    }
    uint64_t dropped = member_number(data, "dropped");
    if (dropped > tracer->dropped) {
        fprintf(stderr, "ioreqctl: %" PRIu64 " records were lost: read too slowly\n",
                dropped - tracer->dropped);
        tracer->dropped = dropped;
    }
}

static void take_trace(void *self, json_t *event)
{
    struct tracer *tracer = self;
    const json_t *data = json_object_get(event, "data");

    if (!strcmp(member_text(event, "event"), "FRAME") && tracer->pcapng) {
        pcapng_add(tracer->pcapng, data, tracer->offset_ns);
    } else if (!strcmp(member_text(event, "event"), "TRACE")) {
        print_records(tracer, data);
        fflush(tracer->to);
    }
}

static json_t *trace_arguments(const struct options *options)
{
    json_t *arguments = json_object();

    if (options->count) {
        json_object_set_new(arguments, "guest", json_string(options->words[0]));
    }
    if (options->device) {
        json_object_set_new(arguments, "device", json_string(options->device));
    }
    if (options->pcapng && options->snap) {
        json_object_set_new(arguments, "snap", json_integer(options->snap + 12));
    }
    if (!options->pcapng && options->probe_count) {
        json_t *probes = json_array();
        for (unsigned i = 0; i < options->probe_count; i++) {
            json_array_append_new(probes, json_string(options->probes[i]));
        }
        json_object_set_new(arguments, "probes", probes);
    }
    return arguments;
}

/* A name that nobody has yet may be had later: that is told, and waited for. */
static enum status note_unknown(struct connection *connection, const struct options *options)
{
    json_t *value = NULL, *device;
    bool found = !options->device;
    char why[400];
    size_t i;

    if (!options->count) {
        return STATUS_OK;
    }
    json_t *arguments = json_pack("{s:s,s:b}", "guest", options->words[0], "brief", 1);
    enum status status = connection_try(connection, "stats", arguments, &value, why, sizeof(why));
    json_array_foreach(json_object_get(json_array_get(json_object_get(value, "guests"), 0), "devices"), i, device)
    {
        found = found || !strcmp(member_text(device, "id"), options->device);
    }
    if (status == STATUS_FAILED) {
        fprintf(stderr, "ioreqctl: note: %s; it is waited for\n", why);
    } else if (!status && !found) {
        fprintf(stderr, "ioreqctl: note: guest %s has no device %s; it is waited for\n", options->words[0],
                options->device);
    }
    json_decref(value);
    return status == STATUS_NO_DAEMON ? status : STATUS_OK;
}

static enum status trace_to(struct connection *connection, struct tracer *tracer)
{
    json_t *value;

    connection->event = take_trace;
    connection->self = tracer;
    enum status status = note_unknown(connection, tracer->options);
    if (status) {
        return status;
    }
    status = connection_call(connection, tracer->pcapng ? "capture" : "trace", trace_arguments(tracer->options),
                             &value);
    json_decref(value);
    return status ? status : follow(connection, take_trace, tracer, tracer->to);
}

enum status run_trace(struct connection *connection, const struct options *options)
{
    const char *path = options->pcapng ? options->pcapng : options->output;
    if (options->pcapng && (options->output || options->probe_count || options->json)) {
        return say_usage("trace: --pcapng FILE takes frames: expected no --output, --probe or --json");
    }
    if (options->device_count > 1 || (options->snap && !options->pcapng)) {
        return say_usage(options->snap ? "trace: --snap is of --pcapng FILE" : "trace: expected one --device");
    }
    struct tracer tracer = {.options = options, .to = stdout, .offset_ns = clock_offset()};
    enum status status;

    if (path && strcmp(path, "-")) {
        tracer.to = fopen(path, "we");
        if (!tracer.to) {
            return say_failed("%s: %m", path);
        }
    }
    tracer.pcapng = options->pcapng ? pcapng_create(tracer.to) : NULL;
    if (options->pcapng && !tracer.pcapng) {
        status = say_failed("out of memory");
    } else {
        status = trace_to(connection, &tracer);
    }
    pcapng_destroy(tracer.pcapng);
    if (tracer.to != stdout) {
        int error = ferror(tracer.to) ? errno : 0;
        bool closed = !fclose(tracer.to);
        error = error ? error : closed ? 0 : errno;
        if (error && !status) {
            status = say_failed("%s: can't be written: %s", path, strerror(error));
        }
    }
    return status;
}
