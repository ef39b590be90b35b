/* SPDX-License-Identifier: BSD-2-Clause */
/* Guests by xenstore: libxl's nodes and our own tree, over the real xenstored; we are the toolstack. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "xenstore_rig.h"

static struct xenstore_rig rig;

static void start_x86(void)
{
    rig_start(&rig, false);
    rig_daemon(&rig, NULL);
}

static void start_arm(void)
{
    rig_start(&rig, true);
    rig_daemon(&rig, NULL);
}

static void stop(void)
{
    rig_stop(&rig);
}

static void error_of(char *path, size_t size, const char *kind, unsigned domid, unsigned devid)
{
    snprintf(path, size, "error/backend/%s/%u/%u/error", kind, domid, devid);
}

/* ---- libxl ---- */

/* `xl create`, I/O, `xl destroy`: no wait of libxl's gets long. */
static void create_use_destroy(enum mock_profile profile, const char *name)
{
    struct mock_guest *guest = rig_domain(&rig, profile, name);
    unsigned domid = mock_domid(guest);
    struct rig_driver driver;

    rig_disk(&rig, domid, &(struct rig_disk){0});
    rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), "2", SOON_MS);
    if (profile == MOCK_PVH) { /* nobody else gives it a PCI bus */
        ck_assert_uint_eq(vcpu_pci_read(guest, 0, 0, 0, 4), 0x12378086);
    }
    rig_drive(&rig, &driver, guest, 0, 0);
    rig_expect_still(&rig, rig_state(domid, "virtio_disk", XVDE), "2", 100);
    rig_undrive(&driver);
    rig_remove(&rig, domid, "virtio_disk", XVDE);
    rig_expect_free(rig.image);
    rig_destroy_domain(&rig, guest);
    rig_expect_log(&rig, ": gone");
}

START_TEST(a_disk_of_a_pvh_guest)
{
    create_use_destroy(MOCK_PVH, "web");
}
END_TEST

/* The domid is another one each time; the image is free for the next one in time. */
START_TEST(the_disk_follows_across_reboots)
{
    for (unsigned boot = 0; boot < 5; boot++) {
        create_use_destroy(boot % 2 ? MOCK_HVM : MOCK_PVH, "web");
    }
}
END_TEST

START_TEST(two_disks_on_arm)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_ARM64, "one");
    unsigned domid = mock_domid(guest);
    struct rig_driver driver;
    char other[160];

    rig_image(&rig, "other.img", other, sizeof(other));
    rig_disk(&rig, domid, &(struct rig_disk){.devid = 51712, .dev = "xvda", .base = "33554432", .irq = "33"});
    rig_disk(
        &rig, domid,
        &(struct rig_disk){
            .devid = 51728, .dev = "xvdb", .params = other, .base = "33554944", .irq = "34", .mode = "r"});
    rig_expect(&rig, rig_state(domid, "virtio_disk", 51712), "2", SOON_MS);
    rig_expect(&rig, rig_state(domid, "virtio_disk", 51728), "2", SOON_MS);
    rig_drive(&rig, &driver, guest, 0x2000000, 33);
    rig_undrive(&driver);
    rig_drive(&rig, &driver, guest, 0x2000200, 34);
    ck_assert(driver.driver.features & VIRTIO_FEATURE(VIRTIO_BLK_F_RO));
    rig_undrive(&driver);
    rig_close(&rig, domid, "virtio_disk", 51712);
    rig_close(&rig, domid, "virtio_disk", 51728);
    rig_expect(&rig, rig_state(domid, "virtio_disk", 51712), "6", SOON_MS);
    rig_expect(&rig, rig_state(domid, "virtio_disk", 51728), "6", SOON_MS);
    rig_destroy_domain(&rig, guest);
    rig_expect_log(&rig, ": gone");
}
END_TEST

