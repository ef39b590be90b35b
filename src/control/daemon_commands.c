/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands about the daemon as a whole, and about what it shows. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control/inside.h"

/* ---- version, list, show ---- */

/* Was the program's file replaced since we run? An upgrade does not stop a daemon that has guests. */
static bool is_replaced(void)
{
    static const char mark[] = " (deleted)";
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
    ssize_t tail = (ssize_t)sizeof(mark) - 1;

    return length > tail && !memcmp(path + length - tail, mark, (size_t)tail);
}

static json_t *version_json(const struct control *control)
{
    const char *build = control->config.build;

    return json_pack("{s:s,s:s,s:i,s:b}", "version", control->config.version ? control->config.version : "",
                     "build", build ? build : "", "pid", (int)getpid(), "replaced", is_replaced());
}

static void run_version(struct call *call, json_t *arguments)
{
    (void)arguments;
    call_return(call, version_json(call->control));
}

/* NULL with *error filled. */
static json_t *inspect(struct control *control, const char *guest, unsigned lists, struct page page,
                       struct iod_error *error)
{
    struct json_inspector json;

    json_inspector_init(&json, lists);
    json.page = page;
    int ret = daemon_inspect(control->daemon, guest, &json.inspector, error);
    json_t *value = json_inspector_finish(&json);
    if (ret) {
        json_decref(value);
        return NULL;
    }
    if (!value) {
        iod_fail(error, ENOMEM, "out of memory");
    }
    return value;
}

static void run_list(struct call *call, json_t *arguments)
{
    struct iod_error error = {0};
    json_t *guests = inspect(call->control, NULL, 1, argument_page(arguments), &error);
    json_t *value = guests ? version_json(call->control) : NULL;

    if (value && !json_object_set_new(value, "guests", guests)) {
        call_return(call, value);
    } else if (value) {
        json_decref(value);
        call_fail(call, -ENOMEM, "out of memory");
    } else {
        json_decref(guests);
        call_fail(call, guests ? -ENOMEM : -error.code, guests ? "out of memory" : error.text);
    }
}

static void run_show(struct call *call, json_t *arguments)
{
    struct iod_error error = {0};
    json_t *value = inspect(call->control, argument_text(arguments, "guest"), ALL_LISTS,
                            (struct page){0, UINT64_MAX}, &error);

    if (value) {
        call_return(call, value);
    } else {
        call_fail(call, -error.code, error.text);
    }
}

/* ---- changes ---- */

static void run_reload(struct call *call, json_t *arguments)
{
    const struct control_config *config = &call->control->config;
    struct iod_error error = {0};

    (void)arguments;
    if (!config->reload) {
        call_fail(call, -EOPNOTSUPP, "this ioreqd reads no configuration file");
        return;
    }
    int ret = config->reload(config->self, &error);
    call_done(call, ret, error.text);
}

static void run_log_level(struct call *call, json_t *arguments)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    static const enum iod_log_level values[] = {IOD_LOG_ERROR, IOD_LOG_WARNING, IOD_LOG_INFO, IOD_LOG_DEBUG};
    const char *level = argument_text(arguments, "level");

    for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (!strcmp(level, levels[i])) {
            daemon_set_log_level(call->control->daemon, values[i]);
            call_return(call, json_object());
            return;
        }
    }
    call_fail(call, -EINVAL, "log-level: argument 'level': expected error, warning, info or debug");
}

static void run_events(struct call *call, json_t *arguments)
{
    call->client->events = argument_flag(arguments, "on", true);
    call_return(call, json_object());
}

static const struct argument show_arguments[] = {{"guest", ARGUMENT_TEXT, true}, {.name = NULL}};
static const struct argument list_arguments[] = {PAGE_ARGUMENTS, {.name = NULL}};
static const struct argument level_arguments[] = {{"level", ARGUMENT_TEXT, true}, {.name = NULL}};
static const struct argument events_arguments[] = {{"on", ARGUMENT_FLAG, false}, {.name = NULL}};

const struct command daemon_commands[] = {
    {"version", "the daemon's version, build and process", NULL, run_version},
    {"list", "the daemon and its guests", list_arguments, run_list},
    {"show", "every object of a guest", show_arguments, run_show},
    {"reload", "read the configuration file again, apply the difference", NULL, run_reload},
    {"log-level", "what is logged: error, warning, info, debug", level_arguments, run_log_level},
    {"events", "send events to this client, or no more", events_arguments, run_events},
    {.name = NULL},
};
