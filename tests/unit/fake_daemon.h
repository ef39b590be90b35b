/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The daemon's verbs as the control room sees them, played by a few lines: each call is noted as text,
 * answers come when the test says so, what is shown is as large as the test wants.
 */
#ifndef FAKE_DAEMON_H
#define FAKE_DAEMON_H

#include "core/daemon.h"
#include "core/trace.h"

struct daemon {
    struct loop *loop;
    struct list listeners;
    char said[600];    /* the last verb: "add-device g1 virtio-blk,path=x" */
    unsigned verbs;    /* so many of them so far */
    int fail;          /* positive errno: the next verb fails */
    daemon_done *done; /* of the last verb that answers later */
    void *done_self;
    bool at_once; /* such a verb answers from within the loop, by itself */
    struct loop_task *task;
    unsigned guests;            /* how many are shown */
    bool known;                 /* there is a guest "g1" */
    bool stillborn;             /* it fails, and is forgotten, within the call that adds it */
    struct guest_status status; /* of it */
    unsigned logged;
    trace_sink *sink; /* of the trace that runs; NULL: none */
    capture_sink *capture;
    void *sink_self;
    unsigned resumed;
};

/* Fills it; loop may be NULL: at_once then answers inside the call. */
void fake_daemon_init(struct daemon *daemon, struct loop *loop);
void fake_daemon_finish(struct daemon *daemon);
/* Ends the verb under way. */
void fake_daemon_answer(struct daemon *daemon, int error, const char *why);
void fake_daemon_tell(struct daemon *daemon, enum daemon_event_kind kind, const char *text);

#endif
