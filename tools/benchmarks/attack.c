/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a guest feels of a neighbour that attacks the daemon and is limited: round trips of one port read,
 * against the same run with a process in the attacker's place that burns as much CPU and asks nothing.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define RUNS 5u
#define RUN_NS 1000000000u
#define SAMPLES 400000u
#define PORT 0x402        /* debugcon */
#define DISK 0xf1000000u  /* virtio-mmio */
#define VGA 0xa0000u      /* single writes come by the buffered ring */
#define PERIOD_NS 5000000u /* of the burner's work and sleep */

struct pair {
    struct mock_guest *measured, *attacking;
    struct mock_daemon *daemon;
};

struct attacker {
    pid_t pid;
    uint64_t *accesses; /* so far; shared with it */
};

struct figures {
    double p50, p99;
};

/* ---- round trips ---- */

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static struct figures measure(struct mock_guest *guest)
{
    static uint32_t samples[SAMPLES];
    unsigned count = 0;
    uint64_t begun = bench_now(), now = begun;
    while (now - begun < RUN_NS && count < SAMPLES) {
        vcpu_inb(guest, 0, PORT);
        uint64_t then = now;
        now = bench_now();
        samples[count++] = (uint32_t)(now - then);
    }
    qsort(samples, count, sizeof(samples[0]), by_value);
    return (struct figures){samples[count / 2], samples[(uint64_t)count * 99 / 100]};
}

/* Guest and daemon share a CPU; what else the machine has to do there would be most of what a p99 shows. */
static void set_scheduler(pid_t pid, int policy)
{
    struct sched_param parameters = {.sched_priority = policy == SCHED_FIFO};
    if (sched_setscheduler(pid, policy, &parameters) && policy == SCHED_FIFO) {
        fputs("bench: no right to real-time scheduling: what else runs here shows in the p99\n", stderr);
    }
}

/* ---- the attacker, and what takes its place ---- */

static uint64_t thread_cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void attack(struct mock_guest *guest, uint64_t *accesses)
{
    for (uint32_t random = 4711;; ++*accesses) {
        random = random * 1664525 + 1013904223;
        unsigned size = 1u << (random >> 8) % 3, at = random >> 12 & 0xff;
        switch (random >> 30) {
        case 0:
            vcpu_outb(guest, 0, (uint16_t)(PORT + at % 4), (uint8_t)random);
            break;
        case 1:
            vcpu_mmio_write(guest, 0, VGA + at * 4 % 0x20, size, random);
            break;
        default:
            vcpu_mmio_write(guest, 0, DISK + at / size * size, size, random & 0xff);
            break;
        }
    }
}

static pid_t fork_on_other_cpu(void)
{
    pid_t pid = fork();
    if (pid < 0) {
        bench_fail("no second process");
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        set_scheduler(0, SCHED_OTHER);
        bench_pin(0, 1);
    }
    return pid;
}

/*
 * A process, for a thread of ours would make our own system calls slower; a vCPU lives in shared memory
 * alone.
 */
