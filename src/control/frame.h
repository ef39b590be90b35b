/* SPDX-License-Identifier: BSD-2-Clause */
/* Finds where one command ends in a stream of bytes, without parsing it: a pure function over what has come
 * so far. */
#ifndef CONTROL_FRAME_H
#define CONTROL_FRAME_H

#include <stdbool.h>
#include <stddef.h>

#define FRAME_MAX 65536u /* bytes of one command */
#define FRAME_DEPTH 16u  /* objects and lists in each other */

/* Where the scan stands; all zero at the beginning of a command. */
struct frame {
    size_t at;    /* bytes looked at */
    size_t begin; /* of the command; what is before it is blank */
    unsigned depth;
    bool string, escape;
    bool skip; /* after an error: until the end of the line */
};

enum frame_result {
    FRAME_MORE,      /* all bytes were looked at, the command goes on */
    FRAME_COMPLETE,  /* bytes begin to at - 1 are an object, by its braces; it may still be no JSON */
    FRAME_SKIPPED,   /* the rest of a bad line ended before `at` */
    FRAME_NO_OBJECT, /* something else than an object begins */
    FRAME_TOO_DEEP,
    FRAME_TOO_LONG,
};

/*
 * Looks on from frame->at through `length` bytes (the same as last time, and more). After FRAME_COMPLETE and
 * FRAME_SKIPPED, drop `at` bytes and begin with a zeroed frame. After an error, drop `at` bytes and begin
 * with a frame whose `skip` is set: the rest of the line is not looked into.
 */
enum frame_result frame_scan(struct frame *frame, const char *bytes, size_t length);

#endif
