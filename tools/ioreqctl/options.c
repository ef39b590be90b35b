/* SPDX-License-Identifier: BSD-2-Clause */
/* The options of all commands, and which command takes which. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "ioreqctl.h"

enum {
    FLAG_JSON = 256,
    FLAG_SOCKET,
    FLAG_FORCE,
    FLAG_TIMEOUT,
    FLAG_PROMETHEUS,
    FLAG_DEVICE,
    FLAG_WAIT,
    FLAG_BESIDE,
    FLAG_UNLIMITED,
    FLAG_ARCH,
    FLAG_TYPE,
    FLAG_ON_EXIT,
    FLAG_BUFIOREQ,
    FLAG_MAP_LIMIT,
    FLAG_STUCK,
    FLAG_STUCK_LIMIT,
    FLAG_SLOTS,
    FLAG_OUTPUT,
    FLAG_PCAPNG,
    FLAG_SNAP,
    FLAG_PROBE,
    FLAG_SORT,
    FLAG_HELP,
    FLAG_VERSION,
};

/* `of`: the commands that take it, with blanks around; NULL: all. */
static const struct {
    struct option option;
    const char *of;
} known[] = {
    {{"json", no_argument, NULL, FLAG_JSON}, NULL},
    {{"socket", required_argument, NULL, FLAG_SOCKET}, NULL},
    {{"help", no_argument, NULL, FLAG_HELP}, NULL},
    {{"version", no_argument, NULL, FLAG_VERSION}, NULL},
    {{"force", no_argument, NULL, FLAG_FORCE}, " remove "},
    {{"timeout", required_argument, NULL, FLAG_TIMEOUT}, " wait "},
    {{"prometheus", no_argument, NULL, FLAG_PROMETHEUS}, " stats "},
    {{"device", required_argument, NULL, FLAG_DEVICE}, " attach trace "},
    {{"wait", no_argument, NULL, FLAG_WAIT}, " attach "},
    {{"beside", no_argument, NULL, FLAG_BESIDE}, " attach "},
    {{"unlimited", no_argument, NULL, FLAG_UNLIMITED}, " attach "},
    {{"arch", required_argument, NULL, FLAG_ARCH}, " attach "},
    {{"type", required_argument, NULL, FLAG_TYPE}, " attach "},
    {{"on-exit", required_argument, NULL, FLAG_ON_EXIT}, " attach "},
    {{"bufioreq", required_argument, NULL, FLAG_BUFIOREQ}, " attach "},
    {{"map-limit", required_argument, NULL, FLAG_MAP_LIMIT}, " attach "},
    {{"stuck", required_argument, NULL, FLAG_STUCK}, " attach "},
    {{"stuck-limit", required_argument, NULL, FLAG_STUCK_LIMIT}, " attach "},
    {{"slots", required_argument, NULL, FLAG_SLOTS}, " attach "},
    {{"output", required_argument, NULL, FLAG_OUTPUT}, " trace "},
    {{"pcapng", required_argument, NULL, FLAG_PCAPNG}, " trace "},
    {{"snap", required_argument, NULL, FLAG_SNAP}, " trace "},
    {{"probe", required_argument, NULL, FLAG_PROBE}, " trace "},
    {{"sort", required_argument, NULL, FLAG_SORT}, " top "},
    {{"delay", required_argument, NULL, 'd'}, " top "},
    {{"batch", no_argument, NULL, 'b'}, " top "},
    {{"iterations", required_argument, NULL, 'i'}, " top "},
};
#define KNOWN (sizeof(known) / sizeof(known[0]))

static int keep(const char ***list, unsigned *count, const char *text)
{
    const char **larger = reallocarray(*list, *count + 1, sizeof(*larger));

    if (!larger) {
        return say_failed("out of memory");
    }
    *list = larger;
    larger[(*count)++] = text;
    return 0;
}

static int set_seconds(double *seconds, const char *name, const char *text, double min)
{
    char *end;

    *seconds = strtod(text, &end);
    return *end || !*text || !(*seconds >= min && *seconds <= 31536000)
               ? (int)say_usage("--%s %.40s: expected seconds, at least %g", name, text, min)
               : 0;
}

static int set_unsigned(unsigned *number, const char *name, const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    *number = (unsigned)value;
    return *end || !*text || text[0] == '-' || !value || value > 1000000000
               ? (int)say_usage("--%s %.40s: expected a number from 1", name, text)
               : 0;
}

