/* SPDX-License-Identifier: BSD-2-Clause */
/* The record directory as somebody else may have left it: the daemon goes by its own records only, and never hangs. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xen/hvm/dm_op.h>

#include "fixture.h"

#define PORT 0x402

static struct fixture f;

static void stop(void)
{
    fixture_stop(&f);
}

static void start_hvm(void)
{
    fixture_start(&f, MOCK_HVM, 1);
    ck_assert_int_eq(mkdir(f.records, 0700), 0);
}

static const char *path_of(unsigned id, const char *suffix)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s.%u%s", f.records, f.domid, id, suffix);
    return path;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

/* Somebody else's server, id 0; returns what a record of it would say. */
static const char *foreign_server(void)
{
    static const struct mock_range range = {.type = XEN_DMOP_IO_RANGE_PORT, .start = 0x500, .end = 0x500};
    static char text[128];
    struct mock_leftover foreign = {.enabled = true, .ranges = &range, .nr_ranges = 1};
    uint32_t port = 0;
    ck_assert_int_eq(mock_leave_server(f.guest, &foreign, &port), 0);
    snprintf(text, sizeof(text), "domid=%s\nserver=0\nvp_eport=%u\nuuid=\n", f.domid, port);
    return text;
}

static unsigned servers(void)
{
    struct mock_domain_info info;
    ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
    return info.server_mask;
}

static void expect_foreign_untouched(void)
{
    fixture_run(&f, "--device", "debugcon", NULL);
    fixture_expect_log(f.daemon, "ioreq server 0 is not ours");
    ck_assert_uint_eq(servers(), 3);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    fixture_terminate(&f);
    ck_assert_uint_eq(servers(), 1);
}

/* The counter-proof: with a plain record of it, the same server is removed. */
START_TEST(own_record)
{
    write_file(path_of(0, ""), foreign_server());
    fixture_run(&f, "--device", "debugcon", NULL);
    fixture_expect_log(f.daemon, "removed ioreq server 0");
    ck_assert_uint_eq(servers(), 1);
}
END_TEST

START_TEST(symlink_is_not_followed)
{
    char real[256];
    snprintf(real, sizeof(real), "%s/elsewhere", f.records);
    write_file(real, foreign_server());
    ck_assert_int_eq(symlink(real, path_of(0, "")), 0);
    expect_foreign_untouched();
    ck_assert_int_eq(access(real, F_OK), 0);
}
END_TEST

START_TEST(fifo_does_not_block)
{
    foreign_server();
    ck_assert_int_eq(mkfifo(path_of(0, ""), 0600), 0);
    ck_assert_int_eq(mkfifo(path_of(1, ".new"), 0600), 0);
    expect_foreign_untouched();
}
END_TEST

START_TEST(directory_in_the_place)
{
    foreign_server();
    ck_assert_int_eq(mkdir(path_of(0, ""), 0700), 0);
    expect_foreign_untouched();
}
END_TEST

START_TEST(another_users_record)
{
    if (geteuid() != 0) {
        return; /* only root can give a file away */
    }
    write_file(path_of(0, ""), foreign_server());
    ck_assert_int_eq(chown(path_of(0, ""), 65534, 65534), 0);
    expect_foreign_untouched();
}
END_TEST

START_TEST(hostile_content)
{
    static const char *const texts[] = {
        "", "\n", "domid", "domid=-1\nserver=0\nvp_eport=0\n", "server=0\ndomid=1\nvp_eport=0\n",
        "domid=99999999999999999999999999\nserver=0\nvp_eport=0\nuuid=\n", "\xff\xfe\0\0",
    };
    char text[128];
    foreign_server();
    if (_i < (int)(sizeof(texts) / sizeof(texts[0]))) {
        snprintf(text, sizeof(text), "%s", texts[_i]);
    } else if (_i == 7) { /* 16 bits of it are right */
        snprintf(text, sizeof(text), "domid=%u\nserver=0\nvp_eport=0\nuuid=\n", 0x10000 + (unsigned)atoi(f.domid));
    } else { /* likewise */
        snprintf(text, sizeof(text), "domid=%s\nserver=65536\nvp_eport=0\nuuid=\n", f.domid);
    }
    write_file(path_of(0, ""), text);
    expect_foreign_untouched();
}
END_TEST

