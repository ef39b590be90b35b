/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/spawned.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#define LINE_SIZE 512
#define WORDS_ROUNDS 64 /* reads of what an ended child left in its pipe: a grandchild may hold it open */

struct spawned {
    struct loop *loop;
    char *name;
    pid_t pid;
    int pidfd, words_fd; /* -1: none */
    struct loop_watch *pid_watch, *words_watch;
    bool ended;
    int status;
    char line[LINE_SIZE]; /* the one being read */
    size_t length;
    char last[LINE_SIZE]; /* the last whole one that is not empty; an error is kept before others */
    bool error;           /* it is one */
    char reason[LINE_SIZE + 160];
    void (*tell)(void *self, enum iod_log_level level, const char *text);
    void (*at_end)(void *self);
    void *self;
};

/* ---- in the child ---- */

static void lift_limits(void)
{
    static const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    struct rlimit size;

    setrlimit(RLIMIT_MEMLOCK, &none);
    if (setrlimit(RLIMIT_FSIZE, &none) && !getrlimit(RLIMIT_FSIZE, &size) && size.rlim_cur != RLIM_INFINITY) {
        dprintf(STDERR_FILENO, "can't lift the limit of %ju bytes a file: %s\n", (uintmax_t)size.rlim_cur,
                strerror(errno));
    }
}

/* A signal between fork and exec must not run the loop's handler, which would tell our parent's loop. */
static void own_signals(const sigset_t *mask)
{
    static const int handled[] = {SIGTERM, SIGINT, SIGHUP};

    for (unsigned i = 0; i < sizeof(handled) / sizeof(handled[0]); i++) {
        signal(handled[i], SIG_DFL);
    }
    sigprocmask(SIG_SETMASK, mask, NULL);
}

/* As systemd says it to a service whose stderr is read line by line (systemd.exec(5)). */
static void ask_for_levels(void)
{
    struct stat status;
    char stream[64];

    if (!fstat(STDERR_FILENO, &status)) {
        snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
        setenv("JOURNAL_STREAM", stream, 1);
    }
}

static void __attribute__((noreturn)) become(const struct spawned_spec *spec, pid_t parent,
                                             const sigset_t *mask, int words)
{
    own_signals(mask);
    if (spec->death_signal) {
        prctl(PR_SET_PDEATHSIG, spec->death_signal);
        if (getppid() != parent) { /* it died before the kernel knew */
            raise(SIGKILL);
        }
    }
    if (words >= 0) {
        dup2(words, STDERR_FILENO);
        ask_for_levels();
    }
    if (spec->close_rest) {
        syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
    }
    for (unsigned i = 0; i < spec->keep_count; i++) {
        fcntl(spec->keep[i], F_SETFD, 0);
    }
    if (spec->unlimited) {
        lift_limits();
    }
    if (spec->default_pipe) {
        signal(SIGPIPE, SIG_DFL);
    }
    execvp(spec->program, spec->arguments);
    dprintf(STDERR_FILENO, "can't run %s: %s\n", spec->program, strerror(errno));
    _exit(127);
}

/* ---- its words ---- */

/* Takes <PRIORITY> off the line. */
static enum iod_log_level take_level(char **line)
{
    char *text = *line;

    if (text[0] != '<' || text[1] < '0' || text[1] > '7' || text[2] != '>') {
        return IOD_LOG_INFO;
    }
    *line += 3;
    return text[1] <= '3'   ? IOD_LOG_ERROR
           : text[1] == '4' ? IOD_LOG_WARNING
           : text[1] == '7' ? IOD_LOG_DEBUG
                            : IOD_LOG_INFO;
}

static void tell_line(struct spawned *child)
{
    char *text = child->line;

    child->line[child->length] = '\0';
    child->length = 0;
    for (char *at = text; *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            *at = '?';
        }
    }
    enum iod_log_level level = take_level(&text);
    if (!text[0]) {
        return;
    }
    if (level == IOD_LOG_ERROR || !child->error) {
        child->error = level == IOD_LOG_ERROR;
        snprintf(child->last, sizeof(child->last), "%s", text);
    }
    child->tell(child->self, level, text);
}

static void take_words(struct spawned *child, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == '\n') {
            tell_line(child);
        } else if (bytes[i] != '\0' && bytes[i] != '\r') {
            child->line[child->length++] = bytes[i];
            if (child->length == LINE_SIZE - 1) { /* a longer one is told in pieces */
                tell_line(child);
            }
        }
    }
}

static void close_words(struct spawned *child)
{
    if (child->words_fd >= 0) {
        child->loop->ops->watch_remove(child->words_watch);
        child->words_watch = NULL;
        close(child->words_fd);
        child->words_fd = -1;
    }
}

