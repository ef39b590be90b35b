/* SPDX-License-Identifier: BSD-2-Clause */
/* The network layer, over a backend that does what the test says. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>

#include <ioreqd/loop.h>

#include "backend/netdev.h"
#include "core/loop.h"
#include "netdev_rig.h"

/* ---- the backend ---- */

static struct probe {
    struct iod_netdev *netdev;
    struct iod_netdev_limits limits;
    unsigned sent, send_ends, again, quiesces;
    unsigned pieces;
    size_t length;
    struct virtio_net_hdr_v1 header;
    uint8_t frame[4096];
    uint32_t offloads;
    unsigned pairs;
    bool full, fails, later, stops_later, called_inside, closed;
    uint64_t dropped_first;
    struct loop_timer *timer;
    struct iod_error later_error;
} probe;

static void end_later(void *self)
{
    if (probe.later_error.code != 0) {
        iod_netdev_failed(probe.netdev, &probe.later_error);
    } else {
        iod_netdev_done(probe.netdev, 0);
    }
}

static int probe_open(struct iod_netdev *netdev, struct iod_error *error)
{
    probe.netdev = netdev;
    if (probe.fails) {
        return iod_fail(error, EIO, "probe: does not want to");
    }
    iod_netdev_set_limits(netdev, &probe.limits);
    struct loop *loop = netdev_loop(netdev);
    if (probe.later) {
        probe.timer = loop->ops->timer_add(loop, end_later, NULL);
        loop->ops->timer_set(probe.timer, loop->ops->now_ns(loop) + 5000000);
    }
    return probe.later ? 1 : 0;
}

static int probe_send(struct iod_netdev *netdev, unsigned pair, const struct iovec *iov, unsigned count, size_t length)
{
    size_t at = 0;
    if (probe.full) {
        return -EAGAIN;
    }
    ck_assert_uint_eq(iov[0].iov_len, IOD_NET_HEADER);
    memcpy(&probe.header, iov[0].iov_base, IOD_NET_HEADER);
    for (unsigned i = 1; i < count; i++) {
        size_t part = iov[i].iov_len < sizeof(probe.frame) - at ? iov[i].iov_len : sizeof(probe.frame) - at;
        memcpy(probe.frame + at, iov[i].iov_base, part);
        at += part;
    }
    probe.pieces = count;
    probe.length = length;
    probe.sent++;
    if (probe.dropped_first > 0) {
        probe.dropped_first--;
        iod_netdev_dropped(netdev, true);
    }
    return 0;
}

static void probe_again(struct iod_netdev *netdev, unsigned pair)
{
    probe.called_inside |= nic->inside;
    probe.again++;
}

static int probe_offloads(struct iod_netdev *netdev, uint32_t offloads)
{
    probe.offloads = offloads;
    return 0;
}

static int probe_pairs(struct iod_netdev *netdev, unsigned pairs)
{
    probe.pairs = pairs;
    return 0;
}

static void probe_send_end(struct iod_netdev *netdev, unsigned pair)
{
    probe.send_ends++;
}

static enum iod_when probe_quiesce(struct iod_netdev *netdev, enum iod_drain drain)
{
    probe.quiesces++;
    return probe.stops_later ? IOD_LATER : IOD_NOW;
}

static void probe_close(struct iod_netdev *netdev)
{
    netdev_loop(netdev)->ops->timer_remove(probe.timer);
    probe.timer = NULL;
    probe.closed = true;
}

static const struct iod_netdev_class probe_class = {
    .size = sizeof(probe_class), .name = "probe", .summary = "for tests", .open = probe_open, .send = probe_send,
    .receive_again = probe_again, .set_offloads = probe_offloads, .set_pairs = probe_pairs,
    .send_end = probe_send_end, .quiesce = probe_quiesce, .close = probe_close,
};

static void set_up(void)
{
    memset(&probe, 0, sizeof(probe));
    probe.limits = (struct iod_netdev_limits){ .pairs = 1, .link = true, .mtu = 1500 };
    nic_probe = &probe_class;
    nic_pairs = 1;
    nic_waits = false;
}

