/* SPDX-License-Identifier: BSD-2-Clause */
/* Which commands QEMU must not get, and what is said instead. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "launch/qmp_filter.h"

struct refused {
    const char *command, *why;
};

static const struct refused refused[] = {
    {"xen-save-devices-state", "refused by ioreqd-dm: the guest has devices of ioreqd, and their state can't "
                               "be saved or migrated yet; shut the guest down instead"},
};

/* A line for QMP, or NULL when out of memory. */
static char *answer(const char *description, const json_t *id)
{
    json_t *reply = json_pack("{s:{s:s,s:s}}", "error", "class", "GenericError", "desc", description);
    char *text = NULL, *line = NULL;

    if (reply && (!id || !json_object_set(reply, "id", (json_t *)(uintptr_t)id))) {
        text = json_dumps(reply, JSON_COMPACT);
    }
    json_decref(reply);
    if (text && asprintf(&line, "%s\r\n", text) < 0) {
        line = NULL;
    }
    free(text);
    return line;
}

static const struct refused *find_refused(const json_t *command)
{
    static const char *const keys[] = {"execute", "exec-oob"};

    for (unsigned k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
        const char *name = json_string_value(json_object_get(command, keys[k]));
        for (unsigned i = 0; name && i < sizeof(refused) / sizeof(refused[0]); i++) {
            if (!strcmp(name, refused[i].command)) {
                return &refused[i];
            }
        }
    }
    return NULL;
}

/* QEMU also takes numbers from 2^63 up, which the library knows as reals only. */
static json_t *parse(const char *text, size_t length, json_error_t *error)
{
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES, error);

    return value ? value : json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, error);
}

int qmp_filter_judge(const char *text, size_t length, char **reply)
{
    char description[512];
    json_error_t error;
    json_t *command = parse(text, length, &error);
    const json_t *id = json_object_get(command, "id");
    const struct refused *found = find_refused(command);

    *reply = NULL;
    if (!command) {
        snprintf(description, sizeof(description), "JSON parse error, %s (ioreqd-dm)", error.text);
    } else if (!json_is_object(command)) {
        snprintf(description, sizeof(description), "QMP input must be a JSON object (ioreqd-dm)");
    } else if (found) {
        snprintf(description, sizeof(description), "%s: %s", found->command, found->why);
    } else {
        json_decref(command);
        return 0;
    }
    *reply = answer(description, id);
    json_decref(command);
    return *reply ? 1 : -1;
}

int qmp_filter_too_long(char **reply)
{
    char description[80];

    snprintf(description, sizeof(description), "the command is longer than %u bytes (ioreqd-dm)",
             QMP_COMMAND_MAX);
    *reply = answer(description, NULL);
    return *reply ? 1 : -1;
}
