/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio console (virtio 1.2, section 5.3), one port over a character backend. Neither direction holds a
 * buffer of the guest's while it waits: what can't go on is put back on the ring, so that a reset never waits
 * for a peer.
 */
#include <errno.h>
#include <linux/virtio_console.h>
#include <stdlib.h>
#include <string.h>

#include <ioreqd/chardev.h>
#include <ioreqd/device.h>
#include <ioreqd/dma.h>
#include <ioreqd/log.h>
#include <ioreqd/loop.h>
#include <ioreqd/module.h>
#include <ioreqd/virtio.h>

enum { QUEUE_RECEIVE, QUEUE_TRANSMIT, QUEUES };
#define QUEUE_SIZE 64
#define CHAIN_ROOM 64
#define CREDIT_MAX 4096u        /* bytes accepted at once */
#define TRANSMIT_MAX (64u << 10) /* bytes sent in one go: then others come first */
#define BIT64(bit) (UINT64_C(1) << (bit))

struct console_regs {
    uint64_t sent; /* bytes of the first chain on the transmit queue that have gone out already */
};

struct console {
    struct iod_device *device;
    struct iod_virtio *virtio;
    struct iod_chardev *chardev;
    struct iod_task *more; /* goes on with a transmission that was cut */
};

static struct iod_virtq *queue_of(const struct console *console, unsigned index)
{
    return iod_virtio_queue(console->virtio, index);
}

/* ---- host to guest ---- */

/*
 * Tells the backend how much the next buffer takes; the buffer stays on the ring until there are bytes for
 * it.
 */
static void offer(struct console *console)
{
    struct iod_virtq *queue = queue_of(console, QUEUE_RECEIVE);
    struct iod_extent extents[CHAIN_ROOM];
    struct iod_chain chain = { .extents = extents, .max = CHAIN_ROOM };
    size_t credit = 0;

    while (iod_virtq_pop(queue, &chain)) {
        if (chain.in_length) {
            credit = chain.in_length < CREDIT_MAX ? chain.in_length : CREDIT_MAX;
            iod_virtq_unpop(queue);
            break;
        }
        iod_virtq_push(queue, chain.head, 0); /* no room in it at all */
    }
    iod_virtq_flush(queue);
    iod_chardev_accept(console->chardev, credit);
}

/* Writes as much as the chain takes; how many bytes that was. */
static uint32_t fill(struct console *console, const struct iod_chain *chain, const uint8_t *bytes,
                     size_t count)
{
    uint32_t written = 0;

    for (unsigned i = chain->out; i < chain->out + chain->in && written < count; i++) {
        const struct iod_extent *extent = &chain->extents[i];
        uint32_t piece = extent->length < count - written ? extent->length : (uint32_t)(count - written);

        if (iod_dma_write(console->device, extent->address, bytes + written, piece) < 0) {
            break;
        }
        written += piece;
    }
    return written;
}

static void console_receive(void *self, const uint8_t *bytes, size_t count)
{
    struct console *console = self;
    struct iod_virtq *queue = queue_of(console, QUEUE_RECEIVE);
    struct iod_extent extents[CHAIN_ROOM];
    struct iod_chain chain = { .extents = extents, .max = CHAIN_ROOM };

    while (count && iod_virtq_pop(queue, &chain)) {
        uint32_t written = fill(console, &chain, bytes, count);

        iod_virtq_push(queue, chain.head, written);
        bytes += written;
        count -= written;
    }
    if (count) { /* the guest changed a buffer that it had made available, or took it away by a reset */
        iod_guest_error(console->device, "%zu received bytes found no buffer any more", count);
    }
    iod_virtq_flush(queue);
    offer(console);
}

/* ---- guest to host ---- */

/*
 * Sends the chain's readable bytes from `sent` on, at most *budget of them. true: the chain is done. A guest
 * may have changed a chain that was put back; then at worst its own bytes are missing.
 */
static bool send_chain(struct console *console, const struct iod_chain *chain, uint32_t *budget)
{
    struct console_regs *regs = iod_regs(console->device);
    uint8_t bytes[512];
    uint64_t start = 0; /* of the extent, in the chain */

    for (unsigned i = 0; i < chain->out; start += chain->extents[i].length, i++) {
        const struct iod_extent *extent = &chain->extents[i];

        while (regs->sent < start + extent->length) {
            uint64_t offset = regs->sent - start, left = extent->length - offset;
            size_t piece = left < sizeof(bytes) ? (size_t)left : sizeof(bytes);
            size_t taken;

            piece = piece < *budget ? piece : *budget;
            if (piece == 0) {
                iod_task_queue(console->more);
                return false;
            }
            if (iod_dma_read(console->device, extent->address + offset, bytes, piece) < 0) {
                return true; /* a buffer that is not there carries nothing */
            }
            taken = iod_chardev_write(console->chardev, bytes, piece);
            regs->sent += taken;
            *budget -= (uint32_t)taken;
            if (taken < piece) {
                return false; /* console_writable goes on */
            }
        }
    }
    return true;
}

