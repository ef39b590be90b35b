/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One turn: poll, call what is ready, fire the timers that are due, run the tasks. Timers are ours, not
 * libevent's: libevent's heap may allocate when a timer is armed, and its precise mode costs a system call on
 * every turn; one timerfd, touched only when the earliest deadline moves forward, costs none on the way of an
 * access.
 */
#include "loop/event_loop.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include <ioreqd/loop.h>

#include "core/list.h"
#include "loop/timer_heap.h"

#define NEVER UINT64_MAX
/* How often tasks may queue further ones for the same batch before the descriptors get their turn. */
#define TASK_ROUNDS 16

struct event_loop {
    struct loop loop;
    struct event_base *base;
    bool stop;

    struct timer_heap heap;
    struct list due; /* timers taken off the heap, about to fire */
    int timerfd;
    struct event *timer_event;
    uint64_t armed_ns; /* what the timerfd is set to; NEVER: nothing */

    struct list soon;    /* tasks for the end of this batch */
    struct list running; /* the round of them that is being run */
    struct list last;    /* tasks for when no other is left in this batch */
    struct list again;   /* tasks for after the next poll */

    struct list signals;
};

struct loop_watch {
    struct event_loop *loop;
    struct event *event;
    int fd;
    unsigned events;
    void (*ready)(void *self, unsigned events);
    void *self;
};

struct loop_timer {
    struct event_loop *loop;
    struct heap_entry entry;
    struct list link; /* in `due`, or alone */
    void (*fire)(void *self);
    void *self;
};

struct loop_task {
    struct event_loop *loop;
    struct list link; /* in soon, running, last or again; or alone */
    bool waits;       /* it is in `last` or `again` */
    void (*run)(void *self);
    void *self;
};

struct loop_signal {
    struct event *event;
    struct list link;
    void (*cb)(void *self, int signo);
    void *self;
};

static struct event_loop *event_loop_of(struct loop *loop)
{
    return (struct event_loop *)((char *)loop - offsetof(struct event_loop, loop));
}

/* ---- descriptors ---- */

static short libevent_events(unsigned events)
{
    return (events & IOD_READABLE ? EV_READ : 0) | (events & IOD_WRITABLE ? EV_WRITE : 0);
}

static void watch_ready(evutil_socket_t fd, short what, void *arg)
{
    struct loop_watch *watch = arg;

    /* The callback may remove the watch: nothing is touched after it. */
    watch->ready(watch->self, (what & EV_READ ? IOD_READABLE : 0) | (what & EV_WRITE ? IOD_WRITABLE : 0));
}

static void watch_remove(struct loop_watch *watch)
{
    if (watch) {
        event_free(watch->event); /* also takes it off libevent's list of ready ones */
        free(watch);
    }
}

static struct loop_watch *watch_add(struct loop *loop, int fd, unsigned events,
                                    void (*ready)(void *self, unsigned events), void *self)
{
    struct event_loop *l = event_loop_of(loop);
    struct loop_watch *watch = calloc(1, sizeof(*watch));

    if (!watch) {
        return NULL;
    }
    *watch = (struct loop_watch){.loop = l, .fd = fd, .events = events, .ready = ready, .self = self};
    watch->event = event_new(l->base, fd, libevent_events(events) | EV_PERSIST, watch_ready, watch);
    if (!watch->event) {
        free(watch);
        return NULL;
    }
    if (events && event_add(watch->event, NULL)) {
        watch_remove(watch);
        return NULL;
    }
    return watch;
}

static void watch_set(struct loop_watch *watch, unsigned events)
{
    if (events == watch->events) {
        return;
    }
    watch->events = events;
    event_del(watch->event);
    event_assign(watch->event, watch->loop->base, watch->fd, libevent_events(events) | EV_PERSIST,
                 watch_ready, watch);
    if (events) {
        event_add(watch->event, NULL);
    }
}

/* ---- time ---- */

