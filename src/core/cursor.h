/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cursor over one request, as dispatch.c moves it. The handlers' side (deferring) is in inside.h and
 * region.h.
 */
#ifndef CORE_CURSOR_H
#define CORE_CURSOR_H

#include <stdbool.h>

struct iod_access;

enum step {
    STEP_DONE,   /* the request is done: it can be answered */
    STEP_WAIT,   /* it waits for a device, which puts it on its guest's ready list again */
    STEP_BUDGET, /* the round's budget is used up */
};

/* Takes on the request that was copied into the cursor. False: it needs no device, and is done. */
bool cursor_begin(struct iod_access *access);
/* Moves it on; each handler call costs the budget one. */
enum step cursor_advance(struct iod_access *access, unsigned *budget);

#endif
