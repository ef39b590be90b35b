/* SPDX-License-Identifier: BSD-2-Clause */
/* What the service manager (systemd) hears: ready, reloading, stopping, and that the loop still turns. */
#ifndef MAIN_SERVICE_H
#define MAIN_SERVICE_H

#include "core/loop.h"

struct service;

/*
 * NULL: out of memory. Without a service manager ($NOTIFY_SOCKET), or built without libsystemd, all of it is
 * silent. The loop outlives it. Feeds the watchdog from the loop's timer if the manager wants that.
 */
struct service *service_create(struct loop *loop);
void service_destroy(struct service *service); /* NULL is fine */

void service_ready(struct service *service);
void service_reloading(struct service *service); /* until service_ready */
void service_stopping(struct service *service);
/* One line for `systemctl status`. */
void service_status(struct service *service, const char *text);

#endif
