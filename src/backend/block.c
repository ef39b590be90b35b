/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The block layer. A device's disk is a stack: a backend at the bottom, filters over it. A request passes
 * down through submit and up through done: a filter that wants to see the end puts its own `done` and `owner`
 * into the request and keeps the old ones in its own part. Behind the caller's part of a request lies the
 * layer's (struct late), then one part for each layer of the stack.
 */
#include "backend/block.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ioreqd/dma.h>
#include <ioreqd/log.h>

#include "core/daemon.h"
#include "core/device.h"
#include "core/guest.h"
#include "core/limit.h"
#include "core/module.h"
#include "core/options.h"
#include "core/probe.h"

#define PART_ALIGN alignof(max_align_t)
#define PART_SIZE(size) (((size) + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN)

/* A completion that waits for the end of the loop's batch. */
struct late {
    struct list link;
    struct iod_block *block;
    struct iod_block_request *request;
    int result;
};

enum layer_phase { LAYER_RUNNING, LAYER_STOPPING, LAYER_STOPPED };

struct block_stack;

struct iod_block {
    struct block_stack *stack;
    const struct iod_block_class *class;
    struct iod_options *options;
    void *self;
    struct iod_block *above, *below;
    size_t own_offset;  /* of this layer's part in a request */
    unsigned in_flight; /* requests taken and not yet ended */
    enum layer_phase phase;
    bool tried, opened; /* class->open was called; has succeeded */
    struct iod_block_limits limits;
    void (*changed)(void *self);
    void *changed_self;
};

struct block_stack {
    struct device_backend backend;
    struct iod_device *device;
    struct daemon *daemon;
    struct iod_block *top, *bottom, *opening;
    size_t request_size;
    struct loop_task *task; /* delivers `late` */
    struct list late;
    enum iod_drain drain;
    bool draining, inside; /* a quiesce is under way; it is being advanced right now */
    char prefix[32], filter_prefix[40];
};

/* ---- making and freeing ---- */

static void layer_free(struct iod_block *block)
{
    if (block == NULL) {
        return;
    }
    if (block->tried && TABLE_HAS(block->class, close)) {
        block->class->close(block);
    }
    options_destroy(block->options);
    free(block->self);
    free(block);
}

static void stack_destroy(struct device_backend *backend)
{
    struct block_stack *stack = list_entry(backend, struct block_stack, backend);
    while (stack->top != NULL) {
        struct iod_block *block = stack->top;
        stack->top = block->below;
        layer_free(block);
    }
    daemon_loop(stack->daemon)->ops->task_remove(stack->task);
    free(stack);
}

/* Puts one layer on top. `name` is the class, `what` the word for it in errors. */
static int layer_add(struct block_stack *stack, const char *name, const char *prefix, bool filter,
                     struct iod_error *error)
{
    const struct iod_block_class *class = modules_block(daemon_modules(stack->daemon), name, error);
    if (class == NULL) {
        return -EINVAL;
    }
    if (class->filter != filter) {
        return iod_fail(error, EINVAL,
                        filter ? "%s: is a backend, not a filter (block=%s?)"
                               : "%s: is a filter, not a backend (block.filter=%s?)",
                        name, name);
    }
    struct iod_block *block = calloc(1, sizeof(*block));
    if (block == NULL) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    char what[64];
    snprintf(what, sizeof(what), "block %s %s", filter ? "filter" : "backend", name);
    block->stack = stack;
    block->class = class;
    block->own_offset = stack->request_size;
    block->self = calloc(1, class->self_size > 0 ? class->self_size : 1);
    block->options = device_backend_options(stack->device, class->options, what, prefix, error);
    if (block->self == NULL || block->options == NULL) {
        bool memory = block->self == NULL;
        layer_free(block);
        return memory ? iod_fail(error, ENOMEM, "out of memory") : -EINVAL;
    }
    stack->request_size += PART_SIZE(class->request_size);
    block->below = stack->top;
    if (stack->top != NULL) {
        stack->top->above = block;
    } else {
        stack->bottom = block;
    }
    stack->top = block;
    return 0;
}

