/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/dm.h"

#include <errno.h>
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

#include "launch/spawned.h"
#include "launch/dm_slots.h"
#include "launch/dm_sockets.h"
#include "launch/emulator.h"
#include "launch/query_pci.h"

#define RECORD_DIR "/run/ioreqd" /* ioreqd --record-dir */
#define SECOND UINT64_C(1000000000)
#define END_LIMIT_NS (5 * SECOND)      /* then SIGKILL */
#define KILL_LIMIT_NS (2 * SECOND)     /* then they are left alone: a process in the kernel can't be ended */
#define QEMU_LIMIT_NS (50 * SECOND)    /* for QEMU's first answer; libxl gives up after 60 s */
#define NAME_SIZE 16

struct ioreqd {
    char name[NAME_SIZE];
    struct list_entry entry;
    struct emulator *emulator; /* NULL: not started */
};

struct dm {
    struct dm_config config;
    struct loop *loop;
    struct ioreqd ioreqds[DM_IOREQDS_MAX];
    struct spawned *qemu;
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

static bool all_ended(const struct dm *dm)
{
    for (unsigned i = 0; i < dm->started; i++) {
        if (dm->ioreqds[i].emulator && !emulator_has_ended(dm->ioreqds[i].emulator)) {
            return false;
        }
    }
    return !dm->qemu || spawned_ended(dm->qemu);
}

static void signal_all(struct dm *dm, int to_qemu, int to_ioreqds)
{
    spawned_signal(dm->qemu, to_qemu);
    for (unsigned i = 0; i < dm->started; i++) {
        if (dm->ioreqds[i].emulator) {
            emulator_end(dm->ioreqds[i].emulator, to_ioreqds);
        }
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
    signal_all(dm, signo, SIGTERM);
    set_limit(dm, END_LIMIT_NS);
    if (all_ended(dm)) {
        dm->loop->ops->task_soon(dm->report);
    }
}

static void limit_reached(void *self)
{
    struct dm *dm = self;

    if (!dm->killed) {
        say(dm, IOD_LOG_WARNING, "not all processes ended within %" PRIu64 " s: killing them",
            END_LIMIT_NS / SECOND);
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

/* The first that ends takes the others with it. */
static void part_ended(struct dm *dm, const char *name, const char *reason, int status, bool early)
{
    if (!dm->ending) {
        say(dm, status ? IOD_LOG_ERROR : IOD_LOG_INFO, "%s %s%s", name, reason,
            early ? "" : "; ending the others");
        begin_end(dm, status, SIGTERM);
    } else if (status) {
        say(dm, IOD_LOG_WARNING, "%s %s", name, reason);
    }
    if (all_ended(dm)) {
        dm->loop->ops->task_soon(dm->report);
    }
}

static void qemu_ended(void *self)
{
    struct dm *dm = self;
    int status = spawned_status(dm->qemu);

    part_ended(dm, "QEMU", spawned_reason(dm->qemu), WIFEXITED(status) ? WEXITSTATUS(status) : 1, false);
}

/* Status 0 says that its guest is gone, unless it comes before it was ready. */
static void ioreqd_ended(void *self, struct emulator *emulator)
{
    bool early = !emulator_is_ready(emulator);

    part_ended(self, emulator_name(emulator), emulator_reason(emulator),
               early || !emulator_ended_well(emulator), early);
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
static void owners_known(void *self, const struct pci_owner *owners, unsigned count,
                         const struct iod_error *error)
{
    struct dm *dm = self;
    struct iod_error collision;

    dm->query = NULL;
    if (error) {
        say(dm, IOD_LOG_WARNING, "QEMU's PCI slots are not known: %s", error->text);
    } else if (dm_slots_check_owners(dm->config.args, RECORD_DIR, owners, count, &collision)) {
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
    dm->qemu = spawned_start(dm->loop, &(struct spawned_spec){.name = "QEMU",
                                                         .program = dm->config.qemu_program,
                                                         .arguments = args->qemu,
                                                         .keep = keep,
                                                         .keep_count = args->qmp_count,
                                                         .default_pipe = true,
                                                         .death_signal = SIGTERM,
                                                         .ended = qemu_ended,
                                                         .self = dm},
                           error);
    for (unsigned i = 0; i < args->qmp_count; i++) { /* when QEMU has gone, nobody listens there any more */
        close(dm->sockets[i].server);
        dm->sockets[i].server = -1;
    }
    if (!dm->qemu) {
        return -error->code;
    }
    if (args->qmp_count) {
        dm->query = query_pci_start(dm->loop, dm->sockets[0].path, QEMU_LIMIT_NS, owners_known, dm, error);
        return dm->query ? 0 : -error->code;
    }
    return 0;
}

/* ---- the ioreqds ---- */

static void ioreqd_ready(void *self, struct emulator *emulator, const char *why)
{
    struct dm *dm = self;

    if (!why) {
        start_next(dm);
        return;
    }
    say(dm, IOD_LOG_ERROR, "%s %s (-ioreqd-timeout)", emulator_name(emulator), why);
    begin_end(dm, 1, SIGTERM);
}

static void ioreqd_line(void *self, enum iod_log_level level, const char *name, const char *text)
{
    struct dm *dm = self;

    dm->config.line(dm->config.self, name, text);
}

static int start_ioreqd(struct dm *dm, unsigned index, struct iod_error *error)
{
    struct ioreqd *ioreqd = &dm->ioreqds[index];
    char **command = dm_args_ioreqd(dm->config.args, index, dm->config.ioreqd_program);

    if (!command) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    ioreqd->entry = (struct list_entry){.name = ioreqd->name,
                                        .program = command[0],
                                        .arguments = command,
                                        .ready = LIST_READY_FD_LINE,
                                        .limit_ns = dm->config.args->limit_ns};
    ioreqd->emulator = emulator_start(&(struct emulator_config){.loop = dm->loop,
                                                                .entry = &ioreqd->entry,
                                                                .line = ioreqd_line,
                                                                .ready = ioreqd_ready,
                                                                .ended = ioreqd_ended,
                                                                .self = dm},
                                      error);
    return ioreqd->emulator ? 0 : -error->code;
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
    if (start_ioreqd(dm, index, &error)) {
        fail(dm, &error);
    }
}

/* ---- making ---- */

static void init_parts(struct dm *dm)
{
    snprintf(dm->ioreqds[0].name, NAME_SIZE, "ioreqd");
    for (unsigned i = 1; i < DM_IOREQDS_MAX; i++) {
        snprintf(dm->ioreqds[i].name, NAME_SIZE, "ioreqd %u", i + 1);
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
        emulator_destroy(dm->ioreqds[i].emulator);
        dm_args_free_command(dm->ioreqds[i].entry.arguments);
    }
    spawned_free(dm->qemu);
    dm->loop->ops->timer_remove(dm->limit);
    dm->loop->ops->task_remove(dm->report);
    free(dm);
}
