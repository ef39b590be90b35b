/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ten thousand guests attached and detached, and thousands of devices plugged and unplugged, by one daemon: nothing is
 * left of them, in Xen or here.
 */
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"
#include "host.h"

enum { GUESTS = 10000, DEVICES = 3000, WARM = 1000, SLACK_KIB = 512 };

static struct fixture f;
static struct host host;

/* ---- what the process holds ---- */

static unsigned descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

static unsigned long anonymous_kib(void)
{
    char line[128];
    unsigned long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof(line), file) != NULL) {
        sscanf(line, "RssAnon: %lu", &kib);
    }
    fclose(file);
    return kib;
}

/* ---- the rounds, on the loop ---- */

struct churn {
    struct daemon_listener listener;
    struct guest_spec spec;
    struct device_spec more;
    bool devices; /* plugs and unplugs a device of one guest, instead of the guest */
    unsigned rounds, left, at_warm_fds, at_end_fds; /* between two rounds */
    unsigned long at_warm_kib;
};
static struct churn churn;

static void next(void);

static void gone(void *self, int error, const char *why)
{
    (void)self;
    ck_assert_msg(error == 0, "%s", why);
    next();
}

static void plugged(void *self, int error, const char *why)
{
    struct iod_error text;
    (void)self;
    ck_assert_msg(error == 0, "%s", why);
    ck_assert_msg(daemon_remove_device(host.daemon, f.domid, "more", REMOVAL_FORCE, gone, NULL, &text) == 0, "%s",
                  text.text);
}

static void next(void)
{
    struct iod_error error;
    if (churn.left == churn.rounds - WARM) {
        churn.at_warm_fds = descriptors();
        churn.at_warm_kib = anonymous_kib();
    }
    if (churn.left-- == 0) {
        churn.at_end_fds = descriptors();
        sem_post(&host.done);
    } else if (churn.devices) {
        ck_assert_msg(daemon_add_device(host.daemon, f.domid, &churn.more, plugged, NULL, &error) == 0, "%s",
                      error.text);
    } else {
        ck_assert_msg(daemon_add_guest(host.daemon, &churn.spec, &error) == 0, "%s", error.text);
    }
}

static void event(struct daemon_listener *listener, const struct daemon_event *event)
{
    struct iod_error error;
    (void)listener;
    if (event->kind == EVENT_GUEST_STATE && strcmp(event->text, "running") == 0) {
        ck_assert_int_eq(daemon_remove_guest(host.daemon, f.domid, gone, NULL, &error), 0);
    }
}

static void job_churn(struct host *on, void *argument)
{
    (void)argument;
    daemon_set_log_level(on->daemon, IOD_LOG_ERROR);
    if (!churn.devices) {
        daemon_listen(on->daemon, &churn.listener);
    }
    next();
}

static void run(void)
{
    churn.left = churn.rounds;
    churn.listener.event = event;
    host_do(&host, job_churn, NULL);
    ck_assert_uint_eq(churn.at_warm_fds, churn.at_end_fds);
    unsigned long kib = anonymous_kib();
#ifdef __SANITIZE_ADDRESS__
    kib = 0; /* it keeps what was freed for a while; what leaks it tells itself, at the end */
#endif
    ck_assert_msg(kib < churn.at_warm_kib + SLACK_KIB, "%lu KiB after %u rounds, %lu after %d", kib, churn.rounds,
                  churn.at_warm_kib, WARM);
}

static void start(void)
{
    fixture_start(&f, MOCK_HVM, 1);
    mock_adopt_env(f.mock);
    host_start_with(&host, f.records);
}

static void stop(void)
{
    host_stop(&host);
    fixture_expect_clean(&f);
    ck_assert_int_eq(rmdir(f.records), 0); /* no record is left */
    fixture_stop(&f);
}

START_TEST(guests)
{
    struct mock_domain_info info;
    struct iod_error error;
    char disk[400];
    snprintf(disk, sizeof(disk), "virtio-blk,path=%s", fixture_image(&f, "disk.img", 1 << 20));
    guest_spec_init(&churn.spec);
    churn.spec.domain = strdup(f.domid);
    churn.spec.arch = ARCH_X86;
    churn.spec.type = GUEST_HVM;
    churn.spec.on_exit = ON_EXIT_DESTROY;
    ck_assert_int_eq(guest_spec_add_device(&churn.spec, "debugcon", &error), 0);
    ck_assert_int_eq(guest_spec_add_device(&churn.spec, disk, &error), 0);
    churn.rounds = GUESTS;
    run();
    ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
    ck_assert_uint_eq(info.nr_servers, 0);
    guest_spec_finish(&churn.spec);
}
END_TEST

START_TEST(devices)
{
    struct iod_error error;
    struct mock_range ranges[8];
    char disk[400];
    host_add(&host, f.guest, (const char *const[]){"pci-host", "debugcon", NULL});
    int count = mock_server_ranges(f.guest, 0, ranges, 8);
    snprintf(disk, sizeof(disk), "virtio-blk,id=more,path=%s", fixture_image(&f, "disk.img", 1 << 20));
    ck_assert_int_eq(device_spec_parse(&churn.more, disk, &error), 0);
    churn.devices = true;
    churn.rounds = DEVICES;
    run();
    ck_assert_int_eq(mock_server_ranges(f.guest, 0, ranges, 8), count);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, 0x402), 0xe9);
    device_spec_finish(&churn.more);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("churn");
    TCase *c = tcase_create("churn");
    tcase_add_checked_fixture(c, start, stop);
    tcase_set_timeout(c, 280);
    tcase_add_test(c, guests);
    tcase_add_test(c, devices);
    suite_add_tcase(suite, c);
    return fixture_main(suite);
}
