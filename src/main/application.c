/* SPDX-License-Identifier: BSD-2-Clause */
#include "main/application.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "config/xenstore.h"
#include "control/control.h"
#include "core/daemon.h"
#include "loop/event_loop.h"
#include "main/build.h"
#include "main/builtin.h"
#include "main/pidfile.h"
#include "main/qemu.h"
#include "main/service.h"
#include "main/sources.h"
#include "xen/xen.h"

struct application {
    const struct command_line *line;
    struct logger *logger;
    struct config config; /* as it was at the start */
    const struct guest_spec **guests; /* those of the line, then those of the configuration */
    unsigned guest_count;
    struct service *service;
    int pidfile;
    struct loop *loop;
    struct hypervisor *hypervisor;
    struct store *store;
    struct modules *modules;
    struct neighbours *neighbours;
    struct daemon *daemon;
    struct control *control;          /* NULL: no socket */
    struct xenstore_source *xenstore; /* guests that come by xenstore; NULL: none do */
    struct loop_task *look; /* at the guests, when the batch that changed them has ended */
    bool *running;          /* by guest */
    bool *ended;
    bool ready, stopping, stopped, failed, at_once;
};

static void say_error(struct logger *logger, const struct iod_error *error)
{
    logger_log(logger, IOD_LOG_ERROR, NULL, error->text);
}

/* Is it the host's fault, or what the user asked for? */
static enum exit_code exit_code_of(const struct iod_error *error)
{
    static const int of_host[] = {ENOMEM, ENFILE, EMFILE, ENODEV, ENXIO,
                                  EIO,    EPERM,  EACCES};

    for (unsigned i = 0; i < sizeof(of_host) / sizeof(of_host[0]); i++) {
        if (error->code == of_host[i]) {
            return EXIT_HOST;
        }
    }
    return EXIT_USAGE;
}

/* ---- the end ---- */

static void stopped(void *self)
{
    struct application *app = self;

    app->stopped = true;
    event_loop_stop(app->loop);
}

static bool is_service(const struct application *app)
{
    return app->line->command == COMMAND_SERVICE;
}

static void stop(struct application *app)
{
    if (!app->stopping) {
        app->stopping = true;
        service_stopping(app->service);
        daemon_stop(app->daemon, stopped, app);
    }
}

static void end_signal(void *self, int signo)
{
    struct application *app = self;

    if (app->stopping) {
        app->at_once = true;
        event_loop_stop(app->loop);
    } else {
        logger_log(app->logger, IOD_LOG_INFO, NULL, "ending; a second signal ends at once");
        stop(app);
    }
}

/* ---- reload ---- */

static int reload(void *self, struct iod_error *error)
{
    struct application *app = self;

    if (app->stopping) { /* systemd must not hear that it is ready again */
        return iod_fail(error, EBUSY, "ioreqd is ending");
    }
    service_reloading(app->service);
    int ret = sources_reload(app->line, app->logger, app->daemon, error);
    service_ready(app->service);
    logger_log(app->logger, ret ? IOD_LOG_ERROR : IOD_LOG_INFO, "reload",
               ret ? error->text : "done");
    return ret;
}

/* A toolstack ends its device models with SIGHUP; a service is told to look at its configuration again. */
static void hang_up(void *self, int signo)
{
    struct application *app = self;
    struct iod_error error = {0};

    if (is_service(app)) {
        reload(app, &error);
    } else {
        end_signal(app, signo);
    }
}

/* ---- the guests' states ---- */

static void announce(struct application *app)
{
    static const char line[] = "ready\n";

    app->ready = true;
    service_ready(app->service);
    logger_log(app->logger, IOD_LOG_INFO, NULL,
               is_service(app) ? "ready: guests are served as they come" : "ready: all guests are running");
    if (app->line->ready_fd >= 0) {
        if (write(app->line->ready_fd, line, sizeof(line) - 1) < 0) {
            logger_log(app->logger, IOD_LOG_WARNING, "--ready-fd", strerror(errno));
        }
        close(app->line->ready_fd);
    }
}

static bool all(const struct application *app, const bool *flags)
{
    for (unsigned i = 0; i < app->guest_count; i++) {
        if (!flags[i]) {
            return false;
        }
    }
    return true;
}

static void look(void *self)
{
    struct application *app = self;

    if (is_service(app)) {
        return; /* ready long since, and nothing but a signal ends it */
    }
    if (!app->ready && all(app, app->running)) {
        announce(app);
    }
    /* A guest with --wait is taken on again when its domain is gone, so that some guest is always left. */
    if (daemon_guests(app->daemon) == 0 || (app->line->exit_when_gone && all(app, app->ended))) {
        stop(app);
    }
}

static void guest_state(void *self, const char *domain, const char *state)
{
    struct application *app = self;

    for (unsigned i = 0; i < app->guest_count; i++) {
        if (strcmp(app->guests[i]->domain, domain) == 0) {
            app->running[i] = strcmp(state, "running") == 0;
            app->ended[i] = strcmp(state, "gone") == 0 || strcmp(state, "failed") == 0;
            /* One that ioreqctl attached is the business of whoever did so. */
            app->failed = app->failed || (!is_service(app) && strcmp(state, "failed") == 0);
        }
    }
    app->loop->ops->task_soon(app->look);
}

