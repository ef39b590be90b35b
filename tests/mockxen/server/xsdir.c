/* SPDX-License-Identifier: BSD-2-Clause */
/* The state directory that a real xenstored under its preload reads: domN/ = it lives, flags, ring and event
 * FIFO. */
#include "server.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VIRQ_EXC 3u

static void touch(const char *path, off_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd >= 0) {
        if (size) {
            (void)!ftruncate(fd, size);
        }
        close(fd);
    }
}

/** {0xffffffff, VIRQ} into dom0's FIFO; without a reader the event is lost, as for a dead xenstored. */
static void send_virq(const char *dir)
{
    uint32_t event[2] = { 0xffffffffu, VIRQ_EXC };
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/dom0/evtchn", dir);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, event, sizeof(event));
        close(fd);
    }
}

static void make(const char *base)
{
    char path[288];

    (void)mkdir(base, 0700);
    snprintf(path, sizeof(path), "%s/ring", base);
    touch(path, MX_PAGE);
    snprintf(path, sizeof(path), "%s/evtchn", base);
    (void)mkfifo(path, 0600);
}

static void unmake(const char *base)
{
    static const char *const names[] = { "ring", "evtchn", "shutdown", "dying" };
    char path[288];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", base, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(base);
}

void xs_domain(struct mx *mx, uint16_t domid, const char *what)
{
    char base[256], path[288];

    if (!mx->xs_dir) {
        return;
    }
    snprintf(base, sizeof(base), "%s/dom%u", mx->xs_dir, domid);
    snprintf(path, sizeof(path), "%s/%s", base, what);
    if (!strcmp(what, "create")) {
        make(base);
        if (domid == 0) {
            snprintf(path, sizeof(path), "%s/port", base);
            touch(path, 0);
            int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

            (void)!write(fd, "1", 1); /* no newline: oxenstored is strict */
            close(fd);
        }
        return;
    }
    if (!strcmp(what, "gone")) {
        unmake(base);
    } else {
        touch(path, 0);
    }
    send_virq(mx->xs_dir);
}
