/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The daemon's side of the xenstore helper: starts it, hears what it says, and starts it again when it dies
 * or is stuck. Nothing here waits: the socket is non-blocking, a dead helper is reaped by a timer.
 */
#include "xen/xen.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "xen/store_inside.h"

#define MS 1000000ull
#define RESTART_MIN_MS 100u
#define RESTART_MAX_MS 10000u
#define HELPER_FD 3        /* the socket's number in the helper */
#define MESSAGES_A_TURN 64 /* then other descriptors have their turn */
#define REAP_TRIES 200     /* of a millisecond, at the end */

extern char **environ;

struct xen_store {
    struct store store;
    struct loop *loop;
    char *helper_exe;
    const struct store_events *events;
    void *self;

    pid_t pid; /* the helper; 0: none, or reaped */
    struct mailbox mailbox; /* has the descriptor to the helper, and its watch */
    struct loop_timer *timer; /* while it runs: the time to hear from it; else: the time to start it again */
    unsigned restart_ms;
    bool lost; /* was reported, and no snapshot came since */

    struct store_domain *domains; /* the snapshot being received */
    unsigned count, room;
};

static void lose(struct xen_store *s, const char *why);

static struct xen_store *store_of(struct store *store)
{
    return (struct xen_store *)((char *)store - offsetof(struct xen_store, store));
}

static void timer_in(struct xen_store *s, unsigned ms)
{
    s->loop->ops->timer_set(s->timer, s->loop->ops->now_ns(s->loop) + ms * MS);
}

/* ---- what the helper says ---- */

/* The helper read hostile text; that it checked it is checked here again, since the daemon is worth more. */
bool store_domain_valid(const struct store_domain *domain)
{
    return domain->domid < STORE_DOMID_END && store_text_valid(domain->name, sizeof(domain->name)) &&
           store_text_valid(domain->type, sizeof(domain->type)) &&
           store_text_valid(domain->uuid, sizeof(domain->uuid));
}

static bool add_domain(struct xen_store *s, const struct store_domain *domain)
{
    if (!store_domain_valid(domain) || s->count == STORE_DOMAINS_MAX) {
        return false;
    }
    if (s->count == s->room) {
        unsigned room = s->room ? s->room * 2 : 32;
        struct store_domain *domains = reallocarray(s->domains, room, sizeof(*domains));
        if (!domains) {
            return false;
        }
        s->domains = domains;
        s->room = room;
    }
    s->domains[s->count++] = *domain;
    return true;
}

static void report_lost(struct xen_store *s, const char *why)
{
    if (!s->lost) {
        s->lost = true;
        s->events->lost(s->self, why);
    }
}

/* Returns whether the next message may be read at once. */
static bool hear(struct xen_store *s, struct store_message *message)
{
    timer_in(s, STORE_STALL_MS);
    switch (message->kind) {
    case STORE_ALIVE:
        return true;
    case STORE_DOMAIN:
        if (!add_domain(s, &message->domain)) {
            lose(s, "the xenstore helper broke its protocol; starting it again");
            return false;
        }
        return true;
    case STORE_END: {
        unsigned count = s->count;
        s->count = 0;
        mailbox_connected(&s->mailbox, message->epoch);
        s->lost = false;
        s->restart_ms = RESTART_MIN_MS;
        s->events->domains(s->self, s->domains, count);
        return false;
    }
    case STORE_LOST:
        s->count = 0;
        mailbox_lost(&s->mailbox);
        message->why[sizeof(message->why) - 1] = '\0';
        report_lost(s,
                    store_text_valid(message->why, sizeof(message->why)) ? message->why : "xenstored: lost");
        return false;
    default:
        if (!mailbox_hear(&s->mailbox, message)) {
            lose(s, "the xenstore helper broke its protocol; starting it again");
            return false;
        }
        return message->kind == STORE_NODE;
    }
}

/* Did it come as long as its kind says? */
static bool message_whole(const struct store_message *message, ssize_t got)
{
    if (got < (ssize_t)offsetof(struct store_message, domain) || got > (ssize_t)sizeof(*message) ||
        (message->kind == STORE_NODE && got < (ssize_t)offsetof(struct store_message, node.bytes))) {
        return false;
    }
    size_t size = store_message_size(message);
    return size && got == (ssize_t)size;
}

static void ready(void *self, unsigned events)
{
    struct xen_store *s = self;
    struct store_message message;

    if (events & IOD_WRITABLE) {
        mailbox_flush(&s->mailbox);
    }
    for (unsigned i = 0; i < MESSAGES_A_TURN; i++) {
        ssize_t got = recv(s->mailbox.fd, &message, sizeof(message), MSG_DONTWAIT | MSG_TRUNC);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (!message_whole(&message, got)) {
            lose(s, got > 0 ? "the xenstore helper broke its protocol; starting it again"
                            : "the xenstore helper died; starting it again");
            return;
        }
        if (!hear(s, &message)) { /* a callback ran: nothing is touched after it */
            return;
        }
    }
}

/* ---- its life ---- */

