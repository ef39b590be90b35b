/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest with one or more devices and nothing else: the core's calls that src/pci and src/virtio make,
 * played by plain memory. Time stands still; tasks run when the test says so; a stop ends when the test says
 * so.
 */
#ifndef FAKE_GUEST_H
#define FAKE_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/dma.h>
#include <ioreqd/irq.h>
#include <ioreqd/loop.h>
#include <ioreqd/region.h>
#include <ioreqd/virtio.h>

#include "core/device.h"
#include "core/guest.h"
#include "core/irq.h"
#include "core/limit.h"
#include "core/probe.h"

#define FAKE_BASE UINT64_C(0x100000) /* guest physical address of the first byte of memory */
#define FAKE_MEMORY (1u << 20)
#define FAKE_MESSAGES 64

struct guest {
    enum guest_arch arch;
    enum guest_type type;
    bool beside;
    void *bus;
    const struct config_space_ops *bus_ops;
    bool claimed[65536]; /* by sbdf */
    uint16_t foreign; /* this function is another emulator's; 0: none */
    uint8_t memory[FAKE_MEMORY] __attribute__((aligned(16))); /* what lies in it is aligned as in a guest */
    struct {
        uint64_t address;
        uint32_t data;
    } messages[FAKE_MESSAGES];
    unsigned message_count;
    bool intx[32][4];
    unsigned intx_calls;
};

struct iod_region {
    struct iod_device *device;
    uint64_t length, base;
    const struct iod_region_ops *ops;
    void *self;
    enum iod_space space;
    bool shown;
    unsigned placed; /* how often */
    struct list link;
};

struct iod_device {
    struct guest *guest;
    struct device_keys keys;
    const char *id;
    void *self, *regs;
    enum device_state state;
    struct list parts, regions, tasks, irqs;
    bool slow;                 /* a stop ends only at fake_quiet */
    struct device_stop *stop;  /* that waits */
    unsigned resets;
    bool hot;                  /* as if plugged into a running guest */
    unsigned let_go;
    bool asked;                /* to let go of it */
    uint64_t option;           /* the value of each number option */
    struct iod_access *access; /* deferred */
    bool handling;             /* inside a handler */
    bool polled;               /* iod_irq_get gives no wire */
    unsigned raised;
    bool line;
    unsigned guest_errors;
    unsigned deeds[DEED_COUNT];
    char last_error[200];
};

struct guest *fake_guest(enum guest_arch arch, enum guest_type type);
void fake_guest_free(struct guest *guest);
struct iod_device *fake_device(struct guest *guest, const char *id);
void fake_device_free(struct iod_device *device);
void fake_start(struct iod_device *device);  /* parts' start */
void fake_stop(struct iod_device *device);   /* parts' stop and stopped */
void fake_quiet(struct iod_device *device);  /* ends a stop that waits */
void fake_system_reset(struct iod_device *device);
unsigned fake_tasks(struct iod_device *device); /* runs what is queued; how many */
void fake_save_load(struct iod_device *from, struct iod_device *to); /* raw regs, then each part's load */
int fake_load(struct iod_device *device,
              struct iod_error *error); /* each part's load over the regs as they are */
struct device_part *fake_part(struct iod_device *device, const char *name);

/* An access to the n-th region of the device, as the dispatcher makes it. write: false if it was deferred. */
struct iod_region *fake_region(struct iod_device *device, unsigned index);
uint64_t fake_read(struct iod_region *region, uint64_t offset, unsigned width);
bool fake_write(struct iod_region *region, uint64_t offset, unsigned width, uint64_t value);

/* Configuration cycles. */
uint32_t fake_config_read(struct guest *guest, unsigned slot, unsigned offset, unsigned width);
void fake_config_write(struct guest *guest, unsigned slot, unsigned offset, unsigned width, uint32_t value);

/* Guest memory by guest physical address; the test aborts if it is not there. */
void *fake_at(struct guest *guest, uint64_t address, size_t length);

#endif
