/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/emulator.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "launch/spawned.h"
#include "launch/fd_stream.h"
#include "launch/process.h"

#define SECOND UINT64_C(1000000000)
#define LOOK_NS UINT64_C(50000000) /* between looks at a pid file or a socket */

struct emulator {
    struct emulator_config config;
    const struct list_entry *entry;
    struct loop *loop;
    struct spawned *child;     /* NULL: it ran already */
    struct process *process; /* of the pid, the pid file or the socket's other end */
    int ready_fd, socket;    /* -1: none */
    struct loop_watch *ready_watch, *socket_watch;
    struct loop_timer *limit, *look;
    struct loop_task *later; /* tells ready, or ended, after the caller has us */
    struct store_tree *tree;
    char branch[64], node[64];
    bool ready, ended, ending, at_once;
    char reason[900];
};

static void tell_ended(struct emulator *emulator)
{
    if (!emulator->ended) {
        emulator->ended = true;
        emulator->loop->ops->timer_cancel(emulator->limit);
        emulator->loop->ops->timer_cancel(emulator->look);
        emulator->config.ended(emulator->config.self, emulator);
    }
}

/* ---- readiness ---- */

static void stop_looking(struct emulator *emulator)
{
    const struct loop_ops *ops = emulator->loop->ops;

    if (emulator->limit && emulator->look) { /* not all there: out of memory while it was made */
        ops->timer_cancel(emulator->limit);
        ops->timer_cancel(emulator->look);
    }
    ops->watch_remove(emulator->ready_watch);
    emulator->ready_watch = NULL;
    if (emulator->ready_fd >= 0) {
        close(emulator->ready_fd);
        emulator->ready_fd = -1;
    }
    if (emulator->tree) {
        emulator->config.store->ops->tree_remove(emulator->tree);
        emulator->tree = NULL;
    }
}

static void tell_ready(struct emulator *emulator)
{
    if (!emulator->ready && !emulator->ended && !emulator->ending) {
        emulator->ready = true;
        stop_looking(emulator);
        emulator->config.ready(emulator->config.self, emulator, NULL);
    }
}

static const char *expected_of(const struct list_entry *entry)
{
    return !entry->program                              ? "nobody accepts at"
           : entry->ready == LIST_READY_PIDFILE  ? "no living process in"
           : entry->ready == LIST_READY_SOCKET   ? "nobody listens at"
           : entry->ready == LIST_READY_XENSTORE ? "xenstore has not (or not with that value)"
                                                 : "nothing came on its descriptor";
}

static void too_late(void *self)
{
    struct emulator *emulator = self;
    const struct list_entry *entry = emulator->entry;
    const char *path = entry->program ? entry->path : entry->socket;

    stop_looking(emulator);
    snprintf(emulator->reason, sizeof(emulator->reason), "was not ready within %" PRIu64 " s: %s%s%.200s%s%s",
             entry->limit_ns / SECOND, expected_of(entry), path ? " " : "", path ? path : "",
             emulator->child ? "; it " : "", emulator->child ? spawned_reason(emulator->child) : "");
    emulator->config.ready(emulator->config.self, emulator, emulator->reason);
}

/* It writes when it is ready. It closes the descriptor when it ends, too, which tells more. */
static void fd_ready(void *self, unsigned events)
{
    struct emulator *emulator = self;
    char bytes[64];
    ssize_t count = read(emulator->ready_fd, bytes, sizeof(bytes));

    if (count > 0) {
        tell_ready(emulator);
    } else if (count == 0) {
        emulator->loop->ops->watch_set(emulator->ready_watch, 0);
    }
}

static void process_ended(void *self)
{
    struct emulator *emulator = self;

    snprintf(emulator->reason, sizeof(emulator->reason), "ended");
    tell_ended(emulator);
}

static bool follow(struct emulator *emulator, pid_t pid)
{
    emulator->process = process_follow(emulator->loop, pid, process_ended, emulator);
    return emulator->process != NULL;
}

static void look_at_pidfile(struct emulator *emulator)
{
    int stale;
    pid_t pid = process_of_file(emulator->entry->path, &stale);

    if (!pid) {
        return;
    }
    if (spawned_ended(emulator->child) || pid != spawned_pid(emulator->child)) {
        if (!follow(emulator, pid)) {
            return; /* it died in this very moment: the limit will tell */
        }
    }
    tell_ready(emulator);
}