static uint64_t now_ns(struct loop *loop)
{
    struct timespec now;

    (void)loop;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct loop_timer *timer_add(struct loop *loop, void (*fire)(void *self), void *self)
{
    struct event_loop *l = event_loop_of(loop);
    struct loop_timer *timer = calloc(1, sizeof(*timer));

    if (!timer) {
        return NULL;
    }
    if (timer_heap_reserve(&l->heap)) {
        free(timer);
        return NULL;
    }
    *timer = (struct loop_timer){.loop = l, .entry.position = HEAP_OUT, .fire = fire, .self = self};
    list_init(&timer->link);
    return timer;
}

static void timer_set(struct loop_timer *timer, uint64_t at_ns)
{
    list_remove(&timer->link);
    timer_heap_set(&timer->loop->heap, &timer->entry, at_ns);
}

static void timer_cancel(struct loop_timer *timer)
{
    list_remove(&timer->link);
    timer_heap_remove(&timer->loop->heap, &timer->entry);
}

static void timer_remove(struct loop_timer *timer)
{
    if (timer) {
        timer_cancel(timer);
        timer_heap_release(&timer->loop->heap);
        free(timer);
    }
}

static bool timers_are_due(struct event_loop *l)
{
    struct heap_entry *first = timer_heap_first(&l->heap);

    return first && first->at_ns <= now_ns(&l->loop);
}

/* First takes all that are due off the heap: one that arms itself for the past again has to wait for the next
 * turn. */
static void timers_run(struct event_loop *l)
{
    struct heap_entry *first = timer_heap_first(&l->heap);
    uint64_t now = first ? now_ns(&l->loop) : 0;

    while (first && first->at_ns <= now) {
        struct loop_timer *timer = list_entry(first, struct loop_timer, entry);
        timer_heap_remove(&l->heap, first);
        list_add_tail(&l->due, &timer->link);
        first = timer_heap_first(&l->heap);
    }
    while (!list_empty(&l->due)) {
        struct loop_timer *timer = list_first(&l->due, struct loop_timer, link);
        list_remove(&timer->link);
        timer->fire(timer->self);
    }
}

/* A deadline that moved back costs nothing: the old one wakes the loop once for nothing, then the new one is
 * set. */
static void timers_arm(struct event_loop *l)
{
    struct heap_entry *first = timer_heap_first(&l->heap);

    if (first && first->at_ns < l->armed_ns) {
        struct itimerspec at = {.it_value = {.tv_sec = (time_t)(first->at_ns / 1000000000u),
                                             .tv_nsec = (long)(first->at_ns % 1000000000u)}};
        timerfd_settime(l->timerfd, TFD_TIMER_ABSTIME, &at, NULL);
        l->armed_ns = first->at_ns;
    }
}

/* The timers themselves fire after the descriptors' callbacks, in the same turn. */
static void timerfd_ready(evutil_socket_t fd, short what, void *arg)
{
    struct event_loop *l = arg;
    uint64_t expirations;

    if (read(fd, &expirations, sizeof(expirations)) == (ssize_t)sizeof(expirations)) {
        l->armed_ns = NEVER;
    }
}

/* ---- tasks ---- */

static void splice_tail(struct list *to, struct list *from)
{
    if (!list_empty(from)) {
        from->next->prev = to->prev;
        to->prev->next = from->next;
        from->prev->next = to;
        to->prev = from->prev;
        list_init(from);
    }
}

static struct loop_task *task_add(struct loop *loop, void (*run)(void *self), void *self)
{
    struct loop_task *task = calloc(1, sizeof(*task));

    if (task) {
        *task = (struct loop_task){.loop = event_loop_of(loop), .run = run, .self = self};
        list_init(&task->link);
    }
    return task;
}

static void task_soon(struct loop_task *task)
{
    if (task->waits || list_empty(&task->link)) {
        list_remove(&task->link);
        task->waits = false;
        list_add_tail(&task->loop->soon, &task->link);
    }
}

static void task_last(struct loop_task *task)
{
    if (list_empty(&task->link)) {
        task->waits = true;
        list_add_tail(&task->loop->last, &task->link);
    }
}

static void task_again(struct loop_task *task)
{
    if (list_empty(&task->link)) {
        task->waits = true;
        list_add_tail(&task->loop->again, &task->link);
    }
}

static void task_cancel(struct loop_task *task)
{
    list_remove(&task->link);
    task->waits = false;
}

static void task_remove(struct loop_task *task)
{
    if (task) {
        task_cancel(task);
        free(task);
    }
}

static void tasks_promote(struct event_loop *l, struct list *waiting)
{
    struct loop_task *task;

    list_for_each(task, waiting, struct loop_task, link) {
        task->waits = false;
    }
    splice_tail(&l->soon, waiting);
}

/* Tasks that queue themselves for ever can't keep the loop: what is left after TASK_ROUNDS runs after the
 * next poll. */
static void tasks_run(struct event_loop *l)
{
    for (unsigned round = 0; round < TASK_ROUNDS; round++) {
        if (list_empty(&l->soon)) {
            tasks_promote(l, &l->last);
        }
        if (list_empty(&l->soon)) {
            break;
        }
        splice_tail(&l->running, &l->soon);
        while (!list_empty(&l->running)) {
            struct loop_task *task = list_first(&l->running, struct loop_task, link);
            list_remove(&task->link);
            task->run(task->self);
        }
    }
}

/* ---- the loop itself ---- */

static const struct loop_ops event_loop_ops = {
    .now_ns = now_ns,
    .watch_add = watch_add,
    .watch_set = watch_set,
    .watch_remove = watch_remove,
    .timer_add = timer_add,
    .timer_set = timer_set,
    .timer_cancel = timer_cancel,
    .timer_remove = timer_remove,
    .task_add = task_add,
    .task_soon = task_soon,
    .task_last = task_last,
    .task_again = task_again,
    .task_cancel = task_cancel,
    .task_remove = task_remove,
};

static struct event_base *base_create(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base;

    if (!config) {
        return NULL;
    }
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
    base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

struct loop *event_loop_create(void)
{
    struct event_loop *l = calloc(1, sizeof(*l));
    int error;

    if (!l) {
        return NULL;
    }
    l->loop.ops = &event_loop_ops;
    l->armed_ns = NEVER;
    list_init(&l->due);
    list_init(&l->soon);
    list_init(&l->running);
    list_init(&l->last);
    list_init(&l->again);
    list_init(&l->signals);
    l->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (l->timerfd < 0) {
        free(l);
        return NULL;
    }
    l->base = base_create();
    if (l->base) {
        l->timer_event = event_new(l->base, l->timerfd, EV_READ | EV_PERSIST, timerfd_ready, l);
    }
    if (l->timer_event && !event_add(l->timer_event, NULL)) {
        return &l->loop;
    }
    error = errno ? errno : ENOMEM;
    event_loop_destroy(&l->loop);
    errno = error;
    return NULL;
}

void event_loop_destroy(struct loop *loop)
{
    struct event_loop *l;
    struct loop_signal *signal;

    if (!loop) {
        return;
    }
    l = event_loop_of(loop);
    list_for_each(signal, &l->signals, struct loop_signal, link) {
        event_free(signal->event);
        free(signal);
    }
    if (l->timer_event) {
        event_free(l->timer_event);
    }
    if (l->base) {
        event_base_free(l->base);
    }
    timer_heap_finish(&l->heap);
    close(l->timerfd);
    free(l);
}

static int turn(struct event_loop *l)
{
    int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

    tasks_promote(l, &l->again);
    if (!list_empty(&l->soon) || !list_empty(&l->last) || timers_are_due(l)) {
        flags |= EVLOOP_NONBLOCK;
    } else {
        timers_arm(l);
    }
    if (event_base_loop(l->base, flags) < 0) {
        return errno ? -errno : -EIO;
    }
    timers_run(l);
    tasks_run(l);
    return 0;
}

int event_loop_run(struct loop *loop)
{
    struct event_loop *l = event_loop_of(loop);
    int ret = 0;

    while (!l->stop && ret == 0) {
        ret = turn(l);
    }
    l->stop = false;
    return ret;
}

void event_loop_stop(struct loop *loop)
{
    event_loop_of(loop)->stop = true;
}

static void signal_came(evutil_socket_t signo, short what, void *arg)
{
    struct loop_signal *signal = arg;

    signal->cb(signal->self, (int)signo);
}

int event_loop_signal(struct loop *loop, int signo, void (*cb)(void *self, int signo), void *self)
{
    struct event_loop *l = event_loop_of(loop);
    struct loop_signal *signal = calloc(1, sizeof(*signal));

    if (!signal) {
        return -ENOMEM;
    }
    signal->cb = cb;
    signal->self = self;
    signal->event = evsignal_new(l->base, signo, signal_came, signal);
    if (!signal->event || evsignal_add(signal->event, NULL)) {
        if (signal->event) {
            event_free(signal->event);
        }
        free(signal);
        return -ENOMEM;
    }
    list_add_tail(&l->signals, &signal->link);
    return 0;
}
