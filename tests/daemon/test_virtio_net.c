/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-net as ioreqd serves it, at a real tap: frames of all kinds both ways, nothing lost, each way to stop. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "nic_rig.h"

#define SKIPPED 77 /* Meson's */
#define ALL VIRTIO_NET_ALL
#define BUFFERS 128u

static struct nic_rig rig;
static uint8_t frame[VIRTIO_NET_FRAME_MAX + 100], got[VIRTIO_NET_FRAME_MAX + 100];
static struct virtio_net_hdr_v1 header;

static uint64_t without(unsigned feature)
{
    return ALL & ~VIRTIO_FEATURE(feature);
}

static int guest_receive(int timeout_ms)
{
    return virtio_net_receive(&rig.net, 0, &header, got, sizeof(got), timeout_ms);
}

/* ---- frames ---- */

static const size_t sizes[] = {60, 64, 65, 128, 1000, 1499, 1500, 1513, 1514};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

START_TEST(frames_both_ways)
{
    nic_start(&rig, (enum nic_place)_i, "", ALL, BUFFERS, 1526);
    ck_assert_mem_eq(rig.net.config.mac, nic_mac, 6);
    for (unsigned i = 0; i < SIZES; i++) {
        nic_frame(frame, sizes[i], nic_mac, i);
        ck_assert_int_eq(nic_host_send(&rig, NULL, frame, sizes[i]), 0);
        int length = guest_receive(VIRTIO_TIMEOUT_MS);
        ck_assert_int_gt(length, 0);
        nic_expect_frame(got, (size_t)length, sizes[i], i);
        nic_frame(frame, sizes[i], nic_host_mac, i);
        ck_assert_int_eq(virtio_net_put(&rig.net, 0, NULL, frame, sizes[i], 1 + i % 5), 0);
        virtio_queue_kick(virtio_net_send_queue(&rig.net, 0));
        length = nic_host_receive(&rig, &header, got, sizeof(got), VIRTIO_TIMEOUT_MS);
        ck_assert_int_gt(length, 0);
        nic_expect_frame(got, (size_t)length, sizes[i], i);
    }
    nic_stop(&rig);
}
END_TEST

/* Segmentation is left to the kernel: 64 KiB go in one piece, the header with them unchanged. */
START_TEST(long_segments_from_the_guest)
{
    struct virtio_net_hdr_v1 sent;
    nic_start(&rig, (enum nic_place)_i, "", ALL, BUFFERS, 1526);
    for (size_t payload = 1000; payload <= 65000; payload += 16000) {
        size_t length = nic_tcp_frame(frame, nic_host_mac, payload, 1448, &sent);
        ck_assert_int_eq(virtio_net_put(&rig.net, 0, &sent, frame, length, 17), 0);
        virtio_queue_kick(virtio_net_send_queue(&rig.net, 0));
        ck_assert_int_eq(nic_host_receive(&rig, &header, got, sizeof(got), VIRTIO_TIMEOUT_MS), (int)length);
        ck_assert_mem_eq(got, frame, length);
        ck_assert_uint_eq(header.flags, sent.flags);
        ck_assert_uint_eq(header.gso_type, sent.gso_type);
        ck_assert_uint_eq(header.gso_size, sent.gso_size);
        ck_assert_uint_eq(header.csum_start, sent.csum_start);
        ck_assert_uint_eq(header.csum_offset, sent.csum_offset);
        ck_assert_int_eq(virtio_queue_wait(virtio_net_send_queue(&rig.net, 0), VIRTIO_TIMEOUT_MS), 0);
        virtio_net_sent(&rig.net, 0);
    }
    nic_stop(&rig);
}
END_TEST

