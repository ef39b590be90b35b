/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `show`: any tree of objects, for the width of the terminal. It knows no object by name: members that say
 * what an object is make its headline, the other numbers and words follow it, objects and lists hang below.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ioreqctl.h"

#define DEPTH_MAX 16

struct tree {
    unsigned columns;
    bool utf8;
    bool last[DEPTH_MAX]; /* is the branch at this depth its parent's last? */
    unsigned depth;
    unsigned at;     /* columns written of this line */
    unsigned indent; /* of lines that go on */
};

/* ---- one member ---- */

static bool is_one_of(const char *key, const char *const *names)
{
    while (*names && strcmp(*names, key)) {
        names++;
    }
    return *names;
}

static bool ends_with(const char *key, const char *tail)
{
    size_t length = strlen(key), part = strlen(tail);

    return length >= part && !strcmp(key + length - part, tail);
}

static bool is_headline(const char *key)
{
    static const char *const names[] = {"id",   "index", "addr", "domain", "name",
                                        "kind", "class", "type", "state",  NULL};

    return is_one_of(key, names);
}

static bool is_hex(const char *key)
{
    static const char *const names[] = {"base",   "start",    "end",    "address", "vendor",
                                        "device", "features", "status", NULL};

    return is_one_of(key, names);
}

static bool is_bytes(const char *key)
{
    static const char *const names[] = {"bytes", "length", "capacity", "mapped", "limit", NULL};

    return is_one_of(key, names);
}

/* Flags whose absence is worth a word; of the others only their presence is. */
static bool is_missed(const char *key)
{
    static const char *const names[] = {"served", "open", "connected", "ready", "driver-ok", NULL};

    return is_one_of(key, names);
}

static bool is_nested(const json_t *value)
{
    return json_is_object(value) || json_is_array(value);
}

/* "waits-ns" 1200000 is "waits 1.20 ms". */
static void format_number(char *text, size_t size, const char *key, uint64_t number)
{
    char value[SHORT_MAX];

    if (is_hex(key)) {
        snprintf(text, size, "%s 0x%" PRIx64, key, number);
    } else if (ends_with(key, "-ns")) {
        snprintf(text, size, "%.*s %s", (int)strlen(key) - 3, key, short_time(value, number));
    } else if (ends_with(key, "-bytes")) {
        snprintf(text, size, "%.*s %s", (int)strlen(key) - 6, key, short_bytes(value, number));
    } else if (is_bytes(key)) {
        snprintf(text, size, "%s %s", key, short_bytes(value, number));
    } else {
        snprintf(text, size, "%s %" PRIu64, key, number);
    }
}

static void format_member(char *text, size_t size, const char *key, const json_t *value)
{
    if (json_is_integer(value)) {
        format_number(text, size, key, (uint64_t)json_integer_value(value));
    } else if (json_is_string(value)) {
        snprintf(text, size, "%s %s", key, json_string_value(value));
    } else if (json_is_boolean(value)) {
        snprintf(text, size, "%s%s", json_is_true(value) ? "" : "not ", key);
    } else {
        snprintf(text, size, "%s -", key);
    }
}

/* ---- lines ---- */

/* The branches to the left; `mark` at the line that begins an object. */
static void put_branches(struct tree *tree, bool mark)
{
    for (unsigned i = 0; i < tree->depth; i++) {
        bool here = mark && i + 1 == tree->depth;
        const char *text = here            ? tree->last[i] ? tree->utf8 ? "└─ " : "`- "
                                             : tree->utf8  ? "├─ "
                                                           : "|- "
                           : tree->last[i] ? "   "
                           : tree->utf8    ? "│  "
                                           : "|  ";
        fputs(text, stdout);
    }
    tree->at = 3 * tree->depth;
}

