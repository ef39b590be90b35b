/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory as the daemon holds it: bounded, given up when the guest gives pages away (also under I/O),
 * never trusted where it is not there, bounced for direct I/O, and reached by string operations element by
 * element.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xen/hvm/ioreq.h>

#include "fixture.h"
#include "virtio_blk_driver.h"

#define PAGE 4096u
#define IMAGE (8u << 20)
#define ARENA 0x100000u /* rings and headers */
#define ARENA_SIZE 0x200000u
#define DATA 0x400000u /* the test's own, up to the end of RAM */
#define DATA_END 0x1000000u
#define CONSOLE 0x402
#define DEFER 0x500 /* registers of tests/modules/defer_device.c in ports */

static struct fixture f;
static struct virtio_driver driver;
static struct virtio_blk blk;
static char console[120];

static void start_hvm(void)
{
    fixture_start(&f, MOCK_HVM, 2);
}

static void stop(void)
{
    fixture_stop(&f);
}

static void start_disk(void)
{
    ck_assert_int_eq(virtio_blk_start(&blk, &driver, VIRTIO_BLK_ALL, 1, 64), 0);
}

/* A disk, a debug console into a file, and the deferring device, with this much memory to map. */
static void run(const char *limit, const char *options)
{
    char disk[400], text[200], defer[64];
    snprintf(disk, sizeof(disk), "virtio-blk,addr=5,path=%s%s", fixture_image(&f, "disk.img", IMAGE),
             options);
    snprintf(console, sizeof(console), "%s/console", mock_dir(f.mock));
    snprintf(text, sizeof(text), "debugcon,chardev=file,chardev.path=%s", console);
    snprintf(defer, sizeof(defer), "test-defer,space=pio,base=0x%x,delay=5", DEFER);
    fixture_run(&f, "--module", getenv("MODULE_TEST_DEFER"), "--map-limit", limit, "--device", "pci-host",
                "--device", disk, "--device", text, "--device", defer, NULL);
    ck_assert_int_eq(virtio_pci_open(&driver, f.guest, 0, 5 << 3, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_MSIX,
                                     0xe0000000, virtio_arena_make(f.guest, ARENA, ARENA_SIZE)),
                     0);
    start_disk();
}

static void end(void)
{
    virtio_blk_finish(&blk);
    virtio_close(&driver);
    fixture_terminate(&f);
    fixture_expect_clean(&f);
}

static uint64_t foreign_pages(void)
{
    struct mock_domain_info info;
    ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
    return info.foreign_pages;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct virtio_blk_request *begin(uint32_t type, uint64_t sector, uint64_t gpa, uint32_t length)
{
    struct virtio_blk_request *request = virtio_blk_begin(&blk, type, sector);
    struct virtio_buffer data = {.gpa = gpa, .length = length, .write = type == VIRTIO_BLK_T_IN};
    ck_assert_ptr_nonnull(request);
    ck_assert_int_ge(virtio_blk_put(&blk, 0, request, &data, 1, true), 0);
    virtio_queue_kick(driver.queues[0]);
    return request;
}

static int io(uint32_t type, uint64_t sector, uint64_t gpa, uint32_t length)
{
    struct virtio_buffer data = {.gpa = gpa, .length = length, .write = type == VIRTIO_BLK_T_IN};
    return virtio_blk_io(&blk, 0, type, sector, &data, 1, false);
}

static void expect_data(uint64_t gpa, uint64_t sector, size_t length)
{
    uint8_t *bytes = malloc(length);
    ck_assert_int_eq(mock_guest_read(f.guest, gpa, bytes, length), 0);
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != fixture_pattern(sector * 512 + i)) { /* an assertion for each byte would take long */
            ck_abort_msg("byte %zu of sector %llu at 0x%llx: 0x%x", i, (unsigned long long)sector,
                         (unsigned long long)gpa, bytes[i]);
        }
    }
    free(bytes);
}

