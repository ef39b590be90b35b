/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "test-defer": a device that ends nothing at once, for the tests that stopping is exact. Registers of 4
 * bytes: 0x00 HOLD    every access is deferred; a read answers the number of accesses so far 0x04 FREE    as
 * HOLD, but never deferred 0x08 ADDRESS where its "I/O" writes, and 0x0c its high half 0x10 START   begins an
 * I/O: after the same time it writes PATTERN words over LENGTH bytes at ADDRESS 0x14 STATE   0 idle, 1 an I/O
 * is in flight, 2 the last one ended, 3 it was cancelled A deferred access or an I/O ends after delay=
 * milliseconds; with delay=0 only when a byte comes in by its chardev (each byte ends what is pending) or
 * when the device is stopped. stubborn=on: an I/O in flight can't be called back, as a disk's: a cancel waits
 * for it. A stop ends a deferred access at once.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <ioreqd/chardev.h>
#include <ioreqd/dma.h>
#include <ioreqd/loop.h>
#include <ioreqd/module.h>
#include <ioreqd/region.h>

enum {
    HOLD = 0x00,
    FREE = 0x04,
    ADDRESS = 0x08,
    ADDRESS_HIGH = 0x0c,
    START = 0x10,
    STATE = 0x14,
    LENGTH = 0x18
};
enum { STATE_IDLE, STATE_BUSY, STATE_DONE, STATE_CANCELLED };
enum { PATTERN_BYTE = 0xd7, IO_BYTES = 4096 };

struct regs {
    uint64_t address;
    uint32_t accesses, state;
};

struct defer {
    struct iod_device *device;
    struct regs *regs;
    struct iod_chardev *chardev;
    struct iod_timer *access_timer, *io_timer;
    struct iod_access *access;
    uint64_t answer;
    struct iod_mapping *mapping; /* of the I/O in flight */
    bool stopping;               /* iod_device_done is owed */
    bool stubborn;
    uint64_t delay_ns;
};

static const struct iod_option defer_options[] = {
    { .name = "delay", .type = IOD_OPTION_NUMBER, .fallback = "20", .help = "milliseconds; 0: until told" },
    { .name = "stubborn", .type = IOD_OPTION_BOOL, .fallback = "off", .help = "an I/O can't be cancelled" },
    { .name = "space",
      .type = IOD_OPTION_CHOICE,
      .fallback = "mmio",
      .choices = (const char *const[]){ "pio", "mmio", NULL },
      .help = "where base= is" },
    { .name = NULL },
};

static const struct iod_field defer_fields[] = {
    IOD_FIELD(struct regs, address, 1), IOD_FIELD(struct regs, accesses, 1), IOD_FIELD(struct regs, state, 1),
    { .name = NULL },
};

/* ---- accesses ---- */

static void end_access(void *self)
{
    struct defer *defer = self;
    struct iod_access *access = defer->access;
    if (access != NULL) {
        iod_timer_cancel(defer->access_timer);
        defer->access = NULL;
        iod_access_complete(access, defer->answer);
    }
}

static void defer_access(struct defer *defer)
{
    defer->answer = defer->regs->accesses;
    defer->access = iod_access_defer(defer->device);
    if (defer->access != NULL && defer->delay_ns != 0) {
        iod_timer_set(defer->access_timer, iod_guest_ns(defer->device) + defer->delay_ns);
    }
}

/* ---- I/O ---- */

/* The write itself comes as late as can be: a device that was said to be stopped must not get this far. */
static void end_io(void *self)
{
    struct defer *defer = self;
    if (defer->mapping == NULL) {
        return;
    }
    unsigned count;
    const struct iovec *iov = iod_mapping_iov(defer->mapping, &count);
    for (unsigned i = 0; i < count; i++) {
        memset(iov[i].iov_base, PATTERN_BYTE, iov[i].iov_len);
    }
    iod_timer_cancel(defer->io_timer);
    iod_mapping_put(defer->mapping, IO_BYTES);
    defer->mapping = NULL;
    defer->regs->state = STATE_DONE;
    if (defer->stopping) {
        defer->stopping = false;
        iod_device_done(defer->device, 0);
    }
}

