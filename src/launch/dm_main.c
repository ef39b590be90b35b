/* SPDX-License-Identifier: BSD-2-Clause */
/* ioreqd-dm(8): what libxl starts as a guest's device model. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launch/dm.h"
#include "launch/dm_slots.h"
#include "loop/event_loop.h"

#define LINE_SIZE 1100

struct program {
    struct loop *loop;
    struct dm *dm;
    int status;
};

/* ---- the log: libxl's file for the device model ---- */

static void put(const char *line)
{
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

    if (poll(&fd, 1, 0) == 1 && write(STDERR_FILENO, line, strlen(line)) < 0) {
        return; /* nobody is left to be told */
    }
}

static void log_text(void *self, enum iod_log_level level, const char *text)
{
    char line[LINE_SIZE];

    snprintf(line, sizeof(line), "ioreqd-dm: %s\n", text);
    put(line);
}

/* A line that ioreqd said before it knew that it need not name itself. */
static void child_line(void *self, const char *name, const char *text)
{
    static const char own[] = "ioreqd: ";
    bool named = !strncmp(text, own, sizeof(own) - 1);
    char line[LINE_SIZE];

    snprintf(line, sizeof(line), "%s: %s\n", name, named ? text + sizeof(own) - 1 : text);
    put(line);
}

static int refuse(const struct iod_error *error)
{
    log_text(NULL, IOD_LOG_ERROR, error->text);
    return 1;
}

/* ---- running ---- */

static void ended(void *self, int status)
{
    struct program *program = self;

    program->status = status;
    event_loop_stop(program->loop);
}

static void signalled(void *self, int signo)
{
    struct program *program = self;

    dm_end(program->dm, signo);
}

static int run(struct dm_args *args, const char *qemu)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    struct program program = {.loop = event_loop_create(), .status = 1};
    struct iod_error error = {0};

    if (!program.loop) {
        iod_fail(&error, errno, "event loop: %s", strerror(errno));
        return refuse(&error);
    }
    signal(SIGPIPE, SIG_IGN);
    program.dm = dm_start(&(struct dm_config){.loop = program.loop,
                                              .args = args,
                                              .ioreqd_program = args->ioreqd_program ? args->ioreqd_program
                                                                                     : IOREQD_PROGRAM,
                                              .qemu_program = qemu,
                                              .log = log_text,
                                              .line = child_line,
                                              .ended = ended,
                                              .self = &program},
                          &error);
    for (unsigned i = 0; program.dm && i < sizeof(signals) / sizeof(signals[0]); i++) {
        event_loop_signal(program.loop, signals[i], signalled, &program);
    }
    if (program.dm) {
        event_loop_run(program.loop);
        dm_destroy(program.dm);
    } else {
        refuse(&error);
    }
    event_loop_destroy(program.loop);
    return program.status;
}

/* Nothing of ours is wanted: QEMU takes our place, with all that it would have had. */
static int become_qemu(const struct dm_args *args)
{
    execv(args->qemu[0], args->qemu);
    fprintf(stderr, "ioreqd-dm: can't run %s: %s\n", args->qemu[0], strerror(errno));
    return 1;
}

static int serve(struct dm_args *args)
{
    struct iod_error error = {0};
    const char *qemu = dm_args_find_qemu(args, &error);

    if (!qemu) {
        return refuse(&error);
    }
    args->qemu[0] = (char *)(uintptr_t)qemu;
    if (!args->ioreqd_count) {
        return become_qemu(args);
    }
    if (!args->has_domid) {
        iod_fail(&error, EINVAL, "-ioreqd needs a guest: expected -xen-domid ID, as libxl gives it");
        return refuse(&error);
    }
    if (dm_slots_check_arguments(args, &error)) {
        return refuse(&error);
    }
    return run(args, qemu);
}

static int usage(FILE *to, int status)
{
    fputs("Usage: ioreqd-dm [-ioreqd SPEC]... [-ioreqd-extra -ioreqd SPEC...]... [QEMU'S ARGUMENT]...\n"
         "QEMU and one or more ioreqds as the device model of one HVM guest, started by libxl:\n"
         "  device_model_override = \"" DM_PROGRAM "\"\n"
         "  device_model_args = [ \"-ioreqd\", \"virtio-blk,path=/srv/data.img\" ]\n"
         "  -ioreqd SPEC              a device, as for ioreqd --device\n"
         "  -ioreqd-extra             what follows belongs to a further ioreqd\n"
         "  -ioreqd-arg ARGUMENT      for this ioreqd itself\n"
         "  -ioreqd-timeout SECONDS   for each ioreqd to be ready (30)\n"
         "  -ioreqd-qemu PATH, -ioreqd-program PATH\n"
         "See ioreqd-dm(8).\n", to);
    return status;
}

int main(int argc, char **argv)
{
    struct dm_args args;
    struct iod_error error = {0};
    int status;

    if (argc < 2) { /* no toolstack's doing: QEMU would open a window, and run for ever */
        return usage(stderr, 1);
    }
    if (argc == 2 && !strcmp(argv[1], "--help")) {
        return usage(stdout, 0);
    }
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        puts("ioreqd-dm " IOREQD_VERSION);
        return 0;
    }
    status = dm_args_parse(&args, argc, argv, &error) ? refuse(&error) : serve(&args);
    dm_args_finish(&args);
    return status;
}
