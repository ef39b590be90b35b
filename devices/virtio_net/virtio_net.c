/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio network device (virtio 1.2, section 5.1). Queues: receive and transmit in turn for each pair,
 * then control; of a driver without MQ: receive, transmit, control. Frames go to and from a backend one by
 * one, with the standard's header in front, so that checksums and segmentation are left to whoever does
 * them best: guest, kernel, wire. The device keeps no frame and no buffer: what can't go on stays on the
 * ring, or with the backend.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <ioreqd/module.h>

#include "virtio_net.h"

#define FRAME_OVERHEAD (ETH_HLEN + 4u) /* beyond the MTU: Ethernet's header, a VLAN tag */
#define CONFIG_SIZE offsetof(struct virtio_net_config, speed)

static bool has(const struct net *net, unsigned feature)
{
    return iod_virtio_features(net->virtio) & BIT64(feature);
}

/* ---- the virtio device ---- */

static uint64_t net_features(void *self)
{
    const struct net *net = self;
    const struct iod_options *options = iod_device_options(net->device);
    const struct iod_netdev_limits *limits = iod_netdev_limits(net->netdev);
    uint64_t features = BIT64(VIRTIO_NET_F_MAC) | BIT64(VIRTIO_NET_F_STATUS) | BIT64(VIRTIO_NET_F_CTRL_VQ) |
                        BIT64(VIRTIO_NET_F_CTRL_RX) | BIT64(VIRTIO_NET_F_CTRL_RX_EXTRA) |
                        BIT64(VIRTIO_NET_F_CTRL_VLAN) | BIT64(VIRTIO_NET_F_CTRL_MAC_ADDR);

    if (iod_option_bool(options, "announce")) {
        features |= BIT64(VIRTIO_NET_F_GUEST_ANNOUNCE);
    }
    if (iod_option_bool(options, "mrg")) {
        features |= BIT64(VIRTIO_NET_F_MRG_RXBUF);
    }
    if (net->max_pairs > 1) {
        features |= BIT64(VIRTIO_NET_F_MQ);
    }
    if (net->mtu) {
        features |= BIT64(VIRTIO_NET_F_MTU);
    }
    if (iod_option_bool(options, "offloads")) {
        uint64_t receive = receive_features(limits->gives);

        features |= send_features(limits->takes) | receive;
        features |= receive ? BIT64(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) : 0;
    }
    return features;
}

static void net_config_read(void *self, void *config)
{
    const struct net *net = self;
    const struct net_regs *regs = iod_regs(net->device);
    struct virtio_net_config out = {
        .status = (uint16_t)((net->link ? VIRTIO_NET_S_LINK_UP : 0) |
                             (regs->announce ? VIRTIO_NET_S_ANNOUNCE : 0)),
        .max_virtqueue_pairs = (uint16_t)net->max_pairs,
        .mtu = regs->mtu,
    };

    memcpy(out.mac, regs->mac, sizeof(out.mac));
    memcpy(config, &out, CONFIG_SIZE);
}

/* Only drivers from before VERSION_1 write it, and only the address. */
static void net_config_write(void *self, unsigned offset, const void *bytes, unsigned length)
{
    struct net *net = self;
    struct net_regs *regs = iod_regs(net->device);

    if (has(net, VIRTIO_F_VERSION_1) || offset + length > sizeof(regs->mac)) {
        iod_guest_error(net->device, "a write of %u bytes to its configuration at %u", length, offset);
        return;
    }
    memcpy(regs->mac + offset, bytes, length);
}

int net_apply_offloads(struct net *net)
{
    const struct net_regs *regs = iod_regs(net->device);
    uint32_t wanted = features_receive(regs->offloads & iod_virtio_features(net->virtio));

    return iod_netdev_limits(net->netdev)->gives ? iod_netdev_set_offloads(net->netdev, wanted) : 0;
}