/* virtio=["type=virtio,device4,..."] as 4.18 writes it: base in hexadecimal. Nobody waits for its state. */
START_TEST(a_virtio_device_on_arm)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_ARM64, "one");
    unsigned domid = mock_domid(guest);
    char error[96];

    rig_virtio(&rig, domid, 0, "virtio,device4", "0x2000000", "33");
    rig_virtio(&rig, domid, 1, "virtio,device22", "0x2000200", "34");
    rig_expect(&rig, rig_state(domid, "virtio", 0), "2", SOON_MS);
    ck_assert_uint_eq(vcpu_mmio_read(guest, 0, 0x2000000, 4), 0x74726976);
    ck_assert_uint_eq(vcpu_mmio_read(guest, 0, 0x2000008, 4), 4);
    rig_expect(&rig, rig_state(domid, "virtio", 1), NULL, SOON_MS);
    error_of(error, sizeof(error), "virtio", domid, 1);
    rig_expect_part(&rig, error, "no virtio device 34", SOON_MS);
    rig_remove(&rig, domid, "virtio", 0);
    rig_destroy_domain(&rig, guest);
}
END_TEST

static void expect_refusal(unsigned domid, unsigned devid, const char *why)
{
    char error[96];

    rig_expect(&rig, rig_state(domid, "virtio_disk", devid), NULL, SOON_MS);
    error_of(error, sizeof(error), "virtio_disk", domid, devid);
    rig_expect_part(&rig, error, why, 0); /* it came with the other one */
    rig_expect_log(&rig, why);
}

/* libxl then destroys the domain: 5 wants its 6 all the same. */
static void expect_refused_disk(enum mock_profile profile, const struct rig_disk *disk, const char *why)
{
    struct mock_guest *guest = rig_domain(&rig, profile, "web");
    unsigned domid = mock_domid(guest), devid = disk->devid ? disk->devid : XVDE;

    rig_disk(&rig, domid, disk);
    expect_refusal(domid, devid, why);
    rig_remove(&rig, domid, "virtio_disk", devid);
    rig_destroy_domain(&rig, guest);
}

START_TEST(what_can_not_be_served_is_refused_at_once)
{
    expect_refused_disk(MOCK_HVM, &(struct rig_disk){.devid = 51712, .dev = "xvda"},
                        "use vdev=xvde or later");
    expect_refused_disk(MOCK_HVM, &(struct rig_disk){.devid = 2048, .dev = "sda"}, "SCSI");
    expect_refused_disk(MOCK_PVH, &(struct rig_disk){.params = "/nonexistent/disk.img"}, "No such file");
    expect_refused_disk(MOCK_PVH, &(struct rig_disk){.grant_usage = "1"}, "does not map grants");
    expect_refused_disk(MOCK_PVH, &(struct rig_disk){.mode = "x"}, "expected w or r");
    expect_refused_disk(MOCK_PVH, &(struct rig_disk){.base = "0x2000000", .irq = "0"}, "expected both");
}
END_TEST

/* What QEMU has is known only with the domain's type, which comes with its introduction. */
START_TEST(nodes_before_the_introduction)
{
    struct mock_domain_spec spec = {.profile = MOCK_HVM, .ram_bytes = 16u << 20, .nr_vcpus = 1, .name = "web"};
    struct mock_guest *guest = mock_domain_create(rig.f.mock, &spec);
    unsigned domid = mock_domid(guest);
    char path[64];

    ck_assert_int_eq(mock_xenstore_nodes(guest, true), 0);
    rig_disk(&rig, domid, &(struct rig_disk){.devid = 51712, .dev = "xvda"});
    snprintf(path, sizeof(path), "ioreqd/%u/rng", domid);
    rig_write(&rig, path, "virtio-rng");
    rig_expect_still(&rig, rig_state(domid, "virtio_disk", 51712), "1", 3500); /* others may be served by now */
    ck_assert_int_eq(mock_xenstore_introduce(guest), 0);
    expect_refusal(domid, 51712, "use vdev=xvde or later");
    snprintf(path, sizeof(path), "ioreqd-status/%u/rng/state", domid);
    rig_expect(&rig, path, "running", SOON_MS);
    rig_remove(&rig, domid, "virtio_disk", 51712);
    rig_destroy_domain(&rig, guest);
}
END_TEST

