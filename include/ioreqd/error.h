/* SPDX-License-Identifier: BSD-2-Clause */
/* Errors for people: what went wrong while a configuration was read or a device was made. */
#ifndef IOREQD_ERROR_H
#define IOREQD_ERROR_H

/* One line, no newline: what, where, what was expected. Lives in the caller's memory. */
struct iod_error {
    int code;       /* positive errno; 0: no error */
    char text[240];
};

/* Fills *error (NULL is fine) and returns -code, so that a function can `return iod_fail(...)`. */
int iod_fail(struct iod_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