/* What the negotiated features mean, once and for all; the rest is in regs, for it may have been loaded. */
static int net_driver_ok(void *self)
{
    struct net *net = self;
    const struct net_regs *regs = iod_regs(net->device);
    uint64_t features = iod_virtio_features(net->virtio);
    int result;

    net->mergeable = features & BIT64(VIRTIO_NET_F_MRG_RXBUF);
    net->header = net->mergeable || (features & BIT64(VIRTIO_F_VERSION_1)) ? IOD_NET_HEADER : LEGACY_HEADER;
    net->vlan_filter = features & BIT64(VIRTIO_NET_F_CTRL_VLAN);
    net->frame_max = features & BIT64(VIRTIO_NET_F_MTU) ? regs->mtu + FRAME_OVERHEAD : IOD_NET_FRAME_MAX;
    result = net->max_pairs > 1 ? iod_netdev_set_pairs(net->netdev, regs->pairs) : 0;
    return result < 0 ? result : net_apply_offloads(net);
}

/* Behind all others. */
static unsigned control_index(const struct net *net)
{
    return 2 * (has(net, VIRTIO_NET_F_MQ) ? net->max_pairs : 1);
}

static void net_notify(void *self, unsigned index)
{
    struct net *net = self;
    unsigned control = control_index(net);

    if (index == control && has(net, VIRTIO_NET_F_CTRL_VQ)) {
        net_control(net, iod_virtio_queue(net->virtio, index));
    } else if (index >= control) {
        iod_guest_error(net->device, "a notification for queue %u, which no feature brings", index);
    } else if (index % 2) {
        net_transmit(&net->pairs[index / 2]);
    } else {
        net_buffers(&net->pairs[index / 2]);
    }
}

static const struct iod_virtio_class net_virtio = {
    .size = sizeof(struct iod_virtio_class),
    .device_id = 1,
    .pci_class = 0x020000, /* Ethernet controller */
    .config_size = CONFIG_SIZE,
    .queues = QUEUES_MAX,
    .features = net_features,
    .config_read = net_config_read,
    .config_write = net_config_write,
    .driver_ok = net_driver_ok,
    .notify = net_notify,
};

/* ---- what the backend says ---- */

static void net_writable(void *self, unsigned pair)
{
    struct net *net = self;

    for (unsigned i = 0; i < net->count; i++) { /* frames of other pairs may have gone by this one */
        if (net->pairs[i].blocked) {
            net_transmit(&net->pairs[i]);
        }
    }
}

/* Asks the guest to say where it is now: to switches, to neighbours. */
static void announce(struct net *net)
{
    struct net_regs *regs = iod_regs(net->device);

    if (has(net, VIRTIO_NET_F_GUEST_ANNOUNCE) && iod_virtio_live(net->virtio)) {
        regs->announce = 1;
    }
}

static void net_changed(void *self)
{
    struct net *net = self;
    bool link = iod_netdev_limits(net->netdev)->link;

    if (link != net->link || net->loaded) {
        net->link = link;
        net->loaded = false;
        if (link) {
            announce(net);
        }
        iod_virtio_config_changed(net->virtio);
    }
}

/* Goes on where a batch was cut. */
static void go_on(void *self)
{
    struct net *net = self;

    for (unsigned i = 0; i < net->count; i++) {
        if (net->pairs[i].cut) {
            net_transmit(&net->pairs[i]);
        }
    }
    if (net->control_cut) {
        net_control(net, iod_virtio_queue(net->virtio, control_index(net)));
    }
}

/* ---- life ---- */

static bool parse_byte(const char *text, uint8_t *byte)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *high = text[0] ? strchr(digits, text[0]) : NULL;
    const char *low = high && text[1] ? strchr(digits, text[1]) : NULL;

    if (!low) {
        return false;
    }
    *byte = (uint8_t)((high - digits) % 16 * 16 + (low - digits) % 16);
    return true;
}

