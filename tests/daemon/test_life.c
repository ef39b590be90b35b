/* SPDX-License-Identifier: BSD-2-Clause */
/* The daemon's and its guests' life: attach, serve, every way to end, what it leaves and what it finds. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xen/hvm/dm_op.h>
#include <xen/hvm/ioreq.h>

#include "fixture.h"

#define DEBUGCON "debugcon"
#define PORT 0x402

static struct fixture f;

static void stop(void)
{
    fixture_stop(&f);
}

static void start_hvm(void)
{
    fixture_start(&f, MOCK_HVM, 2);
}

static void start_arm(void)
{
    fixture_start(&f, MOCK_ARM64, 2);
}

static unsigned servers(void)
{
    struct mock_domain_info info;
    ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
    return info.server_mask;
}

static bool record_exists(unsigned id)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/%s.%u", f.records, f.domid, id);
    return access(path, F_OK) == 0;
}

START_TEST(serves)
{
    fixture_run(&f, "--device", DEBUGCON, NULL);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    ck_assert_uint_eq(vcpu_inb(f.guest, 1, PORT), 0xe9);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT + 1), 0xff);
    ck_assert_uint_eq(servers(), 1);
    ck_assert(record_exists(0));
    fixture_terminate(&f);
    ck_assert(!record_exists(0));
    fixture_expect_clean(&f);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xff);
}
END_TEST

START_TEST(an_access_over_the_edge)
{
    fixture_run(&f, "--device", DEBUGCON, NULL);
    /* Xen gives a server only what lies wholly in its range. */
    ck_assert_uint_eq(vcpu_inl(f.guest, 0, PORT), 0xffffffff);
    ck_assert_uint_eq(vcpu_inw(f.guest, 0, PORT - 1), 0xffff);
}
END_TEST

static void raw(unsigned type, unsigned size, uint32_t count, uint64_t addr, uint64_t data, bool pointer, bool read)
{
    struct ioreq request = {.type = (uint8_t)type, .size = size, .count = count, .addr = addr, .data = data,
                            .data_is_ptr = pointer, .dir = read};
    ck_assert_int_eq(mock_raw_request(f.guest, 0, 0, &request), 0);
    ck_assert_int_eq(mock_access_wait(f.guest, 0, FIXTURE_TIMEOUT_MS, NULL), MOCK_DONE);
}

START_TEST(malformed_requests_end)
{
    fixture_run(&f, "--device", DEBUGCON, NULL);
    static const uint32_t sizes[] = {0, 3, 5, 8, 16, 0xffffffff};
    for (unsigned type = 0; type < 16; type++) {
        for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            raw(type, sizes[i], 1, PORT, 0, false, true);
            raw(type, sizes[i], 0, PORT, 0, false, false);
            raw(type, sizes[i], 1, UINT64_MAX, UINT64_MAX, true, true);
        }
    }
    raw(IOREQ_TYPE_PIO, 1, 0, PORT, 0, false, true);
    raw(IOREQ_TYPE_PIO, 1, 5000, PORT, UINT64_MAX - 100, true, true);  /* data over the top of the address space */
    raw(IOREQ_TYPE_PIO, 4, 1, 0xffff, 0, false, true);                 /* beyond the last port */
    raw(IOREQ_TYPE_COPY, 8, 3, UINT64_MAX - 3, 0, false, true);        /* wraps */
    raw(IOREQ_TYPE_PCI_CONFIG, 4, 1, UINT64_MAX, 0, false, false);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
}
END_TEST

