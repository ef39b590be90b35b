/* SPDX-License-Identifier: BSD-2-Clause */
#include "control/frame.h"

#include <string.h>

static enum frame_result skip_line(struct frame *frame, const char *bytes, size_t length)
{
    const char *end = memchr(bytes + frame->at, '\n', length - frame->at);

    frame->at = end ? (size_t)(end - bytes) + 1 : length;
    return end ? FRAME_SKIPPED : FRAME_MORE;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* One byte of a string: does it end here? */
static void step_string(struct frame *frame, char c)
{
    if (frame->escape) {
        frame->escape = false;
    } else if (c == '\\') {
        frame->escape = true;
    } else if (c == '"') {
        frame->string = false;
    }
}

static enum frame_result step(struct frame *frame, char c)
{
    if (frame->string) {
        step_string(frame, c);
        return FRAME_MORE;
    }
    if (frame->depth == 0 && c != '{') {
        return FRAME_NO_OBJECT;
    }
    if (c == '{' || c == '[') {
        return ++frame->depth > FRAME_DEPTH ? FRAME_TOO_DEEP : FRAME_MORE;
    }
    if (c == '}' || c == ']') {
        return --frame->depth ? FRAME_MORE : FRAME_COMPLETE;
    }
    frame->string = c == '"';
    return FRAME_MORE;
}

enum frame_result frame_scan(struct frame *frame, const char *bytes, size_t length)
{
    if (frame->skip) {
        return skip_line(frame, bytes, length);
    }
    while (frame->at < length) {
        char c = bytes[frame->at];
        if (frame->depth == 0 && is_blank(c)) {
            frame->begin = ++frame->at;
            continue;
        }
        enum frame_result result = step(frame, c);
        frame->at++;
        if (result != FRAME_MORE) {
            return result;
        }
        if (frame->at - frame->begin >= FRAME_MAX) {
            return FRAME_TOO_LONG;
        }
    }
    return FRAME_MORE;
}
