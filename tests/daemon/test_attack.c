/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Quarantine, with the real daemon: a guest that asks nonsense as fast as it can beside one that works. What
 * the first asks is answered late, but in full and rightly; by the daemon's own account it costs the loop
 * hardly more than 1 %.
 */
#include <check.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "fixture.h"
#include "virtio_blk_driver.h"

/* tests/modules/defer_device.c: registers of 4 bytes; ADDRESS is plain memory */
enum { ADDRESS = 0x08, ADDRESS_HIGH = 0x0c };
#define BASE 0xf0000000u
#define BUFFERED 0xa0000u /* single writes to it come by the buffered ring */
#define DISK 0xf1000000u
#define IMAGE (1u << 20)
#define SPARE_NS 20000000u /* one piece of work may take long, when the machine is busy: it is paid back later */

static struct fixture f;
static struct mock_guest *victim;

static void start_hvm(void)
{
    fixture_start(&f, MOCK_HVM, 2);
    victim = mock_domain_new(f.mock, MOCK_HVM, 16 << 20, 1);
    ck_assert_ptr_nonnull(victim);
}

static void stop(void)
{
    mock_guest_free(victim);
    fixture_stop(&f);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- the daemon's own account ---- */

static char control[100];

static json_t *receive(FILE *stream)
{
    char *line = NULL;
    size_t size = 0;
    ck_assert_int_gt(getline(&line, &size, stream), 0);
    json_t *message = json_loads(line, 0, NULL);
    free(line);
    ck_assert_ptr_nonnull(message);
    return message;
}

static json_t *ask_stats(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", control);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    FILE *stream = fdopen(fd, "r+");
    json_decref(receive(stream)); /* the greeting */
    fputs("{\"execute\": \"stats\"}\n", stream);
    fflush(stream);
    json_t *message = receive(stream);
    fclose(stream);
    return message;
}

struct account {
    uint64_t at_ns, spent_ns, delayed, times;
    bool limited;
};

static uint64_t member(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    ck_assert_msg(json_is_integer(value), "no number %s", key);
    return (uint64_t)json_integer_value(value);
}

static struct account account_of(const struct mock_guest *guest)
{
    uint64_t before = now_ns();
    json_t *message = ask_stats(), *item;
    struct account account = {.at_ns = before};
    bool found = false;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(message, "return"), "guests"), i, item) {
        if (member(item, "domid") == mock_domid(guest)) {
            const json_t *limit = json_object_get(json_object_get(item, "stats"), "limit");
            account.spent_ns = member(limit, "spent-ns");
            account.delayed = member(limit, "delayed");
            account.times = member(limit, "times");
            account.limited = json_is_true(json_object_get(limit, "limited"));
            found = true;
        }
    }
    json_decref(message);
    ck_assert(found);
    return account;
}

/* ---- attackers ---- */

struct attacker {
    pthread_t thread;
    unsigned vcpu;
    void (*nonsense)(unsigned vcpu, uint32_t random);
    unsigned rounds, wrong;
};

static bool over;

/* No such register; now and then a whole string of them. */
static void narrow_writes(unsigned vcpu, uint32_t random)
{
    if (random >> 28 == 0) {
        vcpu_rep_movs(f.guest, vcpu, BASE, 0x1000, 1, random % 200 + 1, false);
    } else {
        vcpu_mmio_write(f.guest, vcpu, BASE + random % 0x20, 1, random);
    }
}

static void ring_writes(unsigned vcpu, uint32_t random)
{
    for (unsigned i = 0; i < 50; i++) {
        vcpu_mmio_write(f.guest, vcpu, BUFFERED + 0x10 + random % 8, 1, random);
    }
}

/* Status, queues, notifications: whatever comes; also resets, and reads. */
static void virtio_garbage(unsigned vcpu, uint32_t random)
{
    static const unsigned registers[] = {0x70, 0x50, 0x44, 0x38, 0x30, 0x80, 0x24, 0x14};
    unsigned at = registers[random % 8], size = 1u << (random >> 8) % 3;
    if (random >> 30 == 3) {
        vcpu_mmio_read(f.guest, vcpu, DISK + at, size);
    } else {
        vcpu_mmio_write(f.guest, vcpu, DISK + at, size, random >> 12 & 0xff);
    }
}

