/* SPDX-License-Identifier: BSD-2-Clause */
/* The netdev "tap" on real taps and bridges, in a network namespace of each test's own. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netdev_rig.h"

#define NAME "vif7.32-emu" /* what a tap of the fake guest is called */

/* ---- what goes to the kernel ---- */

static struct { unsigned reads, writes, allocations, fail_at, failed; } calls;

ssize_t read(int fd, void *to, size_t length)
{
    calls.reads++;
    return syscall(SYS_read, fd, to, length);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    calls.writes++;
    return syscall(SYS_writev, fd, iov, count);
}

#ifndef __SANITIZE_ADDRESS__
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *malloc(size_t size);
void *calloc(size_t count, size_t size);

static bool allocation_fails(void)
{
    bool fails = ++calls.allocations == calls.fail_at;
    calls.failed += fails;
    return fails;
}

void *malloc(size_t size)
{
    return allocation_fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return allocation_fails() ? NULL : __libc_calloc(count, size);
}
#endif

/* ---- the host ---- */

__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
    char command[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    return system(command);
}

static void must(const char *command)
{
    ck_assert_msg(run("%s", command) == 0, "failed: %s", command);
}

static void private_network(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    run("echo 1 2>/dev/null >/proc/sys/net/ipv6/conf/default/disable_ipv6"); /* it would talk on new interfaces */
    nic_probe = NULL;
    nic_pairs = 1;
    nic_waits = false;
}

static bool shows(const char *name, const char *what)
{
    return run("ip -o link show %s 2>/dev/null | grep -q -e '%s'", name, what) == 0;
}

/* The host's end: whatever goes over this interface. */
static int host_open(const char *name, bool headers)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htobe16(0x0003));
    struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htobe16(0x0003),
                                   .sll_ifindex = (int)if_nametoindex(name) };
    int on = headers;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_gt(address.sll_ifindex, 0);
    ck_assert_int_eq(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void host_send(int fd, unsigned number, size_t length)
{
    uint8_t frame[9000];
    frame_fill(frame, length, number);
    ck_assert_int_eq(send(fd, frame, length, 0), (ssize_t)length);
}

/* The next frame that came in from the guest's side; 0: none. */
static size_t host_take(int fd, uint8_t *frame, size_t room)
{
    for (;;) {
        struct sockaddr_ll from;
        socklen_t size = sizeof(from);
        ssize_t got = recvfrom(fd, frame, room, MSG_TRUNC, (struct sockaddr *)&from, &size);
        if (got < 0) {
            ck_assert_int_eq(errno, EAGAIN);
            return 0;
        }
        if (from.sll_pkttype != PACKET_OUTGOING) {
            return (size_t)got;
        }
    }
}

static int tap_open_(const char *name, unsigned flags)
{
    struct ifreq request = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags) };
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    memcpy(request.ifr_name, name, strlen(name) + 1);
    ck_assert_int_eq(ioctl(fd, TUNSETIFF, &request), 0);
    return fd;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Its last script may still be at work. */
static void await_gone(const char *name)
{
    for (unsigned i = 0; i < 500 && shows(name, "mtu"); i++) {
        poll(NULL, 0, 10);
    }
    ck_assert(!shows(name, "mtu"));
}

/* ---- interfaces ---- */

START_TEST(made_and_gone)
{
    struct fake_xen *first = nic_start("netdev=tap");
    ck_assert(shows(NAME, "UP"));
    ck_assert(iod_netdev_limits(nic->netdev)->link);
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->mtu, 1500);
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->pairs, 1);
    ck_assert_uint_ne(iod_netdev_limits(nic->netdev)->takes & IOD_NET_TSO4, 0);
    must("ip tuntap add dev vif7.33-emu mode tap"); /* a name that somebody else took */
    struct fake_xen *second = nic_start("netdev=tap");
    ck_assert(shows("vif7.34-emu", "UP"));
    nic_stop(second);
    ck_assert(!shows("vif7.34-emu", "emu"));
    fake_stop(first);
    ck_assert(!shows(NAME, "emu"));
}
END_TEST

START_TEST(names_and_settings)
{
    struct fake_xen *fake = nic_start("netdev=tap,ifname=my0,mtu=1400");
    ck_assert(shows("my0", "mtu 1400"));
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->mtu, 1400);
    nic_stop(fake);
    nic_fails("netdev=tap,ifname=a/b", "expected an interface's name");
    nic_fails("netdev=tap,ifname=tap%d", "expected an interface's name");
    nic_fails("netdev=tap,ifname=longerthan15char", "1 to 15 characters");
    nic_fails("netdev=tap,mtu=67", "expected 68 to");
    nic_fails("netdev=tap,ifname=lo", "but it is no tap");
}
END_TEST

