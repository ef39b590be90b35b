/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tests' own virtio driver, written from the VIRTIO 1.2 specification alone: transports virtio-mmio
 * (version 2 and legacy) and virtio-pci (modern), split rings. It plays one guest's driver through guest.h,
 * so it may also do what a driver must not: every ring is open to the test.
 *
 * Order: virtio_mmio_open() or virtio_pci_open(), virtio_negotiate(), virtio_queue_set_up() for each queue,
 * virtio_start(), ... , virtio_close(). After virtio_reset() begin with virtio_negotiate() again.
 *
 * Threads: one at a time per vCPU; a queue notifies with its own `vcpu`. Functions return 0 or a negative
 * errno.
 */
#ifndef MOCKXEN_VIRTIO_DRIVER_H
#define MOCKXEN_VIRTIO_DRIVER_H

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest.h"

#define VIRTIO_FEATURE(bit) (1ull << (bit))
#define VIRTIO_QUEUES_MAX 64
#define VIRTIO_TIMEOUT_MS 20000 /* how long a driver waits for its device; generous: a machine may be busy */

struct virtio_driver;

/** A piece of guest RAM that is handed out and never taken back. */
struct virtio_arena {
    struct mock_guest *guest;
    uint64_t next, end; /* guest physical */
};

/** How the driver hears of used buffers. */
enum virtio_interrupt {
    VIRTIO_POLL, /* not at all: it looks */
    VIRTIO_GSI,  /* a wire to the IO-APIC: virtio-mmio on x86 (ISA), INTx */
    VIRTIO_SPI,  /* Arm */
    VIRTIO_MSIX,
};

/** One descriptor of a chain. */
struct virtio_buffer {
    uint64_t gpa;
    uint32_t length;
    bool write; /* by the device */
};

struct virtio_queue {
    struct virtio_driver *driver;
    unsigned index, vcpu;
    uint16_t size;
    uint64_t desc_gpa, avail_gpa, used_gpa;
    struct vring_desc *desc; /* all three in guest RAM, shared with the device */
    struct vring_avail *avail;
    struct vring_used *used;
    void **tokens;         /* by head */
    uint64_t *tables;      /* gpa of each head's indirect table; 0: none yet */
    uint16_t *table_sizes; /* descriptors it holds */
    uint16_t free_head, free_count;
    uint16_t next_avail;    /* what avail->idx becomes at the next publish */
    uint16_t published;     /* avail->idx as the device may see it */
    uint16_t next_used;     /* the first used element not yet taken */
    uint64_t notify_gpa;    /* virtio-pci */
    uint16_t vector;        /* MSI-X */
    uint64_t interrupts; /* deliveries looked at; from 0: an old one still wants its EOI */
    unsigned notifications; /* sent to the device so far */
};

/** One of virtio-mmio, legacy virtio-mmio, virtio-pci. */
struct virtio_transport {
    const char *name;
    uint8_t (*status)(struct virtio_driver *driver);
    void (*set_status)(struct virtio_driver *driver, uint8_t status);
    uint64_t (*device_features)(struct virtio_driver *driver);
    void (*set_driver_features)(struct virtio_driver *driver, uint64_t features);
    unsigned (*queue_size_max)(struct virtio_driver *driver, unsigned index); /* 0: no such queue */
    int (*queue_enable)(struct virtio_queue *queue);                          /* rings and size are set */
    bool (*queue_enabled)(struct virtio_driver *driver, unsigned index);
    void (*notify)(struct virtio_queue *queue);
    uint32_t (*config_generation)(struct virtio_driver *driver); /* NULL: there is none (legacy) */
    uint64_t (*config_read)(struct virtio_driver *driver, unsigned offset, unsigned width);
    void (*config_write)(struct virtio_driver *driver, unsigned offset, unsigned width, uint64_t value);
    uint32_t (*interrupt_status)(
        struct virtio_driver *driver); /* reads and acknowledges; bit 0 queue, 1 config */
};

struct virtio_mmio_place {
    uint64_t base;
};

struct virtio_pci_place {
    uint16_t sbdf;
    uint64_t bars[6]; /* where each BAR was placed; 0: none */
    uint64_t bar_sizes[6];
    uint64_t common, notify, isr, device; /* gpa of each structure */
    uint32_t notify_multiplier;
    unsigned config_window; /* offset of the VIRTIO_PCI_CAP_PCI_CFG capability; 0: none */
    unsigned msix;          /* offset of the MSI-X capability; 0: none */
    uint64_t msix_table;    /* gpa */
    unsigned msix_vectors;
};

struct virtio_driver {
    struct mock_guest *guest;
    unsigned vcpu;
    const struct virtio_transport *transport;
    struct virtio_arena arena;
    bool legacy;
    uint32_t device_id; /* section 5: 2 is a block device */
    uint64_t features;  /* negotiated */
    enum virtio_interrupt interrupt;
    unsigned line;     /* GSI or INTID */
    uint32_t msi_data; /* of vector 0; the others follow */
    struct virtio_mmio_place mmio;
    struct virtio_pci_place pci;
    struct virtio_queue *queues[VIRTIO_QUEUES_MAX];
};

/* ---- memory ---- */

