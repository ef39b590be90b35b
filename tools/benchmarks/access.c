/* SPDX-License-Identifier: BSD-2-Clause */
/* Round trips of one port read: ioreqd against a 30-line emulator in its place. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

#define ROUNDS 21u
#define READS 1500u /* short rounds: what disturbs one does not move the median */
#define PORT 0x402 /* debugcon */

static double nanoseconds_per_read(const struct bench_side *side)
{
    uint64_t begun = bench_now();
    for (unsigned i = 0; i < READS; i++) {
        vcpu_inb(side->guest, 0, PORT);
    }
    return (double)(bench_now() - begun) / READS;
}

struct bench_ratios bench_compare_reads(const struct bench_side *a, const struct bench_side *b)
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
    return (struct bench_ratios){bench_median(time, ROUNDS), bench_median(cpu, ROUNDS),
                                 bench_median(absolute, ROUNDS)};
}

static struct mock_guest *make_guest(struct bench *bench)
{
    struct mock_guest *guest = mock_domain_new(bench->mock, MOCK_HVM, 1 << 20, 1);
    if (!guest) {
        bench_fail("no guest");
    }
    return guest;
}

static struct bench_side start_peer(struct bench *bench)
{
    struct bench_side side = {.guest = make_guest(bench)};
    char domid[8];
    snprintf(domid, sizeof(domid), "%u", mock_domid(side.guest));
    const char *const arguments[] = {bench->peer, domid, "0x402", "0x402", NULL};
    side.daemon = bench_spawn(bench, arguments, "ready");
    return side;
}

static struct bench_side start_ioreqd(struct bench *bench)
{
    static const char *const devices[] = {"debugcon", NULL};
    struct bench_side side = {.guest = make_guest(bench)};
    side.daemon = bench_serve(bench, &side.guest, 1, "hvm", devices);
    return side;
}

static void end_side(struct bench_side *side, bool kill)
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
    struct bench_side peer = start_peer(bench), ioreqd = start_ioreqd(bench);
    struct bench_ratios one = bench_compare_reads(&ioreqd, &peer);
    bench_goal("access.one-cpu.round-trip", one.time, "x-peer", 1.2, true);
    bench_info("access.one-cpu.ioreqd", one.a_ns, "ns");
    bench_pin(mock_daemon_pid(peer.daemon), 1);
    bench_pin(mock_daemon_pid(ioreqd.daemon), 1);
    struct bench_ratios two = bench_compare_reads(&ioreqd, &peer);
    bench_info("access.two-cpus.round-trip", two.time, "x-peer");
    bench_info("access.two-cpus.ioreqd", two.a_ns, "ns");
    bench_goal("access.cpu-time", one.cpu, "x-peer", 1.5, true);
    end_side(&ioreqd, false);
    end_side(&peer, true);
}
