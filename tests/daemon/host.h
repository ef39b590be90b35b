/* SPDX-License-Identifier: BSD-2-Clause */
/* The library in the test's own process: a daemon on a loop in a thread of its own. */
#ifndef TESTS_DAEMON_HOST_H
#define TESTS_DAEMON_HOST_H

#include <pthread.h>
#include <semaphore.h>

#include "core/daemon.h"
#include "guest.h"

struct host {
    struct loop *loop;
    struct hypervisor *hv;
    struct modules *modules;
    struct daemon *daemon;
    struct loop_watch *watch;
    pthread_t thread;
    int wake;
    void (*job)(struct host *host, void *argument);
    void *argument;
    sem_t done;
    char log[8192];
};

void host_start(struct host *host);
void host_start_with(struct host *host, const char *record_dir);
/* Ends all guests, and frees everything. */
void host_stop(struct host *host);
/* Runs the job on the loop; the job posts host->done when it is over, maybe later. */
void host_do(struct host *host, void (*job)(struct host *host, void *argument), void *argument);
/* A daemon_done for such a job: it must have gone well. */
daemon_done host_posted;
/* Adds the guest with the devices (a NULL-ended list) and waits until it runs. */
void host_add(struct host *host, struct mock_guest *guest, const char *const *devices);

#endif
