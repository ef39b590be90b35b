/* SPDX-License-Identifier: BSD-2-Clause */
#include "main/sources.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SOURCE "file"
#define RUNNING_TREE "/sys/firmware/fdt"

/* All but the first fatal one: that is the error, and its owner's to say. */
static void log_findings(struct logger *logger, const struct findings *findings)
{
    bool skipped = false;
    char line[600];

    for (unsigned i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->list[i];
        if (finding->fatal && !skipped) {
            skipped = true;
            continue;
        }
        snprintf(line, sizeof(line), "%s%s%s", finding->what, finding->remedy ? "; " : "",
                 finding->remedy ? finding->remedy : "");
        logger_log(logger, finding->fatal ? IOD_LOG_ERROR : IOD_LOG_WARNING, finding->where, line);
    }
}

int sources_load(const struct command_line *line, struct logger *logger, struct config *config,
                 struct iod_error *error)
{
    struct findings findings = {0};
    int ret = 0;

    *config = (struct config){0};
    if (line->config) {
        ret = config_load(line->config, config, &findings);
    }
    if (!ret && line->host_dtb) {
        bool running = !strcmp(line->host_dtb, "running");
        if (running && access(RUNNING_TREE, F_OK)) {
            iod_fail(error, errno, "--host-dtb running: this machine was booted without a device tree (%s: %s): "
                     "expected a dom0less Arm machine, or --host-dtb FILE", RUNNING_TREE, strerror(errno));
            findings_finish(&findings);
            config_finish(config);
            return -error->code;
        }
        ret = device_tree_load(running ? RUNNING_TREE : line->host_dtb, config, &findings);
    }
    log_findings(logger, &findings);
    if (ret && !findings_error(&findings, error)) {
        iod_fail(error, -ret, "%s: %s", line->config ? line->config : line->host_dtb, strerror(-ret));
    }
    for (unsigned i = 0; !ret && i < config->count; i++) {
        ret = guest_spec_add_slots(&config->guests[i], SLOT_DEVICE, error);
    }
    findings_finish(&findings);
    if (ret) {
        config_finish(config);
    }
    return ret;
}

int sources_apply(struct daemon *daemon, const struct config *config, struct iod_error *error)
{
    return daemon_apply(daemon, SOURCE, config->guests, config->count, error);
}

int sources_reload(const struct command_line *line, struct logger *logger, struct daemon *daemon,
                   struct iod_error *error)
{
    struct command_line now = *line;
    struct config config;

    if (line->config_later && (!line->host_dtb || access(line->config_later, F_OK) == 0)) {
        now.config = line->config_later;
    }
    int ret = sources_load(&now, logger, &config, error);
    if (ret) {
        return ret;
    }
    ret = sources_apply(daemon, &config, error);
    if (!ret && config.has_log_level && !line->log_given) { /* what the command line says wins */
        daemon_set_log_level(daemon, config.log_level);
    }
    config_finish(&config);
    return ret;
}
