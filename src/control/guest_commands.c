/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands about a guest as a whole. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/inside.h"
#include "core/options.h"

#define STUCK_LIMIT_MAX_MS 86400000 /* a day */

/* ---- attach: what --domain and the options behind it say, as arguments ---- */

/* The index of the argument's text in choices (ends with NULL), -1: not given, or -EINVAL. */
static int choice(json_t *arguments, const char *name, const char *const *choices, struct iod_error *error)
{
    const char *text = argument_text(arguments, name);
    char known[80] = "";

    for (int i = 0; text && choices[i]; i++) {
        if (!strcmp(text, choices[i])) {
            return i;
        }
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i ? ", " : "", choices[i]);
    }
    return text ? iod_fail(error, EINVAL, "attach: %s '%.40s': expected one of %s", name, text, known) : -1;
}

static int set_chosen(struct guest_spec *spec, json_t *arguments, struct iod_error *error)
{
    static const char *const arches[] = {"x86", "arm", NULL}, *const types[] = {"hvm", "pvh", NULL};
    static const char *const ends[] = {"leave", "destroy", NULL}, *const kinds[] = {"off", "legacy", "atomic",
                                                                                    NULL};
    static const char *const policies[] = {"wait", "ones", "detach", NULL};
    int arch = choice(arguments, "arch", arches, error), type = choice(arguments, "type", types, error);
    int end = choice(arguments, "on-exit", ends, error), kind = choice(arguments, "bufioreq", kinds, error);
    int policy = choice(arguments, "stuck", policies, error);

    if (error->code) {
        return -error->code;
    }
    spec->arch = arch < 0 ? spec->arch : arch ? ARCH_ARM : ARCH_X86;
    spec->type = type < 0 ? GUEST_UNKNOWN : type ? GUEST_PVH : GUEST_HVM;
    spec->on_exit = end < 0 ? ON_EXIT_DEFAULT : end ? ON_EXIT_DESTROY : ON_EXIT_LEAVE;
    spec->bufioreq = kind < 0 ? BUF_DEFAULT : kind == 0 ? BUF_OFF : kind == 1 ? BUF_LEGACY : BUF_ATOMIC;
    spec->stuck = policy <= 0 ? STUCK_WAIT : policy == 1 ? STUCK_ONES : STUCK_DETACH;
    return 0;
}

static int set_numbers(struct guest_spec *spec, json_t *arguments, struct iod_error *error)
{
    double slots = argument_number(arguments, "slots", 0), ms = argument_number(arguments, "stuck-limit", 0);
    const char *limit = argument_text(arguments, "map-limit");

    bool limited = json_object_get(arguments, "stuck-limit") != NULL;

    if (slots > GUEST_SLOTS_MAX || (limited && (ms < 1 || ms > STUCK_LIMIT_MAX_MS))) {
        return iod_fail(error, EINVAL, "attach: expected at most %u slots, and a stuck-limit of 1 to %u ms",
                        GUEST_SLOTS_MAX, STUCK_LIMIT_MAX_MS);
    }
    spec->slots = (unsigned)slots;
    spec->stuck_ms = (uint64_t)ms;
    if (limit && (option_parse_size(limit, &spec->map_limit) || !spec->map_limit)) {
        return iod_fail(error, EINVAL,
                        "attach: map-limit '%.40s': expected bytes above 0, or with K, M, G or T", limit);
    }
    return 0;
}

static int set_devices(struct guest_spec *spec, json_t *arguments, struct iod_error *error)
{
    json_t *devices = json_object_get(arguments, "devices");
    int ret = 0;

    for (size_t i = 0; !ret && i < json_array_size(devices); i++) {
        ret = guest_spec_add_device(spec, json_string_value(json_array_get(devices, i)), error);
        if (!ret && device_spec_from(&spec->devices[spec->device_count - 1], "ioreqctl attach")) {
            ret = iod_fail(error, ENOMEM, "out of memory");
        }
    }
    return ret;
}

/* What only the command line would see when it is taken apart. */
static int check_spec(const struct guest_spec *spec, struct iod_error *error)
{
    uint64_t domid;

    if (strlen(spec->domain) >= 128) {
        return iod_fail(error, EINVAL, "attach: guest '%.40s...': expected a name of at most 127 bytes",
                        spec->domain);
    }
    if (!option_parse_number(spec->domain, &domid) && domid >= 0x7ff0) {
        return iod_fail(error, EINVAL, "attach: guest %s: a domid is less than 32752", spec->domain);
    }
    if (!spec->device_count && !spec->slots) {
        return iod_fail(error, EINVAL, "attach: guest %s: expected at least one device", spec->domain);
    }
    if (spec->arch == ARCH_ARM && (spec->type != GUEST_UNKNOWN || spec->bufioreq > BUF_OFF || spec->slots)) {
        return iod_fail(error, EINVAL, "attach: guest %s: type, bufioreq and slots are of x86 guests only",
                        spec->domain);
    }
    if (spec->slots && spec->type == GUEST_HVM) {
        return iod_fail(
            error, EINVAL,
            "attach: guest %s: slots are of PVH guests only (hvmloader misplaces what is behind a bridge)",
            spec->domain);
    }
    return 0;
}