static int set_switch(struct options *options, int flag)
{
    switch (flag) {
    case FLAG_JSON:
        options->json = true;
        break;
    case FLAG_FORCE:
        options->force = true;
        break;
    case FLAG_PROMETHEUS:
        options->prometheus = true;
        break;
    case FLAG_WAIT:
        options->wait = true;
        break;
    case FLAG_BESIDE:
        options->beside = true;
        break;
    case FLAG_UNLIMITED:
        options->unlimited = true;
        break;
    case 'b':
        options->batch = true;
        break;
    case FLAG_HELP:
        options->help = true;
        break;
    case FLAG_VERSION:
        options->version = true;
        break;
    default:
        return -1;
    }
    return 0;
}

static const char **text_of(struct options *options, int flag)
{
    switch (flag) {
    case FLAG_SOCKET:
        return &options->socket;
    case FLAG_ARCH:
        return &options->arch;
    case FLAG_TYPE:
        return &options->type;
    case FLAG_ON_EXIT:
        return &options->on_exit;
    case FLAG_BUFIOREQ:
        return &options->bufioreq;
    case FLAG_MAP_LIMIT:
        return &options->map_limit;
    case FLAG_STUCK:
        return &options->stuck;
    case FLAG_STUCK_LIMIT:
        return &options->stuck_limit;
    case FLAG_SLOTS:
        return &options->slots;
    case FLAG_OUTPUT:
        return &options->output;
    case FLAG_PCAPNG:
        return &options->pcapng;
    case FLAG_SORT:
        return &options->sort;
    default:
        return NULL;
    }
}

static int set_option(struct options *options, int flag, const char *text)
{
    const char **to = text_of(options, flag);

    if (to) {
        *to = text;
        return 0;
    }
    switch (flag) {
    case FLAG_TIMEOUT:
        return set_seconds(&options->timeout, "timeout", text, 0);
    case 'd':
        return set_seconds(&options->interval, "delay", text, 0.1);
    case 'i':
        return set_unsigned(&options->iterations, "iterations", text);
    case FLAG_SNAP:
        return set_unsigned(&options->snap, "snap", text);
    case FLAG_DEVICE:
        options->device = text;
        return keep(&options->devices, &options->device_count, text);
    case FLAG_PROBE:
        return keep(&options->probes, &options->probe_count, text);
    default:
        return set_switch(options, flag);
    }
}

int options_parse(struct options *options, int argc, char **argv, uint64_t *given)
{
    struct option list[KNOWN + 1] = {{0}};
    int flag, which, ret = 0;

    for (unsigned i = 0; i < KNOWN; i++) {
        list[i] = known[i].option;
    }
    *given = 0;
    while (!ret && (which = -1, flag = getopt_long(argc, argv, ":d:bi:", list, &which)) != -1) {
        for (unsigned i = 0; which < 0 && i < KNOWN; i++) {
            which = known[i].option.val == flag ? (int)i : -1;
        }
        if (flag == '?' || flag == ':') {
            return say_usage(flag == ':' ? "%.60s: expected an argument"
                                         : "%.60s: not an option; see ioreqctl --help",
                             argv[optind - 1]);
        }
        *given |= UINT64_C(1) << which;
        ret = set_option(options, flag, optarg);
    }
    return ret;
}

enum status options_check(const char *command, uint64_t given)
{
    char name[32];

    snprintf(name, sizeof(name), " %s ", command);
    for (unsigned i = 0; i < KNOWN; i++) {
        if ((given & UINT64_C(1) << i) && known[i].of && !strstr(known[i].of, name)) {
            return say_usage("%s: it has no option --%s", command, known[i].option.name);
        }
    }
    return STATUS_OK;
}

enum status options_check_texts(const struct options *options)
{
    const char *fixed[] = {options->arch,      options->type,  options->on_exit,     options->bufioreq,
                           options->map_limit, options->stuck, options->stuck_limit, options->slots};
    const struct {
        const char *const *texts;
        unsigned count;
    } lists[] = {{fixed, sizeof(fixed) / sizeof(fixed[0])},
                 {(const char *const *)options->words, (unsigned)options->count},
                 {options->devices, options->device_count},
                 {options->probes, options->probe_count}};

    for (unsigned i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        for (unsigned k = 0; k < lists[i].count; k++) {
            const char *text = lists[i].texts[k];
            json_t *value = text ? json_string(text) : NULL;
            json_decref(value);
            if (text && !value) {
                return say_usage("an argument is no UTF-8: %.60s", text);
            }
        }
    }
    return STATUS_OK;
}
