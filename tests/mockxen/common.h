/* SPDX-License-Identifier: BSD-2-Clause */
/* Helpers used on all three sides: messages, locks and futexes in shared memory, the sending of an event. */
#ifndef MOCKXEN_COMMON_H
#define MOCKXEN_COMMON_H

#include "proto.h"

/** Connect to the socket at `path` and say hello. Returns the fd or -1 + errno. */
int mx_connect(const char *path, uint16_t caller, struct mx_global **global, int *kick);
/** Send a request with `len` payload bytes; wait for the reply, at most `cap` payload bytes into `out`. Up to
 * two fds come back in fds (-1 where none). Returns payload length or a negative errno (the reply's own
 * included). */
ssize_t mx_call(int fd, const struct mx_req *req, const void *data, size_t len, struct mx_rep *rep, void *out,
                size_t cap, int fds[2]);
/** One message with up to two fds; -1 + errno. `fds` may be NULL. */
int mx_send(int fd, const void *head, size_t head_len, const void *data, size_t len, const int *fds,
            int nr_fds);
ssize_t mx_recv(int fd, void *head, size_t head_len, void *data, size_t cap, int fds[2]);

/** A robust mutex shared between processes. */
void mx_lock_init(pthread_mutex_t *lock);
void mx_lock(pthread_mutex_t *lock);
void mx_unlock(pthread_mutex_t *lock);

void mx_futex_wake(_Atomic uint32_t *word);
/** Wait while *word == seen; 0 or -ETIMEDOUT; deadline in ns of CLOCK_MONOTONIC, < 0 none. */
int mx_futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t deadline);
int64_t mx_now(void);
/** Deadline for a timeout in ms (negative: none). */
int64_t mx_deadline(int timeout_ms);

/** Raise a local port: one send on `fd` (mockxen's end of the stream), unless masked. True if mockxen must
 * watch. */
bool mx_evt_raise(struct mx_global *global, uint32_t lport, uint32_t handle, int fd);
/** Take the unmasks that wait on the stream; deliver what they free. Handle's lock held by the caller. */
void mx_evt_drain(struct mx_global *global, uint32_t handle, int fd);

/** Is this rule broken on purpose? */
static inline bool mx_broken(const struct mx_global *global, enum mx_break rule)
{
    return global->breaks >> rule & 1;
}

/** Record a deed that would have killed the host. */
void mx_panic(struct mx_global *global, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