static void expect_read(uint64_t sector, uint64_t gpa, uint32_t length)
{
    ck_assert_int_eq(io(VIRTIO_BLK_T_IN, sector, gpa, length), VIRTIO_BLK_S_OK);
    expect_data(gpa, sector, length);
}

/* INVALIDATE from vCPU 1: the page of an address that nothing else uses goes and comes. */
static void invalidate(void)
{
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 1, (DATA_END - PAGE) / PAGE, 1), MOCK_DONE);
    ck_assert_int_eq(mock_populate(f.guest, (DATA_END - PAGE) / PAGE, 1), 0);
}

/* ---- how much is mapped ---- */

START_TEST(bounded)
{
    enum { LIMIT = 64, LENGTH = 128 << 10 }; /* pages; bytes */
    run("256K", "");
    uint64_t most = 0;
    for (unsigned i = 0; i < IMAGE / LENGTH; i++) {
        uint64_t gpa = DATA + (uint64_t)i * 37 * LENGTH % (DATA_END - DATA - LENGTH) +
                       i * 8; /* crossing pages at odd places */
        expect_read(i * (LENGTH / 512), gpa, LENGTH);
        uint64_t pages = foreign_pages();
        most = pages > most ? pages : most;
        ck_assert_msg(pages <= LIMIT, "%llu pages mapped after read %u", (unsigned long long)pages, i);
    }
    ck_assert_uint_gt(most, 16); /* it did keep some */
    /* A batch may need more for its time; then it is given back. */
    for (unsigned i = 0; i < 16; i++) {
        begin(VIRTIO_BLK_T_IN, i * (LENGTH / 512), DATA + i * LENGTH, LENGTH);
    }
    for (unsigned i = 0; i < 16; i++) {
        struct virtio_blk_request *request = virtio_blk_reap(&blk, 0, VIRTIO_TIMEOUT_MS, NULL);
        ck_assert_ptr_nonnull(request);
        ck_assert_uint_eq(virtio_blk_end(&blk, request), VIRTIO_BLK_S_OK);
    }
    for (unsigned i = 0; i < 16; i++) {
        expect_data(DATA + i * LENGTH, i * (LENGTH / 512), LENGTH);
    }
    expect_read(0, DATA, 512); /* a round later nothing of the batch is in use */
    ck_assert_uint_le(foreign_pages(), LIMIT);
    end();
}
END_TEST

/* ---- INVALIDATE ---- */

START_TEST(invalidate_drops_what_is_idle)
{
    run("64M", "");
    for (unsigned i = 0; i < 32; i++) {
        expect_read(i * 8, DATA + i * 64 * PAGE, PAGE);
    }
    ck_assert_uint_ge(foreign_pages(), 32 * 16);
    invalidate();
    ck_assert_uint_eq(foreign_pages(), 0);
    expect_read(8, DATA, PAGE); /* and all comes back: rings, headers, data */
    end();
}
END_TEST

START_TEST(invalidate_under_io)
{
    run("64M", ",block.filter=delay,block.filter.delay=1500,block.filter.when=after");
    struct virtio_blk_request *first = begin(VIRTIO_BLK_T_IN, 16, DATA, PAGE);
    usleep(200000); /* the data has moved, the end is held back */
    uint64_t start = now_ms();
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 1, DATA / PAGE, 1), MOCK_DONE);
    ck_assert_msg(now_ms() - start < 1000, "INVALIDATE waited for the I/O: %llu ms",
                  (unsigned long long)(now_ms() - start));
    ck_assert_uint_eq(*first->status, 0xff);
    uint64_t held = foreign_pages();
    ck_assert_msg(held >= 1 && held <= 16, "%llu pages held for one I/O", (unsigned long long)held);
    ck_assert_int_eq(mock_populate(f.guest, DATA / PAGE, 1), 0);
    struct virtio_blk_request *second = begin(VIRTIO_BLK_T_IN, 80, DATA, PAGE);
    ck_assert_ptr_eq(virtio_blk_reap(&blk, 0, VIRTIO_TIMEOUT_MS, NULL), first);
    ck_assert_uint_eq(virtio_blk_end(&blk, first), VIRTIO_BLK_S_OK);
    ck_assert_ptr_eq(virtio_blk_reap(&blk, 0, VIRTIO_TIMEOUT_MS, NULL), second);
    ck_assert_uint_eq(virtio_blk_end(&blk, second), VIRTIO_BLK_S_OK);
    expect_data(DATA, 80, PAGE);
    invalidate();
    ck_assert_uint_eq(foreign_pages(), 0); /* what was retired is not lost */
    end();
}
END_TEST

