/* SPDX-License-Identifier: BSD-2-Clause */
/* The split ring under a lively driver: odd segments, every feature, full and wrapping rings, many queues,
 * reset under load. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk_hand.h"

static struct rig rig;
static uint8_t shadow[RIG_IMAGE_SIZE]; /* what the disk must hold */

static void shadow_begin(void)
{
    for (uint64_t i = 0; i < RIG_IMAGE_SIZE; i++) {
        shadow[i] = fixture_pattern(i);
    }
}

/* One assertion for all the bytes: Check writes a file at each. */
static void expect_same(const uint8_t *found, const uint8_t *expected, size_t length, const char *what)
{
    for (size_t i = 0; i < length; i++) {
        if (found[i] != expected[i]) {
            ck_abort_msg("%s: %s: byte %zu is 0x%x; expected 0x%x", rig_place_name(rig.place), what, i,
                         found[i], expected[i]);
        }
    }
}

static void shadow_compare_image(void)
{
    static uint8_t image[RIG_IMAGE_SIZE];
    rig_read_image(&rig, 0, image, sizeof(image));
    expect_same(image, shadow, sizeof(image), "the image");
}

/* ---- odd segments ---- */

#define SPREAD 65536u /* guest memory from which segments are cut: 32 KiB of data and the gaps */

/* Cuts `length` bytes into segments of odd sizes at odd places of [gpa, gpa + SPREAD); none overlap. */
static unsigned cut(uint64_t gpa, uint32_t length, bool write, struct virtio_buffer *buffers, unsigned max)
{
    uint32_t at = (uint32_t)rand() % 64;
    unsigned count = 0;
    while (length > 0) {
        uint32_t piece = count + 1 == max ? length : 1 + (uint32_t)rand() % 1500;
        piece = piece < length ? piece : length;
        buffers[count++] = (struct virtio_buffer){.gpa = gpa + at, .length = piece, .write = write};
        at += piece + (uint32_t)rand() % 40;
        length -= piece;
    }
    ck_assert_uint_le(at, SPREAD + 40);
    return count;
}

static void copy_segments(const struct virtio_buffer *buffers, unsigned count, uint8_t *bytes, bool to_guest)
{
    for (unsigned i = 0; i < count; i++) {
        uint8_t *memory = mock_guest_ram(rig.f.guest, buffers[i].gpa, buffers[i].length);
        ck_assert_ptr_nonnull(memory);
        memcpy(to_guest ? memory : bytes, to_guest ? bytes : memory, buffers[i].length);
        bytes += buffers[i].length;
    }
}

struct odd {
    uint64_t head_gpa, data_gpa, status_gpa;
    struct virtio_blk_outhdr *head;
    uint8_t *status;
};

/* Header in two or three pieces; the status in a buffer of its own, or (read) at the end of the last data
 * segment. */
static unsigned build(const struct odd *odd, bool read, uint32_t length, unsigned segments,
                      struct virtio_buffer *chain, unsigned *first_data, unsigned *data_count)
{
    uint32_t split = 1 + (uint32_t)rand() % 15;
    chain[0] = (struct virtio_buffer){.gpa = odd->head_gpa, .length = split};
    chain[1] = (struct virtio_buffer){.gpa = odd->head_gpa + split, .length = 16 - split};
    *first_data = 2;
    *data_count = cut(odd->data_gpa, length, read, chain + 2, segments);
    unsigned count = 2 + *data_count;
    chain[count++] = (struct virtio_buffer){.gpa = odd->status_gpa, .length = 1, .write = true};
    return count;
}