/** An arena over [base, base + size) of the guest's RAM. */
struct virtio_arena virtio_arena_make(struct mock_guest *guest, uint64_t base, uint64_t size);
/** Takes `size` zeroed bytes aligned to `align`; the gpa, or 0 if there is no room. *at (may be NULL): the
 * memory. */
uint64_t virtio_arena_take(struct virtio_arena *arena, size_t size, size_t align, void **at);

/* ---- finding the device ---- */

/**
 * A virtio-mmio device at `base`. `interrupt` is VIRTIO_POLL, VIRTIO_GSI (line: the GSI) or VIRTIO_SPI (line:
 * the INTID). -ENODEV: no device there, or not the device `device_id`; -EPROTO: neither version 1 nor 2.
 */
int virtio_mmio_open(struct virtio_driver *driver, struct mock_guest *guest, unsigned vcpu, uint64_t base,
                     uint32_t device_id, enum virtio_interrupt interrupt, unsigned line,
                     struct virtio_arena arena);
/**
 * The modern virtio-pci function at `sbdf`: sizes its BARs, places them from `window` up, walks the
 * capabilities, enables decoding and bus mastering. VIRTIO_MSIX programs one vector for the configuration and
 * one for each queue as it is set up; VIRTIO_GSI uses INTx.
 */
int virtio_pci_open(struct virtio_driver *driver, struct mock_guest *guest, unsigned vcpu, uint16_t sbdf,
                    uint32_t device_id, enum virtio_interrupt interrupt, uint64_t window,
                    struct virtio_arena arena);
/**
 * The first modern virtio function of this virtio device id on bus 0, after `after` (-1: from the beginning);
 * or -ENODEV.
 */
int virtio_pci_find(struct mock_guest *guest, unsigned vcpu, uint16_t device, int after);
/** Frees what the driver holds on the host. Does not touch the device. */
void virtio_close(struct virtio_driver *driver);

/* ---- life ---- */

/** Reset, ACKNOWLEDGE, DRIVER, features `wanted` as far as offered, FEATURES_OK. -ENOTSUP: the device
 * refused them. */
int virtio_negotiate(struct virtio_driver *driver, uint64_t wanted);
bool virtio_has(const struct virtio_driver *driver, unsigned feature);
/** Makes queue `index` with `size` entries (0: as many as the device takes) and hands it to the device. */
int virtio_queue_set_up(struct virtio_driver *driver, unsigned index, unsigned size);
/** DRIVER_OK. */
void virtio_start(struct virtio_driver *driver);
/** Writes 0 to the status and waits until it reads 0; the queues are forgotten. -ETIMEDOUT. */
int virtio_reset(struct virtio_driver *driver);
uint8_t virtio_status(struct virtio_driver *driver);
/** Waits until DEVICE_NEEDS_RESET is set. 0 or -ETIMEDOUT. */
int virtio_wait_needs_reset(struct virtio_driver *driver, int timeout_ms);
/** A consistent copy of `length` bytes of the configuration structure, by the generation counter. */
void virtio_config(struct virtio_driver *driver, void *to, size_t length);

/* ---- rings ---- */

/**
 * Puts a chain into the ring (in a table of its own if `indirect`), not yet shown to the device. `token`
 * comes back with it. The head, -ENOSPC, or -EINVAL.
 */
int virtio_queue_put(struct virtio_queue *queue, const struct virtio_buffer *buffers, unsigned count,
                     bool indirect, void *token);
/** Puts only a head into the available ring, whatever it is: for hostile tests. */
void virtio_queue_put_head(struct virtio_queue *queue, uint16_t head);
/** Shows all that was put, and notifies unless the device said it need not be. */
void virtio_queue_kick(struct virtio_queue *queue);
/** Only shows it. */
void virtio_queue_publish(struct virtio_queue *queue);
/** Notifies in any case. */
void virtio_queue_notify(struct virtio_queue *queue);
/** Takes the next used chain: its token, or NULL: none. *written (may be NULL): as the device said. */
void *virtio_queue_take(struct virtio_queue *queue, uint32_t *written);
/**
 * Waits until there is a used chain. -ETIMEDOUT; -EIO: the device needs a reset; -ENOMSG: a chain was used
 * but its interrupt never came; -EBADMSG: the used ring holds what no device may put there. A queue whose
 * vcpu is not the driver's does not look at the status (another thread may be using it): no -EIO.
 */
int virtio_queue_wait(struct virtio_queue *queue, int timeout_ms);
/** Waits for the interrupt alone. 0 or -ETIMEDOUT. */
int virtio_queue_wait_interrupt(struct virtio_queue *queue, int timeout_ms);
/** Chains with the device now. */
unsigned virtio_queue_pending(const struct virtio_queue *queue);

/* For the transports and virtio_driver.c. */
struct virtio_queue *virtio_ring_make(struct virtio_driver *driver, unsigned index, uint16_t size);
void virtio_ring_free(struct virtio_queue *queue);
/** Programs MSI-X vector `vector`. */
void virtio_pci_set_vector(struct virtio_driver *driver, unsigned vector, uint64_t address, uint32_t data,
                           bool masked);
#define VIRTIO_MSI_ADDRESS 0xfee00000ull

#endif
