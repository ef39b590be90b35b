/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-net between a scripted driver and a scripted backend: every frame, buffer and command is looked at. */
#include <errno.h>
#include <stdio.h>

#include "net_rig.h"

#define BIT(feature) (UINT64_C(1) << VIRTIO_NET_F_##feature)
#define MODERN (UINT64_C(1) << VIRTIO_F_VERSION_1)
#define PLAIN (UINT64_MAX & ~BIT(MRG_RXBUF) & ~(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX))
enum { RX, TX, CTRL }; /* of one pair */

static const uint8_t own[ETH_ALEN] = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};

static void setup(void)
{
    rig_option("mac", "02:11:22:33:44:55");
    rig_setup(NULL, "1");
}

static void setup_legacy(void)
{
    rig_option("mac", "02:11:22:33:44:55");
    rig_setup("mmio-legacy", "1");
}

static void setup_pairs(void)
{
    rig_option("mac", "02:11:22:33:44:55");
    rig_setup(NULL, "4");
}

/* One assertion for all bytes, for Check writes a message at each. */
static void expect_bytes(const uint8_t *bytes, size_t from, size_t count, uint8_t seed)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t right = rig_byte(from + i, seed);

        right = from + i == 0 ? right & 0xfe : right;
        if (bytes[i] != right) {
            ck_abort_msg("byte %zu is 0x%x; expected 0x%x", from + i, bytes[i], right);
        }
    }
}

static void expect_sent(unsigned index, size_t length, uint8_t seed)
{
    static const uint8_t header[IOD_NET_HEADER];

    ck_assert_uint_lt(index, rig.backend.sent);
    ck_assert_uint_eq(rig.backend.frames[index].length, IOD_NET_HEADER + length);
    ck_assert_mem_eq(rig.backend.frames[index].bytes, header, sizeof(header));
    expect_bytes(rig.backend.frames[index].bytes + IOD_NET_HEADER, 0, length, seed);
}

static unsigned used_count(unsigned queue)
{
    unsigned count = 0;

    while (rig_used(queue, NULL, NULL)) {
        count++;
    }
    return count;
}

/* ---- features and configuration ---- */

START_TEST(features_follow_options_and_limits)
{
    static const struct {
        const char *option, *value;
        uint32_t takes, gives;
        uint64_t with, without;
    } cases[] = {
        {"mtu", NULL, RIG_ALL_OFFLOADS, RIG_ALL_OFFLOADS,
         BIT(MAC) | BIT(STATUS) | BIT(CTRL_VQ) | BIT(CTRL_RX) | BIT(CTRL_RX_EXTRA) | BIT(CTRL_VLAN) |
             BIT(CTRL_MAC_ADDR) | BIT(GUEST_ANNOUNCE) | BIT(MRG_RXBUF) | BIT(MTU) | BIT(CSUM) |
             BIT(HOST_TSO4) | BIT(HOST_TSO6) | BIT(HOST_ECN) | BIT(HOST_UFO) | BIT(HOST_USO) |
             BIT(GUEST_CSUM) | BIT(GUEST_TSO4) | BIT(GUEST_TSO6) | BIT(GUEST_ECN) |
             BIT(GUEST_UFO) | BIT(GUEST_USO4) | BIT(GUEST_USO6) |
             BIT(CTRL_GUEST_OFFLOADS), BIT(MQ)},
        {"offloads", "off", RIG_ALL_OFFLOADS, RIG_ALL_OFFLOADS, BIT(MRG_RXBUF),
         BIT(CSUM) | BIT(HOST_TSO4) | BIT(GUEST_CSUM) | BIT(GUEST_TSO6) | BIT(CTRL_GUEST_OFFLOADS)},
        {"mrg", "off", 0, IOD_NET_CSUM, BIT(GUEST_CSUM) | BIT(CTRL_GUEST_OFFLOADS),
         BIT(MRG_RXBUF) | BIT(CSUM) | BIT(GUEST_TSO4)},
        /* segmentation without checksums, ECN without segmentation: features that need others (5.1.3.1) */
        {"announce", "off", IOD_NET_TSO4 | IOD_NET_UFO, IOD_NET_CSUM | IOD_NET_TSO_ECN, BIT(GUEST_CSUM),
         BIT(GUEST_ANNOUNCE) | BIT(HOST_TSO4) | BIT(HOST_UFO) | BIT(GUEST_ECN)},
        {"pairs", "3", IOD_NET_CSUM, 0, BIT(MQ) | BIT(CSUM), BIT(GUEST_CSUM) | BIT(CTRL_GUEST_OFFLOADS)},
    };
    struct iod_error error = {0};

    rig.backend.limits = (struct iod_netdev_limits){
        .pairs = 4, .takes = cases[_i].takes, .gives = cases[_i].gives, .mtu = 1500, .link = true};
    rig_option(cases[_i].option, cases[_i].value);
    ck_assert_int_eq(rig_make(NULL, &error), 0);
    ck_assert_uint_eq(rig_offered() & cases[_i].with, cases[_i].with);
    ck_assert_uint_eq(rig_offered() & cases[_i].without, 0);
    rig_teardown();
}
END_TEST

