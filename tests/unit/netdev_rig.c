/* SPDX-License-Identifier: BSD-2-Clause */
#include "netdev_rig.h"

#include <errno.h>
#include <stdio.h>

#include "core/inside.h"

struct nic *nic;
unsigned nic_pairs = 1;
bool nic_waits;
void (*nic_created)(void);

/* ---- the device ---- */

static bool receive(void *self, unsigned pair, const uint8_t *frame, size_t length)
{
    struct nic *to = self;
    to->called_inside |= to->inside;
    if (to->room == 0) {
        to->refused++;
        return false;
    }
    to->room--;
    struct nic_frame *kept = &to->frames[to->received % NIC_KEPT];
    size_t bytes = length - IOD_NET_HEADER;
    kept->pair = pair;
    kept->length = length;
    memcpy(&kept->header, frame, IOD_NET_HEADER);
    memcpy(kept->bytes, frame + IOD_NET_HEADER, bytes < NIC_SHORT ? bytes : NIC_SHORT);
    kept->sum = bytes_sum(frame + IOD_NET_HEADER, bytes);
    to->digest = nic_digest(to->digest, kept->sum);
    to->received++;
    to->received_bytes += bytes;
    to->of_pair[pair]++;
    return true;
}

static void receive_end(void *self, unsigned pair)
{
    struct nic *to = self;
    to->called_inside |= to->inside;
    to->ends++;
}

static void writable(void *self, unsigned pair)
{
    struct nic *to = self;
    to->called_inside |= to->inside;
    to->writable++;
}

static void changed(void *self)
{
    struct nic *to = self;
    to->called_inside |= to->inside;
    to->changed++;
}

static const struct iod_netdev_events events = {
    .size = sizeof(events), .receive = receive, .receive_end = receive_end, .writable = writable, .changed = changed,
};

static int nic_create(struct iod_device *device, struct iod_error *error)
{
    struct nic *self = iod_self(device);
    self->device = device;
    if (nic_created != NULL) {
        nic_created();
    }
    self->netdev = iod_netdev_attach(device, "netdev", "null", nic_pairs, &events, self, error);
    return self->netdev != NULL ? 0 : -EINVAL;
}

static int nic_open(struct iod_device *device, struct iod_error *error)
{
    nic = iod_self(device);
    nic->room = UINT32_MAX;
    return 0;
}

static void nic_started(struct iod_device *device)
{
    struct nic *self = iod_self(device);
    self->starts++;
    self->inside = true;
    for (unsigned pair = 0; !nic_waits && pair < iod_netdev_limits(self->netdev)->pairs; pair++) {
        iod_netdev_receive_again(self->netdev, pair);
    }
    self->inside = false;
}

static const struct iod_device_class nic_class = {
    .size = sizeof(nic_class),
    .name = "test-nic",
    .summary = "a network card for tests",
    .version = 1,
    .self_size = sizeof(struct nic),
    .create = nic_create,
    .open = nic_open,
    .start = nic_started,
};
static const struct iod_device_class *const devices[] = { &nic_class, NULL };
const struct iod_netdev_class *nic_probe;
static const struct iod_netdev_class *netdevs[2];
const struct iod_module nic_module = {
    .size = sizeof(nic_module), .abi = IOD_ABI, .devices = devices, .netdevs = netdevs };

/* ---- life ---- */

static struct fake_xen *begin(const char *options, struct iod_error *error)
{
    char text[512];
    const char *specs[] = { text };
    snprintf(text, sizeof(text), "test-nic,%s", options);
    netdevs[0] = nic_probe;
    nic = NULL;
    return fake_start(&nic_module, GUEST_HVM, specs, 1, error);
}

struct fake_xen *nic_start(const char *options)
{
    struct iod_error error = { 0 };
    struct fake_xen *fake = begin(options, &error);
    ck_assert_msg(fake != NULL, "%s", error.text);
    ck_assert_msg(fake_running(fake), "%s", fake_log(fake));
    return fake;
}

