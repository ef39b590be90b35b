/* SPDX-License-Identifier: BSD-2-Clause */
/* `top`: from two samples of the daemon's counters to rows of a table. */
#ifndef TOP_H
#define TOP_H

#include "ioreqctl.h"

enum top_sort {
    SORT_GUEST,
    SORT_ACCESSES,
    SORT_DISK,
    SORT_NET,
    SORT_LATENCY,
    SORT_STUCK,
    SORT_MAPPED,
    SORT_COUNT
};
extern const char *const top_sort_names[SORT_COUNT];

/* Rates are per second. */
struct top_rates {
    double accesses, reads, writes, request_bytes, receive_bytes, send_bytes;
};
struct top_row {
    const char *guest, *state; /* of the sample */
    char domid[SHORT_MAX];
    bool rated; /* there was a sample before */
    struct top_rates rates;
    uint64_t p50_ns, p99_ns;    /* 0: not known */
    uint64_t stuck, mapped;     /* accesses that wait now; bytes of guest memory */
    const json_t *now, *before; /* of `stats`; before may be NULL */
};
struct top {
    json_t *list, *stats, *latency;   /* the last sample */
    json_t *by_guest;                 /* "domain/domid" -> member of stats.guests */
    json_t *before;                   /* the by_guest of the one before */
    json_t *buckets, *buckets_before; /* "domain/domid" -> buckets of the guests shown */
    double time, time_before;         /* of the samples, seconds */
    struct top_row *rows;
    size_t count;
    enum top_sort sort;
};

/* Takes one more sample, and makes sorted rows of it. */
enum status top_sample(struct top *top, struct connection *connection);
/* What the latency was since the last call, for some of the rows: one call of the daemon each. */
enum status top_measure(struct top *top, struct connection *connection, size_t first, size_t count);
void top_sort_rows(struct top *top);
void top_finish(struct top *top);

/* The rates of one of the row's devices. */
struct top_rates top_device_rates(const struct top *top, const struct top_row *row, const json_t *device);
bool top_is_disk(const json_t *device);
bool top_is_net(const json_t *device);

/* Lines of at most `columns` columns, without newline. */
enum { TOP_LINE_MAX = 512 };
void top_title(const struct top *top, char line[TOP_LINE_MAX], unsigned columns);
void top_head(char line[TOP_LINE_MAX], unsigned columns);
void top_line(const struct top_row *row, char line[TOP_LINE_MAX], unsigned columns);
void top_device_line(const struct top *top, const struct top_row *row, const json_t *device,
                     char line[TOP_LINE_MAX], unsigned columns);

#endif
