/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes as what four vCPUs and a buffered ring ask for, in any order with what a device does meanwhile:
 * regions of all widths, overlapping, moved and hidden by their own handlers, accesses deferred and ended
 * later. Each request must end exactly once (machine.c checks), no handler may see what its region does not
 * take, and all ends when nothing is held.
 */
#include <stdlib.h>
#include <string.h>

#include <ioreqd/region.h>

#include "fuzz.h"
#include "machine.h"

struct input {
    const uint8_t *bytes;
    size_t left;
};

static uint8_t next_byte(struct input *input)
{
    if (!input->left) {
        return 0;
    }
    input->left--;
    return *input->bytes++;
}

static uint64_t next_number(struct input *input, unsigned bytes)
{
    uint64_t value = 0;
    while (bytes--) {
        value = value << 8 | next_byte(input);
    }
    return value;
}

/* ---- the device ---- */

enum { REGIONS = 7 };
static const struct area {
    enum iod_space space;
    uint64_t base, length;
    uint8_t widths, unaligned;
} areas[REGIONS] = {
    {IOD_PIO, 0x100, 8, 1, 0},        {IOD_PIO, 0x104, 16, 1 | 2 | 4, 1}, {IOD_PIO, 0xfffe, 2, 2, 0},
    {IOD_MMIO, 0x100000, 64, 4, 0},   {IOD_MMIO, 0x100020, 64, 8, 0},     {IOD_MMIO, 0x100060, 7, 1 | 2, 0},
    {IOD_MMIO, 0x100068, 32, 4 | 8, 1},
};

struct port {
    struct device *owner;
    const struct area *area;
    struct iod_region *region;
    struct iod_region_ops ops;
};

struct device {
    struct iod_device *device;
    struct port ports[REGIONS];
    struct input *input;      /* what handlers do comes from the same bytes */
    struct iod_access *held;
    bool stopping, quiet;
    unsigned calls;
};

static void act(struct port *port)
{
    struct device *device = port->owner;
    uint8_t choice = device->input ? next_byte(device->input) : 0;
    struct port *other = &device->ports[choice % REGIONS];
    switch (choice >> 4) {
    case 1:
    case 2:
    case 3:
        device->held = iod_access_defer(device->device);
        FUZZ_CHECK(device->held);
        FUZZ_CHECK(!iod_access_defer(device->device));
        break;
    case 4:
        iod_region_hide(other->region);
        break;
    case 5:
        iod_region_place(other->region, other->area->space, other->area->base, NULL);
        break;
    case 6:
        iod_region_place(other->region, other->area->space, other->area->base + choice % 16, NULL);
        break;
    default:
        break;
    }
}

static void check_call(const struct port *port, uint64_t offset, unsigned width)
{
    const struct area *area = port->area;
    FUZZ_CHECK((area->widths & width) && (width & (width - 1)) == 0);
    FUZZ_CHECK(offset <= area->length && width <= area->length - offset);
    FUZZ_CHECK(area->unaligned || offset % width == 0);
    FUZZ_CHECK(!port->owner->held && !port->owner->quiet); /* one at a time, none while it is stopped */
}

static uint64_t port_read(void *self, uint64_t offset, unsigned width)
{
    struct port *port = self;
    check_call(port, offset, width);
    port->owner->calls++;
    act(port);
    return UINT64_C(0x1122334455667788) ^ offset;
}

static void port_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct port *port = self;
    check_call(port, offset, width);
    FUZZ_CHECK(width == 8 || value >> (width * 8) == 0);
    port->owner->calls++;
    act(port);
}

static void end_held(struct device *device)
{
    struct iod_access *access = device->held;
    device->held = NULL;
    if (access) {
        iod_access_complete(access, 0xa5a5a5a5a5a5a5a5);
    }
}

