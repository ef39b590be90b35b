/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void put(struct rig *rig, const char *argument)
{
    ck_assert_uint_lt(rig->count, RIG_ARGUMENTS_MAX - 1);
    rig->arguments[rig->count++] = argument;
}

void rig_add(struct rig *rig, ...)
{
    va_list more;
    va_start(more, rig);
    for (const char *argument; (argument = va_arg(more, const char *));) {
        put(rig, argument);
    }
    va_end(more);
}

void rig_init(struct rig *rig, const char *domid)
{
    static char chardev[160], statdev[160];
    memset(rig, 0, sizeof(*rig));
    snprintf(rig->folder, sizeof(rig->folder), "/tmp/test-launch.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(rig->folder));
    snprintf(rig->public, sizeof(rig->public), "%s/qmp-libxl", rig->folder);
    snprintf(rig->note, sizeof(rig->note), "%s/note", rig->folder);
    snprintf(rig->log, sizeof(rig->log), "%s/log", rig->folder);
    setenv("FAKE_QEMU_NOTE", rig->note, 1);
    unsetenv("FAKE_QEMU");
    unsetenv("FAKE_QEMU_PCI");
    snprintf(chardev, sizeof(chardev), "socket,id=libxl-cmd,path=%s,server=on,wait=off", rig->public);
    snprintf(statdev, sizeof(statdev), "socket,id=libxenstat-cmd,path=%s/qmp-stat,server=on,wait=off", rig->folder);
    rig_add(rig, getenv("IOREQD_DM"), NULL);
    if (domid) {
        rig_add(rig, "-xen-domid", domid, NULL);
    }
    rig_add(rig, "-no-shutdown", "-chardev", chardev, "-mon", "chardev=libxl-cmd,mode=control",
            "-chardev", statdev, "-mon", "chardev=libxenstat-cmd,mode=control", "-nodefaults",
            "-no-user-config", "-name", "-ioreqd", "-ioreqd-qemu", getenv("FAKE_QEMU_PROGRAM"), NULL);
}

void rig_start(struct rig *rig)
{
    rig->arguments[rig->count] = NULL;
    rig->pid = fork();
    ck_assert_int_ge(rig->pid, 0);
    if (rig->pid == 0) {
        int fd = open(rig->log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
        dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        close(fd);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execve(rig->arguments[0], (char *const *)(uintptr_t)rig->arguments,
               rig->environment ? rig->environment : environ);
        _exit(126);
    }
}

static int wait_for(struct rig *rig, int timeout_ms, int *status)
{
    for (int i = 0; i < timeout_ms / 5; i++) {
        pid_t pid = waitpid(rig->pid, status, WNOHANG);
        if (pid == rig->pid) {
            rig->pid = 0;
            return 0;
        }
        usleep(5000);
    }
    return -1;
}

static const char *text_of(const char *path)
{
    static char text[65536];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
    text[count > 0 ? count : 0] = '\0';
    if (fd >= 0) {
        close(fd);
    }
    return text;
}

int rig_status(struct rig *rig)
{
    int status = 0, result = wait_for(rig, RIG_TIMEOUT_MS, &status);
    ck_assert_msg(result == 0, "ioreqd-dm did not end:\n%s", text_of(rig->log));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

bool rig_runs(struct rig *rig)
{
    int status;
    return wait_for(rig, 200, &status) != 0;
}

bool rig_has_text(const char *path, const char *text)
{
    return strstr(text_of(path), text) != NULL;
}

void rig_wait_text(const char *path, const char *text)
{
    for (int i = 0; i < RIG_TIMEOUT_MS / 5; i++) {
        if (rig_has_text(path, text)) {
            return;
        }
        usleep(5000);
    }
    ck_abort_msg("%s lacks \"%s\":\n%s", path, text, text_of(path));
}

long rig_number(const char *path, const char *key)
{
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "\n%s:", key);
    const char *at = strstr(text_of(path), wanted);
    ck_assert_msg(at != NULL, "no \"%s\" in %s", key, path);
    return atol(at + strlen(wanted));
}

void rig_wait_up(struct rig *rig)
{
    for (int i = 0; i < RIG_TIMEOUT_MS / 5 && !rig_has_text(rig->note, "up: yes"); i++) {
        int status;
        pid_t pid = waitpid(rig->pid, &status, WNOHANG);
        ck_assert_msg(pid == 0, "ioreqd-dm ended:\n%s", text_of(rig->log));
        usleep(5000);
    }
    ck_assert_msg(rig_has_text(rig->note, "up: yes"), "QEMU does not run:\n%s", text_of(rig->log));
}

void rig_wait_dead(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    for (int i = 0; i < RIG_TIMEOUT_MS / 5; i++) {
        if (access(path, F_OK) || rig_has_text(path, "State:\tZ")) {
            return;
        }
        usleep(5000);
    }
    ck_abort_msg("process %d lives:\n%s", pid, text_of(path));
}

void rig_expect_log(struct rig *rig, const char *text)
{
    ck_assert_msg(rig_has_text(rig->log, text), "the log lacks \"%s\":\n%s", text, text_of(rig->log));
}

void rig_finish(struct rig *rig)
{
    char command[128];
    int status;
    if (rig->pid > 0) {
        kill(rig->pid, SIGKILL);
        wait_for(rig, RIG_TIMEOUT_MS, &status);
    }
    if (rig_has_text(rig->note, "\npid: ")) { /* a stubborn one */
        rig->pid = 0;
        pid_t qemu = (pid_t)rig_number(rig->note, "pid");
        char path[64], name[64] = "";
        snprintf(path, sizeof(path), "/proc/%d/comm", qemu);
        snprintf(name, sizeof(name), "%.20s", text_of(path));
        if (!strncmp(name, "fake-qemu", 9)) {
            kill(qemu, SIGKILL);
        }
    }
    snprintf(command, sizeof(command), "rm -rf '%s'", rig->folder);
    ck_assert_int_eq(system(command), 0);
}

/* ---- QMP ---- */

int rig_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    ck_assert_msg(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "%s: %s", path, strerror(errno));
    return fd;
}

void qmp_open(struct qmp *qmp, const char *path)
{
    qmp->fd = rig_connect(path);
    qmp->length = 0;
    json_t *greeting = qmp_take(qmp);
    ck_assert_ptr_nonnull(json_object_get(greeting, "QMP"));
    json_decref(greeting);
}

void qmp_send(struct qmp *qmp, const char *bytes)
{
    size_t length = strlen(bytes), at = 0;
    while (at < length) {
        ssize_t count = send(qmp->fd, bytes + at, length - at, MSG_NOSIGNAL);
        ck_assert_msg(count > 0, "send: %s", strerror(errno));
        at += (size_t)count;
    }
}

void qmp_send_fd(struct qmp *qmp, const char *bytes, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)bytes, strlen(bytes)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    control.header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    ck_assert_int_eq(sendmsg(qmp->fd, &message, MSG_NOSIGNAL), (ssize_t)strlen(bytes));
}

