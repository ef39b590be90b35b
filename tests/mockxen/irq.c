/* SPDX-License-Identifier: BSD-2-Clause */
#include "irq.h"

#include <errno.h>

#include "common.h"

static void changed(struct mx_dom *d)
{
    atomic_fetch_add(&d->irq.seq, 1);
    mx_unlock(&d->lock);
    mx_futex_wake(&d->irq.seq);
}

static void pin_up(struct mx_pin *p)
{
    if (p->masked || (p->level && p->irr)) {
        return; /* an edge meets a masked pin: lost; a level waits for EOI or unmask */
    }
    p->irr = p->level;
    p->delivered++;
}

static void wire(struct mx_dom *d, unsigned gsi, bool up)
{
    struct mx_pin *p = &d->irq.pin[gsi];

    if (up) {
        if (p->asserted++ == 0) {
            pin_up(p);
        }
    } else if (p->asserted) {
        p->asserted--;
    }
}

static unsigned isa_gsi(unsigned isa)
{
    return isa == 0 ? 2 : isa;
}

unsigned irq_intx_gsi(unsigned dev, unsigned intx)
{
    return 16 + ((dev * 4 + dev / 8 + intx) & 31);
}

/** The guest has no PIC (or the emulator can't know): what a raise does to the real host. */
static bool deadly(struct mx_global *g, const struct mx_dom *d)
{
    return d->profile == MOCK_PVH || g->doms[d->slot].type_unknown;
}

int irq_set_isa(struct mx_global *g, struct mx_dom *d, unsigned isa, uint8_t level)
{
    uint32_t bit = 1u << (isa & 15);

    if (d->profile == MOCK_ARM64) {
        return -EOPNOTSUPP;
    }
    if (isa > 15 || level > 1) {
        return -EINVAL;
    }
    if (level && deadly(g, d)) {
        mx_panic(g, "domain %u: ISA IRQ %u raised in a guest that is PVH or of unknown type", d->domid, isa);
        return 0;
    }
    mx_lock(&d->lock);
    if (!!(d->irq.isa & bit) != level || (level && mx_broken(g, MX_BREAK_WIRES_REPEAT))) {
        d->irq.isa = level ? d->irq.isa | bit : d->irq.isa & ~bit;
        wire(d, isa_gsi(isa), level);
    }
    changed(d);
    return 0;
}

int irq_set_intx(struct mx_global *g, struct mx_dom *d, unsigned seg, unsigned bus, unsigned dev,
                 unsigned intx, uint8_t level)
{
    unsigned link = (dev + intx) & 3;
    uint8_t bit = (uint8_t)(1u << (intx & 3));

    if (d->profile == MOCK_ARM64) {
        return -EOPNOTSUPP;
    }
    if (seg || bus || dev > 31 || intx > 3 || level > 1) {
        return -EINVAL;
    }
    if (level && deadly(g, d)) {
        mx_panic(g, "domain %u: INTx of device %u raised in a guest that is PVH or of unknown type", d->domid,
                 dev);
        return 0;
    }
    mx_lock(&d->lock);
    if (!!(d->irq.intx[dev] & bit) != level || (level && mx_broken(g, MX_BREAK_WIRES_REPEAT))) {
        d->irq.intx[dev] = (uint8_t)(level ? d->irq.intx[dev] | bit : d->irq.intx[dev] & ~bit);
        wire(d, irq_intx_gsi(dev, intx), level);
        if (d->irq.route[link]) {
            wire(d, isa_gsi(d->irq.route[link]), level);
        }
    }
    changed(d);
    return 0;
}

int irq_set_link(struct mx_dom *d, unsigned link, unsigned isa)
{
    unsigned asserted = 0;
    uint8_t old;

    if (d->profile == MOCK_ARM64) {
        return -EOPNOTSUPP;
    }
    if (link > 3 || isa > 15) {
        return -EINVAL;
    }
    mx_lock(&d->lock);
    for (unsigned dev = 0; dev < 32; dev++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            asserted += ((dev + pin) & 3) == link && (d->irq.intx[dev] >> pin & 1);
        }
    }
    old = d->irq.route[link];
    d->irq.route[link] = (uint8_t)isa;
    for (; asserted && old != isa; asserted--) {
        if (old) {
            wire(d, isa_gsi(old), false);
        }
        if (isa) {
            wire(d, isa_gsi(isa), true);
        }
    }
    changed(d);
    return 0;
}

