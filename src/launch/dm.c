/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/dm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ioreqd/loop.h>

#include "launch/child.h"
#include "launch/dm_slots.h"
#include "launch/dm_sockets.h"
#include "launch/query_pci.h"

#define SECOND UINT64_C(1000000000)
#define END_LIMIT_NS (5 * SECOND)      /* then SIGKILL */
#define KILL_LIMIT_NS (2 * SECOND)     /* then they are left alone: a process in the kernel can't be ended */
#define QEMU_LIMIT_NS (50 * SECOND)    /* for QEMU's first answer; libxl gives up after 60 s */
#define NAME_SIZE 16

struct part {
    struct dm *dm;
    char name[NAME_SIZE];
    struct child *child;
    int ready_fd;
    struct loop_watch *ready;
};

struct dm {
    struct dm_config config;
    struct loop *loop;
    struct part ioreqds[DM_IOREQDS_MAX], qemu;
    unsigned started; /* ioreqds */
    struct loop_timer *limit;
    struct loop_task *report;
    struct dm_socket sockets[DM_QMPS_MAX];
    struct query_pci *query;
    bool ending, killed;
    int status;
};

static void begin_end(struct dm *dm, int status, int signo);
static void start_next(struct dm *dm);

static void __attribute__((format(printf, 3, 4)))
say(struct dm *dm, enum iod_log_level level, const char *format, ...)
{
    char text[1024];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    dm->config.log(dm->config.self, level, text);
}

static void fail(struct dm *dm, const struct iod_error *error)
{
    say(dm, IOD_LOG_ERROR, "%s", error->text);
    begin_end(dm, 1, SIGTERM);
}

static void set_limit(struct dm *dm, uint64_t from_now)
{
    dm->loop->ops->timer_set(dm->limit, dm->loop->ops->now_ns(dm->loop) + from_now);
}

/* ---- the end ---- */

static bool runs(const struct part *part)
{
    return part->child && !child_ended(part->child);
}

static bool all_ended(const struct dm *dm)
{
    for (unsigned i = 0; i < DM_IOREQDS_MAX; i++) {
        if (runs(&dm->ioreqds[i])) {
            return false;
        }
    }
    return !runs(&dm->qemu);
}

static void signal_all(struct dm *dm, int to_qemu, int to_ioreqds)
{
    child_signal(dm->qemu.child, to_qemu);
    for (unsigned i = 0; i < DM_IOREQDS_MAX; i++) {
        child_signal(dm->ioreqds[i].child, to_ioreqds);
    }
}

static void forget_ready(struct part *part)
{
    part->dm->loop->ops->watch_remove(part->ready);
    part->ready = NULL;
    if (part->ready_fd >= 0) {
        close(part->ready_fd);
        part->ready_fd = -1;
    }
}

static void begin_end(struct dm *dm, int status, int signo)
{
    if (dm->ending) {
        signal_all(dm, signo, SIGTERM);
        return;
    }
    dm->ending = true;
    dm->status = status;
    query_pci_cancel(dm->query);
    dm->query = NULL;
    for (unsigned i = 0; i < DM_IOREQDS_MAX; i++) {
        forget_ready(&dm->ioreqds[i]);
    }
    signal_all(dm, signo, SIGTERM);
    set_limit(dm, END_LIMIT_NS);
    if (all_ended(dm)) {
        dm->loop->ops->task_soon(dm->report);
    }
}

static void limit_reached(void *self)
{
    struct dm *dm = self;

    if (!dm->ending) {
        struct part *part = &dm->ioreqds[dm->started - 1];
        say(dm, IOD_LOG_ERROR, "%s was not ready within %" PRIu64 " s (-ioreqd-timeout): it %s", part->name,
            dm->config.args->limit_ns / SECOND, child_reason(part->child));
        begin_end(dm, 1, SIGTERM);
    } else if (!dm->killed) {
        say(dm, IOD_LOG_WARNING, "not all processes ended within %" PRIu64 " s: killing them", END_LIMIT_NS / SECOND);
        dm->killed = true;
        signal_all(dm, SIGKILL, SIGKILL);
        set_limit(dm, KILL_LIMIT_NS);
    } else {
        say(dm, IOD_LOG_ERROR, "a killed process does not end: left to the kernel");
        dm->loop->ops->task_soon(dm->report);
    }
}

