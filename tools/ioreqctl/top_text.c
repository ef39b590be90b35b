/* SPDX-License-Identifier: BSD-2-Clause */
/* Rows as lines: 80 columns hold all; a wider terminal gives the rest to the names. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "top.h"

#define FIXED 69 /* columns of all but the guest's name */

static unsigned name_width(unsigned columns)
{
    unsigned width = columns > FIXED + 11 ? columns - FIXED : 11;

    return width > 40 ? 40 : width;
}

/* Five columns: "8.2us", "131us", " 67ms". */
static const char *tiny_time(char text[SHORT_MAX], uint64_t ns)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    double value = (double)ns;
    unsigned unit = 0;

    while (value >= 999.5 && unit < 3) {
        value /= 1000;
        unit++;
    }
    if (!ns) {
        snprintf(text, SHORT_MAX, "-");
    } else {
        snprintf(text, SHORT_MAX, unit && value < 9.95 ? "%.1f%s" : "%.0f%s", value, units[unit]);
    }
    return text;
}

/* Five columns: "1.23k". */
static const char *tiny_rate(char text[SHORT_MAX], double rate, bool rated)
{
    if (!rated) {
        snprintf(text, SHORT_MAX, "-");
        return text;
    }
    return short_count(text, rate);
}

static const char *tiny_bytes(char text[SHORT_MAX], uint64_t bytes)
{
    static const char *const units[] = {"", "K", "M", "G", "T"};
    double value = (double)bytes;
    unsigned unit = 0;

    while (value >= 999.5 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(text, SHORT_MAX, unit && value < 9.95 ? "%.1f%s" : "%.0f%s", value, units[unit]);
    return text;
}

static void cut(char line[TOP_LINE_MAX], unsigned columns)
{
    line[text_fit(line, columns, NULL)] = '\0';
}

/* The text in a field of `columns` columns: cut, or filled with blanks. */
static const char *field(char to[TOP_LINE_MAX], const char *text, unsigned columns)
{
    unsigned used;
    size_t length = text_fit(text, columns, &used);

    snprintf(to, TOP_LINE_MAX, "%.*s%*s", (int)length, text, (int)(columns - used), "");
    return to;
}

void top_title(const struct top *top, char line[TOP_LINE_MAX], unsigned columns)
{
    time_t seconds = time(NULL);
    size_t served = 0;
    struct tm local;
    char clock[32] = "";
    json_t *guest;
    size_t i;

    json_array_foreach(json_object_get(top->list, "guests"), i, guest)
    {
        served += member_flag(guest, "served");
    }
    if (localtime_r(&seconds, &local)) {
        strftime(clock, sizeof(clock), "%H:%M:%S", &local);
    }
    snprintf(line, TOP_LINE_MAX, "%s  ioreqd %.20s  %zu guests, %zu served, by %s%s", clock,
             member_text(top->list, "version"), top->count, served, top_sort_names[top->sort],
             member_flag(top->latency, "on") ? "" : "  latency off");
    cut(line, columns);
}

void top_head(char line[TOP_LINE_MAX], unsigned columns)
{
    snprintf(line, TOP_LINE_MAX, "%-*s %5s %-4s %5s %5s %5s %5s %5s %5s %5s %5s %3s %5s",
             (int)name_width(columns), "GUEST", "DOMID", "STAT", "ACC/s", "RD/s", "WR/s", "DSKB", "NETRX",
             "NETTX", "p50", "p99", "WT", "MAP");
    cut(line, columns);
}

static const char *short_state(const char *state)
{
    static const char *const names[][2] = {{"running", "run"},   {"waiting", "wait"},   {"attaching", "atta"},
                                           {"paused", "paus"},   {"suspended", "susp"}, {"detaching", "deta"},
                                           {"stopping", "stop"}, {"failed", "fail"},    {"limited", "lim"},
                                           {"stopped", "stop"}};

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!strcmp(state, names[i][0])) {
            return names[i][1];
        }
    }
    return state;
}

static void put_rates(char *at, size_t size, const struct top_rates *rates, bool rated)
{
    const double values[] = {rates->accesses,      rates->reads,         rates->writes,
                             rates->request_bytes, rates->receive_bytes, rates->send_bytes};
    char text[SHORT_MAX];
    int length = 0;

    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        length += snprintf(at + length, size - (size_t)length, "%s%5s", i ? " " : "",
                           tiny_rate(text, values[i], rated));
    }
}

void top_line(const struct top_row *row, char line[TOP_LINE_MAX], unsigned columns)
{
    char rates[160], p50[SHORT_MAX], p99[SHORT_MAX], mapped[SHORT_MAX], name[TOP_LINE_MAX];

    put_rates(rates, sizeof(rates), &row->rates, row->rated);
    snprintf(line, TOP_LINE_MAX, "%.200s %5s %-4.4s %s %5s %5s %3" PRIu64 " %5s",
             field(name, row->guest, name_width(columns)), row->domid, short_state(row->state), rates,
             tiny_time(p50, row->p50_ns), tiny_time(p99, row->p99_ns), row->stuck, tiny_bytes(mapped, row->mapped));
    cut(line, columns);
}

void top_device_line(const struct top *top, const struct top_row *row, const json_t *device,
                     char line[TOP_LINE_MAX], unsigned columns)
{
    struct top_rates rates = top_device_rates(top, row, device);
    char text[160], name[TOP_LINE_MAX];

    put_rates(text, sizeof(text), &rates, row->rated);
    snprintf(line, TOP_LINE_MAX, "  %.200s %s", field(name, member_text(device, "id"), name_width(columns) + 9),
             text);
    cut(line, columns);
}