START_TEST(existing_is_kept)
{
    must("ip link add br0 type bridge && ip link set br0 up && ip tuntap add dev t0 mode tap && ip link set t0 up");
    struct fake_xen *fake = nic_start("netdev=tap,ifname=t0,bridge=br0");
    ck_assert(shows("t0", "master br0"));
    ck_assert(iod_netdev_limits(nic->netdev)->link);
    ck_assert_int_eq(fake_logged(fake, "network at tap t0, which was there"), 1);
    nic_fails("netdev=tap,ifname=t0", "tap t0: another process uses it");
    ck_assert(shows("t0", "master br0"));
    fake_stop(fake);
    ck_assert(shows("t0", "mtu 1500"));
    ck_assert(!shows("t0", "master"));
    int fd = tap_open_("t0", IFF_VNET_HDR), size = 0;
    ck_assert_int_eq(ioctl(fd, TUNGETVNETHDRSZ, &size), 0);
    ck_assert_int_eq(size, 10); /* as it was */
    close(fd);
    must("ip link set t0 master br0"); /* one that is in the bridge already stays in it */
    fake = nic_start("netdev=tap,ifname=t0,bridge=br0");
    nic_stop(fake);
    ck_assert(shows("t0", "master br0"));
}
END_TEST

/* A tap that lives by another process's descriptor, also one that would let us into its queues. */
START_TEST(others_are_left_alone)
{
    int one = tap_open_("o0", 0), many = tap_open_("o1", IFF_MULTI_QUEUE);
    nic_fails("netdev=tap,ifname=o0", "tap o0: another process uses it");
    nic_fails("netdev=tap,ifname=o1", "tap o1: another process uses it");
    nic_pairs = 2;
    nic_fails("netdev=tap,ifname=o1", "tap o1: another process uses it");
    must("ip link set o1 up");
    nic_fails("netdev=tap,ifname=o1", "tap o1: another process uses it");
    ck_assert(shows("o1", "mtu"));
    close(one);
    close(many);
}
END_TEST

START_TEST(bridge_port)
{
    uint8_t frame[2000];
    must("ip link add br0 type bridge && ip link set br0 mtu 9000 up");
    struct fake_xen *fake = nic_start("netdev=tap,bridge=br0");
    ck_assert(shows(NAME, "master br0"));
    ck_assert(shows(NAME, "mtu 9000"));
    ck_assert(shows(NAME, "fe:ff:ff:ff:ff:ff"));
    ck_assert(shows("br0", "mtu 9000"));
    int host = host_open("br0", false);
    frame_fill(frame, 1000, 1);
    memset(frame, 0xff, 6);
    ck_assert_int_eq(nic_send(0, NULL, frame, 1000), 0);
    ck_assert_uint_eq(host_take(host, frame, sizeof(frame)), 1000);
    ck_assert(frame_good(frame, 1000, 1));
    host_send(host, 2, 1200); /* to nobody the bridge knows: goes to all ports */
    nic_await(fake, &nic->received, 1);
    ck_assert(frame_good(nic_last()->bytes, 1200, 2));
    nic_stop(fake);
    nic_fails("netdev=tap,bridge=nobridge", "bridge=nobridge: there is no such interface");
    nic_fails("netdev=tap,bridge=lo", "bridge=lo: is no bridge");
    ck_assert(!shows(NAME, "emu"));
}
END_TEST

/* ---- frames ---- */

START_TEST(frames_both_ways)
{
    static uint8_t frame[9000];
    struct fake_xen *fake = nic_start("netdev=tap,mtu=8000");
    int host = host_open(NAME, false);
    for (unsigned i = 0; i < 200; i++) {
        size_t length = 14 + i * 40;
        frame_fill(frame, length, i);
        ck_assert_int_eq(nic_send(0, NULL, frame, length), 0);
        memset(frame, 0, sizeof(frame));
        ck_assert_uint_eq(host_take(host, frame, sizeof(frame)), length);
        ck_assert(frame_good(frame, length, i));
        host_send(host, i, length);
        nic_await(fake, &nic->received, i + 1);
        ck_assert_uint_eq(nic_last()->length, IOD_NET_HEADER + length);
        ck_assert(frame_good(nic_last()->bytes, length < NIC_SHORT ? length : NIC_SHORT, i));
        ck_assert_uint_eq(bytes_sum((const uint8_t *)&nic_last()->header, IOD_NET_HEADER),
                          bytes_sum((const uint8_t[IOD_NET_HEADER]){ 0 }, IOD_NET_HEADER));
    }
    ck_assert_uint_eq(nic_counters()->sent, 200);
    ck_assert_uint_eq(nic_counters()->received, 200);
    ck_assert_uint_eq(nic_counters()->sent_bytes, nic_counters()->received_bytes);
    ck_assert_uint_eq(nic_counters()->send_dropped + nic_counters()->receive_dropped, 0);
    nic_stop(fake);
}
END_TEST