/* ---- from the guest: headers ---- */

enum { ALL = IOD_NET_CSUM | IOD_NET_TSO4 | IOD_NET_TSO6 | IOD_NET_TSO_ECN | IOD_NET_UFO | IOD_NET_USO };

struct header_case {
    const char *what;
    struct virtio_net_hdr_v1 header; /* in host order here; swapped when sent */
    size_t length;
    uint32_t takes;
    bool passes;
};

static const struct header_case header_cases[] = {
    { "plain", { 0 }, 60, 0, true },
    { "Ethernet header alone", { 0 }, 14, 0, true },
    { "shorter", { 0 }, 13, 0, false },
    { "empty", { 0 }, 0, 0, false },
    { "the longest", { 0 }, IOD_NET_FRAME_MAX, 0, true },
    { "longer", { 0 }, IOD_NET_FRAME_MAX + 1, 0, false },
    { "checksum not taken", { .flags = 1, .csum_start = 34, .csum_offset = 16 }, 60, ALL & ~IOD_NET_CSUM, false },
    { "checksum", { .flags = 1, .csum_start = 34, .csum_offset = 16 }, 60, IOD_NET_CSUM, true },
    { "checksum at the very end", { .flags = 1, .csum_start = 42, .csum_offset = 16 }, 60, IOD_NET_CSUM, true },
    { "checksum past the end", { .flags = 1, .csum_start = 43, .csum_offset = 16 }, 60, IOD_NET_CSUM, false },
    { "checksum that would wrap", { .flags = 1, .csum_start = 65535, .csum_offset = 65535 }, 60, ALL, false },
    { "tso4 not taken", { .flags = 1, .gso_type = 1, .gso_size = 1448, .hdr_len = 54 }, 4000, ALL & ~IOD_NET_TSO4,
      false },
    { "tso4", { .flags = 1, .gso_type = 1, .gso_size = 1448, .hdr_len = 54 }, 4000, IOD_NET_CSUM | IOD_NET_TSO4,
      true },
    { "tso6 is not tso4", { .flags = 1, .gso_type = 4, .gso_size = 1448 }, 4000, IOD_NET_CSUM | IOD_NET_TSO4, false },
    { "tso6", { .flags = 1, .gso_type = 4, .gso_size = 1448 }, 4000, IOD_NET_CSUM | IOD_NET_TSO6, true },
    { "ecn not taken", { .flags = 1, .gso_type = 0x81, .gso_size = 1448 }, 4000, IOD_NET_CSUM | IOD_NET_TSO4, false },
    { "ecn", { .flags = 1, .gso_type = 0x81, .gso_size = 1448 }, 4000,
      IOD_NET_CSUM | IOD_NET_TSO4 | IOD_NET_TSO_ECN, true },
    { "ufo", { .flags = 1, .gso_type = 3, .gso_size = 1448 }, 4000, IOD_NET_CSUM | IOD_NET_UFO, true },
    { "ufo with ecn", { .flags = 1, .gso_type = 0x83, .gso_size = 1448 }, 4000, ALL, false },
    { "uso", { .flags = 1, .gso_type = 5, .gso_size = 1448 }, 4000, IOD_NET_CSUM | IOD_NET_USO, true },
    { "uso not taken", { .flags = 1, .gso_type = 5, .gso_size = 1448 }, 4000, IOD_NET_CSUM | IOD_NET_UFO, false },
    { "no such gso", { .flags = 1, .gso_type = 2, .gso_size = 1448 }, 4000, ALL, false },
    { "ecn of nothing", { .gso_type = 0x80 }, 4000, ALL, false },
    { "gso of size 0", { .flags = 1, .gso_type = 1, .hdr_len = 54 }, 4000, ALL, false },
    { "gso header as long as the frame", { .gso_type = 1, .gso_size = 1448, .hdr_len = 4000 }, 4000, ALL, true },
    { "gso header longer than the frame", { .gso_type = 1, .gso_size = 1448, .hdr_len = 4001 }, 4000, ALL, false },
    { "flags to be ignored", { .flags = 0xfe, .hdr_len = 9999, .gso_size = 9999, .num_buffers = 7 }, 60, 0, true },
};