START_TEST(bad_options)
{
    static const struct {
        const char *option, *value, *text;
    } cases[] = {
        {"mac", "02:11:22:33:44", "mac=02:11:22:33:44: must be"},
        {"mac", "03:11:22:33:44:55", "no group"},
        {"mac", "0g:11:22:33:44:55", "must be"},
        {"mac", "02-11-22-33-44-55", "must be"},
        {"mac", "02:11:22:33:44:5g", "must be"},
        {"mac", "02:11:22:33:44:555", "must be"},
        {"mac", "0:211:22:33:44:55", "must be"},
        {"queue-size", "100", "power of two"},
        {"mtu", "67", "mtu=67: must be from 68"},
    };
    struct iod_error error = {0};

    rig_option(cases[_i].option, cases[_i].value);
    ck_assert_int_eq(rig_make(NULL, &error), -EINVAL);
    ck_says(error, cases[_i].text);
}
END_TEST

static uint32_t config(unsigned offset, unsigned width)
{
    return (uint32_t)fake_read(rig.region, 0x100 + offset, width);
}

START_TEST(configuration)
{
    uint8_t mac[ETH_ALEN];

    for (unsigned i = 0; i < ETH_ALEN; i++) {
        mac[i] = (uint8_t)config(i, 1);
    }
    ck_assert_mem_eq(mac, own, ETH_ALEN);
    ck_assert_uint_eq(config(6, 2), VIRTIO_NET_S_LINK_UP);
    ck_assert_uint_eq(config(8, 2), 4);
    ck_assert_uint_eq(config(10, 2), 1500);
    ck_assert_uint_eq(config(12, 4), 0);
    rig_start(UINT64_MAX, 9);
    fake_write(rig.region, 0x100, 1, 0x66); /* a modern driver must not */
    ck_assert_uint_eq(config(0, 1), 0x02);
    ck_assert_uint_eq(rig.device->guest_errors, 1);
}
END_TEST

START_TEST(a_mac_by_lot)
{
    rig_setup(NULL, "1");
    ck_assert_uint_eq(config(0, 1), 0xfe); /* of 48 ones: locally administered, no group */
    ck_assert_uint_eq(config(5, 1), 0xff);
    rig_teardown();
}
END_TEST

START_TEST(fewer_pairs_than_asked)
{
    rig.backend.limits = (struct iod_netdev_limits){.pairs = 2};
    rig_option("pairs", "4");
    ck_assert_int_eq(rig_make(NULL, NULL), 0);
    ck_assert_uint_eq(rig.backend.asked_pairs, 4);
    ck_assert_uint_eq(config(8, 2), 2);
    rig_start(UINT64_MAX, 5);
    uint16_t two = 2, three = 3; /* the control queue is behind those that can be used */
    ck_assert_int_eq(rig_command(4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &two, 2), VIRTIO_NET_OK);
    ck_assert_int_eq(rig_command(4, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &three, 2), VIRTIO_NET_ERR);
    rig_teardown();
}
END_TEST

/* ---- from the guest ---- */

START_TEST(sends)
{
    static const size_t lengths[] = {14, 60, 1514, 9014, IOD_NET_FRAME_MAX};

    rig_start(UINT64_MAX, 3);
    for (unsigned i = 0; i < 5; i++) {
        rig_put_frame(TX, lengths[i], (uint8_t)i);
    }
    rig_kick(TX);
    for (unsigned i = 0; i < 5; i++) {
        uint32_t written = 1;

        expect_sent(i, lengths[i], (uint8_t)i);
        ck_assert(rig_used(TX, NULL, &written));
        ck_assert_uint_eq(written, 0);
    }
    ck_assert_uint_eq(rig.backend.send_ends, 1); /* one batch, one interrupt */
    ck_assert_uint_eq(rig.device->raised, 1);
    ck_assert_uint_eq(rig_net()->counters.sent, 5);
}
END_TEST

