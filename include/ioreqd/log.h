/* SPDX-License-Identifier: BSD-2-Clause */
/* What a device says to the operator. Each line gets the domid and the device's id in front by the core. */
#ifndef IOREQD_LOG_H
#define IOREQD_LOG_H

#include <stdbool.h>

struct iod_device;

enum iod_log_level { IOD_LOG_ERROR, IOD_LOG_WARNING, IOD_LOG_INFO, IOD_LOG_DEBUG };

/* For the host's side: backends, files. Not for what a guest can cause at will. */
void iod_log(struct iod_device *device, enum iod_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * A guest did what it must not: always counted, printed seldom (the core limits the rate). Never stops
 * anything.
 */
void iod_guest_error(struct iod_device *device, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