START_TEST(headers_are_checked)
{
    static uint8_t frame[IOD_NET_FRAME_MAX + 1];
    const struct header_case *this = &header_cases[_i];
    struct virtio_net_hdr_v1 header = this->header;
    header.hdr_len = htole16(header.hdr_len);
    header.gso_size = htole16(header.gso_size);
    header.csum_start = htole16(header.csum_start);
    header.csum_offset = htole16(header.csum_offset);
    probe.limits.takes = this->takes;
    struct fake_xen *fake = nic_start("netdev=probe");
    ck_assert_int_eq(nic_send(0, &header, frame, this->length), 0);
    ck_assert_msg(probe.sent == this->passes, "%s", this->what);
    ck_assert_uint_eq(nic_counters()->sent, this->passes);
    ck_assert_uint_eq(nic_counters()->sent_bytes, this->passes ? this->length : 0);
    ck_assert_uint_eq(nic_counters()->send_dropped, !this->passes);
    if (this->passes) {
        ck_assert_uint_eq(probe.length, IOD_NET_HEADER + this->length);
        ck_assert_uint_eq(probe.header.flags & ~1u, 0);
        ck_assert_uint_eq(probe.header.num_buffers, 0);
        ck_assert_uint_eq(probe.header.gso_type, header.gso_type);
        ck_assert_uint_eq(probe.header.hdr_len, header.gso_type != 0 ? header.hdr_len : 0);
    }
    nic_stop(fake);
}
END_TEST

/* However the guest cuts it. */
START_TEST(pieces)
{
    uint8_t whole[IOD_NET_HEADER + 100];
    struct iovec iov[IOD_NET_PIECES_MAX + 2];
    memset(whole, 0, IOD_NET_HEADER);
    frame_fill(whole + IOD_NET_HEADER, 100, 5);
    struct fake_xen *fake = nic_start("netdev=probe");
    static const size_t cuts[][5] = { { 112 }, { 12, 100 }, { 1, 11, 100 }, { 5, 0, 20, 0, 87 }, { 11, 2, 99 } };
    for (unsigned i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        size_t at = 0;
        for (unsigned j = 0; j < 5; j++) {
            iov[j] = (struct iovec){ .iov_base = whole + at, .iov_len = cuts[i][j] };
            at += cuts[i][j];
        }
        ck_assert_uint_eq(at, sizeof(whole));
        memset(probe.frame, 0, sizeof(probe.frame));
        ck_assert_int_eq(iod_netdev_send(nic->netdev, 0, iov, 5), 0);
        ck_assert_uint_eq(probe.sent, i + 1);
        ck_assert(frame_good(probe.frame, 100, 5));
        ck_assert_uint_eq(probe.length, sizeof(whole));
    }
    uint64_t sent = nic_counters()->sent;
    for (unsigned i = 0; i < IOD_NET_PIECES_MAX + 2; i++) {
        iov[i] = (struct iovec){ .iov_base = whole + 12, .iov_len = i == 0 ? 12 : 1 };
    }
    memset(whole, 0, sizeof(whole));
    ck_assert_int_eq(iod_netdev_send(nic->netdev, 0, iov, IOD_NET_PIECES_MAX + 1), 0);
    ck_assert_uint_eq(nic_counters()->sent, sent + 1);
    ck_assert_uint_eq(probe.pieces, IOD_NET_PIECES_MAX + 1);
    ck_assert_int_eq(iod_netdev_send(nic->netdev, 0, iov, IOD_NET_PIECES_MAX + 2), 0); /* one too many */
    ck_assert_int_eq(iod_netdev_send(nic->netdev, 0, iov, 1), 0);                      /* no frame */
    ck_assert_int_eq(iod_netdev_send(nic->netdev, 0, iov, 0), 0);
    iov[1].iov_len = SIZE_MAX; /* lengths whose sum looks good when it overflows */
    iov[2].iov_len = 61;
    ck_assert_int_eq(iod_netdev_send(nic->netdev, 0, iov, 3), 0);
    ck_assert_uint_eq(nic_counters()->sent, sent + 1);
    ck_assert_uint_eq(nic_counters()->send_dropped, 4);
    nic_stop(fake);
}
END_TEST

