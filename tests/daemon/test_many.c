/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many in one daemon: more ranges than one ioreq server holds, forty guests of which some die, one is slow,
 * one waits for ever, and a guest that misbehaves as fast as it can beside one that does not.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xen/hvm/dm_op.h>
#include <xen/hvm/ioreq.h>

#include "fixture.h"
#include "virtio_blk_driver.h"

static struct fixture f;

/* ---- a command line of any length ---- */

struct words {
    char *items[1024];
    unsigned count;
};

__attribute__((format(printf, 2, 3))) static void add(struct words *words, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    ck_assert_uint_lt(words->count, 1023);
    ck_assert_int_gt(vasprintf(&words->items[words->count++], format, arguments), 0);
    va_end(arguments);
}

static void begin_words(struct words *words)
{
    memset(words, 0, sizeof(*words));
    add(words, "%s", getenv("IOREQD"));
    add(words, "--record-dir");
    add(words, "%s", f.records);
    add(words, "--no-xenstore");
    add(words, "--module");
    add(words, "%s", getenv("MODULE_TEST_DEFER"));
}

static struct mock_daemon *spawn(struct words *words)
{
    struct mock_daemon *daemon = mock_spawn_daemon(f.mock, words->items);
    ck_assert_ptr_nonnull(daemon);
    for (unsigned i = 0; i < words->count; i++) {
        free(words->items[i]);
    }
    return daemon;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static unsigned servers(void)
{
    struct mock_domain_info info;
    ck_assert_int_eq(mock_domain_info(f.guest, &info), 0);
    return info.server_mask;
}

static bool record_exists(unsigned id)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/%s.%u", f.records, f.domid, id);
    return access(path, F_OK) == 0;
}

/* ---- many devices ---- */

enum { CONSOLES = 300 };

static uint16_t console_port(unsigned i)
{
    return (uint16_t)(0x1000 + i * 4); /* never neighbours: each is a range of its own */
}

static struct mock_daemon *spawn_consoles(unsigned count)
{
    struct words words;
    begin_words(&words);
    add(&words, "--domain");
    add(&words, "%s", f.domid);
    add(&words, "--type");
    add(&words, "hvm");
    for (unsigned i = 0; i < count; i++) {
        add(&words, "--device");
        add(&words, "debugcon,base=0x%x", console_port(i));
    }
    return spawn(&words);
}

static void run_consoles(void)
{
    f.daemon = spawn_consoles(CONSOLES);
    int result = mock_daemon_wait_log(f.daemon, ": running", FIXTURE_TIMEOUT_MS);
    ck_assert_msg(result == 0, "%s", mock_daemon_log(f.daemon));
}

static void expect_consoles(uint8_t answer)
{
    for (unsigned i = 0; i < CONSOLES; i++) {
        uint8_t value = vcpu_inb(f.guest, i % 2, console_port(i));
        ck_assert_msg(value == answer, "port 0x%x reads 0x%x", console_port(i), value);
        ck_assert_uint_eq(vcpu_inb(f.guest, i % 2, (uint16_t)(console_port(i) + 1)), 0xff);
    }
}

START_TEST(more_ranges_than_a_server_holds)
{
    fixture_start(&f, MOCK_HVM, 2);
    run_consoles();
    ck_assert_uint_eq(servers(), 3);
    expect_consoles(0xe9);
    ck_assert(record_exists(0) && record_exists(1));
    fixture_kill(&f); /* both have their record: a successor takes both over */
    ck_assert_uint_eq(servers(), 3);
    run_consoles();
    fixture_expect_log(f.daemon, "removed ioreq server 0");
    fixture_expect_log(f.daemon, "removed ioreq server 1");
    ck_assert_uint_eq(servers(), 3);
    expect_consoles(0xe9);
    fixture_terminate(&f);
    ck_assert(!record_exists(0) && !record_exists(1));
    fixture_expect_clean(&f);
    expect_consoles(0xff);
    fixture_stop(&f);
}
END_TEST

