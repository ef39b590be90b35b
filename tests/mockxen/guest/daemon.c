/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs run under the mock's environment, with their output in a log that tests can wait on. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct mock_daemon {
    pid_t pid;
    int pidfd, log_fd, status;
    bool reaped;
    char *text;
    size_t len, matched;
};

struct mock_daemon *mock_spawn_daemon(struct mock *m, char *const argv[])
{
    struct mock_daemon *d = calloc(1, sizeof(*d));
    char path[160];

    if (!d) {
        return NULL;
    }
    snprintf(path, sizeof(path), "%s/daemon.XXXXXX", m->dir);
    d->log_fd = mkostemp(path, O_CLOEXEC | O_APPEND);
    d->text = calloc(1, 1);
    if (d->log_fd < 0 || !d->text) {
        goto fail;
    }
    d->pid = fork();
    if (d->pid < 0) {
        goto fail;
    }
    if (d->pid == 0) {
        int null_fd = open("/dev/null", O_RDONLY);

        dup2(null_fd, STDIN_FILENO);
        dup2(d->log_fd, STDOUT_FILENO);
        dup2(d->log_fd, STDERR_FILENO);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvpe(argv[0], argv, m->env);
        dprintf(STDERR_FILENO, "mock: %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    d->pidfd = (int)syscall(SYS_pidfd_open, d->pid, 0);
    return d;
fail:
    if (d->log_fd >= 0) {
        close(d->log_fd);
    }
    free(d->text);
    free(d);
    return NULL;
}

pid_t mock_daemon_pid(const struct mock_daemon *d)
{
    return d->pid;
}

int mock_daemon_signal(struct mock_daemon *d, int signum)
{
    if (d->reaped) {
        return -ESRCH;
    }
    return kill(d->pid, signum) < 0 ? -errno : 0;
}

const char *mock_daemon_log(struct mock_daemon *d)
{
    off_t size = lseek(d->log_fd, 0, SEEK_END);
    char *more;
    ssize_t n;

    if (size > (off_t)d->len && (more = realloc(d->text, (size_t)size + 1))) {
        d->text = more;
        n = pread(d->log_fd, d->text + d->len, (size_t)size - d->len, (off_t)d->len);
        d->len += n > 0 ? (size_t)n : 0;
        d->text[d->len] = '\0';
    }
    return d->text;
}

int mock_daemon_wait(struct mock_daemon *d, int timeout_ms, int *wstatus)
{
    struct pollfd p = { .fd = d->pidfd, .events = POLLIN };

    if (!d->reaped) {
        if (poll(&p, 1, timeout_ms) <= 0) {
            return -ETIMEDOUT;
        }
        if (waitpid(d->pid, &d->status, 0) != d->pid) {
            return -errno;
        }
        d->reaped = true;
    }
    if (wstatus) {
        *wstatus = d->status;
    }
    return 0;
}

int mock_daemon_wait_log(struct mock_daemon *d, const char *text, int timeout_ms)
{
    int64_t deadline = mx_deadline(timeout_ms);
    bool ended = false;
    const char *hit;

    for (;;) {
        hit = strstr(mock_daemon_log(d) + d->matched, text);
        if (hit) {
            d->matched = (size_t)(hit - d->text) + strlen(text);
            return 0;
        }
        if (ended) {
            return -ECHILD;
        }
        if (deadline >= 0 && mx_now() >= deadline) {
            return -ETIMEDOUT;
        }
        ended = mock_daemon_wait(d, 5, NULL) ==
                0; /* its last words may come before its end is seen: look again */
    }
}

void mock_daemon_free(struct mock_daemon *d)
{
    if (!d) {
        return;
    }
    if (!d->reaped) {
        kill(d->pid, SIGKILL);
        (void)waitpid(d->pid, NULL, 0);
    }
    close(d->pidfd);
    close(d->log_fd);
    free(d->text);
    free(d);
}
