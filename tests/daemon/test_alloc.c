/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The Nth allocation of the daemon fails, N = 1, 2, ... until none does: it ends with a clear line, or serves; it never
 * crashes, hangs or leaves anything behind.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"
#include "virtio_blk_driver.h"

#define ALLOCATIONS_MAX 5000u
#define QUIET_RUN 25u /* so many numbers in a row that were not reached: the end */

static struct fixture f;
static char preload[600], report[200], report_variable[240], disk[300], fail[32];

static void start(void)
{
    fixture_start(&f, MOCK_HVM, 1);
    const char *mocks = "";
    for (char *const *variable = mock_env(f.mock); *variable; variable++) {
        if (!strncmp(*variable, "LD_PRELOAD=", 11)) {
            mocks = *variable + 11;
        }
    }
    snprintf(preload, sizeof(preload), "LD_PRELOAD=%s:%s", getenv("FAIL_ALLOC_SO"), mocks);
    snprintf(report, sizeof(report), "%s/fired", mock_dir(f.mock));
    snprintf(report_variable, sizeof(report_variable), "FAIL_ALLOC_REPORT=%s", report);
    snprintf(disk, sizeof(disk), "virtio-blk,addr=6,path=%s", fixture_image(&f, "disk.img", 1 << 20));
}

static void stop(void)
{
    fixture_stop(&f);
}

/* The guest uses what is there; nothing may hang. */
static void use_devices(void)
{
    struct virtio_driver driver;
    struct virtio_blk blk;
    uint8_t bytes[4096];
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, 0x402), 0xe9);
    if (virtio_pci_open(&driver, f.guest, 0, 6 << 3, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_MSIX, 0xe0000000,
                        virtio_arena_make(f.guest, 0x100000, 0x400000))) {
        return; /* the device could not be made whole: it is broken, and says so */
    }
    if (!virtio_blk_start(&blk, &driver, VIRTIO_BLK_ALL, 1, 16)) {
        int status = virtio_blk_read(&blk, 0, bytes, sizeof(bytes));
        bool right = bytes[700] == fixture_pattern(700);
        ck_assert_msg(status != VIRTIO_BLK_S_OK || right, "wrong data");
        virtio_blk_finish(&blk);
    }
    virtio_close(&driver);
}

/* Is the Nth allocation ever made? */
static bool try_without(unsigned number)
{
    unlink(report);
    snprintf(fail, sizeof(fail), "FAIL_ALLOC=%u", number);
    const char *const arguments[] = {"/usr/bin/env", preload, report_variable, fail, getenv("IOREQD"),
                                     "--record-dir", f.records, "--no-xenstore", "--domain", f.domid,
                                     "--type", "hvm", "--device", "debugcon", "--device", "uart16550",
                                     "--device", "pci-host", "--device", disk, NULL};
    struct mock_daemon *daemon = mock_spawn_daemon(f.mock, (char *const *)(uintptr_t)arguments);
    ck_assert_ptr_nonnull(daemon);
    bool served = mock_daemon_wait_log(daemon, ": running", FIXTURE_TIMEOUT_MS) == 0;
    if (served) {
        use_devices();
        mock_daemon_signal(daemon, SIGTERM);
    }
    int status = fixture_status(daemon);
    ck_assert_msg(served ? status == 0 : status > 0 && mock_daemon_log(daemon)[0],
                  "allocation %u: status %d, served %d:\n%s", number, status, served,
                  mock_daemon_log(daemon));
    struct mock_domain_info info;
    ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
    ck_assert_msg(!info.server_mask && !info.foreign_pages && !info.bound_ports,
                  "allocation %u: servers 0x%x left:\n%s", number, info.server_mask, mock_daemon_log(daemon));
    mock_daemon_free(daemon);
    return access(report, F_OK) == 0;
}

START_TEST(every_allocation_fails_once)
{
    unsigned unreached = 0;
    for (unsigned number = 1; number < ALLOCATIONS_MAX && unreached < QUIET_RUN; number++) {
        unreached = try_without(number) ? 0 : unreached + 1;
    }
    ck_assert_uint_eq(unreached, QUIET_RUN);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("alloc");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, start, stop);
    tcase_set_timeout(tcase, 280);
    tcase_add_test(tcase, every_allocation_fails_once);
    suite_add_tcase(suite, tcase);
    return fixture_main(suite);
}