/* A guest without buffers: the frames wait, in order, and none is lost. */
START_TEST(receive_waits)
{
    struct fake_xen *fake = nic_start("netdev=tap");
    int host = host_open(NAME, false);
    nic->room = 3;
    for (unsigned i = 0; i < 100; i++) {
        host_send(host, i, 100 + i);
    }
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(nic->received, 3);
    ck_assert_uint_eq(nic->refused, 1); /* asked once, then left alone */
    double before = cpu_seconds();
    fake_run_ms(fake, 200);
    ck_assert(cpu_seconds() - before < 0.1);
    nic_take(0, 1);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(nic->received, 4);
    ck_assert_uint_eq(nic->refused, 2);
    nic_take(0, UINT32_MAX);
    nic_await(fake, &nic->received, 100);
    for (unsigned i = 100 - NIC_KEPT; i < 100; i++) {
        ck_assert_uint_eq(nic->frames[i % NIC_KEPT].length, IOD_NET_HEADER + 100 + i);
        ck_assert(frame_good(nic->frames[i % NIC_KEPT].bytes, 100 + i, i));
    }
    ck_assert_uint_eq(nic_counters()->receive_dropped, 0);
    nic_stop(fake);
}
END_TEST

/* More than the host keeps for it: the host drops, and we say so. */
START_TEST(host_drops)
{
    struct fake_xen *fake = nic_start("netdev=tap");
    int host = host_open(NAME, false);
    must("ip link set " NAME " txqueuelen 50");
    nic->room = 0;
    for (unsigned i = 0; i < 200; i++) {
        host_send(host, i, 100);
        if (i % 20 == 0) {
            fake_run_ms(fake, 1);
        }
    }
    uint64_t dropped = nic_counters()->receive_dropped;
    ck_assert_uint_ge(dropped, 100);
    ck_assert_uint_eq(nic_counters()->receive_dropped, dropped); /* once */
    nic_take(0, UINT32_MAX);
    nic_await(fake, &nic->received, 200 - (unsigned)dropped);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(nic->received + dropped, 200);
    nic_stop(fake);
}
END_TEST

static void set_true(void *self)
{
    *(bool *)self = true;
}

START_TEST(stopped_hears_nothing)
{
    bool quiet = false;
    struct device_stop stop;
    struct fake_xen *fake = nic_start("netdev=tap");
    int host = host_open(NAME, false);
    nic->room = 1;
    host_send(host, 1, 100);
    host_send(host, 2, 100); /* refused, and kept */
    nic_await(fake, &nic->refused, 1);
    nic->room = UINT32_MAX;
    device_stop(nic->device, &stop, IOD_CANCEL, set_true, &quiet);
    ck_assert(quiet);
    host_send(host, 3, 100);
    fake_run_ms(fake, 30);
    ck_assert_uint_eq(nic->received, 1);
    device_resume(nic->device);
    nic_await(fake, &nic->received, 3);
    ck_assert(frame_good(nic->frames[1].bytes, 100, 2) && frame_good(nic->frames[2].bytes, 100, 3));
    nic_stop(fake);
}
END_TEST