/* The header in three pieces, the frame in others, no border where another is; with indirect or not is the ring's. */
START_TEST(sends_in_pieces)
{
    uint64_t at = rig_take(2048);
    struct iod_extent extents[] = {{at, 5}, {at + 5, 1}, {at + 6, 10}, {at + 16, 40}, {at + 56, 200}};

    rig_start(UINT64_MAX, 3);
    uint8_t *frame = rig_frame(244, 9);
    frame[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    frame[6] = 34;
    frame[8] = 16;
    memcpy(fake_at(rig.guest, at, 256), frame, 256);
    rig_put(TX, 5, 5, extents);
    rig_kick(TX);
    ck_assert_uint_eq(rig.backend.sent, 1);
    ck_assert_uint_eq(rig.backend.frames[0].length, 256);
    ck_assert_mem_eq(rig.backend.frames[0].bytes, frame, 256);
}
END_TEST

/* A legacy driver's header is 10 bytes long, a backend's always 12; with mergeable buffers both are. */
START_TEST(legacy_header)
{
    struct net *net = rig_net();
    uint8_t bytes[64] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};

    ck_assert_uint_eq(rig_offered() & MODERN, 0);
    fake_write(rig.region, 0x070, 4, 3);
    fake_write(rig.region, 0x020, 4, (uint32_t)BIT(MAC)); /* driver features, low half */
    fake_write(rig.region, 0x028, 4, 4096);
    fake_write(rig.region, 0x030, 4, TX);
    fake_write(rig.region, 0x038, 4, RIG_SIZE);
    fake_write(rig.region, 0x03c, 4, 0x400);
    fake_write(rig.region, 0x040, 4, (uint32_t)(FAKE_BASE >> 12) + TX);
    fake_write(rig.region, 0x070, 4, 7);
    fake_tasks(rig.device);
    ck_assert_uint_eq(net->header, LEGACY_HEADER);
    uint64_t at = rig_take(64);
    memcpy(fake_at(rig.guest, at, 64), bytes, 64);
    struct vring_desc *desc = fake_at(rig.guest, FAKE_BASE + 0x1000, 4096);
    desc[0] = (struct vring_desc){.addr = at, .len = 7, .flags = VRING_DESC_F_NEXT, .next = 1};
    desc[1] = (struct vring_desc){.addr = at + 7, .len = 57};
    uint16_t *ring = fake_at(rig.guest, FAKE_BASE + 0x1000 + 16 * RIG_SIZE, 64);
    ring[2] = 0;
    ring[1] = 1;
    rig_kick(TX);
    ck_assert_uint_eq(rig.backend.sent, 1);
    ck_assert_uint_eq(rig.backend.frames[0].length, 66);
    ck_assert_mem_eq(rig.backend.frames[0].bytes, bytes, 10);
    ck_assert_uint_eq(rig.backend.frames[0].bytes[10] | rig.backend.frames[0].bytes[11], 0);
    ck_assert_mem_eq(rig.backend.frames[0].bytes + 12, bytes + 10, 54);
    fake_write(rig.region, 0x100 + 3, 1, 0x77); /* such a driver sets the address here */
    ck_assert_uint_eq(rig_regs()->mac[3], 0x77);
}
END_TEST

/* What the backend does not take stays on the ring, in order, and goes when it says so. */
START_TEST(sends_when_there_is_room)
{
    rig_start(UINT64_MAX, 3);
    rig.backend.takes_frames = 2;
    for (unsigned i = 0; i < 5; i++) {
        rig_put_frame(TX, 100 + i, (uint8_t)i);
    }
    rig_kick(TX);
    ck_assert_uint_eq(rig.backend.sent, 2);
    ck_assert_uint_eq(used_count(TX), 2);
    rig_kick(TX); /* an impatient driver changes nothing */
    ck_assert_uint_eq(rig.backend.sent, 2);
    rig.backend.takes_frames = 4;
    rig.backend.events->writable(rig.backend.self, 0);
    ck_assert_uint_eq(rig.backend.sent, 4);
    rig.backend.takes_frames = RIG_SENT;
    rig.backend.events->writable(rig.backend.self, 0);
    fake_tasks(rig.device);
    ck_assert_uint_eq(used_count(TX), 3);
    for (unsigned i = 0; i < 5; i++) {
        expect_sent(i, 100 + i, (uint8_t)i);
    }
    ck_assert_uint_eq(rig_net()->counters.sent, 5);
}
END_TEST

