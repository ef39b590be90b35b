/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The core as a library, in this process: two daemons at once, devices taken off a running guest under I/O, and every
 * device's state saved, reset and loaded while its guest goes on.
 */
#include <check.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/inside.h"
#include "core/state.h"
#include "fixture.h"
#include "host.h"
#include "nic_rig.h"
#include "virtio_blk_driver.h"

static struct fixture f;

static void job_detach(struct host *host, void *argument)
{
    struct iod_error error;
    ck_assert_msg(daemon_remove_device(host->daemon, f.domid, argument, REMOVAL_FORCE, host_posted, host, &error) == 0,
                  "%s", error.text);
}

/* ---- tests ---- */

static void start_hvm(void)
{
    fixture_start(&f, MOCK_HVM, 2);
    mock_adopt_env(f.mock);
}

static void start_arm(void)
{
    fixture_start(&f, MOCK_ARM64, 2);
    mock_adopt_env(f.mock);
}

static void stop(void)
{
    fixture_expect_clean(&f);
    fixture_stop(&f);
}

START_TEST(two_daemons)
{
    static struct host one, two;
    struct mock_guest *other = mock_domain_new(f.mock, MOCK_HVM, 1 << 20, 1);
    host_start(&one);
    host_start(&two);
    host_add(&one, f.guest, (const char *const[]){"debugcon", NULL});
    host_add(&two, other, (const char *const[]){"debugcon,base=0x500", NULL});
    for (unsigned i = 0; i < 100; i++) {
        ck_assert_uint_eq(vcpu_inb(f.guest, i % 2, 0x402), 0xe9);
        ck_assert_uint_eq(vcpu_inb(other, 0, 0x500), 0xe9);
    }
    host_stop(&one);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, 0x402), 0xff);
    ck_assert_uint_eq(vcpu_inb(other, 0, 0x500), 0xe9);
    host_stop(&two);
    mock_guest_free(other);
}
END_TEST

#define DEFER_BASE 0xfe000000u

START_TEST(detach_under_a_deferred_access)
{
    static struct host host;
    bool arm = mock_guest_profile(f.guest) == MOCK_ARM64;
    uint64_t base = arm ? 0x2000000 : DEFER_BASE;
    char device[80];
    snprintf(device, sizeof(device), "test-defer,id=slow,delay=0,base=0x%llx", (unsigned long long)base);
    host_start(&host);
    host_add(&host, f.guest, (const char *const[]){device, NULL});
    uint64_t target = mock_ram_base(f.guest) + 0x10000;
    vcpu_mmio_write(f.guest, 0, base + 0x08, 4, (uint32_t)target);
    vcpu_mmio_write(f.guest, 0, base + 0x0c, 4, target >> 32);
    vcpu_mmio_write(f.guest, 0, base + 0x10, 4, 1); /* an I/O that ends only when it is cancelled */
    struct mock_access in = {.space = MOCK_MMIO, .read = true, .size = 4, .addr = base};
    struct fixture_vcpu *held = fixture_access(&f, 1, &in);
    host_do(&host, job_detach, (void *)(uintptr_t)"slow");
    ck_assert_int_eq(fixture_join(held, NULL), MOCK_DONE);
    ck_assert_uint_eq(*(uint8_t *)mock_guest_ram(f.guest, target, 1), 0);
    /* It reads 0 and swallows writes: on Arm nobody's memory would kill the guest, on x86 hang its driver. */
    uint64_t value = vcpu_mmio_read(f.guest, 0, base + 4, 4);
    ck_assert_int_eq(mock_last_status(f.guest, 0), MOCK_DONE);
    ck_assert_uint_eq(value, 0);
    vcpu_mmio_write(f.guest, 0, base + 4, 4, 1);
    ck_assert_int_eq(mock_last_status(f.guest, 0), MOCK_DONE);
    host_stop(&host);
}
END_TEST

