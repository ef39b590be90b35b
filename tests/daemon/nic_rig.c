/* SPDX-License-Identifier: BSD-2-Clause */
#include "nic_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/if_ether.h>

#define HOST_HEADER sizeof(struct virtio_net_hdr) /* of a packet socket: without num_buffers */

const uint8_t nic_mac[6] = {0x02, 0, 0, 0, 0, 0x01}, nic_host_mac[6] = {0x02, 0, 0, 0, 0, 0x02};

struct place {
    const char *name;
    enum mock_profile profile;
    const char *keys;
    enum virtio_interrupt interrupt;
    uint64_t base; /* 0: PCI */
    unsigned line;
};

static const struct place places[NIC_PLACES] = {
    [NIC_PCI_HVM] = {"pci hvm", MOCK_HVM, "bus=pci,addr=5", VIRTIO_MSIX, 0, 0},
    [NIC_MMIO_ARM] = {"mmio arm64", MOCK_ARM64, "bus=mmio,base=0x2000000,irq=33", VIRTIO_SPI, 0x2000000, 33},
    [NIC_MMIO_LEGACY_ARM] = {"mmio-legacy arm64", MOCK_ARM64, "bus=mmio-legacy,base=0x2000000,irq=33", VIRTIO_SPI,
                             0x2000000, 33},
    [NIC_MMIO_PVH] = {"mmio pvh", MOCK_PVH, "bus=mmio,base=0xd0000000,irq=none", VIRTIO_POLL, 0xd0000000, 0},
};

const char *nic_enter_namespace(void)
{
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tun < 0) {
        return "/dev/net/tun can't be opened";
    }
    close(tun);
    if (unshare(CLONE_NEWNET)) {
        return "no right to a network namespace";
    }
    /* The kernel's own frames (router solicitations) would come between the tests'. */
    int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1", 1);
        close(fd);
    }
    return NULL;
}

/* ---- the host's end ---- */

static void open_host(struct nic_rig *rig)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)if_nametoindex(NIC_TAP)};
    int one = 1, room = 16 << 20;
    ck_assert_msg(address.sll_ifindex > 0, "there is no %s", NIC_TAP);
    rig->host = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(rig->host, 0);
    ck_assert_int_eq(setsockopt(rig->host, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)), 0);
    ck_assert_int_eq(setsockopt(rig->host, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)), 0);
    ck_assert_int_eq(setsockopt(rig->host, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)), 0);
    ck_assert_int_eq(setsockopt(rig->host, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)), 0);
    ck_assert_int_eq(bind(rig->host, (struct sockaddr *)&address, sizeof(address)), 0);
}

int nic_host_send(struct nic_rig *rig, const struct virtio_net_hdr_v1 *header, const uint8_t *frame, size_t length)
{
    static const struct virtio_net_hdr_v1 plain;
    struct iovec iov[] = {{(void *)(uintptr_t)(header ? header : &plain), HOST_HEADER},
                          {(void *)(uintptr_t)frame, length}};
    ssize_t sent = writev(rig->host, iov, 2);
    return sent < 0 ? -errno : 0;
}

int nic_host_receive(struct nic_rig *rig, struct virtio_net_hdr_v1 *header, uint8_t *frame, size_t room, int timeout_ms)
{
    struct pollfd poller = {.fd = rig->host, .events = POLLIN};
    struct iovec iov[] = {{header, HOST_HEADER}, {frame, room}};
    if (poll(&poller, 1, timeout_ms) <= 0) {
        return -ETIMEDOUT;
    }
    ssize_t got = readv(rig->host, iov, 2);
    if (got < 0 && errno == ENETDOWN) { /* said once; what came before is still there */
        got = readv(rig->host, iov, 2);
    }
    return got < 0 ? -errno : (int)(got - (ssize_t)HOST_HEADER);
}