/* A guest with much to send gets its turns; others come between them. */
START_TEST(a_drain_is_bounded)
{
    struct iod_extent extent = {rig_take(IOD_NET_HEADER + IOD_NET_FRAME_MAX), IOD_NET_HEADER + IOD_NET_FRAME_MAX};

    rig_start(UINT64_MAX & ~(UINT64_C(1) << VIRTIO_RING_F_EVENT_IDX), 3);
    for (unsigned i = 0; i < RIG_SIZE; i++) {
        rig_put(TX, 1, 1, &extent);
    }
    net_transmit(&rig_net()->pairs[0]);
    ck_assert_uint_eq(rig.backend.sent, TRANSMIT_MAX / IOD_NET_FRAME_MAX + 1);
    fake_tasks(rig.device); /* without a kick */
    fake_tasks(rig.device);
    ck_assert_uint_eq(rig.backend.sent, RIG_SIZE);
    ck_assert_uint_eq(used_count(TX), RIG_SIZE);
}
END_TEST

START_TEST(bad_frames_to_send)
{
    static const struct {
        uint64_t address;
        uint32_t length;
        bool broken;
    } cases[] = {
        {RIG_BUFFERS, 11, true}, {RIG_BUFFERS, 1, true}, {RIG_BUFFERS, 0, true},
        {RIG_BUFFERS, 12, false}, {RIG_BUFFERS, 25, false},
        {RIG_BUFFERS, IOD_NET_HEADER + IOD_NET_FRAME_MAX + 1, false}, {RIG_BUFFERS, UINT32_MAX, false},
        {0, 100, false}, {FAKE_BASE + FAKE_MEMORY, 100, false},
    };
    struct iod_extent extent = {cases[_i].address, cases[_i].length};

    rig_start(UINT64_MAX, 3);
    rig_put(TX, 1, 1, &extent);
    rig_kick(TX);
    ck_assert_uint_eq(rig_net()->counters.send_bad, 1);
    ck_assert_uint_eq(rig.device->guest_errors, 1);
    ck_assert_uint_eq(rig_status() & VIRTIO_CONFIG_S_NEEDS_RESET, cases[_i].broken ? VIRTIO_CONFIG_S_NEEDS_RESET : 0);
    ck_assert(rig_used(TX, NULL, NULL)); /* the buffer is the driver's again */
    rig_put_frame(TX, 64, 1);
    rig_kick(TX);
    ck_assert_uint_eq(rig.backend.sent, cases[_i].broken ? 0 : 1);
}
END_TEST

/* ---- to the guest ---- */

START_TEST(receives)
{
    uint32_t written;

    rig_start(PLAIN | BIT(MRG_RXBUF), 3);
    ck_assert_uint_eq(rig.backend.again[0], 1); /* it takes frames now */
    uint64_t at = rig_receive_buffer(RX, 2048);
    rig_kick(RX);
    ck_assert_uint_eq(rig.backend.again[0], 1); /* and did all the time */
    uint8_t *frame = rig_frame(1000, 5);
    frame[0] = VIRTIO_NET_HDR_F_DATA_VALID;
    frame[10] = 0xee;
    ck_assert(rig_offer(0, frame, 1000));
    ck_assert(rig_used(RX, NULL, &written));
    ck_assert_uint_eq(written, 1012);
    const uint8_t *got = fake_at(rig.guest, at, 2048);
    ck_assert_uint_eq(got[0], VIRTIO_NET_HDR_F_DATA_VALID);
    ck_assert_uint_eq(got[10] | got[11] << 8, 1);
    expect_bytes(got + 12, 0, 1000, 5);
    ck_assert_uint_eq(got[1012], 0);
    ck_assert_uint_eq(rig.device->raised, 1);
    ck_assert_uint_eq(rig_net()->counters.received, 1);
    ck_assert_uint_eq(rig_net()->counters.received_bytes, 1000);
}
END_TEST

