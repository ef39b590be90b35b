/* SPDX-License-Identifier: BSD-2-Clause */
/* Round trips of one port read: ioreqd against a 30-line emulator in its place; one guest against one of 257. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define ROUNDS 15u
#define READS 4000u
#define PORT 0x402 /* debugcon */
#define IDLE 256u

struct side {
    struct mock_guest *guest;
    struct mock_daemon *daemon;
};

static double nanoseconds_per_read(const struct side *side)
{
    uint64_t begun = bench_now();
    for (unsigned i = 0; i < READS; i++) {
        vcpu_inb(side->guest, 0, PORT);
    }
    return (double)(bench_now() - begun) / READS;
}

struct ratios {
    double time, cpu;
    double a_ns;
};

/* The two sides take turns; the medians of the rounds' ratios a / b. */
static struct ratios compare(const struct side *a, const struct side *b)
{
    double time[ROUNDS], cpu[ROUNDS], absolute[ROUNDS];
    nanoseconds_per_read(a);
    nanoseconds_per_read(b);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t cpu_a = bench_cpu_time(mock_daemon_pid(a->daemon));
        uint64_t cpu_b = bench_cpu_time(mock_daemon_pid(b->daemon));
        double time_a = nanoseconds_per_read(a), time_b = nanoseconds_per_read(b);
        cpu_a = bench_cpu_time(mock_daemon_pid(a->daemon)) - cpu_a;
        cpu_b = bench_cpu_time(mock_daemon_pid(b->daemon)) - cpu_b;
        time[i] = time_a / time_b;
        cpu[i] = (double)cpu_a / (double)cpu_b;
        absolute[i] = time_a;
    }
    return (struct ratios){bench_median(time, ROUNDS), bench_median(cpu, ROUNDS),
                           bench_median(absolute, ROUNDS)};
}

static struct mock_daemon *spawn_ioreqd(struct bench *bench, struct mock_guest *const *guests, unsigned count)
{
    const char **arguments = calloc(count * 8 + 8, sizeof(*arguments));
    char (*domids)[8] = calloc(count, sizeof(*domids));
    unsigned n = 0;
    arguments[n++] = bench->ioreqd;
    arguments[n++] = "--no-xenstore";
    arguments[n++] = "--record-dir";
    arguments[n++] = "none";
    for (unsigned i = 0; i < count; i++) {
        snprintf(domids[i], sizeof(domids[i]), "%u", mock_domid(guests[i]));
        const char *const guest[] = {"--domain", domids[i], "--type", "hvm", "--device", "debugcon"};
        memcpy(arguments + n, guest, sizeof(guest));
        n += 6;
    }
    struct mock_daemon *daemon = bench_spawn(bench, arguments, "ready: all guests are running");
    free(arguments);
    free(domids);
    return daemon;
}

static struct mock_guest *make_guest(struct bench *bench)
{
    struct mock_guest *guest = mock_domain_new(bench->mock, MOCK_HVM, 1 << 20, 1);
    if (!guest) {
        bench_fail("no guest");
    }
    return guest;
}

static struct side start_peer(struct bench *bench)
{
    struct side side = {.guest = make_guest(bench)};
    char domid[8];
    snprintf(domid, sizeof(domid), "%u", mock_domid(side.guest));
    const char *const arguments[] = {bench->peer, domid, "0x402", "0x402", NULL};
    side.daemon = bench_spawn(bench, arguments, "ready");
    return side;
}

static struct side start_ioreqd(struct bench *bench)
{
    struct side side = {.guest = make_guest(bench)};
    side.daemon = spawn_ioreqd(bench, &side.guest, 1);
    return side;
}

static void end_side(struct side *side, bool kill)
{
    if (kill) {
        mock_daemon_signal(side->daemon, SIGKILL);
        mock_daemon_free(side->daemon);
    } else {
        bench_end(side->daemon);
    }
    mock_guest_free(side->guest);
}

