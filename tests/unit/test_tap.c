/* SPDX-License-Identifier: BSD-2-Clause */
/* The netdev "tap" on real taps and bridges, in a network namespace of each test's own. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tap_rig.h"

/* ---- what goes to the kernel ---- */

static struct { unsigned reads, writes, allocations; } calls;

ssize_t read(int fd, void *to, size_t length)
{
    calls.reads++;
    return syscall(SYS_read, fd, to, length);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
    calls.writes++;
    return syscall(SYS_write, fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
    calls.writes++;
    return syscall(SYS_writev, fd, iov, count);
}

#ifndef __SANITIZE_ADDRESS__
void *__libc_malloc(size_t size);
void *malloc(size_t size);

void *malloc(size_t size)
{
    calls.allocations++;
    return __libc_malloc(size);
}
#endif

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
    int fd = host_tap("t0", IFF_VNET_HDR), size = 0;
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
    int one = host_tap("o0", 0), many = host_tap("o1", IFF_MULTI_QUEUE);
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

/* ---- all of it ---- */

int main(void)
{
    const TTest *const tests[] = {
        made_and_gone, names_and_settings, existing_is_kept, others_are_left_alone, bridge_port, frames_both_ways,
        receive_waits, host_drops, stopped_hears_nothing, cost_of_a_frame, offloads, many_queues, queues_of_existing,
        queues_in_use, send_waits, link_and_mtu_follow, interface_deleted,
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
    tcase_set_timeout(taps, 60);
    suite_add_tcase(suite, taps);
    return unit_run(suite);
}
