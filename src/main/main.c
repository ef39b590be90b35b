/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "main/application.h"
#include "main/list_run.h"
#include "main/offline.h"
#include "main/preflight.h"
#include "xen/xen.h"

static enum exit_code run(const struct command_line *line, struct logger *logger)
{
    switch (line->command) {
    case COMMAND_HELP:
        command_line_usage(stdout);
        return EXIT_OK;
    case COMMAND_VERSION:
        puts("ioreqd " IOREQD_VERSION);
        return EXIT_OK;
    case COMMAND_CHECK:
        return offline_check(line, logger);
    case COMMAND_PRINT_DT:
        return offline_print_dt(line, logger);
    case COMMAND_LIST:
        return list_run(line, logger);
    case COMMAND_PREFLIGHT:
        return preflight_run(line);
    case COMMAND_HELP_DEVICES:
    case COMMAND_HELP_DEVICE:
        return application_help(line, logger);
    default:
        return application_run(line, logger);
    }
}

int main(int argc, char **argv)
{
    struct command_line line;
    struct logger logger;
    struct iod_error error = {0};
    enum exit_code code = EXIT_USAGE;

    if (argc == 3 &&
        strcmp(argv[1], "--xenstore-helper") == 0) { /* started by xen_store_create, not by people */
        return xen_store_helper(atoi(argv[2]));
    }
    logger_init(&logger);
    if (command_line_parse(&line, argc, argv, &error)) {
        logger_log(&logger, IOD_LOG_ERROR, NULL, error.text);
    } else {
        code = run(&line, &logger);
    }
    command_line_finish(&line);
    return (int)code;
}
