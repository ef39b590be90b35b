/* SPDX-License-Identifier: BSD-2-Clause */
/* ioreqd --preflight [DOMID]: what will not work here, and why. Changes nothing that it does not take back. */
#ifndef MAIN_PREFLIGHT_H
#define MAIN_PREFLIGHT_H

#include "main/application.h"

/* To stdout, one line a finding: "ok", "note" or "FAIL". EXIT_HOST or EXIT_GUEST when something failed. */
enum exit_code preflight_run(const struct command_line *line);

#endif