static int spawn(struct xen_store *s, int child_end)
{
    char number[] = {'0' + HELPER_FD, '\0'}, option[] = STORE_HELPER_OPTION, name[] = "ioreqd";
    char *argv[] = {name, option, number, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int error;

    if (posix_spawn_file_actions_init(&actions)) {
        return -ENOMEM;
    }
    if (posix_spawnattr_init(&attributes)) {
        posix_spawn_file_actions_destroy(&actions);
        return -ENOMEM;
    }
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    error = posix_spawn_file_actions_adddup2(&actions, child_end, HELPER_FD);
    if (!error) {
        error = posix_spawn(&s->pid, s->helper_exe, &actions, &attributes, argv, environ);
    }
    if (error) {
        s->pid = 0;
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -error;
}

static int start(struct xen_store *s)
{
    int fds[2], error;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds)) {
        return -errno;
    }
    error = spawn(s, fds[1]);
    close(fds[1]);
    if (error) {
        close(fds[0]);
        return error;
    }
    s->mailbox.fd = fds[0];
    s->count = 0;
    s->mailbox.watch = s->loop->ops->watch_add(s->loop, fds[0], IOD_READABLE, ready, s);
    if (!s->mailbox.watch) {
        return -ENOMEM; /* the caller lets go of the helper */
    }
    timer_in(s, STORE_STALL_MS);
    return 0;
}

/* Lets go of the helper; it is reaped later. */
static void leave(struct xen_store *s)
{
    s->loop->ops->watch_remove(s->mailbox.watch);
    s->mailbox.watch = NULL;
    if (s->mailbox.fd >= 0) {
        close(s->mailbox.fd);
        s->mailbox.fd = -1;
    }
    mailbox_lost(&s->mailbox);
    if (s->pid) {
        kill(s->pid, SIGKILL);
    }
}

static bool reaped(struct xen_store *s)
{
    if (s->pid && waitpid(s->pid, NULL, WNOHANG) == 0) {
        return false;
    }
    s->pid = 0;
    return true;
}

static void restart_later(struct xen_store *s)
{
    timer_in(s, s->restart_ms);
    s->restart_ms = s->restart_ms * 2 < RESTART_MAX_MS ? s->restart_ms * 2 : RESTART_MAX_MS;
}

static void lose(struct xen_store *s, const char *why)
{
    leave(s);
    restart_later(s);
    report_lost(s, why);
}

static void timed_out(void *self)
{
    struct xen_store *s = self;
    int error;
    char why[160];

    if (s->mailbox.watch) {
        lose(s, "xenstored does not answer; trying again");
        return;
    }
    if (!reaped(s)) {
        restart_later(s);
        return;
    }
    error = start(s);
    if (error) {
        snprintf(why, sizeof(why), "the xenstore helper (%s) can't be started: %s", s->helper_exe,
                 strerror(-error));
        lose(s, why);
    }
}

static int store_watch(struct store *store, const struct store_events *events, void *self)
{
    struct xen_store *s = store_of(store);
    int error;

    s->events = events;
    s->self = self;
    error = start(s);
    if (error) {
        leave(s);
    }
    return error;
}

static void store_destroy(struct store *store)
{
    struct xen_store *s = store_of(store);

    leave(s);
    for (unsigned i = 0; !reaped(s) && i < REAP_TRIES; i++) {
        nanosleep(&(struct timespec){.tv_nsec = MS}, NULL);
    }
    s->loop->ops->timer_remove(s->timer);
    mailbox_finish(&s->mailbox);
    free(s->domains);
    free(s->helper_exe);
    free(s);
}

static struct store_tree *store_tree_add(struct store *store, const char *path, unsigned depth,
                                         const struct store_tree_events *events, void *self)
{
    return mailbox_tree_add(&store_of(store)->mailbox, path, depth, events, self);
}

static int store_change(struct store *store, const struct store_change *changes, unsigned count,
                        void (*done)(void *self, int error), void *self)
{
    return mailbox_change(&store_of(store)->mailbox, changes, count, done, self);
}

static void store_forget(struct store *store, void *self)
{
    mailbox_forget(&store_of(store)->mailbox, self);
}

static const struct store_ops xen_store_ops = {
    .watch = store_watch,
    .destroy = store_destroy,
    .tree_add = store_tree_add,
    .tree_remove = mailbox_tree_remove,
    .change = store_change,
    .forget = store_forget,
};

struct store *xen_store_create(struct loop *loop, const char *helper_exe, struct iod_error *error)
{
    struct xen_store *s = calloc(1, sizeof(*s));

    if (!s) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    *s = (struct xen_store){.store.ops = &xen_store_ops, .loop = loop, .restart_ms = RESTART_MIN_MS};
    mailbox_init(&s->mailbox, loop);
    s->helper_exe = strdup(helper_exe ? helper_exe : "/proc/self/exe");
    s->timer = loop->ops->timer_add(loop, timed_out, s);
    if (!s->helper_exe || !s->timer) {
        store_destroy(&s->store);
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    return &s->store;
}