START_TEST(detach_a_disk_under_io)
{
    static struct host host;
    struct virtio_driver driver;
    struct virtio_blk blk;
    char device[300];
    snprintf(device, sizeof(device), "virtio-blk,id=disk,addr=6,path=%s,block.filter=delay,block.filter.delay=600",
             fixture_image(&f, "disk.img", 1 << 20));
    host_start(&host);
    host_add(&host, f.guest, (const char *const[]){"pci-host", device, NULL});
    ck_assert_int_eq(virtio_pci_open(&driver, f.guest, 0, 6 << 3, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_MSIX, 0xe0000000,
                                     virtio_arena_make(f.guest, 0x100000, 0x800000)), 0);
    ck_assert_int_eq(virtio_blk_start(&blk, &driver, VIRTIO_BLK_ALL, 1, 0), 0);
    void *memory;
    uint64_t gpa = virtio_arena_take(&driver.arena, 65536, 4096, &memory);
    struct virtio_blk_request *request = virtio_blk_begin(&blk, VIRTIO_BLK_T_IN, 0);
    struct virtio_buffer data = {.gpa = gpa, .length = 65536, .write = true};
    ck_assert_int_ge(virtio_blk_put(&blk, 0, request, &data, 1, false), 0);
    virtio_queue_kick(driver.queues[0]);
    host_do(&host, job_detach, (void *)(uintptr_t)"disk");
    static uint8_t before[0x800000];
    memcpy(before, mock_guest_ram(f.guest, 0x100000, sizeof(before)), sizeof(before));
    ck_assert_uint_eq(vcpu_pci_read(f.guest, 0, 6 << 3, 0, 4), 0xffffffff);
    ck_assert_uint_eq(vcpu_mmio_read(f.guest, 0, driver.pci.common, 4), 0); /* its status too: it is in reset */
    usleep(900000);
    ck_assert_int_eq(memcmp(before, mock_guest_ram(f.guest, 0x100000, sizeof(before)), sizeof(before)), 0);
    ck_assert_uint_ne(vcpu_pci_read(f.guest, 0, 0, 0, 4), 0xffffffff); /* the host bridge goes on */
    virtio_blk_finish(&blk);
    virtio_close(&driver);
    host_stop(&host);
}
END_TEST

/* ---- saved state ---- */

struct saved {
    struct iod_device *device;
    struct device_stop stop;
    struct host *host;
};

static void stopped_save_and_load(void *self)
{
    struct saved *saved = self;
    struct iod_writer writer, again;
    struct iod_reader reader;
    struct iod_error error;
    writer_init(&writer);
    ck_assert_int_eq(device_save(saved->device, &writer), 0);
    device_reset(saved->device, true);
    ck_assert_int_eq(reader_init(&reader, writer.bytes, writer.length, &error), 0);
    ck_assert_msg(device_load(saved->device, &reader, &error) == 0, "%s", error.text);
    writer_init(&again);
    ck_assert_int_eq(device_save(saved->device, &again), 0);
    ck_assert_uint_eq(writer.length, again.length);
    ck_assert_int_eq(memcmp(writer.bytes, again.bytes, writer.length), 0);
    writer_finish(&writer);
    writer_finish(&again);
    device_resume(saved->device);
    sem_post(&saved->host->done);
}

static void job_save(struct host *host, void *argument)
{
    struct saved *saved = argument;
    device_stop(saved->device, &saved->stop, IOD_FINISH, stopped_save_and_load, saved);
}

static void save_and_load_all(struct host *host)
{
    struct guest *guest = list_first(&host->daemon->guests, struct guest, link);
    for (struct list *l = guest->devices.next; l != &guest->devices; l = l->next) {
        struct saved saved = {.device = list_entry(l, struct iod_device, link), .host = host};
        host_do(host, job_save, &saved);
    }
}

