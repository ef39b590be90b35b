/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The filter "delay": each request takes at least so long. `when=after` (the default) holds the end of a
 * request back: its data has moved already; `when=before` holds it back before it reaches the backend: a
 * cancel takes it back whole. The time is the host's: it also runs while the guest is paused, so that a stop
 * under delayed requests ends.
 */
#include <errno.h>

#include <ioreqd/log.h>

#include "backend/backends.h"
#include "backend/block.h"
#include "core/daemon.h"
#include "core/list.h"

enum delay_when { DELAY_AFTER, DELAY_BEFORE };

struct delay {
    struct iod_block *block, *below;
    struct loop_timer *timer;
    uint64_t ns;
    enum delay_when when;
    struct list held;   /* by due time: each request is held equally long */
    unsigned in_flight; /* held, or below */
    bool quiescing;     /* iod_block_done is owed */
    bool cancelled;     /* what comes up now is not held */
};

struct delay_request {
    struct list link; /* in held */
    struct iod_block_request *request;
    uint64_t due; /* host, ns */
    int result;
    /* The caller's, while ours are in the request. */
    void *owner;
    void (*done)(struct iod_block_request *request, int result);
};

static const char *const when_choices[] = { "after", "before", NULL };

static const struct iod_option delay_options[] = {
    { .name = "delay", .type = IOD_OPTION_NUMBER, .fallback = "10", .max = 3600000, .help = "milliseconds" },
    { .name = "when", .type = IOD_OPTION_CHOICE, .fallback = "after", .choices = when_choices,
      .help = "hold a request before or after the backend has done it" },
    { .name = NULL },
};

static struct loop *loop_of(const struct delay *delay)
{
    return daemon_loop(block_daemon(delay->block));
}

static void arm(struct delay *delay)
{
    struct delay_request *first = list_first(&delay->held, struct delay_request, link);
    if (first != NULL) {
        loop_of(delay)->ops->timer_set(delay->timer, first->due);
    }
}

static void hold(struct delay *delay, struct delay_request *own)
{
    struct loop *loop = loop_of(delay);
    bool idle = list_empty(&delay->held);
    own->due = loop->ops->now_ns(loop) + delay->ns;
    list_add_tail(&delay->held, &own->link);
    if (idle) {
        arm(delay);
    }
}

static void finish(struct delay *delay, struct delay_request *own)
{
    iod_block_complete(delay->block, own->request, own->result);
    delay->in_flight--;
    if (delay->quiescing && delay->in_flight == 0) {
        delay->quiescing = false;
        delay->cancelled = false;
        iod_block_done(delay->block, 0); /* delay may be gone after it */
    }
}

static void below_done(struct iod_block_request *request, int result)
{
    struct delay *delay = request->owner;
    struct delay_request *own = iod_block_request_own(delay->block, request);
    request->owner = own->owner;
    request->done = own->done;
    own->result = result;
    if (delay->when == DELAY_AFTER && !delay->cancelled) {
        hold(delay, own);
    } else {
        finish(delay, own);
    }
}

static void send_below(struct delay *delay, struct delay_request *own)
{
    struct iod_block_request *request = own->request;
    own->owner = request->owner;
    own->done = request->done;
    request->owner = delay;
    request->done = below_done;
    iod_block_submit(delay->below, request);
}

static void delay_fire(void *self)
{
    struct delay *delay = self;
    struct loop *loop = loop_of(delay);
    uint64_t now = loop->ops->now_ns(loop);
    bool sent = false;
    struct delay_request *own;
    struct list due;
    list_init(&due);
    while ((own = list_first(&delay->held, struct delay_request, link)) != NULL && own->due <= now) {
        list_remove(&own->link);
        list_add_tail(&due, &own->link);
    }
    arm(delay);
    while ((own = list_first(&due, struct delay_request, link)) != NULL) {
        list_remove(&own->link);
        if (delay->when == DELAY_BEFORE) {
            send_below(delay, own);
            sent = true;
        } else {
            finish(delay, own); /* the last one of a quiesce may free delay: nothing is due then */
        }
    }
    if (sent) {
        iod_block_kick(delay->below);
    }
}

static int delay_open(struct iod_block *block, struct iod_block *below, struct iod_error *error)
{
    struct delay *delay = iod_block_self(block);
    delay->block = block;
    delay->below = below;
    delay->ns = iod_option_number(iod_block_options(block), "delay") * 1000000;
    delay->when = (enum delay_when)iod_option_choice(iod_block_options(block), "when");
    list_init(&delay->held);
    struct loop *loop = loop_of(delay);
    delay->timer = loop->ops->timer_add(loop, delay_fire, delay);
    if (delay->timer == NULL) {
        return iod_fail(error, ENOMEM, "block filter delay: out of memory");
    }
    iod_block_set_limits(block, iod_block_limits(below));
    return 0;
}

static void delay_submit(struct iod_block *block, struct iod_block_request *request)
{
    struct delay *delay = iod_block_self(block);
    struct delay_request *own = iod_block_request_own(block, request);
    *own = (struct delay_request){ .request = request };
    list_init(&own->link);
    delay->in_flight++;
    if (delay->when == DELAY_BEFORE) {
        hold(delay, own);
    } else {
        send_below(delay, own);
    }
}

/* Cancel: what has not begun below is given back; what is done is no longer held; the rest comes up by
 * itself. */
static void cancel_held(struct delay *delay)
{
    struct delay_request *own;
    loop_of(delay)->ops->timer_cancel(delay->timer);
    while ((own = list_first(&delay->held, struct delay_request, link)) != NULL) {
        list_remove(&own->link);
        delay->in_flight--;
        block_complete_later(delay->block, own->request,
                             delay->when == DELAY_BEFORE ? -ECANCELED : own->result);
    }
}

static enum iod_when delay_quiesce(struct iod_block *block, enum iod_drain drain)
{
    struct delay *delay = iod_block_self(block);
    if (drain == IOD_CANCEL) {
        cancel_held(delay);
    }
    if (delay->in_flight == 0) {
        return IOD_NOW;
    }
    delay->cancelled = drain == IOD_CANCEL;
    delay->quiescing = true;
    return IOD_LATER;
}

static void delay_close(struct iod_block *block)
{
    struct delay *delay = iod_block_self(block);
    loop_of(delay)->ops->timer_remove(delay->timer);
}

const struct iod_block_class delay_block_class = {
    .size = sizeof(struct iod_block_class),
    .name = "delay",
    .summary = "each request takes at least so long",
    .self_size = sizeof(struct delay),
    .request_size = sizeof(struct delay_request),
    .options = delay_options,
    .filter = true,
    .open = delay_open,
    .submit = delay_submit,
    .quiesce = delay_quiesce,
    .close = delay_close,
};