static struct attacker begin_attack(struct mock_guest *guest)
{
    uint64_t *accesses = mmap(NULL, sizeof(*accesses), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (accesses == MAP_FAILED) {
        bench_fail("out of memory");
    }
    struct attacker attacker = {.pid = fork_on_other_cpu(), .accesses = accesses};
    if (attacker.pid == 0) {
        attack(guest, accesses);
    }
    return attacker;
}

static void end_process(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void end_attack(struct attacker *attacker)
{
    end_process(attacker->pid);
    munmap(attacker->accesses, sizeof(*attacker->accesses));
}

/* Burns this part of a CPU, in short turns. */
static pid_t begin_burning(double part)
{
    pid_t pid = fork_on_other_cpu();
    while (pid == 0) {
        uint64_t turn = thread_cpu_ns();
        while ((double)(thread_cpu_ns() - turn) < part * PERIOD_NS) {
        }
        struct timespec rest = {.tv_nsec = (long)((1 - part) * PERIOD_NS)};
        nanosleep(&rest, NULL);
    }
    return pid;
}

/* ---- runs ---- */

static struct pair start(struct bench *bench)
{
    struct pair pair = {.measured = mock_domain_new(bench->mock, MOCK_HVM, 1 << 20, 1),
                        .attacking = mock_domain_new(bench->mock, MOCK_HVM, 1 << 20, 1)};
    char domids[2][8], disk[300], path[200];
    if (!pair.measured || !pair.attacking) {
        bench_fail("no guests");
    }
    snprintf(path, sizeof(path), "%s/attacked.img", bench->work);
    FILE *file = fopen(path, "we");
    if (!file || fseek(file, (1 << 20) - 1, SEEK_SET) || fputc(0, file) || fclose(file)) {
        bench_fail("can't make %s", path);
    }
    snprintf(domids[0], sizeof(domids[0]), "%u", mock_domid(pair.measured));
    snprintf(domids[1], sizeof(domids[1]), "%u", mock_domid(pair.attacking));
    snprintf(disk, sizeof(disk), "virtio-blk,bus=mmio,base=0x%x,irq=none,path=%s", DISK, path);
    const char *const arguments[] = {bench->ioreqd, "--no-xenstore", "--record-dir", "none",
                                     "--domain", domids[0], "--type", "hvm", "--device", "debugcon",
                                     "--domain", domids[1], "--type", "hvm", "--bufioreq", "atomic",
                                     "--device", "debugcon", "--device", disk, NULL};
    pair.daemon = bench_spawn(bench, arguments, "ready: all guests are running");
    bench_pin(mock_daemon_pid(pair.daemon), 0);
    set_scheduler(mock_daemon_pid(pair.daemon), SCHED_FIFO);
    set_scheduler(0, SCHED_FIFO);
    return pair;
}

static void end(struct pair *pair)
{
    set_scheduler(0, SCHED_OTHER);
    bench_end(pair->daemon);
    mock_guest_free(pair->measured);
    mock_guest_free(pair->attacking);
}

static struct figures beside_attacker(struct pair *pair, double *part, double *rate)
{
    struct attacker attacker = begin_attack(pair->attacking);
    if (mock_daemon_wait_log(pair->daemon, "limited: ", 30000)) {
        bench_fail("the attacker is not limited:\n%s", mock_daemon_log(pair->daemon));
    }
    uint64_t begun = bench_now(), cpu = bench_cpu_time(attacker.pid);
    uint64_t accesses = __atomic_load_n(attacker.accesses, __ATOMIC_RELAXED);
    struct figures figures = measure(pair->measured);
    double took = (double)(bench_now() - begun);
    *part = (double)(bench_cpu_time(attacker.pid) - cpu) / took;
    *rate = (double)(__atomic_load_n(attacker.accesses, __ATOMIC_RELAXED) - accesses) / took * 1e9;
    end_attack(&attacker);
    return figures;
}

static struct figures beside_burner(struct pair *pair, double part)
{
    pid_t burner = begin_burning(part);
    struct figures figures = measure(pair->measured);
    end_process(burner);
    return figures;
}

void bench_attack(struct bench *bench)
{
    double p50[RUNS], p99[RUNS], part[RUNS], rate[RUNS], at_p99[RUNS];
    for (unsigned i = 0; i < RUNS; i++) {
        bench_pin(0, 0);
        struct pair pair = start(bench);
        measure(pair.measured); /* warm */
        struct figures attacked = beside_attacker(&pair, &part[i], &rate[i]);
        struct figures burnt = beside_burner(&pair, part[i]);
        p50[i] = attacked.p50 / burnt.p50;
        p99[i] = attacked.p99 / burnt.p99;
        at_p99[i] = attacked.p99;
        end(&pair);
    }
    bench_goal("attack.limited.p50", bench_median(p50, RUNS), "x-burner", 1.1, true);
    bench_goal("attack.limited.p99", bench_median(p99, RUNS), "x-burner", 1.25, true);
    bench_info("attack.limited.p99-time", bench_median(at_p99, RUNS), "ns");
    bench_info("attack.limited.answers", bench_median(rate, RUNS), "per-second");
    bench_info("attack.limited.burnt", bench_median(part, RUNS), "CPUs");
}
