/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `stats --prometheus`: the text exposition format, for node_exporter's textfile collector or a web server's
 * CGI. A metric's lines stand together, as the format wants.
 */
#include <inttypes.h>
#include <string.h>

#include "ioreqctl.h"

struct answers {
    json_t *list, *stats, *latency;
};

/* A counter of an object, by its key in the answer of `stats`. */
struct counter {
    const char *key, *metric, *help;
};

static const struct counter guest_counters[] = {
    {"handler-calls", "handler_calls_total", "Calls of device handlers."},
    {"deferred", "deferred_total", "Accesses that a device ended later."},
    {"malformed", "malformed_total", "Requests that Xen never makes."},
    {"unclaimed", "unclaimed_total", "Accesses to an address that no device has."},
    {"guest-errors", "guest_errors_total", "What no driver does."},
    {"map-misses", "map_misses_total", "Times that guest memory had to be mapped."},
    {"invalidates", "invalidates_total", "Times that all mappings were dropped."},
    {"resets", "resets_total", "Device resets by drivers."},
    {"stuck", "stuck_total", "Accesses that waited longer than the guest's limit."},
    {NULL, NULL, NULL},
};
static const struct counter device_counters[] = {
    {"accesses", "accesses_total", "Handler calls."},
    {"guest-errors", "guest_errors_total", "What no driver does."},
    {"kicks", "kicks_total", "Notifications of virtqueues by the driver."},
    {"interrupts", "interrupts_total", "Times that the driver was told."},
    {"submits", "requests_total", "Requests that went to the block backend."},
    {"reads", "reads_total", "Reads among them."},
    {"read-bytes", "read_bytes_total", "Bytes of those reads."},
    {"writes", "writes_total", "Writes among them."},
    {"written-bytes", "written_bytes_total", "Bytes of those writes."},
    {"frames-received", "receive_packets_total", "Frames that reached the device."},
    {"bytes-received", "receive_bytes_total", "Bytes of those frames."},
    {"frames-sent", "transmit_packets_total", "Frames that the guest sent."},
    {"bytes-sent", "transmit_bytes_total", "Bytes of those frames."},
    {NULL, NULL, NULL},
};

/* ---- lines ---- */

static void put_head(const char *metric, const char *type, const char *help)
{
    printf("# HELP ioreqd_%s %s\n# TYPE ioreqd_%s %s\n", metric, help, metric, type);
}

/* NAME="value", with the format's three escapes. */
static void put_label(const char *name, const char *value, const char *separator)
{
    printf("%s%s=\"", separator, name);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"') {
            putchar('\\');
        }
        if (*value == '\n') {
            fputs("\\n", stdout);
        } else {
            putchar(*value);
        }
    }
    putchar('"');
}

static void put_guest_labels(const json_t *guest)
{
    char domid[SHORT_MAX];

    put_label("domain", member_text(guest, "domain"), "{");
    put_label("domid", member_domid(guest, domid), ",");
}

static void put_device_labels(const json_t *guest, const json_t *device)
{
    put_guest_labels(guest);
    put_label("device", member_text(device, "id"), ",");
    put_label("class", member_text(device, "class"), ",");
}

/* ---- metrics ---- */

static void put_daemon(const struct answers *answers)
{
    put_head("build_info", "gauge", "The daemon that answers.");
    printf("ioreqd_build_info");
    put_label("version", member_text(answers->list, "version"), "{");
    put_label("build", member_text(answers->list, "build"), ",");
    printf("} 1\n");
    put_head("guests", "gauge", "Guests that the daemon knows.");
    printf("ioreqd_guests %zu\n", json_array_size(json_object_get(answers->list, "guests")));
}

/*
 * Two sources may have named one domain by the same text: two guests to `list`, and one to Prometheus, for which a
 * series may be there once. Served are both, or neither.
 */
static json_t *join_same(const json_t *list)
{
    json_t *joined = json_object(), *guest;
    char key[400], domid[SHORT_MAX];
    size_t i;

    json_array_foreach(json_object_get(list, "guests"), i, guest)
    {
        snprintf(key, sizeof(key), "%s/%.300s", member_domid(guest, domid), member_text(guest, "domain"));
        const json_t *before = json_object_get(joined, key);
        if (!before || member_flag(before, "served")) {
            json_object_set(joined, key, guest);
        }
    }
    return joined;
}

static void put_served(const json_t *list)
{
    json_t *guests = join_same(list), *guest;
    const char *key;

    put_head("guest_served", "gauge", "Does every device of the guest answer?");
    json_object_foreach(guests, key, guest)
    {
        printf("ioreqd_guest_served");
        put_guest_labels(guest);
        put_label("state", member_text(guest, "state"), ",");
        printf("} %d\n", member_flag(guest, "served"));
    }
    json_decref(guests);
}

static void put_accesses(const json_t *guests)
{
    json_t *guest, *value;
    const char *type;
    size_t i;

    put_head("guest_accesses_total", "counter", "Requests taken, by their type.");
    json_array_foreach(guests, i, guest)
    {
        json_object_foreach(json_object_get(json_object_get(guest, "stats"), "accesses"), type, value)
        {
            printf("ioreqd_guest_accesses_total");
            put_guest_labels(guest);
            put_label("type", type, ",");
            printf("} %" PRIu64 "\n", (uint64_t)json_integer_value(value));
        }
    }
}

static void put_guest_counter(const json_t *guests, const struct counter *counter)
{
    char metric[80];
    json_t *guest;
    size_t i;

    snprintf(metric, sizeof(metric), "guest_%s", counter->metric);
    put_head(metric, "counter", counter->help);
    json_array_foreach(guests, i, guest)
    {
        printf("ioreqd_%s", metric);
        put_guest_labels(guest);
        printf("} %" PRIu64 "\n", member_number(json_object_get(guest, "stats"), counter->key));
    }
}

