/* SPDX-License-Identifier: BSD-2-Clause */
/* Lists for people: each line at most 80 columns wide, unless a name is long. */
#include <inttypes.h>
#include <string.h>

#include "ioreqctl.h"

#define VERSION IOREQD_VERSION

void print_json(json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
}

/* ---- list ---- */

static void print_daemon(const json_t *list)
{
    const char *version = member_text(list, "version"), *build = member_text(list, "build");
    build = strcmp(build, version) ? build : ""; /* a native package's */

    printf("ioreqd %s%s%s%s, process %" PRIu64 "\n", version, build[0] ? " (" : "", build,
           build[0] ? ")" : "", member_number(list, "pid"));
    if (member_flag(list, "replaced") || strcmp(version, VERSION)) {
        printf("note: an older ioreqd runs than is installed: restart it when it has no guests\n");
    }
}

/* How it is called, and by whom when the two differ. */
static void guest_name(char *text, size_t size, const json_t *guest)
{
    const char *domain = member_text(guest, "domain"), *name = member_text(guest, "name");

    snprintf(text, size, name[0] && strcmp(name, domain) ? "%s (%s)" : "%s", domain, name);
}

/* Blanks behind a name in a column: none if it is longer. */
static int fill(const char *name, unsigned columns)
{
    unsigned used;
    size_t length = text_fit(name, columns, &used);

    return name[length] ? 0 : (int)(columns - used);
}

void print_list(json_t *list)
{
    json_t *guests = json_object_get(list, "guests"), *guest;
    char name[400], domid[SHORT_MAX];
    size_t i;

    print_daemon(list);
    if (!json_array_size(guests)) {
        printf("no guests\n");
        return;
    }
    printf("%-24s %5s  %-10s %-6s %7s\n", "GUEST", "DOMID", "STATE", "SERVED", "DEVICES");
    json_array_foreach(guests, i, guest)
    {
        guest_name(name, sizeof(name), guest);
        printf("%s%*s %5s  %-10s %-6s %7" PRIu64 "\n", name, fill(name, 24), "", member_domid(guest, domid),
               member_text(guest, "state"), member_flag(guest, "served") ? "yes" : "no",
               member_number(guest, "devices"));
        if (member_text(guest, "why")[0]) {
            printf("    %s\n", member_text(guest, "why"));
        }
    }
}

/* ---- stats ---- */

static uint64_t sum(const json_t *object)
{
    const char *key;
    json_t *value;
    uint64_t total = 0;

    json_object_foreach((json_t *)object, key, value)
    {
        total += (uint64_t)json_integer_value(value);
    }
    return total;
}

static uint64_t sum_devices(const json_t *guest, const char *key)
{
    json_t *device;
    uint64_t total = 0;
    size_t i;

    json_array_foreach(json_object_get(guest, "devices"), i, device)
    {
        total += member_number(device, key);
    }
    return total;
}

static void print_device_stats(const json_t *device)
{
    char a[SHORT_MAX], b[SHORT_MAX], c[SHORT_MAX], d[SHORT_MAX];
    char name[64];

    snprintf(name, sizeof(name), "%s %s", member_text(device, "id"), member_text(device, "class"));
    printf(
        "  %-28.40s %8s %8s %10s", name, short_count(a, (double)member_number(device, "accesses")),
        short_count(b, (double)member_number(device, "interrupts")),
        short_count(c, (double)(member_number(device, "submits") + member_number(device, "frames-received") +
                                member_number(device, "frames-sent"))));
    printf(" %9s\n",
           short_bytes(d, member_number(device, "submitted-bytes") + member_number(device, "bytes-received") +
                              member_number(device, "bytes-sent")));
}

void print_stats(json_t *stats)
{
    char a[SHORT_MAX], b[SHORT_MAX], c[SHORT_MAX], d[SHORT_MAX], name[400];
    json_t *guest, *device;
    size_t i, k;

    printf("%-30s %8s %8s %10s %9s %6s\n", "GUEST, DEVICE", "ACCESSES", "INTERR.", "REQUESTS", "BYTES",
           "STUCK");
    json_array_foreach(json_object_get(stats, "guests"), i, guest)
    {
        json_t *counters = json_object_get(guest, "stats");
        guest_name(name, sizeof(name), guest);
        uint64_t requests = sum_devices(guest, "submits") + sum_devices(guest, "frames-received") +
                            sum_devices(guest, "frames-sent");
        uint64_t bytes = sum_devices(guest, "submitted-bytes") + sum_devices(guest, "bytes-received") +
                         sum_devices(guest, "bytes-sent");
        printf("%s%*s %8s %8s %10s %9s %6" PRIu64 "\n", name, fill(name, 30), "",
               short_count(a, (double)sum(json_object_get(counters, "accesses"))),
               short_count(b, (double)sum_devices(guest, "interrupts")), short_count(c, (double)requests),
               short_bytes(d, bytes), member_number(counters, "stuck"));
        json_array_foreach(json_object_get(guest, "devices"), k, device)
        {
            print_device_stats(device);
        }
    }
}