static void odd_request(const struct odd *odd, bool read, bool indirect, unsigned segments)
{
    struct virtio_buffer chain[80];
    static uint8_t bytes[64 * 512], back[64 * 512];
    uint32_t sectors = 1 + (uint32_t)rand() % 64;
    uint64_t sector = (uint64_t)rand() % (RIG_SECTORS - sectors);
    uint32_t length = sectors * 512, written;
    unsigned first, count;
    unsigned total = build(odd, read, length, segments, chain, &first, &count);
    *odd->head =
        (struct virtio_blk_outhdr){.type = read ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, .sector = sector};
    *odd->status = 0xff;
    for (uint32_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)rand();
    }
    copy_segments(chain + first, count, bytes, true);
    struct virtio_queue *queue = rig.driver.queues[0];
    ck_assert_int_ge(virtio_queue_put(queue, chain, total, indirect, chain), 0);
    virtio_queue_kick(queue);
    ck_assert_int_eq(virtio_queue_wait(queue, VIRTIO_TIMEOUT_MS), 0);
    ck_assert_ptr_eq(virtio_queue_take(queue, &written), chain);
    ck_assert_uint_eq(*odd->status, VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(written, read ? length + 1 : 1);
    if (read) {
        copy_segments(chain + first, count, back, false);
        ck_assert_mem_eq(back, shadow + sector * 512, length);
    } else {
        memcpy(shadow + sector * 512, bytes, length);
    }
}

START_TEST(odd_segments)
{
    struct odd odd;
    rig_start(&rig, (enum rig_place)_i, "");
    shadow_begin();
    srand(7 + (unsigned)_i);
    odd.head_gpa = rig_memory(&rig, 16, &odd.head);
    odd.status_gpa = rig_memory(&rig, 1, &odd.status);
    odd.data_gpa = rig_memory(&rig, SPREAD + 4096, NULL);
    for (unsigned i = 0; i < 300; i++) {
        bool indirect = rand() % 2;
        odd_request(&odd, rand() % 2, indirect, 1 + (unsigned)rand() % 60);
    }
    ck_assert_int_eq(virtio_blk_flush(&rig.blk), VIRTIO_BLK_S_OK);
    shadow_compare_image();
    rig_stop(&rig);
}
END_TEST

/* A read whose status byte is the last byte of its only writable buffer (2.7.4.1: framing is the driver's
 * own affair). */
