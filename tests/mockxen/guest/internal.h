/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the guest library. */
#ifndef MOCKXEN_GUEST_INTERNAL_H
#define MOCKXEN_GUEST_INTERNAL_H

#include <stdint.h>

#include <xen/xen.h>
#include <xen/hvm/ioreq.h>

#include "../common.h"
#include "../irq.h"

struct mock {
    int fd, kick;
    pthread_mutex_t lock;           /* calls on fd, and the table of files */
    struct mx_global *g;
    pid_t pid;
    char dir[96], socket[112], xs[112], panic[MX_PANIC_LEN];
    bool own_dir, xenstore;
    char **env;
    struct {
        _Atomic uint32_t gen;
        int fd;
        bool open;
    } files[MX_MAX_HANDLES];        /* our ends of emulators' event streams */
};

/** One side of an instruction, gone through piece by piece. */
struct operand {
    uint64_t addr, value;
    uint32_t size, done;            /* bytes */
    bool pio, read;
};

/** What a vCPU is doing: an instruction cut into requests, at most one outstanding per server. */
struct vcpu {
    enum { VCPU_IDLE, VCPU_ACCESS, VCPU_INVALIDATE, VCPU_RAW } what;
    enum mock_status last;
    struct mock_access a;
    uint64_t done;                  /* elements ended (a plain access is one) */
    uint64_t answer;                /* of the last request */
    uint64_t result;
    struct operand op;
    bool in_operand;                /* `op` is at work; else the next request takes many elements */
    bool second_half;               /* the element is read, now it gets written */
    bool fresh;                     /* an answer waits to be taken in */
    uint32_t step;                  /* bytes or elements that the last request covers */
    uint32_t seen;                  /* wake word when last looked at */
    uint32_t pending;               /* bit per server */
    struct { uint32_t gen; unsigned prev; struct ioreq req; } out[MX_MAX_SERVERS];
};

struct mock_guest {
    struct mock *mock;
    struct mx_dom *d;
    uint32_t *p2m;
    uint8_t *dirty, *frames;
    size_t frames_len;
    struct mx_dom_pub *pub;
    uint16_t domid;
    enum mock_profile profile;
    unsigned nr_vcpus;
    int timeout;
    char name[64];
    uint8_t uuid[16];
    uint8_t cmos_index;             /* Xen's RTC latch (HVM) */
    bool acpi_moved;                /* PM ports at b000, not at 1f40 (HVM) */
    struct vcpu vcpu[MX_MAX_VCPUS];
};

/** One call to mockxen; negative errno, or v[0] of the reply if it fits an int. */
int mock_rpc(struct mock *m, const struct mx_req *req, const void *data, size_t len, struct mx_rep *rep,
             void *out, size_t cap, int fds[2]);
/** Notify what is bound to the domain's port. */
void guest_notify(struct mock_guest *g, uint32_t port);

/** A request that leaves the vCPU: its fate at once. */
enum req_fate { REQ_DONE, REQ_SENT, REQ_BAD, REQ_DEAD, REQ_PANIC };
/** Find who gets it and send it, or answer it as Xen does. On REQ_DONE *answer holds the data read. */
enum req_fate request_start(struct mock_guest *g, unsigned vcpu, const struct ioreq *req, uint64_t *answer);
/** Send to one server whatever the ranges say. */
enum req_fate request_send(struct mock_guest *g, unsigned vcpu, unsigned id, const struct ioreq *req);
/** INVALIDATE to all enabled servers. */
enum req_fate request_invalidate(struct mock_guest *g, unsigned vcpu);
/** Look at the outstanding requests: MOCK_BLOCKED while one is. */
enum mock_status request_look(struct mock_guest *g, unsigned vcpu);

/** Frame bytes of a gpa, NULL for a hole. */
uint8_t *guest_byte(struct mock_guest *g, uint64_t gpa);
void guest_mark_dirty(struct mock_guest *g, uint64_t gpa);

#endif