/* One read a frame and one more a batch, one write a frame, one receive_end a batch, no memory; and a turn ends. */
START_TEST(cost_of_a_frame)
{
    uint8_t frame[100];
    nic_waits = true;
    struct fake_xen *fake = nic_start("netdev=tap");
    int host = host_open(NAME, false);
    for (unsigned i = 0; i < 200; i++) {
        host_send(host, i, 100);
    }
    calls.reads = calls.allocations = 0;
    nic_take(0, UINT32_MAX);
    nic_await(fake, &nic->received, 200);
    ck_assert_uint_ge(nic->ends, 4); /* not more than 64 frames a turn */
    ck_assert_uint_le(nic->ends, 6);
    ck_assert_uint_le(calls.reads, 200 + nic->ends + 20); /* the timer of fake_run reads too */
    frame_fill(frame, sizeof(frame), 0);
    int result = 0;
    calls.writes = calls.allocations = 0;
    for (unsigned i = 0; i < 100; i++) {
        result |= nic_send(0, NULL, frame, sizeof(frame));
    }
    unsigned allocations = calls.allocations; /* a ck_assert has its own */
    ck_assert_int_eq(result, 0);
    ck_assert_uint_eq(allocations, 0);
    ck_assert_uint_eq(calls.writes, 100);
    nic_stop(fake);
}
END_TEST

/* ---- offloads ---- */

/* An IPv4 frame with TCP: 54 bytes of headers. */
static void tcp_fill(uint8_t *frame, size_t length, unsigned port)
{
    uint8_t headers[] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, (uint8_t)((length - 14) >> 8),
                          (uint8_t)(length - 14), 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
                          (uint8_t)(port >> 8), (uint8_t)port, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff };
    frame_fill(frame, length, 1);
    memset(frame, 0, 54);
    memcpy(frame, headers, sizeof(headers));
}

static const struct virtio_net_hdr_v1 tso = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
    .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = 54, .gso_size = 1000, .csum_start = 34, .csum_offset = 16 };

/* 10 bytes of header, as packet sockets have it. */
static void host_send_tso(int fd, size_t length)
{
    static uint8_t whole[10 + 9054];
    memcpy(whole, &tso, 10);
    tcp_fill(whole + 10, length, 1234);
    ck_assert_int_eq(send(fd, whole, 10 + length, 0), (ssize_t)(10 + length));
}

START_TEST(offloads)
{
    static uint8_t frame[10 + 9054];
    uint32_t want = IOD_NET_CSUM | IOD_NET_TSO4;
    struct fake_xen *fake = nic_start("netdev=tap");
    int host = host_open(NAME, true);
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->gives & want, want);
    host_send_tso(host, 54 + 9000);
    nic_await(fake, &nic->received, 9); /* the kernel cuts it and sums it up */
    for (unsigned i = 0; i < 9; i++) {
        ck_assert_uint_eq(nic->frames[i].length, IOD_NET_HEADER + 54 + 1000);
        ck_assert_uint_eq(nic->frames[i].header.flags | nic->frames[i].header.gso_type, 0);
    }
    ck_assert_int_eq(iod_netdev_set_offloads(nic->netdev, want), 0);
    host_send_tso(host, 54 + 9000);
    nic_await(fake, &nic->received, 10);
    ck_assert_uint_eq(nic_last()->length, IOD_NET_HEADER + 54 + 9000);
    ck_assert_uint_eq(nic_last()->header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    ck_assert_uint_eq(nic_last()->header.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
    ck_assert_uint_eq(nic_last()->header.gso_size, 1000);
    ck_assert_uint_eq(nic_last()->header.num_buffers, 0);
    ck_assert_int_eq(iod_netdev_set_offloads(nic->netdev, 0), 0);
    host_send_tso(host, 54 + 2000);
    nic_await(fake, &nic->received, 12);
    /* The other way, with the header kept. */
    tcp_fill(frame, 54 + 5000, 99);
    ck_assert_int_eq(nic_send(0, &tso, frame, 54 + 5000), 0);
    struct virtio_net_hdr header;
    ck_assert_uint_eq(host_take(host, frame, sizeof(frame)), 10 + 54 + 5000);
    memcpy(&header, frame, sizeof(header));
    ck_assert_uint_eq(header.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
    ck_assert_uint_eq(header.gso_size, 1000);
    ck_assert_uint_eq(nic_counters()->send_dropped, 0);
    nic_stop(fake);
}
END_TEST

/* ---- many queues ---- */

static void send_flows(int host, unsigned count)
{
    uint8_t frame[100];
    for (unsigned i = 0; i < count; i++) {
        tcp_fill(frame, sizeof(frame), 1000 + i);
        ck_assert_int_eq(send(host, frame, sizeof(frame), 0), sizeof(frame));
    }
}

static unsigned pairs_used(void)
{
    unsigned used = 0;
    for (unsigned i = 0; i < IOD_NET_PAIRS_MAX; i++) {
        used += nic->of_pair[i] > 0;
    }
    return used;
}

START_TEST(many_queues)
{
    uint8_t frame[100];
    nic_pairs = 4;
    struct fake_xen *fake = nic_start("netdev=tap");
    int host = host_open(NAME, false);
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->pairs, 4);
    send_flows(host, 64);
    nic_await(fake, &nic->received, 64);
    ck_assert_uint_eq(nic->of_pair[0], 64); /* until the guest asks for more */
    ck_assert_int_eq(nic_send(2, NULL, frame, sizeof(frame)), 0);
    ck_assert_uint_eq(nic_counters()->send_dropped, 1);
    ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 4), 0);
    for (unsigned i = 1; i < 4; i++) {
        nic_take(i, UINT32_MAX);
    }
    send_flows(host, 64);
    nic_await(fake, &nic->received, 128);
    ck_assert_uint_ge(pairs_used(), 3);
    frame_fill(frame, sizeof(frame), 1);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(nic_send(i, NULL, frame, sizeof(frame)), 0);
        ck_assert_uint_eq(host_take(host, frame, sizeof(frame)), sizeof(frame));
    }
    ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 1), 0);
    unsigned before = nic->of_pair[0];
    send_flows(host, 64);
    nic_await(fake, &nic->received, 192);
    ck_assert_uint_eq(nic->of_pair[0], before + 64);
    nic_stop(fake);
}
END_TEST

