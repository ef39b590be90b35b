/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/points.h"

#define GUEST_ERROR_INTERVAL_NS UINT64_C(1000000000)

static void log_text(struct daemon *daemon, enum iod_log_level level, const char *prefix, const char *format,
                     va_list arguments)
{
    char text[512];
    if (!daemon->config.log || level > daemon->config.log_level) {
        return;
    }
    vsnprintf(text, sizeof(text), format, arguments);
    daemon->config.log(daemon->config.log_self, level, prefix, text);
}

void daemon_log(struct daemon *daemon, enum iod_log_level level, const char *prefix, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_text(daemon, level, prefix, format, arguments);
    va_end(arguments);
}

void guest_log(struct guest *guest, enum iod_log_level level, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    log_text(guest->daemon, level, guest->name, format, arguments);
    va_end(arguments);
}

static void device_log(struct iod_device *device, enum iod_log_level level, const char *format,
                       va_list arguments)
{
    char prefix[sizeof(device->guest->name) + 64];
    snprintf(prefix, sizeof(prefix), "%s %.60s", device->guest->name,
             device->id ? device->id : device->class->name);
    log_text(device->guest->daemon, level, prefix, format, arguments);
}

void iod_log(struct iod_device *device, enum iod_log_level level, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    device_log(device, level, format, arguments);
    va_end(arguments);
}

void iod_guest_error(struct iod_device *device, const char *format, ...)
{
    struct daemon *daemon = device->guest->daemon;
    uint64_t now = daemon->loop->ops->now_ns(daemon->loop);
    bool print = now >= device->guest_errors_until_ns;
    device->guest_errors++;
    limit_charge(device->guest, DEED_GUEST_ERROR, 1);
    if (!print && !(device->guest->watch.mask & PROBE_BIT(guest_error))) {
        point_guest_error(device->guest, device, format); /* making the line would cost too much */
        return;
    }
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    point_guest_error(device->guest, device, text);
    if (print) {
        device->guest_errors_until_ns = now + GUEST_ERROR_INTERVAL_NS;
        iod_log(device, IOD_LOG_WARNING, "guest error %llu: %s", (unsigned long long)device->guest_errors, text);
    }
}
