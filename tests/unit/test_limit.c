/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest whose requests make no sense: limited by delays, and no other guest ever. */
#include "core/stats.h"
#include "watch_rig.h"

/* ---- quarantine ---- */

static unsigned limited_events;

static void count_limited(struct daemon_listener *self, const struct daemon_event *event)
{
    limited_events += event->kind == EVENT_LIMITED;
}

static uint64_t now_ns(void)
{
    return fake_loop(fake)->ops->now_ns(fake_loop(fake));
}

/* Nonsense as fast as it goes, for at most 20 s, until it is limited. */
static void attack(void)
{
    uint64_t begun = now_ns();
    while (!guest->watch.account.limited && now_ns() - begun < 20000000000u) {
        fake_out(fake, FIRST + PLAIN, 1, 1); /* no register of this width */
    }
}

START_TEST(attacker_is_limited)
{
    struct account *account = &guest->watch.account;
    struct daemon_listener events = { .event = count_limited };
    daemon_listen(daemon_, &events);
    attack();
    ck_assert(account->limited);
    ck_assert_uint_eq(fake_logged(fake, "limited: "), 1);
    ck_assert_uint_eq(fake_logged(fake, "accesses that no driver makes within"), 1);
    ck_assert_uint_eq(limited_events, 1);
    /* Late, but right; and of the loop's time no more than its share, by the daemon's own account. */
    uint64_t begun = now_ns(), spent = account->total_ns, delayed = account->delayed, most = 0;
    for (unsigned i = 0; i < 60; i++) {
        uint64_t before = account->total_ns;
        fake_out(fake, FIRST + PLAIN, 1, 1);
        fake_out(fake, SECOND + PLAIN, 4, i);
        ck_assert_uint_eq(keepers[1]->last, i);
        ck_assert_uint_eq(fake_in(fake, FIRST + PLAIN, 4), 0x42);
        most = account->total_ns - before > most ? account->total_ns - before : most;
    }
    uint64_t share = (now_ns() - begun) / 100;
    ck_assert_uint_ge(account->delayed - delayed, 180);
    ck_assert_msg(account->total_ns - spent <= share + most + 200000, "%llu ns of %llu",
                  (unsigned long long)(account->total_ns - spent), (unsigned long long)share);
    const char *lines = shown(stats_list);
    expect(lines, "list.0.stats.limit.limited=true");
    expect(lines, "list.0.stats.limit.times=1");
    daemon_unlisten(&events);
}
END_TEST

static bool unlimited(void *self)
{
    return !guest->watch.account.limited;
}

START_TEST(limit_ends)
{
    attack();
    ck_assert(guest->watch.account.limited);
    fake_run(fake, unlimited, NULL);
    ck_assert_uint_eq(fake_logged(fake, "limited no more"), 1);
    ck_assert_uint_eq(fake_in(fake, FIRST + PLAIN, 4), 0x42);
    ck_assert(!guest->watch.account.measured);
    expect(shown(stats_list), "list.0.stats.limit.limited=false");
    attack(); /* a relapse is held longer */
    ck_assert(guest->watch.account.limited);
    ck_assert_uint_eq(guest->watch.account.hold_s, 6);
    guest->spec.unlimited = true; /* the operator says so: with the next second's end */
    fake_run(fake, unlimited, NULL);
}
END_TEST

/* What costs so much that it has no turn for seconds is not calm then: it had no chance to be anything else. */
START_TEST(debt_is_not_calm)
{
    struct account *account = &guest->watch.account;
    attack();
    limit_spend(guest, 45000000); /* 4.5 s at 1 % */
    fake_begin_out(fake, FIRST + PLAIN, 1, 1);
    fake_run_ms(fake, 4200);
    ck_assert(account->limited);
    ck_assert_uint_eq(account->calm_s, 0);
    fake_run(fake, unlimited, NULL); /* served, and calm */
    ck_assert_uint_ge(now_ns() - account->began_ns, 7000000000u);
}
END_TEST

static bool answered(void *self)
{
    return fake_answered(fake);
}

/* One access that is served when the guest's turn comes; each takes so much of the loop's time. */
static void one_dear(unsigned width, uint64_t ns)
{
    limit_spend(guest, ns);
    fake_begin_out(fake, FIRST + PLAIN, width, 1);
    fake_run(fake, answered, NULL);
}

