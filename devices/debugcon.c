/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The debug console: each byte written to the port is a character; a read says that it is there (0xe9).
 * Firmware looks for it at 0x402. At base=0xe9 Xen itself takes single-byte writes (they end in Xen's own
 * log), so only reads and wider writes get here: ports=4 lets the wider ones in.
 *
 * A backend that is full makes the writing vCPU wait, but not for longer than a second; from then on
 * characters are dropped until there is room again.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/chardev.h>
#include <ioreqd/loop.h>
#include <ioreqd/module.h>
#include <ioreqd/region.h>

enum { ANSWER = 0xe9, PATIENCE_NS = 1000000000 };

struct debugcon {
    struct iod_device *device;
    struct iod_chardev *chardev;
    struct iod_timer *patience;
    struct iod_access *access; /* a write that waits for room */
    uint8_t byte;              /* its character */
    bool connected, full;      /* full: waited in vain */
};

static const struct iod_option debugcon_options[] = {
    { .name = "ports", .type = IOD_OPTION_NUMBER, .fallback = "1", .min = 1, .max = 4,
      .help = "how many ports it takes: 4 lets writes of up to 4 characters in" },
    { .name = NULL },
};

static uint64_t debugcon_read(void *self, uint64_t offset, unsigned width)
{
    return ANSWER;
}

static void debugcon_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct debugcon *con = self;
    con->byte = (uint8_t)value;
    if (!con->connected || con->full || iod_chardev_write(con->chardev, &con->byte, 1) == 1) {
        return;
    }
    con->access = iod_access_defer(con->device);
    if (con->access != NULL) {
        iod_timer_set(con->patience, iod_guest_ns(con->device) + PATIENCE_NS);
    }
}

static void end_access(struct debugcon *con)
{
    struct iod_access *access = con->access;
    iod_timer_cancel(con->patience);
    con->access = NULL;
    if (access != NULL) {
        iod_access_complete(access, 0);
    }
}

static void writable(void *self)
{
    struct debugcon *con = self;
    con->full = false;
    if (con->access != NULL && iod_chardev_write(con->chardev, &con->byte, 1) == 1) {
        end_access(con);
    }
}

static void out_of_patience(void *self)
{
    struct debugcon *con = self;
    con->full = true;
    end_access(con);
}

static void connected(void *self, int is_connected)
{
    struct debugcon *con = self;
    con->connected = is_connected != 0;
    con->full = false;
    if (!con->connected) {
        end_access(con);
    }
}

static void receive(void *self, const uint8_t *bytes, size_t count)
{
    /* Nothing is ever accepted: this console has no input. */
}

static const struct iod_region_ops debugcon_ops = {
    .size = sizeof(struct iod_region_ops), .widths = 1, .read = debugcon_read, .write = debugcon_write,
};

static const struct iod_chardev_events debugcon_events = {
    .size = sizeof(struct iod_chardev_events),
    .receive = receive,
    .writable = writable,
    .connected = connected,
};

static int debugcon_create(struct iod_device *device, struct iod_error *error)
{
    struct debugcon *con = iod_self(device);
    uint64_t ports = iod_option_number(iod_device_options(device), "ports");
    con->device = device;
    struct iod_region *region = iod_region_add(device, "port", ports, &debugcon_ops, con);
    con->patience = iod_timer_add(device, "patience", out_of_patience, con);
    if (region == NULL || con->patience == NULL) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    int result = iod_region_place_base(region, IOD_PIO, 0x402, error);
    if (result != 0) {
        return result;
    }
    con->chardev = iod_chardev_attach(device, "chardev", NULL, &debugcon_events, con, error);
    return con->chardev != NULL ? 0 : -EINVAL;
}

static enum iod_when debugcon_quiesce(struct iod_device *device, enum iod_drain drain)
{
    end_access(iod_self(device)); /* its character is lost: there is no room for it */
    return IOD_NOW;
}

static const struct iod_device_class debugcon_class = {
    .size = sizeof(struct iod_device_class),
    .name = "debugcon",
    .summary = "debug console port (0x402)",
    .backends = IOD_BACKEND_CHARDEV,
    .self_size = sizeof(struct debugcon),
    .version = 1,
    .options = debugcon_options,
    .create = debugcon_create,
    .quiesce = debugcon_quiesce,
};

static const struct iod_device_class *const devices[] = { &debugcon_class, NULL };

IOD_MODULE(debugcon) = { .size = sizeof(struct iod_module), .abi = IOD_ABI, .devices = devices };