/* The old page stays the I/O's own: a write that began before must not pick up the new page's bytes. */
START_TEST(write_keeps_its_page)
{
    uint8_t bytes[PAGE];
    run("64M", ",block.filter=delay,block.filter.delay=700,block.filter.when=before");
    memset(bytes, 0xaa, sizeof(bytes));
    ck_assert_int_eq(mock_guest_write(f.guest, DATA, bytes, PAGE), 0);
    struct virtio_blk_request *request = begin(VIRTIO_BLK_T_OUT, 0, DATA, PAGE);
    usleep(200000);
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 1, DATA / PAGE, 1), MOCK_DONE);
    ck_assert_int_eq(mock_populate(f.guest, DATA / PAGE, 1), 0);
    memset(bytes, 0xbb, sizeof(bytes));
    ck_assert_int_eq(mock_guest_write(f.guest, DATA, bytes, PAGE), 0);
    ck_assert_ptr_eq(virtio_blk_reap(&blk, 0, VIRTIO_TIMEOUT_MS, NULL), request);
    ck_assert_uint_eq(virtio_blk_end(&blk, request), VIRTIO_BLK_S_OK);
    ck_assert_int_eq(virtio_blk_read(&blk, 0, bytes, sizeof(bytes)), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < PAGE; i++) {
        ck_assert_uint_eq(bytes[i], 0xaa);
    }
    end();
}
END_TEST

/* The virtqueue's own pages go: in use or not, that is an error of this device until they are back and it was
 * reset. */
START_TEST(rings_ballooned)
{
    run("64M", "");
    expect_read(0, DATA, PAGE);
    const struct virtio_queue *queue = driver.queues[0];
    uint64_t first = queue->desc_gpa / PAGE, last = (queue->used_gpa + 6 + 8 * 64) / PAGE;
    if (_i) { /* with a chain on its way */
        struct virtio_blk_request *request = virtio_blk_begin(&blk, VIRTIO_BLK_T_IN, 0);
        struct virtio_buffer data = {.gpa = DATA, .length = PAGE, .write = true};
        ck_assert_int_ge(virtio_blk_put(&blk, 0, request, &data, 1, false), 0);
        virtio_queue_publish(driver.queues[0]);
    }
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 1, first, (unsigned)(last - first + 1)), MOCK_DONE);
    driver.transport->notify(driver.queues[0]);
    ck_assert_int_eq(virtio_wait_needs_reset(&driver, VIRTIO_TIMEOUT_MS), 0);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, CONSOLE), 0xe9); /* nobody else minds */
    ck_assert_int_eq(mock_populate(f.guest, first, (unsigned)(last - first + 1)), 0);
    ck_assert_int_eq(virtio_blk_reset(&blk), 0);
    virtio_blk_finish(&blk);
    driver.arena.next = first * PAGE; /* the same places again, new pages */
    start_disk();
    ck_assert_uint_eq(driver.queues[0]->desc_gpa / PAGE, first);
    expect_read(40, DATA, PAGE);
    end();
}
END_TEST

/* ---- pages that are not there ---- */

/* The device may say IOERR, or want a reset; which one, the driver deals with here. */
static void expect_refused(uint32_t type, uint64_t gpa, uint32_t length)
{
    int result = io(type, 8, gpa, length);
    ck_assert_msg(result == VIRTIO_BLK_S_IOERR || result == -EIO,
                  "type %u, 0x%x bytes at 0x%llx: ended with %d", type, length, (unsigned long long)gpa,
                  result);
    ck_assert_uint_eq(vcpu_inb(f.guest, 1, CONSOLE), 0xe9);
    if (result == -EIO) {
        ck_assert_int_eq(virtio_blk_reset(&blk), 0);
        virtio_blk_finish(&blk);
        start_disk();
    }
}