/* _i: a place, and buffers of 1526 bytes (some 43 a frame) or of 65562. */
START_TEST(long_segments_to_the_guest)
{
    bool merged = _i % 2 == 0;
    struct virtio_net_hdr_v1 sent;
    nic_start(&rig, (enum nic_place)(_i / 2), "", merged ? ALL : without(VIRTIO_NET_F_MRG_RXBUF), merged ? 200 : 20,
              merged ? 1526 : 65562);
    for (size_t payload = 1000; payload <= 65000; payload += 16000) {
        size_t length = nic_tcp_frame(frame, nic_mac, payload, 1448, &sent);
        ck_assert_int_eq(nic_host_send(&rig, &sent, frame, length), 0);
        ck_assert_int_eq(guest_receive(VIRTIO_TIMEOUT_MS), (int)length);
        ck_assert_mem_eq(got, frame, length);
        ck_assert_uint_eq(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
        ck_assert_uint_eq(header.gso_type, sent.gso_type);
        ck_assert_uint_eq(header.gso_size, sent.gso_size);
        ck_assert_uint_eq(header.csum_start, sent.csum_start);
        if (rig.net.header == 12) {
            ck_assert_uint_eq(header.num_buffers, merged ? (length + 12 + 1525) / 1526 : 1);
        }
    }
    nic_stop(&rig);
}
END_TEST

/* A driver without offloads gets segments that need nothing; so does one that switches them off. */
START_TEST(no_offloads_for_the_guest)
{
    struct virtio_net_hdr_v1 sent;
    uint64_t features = ALL, none = 0;
    if (_i == 0) {
        features &= ~(VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) |
                      VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_ECN));
    }
    nic_start(&rig, NIC_PCI_HVM, _i == 2 ? ",offloads=off" : "", features, BUFFERS, 1526);
    if (_i == 1) {
        ck_assert_int_eq(virtio_net_command(&rig.net, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &none, 8), VIRTIO_NET_OK);
    } else if (_i == 2) {
        ck_assert(!virtio_has(&rig.driver, VIRTIO_NET_F_CSUM));
    }
    size_t length = nic_tcp_frame(frame, nic_mac, 14480, 1448, &sent);
    ck_assert_int_eq(nic_host_send(&rig, &sent, frame, length), 0);
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(guest_receive(VIRTIO_TIMEOUT_MS), 1514 - 12); /* 1448 of payload, no TCP options */
        ck_assert_uint_eq(header.flags | header.gso_type, 0);
        ck_assert_mem_eq(got + 54, frame + 54 + i * 1448, 1448);
    }
    nic_stop(&rig);
}
END_TEST

/* ---- nothing is lost ---- */

/* More frames than buffers, some of 64 KiB: they wait in the host, and come in order when buffers come. */
START_TEST(waits_for_buffers)
{
    enum { FRAMES = 300 };
    nic_start(&rig, (enum nic_place)_i, "", ALL, 0, 0);
    for (unsigned i = 0; i < FRAMES; i++) {
        nic_frame(frame, 1000 + i, nic_mac, i);
        ck_assert_int_eq(nic_host_send(&rig, NULL, frame, 1000 + i), 0);
    }
    ck_assert_int_eq(guest_receive(100), -ETIMEDOUT);
    ck_assert_int_eq(virtio_net_fill(&rig.net, 0, 3, 330), 0); /* each frame needs four */
    for (unsigned i = 0; i < FRAMES; i++) {
        if (i == 0) {
            ck_assert_int_eq(guest_receive(100), -ETIMEDOUT);
            ck_assert_int_eq(virtio_net_fill(&rig.net, 0, 1, 330), 0);
        }
        int length = guest_receive(VIRTIO_TIMEOUT_MS);
        ck_assert_msg(length > 0, "frame %u: %s", i, strerror(-length));
        nic_expect_frame(got, (size_t)length, 1000 + i, i);
    }
    ck_assert_int_eq(guest_receive(50), -ETIMEDOUT);
    nic_stop(&rig);
}
END_TEST

/* A full ring of frames, many times over, as fast as it goes, while frames come the other way. */
START_TEST(many_frames)
{
    enum { FRAMES = 5000 };
    unsigned put = 0, arrived = 0, sent = 0, received = 0;
    nic_start(&rig, (enum nic_place)_i, "", ALL, 200, 1526);
    struct virtio_queue *queue = virtio_net_send_queue(&rig.net, 0);
    while (arrived < FRAMES || received < FRAMES) {
        for (unsigned i = 0; i < 100 && put < FRAMES && put - arrived < 1000; i++) {
            nic_frame(frame, 100 + put % 1400, nic_host_mac, put);
            if (virtio_net_put(&rig.net, 0, NULL, frame, 100 + put % 1400, 1 + put % 3)) {
                break;
            }
            put++;
        }
        virtio_queue_kick(queue);
        for (unsigned i = 0; i < 100 && sent < FRAMES && sent - received < 400; i++, sent++) {
            nic_frame(frame, 100 + sent % 1400, nic_mac, sent);
            ck_assert_int_eq(nic_host_send(&rig, NULL, frame, 100 + sent % 1400), 0);
        }
        int length;
        while (received < sent && (length = guest_receive(1)) > 0) {
            nic_expect_frame(got, (size_t)length, 100 + received % 1400, received);
            received++;
        }
        while ((length = nic_host_receive(&rig, &header, got, sizeof(got), 1)) > 0) {
            nic_expect_frame(got, (size_t)length, 100 + arrived % 1400, arrived);
            arrived++;
        }
        virtio_net_sent(&rig.net, 0);
    }
    nic_stop(&rig);
}
END_TEST

