/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The other emulator of a guest, asked which functions are its own: when the guest is attached, and at each
 * addition.
 */
#include "change_rig.h"
#include "core/guest.h"

#define DISK "knob,id=one,base=0xf0000000,value=1"
#define MORE "knob,id=two,base=0xf0001000,value=2"

/* The other emulator: it answers when the test says so. */
static struct {
    struct neighbours neighbours;
    void (*known)(void *self, const struct neighbour_claim *claims, unsigned count, const char *why);
    void *self;
    unsigned asked, cancelled;
} other;

static void say(const struct neighbour_claim *claims, unsigned count, const char *why)
{
    ck_assert_ptr_nonnull(other.self);
    void *self = other.self;
    other.self = NULL;
    other.known(self, claims, count, why);
}

static void *ask(struct neighbours *neighbours, uint16_t domid,
                 void (*known)(void *self, const struct neighbour_claim *claims, unsigned count, const char *why),
                 void *self)
{
    ck_assert_ptr_null(other.self); /* one question at a time */
    ck_assert_uint_eq(domid, 7);
    other.known = known;
    other.self = self;
    other.asked++;
    return &other;
}

static void cancel(struct neighbours *neighbours, void *query)
{
    ck_assert_ptr_eq(query, &other);
    other.self = NULL;
    other.cancelled++;
}

static const struct neighbour_claim first[] = { { 0x18, "cirrus of QEMU" } };
static const struct neighbour_claim later[] = { { 0x18, "cirrus of QEMU" }, { 0x20, "e1000 of QEMU" } };

static const char *owner_of(struct fake_xen *fake, uint16_t sbdf)
{
    static char text[96];
    struct iod_error error;
    return guest_function_owner(guest_find(fake_daemon(fake), "7", &error), sbdf, text, sizeof(text));
}

/* A guest beside QEMU, attached. */
static struct fake_xen *start(void)
{
    struct fake_xen *fake = rig_start(true);
    other.neighbours = (struct neighbours){ .ask = ask, .cancel = cancel };
    fake_daemon(fake)->config.neighbours = &other.neighbours;
    rig_domains("7=web");
    struct guest_spec spec = RIG_SPEC("7", false, NULL, DISK);
    spec.beside = true;
    rig_add(fake, spec);
    rig_expect(fake, "7", "attaching", false);
    fake_run_ms(fake, 50);
    ck_assert_uint_eq(other.asked, 1);
    ck_assert_ptr_null(rig_knob(fake, "7", "one")); /* nothing chooses its place before the answer */
    say(first, 1, NULL);
    rig_expect(fake, "7", "running", true);
    return fake;
}

static void add_more(struct fake_xen *fake, struct rig_answer *answer)
{
    struct iod_error error;
    struct device_spec spec;
    device_spec_parse(&spec, MORE, &error);
    ck_assert_int_eq(daemon_add_device(fake_daemon(fake), "7", &spec, rig_done, answer, &error), 0);
    device_spec_finish(&spec);
}

START_TEST(asked_again_at_an_addition)
{
    struct fake_xen *fake = start();
    struct rig_answer answer = { 0 };
    ck_assert_str_eq(owner_of(fake, 0x18), "cirrus of QEMU");
    ck_assert_ptr_null(owner_of(fake, 0x20));
    add_more(fake, &answer);
    fake_run_ms(fake, 50);
    ck_assert_uint_eq(other.asked, 2);
    ck_assert(!answer.done);
    ck_assert_ptr_null(rig_knob(fake, "7", "two"));
    say(later, 2, NULL);
    fake_run_ms(fake, 50);
    ck_assert(answer.done && answer.error == 0);
    ck_assert_str_eq(owner_of(fake, 0x20), "e1000 of QEMU");
    ck_assert_uint_eq(fake_in(fake, 0xf0001000, 4), 2);
    ck_assert_uint_eq(other.asked, 2);
    rig_stop(fake);
}
END_TEST

/* Something else changes while the answer is on its way: the addition still waits for it. */
START_TEST(another_comes_meanwhile)
{
    struct fake_xen *fake = start();
    struct rig_answer answer = { 0 };
    struct iod_error error;
    add_more(fake, &answer);
    guest_reconcile(guest_find(fake_daemon(fake), "7", &error));
    fake_run_ms(fake, 50);
    ck_assert(!answer.done);
    ck_assert_ptr_null(rig_knob(fake, "7", "two"));
    ck_assert_uint_eq(other.asked, 2);
    say(later, 2, NULL);
    fake_run_ms(fake, 50);
    ck_assert(answer.done && answer.error == 0);
    ck_assert_ptr_nonnull(rig_knob(fake, "7", "two"));
    rig_stop(fake);
}
END_TEST

/* It does not say: what it said before is still held against an addition. */
START_TEST(no_answer_forgets_nothing)
{
    struct fake_xen *fake = start();
    struct rig_answer answer = { 0 };
    add_more(fake, &answer);
    say(NULL, 0, _i ? "no answer within the time limit" : NULL);
    fake_run_ms(fake, 50);
    ck_assert(answer.done && answer.error == 0);
    ck_assert_uint_eq(fake_logged(fake, "no answer within the time limit"), _i);
    ck_assert_str_eq(owner_of(fake, 0x18), "cirrus of QEMU");
    rig_stop(fake);
}
END_TEST

/* The guest ends while the question of an addition is under way. */
START_TEST(ended_meanwhile)
{
    struct fake_xen *fake = start();
    struct rig_answer answer = { 0 };
    add_more(fake, &answer);
    fake_mark_dead(fake, 7);
    rig_domains("");
    fake_run_ms(fake, 100);
    ck_assert_uint_eq(other.cancelled, 1);
    ck_assert(answer.done && answer.error != 0);
    rig_stop(fake);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("neighbours");
    TCase *c = tcase_create("neighbours");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, asked_again_at_an_addition);
    tcase_add_loop_test(c, no_answer_forgets_nothing, 0, 2);
    tcase_add_test(c, another_comes_meanwhile);
    tcase_add_test(c, ended_meanwhile);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