void bench_access(struct bench *bench)
{
    bench_pin(0, 0);
    struct side peer = start_peer(bench), ioreqd = start_ioreqd(bench);
    struct ratios one = compare(&ioreqd, &peer);
    bench_goal("access.one-cpu.round-trip", one.time, "x-peer", 1.2, true);
    bench_info("access.one-cpu.ioreqd", one.a_ns, "ns");
    bench_pin(mock_daemon_pid(peer.daemon), 1);
    bench_pin(mock_daemon_pid(ioreqd.daemon), 1);
    struct ratios two = compare(&ioreqd, &peer);
    bench_info("access.two-cpus.round-trip", two.time, "x-peer");
    bench_info("access.two-cpus.ioreqd", two.a_ns, "ns");
    bench_goal("access.cpu-time", one.cpu, "x-peer", 1.5, true);
    end_side(&ioreqd, false);
    end_side(&peer, true);
}

/* ---- many guests ---- */

static void many_idle(struct bench *bench)
{
    struct mock_guest *guests[IDLE + 1];
    bench_pin(0, 0);
    struct side alone = start_ioreqd(bench);
    for (unsigned i = 0; i <= IDLE; i++) {
        guests[i] = make_guest(bench);
    }
    struct side crowd = {.guest = guests[IDLE / 2], .daemon = spawn_ioreqd(bench, guests, IDLE + 1)};
    bench_goal("guests.256-idle.round-trip", compare(&crowd, &alone).time, "x-alone", 1.1, true);
    bench_end(crowd.daemon);
    for (unsigned i = 0; i <= IDLE; i++) {
        mock_guest_free(guests[i]);
    }
    end_side(&alone, false);
}

/* ---- memory ---- */

#define DISKS 64u

static struct mock_daemon *spawn_disks(struct bench *bench, struct mock_guest *const *guests, unsigned count)
{
    const char **arguments = calloc(count * 12 + 8, sizeof(*arguments));
    char (*domids)[8] = calloc(count, sizeof(*domids));
    char (*disks)[200] = calloc(count, sizeof(*disks));
    unsigned n = 0;
    arguments[n++] = bench->ioreqd;
    arguments[n++] = "--no-xenstore";
    arguments[n++] = "--record-dir";
    arguments[n++] = "none";
    for (unsigned i = 0; i < count; i++) {
        snprintf(domids[i], sizeof(domids[i]), "%u", mock_domid(guests[i]));
        snprintf(disks[i], sizeof(disks[i]), "virtio-blk,readonly=on,path=%s/disk.img", bench->work);
        const char *const guest[] = {"--domain", domids[i],  "--type",   "pvh",
                                     "--device", "pci-host", "--device", disks[i]};
        memcpy(arguments + n, guest, sizeof(guest));
        n += 8;
    }
    struct mock_daemon *daemon = bench_spawn(bench, arguments, "ready: all guests are running");
    free(arguments);
    free(domids);
    free(disks);
    return daemon;
}

static void memory(struct bench *bench)
{
    static const char *const keys[] = {"RssAnon:", "VmPTE:", "RssShmem:"};
    uint64_t with[2][3];
    char path[200];
    snprintf(path, sizeof(path), "%s/disk.img", bench->work);
    FILE *file = fopen(path, "we");
    if (!file || fseek(file, (16 << 20) - 1, SEEK_SET) || fputc(0, file) || fclose(file)) {
        bench_fail("can't make %s", path);
    }
    for (unsigned round = 0; round < 2; round++) {
        struct mock_guest *guests[DISKS + 1];
        unsigned count = round ? DISKS + 1 : 1;
        for (unsigned i = 0; i < count; i++) {
            guests[i] = mock_domain_new(bench->mock, MOCK_PVH, 1 << 20, 1);
        }
        struct mock_daemon *daemon = spawn_disks(bench, guests, count);
        for (unsigned i = 0; i < 3; i++) {
            with[round][i] = bench_status(mock_daemon_pid(daemon), keys[i]);
        }
        bench_end(daemon);
        for (unsigned i = 0; i < count; i++) {
            mock_guest_free(guests[i]);
        }
    }
    bench_goal("guests.memory.RssAnon", (double)(with[1][0] - with[0][0]) / DISKS, "KiB-per-guest", 64, true);
    bench_info("guests.memory.page-tables", ((double)with[1][1] - (double)with[0][1]) / DISKS,
               "KiB-per-guest");
    bench_info("guests.memory.shared-mappings", ((double)with[1][2] - (double)with[0][2]) / DISKS,
               "KiB-per-guest");
    bench_info("guests.memory.io_uring", 1, "ring-per-loop");
    remove(path);
}

void bench_guests(struct bench *bench)
{
    many_idle(bench);
    bench_pin(0, -1);
    memory(bench);
}