/* A peer that does not read: what it has no room for stays on the ring, and goes in order when it reads again. */
START_TEST(waits_for_the_host)
{
    enum { FRAMES = 400, LENGTH = 9000 };
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char spec[300];
    unsigned put = 0, arrived = 0;
    size_t have = 0;
    memset(&rig, 0, sizeof(rig));
    fixture_start(&rig.f, MOCK_HVM, 2);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/net", mock_dir(rig.f.mock));
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    snprintf(spec, sizeof(spec), "virtio-net,addr=5,netdev=socket,path=%s", address.sun_path);
    fixture_run(&rig.f, "--device", spec, NULL);
    rig.host = accept(listener, NULL, NULL);
    ck_assert_int_ge(rig.host, 0);
    struct virtio_arena arena = virtio_arena_make(rig.f.guest, NIC_ARENA_OFFSET, NIC_ARENA_SIZE);
    ck_assert_int_eq(virtio_pci_open(&rig.driver, rig.f.guest, 0, 5 << 3, VIRTIO_ID_NETWORK_CARD, VIRTIO_MSIX,
                                     0xe0000000, arena), 0);
    ck_assert_int_eq(virtio_net_start(&rig.net, &rig.driver, ALL, 1, 0), 0);
    struct virtio_queue *queue = virtio_net_send_queue(&rig.net, 0);
    while (arrived < FRAMES) {
        for (; put < FRAMES; put++) {
            virtio_net_sent(&rig.net, 0);
            nic_frame(frame, LENGTH, nic_host_mac, put);
            if (virtio_net_put(&rig.net, 0, NULL, frame, LENGTH, 1)) {
                break;
            }
        }
        virtio_queue_kick(queue);
        if (arrived == 0) {
            usleep(200000);
            ck_assert_uint_gt(virtio_queue_pending(queue), 10); /* it did not swallow all */
        }
        ssize_t more = recv(rig.host, got + have, 4 + LENGTH - have, 0);
        ck_assert_int_gt(more, 0);
        have += (size_t)more;
        if (have == 4 + LENGTH) { /* the peer's framing: the length before each */
            nic_expect_frame(got + 4, have - 4, LENGTH, arrived++);
            have = 0;
        }
    }
    ck_assert_int_eq(recv(rig.host, got, 1, MSG_DONTWAIT), -1);
    close(listener);
    nic_stop(&rig);
}
END_TEST

/* ---- control ---- */

static int set_mode(uint8_t mode, uint8_t on)
{
    return virtio_net_command(&rig.net, VIRTIO_NET_CTRL_RX, mode, &on, 1);
}

