/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 4 KiB random reads through virtio-blk against the same load straight on io_uring: the same generator
 * (places, order, depth, batch sizes) fills the requests and takes the completions of both.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "virtio_blk_driver.h"

#define RAM (64u << 20)
#define IMAGE_BYTES (256u << 20)
#define BLOCK 4096u
#define DEPTH_MAX 32u
#define ROUNDS 31u /* short ones: what disturbs one does not move the median */

/* Where the generator sends its requests. */
struct target {
    void *self;
    void (*put)(void *self, unsigned slot, uint64_t block);
    void (*submit)(void *self);
    unsigned (*reap)(void *self, unsigned *slots); /* waits for at least one */
};

/* Requests in flight up to depth; what completed is replaced in one batch. IOPS. */
static double generate(const struct target *target, unsigned depth, unsigned requests, unsigned *seed)
{
    unsigned slots[DEPTH_MAX], sent = 0, ended = 0;
    uint64_t begun = bench_now();
    for (; sent < depth; sent++) {
        target->put(target->self, sent, (uint64_t)rand_r(seed) % (IMAGE_BYTES / BLOCK));
    }
    target->submit(target->self);
    while (ended < requests) {
        unsigned count = target->reap(target->self, slots);
        ended += count;
        for (unsigned i = 0; i < count && sent < requests; i++, sent++) {
            target->put(target->self, slots[i], (uint64_t)rand_r(seed) % (IMAGE_BYTES / BLOCK));
        }
        target->submit(target->self);
    }
    return requests / ((double)(bench_now() - begun) / 1e9);
}

/* ---- straight on io_uring ---- */

struct straight {
    struct io_uring ring;
    int fd;
    uint8_t *memory;
};

static void straight_put(void *self, unsigned slot, uint64_t block)
{
    struct straight *straight = self;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&straight->ring);
    io_uring_prep_read(sqe, straight->fd, straight->memory + slot * BLOCK, BLOCK, block * BLOCK);
    io_uring_sqe_set_data64(sqe, slot);
}

static void straight_submit(void *self)
{
    struct straight *straight = self;
    io_uring_submit(&straight->ring);
}

static unsigned straight_reap(void *self, unsigned *slots)
{
    struct straight *straight = self;
    struct io_uring_cqe *cqe;
    unsigned count = 0;
    if (io_uring_wait_cqe(&straight->ring, &cqe)) {
        bench_fail("io_uring: no completion");
    }
    do {
        if (cqe->res != (int)BLOCK) {
            bench_fail("io_uring: a read ended with %d", cqe->res);
        }
        slots[count++] = (unsigned)io_uring_cqe_get_data64(cqe);
        io_uring_cqe_seen(&straight->ring, cqe);
    } while (count < DEPTH_MAX && !io_uring_peek_cqe(&straight->ring, &cqe));
    return count;
}