bool nic_tries(const char *options)
{
    struct iod_error error = { 0 };
    struct fake_xen *fake = begin(options, &error);
    bool running = fake != NULL && fake_running(fake);
    if (fake != NULL) {
        fake_stop(fake);
    }
    return running;
}

void nic_fails(const char *options, const char *says)
{
    struct iod_error error = { 0 };
    struct fake_xen *fake = begin(options, &error);
    if (fake == NULL) {
        ck_says(error, says);
        return;
    }
    ck_assert(!fake_running(fake));
    ck_assert_msg(fake_logged(fake, says) == 1, "not once '%s' in: %s", says, fake_log(fake));
    fake_stop(fake);
}

void nic_stop(struct fake_xen *fake)
{
    ck_assert(!nic->called_inside);
    fake_stop(fake);
}

/* ---- frames ---- */

int nic_send(unsigned pair, const struct virtio_net_hdr_v1 *header, const void *frame, size_t length)
{
    static const struct virtio_net_hdr_v1 none;
    struct iovec pieces[] = {
        { .iov_base = (void *)(header != NULL ? header : &none), .iov_len = IOD_NET_HEADER },
        { .iov_base = (void *)frame, .iov_len = length },
    };
    nic->inside = true;
    int result = iod_netdev_send(nic->netdev, pair, pieces, 2);
    if (result == 0) {
        iod_netdev_send_end(nic->netdev, pair);
    }
    nic->inside = false;
    return result;
}

void nic_take(unsigned pair, unsigned room)
{
    nic->room = room;
    nic->inside = true;
    iod_netdev_receive_again(nic->netdev, pair);
    nic->inside = false;
}

const struct nic_frame *nic_last(void)
{
    ck_assert_uint_gt(nic->received, 0);
    return &nic->frames[(nic->received - 1) % NIC_KEPT];
}

const struct iod_netdev_counters *nic_counters(void)
{
    return iod_netdev_counters(nic->netdev);
}

uint64_t nic_digest(uint64_t before, uint32_t sum)
{
    return before * UINT64_C(0x9e3779b97f4a7c15) + sum;
}

uint32_t bytes_sum(const uint8_t *bytes, size_t length)
{
    uint32_t sum = 1;
    for (size_t i = 0; i < length; i++) {
        sum = sum * 31 + bytes[i];
    }
    return sum;
}

void frame_fill(uint8_t *frame, size_t length, uint32_t number)
{
    static const uint8_t begin_[] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };
    for (size_t i = 0; i < length; i++) {
        frame[i] = (uint8_t)(number * 7 + i);
    }
    memcpy(frame, begin_, sizeof(begin_) < length ? sizeof(begin_) : length);
}

bool frame_good(const uint8_t *frame, size_t length, uint32_t number)
{
    for (size_t i = 14; i < length; i++) {
        if (frame[i] != (uint8_t)(number * 7 + i)) {
            return false;
        }
    }
    return true;
}

/* ---- waiting ---- */

struct goal {
    const unsigned *number;
    const uint64_t *count;
    uint64_t least;
    bool up;
};

static bool number_reached(void *self)
{
    const struct goal *goal = self;
    return *goal->number >= goal->least;
}

static bool count_reached(void *self)
{
    const struct goal *goal = self;
    return *goal->count >= goal->least;
}

static bool link_reached(void *self)
{
    const struct goal *goal = self;
    return iod_netdev_limits(nic->netdev)->link == goal->up;
}

void nic_await(struct fake_xen *fake, const unsigned *number, unsigned least)
{
    struct goal goal = { .number = number, .least = least };
    fake_run(fake, number_reached, &goal);
}

void nic_await_count(struct fake_xen *fake, const uint64_t *number, uint64_t least)
{
    struct goal goal = { .count = number, .least = least };
    fake_run(fake, count_reached, &goal);
}

void nic_await_link(struct fake_xen *fake, bool up)
{
    struct goal goal = { .up = up };
    fake_run(fake, link_reached, &goal);
}

uint64_t nic_settings(void)
{
    return nic->device->guest->watch.deeds[DEED_SETTING];
}