static void deliver(void *self)
{
    struct block_stack *stack = self;
    struct list ready;
    list_init(&ready);
    while (!list_empty(&stack->late)) {
        struct list *first = stack->late.next;
        list_remove(first);
        list_add_tail(&ready, first);
    }
    /* The requests delivered here hold the stack: it is not destroyed before the last one has ended. */
    while (!list_empty(&ready)) {
        struct late *late = list_first(&ready, struct late, link);
        list_remove(&late->link);
        iod_block_complete(late->block, late->request, late->result);
    }
}

static const struct device_backend_ops stack_ops;

struct iod_block *iod_block_attach(struct iod_device *device, const char *key, struct iod_error *error)
{
    struct block_stack *stack = calloc(1, sizeof(*stack));
    if (stack == NULL) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    stack->device = device;
    stack->daemon = guest_daemon(device_guest(device));
    stack->request_size = PART_SIZE(sizeof(struct iod_block_request)) + PART_SIZE(sizeof(struct late));
    list_init(&stack->late);
    snprintf(stack->prefix, sizeof(stack->prefix), "%s.", key);
    snprintf(stack->filter_prefix, sizeof(stack->filter_prefix), "%s.filter.", key);
    struct loop *loop = daemon_loop(stack->daemon);
    stack->task = loop->ops->task_add(loop, deliver, stack);

    char filter_key[40];
    snprintf(filter_key, sizeof(filter_key), "%s.filter", key);
    const char *name = device_spec_take(device, key), *filter = device_spec_take(device, filter_key);
    int result = stack->task == NULL ? iod_fail(error, ENOMEM, "out of memory") : 0;
    if (result == 0) {
        result = layer_add(stack, name != NULL ? name : "file", stack->prefix, false, error);
    }
    if (result == 0 && filter != NULL) {
        result = layer_add(stack, filter, stack->filter_prefix, true, error);
    }
    if (result != 0) {
        stack_destroy(&stack->backend);
        return NULL;
    }
    device_backend_add(device, &stack->backend, &stack_ops, stack->bottom->class->options);
    return stack->top;
}

/* ---- opening: from the bottom up ---- */

static int stack_open_from(struct block_stack *stack, struct iod_block *block, struct iod_error *error)
{
    for (; block != NULL; block = block->above) {
        block->tried = true;
        stack->opening = block;
        int result = block->class->open(block, block->below, error);
        if (result != 0) {
            return result;
        }
        block->opened = true;
    }
    stack->opening = NULL;
    return 0;
}

static int stack_open(struct device_backend *backend, struct iod_error *error)
{
    struct block_stack *stack = list_entry(backend, struct block_stack, backend);
    return stack_open_from(stack, stack->bottom, error);
}

static void stack_give_up(struct device_backend *backend)
{
    struct iod_block *block = list_entry(backend, struct block_stack, backend)->opening;
    if (block != NULL && TABLE_HAS(block->class, give_up)) {
        block->class->give_up(block);
    }
}

static void stack_opened(struct block_stack *stack, struct iod_block *block, int result)
{
    struct iod_error error = { 0 };
    if (result == 0) {
        block->opened = true;
        result = stack_open_from(stack, block->above, &error);
        if (result > 0) {
            return;
        }
    }
    stack->opening = NULL;
    if (error.code != 0) {
        device_backend_failed(&stack->backend, &error);
    } else {
        device_backend_done(&stack->backend, result);
    }
}

/* ---- stopping: from the top down ---- */

/*
 * Finishing goes one layer at a time, for an upper one still submits to the lower. Cancelling tells all at
 * once: an upper layer sends nothing down any more, and waits for what a lower one gives back. True: all is
 * quiet.
 */
static bool stack_advance(struct block_stack *stack)
{
    bool quiet = true;
    stack->inside = true;
    for (struct iod_block *block = stack->top; block != NULL; block = block->below) {
        if (block->phase == LAYER_RUNNING) {
            block->phase = LAYER_STOPPING;
            if (!block->opened || !TABLE_HAS(block->class, quiesce) ||
                block->class->quiesce(block, stack->drain) == IOD_NOW) {
                block->phase = LAYER_STOPPED;
            }
        }
        if (block->phase != LAYER_STOPPED || block->in_flight > 0) {
            quiet = false;
            if (stack->drain == IOD_FINISH) {
                break;
            }
        }
    }
    stack->inside = false;
    if (!quiet) {
        return false;
    }
    for (struct iod_block *block = stack->top; block != NULL; block = block->below) {
        block->phase = LAYER_RUNNING;
    }
    stack->draining = false;
    return true;
}