static void straight_open(struct straight *straight, const char *path, bool direct)
{
    straight->fd = open(path, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
    if (straight->fd < 0 || io_uring_queue_init(DEPTH_MAX * 2, &straight->ring, 0) ||
        posix_memalign((void **)&straight->memory, BLOCK, DEPTH_MAX * BLOCK)) {
        bench_fail("%s: %s", path, strerror(errno));
    }
}

static void straight_close(struct straight *straight)
{
    io_uring_queue_exit(&straight->ring);
    close(straight->fd);
    free(straight->memory);
}

/* ---- through virtio-blk ---- */

struct virtual {
    struct mock_guest *guest;
    struct mock_daemon *daemon;
    struct virtio_driver driver;
    struct virtio_blk blk;
    struct virtio_queue *queue;
    struct virtio_blk_outhdr *headers; /* by slot; each has its three descriptors for good */
    volatile uint8_t *status;
    uint16_t seen;
};

static void virtual_put(void *self, unsigned slot, uint64_t block)
{
    struct virtual *virtual = self;
    virtual->headers[slot].sector = block * (BLOCK / 512);
    virtual->status[slot] = 0xff;
    struct virtio_queue *queue = virtual->queue;
    queue->avail->ring[queue->next_avail++ % queue->size] = (uint16_t)(slot * 3);
}

static void virtual_submit(void *self)
{
    struct virtual *virtual = self;
    if (virtual->queue->next_avail != virtual->queue->published) {
        virtio_queue_kick(virtual->queue);
    }
}

static unsigned virtual_reap(void *self, unsigned *slots)
{
    struct virtual *virtual = self;
    struct virtio_queue *queue = virtual->queue;
    unsigned count = 0;
    while (__atomic_load_n(&queue->used->idx, __ATOMIC_ACQUIRE) == virtual->seen) {
        if (virtio_queue_wait(queue, 20000)) {
            bench_fail("virtio-blk: no completion:\n%s", mock_daemon_log(virtual->daemon));
        }
    }
    uint16_t now = __atomic_load_n(&queue->used->idx, __ATOMIC_ACQUIRE);
    while (virtual->seen != now && count < DEPTH_MAX) {
        unsigned slot = queue->used->ring[virtual->seen++ % queue->size].id / 3;
        if (virtual->status[slot]) {
            bench_fail("virtio-blk: a read ended with status %u", virtual->status[slot]);
        }
        slots[count++] = slot;
    }
    queue->next_used = virtual->seen;
    return count;
}

static void make_chains(struct virtual *virtual)
{
    void *memory;
    struct virtio_arena *arena = &virtual->driver.arena;
    const size_t header = sizeof(*virtual->headers);
    uint64_t headers = virtio_arena_take(arena, DEPTH_MAX * header, 64, (void **)&virtual->headers);
    uint64_t status = virtio_arena_take(arena, DEPTH_MAX, 64, (void **)(uintptr_t)&virtual->status);
    uint64_t data = virtio_arena_take(arena, DEPTH_MAX * BLOCK, BLOCK, &memory);
    for (unsigned slot = 0; slot < DEPTH_MAX; slot++) {
        struct vring_desc *desc = &virtual->queue->desc[slot * 3];
        uint16_t next = (uint16_t)(slot * 3);
        virtual->headers[slot].type = VIRTIO_BLK_T_IN;
        desc[0] = (struct vring_desc){.addr = headers + slot * header, .len = (uint32_t)header,
                                      .flags = VRING_DESC_F_NEXT, .next = (uint16_t)(next + 1)};
        desc[1] = (struct vring_desc){.addr = data + slot * BLOCK, .len = BLOCK,
                                      .flags = VRING_DESC_F_NEXT | VRING_DESC_F_WRITE,
                                      .next = (uint16_t)(next + 2)};
        desc[2] = (struct vring_desc){.addr = status + slot, .len = 1, .flags = VRING_DESC_F_WRITE};
    }
}

static void virtual_open(struct bench *bench, struct virtual *virtual, const char *path, bool direct)
{
    char domid[8], disk[300];
    virtual->guest = mock_domain_new(bench->mock, MOCK_PVH, RAM, 1);
    snprintf(domid, sizeof(domid), "%u", mock_domid(virtual->guest));
    snprintf(disk, sizeof(disk), "virtio-blk,addr=4,readonly=on,path=%s,cache=%s", path,
             direct ? "none" : "writeback");
    const char *const arguments[] = {bench->ioreqd, "--no-xenstore", "--record-dir", "none",     "--domain",
                                     domid,         "--type",        "pvh",          "--device", "pci-host",
                                     "--device",    disk,            NULL};
    virtual->daemon = bench_spawn(bench, arguments, "ready: all guests are running");
    if (virtio_pci_open(&virtual->driver, virtual->guest, 0, 4 << 3, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_MSIX,
                        0xe0000000,
                        virtio_arena_make(virtual->guest, 0x100000, RAM - 0x100000)) ||
        virtio_blk_start(&virtual->blk, &virtual->driver, VIRTIO_BLK_ALL, 1, 0)) {
        bench_fail("no disk:\n%s", mock_daemon_log(virtual->daemon));
    }
    virtual->queue = virtual->driver.queues[0];
    make_chains(virtual);
}

static void virtual_close(struct virtual *virtual)
{
    virtio_blk_finish(&virtual->blk);
    virtio_close(&virtual->driver);
    bench_end(virtual->daemon);
    mock_guest_free(virtual->guest);
}

/* ---- the comparison ---- */

/* cpu..., user, kernel: µs per request; switches: of ioreqd, per request. */
struct result {
    double ratio, syscalls, iops, iops_straight;
    double cpu_straight, cpu_generator, cpu_ioreqd, user, kernel, switches;
};

/* What a side costs: generate()'s IOPS, and CPU time in µs per request of this process. */
static double run(const struct target *target, unsigned depth, unsigned requests, unsigned *seed, double *cpu)
{
    uint64_t before = bench_cpu_time(getpid());
    double iops = generate(target, depth, requests, seed);
    *cpu = (double)(bench_cpu_time(getpid()) - before) / 1000 / requests;
    return iops;
}

static struct result compare(struct virtual *virtual, struct straight *straight, unsigned depth,
                             unsigned requests)
{
    const struct target through = {virtual, virtual_put, virtual_submit, virtual_reap};
    const struct target on = {straight, straight_put, straight_submit, straight_reap};
    double ratios[ROUNDS], calls[ROUNDS], iops[ROUNDS], other[ROUNDS];
    double ioreqd[ROUNDS], generator[ROUNDS], alone[ROUNDS];
    pid_t pid = mock_daemon_pid(virtual->daemon);
    int counter = bench_count_syscalls(pid);
    unsigned seed = 1;
    generate(&through, depth, requests, &seed);
    generate(&on, depth, requests, &seed);
    struct bench_usage begun = bench_usage(pid);
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned again = seed;
        uint64_t calls_before = counter >= 0 ? bench_counted(counter) : 0, cpu_before = bench_cpu_time(pid);
        double a = run(&through, depth, requests, &seed, &generator[i]);
        ioreqd[i] = (double)(bench_cpu_time(pid) - cpu_before) / 1000 / requests;
        calls[i] = counter >= 0 ? (double)(bench_counted(counter) - calls_before) / requests : 0;
        double b = run(&on, depth, requests, &again, &alone[i]);
        ratios[i] = a / b;
        iops[i] = a;
        other[i] = b;
    }
    if (counter >= 0) {
        close(counter);
    }
    struct bench_usage ended = bench_usage(pid);
    double all = (double)requests * ROUNDS;
    return (struct result){
        .ratio = bench_median(ratios, ROUNDS),
        .syscalls = counter >= 0 ? bench_median(calls, ROUNDS) : -1,
        .iops = bench_median(iops, ROUNDS),
        .iops_straight = bench_median(other, ROUNDS),
        .cpu_straight = bench_median(alone, ROUNDS),
        .cpu_generator = bench_median(generator, ROUNDS),
        .cpu_ioreqd = bench_median(ioreqd, ROUNDS),
        .user = (double)(ended.user - begun.user) / 1000 / all,
        .kernel = (double)(ended.kernel - begun.kernel) / 1000 / all,
        .switches = (double)(ended.switches - begun.switches) / all,
    };
}