/* In between it checks that its device does what it is told: one vCPU has one half of the register. */
static void *attack(void *self)
{
    struct attacker *attacker = self;
    uint32_t random = 12345 + attacker->vcpu;
    unsigned half = BASE + (attacker->vcpu ? ADDRESS_HIGH : ADDRESS);
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        random = random * 1664525 + 1013904223;
        attacker->nonsense(attacker->vcpu, random);
        if (attacker->rounds++ % 16 == 0) {
            vcpu_mmio_write(f.guest, attacker->vcpu, half, 4, random);
            attacker->wrong += vcpu_mmio_read(f.guest, attacker->vcpu, half, 4) != random;
        }
    }
    return NULL;
}

static void run(void)
{
    char disk[300], victim_domid[8];
    snprintf(control, sizeof(control), "%s/control", mock_dir(f.mock));
    snprintf(disk, sizeof(disk), "virtio-blk,id=disk,bus=mmio,base=0x%x,irq=none,path=%s", DISK,
             fixture_image(&f, "disk", IMAGE));
    snprintf(victim_domid, sizeof(victim_domid), "%u", mock_domid(victim));
    fixture_run(&f, "--control", control, "--module", getenv("MODULE_TEST_DEFER"), "--bufioreq", "atomic",
                "--device", "test-defer,id=buffered,base=0xa0000,delay=1", "--device",
                "test-defer,id=plain,base=0xf0000000,delay=1", "--device", disk, "--domain", victim_domid, "--type",
                "hvm", "--device", "test-defer,base=0xf0000000,delay=1", NULL);
    ck_assert_int_eq(mock_daemon_wait_log(f.daemon, "all guests are running", FIXTURE_TIMEOUT_MS), 0);
}

/* The victim works until this time, and counts. */
static uint64_t work(uint64_t until_ns)
{
    uint64_t rounds = 0;
    while (now_ns() < until_ns) {
        vcpu_mmio_write(victim, 0, BASE + ADDRESS, 4, (uint32_t)rounds);
        ck_assert_uint_eq(vcpu_mmio_read(victim, 0, BASE + ADDRESS, 4), (uint32_t)rounds);
        rounds++;
    }
    return rounds;
}

static void (*const kinds[])(unsigned vcpu, uint32_t random) = {narrow_writes, ring_writes, virtio_garbage};

START_TEST(beside_a_guest_that_works)
{
    struct attacker attackers[2] = {{.vcpu = 0, .nonsense = kinds[_i]}, {.vcpu = 1, .nonsense = kinds[_i]}};
    over = false;
    run();
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&attackers[i].thread, NULL, attack, &attackers[i]), 0);
    }
    ck_assert_int_eq(mock_daemon_wait_log(f.daemon, "limited: ", FIXTURE_TIMEOUT_MS), 0);
    struct account before = account_of(f.guest);
    ck_assert(before.limited);
    ck_assert_uint_gt(work(now_ns() + 2500000000u), 0);
    struct account after = account_of(f.guest);
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(attackers[i].thread, NULL);
        ck_assert_uint_eq(attackers[i].wrong, 0);
        ck_assert_uint_gt(attackers[i].rounds, 16);
    }
    ck_assert(after.limited);
    ck_assert_uint_eq(after.times, 1);
    ck_assert_uint_gt(after.delayed, before.delayed);
    uint64_t spent = after.spent_ns - before.spent_ns, time = now_ns() - before.at_ns;
    ck_assert_msg(spent <= time / 100 + SPARE_NS, "it took %llu us of %llu ms", (unsigned long long)spent / 1000,
                  (unsigned long long)time / 1000000);
    struct account worker = account_of(victim);
    ck_assert(!worker.limited);
    ck_assert_uint_eq(worker.times + worker.delayed + worker.spent_ns, 0);
    fixture_terminate(&f);
    fixture_expect_clean(&f);
}
END_TEST

/* SIGTERM while a limited guest has accesses that wait: they are served, and the vCPUs go on. */
START_TEST(stopped_in_the_middle)
{
    struct attacker attackers[2] = {{.vcpu = 0, .nonsense = narrow_writes}, {.vcpu = 1, .nonsense = narrow_writes}};
    over = false;
    run();
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&attackers[i].thread, NULL, attack, &attackers[i]), 0);
    }
    ck_assert_int_eq(mock_daemon_wait_log(f.daemon, "limited: ", FIXTURE_TIMEOUT_MS), 0);
    fixture_terminate(&f);
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(attackers[i].thread, NULL);
    }
    fixture_expect_clean(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attack");
    TCase *tests = tcase_create("attack");
    tcase_add_checked_fixture(tests, start_hvm, stop);
    tcase_set_timeout(tests, 100);
    tcase_add_loop_test(tests, beside_a_guest_that_works, 0, 3);
    tcase_add_test(tests, stopped_in_the_middle);
    suite_add_tcase(suite, tests);
    return fixture_main(suite);
}