static int parse_mac(const struct iod_device *device, const char *text, uint8_t *mac, struct iod_error *error)
{
    bool good = strlen(text) == 3 * ETH_ALEN - 1;

    for (unsigned i = 0; good && i < ETH_ALEN; i++) {
        good = parse_byte(text + 3 * i, &mac[i]) && (i == ETH_ALEN - 1 || text[3 * i + 2] == ':');
    }
    if (!good || (mac[0] & 1)) {
        return iod_fail(error, EINVAL,
                        "%s: mac=%s: must be XX:XX:XX:XX:XX:XX in hexadecimal, of one station, no group",
                        iod_device_id(device), text);
    }
    return 0;
}

static int make_queues(struct net *net, struct iod_error *error)
{
    uint16_t sizes[QUEUES_MAX];

    net->pairs = calloc(net->count, sizeof(*net->pairs));
    net->more = iod_task_add(net->device, go_on, net);
    if (!net->pairs || !net->more) {
        return iod_fail(error, ENOMEM, "%s: out of memory", iod_device_id(net->device));
    }
    for (unsigned i = 0; i < 2 * net->count; i++) {
        sizes[i] = net->queue_size;
    }
    sizes[2 * net->count] = CONTROL_QUEUE_SIZE;
    net->virtio = iod_virtio_add(net->device, &net_virtio, 2 * net->count + 1, sizes, error);
    if (!net->virtio) {
        return -(error->code ? error->code : EINVAL);
    }
    for (unsigned i = 0; i < net->count; i++) {
        net->pairs[i] = (struct pair){ .net = net, .index = i,
                                       .receive = iod_virtio_queue(net->virtio, 2 * i),
                                       .transmit = iod_virtio_queue(net->virtio, 2 * i + 1) };
    }
    return 0;
}

static int net_create(struct iod_device *device, struct iod_error *error)
{
    static const struct iod_netdev_events events = {
        .size = sizeof(struct iod_netdev_events),
        .receive = net_receive,
        .receive_end = net_receive_end,
        .writable = net_writable,
        .changed = net_changed,
    };
    const struct iod_options *options = iod_device_options(device);
    const char *mac = iod_option_string(options, "mac");
    unsigned mtu = (unsigned)iod_option_number(options, "mtu");
    struct net *net = iod_self(device);

    net->device = device;
    net->count = net->max_pairs = (unsigned)iod_option_number(options, "pairs");
    net->queue_size = (uint16_t)iod_option_number(options, "queue-size");
    if (net->queue_size & (net->queue_size - 1)) {
        return iod_fail(error, EINVAL, "%s: queue-size=%u: must be a power of two", iod_device_id(device),
                        net->queue_size);
    }
    if (mtu && mtu < ETH_MIN_MTU) {
        return iod_fail(error, EINVAL, "%s: mtu=%u: must be from %u to 65535, or 0", iod_device_id(device),
                        mtu, ETH_MIN_MTU);
    }
    if (mac && parse_mac(device, mac, net->mac, error) < 0) {
        return -EINVAL;
    }
    net->netdev = iod_netdev_attach(device, "netdev", "tap", net->count, &events, net, error);
    if (!net->netdev) {
        return -(error->code ? error->code : EINVAL);
    }
    return make_queues(net, error);
}

static void choose_mac(struct net *net)
{
    if (!iod_option_string(iod_device_options(net->device), "mac")) {
        iod_random(net->device, net->mac, sizeof(net->mac));
        net->mac[0] = (uint8_t)((net->mac[0] & ~3u) | 2u); /* locally administered, one station's */
        iod_log(net->device, IOD_LOG_INFO,
                "address %02x:%02x:%02x:%02x:%02x:%02x, drawn by lot (mac= gives one that stays)",
                net->mac[0], net->mac[1], net->mac[2], net->mac[3], net->mac[4], net->mac[5]);
    }
}

