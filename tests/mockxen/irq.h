/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupt model of a domain in its shared memory: the shims raise, the guest library looks and ends. Each
 * call takes the domain's lock itself; results are 0 or a negative errno as Xen gives it. */
#ifndef MOCKXEN_IRQ_H
#define MOCKXEN_IRQ_H

#include "proto.h"

int irq_set_isa(struct mx_global *g, struct mx_dom *d, unsigned isa, uint8_t level);
int irq_set_intx(struct mx_global *g, struct mx_dom *d, unsigned seg, unsigned bus, unsigned dev,
                 unsigned intx, uint8_t level);
int irq_set_link(struct mx_dom *d, unsigned link, unsigned isa);
int irq_inject_msi(struct mx_global *g, struct mx_dom *d, uint64_t addr, uint32_t data);
int irq_set_spi(struct mx_dom *d, unsigned intid, uint8_t level);
void irq_eoi(struct mx_dom *d, unsigned gsi);
void irq_config_pin(struct mx_dom *d, unsigned gsi, bool level, bool masked);
uint64_t irq_msi_count(struct mx_dom *d, uint64_t addr, uint32_t data);
unsigned irq_intx_gsi(unsigned dev, unsigned intx);

#endif