/* What was checked is what is sent: the backend's header is not the guest's memory. */
START_TEST(header_is_a_copy)
{
    struct virtio_net_hdr_v1 header = { 0 };
    uint8_t frame[60] = { 0 };
    struct fake_xen *fake = nic_start("netdev=probe");
    header.flags = VIRTIO_NET_HDR_F_DATA_VALID;
    ck_assert_int_eq(nic_send(0, &header, frame, sizeof(frame)), 0);
    ck_assert_uint_eq(probe.header.flags, 0);
    ck_assert_uint_eq(header.flags, VIRTIO_NET_HDR_F_DATA_VALID);
    nic_stop(fake);
}
END_TEST

START_TEST(full_backend_and_drops)
{
    uint8_t frame[60] = { 0 };
    struct fake_xen *fake = nic_start("netdev=probe");
    probe.full = true;
    ck_assert_int_eq(nic_send(0, NULL, frame, sizeof(frame)), -EAGAIN);
    ck_assert_uint_eq(nic_counters()->sent + nic_counters()->send_dropped, 0);
    ck_assert_uint_eq(probe.send_ends, 0);
    probe.full = false;
    iod_netdev_writable(probe.netdev, 0);
    ck_assert_uint_eq(nic->writable, 1);
    probe.dropped_first = 1; /* taken, and dropped by the backend: counted once */
    ck_assert_int_eq(nic_send(0, NULL, frame, sizeof(frame)), 0);
    ck_assert_uint_eq(nic_counters()->sent, 0);
    ck_assert_uint_eq(nic_counters()->send_dropped, 1);
    ck_assert_int_eq(nic_send(0, NULL, frame, sizeof(frame)), 0);
    ck_assert_uint_eq(nic_counters()->sent, 1);
    ck_assert_int_eq(nic_send(1, NULL, frame, sizeof(frame)), 0); /* a pair that is not there */
    ck_assert_uint_eq(nic_counters()->send_dropped, 2);
    ck_assert_uint_eq(probe.send_ends, 3);
    nic_stop(fake);
}
END_TEST

/* ---- to the guest ---- */

static bool offer(uint8_t flags, uint8_t gso, size_t length)
{
    static uint8_t whole[IOD_NET_HEADER + IOD_NET_FRAME_MAX + 1];
    struct virtio_net_hdr_v1 header = { .flags = flags, .gso_type = gso, .gso_size = gso != 0 ? htole16(1400) : 0 };
    memcpy(whole, &header, sizeof(header));
    frame_fill(whole + IOD_NET_HEADER, length, 3);
    return iod_netdev_receive(probe.netdev, 0, whole, IOD_NET_HEADER + length);
}

START_TEST(receive_waits)
{
    struct fake_xen *fake = nic_start("netdev=probe");
    ck_assert(iod_netdev_accepts(probe.netdev, 0));
    nic_await(fake, &probe.again, 1); /* start said it */
    ck_assert(offer(0, 0, 60));
    ck_assert_uint_eq(nic->received, 1);
    ck_assert(frame_good(nic_last()->bytes, 60, 3));
    nic->room = 0;
    ck_assert(!offer(0, 0, 60));
    ck_assert_uint_eq(nic->refused, 1);
    ck_assert(!iod_netdev_accepts(probe.netdev, 0));
    ck_assert(!offer(0, 0, 60)); /* does not even reach it */
    ck_assert_uint_eq(nic->refused, 1);
    ck_assert_uint_eq(nic_counters()->received, 1);
    ck_assert_uint_eq(nic_counters()->receive_dropped, 0);
    nic_take(0, 5);
    nic_take(0, 5);
    ck_assert_uint_eq(probe.again, 1); /* later, on the loop */
    fake_run_ms(fake, 10);
    ck_assert_uint_eq(probe.again, 2); /* once */
    ck_assert(!probe.called_inside);
    ck_assert(offer(0, 0, 61));
    ck_assert_uint_eq(nic_counters()->received, 2);
    ck_assert_uint_eq(nic_counters()->received_bytes, 121);
    iod_netdev_receive_end(probe.netdev, 0);
    ck_assert_uint_eq(nic->ends, 1);
    nic_stop(fake);
}
END_TEST

