/* SPDX-License-Identifier: BSD-2-Clause */
/* A whole device: a scratch register, and a doorbell that copies memory for the guest and interrupts it when done. */
#include <errno.h>

#include <ioreqd/dma.h>
#include <ioreqd/irq.h>
#include <ioreqd/module.h>
#include <ioreqd/region.h>

/* Registers, 8 bytes each. Writing DOORBELL copies COUNT bytes; STATUS is 1 (done) or 2 (failed) until it is written. */
enum { SCRATCH = 0x00, FROM = 0x08, TO = 0x10, COUNT = 0x18, DOORBELL = 0x20, STATUS = 0x28, LENGTH = 0x30 };

struct regs { uint64_t scratch, from, to, count, status; };

struct sample {
    struct iod_device *device;
    struct iod_irq *irq;
};

static uint64_t *find(struct sample *self, uint64_t offset)
{
    struct regs *regs = iod_regs(self->device);
    uint64_t *all[] = { &regs->scratch, &regs->from, &regs->to, &regs->count, NULL, &regs->status };
    return all[offset / 8];
}

static uint64_t sample_read(void *self, uint64_t offset, unsigned width)
{
    const uint64_t *reg = find(self, offset);
    return reg != NULL ? *reg : 0;
}

/* Every number here is the guest's: it is bounded before it is used. */
static void copy(struct sample *self, struct regs *regs)
{
    uint8_t buffer[256];
    size_t count = regs->count < sizeof(buffer) ? regs->count : sizeof(buffer);
    regs->status = iod_dma_read(self->device, regs->from, buffer, count) == 0 &&
                   iod_dma_write(self->device, regs->to, buffer, count) == 0 ? 1 : 2;
    if (self->irq != NULL) {
        iod_irq_raise(self->irq);
    }
}

static void sample_write(void *opaque, uint64_t offset, unsigned width, uint64_t value)
{
    struct sample *self = opaque;
    uint64_t *reg = find(self, offset);
    if (reg == NULL) {
        copy(self, iod_regs(self->device));
    } else if (offset == STATUS) {
        *reg = 0;
        if (self->irq != NULL) {
            iod_irq_lower(self->irq);
        }
    } else {
        *reg = value;
    }
}

static const struct iod_region_ops ops = { .size = sizeof(ops), .widths = 8, .read = sample_read, .write = sample_write };

static int sample_create(struct iod_device *device, struct iod_error *error)
{
    struct sample *self = iod_self(device);
    self->device = device;
    self->irq = iod_irq_get(device, -1, error);
    if (self->irq == NULL && error->code != 0) {
        return -error->code;
    }
    struct iod_region *region = iod_region_add(device, "registers", LENGTH, &ops, self);
    return region != NULL ? iod_region_place_base(region, IOD_MMIO, UINT64_MAX, error) : iod_fail(error, ENOMEM, "no memory");
}

static const struct iod_field fields[] = {
    IOD_FIELD(struct regs, scratch, 1), IOD_FIELD(struct regs, from, 1), IOD_FIELD(struct regs, to, 1),
    IOD_FIELD(struct regs, count, 1), IOD_FIELD(struct regs, status, 1), { .name = NULL },
};

static const struct iod_device_class sample = {
    .size = sizeof(sample), .name = "sample", .summary = "copies memory for the guest", .version = 1,
    .self_size = sizeof(struct sample), .regs_size = sizeof(struct regs), .fields = fields, .create = sample_create,
};

static const struct iod_device_class *const devices[] = { &sample, NULL };

IOD_MODULE(sample) = { .size = sizeof(struct iod_module), .abi = IOD_ABI, .devices = devices };