static void put_device_counter(const json_t *guests, const struct counter *counter)
{
    char metric[80];
    json_t *guest, *device;
    size_t i, k;

    snprintf(metric, sizeof(metric), "device_%s", counter->metric);
    put_head(metric, "counter", counter->help);
    json_array_foreach(guests, i, guest)
    {
        json_array_foreach(json_object_get(guest, "devices"), k, device)
        {
            printf("ioreqd_%s", metric);
            put_device_labels(guest, device);
            printf("} %" PRIu64 "\n", member_number(device, counter->key));
        }
    }
}

static void put_own_counters(const json_t *guests)
{
    json_t *guest, *device, *value;
    const char *name;
    size_t i, k;

    put_head("device_counter_total", "counter", "What a device counts by itself, as frames that it drops.");
    json_array_foreach(guests, i, guest)
    {
        json_array_foreach(json_object_get(guest, "devices"), k, device)
        {
            json_object_foreach(json_object_get(device, "counters"), name, value)
            {
                printf("ioreqd_device_counter_total");
                put_device_labels(guest, device);
                put_label("counter", name, ",");
                printf("} %" PRIu64 "\n", (uint64_t)json_integer_value(value));
            }
        }
    }
}

static void put_gauge(const json_t *guests, const char *metric, const char *help,
                      uint64_t (*value)(const json_t *stats))
{
    json_t *guest;
    size_t i;

    put_head(metric, "gauge", help);
    json_array_foreach(guests, i, guest)
    {
        printf("ioreqd_%s", metric);
        put_guest_labels(guest);
        printf("} %" PRIu64 "\n", value(json_object_get(guest, "stats")));
    }
}

static uint64_t waiting(const json_t *stats)
{
    return member_number(stats, "waiting");
}

static uint64_t limited(const json_t *stats)
{
    return member_flag(json_object_get(stats, "limit"), "limited");
}

#define BUCKET_FIRST 8u /* 256 ns; from there by steps of four to 17 s */
#define BUCKET_LAST 34u

/* How many of them took less. The answer's buckets end at powers of two, and empty ones are left out. */
static uint64_t count_below(const json_t *device, uint64_t limit_ns)
{
    uint64_t total = 0;
    json_t *bucket;
    size_t i;

    json_array_foreach(json_object_get(device, "buckets"), i, bucket)
    {
        total += member_number(bucket, "below-ns") <= limit_ns ? member_number(bucket, "count") : 0;
    }
    return total;
}

static void put_histogram_labels(const json_t *guest, const json_t *device, const char *what)
{
    printf("ioreqd_device_access_seconds_%s", what);
    put_guest_labels(guest);
    put_label("device", member_text(device, "id"), ",");
}

/*
 * Cumulative, as the format wants, and always the same ones: a bucket that appears later than the others has no rate
 * for what was in it then.
 */
static void put_buckets(const json_t *guest, const json_t *device)
{
    for (unsigned i = BUCKET_FIRST; i <= BUCKET_LAST; i += 2) {
        char limit[32];
        snprintf(limit, sizeof(limit), "%.9g", (double)(UINT64_C(1) << i) / 1e9);
        put_histogram_labels(guest, device, "bucket");
        put_label("le", limit, ",");
        printf("} %" PRIu64 "\n", count_below(device, UINT64_C(1) << i));
    }
    put_histogram_labels(guest, device, "bucket");
    printf(",le=\"+Inf\"} %" PRIu64 "\n", member_number(device, "count"));
}

static void put_histogram(const json_t *guest, const json_t *device)
{
    put_buckets(guest, device);
    put_histogram_labels(guest, device, "sum");
    printf("} %.9f\n", (double)member_number(device, "sum-ns") / 1e9);
    put_histogram_labels(guest, device, "count");
    printf("} %" PRIu64 "\n", member_number(device, "count"));
}

static void put_latency(const json_t *latency)
{
    bool on = member_flag(latency, "on");
    json_t *guest, *device;
    size_t i, k;

    put_head("device_access_seconds", "histogram",
             "How long a vCPU waited for the answer (while latency is on).");
    json_array_foreach(json_object_get(latency, "guests"), i, guest)
    {
        json_array_foreach(json_object_get(guest, "devices"), k, device)
        {
            if (on || member_number(device, "count")) {
                put_histogram(guest, device);
            }
        }
    }
}

static void put_all(const struct answers *answers)
{
    const json_t *guests = json_object_get(answers->stats, "guests");

    put_daemon(answers);
    put_served(answers->list);
    put_accesses(guests);
    for (const struct counter *counter = guest_counters; counter->key; counter++) {
        put_guest_counter(guests, counter);
    }
    put_gauge(guests, "guest_waiting", "Accesses that wait now.", waiting);
    put_gauge(guests, "guest_limited", "Are the guest's answers delayed now?", limited);
    for (const struct counter *counter = device_counters; counter->key; counter++) {
        put_device_counter(guests, counter);
    }
    put_own_counters(guests);
    put_latency(answers->latency);
}

enum status run_prometheus(struct connection *connection)
{
    struct answers answers = {NULL, NULL, NULL};
    enum status status = connection_list(connection, "list", NULL, "guests", &answers.list);

    status = status ? status
                    : connection_list(connection, "stats", json_pack("{s:b}", "brief", 1), "guests",
                                      &answers.stats);
    status = status ? status : connection_list(connection, "latency", NULL, "guests", &answers.latency);
    if (!status) {
        put_all(&answers);
    }
    json_decref(answers.list);
    json_decref(answers.stats);
    json_decref(answers.latency);
    return status;
}
