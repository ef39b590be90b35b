/* SPDX-License-Identifier: BSD-2-Clause */
/* How guests show themselves (inspect.h). */
#include <errno.h>

#include "core/inside.h"

int daemon_inspect(struct daemon *daemon, const char *domain, struct inspector *inspector,
                   struct iod_error *error)
{
    return iod_fail(error, EOPNOTSUPP, "not yet");
}