START_TEST(status_at_the_end_of_the_data)
{
    uint8_t *memory;
    struct virtio_blk_outhdr *head;
    uint32_t written;
    rig_start(&rig, (enum rig_place)_i, "");
    struct virtio_buffer chain[2] = {{.gpa = rig_memory(&rig, 16, &head), .length = 16},
                                     {.gpa = rig_memory(&rig, 1025, &memory), .length = 1025, .write = true}};
    *head = (struct virtio_blk_outhdr){.type = VIRTIO_BLK_T_IN, .sector = 9};
    memory[1024] = 0xff;
    ck_assert_int_ge(virtio_queue_put(rig.driver.queues[0], chain, 2, false, chain), 0);
    virtio_queue_kick(rig.driver.queues[0]);
    ck_assert_int_eq(virtio_queue_wait(rig.driver.queues[0], VIRTIO_TIMEOUT_MS), 0);
    ck_assert_ptr_eq(virtio_queue_take(rig.driver.queues[0], &written), chain);
    ck_assert_uint_eq(memory[1024], VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(written, 1025);
    shadow_begin();
    expect_same(memory, shadow + 9 * 512, 1024, "the read");
    rig_stop(&rig);
}
END_TEST

START_TEST(a_long_request)
{
    const uint32_t length = 3 << 20;
    uint8_t *memory;
    rig_start(&rig, (enum rig_place)_i, "");
    struct virtio_buffer data = {
        .gpa = rig_memory(&rig, length + 16, &memory) + 3, .length = length, .write = true};
    ck_assert_int_eq(virtio_blk_io(&rig.blk, 0, VIRTIO_BLK_T_IN, 11, &data, 1, false), VIRTIO_BLK_S_OK);
    shadow_begin();
    expect_same(memory + 3, shadow + 11 * 512, length, "the read");
    ck_assert_uint_eq(memory[2] | memory[3 + length], 0);
    data.write = false;
    ck_assert_int_eq(virtio_blk_io(&rig.blk, 0, VIRTIO_BLK_T_OUT, 12, &data, 1, false), VIRTIO_BLK_S_OK);
    uint8_t *image = malloc(length);
    rig_read_image(&rig, 12 * 512, image, length);
    ck_assert_mem_eq(image, memory + 3, length);
    free(image);
    rig_stop(&rig);
}
END_TEST

/* ---- many requests ---- */

struct slot {
    struct virtio_blk_request *request;
    uint64_t sector;
    uint32_t length;
    bool read;
    uint64_t gpa;
    uint8_t *memory;
};

/* Load of one queue: requests in flight never touch the same sectors, for each slot has its own stretch of
 * the disk. */
struct load {
    struct virtio_blk *blk;
    unsigned queue, depth, total, seed;
    uint64_t first, stretch; /* sectors: of slot i from first + i * stretch */
    bool indirect;
    struct slot slots[128];
    const char *failed;
};

static bool load_begin_one(struct load *load, struct slot *slot)
{
    uint32_t sectors = 1 + (uint32_t)rand_r(&load->seed) % 8;
    unsigned index = (unsigned)(slot - load->slots);
    slot->length = sectors * 512;
    slot->sector =
        load->first + index * load->stretch + (uint32_t)rand_r(&load->seed) % (load->stretch - sectors);
    slot->read = rand_r(&load->seed) % 2;
    slot->request =
        virtio_blk_begin(load->blk, slot->read ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, slot->sector);
    if (!slot->request) {
        return false;
    }
    slot->request->owner = slot;
    for (uint32_t i = 0; i < slot->length; i++) {
        slot->memory[i] = slot->read ? 0xa5 : (uint8_t)rand_r(&load->seed);
    }
    if (!slot->read) {
        memcpy(shadow + slot->sector * 512, slot->memory, slot->length);
    }
    struct virtio_buffer data = {.gpa = slot->gpa, .length = slot->length, .write = slot->read};
    return virtio_blk_put(load->blk, load->queue, slot->request, &data, 1, load->indirect) == 0;
}

static const char *load_end_one(struct load *load, struct virtio_blk_request *request)
{
    struct slot *slot = request->owner;
    uint32_t written = request->written;
    if (virtio_blk_end(load->blk, request) != VIRTIO_BLK_S_OK) {
        return "a request failed";
    }
    if (written != (slot->read ? slot->length + 1 : 1)) {
        return "a used length is wrong";
    }
    if (slot->read && memcmp(slot->memory, shadow + slot->sector * 512, slot->length) != 0) {
        return "a read brought wrong data";
    }
    slot->request = NULL;
    return NULL;
}

static const char *load_run(struct load *load)
{
    struct virtio_queue *queue = load->blk->driver->queues[load->queue];
    unsigned begun = 0, ended = 0;
    int error;
    while (ended < load->total) {
        for (unsigned i = 0; i < load->depth && begun < load->total; i++) {
            if (!load->slots[i].request) {
                if (!load_begin_one(load, &load->slots[i])) {
                    return "a request does not fit into the ring";
                }
                begun++;
            }
        }
        virtio_queue_kick(queue);
        struct virtio_blk_request *request =
            virtio_blk_reap(load->blk, load->queue, VIRTIO_TIMEOUT_MS, &error);
        if (!request) {
            static __thread char text[80];
            snprintf(text, sizeof(text), "no completion after %u of %u: %s", ended, load->total,
                     strerror(-error));
            return text;
        }
        while (request) {
            const char *why = load_end_one(load, request);
            if (why) {
                return why;
            }
            ended++;
            uint32_t written;
            request = virtio_queue_take(queue, &written);
            if (request) {
                request->written = written;
            }
        }
    }
    return NULL;
}

static void load_prepare(struct load *load, unsigned queue, unsigned depth, unsigned total, bool indirect)
{
    *load =
        (struct load){.blk = &rig.blk, .queue = queue, .depth = depth, .total = total, .seed = 99 + queue};
    load->indirect = indirect;
    load->stretch = 64;
    load->first = (uint64_t)queue * depth * load->stretch;
    ck_assert_uint_le(load->first + depth * load->stretch, RIG_SECTORS);
    for (unsigned i = 0; i < depth; i++) {
        load->slots[i].gpa = rig_memory(&rig, 4096 + 64, &load->slots[i].memory);
    }
}

static void run_load(unsigned depth, unsigned total, bool indirect)
{
    struct load *load = calloc(1, sizeof(*load));
    load_prepare(load, 0, depth, total, indirect);
    const char *why = load_run(load);
    ck_assert_msg(!why, "%s: %s", rig_place_name(rig.place), why);
    free(load);
}

START_TEST(every_combination_of_ring_features)
{
    rig_open(&rig, (enum rig_place)_i, "");
    shadow_begin();
    for (unsigned i = 0; i < 4; i++) {
        uint64_t features = VIRTIO_BLK_FEATURES | (i & 1 ? VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) : 0) |
                            (i & 2 ? VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX) : 0);
        rig_start_disk(&rig, features, 1, 0);
        run_load(16, 1000, i & 1);
        virtio_blk_finish(&rig.blk);
    }
    shadow_compare_image();
    rig_stop(&rig);
}
END_TEST

