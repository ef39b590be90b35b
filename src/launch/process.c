/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ioreqd/loop.h>

struct process {
    struct loop *loop;
    int pidfd;
    struct loop_watch *watch;
    void (*ended)(void *self);
    void *self;
};

static void gone(void *self, unsigned events)
{
    struct process *process = self;

    process->loop->ops->watch_set(process->watch, 0);
    process->ended(process->self);
}

struct process *process_follow(struct loop *loop, pid_t pid, void (*ended)(void *self), void *self)
{
    struct process *process = calloc(1, sizeof(*process));
    int pidfd = process ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

    if (pidfd < 0) {
        int code = process ? errno : ENOMEM;
        free(process);
        errno = code;
        return NULL;
    }
    *process = (struct process){.loop = loop, .pidfd = pidfd, .ended = ended, .self = self};
    process->watch = loop->ops->watch_add(loop, pidfd, IOD_READABLE, gone, process);
    if (!process->watch) {
        process_forget(process);
        errno = ENOMEM;
        return NULL;
    }
    return process;
}

void process_signal(struct process *process, int signo)
{
    if (process) {
        syscall(SYS_pidfd_send_signal, process->pidfd, signo, NULL, 0);
    }
}

void process_forget(struct process *process)
{
    if (process) {
        process->loop->ops->watch_remove(process->watch);
        close(process->pidfd);
        free(process);
    }
}

pid_t process_of_file(const char *path, int *stale)
{
    char text[32] = "", *end;
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t count =
        fd >= 0 && !fstat(fd, &status) && S_ISREG(status.st_mode) ? read(fd, text, sizeof(text) - 1) : -1;

    *stale = 0;
    if (fd >= 0) {
        close(fd);
    }
    long pid = count > 0 ? strtol(text, &end, 10) : 0;
    if (pid <= 0 || pid > 0x7fffffff || end == text || end[strspn(end, " \n\r\t")]) {
        return 0; /* not written yet, or no pid file */
    }
    if (kill((pid_t)pid, 0) && errno == ESRCH) {
        *stale = 1;
        return 0;
    }
    return (pid_t)pid;
}
