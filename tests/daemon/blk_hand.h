/* SPDX-License-Identifier: BSD-2-Clause */
/* A hand in the ring: writes descriptors and available entries as it likes, past all rules of the driver. */
#ifndef BLK_HAND_H
#define BLK_HAND_H

#include "blk_rig.h"

#define NOWHERE 0x7f0000000000ull /* no RAM there on any profile */

/* How a misdeed may end. */
enum outcome {
    BROKEN = 1,   /* DEVICE_NEEDS_RESET */
    FAILED = 2,   /* used, with an error in its status byte */
    SERVED = 4,   /* used and OK */
    IGNORED = 8,  /* neither within a while */
    REFUSED = 16, /* the queue was not enabled */
};

/* The guest memory that a misdeed works with; all of queue 0's descriptors are its own. */
struct hand {
    struct rig *rig;
    struct virtio_queue *queue;
    struct virtio_blk_outhdr *head;
    struct vring_desc *table; /* 1024 entries */
    uint8_t *data, *status;
    uint64_t head_gpa, table_gpa, data_gpa, status_gpa;
};

/* Of the rig's queue 0. */
struct hand hand_make(struct rig *rig);
/* Writes descriptor `index` of the ring, or of the table. */
void hand_desc(struct hand *hand, unsigned index, uint64_t address, uint32_t length, unsigned flags,
               unsigned next);
void hand_entry(struct hand *hand, unsigned index, uint64_t address, uint32_t length, unsigned flags,
                unsigned next);
/* Puts a head into the available ring. */
void hand_offer(struct hand *hand, unsigned head);
/* Offers descriptor 0 as an indirect one: the table at `address`, `length` bytes. */
void hand_offer_table(struct hand *hand, uint64_t address, uint32_t length, unsigned flags);
/* A sound read of one sector in descriptors 0 to 2 and in the table; misdeeds spoil it. */
void hand_sound(struct hand *hand);
/* What became of it, within `timeout_ms`. */
enum outcome hand_see(const struct hand *hand, unsigned timeout_ms);

/* The first address behind the guest's RAM. */
uint64_t rig_ram_end(const struct rig *rig);
void rest_ms(unsigned ms);

#endif