static int device_create_(struct iod_device *device, struct iod_error *error)
{
    struct device *self = iod_self(device);
    self->device = device;
    for (unsigned i = 0; i < REGIONS; i++) {
        struct port *port = &self->ports[i];
        *port = (struct port){.owner = self,
                              .area = &areas[i],
                              .ops = {.size = sizeof(port->ops),
                                      .widths = areas[i].widths,
                                      .unaligned = areas[i].unaligned,
                                      .read = port_read,
                                      .write = port_write}};
        port->region = iod_region_add(device, "port", areas[i].length, &port->ops, port);
        FUZZ_CHECK(port->region && !iod_region_place(port->region, areas[i].space, areas[i].base, error));
    }
    return 0;
}

static void device_start_(struct iod_device *device)
{
    ((struct device *)iod_self(device))->quiet = false;
}

static enum iod_when device_quiesce_(struct iod_device *device, enum iod_drain drain)
{
    struct device *self = iod_self(device);
    end_held(self);
    self->quiet = true;
    return IOD_NOW;
}

static const struct iod_device_class fuzz_class = {
    .size = sizeof(fuzz_class), .name = "fuzz", .self_size = sizeof(struct device), .version = 1,
    .create = device_create_, .start = device_start_, .quiesce = device_quiesce_,
};
static const struct iod_device_class *const classes[] = {&fuzz_class, NULL};
static const struct iod_module fuzz_module = {
    .size = sizeof(fuzz_module), .abi = IOD_ABI, .devices = classes};

/* ---- what is asked ---- */

static void fill(struct input *input, struct request *request)
{
    static const uint32_t sizes[] = {1, 2, 4, 8, 0, 3, 16, UINT32_MAX};
    uint8_t kind = next_byte(input), shape = next_byte(input);
    const struct area *area = &areas[(shape >> 3) % REGIONS];
    *request = (struct request){.type = (enum request_type)(kind % (REQUEST_OTHER + 1)),
                                .read = kind & 0x40,
                                .df = kind & 0x80,
                                .data_is_ptr = kind & 0x20,
                                .size = sizes[shape % 8],
                                .count = 1};
    if (kind & 0x08) {
        request->count = (uint32_t)next_number(input, 2) % 600;
    }
    request->addr =
        kind & 0x10 ? next_number(input, 8) : area->base + next_byte(input) % (area->length + 4) - 2;
    request->data = request->data_is_ptr && !(kind & 0x10) ? next_number(input, 2) : next_number(input, 8);
}

/* Nothing is held back any more: everything must end by itself. */
static void settle(struct machine *machine, struct device *device)
{
    device->input = NULL;
    machine_run(machine);
    for (unsigned rounds = 0; machine_waits(machine) || device->held; rounds++) {
        FUZZ_CHECK(rounds < 10000);
        end_held(device);
        machine_run(machine);
    }
    FUZZ_CHECK(machine->ring_read == machine->ring_write);
}

static void step(struct machine *machine, struct device *device, struct input *input)
{
    uint8_t what = next_byte(input);
    struct request request;
    switch (what % 8) {
    case 0:
    case 1:
    case 2:
    case 3:
        fill(input, &request);
        machine_send(machine, (what >> 3) % (MACHINE_VCPUS + 1), &request);
        break;
    case 4:
        end_held(device);
        break;
    case 5:
        machine->holes[(what >> 3) % MACHINE_PAGES] ^= true;
        break;
    case 6:
        machine_pass(machine, 1000000);
        break;
    default:
        machine_run(machine);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const struct iod_module *const modules[] = {&fuzz_module, NULL};
    static const char *const devices[] = {"fuzz", NULL};
    struct input input = {.bytes = bytes, .left = length < 2048 ? length : 2048};
    struct machine *machine = machine_start(modules, devices);
    struct device *device = iod_self(list_first(&machine_guest(machine)->devices, struct iod_device, link));
    bool abrupt = next_byte(&input) & 1;
    device->input = &input;
    while (input.left) {
        step(machine, device, &input);
    }
    if (abrupt) {
        device->input = NULL;
    } else {
        settle(machine, device);
    }
    machine_stop(machine);
    return 0;
}