START_TEST(without_a_description_there_is_nothing_on_arm)
{
    expect_refused_disk(MOCK_ARM64, &(struct rig_disk){0}, "no virtio-mmio description");
}
END_TEST

/* One disk of several is bad: the others of the guest, and other guests, do not notice. */
START_TEST(a_bad_disk_harms_no_other)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_PVH, "web");
    unsigned domid = mock_domid(guest);
    struct rig_driver driver;
    char error[96];

    rig_disk(&rig, domid,
             &(struct rig_disk){.devid = 51712, .dev = "xvda", .params = "/nonexistent/disk.img"});
    rig_disk(&rig, domid, &(struct rig_disk){.devid = 51728, .dev = "xvdb"});
    expect_refusal(domid, 51712, "No such file");
    rig_expect(&rig, rig_state(domid, "virtio_disk", 51728), "2", SOON_MS);
    rig_drive(&rig, &driver, guest, 0, 0);
    /* Another try, as a toolstack may make it. */
    char other[160], path[96];
    rig_image(&rig, "other.img", other, sizeof(other));
    snprintf(path, sizeof(path), "backend/virtio_disk/%u/51712/params", domid);
    rig_write(&rig, path, other);
    rig_write(&rig, rig_state(domid, "virtio_disk", 51712), "1");
    rig_expect(&rig, rig_state(domid, "virtio_disk", 51712), "2", SOON_MS);
    error_of(error, sizeof(error), "virtio_disk", domid, 51712);
    rig_expect(&rig, error, NULL, SOON_MS);
    rig_read(&driver);
    rig_undrive(&driver);
    rig_destroy_domain(&rig, guest);
}
END_TEST

/* The guest can't be attached at all: each of its disks says why; the next domain is another try. */
START_TEST(a_guest_that_can_not_be_served)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_PVH, "web");
    unsigned domid = mock_domid(guest);

    ck_assert_int_eq(mock_fail(rig.f.mock, MOCK_CALL_CREATE_SERVER, 1, 1, ENOSPC), 0);
    rig_disk(&rig, domid, &(struct rig_disk){0});
    rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), NULL, SOON_MS);
    char error[96];
    error_of(error, sizeof(error), "virtio_disk", domid, XVDE);
    rig_expect_part(&rig, error, "ioreq server", 0);
    rig_expect_log(&rig, ": failed");
    rig_remove(&rig, domid, "virtio_disk", XVDE);
    rig_destroy_domain(&rig, guest);
    create_use_destroy(MOCK_PVH, "web");
}
END_TEST

/* `xl destroy` of a guest with requests on their way: 6 comes when they ended, then the image is free. */
START_TEST(destroyed_in_mid_io)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_PVH, "web");
    unsigned domid = mock_domid(guest);
    struct rig_driver driver;

    rig_disk(&rig, domid, &(struct rig_disk){0});
    rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), "2", SOON_MS);
    rig_drive(&rig, &driver, guest, 0, 0);
    uint64_t memory = mock_ram_base(guest) + (1u << 20);
    for (unsigned i = 0; i < 32; i++) {
        struct virtio_blk_request *request = virtio_blk_begin(&driver.blk, VIRTIO_BLK_T_OUT, 1024 + i * 8);
        struct virtio_buffer buffer = {.gpa = memory + i * 4096, .length = 4096, .write = false};
        ck_assert_ptr_nonnull(request);
        ck_assert_int_eq(virtio_blk_put(&driver.blk, 0, request, &buffer, 1, false), 0);
    }
    virtio_queue_publish(driver.driver.queues[0]);
    virtio_queue_notify(driver.driver.queues[0]);
    rig_remove(&rig, domid, "virtio_disk", XVDE);
    rig_expect_free(rig.image);
    rig_undrive(&driver);
    rig_destroy_domain(&rig, guest);
    rig_expect_log(&rig, ": gone");
    create_use_destroy(MOCK_PVH, "web");
}
END_TEST