/* Where each access is dear there are few in a second: none of a kind that costs in some seconds is no calm. */
START_TEST(few_are_not_calm)
{
    struct account *account = &guest->watch.account;
    attack();
    for (unsigned i = 0; i < 14; i++) {
        one_dear(i == 9 ? 1 : 4, 5000000); /* 0.5 s each, at 1 % */
        ck_assert(account->limited);
    }
    ck_assert_uint_eq(account->calm_s, 0);
    unsigned plain = 0;
    while (account->limited && ++plain < 200) {
        one_dear(4, 1000000);
    }
    ck_assert_uint_ge(plain, 40); /* three times enough of them, less those above */
    ck_assert_uint_lt(plain, 200);
}
END_TEST

static void nothing(void *self)
{
}

/* Whatever waits for its turn when the guest is stopped is served before. */
START_TEST(limited_to_the_end)
{
    attack();
    fake_begin_out(fake, SECOND + PLAIN, 4, 0x1234);
    fake_run_ms(fake, 0);
    uint64_t last = 0;
    daemon_stop(daemon_, nothing, NULL);
    last = keepers[1]->last;
    fake_run_ms(fake, 100);
    ck_assert_uint_eq(last, 0x1234);
    ck_assert_uint_eq(daemon_guests(daemon_), 0);
    fake_free(fake);
}
END_TEST

START_TEST(sense_is_never_limited)
{
    if (_i == 1) {
        guest->spec.unlimited = true;
    }
    for (unsigned i = 0; i < 30000; i++) {
        if (_i == 1) {
            fake_out(fake, FIRST + PLAIN, 1, 1);
        } else {
            fake_in(fake, FIRST + PLAIN, 4);
        }
    }
    ck_assert(!guest->watch.account.limited && !guest->watch.account.measured);
    ck_assert_uint_eq(guest->watch.account.total_ns, 0);
    ck_assert(_i == 1 || guest->watch.account.points == 0);
}
END_TEST

/* What is charged, and what is not. */
START_TEST(what_is_charged)
{
    const uint64_t *deeds = guest->watch.deeds;
    fake_in(fake, FIRST + PLAIN, 4);
    fake_out(fake, SECOND + PLAIN, 4, 1);
    ck_assert_uint_eq(guest->watch.account.points, 0);
    fake_in(fake, 0x7000, 1);
    ck_assert_uint_eq(deeds[DEED_UNCLAIMED], 1);
    fake_in(fake, FIRST + ERROR, 4);
    fake_out(fake, FIRST + PLAIN, 2, 1);
    ck_assert_uint_eq(deeds[DEED_GUEST_ERROR], 2);
    fake_begin_rep(fake, false, FIRST + PLAIN, 4, 3, FAKE_RAM + 0x1000); /* no memory */
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(deeds[DEED_HOLE], 3);
    uint64_t misses = deeds[DEED_MISS];
    fake_begin_rep(fake, true, FIRST + PLAIN, 4, 2, 0x10000); /* mapped for it, once */
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(deeds[DEED_MISS] - misses, 1);
    watch_allow(guest, 0); /* an I/O explains the next ones */
    fake_begin_rep(fake, true, FIRST + PLAIN, 4, 2, 0x100000);
    fake_run(fake, answered, NULL);
    ck_assert_uint_eq(deeds[DEED_MISS] - misses, 1);
    ck_assert_uint_eq(deeds[DEED_MALFORMED] + deeds[DEED_RESET] + deeds[DEED_COMMIT] + deeds[DEED_INVALIDATE], 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("limit");
    TCase *limits = tcase_create("limits"), *ending = tcase_create("ending");
    tcase_add_checked_fixture(limits, rig_begin, rig_end);
    tcase_add_checked_fixture(ending, rig_begin, NULL);
    tcase_set_timeout(limits, 120);
    tcase_set_timeout(ending, 60);
    tcase_add_test(limits, what_is_charged);
    tcase_add_test(limits, attacker_is_limited);
    tcase_add_test(limits, limit_ends);
    tcase_add_test(limits, debt_is_not_calm);
    tcase_add_test(limits, few_are_not_calm);
    tcase_add_loop_test(limits, sense_is_never_limited, 0, 2);
    tcase_add_test(ending, limited_to_the_end);
    suite_add_tcase(suite, limits);
    suite_add_tcase(suite, ending);
    return unit_run(suite);
}
