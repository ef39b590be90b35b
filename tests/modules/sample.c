/* SPDX-License-Identifier: BSD-2-Clause */
/* Copies memory for the guest: set FROM and TO, write COUNT; STATUS then says 1 (done) or 2 (failed). */
#include <errno.h>
#include <ioreqd/dma.h>
#include <ioreqd/irq.h>
#include <ioreqd/module.h>
#include <ioreqd/region.h>

enum { FROM, TO, COUNT, STATUS, REGISTERS }; /* of 8 bytes each */

struct regs { uint64_t value[REGISTERS]; }; /* what the guest can see: the core keeps it, and saves the fields */
struct sample { struct iod_device *device; struct iod_irq *irq; }; /* everything else */

static uint64_t sample_read(void *self, uint64_t offset, unsigned width)
{
    const struct regs *regs = iod_regs(((struct sample *)self)->device);
    return regs->value[offset / 8];
}

static void sample_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct sample *sample = self;
    struct regs *regs = iod_regs(sample->device);
    regs->value[offset / 8] = value;
    if (offset / 8 == COUNT) {
        uint8_t bytes[256]; /* every number is the guest's: it is bounded before it is used */
        size_t count = value < sizeof(bytes) ? value : sizeof(bytes);
        bool good = iod_dma_read(sample->device, regs->value[FROM], bytes, count) == 0 &&
                    iod_dma_write(sample->device, regs->value[TO], bytes, count) == 0;
        regs->value[STATUS] = good ? 1 : 2;
        iod_irq_raise(sample->irq);
    } else if (offset / 8 == STATUS) {
        iod_irq_lower(sample->irq); /* the guest has seen it */
    }
}

static const struct iod_region_ops sample_ops = {
    .size = sizeof(sample_ops), .widths = 8, .read = sample_read, .write = sample_write
};

static int sample_create(struct iod_device *device, struct iod_error *error)
{
    struct sample *sample = iod_self(device);
    sample->device = device;
    sample->irq = iod_irq_get(device, 5, error); /* irq=, else 5 */
    struct iod_region *region = iod_region_add(device, "registers", REGISTERS * 8, &sample_ops, sample);
    if (sample->irq == NULL || region == NULL) {
        return error->code != 0 ? -error->code : iod_fail(error, EINVAL, "sample: it needs irq= and memory");
    }
    return iod_region_place_base(region, IOD_MMIO, UINT64_MAX, error); /* base=, which must be given */
}

static const struct iod_field sample_fields[] = {IOD_FIELD_ARRAY(struct regs, value, 1), {.name = NULL}};
static const struct iod_device_class sample_class = {
    .size = sizeof(sample_class), .name = "sample", .summary = "copies memory for the guest", .version = 1,
    .self_size = sizeof(struct sample), .regs_size = sizeof(struct regs), .fields = sample_fields,
    .create = sample_create,
};
static const struct iod_device_class *const devices[] = {&sample_class, NULL};
IOD_MODULE(sample) = {.size = sizeof(struct iod_module), .abi = IOD_ABI, .devices = devices};
