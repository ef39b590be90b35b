/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest of tools/demo: plays a vCPU of a mock domain, drives ioreqd's virtio-blk and UART as an operating system
 * would, checks every byte, and prints what happened.
 *
 * demo_guest IOREQD IMAGE BLOCK_SIZE BLOCK...: BLOCKs are the data blocks of a scratch file in the ext4 image.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"
#include "virtio_blk_driver.h"

#define RAM (64u << 20)
#define DEPTH 32u
#define CHUNK 65536u
#define RANDOM_READS 20000u
#define UART 0x3f8
#define UART_THRE 0x20

struct demo {
    struct mock *mock;
    struct mock_guest *guest;
    struct mock_daemon *daemon;
    struct virtio_driver driver;
    struct virtio_blk blk;
    uint8_t *image; /* as the host reads it */
    uint64_t size;
    uint64_t *nanoseconds; /* of each request */
    unsigned requests;
    uint64_t verified;
    char uart_file[128];
};

static void fail(struct demo *demo, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("demo: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    if (demo->daemon) {
        fprintf(stderr, "ioreqd said:\n%s", mock_daemon_log(demo->daemon));
    }
    mock_daemon_free(demo->daemon);
    mock_guest_free(demo->guest);
    mock_stop(demo->mock);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void note(struct demo *demo, uint64_t begun)
{
    demo->nanoseconds[demo->requests++] = now() - begun;
}

/* ---- steps ---- */

static void load_image(struct demo *demo, const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) || !(demo->image = malloc((size_t)status.st_size))) {
        fail(demo, "%s: %s", path, strerror(errno));
    }
    demo->size = (uint64_t)status.st_size;
    if (read(fd, demo->image, demo->size) != (ssize_t)demo->size) {
        fail(demo, "%s: short read", path);
    }
    close(fd);
}

static void start(struct demo *demo, const char *program, const char *image)
{
    char domid[8], disk[400], uart[200], records[160];
    demo->mock = mock_start(NULL);
    demo->guest = demo->mock ? mock_domain_new(demo->mock, MOCK_HVM, RAM, 1) : NULL;
    if (!demo->guest) {
        fail(demo, "the mock hypervisor does not start");
    }
    printf("mock hypervisor: domain %u, HVM, %u MiB, 1 vCPU\n", mock_domid(demo->guest), RAM >> 20);
    snprintf(domid, sizeof(domid), "%u", mock_domid(demo->guest));
    snprintf(records, sizeof(records), "%s/records", mock_dir(demo->mock));
    snprintf(demo->uart_file, sizeof(demo->uart_file), "%s/uart", mock_dir(demo->mock));
    snprintf(disk, sizeof(disk), "virtio-blk,path=%s,serial=demo", image);
    snprintf(uart, sizeof(uart), "uart16550,chardev=file,chardev.path=%s", demo->uart_file);
    const char *arguments[] = {program, "--no-xenstore", "--record-dir", records, "--domain", domid, "--type", "hvm",
                               "--device", "pci-host", "--device", disk, "--device", uart, NULL};
    printf("$ ioreqd");
    for (unsigned i = 1; arguments[i]; i++) {
        printf(" %s", arguments[i]);
    }
    printf("\n");
    demo->daemon = mock_spawn_daemon(demo->mock, (char *const *)(uintptr_t)arguments);
    if (!demo->daemon || mock_daemon_wait_log(demo->daemon, ": running", 20000)) {
        fail(demo, "ioreqd does not get the guest running");
    }
}

static void find_disk(struct demo *demo)
{
    char id[VIRTIO_BLK_ID_BYTES + 1];
    int sbdf = virtio_pci_find(demo->guest, 0, VIRTIO_ID_BLOCK_DEVICE, -1);
    if (sbdf < 0 ||
        virtio_pci_open(&demo->driver, demo->guest, 0, (uint16_t)sbdf, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_MSIX, 0xe0000000,
                        virtio_arena_make(demo->guest, 0x100000, RAM - 0x100000)) ||
        virtio_blk_start(&demo->blk, &demo->driver, VIRTIO_BLK_ALL, 1, 0) || virtio_blk_get_id(&demo->blk, id)) {
        fail(demo, "the guest finds no virtio disk");
    }
    printf("guest: virtio-blk at PCI %02x.%x, serial \"%s\", %llu sectors, MSI-X\n", sbdf >> 3, sbdf & 7, id,
           (unsigned long long)demo->blk.capacity);
}