static void net_reset(struct iod_device *device)
{
    struct net *net = iod_self(device);
    struct net_regs *regs = iod_regs(device);

    regs->offloads = UINT64_MAX;
    regs->rx_mode = 1u << VIRTIO_NET_CTRL_RX_PROMISC; /* a driver that can't set a filter gets all */
    memcpy(regs->mac, net->mac, sizeof(regs->mac));
    memcpy(regs->own_mac, net->mac, sizeof(regs->own_mac));
    regs->pairs = 1;
    regs->max_pairs = (uint16_t)net->max_pairs;
    regs->mtu = net->mtu;
}

static int net_open(struct iod_device *device, struct iod_error *error)
{
    struct net *net = iod_self(device);
    const struct iod_netdev_limits *limits = iod_netdev_limits(net->netdev);

    if (limits->pairs < net->count) {
        iod_log(device, IOD_LOG_WARNING, "pairs=%u: its backend serves %u", net->count, limits->pairs);
        net->max_pairs = limits->pairs ? limits->pairs : 1;
    }
    net->mtu = (uint16_t)iod_option_number(iod_device_options(device), "mtu");
    if (net->mtu == 0 && limits->mtu >= ETH_MIN_MTU) {
        net->mtu = limits->mtu;
    }
    net->link = limits->link;
    choose_mac(net);
    net_reset(device); /* the registers as they are with what is known only now */
    return 0;
}

static void net_start(struct iod_device *device)
{
    struct net *net = iod_self(device);

    net->started = true;
    net_changed(net); /* what happened while it was stopped */
}

static enum iod_when net_quiesce(struct iod_device *device, enum iod_drain drain)
{
    struct net *net = iod_self(device);

    iod_task_cancel(net->more);
    net->control_cut = false;
    for (unsigned i = 0; i < net->count; i++) { /* after a start the transport looks at all queues */
        net->pairs[i].accepting = net->pairs[i].blocked = net->pairs[i].cut = false;
    }
    return IOD_NOW;
}

static int net_load(struct iod_device *device, struct iod_reader *reader, struct iod_error *error)
{
    struct net *net = iod_self(device);
    const struct net_regs *regs = iod_regs(device);

    if (regs->max_pairs != net->max_pairs) {
        return iod_fail(error, EINVAL, "saved state of %s: the guest was told of %u queue pairs, here are %u",
                        iod_device_id(device), regs->max_pairs, net->max_pairs);
    }
    if (regs->mtu != net->mtu && regs->mtu != 0 && net->mtu != 0) {
        iod_log(device, IOD_LOG_WARNING, "the guest was told of an MTU of %u, here it is %u", regs->mtu,
                net->mtu);
    }
    memcpy(net->mac, regs->own_mac, sizeof(net->mac));
    net->loaded = true;
    return 0;
}

static void log_counters(const struct net *net)
{
    const struct net_counters *c = &net->counters;
    const struct iod_netdev_counters *backend = iod_netdev_counters(net->netdev);

    iod_log(net->device, IOD_LOG_INFO,
            "received %llu frames, sent %llu; waited for buffers %llu times; received and dropped: "
            "filtered %llu, too long %llu, bad %llu, by the backend %llu; not sent: bad %llu, "
            "by the backend %llu",
            (unsigned long long)c->received, (unsigned long long)c->sent, (unsigned long long)c->waited,
            (unsigned long long)c->filtered, (unsigned long long)c->receive_long,
            (unsigned long long)c->receive_bad, (unsigned long long)backend->receive_dropped,
            (unsigned long long)c->send_bad, (unsigned long long)backend->send_dropped);
}

static void net_destroy(struct iod_device *device)
{
    struct net *net = iod_self(device);

    if (net->started) {
        log_counters(net);
    }
    free(net->pairs);
}

/* ---- what is saved ---- */

static bool valid_pairs(const void *self)
{
    const struct net_regs *regs = self;

    return regs->pairs >= 1 && regs->pairs <= regs->max_pairs;
}

static bool valid_table(const void *self)
{
    const struct net_regs *regs = self;

    return regs->unicast + regs->multicast <= (int)MAC_TABLE_MAX &&
           regs->overflow <= (OVERFLOW_UNICAST | OVERFLOW_MULTICAST);
}

