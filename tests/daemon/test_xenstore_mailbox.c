/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * src/xen/store*.c over the real xenstored: trees, told branch by branch, and changes, while the helper (this
 * program, too) is killed and xenstored stalls. The times are short here: see meson.build.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xenstore.h>

#include "loop/event_loop.h"
#include "xen/store_message.h"
#include "xen/xen.h"

#include "fixture.h"
#include "xenstore/mock_xenstore.h"

#define MS 1000000ull
#define HEARD 32

static struct mock *mock;
static struct xs_handle *xs;
static struct loop *loop;
static struct store *store;
static struct store_tree *tree;
static struct loop_timer *guard;
static bool (*enough)(void);

/* What was heard. */
static struct {
    char name[32], domain[16], nodes[512]; /* "path=value path=? ..." */
    unsigned count;
    bool whole;
} heard[HEARD];
static unsigned heard_count, begins, ends, losses, dones, snapshots;
static int last_error;
static bool remove_inside;

static void look(void)
{
    if (enough && enough()) {
        event_loop_stop(loop);
    }
}

static void hang(void *self)
{
    ck_abort_msg("not heard in time: %u begins, %u ends, %u branches, %u losses, %u done", begins, ends,
                 heard_count, losses, dones);
}

static void run_until(bool (*condition)(void))
{
    enough = condition;
    if (!condition()) {
        loop->ops->timer_set(guard, loop->ops->now_ns(loop) + 20000 * MS);
        ck_assert_int_eq(event_loop_run(loop), 0);
        loop->ops->timer_cancel(guard);
    }
    enough = NULL;
}

static void begin(void *self, uint16_t own)
{
    ck_assert_uint_eq(own, 0);
    begins++;
    look();
}

static void end(void *self)
{
    ends++;
    look();
}

static void branch(void *self, const struct store_branch *told)
{
    size_t length = 0;

    ck_assert_uint_lt(heard_count, HEARD);
    snprintf(heard[heard_count].name, sizeof(heard[0].name), "%s", told->name);
    snprintf(heard[heard_count].domain, sizeof(heard[0].domain), "%s",
             told->domain ? told->domain->type : "");
    heard[heard_count].count = told->count;
    heard[heard_count].whole = told->whole;
    heard[heard_count].nodes[0] = '\0';
    for (unsigned i = 0; i < told->count && length < sizeof(heard[0].nodes) - 64; i++) {
        length += (size_t)snprintf(heard[heard_count].nodes + length, sizeof(heard[0].nodes) - length,
                                   "%s%s=%.20s", i ? " " : "", told->nodes[i].path,
                                   told->nodes[i].value ? told->nodes[i].value : "?");
    }
    heard_count++;
    if (remove_inside) {
        store->ops->tree_remove(tree);
        tree = NULL;
    }
    look();
}

static const struct store_tree_events tree_events = {.begin = begin, .branch = branch, .end = end};

static void domains(void *self, const struct store_domain *of, unsigned count)
{
    snapshots++;
    look();
}

static void lost(void *self, const char *why)
{
    losses++;
    look();
}

static const struct store_events events = {.domains = domains, .lost = lost};

static void done(void *self, int error)
{
    dones++;
    last_error = error;
    look();
}

static void put(const char *path, const char *value)
{
    ck_assert(xs_write(xs, XBT_NULL, path, value, (unsigned)strlen(value)));
}

static void setup(void)
{
    struct mock_options options = {.xenstore = true};
    char path[128];

    mock = mock_start(&options);
    ck_assert_ptr_nonnull(mock);
    ck_assert_int_eq(mock_xenstore_start(mock), 0);
    mock_xenstore_socket(mock, path, sizeof(path));
    setenv("XENSTORED_PATH", path, 1);
    xs = xs_open(0);
    ck_assert_ptr_nonnull(xs);
    loop = event_loop_create();
    guard = loop->ops->timer_add(loop, hang, NULL);
    store = xen_store_create(loop, NULL, NULL);
    ck_assert_ptr_nonnull(store);
    heard_count = begins = ends = losses = dones = snapshots = 0;
    remove_inside = false;
    ck_assert_int_eq(store->ops->watch(store, &events, NULL), 0);
}