START_TEST(data_in_a_hole)
{
    run("64M", _i ? ",cache=none" : "");
    uint64_t hole = DATA + 20 * PAGE, end_of_ram = DATA_END;
    while (mock_guest_ram(f.guest, end_of_ram, 1)) {
        end_of_ram += PAGE;
    }
    expect_read(0, hole - PAGE, 3 * PAGE);
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 1, hole / PAGE, 1), MOCK_DONE);
    static const uint32_t types[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};
    for (unsigned i = 0; i < 2; i++) {
        expect_refused(types[i], hole, PAGE);
        expect_refused(types[i], hole - 512, 1024);
        expect_refused(types[i], hole + PAGE - 512, 1024);
        expect_refused(types[i], hole - 8 * PAGE, 64 * PAGE);
        expect_refused(types[i], end_of_ram - PAGE, 2 * PAGE);
        expect_refused(types[i], UINT64_MAX - 511, 512);
        expect_refused(types[i], UINT64_C(1) << 52, 512);
    }
    expect_read(0, hole - PAGE, PAGE); /* its neighbours work meanwhile */
    expect_read(0, hole + PAGE, PAGE);
    ck_assert_int_eq(mock_populate(f.guest, hole / PAGE, 1), 0);
    expect_read(24, hole - PAGE, 3 * PAGE); /* nothing told the daemon that it is back */
    end();
}
END_TEST

START_TEST(a_failed_map_is_not_remembered)
{
    run("64M", "");
    expect_read(0, DATA, PAGE);
    mock_fail(f.mock, MOCK_CALL_FOREIGN_PAGE, 1, 17, ENOENT); /* the piece of 16, then the page alone */
    expect_refused(VIRTIO_BLK_T_IN, DATA + 64 * PAGE, PAGE);
    ck_assert(mock_fail_fired(f.mock, MOCK_CALL_FOREIGN_PAGE));
    expect_read(8, DATA + 64 * PAGE, PAGE);
    mock_fail(f.mock, MOCK_CALL_FOREIGN_PAGE, 5, 1, ENOENT); /* one page that nobody asked for */
    expect_read(16, DATA + 128 * PAGE, PAGE);
    ck_assert(mock_fail_fired(f.mock, MOCK_CALL_FOREIGN_PAGE));
    expect_read(24, DATA + 128 * PAGE, 16 * PAGE);
    mock_fail(f.mock, MOCK_CALL_FOREIGN_MAP, 1, 2, ENOMEM);
    expect_refused(VIRTIO_BLK_T_IN, DATA + 192 * PAGE, PAGE);
    expect_read(8, DATA + 192 * PAGE, PAGE);
    invalidate();
    ck_assert_uint_eq(foreign_pages(), 0);
    end();
}
END_TEST

START_TEST(slow_maps)
{
    run("64M", "");
    mock_delay_maps(f.mock, 20);
    expect_read(0, DATA, 64 * PAGE);
    expect_read(100, DATA + 3 * PAGE + 512, 64 * PAGE);
    mock_delay_maps(f.mock, 0);
    end();
}
END_TEST

/* ---- data all over the place ---- */

/* Frames in an order of their own, so that no two neighbours are contiguous for the host. */
static void shuffle_frames(uint64_t gpa, unsigned pages)
{
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 1, gpa / PAGE, pages), MOCK_DONE);
    for (unsigned i = 0; i < pages; i += 2) {
        ck_assert_int_eq(mock_populate(f.guest, gpa / PAGE + pages - 1 - i, 1), 0);
    }
    for (unsigned i = 1; i < pages; i += 2) {
        ck_assert_int_eq(mock_populate(f.guest, gpa / PAGE + pages - 1 - i, 1), 0);
    }
}

