/* SPDX-License-Identifier: BSD-2-Clause */
/* The netdev "socket": framing, and peers that come, go and misbehave. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "netdev_rig.h"

static char folder[64], path[96], options[256];

static struct { unsigned receives, sends; } calls;

ssize_t recv(int fd, void *to, size_t length, int flags)
{
    calls.receives++;
    return syscall(SYS_recvfrom, fd, to, length, flags, NULL, NULL);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    calls.sends++;
    return syscall(SYS_sendmsg, fd, message, flags);
}

static void set_up(void)
{
    snprintf(folder, sizeof(folder), "/tmp/test_net_stream.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/peer", folder);
    snprintf(options, sizeof(options), "netdev=socket,netdev.path=%s", path);
    nic_probe = NULL;
    nic_pairs = 1;
    nic_waits = false;
}

static void tear_down(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(folder), 0);
}

/* ---- the peer ---- */

static int peer_listen(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    return fd;
}

static int peer_accept(struct fake_xen *fake, int listener)
{
    for (unsigned i = 0; i < 600; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            return fd;
        }
        fake_run_ms(fake, 10);
    }
    ck_abort_msg("nobody connects");
    return -1;
}

/* All of it; the loop runs while the socket is full. */
static void peer_write(struct fake_xen *fake, int fd, const void *bytes, size_t length)
{
    for (size_t at = 0; at < length;) {
        ssize_t put = send(fd, (const char *)bytes + at, length - at, MSG_NOSIGNAL);
        if (put > 0) {
            at += (size_t)put;
        } else {
            ck_assert_int_eq(errno, EAGAIN);
            fake_run_ms(fake, 1);
        }
    }
}

static void peer_read(struct fake_xen *fake, int fd, void *bytes, size_t length)
{
    unsigned idle = 0;
    for (size_t at = 0; at < length;) {
        ssize_t got = read(fd, (char *)bytes + at, length - at);
        if (got > 0) {
            at += (size_t)got;
            idle = 0;
        } else {
            ck_assert_int_ne(got, 0);
            ck_assert_uint_lt(idle++, 1000);
            fake_run_ms(fake, 1);
        }
    }
}

static uint8_t buffer[4 + IOD_NET_FRAME_MAX];

/* Prefix and frame. */
static size_t wire(uint8_t *to, uint32_t number, size_t length)
{
    uint32_t prefix = htobe32((uint32_t)length);
    memcpy(to, &prefix, 4);
    frame_fill(to + 4, length, number);
    return 4 + length;
}

static void peer_send(struct fake_xen *fake, int fd, uint32_t number, size_t length)
{
    peer_write(fake, fd, buffer, wire(buffer, number, length));
}

static void peer_expect(struct fake_xen *fake, int fd, uint32_t number, size_t length)
{
    uint32_t prefix;
    peer_read(fake, fd, &prefix, 4);
    ck_assert_uint_eq(be32toh(prefix), length);
    peer_read(fake, fd, buffer, length);
    ck_assert(frame_good(buffer, length, number));
}

static int card_send(uint32_t number, size_t length)
{
    static uint8_t frame[IOD_NET_FRAME_MAX];
    frame_fill(frame, length, number);
    return nic_send(0, NULL, frame, length);
}

static bool last_is(uint32_t number, size_t length)
{
    const struct nic_frame *frame = nic_last();
    static const struct virtio_net_hdr_v1 none;
    uint8_t expected[NIC_SHORT];
    size_t bytes = length < NIC_SHORT ? length : NIC_SHORT;
    frame_fill(expected, bytes, number);
    return frame->length == IOD_NET_HEADER + length && memcmp(&frame->header, &none, IOD_NET_HEADER) == 0 &&
           memcmp(frame->bytes, expected, bytes) == 0;
}

/* ---- frames ---- */