static void teardown(void)
{
    store->ops->destroy(store);
    loop->ops->timer_remove(guard);
    event_loop_destroy(loop);
    xs_close(xs);
    mock_xenstore_stop(mock);
    mock_stop(mock);
}

static bool a_listing(void)
{
    return ends > 0;
}

static bool two_listings(void)
{
    return ends > 1;
}

static bool a_done(void)
{
    return dones > 0;
}

static bool a_loss(void)
{
    return losses > 0;
}

static void add_tree(unsigned depth)
{
    tree = store->ops->tree_add(store, "backend/thing", depth, &tree_events, NULL);
    ck_assert_ptr_nonnull(tree);
}

/* The newest word on a branch; NULL: none. */
static const char *nodes_of(const char *name)
{
    for (unsigned i = heard_count; i-- > 0;) {
        if (strcmp(heard[i].name, name) == 0) {
            return heard[i].nodes;
        }
    }
    return NULL;
}

static const char *awaited_name, *awaited_nodes;

static bool awaited(void)
{
    const char *nodes = nodes_of(awaited_name);

    return nodes && strcmp(nodes, awaited_nodes) == 0;
}

static void await(const char *name, const char *nodes)
{
    awaited_name = name;
    awaited_nodes = nodes;
    run_until(awaited);
}

START_TEST(branches_are_told_whole)
{
    put("backend/thing/1/0/a", "x");
    put("backend/thing/1/0/b", "y");
    put("backend/thing/1/1/a", "z");
    put("backend/thing/7/0/deeper/still", "not told");
    add_tree(2);
    run_until(a_listing);
    ck_assert_uint_eq(begins, 1);
    ck_assert_str_eq(nodes_of("1"), "0/a=x 0/b=y 1/a=z");
    ck_assert_str_eq(nodes_of("7"), "0/deeper=");
    put("backend/thing/1/1/a", "w");
    await("1", "0/a=x 0/b=y 1/a=w");
    ck_assert(xs_rm(xs, XBT_NULL, "backend/thing/1/0"));
    await("1", "1/a=w");
    ck_assert(xs_rm(xs, XBT_NULL, "backend/thing/1"));
    await("1", "");
    ck_assert_uint_eq(heard[heard_count - 1].count, 0);
    put("backend/thing/2/0/a", "new");
    await("2", "0/a=new");
    ck_assert_uint_eq(begins, 1);
    heard_count = 0;
    ck_assert(xs_rm(xs, XBT_NULL, "backend")); /* what the tree stands in: a new listing, of nothing */
    run_until(two_listings);
    ck_assert_uint_eq(heard_count, 0);
}
END_TEST

/* What a transaction writes is told at once, never in part. */
START_TEST(a_transaction_is_told_at_once)
{
    add_tree(2);
    run_until(a_listing);
    for (unsigned i = 0; i < 8; i++) {
        char path[64], name[8];
        xs_transaction_t transaction = xs_transaction_start(xs);
        for (unsigned k = 0; k < 12; k++) {
            snprintf(path, sizeof(path), "backend/thing/%u/0/%c", i, 'a' + k);
            ck_assert(xs_write(xs, transaction, path, "1", 1));
        }
        ck_assert(xs_transaction_end(xs, transaction, false));
        snprintf(name, sizeof(name), "%u", i);
        await(name, "0/a=1 0/b=1 0/c=1 0/d=1 0/e=1 0/f=1 0/g=1 0/h=1 0/i=1 0/j=1 0/k=1 0/l=1");
    }
    for (unsigned i = 0; i < heard_count; i++) {
        ck_assert(heard[i].count == 0 || heard[i].count == 12);
    }
}
END_TEST

static bool of_a_pvh_domain(void)
{
    return heard_count && strcmp(heard[heard_count - 1].domain, "pvh") == 0;
}

static bool of_no_domain(void)
{
    return heard_count && !heard[heard_count - 1].domain[0];
}

