/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The steps of an access and of what it sets off, listed once: USDT probes, counters (stats.h), latency.h, stuck.h and
 * trace.h hang on these points. A point costs one increment and one predictable branch; the rest happens only while
 * somebody looks.
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
 *   ACCESS domid, vCPU (65535: the buffered ring), type (enum request_type), address, bytes of an element, value
 *          (of an answer and a write; else 0), is it a read
 *   CALL   domid, vCPU, device id, region or "config", offset, width, value (on the way in: of a write)
 *   QUEUE  domid, device id, queue, and two numbers, named below
 *   FRAME  domid, device id, queue pair, bytes
 *   GUEST  domid and two numbers, named below
 *   TEXT   domid, device id or "", one line
 */
#define PROBES(P)                                                                          \
    P(event, ACCESS, "the event channel of its vCPU (or of the ring) is pending")          \
    P(take, ACCESS, "a request was copied out of its slot")                                \
    P(ring, ACCESS, "a request was copied out of the buffered ring")                       \
    P(enter, CALL, "a device's handler is called")                                         \
    P(leave, CALL, "the handler has returned, and the part is done")                       \
    P(defer, ACCESS, "the handler will end it later")                                      \
    P(complete, ACCESS, "the device has ended what it had deferred")                       \
    P(park, ACCESS, "its device is busy or quiet: it waits")                               \
    P(wake, ACCESS, "it waits no more")                                                    \
    P(delay, ACCESS, "its guest is limited: it waits for its turn")                        \
    P(answer, ACCESS, "the answer is in the slot")                                         \
    P(notify, ACCESS, "its vCPU will be told with the batch")                              \
    P(commit, GUEST, "changed ranges reached the hypervisor: calls, 0")                    \
    P(miss, GUEST, "guest memory had to be mapped: first frame, pages (0: in vain)")       \
    P(invalidate, GUEST, "all mappings were dropped: pages held before, 0")                \
    P(kick, QUEUE, "the driver notified a virtqueue: 0, 0")                                \
    P(pop, QUEUE, "a chain was taken: head, bytes")                                        \
    P(push, QUEUE, "a chain was given back: head, bytes written")                          \
    P(interrupt, QUEUE, "the driver is told of used buffers: used index, 0")               \
    P(reset, QUEUE, "the driver resets the device: 0, 0")                                  \
    P(submit, QUEUE, "a request goes to the block backend: operation, bytes")              \
    P(finish, QUEUE, "the block backend has ended one: operation, errno")                  \
    P(receive, FRAME, "a frame from the network backend reached the device")               \
    P(send, FRAME, "a frame of the guest goes to the network backend")                     \
    P(guest_state, TEXT, "the guest reached a named state")                                \
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

/* ---- for the rooms above the core (the core's own points are in probe_points.h) ---- */

/* A point of shape QUEUE; queue 0 where there are none. */
void probe_queue(enum probe probe, struct iod_device *device, unsigned queue, uint64_t first, uint64_t second);
/* PROBE_receive or PROBE_send; the frame with its vnet header, in `count` pieces of `bytes` in all. */
void probe_frame(enum probe probe, struct iod_device *device, unsigned pair, const struct iovec *iov, unsigned count,
                 uint64_t bytes);

#endif