static void read_all(struct demo *demo)
{
    uint8_t *chunk = malloc(CHUNK);
    for (uint64_t at = 0; at < demo->size; at += CHUNK) {
        size_t part = demo->size - at < CHUNK ? demo->size - at : CHUNK;
        uint64_t begun = now();
        int status = virtio_blk_read(&demo->blk, at / VIRTIO_BLK_SECTOR, chunk, part);
        note(demo, begun);
        if (status != VIRTIO_BLK_S_OK || memcmp(chunk, demo->image + at, part)) {
            fail(demo, "read at %llu: status %d or wrong data", (unsigned long long)at, status);
        }
        demo->verified += part;
    }
    free(chunk);
    uint16_t magic;
    memcpy(&magic, demo->image + 1024 + 0x38, sizeof(magic));
    printf("guest: read the whole ext4 file system (magic %04x, label \"%.16s\") and compared it with the "
           "host's file\n", magic, (const char *)demo->image + 1024 + 0x78);
}

/* DEPTH reads of 4 KiB in flight at random places. */
static void read_at_random(struct demo *demo)
{
    uint64_t begun[DEPTH], place[DEPTH], gpa[DEPTH];
    void *memory[DEPTH];
    unsigned started = 0, ended = 0;
    for (unsigned i = 0; i < DEPTH; i++) {
        gpa[i] = virtio_arena_take(&demo->driver.arena, 4096, 4096, &memory[i]);
    }
    while (ended < RANDOM_READS) {
        while (started < RANDOM_READS && started - ended < DEPTH) {
            unsigned slot = started % DEPTH;
            /* A slot is free again only in order: wait for its own request. */
            place[slot] = (uint64_t)rand() % (demo->size / 4096);
            struct virtio_blk_request *request = virtio_blk_begin(&demo->blk, VIRTIO_BLK_T_IN, place[slot] * 8);
            struct virtio_buffer data = {.gpa = gpa[slot], .length = 4096, .write = true};
            if (!request || virtio_blk_put(&demo->blk, 0, request, &data, 1, true) < 0) {
                fail(demo, "the queue takes no request");
            }
            request->owner = (void *)(uintptr_t)slot;
            begun[slot] = now();
            started++;
        }
        virtio_queue_kick(demo->driver.queues[0]);
        for (unsigned batch = started - ended; batch; batch--) { /* the whole batch, so that slots are free in order */
            int error;
            struct virtio_blk_request *request = virtio_blk_reap(&demo->blk, 0, 20000, &error);
            unsigned slot = request ? (unsigned)(uintptr_t)request->owner : 0;
            if (!request || virtio_blk_end(&demo->blk, request) != VIRTIO_BLK_S_OK ||
                memcmp(memory[slot], demo->image + place[slot] * 4096, 4096)) {
                fail(demo, "a random read fails (%d)", request ? 0 : error);
            }
            note(demo, begun[slot]);
            demo->verified += 4096;
            ended++;
        }
    }
    printf("guest: %u random reads of 4 KiB, %u in flight, every byte compared\n", RANDOM_READS, DEPTH);
}

static void write_scratch(struct demo *demo, unsigned block_size, unsigned count, char **blocks)
{
    uint8_t *data = malloc(block_size), *back = malloc(block_size);
    for (unsigned i = 0; i < count; i++) {
        uint64_t sector = strtoull(blocks[i], NULL, 10) * (block_size / VIRTIO_BLK_SECTOR);
        for (unsigned b = 0; b < block_size; b++) {
            data[b] = (uint8_t)("written by the guest of ioreqd's demo\n"[b % 38]);
        }
        uint64_t begun = now();
        int status = virtio_blk_write(&demo->blk, sector, data, block_size);
        note(demo, begun);
        status = status ? status : virtio_blk_read(&demo->blk, sector, back, block_size);
        if (status || memcmp(data, back, block_size)) {
            fail(demo, "block %s: status %d or not what was written", blocks[i], status);
        }
        demo->verified += block_size;
    }
    uint64_t begun = now();
    if (virtio_blk_flush(&demo->blk)) {
        fail(demo, "flush fails");
    }
    note(demo, begun);
    free(data);
    free(back);
    printf("guest: wrote the %u blocks of /scratch, read them back, flushed\n", count);
}