START_TEST(a_branch_knows_its_domain)
{
    struct mock_domain_spec spec = {.profile = MOCK_PVH, .ram_bytes = 16u << 20, .nr_vcpus = 1, .domid = 9};
    struct mock_guest *guest = mock_domain_create(mock, &spec);

    put("backend/thing/9", "spec");
    add_tree(1);
    put("backend/thing/9/0", "spec");
    await("9", "0=spec");
    run_until(of_no_domain);
    ck_assert_int_eq(mock_xenstore_create_domain(guest), 0);
    run_until(of_a_pvh_domain);
    mock_domain_kill(guest);
    mock_xenstore_release(guest);
    run_until(of_no_domain);
    mock_guest_free(guest);
}
END_TEST

static bool not_whole(void)
{
    return heard_count && !heard[heard_count - 1].whole;
}

START_TEST(what_does_not_fit_is_not_told_in_part)
{
    char path[600], value[3000];

    memset(value, 'v', sizeof(value));
    put("backend/thing/1/a", "fine");
    put("backend/thing/1/b", "line\nline");
    ck_assert(xs_write(xs, XBT_NULL, "backend/thing/1/c", value, STORE_VALUE_MAX + 1));
    ck_assert(xs_write(xs, XBT_NULL, "backend/thing/1/d", "nul\0nul", 7));
    add_tree(1);
    await("1", "a=fine b=? c=? d=?");
    ck_assert(heard[heard_count - 1].whole);
    /* A name that is longer than one may be. */
    snprintf(path, sizeof(path), "backend/thing/2/%.300s", value);
    put(path, "x");
    run_until(not_whole);
    ck_assert_uint_eq(heard[heard_count - 1].count, 0);
    /* More bytes than a branch may have: 2000 each, 256 KiB. */
    heard_count = 0;
    xs_transaction_t transaction = xs_transaction_start(xs);
    for (unsigned i = 0; i < 140; i++) {
        snprintf(path, sizeof(path), "backend/thing/3/%u", i);
        ck_assert(xs_write(xs, transaction, path, value, 2000));
    }
    ck_assert(xs_transaction_end(xs, transaction, false));
    run_until(not_whole);
    ck_assert_str_eq(heard[heard_count - 1].name, "3");
}
END_TEST

static int change(const char *path, const char *value, const char *was)
{
    dones = 0;
    int error = store->ops->change(store, &(struct store_change){.path = path, .value = value, .was = was}, 1,
                                   done, NULL);
    ck_assert_uint_eq(dones, 0); /* never inside the call */
    if (!error) {
        run_until(a_done);
    }
    return error ? error : last_error;
}

static void expect_node(const char *path, const char *value)
{
    unsigned length;
    char *now = xs_read(xs, XBT_NULL, path, &length);

    ck_assert_msg(value ? now && strcmp(now, value) == 0 : !now, "%s is %s", path, now ? now : "absent");
    free(now);
}

START_TEST(changes)
{
    char value[STORE_VALUE_MAX + 2] = "";

    ck_assert_int_eq(change("tool/a", "1", NULL), 0);
    expect_node("tool/a", "1");
    ck_assert_int_eq(change("tool/a", "2", "1"), 0);
    expect_node("tool/a", "2");
    ck_assert_int_eq(change("tool/a", "3", "1"), -ESTALE);
    ck_assert_int_eq(change("tool/b", "3", "1"), -ENOENT);
    ck_assert_int_eq(change("tool/a", NULL, "1"), -ESTALE);
    expect_node("tool/a", "2");
    expect_node("tool/b", NULL);
    ck_assert_int_eq(change("tool/a", NULL, "2"), 0);
    ck_assert_int_eq(change("tool/a", NULL, NULL), 0); /* there is none: fine */
    ck_assert_int_eq(change("/tool/absolute", "", NULL), 0);
    expect_node("/tool/absolute", "");
    memset(value, 'v', STORE_VALUE_MAX);
    ck_assert_int_eq(change("tool/long", value, NULL), 0);
    value[STORE_VALUE_MAX] = 'v';
    ck_assert_int_eq(change("tool/long", value, NULL), -EINVAL);
    ck_assert_int_eq(change("tool/a b", "1", NULL), -EINVAL);
    ck_assert_int_eq(change("tool//a", "1", NULL), -EINVAL);
    ck_assert_int_eq(change("", "1", NULL), -EINVAL);
    ck_assert_int_eq(change("tool/a", "1\n", NULL), -EINVAL);
}
END_TEST

