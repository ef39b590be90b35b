/* SPDX-License-Identifier: BSD-2-Clause */
#include "main/service.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

struct service {
    struct loop *loop;
    struct loop_timer *timer; /* of the watchdog; NULL: none */
    uint64_t interval_ns;
};

#ifdef HAVE_SYSTEMD

static uint64_t watchdog_us(void)
{
    uint64_t us = 0;

    return sd_watchdog_enabled(0, &us) > 0 ? us : 0;
}

static void tell(const char *state)
{
    sd_notify(0, state);
}

void service_status(struct service *service, const char *text)
{
    sd_notifyf(0, "STATUS=%s", text);
}

/* The time stamp is how systemd tells this reload's READY=1 from an older one. */
void service_reloading(struct service *service)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
               (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

#else

static uint64_t watchdog_us(void)
{
    return 0;
}

static void tell(const char *state)
{
}

void service_status(struct service *service, const char *text)
{
}

void service_reloading(struct service *service)
{
}

#endif

static void feed(void *self)
{
    struct service *service = self;

    tell("WATCHDOG=1");
    service->loop->ops->timer_set(service->timer,
                                  service->loop->ops->now_ns(service->loop) + service->interval_ns);
}

struct service *service_create(struct loop *loop)
{
    struct service *service = calloc(1, sizeof(*service));

    if (!service) {
        return NULL;
    }
    service->loop = loop;
    service->interval_ns = watchdog_us() * 1000 / 2;
    if (service->interval_ns) {
        service->timer = loop->ops->timer_add(loop, feed, service);
        if (!service->timer) {
            free(service);
            return NULL;
        }
        feed(service);
    }
    return service;
}

void service_destroy(struct service *service)
{
    if (service) {
        service->loop->ops->timer_remove(service->timer);
        free(service);
    }
}

void service_ready(struct service *service)
{
    tell("READY=1");
}

void service_stopping(struct service *service)
{
    tell("STOPPING=1");
}