START_TEST(frames_both_ways)
{
    static const size_t sizes[] = { 14, 60, 1514, 2043, 2044, 2045, 9014, 40000, IOD_NET_FRAME_MAX - 1,
                                    IOD_NET_FRAME_MAX };
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    ck_assert(iod_netdev_limits(nic->netdev)->link);
    ck_assert_uint_eq(iod_netdev_limits(nic->netdev)->takes | iod_netdev_limits(nic->netdev)->gives, 0);
    unsigned number = 0;
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++, number++) {
            ck_assert_int_eq(card_send(number, sizes[i]), 0);
            peer_expect(fake, peer, number, sizes[i]);
            peer_send(fake, peer, number, sizes[i]);
            nic_await(fake, &nic->received, number + 1);
            ck_assert(last_is(number, sizes[i]));
        }
    }
    ck_assert_uint_eq(nic_counters()->sent, number);
    ck_assert_uint_eq(nic_counters()->received, number);
    ck_assert_uint_eq(nic_counters()->send_dropped + nic_counters()->receive_dropped, 0);
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* However the stream is cut: the frame is the same. */
START_TEST(trickle_and_halves)
{
    static uint8_t three[3 * 104];
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    for (unsigned i = 0; i < 3; i++) {
        wire(three + i * 104, i, 100);
    }
    for (unsigned i = 0; i < sizeof(three); i++) { /* byte by byte */
        peer_write(fake, peer, three + i, 1);
        fake_run_ms(fake, 1);
    }
    ck_assert_uint_eq(nic->received, 3);
    for (unsigned cut = 1; cut < sizeof(three); cut += 7) {
        unsigned before = nic->received;
        peer_write(fake, peer, three, cut);
        fake_run_ms(fake, 2);
        ck_assert_uint_eq(nic->received, before + cut / 104);
        peer_write(fake, peer, three + cut, sizeof(three) - cut);
        nic_await(fake, &nic->received, before + 3);
        ck_assert(last_is(2, 100));
    }
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* A guest without buffers: the peer waits, nothing is lost, and no more is held than fits. */
START_TEST(receive_waits)
{
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    nic->room = 2;
    unsigned sent = 0;
    for (unsigned idle = 0; idle < 20;) {
        size_t length = wire(buffer, sent, 1000);
        if (send(peer, buffer, length, MSG_NOSIGNAL) == (ssize_t)length) { /* a frame at a time: all or nothing */
            sent++;
        } else {
            idle++;
            fake_run_ms(fake, 1);
        }
        ck_assert_uint_lt(sent, 2000);
    }
    ck_assert_uint_eq(nic->received, 2);
    ck_assert_uint_eq(nic->refused, 1);
    clock_t before = clock();
    fake_run_ms(fake, 200);
    ck_assert(clock() - before < CLOCKS_PER_SEC / 10);
    nic_take(0, 1);
    nic_await(fake, &nic->refused, 2);
    ck_assert_uint_eq(nic->received, 3);
    ck_assert(last_is(2, 1000));
    nic_take(0, UINT32_MAX);
    nic_await(fake, &nic->received, sent);
    for (unsigned i = sent - NIC_KEPT; i < sent; i++) {
        ck_assert(frame_good(nic->frames[i % NIC_KEPT].bytes, 1000, i));
    }
    ck_assert_uint_eq(nic_counters()->receive_dropped, 0);
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* A peer that does not read: the card has to wait; what was taken arrives whole and in order. */
START_TEST(send_waits)
{
    static const size_t sizes[] = { 60, 1514, 30000, 60, 60, IOD_NET_FRAME_MAX };
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    unsigned taken = 0, read_ = 0;
    for (unsigned round = 0; round < 5; round++) {
        while (card_send(taken, sizes[taken % 6]) == 0) {
            taken++;
            ck_assert_uint_lt(taken, 10000);
        }
        unsigned writable = nic->writable;
        ck_assert_int_eq(card_send(taken, 60), -EAGAIN);
        fake_run_ms(fake, 5);
        ck_assert_uint_eq(nic->writable, writable); /* not before the peer has read */
        while (read_ < taken) {
            peer_expect(fake, peer, read_, sizes[read_ % 6]);
            read_++;
        }
        nic_await(fake, &nic->writable, writable + 1);
    }
    ck_assert_uint_eq(nic_counters()->sent, taken);
    ck_assert_uint_eq(nic_counters()->send_dropped, 0);
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* Small frames of a batch go in one call, and come in few. */
START_TEST(cost_of_a_frame)
{
    uint8_t frame[60];
    struct iovec pieces[2] = { { .iov_base = (uint8_t[IOD_NET_HEADER]){ 0 }, .iov_len = IOD_NET_HEADER },
                               { .iov_base = frame, .iov_len = sizeof(frame) } };
    static uint8_t many[200 * 64];
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    frame_fill(frame, sizeof(frame), 9);
    calls.sends = 0;
    for (unsigned i = 0; i < 100; i++) {
        iod_netdev_send(nic->netdev, 0, pieces, 2);
    }
    iod_netdev_send_end(nic->netdev, 0);
    ck_assert_uint_eq(calls.sends, 1);
    for (unsigned i = 0; i < 100; i++) {
        peer_expect(fake, peer, 9, sizeof(frame));
    }
    for (unsigned i = 0; i < 200; i++) {
        wire(many + i * 64, i, 60);
    }
    calls.receives = 0;
    peer_write(fake, peer, many, sizeof(many));
    nic_await(fake, &nic->received, 200);
    ck_assert_uint_le(calls.receives, 6);
    ck_assert_uint_le(nic->ends, 3);
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* Small frames wait for the batch's end, large ones do not: the order is kept. */
START_TEST(mixed_batch)
{
    static const size_t sizes[] = { 60, 100, 9000, 60, 60, 40000, 5000, 60 };
    static uint8_t frame[40000];
    struct iovec pieces[3] = { { .iov_base = (uint8_t[IOD_NET_HEADER]){ 0 }, .iov_len = IOD_NET_HEADER },
                               { .iov_base = frame, .iov_len = 30 }, { .iov_base = frame + 30 } };
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    for (unsigned i = 0; i < 8; i++) {
        frame_fill(frame, sizes[i], i);
        pieces[2].iov_len = sizes[i] - 30;
        ck_assert_int_eq(iod_netdev_send(nic->netdev, 0, pieces, 3), 0);
    }
    iod_netdev_send_end(nic->netdev, 0);
    for (unsigned i = 0; i < 8; i++) {
        peer_expect(fake, peer, i, sizes[i]);
    }
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* Any sizes, cut anywhere, taken whenever: the same frames in the same order. */
START_TEST(random_stream)
{
    static uint8_t stream[6 << 20];
    size_t length = 0, at = 0;
    unsigned frames = 0;
    uint64_t digest = 0;
    srandom(4711 + (unsigned)_i);
    while (length + 4 + IOD_NET_FRAME_MAX < sizeof(stream) && frames < 3000) {
        size_t size = 14 + (size_t)random() % (frames % 40 == 0 ? IOD_NET_FRAME_MAX - 13 : 3000);
        wire(stream + length, frames, size);
        digest = nic_digest(digest, bytes_sum(stream + length + 4, size));
        length += 4 + size;
        frames++;
    }
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    nic->room = 1;
    for (unsigned idle = 0; nic->received < frames && idle < 3000;) {
        size_t chunk = 1 + (size_t)random() % (random() % 4 == 0 ? 100000 : 50);
        chunk = chunk < length - at ? chunk : length - at;
        ssize_t put = chunk > 0 ? send(peer, stream + at, chunk, MSG_NOSIGNAL) : -1;
        at += put > 0 ? (size_t)put : 0;
        if (put <= 0 || random() % 64 == 0) {
            unsigned before = nic->received;
            nic_take(0, (unsigned)random() % (random() % 8 == 0 ? 400 : 4));
            fake_run_ms(fake, random() % 8 == 0);
            idle = nic->received > before ? 0 : idle + 1;
        }
    }
    ck_assert_uint_eq(nic->received, frames);
    ck_assert_uint_eq(nic->digest, digest);
    ck_assert_uint_eq(nic_counters()->receive_dropped, 0);
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* ---- peers that misbehave ---- */

START_TEST(length_bomb)
{
    static const uint32_t lengths[] = { UINT32_MAX, IOD_NET_FRAME_MAX + 1, 0x80000000 };
    uint32_t prefix = htobe32(lengths[_i]);
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    peer_send(fake, peer, 1, 100);
    peer_write(fake, peer, &prefix, 4);
    peer_write(fake, peer, buffer, 5000);
    nic_await_link(fake, false);
    ck_assert_uint_eq(nic->received, 1);
    ck_assert_int_eq(fake_logged(fake, "announced a frame that is longer than any; the link is down"), 1);
    ck_assert_int_eq(card_send(1, 100), 0);
    ck_assert_uint_eq(nic_counters()->send_dropped, 1);
    close(peer);
    peer = peer_accept(fake, listener); /* it is tried again */
    nic_await_link(fake, true);
    peer_send(fake, peer, 2, 100);
    nic_await(fake, &nic->received, 2);
    ck_assert(last_is(2, 100));
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

START_TEST(runts)
{
    static const size_t lengths[] = { 0, 1, 13 };
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    for (unsigned i = 0; i < 3; i++) {
        peer_send(fake, peer, 1, lengths[i]);
    }
    peer_send(fake, peer, 2, 14);
    nic_await(fake, &nic->received, 1);
    ck_assert_uint_eq(nic->frames[0].length, IOD_NET_HEADER + 14);
    ck_assert_uint_eq(nic_counters()->receive_dropped, 3);
    ck_assert(iod_netdev_limits(nic->netdev)->link);
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* It goes in the middle of a frame: the next connection begins anew. */
START_TEST(goes_in_a_frame)
{
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    peer_write(fake, peer, buffer, wire(buffer, 1, 1000) - 300);
    fake_run_ms(fake, 10);
    close(peer);
    nic_await_link(fake, false);
    ck_assert_int_eq(fake_logged(fake, "closed the connection; the link is down"), 1);
    peer = peer_accept(fake, listener);
    peer_send(fake, peer, 2, 200);
    nic_await(fake, &nic->received, 1);
    ck_assert(last_is(2, 200));
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* One that closes at once, each time: few tries, one line. */
START_TEST(flaps)
{
    unsigned tries = 0;
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    for (unsigned i = 0; i < 120; i++) {
        int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (peer >= 0) {
            close(peer);
            tries++;
        }
        fake_run_ms(fake, 10);
    }
    ck_assert_uint_ge(tries, 2);
    ck_assert_uint_le(tries, 6);
    ck_assert_int_eq(fake_logged(fake, "the link is down"), 1);
    close(listener);
    nic_stop(fake);
}
END_TEST

START_TEST(comes_late)
{
    struct fake_xen *fake = nic_start(options);
    ck_assert(!iod_netdev_limits(nic->netdev)->link);
    ck_assert_int_eq(fake_logged(fake, "the link is down"), 1);
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(card_send(1, 100), 0);
    }
    ck_assert_uint_eq(nic_counters()->send_dropped, 5);
    int listener = peer_listen();
    int peer = peer_accept(fake, listener);
    nic_await_link(fake, true);
    ck_assert_uint_eq(nic->changed, 1);
    ck_assert_int_eq(card_send(7, 100), 0);
    peer_expect(fake, peer, 7, 100);
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* A write to a peer that has gone: no signal, no frame lost without being counted. */
START_TEST(gone_under_a_write)
{
    int listener = peer_listen();
    nic_waits = true; /* so that only a write can find it out */
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    close(peer);
    close(listener);
    unlink(path);
    unsigned sent = 0;
    for (unsigned i = 0; i < 20; i++) {
        sent += card_send(i, i % 2 != 0 ? 9000 : 60) == 0;
        fake_run_ms(fake, 2);
    }
    ck_assert(!iod_netdev_limits(nic->netdev)->link);
    ck_assert_uint_eq(sent, 20);
    ck_assert_uint_eq(nic_counters()->send_dropped, 20);
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
    int listener = peer_listen();
    struct fake_xen *fake = nic_start(options);
    int peer = peer_accept(fake, listener);
    struct iovec pieces[2] = { { .iov_base = (uint8_t[IOD_NET_HEADER]){ 0 }, .iov_len = IOD_NET_HEADER },
                               { .iov_base = buffer, .iov_len = 60 } };
    frame_fill(buffer, 60, 4);
    ck_assert_int_eq(iod_netdev_send(nic->netdev, 0, pieces, 2), 0); /* no send_end: the stop sends it */
    device_stop(nic->device, &stop, IOD_FINISH, set_true, &quiet);
    ck_assert(quiet);
    peer_expect(fake, peer, 4, 60);
    peer_send(fake, peer, 5, 100);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(nic->received, 0);
    device_resume(nic->device);
    nic_await(fake, &nic->received, 1);
    ck_assert(last_is(5, 100));
    close(peer);
    close(listener);
    nic_stop(fake);
}
END_TEST

/* ---- options ---- */

static const char *with_fd(int fd)
{
    snprintf(options, sizeof(options), "netdev=socket,netdev.fd=%d", fd);
    return options;
}

START_TEST(inherited)
{
    int ends[2], other[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    struct fake_xen *fake = nic_start(with_fd(ends[0]));
    close(ends[0]);
    ck_assert(iod_netdev_limits(nic->netdev)->link);
    ck_assert_int_eq(card_send(7, 100), 0);
    peer_expect(fake, ends[1], 7, 100);
    peer_send(fake, ends[1], 5, 100);
    nic_await(fake, &nic->received, 1);
    close(ends[1]);
    nic_await_link(fake, false); /* for good */
    fake_run_ms(fake, 50);
    nic_stop(fake);
    nic_fails(with_fd(999), "fd=999: Bad file descriptor");
    nic_fails(with_fd(2), "expected 3 to");
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    nic_fails(with_fd(null), "Socket operation on non-socket");
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, other), 0);
    nic_fails(with_fd(other[0]), "expected a connected unix stream socket");
    nic_fails(with_fd(peer_listen()), "expected a connected unix stream socket");
    nic_fails("netdev=socket", "expected path= or fd=");
    nic_fails("netdev=socket,netdev.path=/x,netdev.fd=5", "expected path= or fd=");
    snprintf(options, sizeof(options), "netdev=socket,netdev.path=/tmp/%0120d", 0);
    nic_fails(options, "a socket's path has at most 107 characters");
}
END_TEST

int main(void)
{
    const TTest *const sockets[] = {
        frames_both_ways, trickle_and_halves, receive_waits, send_waits, cost_of_a_frame, mixed_batch,
        runts, goes_in_a_frame, flaps, comes_late, gone_under_a_write, stopped_hears_nothing, inherited,
    };
    Suite *suite = suite_create("net_stream");
    TCase *socket_case = tcase_create("socket");
    tcase_add_checked_fixture(socket_case, set_up, tear_down);
    for (unsigned i = 0; i < sizeof(sockets) / sizeof(sockets[0]); i++) {
        tcase_add_test(socket_case, sockets[i]);
    }
    tcase_add_loop_test(socket_case, length_bomb, 0, 3);
    tcase_add_loop_test(socket_case, random_stream, 0, 4);
    tcase_set_timeout(socket_case, 60);
    suite_add_tcase(suite, socket_case);
    return unit_run(suite);
}
