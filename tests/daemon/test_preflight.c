/* SPDX-License-Identifier: BSD-2-Clause */
/* ioreqd --preflight: what it says of a domain, and that it takes back all that it makes. */
#include <stdlib.h>

#include "fixture.h"

static struct fixture f;

/* Runs `ioreqd ARGUMENTS...` to its end; its output stays in the daemon's log. */
static struct mock_daemon *preflight(const char *domain, int status)
{
    char *argv[] = {getenv("IOREQD"), (char *)"--record-dir", f.records, (char *)"--preflight", (char *)domain, NULL};
    struct mock_daemon *daemon = mock_spawn_daemon(f.mock, argv);

    ck_assert_ptr_nonnull(daemon);
    ck_assert_msg(fixture_status(daemon) == status, "%s", mock_daemon_log(daemon));
    return daemon;
}

START_TEST(a_domain_with_an_ioreqd)
{
    struct mock_leftover foreign = {.enabled = true};

    fixture_start(&f, MOCK_HVM, 2);
    ck_assert_int_ge(mock_leave_server(f.guest, &foreign, NULL), 0);
    fixture_run(&f, "--device", "virtio-rng", NULL);
    struct mock_daemon *daemon = preflight(f.domid, 0);
    fixture_expect_log(daemon, "was created, disabled");
    fixture_expect_log(daemon, "can be mapped");
    fixture_expect_log(daemon, "no record of ours");
    fixture_expect_log(daemon, "of the ioreqd that runs as process");
    fixture_expect_log(daemon, "was removed again");
    mock_daemon_free(daemon);
    daemon = preflight(f.domid, 0); /* the id that it had is free again */
    fixture_expect_log(daemon, "2 of this domain's own");
    mock_daemon_free(daemon);
    fixture_terminate(&f);
    fixture_stop(&f);
}
END_TEST

START_TEST(a_domain_without_room)
{
    struct mock_leftover foreign = {.enabled = false};

    fixture_start(&f, MOCK_HVM, 1);
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_int_ge(mock_leave_server(f.guest, &foreign, NULL), 0);
    }
    struct mock_daemon *daemon = preflight(f.domid, 3);
    fixture_expect_log(daemon, "the domain has 8 already");
    mock_daemon_free(daemon);
    fixture_stop(&f);
}
END_TEST

START_TEST(no_such_domain)
{
    fixture_start(&f, MOCK_HVM, 1);
    struct mock_daemon *daemon = preflight("4711", 3);
    fixture_expect_log(daemon, "no such domain");
    mock_daemon_free(daemon);
    daemon = preflight("web", 3);
    fixture_expect_log(daemon, "expected a domid");
    mock_daemon_free(daemon);
    fixture_stop(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("preflight");
    TCase *tcase = tcase_create("preflight");

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_domain_with_an_ioreqd);
    tcase_add_test(tcase, a_domain_without_room);
    tcase_add_test(tcase, no_such_domain);
    suite_add_tcase(suite, tcase);
    return fixture_main(suite);
}