static enum iod_when stack_quiesce(struct device_backend *backend, enum iod_drain drain)
{
    struct block_stack *stack = list_entry(backend, struct block_stack, backend);
    if (stack->draining) {
        /* Asked again, more urgently: one answer ends both. A layer that answered later still owes its one
         * answer. */
        if (drain == IOD_CANCEL && stack->drain == IOD_FINISH) {
            stack->drain = IOD_CANCEL;
            stack->inside = true;
            for (struct iod_block *block = stack->top; block != NULL; block = block->below) {
                if (block->phase == LAYER_STOPPING && TABLE_HAS(block->class, quiesce) &&
                    block->class->quiesce(block, drain) == IOD_NOW) {
                    block->phase = LAYER_STOPPED;
                }
            }
            stack->inside = false;
            return stack_advance(stack) ? IOD_NOW : IOD_LATER;
        }
        return IOD_LATER;
    }
    stack->draining = true;
    stack->drain = drain;
    return stack_advance(stack) ? IOD_NOW : IOD_LATER;
}

static void stack_inspect(const struct device_backend *backend, struct inspector *inspector)
{
    const struct block_stack *stack = list_entry(backend, const struct block_stack, backend);
    const struct iod_block_limits *limits = &stack->top->limits;
    inspector->text(inspector, "kind", "block");
    inspector->text(inspector, "class", stack->bottom->class->name);
    const char *path = iod_option_string(stack->bottom->options, "path");
    if (path != NULL) {
        inspector->text(inspector, "path", path);
    }
    if (stack->top != stack->bottom) {
        inspector->text(inspector, "filter", stack->top->class->name);
    }
    inspector->boolean(inspector, "open", stack->top->opened);
    inspector->number(inspector, "capacity", limits->capacity);
    inspector->number(inspector, "sector", limits->sector);
    inspector->boolean(inspector, "readonly", limits->readonly);
    inspector->number(inspector, "in-flight", stack->top->in_flight);
}

/* The bottom looks; what it finds passes up through the filters (iod_block_set_limits). */
static int stack_resize(struct device_backend *backend, struct iod_error *error)
{
    struct block_stack *stack = list_entry(backend, struct block_stack, backend);
    struct iod_block *bottom = stack->bottom;
    if (!bottom->opened) {
        return iod_fail(error, EAGAIN, "%s: is not open", bottom->class->name);
    }
    if (!TABLE_HAS(bottom->class, resize)) {
        return iod_fail(error, EOPNOTSUPP, "block backend %s: its size never changes", bottom->class->name);
    }
    return bottom->class->resize(bottom, error);
}

static const struct device_backend_ops stack_ops = {
    .open = stack_open,
    .quiesce = stack_quiesce,
    .destroy = stack_destroy,
    .inspect = stack_inspect,
    .resize = stack_resize,
    .give_up = stack_give_up,
};

static void stack_look(struct block_stack *stack)
{
    if (stack->draining && !stack->inside && stack_advance(stack)) {
        device_backend_done(&stack->backend, 0); /* the stack may be gone after it */
    }
}

void iod_block_done(struct iod_block *block, int error)
{
    struct block_stack *stack = block->stack;
    if (stack->opening == block) {
        stack_opened(stack, block, error);
    } else if (block->phase == LAYER_STOPPING) {
        block->phase = LAYER_STOPPED;
        stack_look(stack);
    }
}

void block_failed(struct iod_block *block, const struct iod_error *error)
{
    struct block_stack *stack = block->stack;
    if (stack->opening == block) {
        stack->opening = NULL;
        device_backend_failed(&stack->backend, error);
    }
}

/* ---- requests ---- */

size_t iod_block_request_size(const struct iod_block *block)
{
    return block->stack->request_size;
}

const struct iod_block_limits *iod_block_limits(const struct iod_block *block)
{
    return &block->limits;
}