/* A record whose server is gone would match the next one of that id, maybe QEMU's. */
START_TEST(stale_record_goes)
{
    char text[64];
    snprintf(text, sizeof(text), "domid=%s\nserver=5\nvp_eport=0\nuuid=\n", f.domid);
    write_file(path_of(5, ""), text);
    write_file(path_of(77, ""), text); /* no name of ours */
    fixture_run(&f, "--device", "debugcon", NULL);
    ck_assert_int_ne(access(path_of(5, ""), F_OK), 0);
    ck_assert_int_eq(access(path_of(77, ""), F_OK), 0);
}
END_TEST

/* No record, no server: its leftovers could not be told from others'. */
START_TEST(unusable_directory)
{
    if (_i == 0) {
        ck_assert_int_eq(rmdir(f.records), 0);
        write_file(f.records, "a file");
    } else {
        snprintf(f.records, sizeof(f.records), "/nonexistent/deep/records");
    }
    struct mock_daemon *daemon = fixture_spawn(&f, "--device", "debugcon", NULL);
    ck_assert_int_gt(fixture_status(daemon), 0);
    fixture_expect_log(daemon, f.records);
    mock_daemon_free(daemon);
    ck_assert_uint_eq(servers(), 0);
}
END_TEST

/* ---- two ioreqds on one guest: each knows what the other holds ---- */

static char *record_text(unsigned id)
{
    static char text[8192];
    FILE *file = fopen(path_of(id, ""), "r");
    ck_assert_ptr_nonnull(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

START_TEST(claims_of_another)
{
    char image[300], disk[400], text[100];
    snprintf(image, sizeof(image), "%s", fixture_image(&f, "disk.img", 1 << 20));
    snprintf(disk, sizeof(disk), "virtio-blk,addr=5,path=%s", image);
    fixture_run(&f, "--device", "debugcon", "--device", disk, NULL);
    const char *record = record_text(0);
    ck_assert_ptr_nonnull(strstr(record, "claim=ports 0x402 0x402 debugcon0\n"));
    ck_assert_ptr_nonnull(strstr(record, "claim=function 0x28 0x28 virtio-blk1\n"));
    snprintf(text, sizeof(text), "pid=%d\n", (int)mock_daemon_pid(f.daemon));
    ck_assert_ptr_nonnull(strstr(record, text));
    /* What is taken is refused, with its owner. */
    snprintf(text, sizeof(text), "ports 0x402 to 0x402: taken by debugcon0 of ioreqd pid %d",
             (int)mock_daemon_pid(f.daemon));
    struct mock_daemon *other = fixture_spawn(&f, "--device", "debugcon,id=mine", NULL);
    ck_assert_int_gt(fixture_status(other), 0);
    fixture_expect_log(other, text);
    mock_daemon_free(other);
    snprintf(text, sizeof(text), "PCI address 05.0 is taken by virtio-blk1 of ioreqd pid %d",
             (int)mock_daemon_pid(f.daemon));
    other = fixture_spawn(&f, "--device", "virtio-rng,addr=5", NULL);
    ck_assert_int_gt(fixture_status(other), 0);
    fixture_expect_log(other, text);
    mock_daemon_free(other);
    /* The default slots skip it: 4 is free, 5 is not. */
    other = fixture_spawn(&f, "--device", "virtio-rng", "--device", "virtio-rng",
                          "--device", "debugcon,base=0x500", NULL);
    ck_assert_int_eq(mock_daemon_wait_log(other, "ready: all guests are running", 10000), 0);
    record = record_text(1);
    ck_assert_ptr_nonnull(strstr(record, "claim=function 0x20 "));
    ck_assert_ptr_nonnull(strstr(record, "claim=function 0x30 "));
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, 0x500), 0xe9);
    mock_daemon_free(other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("records");
    TCase *hvm = tcase_create("hvm");
    tcase_add_checked_fixture(hvm, start_hvm, stop);
    tcase_set_timeout(hvm, 60);
    tcase_add_test(hvm, own_record);
    tcase_add_test(hvm, symlink_is_not_followed);
    tcase_add_test(hvm, fifo_does_not_block);
    tcase_add_test(hvm, directory_in_the_place);
    tcase_add_test(hvm, another_users_record);
    tcase_add_loop_test(hvm, hostile_content, 0, 9);
    tcase_add_test(hvm, stale_record_goes);
    tcase_add_loop_test(hvm, unusable_directory, 0, 2);
    tcase_add_test(hvm, claims_of_another);
    suite_add_tcase(suite, hvm);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