/* ---- latency ---- */

static void print_latency_line(const char *indent, const char *name, const json_t *histogram)
{
    char count[SHORT_MAX], a[SHORT_MAX], b[SHORT_MAX], c[SHORT_MAX], d[SHORT_MAX];
    int room = 30 - (int)strlen(indent);

    printf(
        "%s%-*.*s %8s %9s %9s %9s %9s\n", indent, room, room, name,
        short_count(count, (double)member_number(histogram, "count")),
        short_time(a, member_number(histogram, "p50-ns")), short_time(b, member_number(histogram, "p90-ns")),
        short_time(c, member_number(histogram, "p99-ns")), short_time(d, member_number(histogram, "max-ns")));
}

static void print_bars(const json_t *histogram)
{
    json_t *bucket;
    uint64_t most = 1;
    size_t i;
    char time[SHORT_MAX];

    json_array_foreach(json_object_get(histogram, "buckets"), i, bucket)
    {
        most = member_number(bucket, "count") > most ? member_number(bucket, "count") : most;
    }
    json_array_foreach(json_object_get(histogram, "buckets"), i, bucket)
    {
        uint64_t count = member_number(bucket, "count");
        unsigned length = (unsigned)((double)count * 48 / (double)most + 0.999);
        printf("  < %8s %10" PRIu64 " ", short_time(time, member_number(bucket, "below-ns")), count);
        for (unsigned k = 0; k < length; k++) {
            putchar('#');
        }
        putchar('\n');
    }
}

static void print_guest_latency(const json_t *guest)
{
    json_t *device, *region;
    char name[400];
    size_t i, k;

    guest_name(name, sizeof(name), guest);
    print_latency_line("", name, guest);
    json_array_foreach(json_object_get(guest, "devices"), i, device)
    {
        print_latency_line("  ", member_text(device, "id"), device);
        json_array_foreach(json_object_get(device, "regions"), k, region)
        {
            print_latency_line("    ", member_text(region, "name"), region);
        }
    }
}

void print_latency(json_t *latency, bool one)
{
    json_t *guests = json_object_get(latency, "guests"), *guest;
    size_t i;

    printf("latency is %s\n", member_flag(latency, "on") ? "on" : "off: ioreqctl latency on");
    if (json_array_size(guests)) {
        printf("%-30s %8s %9s %9s %9s %9s\n", "GUEST, DEVICE, REGION", "ACCESSES", "p50", "p90", "p99",
               "MAX");
    }
    json_array_foreach(guests, i, guest)
    {
        print_guest_latency(guest);
    }
    if (one) {
        print_bars(json_array_get(guests, 0));
    }
}

/* ---- stuck ---- */

void print_stuck(json_t *stuck)
{
    json_t *list = json_object_get(stuck, "accesses"), *access;
    char address[80], vcpu[SHORT_MAX], where[128], time[SHORT_MAX];
    size_t i;

    if (!json_array_size(list)) {
        printf("no access waits\n");
        return;
    }
    printf("%-16s %4s  %-27s %-17s %10s\n", "GUEST", "VCPU", "ACCESS", "DEVICE, REGION", "WAITS");
    json_array_foreach(list, i, access)
    {
        snprintf(vcpu, sizeof(vcpu), "%" PRIu64, member_number(access, "vcpu"));
        snprintf(address, sizeof(address), "%s %s 0x%" PRIx64 "/%" PRIu64,
                 member_flag(access, "write") ? "write" : "read", member_text(access, "type"),
                 member_number(access, "address"), member_number(access, "size"));
        snprintf(where, sizeof(where), "%s %s", member_text(access, "device"), member_text(access, "region"));
        printf("%-16s %4s  %-27s %-17s %10s\n", member_text(access, "domain"),
               member_flag(access, "ring") ? "ring" : vcpu, address, where,
               short_time(time, member_number(access, "waits-ns")));
        printf("    %s%s\n", member_text(access, "state"),
               member_flag(access, "reported") ? ", over the guest's limit" : "");
    }
}
