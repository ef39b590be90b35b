/* SPDX-License-Identifier: BSD-2-Clause */
#include "main/offline.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "config/config.h"
#include "core/daemon.h"
#include "loop/event_loop.h"
#include "main/builtin.h"

/*
 * The core tries a guest's devices without touching Xen: their `create` looks at options alone. It wants a daemon for
 * that, and a daemon wants a hypervisor; this one has an event channel handle that never fires, and nothing else.
 */
struct nowhere {
    struct hypervisor hv;
    int event_fd;
};

static int nowhere_event_fd(struct hypervisor *hv)
{
    return ((struct nowhere *)hv)->event_fd;
}

static const struct hypervisor_ops nowhere_ops = {.event_fd = nowhere_event_fd};

struct offline {
    struct nowhere nowhere;
    struct modules *modules;
    struct loop *loop;
    struct daemon *daemon;
};

static void close_offline(struct offline *offline)
{
    daemon_destroy(offline->daemon);
    if (offline->loop) {
        event_loop_destroy(offline->loop);
    }
    if (offline->modules) {
        modules_destroy(offline->modules);
    }
    if (offline->nowhere.event_fd >= 0) {
        close(offline->nowhere.event_fd);
    }
}

static int open_offline(struct offline *offline, const struct command_line *line, const struct config *config,
                        struct iod_error *error)
{
    *offline = (struct offline){.nowhere = {.hv = {.ops = &nowhere_ops}}};
    offline->nowhere.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    offline->modules = modules_create();
    offline->loop = event_loop_create();
    if (offline->nowhere.event_fd < 0 || !offline->modules || !offline->loop) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    for (unsigned i = 0; i < line->module_count; i++) {
        if (modules_load(offline->modules, line->modules[i], error)) {
            return -error->code;
        }
    }
    for (unsigned i = 0; i < config->module_count; i++) {
        if (modules_load(offline->modules, config->modules[i], error)) {
            return -error->code;
        }
    }
    if (builtin_modules_add(offline->modules, error)) {
        return -error->code;
    }
    offline->daemon = daemon_create(&(struct daemon_config){.loop = offline->loop,
                                                            .hypervisor = &offline->nowhere.hv,
                                                            .modules = offline->modules},
                                    error);
    return offline->daemon ? 0 : -error->code;
}

static int check_guest(void *self, const struct guest_spec *guest, struct iod_error *error)
{
    struct offline *offline = self;
    struct guest_spec whole;
    int ret;

    if (guest_spec_copy(&whole, guest)) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    ret = guest_spec_add_slots(&whole, SLOT_DEVICE, error);
    ret = ret ? ret : daemon_check_guest(offline->daemon, &whole, error);
    guest_spec_finish(&whole);
    return ret;
}

/* The modules that the file names are wanted before the file is checked; what is wrong with it is said by the check. */
static void peek(const char *path, struct config *config)
{
    struct findings findings = {0};

    if (config_load(path, config, &findings)) {
        *config = (struct config){0};
    }
    findings_finish(&findings);
}

enum exit_code offline_check(const struct command_line *line, struct logger *logger)
{
    struct findings findings = {0};
    struct iod_error error = {0};
    struct offline offline;
    struct config config;

    peek(line->config, &config);
    int ret = open_offline(&offline, line, &config, &error);
    if (ret) {
        logger_log(logger, IOD_LOG_ERROR, NULL, error.text);
    } else {
        struct config_check check = {.dtb = line->dtb, .check_guest = check_guest, .self = &offline};
        ret = config_check(line->config, &check, &findings);
        findings_print(&findings, stdout);
        if (!ret && config.count) {
            printf("%s: %u guest%s, no error\n", line->config, config.count, config.count == 1 ? "" : "s");
        } else if (!ret) { /* an xl.cfg, or no guest at all */
            printf("%s: no error\n", line->config);
        }
    }
    findings_finish(&findings);
    close_offline(&offline);
    config_finish(&config);
    return ret ? EXIT_USAGE : EXIT_OK;
}

enum exit_code offline_print_dt(const struct command_line *line, struct logger *logger)
{
    struct findings findings = {0};
    struct config config = {0};
    int ret = config_load(line->config, &config, &findings);

    if (!ret) {
        ret = config_print_dt(&config, line->subject, stdout, &findings);
    }
    findings_print(&findings, stderr);
    if (ret == -ENOENT && !findings_fatal(&findings)) {
        char text[200];
        snprintf(text, sizeof(text), "--print-dt %.80s: no such guest in %.80s", line->subject, line->config);
        logger_log(logger, IOD_LOG_ERROR, NULL, text);
    }
    findings_finish(&findings);
    config_finish(&config);
    return ret ? EXIT_USAGE : EXIT_OK;
}
