/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes as what a client of the control socket sends, in pieces, over a fake loop and a fake daemon that
 * answers now, later or never. Each line that comes back must be JSON; what the daemon keeps for the client
 * stays within its bounds. Byte 0: length of the pieces; byte 1: what happens between them.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "control/inside.h"

#include "../unit/fake_daemon.h"
#include "fuzz.h"

/* ---- a loop that runs what is queued when it is told to ---- */

struct loop_watch {
    void (*ready)(void *self, unsigned events);
    void *self;
    unsigned events;
};
struct loop_timer {
    struct list link;
    void (*fire)(void *self);
    void *self;
    bool set;
};
struct loop_task {
    struct list link;
    void (*run)(void *self);
    void *self;
    bool queued;
};
struct machine {
    struct loop loop;
    struct loop_watch *watch; /* the client's; its `ready` is NULL when it was closed */
    int fd;                   /* the daemon's end */
    struct list tasks, timers;
    uint64_t now;
    struct daemon daemon;
    struct control control;
};

static struct machine *machine_of(struct loop *loop)
{
    return list_entry(loop, struct machine, loop);
}

static uint64_t now_ns(struct loop *loop)
{
    return machine_of(loop)->now += 1000;
}

static struct loop_watch *watch_add(struct loop *loop, int fd, unsigned events,
                                    void (*ready)(void *self, unsigned events), void *self)
{
    struct loop_watch *watch = malloc(sizeof(*watch));

    if (watch) {
        *watch = (struct loop_watch){ready, self, events};
        machine_of(loop)->watch = watch;
    }
    return watch;
}

static void watch_set(struct loop_watch *watch, unsigned events)
{
    watch->events = events;
}

static void watch_remove(struct loop_watch *watch)
{
    if (watch) {
        watch->events = 0;
        watch->ready = NULL; /* freed by the machine, which looks at it */
    }
}

static struct loop_timer *timer_add(struct loop *loop, void (*fire)(void *self), void *self)
{
    struct loop_timer *timer = malloc(sizeof(*timer));

    if (timer) {
        *timer = (struct loop_timer){.fire = fire, .self = self};
        list_add_tail(&machine_of(loop)->timers, &timer->link);
    }
    return timer;
}

static void timer_set(struct loop_timer *timer, uint64_t at_ns)
{
    timer->set = true;
}

static void timer_cancel(struct loop_timer *timer)
{
    timer->set = false;
}

static void timer_remove(struct loop_timer *timer)
{
    if (timer) {
        list_remove(&timer->link);
        free(timer);
    }
}

static struct loop_task *task_add(struct loop *loop, void (*run)(void *self), void *self)
{
    struct loop_task *task = malloc(sizeof(*task));

    if (task) {
        *task = (struct loop_task){.run = run, .self = self};
        list_add_tail(&machine_of(loop)->tasks, &task->link);
    }
    return task;
}

static void task_queue(struct loop_task *task)
{
    task->queued = true;
}

static void task_cancel(struct loop_task *task)
{
    task->queued = false;
}

static void task_remove(struct loop_task *task)
{
    if (task) {
        list_remove(&task->link);
        free(task);
    }
}

static const struct loop_ops ops = {
    .now_ns = now_ns,
    .watch_add = watch_add,
    .watch_set = watch_set,
    .watch_remove = watch_remove,
    .timer_add = timer_add,
    .timer_set = timer_set,
    .timer_cancel = timer_cancel,
    .timer_remove = timer_remove,
    .task_add = task_add,
    .task_soon = task_queue,
    .task_last = task_queue,
    .task_again = task_queue,
    .task_cancel = task_cancel,
    .task_remove = task_remove,
};

static bool run_task(struct machine *machine)
{
    struct loop_task *task;

    list_for_each(task, &machine->tasks, struct loop_task, link)
    {
        if (task->queued) {
            task->queued = false;
            task->run(task->self);
            return true; /* the list may have changed */
        }
    }
    return false;
}

static bool fire_timer(struct machine *machine)
{
    struct loop_timer *timer;

    list_for_each(timer, &machine->timers, struct loop_timer, link)
    {
        if (timer->set) {
            timer->set = false;
            timer->fire(timer->self);
            return true;
        }
    }
    return false;
}

/* ---- the client ---- */

#define ANSWERS_MAX (2 * REPLY_MAX)

struct answers {
    char *bytes; /* ANSWERS_MAX, kept from one input to the next */
    size_t length;
};

static void check_lines(struct answers *answers)
{
    char *end;

    while ((end = answers->length ? memchr(answers->bytes, '\n', answers->length) : NULL)) {
        size_t line = (size_t)(end - answers->bytes) + 1;
        json_t *message = json_loadb(answers->bytes, line, 0, NULL);
        FUZZ_CHECK(message && json_is_object(message));
        FUZZ_CHECK(line >= 2 && end[-1] == '\r');
        json_decref(message);
        answers->length -= line;
        memmove(answers->bytes, end + 1, answers->length);
    }
}

