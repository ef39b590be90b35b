/* SPDX-License-Identifier: BSD-2-Clause */
/* src/xen/store.c with its helper process, against a xenstored that lies, hangs and dies. The helper is this
 * program, too. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "loop/event_loop.h"
#include "xen/store_message.h"
#include "xen/xen.h"

#include "fake_xenstored.h"
#include "unit.h"

#define MS 1000000ull
#define UUID "01234567-89ab-cdef-0123-456789abcdef"

static struct loop *loop;
static struct store *store;
static struct fake_state *state;
static pid_t fake;
static char path[64];
static struct loop_timer *guard;

/* What was heard. */
static struct store_domain heard[FAKE_DOMAINS];
static unsigned heard_count, snapshots, losses;
static char last_loss[200];
static bool (*enough)(void);

static void hang(void *self)
{
    ck_abort_msg("not heard in time; snapshots %u (last of %u domains), losses %u (last \"%s\")", snapshots,
                 heard_count, losses, last_loss);
}

static void domains(void *self, const struct store_domain *of, unsigned count)
{
    ck_assert_uint_le(count, FAKE_DOMAINS);
    memcpy(heard, of, count * sizeof(*of));
    heard_count = count;
    snapshots++;
    if (enough && enough()) {
        event_loop_stop(loop);
    }
}

static void lost(void *self, const char *why)
{
    ck_assert_ptr_null(strchr(why, '\n'));
    snprintf(last_loss, sizeof(last_loss), "%s", why);
    losses++;
    if (enough && enough()) {
        event_loop_stop(loop);
    }
}

static const struct store_events events = {.domains = domains, .lost = lost};

static void run_until(bool (*condition)(void))
{
    enough = condition;
    if (!condition()) {
        loop->ops->timer_set(guard, loop->ops->now_ns(loop) + 8000 * MS);
        ck_assert_int_eq(event_loop_run(loop), 0);
        loop->ops->timer_cancel(guard);
    }
    enough = NULL;
}

static void setup(void)
{
    snapshots = losses = heard_count = 0;
    last_loss[0] = '\0';
    snprintf(path, sizeof(path), "/tmp/ioreqd-test-store.%d", (int)getpid());
    setenv("XENSTORED_PATH", path, 1);
    state = fake_state_create();
    ck_assert_ptr_nonnull(state);
    fake_set(&state->domains[0], 0, "Domain-0", "", UUID);
    fake_set(&state->domains[1], 7, "web", "pvh", UUID);
    loop = event_loop_create();
    guard = loop->ops->timer_add(loop, hang, NULL);
    store = xen_store_create(loop, NULL, NULL);
    ck_assert_ptr_nonnull(store);
}

static void teardown(void)
{
    store->ops->destroy(store);
    /* Nothing but the fake is left. */
    ck_assert_int_eq(waitpid(-1, NULL, WNOHANG) == 0 || errno == ECHILD, 1);
    if (fake) {
        fake_stop(fake);
        fake = 0;
    }
    loop->ops->timer_remove(guard);
    event_loop_destroy(loop);
    fake_state_destroy(state);
    unlink(path);
}

static void begin(void)
{
    fake = fake_start(state, path);
    ck_assert_int_gt(fake, 0);
    ck_assert_int_eq(store->ops->watch(store, &events, NULL), 0);
}

static bool a_snapshot(void)
{
    return snapshots > 0;
}

static bool a_loss(void)
{
    return losses > 0;
}

static const struct store_domain *find(unsigned domid)
{
    for (unsigned i = 0; i < heard_count; i++) {
        if (heard[i].domid == domid) {
            return &heard[i];
        }
    }
    return NULL;
}

static bool domain_8(void)
{
    return find(8) != NULL;
}

static bool no_domain_7(void)
{
    return snapshots && !find(7);
}

static void raise_generation(void)
{
    __atomic_fetch_add(&state->generation, 1, __ATOMIC_RELEASE);
}

