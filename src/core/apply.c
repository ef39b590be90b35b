/* SPDX-License-Identifier: BSD-2-Clause */
/* A source's whole list of guests, made so with the least change. */
#include <errno.h>

#include "core/inside.h"

int daemon_apply(struct daemon *daemon, const char *source, const struct guest_spec *guests, unsigned count,
                 struct iod_error *error)
{
    return iod_fail(error, EOPNOTSUPP, "not yet");
}
