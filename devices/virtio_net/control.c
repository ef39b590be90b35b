/* SPDX-License-Identifier: BSD-2-Clause */
/* The control queue: what the driver asks the device to do. Virtio 1.2, section 5.1.6.5. */
#include <errno.h>
#include <string.h>

#include "virtio_net.h"

/* A command's readable bytes. */
struct command {
    struct net *net;
    const struct iod_extent *extents;
    uint32_t offset;      /* in the first extent left */
    uint64_t left;        /* bytes */
};

/* Takes the next bytes; to NULL: skips them. false: fewer are there, or they are not in memory. */
static bool take(struct command *command, void *to, uint64_t length)
{
    uint8_t *at = to;

    if (length > command->left) {
        return false;
    }
    command->left -= length;
    while (length) {
        const struct iod_extent *extent = command->extents;
        uint32_t here = extent->length - command->offset;
        uint32_t piece = here < length ? here : (uint32_t)length;

        if (at) {
            if (iod_dma_read(command->net->device, extent->address + command->offset, at, piece) < 0) {
                return false;
            }
            at += piece;
        }
        length -= piece;
        command->offset += piece;
        if (piece == here) {
            command->extents++;
            command->offset = 0;
        }
    }
    return true;
}

/* The same for the last bytes of a command: there must be no more. */
static bool take_last(struct command *command, void *to, uint64_t length)
{
    return command->left == length && take(command, to, length);
}

/* ---- what is received ---- */

static bool set_rx_mode(struct command *command, struct net_regs *regs, uint8_t mode)
{
    uint8_t on;

    if (mode > VIRTIO_NET_CTRL_RX_NOBCAST || !take_last(command, &on, sizeof(on))) {
        return false;
    }
    regs->rx_mode = (uint8_t)(on ? regs->rx_mode | 1u << mode : regs->rx_mode & ~(1u << mode));
    return true;
}

/* One of the two tables: behind the addresses that are there, as many as fit; else only `overflow`. */
static bool take_table(struct command *command, struct net_regs *table, uint8_t *count, uint8_t overflow)
{
    unsigned first = table->unicast;
    uint32_t entries;

    if (!take(command, &entries, sizeof(entries))) {
        return false;
    }
    if (entries > MAC_TABLE_MAX - first) {
        table->overflow |= overflow;
        return take(command, NULL, (uint64_t)entries * ETH_ALEN);
    }
    if (!take(command, table->macs[first], entries * ETH_ALEN)) {
        return false;
    }
    *count = (uint8_t)entries;
    return true;
}

static bool set_mac_table(struct command *command, struct net_regs *regs)
{
    struct net_regs table = { .overflow = 0 };

    if (!take_table(command, &table, &table.unicast, OVERFLOW_UNICAST) ||
        !take_table(command, &table, &table.multicast, OVERFLOW_MULTICAST) || command->left) {
        return false;
    }
    memcpy(regs->macs, table.macs, sizeof(regs->macs));
    regs->unicast = table.unicast;
    regs->multicast = table.multicast;
    regs->overflow = table.overflow;
    return true;
}

static bool set_mac(struct command *command, struct net_regs *regs, uint8_t what)
{
    uint8_t mac[ETH_ALEN];

    if (what == VIRTIO_NET_CTRL_MAC_TABLE_SET) {
        return set_mac_table(command, regs);
    }
    if (what != VIRTIO_NET_CTRL_MAC_ADDR_SET || !take_last(command, mac, sizeof(mac))) {
        return false;
    }
    memcpy(regs->mac, mac, sizeof(mac));
    return true;
}

static bool set_vlan(struct command *command, struct net_regs *regs, uint8_t what)
{
    uint16_t vlan;

    if (what > VIRTIO_NET_CTRL_VLAN_DEL || !take_last(command, &vlan, sizeof(vlan)) || vlan >= VLANS) {
        return false;
    }
    if (what == VIRTIO_NET_CTRL_VLAN_ADD) {
        regs->vlans[vlan / 64] |= BIT64(vlan % 64);
    } else {
        regs->vlans[vlan / 64] &= ~BIT64(vlan % 64);
    }
    return true;
}

/* ---- pairs and offloads ---- */

static bool set_pairs(struct command *command, struct net_regs *regs, uint8_t what)
{
    struct net *net = command->net;
    uint16_t pairs;

    if (what != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || !take_last(command, &pairs, sizeof(pairs)) || pairs == 0 ||
        pairs > net->max_pairs || iod_netdev_set_pairs(net->netdev, pairs) < 0) {
        return false;
    }
    regs->pairs = pairs;
    for (unsigned i = 0; i < net->count; i++) {
        struct pair *pair = &net->pairs[i];

        if (i >= pairs) {
            pair->accepting = false; /* it says so again when it is used again */
        } else if (iod_virtq_ready(pair->receive)) {
            net_buffers(pair);
        }
        if (pair->blocked) { /* the backend may not say "writable" of a pair that it has given up */
            pair->cut = true;
            iod_task_queue(net->more);
        }
    }
    return true;
}

