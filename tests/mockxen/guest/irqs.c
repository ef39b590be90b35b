/* SPDX-License-Identifier: BSD-2-Clause */
/* Interrupts as the guest sees them: counts, levels, waits, the ends of them. */
#include "internal.h"

#include <errno.h>

/** Wait until `ready` says so, looking again at each change of the domain's interrupts. */
static int wait_irq(struct mock_guest *g, bool (*ready)(struct mock_guest *, const uint64_t *),
                    const uint64_t *arg, int timeout_ms)
{
    int64_t deadline = mx_deadline(timeout_ms);
    uint32_t seen;

    for (;;) {
        seen = atomic_load(&g->d->irq.seq);
        if (ready(g, arg)) {
            return 0;
        }
        if (mx_futex_wait(&g->d->irq.seq, seen, deadline) == -ETIMEDOUT) {
            return -ETIMEDOUT;
        }
    }
}

uint64_t mock_msi_count(struct mock_guest *g, uint64_t addr, uint32_t data)
{
    return irq_msi_count(g->d, addr, data);
}

static bool msi_ready(struct mock_guest *g, const uint64_t *a)
{
    return irq_msi_count(g->d, a[0], (uint32_t)a[1]) >= a[2];
}

int mock_msi_wait(struct mock_guest *g, uint64_t addr, uint32_t data, uint64_t count, int timeout_ms)
{
    return wait_irq(g, msi_ready, (uint64_t[]){ addr, data, count }, timeout_ms);
}

uint64_t mock_msi_total(struct mock_guest *g, uint64_t *lost)
{
    uint64_t total;

    mx_lock(&g->d->lock);
    total = g->d->irq.msi_total;
    if (lost) {
        *lost = g->d->irq.msi_lost;
    }
    mx_unlock(&g->d->lock);
    return total;
}

int mock_gsi_config(struct mock_guest *g, unsigned gsi, bool level, bool masked)
{
    if (g->profile != MOCK_HVM || gsi >= MX_GSIS) {
        return -EINVAL;
    }
    irq_config_pin(g->d, gsi, level, masked);
    return 0;
}

unsigned mock_gsi_level(struct mock_guest *g, unsigned gsi)
{
    unsigned n;

    mx_lock(&g->d->lock);
    n = g->d->irq.pin[gsi % MX_GSIS].asserted;
    mx_unlock(&g->d->lock);
    return n;
}

uint64_t mock_gsi_count(struct mock_guest *g, unsigned gsi)
{
    uint64_t n;

    mx_lock(&g->d->lock);
    n = g->d->irq.pin[gsi % MX_GSIS].delivered;
    mx_unlock(&g->d->lock);
    return n;
}

static bool gsi_ready(struct mock_guest *g, const uint64_t *a)
{
    return mock_gsi_count(g, (unsigned)a[0]) >= a[1];
}

int mock_gsi_wait(struct mock_guest *g, unsigned gsi, uint64_t count, int timeout_ms)
{
    return wait_irq(g, gsi_ready, (uint64_t[]){ gsi, count }, timeout_ms);
}

static bool level_ready(struct mock_guest *g, const uint64_t *a)
{
    return (mock_gsi_level(g, (unsigned)a[0]) != 0) == (a[1] != 0);
}

int mock_gsi_wait_level(struct mock_guest *g, unsigned gsi, bool high, int timeout_ms)
{
    return wait_irq(g, level_ready, (uint64_t[]){ gsi, high }, timeout_ms);
}

void mock_gsi_eoi(struct mock_guest *g, unsigned gsi)
{
    irq_eoi(g->d, gsi);
}

unsigned mock_intx_gsi(unsigned dev, unsigned intx)
{
    return irq_intx_gsi(dev, intx);
}

uint64_t mock_spi_count(struct mock_guest *g, unsigned intid)
{
    uint64_t n = 0;

    mx_lock(&g->d->lock);
    if (intid < MX_SPIS) {
        n = g->d->irq.spi[intid].count;
    }
    mx_unlock(&g->d->lock);
    return n;
}

static bool spi_ready(struct mock_guest *g, const uint64_t *a)
{
    bool got = false;

    mx_lock(&g->d->lock);
    if (a[0] < MX_SPIS && g->d->irq.spi[a[0]].pending) {
        g->d->irq.spi[a[0]].pending = 0;
        got = true;
    }
    mx_unlock(&g->d->lock);
    return got;
}

int mock_spi_take(struct mock_guest *g, unsigned intid, int timeout_ms)
{
    return wait_irq(g, spi_ready, (uint64_t[]){ intid }, timeout_ms);
}