static void interface_ioctl(unsigned long request, struct ifreq *asked)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(asked->ifr_name, sizeof(asked->ifr_name), NIC_TAP);
    ck_assert_int_eq(ioctl(fd, request, asked), 0);
    close(fd);
}

void nic_host_link(struct nic_rig *rig, bool up)
{
    struct ifreq asked = {0};
    interface_ioctl(SIOCGIFFLAGS, &asked);
    asked.ifr_flags = (short)(up ? asked.ifr_flags | IFF_UP : asked.ifr_flags & ~IFF_UP);
    interface_ioctl(SIOCSIFFLAGS, &asked);
    int error;
    socklen_t length = sizeof(error);
    /* Taken: "the network is down", or the next send would say it. */
    getsockopt(rig->host, SOL_SOCKET, SO_ERROR, &error, &length);
}

void nic_host_mtu(struct nic_rig *rig, int mtu)
{
    struct ifreq asked = {.ifr_mtu = mtu};
    interface_ioctl(SIOCSIFMTU, &asked);
    (void)rig;
}

/* ---- life ---- */

void nic_attach(struct nic_rig *rig)
{
    const struct place *where = &places[rig->place];
    struct virtio_arena arena =
        virtio_arena_make(rig->f.guest, mock_ram_base(rig->f.guest) + NIC_ARENA_OFFSET, NIC_ARENA_SIZE);
    int result;
    open_host(rig);
    if (where->base) {
        result = virtio_mmio_open(&rig->driver, rig->f.guest, 0, where->base, VIRTIO_ID_NETWORK_CARD, where->interrupt,
                                  where->line, arena);
    } else {
        result = virtio_pci_open(&rig->driver, rig->f.guest, 0, 5 << 3, VIRTIO_ID_NETWORK_CARD, where->interrupt,
                                 0xe0000000, arena);
    }
    ck_assert_msg(result == 0, "%s: the driver found no card: %s", where->name, strerror(-result));
}

void nic_open(struct nic_rig *rig, enum nic_place place, const char *options)
{
    const struct place *where = &places[place];
    char spec[400];
    memset(rig, 0, sizeof(*rig));
    rig->place = place;
    fixture_start(&rig->f, where->profile, 2);
    snprintf(spec, sizeof(spec), "virtio-net,id=nic,mac=02:00:00:00:00:01,ifname=%s,%s%s", NIC_TAP,
             where->keys, options);
    fixture_run(&rig->f, "--exit-when-gone", "--device", spec, NULL);
    nic_attach(rig);
}

void nic_start(struct nic_rig *rig, enum nic_place place, const char *options, uint64_t features, unsigned buffers,
               uint32_t length)
{
    nic_open(rig, place, options);
    int result = virtio_net_start(&rig->net, &rig->driver, features, 1, 0);
    ck_assert_msg(result == 0, "%s: the card does not start: %s", places[place].name, strerror(-result));
    ck_assert_int_eq(virtio_net_fill(&rig->net, 0, buffers, length), 0);
}

void nic_abandon(struct nic_rig *rig)
{
    virtio_net_finish(&rig->net);
    virtio_close(&rig->driver);
    close(rig->host);
    fixture_stop(&rig->f);
}

void nic_stop(struct nic_rig *rig)
{
    ck_assert_msg(mock_daemon_wait(rig->f.daemon, 0, NULL) == -ETIMEDOUT, "ioreqd is gone:\n%s",
                  mock_daemon_log(rig->f.daemon));
    nic_abandon(rig);
}

/* ---- frames ---- */

static uint8_t pattern(size_t at, uint32_t number)
{
    return (uint8_t)(at * 13 + at / 251 + number * 7);
}

void nic_frame(uint8_t *frame, size_t length, const uint8_t *to, uint32_t number)
{
    memcpy(frame, to, 6);
    memcpy(frame + 6, to == nic_mac ? nic_host_mac : nic_mac, 6);
    frame[12] = NIC_TYPE >> 8;
    frame[13] = NIC_TYPE & 0xff;
    for (size_t i = 14; i < length; i++) {
        frame[i] = i < 18 ? (uint8_t)(number >> 8 * (i - 14)) : pattern(i, number);
    }
}

