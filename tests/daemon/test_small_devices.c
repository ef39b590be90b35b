/* SPDX-License-Identifier: BSD-2-Clause */
/* virtio-rng, virtio-console, pci-host and long requests of virtio-blk under the mock, as drivers use them. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fixture.h"
#include "virtio_blk_driver.h"

#define WINDOW 0xe0000000u
#define MMIO_BASE 0xd0000000u

static struct fixture f;
static struct virtio_driver driver;

enum place { PLACE_PCI_HVM, PLACE_PCI_PVH, PLACE_MMIO_HVM, PLACE_LEGACY_ARM, PLACES };
static const struct {
    enum mock_profile profile;
    const char *keys;
    enum virtio_interrupt interrupt;
    uint64_t base;
    unsigned line;
} places[PLACES] = {
    [PLACE_PCI_HVM] = {MOCK_HVM, "addr=5", VIRTIO_GSI, 0, 0},
    [PLACE_PCI_PVH] = {MOCK_PVH, "addr=5", VIRTIO_MSIX, 0, 0},
    [PLACE_MMIO_HVM] = {MOCK_HVM, "bus=mmio,base=0xd0000000,irq=10", VIRTIO_GSI, MMIO_BASE, 10},
    [PLACE_LEGACY_ARM] = {MOCK_ARM64, "bus=mmio-legacy,base=0x2000000,irq=33", VIRTIO_SPI, 0x2000000, 33},
};

static void open_driver(int place, const char *device, const char *options, uint32_t id)
{
    char text[256];
    snprintf(text, sizeof(text), "%s,%s%s", device, places[place].keys, options);
    fixture_run(&f, "--device", text, NULL);
    struct virtio_arena arena = virtio_arena_make(f.guest, mock_ram_base(f.guest) + (2 << 20), 4 << 20);
    int result = places[place].base ? virtio_mmio_open(&driver, f.guest, 0, places[place].base, id,
                                                       places[place].interrupt, places[place].line, arena)
                                    : virtio_pci_open(&driver, f.guest, 0, 5 << 3, id,
                                                      places[place].interrupt, WINDOW, arena);
    ck_assert_int_eq(result, 0);
}

static void bring_up(unsigned queues, uint64_t features)
{
    ck_assert_int_eq(virtio_negotiate(&driver, features), 0);
    for (unsigned i = 0; i < queues; i++) {
        ck_assert_int_eq(virtio_queue_set_up(&driver, i, 0), 0);
    }
    virtio_start(&driver);
}

static void end(void)
{
    virtio_close(&driver);
    fixture_terminate(&f);
    fixture_stop(&f);
}

static const uint64_t ring_features = VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
                                      VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) |
                                      VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC);

/* ---- virtio-rng ---- */

static uint32_t random_into(uint64_t gpa, uint32_t length)
{
    struct virtio_buffer buffers[2] = {{gpa, length / 2, true},
                                       {gpa + length / 2, length - length / 2, true}};
    uint32_t written = 0;
    ck_assert_int_ge(
        virtio_queue_put(driver.queues[0], buffers, 2, virtio_has(&driver, VIRTIO_RING_F_INDIRECT_DESC), &f),
        0);
    virtio_queue_kick(driver.queues[0]);
    ck_assert_int_eq(virtio_queue_wait(driver.queues[0], VIRTIO_TIMEOUT_MS), 0);
    ck_assert_ptr_eq(virtio_queue_take(driver.queues[0], &written), &f);
    return written;
}

START_TEST(random_bytes)
{
    fixture_start(&f, places[_i].profile, 1);
    open_driver(_i, "virtio-rng", "", 4);
    bring_up(1, ring_features);
    uint8_t *bytes, before[64];
    uint64_t gpa = virtio_arena_take(&driver.arena, 8192, 16, (void **)&bytes);
    ck_assert_uint_eq(random_into(gpa, 64), 64);
    unsigned zeros = 0, same = 0;
    for (unsigned i = 0; i < 64; i++) {
        zeros += bytes[i] == 0;
    }
    ck_assert_uint_lt(zeros, 16);
    ck_assert_uint_eq(bytes[64], 0); /* not a byte behind the buffer */
    memcpy(before, bytes, 64);
    ck_assert_uint_eq(random_into(gpa, 64), 64);
    for (unsigned i = 0; i < 64; i++) {
        same += bytes[i] == before[i];
    }
    ck_assert_uint_lt(same, 16);
    uint32_t most = random_into(gpa, 8192); /* less than asked for is allowed, nothing is not */
    ck_assert(most > 0 && most <= 8192);
    ck_assert_int_eq(virtio_reset(&driver), 0);
    bring_up(1, ring_features);
    ck_assert_uint_eq(random_into(gpa, 64), 64);
    end();
}
END_TEST

/* ---- virtio-console ---- */

