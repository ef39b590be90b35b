/* SPDX-License-Identifier: BSD-2-Clause */
#include <linux/virtio_ring.h>

#include "virtio/walk.h"

#define CHAIN_MAX_BYTES (UINT64_C(1) << 32) /* section 2.7.5: a chain is at most 2^32 bytes */

void walk_begin(struct walk *walk, struct iod_chain *chain, unsigned entries, bool indirect)
{
    *walk = (struct walk){ .chain = chain, .entries = entries, .left = entries, .indirect = indirect };
    chain->out = chain->in = 0;
    chain->out_length = chain->in_length = 0;
}

static enum walk_step bad(struct walk *walk, const char *why)
{
    walk->why = why;
    return WALK_BAD;
}

static enum walk_step take_table(struct walk *walk, const struct virtq_desc *desc)
{
    if (!walk->indirect) {
        return bad(walk, "an indirect descriptor that was not negotiated, or inside an indirect table");
    }
    if (desc->flags & VRING_DESC_F_NEXT) {
        return bad(walk, "a descriptor with both INDIRECT and NEXT");
    }
    if (desc->length == 0 || desc->length % sizeof(*desc) || desc->length / sizeof(*desc) > VIRTQ_TABLE_MAX ||
        desc->address + desc->length < desc->address) {
        return bad(walk, "an indirect table of a wrong length");
    }
    walk->indirect = false;
    walk->table = desc->address;
    walk->table_entries = desc->length / sizeof(*desc);
    walk->entries = walk->left = walk->table_entries;
    return WALK_TABLE;
}

static const char *add_extent(struct iod_chain *chain, const struct virtq_desc *desc)
{
    bool in = desc->flags & VRING_DESC_F_WRITE;

    if (!in && chain->in) {
        return "a readable buffer behind a writable one";
    }
    if (desc->address + desc->length < desc->address) {
        return "a buffer past the end of the address space";
    }
    if (chain->out_length + chain->in_length + desc->length > CHAIN_MAX_BYTES) {
        return "a chain of more than 2^32 bytes";
    }
    if (chain->out + chain->in == chain->max) {
        return "a chain of too many buffers";
    }
    chain->extents[chain->out + chain->in] = (struct iod_extent){ desc->address, desc->length };
    if (in) {
        chain->in++;
        chain->in_length += desc->length;
    } else {
        chain->out++;
        chain->out_length += desc->length;
    }
    return NULL;
}

enum walk_step walk_take(struct walk *walk, const struct virtq_desc *desc)
{
    const char *why;

    if (walk->left == 0) {
        return bad(walk, "a chain with a loop");
    }
    walk->left--;
    if (desc->flags & VRING_DESC_F_INDIRECT) {
        return take_table(walk, desc);
    }
    if (desc->length) { /* an empty buffer carries nothing */
        why = add_extent(walk->chain, desc);
        if (why) {
            return bad(walk, why);
        }
    }
    if (!(desc->flags & VRING_DESC_F_NEXT)) {
        return WALK_END;
    }
    if (desc->next >= walk->entries) {
        return bad(walk, "a next field beyond the table");
    }
    walk->next = desc->next;
    return WALK_NEXT;
}

int walk_available(uint16_t avail, uint16_t next, uint16_t size)
{
    uint16_t count = (uint16_t)(avail - next);

    return count > size ? -1 : count;
}

bool walk_event_passed(uint16_t event, uint16_t now, uint16_t before)
{
    return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

static bool fits(uint64_t address, uint64_t length)
{
    return address + length >= address;
}

const char *walk_ring_check(uint16_t size, uint16_t max, uint64_t desc, uint64_t driver, uint64_t device)
{
    if (size == 0 || size > max || (size & (size - 1))) {
        return "a queue size that is not a power of two within the maximum";
    }
    if (desc % 16 || driver % 2 || device % 4) {
        return "a ring that is not aligned";
    }
    if (!fits(desc, 16u * size) || !fits(driver, 6u + 2u * size) || !fits(device, 6u + 8u * size)) {
        return "a ring past the end of the address space";
    }
    return NULL;
}
