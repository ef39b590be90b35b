/* SPDX-License-Identifier: BSD-2-Clause */
/* Commands about one device. */
#include <errno.h>

#include "control/inside.h"

static void run_add(struct call *call, json_t *arguments)
{
    struct iod_error error = {0};
    struct device_spec spec;
    int ret = device_spec_parse(&spec, argument_text(arguments, "device"), &error);

    if (!ret && device_spec_from(&spec, "ioreqctl add")) {
        ret = iod_fail(&error, ENOMEM, "out of memory");
    }
    if (!ret) {
        ret = daemon_add_device(call->control->daemon, argument_text(arguments, "guest"), &spec, call_done,
                                call, &error);
    }
    device_spec_finish(&spec);
    if (ret) {
        call_fail(call, ret, error.text);
    }
}

static void run_remove(struct call *call, json_t *arguments)
{
    struct iod_error error = {0};
    enum removal how = argument_flag(arguments, "force", false) ? REMOVAL_FORCE : REMOVAL_ASK;

    if (daemon_remove_device(call->control->daemon, argument_text(arguments, "guest"),
                             argument_text(arguments, "device"), how, call_done, call, &error)) {
        call_fail(call, -error.code, error.text);
    }
}

static void run_resize(struct call *call, json_t *arguments)
{
    struct iod_error error = {0};
    int ret = daemon_resize_device(call->control->daemon, argument_text(arguments, "guest"),
                                   argument_text(arguments, "device"), &error);

    call_done(call, ret, error.text);
}

static const struct argument add_arguments[] = {
    {"guest", ARGUMENT_TEXT, true}, {"device", ARGUMENT_TEXT, true}, {.name = NULL}};
static const struct argument remove_arguments[] = {{"guest", ARGUMENT_TEXT, true},
                                                   {"device", ARGUMENT_TEXT, true},
                                                   {"force", ARGUMENT_FLAG, false},
                                                   {.name = NULL}};

const struct command device_commands[] = {
    {"add", "plug a device, given as for --device", add_arguments, run_add},
    {"remove", "unplug a device, given by its id", remove_arguments, run_remove},
    {"resize", "look at the size of a disk's file again", add_arguments, run_resize},
    {.name = NULL},
};
