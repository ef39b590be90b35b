/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts, and the one place that decides which a guest may get: on a guest without a PIC (PVH, or of
 * unknown type) an ISA or routed INTx interrupt panics the host (Xen 4.17), so such a call is refused here,
 * whatever was configured.
 */
#include "core/irq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

#define ISA_LINES 16
#define SPI_FIRST 32

/* ---- the guest's side (core/guest.h) ---- */

static int count_loss(struct guest *guest, int error)
{
    return guest->dead ? 0 : error;
}

int guest_msi(struct guest *guest, uint64_t address, uint32_t data)
{
    struct hypervisor *hv = guest->daemon->hv;
    return count_loss(guest, hv->ops->msi(hv, guest->domid, address, data));
}

int guest_intx(struct guest *guest, uint8_t slot, uint8_t pin, bool level)
{
    struct hypervisor *hv = guest->daemon->hv;
    if (guest->type != GUEST_HVM || guest_is_arm(guest)) {
        return -EOPNOTSUPP;
    }
    return count_loss(guest, hv->ops->pci_intx(hv, guest->domid, slot, pin, level));
}

int guest_isa_irq(struct guest *guest, uint8_t line, bool level)
{
    struct hypervisor *hv = guest->daemon->hv;
    if (guest->type != GUEST_HVM || guest_is_arm(guest)) {
        return -EOPNOTSUPP;
    }
    return count_loss(guest, hv->ops->isa_irq(hv, guest->domid, line, level));
}

int guest_spi(struct guest *guest, uint32_t intid, bool level)
{
    struct hypervisor *hv = guest->daemon->hv;
    if (!guest_is_arm(guest)) {
        return -EOPNOTSUPP;
    }
    return count_loss(guest, hv->ops->spi(hv, guest->domid, intid, level));
}

/* ---- wires ---- */

struct iod_irq *irq_make(struct iod_device *device, int (*set)(void *self, bool level), void *self)
{
    struct iod_irq *irq = calloc(1, sizeof(*irq));
    if (irq) {
        irq->device = device;
        irq->set = set;
        irq->self = self;
        irq->line = -1;
        list_add_tail(&device->irqs, &irq->link);
    }
    return irq;
}

static int set_isa(void *self, bool level)
{
    struct iod_irq *irq = self;
    return guest_isa_irq(irq->device->guest, (uint8_t)irq->line, level);
}

static int set_spi(void *self, bool level)
{
    struct iod_irq *irq = self;
    return guest_spi(irq->device->guest, (uint32_t)irq->line, level);
}

static const struct iod_device *line_owner(const struct guest *guest, int line)
{
    struct iod_device *device;
    struct iod_irq *irq;
    list_for_each(device, &guest->devices, struct iod_device, link) {
        for (struct list *l = device->irqs.next; l != &device->irqs; l = l->next) {
            irq = list_entry(l, struct iod_irq, link);
            if (irq->line == line) {
                return device;
            }
        }
    }
    return NULL;
}

static int check_line(const struct iod_device *device, int line, struct iod_error *error)
{
    const struct guest *guest = device->guest;
    const struct iod_device *owner;
    if (guest_is_arm(guest) && line < SPI_FIRST) {
        return iod_fail(error, EINVAL, "%s: irq=%d: expected an INTID of an SPI (32 and up)", device->id,
                        line);
    }
    if (!guest_is_arm(guest) && guest->type != GUEST_HVM) {
        return iod_fail(error, EOPNOTSUPP,
                        "%s: irq=%d: a guest of type %s has no ISA interrupts (Xen would panic): say --type "
                        "hvm if it is one, "
                        "or irq=none to have the device polled",
                        device->id, line, guest->type == GUEST_PVH ? "pvh" : "unknown");
    }
    if (!guest_is_arm(guest) && line >= ISA_LINES) {
        return iod_fail(error, EINVAL, "%s: irq=%d: expected an ISA line from 0 to 15", device->id, line);
    }
    if ((owner = line_owner(guest, line))) {
        return iod_fail(error, EBUSY, "%s: irq=%d: taken by %s", device->id, line, owner->id);
    }
    return 0;
}

struct iod_irq *iod_irq_get(struct iod_device *device, int fallback, struct iod_error *error)
{
    int line = device->keys.has_irq ? device->keys.irq : fallback;
    if (error) {
        error->code = 0;
    }
    if (line < 0 || check_line(device, line, error)) {
        return NULL;
    }
    struct iod_irq *irq = irq_make(device, guest_is_arm(device->guest) ? set_spi : set_isa, NULL);
    if (!irq) {
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    irq->self = irq;
    irq->line = line;
    return irq;
}

static void drive(struct iod_irq *irq, bool level)
{
    int error = irq->set(irq->self, level);
    if (error && !irq->failed) {
        irq->failed = true;
        iod_log(irq->device, IOD_LOG_ERROR, "its interrupt can't be %s: %s", level ? "raised" : "lowered",
                strerror(-error));
    }
}

void iod_irq_raise(struct iod_irq *irq)
{
    drive(irq, true);
}

void iod_irq_lower(struct iod_irq *irq)
{
    drive(irq, false);
}
