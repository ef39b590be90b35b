/* SPDX-License-Identifier: BSD-2-Clause */
/* A whole device: it copies memory for the guest when the doorbell rings, and says so by an interrupt. */
#include <errno.h>

#include <ioreqd/dma.h>
#include <ioreqd/irq.h>
#include <ioreqd/module.h>
#include <ioreqd/region.h>

/* Registers of 8 bytes, by number. STATUS is 1 (done) or 2 (failed) after DOORBELL was written, until it is.
 */
enum { SCRATCH, FROM, TO, COUNT, STATUS, DOORBELL, REGISTERS };

struct regs { /* all that the guest can see; the core keeps, saves and loads it */
    uint64_t reg[DOORBELL];
};

struct sample {
    struct iod_device *device;
    struct iod_irq *irq; /* NULL: polled */
};

static uint64_t sample_read(void *opaque, uint64_t offset, unsigned width)
{
    struct sample *self = opaque;
    const struct regs *regs = iod_regs(self->device);
    return offset / 8 < DOORBELL ? regs->reg[offset / 8] : 0;
}

/* Every number here is the guest's: it is bounded before it is used. */
static bool copy(struct iod_device *device, const uint64_t *reg)
{
    uint8_t buffer[256];
    size_t count = reg[COUNT] < sizeof(buffer) ? reg[COUNT] : sizeof(buffer);
    return iod_dma_read(device, reg[FROM], buffer, count) == 0 &&
           iod_dma_write(device, reg[TO], buffer, count) == 0;
}

static void sample_write(void *opaque, uint64_t offset, unsigned width, uint64_t value)
{
    struct sample *self = opaque;
    struct regs *regs = iod_regs(self->device);
    if (offset / 8 < STATUS) {
        regs->reg[offset / 8] = value;
    } else {
        regs->reg[STATUS] = offset / 8 == DOORBELL ? copy(self->device, regs->reg) ? 1 : 2 : 0;
        if (self->irq != NULL) {
            regs->reg[STATUS] != 0 ? iod_irq_raise(self->irq) : iod_irq_lower(self->irq);
        }
    }
}

static const struct iod_region_ops ops = {
    .size = sizeof(ops), .widths = 8, .read = sample_read, .write = sample_write,
};

static int sample_create(struct iod_device *device, struct iod_error *error)
{
    struct sample *self = iod_self(device);
    self->device = device;
    self->irq = iod_irq_get(device, -1, error); /* what irq= says, or none */
    if (self->irq == NULL && error->code != 0) {
        return -error->code;
    }
    struct iod_region *region = iod_region_add(device, "registers", REGISTERS * 8, &ops, self);
    return region == NULL ? iod_fail(error, ENOMEM, "out of memory")
                          : iod_region_place_base(region, IOD_MMIO, UINT64_MAX, error);
}

static const struct iod_field fields[] = { IOD_FIELD_ARRAY(struct regs, reg, 1), { .name = NULL } };

static const struct iod_device_class sample = {
    .size = sizeof(sample), .name = "sample", .summary = "copies memory for the guest", .version = 1,
    .self_size = sizeof(struct sample), .regs_size = sizeof(struct regs), .fields = fields,
    .create = sample_create,
};

static const struct iod_device_class *const devices[] = { &sample, NULL };

IOD_MODULE(sample) = { sizeof(struct iod_module), IOD_ABI, devices, NULL, NULL };
