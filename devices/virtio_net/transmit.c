/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames from the guest: one chain is one frame, header first, and goes from the guest's memory to the
 * backend, which copies and checks the header (iod_netdev_send).
 */
#include <errno.h>
#include <string.h>

#include "virtio_net.h"

/* A legacy header ends before num_buffers: puts the two bytes in. The pieces, or 0: too many. */
static unsigned with_whole_header(struct iovec *to, const struct iovec *from, unsigned count)
{
    static const uint16_t num_buffers;
    size_t header = LEGACY_HEADER;
    unsigned made = 0;

    for (unsigned i = 0; i < count; i++) {
        size_t part = from[i].iov_len < header ? from[i].iov_len : header;

        if (made + 3 > IOD_NET_PIECES_MAX) {
            return 0;
        }
        if (part) {
            to[made++] = (struct iovec){ from[i].iov_base, part };
            header -= part;
            if (header == 0) {
                to[made++] = (struct iovec){ (void *)(uintptr_t)&num_buffers, sizeof(num_buffers) };
            }
        }
        if (part < from[i].iov_len) {
            to[made++] = (struct iovec){ (uint8_t *)from[i].iov_base + part, from[i].iov_len - part };
        }
    }
    return made;
}

/* As iod_netdev_send. */
static int send_mapped(struct pair *pair, const struct iod_mapping *mapping)
{
    struct net *net = pair->net;
    const struct net_regs *regs = iod_regs(net->device);
    /* A driver that has just given up a pair may still have frames there: they go by the first one. */
    unsigned by = pair->index < regs->pairs ? pair->index : 0, count;
    const struct iovec *iov = iod_mapping_iov(mapping, &count);
    struct iovec whole[IOD_NET_PIECES_MAX];

    if (net->header == IOD_NET_HEADER) {
        return iod_netdev_send(net->netdev, by, iov, count);
    }
    return iod_netdev_send(net->netdev, by, whole, with_whole_header(whole, iov, count));
}

/* One chain. 0: it is done with; -EAGAIN: not now. */
static int send_chain(struct pair *pair, const struct iod_chain *chain)
{
    struct net *net = pair->net;
    struct iod_mapping *mapping;
    int result;

    if (chain->out_length < net->header) {
        iod_virtio_broken(net->virtio, "a frame of %llu bytes to send, less than its header",
                          (unsigned long long)chain->out_length);
        net->counters.send_bad++;
        return 0;
    }
    if (chain->out_length > net->header + IOD_NET_FRAME_MAX || chain->out_length < net->header + ETH_HLEN) {
        iod_guest_error(net->device, "a frame of %llu bytes to send",
                        (unsigned long long)(chain->out_length - net->header));
        net->counters.send_bad++;
        return 0;
    }
    result = iod_dma_map(net->device, chain->extents, chain->out, IOD_FROM_GUEST, &mapping);
    if (result < 0) {
        iod_guest_error(net->device, "a frame to send that can't be read: %s", strerror(-result));
        net->counters.send_bad++;
        return 0;
    }
    result = send_mapped(pair, mapping);
    iod_mapping_put(mapping, 0);
    if (result == 0) {
        net->counters.sent++;
        net->counters.sent_bytes += chain->out_length - net->header;
    }
    return result;
}

void net_transmit(struct pair *pair)
{
    struct net *net = pair->net;
    const struct net_regs *regs = iod_regs(net->device);
    struct iod_extent extents[CHAIN_ROOM];
    struct iod_chain chain = { .extents = extents, .max = CHAIN_ROOM };
    uint64_t bytes = 0;

    pair->blocked = pair->cut = false;
    while (bytes < TRANSMIT_MAX && iod_virtq_pop(pair->transmit, &chain)) {
        if (send_chain(pair, &chain) == -EAGAIN) {
            iod_virtq_unpop(pair->transmit);
            pair->blocked = true;
            break;
        }
        iod_virtq_push(pair->transmit, chain.head, 0);
        bytes += chain.out_length;
    }
    if (bytes >= TRANSMIT_MAX) {
        pair->cut = true;
        iod_task_queue(net->more);
    }
    if (bytes) {
        iod_netdev_send_end(net->netdev, pair->index < regs->pairs ? pair->index : 0);
    }
    iod_virtq_flush(pair->transmit);
}
