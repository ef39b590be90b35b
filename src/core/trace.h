/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Live events: each probe point (probe.h) that a filter lets through becomes a record of fixed size in a
 * ring of its trace; the sink takes them in batches from the loop. What finds the ring full is dropped and
 * counted: nothing waits.
 */
#ifndef CORE_TRACE_H
#define CORE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <ioreqd/error.h>

#include "core/hypervisor.h"
#include "core/probe.h"

struct daemon;
struct trace;

#define TRACES_MAX 8u            /* at a time, captures included */
#define TRACE_RECORDS_MAX 65536u /* in one ring */
#define TRACE_NO_VCPU 0xffffu    /* the buffered ring, or no access */

struct trace_filter {
    const char *domain; /* as for daemon_guest_status; NULL: all guests */
    const char *device; /* its id; NULL: all, and what concerns no device */
    uint32_t probes;    /* PROBE_BIT()s; 0: all */
};

struct trace_record {
    uint64_t time_ns;    /* monotonic */
    uint64_t latency_ns; /* answer: since its event; 0: not known */
    uint64_t address;    /* ACCESS: as the request's; CALL: offset in the region; QUEUE, GUEST: first number */
    uint64_t value;      /* ACCESS, CALL: data; QUEUE, GUEST: second number; FRAME: bytes */
    uint16_t domid;
    uint16_t vcpu;       /* TRACE_NO_VCPU */
    uint16_t queue;      /* QUEUE, FRAME */
    uint8_t probe;       /* enum probe */
    uint8_t type;        /* ACCESS, CALL: enum request_type */
    uint8_t size;        /* ACCESS: bytes of an element; CALL: width */
    bool read;
    char device[32];     /* id, cut; empty: none */
    char text[48];       /* CALL: the region's name; TEXT: the line; cut */
};

/*
 * Takes records, oldest first; returns how many (fewer: it is asked again after trace_resume). `dropped`:
 * how many were lost since the trace began. Called from the loop only, never inside trace_start. It may call
 * trace_stop.
 */
typedef unsigned trace_sink(void *self, const struct trace_record *records, unsigned count, uint64_t dropped);

/*
 * records: of the ring, 0: 4096. The filter is copied. NULL with *error filled: ENOSPC (TRACES_MAX), EINVAL,
 * ENOMEM.
 */
struct trace *trace_start(struct daemon *daemon, const struct trace_filter *filter, unsigned records, trace_sink *sink,
                          void *self, struct iod_error *error);
void trace_resume(struct trace *trace); /* the sink has room again */
uint64_t trace_dropped(const struct trace *trace);
void trace_stop(struct trace *trace);   /* frees it; what is still in the ring is not delivered */

/* One frame of a network device, whole: virtio_net_hdr_v1, then Ethernet. */
struct capture_frame {
    uint64_t time_ns; /* monotonic */
    uint16_t domid;
    uint16_t pair;
    bool sent;        /* by the guest; else received by it */
    const char *device;
    const struct iovec *iov; /* memory of the guest or the backend: copied at once or not at all */
    unsigned count;
    uint64_t bytes;
};
/*
 * Called in the middle of the frame's way: it copies what it wants and returns. It may not call trace_stop.
 */
typedef void capture_sink(void *self, const struct capture_frame *frame);
/* Of the filter, domain and device count. Ended by trace_stop. */
struct trace *capture_start(struct daemon *daemon, const struct trace_filter *filter, capture_sink *sink, void *self,
                            struct iod_error *error);

#endif
