/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/json_cut.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SPACE 512

void json_cut_init(struct json_cut *cut, size_t limit)
{
    *cut = (struct json_cut){.limit = limit};
}

void json_cut_finish(struct json_cut *cut)
{
    free(cut->text);
    cut->text = NULL;
}

void json_cut_next(struct json_cut *cut)
{
    if (cut->space > FIRST_SPACE) { /* an idle connection keeps nothing big */
        free(cut->text);
        cut->text = NULL;
        cut->space = 0;
    }
    cut->length = 0;
    cut->depth = 0;
    cut->quote = 0;
    cut->escape = cut->bare = cut->broken = cut->overlong = false;
}

bool json_cut_idle(const struct json_cut *cut)
{
    return !cut->depth && !cut->quote && !cut->bare;
}

/* Space for one more character and the NUL. */
static bool has_space(struct json_cut *cut)
{
    if (cut->length + 1 < cut->space) {
        return true;
    }
    size_t space = cut->space ? cut->space * 2 : FIRST_SPACE;
    char *text = realloc(cut->text, space);
    if (!text) {
        return false;
    }
    cut->text = text;
    cut->space = space;
    return true;
}

static void keep(struct json_cut *cut, char c)
{
    if (cut->overlong || cut->length == cut->limit || !has_space(cut)) {
        cut->overlong = true;
        return;
    }
    cut->text[cut->length++] = c;
    cut->text[cut->length] = '\0';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* True: the value has ended with this character. */
static bool in_string(struct json_cut *cut, char c)
{
    if ((unsigned char)c < 0x20) { /* no string holds one: its end was forgotten */
        cut->broken = true;
        return true;
    }
    if (cut->escape) {
        cut->escape = false;
    } else if (c == '\\') {
        cut->escape = true;
    } else if (c == cut->quote) {
        cut->quote = 0;
        return !cut->depth;
    }
    return false;
}

static bool in_value(struct json_cut *cut, char c)
{
    switch (c) {
    case '"':
    case '\'':
        cut->quote = c;
        return false;
    case '{':
    case '[':
        cut->depth++;
        return false;
    case '}':
    case ']':
        cut->depth -= cut->depth > 0;
        return !cut->depth;
    default:
        return false;
    }
}

static bool begins_value(char c)
{
    return c == '{' || c == '[' || c == '"' || c == '\'';
}

/* Outside of any object, array or string. *taken: the character belongs to the value. */
static bool outside(struct json_cut *cut, char c, bool *taken)
{
    if (cut->bare && (is_blank(c) || begins_value(c))) {
        *taken = false;
        return true;
    }
    if (is_blank(c)) {
        return false;
    }
    keep(cut, c);
    if (begins_value(c)) {
        return in_value(cut, c);
    }
    cut->bare = true;
    return false;
}

size_t json_cut_feed(struct json_cut *cut, const char *bytes, size_t count, bool *whole)
{
    *whole = false;
    for (size_t i = 0; i < count; i++) {
        char c = bytes[i];
        bool taken = true;
        if (json_cut_idle(cut) || cut->bare) {
            *whole = outside(cut, c, &taken);
        } else {
            keep(cut, c);
            *whole = cut->quote ? in_string(cut, c) : in_value(cut, c);
        }
        if (*whole) {
            return i + taken;
        }
    }
    return count;
}
