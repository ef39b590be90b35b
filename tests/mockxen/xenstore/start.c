/* SPDX-License-Identifier: BSD-2-Clause */
/* Starts and stops Debian's xenstored over the mock's state directory. */
#include <errno.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

#include "client.h"
#include "mock_xenstore.h"

#define START_TIMEOUT_MS 10000
#define STEP_MS 5

void mock_xenstore_socket(const struct mock *mock, char *path, size_t size)
{
    const char *dir = mock_xenstore_dir(mock);
    snprintf(path, size, "%s/socket", dir ? dir : "/nowhere");
}

pid_t mock_xenstore_pid(const struct mock *mock)
{
    char path[128];
    int pid = 0;
    const char *dir = mock_xenstore_dir(mock);
    snprintf(path, sizeof(path), "%s/pid", dir ? dir : "/nowhere");
    FILE *file = fopen(path, "r");
    if (file) {
        pid = fscanf(file, "%d", &pid) == 1 ? pid : 0;
        fclose(file);
    }
    return pid;
}

static void sleep_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* In the child: xenstored, which must see neither the mock's libraries nor a sanitizer's preload. */
static void become_xenstored(const char *dir, pid_t parent)
{
    char pid_file[128], log[128];
    snprintf(pid_file, sizeof(pid_file), "%s/pid", dir);
    snprintf(log, sizeof(log), "%s/log", dir);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (getppid() != parent || fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) {
        _exit(127);
    }
    unsetenv("LD_LIBRARY_PATH");
    unsetenv("XENSTORED_PATH");
    setenv("LD_PRELOAD", MOCK_XENSTORE_SHIM, 1);
    setenv("XENMOCK", dir, 1);
    setenv("XENSTORED_RUNDIR", dir, 1);
    execl(MOCK_XENSTORED, "xenstored", "-N", "-F", pid_file, (char *)NULL);
    fprintf(stderr, "%s: %s\n", MOCK_XENSTORED, strerror(errno));
    _exit(127);
}

/* It answers when it can be asked for its root. */
static int wait_for_answer(const char *socket_path, pid_t pid)
{
    static const char *const root[] = {"/", NULL};
    char names[XENSTORE_PAYLOAD_MAX];
    for (unsigned waited = 0; waited < START_TIMEOUT_MS; waited += STEP_MS) {
        if (xs_request_strings(socket_path, XS_DIRECTORY, root, names, sizeof(names)) >= 0) {
            return 0;
        }
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            return -ECHILD;
        }
        sleep_ms(STEP_MS);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return -ETIMEDOUT;
}

int mock_xenstore_start(struct mock *mock)
{
    const char *dir = mock_xenstore_dir(mock);
    char socket_path[128];
    if (!dir) {
        fprintf(stderr, "mock_xenstore_start: the mock was started without mock_options.xenstore\n");
        return -EINVAL;
    }
    mock_xenstore_socket(mock, socket_path, sizeof(socket_path));
    unlink(socket_path);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        become_xenstored(dir, parent);
    }
    if (pid < 0) {
        return -errno;
    }
    int result = wait_for_answer(socket_path, pid);
    if (result) {
        fprintf(stderr, "mock_xenstore_start: %s: see %s/log\n", strerror(-result), dir);
    }
    return result;
}

void mock_xenstore_stop(struct mock *mock)
{
    char path[128];
    pid_t pid = mock_xenstore_pid(mock);
    if (pid <= 0) {
        return;
    }
    kill(pid, SIGTERM);
    for (unsigned waited = 0; waitpid(pid, NULL, WNOHANG) == 0; waited += STEP_MS) {
        sleep_ms(STEP_MS);
        if (waited >= 1000) {
            kill(pid, SIGKILL);
        }
    }
    static const char *const names[] = {"pid", "socket", "socket_ro", "tdb", "log", "dom0/ports"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", mock_xenstore_dir(mock), names[i]);
        unlink(path);
    }
}