START_TEST(rep_reads_into_holes)
{
    fixture_run(&f, "--device", DEBUGCON, NULL);
    uint64_t gpa = mock_ram_base(f.guest) + 0x5000;
    memset(mock_guest_ram(f.guest, gpa, 0x1000), 0, 0x1000);
    ck_assert_int_eq(vcpu_rep_ins(f.guest, 0, PORT, 1, gpa + 0xff0, 16, false), MOCK_DONE);
    ck_assert_uint_eq(*(uint8_t *)mock_guest_ram(f.guest, gpa + 0xff0, 1), 0xe9);
    ck_assert_uint_eq(*(uint8_t *)mock_guest_ram(f.guest, gpa + 0xfff, 1), 0xe9);
    ck_assert_int_eq(vcpu_rep_ins(f.guest, 0, PORT, 1, gpa + 0x20, 0x10, true), MOCK_DONE);
    ck_assert_uint_eq(*(uint8_t *)mock_guest_ram(f.guest, gpa + 0x11, 1), 0xe9);
    ck_assert_uint_eq(*(uint8_t *)mock_guest_ram(f.guest, gpa + 0x10, 1), 0);
    /* The page goes away while the daemon may have it mapped; then it is a hole. */
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 0, gpa >> 12, 1), MOCK_DONE);
    raw(IOREQ_TYPE_PIO, 1, 64, PORT, gpa - 32, true, true);
    ck_assert_uint_eq(*(uint8_t *)mock_guest_ram(f.guest, gpa - 1, 1), 0xe9);
    ck_assert_int_eq(mock_populate(f.guest, gpa >> 12, 1), 0);
    raw(IOREQ_TYPE_PIO, 1, 64, PORT, gpa - 32, true, true);
    ck_assert_uint_eq(*(uint8_t *)mock_guest_ram(f.guest, gpa + 31, 1), 0xe9);
}
END_TEST

START_TEST(long_rep_is_shared_out)
{
    /* More elements than a round's budget: another vCPU's access must not wait for all of them. */
    fixture_run(&f, "--device", DEBUGCON, NULL);
    uint64_t gpa = mock_ram_base(f.guest) + 0x8000;
    memset(mock_guest_ram(f.guest, gpa, 0x1000), 0, 0x1000);
    ck_assert_int_eq(vcpu_rep_ins(f.guest, 0, PORT, 1, gpa, 0x1000, false), MOCK_DONE);
    uint8_t all[0x1000];
    memset(all, 0xe9, sizeof(all));
    ck_assert_mem_eq(mock_guest_ram(f.guest, gpa, sizeof(all)), all, sizeof(all));
}
END_TEST

START_TEST(leave_and_successor)
{
    fixture_run(&f, "--on-exit", "leave", "--device", DEBUGCON, NULL);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    fixture_terminate(&f);
    ck_assert_uint_eq(servers(), 1);
    ck_assert(record_exists(0));
    struct mock_access in = {.space = MOCK_PIO, .read = true, .size = 1, .addr = PORT};
    struct fixture_vcpu *waiting = fixture_access(&f, 0, &in);
    fixture_run(&f, "--device", DEBUGCON, NULL);
    uint64_t value = 0;
    ck_assert_int_eq(fixture_join(waiting, &value), MOCK_DONE);
    ck_assert_uint_eq(value, 0xff); /* answered when the dead server was removed */
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    ck_assert_uint_eq(servers(), 1);
}
END_TEST

START_TEST(killed_and_successor)
{
    static const struct mock_range range = {.type = XEN_DMOP_IO_RANGE_PORT, .start = 0x500, .end = 0x500};
    struct mock_leftover foreign = {.enabled = true, .ranges = &range, .nr_ranges = 1};
    ck_assert_int_eq(mock_leave_server(f.guest, &foreign, NULL), 0); /* somebody else's: id 0 */
    fixture_run(&f, "--device", DEBUGCON, NULL);
    ck_assert_uint_eq(servers(), 3);
    fixture_kill(&f);
    ck_assert_uint_eq(servers(), 3);
    ck_assert(record_exists(1));
    struct mock_access in = {.space = MOCK_PIO, .read = true, .size = 1, .addr = PORT};
    struct fixture_vcpu *waiting = fixture_access(&f, 1, &in);
    fixture_run(&f, "--device", DEBUGCON, NULL);
    fixture_expect_log(f.daemon, "removed ioreq server 1");
    fixture_expect_log(f.daemon, "ioreq server 0 is not ours");
    ck_assert_int_eq(fixture_join(waiting, NULL), MOCK_DONE);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    ck_assert_uint_eq(servers(), 3);
    fixture_terminate(&f);
    ck_assert_uint_eq(servers(), 1); /* untouched to the end */
}
END_TEST