/* Xen has eight servers a domain. The others' stay as they are; ours that was made goes again. */
START_TEST(no_server_left)
{
    fixture_start(&f, MOCK_HVM, 1);
    for (unsigned i = 0; i < 7; i++) {
        struct mock_range range = {.type = XEN_DMOP_IO_RANGE_PORT, .start = 0x9000 + i * 2, .end = 0x9000 + i * 2};
        struct mock_leftover other = {.enabled = true, .ranges = &range, .nr_ranges = 1};
        ck_assert_int_eq(mock_leave_server(f.guest, &other, NULL), i);
    }
    for (unsigned free_servers = 1; free_servers + 1 > 0; free_servers--) {
        struct mock_daemon *daemon = spawn_consoles(free_servers ? CONSOLES : 1);
        ck_assert_int_gt(fixture_status(daemon), 0);
        fixture_expect_log(daemon, "8 ioreq servers already");
        mock_daemon_free(daemon);
        ck_assert_uint_eq(servers(), free_servers ? 0x7f : 0xff);
        ck_assert(!record_exists(7));
        struct mock_leftover last = {.enabled = true};
        ck_assert_int_eq(mock_leave_server(f.guest, &last, NULL), free_servers ? 7 : -ENOSPC);
    }
    fixture_stop(&f);
}
END_TEST

/* ---- many guests ---- */

enum { GUESTS = 40, WAITING = 1, DISK = 256 << 10, BLOCK = 4096, BLOCKS = DISK / BLOCK, KILLED = 12 };
#define RUN_MS 9000
#define SLOW_MS 8000  /* the slow guest's backend, for each request */
#define STALL_MS 6000 /* no other guest may wait so long */
#define DISK_BASE 0xd0000000u
#define HOLD_PORT 0x500

struct player {
    unsigned number;
    struct mock_guest *guest;
    pthread_t thread;
    struct virtio_driver driver;
    struct virtio_blk blk;
    uint8_t written[BLOCKS]; /* what each block holds */
    atomic_bool killed, stop;
    uint64_t rounds, worst_ms;
    char fault[160];
};

static struct player players[GUESTS];

__attribute__((format(printf, 2, 3))) static void fault(struct player *player, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!player->fault[0] && !player->killed) {
        vsnprintf(player->fault, sizeof(player->fault), format, arguments);
    }
    va_end(arguments);
}

/* One request with the guest's only buffer; false: the guest died, or something is wrong. */
static bool transfer(struct player *player, bool write, unsigned block, uint64_t gpa)
{
    struct virtio_blk_request *request =
        virtio_blk_begin(&player->blk, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, block * (BLOCK / 512));
    struct virtio_buffer data = {.gpa = gpa, .length = BLOCK, .write = !write};
    uint64_t start = now_ms();
    if (!request || virtio_blk_put(&player->blk, 0, request, &data, 1, false) < 0) {
        fault(player, "no room for a request");
        return false;
    }
    virtio_queue_kick(player->driver.queues[0]);
    while (!virtio_blk_reap(&player->blk, 0, 100, NULL)) {
        if (player->killed || now_ms() - start > 60000) {
            fault(player, "a request of %llu ms", (unsigned long long)(now_ms() - start));
            return false;
        }
    }
    uint64_t took = now_ms() - start;
    player->worst_ms = took > player->worst_ms ? took : player->worst_ms;
    uint8_t status = virtio_blk_end(&player->blk, request);
    if (status != VIRTIO_BLK_S_OK) {
        fault(player, "status %u", status);
    }
    return status == VIRTIO_BLK_S_OK;
}