/* True: something was read. */
static bool read_words(struct spawned *child)
{
    char bytes[2048];
    ssize_t count = child->words_fd < 0 ? -1 : read(child->words_fd, bytes, sizeof(bytes));

    if (count > 0) {
        take_words(child, bytes, (size_t)count);
        return true;
    }
    if (count == 0 || (child->words_fd >= 0 && errno != EAGAIN && errno != EINTR)) {
        close_words(child);
    }
    return false;
}

static void words_ready(void *self, unsigned events)
{
    read_words(self);
}

/* ---- its end ---- */

static void note_end(struct spawned *child)
{
    for (unsigned i = 0; i < WORDS_ROUNDS && read_words(child); i++) {
    }
    if (child->length > 0 && child->tell) {
        tell_line(child);
    }
    close_words(child);
    child->loop->ops->watch_remove(child->pid_watch);
    child->pid_watch = NULL;
    child->ended = true;
    child->at_end(child->self);
}

static void pid_ready(void *self, unsigned events)
{
    struct spawned *child = self;
    pid_t pid = waitpid(child->pid, &child->status, WNOHANG);

    if (pid == child->pid || (pid < 0 && errno == ECHILD)) {
        note_end(child);
    }
}

/* ---- from outside ---- */

static int start_watches(struct spawned *child, struct iod_error *error)
{
    struct loop *loop = child->loop;

    child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    if (child->pidfd < 0) {
        return iod_fail(error, errno, "%s: pidfd_open: %s", child->name, strerror(errno));
    }
    child->pid_watch = loop->ops->watch_add(loop, child->pidfd, IOD_READABLE, pid_ready, child);
    if (child->words_fd >= 0) {
        child->words_watch = loop->ops->watch_add(loop, child->words_fd, IOD_READABLE, words_ready, child);
    }
    if (!child->pid_watch || (child->words_fd >= 0 && !child->words_watch)) {
        return iod_fail(error, ENOMEM, "%s: out of memory", child->name);
    }
    return 0;
}

static int start_process(struct spawned *child, const struct spawned_spec *spec, struct iod_error *error)
{
    int words[2] = {-1, -1};
    pid_t parent = getpid();
    sigset_t all, mask;

    if (spec->line && pipe2(words, O_CLOEXEC)) {
        return iod_fail(error, errno, "%s: pipe: %s", child->name, strerror(errno));
    }
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &mask);
    child->pid = fork();
    if (child->pid == 0) {
        become(spec, parent, &mask, words[1]);
    }
    int code = errno;
    sigprocmask(SIG_SETMASK, &mask, NULL);
    if (words[1] >= 0) {
        close(words[1]);
        fcntl(words[0], F_SETFL, O_NONBLOCK);
    }
    child->words_fd = words[0];
    return child->pid < 0 ? iod_fail(error, code, "%s: fork: %s", child->name, strerror(code)) : 0;
}

struct spawned *spawned_start(struct loop *loop, const struct spawned_spec *spec, struct iod_error *error)
{
    struct spawned *child = calloc(1, sizeof(*child));

    if (!child || !(child->name = strdup(spec->name))) {
        free(child);
        iod_fail(error, ENOMEM, "%s: out of memory", spec->name);
        return NULL;
    }
    child->loop = loop;
    child->pidfd = child->words_fd = -1;
    child->tell = spec->line;
    child->at_end = spec->ended;
    child->self = spec->self;
    if (start_process(child, spec, error) || start_watches(child, error)) {
        spawned_free(child);
        return NULL;
    }
    return child;
}

pid_t spawned_pid(const struct spawned *child)
{
    return child->pid;
}

void spawned_signal(struct spawned *child, int signo)
{
    if (child && !child->ended && child->pid > 0) {
        kill(child->pid, signo); /* not reaped yet: the pid is still its own */
    }
}

bool spawned_ended(const struct spawned *child)
{
    return child->ended;
}

int spawned_status(const struct spawned *child)
{
    return child->status;
}

const char *spawned_reason(struct spawned *child)
{
    size_t size = sizeof(child->reason);
    int length;

    if (!child->ended) {
        length = snprintf(child->reason, size, "still runs");
    } else if (WIFSIGNALED(child->status)) {
        length = snprintf(child->reason, size, "was killed by signal %d (%s)", WTERMSIG(child->status),
                          strsignal(WTERMSIG(child->status)));
    } else {
        length = snprintf(child->reason, size, "ended with status %d", WEXITSTATUS(child->status));
    }
    if (child->last[0]) {
        snprintf(child->reason + length, size - (size_t)length, ": %s", child->last);
    }
    return child->reason;
}

void spawned_free(struct spawned *child)
{
    if (!child) {
        return;
    }
    if (!child->ended && child->pid > 0) {
        kill(child->pid, SIGKILL);
    }
    if (child->words_fd >= 0) {
        close_words(child);
    }
    if (child->pid_watch) {
        child->loop->ops->watch_remove(child->pid_watch);
    }
    if (child->pidfd >= 0) {
        close(child->pidfd);
    }
    free(child->name);
    free(child);
}
