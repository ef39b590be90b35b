/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "top.h"

const char *const top_sort_names[SORT_COUNT] = {"guest",   "accesses", "disk",  "net",
                                                "latency", "stuck",    "mapped"};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* A guest that rebooted begins anew. */
static void key_of(char key[400], const json_t *guest)
{
    char domid[SHORT_MAX];

    snprintf(key, 400, "%.300s/%s", member_text(guest, "domain"), member_domid(guest, domid));
}

static json_t *index_guests(json_t *guests)
{
    json_t *index = json_object(), *guest;
    char key[400];
    size_t i;

    json_array_foreach(guests, i, guest)
    {
        key_of(key, guest);
        json_object_set(index, key, guest);
    }
    return index;
}

/* ---- rates ---- */

static double difference(const json_t *now_object, const json_t *before, const char *key, double seconds)
{
    uint64_t newer = member_number(now_object, key), older = member_number(before, key);

    return seconds > 0 && newer > older ? (double)(newer - older) / seconds : 0;
}

static struct top_rates device_rates(const json_t *device, const json_t *before, double seconds)
{
    return (struct top_rates){
        .accesses = difference(device, before, "accesses", seconds),
        .reads = difference(device, before, "reads", seconds),
        .writes = difference(device, before, "writes", seconds),
        .request_bytes = difference(device, before, "submitted-bytes", seconds),
        .receive_bytes = difference(device, before, "bytes-received", seconds),
        .send_bytes = difference(device, before, "bytes-sent", seconds),
    };
}

static const json_t *find_device(const json_t *guest, const char *id)
{
    json_t *device;
    size_t i;

    json_array_foreach(json_object_get(guest, "devices"), i, device)
    {
        if (!strcmp(member_text(device, "id"), id)) {
            return device;
        }
    }
    return NULL;
}

struct top_rates top_device_rates(const struct top *top, const struct top_row *row, const json_t *device)
{
    const json_t *before = find_device(row->before, member_text(device, "id"));

    return before ? device_rates(device, before, top->time - top->time_before) : (struct top_rates){0};
}

bool top_is_disk(const json_t *device)
{
    return !strcmp(member_text(device, "class"), "virtio-blk");
}

bool top_is_net(const json_t *device)
{
    return !strcmp(member_text(device, "class"), "virtio-net");
}

static uint64_t accesses_of(const json_t *guest)
{
    json_t *value;
    const char *type;
    uint64_t total = 0;

    json_object_foreach(json_object_get(json_object_get(guest, "stats"), "accesses"), type, value)
    {
        total += (uint64_t)json_integer_value(value);
    }
    return total;
}

static void rate(const struct top *top, struct top_row *row)
{
    uint64_t newer = accesses_of(row->now), older = accesses_of(row->before);
    double seconds = top->time - top->time_before;
    json_t *device;
    size_t i;

    row->rated = true;
    json_array_foreach(json_object_get(row->now, "devices"), i, device)
    {
        struct top_rates rates = top_device_rates(top, row, device);
        row->rates.reads += rates.reads;
        row->rates.writes += rates.writes;
        row->rates.request_bytes += rates.request_bytes;
        row->rates.receive_bytes += rates.receive_bytes;
        row->rates.send_bytes += rates.send_bytes;
    }
    row->rates.accesses = seconds > 0 && newer > older ? (double)(newer - older) / seconds : 0;
}

/* ---- rows ---- */

static void make_row(const struct top *top, struct top_row *row, const json_t *guest)
{
    char key[400];

    key_of(key, guest);
    *row = (struct top_row){.guest = member_text(guest, "domain"), .state = member_text(guest, "state")};
    member_domid(guest, row->domid);
    row->mapped = member_number(json_object_get(guest, "memory"), "mapped");
    row->now = json_object_get(top->by_guest, key);
    row->before = json_object_get(top->before, key);
    row->stuck = member_number(json_object_get(row->now, "stats"), "waiting");
    if (member_flag(json_object_get(json_object_get(row->now, "stats"), "limit"), "limited")) {
        row->state = "limited";
    }
    if (row->now && row->before) {
        rate(top, row);
    }
}

/* All that was gathered since latency was switched on; top_measure knows better for those on the screen. */
static void set_latency(struct top *top)
{
    json_t *index = index_guests(json_object_get(top->latency, "guests"));
    char key[400];

    for (size_t i = 0; i < top->count; i++) {
        struct top_row *row = &top->rows[i];
        snprintf(key, sizeof(key), "%.300s/%s", row->guest, row->domid);
        const json_t *histogram = json_object_get(index, key);
        row->p50_ns = member_number(histogram, "p50-ns");
        row->p99_ns = member_number(histogram, "p99-ns");
    }
    json_decref(index);
}

static int compare_numbers(double one, double other)
{
    return one > other ? -1 : one < other;
}

