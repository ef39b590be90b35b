/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The core's own probe points, inline: the USDT probe (a nop), one increment, one branch. probe.h lists
 * them; a point that is not listed does not compile.
 */
#ifndef CORE_POINTS_H
#define CORE_POINTS_H

#include "core/inside.h"

#ifdef IOREQD_USDT
#define SDT_USE_VARIADIC 1
#include <sys/sdt.h>
#define USDT(...) STAP_PROBEV(ioreqd, __VA_ARGS__)
#else
#define USDT(...) do { } while (0)
#endif

/* Counts the point. True: somebody looks at it. */
static inline bool point_passed(struct guest *guest, enum probe probe)
{
    guest->watch.points[probe]++;
    return __builtin_expect((guest->watch.mask & (UINT32_C(1) << probe)) != 0, 0);
}

#define POINT_SLOT(name) \
    static inline void point_##name(struct iod_access *access) \
    { \
        struct guest *guest = access->server->guest; \
        USDT(name, guest->domid, access->vcpu); \
        if (point_passed(guest, PROBE_##name)) { \
            watch_access(PROBE_##name, access, 0); \
        } \
    }
#define POINT_ACCESS(name) \
    static inline void point_##name(struct iod_access *access, uint64_t value) \
    { \
        struct guest *guest = access->server->guest; \
        const struct request *request = &access->request; \
        (void)request; /* without USDT */ \
        USDT(name, guest->domid, access->vcpu, request->type, request->addr, request->size, request->read, value); \
        if (point_passed(guest, PROBE_##name)) { \
            watch_access(PROBE_##name, access, value); \
        } \
    }
#define POINT_CALL(name) \
    static inline void point_##name(struct iod_access *access, struct iod_device *device, const char *where, \
                                    uint64_t offset, unsigned width, uint64_t value) \
    { \
        struct guest *guest = access->server->guest; \
        USDT(name, guest->domid, access->vcpu, device->id, where, offset, width, access->request.read, value); \
        if (point_passed(guest, PROBE_##name)) { \
            watch_call(PROBE_##name, access, device, where, offset, width, value); \
        } \
    }
#define POINT_GUEST(name) \
    static inline void point_##name(struct guest *guest, uint64_t first, uint64_t second) \
    { \
        USDT(name, guest->domid, first, second); \
        if (point_passed(guest, PROBE_##name)) { \
            watch_guest(PROBE_##name, guest, first, second); \
        } \
    }
#define POINT_TEXT(name) \
    static inline void point_##name(struct guest *guest, const struct iod_device *device, const char *text) \
    { \
        USDT(name, guest->domid, device ? device->id : "", text); \
        if (point_passed(guest, PROBE_##name)) { \
            watch_text(PROBE_##name, guest, device, text); \
        } \
    }
#define POINT_QUEUE(name)
#define POINT_FRAME(name)
#define POINT(name, shape, what) POINT_##shape(name)
PROBES(POINT)
#undef POINT

extern const uint16_t limit_points[DEED_COUNT]; /* what one costs its account */

static inline void limit_charge(struct guest *guest, enum limit_deed deed, unsigned times)
{
    struct account *account = &guest->watch.account;
    guest->watch.deeds[deed] += times;
    account->points += limit_points[deed] * times;
    if (__builtin_expect(account->points >= account->check, 0)) {
        limit_check(guest);
    }
}

#endif