/* One frame over many buffers: all but the last are full (5.1.6.4.1), and shown together. */
START_TEST(receives_merged)
{
    uint64_t at[11];
    uint32_t written;

    rig_start((PLAIN | BIT(MRG_RXBUF)) & ~BIT(MTU), 3);
    for (unsigned i = 0; i < 11; i++) {
        at[i] = rig_receive_buffer(RX, 1000 + i);
    }
    ck_assert(rig_offer(0, rig_frame(9000, 3), 9000));
    size_t done = 0;
    for (unsigned i = 0; i < 9; i++) {
        size_t here = i == 0 ? 1000 - 12 : 1000 + i;
        const uint8_t *got = (uint8_t *)fake_at(rig.guest, at[i], 1100) + (i == 0 ? 12 : 0);

        ck_assert(rig_used(RX, NULL, &written));
        here = here < 9000 - done ? here : 9000 - done;
        ck_assert_uint_eq(written, here + (i == 0 ? 12 : 0));
        expect_bytes(got, done, here, 3);
        done += here;
    }
    ck_assert_uint_eq(done, 9000);
    ck_assert(!rig_used(RX, NULL, NULL));
    ck_assert_uint_eq(*((uint8_t *)fake_at(rig.guest, at[0], 12) + 10), 9);
    ck_assert_uint_eq(rig.device->raised, 1);
}
END_TEST

/* The header's 12 bytes over four descriptors of one chain, behind a readable one that does not matter. */
START_TEST(receives_header_in_pieces)
{
    uint64_t at = rig_take(4096);
    struct iod_extent extents[] = {{at, 16}, {at + 100, 1}, {at + 200, 9}, {at + 300, 1}, {at + 400, 11},
                                   {at + 500, 600}};
    uint32_t written;

    rig_start(_i ? PLAIN : UINT64_MAX, 3);
    rig_put(RX, 1, 6, extents);
    uint8_t *frame = rig_frame(500, 5), *memory = fake_at(rig.guest, at, 2048);
    for (unsigned i = 0; i < 10; i++) {
        frame[i] = (uint8_t)(0xa0 + i);
    }
    ck_assert(rig_offer(0, frame, 500));
    ck_assert(rig_used(RX, NULL, &written));
    ck_assert_uint_eq(written, 512);
    ck_assert_uint_eq(memory[100], 0xa0);
    ck_assert_uint_eq(memory[200], 0xa1);
    ck_assert_uint_eq(memory[208], 0xa9);
    ck_assert_uint_eq(memory[300], 1); /* num_buffers */
    ck_assert_uint_eq(memory[400], 0);
    expect_bytes(memory + 401, 0, 10, 5);
    expect_bytes(memory + 500, 10, 490, 5);
    ck_assert_uint_eq(memory[0] | memory[16], 0);
}
END_TEST

/* Too few buffers: nothing is taken, nothing lost, and the kick for one more is asked for. */
START_TEST(waits_for_buffers)
{
    rig_start((_i ? UINT64_MAX : PLAIN | BIT(MRG_RXBUF)) & ~BIT(MTU), 3);
    uint8_t *frame = rig_frame(4000, 7);
    ck_assert(!rig_offer(0, frame, 4000));
    for (unsigned i = 0; i < 3; i++) {
        unsigned before = rig.backend.again[0];

        rig_receive_buffer(RX, 1200);
        rig_kick(RX);
        ck_assert_uint_eq(rig.backend.again[0], before + 1);
        ck_assert(!rig_offer(0, frame, 4000));
        fake_tasks(rig.device);
        fake_tasks(rig.device);
        ck_assert_uint_eq(rig.backend.again[0], before + 1); /* it does not ask in a circle */
        ck_assert(!rig_used(RX, NULL, NULL));
        uint16_t *flags = fake_at(rig.guest, FAKE_BASE + 0x800, 1024);
        ck_assert_uint_eq(_i ? flags[2 + 4 * RIG_SIZE] : flags[0], _i ? i + 1 : 0);
    }
    rig_receive_buffer(RX, 1200);
    rig_kick(RX);
    ck_assert(rig_offer(0, frame, 4000));
    ck_assert_uint_eq(used_count(RX), 4);
    ck_assert_uint_eq(rig_net()->counters.received, 1);
    ck_assert_uint_eq(rig_net()->counters.waited, 4);
}
END_TEST

/* What was delivered before the wait is shown to the driver: it may need it to give more buffers. */
START_TEST(waiting_shows_what_there_is)
{
    rig_start(UINT64_MAX, 3);
    rig_receive_buffer(RX, 1200);
    const uint8_t *frame = rig_frame(100, 1);
    const struct iod_netdev_events *events = rig.backend.events;
    ck_assert(events->receive(rig.backend.self, 0, frame, 112));
    ck_assert(!events->receive(rig.backend.self, 0, frame, 112));
    ck_assert(rig_used(RX, NULL, NULL));
}
END_TEST