/** Does the destination name a vCPU that exists? APIC ids are twice the vCPU number; logical mode is flat. */
static bool dest_exists(const struct mx_dom *d, unsigned dest, bool logical)
{
    if (logical) {
        return dest == 0xff || (dest & ((1u << (d->online < 8 ? d->online : 8)) - 1));
    }
    return dest == 0xff || (dest % 2 == 0 && dest / 2 < d->online);
}

static unsigned msi_slot(const struct mx_irq *q, uint64_t addr, uint32_t data)
{
    unsigned at = (unsigned)((addr >> 2 ^ data * 2654435761u) % MX_MSIS), i;

    for (i = 0; i < MX_MSIS; i++, at = (at + 1) % MX_MSIS) {
        if (!q->msi[at].used || (q->msi[at].addr == addr && q->msi[at].data == data)) {
            return at;
        }
    }
    return MX_MSIS;
}

static void msi_deliver(struct mx_irq *q, uint64_t addr, uint32_t data)
{
    unsigned at = msi_slot(q, addr, data);

    q->msi_total++;
    if (at < MX_MSIS) {
        q->msi[at].used = 1;
        q->msi[at].addr = addr;
        q->msi[at].data = data;
        q->msi[at].count++;
    }
}

int irq_inject_msi(struct mx_global *g, struct mx_dom *d, uint64_t addr, uint32_t data)
{
    unsigned dest = addr >> 12 & 0xff, vector = data & 0xff, mode = data >> 8 & 7;
    bool logical = addr >> 2 & 1, there;

    if (d->profile == MOCK_ARM64) {
        return -EOPNOTSUPP;
    }
    if (vector == 0) {
        return (addr >> 32 & 0xffffff00u) | dest ? 0 : -ERANGE; /* a PIRQ: nobody listens here */
    }
    if (mode > 1 && !mx_broken(g, MX_BREAK_MSI_MODE)) {
        return -EINVAL;
    }
    mx_lock(&d->lock);
    there = dest_exists(d, dest, logical);
    if (there && vector >= 16) {
        msi_deliver(&d->irq, addr, data);
    } else if (mode == 0 || there) {
        d->irq.msi_lost++;
    }
    changed(d);
    return there || mode == 0 ? 0 : -ESRCH;
}

uint64_t irq_msi_count(struct mx_dom *d, uint64_t addr, uint32_t data)
{
    uint64_t count;
    unsigned at;

    mx_lock(&d->lock);
    at = msi_slot(&d->irq, addr, data);
    count = at < MX_MSIS && d->irq.msi[at].used ? d->irq.msi[at].count : 0;
    mx_unlock(&d->lock);
    return count;
}

int irq_set_spi(struct mx_dom *d, unsigned intid, uint8_t level)
{
    if (d->profile != MOCK_ARM64) {
        return -EOPNOTSUPP;
    }
    if (intid < 32 || intid >= MX_SPIS || level > 1) {
        return -EINVAL;
    }
    if (!level) {
        return 0; /* the default vGIC does not look at it */
    }
    mx_lock(&d->lock);
    if (!d->irq.spi[intid].pending) {
        d->irq.spi[intid].pending = 1;
        d->irq.spi[intid].count++;
    }
    changed(d);
    return 0;
}

void irq_eoi(struct mx_dom *d, unsigned gsi)
{
    struct mx_pin *p = &d->irq.pin[gsi % MX_GSIS];

    mx_lock(&d->lock);
    p->irr = 0;
    if (p->level && p->asserted) {
        pin_up(p);
    }
    changed(d);
}

void irq_config_pin(struct mx_dom *d, unsigned gsi, bool level, bool masked)
{
    struct mx_pin *p = &d->irq.pin[gsi % MX_GSIS];

    mx_lock(&d->lock);
    p->level = level;
    p->masked = masked;
    if (level && p->asserted) {
        pin_up(p);
    }
    changed(d);
}
