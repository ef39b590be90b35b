/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Everything that changes guests while the daemon runs, with each allocation failing once: an error or a guest that
 * failed, but every promise of an answer is kept, nothing is left behind, and what comes after goes well.
 */
#include <errno.h>
#include <limits.h>

#include "change_rig.h"

/* ---- the allocator: the C library's, but for the Nth call ---- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t number, size_t size);
void *__libc_realloc(void *at, size_t size);
void *malloc(size_t size);
void *calloc(size_t number, size_t size);
void *realloc(void *at, size_t size);

static unsigned long count, target;

static bool fails(void)
{
    if (target == 0 || ++count != target) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    return fails() ? NULL : __libc_calloc(number, size);
}

void *realloc(void *at, size_t size)
{
    return fails() ? NULL : __libc_realloc(at, size);
}

/* Check allocates at each assertion that holds, and ends the program when it can't: its notes are left out. */
void __wrap__mark_point(const char *file, int line);

void __wrap__mark_point(const char *file, int line)
{
}

/* ---- the scenario ---- */

#define A "knob,base=0xf0000000,value=1"
#define B "knob,base=0xf0001000,value=2"
#define C "knob,base=0xf0002000,value=3"

enum { ANSWERS = 8 };
static struct rig_answer answers[ANSWERS];
static bool promised[ANSWERS];
static unsigned at;

static void promise(int result, const struct iod_error *error)
{
    promised[at] = result == 0;
    ck_assert_msg(result == 0 || error->text[0] != '\0', "an error without a text");
    at++;
}

static struct guest_spec list_of(const char *const *devices, unsigned number)
{
    return rig_spec("web", true, "file:1", devices, number);
}

static void scenario(struct fake_xen *fake, struct guest_spec *by_hand, struct guest_spec *lists,
                     const struct device_spec *more)
{
    struct daemon *daemon = fake_daemon(fake);
    struct iod_error error = { 0 };
    daemon_add_guest(daemon, by_hand, &error);
    rig_domains("7=web");
    fake_run_ms(fake, 4);
    promise(daemon_add_device(daemon, "7", more, rig_done, &answers[at], &error), &error);
    fake_run_ms(fake, 3);
    daemon_apply(daemon, "file", &lists[0], 1, &error); /* joins */
    fake_run_ms(fake, 3);
    daemon_apply(daemon, "file", &lists[1], 1, &error);
    fake_run_ms(fake, 3);
    promise(daemon_pause_guest(daemon, "7", rig_done, &answers[at], &error), &error);
    fake_run_ms(fake, 2);
    daemon_resume_guest(daemon, "7", &error);
    promise(daemon_remove_device(daemon, "7", "more", REMOVAL_ASK, rig_done, &answers[at], &error), &error);
    fake_run_ms(fake, 3);
    promise(daemon_remove_guest(daemon, "7", rig_done, &answers[at], &error), &error); /* hands over */
    fake_run_ms(fake, 3);
    fake_mark_dead(fake, 7);
    rig_domains("8=web");
    fake_run_ms(fake, 4);
    promise(daemon_remove_guest(daemon, "web", rig_done, &answers[at], &error), &error);
    fake_run_ms(fake, 4);
}

/* The scenario with the allocation failing; then, without, the guest once more. False: it never came to it. */
static bool try(unsigned long number)
{
    struct fake_xen *fake = rig_start(true);
    struct guest_spec by_hand = RIG_SPEC("7", false, "hand", A);
    struct guest_spec lists[] = { list_of((const char *const[]){ B, C }, 2), list_of((const char *const[]){ C }, 1) };
    struct device_spec more;
    struct iod_error error;
    device_spec_parse(&more, "knob,id=more,base=0xf0003000", &error);
    memset(answers, 0, sizeof(answers));
    at = 0;
    count = 0;
    target = number;
    scenario(fake, &by_hand, lists, &more);
    target = 0;
    bool fired = count >= number;
    fake_run_ms(fake, 20);
    for (unsigned i = 0; i < at; i++) {
        ck_assert_msg(answers[i].done == promised[i], "allocation %lu: answer %u: promised %d, given %d; the log:\n%s",
                      number, i, promised[i], answers[i].done, fake_log(fake));
    }
    fake_mark_dead(fake, -1);
    rig_domains("9=db");
    rig_add(fake, RIG_SPEC("db", true, NULL, A));
    rig_expect(fake, "db", "running", true);
    rig_stop(fake);
    guest_spec_finish(&by_hand);
    guest_spec_finish(&lists[0]);
    guest_spec_finish(&lists[1]);
    device_spec_finish(&more);
    return fired;
}

START_TEST(each_once)
{
    unsigned long number = 1;
    ck_assert(!try(ULONG_MAX)); /* as it is meant to go */
    for (unsigned i = 0; i < at; i++) {
        ck_assert_msg(promised[i] && answers[i].error == 0, "answer %u: %s", i, answers[i].why);
    }
    while (try(number)) {
        number++;
    }
    ck_assert_uint_gt(number, 100);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("change_alloc");
    TCase *c = tcase_create("change_alloc");
    tcase_set_timeout(c, 200);
    tcase_add_test(c, each_once);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