/* What was made without many queues, and the other way round. */
START_TEST(queues_of_existing)
{
    must("ip tuntap add dev single mode tap && ip tuntap add dev many mode tap multi_queue");
    nic_pairs = 4;
    struct fake_xen *fake = nic_start("netdev=tap,ifname=single");
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->pairs, 1);
    send_flows(host_open("single", false), 64);
    nic_await(fake, &nic->received, 64);
    nic_stop(fake);
    fake = nic_start("netdev=tap,ifname=many");
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->pairs, 4);
    nic_stop(fake);
    nic_pairs = 1;
    fake = nic_start("netdev=tap,ifname=many");
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->pairs, 1);
    nic_stop(fake);
    ck_assert(shows("single", "mtu") && shows("many", "mtu"));
}
END_TEST

/* One that another device has already: its queues would take frames away from each other. */
START_TEST(queues_in_use)
{
    must("ip tuntap add dev many mode tap multi_queue");
    nic_pairs = 2;
    struct fake_xen *fake = nic_start("netdev=tap,ifname=many");
    ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 2), 0);
    struct nic *first = nic;
    nic_fails("netdev=tap,ifname=many", "tap many: another process uses it");
    nic = first;
    nic_stop(fake);
    fake = nic_start("netdev=tap,ifname=many"); /* at once again */
    nic_stop(fake);
}
END_TEST

/* ---- what the host does ---- */

/* With sndbuf= the guest waits for a slow network instead of losing frames there. */
START_TEST(send_waits)
{
    uint8_t frame[1000];
    must("ip link add br0 type bridge && ip link add v0 type veth peer name v1 && ip link set v0 master br0 && "
         "ip link set br0 up && ip link set v0 up && ip link set v1 up");
    if (run("tc qdisc add dev v0 root tbf rate 2mbit burst 3000 limit 1000000 2>/dev/null") != 0) {
        fprintf(stderr, "send_waits: skipped: this kernel has no tbf\n");
        return;
    }
    struct fake_xen *fake = nic_start("netdev=tap,bridge=br0,sndbuf=16384");
    int host = host_open("v1", false);
    unsigned taken = 0, arrived = 0;
    do { /* until the bridge forwards */
        frame_fill(frame, 60, 0);
        ck_assert_int_eq(nic_send(0, NULL, frame, 60), 0);
        fake_run_ms(fake, 50);
    } while (host_take(host, frame, sizeof(frame)) == 0);
    for (unsigned round = 0; round < 3; round++) {
        int result;
        for (frame_fill(frame, sizeof(frame), taken); (result = nic_send(0, NULL, frame, sizeof(frame))) == 0;
             frame_fill(frame, sizeof(frame), taken)) {
            taken++;
            ck_assert_uint_lt(taken, 100);
        }
        ck_assert_int_eq(result, -EAGAIN);
        ck_assert_int_eq(nic_send(0, NULL, frame, sizeof(frame)), -EAGAIN);
        unsigned writable = nic->writable;
        nic_await(fake, &nic->writable, writable + 1);
    }
    for (unsigned i = 0; i < 300 && arrived < taken; i++) {
        for (size_t got; (got = host_take(host, frame, sizeof(frame))) > 0;) {
            if (got == sizeof(frame)) { /* not one of the first ones, late */
                ck_assert(frame_good(frame, sizeof(frame), arrived));
                arrived++;
            }
        }
        fake_run_ms(fake, 10);
    }
    ck_assert_uint_eq(arrived, taken);
    ck_assert_uint_eq(nic_counters()->send_dropped, 0);
    frame_fill(frame, sizeof(frame), 0);
    while (nic_send(0, NULL, frame, sizeof(frame)) == 0) {
        taken++;
        ck_assert_uint_lt(taken, 1000);
    }
    unsigned writable = nic->writable;
    must("ip link del " NAME); /* who waits for room need not wait for ever */
    nic_await(fake, &nic->writable, writable + 1);
    ck_assert_int_eq(nic_send(0, NULL, frame, sizeof(frame)), 0);
    ck_assert_uint_eq(nic_counters()->send_dropped, 1);
    nic_stop(fake);
}
END_TEST