static void transmit(struct console *console)
{
    struct iod_virtq *queue = queue_of(console, QUEUE_TRANSMIT);
    struct console_regs *regs = iod_regs(console->device);
    struct iod_extent extents[CHAIN_ROOM];
    struct iod_chain chain = { .extents = extents, .max = CHAIN_ROOM };
    uint32_t budget = TRANSMIT_MAX;

    while (iod_virtq_pop(queue, &chain)) {
        if (!send_chain(console, &chain, &budget)) {
            iod_virtq_unpop(queue);
            break;
        }
        regs->sent = 0;
        iod_virtq_push(queue, chain.head, 0);
    }
    iod_virtq_flush(queue);
}

static void console_writable(void *self)
{
    transmit(self);
}

/* ---- the virtio device ---- */

static uint64_t console_features(void *self)
{
    const struct console *console = self;
    const struct iod_options *options = iod_device_options(console->device);

    return iod_option_number(options, "cols") && iod_option_number(options, "rows")
               ? BIT64(VIRTIO_CONSOLE_F_SIZE)
               : 0;
}

static void console_config_read(void *self, void *config)
{
    const struct console *console = self;
    const struct iod_options *options = iod_device_options(console->device);
    struct virtio_console_config out = {
        .cols = (uint16_t)iod_option_number(options, "cols"),
        .rows = (uint16_t)iod_option_number(options, "rows"),
        .max_nr_ports = 1,
    };

    memcpy(config, &out, sizeof(out));
}

static void console_notify(void *self, unsigned index)
{
    if (index == QUEUE_RECEIVE) {
        offer(self);
    } else {
        transmit(self);
    }
}

static void console_queue_reset(void *self, unsigned index)
{
    struct console *console = self;
    struct console_regs *regs = iod_regs(console->device);

    if (index == QUEUE_RECEIVE) {
        iod_chardev_accept(console->chardev, 0);
    } else {
        regs->sent = 0;
    }
}

static const struct iod_virtio_class console_virtio = {
    .size = sizeof(struct iod_virtio_class),
    .device_id = 3,
    .pci_class = 0x078000, /* other communication controller */
    .config_size = sizeof(struct virtio_console_config),
    .queues = QUEUES,
    .features = console_features,
    .config_read = console_config_read,
    .notify = console_notify,
    .queue_reset = console_queue_reset,
};

/* ---- life ---- */

static int console_create(struct iod_device *device, struct iod_error *error)
{
    static const uint16_t sizes[QUEUES] = { QUEUE_SIZE, QUEUE_SIZE };
    static const struct iod_chardev_events events = {
        .size = sizeof(struct iod_chardev_events),
        .receive = console_receive,
        .writable = console_writable,
    };
    struct console *console = iod_self(device);

    console->device = device;
    console->chardev = iod_chardev_attach(device, "chardev", NULL, &events, console, error);
    if (!console->chardev) {
        return -(error->code ? error->code : EINVAL);
    }
    console->more = iod_task_add(device, console_writable, console);
    if (!console->more) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(device));
    }
    console->virtio = iod_virtio_add(device, &console_virtio, QUEUES, sizes, error);
    return console->virtio ? 0 : -(error->code ? error->code : EINVAL);
}

static enum iod_when console_quiesce(struct iod_device *device, enum iod_drain drain)
{
    struct console *console = iod_self(device);

    iod_task_cancel(console->more);
    iod_chardev_accept(console->chardev, 0); /* the transport's look at the queues after start offers anew */
    return IOD_NOW;
}

static const struct iod_field console_fields[] = {
    IOD_FIELD(struct console_regs, sent, 1),
    { .name = NULL },
};

static const struct iod_option console_options[] = {
    { .name = "cols", .type = IOD_OPTION_NUMBER, .fallback = "0", .max = UINT16_MAX,
      .help = "columns of the screen (0: not told)" },
    { .name = "rows", .type = IOD_OPTION_NUMBER, .fallback = "0", .max = UINT16_MAX,
      .help = "rows of the screen (0: not told)" },
    { .name = NULL },
};

static const struct iod_device_class console_class = {
    .size = sizeof(struct iod_device_class),
    .name = "virtio-console",
    .summary = "virtio console, one port (PCI or MMIO)",
    .backends = IOD_BACKEND_CHARDEV,
    .self_size = sizeof(struct console),
    .regs_size = sizeof(struct console_regs),
    .version = 1,
    .options = console_options,
    .fields = console_fields,
    .create = console_create,
    .quiesce = console_quiesce,
};

static const struct iod_device_class *const console_devices[] = { &console_class, NULL };

IOD_MODULE(virtio_console) = {
    .size = sizeof(struct iod_module),
    .abi = IOD_ABI,
    .devices = console_devices,
};
