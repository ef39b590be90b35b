/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands that ask for what was counted and measured, and for who waits. */
#include <errno.h>
#include <string.h>

#include "control/inside.h"
#include "core/latency.h"
#include "core/stats.h"
#include "core/stuck.h"

/* More is of no use for a table of guests: 1,000 of them have 100,000 regions and buckets. */
#define STATS_BRIEF 2u   /* lists in each other: guests, devices */
#define LATENCY_BRIEF 1u /* guests */

typedef int list_function(struct daemon *daemon, const char *domain, const char *key,
                          struct inspector *inspector, struct iod_error *error);

/* Ends the answer, begun with an object, by a list. */
static void return_list(struct call *call, struct json_inspector *json, json_t *arguments, const char *key,
                        list_function *list)
{
    struct iod_error error = {0};
    json->page = argument_page(arguments);
    int ret = list(call->control->daemon, argument_text(arguments, "guest"), key, &json->inspector, &error);

    if (!ret) {
        json->inspector.end(&json->inspector);
    }
    json_t *value = json_inspector_finish(json);
    if (ret) {
        call_fail(call, ret, error.text);
    } else {
        call_return(call, value);
    }
}

static void run_stats(struct call *call, json_t *arguments)
{
    struct json_inspector json;

    json_inspector_init(&json, argument_flag(arguments, "brief", false) ? STATS_BRIEF : ALL_LISTS);
    json.inspector.begin_object(&json.inspector, NULL);
    json.inspector.begin_object(&json.inspector, "daemon");
    stats_daemon(call->control->daemon, &json.inspector);
    json.inspector.end(&json.inspector);
    return_list(call, &json, arguments, "guests", stats_list);
}

static void run_stuck(struct call *call, json_t *arguments)
{
    struct json_inspector json;

    json_inspector_init(&json, ALL_LISTS);
    json.inspector.begin_object(&json.inspector, NULL);
    return_list(call, &json, arguments, "accesses", stuck_list);
}

static void show_latency(struct call *call, json_t *arguments)
{
    struct json_inspector json;

    json_inspector_init(&json, argument_flag(arguments, "brief", false) ? LATENCY_BRIEF : ALL_LISTS);
    json.inspector.begin_object(&json.inspector, NULL);
    json.inspector.boolean(&json.inspector, "on", latency_on(call->control->daemon));
    return_list(call, &json, arguments, "guests", latency_list);
}

static void run_latency(struct call *call, json_t *arguments)
{
    const char *action = argument_text(arguments, "action"), *guest = argument_text(arguments, "guest");
    struct iod_error error = {0};

    if (!action || !strcmp(action, "show")) {
        show_latency(call, arguments);
    } else if (!strcmp(action, "reset")) {
        int ret = latency_reset(call->control->daemon, guest, &error);
        call_done(call, ret, error.text);
    } else if (!strcmp(action, "on") || !strcmp(action, "off")) {
        if (guest) {
            call_fail(call, -EINVAL, "latency: on and off are for all guests: expected no argument 'guest'");
        } else {
            latency_set(call->control->daemon, !strcmp(action, "on"));
            call_return(call, json_object());
        }
    } else {
        call_fail(call, -EINVAL, "latency: argument 'action': expected show, on, off or reset");
    }
}

static const struct argument stuck_arguments[] = {
    {"guest", ARGUMENT_TEXT, false}, PAGE_ARGUMENTS, {.name = NULL}};
static const struct argument stats_arguments[] = {
    {"guest", ARGUMENT_TEXT, false}, {"brief", ARGUMENT_FLAG, false}, PAGE_ARGUMENTS, {.name = NULL}};
static const struct argument latency_arguments[] = {{"guest", ARGUMENT_TEXT, false},
                                                    {"action", ARGUMENT_TEXT, false},
                                                    {"brief", ARGUMENT_FLAG, false},
                                                    PAGE_ARGUMENTS,
                                                    {.name = NULL}};

const struct command watch_commands[] = {
    {"stats", "counters of guests, servers, devices", stats_arguments, run_stats},
    {"latency", "how long vCPUs wait: show, on, off, reset", latency_arguments, run_latency},
    {"stuck", "accesses that wait now", stuck_arguments, run_stuck},
    {.name = NULL},
};