static bool valid_mode(const void *self)
{
    const struct net_regs *regs = self;

    return regs->rx_mode < 2u << VIRTIO_NET_CTRL_RX_NOBCAST && regs->announce <= 1;
}

static const struct iod_field net_fields[] = {
    IOD_FIELD(struct net_regs, offloads, 1),
    IOD_FIELD_ARRAY(struct net_regs, vlans, 1),
    IOD_FIELD_ARRAY(struct net_regs, macs, 1),
    IOD_FIELD(struct net_regs, mac, 1),
    IOD_FIELD(struct net_regs, own_mac, 1),
    IOD_FIELD_CHECKED(struct net_regs, pairs, 1, valid_pairs),
    IOD_FIELD(struct net_regs, max_pairs, 1),
    IOD_FIELD(struct net_regs, mtu, 1),
    IOD_FIELD_CHECKED(struct net_regs, unicast, 1, valid_table),
    IOD_FIELD_CHECKED(struct net_regs, multicast, 1, valid_table),
    IOD_FIELD_CHECKED(struct net_regs, overflow, 1, valid_table),
    IOD_FIELD_CHECKED(struct net_regs, rx_mode, 1, valid_mode),
    IOD_FIELD_CHECKED(struct net_regs, announce, 1, valid_mode),
    { .name = NULL },
};

/* ---- the class ---- */

static const struct iod_option net_options[] = {
    { .name = "mac", .type = IOD_OPTION_STRING,
      .help = "the guest's address, XX:XX:XX:XX:XX:XX (default: drawn by lot each time, and logged)" },
    { .name = "pairs", .type = IOD_OPTION_NUMBER, .fallback = "1", .min = 1, .max = IOD_NET_PAIRS_MAX,
      .help = "pairs of queues that the guest may use (its backend must serve as many)" },
    { .name = "queue-size", .type = IOD_OPTION_NUMBER, .fallback = "256", .min = 4, .max = QUEUE_SIZE_MAX,
      .help = "largest size of a queue, a power of two" },
    { .name = "mtu", .type = IOD_OPTION_NUMBER, .fallback = "0", .max = UINT16_MAX,
      .help = "MTU that the guest is told, from 68 (0: the backend's, if it is known)" },
    { .name = "offloads", .type = IOD_OPTION_BOOL, .fallback = "on",
      .help = "offer the checksum and segmentation offloads that the backend has" },
    { .name = "mrg", .type = IOD_OPTION_BOOL, .fallback = "on", .help = "offer mergeable receive buffers" },
    { .name = "announce", .type = IOD_OPTION_BOOL, .fallback = "on",
      .help = "ask the guest to announce itself when it has moved or its link comes back" },
    { .name = NULL },
};

static const struct iod_counter net_counters[] = {
    { "received-waits", offsetof(struct net, counters.waited) },
    { "received-filtered", offsetof(struct net, counters.filtered) },
    { "received-too-long", offsetof(struct net, counters.receive_long) },
    { "received-bad", offsetof(struct net, counters.receive_bad) },
    { "sent-bad", offsetof(struct net, counters.send_bad) },
    { .name = NULL },
};

static const struct iod_device_class net_class = {
    .size = sizeof(struct iod_device_class),
    .name = "virtio-net",
    .summary = "virtio network card (PCI or MMIO)",
    .backends = IOD_BACKEND_NETDEV,
    .counters = net_counters,
    .self_size = sizeof(struct net),
    .regs_size = sizeof(struct net_regs),
    .version = 1,
    .options = net_options,
    .fields = net_fields,
    .create = net_create,
    .open = net_open,
    .start = net_start,
    .quiesce = net_quiesce,
    .reset = net_reset,
    .load = net_load,
    .destroy = net_destroy,
};

static const struct iod_device_class *const net_devices[] = { &net_class, NULL };

IOD_MODULE(virtio_net) = {
    .size = sizeof(struct iod_module),
    .abi = IOD_ABI,
    .devices = net_devices,
};