START_TEST(does_not_fit)
{
    rig_start(PLAIN, 3);
    rig_receive_buffer(RX, 111); /* one byte too short, and not mergeable */
    ck_assert(rig_offer(0, rig_frame(100, 1), 100));
    ck_assert_uint_eq(rig_net()->counters.receive_long, 1);
    ck_assert(!rig_used(RX, NULL, NULL));
    ck_assert(rig_offer(0, rig_frame(99, 1), 99)); /* the same buffer serves the next one */
    ck_assert(rig_used(RX, NULL, NULL));
    ck_assert(rig_offer(0, rig_frame(1519, 1), 1519)); /* longer than the MTU */
    ck_assert_uint_eq(rig_net()->counters.receive_long, 2);
    rig_receive_buffer(RX, 2000);
    uint8_t *frame = rig_frame(1519, 1);
    frame[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    frame[1] = VIRTIO_NET_HDR_GSO_TCPV4; /* but to be segmented */
    ck_assert(rig_offer(0, frame, 1519));
    ck_assert(rig_used(RX, NULL, NULL));
}
END_TEST

/* A frame that the whole ring can't hold would wait for ever. */
START_TEST(longer_than_the_ring)
{
    rig_start(UINT64_MAX & ~BIT(MTU), 3);
    for (unsigned i = 0; i < RIG_SIZE; i++) {
        rig_receive_buffer(RX, 100);
    }
    ck_assert(rig_offer(0, rig_frame(4000, 1), 4000));
    ck_assert_uint_eq(rig_net()->counters.receive_long, 1);
    ck_assert(!rig_used(RX, NULL, NULL));
    ck_assert(rig_offer(0, rig_frame(1500, 1), 1500));
    ck_assert_uint_eq(used_count(RX), 16);
    ck_assert_uint_eq(rig_status() & VIRTIO_CONFIG_S_NEEDS_RESET, 0);
}
END_TEST

START_TEST(bad_receive_buffers)
{
    static const struct iod_extent cases[] = {{RIG_BUFFERS, 11}, {RIG_BUFFERS, 0}, {0, 2000},
                                              {FAKE_BASE + FAKE_MEMORY, 2000},
                                              {FAKE_BASE + FAKE_MEMORY - 12, 2000}};

    rig_start(UINT64_MAX, 3);
    rig_put(RX, 0, 1, &cases[_i]);
    ck_assert(rig_offer(0, rig_frame(100, 1), 100)); /* dropped, and counted */
    ck_assert_uint_eq(rig_status() & VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_CONFIG_S_NEEDS_RESET);
    ck_assert_uint_eq(rig_net()->counters.receive_bad, 1);
    ck_assert(!rig_used(RX, NULL, NULL));
    ck_assert(!rig_offer(0, rig_frame(100, 1), 100)); /* waits for the reset */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio-net");
    TCase *bare = tcase_create("bare"), *one = tcase_create("one"), *legacy = tcase_create("legacy"),
          *pairs = tcase_create("pairs");
    tcase_add_loop_test(bare, features_follow_options_and_limits, 0, 5);
    tcase_add_loop_test(bare, bad_options, 0, 9);
    tcase_add_test(bare, a_mac_by_lot);
    tcase_add_test(bare, fewer_pairs_than_asked);
    suite_add_tcase(suite, bare);
    tcase_add_checked_fixture(one, setup, rig_teardown);
    tcase_add_test(one, sends);
    tcase_add_test(one, sends_in_pieces);
    tcase_add_test(one, sends_when_there_is_room);
    tcase_add_test(one, a_drain_is_bounded);
    tcase_add_loop_test(one, bad_frames_to_send, 0, 9);
    tcase_add_test(one, receives);
    tcase_add_test(one, receives_merged);
    tcase_add_loop_test(one, receives_header_in_pieces, 0, 2);
    tcase_add_loop_test(one, waits_for_buffers, 0, 2);
    tcase_add_test(one, waiting_shows_what_there_is);
    tcase_add_test(one, does_not_fit);
    tcase_add_test(one, longer_than_the_ring);
    tcase_add_loop_test(one, bad_receive_buffers, 0, 5);
    suite_add_tcase(suite, one);
    tcase_add_checked_fixture(legacy, setup_legacy, rig_teardown);
    tcase_add_test(legacy, legacy_header);
    suite_add_tcase(suite, legacy);
    tcase_add_checked_fixture(pairs, setup_pairs, rig_teardown);
    tcase_add_test(pairs, configuration);
    suite_add_tcase(suite, pairs);
    return unit_run(suite);
}