static void look_at_socket(struct emulator *emulator)
{
    int fd = fd_stream_connect(emulator->entry->path);

    if (fd >= 0 || fd == -EAGAIN) {
        if (fd >= 0) {
            close(fd);
        }
        tell_ready(emulator);
    }
}

/* ---- a socket whose other end is the emulator ---- */

static void socket_ready(void *self, unsigned events)
{
    struct emulator *emulator = self;
    char bytes[4096];
    struct fd_pass fds = {.count = 0};
    ssize_t count = fd_stream_read(emulator->socket, bytes, sizeof(bytes), &fds); /* not meant for us */

    fd_pass_close(&fds);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
        emulator->loop->ops->watch_set(emulator->socket_watch, 0);
        snprintf(emulator->reason, sizeof(emulator->reason), "closed its socket %.200s",
                 emulator->entry->socket);
        tell_ended(emulator);
    }
}

static void look_for_peer(struct emulator *emulator)
{
    struct loop *loop = emulator->loop;
    struct ucred peer = {0};
    socklen_t size = sizeof(peer);
    int fd = fd_stream_connect(emulator->entry->socket);

    if (fd < 0) {
        return;
    }
    emulator->socket = fd;
    emulator->socket_watch = loop->ops->watch_add(loop, fd, IOD_READABLE, socket_ready, emulator);
    if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) && peer.pid > 0) {
        follow(emulator, peer.pid); /* may fail: then its socket tells its end */
    }
    tell_ready(emulator);
}

static void look(void *self)
{
    struct emulator *emulator = self;

    if (!emulator->entry->program) {
        look_for_peer(emulator);
    } else if (emulator->entry->ready == LIST_READY_PIDFILE) {
        look_at_pidfile(emulator);
    } else {
        look_at_socket(emulator);
    }
    if (!emulator->ready && !emulator->ended && !emulator->ending) {
        emulator->loop->ops->timer_set(emulator->look, emulator->loop->ops->now_ns(emulator->loop) + LOOK_NS);
    }
}

/* ---- xenstore ---- */

static void branch_told(void *self, const struct store_branch *branch)
{
    struct emulator *emulator = self;
    const char *wanted = emulator->entry->value;

    if (strcmp(branch->name, emulator->branch)) {
        return;
    }
    for (unsigned i = 0; i < branch->count; i++) {
        const struct store_node *node = &branch->nodes[i];
        if (!strcmp(node->path, emulator->node) &&
            (!wanted || (node->value && !strcmp(node->value, wanted)))) {
            tell_ready(emulator);
            return;
        }
    }
}

static void begin_told(void *self, uint16_t own)
{
}

static void end_told(void *self)
{
}

/* PATH/BRANCH/NODE: the tree at PATH is told branch by branch. */
static int watch_node(struct emulator *emulator, struct iod_error *error)
{
    static const struct store_tree_events events = {
        .begin = begin_told, .branch = branch_told, .end = end_told};
    const char *path = emulator->entry->path;
    char above[STORE_PATH_MAX + 1];
    const char *node = strrchr(path, '/'), *branch = memrchr(path, '/', (size_t)(node - path));

    if (!emulator->config.store) {
        return iod_fail(error, ENODEV, "%s: ready by xenstore %.120s: there is no xenstore",
                        emulator->entry->name, path);
    }
    if (!branch || branch == path || (size_t)(branch - path) >= sizeof(above) || !node[1] ||
        (size_t)(node - branch - 1) >= sizeof(emulator->branch) ||
        strlen(node + 1) >= sizeof(emulator->node)) {
        return iod_fail(error, EINVAL,
                        "%s: ready by xenstore %.120s: expected a node like /local/domain/ID/NAME",
                        emulator->entry->name, path);
    }
    snprintf(above, sizeof(above), "%.*s", (int)(branch - path), path);
    snprintf(emulator->branch, sizeof(emulator->branch), "%.*s", (int)(node - branch - 1), branch + 1);
    snprintf(emulator->node, sizeof(emulator->node), "%s", node + 1);
    emulator->tree =
        emulator->config.store->ops->tree_add(emulator->config.store, above, 1, &events, emulator);
    return emulator->tree
               ? 0
               : iod_fail(error, ENOMEM, "%s: xenstore %.120s can't be watched", emulator->entry->name, path);
}