/* Writes and reads blocks of its own disk; what is read must be what this guest wrote last. */
static void *play(void *self)
{
    struct player *player = self;
    uint8_t bytes[BLOCK];
    unsigned seed = player->number * 7919 + 1;
    uint64_t gpa = virtio_arena_take(&player->driver.arena, BLOCK, 512, NULL);
    while (!player->stop && !player->killed) {
        unsigned block = (unsigned)rand_r(&seed) % BLOCKS;
        if (rand_r(&seed) % 2) {
            player->written[block] = (uint8_t)(1 + (player->number * 5 + player->rounds) % 255);
            memset(bytes, player->written[block], sizeof(bytes));
            if (mock_guest_write(player->guest, gpa, bytes, BLOCK) || !transfer(player, true, block, gpa)) {
                break;
            }
        }
        memset(bytes, 0xee, sizeof(bytes));
        if (mock_guest_write(player->guest, gpa, bytes, BLOCK) || !transfer(player, false, block, gpa) ||
            mock_guest_read(player->guest, gpa, bytes, BLOCK)) {
            break;
        }
        for (unsigned i = 0; i < BLOCK; i++) {
            uint8_t expected = player->written[block];
            if (bytes[i] != (expected ? expected : fixture_pattern(block * BLOCK + i))) {
                fault(player, "block %u, byte %u: 0x%x, wrote 0x%x", block, i, bytes[i], expected);
                return NULL;
            }
        }
        player->rounds++;
    }
    return NULL;
}

static void add_player(struct words *words, unsigned number)
{
    struct player *player = &players[number];
    char name[16];
    memset(player, 0, sizeof(*player));
    player->number = number;
    player->guest = mock_domain_new(f.mock, number % 3 ? MOCK_HVM : MOCK_PVH, 2 << 20, 2);
    ck_assert_ptr_nonnull(player->guest);
    snprintf(name, sizeof(name), "disk%u", number);
    add(words, "--domain");
    add(words, "%u", mock_domid(player->guest));
    add(words, "--type");
    add(words, "%s", number % 3 ? "hvm" : "pvh");
    add(words, "--device");
    add(words, "virtio-blk,bus=mmio,base=0x%x,irq=none,path=%s%s", DISK_BASE, fixture_image(&f, name, DISK),
        number == 0 ? ",block.filter=delay,block.filter.delay=8000" : "");
    if (number == WAITING) {
        add(words, "--device");
        add(words, "test-defer,space=pio,base=0x%x,delay=0", HOLD_PORT);
    }
}

static void start_player(struct player *player)
{
    struct virtio_arena arena = virtio_arena_make(player->guest, 0x10000, 0x80000);
    ck_assert_int_eq(virtio_mmio_open(&player->driver, player->guest, 0, DISK_BASE, VIRTIO_ID_BLOCK_DEVICE,
                                      VIRTIO_POLL, 0, arena), 0);
    ck_assert_int_eq(virtio_blk_start(&player->blk, &player->driver, VIRTIO_BLK_FEATURES, 1, 16), 0);
    ck_assert_int_eq(pthread_create(&player->thread, NULL, play, player), 0);
}

static void start_players(void)
{
    struct words words;
    begin_words(&words);
    for (unsigned i = 0; i < GUESTS; i++) {
        add_player(&words, i);
    }
    f.daemon = spawn(&words);
    for (unsigned i = 0; i < GUESTS; i++) {
        int result = mock_daemon_wait_log(f.daemon, ": running", FIXTURE_TIMEOUT_MS);
        ck_assert_msg(result == 0, "%u guests run\n%s", i, mock_daemon_log(f.daemon));
    }
    struct mock_access hold = {.space = MOCK_PIO, .read = true, .size = 4, .addr = HOLD_PORT};
    ck_assert_int_eq(mock_access_start(players[WAITING].guest, 1, &hold), 0);
    for (unsigned i = 0; i < GUESTS; i++) {
        start_player(&players[i]);
    }
}