static int connect_console(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    struct timeval patience = {.tv_sec = 20};
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    return fd;
}

static void expect_from_guest(int fd, uint64_t gpa, uint8_t *at, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        at[i] = (uint8_t)(i * 31 + 7);
    }
    struct virtio_buffer buffers[2] = {{gpa, 3, false}, {gpa + 3, (uint32_t)length - 3, false}};
    ck_assert_int_ge(virtio_queue_put(driver.queues[1], buffers, 2, false, &f), 0);
    virtio_queue_kick(driver.queues[1]);
    for (size_t got = 0; got < length;) {
        uint8_t bytes[4096];
        ssize_t count = read(fd, bytes, sizeof(bytes));
        ck_assert_int_gt(count, 0);
        ck_assert_uint_le(got + (size_t)count, length);
        ck_assert_int_eq(memcmp(bytes, at + got, (size_t)count), 0);
        got += (size_t)count;
    }
    ck_assert_int_eq(virtio_queue_wait(driver.queues[1], VIRTIO_TIMEOUT_MS), 0);
    ck_assert_ptr_eq(virtio_queue_take(driver.queues[1], NULL), &f);
}

/* Posts buffers of `room` bytes until `length` bytes have come. */
static void expect_to_guest(int fd, uint64_t gpa, uint8_t *at, size_t length, uint32_t room)
{
    uint8_t sent[8192];
    for (size_t i = 0; i < length; i++) {
        sent[i] = (uint8_t)(i * 13 + 1);
    }
    ck_assert_int_eq(write(fd, sent, length), (ssize_t)length);
    for (size_t got = 0; got < length;) {
        struct virtio_buffer buffer = {gpa, room, true};
        uint32_t written = 0;
        memset(at, 0, room + 1);
        ck_assert_int_ge(virtio_queue_put(driver.queues[0], &buffer, 1, false, &driver), 0);
        virtio_queue_kick(driver.queues[0]);
        ck_assert_int_eq(virtio_queue_wait(driver.queues[0], VIRTIO_TIMEOUT_MS), 0);
        ck_assert_ptr_eq(virtio_queue_take(driver.queues[0], &written), &driver);
        ck_assert(written > 0 && written <= room && got + written <= length);
        ck_assert_int_eq(memcmp(at, sent + got, written), 0);
        ck_assert_uint_eq(at[written], 0);
        got += written;
    }
}

START_TEST(console_both_ways)
{
    char options[160], path[96];
    fixture_start(&f, places[_i].profile, 1);
    snprintf(path, sizeof(path), "%s/console", mock_dir(f.mock));
    snprintf(options, sizeof(options), ",chardev=socket,chardev.path=%s", path);
    open_driver(_i, "virtio-console", options, 3);
    int fd = connect_console(path);
    uint8_t *at;
    uint64_t gpa = virtio_arena_take(&driver.arena, 256 << 10, 4096, (void **)&at);
    for (unsigned round = 0; round < 2; round++) {
        bring_up(2, ring_features);
        expect_from_guest(fd, gpa, at, 100);
        expect_from_guest(fd, gpa, at, 200 << 10); /* more than one go, and than a socket takes */
        expect_to_guest(fd, gpa, at, 10, 64);
        expect_to_guest(fd, gpa, at, 5000, 64);
        ck_assert_int_eq(virtio_reset(&driver), 0);
    }
    close(fd);
    end();
}
END_TEST

/* A peer that does not read must not hold up the driver's reset. */
START_TEST(console_reset_with_a_full_peer)
{
    char options[160], path[96];
    fixture_start(&f, places[_i].profile, 1);
    snprintf(path, sizeof(path), "%s/console", mock_dir(f.mock));
    snprintf(options, sizeof(options), ",chardev=socket,chardev.path=%s", path);
    open_driver(_i, "virtio-console", options, 3);
    int fd = connect_console(path);
    uint8_t *at;
    uint64_t gpa = virtio_arena_take(&driver.arena, 2 << 20, 4096, (void **)&at);
    bring_up(2, ring_features);
    struct virtio_buffer buffer = {gpa, 2 << 20, false};
    ck_assert_int_ge(virtio_queue_put(driver.queues[1], &buffer, 1, false, &f), 0);
    virtio_queue_kick(driver.queues[1]);
    ck_assert_int_eq(virtio_queue_wait(driver.queues[1], 200), -ETIMEDOUT);
    ck_assert_int_eq(virtio_reset(&driver), 0);
    bring_up(2, ring_features);
    close(fd); /* nobody listens: output is not waited for for ever either */
    fd = connect_console(path);
    expect_to_guest(fd, gpa, at, 10, 64);
    close(fd);
    end();
}
END_TEST

/* ---- virtio-blk: requests longer than what is mapped at once ---- */