/* ---- making ---- */

static enum exit_code add_modules(struct application *app, struct iod_error *error)
{
    app->modules = modules_create();
    if (!app->modules) {
        iod_fail(error, ENOMEM, "out of memory");
        return EXIT_HOST;
    }
    for (unsigned i = 0; i < app->line->module_count; i++) {
        if (modules_load(app->modules, app->line->modules[i], error)) {
            return EXIT_USAGE;
        }
    }
    for (unsigned i = 0; i < app->config.module_count; i++) {
        if (modules_load(app->modules, app->config.modules[i], error)) {
            return EXIT_USAGE;
        }
    }
    return builtin_modules_add(app->modules, error) ? EXIT_HOST : EXIT_OK;
}

/* A misspelt device is told before anything of the host is asked for. */
static int check_names(const struct application *app, struct iod_error *error)
{
    for (unsigned i = 0; i < app->guest_count; i++) {
        const struct guest_spec *guest = app->guests[i];
        for (unsigned k = 0; k < guest->device_count; k++) {
            if (!modules_device(app->modules, guest->devices[k].name, error)) {
                return -error->code;
            }
        }
    }
    return 0;
}

static int make_loop(struct application *app, struct iod_error *error)
{
    static const int signals[] = {SIGTERM, SIGINT};

    app->loop = event_loop_create();
    if (!app->loop) {
        return iod_fail(error, errno, "event loop: %s", strerror(errno));
    }
    app->look = app->loop->ops->task_add(app->loop, look, app);
    if (!app->look) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        int ret = event_loop_signal(app->loop, signals[i], end_signal, app);
        if (ret) {
            return iod_fail(error, -ret, "signal %s: %s", strsignal(signals[i]), strerror(-ret));
        }
    }
    int ret = event_loop_signal(app->loop, SIGHUP, hang_up, app);
    if (ret) {
        return iod_fail(error, -ret, "signal %s: %s", strsignal(SIGHUP), strerror(-ret));
    }
    app->service = service_create(app->loop);
    return app->service ? 0 : iod_fail(error, ENOMEM, "out of memory");
}

/* The settings that the command line leaves to the configuration. */
static const char *record_dir(const struct application *app)
{
    const char *configured = app->config.record_dir;

    if (app->line->record_dir_given || !configured) {
        return app->line->record_dir;
    }
    return strcmp(configured, "none") ? configured : NULL;
}

static const char *control_path(const struct application *app)
{
    const char *configured = app->config.control;

    if (app->line->control_given || !configured || !is_service(app)) {
        return app->line->control;
    }
    return strcmp(configured, "none") ? configured : NULL;
}

/* /run/ioreqd, where no service manager has made it; what else is wrong with the folder is said by control_create. */
static void make_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash && slash != path ? strndup(path, (size_t)(slash - path)) : NULL;

    if (folder) {
        mkdir(folder, 0755);
        free(folder);
    }
}

static int make_control(struct application *app, struct iod_error *error)
{
    const struct command_line *line = app->line;
    const char *path = control_path(app);

    if (!path) {
        return 0;
    }
    make_folder_of(path);
    app->control = control_create(app->daemon,
                                  &(struct control_config){
                                      .path = path,
                                      .group = line->control_group ? line->control_group
                                                                   : app->config.control_group,
                                      .version = IOREQD_VERSION,
                                      .build = IOREQD_BUILD[0] ? IOREQD_BUILD : NULL,
                                      .reload = line->config || line->config_later || line->host_dtb ? reload : NULL,
                                      .self = app,
                                  },
                                  error);
    return app->control ? 0 : -error->code;
}

static bool wants_store(const struct application *app)
{
    return command_line_needs_store(app->line) && !(app->config.has_xenstore && !app->config.xenstore);
}

static int make_daemon(struct application *app, struct iod_error *error)
{
    const struct command_line *line = app->line;

    app->running = calloc(app->guest_count + 1, sizeof(*app->running));
    app->ended = calloc(app->guest_count + 1, sizeof(*app->ended));
    if (!app->running || !app->ended) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    if (line->pidfile) {
        app->pidfile = pidfile_lock(line->pidfile, error);
        if (app->pidfile < 0) {
            return -error->code;
        }
    }
    if (make_loop(app, error)) {
        return -error->code;
    }
    app->hypervisor = xen_hypervisor_create(error);
    if (!app->hypervisor) {
        return -error->code;
    }
    if (wants_store(app)) {
        app->store = xen_store_create(app->loop, NULL, error);
        if (!app->store) {
            return -error->code;
        }
    }
    app->neighbours = qemu_create(app->loop);
    if (!app->neighbours) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    app->daemon = daemon_create(
        &(struct daemon_config){
            .loop = app->loop,
            .hypervisor = app->hypervisor,
            .store = app->store,
            .modules = app->modules,
            .neighbours = app->neighbours,
            .record_dir = record_dir(app),
            .slot_device = SLOT_DEVICE,
            .log_level = !line->log_given && app->config.has_log_level ? app->config.log_level
                                                                       : line->log_level,
            .log = logger_log,
            .log_self = app->logger,
            .guest_state = guest_state,
            .guest_self = app,
        },
        error);
    return app->daemon ? make_control(app, error) : -error->code;
}

