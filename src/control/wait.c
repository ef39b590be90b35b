/* SPDX-License-Identifier: BSD-2-Clause */
/* `wait`: a call that stays until a guest is served, has failed, or time is up. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/inside.h"

#define TIMEOUT_MAX 31536000.0 /* a year, in seconds */

struct wait {
    char *guest;
    struct loop_timer *timer; /* NULL: waits without limit */
    double timeout;           /* seconds */
    bool failed;
    char domain[128]; /* as it was added; empty: not seen yet */
    char why[240];    /* what it said last */
};

static void wait_free(struct call *call)
{
    struct wait *wait = call->self;

    call->control->loop->ops->timer_remove(wait->timer);
    free(wait->guest);
    free(wait);
    call->self = NULL;
}

/* The client has gone. */
static void forget(struct call *call)
{
    wait_free(call);
    list_remove(&call->link);
    json_decref(call->id);
    free(call);
}

static void finish(struct call *call, int error, const char *why)
{
    wait_free(call);
    call_done(call, error, why);
}

/* Served, or failed for good? Then the call has ended. */
static void look(struct call *call)
{
    struct wait *wait = call->self;
    struct guest_status status;
    struct iod_error error = {0};
    char why[280];

    if (wait->failed) {
        snprintf(why, sizeof(why), "it has failed%s%s", wait->why[0] ? ": " : "", wait->why);
        finish(call, -EIO, why);
    } else if (daemon_guest_status(call->control->daemon, wait->guest, &status, &error)) {
        if (!wait->timer) { /* with a time limit it may still become known */
            finish(call, -error.code, error.text);
        }
    } else if (status.served) {
        finish(call, 0, "");
    } else if (!strcmp(status.state, "failed")) { /* before we began, and stays so until somebody mends it */
        snprintf(why, sizeof(why), "it has failed%s%s", status.why[0] ? ": " : "", status.why);
        finish(call, -EIO, why);
    }
}

static void time_is_up(void *self)
{
    struct call *call = self;
    struct wait *wait = call->self;
    struct guest_status status;
    struct iod_error error = {0};
    char why[400];

    if (daemon_guest_status(call->control->daemon, wait->guest, &status, &error)) {
        snprintf(why, sizeof(why), "not served within %g s: %s", wait->timeout, error.text);
    } else {
        snprintf(why, sizeof(why), "not served within %g s: it is %s%s%s", wait->timeout, status.state,
                 status.why[0] ? ": " : "", status.why);
    }
    finish(call, -ETIMEDOUT, why);
}

bool wait_listen(struct call *call, const char *guest, double timeout)
{
    const struct loop_ops *ops = call->control->loop->ops;
    struct wait *wait = calloc(1, sizeof(*wait));

    if (!wait) {
        call_fail(call, -ENOMEM, "out of memory");
        return false;
    }
    call->self = wait;
    wait->guest = strdup(guest);
    wait->timeout = timeout;
    if (timeout >= 0) {
        wait->timer = ops->timer_add(call->control->loop, time_is_up, call);
    }
    if (!wait->guest || (timeout >= 0 && !wait->timer)) {
        finish(call, -ENOMEM, "out of memory");
        return false;
    }
    call->forget = forget;
    if (wait->timer) {
        double limit = timeout < TIMEOUT_MAX ? timeout : TIMEOUT_MAX;
        ops->timer_set(wait->timer, ops->now_ns(call->control->loop) + (uint64_t)(limit * 1e9));
    }
    return true;
}

void wait_go_on(struct call *call, int error, const char *why)
{
    if (error) {
        finish(call, error, why);
    } else {
        look(call);
    }
}

void wait_begin(struct call *call, const char *guest, double timeout)
{
    if (wait_listen(call, guest, timeout)) {
        look(call);
    }
}

void wait_look(struct control *control)
{
    struct call *call;

    list_for_each(call, &control->calls, struct call, link)
    {
        if (call->forget == forget) {
            look(call);
        }
    }
}

/* A guest that fails tells its reason while it ends, and may be forgotten when its end is told. */
static void note(struct wait *wait, const struct daemon_event *event, struct daemon *daemon)
{
    struct guest_status status;
    struct iod_error error;

    if (!daemon_guest_status(daemon, wait->guest, &status, &error) && !strcmp(status.domain, event->domain)) {
        snprintf(wait->domain, sizeof(wait->domain), "%s", status.domain);
        snprintf(wait->why, sizeof(wait->why), "%s", status.why);
    }
    wait->failed = wait->failed || (!strcmp(event->text, "failed") && !strcmp(wait->domain, event->domain));
}

void wait_hear(struct control *control, const struct daemon_event *event)
{
    struct call *call;

    control->loop->ops->task_soon(control->look);
    if (event->kind != EVENT_GUEST_STATE) {
        return;
    }
    list_for_each(call, &control->calls, struct call, link)
    {
        if (call->forget == forget) {
            note(call->self, event, control->daemon);
        }
    }
}
