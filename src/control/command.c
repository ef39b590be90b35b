/* SPDX-License-Identifier: BSD-2-Clause */
/* From the bytes of one command to its function, and from its result to an answer. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/inside.h"

#define TEXT_MAX 4096u /* bytes of one text of the arguments */
#define TEXTS_MAX 256u /* members of a list of them */

/* ---- answers ---- */

/* Frees the call; what is left to say goes to its client, if that is still there. */
static void answer(struct call *call, const char *key, json_t *value)
{
    struct client *client = call->client;
    json_t *message = value ? json_pack("{s:o}", key, value) : NULL;

    if (message && call->id) {
        json_object_set(message, "id", call->id);
    }
    list_remove(&call->link);
    json_decref(call->id);
    free(call);
    if (client) {
        client->call = NULL;
        client_send(client, message, false);
    }
    json_decref(message);
}

void call_return(struct call *call, json_t *value)
{
    if (!value) {
        call_fail(call, -ENOMEM, "out of memory");
        return;
    }
    answer(call, "return", value);
}

static json_t *make_error(const char *class, const char *why)
{
    return json_pack("{s:s,s:o}", "class", class, "desc", text_json(why));
}

void call_fail(struct call *call, int code, const char *why)
{
    answer(call, "error", make_error(code == -ENOENT ? "DeviceNotFound" : "GenericError", why));
}

void call_done(void *self, int error, const char *why)
{
    struct call *call = self;

    if (error) {
        call_fail(call, error, why && why[0] ? why : strerror(-error));
    } else {
        call_return(call, json_object());
    }
}

/* ---- arguments ---- */

const char *argument_text(json_t *arguments, const char *name)
{
    return json_string_value(json_object_get(arguments, name));
}

bool argument_flag(json_t *arguments, const char *name, bool fallback)
{
    json_t *value = json_object_get(arguments, name);

    return value ? json_is_true(value) : fallback;
}

double argument_number(json_t *arguments, const char *name, double fallback)
{
    json_t *value = json_object_get(arguments, name);

    return value ? json_number_value(value) : fallback;
}

struct page argument_page(json_t *arguments)
{
    double first = argument_number(arguments, "first", 0), count = argument_number(arguments, "count", 1e9);

    return (struct page){first < 1e9 ? (uint64_t)first : 1000000000u,
                         count < 1e9 ? (uint64_t)count : 1000000000u};
}

static bool is_text(const json_t *value)
{
    return json_is_string(value) && json_string_length(value) > 0 && json_string_length(value) < TEXT_MAX;
}

static bool is_texts(const json_t *value)
{
    bool good = json_is_array(value) && json_array_size(value) <= TEXTS_MAX;

    for (size_t i = 0; good && i < json_array_size(value); i++) {
        good = is_text(json_array_get(value, i));
    }
    return good;
}

/* What is wrong with it, or NULL. */
static const char *check_type(const json_t *value, enum argument_type type)
{
    switch (type) {
    case ARGUMENT_TEXT:
        return is_text(value) ? NULL : "a string of 1 to 4095 bytes";
    case ARGUMENT_FLAG:
        return json_is_boolean(value) ? NULL : "true or false";
    case ARGUMENT_NUMBER:
        return json_is_number(value) && json_number_value(value) >= 0 ? NULL : "a number, 0 or more";
    case ARGUMENT_COUNT:
        return json_is_integer(value) && json_integer_value(value) >= 0 ? NULL : "a whole number, 0 or more";
    default:
        return is_texts(value) ? NULL : "a list of at most 256 strings";
    }
}

static const struct argument *find_argument(const struct command *command, const char *name)
{
    for (const struct argument *argument = command->arguments; argument && argument->name; argument++) {
        if (strcmp(argument->name, name) == 0) {
            return argument;
        }
    }
    return NULL;
}