START_TEST(link_and_mtu_follow)
{
    uint8_t frame[60];
    struct fake_xen *fake = nic_start("netdev=tap");
    must("ip link set " NAME " down");
    nic_await_link(fake, false);
    ck_assert_uint_eq(nic->changed, 1);
    frame_fill(frame, sizeof(frame), 0);
    ck_assert_int_eq(nic_send(0, NULL, frame, sizeof(frame)), 0);
    ck_assert_uint_eq(nic_counters()->send_dropped, 1);
    must("ip link set " NAME " up mtu 1300");
    nic_await_link(fake, true);
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->mtu, 1300);
    ck_assert_int_eq(nic_send(0, NULL, frame, sizeof(frame)), 0);
    ck_assert_uint_eq(nic_counters()->sent, 1);
    unsigned before = nic->changed;
    must("ip link set lo up && ip tuntap add dev d0 mode tap"); /* others' news */
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(nic->changed, before);
    nic_stop(fake);
}
END_TEST

START_TEST(interface_deleted)
{
    uint8_t frame[60] = { 0 };
    nic_pairs = 2;
    struct fake_xen *fake = nic_start("netdev=tap");
    ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 2), 0);
    must("ip link del " NAME);
    nic_await_link(fake, false);
    ck_assert_int_eq(fake_logged(fake, "tap " NAME " is gone"), 1);
    double before = cpu_seconds();
    fake_run_ms(fake, 200);
    ck_assert(cpu_seconds() - before < 0.1); /* its descriptors are "ready" for ever: nobody looks */
    ck_assert_int_eq(nic_send(0, NULL, frame, sizeof(frame)), 0);
    ck_assert_uint_eq(nic_counters()->send_dropped, 1);
    nic_take(0, 1);
    fake_run_ms(fake, 10);
    ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 1), 0);
    ck_assert_int_eq(iod_netdev_set_offloads(nic->netdev, IOD_NET_CSUM), 0);
    ck_assert_int_eq(fake_logged(fake, "is gone"), 1);
    nic_stop(fake);
}
END_TEST

/* ---- scripts ---- */

static char folder[64];

static const char *script(const char *text)
{
    static char path[96];
    snprintf(folder, sizeof(folder), "/tmp/test_tap.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/script", folder);
    FILE *file = fopen(path, "we");
    fprintf(file, "#!/bin/sh\nin=%s\n%s\n", folder, text);
    fclose(file);
    ck_assert_int_eq(chmod(path, 0755), 0);
    return path;
}

static bool says(const char *name, const char *what)
{
    return run("grep -q -x -e '%s' %s/%s 2>/dev/null", what, folder, name) == 0;
}

static void await_file(const char *name, const char *what)
{
    for (unsigned i = 0; i < 500; i++) {
        if (says(name, what)) {
            return;
        }
        poll(NULL, 0, 20);
    }
    ck_abort_msg("no '%s' in %s", what, name);
}

static const char *options_of(const char *format, const char *path)
{
    static char options[300];
    snprintf(options, sizeof(options), format, path);
    return options;
}

