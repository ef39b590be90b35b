/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cuts a stream of bytes into JSON values: where one ends is all that it knows. Whether a value makes sense
 * is the JSON library's to say. Memory is bounded; the bytes may be hostile.
 */
#ifndef LAUNCH_JSON_CUT_H
#define LAUNCH_JSON_CUT_H

#include <stdbool.h>
#include <stddef.h>

struct json_cut {
    char *text; /* of the value so far, or of the whole one; ends with a NUL */
    size_t length, space, limit;
    unsigned depth;
    char quote;      /* inside a string: what ends it; else 0 */
    bool escape;     /* inside a string, after a backslash */
    bool bare;       /* inside something that is neither object nor array */
    bool broken;     /* the value can't be right: a control character in a string */
    bool overlong;   /* longer than limit, or no memory for it: text is its beginning only */
};

/* limit: bytes of one value that are kept at most. */
void json_cut_init(struct json_cut *cut, size_t limit);
void json_cut_finish(struct json_cut *cut);
/*
 * Takes bytes up to the end of a value at most and returns how many. *whole: a value has ended; it is in text
 * until json_cut_next, which must be called before more is fed.
 */
size_t json_cut_feed(struct json_cut *cut, const char *bytes, size_t count, bool *whole);
void json_cut_next(struct json_cut *cut);
/* Is nothing of a value there? */
bool json_cut_idle(const struct json_cut *cut);

#endif