static void finish(struct application *app)
{
    control_destroy(app->control);
    xenstore_source_destroy(app->xenstore);
    daemon_destroy(app->daemon);
    qemu_destroy(app->neighbours);
    if (app->store) {
        app->store->ops->destroy(app->store);
    }
    if (app->hypervisor) {
        app->hypervisor->ops->destroy(app->hypervisor);
    }
    if (app->modules) {
        modules_destroy(app->modules);
    }
    service_destroy(app->service);
    if (app->line->pidfile) {
        pidfile_remove(app->line->pidfile, app->pidfile);
    }
    if (app->loop) {
        app->loop->ops->task_remove(app->look);
        event_loop_destroy(app->loop);
    }
    free(app->running);
    free(app->ended);
    free(app->guests);
    config_finish(&app->config);
}

/* All specs are checked before any guest is touched by what follows an error: the ones taken on are stopped
 * again. */
static enum exit_code serve(struct application *app)
{
    struct iod_error error = {0};
    enum exit_code code = EXIT_OK;

    for (unsigned i = 0; i < app->line->guest_count && code == EXIT_OK; i++) {
        if (daemon_add_guest(app->daemon, &app->line->guests[i], &error)) {
            say_error(app->logger, &error);
            code = exit_code_of(&error);
        }
    }
    if (code == EXIT_OK && app->config.count && sources_apply(app->daemon, &app->config, &error)) {
        say_error(app->logger, &error);
        code = exit_code_of(&error);
    }
    if (code == EXIT_OK && is_service(app) && app->store) {
        app->xenstore = xenstore_source_create(app->daemon, app->store, app->line->arch, &error);
        if (!app->xenstore) {
            say_error(app->logger, &error);
            code = exit_code_of(&error);
        }
    }
    if (code != EXIT_OK) {
        stop(app);
    } else if (is_service(app)) {
        announce(app);
    }
    int ret = event_loop_run(app->loop);
    if (ret) {
        logger_log(app->logger, IOD_LOG_ERROR, "event loop", strerror(-ret));
        return EXIT_HOST;
    }
    if (app->at_once) {
        return EXIT_AT_ONCE;
    }
    return code != EXIT_OK ? code : app->failed ? EXIT_GUEST : EXIT_OK;
}

/* What the files say, and all guests in one list. */
static int collect(struct application *app, struct iod_error *error)
{
    const struct command_line *line = app->line;
    int ret = sources_load(line, app->logger, &app->config, error);

    if (ret) {
        return ret;
    }
    app->guests = calloc(line->guest_count + app->config.count + 1, sizeof(*app->guests));
    if (!app->guests) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    for (unsigned i = 0; i < line->guest_count; i++) {
        app->guests[app->guest_count++] = &line->guests[i];
    }
    for (unsigned i = 0; i < app->config.count; i++) {
        app->guests[app->guest_count++] = &app->config.guests[i];
    }
    return 0;
}

enum exit_code application_run(const struct command_line *line, struct logger *logger)
{
    struct application app = {.line = line, .logger = logger, .pidfile = -1};
    struct iod_error error = {0};
    enum exit_code code = collect(&app, &error) ? EXIT_USAGE : add_modules(&app, &error);

    if (code == EXIT_OK && check_names(&app, &error)) {
        code = EXIT_USAGE;
    }
    if (code == EXIT_OK && make_daemon(&app, &error)) {
        code = EXIT_HOST;
    }
    if (code != EXIT_OK) {
        say_error(logger, &error);
    } else {
        signal(SIGPIPE, SIG_IGN); /* a peer that closed its end is an error of that write, no more */
        signal(SIGCHLD, SIG_DFL); /* inherited as ignored it would hide how scripts end */
        code = serve(&app);
        if (!app.stopped) {
            _exit((int)code); /* guests are left: nothing of theirs may be taken apart; the kernel cleans up */
        }
    }
    finish(&app);
    return code;
}

enum exit_code application_help(const struct command_line *line, struct logger *logger)
{
    struct application app = {.line = line, .logger = logger};
    struct iod_error error = {0};
    enum exit_code code = add_modules(&app, &error);

    if (code == EXIT_OK && line->command == COMMAND_HELP_DEVICES) {
        modules_list(app.modules, stdout);
    } else if (code == EXIT_OK && modules_help(app.modules, line->help_device, stdout, &error)) {
        code = EXIT_USAGE;
    }
    if (code != EXIT_OK) {
        say_error(logger, &error);
    }
    finish(&app);
    return code;
}