START_TEST(domains_at_the_beginning)
{
    begin();
    run_until(a_snapshot);
    ck_assert_uint_eq(heard_count, 2);
    ck_assert_ptr_nonnull(find(0));
    ck_assert_str_eq(find(7)->name, "web");
    ck_assert_str_eq(find(7)->type, "pvh");
    ck_assert_str_eq(find(7)->uuid, UUID);
    ck_assert_uint_eq(losses, 0);
}
END_TEST

START_TEST(watches_tell_of_news)
{
    begin();
    run_until(a_snapshot);
    fake_set(&state->domains[2], 8, "db", "hvm", UUID);
    raise_generation();
    run_until(domain_8);
    state->domains[1].introduced = false; /* its nodes stay for a while */
    raise_generation();
    run_until(no_domain_7);
    ck_assert_uint_eq(heard_count, 2);
    ck_assert_uint_eq(losses, 0);
}
END_TEST

static bool renamed(void)
{
    return find(7) && strcmp(find(7)->name, "web2") == 0;
}

/* No watch fires for it; and a snapshot is told only when it differs. */
START_TEST(rename_is_found_by_looking)
{
    begin();
    run_until(a_snapshot);
    fake_node_set(&state->domains[1].name, "web2", 4);
    run_until(renamed);
    unsigned requests = state->requests, told = snapshots;
    struct timespec pause = {.tv_nsec = 3 * STORE_ALIVE_MS * MS};
    nanosleep(&pause, NULL);
    event_loop_stop(loop);
    ck_assert_int_eq(event_loop_run(loop), 0);
    ck_assert_uint_gt(state->requests, requests);
    ck_assert_uint_eq(snapshots, told);
}
END_TEST

START_TEST(works_without_the_right_to_watch)
{
    state->watch_refused = true;
    begin();
    run_until(a_snapshot);
    fake_set(&state->domains[2], 8, "db", "hvm", UUID);
    run_until(domain_8);
}
END_TEST

/* A guest, or a broken toolstack, writes what it likes. */
START_TEST(hostile_contents_are_absent)
{
    char longest[512];

    memset(longest, 'n', sizeof(longest));
    for (unsigned i = 0; i < 9; i++) {
        fake_set(&state->domains[2 + i], 100 + i, "x", "hvm", UUID);
    }
    fake_node_set(&state->domains[2].name, longest, 128);      /* one too long: not cut to another's name */
    fake_node_set(&state->domains[3].name, longest, 127);      /* fits */
    fake_node_set(&state->domains[4].name, "web\0hidden", 10); /* would compare as web */
    fake_node_set(&state->domains[5].name, "\x1b[2Jweb", 7);
    fake_node_set(&state->domains[6].vm, "/vm/../../etc", 13);
    fake_node_set(&state->domains[7].vm, "vm/" UUID, 3 + 36); /* as dom0less writes it */
    fake_node_set(&state->domains[8].type, longest, 400);
    state->domains[9].name.length = 0;
    fake_node_set(&state->domains[10].vm, "no slash", 8);
    snprintf(state->domains[11].entry, sizeof(state->domains[11].entry), "7x");
    snprintf(state->domains[12].entry, sizeof(state->domains[12].entry), "99999");
    snprintf(state->domains[13].entry, sizeof(state->domains[13].entry), "-1");
    begin();
    run_until(a_snapshot);
    ck_assert_uint_eq(heard_count, 11);
    ck_assert_str_eq(find(100)->name, "");
    ck_assert_uint_eq(strlen(find(101)->name), 127);
    ck_assert_str_eq(find(102)->name, "");
    ck_assert_str_eq(find(103)->name, "");
    ck_assert_str_eq(find(104)->uuid, "");
    ck_assert_str_eq(find(105)->uuid, UUID);
    ck_assert_str_eq(find(106)->type, "");
    ck_assert_str_eq(find(107)->name, "");
    ck_assert_str_eq(find(108)->uuid, "");
}
END_TEST

START_TEST(absent_xenstored_is_told_once_and_found_later)
{
    ck_assert_int_eq(store->ops->watch(store, &events, NULL), 0);
    run_until(a_loss);
    ck_assert_ptr_nonnull(strstr(last_loss, path));
    fake = fake_start(state, path);
    run_until(a_snapshot);
    ck_assert_uint_eq(losses, 1);
}
END_TEST