START_TEST(state_survives)
{
    static struct host host;
    struct virtio_driver driver;
    struct virtio_blk blk;
    uint8_t bytes[4096];
    char device[300];
    snprintf(device, sizeof(device), "virtio-blk,addr=6,path=%s", fixture_image(&f, "disk.img", 1 << 20));
    host_start(&host);
    host_add(&host, f.guest, (const char *const[]){"pci-host", device, "uart16550", "debugcon", "virtio-rng",
                                                   "virtio-console", NULL});
    vcpu_outb(f.guest, 0, 0x3ff, 0x5c); /* SCR */
    vcpu_outb(f.guest, 0, 0x3fb, 0x9b); /* LCR, with DLAB */
    vcpu_outb(f.guest, 0, 0x3f8, 0x17); /* DLL */
    vcpu_outl(f.guest, 0, 0xcf8, 0x80003014);
    ck_assert_int_eq(virtio_pci_open(&driver, f.guest, 0, 6 << 3, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_MSIX, 0xe0000000,
                                     virtio_arena_make(f.guest, 0x100000, 0x800000)), 0);
    ck_assert_int_eq(virtio_blk_start(&blk, &driver, VIRTIO_BLK_ALL, 1, 0), 0);
    for (unsigned round = 0; round < 3; round++) {
        ck_assert_int_eq(virtio_blk_read(&blk, 16, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
        memset(bytes, (int)round, sizeof(bytes));
        ck_assert_int_eq(virtio_blk_write(&blk, 32, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
        save_and_load_all(&host);
        ck_assert_uint_eq(vcpu_inb(f.guest, 0, 0x3ff), 0x5c);
        ck_assert_uint_eq(vcpu_inb(f.guest, 0, 0x3fb), 0x9b);
        ck_assert_uint_eq(vcpu_inb(f.guest, 0, 0x3f8), 0x17);
        ck_assert_uint_eq(virtio_status(&driver) & 0x0f, 0x0f);
        memset(bytes, 0xee, sizeof(bytes));
        ck_assert_int_eq(virtio_blk_read(&blk, 32, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
        ck_assert_uint_eq(bytes[100], round);
    }
    virtio_blk_finish(&blk);
    virtio_close(&driver);
    host_stop(&host);
}
END_TEST

/* A card under traffic is saved, reset and loaded: what the guest asked for stays, no frame is lost. */
START_TEST(network_card_survives)
{
    static struct host host;
    static struct nic_rig rig = {.place = NIC_PCI_HVM};
    static const uint8_t other[6] = {0x02, 9, 9, 9, 9, 9};
    struct virtio_net_hdr_v1 header;
    uint8_t frame[1000], got[2000], off = 0;
    uint16_t vlan = 5;
    const char *missing = nic_enter_namespace();
    if (missing) {
        fprintf(stderr, "SKIPPED, NO NETWORK CARD WAS SAVED AND LOADED: %s\n", missing);
        return;
    }
    rig.f.guest = f.guest;
    host_start(&host);
    host_add(&host, f.guest, (const char *const[]){
        "virtio-net,addr=5,mac=02:00:00:00:00:01,pairs=2,ifname=" NIC_TAP, NULL});
    nic_attach(&rig);
    ck_assert_int_eq(virtio_net_start(&rig.net, &rig.driver, VIRTIO_NET_ALL, 2, 0), 0);
    ck_assert_int_eq(virtio_net_fill(&rig.net, 0, 20, 1526), 0);
    ck_assert_int_eq(virtio_net_set_pairs(&rig.net, 2), VIRTIO_NET_OK);
    ck_assert_int_eq(virtio_net_set_pairs(&rig.net, 1), VIRTIO_NET_OK);
    ck_assert_int_eq(virtio_net_command(&rig.net, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
                     VIRTIO_NET_OK);
    ck_assert_int_eq(virtio_net_command(&rig.net, VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, &vlan, 2),
                     VIRTIO_NET_OK);
    for (unsigned round = 0; round < 3; round++) {
        nic_expect_works(&rig);
        for (unsigned i = 0; i < 40; i++) { /* more than there are buffers: the others wait while it is saved */
            nic_frame(frame, sizeof(frame), i % 2 ? other : nic_mac, i); /* and half are not for this guest */
            ck_assert_int_eq(nic_host_send(&rig, NULL, frame, sizeof(frame)), 0);
        }
        save_and_load_all(&host);
        virtio_net_read_config(&rig.net);
        ck_assert_uint_eq(rig.net.config.status, VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
        ck_assert_int_eq(virtio_net_command(&rig.net, VIRTIO_NET_CTRL_ANNOUNCE, 0, NULL, 0), VIRTIO_NET_OK);
        for (unsigned i = 0; i < 40; i += 2) {
            ck_assert_int_eq(virtio_net_receive(&rig.net, 0, &header, got, sizeof(got), VIRTIO_TIMEOUT_MS),
                             sizeof(frame));
            nic_expect_frame(got, sizeof(frame), sizeof(frame), i);
        }
    }
    virtio_net_finish(&rig.net);
    virtio_close(&rig.driver);
    close(rig.host);
    host_stop(&host);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("embed");
    TCase *hvm = tcase_create("hvm");
    tcase_add_checked_fixture(hvm, start_hvm, stop);
    tcase_set_timeout(hvm, 120);
    tcase_add_test(hvm, two_daemons);
    tcase_add_test(hvm, detach_under_a_deferred_access);
    tcase_add_test(hvm, detach_a_disk_under_io);
    tcase_add_test(hvm, state_survives);
    tcase_add_test(hvm, network_card_survives);
    suite_add_tcase(suite, hvm);
    TCase *arm = tcase_create("arm");
    tcase_add_checked_fixture(arm, start_arm, stop);
    tcase_set_timeout(arm, 120);
    tcase_add_test(arm, detach_under_a_deferred_access);
    suite_add_tcase(suite, arm);
    return fixture_main(suite);
}