/* In a driver domain libxl waits until the backend has removed its directory, after the 6. */
START_TEST(a_driver_domain_cleans_up)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_PVH, "web");
    unsigned domid = mock_domid(guest);
    char path[64];

    rig_end_daemon(&rig);
    rig_write(&rig, "domid", "1");
    rig_daemon(&rig, NULL);
    rig_disk(&rig, domid, &(struct rig_disk){.grant_usage = "0"});
    rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), "2", SOON_MS);
    rig_close(&rig, domid, "virtio_disk", XVDE);
    rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), "6", SOON_MS);
    rig_expect_still(&rig, rig_state(domid, "virtio_disk", XVDE), "6", 300);
    snprintf(path, sizeof(path), "backend/virtio_disk/%u/%u", domid, XVDE);
    rig_expect(&rig, path, NULL, SOON_MS);
    rig_destroy_domain(&rig, guest);
}
END_TEST

/* A crash: the domain is gone before anything of its nodes changes, and before xenstored knows. */
START_TEST(removed_after_the_domain_died)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_PVH, "web");
    unsigned domid = mock_domid(guest);

    rig_disk(&rig, domid, &(struct rig_disk){0});
    rig_expect(&rig, rig_state(domid, "virtio_disk", XVDE), "2", SOON_MS);
    kill(mock_xenstore_pid(rig.f.mock), SIGSTOP);
    mock_domain_kill(guest);
    rig_expect_log(&rig, ": gone");
    usleep(300000); /* it is not taken on again */
    kill(mock_xenstore_pid(rig.f.mock), SIGCONT);
    rig_expect_still(&rig, rig_state(domid, "virtio_disk", XVDE), "2", 300);
    ck_assert_ptr_null(strstr(mock_daemon_log(rig.f.daemon), "no such domain"));
    mock_xenstore_release(guest);
    rig_remove(&rig, domid, "virtio_disk", XVDE);
    mock_xenstore_remove_nodes(guest);
    mock_guest_free(guest);
}
END_TEST

/* ---- our own tree ---- */

static char own[4][128]; /* paths, by number */

static const char *own_path(unsigned slot, unsigned domid, const char *root, const char *name)
{
    snprintf(own[slot], sizeof(own[slot]), "%s/%u%s%s", root, domid, name[0] ? "/" : "", name);
    return own[slot];
}

static void write_own(unsigned domid, const char *name, const char *options)
{
    char spec[256];

    snprintf(spec, sizeof(spec), "virtio-blk,path=%s%s", rig.image, options);
    rig_write(&rig, own_path(0, domid, "ioreqd", name), spec);
}

static void expect_status(unsigned domid, const char *name, const char *status)
{
    char path[40];

    snprintf(path, sizeof(path), "%s/state", name);
    rig_expect(&rig, own_path(1, domid, "ioreqd-status", path), status, SOON_MS);
}

static void expect_error(unsigned domid, const char *name, const char *part)
{
    char path[40];

    expect_status(domid, name, part ? "error" : "running");
    snprintf(path, sizeof(path), "%s/error", name);
    if (part) {
        rig_expect_part(&rig, own_path(2, domid, "ioreqd-status", path), part, SOON_MS);
    } else {
        rig_expect(&rig, own_path(2, domid, "ioreqd-status", path), NULL, SOON_MS);
    }
}

START_TEST(own_tree_before_the_domain)
{
    struct rig_driver driver;

    write_own(77, "0", "");
    expect_status(77, "0", "waiting");
    struct mock_domain_spec spec = {.profile = MOCK_PVH, .ram_bytes = 16u << 20, .nr_vcpus = 1, .domid = 77};
    struct mock_guest *guest = mock_domain_create(rig.f.mock, &spec);
    ck_assert_int_eq(mock_xenstore_create_domain(guest), 0);
    expect_status(77, "0", "running");
    rig_drive(&rig, &driver, guest, 0, 0);
    rig_undrive(&driver);
    rig_destroy_domain(&rig, guest);
    rig_expect_log(&rig, ": gone");
    rig_expect(&rig, "ioreqd/77", NULL, SOON_MS); /* domids come again */
    rig_expect(&rig, "ioreqd-status/77", NULL, SOON_MS);
}
END_TEST