START_TEST(receive_filter)
{
    static const uint8_t other[6] = {0x02, 9, 9, 9, 9, 9};
    nic_start(&rig, (enum nic_place)_i, "", ALL, BUFFERS, 1526);
    ck_assert_int_eq(set_mode(VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
    nic_frame(frame, 100, other, 1);
    ck_assert_int_eq(nic_host_send(&rig, NULL, frame, 100), 0);
    nic_frame(frame, 100, nic_mac, 2);
    ck_assert_int_eq(nic_host_send(&rig, NULL, frame, 100), 0);
    ck_assert_int_eq(guest_receive(VIRTIO_TIMEOUT_MS), 100);
    nic_expect_frame(got, 100, 100, 2); /* the first one did not come */
    ck_assert_int_eq(virtio_net_command(&rig.net, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, other, 6),
                     VIRTIO_NET_OK);
    virtio_net_read_config(&rig.net);
    ck_assert_mem_eq(rig.net.config.mac, other, 6);
    nic_frame(frame, 100, nic_mac, 3);
    ck_assert_int_eq(nic_host_send(&rig, NULL, frame, 100), 0);
    nic_frame(frame, 100, other, 4);
    ck_assert_int_eq(nic_host_send(&rig, NULL, frame, 100), 0);
    ck_assert_int_eq(guest_receive(VIRTIO_TIMEOUT_MS), 100);
    nic_expect_frame(got, 100, 100, 4);
    ck_assert_int_eq(virtio_net_command(&rig.net, 77, 0, other, 6), VIRTIO_NET_ERR);
    nic_stop(&rig);
}
END_TEST

static void wait_status(unsigned status)
{
    for (unsigned i = 0; i < 500; i++) {
        virtio_net_read_config(&rig.net);
        if (rig.net.config.status == status) {
            return;
        }
        usleep(10000);
    }
    ck_abort_msg("status is 0x%x; expected 0x%x", rig.net.config.status, status);
}

START_TEST(link_mtu_and_announcement)
{
    nic_open(&rig, (enum nic_place)_i, ",netdev.mtu=4000");
    ck_assert_int_eq(virtio_net_start(&rig.net, &rig.driver, ALL, 1, 0), 0);
    ck_assert_int_eq(virtio_net_fill(&rig.net, 0, BUFFERS, 4096), 0);
    ck_assert_uint_eq(rig.net.config.mtu, 4000);
    wait_status(VIRTIO_NET_S_LINK_UP);
    nic_host_link(&rig, false);
    wait_status(0);
    nic_host_link(&rig, true);
    wait_status(VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
    ck_assert_int_eq(virtio_net_command(&rig.net, VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, NULL, 0),
                     VIRTIO_NET_OK);
    wait_status(VIRTIO_NET_S_LINK_UP);
    nic_expect_works(&rig);
    nic_frame(frame, 4014, nic_mac, 9);
    ck_assert_int_eq(nic_host_send(&rig, NULL, frame, 4014), 0);
    ck_assert_int_eq(guest_receive(VIRTIO_TIMEOUT_MS), 4014);
    nic_stop(&rig);
}
END_TEST

/* ---- pairs ---- */

START_TEST(queue_pairs)
{
    enum { PAIRS = 4 };
    bool seen[100] = {false};
    nic_open(&rig, (enum nic_place)_i, ",pairs=4");
    ck_assert_int_eq(virtio_net_start(&rig.net, &rig.driver, ALL, PAIRS, 0), 0);
    ck_assert_uint_eq(rig.net.config.max_virtqueue_pairs, PAIRS);
    ck_assert_uint_eq(rig.net.pairs, PAIRS);
    for (unsigned i = 0; i < PAIRS; i++) {
        ck_assert_int_eq(virtio_net_fill(&rig.net, i, 100, 1526), 0);
    }
    nic_expect_works(&rig);
    ck_assert_int_eq(virtio_net_set_pairs(&rig.net, PAIRS), VIRTIO_NET_OK);
    for (unsigned i = 0; i < PAIRS; i++) {
        nic_frame(frame, 500, nic_host_mac, i);
        ck_assert_int_eq(virtio_net_send(&rig.net, i, NULL, frame, 500), 0);
        ck_assert_int_eq(nic_host_receive(&rig, &header, got, sizeof(got), VIRTIO_TIMEOUT_MS), 500);
        nic_expect_frame(got, 500, 500, i);
    }
    for (unsigned i = 0; i < 100; i++) { /* of many flows: the tap chooses the queue by flow */
        struct virtio_net_hdr_v1 plain;
        size_t length = nic_tcp_frame(frame, nic_mac, 200, 1448, &plain);
        frame[34] = (uint8_t)i; /* source port */
        frame[54] = (uint8_t)i;
        ck_assert_int_eq(nic_host_send(&rig, NULL, frame, length), 0);
    }
    unsigned all = 0, pairs = 0;
    for (unsigned i = 0; i < PAIRS; i++) {
        unsigned here = 0;
        while (all < 100 && virtio_net_receive(&rig.net, i, &header, got, sizeof(got), 300) > 0) {
            ck_assert_uint_lt(got[54], 100);
            ck_assert(!seen[got[54]]);
            seen[got[54]] = true;
            here++;
            all++;
        }
        pairs += here > 0;
    }
    ck_assert_uint_eq(all, 100);
    ck_assert_uint_gt(pairs, 1);
    ck_assert_int_eq(virtio_net_set_pairs(&rig.net, PAIRS + 1), VIRTIO_NET_ERR);
    ck_assert_int_eq(virtio_net_set_pairs(&rig.net, 1), VIRTIO_NET_OK);
    nic_expect_works(&rig);
    nic_stop(&rig);
}
END_TEST

/* Each change makes the kernel wait for all CPUs: a guest that does nothing else is limited, and obeyed all the same. */
START_TEST(pairs_to_and_fro)
{
    enum { PAIRS = 8, CHANGES = 4000 };
    unsigned i;
    nic_open(&rig, NIC_PCI_HVM, ",pairs=8");
    ck_assert_int_eq(virtio_net_start(&rig.net, &rig.driver, ALL, PAIRS, 0), 0);
    for (i = 0; i < CHANGES && !strstr(mock_daemon_log(rig.f.daemon), "changes of a network card's settings"); i++) {
        ck_assert_int_eq(virtio_net_set_pairs(&rig.net, i % 2 ? 1 : PAIRS), VIRTIO_NET_OK);
    }
    ck_assert_uint_lt(i, CHANGES);
    ck_assert_int_eq(virtio_net_set_pairs(&rig.net, 1), VIRTIO_NET_OK);
    ck_assert_int_eq(virtio_net_fill(&rig.net, 0, 100, 1526), 0);
    nic_expect_works(&rig);
    nic_stop(&rig);
}
END_TEST

/* ---- stopping ---- */

static void traffic(unsigned frames)
{
    for (unsigned i = 0; i < frames; i++) {
        nic_frame(frame, 1000, nic_mac, i);
        nic_host_send(&rig, NULL, frame, 1000);
        nic_frame(frame, 1000, nic_host_mac, i);
        virtio_net_put(&rig.net, 0, NULL, frame, 1000, 1);
    }
    virtio_queue_kick(virtio_net_send_queue(&rig.net, 0));
}

/* After a reset no byte of the guest's memory changes, whatever comes in; then the card works as before. */
START_TEST(reset_in_mid_traffic)
{
    static uint8_t before[NIC_ARENA_SIZE];
    nic_start(&rig, (enum nic_place)_i, "", ALL, BUFFERS, 1526);
    for (unsigned round = 0; round < 5; round++) {
        const void *arena = mock_guest_ram(rig.f.guest, mock_ram_base(rig.f.guest) + NIC_ARENA_OFFSET, NIC_ARENA_SIZE);
        traffic(round % 2 ? 200 : 20); /* more than there are buffers, and fewer */
        rig.driver.transport->set_status(&rig.driver, 0);
        ck_assert_uint_eq(virtio_status(&rig.driver), 0);
        memcpy(before, arena, sizeof(before));
        traffic(0);
        for (unsigned i = 0; i < 100; i++) {
            nic_frame(frame, 1000, nic_mac, i);
            nic_host_send(&rig, NULL, frame, 1000);
        }
        usleep(20000);
        ck_assert_int_eq(memcmp(before, arena, sizeof(before)), 0);
        while (nic_host_receive(&rig, &header, got, sizeof(got), 0) > 0) {
        }
        virtio_net_finish(&rig.net);
        virtio_reset(&rig.driver);
        rig.driver.arena.next = mock_ram_base(rig.f.guest) + NIC_ARENA_OFFSET;
        ck_assert_int_eq(virtio_net_start(&rig.net, &rig.driver, ALL, 1, 0), 0);
        ck_assert_int_eq(virtio_net_fill(&rig.net, 0, BUFFERS, 1526), 0);
        while (guest_receive(50) > 0) { /* what was on its way */
        }
        nic_expect_works(&rig);
    }
    nic_stop(&rig);
}
END_TEST

/* What was taken off a ring was sent or delivered; nothing is half done. */
START_TEST(sigterm_in_mid_traffic)
{
    nic_start(&rig, (enum nic_place)_i, "", ALL, BUFFERS, 1526);
    traffic(200);
    struct mock_domain_info info;
    fixture_terminate(&rig.f);
    ck_assert_int_eq(mock_domain_info(rig.f.guest, &info), 0);
    ck_assert_uint_eq(info.foreign_pages, 0);
    unsigned sent = virtio_net_sent(&rig.net, 0), arrived = 0;
    while (nic_host_receive(&rig, &header, got, sizeof(got), 0) > 0) {
        nic_expect_frame(got, 1000, 1000, arrived++);
    }
    ck_assert_uint_gt(sent, 0);
    ck_assert_uint_eq(sent, arrived);
    nic_abandon(&rig);
}
END_TEST

START_TEST(death_in_mid_traffic)
{
    struct mock_domain_info info;
    nic_start(&rig, (enum nic_place)_i, "", ALL, BUFFERS, 1526);
    traffic(200);
    ck_assert_int_eq(mock_domain_kill(rig.f.guest), 0);
    ck_assert_int_eq(fixture_status(rig.f.daemon), 0);
    fixture_expect_log(rig.f.daemon, "received and dropped: filtered 0");
    mock_daemon_free(rig.f.daemon);
    rig.f.daemon = NULL;
    ck_assert_int_eq(mock_domain_info(rig.f.guest, &info), 0);
    ck_assert_msg(!info.exists, "a zombie: %llu foreign pages", (unsigned long long)info.foreign_pages);
    nic_abandon(&rig);
}
END_TEST

/* A queue that is disabled while its frames wait, and enabled again. */
START_TEST(queue_disabled_while_it_waits)
{
    nic_start(&rig, NIC_MMIO_ARM, "", ALL, 2, 500);
    nic_frame(frame, 1400, nic_mac, 5);
    ck_assert_int_eq(nic_host_send(&rig, NULL, frame, 1400), 0);
    ck_assert_int_eq(guest_receive(100), -ETIMEDOUT);
    vcpu_mmio_write(rig.f.guest, 0, 0x2000000 + 0x030, 4, 0); /* queue 0: not ready */
    vcpu_mmio_write(rig.f.guest, 0, 0x2000000 + 0x044, 4, 0);
    ck_assert_uint_eq(vcpu_mmio_read(rig.f.guest, 0, 0x2000000 + 0x044, 4), 0);
    virtio_ring_free(rig.driver.queues[0]);
    rig.driver.queues[0] = NULL;
    ck_assert_int_eq(virtio_queue_set_up(&rig.driver, 0, 0), 0);
    ck_assert_int_eq(virtio_net_fill(&rig.net, 0, 10, 500), 0);
    ck_assert_int_eq(guest_receive(VIRTIO_TIMEOUT_MS), 1400); /* it waited */
    nic_expect_frame(got, 1400, 1400, 5);
    nic_expect_works(&rig);
    nic_stop(&rig);
}
END_TEST

/* ---- a guest gone wild ---- */

static atomic_bool scribbling;

/* Random numbers, small ones and addresses too, at random places of rings and buffers, as fast as it goes. */
static void *scribble(void *self)
{
    uint8_t *memory = mock_guest_ram(rig.f.guest, mock_ram_base(rig.f.guest) + NIC_ARENA_OFFSET, NIC_ARENA_SIZE);
    size_t used = rig.driver.arena.next - mock_ram_base(rig.f.guest) - NIC_ARENA_OFFSET;
    unsigned seed = *(unsigned *)self;
    while (atomic_load(&scribbling)) {
        size_t range = rand_r(&seed) % 4 ? 32768 : used; /* the rings come first */
        uint64_t value = (uint64_t)rand_r(&seed) << rand_r(&seed) % 34;
        memcpy(memory + (size_t)rand_r(&seed) % (range - 8), &value, 1u << rand_r(&seed) % 4);
    }
    return NULL;
}

/* Whatever a guest does to its rings while they are read: the daemon lives, and after a reset the card works. */
START_TEST(wild_rings)
{
    nic_start(&rig, (enum nic_place)_i, "", ALL, BUFFERS, 1526);
    struct virtio_arena arena = rig.driver.arena;
    for (unsigned round = 0; round < 15; round++) {
        pthread_t thread;
        atomic_store(&scribbling, true);
        ck_assert_int_eq(pthread_create(&thread, NULL, scribble, &round), 0);
        for (unsigned i = 0; i < 30; i++) {
            nic_frame(frame, 1400, nic_mac, i);
            nic_host_send(&rig, NULL, frame, 1400);
            for (unsigned queue = 0; queue < 3; queue++) {
                struct virtio_queue *at = rig.driver.queues[queue];
                virtio_queue_put_head(at, (uint16_t)(rand() % at->size));
                virtio_queue_publish(at);
                virtio_queue_notify(at);
            }
        }
        atomic_store(&scribbling, false);
        pthread_join(thread, NULL);
        virtio_net_finish(&rig.net);
        ck_assert_int_eq(virtio_reset(&rig.driver), 0);
        rig.driver.arena.next = mock_ram_base(rig.f.guest) + NIC_ARENA_OFFSET;
        ck_assert_int_eq(virtio_net_start(&rig.net, &rig.driver, ALL, 1, 0), 0);
        ck_assert_int_eq(virtio_net_fill(&rig.net, 0, BUFFERS, 1526), 0);
        while (guest_receive(20) > 0) {
        }
        while (nic_host_receive(&rig, &header, got, sizeof(got), 0) > 0) {
        }
        nic_expect_works(&rig);
    }
    ck_assert_uint_le(rig.driver.arena.next, arena.end);
    nic_stop(&rig);
}
END_TEST

/* A receive buffer that was given back to Xen: no fault, the device says that it needs a reset. */
START_TEST(ballooned_buffer)
{
    nic_start(&rig, (enum nic_place)_i, "", ALL, 0, 0);
    rig.driver.arena.next = (rig.driver.arena.next + 4095) / 4096 * 4096;
    uint64_t gfn = rig.driver.arena.next / 4096;
    ck_assert_int_eq(virtio_net_fill(&rig.net, 0, 1, 4096), 0);
    ck_assert_int_eq(vcpu_decrease_reservation(rig.f.guest, 0, gfn, 1), MOCK_DONE);
    nic_frame(frame, 1400, nic_mac, 1);
    ck_assert_int_eq(nic_host_send(&rig, NULL, frame, 1400), 0);
    ck_assert_int_eq(virtio_wait_needs_reset(&rig.driver, VIRTIO_TIMEOUT_MS), 0);
    ck_assert_int_eq(mock_populate(rig.f.guest, gfn, 1), 0);
    virtio_net_finish(&rig.net);
    ck_assert_int_eq(virtio_net_start(&rig.net, &rig.driver, ALL, 1, 0), 0);
    ck_assert_int_eq(virtio_net_fill(&rig.net, 0, BUFFERS, 1526), 0);
    nic_expect_works(&rig);
    nic_stop(&rig);
}
END_TEST

#define ADD(test, from, to)                                                                                  \
    do {                                                                                                     \
        TCase *tests = tcase_create(#test);                                                                  \
        tcase_set_timeout(tests, 120);                                                                       \
        tcase_add_loop_test(tests, test, from, to);                                                          \
        suite_add_tcase(suite, tests);                                                                       \
    } while (0)

int main(void)
{
    const char *missing = nic_enter_namespace();
    if (missing) {
        fprintf(stderr, "SKIPPED, NOTHING OF virtio-net AT A TAP WAS TESTED: %s\n", missing);
        return SKIPPED;
    }
    Suite *suite = suite_create("virtio-net");
    ADD(frames_both_ways, 0, NIC_PLACES);
    ADD(long_segments_from_the_guest, 0, NIC_PLACES);
    ADD(long_segments_to_the_guest, 0, 2 * NIC_PLACES);
    ADD(no_offloads_for_the_guest, 0, 3);
    ADD(waits_for_buffers, 0, NIC_PLACES);
    ADD(many_frames, 0, NIC_PLACES);
    ADD(waits_for_the_host, 0, 1);
    ADD(receive_filter, 0, NIC_PLACES);
    ADD(link_mtu_and_announcement, 0, NIC_PLACES);
    ADD(queue_pairs, 0, 2);
    ADD(pairs_to_and_fro, 0, 1);
    ADD(reset_in_mid_traffic, 0, NIC_PLACES);
    ADD(sigterm_in_mid_traffic, 0, NIC_PLACES);
    ADD(death_in_mid_traffic, 0, NIC_PLACES);
    ADD(queue_disabled_while_it_waits, 0, 1);
    ADD(wild_rings, 0, NIC_PLACES);
    ADD(ballooned_buffer, 0, 2);
    return fixture_main(suite);
}
