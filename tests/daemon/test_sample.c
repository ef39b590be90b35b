/* SPDX-License-Identifier: BSD-2-Clause */
/* The example that HACKING.md shows, loaded with --module, as a guest uses it. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

enum { FROM = 0x00, TO = 0x08, COUNT = 0x10, STATUS = 0x18 };

static struct fixture f;
static uint64_t base;

static void start(enum mock_profile profile)
{
    fixture_start(&f, profile, 1);
    base = profile == MOCK_ARM64 ? 0x2000000 : 0xf0000000;
}

static void stop(void)
{
    fixture_terminate(&f);
    fixture_expect_clean(&f);
    fixture_stop(&f);
}

static void set(unsigned reg, uint64_t value)
{
    vcpu_mmio_write(f.guest, 0, base + reg, 8, value);
    ck_assert_int_eq(mock_last_status(f.guest, 0), MOCK_DONE);
}

static uint64_t status(void)
{
    return vcpu_mmio_read(f.guest, 0, base + STATUS, 8);
}

static void copies(uint64_t from, uint64_t to)
{
    static const char text[] = "over a page's end";
    char copy[sizeof(text)];
    ck_assert_int_eq(mock_guest_write(f.guest, from, text, sizeof(text)), 0);
    set(FROM, from);
    set(TO, to);
    ck_assert_uint_eq(vcpu_mmio_read(f.guest, 0, base + FROM, 4), (uint32_t)from); /* a part of a register */
    set(COUNT, sizeof(text));
    ck_assert_uint_eq(status(), 1);
    ck_assert_int_eq(mock_guest_read(f.guest, to, copy, sizeof(copy)), 0);
    ck_assert_str_eq(copy, text);
}

START_TEST(on_hvm)
{
    start(MOCK_HVM);
    mock_gsi_config(f.guest, 5, true, false);
    fixture_run(&f, "--module", getenv("MODULE_SAMPLE"), "--device", "sample,base=0xf0000000", NULL);
    copies(0x5ff8, 0x9ffc);
    ck_assert_int_eq(mock_gsi_wait_level(f.guest, 5, true, FIXTURE_TIMEOUT_MS), 0);
    set(STATUS, 0);
    ck_assert_int_eq(mock_gsi_wait_level(f.guest, 5, false, FIXTURE_TIMEOUT_MS), 0);
    /* A page that is not there, and a count that is too large. */
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 0, 0xa, 1), MOCK_DONE);
    set(COUNT, 16);
    ck_assert_uint_eq(status(), 2);
    ck_assert_int_eq(mock_populate(f.guest, 0xa, 1), 0);
    set(COUNT, UINT64_MAX);
    ck_assert_uint_eq(status(), 1);
    ck_assert_uint_eq(*(uint8_t *)mock_guest_ram(f.guest, 0x9ffc + 256, 1), 0);
    stop();
}
END_TEST

START_TEST(on_arm)
{
    start(MOCK_ARM64);
    uint64_t ram = mock_ram_base(f.guest);
    fixture_run(&f, "--on-exit", "destroy", "--module", getenv("MODULE_SAMPLE"),
                "--device", "sample,base=0x2000000,irq=37", NULL);
    copies(ram + 0x5ff8, ram + 0x9ffc);
    ck_assert_int_eq(mock_spi_take(f.guest, 37, FIXTURE_TIMEOUT_MS), 0);
    stop();
}
END_TEST

START_TEST(refused)
{
    static const char *const cases[][2] = {
        {"sample", "base="}, {"sample,base=0xf0000000,irq=none", "irq="}, {"sample,base=0xf0000000,irq=77", "irq=77"}};
    start(MOCK_HVM);
    for (unsigned i = 0; i < 3; i++) {
        struct mock_daemon *daemon =
            fixture_spawn(&f, "--module", getenv("MODULE_SAMPLE"), "--device", cases[i][0], NULL);
        ck_assert_int_gt(fixture_status(daemon), 0);
        fixture_expect_log(daemon, cases[i][1]);
        mock_daemon_free(daemon);
    }
    fixture_stop(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sample");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, on_hvm);
    tcase_add_test(tcase, on_arm);
    tcase_add_test(tcase, refused);
    suite_add_tcase(suite, tcase);
    return fixture_main(suite);
}