static void report(void *self)
{
    struct dm *dm = self;

    dm->loop->ops->timer_cancel(dm->limit);
    dm->config.ended(dm->config.self, dm->status);
}

/* QEMU's status is ours. An ioreqd's 0 says that its guest is gone, unless it comes before it was ready. */
static int status_of(const struct part *part, bool early)
{
    int status = child_status(part->child);

    if (early || !WIFEXITED(status)) {
        return 1;
    }
    return part == &part->dm->qemu ? WEXITSTATUS(status) : WEXITSTATUS(status) != 0;
}

/* The first that ends takes the others with it. */
static void part_ended(void *self)
{
    struct part *part = self;
    struct dm *dm = part->dm;
    bool early = part->ready_fd >= 0;
    int status = status_of(part, early);

    if (!dm->ending) {
        say(dm, status ? IOD_LOG_ERROR : IOD_LOG_INFO, "%s %s%s", part->name, child_reason(part->child),
            early ? "" : "; ending the others");
        begin_end(dm, status, SIGTERM);
    } else if (status) {
        say(dm, IOD_LOG_WARNING, "%s %s", part->name, child_reason(part->child));
    }
    if (all_ended(dm)) {
        dm->loop->ops->task_soon(dm->report);
    }
}

void dm_end(struct dm *dm, int signo)
{
    if (!dm->ending) {
        say(dm, IOD_LOG_INFO, "ending: %s", strsignal(signo));
    }
    begin_end(dm, 0, signo);
}

/* ---- QEMU ---- */

static void open_filters(struct dm *dm)
{
    for (unsigned i = 0; i < dm->config.args->qmp_count; i++) {
        qmp_filter_open(dm->sockets[i].filter);
    }
}

/* libxl's first connection waits for this, so that a collision fails its create. */
static void owners_known(void *self, const struct pci_owner *owners, unsigned count, const struct iod_error *error)
{
    struct dm *dm = self;
    struct iod_error collision;

    dm->query = NULL;
    if (error) {
        say(dm, IOD_LOG_WARNING, "QEMU's PCI slots are not known: %s", error->text);
    } else if (dm_slots_check_owners(dm->config.args, owners, count, &collision)) {
        fail(dm, &collision);
        return;
    }
    open_filters(dm);
}

static int open_sockets(struct dm *dm, struct iod_error *error)
{
    struct dm_args *args = dm->config.args;
    int result = 0;

    for (unsigned i = 0; i < args->qmp_count && !result; i++) {
        result = dm_socket_open(&dm->sockets[i], dm->loop, args, &args->qmps[i], error);
    }
    return result;
}

static int start_qemu(struct dm *dm, struct iod_error *error)
{
    struct dm_args *args = dm->config.args;
    int keep[DM_QMPS_MAX];

    if (open_sockets(dm, error)) {
        return -error->code;
    }
    for (unsigned i = 0; i < args->qmp_count; i++) {
        keep[i] = dm->sockets[i].server;
    }
    dm->qemu.child = child_start(dm->loop, &(struct child_spec){
                                               .name = dm->qemu.name,
                                               .program = dm->config.qemu_program,
                                               .arguments = args->qemu,
                                               .keep = keep,
                                               .keep_count = args->qmp_count,
                                               .default_pipe = true,
                                               .death_signal = SIGTERM,
                                               .ended = part_ended,
                                               .self = &dm->qemu,
                                           },
                                 error);
    for (unsigned i = 0; i < args->qmp_count; i++) { /* when QEMU has gone, nobody listens there any more */
        close(dm->sockets[i].server);
        dm->sockets[i].server = -1;
    }
    if (!dm->qemu.child) {
        return -error->code;
    }
    if (args->qmp_count) {
        dm->query = query_pci_start(dm->loop, dm->sockets[0].path, QEMU_LIMIT_NS, owners_known, dm, error);
        return dm->query ? 0 : -error->code;
    }
    return 0;
}

/* ---- the ioreqds ---- */

static void ioreqd_line(void *self, const char *text)
{
    struct part *part = self;

    part->dm->config.line(part->dm->config.self, part->name, text);
}