static void talk(struct demo *demo)
{
    static const char hello[] = "hello from the guest, through a 16550A\n";
    char heard[sizeof(hello)] = "";
    for (const char *at = hello; *at; at++) {
        while (!(vcpu_inb(demo->guest, 0, UART + 5) & UART_THRE)) {
        }
        vcpu_outb(demo->guest, 0, UART, (uint8_t)*at);
    }
    for (unsigned i = 0; i < 200 && strcmp(heard, hello); i++) {
        FILE *file = fopen(demo->uart_file, "re");
        size_t got = file ? fread(heard, 1, sizeof(hello) - 1, file) : 0;
        heard[got] = 0;
        if (file) {
            fclose(file);
        }
        usleep(10000);
    }
    if (strcmp(heard, hello)) {
        fail(demo, "the UART's file holds \"%s\"", heard);
    }
    demo->verified += sizeof(hello) - 1;
    printf("host:  the UART's file says: %s", heard);
}

static void stop(struct demo *demo)
{
    int status;
    struct mock_domain_info info;
    mock_daemon_signal(demo->daemon, SIGTERM);
    if (mock_daemon_wait(demo->daemon, 20000, &status) || !WIFEXITED(status) || WEXITSTATUS(status)) {
        fail(demo, "ioreqd does not end well");
    }
    if (mock_domain_info(demo->guest, &info) || info.server_mask || info.foreign_pages || mock_panics(demo->mock)) {
        fail(demo, "ioreqd leaves something behind");
    }
    printf("host:  SIGTERM: ioreqd ended with status 0; no ioreq server, no mapping is left\n");
}

/* ---- the table ---- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_table(const struct demo *demo, double seconds)
{
    static const double percentiles[] = {50, 90, 99, 99.9};
    qsort(demo->nanoseconds, demo->requests, sizeof(demo->nanoseconds[0]), by_value);
    printf("\n  %-24s %12u\n", "disk requests", demo->requests);
    for (unsigned i = 0; i < sizeof(percentiles) / sizeof(percentiles[0]); i++) {
        unsigned at = (unsigned)(percentiles[i] / 100 * demo->requests);
        printf("  latency p%-15g %9.1f us\n", percentiles[i],
               (double)demo->nanoseconds[at < demo->requests ? at : demo->requests - 1] / 1000);
    }
    printf("  %-24s %12llu\n  %-24s %11.2f s\n", "bytes verified", (unsigned long long)demo->verified, "time", seconds);
}

int main(int argc, char **argv)
{
    struct demo demo = {0};
    uint64_t begun = now();
    if (argc < 5) {
        fprintf(stderr, "usage: demo_guest IOREQD IMAGE BLOCK_SIZE BLOCK...\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    load_image(&demo, argv[2]);
    demo.nanoseconds = calloc(demo.size / CHUNK + RANDOM_READS + (unsigned)argc + 2, sizeof(*demo.nanoseconds));
    if (!demo.nanoseconds) {
        fail(&demo, "out of memory");
    }
    start(&demo, argv[1], argv[2]);
    find_disk(&demo);
    read_all(&demo);
    read_at_random(&demo);
    write_scratch(&demo, (unsigned)atoi(argv[3]), (unsigned)argc - 4, argv + 4);
    talk(&demo);
    virtio_blk_finish(&demo.blk);
    virtio_close(&demo.driver);
    stop(&demo);
    print_table(&demo, (double)(now() - begun) / 1e9);
    mock_daemon_free(demo.daemon);
    mock_guest_free(demo.guest);
    mock_stop(demo.mock);
    free(demo.image);
    free(demo.nanoseconds);
    return 0;
}