START_TEST(scattered_chains)
{
    static const char *const options[] = {"", ",cache=none", ",cache=writethrough", ",cache=unsafe"};
    enum { PIECES = 40, LENGTH = 512 * 3 };
    run(_i % 2 ? "256K" : "64M", options[_i]);
    shuffle_frames(DATA, 200);
    struct virtio_buffer data[PIECES];
    uint8_t bytes[LENGTH];
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < PIECES; i++) {
            /* Most cross a page; none follows the other. */
            data[i] = (struct virtio_buffer){.gpa = DATA + (i * 7 + round) % 199 * PAGE +
                                                    (i * 1111 + round * 13) % PAGE,
                                             .length = LENGTH,
                                             .write = true};
            data[i].gpa =
                i % 5 == 0 && data[i].gpa % PAGE > PAGE - LENGTH ? data[i].gpa / PAGE * PAGE : data[i].gpa;
        }
        ck_assert_int_eq(virtio_blk_io(&blk, 0, VIRTIO_BLK_T_IN, 64 + round, data, PIECES, round % 2),
                         VIRTIO_BLK_S_OK);
        /* Buffers may lie on each other: the last one's bytes are surely its own. */
        expect_data(data[PIECES - 1].gpa, 64 + round + (PIECES - 1) * 3, LENGTH);
    }
    for (unsigned i = 0; i < PIECES; i++) { /* disjoint now */
        data[i] = (struct virtio_buffer){
            .gpa = DATA + i * 3 * PAGE + (i * 97 % PAGE), .length = LENGTH, .write = true};
    }
    ck_assert_int_eq(virtio_blk_io(&blk, 0, VIRTIO_BLK_T_IN, 300, data, PIECES, true), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < PIECES; i++) {
        expect_data(data[i].gpa, 300 + i * 3, LENGTH);
        memset(bytes, (int)i + 1, sizeof(bytes));
        ck_assert_int_eq(mock_guest_write(f.guest, data[i].gpa, bytes, LENGTH), 0);
        data[i].write = false;
    }
    ck_assert_int_eq(virtio_blk_io(&blk, 0, VIRTIO_BLK_T_OUT, 2000, data, PIECES, false), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < PIECES; i++) {
        ck_assert_int_eq(virtio_blk_read(&blk, 2000 + i * 3, bytes, LENGTH), VIRTIO_BLK_S_OK);
        ck_assert(bytes[0] == i + 1 && bytes[LENGTH / 2] == i + 1 && bytes[LENGTH - 1] == i + 1);
    }
    end();
}
END_TEST

/* More in flight than the bounce buffers hold, odd addresses, direct I/O: the mock refuses it straight from
 * the guest. */
START_TEST(direct_io_is_bounced)
{
    enum { LENGTH = 256 << 10, COUNT = 40 };
    run("64M", ",cache=none");
    struct virtio_blk_request *requests[COUNT];
    uint8_t flags[200];
    char path[64];
    bool direct = false;
    for (unsigned fd = 0; fd < 64 && !direct; fd++) { /* the image really is open for direct I/O */
        snprintf(path, sizeof(path), "/proc/%d/fdinfo/%u", (int)mock_daemon_pid(f.daemon), fd);
        FILE *file = fopen(path, "re");
        while (file && fgets((char *)flags, sizeof(flags), file)) {
            unsigned bits;
            direct = direct || (sscanf((char *)flags, "flags: %o", &bits) == 1 && bits & O_DIRECT);
        }
        if (file) {
            fclose(file);
        }
    }
    ck_assert(direct);
    for (unsigned i = 0; i < COUNT; i++) {
        requests[i] = begin(VIRTIO_BLK_T_IN, i * 64, DATA + i * (LENGTH + 24), LENGTH);
        requests[i]->owner = (void *)(uintptr_t)(i + 1);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        struct virtio_blk_request *request = virtio_blk_reap(&blk, 0, VIRTIO_TIMEOUT_MS, NULL);
        ck_assert_ptr_nonnull(request);
        unsigned at = (unsigned)(uintptr_t)request->owner - 1;
        ck_assert_uint_eq(virtio_blk_end(&blk, request), VIRTIO_BLK_S_OK);
        expect_data(DATA + at * (LENGTH + 24), at * 64, LENGTH);
    }
    end();
}
END_TEST