/* Two ioreqds on one guest: neither takes the other's server for a dead one's. */
START_TEST(living_owner_is_left_alone)
{
    fixture_run(&f, "--device", DEBUGCON, NULL);
    struct mock_daemon *first = f.daemon;
    fixture_run(&f, "--device", "debugcon,base=0x500", NULL);
    fixture_expect_log(f.daemon, "ioreq server 0 is another ioreqd's, which lives");
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, 0x500), 0xe9);
    ck_assert_uint_eq(servers(), 3);
    fixture_terminate(&f);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    ck_assert_uint_eq(servers(), 1);
    ck_assert(record_exists(0) && !record_exists(1));
    f.daemon = first;
}
END_TEST

/* Its owner has not enabled the server yet: no event channel is bound that could say that it lives; its record does. */
START_TEST(young_owner_is_left_alone)
{
    struct mock_leftover young = {.enabled = false};
    char path[200];
    ck_assert_int_eq(mock_leave_server(f.guest, &young, NULL), 0);
    ck_assert_int_eq(mkdir(f.records, 0700), 0);
    snprintf(path, sizeof(path), "%s/%s.0", f.records, f.domid);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_gt(dprintf(fd, "domid=%s\nserver=0\nvp_eport=0\nuuid=\n", f.domid), 0);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    fixture_run(&f, "--device", DEBUGCON, NULL);
    ck_assert_uint_eq(servers(), 3);
    fixture_terminate(&f);
    close(fd); /* it died */
    fixture_run(&f, "--device", DEBUGCON, NULL);
    fixture_expect_log(f.daemon, "removed ioreq server 0");
    ck_assert_uint_eq(servers(), 1);
}
END_TEST

static void expect_gone(void)
{
    struct mock_domain_info info;
    for (unsigned i = 0; i < 400; i++) {
        ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
        if (!info.exists) {
            return;
        }
        usleep(20000);
    }
    ck_abort_msg("the domain stays a zombie: %llu foreign, %llu resource pages\n%s",
                 (unsigned long long)info.foreign_pages, (unsigned long long)info.resource_pages,
                 mock_daemon_log(f.daemon));
}

START_TEST(domain_death)
{
    fixture_run(&f, "--exit-when-gone", "--device", DEBUGCON, NULL);
    ck_assert_int_eq(vcpu_rep_ins(f.guest, 0, PORT, 1, mock_ram_base(f.guest) + 0x3000, 64, false), MOCK_DONE);
    ck_assert_int_eq(mock_domain_kill(f.guest), 0);
    expect_gone();
    ck_assert_int_eq(fixture_status(f.daemon), 0);
    ck_assert(!record_exists(0));
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
}
END_TEST

START_TEST(no_such_domain)
{
    snprintf(f.domid, sizeof(f.domid), "31999");
    struct mock_daemon *daemon = fixture_spawn(&f, "--device", DEBUGCON, NULL);
    ck_assert_int_ne(fixture_status(daemon), 0);
    fixture_expect_log(daemon, "no such domain");
    fixture_expect_log(daemon, "--wait");
    mock_daemon_free(daemon);
}
END_TEST

START_TEST(waits_for_its_domain)
{
    snprintf(f.domid, sizeof(f.domid), "77");
    f.daemon = fixture_spawn(&f, "--wait", "--device", DEBUGCON, NULL);
    ck_assert_int_eq(mock_daemon_wait_log(f.daemon, ": running", 700), -ETIMEDOUT);
    struct mock_domain_spec spec = {.profile = MOCK_HVM, .ram_bytes = 1 << 20, .nr_vcpus = 1, .domid = 77};
    struct mock_guest *late = mock_domain_create(f.mock, &spec);
    ck_assert_ptr_nonnull(late);
    ck_assert_int_eq(mock_daemon_wait_log(f.daemon, ": running", FIXTURE_TIMEOUT_MS), 0);
    ck_assert_uint_eq(vcpu_inb(late, 0, PORT), 0xe9);
    mock_guest_free(late);
}
END_TEST

START_TEST(vcpus_come_later)
{
    mock_guest_free(f.guest);
    struct mock_domain_spec spec = {.profile = MOCK_HVM, .ram_bytes = 1 << 20, .nr_vcpus = 4, .online_vcpus = 1};
    f.guest = mock_domain_create(f.mock, &spec);
    ck_assert_ptr_nonnull(f.guest);
    snprintf(f.domid, sizeof(f.domid), "%u", mock_domid(f.guest));
    fixture_run(&f, "--device", DEBUGCON, NULL);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, PORT), 0xe9);
    for (unsigned vcpu = 1; vcpu < 4; vcpu++) {
        ck_assert_int_eq(mock_vcpu_add(f.guest), 0);
        ck_assert_uint_eq(vcpu_inb(f.guest, vcpu, PORT), 0xe9);
    }
}
END_TEST