static int check_range(const struct iod_block_limits *limits, const struct iod_block_request *request)
{
    if (limits->sector == 0 || request->offset % limits->sector != 0 ||
        request->length % limits->sector != 0) {
        return -EINVAL;
    }
    return request->length > limits->capacity || request->offset > limits->capacity - request->length
               ? -EINVAL
               : 0;
}

/* 0: may go on; negative: refused. */
static int check(const struct iod_block *block, const struct iod_block_request *request)
{
    const struct iod_block_limits *limits = &block->limits;
    uint64_t most = 0;
    if (!block->opened) {
        return -ENXIO;
    }
    if (request->op == IOD_BLOCK_FLUSH) {
        return 0;
    }
    if (request->op != IOD_BLOCK_READ && limits->readonly) {
        return -EROFS;
    }
    switch (request->op) {
    case IOD_BLOCK_READ:
    case IOD_BLOCK_WRITE:
        if (request->length > 0 &&
            (request->data == NULL || iod_mapping_length(request->data) != request->length)) {
            return -EINVAL;
        }
        most = limits->max_length;
        break;
    case IOD_BLOCK_DISCARD:
    case IOD_BLOCK_ZERO:
        most = request->op == IOD_BLOCK_DISCARD ? limits->max_discard : limits->max_zero;
        if (most == 0) {
            return -EOPNOTSUPP;
        }
        break;
    default:
        return -EOPNOTSUPP;
    }
    if (most > 0 && request->length > most) {
        return -EINVAL;
    }
    return check_range(limits, request);
}

static struct late *late_of(struct iod_block_request *request)
{
    return (struct late *)((char *)request + PART_SIZE(sizeof(*request)));
}

void block_complete_later(struct iod_block *block, struct iod_block_request *request, int result)
{
    struct block_stack *stack = block->stack;
    struct late *late = late_of(request);
    *late = (struct late){ .block = block, .request = request, .result = result };
    list_add_tail(&stack->late, &late->link);
    daemon_loop(stack->daemon)->ops->task_soon(stack->task);
}

void iod_block_submit(struct iod_block *block, struct iod_block_request *request)
{
    int error = check(block, request);
    block->in_flight++;
    if (block->above == NULL) {
        probe_submit(block->stack->device, 0, request->op, request->length);
    }
    if (error != 0 || (request->length == 0 && request->op != IOD_BLOCK_FLUSH)) {
        block_complete_later(block, request, error);
        return;
    }
    block->class->submit(block, request);
}

void iod_block_kick(struct iod_block *block)
{
    for (; block != NULL; block = block->below) {
        if (TABLE_HAS(block->class, kick)) {
            block->class->kick(block);
        }
    }
}

void *iod_block_request_own(struct iod_block *block, struct iod_block_request *request)
{
    return (char *)request + block->own_offset;
}

void iod_block_complete(struct iod_block *block, struct iod_block_request *request, int result)
{
    /* Counted until done has returned: a stop that begins inside it then waits for us, and nothing is freed
     * under us. */
    if (block->above == NULL) {
        struct iod_device *device = block->stack->device;
        probe_finish(device, 0, request->op, result < 0 ? (uint64_t)-result : 0);
        limit_device_begins(device);
        request->done(request, result);
        limit_device_ends(device);
    } else {
        request->done(request, result);
    }
    block->in_flight--;
    stack_look(block->stack);
}

/* ---- what backends ask for ---- */

void iod_block_on_change(struct iod_block *block, void (*changed)(void *self), void *self)
{
    block->changed = changed;
    block->changed_self = self;
}

void iod_block_set_limits(struct iod_block *block, const struct iod_block_limits *limits)
{
    block->limits = *limits;
    if (!block->opened) {
        return;
    }
    if (block->changed != NULL) {
        block->changed(block->changed_self);
    } else if (block->above != NULL && block->above->opened) {
        iod_block_set_limits(block->above, limits); /* a filter that does not listen shows what is below it */
    }
}

void *iod_block_self(const struct iod_block *block)
{
    return block->self;
}

struct iod_device *iod_block_device(const struct iod_block *block)
{
    return block->stack->device;
}

const struct iod_options *iod_block_options(const struct iod_block *block)
{
    return block->options;
}

struct daemon *block_daemon(const struct iod_block *block)
{
    return block->stack->daemon;
}