START_TEST(receive_is_checked)
{
    probe.limits.gives = IOD_NET_CSUM | IOD_NET_TSO4;
    struct fake_xen *fake = nic_start("netdev=probe");
    ck_assert(offer(0, 0, 13)); /* taken off the backend's hands, but not heard */
    ck_assert(offer(0, 0, IOD_NET_FRAME_MAX + 1));
    ck_assert(offer(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 60)); /* not allowed yet */
    ck_assert(offer(0, 1, 60));
    ck_assert_uint_eq(nic->received, 0);
    ck_assert_uint_eq(nic_counters()->receive_dropped, 4);
    ck_assert_int_eq(iod_netdev_set_offloads(nic->netdev, IOD_NET_TSO6), -EINVAL);
    ck_assert_int_eq(iod_netdev_set_offloads(nic->netdev, IOD_NET_CSUM | IOD_NET_TSO4), 0);
    ck_assert_uint_eq(probe.offloads, IOD_NET_CSUM | IOD_NET_TSO4);
    ck_assert(offer(VIRTIO_NET_HDR_F_NEEDS_CSUM, 1, 60));
    ck_assert(offer(0, 0, IOD_NET_FRAME_MAX));
    ck_assert_uint_eq(nic->received, 2);
    ck_assert(offer(0, 4, 60));
    ck_assert_uint_eq(nic->received, 2);
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
    struct fake_xen *fake = nic_start("netdev=probe");
    fake_run_ms(fake, 5);
    probe.stops_later = true;
    device_stop(nic->device, &stop, IOD_FINISH, set_true, &quiet);
    ck_assert(!quiet);
    ck_assert(!offer(0, 0, 60)); /* not even while the backend stops */
    iod_netdev_writable(probe.netdev, 0); /* what the device finishes may still be sent */
    ck_assert_uint_eq(nic->writable, 1);
    iod_netdev_done(probe.netdev, 0);
    ck_assert(quiet);
    ck_assert(!offer(0, 0, 60));
    iod_netdev_writable(probe.netdev, 0);
    iod_netdev_set_limits(probe.netdev, &probe.limits);
    fake_run_ms(fake, 5);
    ck_assert_uint_eq(nic->received + nic->refused + nic->changed, 0);
    ck_assert_uint_eq(nic->writable, 1);
    nic_waits = true;
    device_resume(nic->device);
    ck_assert_uint_eq(nic->starts, 2);
    ck_assert(!offer(0, 0, 60)); /* not before the device says so */
    nic_take(0, 1);
    ck_assert(offer(0, 0, 60));
    probe.stops_later = false;
    nic_stop(fake);
}
END_TEST

/* ---- settings ---- */

static char told[256];

static void tell(struct daemon_listener *listener, const struct daemon_event *event)
{
    if (event->kind == EVENT_BACKEND) {
        snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s;", event->text);
    }
}

/* What makes the host work is charged to the guest; what changes nothing is not. */
START_TEST(settings_are_charged)
{
    nic_pairs = 4;
    probe.limits.pairs = 4;
    probe.limits.gives = IOD_NET_CSUM;
    nic_start("netdev=probe");
    uint64_t before = nic_settings();
    for (unsigned i = 0; i < 10; i++) {
        ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 1 + i % 2), 0);
        ck_assert_int_eq(iod_netdev_set_offloads(nic->netdev, i % 2 ? 0 : IOD_NET_CSUM), 0);
    }
    ck_assert_uint_eq(nic_settings(), before + 20);
    ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 2), 0);
    ck_assert_int_eq(iod_netdev_set_offloads(nic->netdev, 0), 0);
    ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 5), -EINVAL);
    ck_assert_uint_eq(nic_settings(), before + 20);
}
END_TEST