/* Bytes that go on a character take no column. */
static unsigned width_of(const char *text)
{
    unsigned width = 0;

    for (; *text; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static void put_word(struct tree *tree, const char *word, const char *separator)
{
    unsigned width = width_of(word), gap = (unsigned)strlen(separator);

    if (tree->at + gap + width + 1 > tree->columns && tree->at > tree->indent) {
        printf("%.*s\n", gap == 2, separator); /* without its blank */
        put_branches(tree, false);
        printf("%*s", (int)(tree->indent - tree->at), "");
        tree->at = tree->indent;
        gap = 0;
        separator = "";
    }
    printf("%s%s", separator, word);
    tree->at += gap + width;
}

/* Numbers that are worth their word also when they are 0. */
static bool is_told(const char *key)
{
    static const char *const names[] = {"in-flight", "hits",  "accesses", "mapped",
                                        "start",     "first", "value",    NULL};

    return is_one_of(key, names);
}

/* What says nothing: empty words, flags that are not set, counters of what never happened. */
static bool is_silent(const char *key, const json_t *value)
{
    if (json_is_string(value)) {
        return !json_string_value(value)[0];
    }
    if (json_is_boolean(value)) {
        return !json_is_true(value) && !is_missed(key);
    }
    return json_is_integer(value) && !json_integer_value(value) && !is_told(key);
}

/* "space", "start" and "end" are one word. */
static bool is_range(const json_t *object)
{
    return json_object_get(object, "start") && json_object_get(object, "end");
}

static bool is_of_range(const char *key)
{
    static const char *const names[] = {"space", "start", "end", NULL};

    return is_one_of(key, names);
}

static void put_range(struct tree *tree, const json_t *object, const char *separator)
{
    char word[120];

    snprintf(word, sizeof(word), "%s 0x%" PRIx64 "-0x%" PRIx64, member_text(object, "space"),
             member_number(object, "start"), member_number(object, "end"));
    put_word(tree, word, separator);
}

static void put_members(struct tree *tree, json_t *object)
{
    const char *key, *separator = ": ";
    bool range = is_range(object);
    json_t *value;
    char word[1200];

    if (range) {
        put_range(tree, object, separator);
        separator = ", ";
    }
    json_object_foreach(object, key, value)
    {
        bool said = (is_headline(key) && !json_is_boolean(value)) || (range && is_of_range(key));
        if (!is_nested(value) && !said && !is_silent(key, value)) {
            format_member(word, sizeof(word), key, value);
            put_word(tree, word, separator);
            separator = ", ";
        }
    }
}

/* ---- objects ---- */

static void put_object(struct tree *tree, const char *name, json_t *object, bool last);

/* "queues" holds queues. */
static void singular(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s", name);
    size_t length = strlen(to);
    if (length > 1 && to[length - 1] == 's' && to[length - 2] != 's') {
        to[length - 1] = '\0';
    }
}

static void put_headline(struct tree *tree, const char *name, json_t *object)
{
    const char *key;
    json_t *value;
    char word[1200];

    put_branches(tree, true);
    tree->indent = tree->at + 6;
    put_word(tree, name, "");
    json_object_foreach(object, key, value)
    {
        if (is_headline(key) && json_is_string(value) && json_string_value(value)[0]) {
            put_word(tree, json_string_value(value), " ");
        } else if (is_headline(key) && json_is_integer(value)) {
            snprintf(word, sizeof(word), "%" PRIu64, (uint64_t)json_integer_value(value));
            put_word(tree, word, " ");
        }
    }
}

static void put_list(struct tree *tree, const char *name, json_t *list, bool last)
{
    char one[128];
    json_t *value;
    size_t i;

    singular(one, sizeof(one), name);
    json_array_foreach(list, i, value)
    {
        bool end = last && i + 1 == json_array_size(list);
        if (json_is_object(value)) {
            put_object(tree, one, value, end);
        } else if (!json_is_array(value)) {
            char word[1200];
            if (tree->depth >= DEPTH_MAX) {
                return;
            }
            tree->last[tree->depth++] = end;
            put_branches(tree, true);
            tree->indent = tree->at + 2;
            format_member(word, sizeof(word), one, value);
            put_word(tree, word, "");
            tree->depth--;
            putchar('\n');
        }
    }
}

/* Is there anything to say of it, or of what is inside? Members of lists are always named. */
static bool has_words(json_t *object)
{
    const char *key;
    json_t *value;
    bool words = false;

    json_object_foreach(object, key, value)
    {
        words = words || (json_is_object(value)  ? has_words(value)
                          : json_is_array(value) ? json_array_size(value) > 0
                                                 : !is_silent(key, value));
    }
    return words;
}

static size_t lines_below(json_t *object)
{
    const char *key;
    json_t *value;
    size_t count = 0;

    json_object_foreach(object, key, value)
    {
        count += json_is_array(value) ? json_array_size(value) : json_is_object(value) && has_words(value);
    }
    return count;
}

static void put_below(struct tree *tree, json_t *object)
{
    size_t left = lines_below(object);
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        if (json_is_array(value)) {
            left -= json_array_size(value);
            put_list(tree, key, value, left == 0);
        } else if (json_is_object(value) && has_words(value)) {
            left--;
            put_object(tree, key, value, left == 0);
        }
    }
}

static void put_node(struct tree *tree, const char *name, json_t *object)
{
    put_headline(tree, name, object);
    put_members(tree, object);
    putchar('\n');
    put_below(tree, object);
}

static void put_object(struct tree *tree, const char *name, json_t *object, bool last)
{
    if (tree->depth < DEPTH_MAX) {
        tree->last[tree->depth++] = last;
        put_node(tree, name, object);
        tree->depth--;
    }
}

void print_tree(json_t *value, const char *name)
{
    struct tree tree = {.columns = terminal_columns(), .utf8 = terminal_utf8()};

    put_node(&tree, name, value);
}