/* No toolstack has introduced it: after a moment it is served all the same. */
START_TEST(own_tree_of_a_domain_that_is_not_introduced)
{
    struct mock_domain_spec spec = {.profile = MOCK_ARM64, .ram_bytes = 16u << 20, .nr_vcpus = 1, .domid = 3};
    struct mock_guest *guest = mock_domain_create(rig.f.mock, &spec);
    struct rig_driver driver;

    write_own(3, "disk", ",base=0x2000000,irq=33");
    rig_expect(&rig, "ioreqd-status/3/disk/state", "running", 8000);
    rig_drive(&rig, &driver, guest, 0x2000000, 33);
    rig_undrive(&driver);
    mock_domain_kill(guest);
    rig_expect(&rig, "ioreqd/3", NULL, 8000);
    mock_guest_free(guest);
}
END_TEST

START_TEST(own_tree_says_the_type)
{
    struct mock_domain_spec spec = {.profile = MOCK_PVH, .ram_bytes = 16u << 20, .nr_vcpus = 1, .domid = 3};
    struct mock_guest *guest = mock_domain_create(rig.f.mock, &spec);
    struct rig_driver driver;

    rig_write(&rig, "ioreqd/3/options", "type=pvh");
    write_own(3, "disk", "");
    rig_expect(&rig, "ioreqd-status/3/disk/state", "running", SOON_MS);
    rig_drive(&rig, &driver, guest, 0, 0);
    rig_undrive(&driver);
    rig_rm(&rig, "ioreqd/3");
    rig_expect_log(&rig, ": stopped");
    mock_domain_kill(guest);
    mock_guest_free(guest);
}
END_TEST

START_TEST(own_tree_hot_plug)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_PVH, "web");
    unsigned domid = mock_domid(guest);
    struct rig_driver driver;

    rig_write(&rig, own_path(0, domid, "ioreqd", "rng"), "virtio-rng");
    expect_status(domid, "rng", "running");
    for (unsigned i = 0; i < 3; i++) {
        write_own(domid, "disk", "");
        expect_status(domid, "disk", "running");
        rig_drive(&rig, &driver, guest, 0, 0);
        rig_undrive(&driver);
        rig_rm(&rig, own_path(0, domid, "ioreqd", "disk"));
        expect_status(domid, "disk", NULL);
        ck_assert_int_lt(virtio_pci_find(guest, 0, VIRTIO_ID_BLOCK_DEVICE, -1), 0);
        expect_status(domid, "rng", "running");
    }
    rig_destroy_domain(&rig, guest);
}
END_TEST

START_TEST(own_tree_errors)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_PVH, "web");
    unsigned domid = mock_domid(guest);
    char spec[256];

    rig_write(&rig, own_path(0, domid, "ioreqd", "0"), "virtio-blk,path=/nonexistent/x");
    expect_error(domid, "0", "No such file");
    rig_write(&rig, own_path(0, domid, "ioreqd", "0"), "nonsense,,");
    expect_error(domid, "0", "not an option");
    rig_write(&rig, own_path(0, domid, "ioreqd", "0"), "no-such-device");
    expect_error(domid, "0", "no-such-device");
    rig_write(&rig, own_path(0, domid, "ioreqd", "0"), "\x1b[2J");
    expect_error(domid, "0", "expected one line");
    write_own(domid, "0", "");
    expect_error(domid, "0", NULL);
    /* Written anew while it is served: an error, and no harm; then as it was. */
    snprintf(spec, sizeof(spec), "virtio-blk,path=%s,readonly=on", rig.image);
    rig_write(&rig, own_path(0, domid, "ioreqd", "0"), spec);
    expect_error(domid, "0", "remove the node first");
    write_own(domid, "0", "");
    expect_error(domid, "0", NULL);
    ck_assert_int_ge(virtio_pci_find(guest, 0, VIRTIO_ID_BLOCK_DEVICE, -1), 0);
    /* The image is in use. */
    write_own(domid, "1", "");
    expect_error(domid, "1", "in use");
    rig_destroy_domain(&rig, guest);
}
END_TEST