static int check_arguments(const struct command *command, json_t *arguments, struct iod_error *error)
{
    const char *name;
    json_t *value;

    json_object_foreach(arguments, name, value)
    {
        const struct argument *argument = find_argument(command, name);
        if (!argument) {
            return iod_fail(error, EINVAL, "%s: it has no argument '%.40s'", command->name, name);
        }
        const char *expected = check_type(value, argument->type);
        if (expected) {
            return iod_fail(error, EINVAL, "%s: argument '%s': expected %s", command->name, name, expected);
        }
    }
    for (const struct argument *argument = command->arguments; argument && argument->name; argument++) {
        if (argument->required && !json_object_get(arguments, argument->name)) {
            return iod_fail(error, EINVAL, "%s: expected an argument '%s'", command->name, argument->name);
        }
    }
    return 0;
}

/* ---- the commands ---- */

static void run_capabilities(struct call *call, json_t *arguments)
{
    (void)arguments;
    call_return(call, json_object());
}

static void run_commands(struct call *call, json_t *arguments);

/* QMP's clients send qmp_capabilities first, with or without a list of them; nobody has to. */
static const struct command own_commands[] = {
    {"qmp_capabilities", "for clients of QMP; does nothing", NULL, run_capabilities},
    {"commands", "this list", NULL, run_commands},
    {.name = NULL},
};

static const struct command *const tables[] = {own_commands,    daemon_commands, guest_commands,
                                               device_commands, watch_commands,  trace_commands};
#define TABLES (sizeof(tables) / sizeof(tables[0]))

static const struct command *find_command(const char *name)
{
    for (unsigned i = 0; i < TABLES; i++) {
        for (const struct command *command = tables[i]; command->name; command++) {
            if (strcmp(command->name, name) == 0) {
                return command;
            }
        }
    }
    return NULL;
}

static json_t *describe(const struct command *command)
{
    static const char *const types[] = {"string", "boolean", "number", "integer", "strings"};
    json_t *arguments = json_array();

    for (const struct argument *argument = command->arguments; argument && argument->name; argument++) {
        json_array_append_new(arguments, json_pack("{s:s,s:s,s:b}", "name", argument->name, "type",
                                                   types[argument->type], "required", argument->required));
    }
    return json_pack("{s:s,s:s,s:o}", "name", command->name, "summary", command->summary, "arguments",
                     arguments);
}

static void run_commands(struct call *call, json_t *arguments)
{
    json_t *all = json_array();

    (void)arguments;
    for (unsigned i = 0; i < TABLES; i++) {
        for (const struct command *command = tables[i]; command->name; command++) {
            json_array_append_new(all, describe(command));
        }
    }
    call_return(call, all);
}

/* ---- one command ---- */

static void begin(struct call *call, json_t *message)
{
    json_t *name = json_object_get(message, "execute"), *arguments = json_object_get(message, "arguments");
    const struct command *command = json_is_string(name) ? find_command(json_string_value(name)) : NULL;
    struct iod_error error = {0};
    char why[120];

    if (!command) {
        snprintf(why, sizeof(why), "there is no command '%.60s'",
                 name && json_is_string(name) ? json_string_value(name) : "");
        answer(call, "error",
               name ? make_error("CommandNotFound", why)
                    : make_error("GenericError",
                                 "expected {\"execute\": COMMAND, \"arguments\": {...}, \"id\": ...}"));
    } else if (arguments && !json_is_object(arguments)) {
        call_fail(call, -EINVAL, "arguments: expected an object");
    } else if (command->run != run_capabilities && check_arguments(command, arguments, &error)) {
        call_fail(call, -error.code, error.text);
    } else {
        command->run(call, arguments);
    }
}

void command_run(struct client *client, const char *bytes, size_t length)
{
    json_error_t fault;
    json_t *message = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &fault);
    struct call *call;
    char why[JSON_ERROR_TEXT_LENGTH + 40];

    if (!message) {
        snprintf(why, sizeof(why), "not JSON: %s, at byte %d", fault.text, fault.position);
        client_refuse(client, "GenericError", why);
        return;
    }
    call = calloc(1, sizeof(*call));
    if (!call) {
        client_refuse(client, "GenericError", "out of memory");
    } else {
        *call = (struct call){.control = client->control, .client = client};
        call->id = json_incref(json_object_get(message, "id"));
        list_add_tail(&client->control->calls, &call->link);
        client->call = call;
        begin(call, message);
    }
    json_decref(message);
}
