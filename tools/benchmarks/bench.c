/* SPDX-License-Identifier: BSD-2-Clause */
/* bench IOREQD PEER WORK_FOLDER [access|guests|disk|net|attack]... */
#include "bench.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void bench_goal(const char *name, double value, const char *unit, double goal, bool at_most)
{
    bool good = at_most ? value <= goal : value >= goal;
    printf("%s %.3f %s goal %g %s\n", name, value, unit, goal, good ? "ok" : "short");
}

void bench_info(const char *name, double value, const char *unit)
{
    printf("%s %.3f %s info\n", name, value, unit);
}

void bench_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

uint64_t bench_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t bench_cpu_time(pid_t pid)
{
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &time)) {
        bench_fail("no CPU clock of process %d", pid);
    }
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void bench_pin(pid_t pid, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int i = 0; i < (int)sysconf(_SC_NPROCESSORS_ONLN); i++) {
        if (cpu < 0 || i == cpu) {
            CPU_SET(i, &set);
        }
    }
    if (sched_setaffinity(pid, sizeof(set), &set)) {
        bench_fail("can't pin process %d to CPU %d: %s", pid, cpu, strerror(errno));
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bench_median(double *values, unsigned count)
{
    qsort(values, count, sizeof(*values), by_value);
    return values[count / 2];
}

uint64_t bench_status(pid_t pid, const char *key)
{
    char path[64], line[256];
    unsigned long long value = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file)) {
        if (!strncmp(line, key, strlen(key))) {
            value = strtoull(line + strlen(key), NULL, 10);
        }
    }
    if (file) {
        fclose(file);
    }
    return value;
}

struct bench_usage bench_usage(pid_t pid)
{
    char path[64], line[1024] = "";
    unsigned long long user = 0, kernel = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    const char *end = file && fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
    static const char fields[] = " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu";
    if (!end || sscanf(end + 1, fields, &user, &kernel) != 2) {
        bench_fail("can't read %s", path);
    }
    fclose(file);
    uint64_t tick = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
    return (struct bench_usage){user * tick, kernel * tick,
                                bench_status(pid, "voluntary_ctxt_switches:") +
                                    bench_status(pid, "nonvoluntary_ctxt_switches:")};
}

int bench_count_syscalls(pid_t pid)
{
    FILE *file = fopen("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id", "re");
    unsigned id = 0;
    if (!file || fscanf(file, "%u", &id) != 1) {
        return -1;
    }
    fclose(file);
    struct perf_event_attr attributes = {
        .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attributes), .config = id};
    return (int)syscall(SYS_perf_event_open, &attributes, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

uint64_t bench_counted(int counter)
{
    uint64_t value = 0;
    if (read(counter, &value, sizeof(value)) != sizeof(value)) {
        return 0;
    }
    return value;
}

struct mock_daemon *bench_spawn(struct bench *bench, const char *const *arguments, const char *ready)
{
    struct mock_daemon *daemon = mock_spawn_daemon(bench->mock, (char *const *)(uintptr_t)arguments);
    if (!daemon || mock_daemon_wait_log(daemon, ready, 60000)) {
        bench_fail("%s does not get ready:\n%s", arguments[0], daemon ? mock_daemon_log(daemon) : "");
    }
    return daemon;
}

struct mock_daemon *bench_serve(struct bench *bench, struct mock_guest *const *guests, unsigned count, const char *type,
                                const char *const *devices)
{
    unsigned device_count = 0, n = 0;
    while (devices[device_count]) {
        device_count++;
    }
    const char **arguments = calloc(count * (4 + 2 * device_count) + 5, sizeof(*arguments));
    char (*domids)[8] = calloc(count, sizeof(*domids));
    if (!arguments || !domids) {
        bench_fail("out of memory");
    }
    arguments[n++] = bench->ioreqd;
    arguments[n++] = "--no-xenstore";
    arguments[n++] = "--record-dir";
    arguments[n++] = "none";
    for (unsigned i = 0; i < count; i++) {
        snprintf(domids[i], sizeof(domids[i]), "%u", mock_domid(guests[i]));
        arguments[n++] = "--domain";
        arguments[n++] = domids[i];
        arguments[n++] = "--type";
        arguments[n++] = type;
        for (unsigned d = 0; d < device_count; d++) {
            arguments[n++] = "--device";
            arguments[n++] = devices[d];
        }
    }
    struct mock_daemon *daemon = bench_spawn(bench, arguments, "ready: all guests are running");
    free(arguments);
    free(domids);
    return daemon;
}

void bench_end(struct mock_daemon *daemon)
{
    int status;
    mock_daemon_signal(daemon, SIGTERM);
    if (mock_daemon_wait(daemon, 30000, &status)) {
        bench_fail("a daemon does not end");
    }
    mock_daemon_free(daemon);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(struct bench *bench);
    } parts[] = {{"access", bench_access}, {"guests", bench_guests}, {"disk", bench_disk},
                 {"net", bench_net}, {"attack", bench_attack}};
    if (argc < 4) {
        fprintf(stderr, "usage: bench IOREQD PEER WORK_FOLDER [access|guests|disk|net|attack]...\n");
        return 2;
    }
    /* Before what else runs on the machine, where that is allowed; both sides of each ratio inherit it. */
    if (setpriority(PRIO_PROCESS, 0, -10)) {
        fputs("bench: no right to a higher priority: what else runs here shows in the figures\n", stderr);
    }
    struct rlimit files; /* a thousand guests: several descriptors each, here, in the daemon and in the mock */
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    struct bench bench = {.ioreqd = argv[1], .peer = argv[2], .work = argv[3]};
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        bool wanted = argc == 4;
        for (int a = 4; a < argc; a++) {
            wanted = wanted || !strcmp(argv[a], parts[i].name);
        }
        if (wanted) {
            bench.mock = mock_start(NULL);
            if (!bench.mock) {
                bench_fail("the mock hypervisor does not start");
            }
            parts[i].run(&bench);
            mock_stop(bench.mock);
            bench_pin(0, -1);
        }
    }
    return 0;
}
