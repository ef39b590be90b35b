/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The steps of an access and of what it sets off, listed once: USDT probes, counters (stats.h), latency.h,
 * stuck.h and trace.h hang on these points. A point costs one increment and one predictable branch; the rest
 * happens only while somebody looks.
 */
#ifndef CORE_PROBE_H
#define CORE_PROBE_H

#include <stdint.h>

struct guest;
struct iod_access;
struct iod_device;
struct iovec;

/*
 * P(name, shape, what happened). The shape says what a point knows, and gives the arguments of its USDT probe
 * (provider "ioreqd"):
 *   SLOT   domid, vCPU (65535: the buffered ring)
 *   ACCESS domid, vCPU, type (enum request_type), address, bytes of an element, is it a read, value
 *   CALL   domid, vCPU, device id, region ("config": configuration space), offset, width, is it a read, value
 *   QUEUE  domid, device id, queue, and two numbers, named below
 *   FRAME  domid, device id, queue pair, bytes
 *   GUEST  domid and two numbers, named below
 *   TEXT   domid, device id or "", one line
 */
#define PROBES(P) \
    P(event, SLOT, "the event channel of a vCPU (or of the ring) is pending") \
    P(take, ACCESS, "a request was copied out of its slot; value: as the guest gave it") \
    P(ring, ACCESS, "a request was copied out of the buffered ring; value: as the guest gave it") \
    P(enter, CALL, "a device's handler is called; value: of a write") \
    P(leave, CALL, "the handler has returned; value: of a read") \
    P(defer, ACCESS, "the handler will end it later; value: 0") \
    P(complete, ACCESS, "the device has ended what it had deferred; value: its answer") \
    P(park, ACCESS, "its device is busy or quiet, it waits; value: 0") \
    P(wake, ACCESS, "it waits for its device no more; value: 0") \
    P(delay, SLOT, "its guest is limited: it waits for its turn") \
    P(answer, ACCESS, "the answer is in the slot; value: the answer") \
    P(notify, SLOT, "the vCPU is told with this batch") \
    P(commit, GUEST, "changed ranges go to the hypervisor: 0, 0") \
    P(miss, GUEST, "guest memory had to be mapped: first frame, pages (0: in vain)") \
    P(invalidate, GUEST, "all mappings were dropped: bytes held before, bytes held by I/O still") \
    P(kick, QUEUE, "the driver notified a virtqueue: 0, 0") \
    P(pop, QUEUE, "a chain was taken: head, bytes") \
    P(push, QUEUE, "a chain was given back: head, bytes written") \
    P(interrupt, QUEUE, "the driver is told of used buffers: used index, 0") \
    P(reset, QUEUE, "the driver resets the device: 0, 0") \
    P(submit, QUEUE, "a request goes to the block backend: operation, bytes") \
    P(finish, QUEUE, "the block backend has ended one: operation, errno") \
    P(receive, FRAME, "a frame from the network backend reaches the device") \
    P(send, FRAME, "a frame of the guest goes to the network backend") \
    P(guest_state, TEXT, "the guest reached a named state") \
    P(guest_error, TEXT, "the guest did what no driver does")

#define PROBE_MEMBER(name, shape, what) PROBE_##name,
enum probe { PROBES(PROBE_MEMBER) PROBE_COUNT };
#undef PROBE_MEMBER
_Static_assert(PROBE_COUNT <= 32, "a set of probes is a uint32_t");
#define PROBE_BIT(name) (UINT32_C(1) << PROBE_##name)

/* "event", ...; stable. */
const char *probe_name(enum probe probe);
const char *probe_what(enum probe probe);
/* By its name; -1: there is none. */
int probe_find(const char *name);

/*
 * For the rooms above the core (the core's own points are in points.h): probe_kick(device, queue, 0, 0) and
 * so on for each point of shape QUEUE (queue 0 where there are none); for FRAME, the frame with its vnet
 * header in `count` pieces, `bytes` in all.
 */
#define PROBE_DECLARE_SLOT(name)
#define PROBE_DECLARE_ACCESS(name)
#define PROBE_DECLARE_CALL(name)
#define PROBE_DECLARE_GUEST(name)
#define PROBE_DECLARE_TEXT(name)
#define PROBE_DECLARE_QUEUE(name) \
    void probe_##name(struct iod_device *device, unsigned queue, uint64_t first, uint64_t second);
#define PROBE_DECLARE_FRAME(name) \
    void probe_##name(struct iod_device *device, unsigned pair, const struct iovec *iov, unsigned count, \
                      uint64_t bytes);
#define PROBE_DECLARE(name, shape, what) PROBE_DECLARE_##shape(name)
PROBES(PROBE_DECLARE)

#endif
