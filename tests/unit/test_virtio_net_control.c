/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-net's control queue: receive filter, pairs, offloads, announcements, and what of it is saved. */
#include <errno.h>
#include <stdio.h>

#include "net_rig.h"

#define BIT(feature) (UINT64_C(1) << VIRTIO_NET_F_##feature)
#define CTRL 2u  /* of one pair */
#define CTRL4 8u /* of four */

static const uint8_t own[ETH_ALEN] = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};
static const uint8_t other[ETH_ALEN] = {0x02, 0x66, 0x77, 0x88, 0x99, 0xaa};
static const uint8_t group[ETH_ALEN] = {0x01, 0x00, 0x5e, 0x00, 0x00, 0x01};
static const uint8_t broadcast[ETH_ALEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void setup(void)
{
    rig_option("mac", "02:11:22:33:44:55");
    rig_setup(NULL, "1");
    rig_start(UINT64_MAX, 3);
}

static void setup_pairs(void)
{
    rig_option("mac", "02:11:22:33:44:55");
    rig_setup(NULL, "4");
}

static int mode(uint8_t what, uint8_t on)
{
    return rig_command(CTRL, VIRTIO_NET_CTRL_RX, what, &on, 1);
}

static int vlan(uint8_t what, uint16_t id)
{
    return rig_command(CTRL, VIRTIO_NET_CTRL_VLAN, what, &id, 2);
}

/* Does a frame to this address reach the guest? tag < 0: without a VLAN tag. */
static bool reaches(const uint8_t *to, int tag)
{
    uint64_t filtered = rig_net()->counters.filtered;
    uint8_t *frame = rig_frame(64, 1);
    bool there;

    memcpy(frame + IOD_NET_HEADER, to, ETH_ALEN);
    frame[IOD_NET_HEADER + 12] = tag < 0 ? 0x08 : 0x81;
    frame[IOD_NET_HEADER + 13] = 0;
    frame[IOD_NET_HEADER + 14] = (uint8_t)(0xf0 | tag >> 8); /* a priority is no part of the id */
    frame[IOD_NET_HEADER + 15] = (uint8_t)tag;
    rig.next_buffer = RIG_BUFFERS + 0x10000;
    rig_receive_buffer(0, 2000);
    ck_assert(rig_offer(0, frame, 64));
    there = rig_used(0, NULL, NULL);
    ck_assert_uint_eq(rig_net()->counters.filtered, filtered + !there);
    if (!there) { /* empties the ring again */
        uint8_t before = rig_regs()->rx_mode;
        rig_regs()->rx_mode = 1u << VIRTIO_NET_CTRL_RX_PROMISC;
        ck_assert(rig_offer(0, frame, 64));
        ck_assert(rig_used(0, NULL, NULL));
        rig_regs()->rx_mode = before;
    }
    return there;
}

START_TEST(receive_modes)
{
    ck_assert(reaches(other, -1) && reaches(group, -1) && reaches(broadcast, -1) && reaches(own, 5)); /* promiscuous */
    ck_assert_int_eq(mode(VIRTIO_NET_CTRL_RX_PROMISC, 0), VIRTIO_NET_OK);
    ck_assert(reaches(own, -1) && reaches(broadcast, -1));
    ck_assert(!reaches(other, -1) && !reaches(group, -1));
    ck_assert_int_eq(mode(VIRTIO_NET_CTRL_RX_ALLMULTI, 1), VIRTIO_NET_OK);
    ck_assert(reaches(group, -1) && !reaches(other, -1));
    ck_assert_int_eq(mode(VIRTIO_NET_CTRL_RX_NOMULTI, 1), VIRTIO_NET_OK); /* goes before "all" */
    ck_assert(!reaches(group, -1) && reaches(broadcast, -1));
    ck_assert_int_eq(mode(VIRTIO_NET_CTRL_RX_NOBCAST, 1), VIRTIO_NET_OK);
    ck_assert(!reaches(broadcast, -1));
    ck_assert_int_eq(mode(VIRTIO_NET_CTRL_RX_ALLUNI, 1), VIRTIO_NET_OK);
    ck_assert(reaches(other, -1));
    ck_assert_int_eq(mode(VIRTIO_NET_CTRL_RX_NOUNI, 1), VIRTIO_NET_OK);
    ck_assert(!reaches(other, -1) && !reaches(own, -1));
    ck_assert_int_eq(mode(VIRTIO_NET_CTRL_RX_PROMISC, 1), VIRTIO_NET_OK); /* goes before all */
    ck_assert(reaches(own, -1) && reaches(other, -1) && reaches(group, -1) && reaches(broadcast, -1));
}
END_TEST

START_TEST(vlans)
{
    mode(VIRTIO_NET_CTRL_RX_PROMISC, 0);
    ck_assert(reaches(own, -1) && !reaches(own, 0) && !reaches(own, 5) && !reaches(own, 4095));
    ck_assert_int_eq(vlan(VIRTIO_NET_CTRL_VLAN_ADD, 5), VIRTIO_NET_OK);
    ck_assert_int_eq(vlan(VIRTIO_NET_CTRL_VLAN_ADD, 4095), VIRTIO_NET_OK);
    ck_assert(reaches(own, 5) && reaches(own, 4095) && !reaches(own, 6) && !reaches(other, 5));
    ck_assert_int_eq(vlan(VIRTIO_NET_CTRL_VLAN_DEL, 5), VIRTIO_NET_OK);
    ck_assert(!reaches(own, 5));
    ck_assert_int_eq(vlan(VIRTIO_NET_CTRL_VLAN_ADD, 4096), VIRTIO_NET_ERR);
    ck_assert_int_eq(vlan(2, 5), VIRTIO_NET_ERR);
    rig_start(UINT64_MAX & ~BIT(CTRL_VLAN), 3); /* not negotiated: all tagged ones */
    mode(VIRTIO_NET_CTRL_RX_PROMISC, 0);
    ck_assert(reaches(own, 5));
    ck_assert_int_eq(vlan(VIRTIO_NET_CTRL_VLAN_ADD, 5), VIRTIO_NET_ERR);
}
END_TEST

/* The two tables as the command has them; the length. */
static size_t tables(uint8_t *to, uint32_t unicast, uint32_t multicast)
{
    size_t at = 0;

    for (unsigned table = 0; table < 2; table++) {
        uint32_t count = table ? multicast : unicast;

        memcpy(to + at, &count, 4);
        at += 4;
        for (uint32_t i = 0; i < count; i++, at += ETH_ALEN) {
            memcpy(to + at, table ? group : other, ETH_ALEN);
            to[at + 4] = (uint8_t)(to[at + 4] + i); /* the first is group or other itself */
        }
    }
    return at;
}

static int set_tables(uint32_t unicast, uint32_t multicast)
{
    static uint8_t bytes[8 + 300 * ETH_ALEN];

    return rig_command(CTRL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, bytes,
                       tables(bytes, unicast, multicast));
}

START_TEST(mac_tables)
{
    static const uint8_t unknown[ETH_ALEN] = {0x02, 9, 9, 9, 9, 9}, unknown_group[ETH_ALEN] = {0x03, 9, 9, 9, 9, 9};
    uint8_t last[ETH_ALEN];

    mode(VIRTIO_NET_CTRL_RX_PROMISC, 0);
    ck_assert_int_eq(set_tables(30, 34), VIRTIO_NET_OK); /* as many as fit */
    ck_assert_uint_eq(rig_regs()->overflow, 0);
    memcpy(last, other, ETH_ALEN);
    last[4] = (uint8_t)(last[4] + 29);
    ck_assert(reaches(other, -1) && reaches(last, -1) && reaches(group, -1) && reaches(own, -1));
    last[4]++;
    ck_assert(!reaches(last, -1) && !reaches(unknown, -1) && !reaches(unknown_group, -1));
    ck_assert_int_eq(set_tables(1, 64), VIRTIO_NET_OK); /* one too many: all groups */
    ck_assert(reaches(other, -1) && !reaches(unknown, -1) && reaches(unknown_group, -1));
    ck_assert_int_eq(set_tables(65, 1), VIRTIO_NET_OK);
    ck_assert(reaches(unknown, -1) && reaches(group, -1) && !reaches(unknown_group, -1));
    ck_assert_int_eq(set_tables(200, 100), VIRTIO_NET_OK);
    ck_assert(reaches(unknown, -1) && reaches(unknown_group, -1));
    ck_assert_int_eq(set_tables(0, 0), VIRTIO_NET_OK);
    ck_assert(!reaches(other, -1) && !reaches(group, -1) && reaches(own, -1));
    ck_assert_int_eq(rig_command(CTRL, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, other, 6), VIRTIO_NET_OK);
    ck_assert(reaches(other, -1) && !reaches(own, -1));
    ck_assert_uint_eq(fake_read(rig.region, 0x105, 1), 0xaa);
}
END_TEST

/* Whatever is wrong with a command, it changes nothing and says so. */
START_TEST(bad_commands)
{
    static const struct {
        uint8_t class, what;
        uint32_t length;
        uint8_t data[24];
    } cases[] = {
        {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0, {0}},
        {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 2, {0}},
        {VIRTIO_NET_CTRL_RX, 6, 1, {0}}, {VIRTIO_NET_CTRL_RX, 255, 1, {0}},
        {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 5, {2}},
        {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 7, {2}},
        {VIRTIO_NET_CTRL_MAC, 2, 6, {2}},
        {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 0, {0}},
        {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 7, {0}},
        {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 9, {0}},
        {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 13, {1}}, /* one entry, the second count cut */
        {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 8, {0xff, 0xff, 0xff, 0xff}},
        {VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 8, {0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
        {VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 1, {5}},
        {VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 3, {5}},
        {VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK, 0, {0}}, /* nothing is announced */
        {VIRTIO_NET_CTRL_ANNOUNCE, 1, 0, {0}},
        {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 2, {1}}, /* not negotiated */
        {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 7, {2}},
        {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 9, {2}},
        {VIRTIO_NET_CTRL_GUEST_OFFLOADS, 1, 8, {2}},
        {VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 8, {0, 0, 1}}, /* no offload's bit */
        {6, 0, 1, {0}}, {255, 255, 24, {0}},
    };
    struct net_regs before;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        before = *rig_regs();
        ck_assert_msg(rig_command(CTRL, cases[i].class, cases[i].what, cases[i].data, cases[i].length) ==
                      VIRTIO_NET_ERR, "case %zu", i);
        ck_assert_msg(memcmp(&before, rig_regs(), sizeof(before)) == 0, "case %zu changed something", i);
    }
    ck_assert_uint_eq(rig_status(), 15);
}
END_TEST

/* A command without room for an answer, or with none at all, is not one. */
START_TEST(broken_commands)
{
    static const struct {
        unsigned out, count;
        struct iod_extent extents[2];
        const char *error;
    } cases[] = {
        {1, 2, {{RIG_BUFFERS, 1}, {RIG_BUFFERS, 1}}, "without header"},
        {0, 1, {{RIG_BUFFERS, 1}}, "without header"},
        {1, 1, {{RIG_BUFFERS, 3}}, "without room"},
        {1, 2, {{RIG_BUFFERS, 3}, {0, 1}}, "whose answer is not in memory"},
        {1, 2, {{RIG_BUFFERS, 3}, {RIG_BUFFERS, 0}}, "without room"},
    };

    rig_take(16);
    rig_put(CTRL, cases[_i].out, cases[_i].count, cases[_i].extents);
    rig_kick(CTRL);
    ck_assert_uint_eq(rig_status() & VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_CONFIG_S_NEEDS_RESET);
    ck_assert_uint_eq(rig.device->guest_errors, 1);
    ck_assert_msg(strstr(rig.device->last_error, cases[_i].error) != NULL, "%s", rig.device->last_error);
}
END_TEST

/* The command's data where no memory is: an answer, no fault. */
START_TEST(commands_out_of_memory)
{
    uint64_t at = rig_take(16);
    struct iod_extent extents[] = {{at, 2}, {FAKE_BASE + FAKE_MEMORY, 1}, {at + 8, 1}};
    uint8_t *bytes = fake_at(rig.guest, at, 16);

    bytes[8] = 0x55;
    rig_put(CTRL, 2, 3, extents);
    rig_kick(CTRL);
    ck_assert_uint_eq(bytes[8], VIRTIO_NET_ERR);
}
END_TEST

/* A full queue is not obeyed in one go: others come between. */
START_TEST(many_commands)
{
    enum { COMMANDS = COMMANDS_MAX + 2 };
    uint8_t *bytes[COMMANDS];

    for (unsigned i = 0; i < COMMANDS; i++) {
        uint64_t at = rig_take(8);
        struct iod_extent extents[2] = {{at, 3}, {at + 3, 1}};
        bytes[i] = fake_at(rig.guest, at, 4);
        memcpy(bytes[i], (uint8_t[]){VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, i % 2, 0x55}, 4);
        rig_put(CTRL, 1, 2, extents);
    }
    net_control(rig_net(), iod_virtio_queue(rig_net()->virtio, CTRL));
    ck_assert_uint_eq(bytes[COMMANDS_MAX - 1][3], VIRTIO_NET_OK);
    ck_assert_uint_eq(bytes[COMMANDS_MAX][3], 0x55);
    fake_tasks(rig.device);
    for (unsigned i = 0; i < COMMANDS; i++) {
        ck_assert_uint_eq(bytes[i][3], VIRTIO_NET_OK);
        ck_assert(rig_used(CTRL, NULL, NULL));
    }
}
END_TEST

/* ---- offloads ---- */

START_TEST(offloads)
{
    uint64_t wanted = BIT(GUEST_CSUM) | BIT(GUEST_TSO4);

    ck_assert_uint_eq(rig.backend.offloads, RIG_ALL_OFFLOADS);
    ck_assert_int_eq(rig_command(CTRL, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &wanted, 8), VIRTIO_NET_OK);
    ck_assert_uint_eq(rig.backend.offloads, IOD_NET_CSUM | IOD_NET_TSO4);
    wanted = BIT(GUEST_TSO4); /* needs checksums */
    ck_assert_int_eq(rig_command(CTRL, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &wanted, 8), VIRTIO_NET_OK);
    ck_assert_uint_eq(rig.backend.offloads, 0);
    rig.backend.offloads_result = -EINVAL;
    wanted = BIT(GUEST_CSUM);
    ck_assert_int_eq(rig_command(CTRL, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &wanted, 8), VIRTIO_NET_ERR);
    ck_assert_uint_eq(rig_regs()->offloads, BIT(GUEST_TSO4));
    rig.backend.offloads_result = 0;
    rig_start(UINT64_MAX & ~BIT(GUEST_USO4) & ~BIT(GUEST_TSO4), 3);
    rig_regs()->offloads = UINT64_MAX; /* as a reset leaves it */
    ck_assert_int_eq(net_apply_offloads(rig_net()), 0);
    ck_assert_uint_eq(rig.backend.offloads, IOD_NET_CSUM | IOD_NET_TSO6 | IOD_NET_TSO_ECN | IOD_NET_UFO);
    wanted = BIT(GUEST_CSUM) | BIT(GUEST_TSO4); /* not negotiated */
    ck_assert_int_eq(rig_command(CTRL, VIRTIO_NET_CTRL_GUEST_OFFLOADS, 0, &wanted, 8), VIRTIO_NET_ERR);
}
END_TEST

/* ---- pairs ---- */

static int pairs(unsigned queue, uint16_t count)
{
    return rig_command(queue, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &count, 2);
}

START_TEST(queue_pairs)
{
    rig_start(UINT64_MAX, 9);
    ck_assert_uint_eq(rig.backend.pairs, 1);
    ck_assert_uint_eq(rig.backend.again[0], 1);
    ck_assert_uint_eq(rig.backend.again[1], 0); /* not in use yet */
    rig_receive_buffer(2, 2000);
    rig_kick(2);
    ck_assert_uint_eq(rig.backend.again[1], 0);
    ck_assert(rig_offer(1, rig_frame(100, 1), 100)); /* it must not get there (5.1.6.5.6.1) */
    ck_assert(!rig_used(2, NULL, NULL));
    ck_assert_uint_eq(rig_net()->counters.receive_bad, 1);
    ck_assert_int_eq(pairs(CTRL4, 3), VIRTIO_NET_OK);
    ck_assert_uint_eq(rig.backend.pairs, 3);
    ck_assert_uint_eq(rig.backend.again[1], 1);
    ck_assert_uint_eq(rig.backend.again[2], 1);
    ck_assert_uint_eq(rig.backend.again[3], 0);
    ck_assert(rig_offer(1, rig_frame(100, 1), 100));
    ck_assert(rig_used(2, NULL, NULL));
    rig_put_frame(5, 64, 1);
    rig_kick(5);
    ck_assert_uint_eq(rig.backend.frames[0].pair, 2);
    ck_assert_int_eq(pairs(CTRL4, 1), VIRTIO_NET_OK);
    rig_put_frame(5, 64, 1); /* from before the change: by the first pair */
    rig_kick(5);
    ck_assert_uint_eq(rig.backend.sent, 2);
    ck_assert_uint_eq(rig.backend.frames[1].pair, 0);
    ck_assert_int_eq(pairs(CTRL4, 0), VIRTIO_NET_ERR);
    ck_assert_int_eq(pairs(CTRL4, 5), VIRTIO_NET_ERR);
    ck_assert_int_eq(pairs(CTRL4, 0x8001), VIRTIO_NET_ERR);
    ck_assert_uint_eq(rig_regs()->pairs, 1);
}
END_TEST

/* A frame of a pair given up waits for the first pair's room, and goes on from there. */
START_TEST(room_for_another_pair)
{
    rig_start(UINT64_MAX, 9);
    rig.backend.takes_frames = 0;
    rig_put_frame(5, 64, 1);
    rig_kick(5);
    rig.backend.takes_frames = RIG_SENT;
    rig.backend.events->writable(rig.backend.self, 0);
    ck_assert_uint_eq(rig.backend.sent, 1);
    ck_assert_int_eq(pairs(CTRL4, 3), VIRTIO_NET_OK);
    rig.backend.takes_frames = 0;
    rig_put_frame(5, 64, 1);
    rig_kick(5);
    rig.backend.takes_frames = RIG_SENT;
    ck_assert_int_eq(pairs(CTRL4, 1), VIRTIO_NET_OK); /* nobody will say "writable" of the third any more */
    fake_tasks(rig.device);
    ck_assert_uint_eq(rig.backend.sent, 2);
    ck_assert_uint_eq(rig.backend.frames[1].pair, 0);
}
END_TEST

/* Without MQ the control queue is the third (5.1.2). */
START_TEST(without_mq)
{
    uint8_t on = 0;

    rig_start(UINT64_MAX & ~BIT(MQ), 9);
    ck_assert_int_eq(rig_command(2, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1), VIRTIO_NET_OK);
    ck_assert_uint_eq(rig_regs()->rx_mode, 0);
    ck_assert_uint_eq(rig.device->guest_errors, 6); /* the looks at queues that do not exist */
    rig_start(UINT64_MAX & ~BIT(CTRL_VQ), 9);
    ck_assert_int_eq(rig_command(8, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1), -1);
}
END_TEST

/* ---- link and announcement ---- */

static unsigned status(void)
{
    return (unsigned)fake_read(rig.region, 0x106, 2);
}

static void set_link(bool up)
{
    rig.backend.limits.link = up;
    rig.backend.events->changed(rig.backend.self);
}

START_TEST(link_and_announcement)
{
    uint32_t generation = (uint32_t)fake_read(rig.region, 0x0fc, 4);

    set_link(true); /* as it was */
    ck_assert_uint_eq(fake_read(rig.region, 0x0fc, 4), generation);
    set_link(false);
    ck_assert_uint_eq(status(), 0);
    ck_assert_uint_eq(fake_read(rig.region, 0x0fc, 4), generation + 1);
    ck_assert_uint_eq(rig.device->raised, 1);
    set_link(true);
    ck_assert_uint_eq(status(), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
    ck_assert_int_eq(rig_command(CTRL, VIRTIO_NET_CTRL_ANNOUNCE, 0, NULL, 0), VIRTIO_NET_OK);
    ck_assert_uint_eq(status(), VIRTIO_NET_S_LINK_UP);
    rig_start(UINT64_MAX & ~BIT(GUEST_ANNOUNCE), 3);
    set_link(false);
    set_link(true);
    ck_assert_uint_eq(status(), VIRTIO_NET_S_LINK_UP);
}
END_TEST

/* ---- what is saved ---- */

static bool valid(const struct net_regs *regs)
{
    for (const struct iod_field *field = rig.class->fields; field->name; field++) {
        if (field->valid && !field->valid(regs)) {
            return false;
        }
    }
    return true;
}

START_TEST(hostile_state)
{
    struct net_regs good = *rig_regs(), regs;

    ck_assert(valid(&good));
    good.unicast = 32;
    good.multicast = 32;
    ck_assert(valid(&good));
    regs = good, regs.multicast = 33;
    ck_assert(!valid(&regs));
    regs = good, regs.unicast = regs.multicast = 255;
    ck_assert(!valid(&regs));
    regs = good, regs.pairs = 0;
    ck_assert(!valid(&regs));
    regs = good, regs.pairs = (uint16_t)(regs.max_pairs + 1);
    ck_assert(!valid(&regs));
    regs = good, regs.overflow = 4;
    ck_assert(!valid(&regs));
    regs = good, regs.rx_mode = 64;
    ck_assert(!valid(&regs));
    regs = good, regs.announce = 2;
    ck_assert(!valid(&regs));
}
END_TEST

/* Every member of regs is in exactly one field, or it would be lost. */
START_TEST(all_is_saved)
{
    uint8_t covered[sizeof(struct net_regs)] = {0};
    size_t bytes = 0;

    for (const struct iod_field *field = rig.class->fields; field->name; field++) {
        for (size_t i = 0; i < (size_t)field->width * field->count; i++) {
            ck_assert_uint_lt(field->offset + i, sizeof(covered));
            if (covered[field->offset + i]++) {
                ck_abort_msg("%s lies over another", field->name);
            }
            bytes++;
        }
    }
    ck_assert_uint_eq(bytes, 8 + VLANS / 8 + MAC_TABLE_MAX * ETH_ALEN + 2 * ETH_ALEN + 3 * 2 + 5);
    ck_assert_uint_lt(sizeof(struct net_regs) - bytes, 8); /* padding */
}
END_TEST

START_TEST(loaded)
{
    struct iod_error error = {0};

    rig_regs()->own_mac[5] = 0x99;
    ck_assert_int_eq(rig.class->load(rig.device, NULL, &error), 0);
    rig.class->start(rig.device);
    ck_assert_uint_eq(status(), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE); /* here it is now */
    rig.class->reset(rig.device);
    ck_assert_uint_eq(rig_regs()->mac[5], 0x99); /* the card that the guest knows */
    rig_regs()->max_pairs = 2;
    ck_assert_int_eq(rig.class->load(rig.device, NULL, &error), -EINVAL);
    ck_says(error, "told of 2 queue pairs, here are 1");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio-net-control");
    TCase *one = tcase_create("one"), *many = tcase_create("pairs");
    tcase_add_checked_fixture(one, setup, rig_teardown);
    tcase_add_test(one, receive_modes);
    tcase_add_test(one, vlans);
    tcase_add_test(one, mac_tables);
    tcase_add_test(one, bad_commands);
    tcase_add_loop_test(one, broken_commands, 0, 5);
    tcase_add_test(one, commands_out_of_memory);
    tcase_add_test(one, many_commands);
    tcase_add_test(one, offloads);
    tcase_add_test(one, link_and_announcement);
    tcase_add_test(one, hostile_state);
    tcase_add_test(one, all_is_saved);
    tcase_add_test(one, loaded);
    suite_add_tcase(suite, one);
    tcase_add_checked_fixture(many, setup_pairs, rig_teardown);
    tcase_add_test(many, queue_pairs);
    tcase_add_test(many, room_for_another_pair);
    tcase_add_test(many, without_mq);
    suite_add_tcase(suite, many);
    return unit_run(suite);
}
