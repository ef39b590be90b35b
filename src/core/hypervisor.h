/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All that we ask of Xen, as one table, implemented by src/xen over the stable libraries. Calls return 0 (or
 * a count) or a negative errno as Xen or the library gave it; none logs. Only the rights of a device model
 * are needed. All members are required; what an architecture lacks answers -EOPNOTSUPP.
 */
#ifndef CORE_HYPERVISOR_H
#define CORE_HYPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>


struct hypervisor;
struct ioreq_pages; /* the two pages of one ioreq server, mapped */

enum bufioreq { BUFIOREQ_OFF, BUFIOREQ_LEGACY, BUFIOREQ_ATOMIC };
enum range_space { RANGE_PIO, RANGE_MMIO };

/* xen/include/public/hvm/ioreq.h: the types we know; REQUEST_OTHER is anything else. */
enum request_type {
    REQUEST_PIO,
    REQUEST_COPY,
    REQUEST_PCI_CONFIG,
    REQUEST_TIMEOFFSET,
    REQUEST_INVALIDATE,
    REQUEST_OTHER
};

/* One ioreq, copied out of its slot (or out of the buffered ring) once. Not yet checked. */
struct request {
    enum request_type type;
    uint64_t addr;     /* port, guest physical address, or sbdf << 32 | register */
    uint64_t data;     /* value, or guest physical address if data_is_ptr */
    uint32_t count;    /* repetitions */
    uint32_t size;     /* bytes of one */
    bool read, df, data_is_ptr;
};

enum slot_state { SLOT_NONE, SLOT_READY, SLOT_INPROCESS, SLOT_RESP_READY };

struct hypervisor_ops {
    /* Frees all handles. Everything mapped and bound must have been given back. */
    void (*destroy)(struct hypervisor *hv);

    /* ---- ioreq servers (xen/include/public/hvm/dm_op.h) ---- */
    int (*nr_vcpus)(struct hypervisor *hv, uint16_t domid, unsigned *count);
    int (*server_create)(struct hypervisor *hv, uint16_t domid, enum bufioreq buf, uint16_t *id);
    /*
     * Does our server live? port: the target's port of the buffered ring, 0 without one; may be NULL. Never
     * asks for gfns.
     */
    int (*server_info)(struct hypervisor *hv, uint16_t domid, uint16_t id, uint32_t *port);
    int (*server_enable)(struct hypervisor *hv, uint16_t domid, uint16_t id, bool on);
    int (*server_destroy)(struct hypervisor *hv, uint16_t domid, uint16_t id);
    /* start and end inclusive. */
    int (*range_map)(struct hypervisor *hv, uint16_t domid, uint16_t id, enum range_space space,
                     uint64_t start, uint64_t end);
    int (*range_unmap)(struct hypervisor *hv, uint16_t domid, uint16_t id, enum range_space space,
                       uint64_t start, uint64_t end);
    int (*pcidev_map)(struct hypervisor *hv, uint16_t domid, uint16_t id, uint16_t sbdf);
    int (*pcidev_unmap)(struct hypervisor *hv, uint16_t domid, uint16_t id, uint16_t sbdf);

    /* ---- a server's pages; slots are indexed by vCPU id, below PAGES_SLOTS ---- */
    /*
     * The ring's page only if the server has one (buf as at its creation). -EOPNOTSUPP: the hypervisor is too
     * old.
     */
    int (*pages_map)(struct hypervisor *hv, uint16_t domid, uint16_t id, enum bufioreq buf,
                     struct ioreq_pages **pages);
    void (*pages_unmap)(struct hypervisor *hv, struct ioreq_pages *pages);
    /* vp_eport: the target's port; 0: not yet */
    uint32_t (*slot_port)(const struct ioreq_pages *pages, unsigned vcpu);
    enum slot_state (*slot_state)(const struct ioreq_pages *pages, unsigned vcpu);
    /*
     * Takes the request of a slot that is READY (or INPROCESS if resume) and leaves it INPROCESS. 1: taken;
     * 0: none.
     */
    int (*slot_take)(struct ioreq_pages *pages, unsigned vcpu, bool resume, struct request *request);
    /*
     * Stores data, then RESP_READY with release order. The slot is Xen's from then on. The caller notifies.
     */
    void (*slot_answer)(struct ioreq_pages *pages, unsigned vcpu, uint64_t data);
    /* The next buffered request: 1, or 0: empty. A malformed one is skipped and returned as REQUEST_OTHER. */
    int (*ring_take)(struct ioreq_pages *pages, struct request *request);

    /* ---- event channels: one handle for all guests ---- */
    int (*event_fd)(struct hypervisor *hv); /* readable: ports are pending */
    /* Takes up to max pending ports (each is masked until event_unmask). The number, 0: none. */
    int (*event_take)(struct hypervisor *hv, uint32_t *ports, unsigned max);
    void (*event_unmask)(struct hypervisor *hv, const uint32_t *ports, unsigned count);
    int (*event_notify)(struct hypervisor *hv, uint32_t port);
    /* remote: the target's port. -EINVAL: no such port, or it is bound already (its owner lives). */
    int (*event_bind)(struct hypervisor *hv, uint16_t domid, uint32_t remote, uint32_t *local);
    void (*event_unbind)(struct hypervisor *hv, uint32_t local);

    /* ---- guest memory, in pages of HV_PAGE_SIZE ---- */
    /* errors[i]: 0 or a negative errno of gfns[i]; the memory of a failed page must not be touched. */
    int (*foreign_map)(struct hypervisor *hv, uint16_t domid, const uint64_t *gfns, unsigned count,
                       int *errors, void **at);
    void (*foreign_unmap)(struct hypervisor *hv, void *at, unsigned count);
    int (*grant_map)(struct hypervisor *hv, uint16_t domid, const uint32_t *refs, unsigned count,
                     bool writable, void **at);
    void (*grant_unmap)(struct hypervisor *hv, void *at, unsigned count);
    int (*modified_memory)(struct hypervisor *hv, uint16_t domid, uint64_t gfn, uint32_t count);

    /* ---- interrupts; what the guest's type lacks must not be called (core/irq.c sees to it) ---- */
    int (*isa_irq)(struct hypervisor *hv, uint16_t domid, uint8_t irq, bool level);             /* HVM only */
    /* HVM only; pin 0: INTA */
    int (*pci_intx)(struct hypervisor *hv, uint16_t domid, uint8_t device, uint8_t pin, bool level);
    /* HVM only */
    int (*pci_link_route)(struct hypervisor *hv, uint16_t domid, uint8_t link, uint8_t irq);
    int (*msi)(struct hypervisor *hv, uint16_t domid, uint64_t address, uint32_t data);          /* x86 */
    int (*spi)(struct hypervisor *hv, uint16_t domid, uint32_t intid, bool level);               /* Arm */
};

struct hypervisor {
    const struct hypervisor_ops *ops;
    bool maps_cost_frames; /* each mapped page of a guest costs a frame of our domain's memory (Arm, PVH) */
};

#define HV_PAGE_SHIFT 12
#define HV_PAGE_SIZE 4096u
#define PAGES_SLOTS 128u /* vCPUs that one ioreq page holds */

#endif
