/* SPDX-License-Identifier: BSD-2-Clause */
/* The real xenstored over the mock's domains, seen by an unmodified libxenstore client. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xenstore.h>

#include "mock_xenstore.h"

#define RAM (16u << 20)
#define WAIT_MS 10000

struct fixture {
    struct mock *mock;
    struct mock_guest *guest;
    struct xs_handle *xs;
};
static struct fixture test;

static void set_up(void)
{
    struct mock_options options = {.xenstore = true};
    char path[128];
    test.mock = mock_start(&options);
    ck_assert_ptr_nonnull(test.mock);
    ck_assert_int_eq(mock_xenstore_start(test.mock), 0);
    mock_xenstore_socket(test.mock, path, sizeof(path));
    setenv("XENSTORED_PATH", path, 1);
    test.xs = xs_open(0);
    ck_assert_ptr_nonnull(test.xs);
    test.guest = mock_domain_new(test.mock, MOCK_HVM, RAM, 1);
    ck_assert_ptr_nonnull(test.guest);
}

static void tear_down(void)
{
    xs_close(test.xs);
    mock_guest_free(test.guest);
    mock_xenstore_stop(test.mock);
    mock_stop(test.mock);
}

/* Waits for the next watch event; its token must be `token`. */
static void expect_event(const char *token)
{
    struct pollfd ready = {.fd = xs_fileno(test.xs), .events = POLLIN};
    for (unsigned i = 0; i < 100; i++) {
        char **event = xs_check_watch(test.xs);
        if (event) {
            ck_assert_str_eq(event[XS_WATCH_TOKEN], token);
            free(event);
            return;
        }
        ck_assert_msg(poll(&ready, 1, WAIT_MS) == 1, "no event of the watch '%s' came", token);
    }
    ck_abort_msg("the watch's descriptor is readable, but no event comes");
}

static void expect_silence(void)
{
    struct pollfd ready = {.fd = xs_fileno(test.xs), .events = POLLIN};
    if (poll(&ready, 1, 100) == 1) {
        char **event = xs_check_watch(test.xs);
        ck_assert_msg(!event, "an event of the watch '%s' came", event ? event[XS_WATCH_TOKEN] : "");
    }
}

static void expect_node(const char *path, const char *value)
{
    unsigned length;
    char *found = xs_read(test.xs, XBT_NULL, path, &length);
    if (!value) {
        ck_assert_msg(!found, "%s is still there", path);
        return;
    }
    ck_assert_msg(found != NULL, "%s is not there", path);
    ck_assert_str_eq(found, value);
    free(found);
}

START_TEST(nodes_as_libxl_writes_them)
{
    char path[128], value[64];
    unsigned domid = mock_domid(test.guest);
    ck_assert_int_eq(mock_xenstore_create_domain(test.guest), 0);
    snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
    expect_node(path, mock_domain_name(test.guest));
    snprintf(path, sizeof(path), "/libxl/%u/type", domid);
    expect_node(path, "hvm");
    snprintf(path, sizeof(path), "/local/domain/%u/vm", domid);
    ck_assert_int_eq(mock_xenstore_read(test.mock, path, value, sizeof(value)), 0);
    ck_assert_uint_eq(strlen(value), 4 + 36);
    snprintf(path, sizeof(path), "%s/uuid", value);
    expect_node(path, value + 4);
    ck_assert_int_eq(mock_xenstore_rename(test.guest, "renamed"), 0);
    snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
    expect_node(path, "renamed");
    ck_assert_int_eq(mock_xenstore_read(test.mock, path, value, 3), -ERANGE);
    ck_assert_int_eq(mock_xenstore_remove_nodes(test.guest), 0);
    expect_node(path, NULL);
    ck_assert_int_eq(mock_xenstore_read(test.mock, path, value, sizeof(value)), -ENOENT);
}
END_TEST