static bool two_snapshots(void)
{
    return snapshots >= 2;
}

START_TEST(death_of_xenstored_is_noticed_and_survived)
{
    begin();
    run_until(a_snapshot);
    fake_stop(fake);
    run_until(a_loss);
    fake = fake_start(state, path);
    run_until(two_snapshots);
    ck_assert_uint_eq(losses, 1);
}
END_TEST

/* Cut at the nth request: a snapshot that lacks domains must never be told. */
START_TEST(death_in_the_middle_tells_no_half_snapshot)
{
    for (unsigned i = 0; i < 8; i++) {
        fake_set(&state->domains[2 + i], 100 + i, "x", "hvm", UUID);
    }
    state->requests_left = (unsigned)_i + 1;
    begin();
    run_until(a_snapshot);
    ck_assert_uint_eq(heard_count, 10);
    run_until(a_loss);
    ck_assert_uint_eq(losses, 1);
}
END_TEST

START_TEST(hanging_xenstored_is_noticed)
{
    begin();
    run_until(a_snapshot);
    kill(fake, SIGSTOP);
    run_until(a_loss);
    ck_assert_ptr_nonnull(strstr(last_loss, "does not answer"));
    kill(fake, SIGCONT);
    run_until(two_snapshots);
}
END_TEST

/* The only child besides the fake. */
static pid_t helper_pid(void)
{
    char file[64], text[256] = "";

    snprintf(file, sizeof(file), "/proc/self/task/%d/children", (int)getpid());
    FILE *children = fopen(file, "r");
    ck_assert_ptr_nonnull(children);
    ck_assert_ptr_nonnull(fgets(text, sizeof(text), children));
    fclose(children);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        if (atoi(word) != fake) {
            return atoi(word);
        }
    }
    return 0;
}

START_TEST(killed_helper_is_started_again)
{
    begin();
    run_until(a_snapshot);
    pid_t first = helper_pid();
    ck_assert_int_gt(first, 0);
    kill(first, SIGTERM); /* what ends the daemon's group does not end it */
    kill(first, SIGKILL);
    run_until(a_loss);
    run_until(two_snapshots);
    ck_assert_int_ne(helper_pid(), first);
}
END_TEST

START_TEST(helper_that_can_not_start_is_an_error)
{
    struct store *other = xen_store_create(loop, "/nonexistent/ioreqd", NULL);

    ck_assert_ptr_nonnull(other);
    ck_assert_int_eq(other->ops->watch(other, &events, NULL), -ENOENT);
    other->ops->destroy(other);
}
END_TEST

/* It ends at once, and is tried again. */
START_TEST(other_program_as_helper_is_no_harm)
{
    struct store *other = xen_store_create(loop, "/bin/false", NULL);

    ck_assert_ptr_nonnull(other);
    ck_assert_int_eq(other->ops->watch(other, &events, NULL), 0);
    run_until(a_loss);
    other->ops->destroy(other);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], STORE_HELPER_OPTION) == 0) {
        return xen_store_helper(atoi(argv[2]));
    }
    Suite *suite = suite_create("store");
    TCase *tc = tcase_create("store");

    tcase_set_timeout(tc, 20);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, domains_at_the_beginning);
    tcase_add_test(tc, watches_tell_of_news);
    tcase_add_test(tc, rename_is_found_by_looking);
    tcase_add_test(tc, works_without_the_right_to_watch);
    tcase_add_test(tc, hostile_contents_are_absent);
    tcase_add_test(tc, absent_xenstored_is_told_once_and_found_later);
    tcase_add_test(tc, death_of_xenstored_is_noticed_and_survived);
    tcase_add_loop_test(tc, death_in_the_middle_tells_no_half_snapshot, 0, 30);
    tcase_add_test(tc, hanging_xenstored_is_noticed);
    tcase_add_test(tc, killed_helper_is_started_again);
    tcase_add_test(tc, helper_that_can_not_start_is_an_error);
    tcase_add_test(tc, other_program_as_helper_is_no_harm);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
