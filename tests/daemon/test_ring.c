/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The buffered ring: single writes to the VGA window of an HVM guest end at once and come to the device
 * later, in their order, and before whatever a vCPU asks for synchronously. The daemon is held with SIGSTOP
 * where the ring must fill.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xen/hvm/ioreq.h>

#include "fixture.h"

#define BASE 0xa0000u
enum {
    HOLD = 0x00,
    FREE = 0x04,
    ADDRESS = 0x08,
    ADDRESS_HIGH = 0x0c,
    START = 0x10,
    STATE = 0x14
};                     /* tests/modules/defer_device.c */
#define RING_ROOM 511u /* entries; xen/hvm/ioreq.h */

static struct fixture f;
static const char *const kinds[] = {"legacy", "atomic"};

static void start_hvm(void)
{
    fixture_start(&f, MOCK_HVM, 4);
}

static void stop(void)
{
    fixture_stop(&f);
}

static void run(const char *ring, const char *options)
{
    char device[128];
    snprintf(device, sizeof(device), "test-defer,base=0x%x,%s", BASE, options);
    fixture_run(&f, "--module", getenv("MODULE_TEST_DEFER"), "--exit-when-gone", "--bufioreq", ring,
                "--device", device, NULL);
}

/* Stopped: it serves nothing, so what ends ends by itself. */
static void hold_daemon(bool held)
{
    int status = 0;
    mock_daemon_signal(f.daemon, held ? SIGSTOP : SIGCONT);
    for (unsigned i = 0; held && status != 'T' && status != 't' && i < 1000; i++) {
        char path[64], line[256] = "";
        snprintf(path, sizeof(path), "/proc/%d/stat", (int)mock_daemon_pid(f.daemon));
        FILE *file = fopen(path, "re");
        ck_assert_ptr_nonnull(file);
        if (fgets(line, sizeof(line), file) && strrchr(line, ')')) {
            status = strrchr(line, ')')[2];
        }
        fclose(file);
        usleep(1000);
    }
}

/* A write that must not need the daemon. */
static void buffered_write(unsigned vcpu, unsigned offset, unsigned size, uint64_t value)
{
    vcpu_mmio_write(f.guest, vcpu, BASE + offset, size, value);
    ck_assert_int_eq(mock_last_status(f.guest, vcpu), MOCK_DONE);
}

static uint64_t read_register(unsigned vcpu, unsigned offset)
{
    uint64_t value = vcpu_mmio_read(f.guest, vcpu, BASE + offset, 4);
    ck_assert_int_eq(mock_last_status(f.guest, vcpu), MOCK_DONE);
    return value;
}

static struct fixture_vcpu *begin(unsigned vcpu, bool read, unsigned offset, uint64_t value)
{
    struct mock_access access = {
        .space = MOCK_MMIO, .read = read, .size = 4, .addr = BASE + offset, .data = value};
    return fixture_access(&f, vcpu, &access);
}

