/* SPDX-License-Identifier: BSD-2-Clause */
#include "core_rig.h"

#include <ioreqd/dma.h>
#include <ioreqd/loop.h>

struct hooks hooks;

static uint64_t probe_read(void *self, uint64_t offset, unsigned width)
{
    struct testee *probe = self;
    if (offset == HOLD - BASE) {
        probe->access = iod_access_defer(probe->device);
    }
    return 0x42;
}

static void probe_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct testee *probe = self;
    if (offset == HOLD - BASE) {
        probe->access = iod_access_defer(probe->device);
    } else if (offset == BREAK - BASE) {
        iod_device_broken(probe->device, "the test says so");
    } else if (offset == PLAIN - BASE && probe->second != NULL) {
        struct iod_error error;
        iod_region_place(probe->second, IOD_MMIO, SECOND + value, &error);
    }
}

static const struct iod_region_ops probe_ops = {
    .size = sizeof(probe_ops), .widths = 4, .read = probe_read, .write = probe_write
};

static void timer_fired(void *self)
{
    hooks.fired++;
}

static int probe_create(struct iod_device *device, struct iod_error *error)
{
    struct testee *probe = iod_self(device);
    probe->device = device;
    hooks.probe = probe;
    probe->timer = iod_timer_add(device, "timer", timer_fired, probe);
    struct iod_region *region = iod_region_add(device, "registers", 16, &probe_ops, probe);
    probe->second = iod_region_add(device, "second", 16, &probe_ops, probe);
    for (unsigned i = 0; i < hooks.extra; i++) {
        struct iod_region *extra = iod_region_add(device, "extra", 16, &probe_ops, probe);
        iod_region_place(extra, IOD_MMIO, 0xe0000000u + i * 0x1000, error);
    }
    return iod_region_place_base(region, IOD_MMIO, BASE, error);
}

static int probe_open(struct iod_device *device, struct iod_error *error)
{
    if (hooks.break_in_open) {
        iod_device_broken(device, "in open");
    }
    return hooks.open_later ? 1 : 0;
}

static enum iod_when probe_quiesce(struct iod_device *device, enum iod_drain drain)
{
    return hooks.quiesce_later ? IOD_LATER : IOD_NOW;
}

static void probe_destroy(struct iod_device *device)
{
    struct testee *probe = iod_self(device);
    char byte = 1;
    hooks.destroyed++;
    hooks.dma = iod_dma_write(device, 0x1000, &byte, 1);
    if (probe->access != NULL) {
        iod_access_complete(probe->access, 1);
    }
}

static const struct iod_device_class probe_class = {
    .size = sizeof(probe_class), .name = "probe", .summary = "as the test wants", .version = 1,
    .self_size = sizeof(struct testee), .create = probe_create, .open = probe_open, .quiesce = probe_quiesce,
    .destroy = probe_destroy,
};
static const struct iod_device_class *const classes[] = { &probe_class, NULL };
const struct iod_module rig_module = { .size = sizeof(rig_module), .abi = IOD_ABI, .devices = classes };

struct fake_xen *rig_start(void)
{
    static const char *const text = "probe";
    struct iod_error error = { 0 };
    struct fake_xen *fake = fake_start(&rig_module, GUEST_HVM, &text, 1, &error);
    ck_assert_msg(fake != NULL, "%s", error.text);
    return fake;
}

struct guest *guest_of(struct fake_xen *fake)
{
    return list_first(&fake_daemon(fake)->guests, struct guest, link);
}

void nothing(void *self)
{
}

void set_true(void *self)
{
    *(bool *)self = true;
}