/* ---- string operations ---- */

/* What the console's file holds now, once it has `length` bytes; it is emptied. */
static void expect_console(const uint8_t *bytes, size_t length)
{
    static size_t seen;
    static char of[120];
    uint8_t got[64 << 10];
    if (strcmp(of, console)) {
        seen = 0;
        snprintf(of, sizeof(of), "%s", console);
    }
    ck_assert_uint_le(length, sizeof(got));
    int fd = open(console, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ssize_t count = 0;
    for (unsigned i = 0; i < 1000 && count < (ssize_t)length; i++) {
        count = pread(fd, got, sizeof(got), (off_t)seen);
        usleep(count < (ssize_t)length ? 5000 : 0);
    }
    close(fd);
    ck_assert_int_eq(count, (ssize_t)length);
    seen += length;
    ck_assert_mem_eq(got, bytes, length);
}

static void raw(unsigned size, uint32_t count, uint64_t port, uint64_t data, bool read, bool df)
{
    struct ioreq request = {.type = IOREQ_TYPE_PIO, .size = size, .count = count, .addr = port, .data = data,
                            .data_is_ptr = 1, .dir = read, .df = df};
    ck_assert_int_eq(mock_raw_request(f.guest, 0, 0, &request), 0);
    ck_assert_int_eq(mock_access_wait(f.guest, 0, FIXTURE_TIMEOUT_MS, NULL), MOCK_DONE);
}

static void number_page(uint64_t gpa, unsigned pages)
{
    uint8_t bytes[PAGE];
    for (unsigned page = 0; page < pages; page++) {
        for (unsigned i = 0; i < PAGE; i++) {
            bytes[i] = (uint8_t)(i * 3 + page * 89 + i / 256);
        }
        ck_assert_int_eq(mock_guest_write(f.guest, gpa + page * PAGE, bytes, PAGE), 0);
    }
}

START_TEST(outs_over_page_ends)
{
    run("64M", "");
    uint8_t bytes[3 * PAGE], expected[PAGE];
    shuffle_frames(DATA, 3);
    number_page(DATA, 3);
    ck_assert_int_eq(mock_guest_read(f.guest, DATA, bytes, sizeof(bytes)), 0);
    raw(1, 4000, CONSOLE, DATA + PAGE - 100, false, false);
    expect_console(bytes + PAGE - 100, 4000);
    raw(1, 3000, CONSOLE, DATA + PAGE + 1000, false, true); /* downwards, over the end */
    for (unsigned i = 0; i < 3000; i++) {
        expected[i] = bytes[PAGE + 1000 - i];
    }
    expect_console(expected, 3000);
    /* As an instruction: the emulator's own cuts. */
    ck_assert_int_eq(vcpu_rep_outs(f.guest, 1, CONSOLE, 1, DATA + PAGE - 7, 20, false), MOCK_DONE);
    expect_console(bytes + PAGE - 7, 20);
    ck_assert_int_eq(vcpu_rep_outs(f.guest, 1, CONSOLE, 1, DATA + PAGE + 6, 14, true), MOCK_DONE);
    for (unsigned i = 0; i < 14; i++) {
        expected[i] = bytes[PAGE + 6 - i];
    }
    expect_console(expected, 14);
    end();
}
END_TEST

START_TEST(outs_from_a_hole)
{
    run("64M", "");
    uint8_t bytes[2 * PAGE];
    number_page(DATA, 3);
    ck_assert_int_eq(mock_guest_read(f.guest, DATA, bytes, sizeof(bytes)), 0);
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 1, DATA / PAGE + 1, 1), MOCK_DONE);
    raw(1, 64, CONSOLE, DATA + PAGE - 32, false, false);
    memset(bytes + PAGE, 0xff, 32); /* what is not there reads as ones */
    expect_console(bytes + PAGE - 32, 64);
    raw(1, 16, CONSOLE, UINT64_MAX - 7, false, false); /* and so does what is beyond all addresses */
    memset(bytes, 0xff, 8);
    ck_assert_int_eq(mock_guest_read(f.guest, 0, bytes + 8, 8), 0);
    expect_console(bytes, 16);
    ck_assert_int_eq(mock_populate(f.guest, DATA / PAGE + 1, 1), 0);
    number_page(DATA + PAGE, 1);
    raw(1, 64, CONSOLE, DATA + 2 * PAGE - 64, false, false);
    ck_assert_int_eq(mock_guest_read(f.guest, DATA + 2 * PAGE - 64, bytes, 64), 0);
    expect_console(bytes, 64);
    end();
}
END_TEST