START_TEST(changes_are_made_together_or_not_at_all)
{
    const struct store_change good[] = {{.path = "tool/a", .value = "1"}, {.path = "tool/b", .value = "2"}};
    const struct store_change bad[] = {{.path = "tool/a", .value = "3"},
                                       {.path = "tool/b"},
                                       {.path = "tool/c", .value = "1", .was = "none"}};
    char value[STORE_VALUE_MAX + 1] = "";
    struct store_change big[5];

    ck_assert_int_eq(store->ops->change(store, good, 2, done, NULL), 0);
    run_until(a_done);
    dones = 0;
    ck_assert_int_eq(store->ops->change(store, bad, 3, done, NULL), 0);
    run_until(a_done);
    ck_assert_int_eq(last_error, -ENOENT);
    expect_node("tool/a", "1");
    expect_node("tool/b", "2");
    memset(value, 'v', STORE_VALUE_MAX);
    for (unsigned i = 0; i < 5; i++) {
        big[i] = (struct store_change){.path = "tool/a", .value = value};
    }
    ck_assert_int_eq(store->ops->change(store, big, 5, done, NULL), -E2BIG);
}
END_TEST

/* Somebody else works in the same place all the time; 200 of ours come through, in order. */
START_TEST(changes_against_others)
{
    pid_t other = fork();
    unsigned made = 0;

    ck_assert_int_ge(other, 0);
    if (other == 0) {
        struct xs_handle *mine = xs_open(0);
        for (unsigned i = 0;; i++) {
            xs_write(mine, XBT_NULL, "backend/thing/1/busy", i % 2 ? "0" : "1", 1);
        }
    }
    add_tree(1);
    for (; made < 200; made++) {
        char text[16], was[16];
        snprintf(text, sizeof(text), "%u", made);
        snprintf(was, sizeof(was), "%u", made - 1);
        ck_assert_int_eq(change("backend/thing/1/count", text, made ? was : NULL), 0);
        heard_count = heard_count > HEARD / 2 ? 0 : heard_count;
    }
    kill(other, SIGKILL);
    waitpid(other, NULL, 0);
    expect_node("backend/thing/1/count", "199");
}
END_TEST

START_TEST(forgotten_changes_are_made)
{
    ck_assert_int_eq(
        store->ops->change(store, &(struct store_change){.path = "tool/a", .value = "1"}, 1, done, &dones),
        0);
    store->ops->forget(store, &dones);
    ck_assert_int_eq(change("tool/b", "1", NULL), 0); /* after it */
    ck_assert_uint_eq(dones, 1);
    expect_node("tool/a", "1");
}
END_TEST

static bool a_branch(void)
{
    return heard_count > 0;
}

START_TEST(a_tree_may_go_inside_its_event)
{
    put("backend/thing/1/a", "x");
    put("backend/thing/2/a", "x");
    remove_inside = true;
    add_tree(1);
    run_until(a_branch);
    remove_inside = false;
    put("backend/thing/3/a", "x");
    ck_assert_int_eq(change("tool/a", "1", NULL), 0);
    ck_assert_int_eq(change("tool/a", "2", NULL), 0);
    ck_assert_uint_eq(heard_count, 1);
    for (unsigned i = 0; i < 3 * STORE_TREES_MAX; i++) { /* the helper, too, gives its place to the next */
        add_tree(1);
        ends = 0;
        run_until(a_listing);
        store->ops->tree_remove(tree);
        heard_count = 0;
    }
    for (unsigned i = 0; i < STORE_TREES_MAX; i++) {
        ck_assert_ptr_nonnull(store->ops->tree_add(store, "tool/x", 1, &tree_events, NULL));
    }
    ck_assert_ptr_null(store->ops->tree_add(store, "tool/x", 1, &tree_events, NULL));
    ck_assert_ptr_null(store->ops->tree_add(store, "tool x", 1, &tree_events, NULL));
}
END_TEST