/* Rings of the smallest sizes, always full: three descriptors a request. */
START_TEST(small_rings)
{
    rig_open(&rig, (enum rig_place)_i, "");
    shadow_begin();
    for (unsigned size = 4; size <= 32; size *= 2) {
        rig_start_disk(&rig, VIRTIO_BLK_ALL, 1, size);
        run_load(size / 3, 300, false);
        run_load(size, 300, true);
        virtio_blk_finish(&rig.blk);
    }
    rig_stop(&rig);
}
END_TEST

/* More than 65536 chains: every index wraps. */
START_TEST(indices_wrap)
{
    rig_start(&rig, (enum rig_place)_i, "");
    shadow_begin();
    run_load(32, 66000, true);
    ck_assert_uint_lt(rig.driver.queues[0]->notifications, 66000 / 2); /* event idx saves most of them */
    rig_stop(&rig);
}
END_TEST

static void *run_thread(void *argument)
{
    struct load *load = argument;
    load->failed = load_run(load);
    return NULL;
}

/* Two vCPUs drive a queue each, from two threads with requests of their own. */
START_TEST(queues_of_two_vcpus)
{
    pthread_t threads[2];
    struct load *loads = calloc(2, sizeof(*loads));
    struct virtio_blk second;
    rig_open(&rig, (enum rig_place)_i, ",queues=2");
    shadow_begin();
    rig_start_disk(&rig, VIRTIO_BLK_ALL, 2, 0);
    ck_assert_uint_eq(rig.blk.queues, 2);
    rig.driver.queues[1]->vcpu = 1;
    load_prepare(&loads[0], 0, 16, 3000, false);
    load_prepare(&loads[1], 1, 16, 3000, false);
    /* Requests are made from guest memory beforehand, for the arena is not shared between threads. */
    second = rig.blk;
    second.made = second.spare = NULL;
    loads[1].blk = &second;
    for (unsigned i = 0; i < 2; i++) {
        struct virtio_blk_request *made[20];
        for (unsigned j = 0; j < 20; j++) {
            made[j] = virtio_blk_begin(loads[i].blk, 0, 0);
        }
        for (unsigned j = 0; j < 20; j++) {
            virtio_blk_end(loads[i].blk, made[j]);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_thread, &loads[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_msg(!loads[i].failed, "%s: queue %u: %s", rig_place_name(rig.place), i, loads[i].failed);
    }
    shadow_compare_image();
    virtio_blk_finish(&second);
    free(loads);
    rig_stop(&rig);
}
END_TEST

/* ---- who hears of what ---- */

/* One flush, looked for in the used ring; then the interrupts that came for it. */
static unsigned interrupts_of_a_flush(void)
{
    struct virtio_queue *queue = rig.driver.queues[0];
    struct virtio_blk_request *request = virtio_blk_begin(&rig.blk, VIRTIO_BLK_T_FLUSH, 0);
    uint32_t data = rig.driver.msi_data + queue->vector;
    uint64_t before = mock_msi_count(rig.f.guest, VIRTIO_MSI_ADDRESS, data);
    ck_assert_int_eq(virtio_blk_put(&rig.blk, 0, request, NULL, 0, false), 0);
    virtio_queue_kick(queue);
    void *done = NULL;
    for (unsigned i = 0; !done && i < 5000; i++) {
        done = virtio_queue_take(queue, NULL);
        rest_ms(!done);
    }
    ck_assert_ptr_eq(done, request);
    ck_assert_uint_eq(virtio_blk_end(&rig.blk, request), VIRTIO_BLK_S_OK);
    rest_ms(20);
    return (unsigned)(mock_msi_count(rig.f.guest, VIRTIO_MSI_ADDRESS, data) - before);
}

/* 2.7.7.2: with event idx exactly when the index passes used_event, without it unless the flag says no. */
START_TEST(interrupts_only_as_wanted)
{
    rig_start(&rig, (enum rig_place)_i, "");
    struct virtio_queue *queue = rig.driver.queues[0];
    ck_assert(virtio_has(&rig.driver, VIRTIO_RING_F_EVENT_IDX));
    uint16_t *used_event = &queue->avail->ring[queue->size];
    for (unsigned i = 0; i < 5; i++) {
        *used_event = queue->next_used;
        ck_assert_uint_eq(interrupts_of_a_flush(), 1);
        *used_event = (uint16_t)(queue->next_used - 1);
        ck_assert_uint_eq(interrupts_of_a_flush(), 0);
        *used_event = (uint16_t)(queue->next_used + 2); /* the third from now */
        ck_assert_uint_eq(interrupts_of_a_flush(), 0);
        ck_assert_uint_eq(interrupts_of_a_flush(), 0);
        ck_assert_uint_eq(interrupts_of_a_flush(), 1);
        queue->avail->flags = VRING_AVAIL_F_NO_INTERRUPT; /* means nothing with event idx */
    }
    virtio_blk_finish(&rig.blk);
    rig_start_disk(&rig, VIRTIO_BLK_FEATURES, 1, 0);
    queue = rig.driver.queues[0];
    ck_assert_uint_eq(interrupts_of_a_flush(), 1);
    queue->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
    ck_assert_uint_eq(interrupts_of_a_flush(), 0);
    queue->avail->flags = 0;
    ck_assert_uint_eq(interrupts_of_a_flush(), 1);
    rig_stop(&rig);
}
END_TEST

/* ---- reset under load ---- */

/* Reads are under way into guest memory when the driver resets: once the reset has ended, not a byte may
 * change. */
static void reset_under_load(unsigned round)
{
    enum { REQUESTS = 24 };
    uint8_t *memory, *copy;
    const size_t length = REQUESTS * 4096;
    uint64_t gpa = rig_memory(&rig, length, &memory);
    for (unsigned i = 0; i < REQUESTS; i++) {
        struct virtio_blk_request *request = virtio_blk_begin(&rig.blk, VIRTIO_BLK_T_IN, i * 8);
        struct virtio_buffer data = {.gpa = gpa + i * 4096, .length = 4096, .write = true};
        ck_assert_int_eq(virtio_blk_put(&rig.blk, 0, request, &data, 1, true), 0);
    }
    memset(memory, 0x5a, length);
    virtio_queue_kick(rig.driver.queues[0]);
    rest_ms(round * 3);
    const void *used = rig.driver.queues[0]->used;
    uint16_t used_before, used_after;
    rig.driver.transport->set_status(&rig.driver, 0);
    if (rig_is_pci(rig.place)) {
        while (virtio_status(&rig.driver)) { /* 2.4.2: a driver must wait; over virtio-mmio Linux does not */
        }
    }
    memcpy(&used_before, (const uint8_t *)used + 2, 2);
    copy = malloc(length);
    memset(memory, 0xc3, length); /* the driver has its memory back and uses it for something else */
    rest_ms(100);
    memcpy(&used_after, (const uint8_t *)used + 2, 2);
    ck_assert_uint_eq(used_before, used_after);
    memset(copy, 0xc3, length);
    expect_same(memory, copy, length, "memory after the reset");
    free(copy);
}

START_TEST(reset_with_io_in_flight)
{
    rig_start(&rig, (enum rig_place)_i, ",block.filter=delay,block.filter.delay=40");
    for (unsigned round = 0; round < 4; round++) {
        reset_under_load(round);
        ck_assert_int_eq(virtio_reset(&rig.driver), 0);
        rig_restart(&rig);
        rig_expect_disk_works(&rig.blk);
    }
    rig_stop(&rig);
}
END_TEST

/* What is in flight ends as usual before the daemon does. */
START_TEST(sigterm_with_io_in_flight)
{
    rig_start(&rig, (enum rig_place)_i, ",block.filter=delay,block.filter.delay=60");
    struct virtio_blk_request *request = virtio_blk_begin(&rig.blk, VIRTIO_BLK_T_IN, 3);
    uint8_t *memory;
    struct virtio_buffer data = {.gpa = rig_memory(&rig, 512, &memory), .length = 512, .write = true};
    ck_assert_int_eq(virtio_blk_put(&rig.blk, 0, request, &data, 1, false), 0);
    virtio_queue_kick(rig.driver.queues[0]);
    fixture_terminate(&rig.f); /* finishes what is in flight */
    ck_assert_uint_eq(*request->status, VIRTIO_BLK_S_OK);
    shadow_begin();
    expect_same(memory, shadow + 3 * 512, 512, "the read");
    virtio_blk_finish(&rig.blk);
    virtio_close(&rig.driver);
    fixture_stop(&rig.f);
}
END_TEST

/* Each test is a case of its own, so that CK_RUN_CASE=name runs it alone. From place `from` to before
 * `to`. */
#define ADD(test, from, to)                                                                                  \
    do {                                                                                                     \
        TCase *tests = tcase_create(#test);                                                                  \
        tcase_set_timeout(tests, 180);                                                                       \
        tcase_add_loop_test(tests, test, from, to);                                                          \
        suite_add_tcase(suite, tests);                                                                       \
    } while (0)

int main(void)
{
    Suite *suite = suite_create("virtio-rings");
    ADD(odd_segments, 0, PLACES);
    ADD(status_at_the_end_of_the_data, PLACE_MMIO_ARM, PLACE_PCI_MSIX_HVM + 1);
    ADD(a_long_request, PLACE_MMIO_ARM, PLACE_PCI_MSIX_HVM + 1);
    ADD(every_combination_of_ring_features, 0, PLACES);
    ADD(small_rings, PLACE_MMIO_ARM, PLACE_PCI_MSIX_HVM + 1);
    ADD(indices_wrap, PLACE_PCI_MSIX_HVM, PLACE_PCI_MSIX_HVM + 1);
    ADD(queues_of_two_vcpus, PLACE_PCI_MSIX_HVM, PLACE_PCI_MSIX_HVM + 1);
    ADD(interrupts_only_as_wanted, PLACE_PCI_MSIX_HVM, PLACE_PCI_MSIX_HVM + 1);
    ADD(reset_with_io_in_flight, 0, PLACES);
    ADD(sigterm_with_io_in_flight, 0, PLACES);
    return fixture_main(suite);
}
