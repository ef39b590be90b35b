/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "core/daemon.h"
#include "core/list.h"

enum {
    LINE_ROOM = 160,
    OUTPUT_A_TURN = 4096, /* bytes */
    OUTPUT_TURNS_LEFT = 32, /* a full pipe, and some: others may write on for ever */
};

/* The service: children outlive the devices that started them, but not the daemon. */
struct children {
    struct daemon *daemon;
    struct list all;
};

struct child {
    struct list link;
    struct children *children;
    pid_t pid;
    int pidfd, output;
    struct loop_watch *end_watch, *output_watch;
    struct loop_timer *limit;
    void (*ended)(void *self, const struct child_end *end);
    void *self;
    bool timed_out, line_ended;
    size_t length;
    char line[LINE_ROOM], first[LINE_ROOM];
};

/* ---- what it says ---- */

static void take_output(struct child *child, const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (text[i] == '\n' || text[i] == '\r') {
            child->line_ended = child->length > 0; /* an empty line is none */
            if (child->first[0] == '\0') {
                strcpy(child->first, child->line);
            }
            continue;
        }
        if (child->line_ended) {
            child->length = 0;
            child->line_ended = false;
        }
        if (child->length + 1 < sizeof(child->line)) {
            bool control = (unsigned char)text[i] < 0x20 || text[i] == 0x7f;
            child->line[child->length++] = control ? '?' : text[i];
            child->line[child->length] = '\0';
        }
    }
}

/* The value is read's. */
static ssize_t read_output(struct child *child)
{
    char text[OUTPUT_A_TURN];
    ssize_t got = read(child->output, text, sizeof(text));
    if (got > 0) {
        take_output(child, text, (size_t)got);
    }
    return got;
}

static void output_ready(void *self, unsigned events)
{
    struct child *child = self;
    ssize_t got = read_output(child);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        daemon_loop(child->children->daemon)->ops->watch_set(child->output_watch, 0);
    }
}

/* ---- its end ---- */

static const struct service_class children_service;

static void child_free(struct child *child)
{
    const struct loop_ops *ops = daemon_loop(child->children->daemon)->ops;
    ops->watch_remove(child->end_watch);
    ops->watch_remove(child->output_watch);
    ops->timer_remove(child->limit);
    if (child->pidfd >= 0) {
        close(child->pidfd);
    }
    if (child->output >= 0) {
        close(child->output);
    }
    list_remove(&child->link);
    free(child);
}

void child_kill(struct child *child)
{
    kill(-child->pid, SIGKILL); /* not reaped yet, so the number is still its own */
}

static void limit_reached(void *self)
{
    struct child *child = self;
    child->timed_out = true;
    child_kill(child);
}

static void end_ready(void *self, unsigned events)
{
    struct child *child = self;
    struct daemon *daemon = child->children->daemon;
    siginfo_t info = { 0 };
    char how[96] = "ended; how, somebody else was told (SIGCHLD is ignored)";
    int result = waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG);
    if (result == 0 && info.si_pid == 0) {
        return;
    }
    for (unsigned i = 0; i < OUTPUT_TURNS_LEFT && read_output(child) > 0; i++) {
        /* what it said last */
    }
    if (result == 0 && info.si_code == CLD_EXITED) {
        snprintf(how, sizeof(how), "exited with status %d", info.si_status);
    } else if (result == 0 && !child->timed_out) {
        snprintf(how, sizeof(how), "was killed by signal %d (%s)", info.si_status,
                 strsignal(info.si_status));
    } else if (child->timed_out) {
        snprintf(how, sizeof(how), "took longer than its time limit");
    }
    if (child->ended != NULL) {
        const struct child_end end = {
            .good = result == 0 && info.si_code == CLD_EXITED && info.si_status == 0 && !child->timed_out,
            .timed_out = child->timed_out,
            .how = how,
            .first = child->first[0] != '\0' ? child->first : child->line,
            .last = child->line,
        };
        child->ended(child->self, &end);
    }
    child_free(child);
    daemon_service_put(daemon, &children_service);
}

void child_let_go(struct child *child, bool kill_it)
{
    if (child != NULL) {
        child->ended = NULL;
        if (kill_it) {
            child_kill(child);
        }
    }
}

/* ---- its begin ---- */

/* Our environment with `more` in the place of what has the same name. NULL: out of memory. */
static char **environment_with(const char *const *more)
{
    size_t count = 0, ours = 0;
    while (more != NULL && more[count] != NULL) {
        count++;
    }
    while (environ != NULL && environ[ours] != NULL) {
        ours++;
    }
    char **all = calloc(count + ours + 1, sizeof(*all));
    if (all == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        all[i] = (char *)more[i];
    }
    size_t used = count;
    for (size_t i = 0; i < ours; i++) {
        bool replaced = false;
        for (size_t j = 0; j < count && !replaced; j++) {
            size_t name = strcspn(more[j], "=") + 1;
            replaced = strncmp(environ[i], more[j], name) == 0;
        }
        if (!replaced) {
            all[used++] = environ[i];
        }
    }
    return all;
}