static void make_image(const char *path)
{
    static uint8_t chunk[1 << 20];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (unsigned i = 0; fd >= 0 && i < IMAGE_BYTES / sizeof(chunk); i++) {
        memset(chunk, (int)i + 1, sizeof(chunk));
        if (write(fd, chunk, sizeof(chunk)) != sizeof(chunk)) {
            bench_fail("%s: %s", path, strerror(errno));
        }
    }
    if (fd < 0 || fsync(fd)) {
        bench_fail("%s: %s", path, strerror(errno));
    }
    close(fd);
}

static void calls_line(const char *name, const struct result *result, double goal)
{
    if (result->syscalls >= 0) {
        bench_goal(name, result->syscalls, "per-request", goal, true);
    } else {
        printf("%s not counted: no tracepoint raw_syscalls here (tracefs, perf_event_open) info\n", name);
    }
}

static void info(const char *name, const char *what, double value, const char *unit)
{
    char line[100];
    snprintf(line, sizeof(line), "%s.%s", name, what);
    bench_info(line, value, unit);
}

/*
 * Where the time goes. What a request takes longer than on io_uring alone is CPU time (copies, rings, system
 * calls) or waiting: for the other process to be woken, or for a CPU. On one CPU there is nothing to wait for
 * when the data are in memory: what is left is other programs' time.
 */
static void lines(const char *name, const struct result *result)
{
    double more = 1e6 / result->iops - 1e6 / result->iops_straight;
    double more_cpu = result->cpu_generator + result->cpu_ioreqd - result->cpu_straight;
    info(name, "requests", result->iops, "per-second");
    info(name, "io_uring-cpu", result->cpu_straight, "us-per-request");
    info(name, "generator-cpu", result->cpu_generator, "us-per-request");
    info(name, "ioreqd-cpu", result->cpu_ioreqd, "us-per-request");
    info(name, "ioreqd-user", result->user, "us-per-request");
    info(name, "ioreqd-kernel", result->kernel, "us-per-request");
    info(name, "switches", result->switches, "per-request");
    info(name, "more-than-io_uring", more, "us-per-request");
    info(name, "more-cpu", more_cpu, "us-per-request");
    info(name, "more-waiting", more - more_cpu, "us-per-request");
    info(name, "cpu-ratio", result->cpu_straight / (result->cpu_generator + result->cpu_ioreqd),
         "x-io_uring");
}

void bench_disk(struct bench *bench)
{
    struct virtual virtual = {0};
    struct straight straight;
    char path[200];
    snprintf(path, sizeof(path), "%s/bench.img", bench->work);
    make_image(path);

    bench_pin(0, 0);
    virtual_open(bench, &virtual, path, false);
    straight_open(&straight, path, false);
    struct result hot = compare(&virtual, &straight, DEPTH_MAX, 10000);
    bench_goal("disk.hot.one-cpu.depth-32", hot.ratio, "x-io_uring", 0.6, false);
    lines("disk.hot.one-cpu.depth-32", &hot);
    calls_line("disk.hot.one-cpu.depth-32.system-calls", &hot, 0.25);
    struct result one = compare(&virtual, &straight, 1, 1000);
    bench_info("disk.hot.one-cpu.depth-1", one.ratio, "x-io_uring");
    lines("disk.hot.one-cpu.depth-1", &one);
    virtual_close(&virtual);
    straight_close(&straight);

    bench_pin(0, -1);
    memset(&virtual, 0, sizeof(virtual));
    virtual_open(bench, &virtual, path, true);
    straight_open(&straight, path, true);
    struct result direct = compare(&virtual, &straight, DEPTH_MAX, 2000);
    bench_goal("disk.direct.depth-32", direct.ratio, "x-io_uring", 0.8, false);
    lines("disk.direct.depth-32", &direct);
    calls_line("disk.direct.depth-32.system-calls", &direct, 0.5);
    struct result direct_one = compare(&virtual, &straight, 1, 250);
    bench_info("disk.direct.depth-1", direct_one.ratio, "x-io_uring");
    lines("disk.direct.depth-1", &direct_one);
    virtual_close(&virtual);
    straight_close(&straight);
    unlink(path);
}
