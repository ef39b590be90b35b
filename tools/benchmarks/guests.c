/* SPDX-License-Identifier: BSD-2-Clause */
/* What many guests cost: one among a thousand that are idle, against it alone; memory for each. */
#include <stdio.h>

#include "bench.h"
#include "virtio_blk_driver.h"
#include "virtio_net_driver.h"

#define IDLE 1000u
#define DISK_SLOT 4u
#define NIC_SLOT 5u
#define WINDOW 0xe0000000u /* of BARs, 1 MiB a device */

struct specs {
    char image[200], disk[300], nic[100]; /* the image of all guests, in the work folder */
};

static void make_specs(struct bench *bench, struct specs *specs)
{
    snprintf(specs->image, sizeof(specs->image), "%s/disk.img", bench->work);
    FILE *file = fopen(specs->image, "we");
    if (!file || fseek(file, (16 << 20) - 1, SEEK_SET) || fputc(0, file) || fclose(file)) {
        bench_fail("can't make %s", specs->image);
    }
    snprintf(specs->disk, sizeof(specs->disk), "virtio-blk,addr=%x,readonly=on,path=%s", DISK_SLOT, specs->image);
    snprintf(specs->nic, sizeof(specs->nic), "virtio-net,addr=%x,mac=02:00:00:00:00:10,netdev=null", NIC_SLOT);
}

static void make_guests(struct bench *bench, enum mock_profile profile, struct mock_guest **guests, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        guests[i] = mock_domain_new(bench->mock, profile, 1 << 20, 1);
        if (!guests[i]) {
            bench_fail("no guest %u of %u", i + 1, count);
        }
    }
}

static void free_guests(struct mock_guest **guests, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        mock_guest_free(guests[i]);
    }
}

/* ---- one among many ---- */

static void many_idle(struct bench *bench, const struct specs *specs)
{
    static struct mock_guest *guests[IDLE + 1];
    struct mock_guest *one;
    const char *const devices[] = {"debugcon", specs->disk, specs->nic, NULL};
    bench_pin(0, 0);
    make_guests(bench, MOCK_HVM, &one, 1);
    make_guests(bench, MOCK_HVM, guests, IDLE + 1);
    struct bench_side alone = {.guest = one, .daemon = bench_serve(bench, &one, 1, "hvm", devices)};
    uint64_t begun = bench_now();
    struct bench_side crowd = {.guest = guests[IDLE / 2],
                               .daemon = bench_serve(bench, guests, IDLE + 1, "hvm", devices)};
    double attach = (double)(bench_now() - begun) / 1e6 / (IDLE + 1);
    struct bench_ratios ratios = bench_compare_reads(&crowd, &alone);
    bench_goal("guests.1000-idle.round-trip", ratios.time, "x-alone", 1.1, true);
    bench_info("guests.1000-idle.cpu-time", ratios.cpu, "x-alone");
    bench_info("guests.1000-idle.attach", attach, "ms-per-guest");
    bench_end(crowd.daemon);
    bench_end(alone.daemon);
    free_guests(guests, IDLE + 1);
    free_guests(&one, 1);
}

/* ---- memory ---- */

#define CROWD 64u

struct memory {
    uint64_t anonymous, tables, shared; /* KiB */
};

static void open_device(struct virtio_driver *driver, struct mock_guest *guest, unsigned slot, uint32_t kind,
                        struct virtio_arena arena)
{
    if (virtio_pci_open(driver, guest, 0, (uint16_t)(slot << 3), kind, VIRTIO_MSIX, WINDOW + (slot << 20), arena)) {
        bench_fail("guest %u: no device in slot %u", mock_domid(guest), slot);
    }
}

/* As a guest that has booted: all queues are set up, a block was read, a frame sent, buffers wait for frames. */
static void use_devices(struct mock_guest *guest)
{
    struct virtio_driver disk, nic;
    struct virtio_blk blk;
    struct virtio_net net;
    uint8_t block[4096];
    const uint64_t half = 1 << 19;
    open_device(&disk, guest, DISK_SLOT, VIRTIO_ID_BLOCK_DEVICE, virtio_arena_make(guest, half / 2, half / 2));
    open_device(&nic, guest, NIC_SLOT, VIRTIO_ID_NETWORK_CARD, virtio_arena_make(guest, half, half));
    if (virtio_blk_start(&blk, &disk, VIRTIO_BLK_ALL, 1, 0) || virtio_blk_read(&blk, 0, block, sizeof(block)) ||
        virtio_net_start(&net, &nic, VIRTIO_NET_ALL, 1, 0) || virtio_net_fill(&net, 0, 128, 1526) ||
        virtio_net_send(&net, 0, NULL, block, 1514)) {
        bench_fail("guest %u: its disk or its network card does not work", mock_domid(guest));
    }
    virtio_blk_finish(&blk);
    virtio_close(&disk);
    virtio_net_finish(&net);
    virtio_close(&nic);
}

static struct memory memory_of(struct bench *bench, unsigned count, const char *const *devices, bool used)
{
    struct mock_guest *guests[CROWD + 1];
    make_guests(bench, MOCK_PVH, guests, count);
    struct mock_daemon *daemon = bench_serve(bench, guests, count, "pvh", devices);
    for (unsigned i = 0; used && i < count; i++) {
        use_devices(guests[i]);
    }
    pid_t pid = mock_daemon_pid(daemon);
    struct memory memory = {bench_status(pid, "RssAnon:"), bench_status(pid, "VmPTE:"),
                            bench_status(pid, "RssShmem:")};
    bench_end(daemon);
    free_guests(guests, count);
    return memory;
}

/* What each of many adds. */
static void memory_per_guest(struct bench *bench, const char *name, const char *const *devices, bool used, double goal)
{
    struct memory one = memory_of(bench, 1, devices, used), many = memory_of(bench, CROWD + 1, devices, used);
    char line[100];
    snprintf(line, sizeof(line), "guests.memory%s.RssAnon", name);
    bench_goal(line, ((double)many.anonymous - (double)one.anonymous) / CROWD, "KiB-per-guest", goal, true);
    snprintf(line, sizeof(line), "guests.memory%s.page-tables", name);
    bench_info(line, ((double)many.tables - (double)one.tables) / CROWD, "KiB-per-guest");
    snprintf(line, sizeof(line), "guests.memory%s.shared-mappings", name);
    bench_info(line, ((double)many.shared - (double)one.shared) / CROWD, "KiB-per-guest");
}

void bench_guests(struct bench *bench)
{
    struct specs specs;
    make_specs(bench, &specs);
    many_idle(bench, &specs);
    bench_pin(0, -1);
    const char *const disk[] = {"pci-host", specs.disk, NULL};
    const char *const both[] = {"pci-host", specs.disk, specs.nic, NULL};
    memory_per_guest(bench, "", disk, false, 64);
    memory_per_guest(bench, ".disk-and-nic", both, false, 128);
    memory_per_guest(bench, ".disk-and-nic-used", both, true, 128);
    bench_info("guests.memory.io_uring", 1, "ring-per-loop");
    remove(specs.image);
}