static int prepare(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, int output, int fd)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int result = posix_spawnattr_setsigmask(attributes, &none);
    result = result ? result : posix_spawnattr_setsigdefault(attributes, &all);
    result = result ? result : posix_spawnattr_setpgroup(attributes, 0);
    result = result ? result
                    : posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                               POSIX_SPAWN_SETPGROUP);
    result = result ? result : posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    result = result ? result : posix_spawn_file_actions_adddup2(actions, output, 1);
    result = result ? result : posix_spawn_file_actions_adddup2(actions, output, 2);
    if (fd >= 0) {
        result = result ? result : posix_spawn_file_actions_adddup2(actions, fd, CHILD_FD);
    }
    return result ? result
                  : posix_spawn_file_actions_addclosefrom_np(actions, fd >= 0 ? CHILD_FD + 1 : CHILD_FD);
}

/* output, fd: above CHILD_FD, so that no dup2 overwrites one that a later dup2 needs. 0 or an errno. */
static int spawn(struct child *child, const struct child_plan *plan, int output, int fd)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    char **environment = environment_with(plan->environment);
    if (environment == NULL) {
        return ENOMEM;
    }
    int result = posix_spawn_file_actions_init(&actions);
    if (result == 0) {
        result = posix_spawnattr_init(&attributes);
        if (result == 0) {
            result = prepare(&actions, &attributes, output, fd);
            result = result ? result
                            : posix_spawnp(&child->pid, plan->arguments[0], &actions, &attributes,
                                           (char *const *)plan->arguments, environment);
            posix_spawnattr_destroy(&attributes);
        }
        posix_spawn_file_actions_destroy(&actions);
    }
    free(environment);
    return result;
}

static int high_duplicate(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, CHILD_FD + 1);
}

/* 0 or an errno. */
static int launch(struct child *child, const struct child_plan *plan)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return errno;
    }
    child->output = ends[0];
    int output = high_duplicate(ends[1]), fd = plan->fd >= 0 ? high_duplicate(plan->fd) : -1;
    bool failed = output < 0 || (plan->fd >= 0 && fd < 0) || fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0;
    int result = failed ? errno : 0;
    result = result ? result : spawn(child, plan, output, fd);
    close(ends[1]);
    if (output >= 0) {
        close(output);
    }
    if (fd >= 0) {
        close(fd);
    }
    return result;
}

/* 0 or an errno; what has been started is killed and reaped then. */
static int watch(struct child *child, uint64_t limit_ns)
{
    struct loop *loop = daemon_loop(child->children->daemon);
    child->pidfd = pidfd_open(child->pid, 0);
    int result = child->pidfd < 0 ? errno : 0;
    if (result == 0) {
        child->end_watch = loop->ops->watch_add(loop, child->pidfd, IOD_READABLE, end_ready, child);
        child->output_watch = loop->ops->watch_add(loop, child->output, IOD_READABLE, output_ready, child);
        child->limit = loop->ops->timer_add(loop, limit_reached, child);
        result = child->end_watch == NULL || child->output_watch == NULL || child->limit == NULL ? ENOMEM : 0;
    }
    if (result != 0) {
        child_kill(child);
        waitpid(child->pid, NULL, 0); /* it is being killed: this does not last */
        return result;
    }
    if (limit_ns > 0) {
        loop->ops->timer_set(child->limit, loop->ops->now_ns(loop) + limit_ns);
    }
    return 0;
}

struct child *child_start(struct daemon *daemon, const struct child_plan *plan,
                          void (*ended)(void *self, const struct child_end *end), void *self,
                          struct iod_error *error)
{
    struct children *children = daemon_service_get(daemon, &children_service, error);
    if (children == NULL) {
        return NULL;
    }
    struct child *child = calloc(1, sizeof(*child));
    int result = ENOMEM;
    if (child != NULL) {
        *child = (struct child){
            .children = children, .pidfd = -1, .output = -1, .ended = ended, .self = self };
        list_add_tail(&children->all, &child->link);
        result = launch(child, plan);
        result = result ? result : watch(child, plan->limit_ns);
        if (result == 0) {
            return child;
        }
        child_free(child);
    }
    iod_fail(error, result, "%s: can't be started: %s", plan->arguments[0], strerror(result));
    daemon_service_put(daemon, &children_service);
    return NULL;
}

/* ---- the service ---- */

static void *children_create(struct daemon *daemon, struct iod_error *error)
{
    struct children *children = calloc(1, sizeof(*children));
    if (children == NULL) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    children->daemon = daemon;
    list_init(&children->all);
    return children;
}

/* At the daemon's end those that still run (a script that cleans up) go on without us. */
static void children_destroy(void *service)
{
    struct children *children = service;
    struct child *child;
    list_for_each(child, &children->all, struct child, link) {
        child_free(child);
    }
    free(children);
}

static const struct service_class children_service = {
    .name = "children", .create = children_create, .destroy = children_destroy,
};
