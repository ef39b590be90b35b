/* SPDX-License-Identifier: BSD-2-Clause */
#include "main/list_run.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "launch/list.h"
#include "loop/event_loop.h"
#include "main/pidfile.h"
#include "xen/xen.h"

struct process {
    const struct command_line *line;
    struct logger *logger;
    struct list_file file;
    struct loop *loop;
    struct hypervisor *hypervisor;
    struct store *store;
    struct list_run *run;
    int pidfile;
    enum exit_code code;
};

static void log_line(void *self, enum iod_log_level level, const char *prefix, const char *text)
{
    struct process *process = self;

    if (level <= process->line->log_level) {
        logger_log(process->logger, level, prefix, text);
    }
}

static void ready(void *self)
{
    static const char text[] = "ready\n";
    struct process *process = self;

    log_line(self, IOD_LOG_INFO, NULL, "ready: all emulators are");
    if (process->line->ready_fd >= 0) {
        if (write(process->line->ready_fd, text, sizeof(text) - 1) < 0) {
            log_line(self, IOD_LOG_WARNING, "--ready-fd", strerror(errno));
        }
        close(process->line->ready_fd);
    }
}

static void ended(void *self, enum list_result result)
{
    struct process *process = self;

    process->code = result == LIST_ENDED ? EXIT_OK : EXIT_GUEST;
    event_loop_stop(process->loop);
}

static void signalled(void *self, int signo)
{
    struct process *process = self;

    list_end(process->run);
}

static int make(struct process *process, struct iod_error *error)
{
    const struct command_line *line = process->line;

    process->code = EXIT_HOST;
    process->loop = event_loop_create();
    if (!process->loop) {
        return iod_fail(error, errno, "event loop: %s", strerror(errno));
    }
    process->hypervisor = xen_hypervisor_create(error);
    if (!process->hypervisor) {
        return -error->code;
    }
    if (!line->no_xenstore) {
        process->store = xen_store_create(process->loop, NULL, error);
        if (!process->store) {
            return -error->code;
        }
    }
    process->pidfile = line->pidfile ? pidfile_lock(line->pidfile, error) : -1;
    return line->pidfile && process->pidfile < 0 ? -error->code : 0;
}

static void serve(struct process *process, struct iod_error *error)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

    process->code = EXIT_GUEST;
    process->run = list_start(&(struct list_config){.loop = process->loop,
                                                    .hypervisor = process->hypervisor,
                                                    .store = process->store,
                                                    .file = &process->file,
                                                    .log = log_line,
                                                    .log_self = process,
                                                    .ready = ready,
                                                    .ended = ended,
                                                    .self = process},
                              error);
    if (!process->run) {
        return;
    }
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        event_loop_signal(process->loop, signals[i], signalled, process);
    }
    event_loop_run(process->loop);
}

static void finish(struct process *process)
{
    list_destroy(process->run);
    if (process->line->pidfile) {
        pidfile_remove(process->line->pidfile, process->pidfile);
    }
    if (process->store) {
        process->store->ops->destroy(process->store);
    }
    if (process->hypervisor) {
        process->hypervisor->ops->destroy(process->hypervisor);
    }
    event_loop_destroy(process->loop);
    list_file_finish(&process->file);
}

enum exit_code list_run(const struct command_line *line, struct logger *logger)
{
    struct process process = {.line = line, .logger = logger, .pidfile = -1, .code = EXIT_USAGE};
    struct iod_error error = {0};

    if (!list_file_read(&process.file, line->subject, &error) && !make(&process, &error)) {
        signal(SIGPIPE, SIG_IGN);
        serve(&process, &error);
    }
    if (error.code) {
        logger_log(logger, IOD_LOG_ERROR, NULL, error.text);
    }
    finish(&process);
    return process.code;
}