static int make_spec(struct guest_spec *spec, json_t *arguments, struct iod_error *error)
{
    guest_spec_init(spec);
    spec->wait = argument_flag(arguments, "wait", false);
    spec->alone = true; /* its answer, and whoever asks about the guest later, is to mean this one */
    spec->beside = argument_flag(arguments, "beside", false);
    spec->unlimited = argument_flag(arguments, "unlimited", false);
    spec->domain = strdup(argument_text(arguments, "guest"));
    spec->origin = strdup("ioreqctl attach");
    if (!spec->domain || !spec->origin) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    int ret = set_chosen(spec, arguments, error);
    ret = ret ? ret : set_numbers(spec, arguments, error);
    ret = ret ? ret : set_devices(spec, arguments, error);
    return ret ? ret : check_spec(spec, error);
}

/* Answers when the guest is served, or has failed; at once when its domain need not exist. */
static void run_attach(struct call *call, json_t *arguments)
{
    struct iod_error error = {0};
    struct guest_spec spec;
    bool later = argument_flag(arguments, "wait", false);
    int ret = make_spec(&spec, arguments, &error);

    if (ret || later) {
        ret = ret ? ret : daemon_add_guest(call->control->daemon, &spec, &error);
        call_done(call, ret, error.text);
    } else if (wait_listen(call, spec.domain, -1)) {
        ret = daemon_add_guest(call->control->daemon, &spec, &error);
        wait_go_on(call, ret, error.text);
    }
    guest_spec_finish(&spec);
}

/* ---- the others ---- */

static void run_detach(struct call *call, json_t *arguments)
{
    struct iod_error error = {0};

    if (daemon_remove_guest(call->control->daemon, argument_text(arguments, "guest"), call_done, call,
                            &error)) {
        call_fail(call, -error.code, error.text);
    }
}

static void run_pause(struct call *call, json_t *arguments)
{
    struct iod_error error = {0};

    if (daemon_pause_guest(call->control->daemon, argument_text(arguments, "guest"), call_done, call,
                           &error)) {
        call_fail(call, -error.code, error.text);
    }
}

static void run_resume(struct call *call, json_t *arguments)
{
    struct iod_error error = {0};
    int ret = daemon_resume_guest(call->control->daemon, argument_text(arguments, "guest"), &error);

    call_done(call, ret, error.text);
}

static void run_wait(struct call *call, json_t *arguments)
{
    wait_begin(call, argument_text(arguments, "guest"), argument_number(arguments, "timeout", -1));
}

static const struct argument attach_arguments[] = {
    {"guest", ARGUMENT_TEXT, true},          {"devices", ARGUMENT_TEXTS, false},
    {"wait", ARGUMENT_FLAG, false},          {"beside", ARGUMENT_FLAG, false},
    {"unlimited", ARGUMENT_FLAG, false},     {"arch", ARGUMENT_TEXT, false},
    {"type", ARGUMENT_TEXT, false},          {"on-exit", ARGUMENT_TEXT, false},
    {"bufioreq", ARGUMENT_TEXT, false},      {"stuck", ARGUMENT_TEXT, false},
    {"map-limit", ARGUMENT_TEXT, false},     {"slots", ARGUMENT_COUNT, false},
    {"stuck-limit", ARGUMENT_COUNT, false}, {.name = NULL},
};
static const struct argument guest_arguments[] = {{"guest", ARGUMENT_TEXT, true}, {.name = NULL}};
static const struct argument wait_arguments[] = {
    {"guest", ARGUMENT_TEXT, true}, {"timeout", ARGUMENT_NUMBER, false}, {.name = NULL}};

const struct command guest_commands[] = {
    {"attach", "take a guest on", attach_arguments, run_attach},
    {"detach", "let a guest go, and forget it", guest_arguments, run_detach},
    {"wait", "answers when all devices of a guest are served", wait_arguments, run_wait},
    {"pause", "stop a guest's devices, with their I/O finished", guest_arguments, run_pause},
    {"resume", "start them again", guest_arguments, run_resume},
    {.name = NULL},
};