static void take_answers(struct answers *answers, int fd)
{
    ssize_t got;

    do {
        FUZZ_CHECK(answers->length < ANSWERS_MAX);
        got = recv(fd, answers->bytes + answers->length, ANSWERS_MAX - answers->length, MSG_DONTWAIT);
        answers->length += got > 0 ? (size_t)got : 0;
        check_lines(answers);
    } while (got > 0);
}

/* As the loop does: only what is so. */
static void look_at(struct loop_watch *watch, int fd)
{
    struct pollfd ready = {.fd = fd,
                           .events = (short)((watch->events & IOD_READABLE ? POLLIN : 0) |
                                             (watch->events & IOD_WRITABLE ? POLLOUT : 0))};

    if (watch->ready && poll(&ready, 1, 0) == 1) {
        watch->ready(watch->self, (ready.revents & ~POLLOUT ? IOD_READABLE : 0) |
                                      (ready.revents & POLLOUT ? IOD_WRITABLE : 0));
    }
}

static void turn(struct machine *machine, struct answers *answers, int fd)
{
    for (unsigned rounds = 0; rounds < 1000; rounds++) {
        look_at(machine->watch, machine->fd);
        bool ran = run_task(machine);
        struct client *client = list_first(&machine->control.clients, struct client, link);
        if (!ran || (client && client->out.length)) {
            take_answers(answers, fd);
        }
        if (!ran) {
            return;
        }
        FUZZ_CHECK(!client || (client->in.length <= FRAME_MAX &&
                               client->out.length <= OUT_HIGH + REPLY_MAX + OUT_EVENTS));
    }
}

static void happen(struct machine *machine, unsigned what)
{
    static const struct trace_record record = {
        .probe = PROBE_take, .type = REQUEST_PIO, .device = "d\xff\"", .text = "x"};

    switch (what & 7) {
    case 0:
        fake_daemon_answer(&machine->daemon, 0, "");
        break;
    case 1:
        fake_daemon_answer(&machine->daemon, -EIO,
                           "b\xe4"
                           "ckend \"lost\"\x01");
        break;
    case 2:
        machine->daemon.status.served = true;
        fake_daemon_tell(&machine->daemon, EVENT_DEVICE_ADDED, "d\xff");
        break;
    case 3:
        fake_daemon_tell(&machine->daemon, EVENT_GUEST_STATE, "failed");
        break;
    case 4:
        fire_timer(machine);
        break;
    case 5:
        machine->daemon.fail = ENOENT;
        break;
    case 6:
        if (machine->daemon.sink) {
            machine->daemon.sink(machine->daemon.sink_self, &record, 1, 0);
        }
        break;
    default:
        break;
    }
}

static void next_turn(void *self)
{
    ((struct control *)self)->taken = false;
}

static void begin(struct machine *machine, int fd)
{
    machine->fd = fd;
    list_init(&machine->tasks);
    list_init(&machine->timers);
    machine->loop.ops = &ops;
    fake_daemon_init(&machine->daemon, &machine->loop);
    machine->control = (struct control){.daemon = &machine->daemon, .loop = &machine->loop, .listener = -1};
    machine->control.config = (struct control_config){.version = "1.2.3"};
    list_init(&machine->control.clients);
    list_init(&machine->control.calls);
    list_init(&machine->control.waiting);
    machine->control.events.event = event_listener;
    daemon_listen(&machine->daemon, &machine->control.events);
    machine->control.look = task_add(&machine->loop, (void (*)(void *))wait_look, &machine->control);
    machine->control.next_turn = task_add(&machine->loop, next_turn, &machine->control);
    FUZZ_CHECK(client_create(&machine->control, fd, false));
}

static void finish(struct machine *machine)
{
    struct client *client = list_first(&machine->control.clients, struct client, link);

    if (client) {
        client_destroy(client);
    }
    fake_daemon_answer(&machine->daemon, 0, ""); /* comes for nobody */
    FUZZ_CHECK(list_empty(&machine->control.calls));
    task_remove(machine->control.look);
    task_remove(machine->control.next_turn);
    fake_daemon_finish(&machine->daemon);
    FUZZ_CHECK(list_empty(&machine->tasks) && list_empty(&machine->timers));
    free(machine->watch);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct machine machine = {.now = 1};
    static char *space;
    struct answers answers = {space = space ? space : malloc(ANSWERS_MAX), 0};
    int fds[2];

    if (!space || length < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds)) {
        return 0;
    }
    size_t piece = (size_t)bytes[0] * 4 + 1 + length / 64;
    begin(&machine, fds[0]);
    for (size_t at = 2; at < length && machine.watch->ready; at += piece) {
        size_t part = piece < length - at ? piece : length - at;
        if (send(fds[1], bytes + at, part, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            break;
        }
        turn(&machine, &answers, fds[1]);
        happen(&machine, bytes[1] + (unsigned)at / 16);
        turn(&machine, &answers, fds[1]);
    }
    if (bytes[1] & 0x80) {
        shutdown(fds[1], SHUT_WR);
        turn(&machine, &answers, fds[1]);
    }
    finish(&machine);
    FUZZ_CHECK(answers.length == 0); /* whole lines only */
    close(fds[1]);
    return 0;
}