/* It writes its line when the guest is served; it closes the descriptor when it ends, which tells more. */
static void ready(void *self, unsigned events)
{
    struct part *part = self;
    char bytes[16];
    ssize_t count = read(part->ready_fd, bytes, sizeof(bytes));

    if (count < 0) {
        return;
    }
    if (count == 0) {
        part->dm->loop->ops->watch_set(part->ready, 0);
        return;
    }
    forget_ready(part);
    part->dm->loop->ops->timer_cancel(part->dm->limit);
    start_next(part->dm);
}

static int start_ioreqd(struct dm *dm, struct part *part, unsigned index, struct iod_error *error)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK)) {
        return iod_fail(error, errno, "%s: pipe: %s", part->name, strerror(errno));
    }
    part->ready_fd = fds[0];
    part->ready = dm->loop->ops->watch_add(dm->loop, fds[0], IOD_READABLE, ready, part);
    char **command = dm_args_ioreqd(dm->config.args, index, dm->config.ioreqd_program, fds[1]);
    if (!command || !part->ready) {
        iod_fail(error, ENOMEM, "out of memory");
    } else {
        part->child = child_start(dm->loop, &(struct child_spec){
                                                .name = part->name,
                                                .program = dm->config.ioreqd_program,
                                                .arguments = command,
                                                .keep = &fds[1],
                                                .keep_count = 1,
                                                .close_rest = true,
                                                .unlimited = true,
                                                .death_signal = SIGTERM,
                                                .line = ioreqd_line,
                                                .ended = part_ended,
                                                .self = part,
                                            },
                                  error);
    }
    close(fds[1]);
    dm_args_free_command(command);
    return part->child ? 0 : -error->code;
}

static void start_next(struct dm *dm)
{
    struct iod_error error = {0};
    unsigned index = dm->started;

    if (index == dm->config.args->ioreqd_count) {
        if (start_qemu(dm, &error)) {
            fail(dm, &error);
        }
        return;
    }
    dm->started++;
    set_limit(dm, dm->config.args->limit_ns);
    if (start_ioreqd(dm, &dm->ioreqds[index], index, &error)) {
        fail(dm, &error);
    }
}

/* ---- making ---- */

static void init_part(struct dm *dm, struct part *part, const char *name)
{
    part->dm = dm;
    part->ready_fd = -1;
    snprintf(part->name, sizeof(part->name), "%s", name);
}

static void init_parts(struct dm *dm)
{
    char name[NAME_SIZE];

    init_part(dm, &dm->qemu, "QEMU");
    init_part(dm, &dm->ioreqds[0], "ioreqd");
    for (unsigned i = 1; i < DM_IOREQDS_MAX; i++) {
        snprintf(name, sizeof(name), "ioreqd %u", i + 1);
        init_part(dm, &dm->ioreqds[i], name);
    }
    for (unsigned i = 0; i < DM_QMPS_MAX; i++) {
        dm_socket_init(&dm->sockets[i]);
    }
}

struct dm *dm_start(const struct dm_config *config, struct iod_error *error)
{
    struct dm *dm = calloc(1, sizeof(*dm));

    if (dm) {
        dm->config = *config;
        dm->loop = config->loop;
        init_parts(dm);
        dm->limit = dm->loop->ops->timer_add(dm->loop, limit_reached, dm);
        dm->report = dm->loop->ops->task_add(dm->loop, report, dm);
    }
    if (!dm || !dm->limit || !dm->report) {
        dm_destroy(dm);
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    start_next(dm);
    return dm;
}

static void finish_part(struct part *part)
{
    forget_ready(part);
    child_free(part->child);
}

void dm_destroy(struct dm *dm)
{
    if (!dm) {
        return;
    }
    query_pci_cancel(dm->query);
    for (unsigned i = 0; i < DM_QMPS_MAX; i++) {
        dm_socket_close(&dm->sockets[i]);
    }
    for (unsigned i = 0; i < DM_IOREQDS_MAX; i++) {
        finish_part(&dm->ioreqds[i]);
    }
    finish_part(&dm->qemu);
    dm->loop->ops->timer_remove(dm->limit);
    dm->loop->ops->task_remove(dm->report);
    free(dm);
}
