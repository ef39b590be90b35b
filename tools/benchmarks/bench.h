/* SPDX-License-Identifier: BSD-2-Clause */
/* What the benchmarks share: daemons under the mock, clocks of other processes, medians, one line a figure. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest.h"

struct bench {
    const char *ioreqd, *peer; /* paths */
    const char *work;          /* a folder on a real file system */
    struct mock *mock;
};

/* One line: NAME VALUE UNIT goal GOAL ok|short. at_most: the goal is an upper bound. */
void bench_goal(const char *name, double value, const char *unit, double goal, bool at_most);
void bench_info(const char *name, double value, const char *unit);
/* Ends the program with one line. */
void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

uint64_t bench_now(void);             /* monotonic, ns */
uint64_t bench_cpu_time(pid_t pid);   /* of all its threads, ns */
/* Its user and kernel time (ns; split by the kernel's ticks: right over seconds) and its context switches. */
struct bench_usage {
    uint64_t user, kernel, switches;
};
struct bench_usage bench_usage(pid_t pid);
void bench_pin(pid_t pid, int cpu);   /* 0: this process; cpu -1: any */
double bench_median(double *values, unsigned count);
/* A number of /proc/PID/status ("RssAnon:", in kB). */
uint64_t bench_status(pid_t pid, const char *key);
/* A counter of the system calls that the process enters from now on; -1: the kernel does not let us count. */
int bench_count_syscalls(pid_t pid);
uint64_t bench_counted(int counter);

/* Spawns the program and waits for `ready` in its log. The arguments end with NULL; argv[0] first. */
struct mock_daemon *bench_spawn(struct bench *bench, const char *const *arguments, const char *ready);
/* Spawns ioreqd with these guests of one type ("hvm", "pvh"), each with these devices (NULL at the end). */
struct mock_daemon *bench_serve(struct bench *bench, struct mock_guest *const *guests, unsigned count, const char *type,
                                const char *const *devices);
void bench_end(struct mock_daemon *daemon);

struct bench_side {
    struct mock_guest *guest; /* has a debugcon */
    struct mock_daemon *daemon;
};

struct bench_ratios {
    double time, cpu; /* a / b: of a round trip, of the daemon */
    double a_ns;      /* a's round trip */
};

/* Reads of debugcon's port; the two sides take turns; the medians of the rounds. */
struct bench_ratios bench_compare_reads(const struct bench_side *a, const struct bench_side *b);

void bench_access(struct bench *bench);
void bench_guests(struct bench *bench);
void bench_disk(struct bench *bench);
void bench_attack(struct bench *bench);
void bench_net(struct bench *bench); /* last: this process stays in a network namespace of its own */

#endif
