/* SPDX-License-Identifier: BSD-2-Clause */
/* The log on stderr, one line a write: for a person, or with a level the journal reads. */
#ifndef MAIN_LOGGER_H
#define MAIN_LOGGER_H

#include <stdbool.h>

#include <ioreqd/log.h>

struct logger {
    bool journal;  /* stderr is systemd's journal: lines begin with <priority> */
    unsigned lost; /* lines that a full pipe did not take */
};

/* Finds out what stderr is. */
void logger_init(struct logger *logger);
/* As struct daemon_config.log; self is the logger. An empty or NULL prefix is left out. */
void logger_log(void *self, enum iod_log_level level, const char *prefix, const char *text);

#endif