static bool set_offloads(struct command *command, struct net_regs *regs, uint8_t what)
{
    struct net *net = command->net;
    const uint64_t all = receive_features(UINT32_MAX) & iod_virtio_features(net->virtio);
    uint64_t before = regs->offloads, wanted;

    if (what != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || !take_last(command, &wanted, sizeof(wanted)) ||
        (wanted & ~all)) {
        return false;
    }
    regs->offloads = wanted;
    if (net_apply_offloads(net) < 0) {
        regs->offloads = before;
        net_apply_offloads(net);
        return false;
    }
    return true;
}

static bool acknowledge(struct command *command, struct net_regs *regs, uint8_t what)
{
    if (what != VIRTIO_NET_CTRL_ANNOUNCE_ACK || command->left || !regs->announce) {
        return false;
    }
    regs->announce = 0;
    return true;
}

/* ---- commands ---- */

/* The feature that a command needs. */
static unsigned feature_of(uint8_t class, uint8_t what)
{
    switch (class) {
    case VIRTIO_NET_CTRL_RX:
        return what > VIRTIO_NET_CTRL_RX_ALLMULTI ? VIRTIO_NET_F_CTRL_RX_EXTRA : VIRTIO_NET_F_CTRL_RX;
    case VIRTIO_NET_CTRL_MAC:
        return what == VIRTIO_NET_CTRL_MAC_ADDR_SET ? VIRTIO_NET_F_CTRL_MAC_ADDR : VIRTIO_NET_F_CTRL_RX;
    case VIRTIO_NET_CTRL_VLAN:
        return VIRTIO_NET_F_CTRL_VLAN;
    case VIRTIO_NET_CTRL_ANNOUNCE:
        return VIRTIO_NET_F_GUEST_ANNOUNCE;
    case VIRTIO_NET_CTRL_MQ:
        return VIRTIO_NET_F_MQ;
    default:
        return VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
    }
}

static bool obey(struct command *command)
{
    struct net *net = command->net;
    struct net_regs *regs = iod_regs(net->device);
    struct virtio_net_ctrl_hdr header;

    if (!take(command, &header, sizeof(header)) ||
        !(iod_virtio_features(net->virtio) & BIT64(feature_of(header.class, header.cmd)))) {
        return false;
    }
    switch (header.class) {
    case VIRTIO_NET_CTRL_RX:
        return set_rx_mode(command, regs, header.cmd);
    case VIRTIO_NET_CTRL_MAC:
        return set_mac(command, regs, header.cmd);
    case VIRTIO_NET_CTRL_VLAN:
        return set_vlan(command, regs, header.cmd);
    case VIRTIO_NET_CTRL_ANNOUNCE:
        return acknowledge(command, regs, header.cmd);
    case VIRTIO_NET_CTRL_MQ:
        return set_pairs(command, regs, header.cmd);
    case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
        return set_offloads(command, regs, header.cmd);
    default:
        return false;
    }
}

static bool answer(struct net *net, const struct iod_chain *chain)
{
    struct command command = { .net = net, .extents = chain->extents, .left = chain->out_length };
    uint8_t ack;

    if (chain->in_length < sizeof(ack) || chain->out_length < sizeof(struct virtio_net_ctrl_hdr)) {
        iod_virtio_broken(net->virtio, "a control command without header or without room for its answer");
        return false;
    }
    ack = obey(&command) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
    if (iod_dma_write(net->device, chain->extents[chain->out].address, &ack, sizeof(ack)) < 0) {
        iod_virtio_broken(net->virtio, "a control command whose answer is not in memory");
        return false;
    }
    return true;
}

void net_control(struct net *net, struct iod_virtq *queue)
{
    struct iod_extent extents[CHAIN_ROOM];
    struct iod_chain chain = { .extents = extents, .max = CHAIN_ROOM };

    unsigned left = COMMANDS_MAX;

    net->control_cut = false;
    while (left && iod_virtq_pop(queue, &chain)) {
        bool good = answer(net, &chain);

        iod_virtq_push(queue, chain.head, good ? 1 : 0);
        left--;
    }
    if (!left) {
        net->control_cut = true;
        iod_task_queue(net->more);
    }
    iod_virtq_flush(queue);
}