START_TEST(limits_change)
{
    nic_pairs = 4;
    probe.limits.pairs = 8;
    struct fake_xen *fake = nic_start("netdev=probe");
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->pairs, 4); /* no more than it can use */
    ck_assert_uint_eq(iod_netdev_pairs(probe.netdev), 4);
    ck_assert_uint_eq(nic->changed, 0);
    ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 5), -EINVAL);
    ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 0), -EINVAL);
    ck_assert_int_eq(iod_netdev_set_pairs(nic->netdev, 3), 0);
    ck_assert_uint_eq(probe.pairs, 3);
    struct daemon_listener listener = { .event = tell };
    daemon_listen(fake_daemon(fake), &listener);
    probe.limits.link = false;
    probe.limits.pairs = 0;
    nic->inside = true;
    iod_netdev_set_limits(probe.netdev, &probe.limits);
    nic->inside = false;
    ck_assert_uint_eq(nic->changed, 0);
    nic_await(fake, &nic->changed, 1);
    ck_assert(!iod_netdev_limits(nic->netdev)->link);
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->pairs, 1);
    ck_assert_str_eq(told, "lost: the link is down;");
    probe.limits.link = true;
    iod_netdev_set_limits(probe.netdev, &probe.limits);
    iod_netdev_set_limits(probe.netdev, &probe.limits);
    ck_assert_str_eq(told, "lost: the link is down;back: the link is up;");
    daemon_unlisten(&listener);
    nic_stop(fake);
}
END_TEST

/* ---- life ---- */

START_TEST(open_fails)
{
    probe.fails = true;
    nic_fails("netdev=probe", "probe: does not want to");
    nic_fails("netdev=nothing", "no network backend 'nothing'; there are: ");
    nic_fails("netdev=null,netdev.colour=red", "unknown option");
}
END_TEST

START_TEST(opens_later)
{
    probe.later = true;
    struct fake_xen *fake = nic_start("netdev=probe");
    fake_run_ms(fake, 5);
    ck_assert_uint_eq(probe.again, 1);
    ck_assert_uint_eq(nic->changed, 0);
    ck_assert(offer(0, 0, 60));
    nic_stop(fake);
    ck_assert(probe.closed);
    /* And one whose end is bad: the reason is said once, as it was given. */
    probe.closed = false;
    probe.later_error = (struct iod_error){ .code = EIO, .text = "probe: the moon is down" };
    nic_fails("netdev=probe", "probe: the moon is down");
    ck_assert(probe.closed);
}
END_TEST

START_TEST(null_swallows)
{
    uint8_t frame[60] = { 0 };
    struct virtio_net_hdr_v1 header = { .flags = 1, .gso_type = 1, .gso_size = htole16(20) };
    struct fake_xen *fake = nic_start("netdev=null");
    ck_assert(iod_netdev_limits(nic->netdev)->link);
    for (unsigned i = 0; i < 1000; i++) {
        ck_assert_int_eq(nic_send(0, &header, frame, sizeof(frame)), 0);
    }
    ck_assert_uint_eq(nic_counters()->sent, 1000);
    ck_assert_uint_eq(nic_counters()->send_dropped, 0);
    nic_stop(fake);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        pieces, header_is_a_copy, full_backend_and_drops, receive_waits, receive_is_checked, stopped_hears_nothing,
        limits_change, settings_are_charged, open_fails, opens_later, null_swallows,
    };
    Suite *suite = suite_create("netdev");
    TCase *layer = tcase_create("layer");
    tcase_add_checked_fixture(layer, set_up, NULL);
    tcase_add_loop_test(layer, headers_are_checked, 0, sizeof(header_cases) / sizeof(header_cases[0]));
    for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        tcase_add_test(layer, tests[i]);
    }
    tcase_set_timeout(layer, 60);
    suite_add_tcase(suite, layer);
    return unit_run(suite);
}
