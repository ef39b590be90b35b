/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers and words as people read them, and what the terminal is like. */
#include <inttypes.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "ioreqctl.h"

unsigned terminal_columns(void)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");

    if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col >= 20) {
        return size.ws_col;
    }
    unsigned long number = columns ? strtoul(columns, NULL, 10) : 0;
    return number >= 20 && number <= 1000 ? (unsigned)number : 80;
}

bool terminal_utf8(void)
{
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

size_t text_fit(const char *text, unsigned columns, unsigned *used)
{
    size_t length = 0, left = strlen(text);
    unsigned at = 0;
    mbstate_t state = {0};
    wchar_t wide;

    while (left) {
        size_t bytes = mbrtowc(&wide, text + length, left, &state);
        bool good = bytes && bytes <= left;
        int width = good ? wcwidth(wide) : 1;
        if (!good) { /* not this locale's: the terminal shows some sign a byte */
            bytes = 1;
            state = (mbstate_t){0};
        }
        unsigned more = width > 0 ? (unsigned)width : 0;
        if (at + more > columns) {
            break;
        }
        at += more;
        length += bytes;
        left -= bytes;
    }
    if (used) {
        *used = at;
    }
    return length;
}

/* Three digits that count, and the unit. */
static const char *scaled(char text[SHORT_MAX], double value, const char *unit)
{
    snprintf(text, SHORT_MAX, value < 9.995 ? "%.2f%s" : value < 99.95 ? "%.1f%s" : "%.0f%s", value, unit);
    return text;
}

const char *short_time(char text[SHORT_MAX], uint64_t ns)
{
    if (ns < 1000) {
        snprintf(text, SHORT_MAX, "%" PRIu64 " ns", ns);
        return text;
    }
    return ns < 999500      ? scaled(text, (double)ns / 1e3, " us")
           : ns < 999500000 ? scaled(text, (double)ns / 1e6, " ms")
                            : scaled(text, (double)ns / 1e9, " s");
}

static const char *stepped(char text[SHORT_MAX], double value, double step, const char *const *units)
{
    unsigned unit = 0;

    while (value >= step * 0.9995 && units[unit + 1]) {
        value /= step;
        unit++;
    }
    if (!unit) {
        snprintf(text, SHORT_MAX, "%.0f%s", value, units[0]);
        return text;
    }
    return scaled(text, value, units[unit]);
}

const char *short_bytes(char text[SHORT_MAX], uint64_t bytes)
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", NULL};

    return stepped(text, (double)bytes, 1024, units);
}

const char *short_count(char text[SHORT_MAX], double count)
{
    static const char *const units[] = {"", "k", "M", "G", "T", NULL};

    return stepped(text, count, 1000, units);
}

const char *member_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

uint64_t member_number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

bool member_flag(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

const char *member_domid(const json_t *object, char text[SHORT_MAX])
{
    const json_t *domid = json_object_get(object, "domid");

    if (json_is_integer(domid) && json_integer_value(domid) >= 0) {
        snprintf(text, SHORT_MAX, "%d", (int)json_integer_value(domid));
    } else {
        snprintf(text, SHORT_MAX, "-");
    }
    return text;
}
