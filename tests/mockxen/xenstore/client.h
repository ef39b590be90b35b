/* SPDX-License-Identifier: BSD-2-Clause */
/* xenstore's protocol over its unix socket, one request a connection: no environment, no thread, no state. */
#ifndef MOCKXEN_XENSTORE_CLIENT_H
#define MOCKXEN_XENSTORE_CLIENT_H

#include <stddef.h>
#include <stdint.h>

/**
 * Sends one request of `type` (XS_*) whose payload is `length` bytes, and receives the answer: at most `room`
 * bytes into `answer`. The number of bytes, or a negative errno (xenstored's own, or the connection's).
 */
int xs_request(const char *socket_path, uint32_t type, const void *payload, size_t length, void *answer,
               size_t room);

/** The same with strings for payload, each ended by its NUL; the list ends with NULL. */
int xs_request_strings(const char *socket_path, uint32_t type, const char *const *strings, void *answer,
                       size_t room);

#endif