START_TEST(script_runs)
{
    must("ip link add br0 type bridge && ip link set br0 up");
    const char *path = script("echo \"$*\" >>$in/calls; env >$in/$1; ip link show $INTERFACE >$in/there.$1 || exit 1\n"
                              "ls -l /proc/self/fd >$in/fds\n"
                              "[ $1 = remove ] && { sleep 0.3; ip link show $INTERFACE >/dev/null && echo still "
                              ">$in/late; echo end >>$in/calls; }; exit 0");
    struct fake_xen *fake = nic_start(options_of("netdev=tap,bridge=br0,netdev.script=%s", path));
    ck_assert(says("calls", "add type_if=tap"));
    ck_assert(says("add", "vif=" NAME) && says("add", "INTERFACE=" NAME) && says("add", "bridge=br0") &&
              says("add", "type_if=tap"));
    ck_assert(!shows(NAME, "master br0")); /* that is the script's to do */
    ck_assert(run("grep -q -e ' [4-9] ->' %s/fds", folder) != 0); /* 3: ls's own */
    ck_assert(run("grep -q -e ' 0 -> /dev/null' %s/fds", folder) == 0);
    nic_stop(fake);
    await_file("calls", "end"); /* also when the daemon is gone */
    ck_assert(says("calls", "remove type_if=tap"));
    ck_assert(says("late", "still")); /* the interface stays until the script has ended */
    await_gone(NAME);
    run("rm -r %s", folder);
}
END_TEST

/* Xen's own, found by its name. */
START_TEST(script_of_xen)
{
    if (access("/etc/xen/scripts/vif-bridge", X_OK) != 0) {
        fprintf(stderr, "script_of_xen: skipped: no /etc/xen/scripts/vif-bridge (xen-utils-common)\n");
        return;
    }
    must("ip link add br0 type bridge && ip link set br0 up");
    struct fake_xen *fake = nic_start("netdev=tap,bridge=br0,script=vif-bridge");
    ck_assert(shows(NAME, "master br0"));
    ck_assert(iod_netdev_limits(nic->netdev)->link);
    nic_stop(fake);
    await_gone(NAME);
    nic_fails("netdev=tap,bridge=nobridge,script=vif-bridge", "script vif-bridge exited with status 1");
}
END_TEST

START_TEST(script_fails)
{
    const char *path = script("echo 'some chatter'; echo 'no bridge today' >&2; exit 3");
    nic_fails(options_of("netdev=tap,netdev.script=%s", path), "script exited with status 3: no bridge today");
    await_gone(NAME);
    run("rm -r %s", folder);
    nic_fails("netdev=tap,script=/nowhere/script", "/nowhere/script: can't be started: No such file");
    nic_fails("netdev=tap,script=no-such-script", "/etc/xen/scripts/no-such-script: can't be started");
    await_gone(NAME);
}
END_TEST

START_TEST(script_that_hangs)
{
    char pid[16] = "";
    const char *path = script("echo $$ >$in/pid; [ $1 = add ] || exit 0; trap '' TERM; sleep 1000 & "
                              "echo $! >$in/other; echo waiting; wait");
    double before = cpu_seconds();
    nic_fails(options_of("netdev=tap,netdev.script-timeout=1,netdev.script=%s", path),
              "script took longer than its time limit: waiting");
    ck_assert(cpu_seconds() - before < 0.5);
    await_gone(NAME);
    for (unsigned i = 0; i < 2; i++) { /* itself, and what it started */
        char name[96];
        snprintf(name, sizeof(name), "%s/%s", folder, i == 0 ? "pid" : "other");
        FILE *file = fopen(name, "re");
        ck_assert_ptr_nonnull(file);
        ck_assert_ptr_nonnull(fgets(pid, sizeof(pid), file));
        fclose(file);
        bool runs = true;
        for (unsigned j = 0; j < 100 && runs; j++) {
            runs = run("grep -q -s '^State:.[RSD]' /proc/%d/status", atoi(pid)) == 0;
            poll(NULL, 0, 10);
        }
        ck_assert_msg(!runs, "%s runs on", pid);
    }
    run("rm -r %s", folder);
}
END_TEST

/* It writes more than a pipe holds. */
START_TEST(script_that_chatters)
{
    const char *path = script("i=0; while [ $i -lt 3000 ]; do echo \"a line of some length, number $i\"; "
                              "i=$((i+1)); done; printf 'the \\033[1mlast' >&2; exit 1");
    nic_fails(options_of("netdev=tap,netdev.script=%s", path), "exited with status 1: the ?[1mlast");
    run("rm -r %s", folder);
}
END_TEST

