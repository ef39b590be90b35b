/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames to the guest. A frame goes into as many buffers as it needs, or into none: when the driver has
 * too few, those taken are put back on the ring and the backend keeps the frame. So a reset never waits
 * for buffers.
 */
#include <errno.h>
#include <string.h>

#include "virtio_net.h"

#define HEADER_PIECES IOD_NET_HEADER /* at worst each byte of it lies in a buffer of its own */

/* A frame on its way into buffers. */
struct landing {
    struct pair *pair;
    const uint8_t *next;   /* of the frame without its header */
    size_t left;
    struct iod_extent header[HEADER_PIECES]; /* where the header goes, last */
    unsigned header_pieces;
    unsigned count;        /* buffers */
    struct {
        uint16_t head;
        uint32_t written;
    } used[QUEUE_SIZE_MAX];
};

/* ---- a frame that is not delivered ---- */

static void put_back(struct landing *landing)
{
    while (landing->count) {
        landing->count--;
        iod_virtq_unpop(landing->pair->receive);
    }
}

/* Drops the frame, which is counted there. */
static bool drop(struct landing *landing, uint64_t *counter)
{
    put_back(landing);
    ++*counter;
    return true;
}

static bool no_room(struct landing *landing)
{
    struct net *net = landing->pair->net;

    if (landing->count && landing->count >= iod_virtq_size(landing->pair->receive)) {
        return drop(landing, &net->counters.receive_long); /* more than the whole ring holds */
    }
    put_back(landing);
    iod_virtq_flush(landing->pair->receive); /* the driver needs what it has got already to give us more */
    net->counters.waited++;
    landing->pair->accepting = false;
    return false;
}

/* ---- into buffers ---- */

/* Takes the place of the header off the front of an extent. */
static void keep_header_place(struct landing *landing, struct iod_extent *extent, unsigned *wanted)
{
    uint32_t piece = extent->length < *wanted ? extent->length : *wanted;

    landing->header[landing->header_pieces++] = (struct iod_extent){ extent->address, piece };
    extent->address += piece;
    extent->length -= piece;
    *wanted -= piece;
}

/* Fills the buffer that was popped last. false: it is not in memory. */
static bool fill(struct landing *landing, struct iod_chain *chain)
{
    struct net *net = landing->pair->net;
    unsigned header = landing->count == 1 ? net->header : 0;
    uint32_t written = header;

    for (unsigned i = chain->out; i < chain->out + chain->in && (landing->left || header); i++) {
        struct iod_extent extent = chain->extents[i];
        uint32_t piece;

        if (header) {
            keep_header_place(landing, &extent, &header);
        }
        piece = extent.length < landing->left ? extent.length : (uint32_t)landing->left;
        if (piece && iod_dma_write(net->device, extent.address, landing->next, piece) < 0) {
            return false;
        }
        landing->next += piece;
        landing->left -= piece;
        written += piece;
    }
    landing->used[landing->count - 1].head = chain->head;
    landing->used[landing->count - 1].written = written;
    return true;
}

static bool write_header(struct landing *landing, const struct virtio_net_hdr_v1 *header)
{
    struct net *net = landing->pair->net;
    const uint8_t *from = (const uint8_t *)header;

    for (unsigned i = 0; i < landing->header_pieces; i++) {
        if (iod_dma_write(net->device, landing->header[i].address, from, landing->header[i].length) < 0) {
            return false;
        }
        from += landing->header[i].length;
    }
    return true;
}

static bool not_in_memory(struct landing *landing)
{
    struct net *net = landing->pair->net;

    iod_virtio_broken(net->virtio, "a receive buffer that is not in memory");
    return drop(landing, &net->counters.receive_bad);
}

/* Hands the buffers over. */
static void deliver(struct landing *landing)
{
    for (unsigned i = 0; i < landing->count; i++) {
        iod_virtq_push(landing->pair->receive, landing->used[i].head, landing->used[i].written);
    }
}

/* As iod_netdev_events.receive. The frame is wanted. */
static bool land(struct landing *landing, struct virtio_net_hdr_v1 *header)
{
    struct net *net = landing->pair->net;
    struct iod_extent extents[CHAIN_ROOM];
    struct iod_chain chain = { .extents = extents, .max = CHAIN_ROOM };
    const size_t whole = net->header + landing->left;

    do {
        if (landing->count == QUEUE_SIZE_MAX || !iod_virtq_pop(landing->pair->receive, &chain)) {
            return no_room(landing);
        }
        landing->count++;
        if (chain.in_length < (landing->count == 1 ? net->header : 1)) {
            iod_virtio_broken(net->virtio, "a receive buffer of %llu bytes",
                              (unsigned long long)chain.in_length);
            return drop(landing, &net->counters.receive_bad);
        }
        if (!net->mergeable && chain.in_length < whole) {
            return drop(landing, &net->counters.receive_long);
        }
        if (!fill(landing, &chain)) {
            return not_in_memory(landing);
        }
    } while (landing->left);
    header->num_buffers = (uint16_t)landing->count;
    if (!write_header(landing, header)) {
        return not_in_memory(landing);
    }
    net->counters.received++;
    net->counters.received_bytes += whole - net->header;
    deliver(landing);
    return true;
}

/* ---- what the backend calls ---- */

/* NULL: it goes to the guest; else the counter of what is dropped for that reason. */
static uint64_t *unfit(struct net *net, unsigned pair, const struct virtio_net_hdr_v1 *header,
                       const uint8_t *frame, size_t length)
{
    const struct net_regs *regs = iod_regs(net->device);

    if (pair >= regs->pairs) {
        return &net->counters.receive_bad;
    }
    if (!frame_wanted(regs, net->vlan_filter, frame, length)) {
        return &net->counters.filtered;
    }
    return length > net->frame_max && header->gso_type == VIRTIO_NET_HDR_GSO_NONE
             ? &net->counters.receive_long : NULL;
}

bool net_receive(void *self, unsigned index, const uint8_t *frame, size_t length)
{
    struct net *net = self;
    struct virtio_net_hdr_v1 header;
    struct landing landing;
    uint64_t *counter;

    if (index >= net->count) {
        net->counters.receive_bad++;
        return true;
    }
    landing.pair = &net->pairs[index];
    landing.header_pieces = landing.count = 0;
    landing.next = frame + sizeof(header);
    landing.left = length - sizeof(header);
    if (!iod_virtq_ready(landing.pair->receive)) {
        return no_room(&landing);
    }
    memcpy(&header, frame, sizeof(header));
    counter = unfit(net, index, &header, landing.next, landing.left);
    return counter ? drop(&landing, counter) : land(&landing, &header);
}

void net_receive_end(void *self, unsigned index)
{
    struct net *net = self;

    if (index < net->count) {
        iod_virtq_flush(net->pairs[index].receive);
    }
}

void net_buffers(struct pair *pair)
{
    const struct net_regs *regs = iod_regs(pair->net->device);

    if (!pair->accepting && pair->index < regs->pairs) {
        pair->accepting = true;
        iod_netdev_receive_again(pair->net->netdev, pair->index);
    }
}