static void start_io(struct defer *defer)
{
    struct iod_extent extent = { defer->regs->address, IO_BYTES };
    if (defer->mapping != NULL ||
        iod_dma_map(defer->device, &extent, 1, IOD_TO_GUEST, &defer->mapping) != 0) {
        return;
    }
    defer->regs->state = STATE_BUSY;
    if (defer->delay_ns != 0) {
        iod_timer_set(defer->io_timer, iod_guest_ns(defer->device) + defer->delay_ns);
    }
}

static uint64_t defer_read(void *self, uint64_t offset, unsigned width)
{
    struct defer *defer = self;
    defer->regs->accesses++;
    switch (offset) {
    case HOLD:
        defer_access(defer);
        return 0;
    case FREE:
        return defer->regs->accesses;
    case ADDRESS:
        return (uint32_t)defer->regs->address;
    case ADDRESS_HIGH:
        return defer->regs->address >> 32;
    case STATE:
        return defer->regs->state;
    default:
        return 0;
    }
}

static void defer_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct defer *defer = self;
    struct regs *regs = defer->regs;
    regs->accesses++;
    switch (offset) {
    case HOLD:
        defer_access(defer);
        break;
    case ADDRESS:
        regs->address = (regs->address & ~UINT64_C(0xffffffff)) | value;
        break;
    case ADDRESS_HIGH:
        regs->address = (uint32_t)regs->address | value << 32;
        break;
    case START:
        start_io(defer);
        break;
    default:
        break;
    }
}

static void told(void *self, const uint8_t *bytes, size_t count)
{
    struct defer *defer = self;
    end_access(defer);
    end_io(defer);
    iod_chardev_accept(defer->chardev, 1);
}

static const struct iod_region_ops defer_ops = {
    .size = sizeof(struct iod_region_ops), .widths = 4, .read = defer_read, .write = defer_write,
};

static const struct iod_chardev_events defer_events = { .size = sizeof(struct iod_chardev_events),
                                                        .receive = told };

/* ---- life ---- */

static int defer_create(struct iod_device *device, struct iod_error *error)
{
    struct defer *defer = iod_self(device);
    const struct iod_options *options = iod_device_options(device);
    defer->device = device;
    defer->regs = iod_regs(device);
    defer->delay_ns = iod_option_number(options, "delay") * 1000000;
    defer->stubborn = iod_option_bool(options, "stubborn");
    struct iod_region *region = iod_region_add(device, "registers", LENGTH, &defer_ops, defer);
    defer->access_timer = iod_timer_add(device, "access", end_access, defer);
    defer->io_timer = iod_timer_add(device, "io", end_io, defer);
    defer->chardev = iod_chardev_attach(device, "chardev", NULL, &defer_events, defer, error);
    if (defer->chardev == NULL) {
        return -EINVAL;
    }
    if (region == NULL || defer->access_timer == NULL || defer->io_timer == NULL) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    return iod_region_place_base(region, iod_option_choice(options, "space") == 0 ? IOD_PIO : IOD_MMIO,
                                 UINT64_MAX, error);
}

static void defer_start(struct iod_device *device)
{
    struct defer *defer = iod_self(device);
    iod_chardev_accept(defer->chardev, 1);
}

static enum iod_when defer_quiesce(struct iod_device *device, enum iod_drain drain)
{
    struct defer *defer = iod_self(device);
    end_access(defer);
    if (defer->mapping == NULL) {
        return IOD_NOW;
    }
    if (drain == IOD_CANCEL && !defer->stubborn) {
        iod_timer_cancel(defer->io_timer);
        iod_mapping_put(defer->mapping, 0);
        defer->mapping = NULL;
        defer->regs->state = STATE_CANCELLED;
        return IOD_NOW;
    }
    if (defer->delay_ns == 0) {
        iod_timer_set(defer->io_timer, iod_guest_ns(device)); /* nobody will tell it any more */
    }
    defer->stopping = true;
    return IOD_LATER;
}

static const struct iod_device_class defer_class = {
    .size = sizeof(struct iod_device_class),
    .name = "test-defer",
    .summary = "ends nothing at once (for tests)",
    .self_size = sizeof(struct defer),
    .regs_size = sizeof(struct regs),
    .version = 1,
    .options = defer_options,
    .fields = defer_fields,
    .create = defer_create,
    .start = defer_start,
    .quiesce = defer_quiesce,
};

static const struct iod_device_class *const devices[] = { &defer_class, NULL };

IOD_MODULE(test_defer) = { .size = sizeof(struct iod_module), .abi = IOD_ABI, .devices = devices };