static ssize_t read_more(struct qmp *qmp)
{
    struct pollfd fd = {.fd = qmp->fd, .events = POLLIN};
    ck_assert_msg(poll(&fd, 1, RIG_TIMEOUT_MS) == 1, "nothing came from QMP; so far: %.*s", (int)qmp->length,
                  qmp->buffer);
    ck_assert_uint_lt(qmp->length, sizeof(qmp->buffer));
    ssize_t count = recv(qmp->fd, qmp->buffer + qmp->length, sizeof(qmp->buffer) - qmp->length, 0);
    qmp->length += count > 0 ? (size_t)count : 0;
    return count;
}

json_t *qmp_take(struct qmp *qmp)
{
    char *end;
    json_error_t error;
    while (!(end = memchr(qmp->buffer, '\n', qmp->length))) {
        ck_assert_msg(read_more(qmp) > 0, "the connection was closed; so far: %.*s", (int)qmp->length, qmp->buffer);
    }
    size_t length = (size_t)(end - qmp->buffer) + 1;
    ck_assert_uint_ge(length, 2);
    ck_assert_int_eq(end[-1], '\r');
    json_t *value = json_loadb(qmp->buffer, length, 0, &error);
    ck_assert_msg(value != NULL, "no JSON (%s): %.*s", error.text, (int)length, qmp->buffer);
    memmove(qmp->buffer, qmp->buffer + length, qmp->length - length);
    qmp->length -= length;
    return value;
}

void qmp_expect(struct qmp *qmp, const char *text)
{
    char *wanted_text = strdup(text);
    for (char *at = wanted_text; *at; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    json_error_t error;
    json_t *wanted = json_loads(wanted_text, 0, &error), *value = qmp_take(qmp);
    ck_assert_msg(wanted != NULL, "%s: %s", text, error.text);
    char *got = json_dumps(value, JSON_COMPACT);
    ck_assert_msg(json_equal(wanted, value), "expected %s, got %.500s", wanted_text, got);
    free(got);
    free(wanted_text);
    json_decref(wanted);
    json_decref(value);
}

bool qmp_closed(struct qmp *qmp)
{
    return qmp->length == 0 && read_more(qmp) <= 0;
}

void qmp_close(struct qmp *qmp)
{
    close(qmp->fd);
}
