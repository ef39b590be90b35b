/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <string.h>

#include "control/inside.h"

/* Paths and names of guests may be any bytes; JSON is UTF-8. */
json_t *text_json(const char *text)
{
    json_t *value = json_string(text);

    if (!value) {
        char *copy = strdup(text);
        for (char *at = copy; at && *at; at++) {
            *at = (unsigned char)*at >= 0x80 ? '?' : *at;
        }
        value = copy ? json_string(copy) : NULL;
        free(copy);
    }
    return value;
}

static void put(struct json_inspector *json, const char *key, json_t *value)
{
    json_t *into = json->depth ? json->stack[json->depth - 1] : NULL;

    if (json->skipped) {
        json_decref(value);
    } else if (!value || !into) {
        json_decref(value);
        json->failed = true;
    } else if (json_is_array(into) ? json_array_append_new(into, value)
                                   : json_object_set_new(into, key ? key : "", value)) {
        json->failed = true;
    }
}

/* A list that is too deep is a number that counts its members; an object there is left out. */
static void begin(struct inspector *inspector, const char *key, bool list)
{
    struct json_inspector *json = (struct json_inspector *)inspector;

    if (json->skipped || json->depth >= json->deepest) {
        if (json->skipped == 1 && json->counting) {
            json->count++;
        }
        if (!json->skipped++) {
            json->counting = list;
            json->count = 0;
            json->count_key = key;
        }
        return;
    }
    json_t *value = list ? json_array() : json_object();
    if (!json->depth) {
        json->failed = json->failed || json->root || !value;
        json->root = json->root ? json->root : value;
    } else {
        put(json, key, value);
    }
    json->stack[json->depth++] = json->failed ? NULL : value; /* a failed put has freed it */
}

static void begin_object(struct inspector *inspector, const char *key)
{
    begin(inspector, key, false);
}

static void begin_list(struct inspector *inspector, const char *key)
{
    begin(inspector, key, true);
}

static void end(struct inspector *inspector)
{
    struct json_inspector *json = (struct json_inspector *)inspector;

    if (json->skipped) {
        if (--json->skipped == 0 && json->counting) {
            put(json, json->count_key, json_integer((json_int_t)json->count));
        }
    } else if (json->depth) {
        json->depth--;
    } else {
        json->failed = true;
    }
}

static void scalar(struct inspector *inspector, const char *key, json_t *value)
{
    struct json_inspector *json = (struct json_inspector *)inspector;

    if (json->skipped == 1 && json->counting) {
        json->count++;
    }
    put(json, key, value);
}

static void text(struct inspector *inspector, const char *key, const char *value)
{
    scalar(inspector, key, value ? text_json(value) : json_null());
}

static void number(struct inspector *inspector, const char *key, uint64_t value)
{
    scalar(inspector, key, json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value));
}

static void boolean(struct inspector *inspector, const char *key, bool value)
{
    scalar(inspector, key, json_boolean(value));
}

void json_inspector_init(struct json_inspector *json, unsigned deepest)
{
    *json = (struct json_inspector){
        .inspector = {.begin_object = begin_object,
                      .begin_list = begin_list,
                      .end = end,
                      .text = text,
                      .number = number,
                      .boolean = boolean},
        .deepest = deepest < FRAME_DEPTH ? deepest : FRAME_DEPTH,
    };
}

json_t *json_inspector_finish(struct json_inspector *json)
{
    if (json->failed || json->depth || json->skipped) {
        json_decref(json->root);
        return NULL;
    }
    return json->root;
}