/* Over the whole run, ordinary guests die one after the other; each must be gone soon, mapped by nobody. */
static void kill_some(void)
{
    struct mock_domain_info info;
    unsigned seed = 4711;
    uint64_t end = now_ms() + RUN_MS;
    for (unsigned i = 0; i < KILLED; i++) {
        struct player *player;
        do {
            player = &players[2 + (unsigned)rand_r(&seed) % (GUESTS - 2)];
        } while (player->killed);
        usleep(1000 * (RUN_MS / KILLED / 2 + (unsigned)rand_r(&seed) % (RUN_MS / KILLED / 2)));
        player->killed = true;
        ck_assert_int_eq(mock_domain_kill(player->guest), 0);
        uint64_t start = now_ms();
        do {
            ck_assert_int_eq(mock_domain_info(player->guest, &info), 0);
            ck_assert_msg(now_ms() - start < STALL_MS, "guest %u stays a zombie: %llu foreign pages", player->number,
                          (unsigned long long)info.foreign_pages);
            usleep(info.exists ? 10000 : 0);
        } while (info.exists);
    }
    while (now_ms() < end) {
        usleep(20000);
    }
}

static void end_players(void)
{
    for (unsigned i = 0; i < GUESTS; i++) {
        players[i].stop = true;
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        struct player *player = &players[i];
        ck_assert_int_eq(pthread_join(player->thread, NULL), 0);
        ck_assert_msg(!player->fault[0], "guest %u: %s\n%s", i, player->fault, mock_daemon_log(f.daemon));
        ck_assert_msg(player->killed || i == 0 || player->rounds >= 10, "guest %u: %llu rounds", i,
                      (unsigned long long)player->rounds);
        ck_assert_msg(i == 0 || player->worst_ms < STALL_MS, "guest %u waited %llu ms", i,
                      (unsigned long long)player->worst_ms);
    }
    ck_assert_uint_ge(players[0].worst_ms, SLOW_MS - 100);
}

START_TEST(forty_guests)
{
    fixture_start(&f, MOCK_HVM, 1);
    start_players();
    ck_assert_int_eq(mock_access_wait(players[WAITING].guest, 1, 100, NULL), MOCK_BLOCKED);
    kill_some();
    ck_assert_int_eq(mock_access_wait(players[WAITING].guest, 1, 100, NULL), MOCK_BLOCKED);
    end_players();
    mock_daemon_signal(f.daemon, SIGTERM);
    ck_assert_int_eq(mock_access_wait(players[WAITING].guest, 1, FIXTURE_TIMEOUT_MS, NULL), MOCK_DONE);
    ck_assert_int_eq(fixture_status(f.daemon), 0);
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    for (unsigned i = 0; i < GUESTS; i++) {
        struct mock_domain_info info;
        ck_assert_int_eq(mock_domain_info(players[i].guest, &info), 0);
        ck_assert(info.exists == !players[i].killed);
        ck_assert_uint_eq(info.server_mask, 0);
        ck_assert_uint_eq(info.bound_ports, 0);
        ck_assert_uint_eq(info.foreign_pages + info.resource_pages + info.grant_pages, 0);
        virtio_blk_finish(&players[i].blk);
        virtio_close(&players[i].driver);
        mock_guest_free(players[i].guest);
    }
    fixture_stop(&f);
}
END_TEST

/* ---- one that misbehaves ---- */

struct hammer {
    struct mock_guest *guest;
    unsigned vcpu;
    atomic_bool stop;
    uint64_t requests, unfinished;
};

static void fill_request(struct ioreq *request, unsigned *seed)
{
    static const uint64_t places[] = {DISK_BASE, DISK_BASE + 0x50, 0x402, 0x3f8, 0xcf8, 0xfffe,
                                      UINT64_MAX - 3, 0x10000};
    memset(request, 0, sizeof(*request));
    request->type = (uint8_t)rand_r(seed) % 12;
    if (request->type == IOREQ_TYPE_INVALIDATE || rand_r(seed) % 2) {
        request->type = rand_r(seed) % 2 ? IOREQ_TYPE_PIO : IOREQ_TYPE_COPY;
    }
    request->size = rand_r(seed) % 3 ? 1u << (rand_r(seed) % 4) : (uint32_t)rand_r(seed);
    request->count = rand_r(seed) % 4 ? 1 : (uint32_t)rand_r(seed) % 1000;
    request->addr = places[(unsigned)rand_r(seed) % 8] + (unsigned)rand_r(seed) % 8;
    request->data = (uint64_t)rand_r(seed) << (rand_r(seed) % 40);
    request->data_is_ptr = rand_r(seed) % 4 == 0;
    request->dir = rand_r(seed) % 2;
    request->df = rand_r(seed) % 2;
}