/* Ours, but for the mock's processes: they have other names. */
static pid_t helper_pid(void)
{
    char file[64], name[32];
    int word;
    pid_t found = 0;

    snprintf(file, sizeof(file), "/proc/self/task/%d/children", (int)getpid());
    FILE *children = fopen(file, "r");
    while (children && fscanf(children, "%d", &word) == 1) {
        snprintf(file, sizeof(file), "/proc/%d/comm", word);
        FILE *comm = fopen(file, "r");
        if (comm && fscanf(comm, "%31s", name) == 1 && strcmp(name, "ioreqd-xenstore") == 0) {
            found = word;
        }
        if (comm) {
            fclose(comm);
        }
    }
    if (children) {
        fclose(children);
    }
    return found;
}

START_TEST(a_killed_helper_is_told_again)
{
    put("backend/thing/1/a", "x");
    add_tree(1);
    run_until(a_listing);
    kill(helper_pid(), SIGSTOP); /* so that it can't have done it */
    for (unsigned i = 0; i < 100; i++) {
        char text[16];
        snprintf(text, sizeof(text), "%u", i);
        ck_assert_int_eq(
            store->ops->change(store, &(struct store_change){.path = "tool/a", .value = text}, 1, NULL, NULL),
            0);
    }
    ck_assert_int_eq(
        store->ops->change(store, &(struct store_change){.path = "tool/a", .value = "last"}, 1, done, NULL),
        0);
    kill(helper_pid(), SIGKILL);
    put("backend/thing/2/a", "y");
    run_until(a_loss);
    ck_assert_uint_eq(dones, 0);
    run_until(a_done);
    ck_assert_int_eq(last_error, 0);
    expect_node("tool/a", "last");
    run_until(two_listings);
    await("2", "a=y");
    ck_assert_uint_eq(dones, 1);
}
END_TEST

START_TEST(a_stalled_xenstored_is_waited_for)
{
    add_tree(1);
    run_until(a_listing);
    kill(mock_xenstore_pid(mock), SIGSTOP);
    ck_assert_int_eq(
        store->ops->change(store, &(struct store_change){.path = "tool/a", .value = "1"}, 1, done, NULL), 0);
    run_until(a_loss); /* the helper was given up, more than once perhaps */
    ck_assert_uint_eq(dones, 0);
    kill(mock_xenstore_pid(mock), SIGCONT);
    run_until(a_done);
    ck_assert_int_eq(last_error, 0);
    run_until(two_listings);
    expect_node("tool/a", "1");
}
END_TEST

START_TEST(a_dead_xenstored_is_waited_for)
{
    add_tree(1);
    run_until(a_listing);
    mock_xenstore_stop(mock);
    ck_assert_int_eq(
        store->ops->change(store, &(struct store_change){.path = "tool/a", .value = "1"}, 1, done, NULL), 0);
    run_until(a_loss);
    ck_assert_uint_eq(dones, 0);
    ck_assert_int_eq(mock_xenstore_start(mock), 0);
    run_until(a_done);
    ck_assert_int_eq(last_error, 0);
    run_until(two_listings);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], STORE_HELPER_OPTION) == 0) {
        return xen_store_helper(atoi(argv[2]));
    }
    Suite *suite = suite_create("xenstore mailbox");
    TCase *tc = tcase_create("mailbox");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, branches_are_told_whole);
    tcase_add_test(tc, a_transaction_is_told_at_once);
    tcase_add_test(tc, a_branch_knows_its_domain);
    tcase_add_test(tc, what_does_not_fit_is_not_told_in_part);
    tcase_add_test(tc, changes);
    tcase_add_test(tc, changes_are_made_together_or_not_at_all);
    tcase_add_test(tc, changes_against_others);
    tcase_add_test(tc, forgotten_changes_are_made);
    tcase_add_test(tc, a_tree_may_go_inside_its_event);
    tcase_add_test(tc, a_killed_helper_is_told_again);
    tcase_add_test(tc, a_stalled_xenstored_is_waited_for);
    tcase_add_test(tc, a_dead_xenstored_is_waited_for);
    suite_add_tcase(suite, tc);
    return fixture_main(suite);
}