START_TEST(own_tree_options)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_PVH, "web");
    unsigned domid = mock_domid(guest);

    rig_write(&rig, own_path(0, domid, "ioreqd", "options"), "beside=on,colour=blue");
    write_own(domid, "0", "");
    expect_error(domid, "0", "colour=blue");
    rig_write(&rig, own_path(0, domid, "ioreqd", "options"), "pci-host=off");
    write_own(domid, "0", ",addr=5");
    expect_error(domid, "0", NULL);
    ck_assert_int_eq(virtio_pci_find(guest, 0, VIRTIO_ID_BLOCK_DEVICE, -1), 5 << 3);
    ck_assert_uint_eq(vcpu_pci_read(guest, 0, 0, 0, 4), 0xffffffff); /* no host bridge */
    rig_rm(&rig, own_path(0, domid, "ioreqd", "")); /* all of it: the guest is let go */
    rig_expect_log(&rig, ": stopped");
    struct mock_domain_info info;
    ck_assert_int_eq(mock_domain_info(guest, &info), 0);
    ck_assert_uint_eq(info.server_mask, 0);
    rig_destroy_domain(&rig, guest);
}
END_TEST

static unsigned count_bridges(struct mock_guest *guest)
{
    unsigned count = 0;

    for (unsigned device = 0; device < 32; device++) {
        uint32_t id = vcpu_pci_read(guest, 0, (uint16_t)(device << 3), 0, 4);
        uint32_t header = vcpu_pci_read(guest, 0, (uint16_t)(device << 3), 0x0e, 1);
        count += id != 0xffffffff && (header & 0x7f) == 1;
    }
    return count;
}

START_TEST(own_tree_slots)
{
    struct mock_guest *guest = rig_domain(&rig, MOCK_PVH, "web");
    unsigned domid = mock_domid(guest);

    rig_write(&rig, own_path(0, domid, "ioreqd", "options"), "slots=3");
    write_own(domid, "0", "");
    expect_status(domid, "0", "running");
    ck_assert_uint_eq(count_bridges(guest), 3);
    rig_destroy_domain(&rig, guest);
}
END_TEST

static Suite *suite(void)
{
    Suite *all = suite_create("xenstore guests");
    TCase *x86 = tcase_create("x86"), *arm = tcase_create("arm");

    tcase_set_timeout(x86, 90);
    tcase_add_checked_fixture(x86, start_x86, stop);
    tcase_add_test(x86, a_disk_of_a_pvh_guest);
    tcase_add_test(x86, the_disk_follows_across_reboots);
    tcase_add_test(x86, what_can_not_be_served_is_refused_at_once);
    tcase_add_test(x86, nodes_before_the_introduction);
    tcase_add_test(x86, a_bad_disk_harms_no_other);
    tcase_add_test(x86, a_guest_that_can_not_be_served);
    tcase_add_test(x86, destroyed_in_mid_io);
    tcase_add_test(x86, removed_after_the_domain_died);
    tcase_add_test(x86, a_driver_domain_cleans_up);
    tcase_add_test(x86, own_tree_before_the_domain);
    tcase_add_test(x86, own_tree_says_the_type);
    tcase_add_test(x86, own_tree_hot_plug);
    tcase_add_test(x86, own_tree_errors);
    tcase_add_test(x86, own_tree_options);
    tcase_add_test(x86, own_tree_slots);
    suite_add_tcase(all, x86);
    tcase_set_timeout(arm, 90);
    tcase_add_checked_fixture(arm, start_arm, stop);
    tcase_add_test(arm, two_disks_on_arm);
    tcase_add_test(arm, a_virtio_device_on_arm);
    tcase_add_test(arm, without_a_description_there_is_nothing_on_arm);
    tcase_add_test(arm, own_tree_of_a_domain_that_is_not_introduced);
    suite_add_tcase(all, arm);
    return all;
}

int main(void)
{
    return fixture_main(suite());
}
