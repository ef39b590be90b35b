/* SPDX-License-Identifier: BSD-2-Clause */
#include "blk_hand.h"

#include <time.h>

void rest_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

uint64_t rig_ram_end(const struct rig *rig)
{
    uint64_t end = mock_ram_base(rig->f.guest) + (16 << 20);
    while (mock_guest_ram(rig->f.guest, end, 4096)) { /* what the VGA hole takes away is added there */
        end += 4096;
    }
    return end;
}

struct hand hand_make(struct rig *rig)
{
    struct hand hand = {.rig = rig, .queue = rig->driver.queues[0]};
    hand.head_gpa = rig_memory(rig, 16, &hand.head);
    hand.table_gpa = rig_memory(rig, 1024 * sizeof(struct vring_desc), &hand.table);
    hand.data_gpa = rig_memory(rig, 4096, &hand.data);
    hand.status_gpa = rig_memory(rig, 1, &hand.status);
    *hand.head = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN};
    *hand.status = 0xff;
    return hand;
}

void hand_desc(struct hand *hand, unsigned index, uint64_t address, uint32_t length, unsigned flags,
               unsigned next)
{
    hand->queue->desc[index] = (struct vring_desc){address, length, (uint16_t)flags, (uint16_t)next};
}

void hand_entry(struct hand *hand, unsigned index, uint64_t address, uint32_t length, unsigned flags,
                unsigned next)
{
    hand->table[index] = (struct vring_desc){address, length, (uint16_t)flags, (uint16_t)next};
}

void hand_offer(struct hand *hand, unsigned head)
{
    virtio_queue_put_head(hand->queue, (uint16_t)head);
}

void hand_offer_table(struct hand *hand, uint64_t address, uint32_t length, unsigned flags)
{
    hand_desc(hand, 0, address, length, VRING_DESC_F_INDIRECT | flags, 1);
    hand_offer(hand, 0);
}

void hand_sound(struct hand *hand)
{
    hand_desc(hand, 0, hand->head_gpa, 16, VRING_DESC_F_NEXT, 1);
    hand_desc(hand, 1, hand->data_gpa, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    hand_desc(hand, 2, hand->status_gpa, 1, VRING_DESC_F_WRITE, 0);
    hand_entry(hand, 0, hand->head_gpa, 16, VRING_DESC_F_NEXT, 1);
    hand_entry(hand, 1, hand->data_gpa, 512, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    hand_entry(hand, 2, hand->status_gpa, 1, VRING_DESC_F_WRITE, 0);
}

enum outcome hand_see(const struct hand *hand, unsigned timeout_ms)
{
    for (unsigned waited = 0; waited < timeout_ms; waited++) {
        if (virtio_status(&hand->rig->driver) & VIRTIO_CONFIG_S_NEEDS_RESET) {
            return BROKEN;
        }
        if (__atomic_load_n(&hand->queue->used->idx, __ATOMIC_ACQUIRE) != hand->queue->next_used) {
            return *(volatile uint8_t *)hand->status == VIRTIO_BLK_S_OK ? SERVED : FAILED;
        }
        rest_ms(1);
    }
    return IGNORED;
}
