/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtio entropy device (virtio 1.2, section 5.4): fills buffers with random bytes. */
#include <errno.h>

#include <ioreqd/device.h>
#include <ioreqd/dma.h>
#include <ioreqd/loop.h>
#include <ioreqd/module.h>
#include <ioreqd/virtio.h>

#define QUEUE_SIZE 64
#define MAX_EXTENTS 64
#define MAX_FILL 4096u /* bytes for one buffer: less than asked for is allowed, a long loop is not */

struct rng {
    struct iod_device *device;
    struct iod_virtio *virtio;
};

static uint64_t rng_features(void *self)
{
    return 0;
}

/* Fills the chain's writable part from its start; how many bytes were written. */
static uint32_t fill(struct rng *rng, const struct iod_chain *chain)
{
    uint8_t bytes[256];
    uint32_t written = 0;

    for (unsigned i = chain->out; i < chain->out + chain->in && written < MAX_FILL; i++) {
        const struct iod_extent *extent = &chain->extents[i];
        uint32_t done = 0;

        while (done < extent->length && written < MAX_FILL) {
            uint32_t length = extent->length - done < sizeof(bytes) ? extent->length - done : sizeof(bytes);

            iod_random(rng->device, bytes, length);
            if (iod_dma_write(rng->device, extent->address + done, bytes, length) < 0) {
                return written;
            }
            done += length;
            written += length;
        }
    }
    return written;
}

static void rng_notify(void *self, unsigned index)
{
    struct rng *rng = self;
    struct iod_virtq *queue = iod_virtio_queue(rng->virtio, index);
    struct iod_extent extents[MAX_EXTENTS];
    struct iod_chain chain = { .extents = extents, .max = MAX_EXTENTS };

    while (iod_virtq_pop(queue, &chain)) {
        iod_virtq_push(queue, chain.head, fill(rng, &chain));
    }
    iod_virtq_flush(queue);
}

static const struct iod_virtio_class rng_virtio = {
    .size = sizeof(struct iod_virtio_class),
    .device_id = 4,
    .pci_class = 0xff0000,
    .queues = 1,
    .features = rng_features,
    .notify = rng_notify,
};

static int rng_create(struct iod_device *device, struct iod_error *error)
{
    static const uint16_t sizes[] = { QUEUE_SIZE };
    struct rng *rng = iod_self(device);

    rng->device = device;
    rng->virtio = iod_virtio_add(device, &rng_virtio, 1, sizes, error);
    return rng->virtio ? 0 : -(error->code ? error->code : EINVAL);
}

static const struct iod_device_class rng_class = {
    .size = sizeof(struct iod_device_class),
    .name = "virtio-rng",
    .summary = "virtio entropy source (PCI or MMIO)",
    .self_size = sizeof(struct rng),
    .version = 1,
    .create = rng_create,
};

static const struct iod_device_class *const rng_devices[] = { &rng_class, NULL };

IOD_MODULE(virtio_rng) = {
    .size = sizeof(struct iod_module),
    .abi = IOD_ABI,
    .devices = rng_devices,
};
