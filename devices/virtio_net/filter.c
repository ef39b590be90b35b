/* SPDX-License-Identifier: BSD-2-Clause */
/* Which received frames the guest wants: virtio 1.2, section 5.1.6.5. A pure function. */
#include <string.h>

#include "virtio_net.h"

static bool in_mode(const struct net_regs *regs, unsigned mode)
{
    return regs->rx_mode & (1u << mode);
}

static bool in_table(const struct net_regs *regs, unsigned first, unsigned count, const uint8_t *mac)
{
    for (unsigned i = first; i < first + count; i++) {
        if (memcmp(regs->macs[i], mac, ETH_ALEN) == 0) {
            return true;
        }
    }
    return false;
}

static bool vlan_wanted(const struct net_regs *regs, const uint8_t *frame, size_t length)
{
    unsigned vlan;

    if (length < ETH_HLEN + 4u || frame[12] != ETH_P_8021Q >> 8 || frame[13] != (ETH_P_8021Q & 0xff)) {
        return true; /* no tag */
    }
    vlan = (frame[14] << 8 | frame[15]) & (VLANS - 1);
    return regs->vlans[vlan / 64] >> (vlan % 64) & 1;
}

static bool multicast_wanted(const struct net_regs *regs, const uint8_t *mac)
{
    static const uint8_t broadcast[ETH_ALEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

    if (memcmp(mac, broadcast, ETH_ALEN) == 0) {
        return !in_mode(regs, VIRTIO_NET_CTRL_RX_NOBCAST);
    }
    if (in_mode(regs, VIRTIO_NET_CTRL_RX_NOMULTI)) {
        return false;
    }
    return in_mode(regs, VIRTIO_NET_CTRL_RX_ALLMULTI) || (regs->overflow & OVERFLOW_MULTICAST) ||
           in_table(regs, regs->unicast, regs->multicast, mac);
}

bool frame_wanted(const struct net_regs *regs, bool vlan_filter, const uint8_t *frame, size_t length)
{
    if (in_mode(regs, VIRTIO_NET_CTRL_RX_PROMISC)) {
        return true;
    }
    if (vlan_filter && !vlan_wanted(regs, frame, length)) {
        return false;
    }
    if (frame[0] & 1) {
        return multicast_wanted(regs, frame);
    }
    if (in_mode(regs, VIRTIO_NET_CTRL_RX_NOUNI)) {
        return false;
    }
    return memcmp(frame, regs->mac, ETH_ALEN) == 0 || in_mode(regs, VIRTIO_NET_CTRL_RX_ALLUNI) ||
           (regs->overflow & OVERFLOW_UNICAST) || in_table(regs, 0, regs->unicast, frame);
}