START_TEST(all_128_vcpus)
{
    mock_guest_free(f.guest);
    f.guest = mock_domain_new(f.mock, MOCK_HVM, 1 << 20, 128);
    snprintf(f.domid, sizeof(f.domid), "%u", mock_domid(f.guest));
    fixture_run(&f, "--device", DEBUGCON, NULL);
    for (unsigned vcpu = 0; vcpu < 128; vcpu++) {
        ck_assert_uint_eq(vcpu_inb(f.guest, vcpu, PORT), 0xe9);
    }
}
END_TEST

/* Every device, on a guest whose type nobody knows: no call that would panic Xen, and a remedy where one is refused. */
START_TEST(unknown_type)
{
    mock_guest_free(f.guest);
    struct mock_domain_spec spec = {.profile = MOCK_PVH, .ram_bytes = 1 << 20, .nr_vcpus = 1, .type_unknown = true};
    f.guest = mock_domain_create(f.mock, &spec);
    snprintf(f.domid, sizeof(f.domid), "%u", mock_domid(f.guest));
    f.type = NULL;
    struct mock_daemon *daemon = fixture_spawn(&f, "--device", "uart16550", NULL);
    ck_assert_int_ne(fixture_status(daemon), 0);
    fixture_expect_log(daemon, "--type hvm");
    fixture_expect_log(daemon, "irq=none");
    mock_daemon_free(daemon);
    ck_assert_uint_eq(servers(), 0); /* before the guest was touched */
    char disk[256];
    snprintf(disk, sizeof(disk), "virtio-blk,path=%s", fixture_image(&f, "disk.img", 1 << 20));
    fixture_run(&f, "--device", "uart16550,irq=none", "--device", DEBUGCON, "--device", "pci-host",
                "--device", "virtio-rng", "--device", "virtio-console", "--device", disk, NULL);
    for (unsigned slot = 0; slot < 32; slot++) {
        for (unsigned reg = 0; reg < 256; reg += 4) {
            uint32_t value = vcpu_pci_read(f.guest, 0, (uint16_t)(slot << 3), reg, 4);
            vcpu_pci_write(f.guest, 0, (uint16_t)(slot << 3), reg, 4, ~value);
            vcpu_pci_write(f.guest, 0, (uint16_t)(slot << 3), reg, 4, value);
        }
    }
    for (unsigned port = 0x3f8; port < 0x400; port++) {
        vcpu_outb(f.guest, 0, (uint16_t)port, 0xff);
        vcpu_inb(f.guest, 0, (uint16_t)port);
    }
    ck_assert_uint_eq(mock_panics(f.mock), 0);
}
END_TEST