static int compare(const void *left, const void *right, void *self)
{
    const struct top_row *one = left, *other = right;
    int result = 0;

    switch (*(enum top_sort *)self) {
    case SORT_ACCESSES:
        result = compare_numbers(one->rates.accesses, other->rates.accesses);
        break;
    case SORT_DISK:
        result = compare_numbers(one->rates.request_bytes, other->rates.request_bytes);
        break;
    case SORT_NET:
        result = compare_numbers(one->rates.receive_bytes + one->rates.send_bytes,
                                 other->rates.receive_bytes + other->rates.send_bytes);
        break;
    case SORT_LATENCY:
        result = compare_numbers((double)one->p99_ns, (double)other->p99_ns);
        break;
    case SORT_STUCK:
        result = compare_numbers((double)one->stuck, (double)other->stuck);
        break;
    case SORT_MAPPED:
        result = compare_numbers((double)one->mapped, (double)other->mapped);
        break;
    default:
        break;
    }
    return result ? result : strverscmp(one->guest, other->guest); /* 2, 99, 100 */
}

void top_sort_rows(struct top *top)
{
    if (top->count) {
        qsort_r(top->rows, top->count, sizeof(*top->rows), compare, &top->sort);
    }
}

static enum status make_rows(struct top *top)
{
    const json_t *guests = json_object_get(top->list, "guests");
    json_t *guest;
    size_t i;

    free(top->rows);
    top->count = json_array_size(guests);
    top->rows = calloc(top->count + 1, sizeof(*top->rows));
    if (!top->rows) {
        top->count = 0;
        return say_failed("out of memory");
    }
    json_array_foreach(guests, i, guest)
    {
        make_row(top, &top->rows[i], guest);
    }
    set_latency(top);
    top_sort_rows(top);
    return STATUS_OK;
}

/* ---- samples ---- */

static void replace(json_t **to, json_t *value)
{
    json_decref(*to);
    *to = value;
}

enum status top_sample(struct top *top, struct connection *connection)
{
    json_t *list = NULL, *stats = NULL, *latency = NULL;
    enum status status = connection_list(connection, "list", NULL, "guests", &list);

    status = status
                 ? status
                 : connection_list(connection, "latency", json_pack("{s:b}", "brief", 1), "guests", &latency);
    status = status ? status
                    : connection_list(connection, "stats", json_pack("{s:b}", "brief", 1), "guests", &stats);
    if (status) {
        json_decref(list);
        json_decref(latency);
        return status;
    }
    top->time_before = top->time;
    top->time = now();
    replace(&top->before, top->by_guest);
    replace(&top->buckets_before, top->buckets);
    top->buckets = json_object();
    replace(&top->list, list);
    replace(&top->latency, latency);
    replace(&top->stats, stats);
    top->by_guest = index_guests(json_object_get(stats, "guests"));
    return make_rows(top);
}

void top_finish(struct top *top)
{
    json_t *all[] = {top->list,   top->stats,   top->latency,       top->by_guest,
                     top->before, top->buckets, top->buckets_before};

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        json_decref(all[i]);
    }
    free(top->rows);
    *top = (struct top){0};
}

/* ---- latency of the rows that are looked at ---- */

static uint64_t older_count(const json_t *before, uint64_t below)
{
    json_t *bucket;
    size_t i;

    json_array_foreach(before, i, bucket)
    {
        if (member_number(bucket, "below-ns") == below) {
            return member_number(bucket, "count");
        }
    }
    return 0;
}

/* The upper end of the bucket that holds this part of what is newer than `before`. 0: nothing is. */
static uint64_t percentile(const json_t *buckets, const json_t *before, double part)
{
    uint64_t total = 0, seen = 0;
    json_t *bucket;
    size_t i;

    json_array_foreach(buckets, i, bucket)
    {
        total += member_number(bucket, "count") - older_count(before, member_number(bucket, "below-ns"));
    }
    json_array_foreach(buckets, i, bucket)
    {
        uint64_t below = member_number(bucket, "below-ns");
        seen += member_number(bucket, "count") - older_count(before, below);
        if (seen && (double)seen >= part * (double)total) {
            return below;
        }
    }
    return 0;
}

static enum status measure(struct top *top, struct connection *connection, struct top_row *row)
{
    json_t *answer = NULL;
    char key[400];
    enum status status =
        connection_call(connection, "latency", json_pack("{s:s}", "guest", row->guest), &answer);

    if (status == STATUS_NO_DAEMON) {
        return status;
    }
    const json_t *guest = json_array_get(json_object_get(answer, "guests"), 0);
    json_t *buckets = json_object_get(guest, "buckets");
    snprintf(key, sizeof(key), "%.300s/%s", row->guest, row->domid);
    const json_t *before = json_object_get(top->buckets_before, key);
    if (buckets) {
        json_object_set(top->buckets, key, buckets);
        row->p50_ns = percentile(buckets, before, 0.5);
        row->p99_ns = percentile(buckets, before, 0.99);
    }
    json_decref(answer);
    return STATUS_OK;
}

enum status top_measure(struct top *top, struct connection *connection, size_t first, size_t count)
{
    enum status status = STATUS_OK;

    if (!member_flag(top->latency, "on")) {
        return STATUS_OK;
    }
    for (size_t i = first; !status && i < top->count && i < first + count; i++) {
        status = measure(top, connection, &top->rows[i]);
    }
    return status;
}