void nic_expect_frame(const uint8_t *frame, size_t length, size_t expected, uint32_t number)
{
    ck_assert_uint_eq(length, expected);
    for (size_t i = 12; i < length; i++) {
        uint8_t right = i < 14 ? (uint8_t)(i == 12 ? NIC_TYPE >> 8 : NIC_TYPE & 0xff)
                        : i < 18 ? (uint8_t)(number >> 8 * (i - 14)) : pattern(i, number);
        if (frame[i] != right) { /* one assertion a frame: Check writes a message at each */
            ck_abort_msg("frame %u of %zu bytes: byte %zu is 0x%x; expected 0x%x", number, length, i, frame[i], right);
        }
    }
}

static uint16_t ip_sum(const void *bytes, size_t length, uint32_t sum)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i + 1 < length; i += 2) {
        sum += (uint32_t)(at[i] << 8 | at[i + 1]);
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)sum;
}

size_t nic_tcp_frame(uint8_t *frame, const uint8_t *to, size_t payload, uint16_t mss, struct virtio_net_hdr_v1 *header)
{
    const size_t headers = ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr), whole = headers + payload;
    nic_frame(frame, whole, to, (uint32_t)payload);
    frame[12] = 0x08;
    frame[13] = 0x00;
    struct iphdr ip = {.version = 4, .ihl = 5, .tot_len = htons((uint16_t)(whole - ETH_HLEN)), .ttl = 64,
                       .protocol = IPPROTO_TCP, .saddr = htonl(0x0a000001), .daddr = htonl(0x0a000002)};
    struct tcphdr tcp = {.source = htons(1000), .dest = htons(2000), .seq = htonl(1), .doff = 5, .ack = 1,
                         .window = htons(1024)};
    ip.check = htons((uint16_t)~ip_sum(&ip, sizeof(ip), 0));
    /* The sum over the pseudo header, as whoever fills in the rest expects it. */
    tcp.check = htons(ip_sum(&ip.saddr, 8, IPPROTO_TCP + (uint32_t)(sizeof(tcp) + payload)));
    memcpy(frame + ETH_HLEN, &ip, sizeof(ip));
    memcpy(frame + ETH_HLEN + sizeof(ip), &tcp, sizeof(tcp));
    *header = (struct virtio_net_hdr_v1){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = payload > mss ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_NONE,
        .hdr_len = payload > mss ? (uint16_t)headers : 0,
        .gso_size = payload > mss ? mss : 0,
        .csum_start = ETH_HLEN + sizeof(ip),
        .csum_offset = offsetof(struct tcphdr, check),
    };
    return whole;
}

void nic_expect_works(struct nic_rig *rig)
{
    uint8_t frame[1200], got[2000];
    struct virtio_net_hdr_v1 header;
    int length;
    nic_frame(frame, sizeof(frame), nic_mac, 77);
    ck_assert_int_eq(nic_host_send(rig, NULL, frame, sizeof(frame)), 0);
    length = virtio_net_receive(&rig->net, 0, &header, got, sizeof(got), VIRTIO_TIMEOUT_MS);
    ck_assert_int_gt(length, 0);
    nic_expect_frame(got, (size_t)length, sizeof(frame), 77);
    nic_frame(frame, sizeof(frame), nic_host_mac, 78);
    ck_assert_int_eq(virtio_net_send(&rig->net, 0, NULL, frame, sizeof(frame)), 0);
    length = nic_host_receive(rig, &header, got, sizeof(got), VIRTIO_TIMEOUT_MS);
    ck_assert_int_gt(length, 0);
    nic_expect_frame(got, (size_t)length, sizeof(frame), 78);
}