START_TEST(long_requests)
{
    enum { LENGTH = (5 << 20) + 512, FIRST = (3 << 20) + 700 };
    char options[200];
    struct virtio_blk blk;
    uint8_t *at;
    fixture_start(&f, places[_i].profile, 1);
    const char *image = fixture_image(&f, "long", 8 << 20);
    snprintf(options, sizeof(options), ",path=%s", image);
    open_driver(_i, "virtio-blk", options, 2);
    driver.arena = virtio_arena_make(f.guest, mock_ram_base(f.guest) + (2 << 20), 12 << 20);
    ck_assert_int_eq(virtio_blk_start(&blk, &driver, VIRTIO_BLK_ALL, 1, 0), 0);
    uint64_t gpa = virtio_arena_take(&driver.arena, LENGTH + 4096, 4096, (void **)&at);
    ck_assert_uint_ne(gpa, 0);
    /* The segments end inside sectors and pages. */
    struct virtio_buffer data[3] = {
        {gpa + 3, FIRST, true}, {gpa + 3 + FIRST, 1, true}, {gpa + 4 + FIRST, LENGTH - FIRST - 1, true}};
    ck_assert_int_eq(virtio_blk_io(&blk, 0, VIRTIO_BLK_T_IN, 2, data, 3, false), VIRTIO_BLK_S_OK);
    unsigned wrong = 0;
    for (unsigned i = 0; i < LENGTH; i++) {
        wrong += at[3 + i] != fixture_pattern(1024 + i);
    }
    ck_assert_uint_eq(wrong, 0);
    ck_assert_uint_eq(at[3 + LENGTH], 0);
    for (unsigned i = 0; i < LENGTH; i++) {
        at[3 + i] = (uint8_t)(i * 7 / 512);
    }
    for (unsigned i = 0; i < 3; i++) {
        data[i].write = false;
    }
    ck_assert_int_eq(virtio_blk_io(&blk, 0, VIRTIO_BLK_T_OUT, 2, data, 3, false), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(virtio_blk_flush(&blk), VIRTIO_BLK_S_OK);
    FILE *file = fopen(image, "rb");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, 1024, SEEK_SET), 0);
    for (unsigned i = 0; i < LENGTH; i++) {
        wrong += fgetc(file) != (uint8_t)(i * 7 / 512);
    }
    ck_assert_uint_eq(wrong, 0);
    ck_assert_int_eq(fgetc(file), fixture_pattern(1024 + LENGTH));
    fclose(file);
    virtio_blk_finish(&blk);
    end();
}
END_TEST

/* ---- pci-host ---- */

START_TEST(host_bridge)
{
    fixture_start(&f, MOCK_PVH, 1);
    fixture_run(&f, "--device", "pci-host", "--device", "virtio-rng", NULL);
    /* As Linux probes mechanism 1. */
    vcpu_outb(f.guest, 0, 0xcfb, 0x01);
    uint32_t before = vcpu_inl(f.guest, 0, 0xcf8);
    ck_assert_uint_eq(before, 0);
    vcpu_outl(f.guest, 0, 0xcf8, 0x80000000);
    ck_assert_uint_eq(vcpu_inl(f.guest, 0, 0xcf8), 0x80000000);
    vcpu_outb(f.guest, 0, 0xcfb, 0x01);
    ck_assert_uint_eq(vcpu_inl(f.guest, 0, 0xcf8), 0x80000000);
    ck_assert_uint_eq(vcpu_inl(f.guest, 0, 0xcfc), 0x12378086);
    ck_assert_uint_eq(vcpu_inw(f.guest, 0, 0xcf8), 0xffff);
    vcpu_outl(f.guest, 0, 0xcf8, 0x80000008);
    ck_assert_uint_eq(vcpu_inl(f.guest, 0, 0xcfc) >> 8, 0x060000);
    ck_assert_uint_eq(vcpu_inw(f.guest, 0, 0xcfe), 0x0600);
    vcpu_outl(f.guest, 0, 0xcf8, 0x80002000); /* the first slot by default: 4 */
    ck_assert_uint_eq(vcpu_inl(f.guest, 0, 0xcfc), 0x10441af4);
    vcpu_outl(f.guest, 0, 0xcf8, 0x80000800);
    ck_assert_uint_eq(vcpu_inl(f.guest, 0, 0xcfc), UINT32_MAX);
    fixture_terminate(&f);
    fixture_stop(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("small devices");
    TCase *tests = tcase_create("devices");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, random_bytes, 0, PLACES);
    tcase_add_loop_test(tests, console_both_ways, 0, PLACES);
    tcase_add_loop_test(tests, console_reset_with_a_full_peer, 0, PLACES);
    tcase_add_loop_test(tests, long_requests, 0, PLACES);
    tcase_add_test(tests, host_bridge);
    suite_add_tcase(suite, tests);
    return fixture_main(suite);
}
