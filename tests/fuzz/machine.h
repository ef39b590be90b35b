/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The whole core over a loop and a hypervisor of plain memory: one HVM guest, time that moves when the target
 * says so, and a check of each answer. For fuzz targets; everything is deterministic.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/module.h>

#include "core/daemon.h"
#include "core/inside.h"

enum { MACHINE_VCPUS = 4, MACHINE_PAGES = 16, MACHINE_RING = 64 };

struct machine {
    struct loop loop;
    struct hypervisor hv;
    struct modules *modules;
    struct daemon *daemon;
    uint64_t now;
    struct list tasks, timers; /* queued; armed */
    void (*events)(void *self, unsigned events);
    void *events_self;
    bool running, ended, stopped;
    struct {
        enum slot_state state;
        struct request request;
        uint64_t data;
        uint64_t sent, answered;
    } slots[MACHINE_VCPUS];
    struct request ring[MACHINE_RING];
    unsigned ring_read, ring_write;
    uint64_t pending; /* by port */
    unsigned mapped;  /* pages */
    bool holes[MACHINE_PAGES];
    uint8_t *memory;
};

/* A guest with these devices (a NULL-ended list of specs) of these modules, running. */
struct machine *machine_start(const struct iod_module *const *modules, const char *const *devices);
struct guest *machine_guest(struct machine *machine);
/* Serves events and tasks until nothing is left to do now. */
void machine_run(struct machine *machine);
/* Moves time on, timer by timer. */
void machine_pass(struct machine *machine, uint64_t ns);
/* A vCPU's request, or (MACHINE_VCPUS) one for the buffered ring. False: it has one already, or no room. */
bool machine_send(struct machine *machine, unsigned vcpu, const struct request *request);
bool machine_waits(const struct machine *machine); /* some vCPU has no answer yet */
/* SIGTERM's way; every request must have had its one answer, every page be given back. Frees all. */
void machine_stop(struct machine *machine);

#endif
