/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A host bridge for a guest that has no other: function 00:00.0, so that a guest that looks for PCI finds
 * some, and the address port 0xcf8. Xen itself latches a dword written there and turns 0xcfc into
 * configuration cycles, but it answers no read of the port: this device does.
 *
 * Identity: 8086:1237 (Intel 440FX), as Xen's HVM guests see: every PCI BIOS and kernel knows it, OVMF
 * asserts on another, and Linux's conf1 probe wants a host bridge or an Intel function on bus 0. Nothing of
 * the chip but its identity is there. The subsystem (XenSource) tells it from QEMU's.
 */
#include <errno.h>

#include <ioreqd/device.h>
#include <ioreqd/module.h>
#include <ioreqd/pci.h>
#include <ioreqd/region.h>

#define CONFIG_ADDRESS 0xcf8u
#define CLASS_BRIDGE_HOST 0x060000u
#define ADDRESS_BITS 0x80fffffcu /* enable, bus, device, function, dword: the rest reads 0 */

struct host_regs {
    uint32_t address; /* as last written by a dword */
};

static const struct iod_field host_fields[] = {
    IOD_FIELD(struct host_regs, address, 1),
    { .name = NULL },
};

/*
 * Only dwords are the address register's; a narrower access there goes to whatever else is on the bus:
 * nothing.
 */
static uint64_t host_read(void *self, uint64_t offset, unsigned width)
{
    const struct host_regs *regs = iod_regs(self);

    return width == 4 ? regs->address : UINT64_MAX >> (64 - 8 * width);
}

static void host_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct host_regs *regs = iod_regs(self);

    if (width == 4) {
        regs->address = (uint32_t)value & ADDRESS_BITS;
    } /* else: Linux writes a byte to 0xcfb first, to see that only dwords count */
}

static const struct iod_region_ops host_ops = {
    .size = sizeof(struct iod_region_ops),
    .widths = 1 | 2 | 4,
    .read = host_read,
    .write = host_write,
};

static int host_create(struct iod_device *device, struct iod_error *error)
{
    static const struct iod_pci_ids ids = {
        .vendor = 0x8086,
        .device = 0x1237,
        .subsystem_vendor = 0x5853,
        .subsystem = 0x0001,
        .class_code = CLASS_BRIDGE_HOST,
        .revision = 2,
    };
    struct iod_region *region;

    if (!iod_pci_add(device, &ids, 0, NULL, NULL, error)) {
        return error && error->code ? -error->code : -EINVAL;
    }
    region = iod_region_add(device, "config-address", 4, &host_ops, device);
    if (!region) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(device));
    }
    return iod_region_place(region, IOD_PIO, CONFIG_ADDRESS, error);
}

static const struct iod_device_class host_class = {
    .size = sizeof(struct iod_device_class),
    .name = "pci-host",
    .summary = "PCI host bridge at 00:00.0 and port 0xcf8, for guests without another emulator",
    .regs_size = sizeof(struct host_regs),
    .version = 1,
    .fields = host_fields,
    .create = host_create,
};

static const struct iod_device_class *const host_devices[] = { &host_class, NULL };

IOD_MODULE(pci_host) = {
    .size = sizeof(struct iod_module),
    .abi = IOD_ABI,
    .devices = host_devices,
};