static uint64_t end(struct fixture_vcpu *vcpu)
{
    uint64_t value;
    ck_assert_int_eq(fixture_join(vcpu, &value), MOCK_DONE);
    return value;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

START_TEST(drained_before_a_synchronous_access)
{
    run(kinds[_i], "delay=0");
    hold_daemon(true);
    for (unsigned i = 1; i <= 10; i++) {
        buffered_write(i % 3, ADDRESS, 4, 0x1000 * i);
    }
    buffered_write(0, ADDRESS_HIGH, 4, 0x77);
    struct fixture_vcpu *low = begin(3, true, ADDRESS, 0);
    hold_daemon(false);
    ck_assert_uint_eq(end(low), 0xa000);
    ck_assert_uint_eq(read_register(1, ADDRESS_HIGH), 0x77);
    ck_assert_uint_eq(read_register(2, FREE), 14); /* each exactly once: 11 writes, 3 reads */
}
END_TEST

/* The ring's own event is enough: nobody asks for anything. */
/* The ring's own event got lost: only the synchronous access can bring the daemon to look at it first. */
START_TEST(drained_without_its_event)
{
    run(kinds[_i], "delay=0");
    ck_assert_int_eq(mock_drop_events(f.guest, -1, true), 0);
    buffered_write(0, ADDRESS, 4, 0x7000);
    ck_assert_int_eq(mock_drop_events(f.guest, -1, false), 0);
    ck_assert_uint_eq(read_register(1, ADDRESS), 0x7000);
}
END_TEST

START_TEST(served_by_its_own_event)
{
    char device[200], defer[80], path[120], text[8] = "";
    snprintf(path, sizeof(path), "%s/debug", mock_dir(f.mock));
    snprintf(device, sizeof(device), "debugcon,base=0x402,chardev=file,chardev.path=%s", path);
    snprintf(defer, sizeof(defer), "test-defer,base=0x%x,delay=50", BASE);
    fixture_run(&f, "--module", getenv("MODULE_TEST_DEFER"), "--bufioreq", kinds[_i], "--device", device,
                "--device", defer, NULL);
    uint64_t before = mock_call_count(f.mock, MOCK_CALL_FOREIGN_MAP);
    buffered_write(0, HOLD, 4, 0);
    buffered_write(0, ADDRESS, 4, 0x300000);
    buffered_write(0, START, 4, 1); /* it maps the page, which the mock sees */
    for (unsigned i = 0; i < 1000 && mock_call_count(f.mock, MOCK_CALL_FOREIGN_MAP) == before; i++) {
        usleep(10000);
    }
    ck_assert_uint_gt(mock_call_count(f.mock, MOCK_CALL_FOREIGN_MAP), before);
    vcpu_outb(f.guest, 1, 0x402, 'x'); /* a port beside it goes the usual way */
    FILE *file = NULL;
    for (unsigned i = 0; i < 1000 && !text[0]; i++) {
        file = fopen(path, "re");
        if (file && !fgets(text, sizeof(text), file)) {
            text[0] = '\0';
        }
        if (file) {
            fclose(file);
        }
        usleep(10000);
    }
    ck_assert_str_eq(text, "x");
}
END_TEST

START_TEST(held_back_by_a_deferred_write)
{
    run(kinds[_i], "delay=600");
    uint64_t start = now_ms();
    buffered_write(0, HOLD, 4, 0);
    buffered_write(0, ADDRESS, 4, 0x5000);
    buffered_write(2, ADDRESS_HIGH, 4, 0x6);
    struct fixture_vcpu *low = begin(1, true, ADDRESS, 0), *high = begin(3, true, ADDRESS_HIGH, 0);
    buffered_write(0, STATE, 4, 0); /* vCPU 0 never waits */
    ck_assert_uint_eq(end(low), 0x5000);
    ck_assert_uint_eq(end(high), 0x6);
    ck_assert_uint_ge(now_ms() - start, 550);
    ck_assert_uint_eq(read_register(0, FREE), 7);
}
END_TEST

/* The slot's access is deferred first; what is buffered then waits for the device, and a third vCPU waits
 * behind it. */
START_TEST(held_back_by_a_deferred_read)
{
    run(kinds[_i], "delay=600");
    struct fixture_vcpu *held = begin(1, true, HOLD, 0);
    buffered_write(0, ADDRESS, 4, 0x9000);
    struct fixture_vcpu *behind = begin(2, true, ADDRESS, 0);
    ck_assert_uint_eq(end(held), 1);
    ck_assert_uint_eq(end(behind), 0x9000);
}
END_TEST

START_TEST(full_ring)
{
    run(kinds[_i], "delay=0");
    uint64_t accesses = 0;
    for (unsigned round = 0; round < 4; round++) {
        hold_daemon(true);
        for (unsigned i = 0; i < RING_ROOM; i++) {
            buffered_write(0, ADDRESS, 4, round * 1000 + i);
        }
        struct fixture_vcpu *last =
            begin(0, false, ADDRESS, 0xabc0 + round); /* no room: it waits for an answer */
        hold_daemon(false);
        end(last);
        ck_assert_uint_eq(read_register(1, ADDRESS), 0xabc0 + round);
        accesses += RING_ROOM + 3;
        ck_assert_uint_eq(read_register(2, FREE), accesses);
    }
}
END_TEST

START_TEST(quadwords)
{
    run(kinds[_i], "delay=0");
    for (unsigned round = 0; round < 3; round++) {
        /* An odd number of slots a round, so that a quadword lies over the ring's end once. */
        hold_daemon(true);
        for (unsigned i = 0; i < 254; i++) {
            buffered_write(i % 4, ADDRESS, 8, UINT64_C(0x100000000) * (i + round) + i);
        }
        buffered_write(0, STATE, 4, 0);
        struct fixture_vcpu *low = begin(1, true, ADDRESS, 0);
        hold_daemon(false);
        ck_assert_uint_eq(end(low), 253);
        ck_assert_uint_eq(read_register(1, ADDRESS_HIGH), 253 + round);
    }
    /* One slot left: a quadword has no room in it. */
    hold_daemon(true);
    for (unsigned i = 0; i < RING_ROOM - 1; i++) {
        buffered_write(0, STATE, 4, 0);
    }
    struct mock_access access = {
        .space = MOCK_MMIO, .size = 8, .addr = BASE + ADDRESS, .data = 0x1122334455667788};
    struct fixture_vcpu *wide = fixture_access(&f, 0, &access);
    hold_daemon(false);
    end(wide);
    ck_assert_uint_eq(read_register(1, ADDRESS), 0x55667788);
    ck_assert_uint_eq(read_register(1, ADDRESS_HIGH), 0x11223344);
}
END_TEST

START_TEST(time_offset)
{
    run(kinds[_i], "delay=0");
    hold_daemon(true);
    buffered_write(0, ADDRESS, 4, 1);
    ck_assert_int_eq(mock_timeoffset(f.guest, -3600), 0);
    buffered_write(0, ADDRESS, 4, 2);
    ck_assert_int_eq(mock_timeoffset(f.guest, 1ll << 40), 0);
    struct fixture_vcpu *value = begin(1, true, ADDRESS, 0);
    hold_daemon(false);
    ck_assert_uint_eq(end(value), 2);
    ck_assert_uint_eq(read_register(0, FREE), 4);
}
END_TEST

START_TEST(without_a_ring)
{
    run("off", "delay=0");
    hold_daemon(true);
    struct fixture_vcpu *write = begin(0, false, ADDRESS, 0x4000);
    ck_assert_int_eq(mock_timeoffset(f.guest, 5), 0);
    hold_daemon(false);
    end(write);
    ck_assert_uint_eq(read_register(1, ADDRESS), 0x4000);
}
END_TEST

/* What no Xen would write: every sync access still ends, and the ring works again afterwards. */
START_TEST(garbage)
{
    run(kinds[_i], "delay=5");
    uint64_t *ring = mock_buffered_ring(f.guest, 0);
    ck_assert_ptr_nonnull(ring);
    ck_assert_ptr_null(mock_buffered_ring(f.guest, 1));
    srandom(1234);
    for (unsigned round = 0; round < 40; round++) {
        hold_daemon(true);
        for (unsigned i = 1; i <= RING_ROOM; i++) {
            uint64_t word = (uint64_t)random() << 33 ^ (uint64_t)random() << 12 ^ (uint64_t)random();
            /* Half of them go to the device: address in bits 12 to 31. */
            ring[i] =
                i % 2 ? word : (word & ~UINT64_C(0xfffff000)) | (uint64_t)(BASE + (random() & 0x1f)) << 12;
        }
        uint32_t read = (uint32_t)ring[0],
                 waiting = round % 4 == 0 ? (uint32_t)random() : (uint32_t)random() % 64;
        __atomic_store_n(ring, (uint64_t)(read + waiting) << 32 | read, __ATOMIC_RELEASE);
        struct fixture_vcpu *value = begin(round % 4, true, FREE, 0);
        hold_daemon(false);
        end(value);
    }
    buffered_write(0, ADDRESS, 4, 0xfeed0000);
    ck_assert_uint_eq(read_register(1, ADDRESS), 0xfeed0000);
}
END_TEST

START_TEST(sigterm_with_a_full_ring)
{
    run(kinds[_i], "delay=0"); /* HOLD never ends by itself */
    buffered_write(0, HOLD, 4, 0);
    for (unsigned i = 0; i < 100; i++) {
        buffered_write(0, HOLD, 4, 0);
    }
    struct fixture_vcpu *behind = begin(1, true, ADDRESS, 0);
    fixture_terminate(&f);
    end(behind);
    fixture_expect_clean(&f);
}
END_TEST

/* The guest's writes are in the ring and no event told of them: SIGTERM must not lose them. */
START_TEST(sigterm_serves_what_came)
{
    enum { TARGET = 0x300000, IO_BYTES = 4096, PATTERN = 0xd7 };
    uint8_t pattern[IO_BYTES];
    memset(pattern, PATTERN, sizeof(pattern));
    uint8_t *target = mock_guest_ram(f.guest, TARGET, IO_BYTES);
    run(kinds[_i], "delay=100");
    ck_assert_int_eq(mock_drop_events(f.guest, -1, true), 0);
    buffered_write(0, ADDRESS, 4, TARGET);
    buffered_write(0, ADDRESS_HIGH, 4, 0);
    buffered_write(0, START, 4, 1); /* an I/O, which SIGTERM lets finish */
    usleep(100000);
    ck_assert_uint_eq(target[0], 0);
    fixture_terminate(&f);
    ck_assert_mem_eq(target, pattern, IO_BYTES);
    fixture_expect_clean(&f);
}
END_TEST

START_TEST(death_with_a_full_ring)
{
    struct mock_domain_info info;
    run(kinds[_i], "delay=0");
    for (unsigned i = 0; i < 100; i++) {
        buffered_write(0, HOLD, 4, 0);
    }
    struct fixture_vcpu *behind = begin(1, true, ADDRESS, 0);
    ck_assert_int_eq(mock_domain_kill(f.guest), 0);
    ck_assert_int_eq(fixture_join(behind, NULL), MOCK_DEAD);
    ck_assert_int_eq(fixture_status(f.daemon), 0);
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
    ck_assert(!info.exists);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, start_hvm, stop);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, drained_before_a_synchronous_access, 0, 2);
    tcase_add_loop_test(tcase, drained_without_its_event, 0, 2);
    tcase_add_loop_test(tcase, served_by_its_own_event, 0, 2);
    tcase_add_loop_test(tcase, held_back_by_a_deferred_write, 0, 2);
    tcase_add_loop_test(tcase, held_back_by_a_deferred_read, 0, 2);
    tcase_add_loop_test(tcase, full_ring, 0, 2);
    tcase_add_loop_test(tcase, quadwords, 0, 2);
    tcase_add_loop_test(tcase, time_offset, 0, 2);
    tcase_add_test(tcase, without_a_ring);
    tcase_add_loop_test(tcase, garbage, 0, 2);
    tcase_add_loop_test(tcase, sigterm_with_a_full_ring, 0, 2);
    tcase_add_loop_test(tcase, sigterm_serves_what_came, 0, 2);
    tcase_add_loop_test(tcase, death_with_a_full_ring, 0, 2);
    suite_add_tcase(suite, tcase);
    return fixture_main(suite);
}