static void *hammer(void *self)
{
    struct hammer *hammer = self;
    unsigned seed = hammer->vcpu + 99;
    while (!hammer->stop) {
        struct ioreq request;
        fill_request(&request, &seed);
        if (mock_raw_request(hammer->guest, hammer->vcpu, 0, &request) == 0) {
            hammer->unfinished += mock_access_wait(hammer->guest, hammer->vcpu, FIXTURE_TIMEOUT_MS, NULL) != MOCK_DONE;
            hammer->requests++;
        }
    }
    return NULL;
}

static unsigned count_lines(const char *text)
{
    unsigned lines = 0;
    for (; *text; text++) {
        lines += *text == '\n';
    }
    return lines;
}

START_TEST(a_guest_that_misbehaves)
{
    enum { HAMMERS = 3, SECONDS = 4 };
    struct words words;
    struct hammer hammers[HAMMERS];
    fixture_start(&f, MOCK_HVM, HAMMERS);
    struct mock_guest *good = mock_domain_new(f.mock, MOCK_HVM, 2 << 20, 1);
    begin_words(&words);
    for (unsigned i = 0; i < 2; i++) {
        add(&words, "--domain");
        add(&words, "%u", mock_domid(i ? good : f.guest));
        add(&words, "--type");
        add(&words, "hvm");
        add(&words, "--device");
        add(&words, "debugcon");
        add(&words, "--device");
        add(&words, "uart16550");
        add(&words, "--device");
        add(&words, "virtio-blk,bus=mmio,base=0x%x,irq=none,path=%s", DISK_BASE,
            fixture_image(&f, i ? "1" : "0", DISK));
    }
    f.daemon = spawn(&words);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(mock_daemon_wait_log(f.daemon, ": running", FIXTURE_TIMEOUT_MS), 0);
    }
    unsigned lines = count_lines(mock_daemon_log(f.daemon));
    pthread_t threads[HAMMERS];
    for (unsigned i = 0; i < HAMMERS; i++) {
        hammers[i] = (struct hammer){.guest = f.guest, .vcpu = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &hammers[i]), 0);
    }
    uint64_t end = now_ms() + SECONDS * 1000, worst = 0, rounds = 0;
    while (now_ms() < end) {
        uint64_t start = now_ms();
        ck_assert_uint_eq(vcpu_inb(good, 0, 0x402), 0xe9);
        ck_assert_uint_eq(vcpu_mmio_read(good, 0, DISK_BASE, 4), 0x74726976);
        worst = now_ms() - start > worst ? now_ms() - start : worst;
        rounds++;
    }
    uint64_t requests = 0;
    for (unsigned i = 0; i < HAMMERS; i++) {
        hammers[i].stop = true;
        pthread_join(threads[i], NULL);
        ck_assert_uint_eq(hammers[i].unfinished, 0);
        requests += hammers[i].requests;
    }
    ck_assert_uint_gt(requests, 100);
    ck_assert_uint_gt(rounds, 20);
    ck_assert_msg(worst < 2000, "the other guest waited %llu ms", (unsigned long long)worst);
    lines = count_lines(mock_daemon_log(f.daemon)) - lines;
    ck_assert_msg(lines <= 3 * (SECONDS + 4), "%u lines in the log for %llu requests:\n%s", lines,
                  (unsigned long long)requests, mock_daemon_log(f.daemon));
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, 0x402), 0xe9); /* and it is served itself again */
    fixture_terminate(&f);
    mock_guest_free(good);
    fixture_stop(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("many");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 200);
    tcase_add_test(tcase, more_ranges_than_a_server_holds);
    tcase_add_test(tcase, no_server_left);
    tcase_add_test(tcase, forty_guests);
    tcase_add_test(tcase, a_guest_that_misbehaves);
    suite_add_tcase(suite, tcase);
    return fixture_main(suite);
}