/* ---- its end ---- */

static void child_has_ended(void *self)
{
    struct emulator *emulator = self;
    bool left =
        !emulator->ready && emulator->entry->ready == LIST_READY_PIDFILE && !spawned_status(emulator->child);

    if (emulator->process || (left && !emulator->ending)) {
        return; /* it went to the background: the process in its pid file is the emulator */
    }
    tell_ended(emulator);
}

void emulator_end(struct emulator *emulator, int signo)
{
    if (emulator->ended) {
        return;
    }
    emulator->ending = true;
    stop_looking(emulator);
    if (!emulator->child && !emulator->entry->end) { /* not ours to end */
        emulator->loop->ops->task_soon(emulator->later);
        return;
    }
    spawned_signal(emulator->child, signo);
    process_signal(emulator->process, signo);
    if (emulator->process ? false : !emulator->child || spawned_ended(emulator->child)) {
        /* There is none, or not yet, whose end could be waited for. */
        emulator->loop->ops->task_soon(emulator->later);
    }
}

bool emulator_is_ready(const struct emulator *emulator)
{
    return emulator->ready;
}

bool emulator_has_ended(const struct emulator *emulator)
{
    return emulator->ended;
}

bool emulator_ended_well(const struct emulator *emulator)
{
    int status = emulator->child && spawned_ended(emulator->child) ? spawned_status(emulator->child) : 0;

    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

const char *emulator_name(const struct emulator *emulator)
{
    return emulator->entry->name;
}

const char *emulator_reason(struct emulator *emulator)
{
    return emulator->reason[0] ? emulator->reason
           : emulator->child   ? spawned_reason(emulator->child)
                               : "ended";
}

/* ---- its start ---- */

static void later(void *self)
{
    struct emulator *emulator = self;

    if (emulator->ending) {
        tell_ended(emulator);
    } else {
        tell_ready(emulator);
    }
}

static void child_line(void *self, enum iod_log_level level, const char *text)
{
    struct emulator *emulator = self;

    emulator->config.line(emulator->config.self, level, emulator->entry->name, text);
}

/* An emulator of that pid file or socket must not be there already; what a dead one left is removed. */
static int check_fresh(const struct list_entry *entry, struct iod_error *error)
{
    int stale = 0;
    pid_t pid = entry->ready == LIST_READY_PIDFILE ? process_of_file(entry->path, &stale) : 0;
    int fd = entry->ready == LIST_READY_SOCKET ? fd_stream_connect(entry->path) : -1;

    if (pid) {
        return iod_fail(error, EEXIST, "%s: runs already: pid file %.160s names the living process %d",
                        entry->name, entry->path, (int)pid);
    }
    if (fd >= 0) {
        close(fd);
        return iod_fail(error, EADDRINUSE, "%s: somebody listens at %.160s already", entry->name,
                        entry->path);
    }
    if (stale) {
        unlink(entry->path);
    }
    return 0;
}

/* The arguments with the descriptor's number in them, each a copy. */
static char **arguments_with(const struct list_entry *entry, int fd)
{
    unsigned count = 0;
    bool good = true;

    while (entry->arguments[count]) {
        count++;
    }
    char **arguments = calloc(count + 1, sizeof(*arguments));
    for (unsigned i = 0; arguments && good && i < count; i++) {
        const char *text = entry->arguments[i], *at = i ? strstr(text, LIST_READY_FD) : NULL;
        if (at) {
            good = asprintf(&arguments[i], "%.*s%d%s", (int)(at - text), text, fd,
                            at + strlen(LIST_READY_FD)) >= 0;
        } else {
            good = (arguments[i] = strdup(text));
        }
        arguments[i] = good ? arguments[i] : NULL;
    }
    if (!good) {
        for (unsigned i = 0; arguments[i]; i++) {
            free(arguments[i]);
        }
        free(arguments);
        return NULL;
    }
    return arguments;
}

static int start_program(struct emulator *emulator, int fd, struct iod_error *error)
{
    const struct list_entry *entry = emulator->entry;
    char **arguments = arguments_with(entry, fd);

    if (!arguments) {
        return iod_fail(error, ENOMEM, "%s: out of memory", entry->name);
    }
    emulator->child = spawned_start(emulator->loop, &(struct spawned_spec){.name = entry->name,
                                                                       .program = entry->program,
                                                                       .arguments = arguments,
                                                                       .keep = &fd,
                                                                       .keep_count = fd >= 0,
                                                                       .close_rest = true,
                                                                       .unlimited = true,
                                                                       .default_pipe = true,
                                                                       .death_signal = SIGTERM,
                                                                       .line = child_line,
                                                                       .ended = child_has_ended,
                                                                       .self = emulator},
                                  error);
    for (unsigned i = 0; arguments[i]; i++) {
        free(arguments[i]);
    }
    free(arguments);
    return emulator->child ? 0 : -error->code;
}

static int start_with_fd(struct emulator *emulator, struct iod_error *error)
{
    struct loop *loop = emulator->loop;
    int fds[2];

    if (pipe2(fds, O_CLOEXEC)) {
        return iod_fail(error, errno, "%s: pipe: %s", emulator->entry->name, strerror(errno));
    }
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    emulator->ready_fd = fds[0];
    emulator->ready_watch = loop->ops->watch_add(loop, fds[0], IOD_READABLE, fd_ready, emulator);
    int result = emulator->ready_watch ? start_program(emulator, fds[1], error)
                                       : iod_fail(error, ENOMEM, "%s: out of memory", emulator->entry->name);
    close(fds[1]);
    return result;
}

static int start_spawned(struct emulator *emulator, struct iod_error *error)
{
    struct loop *loop = emulator->loop;
    enum list_ready ready = emulator->entry->ready;
    int result = check_fresh(emulator->entry, error);

    if (!result && ready == LIST_READY_XENSTORE) {
        result = watch_node(emulator, error);
    }
    if (result) {
        return result;
    }
    if (ready == LIST_READY_FD_LINE) {
        return start_with_fd(emulator, error);
    }
    if (start_program(emulator, -1, error)) {
        return -error->code;
    }
    if (ready == LIST_READY_NONE) {
        loop->ops->task_soon(emulator->later);
    } else if (ready != LIST_READY_XENSTORE) {
        loop->ops->timer_set(emulator->look, loop->ops->now_ns(loop) + LOOK_NS);
    }
    return 0;
}

static int start_running(struct emulator *emulator, struct iod_error *error)
{
    const struct list_entry *entry = emulator->entry;
    struct loop *loop = emulator->loop;

    if (!entry->pid) {
        loop->ops->timer_set(emulator->look, loop->ops->now_ns(loop));
        return 0;
    }
    if (!follow(emulator, entry->pid)) {
        int code = errno;
        return iod_fail(error, code, "%s: process %d: %s", entry->name, (int)entry->pid, strerror(code));
    }
    loop->ops->task_soon(emulator->later);
    return 0;
}

struct emulator *emulator_start(const struct emulator_config *config, struct iod_error *error)
{
    struct emulator *emulator = calloc(1, sizeof(*emulator));
    struct loop *loop = config->loop;
    int result = -ENOMEM;

    if (emulator) {
        emulator->config = *config;
        emulator->entry = config->entry;
        emulator->loop = loop;
        emulator->ready_fd = emulator->socket = -1;
        emulator->limit = loop->ops->timer_add(loop, too_late, emulator);
        emulator->look = loop->ops->timer_add(loop, look, emulator);
        emulator->later = loop->ops->task_add(loop, later, emulator);
    }
    if (!emulator || !emulator->limit || !emulator->look || !emulator->later) {
        iod_fail(error, ENOMEM, "%s: out of memory", config->entry->name);
    } else {
        loop->ops->timer_set(emulator->limit, loop->ops->now_ns(loop) + config->entry->limit_ns);
        result = config->entry->program ? start_spawned(emulator, error) : start_running(emulator, error);
    }
    if (result) {
        emulator_destroy(emulator);
        return NULL;
    }
    return emulator;
}

void emulator_destroy(struct emulator *emulator)
{
    if (!emulator) {
        return;
    }
    const struct loop_ops *ops = emulator->loop->ops;
    stop_looking(emulator);
    ops->timer_remove(emulator->limit);
    ops->timer_remove(emulator->look);
    ops->task_remove(emulator->later);
    ops->watch_remove(emulator->socket_watch);
    if (emulator->socket >= 0) {
        close(emulator->socket);
    }
    process_forget(emulator->process);
    spawned_free(emulator->child);
    free(emulator);
}