/* Each element is deferred by the device; the data goes to both sides of a page's end, of a hole, up and
 * down. */
START_TEST(ins_from_a_deferring_device)
{
    run("64M", "");
    uint32_t words[8], before = vcpu_inl(f.guest, 1, DEFER + 4);
    shuffle_frames(DATA, 4);
    raw(4, 8, DEFER, DATA + PAGE - 14, true, false); /* one element lies over the end itself */
    ck_assert_int_eq(mock_guest_read(f.guest, DATA + PAGE - 14, words, sizeof(words)), 0);
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_uint_eq(words[i], before + 1 + i);
    }
    raw(4, 8, DEFER, DATA + PAGE + 14, true, true);
    ck_assert_int_eq(mock_guest_read(f.guest, DATA + PAGE + 14 - 28, words, sizeof(words)), 0);
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_uint_eq(words[7 - i], before + 9 + i);
    }
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 1, DATA / PAGE + 2, 1), MOCK_DONE);
    raw(4, 8, DEFER, DATA + 2 * PAGE - 16, true, false);
    ck_assert_int_eq(mock_guest_read(f.guest, DATA + 2 * PAGE - 16, words, 16), 0);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_uint_eq(words[i], before + 17 + i);
    }
    ck_assert_uint_eq(vcpu_inl(f.guest, 1, DEFER + 4),
                      before + 25); /* each element reached the device once */
    /* The page comes and goes between two elements. */
    struct mock_access ins = {
        .space = MOCK_PIO, .read = true, .rep = true, .size = 4, .addr = DEFER, .data = DATA, .count = 40};
    struct fixture_vcpu *vcpu = fixture_access(&f, 0, &ins);
    ck_assert_int_eq(vcpu_decrease_reservation(f.guest, 1, DATA / PAGE, 1), MOCK_DONE);
    ck_assert_int_eq(mock_populate(f.guest, DATA / PAGE, 1), 0);
    ck_assert_int_eq(fixture_join(vcpu, NULL), MOCK_DONE);
    ck_assert_int_eq(mock_guest_read(f.guest, DATA + 39 * 4, words, 4), 0);
    ck_assert_uint_eq(words[0], before + 25 + 40);
    ck_assert_int_eq(mock_guest_read(f.guest, DATA, words, 4), 0);
    ck_assert_uint_eq(words[0], 0); /* the first went with the old page */
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, start_hvm, stop);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, bounded);
    tcase_add_test(tcase, invalidate_drops_what_is_idle);
    tcase_add_test(tcase, invalidate_under_io);
    tcase_add_test(tcase, write_keeps_its_page);
    tcase_add_loop_test(tcase, rings_ballooned, 0, 2);
    tcase_add_loop_test(tcase, data_in_a_hole, 0, 2);
    tcase_add_test(tcase, a_failed_map_is_not_remembered);
    tcase_add_test(tcase, slow_maps);
    tcase_add_loop_test(tcase, scattered_chains, 0, 4);
    tcase_add_test(tcase, direct_io_is_bounced);
    tcase_add_test(tcase, outs_over_page_ends);
    tcase_add_test(tcase, outs_from_a_hole);
    tcase_add_test(tcase, ins_from_a_deferring_device);
    suite_add_tcase(suite, tcase);
    return fixture_main(suite);
}