START_TEST(introduce_and_release_fire_their_watches)
{
    ck_assert(xs_watch(test.xs, "@introduceDomain", "came"));
    expect_event("came"); /* a new watch fires at once */
    ck_assert(xs_watch(test.xs, "@releaseDomain", "went"));
    expect_event("went");
    ck_assert_int_eq(mock_xenstore_nodes(test.guest, true), 0);
    expect_silence(); /* the name is there, the domain is not introduced */
    ck_assert_int_eq(mock_xenstore_introduced(test.guest), 0);
    ck_assert(!xs_is_domain_introduced(test.xs, mock_domid(test.guest)));
    ck_assert_int_eq(mock_xenstore_introduce(test.guest), 0);
    expect_event("came");
    ck_assert_int_eq(mock_xenstore_introduced(test.guest), 1);
    ck_assert(xs_is_domain_introduced(test.xs, mock_domid(test.guest)));
    ck_assert_int_eq(mock_xenstore_release(test.guest), 0);
    expect_event("went");
    ck_assert(!xs_is_domain_introduced(test.xs, mock_domid(test.guest)));
}
END_TEST

START_TEST(a_shut_down_or_killed_domain_is_noticed)
{
    ck_assert_int_eq(mock_xenstore_create_domain(test.guest), 0);
    ck_assert(xs_watch(test.xs, "@releaseDomain", "went"));
    expect_event("went");
    ck_assert_int_eq(mock_domain_shutdown(test.guest, 0), 0);
    expect_event("went");
    ck_assert(xs_is_domain_introduced(test.xs, mock_domid(test.guest)));
    ck_assert_int_eq(mock_domain_kill(test.guest), 0);
    expect_event("went");
    ck_assert(!xs_is_domain_introduced(test.xs, mock_domid(test.guest)));
}
END_TEST

START_TEST(an_unknown_type_has_no_node)
{
    char path[64];
    ck_assert_int_eq(mock_xenstore_nodes(test.guest, false), 0);
    snprintf(path, sizeof(path), "/libxl/%u/type", mock_domid(test.guest));
    expect_node(path, NULL);
    ck_assert_int_eq(mock_xenstore_remove_nodes(test.guest), 0);
}
END_TEST

START_TEST(transactions_conflict)
{
    xs_transaction_t one = xs_transaction_start(test.xs);
    ck_assert(one != XBT_NULL);
    ck_assert(xs_write(test.xs, one, "/tool/a", "1", 1));
    free(xs_read(test.xs, one, "/tool/b", &(unsigned){0}));
    ck_assert_int_eq(mock_xenstore_write(test.mock, "/tool/b", "2"), 0);
    ck_assert(!xs_transaction_end(test.xs, one, false));
    ck_assert_int_eq(errno, EAGAIN);
    expect_node("/tool/a", NULL);
}
END_TEST

START_TEST(xenstore_ls_shows_the_domain)
{
    char command[256], line[256], path[128];
    bool found = false;
    ck_assert_int_eq(mock_xenstore_create_domain(test.guest), 0);
    mock_xenstore_socket(test.mock, path, sizeof(path));
    snprintf(command, sizeof(command), "XENSTORED_PATH=%s xenstore-ls -f /local/domain/%u", path,
             mock_domid(test.guest));
    FILE *output = popen(command, "r");
    ck_assert_ptr_nonnull(output);
    snprintf(path, sizeof(path), "/local/domain/%u/name = \"%s\"\n", mock_domid(test.guest),
             mock_domain_name(test.guest));
    while (fgets(line, sizeof(line), output)) {
        found = found || strcmp(line, path) == 0;
    }
    ck_assert_int_eq(pclose(output), 0);
    ck_assert(found);
}
END_TEST

START_TEST(it_can_die_and_come_back)
{
    pid_t pid = mock_xenstore_pid(test.mock);
    ck_assert_int_gt(pid, 0);
    mock_xenstore_stop(test.mock);
    ck_assert_int_eq(mock_xenstore_pid(test.mock), 0);
    ck_assert_int_lt(mock_xenstore_write(test.mock, "/tool/a", "1"), 0);
    ck_assert_int_eq(mock_xenstore_start(test.mock), 0);
    ck_assert_int_ne(mock_xenstore_pid(test.mock), pid);
    ck_assert_int_eq(mock_xenstore_create_domain(test.guest), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("xenstore");
    TCase *tests = tcase_create("xenstored");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, nodes_as_libxl_writes_them);
    tcase_add_test(tests, introduce_and_release_fire_their_watches);
    tcase_add_test(tests, a_shut_down_or_killed_domain_is_noticed);
    tcase_add_test(tests, an_unknown_type_has_no_node);
    tcase_add_test(tests, transactions_conflict);
    tcase_add_test(tests, xenstore_ls_shows_the_domain);
    tcase_add_test(tests, it_can_die_and_come_back);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