START_TEST(bad_specs)
{
    static const char *const cases[][2] = {
        {"nonsense", "nonsense"},
        {"debugcon,base=0x10000", "0x10000"},
        {"debugcon,colour=red", "colour"},
        {"debugcon,addr=99", "SLOT"},
        {"virtio-blk", "path"},
        {"virtio-blk,path=/nonexistent/x.img", "/nonexistent/x.img"},
        {"virtio-blk,path=/etc/passwd,cache=sometimes", "writeback"},
        {"virtio-blk,path=/etc/passwd,bus=usb", "usb"},
        {"uart16550,irq=99", "irq=99"},
        {"virtio-rng,addr=2.9", "function"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mock_daemon *daemon = fixture_spawn(&f, "--device", cases[i][0], NULL);
        int status = fixture_status(daemon);
        ck_assert_msg(status > 0, "%s: exit status %d\n%s", cases[i][0], status, mock_daemon_log(daemon));
        fixture_expect_log(daemon, cases[i][1]);
        mock_daemon_free(daemon);
        ck_assert_uint_eq(servers(), 0);
        ck_assert_uint_eq(mock_call_count(f.mock, MOCK_CALL_CREATE_SERVER), 0);
    }
}
END_TEST

/*
 * The Nth call of each kind that attaching makes fails: a clear end or a guest that is served, never a crash
 * or a leak.
 */
START_TEST(every_call_fails_once)
{
    static const enum mock_call kinds[] = {MOCK_CALL_NR_VCPUS, MOCK_CALL_CREATE_SERVER,
                                           MOCK_CALL_RESOURCE_MAP, MOCK_CALL_MAP_RANGE, MOCK_CALL_SET_STATE,
                                           MOCK_CALL_BIND, MOCK_CALL_GET_INFO};
    for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        for (unsigned nth = 1;; nth++) {
            ck_assert_uint_lt(nth, 64);
            mock_fail(f.mock, kinds[k], nth, 1, EIO);
            struct mock_daemon *daemon =
                fixture_spawn(&f, "--device", DEBUGCON, "--device", "uart16550", "--device", "pci-host", NULL);
            bool served = mock_daemon_wait_log(daemon, ": running", FIXTURE_TIMEOUT_MS) == 0;
            bool fired = mock_fail_fired(f.mock, kinds[k]);
            mock_fail(f.mock, kinds[k], 0, 0, 0);
            if (served) {
                uint8_t value = vcpu_inb(f.guest, 0, PORT);
                ck_assert_msg(value == 0xe9, "kind %u, call %u: read 0x%x\n%s", k, nth, value, mock_daemon_log(daemon));
                mock_daemon_signal(daemon, SIGTERM);
            }
            int status = fixture_status(daemon);
            ck_assert_msg(served ? status == 0 : status > 0, "kind %u, call %u: status %d\n%s", k, nth, status,
                          mock_daemon_log(daemon));
            mock_daemon_free(daemon);
            fixture_expect_clean(&f);
            if (!fired) {
                break;
            }
        }
    }
}
END_TEST

START_TEST(arm_guest)
{
    fixture_run(&f, "--device", "uart16550,space=mmio,base=0x2000000,irq=34", NULL);
    ck_assert_uint_eq(vcpu_mmio_read(f.guest, 0, 0x2000005, 1), 0x60);
    ck_assert_int_eq(mock_last_status(f.guest, 0), MOCK_DONE);
    vcpu_mmio_write(f.guest, 0, 0x2000004, 1, 0x08); /* OUT2 */
    vcpu_mmio_write(f.guest, 0, 0x2000001, 1, 0x02); /* THRE interrupt */
    ck_assert_int_eq(mock_spi_take(f.guest, 34, FIXTURE_TIMEOUT_MS), 0);
    fixture_terminate(&f); /* on-exit=leave by default: an unclaimed access would kill the guest */
    ck_assert_uint_eq(servers(), 1);
    fixture_run(&f, "--on-exit", "destroy", "--device", "uart16550,space=mmio,base=0x2000000,irq=34", NULL);
    fixture_terminate(&f);
    ck_assert_uint_eq(servers(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("life");
    TCase *hvm = tcase_create("hvm");
    tcase_add_checked_fixture(hvm, start_hvm, stop);
    tcase_set_timeout(hvm, 120);
    tcase_add_test(hvm, serves);
    tcase_add_test(hvm, an_access_over_the_edge);
    tcase_add_test(hvm, malformed_requests_end);
    tcase_add_test(hvm, rep_reads_into_holes);
    tcase_add_test(hvm, long_rep_is_shared_out);
    tcase_add_test(hvm, leave_and_successor);
    tcase_add_test(hvm, killed_and_successor);
    tcase_add_test(hvm, living_owner_is_left_alone);
    tcase_add_test(hvm, young_owner_is_left_alone);
    tcase_add_test(hvm, domain_death);
    tcase_add_test(hvm, no_such_domain);
    tcase_add_test(hvm, waits_for_its_domain);
    tcase_add_test(hvm, vcpus_come_later);
    tcase_add_test(hvm, all_128_vcpus);
    tcase_add_test(hvm, unknown_type);
    tcase_add_test(hvm, bad_specs);
    tcase_add_test(hvm, every_call_fails_once);
    suite_add_tcase(suite, hvm);
    TCase *arm = tcase_create("arm");
    tcase_add_checked_fixture(arm, start_arm, stop);
    tcase_set_timeout(arm, 120);
    tcase_add_test(arm, arm_guest);
    suite_add_tcase(suite, arm);
    return fixture_main(suite);
}