/* The guest dies while its script runs. */
START_TEST(script_and_a_dead_guest)
{
    const char *path = script("echo $$ >$in/pid; sleep 1; exit 0");
    char text[300];
    struct iod_error error = { 0 };
    struct guest_spec spec;
    struct fake_xen *fake = fake_create(&nic_module, NULL, &error);
    ck_assert_ptr_nonnull(fake);
    guest_spec_init(&spec);
    spec.domain = strdup("7");
    spec.arch = ARCH_X86;
    spec.type = GUEST_HVM;
    spec.bufioreq = BUF_OFF;
    snprintf(text, sizeof(text), "test-nic,netdev=tap,netdev.script=%s", path);
    ck_assert_int_eq(guest_spec_add_device(&spec, text, &error), 0);
    ck_assert_msg(daemon_add_guest(fake_daemon(fake), &spec, &error) == 0, "%s", error.text);
    guest_spec_finish(&spec);
    fake_run_ms(fake, 200);
    ck_assert(shows(NAME, "emu"));
    fake_mark_dead(fake, 7);
    for (unsigned i = 0; i < 100 && daemon_guests(fake_daemon(fake)) > 0; i++) {
        fake_run_ms(fake, 50);
    }
    ck_assert_uint_eq(daemon_guests(fake_daemon(fake)), 0);
    fake_free(fake);
    await_gone(NAME);
    run("rm -r %s", folder);
}
END_TEST

/* ---- memory ---- */

#ifndef __SANITIZE_ADDRESS__
static unsigned fail_next;

static void arm(void)
{
    calls.allocations = calls.failed = 0;
    calls.fail_at = fail_next;
}

enum { TRY_RAN = 10, TRY_FAILED, TRY_LEFT, CHECK_FAILED = 2 };

/* In a process of its own: an allocation of Check's that fails ends it. */
static int try_open(const char *options, bool script)
{
    pid_t child = fork();
    if (child == 0) {
        freopen("/dev/null", "w", stderr);
        bool ran = nic_tries(options);
        unsigned failed = calls.failed;
        calls.fail_at = 0;
        bool left = !script && shows(NAME, "emu"); /* a script may still be at work */
        _exit(left ? TRY_LEFT : failed > 0 ? TRY_FAILED : ran ? TRY_RAN : 1);
    }
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status), "allocation %u: signal %d", fail_next, WTERMSIG(status));
    return WEXITSTATUS(status);
}

/* Each allocation of an open fails once: it fails as a whole, or works, and leaves nothing. */
START_TEST(each_allocation_fails)
{
    static const char *const all[] = { "netdev=tap", "netdev=tap,bridge=br0,script=/bin/true" };
    int result;
    must("ip link add br0 type bridge && ip link set br0 up");
    nic_created = arm;
    nic_pairs = 2;
    for (unsigned i = 0; i < 2; i++) {
        unsigned failed = 0;
        fail_next = 0;
        do {
            fail_next++;
            ck_assert_uint_lt(fail_next, 300);
            result = try_open(all[i], i == 1);
            ck_assert_msg(result == TRY_FAILED || result == TRY_RAN || result == CHECK_FAILED,
                          "%s: allocation %u: %d", all[i], fail_next, result);
            failed += result == TRY_FAILED;
        } while (result != TRY_RAN);
        ck_assert_uint_gt(failed, 10);
    }
}
END_TEST
#endif

/* ---- all of it ---- */

static bool can_make_taps(void)
{
    pid_t child = fork();
    if (child == 0) {
        struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
        int fd = unshare(CLONE_NEWNET) == 0 ? open("/dev/net/tun", O_RDWR | O_CLOEXEC) : -1;
        _exit(fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0 ? 0 : 1);
    }
    int status = 1;
    return waitpid(child, &status, 0) == child && status == 0;
}

int main(void)
{
    const TTest *const tests[] = {
        made_and_gone, names_and_settings, existing_is_kept, others_are_left_alone, bridge_port, frames_both_ways,
        receive_waits, host_drops, stopped_hears_nothing, cost_of_a_frame, offloads, many_queues, queues_of_existing,
        queues_in_use, send_waits, link_and_mtu_follow, interface_deleted, script_runs, script_of_xen, script_fails,
        script_that_hangs, script_that_chatters, script_and_a_dead_guest,
    };
    if (!can_make_taps()) {
        fprintf(stderr, "skipped: no tap can be made here (root, /dev/net/tun, network namespaces)\n");
        return 77;
    }
    Suite *suite = suite_create("tap");
    TCase *taps = tcase_create("taps");
    tcase_add_checked_fixture(taps, private_network, NULL);
    for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        tcase_add_test(taps, tests[i]);
    }
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(taps, each_allocation_fails);
#endif
    tcase_set_timeout(taps, 60);
    suite_add_tcase(suite, taps);
    return unit_run(suite);
}
