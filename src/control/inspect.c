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

static void skip(struct json_inspector *json, bool counting)
{
    json->skipped = 1;
    json->counting = counting;
    json->count = 0;
}

/* A member of the outermost list: is it wanted? */
static bool is_of_page(struct json_inspector *json)
{
    if (json->lists != 1 || !json_is_array(json->stack[json->depth - 1])) {
        return true;
    }
    uint64_t at = json->member++;
    return at >= json->page.first && at - json->page.first < json->page.count;
}

/* Of a list that is not wanted only the number of its members is. */
static void begin(struct inspector *inspector, const char *key, bool list)
{
    struct json_inspector *json = (struct json_inspector *)inspector;

    if (json->skipped) {
        json->count += json->skipped++ == 1;
        return;
    }
    if (list && json->lists == json->lists_wanted) {
        skip(json, true);
        json->count_key = key;
        return;
    }
    if (!is_of_page(json) || json->depth >= FRAME_DEPTH) {
        json->failed = json->failed || json->depth >= FRAME_DEPTH;
        skip(json, false);
        return;
    }
    json_t *value = list ? json_array() : json_object();
    if (!json->depth) {
        json->failed = json->failed || json->root || !value;
        json->root = json->root ? json->root : value;
    } else {
        put(json, key, value);
    }
    json->lists += list;
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
        json->lists -= json_is_array(json->stack[json->depth]);
    } else {
        json->failed = true;
    }
}

static void scalar(struct inspector *inspector, const char *key, json_t *value)
{
    struct json_inspector *json = (struct json_inspector *)inspector;

    json->count += json->skipped == 1;
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

void json_inspector_init(struct json_inspector *json, unsigned lists)
{
    *json = (struct json_inspector){
        .inspector = {.begin_object = begin_object,
                      .begin_list = begin_list,
                      .end = end,
                      .text = text,
                      .number = number,
                      .boolean = boolean},
        .lists_wanted = lists,
        .page = {0, UINT64_MAX},
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
