/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the tests of the real daemon share: a mock hypervisor, one guest, and ioreqd under it. The program's path comes
 * from $IOREQD (Meson sets it).
 */
#ifndef DAEMON_FIXTURE_H
#define DAEMON_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include <check.h>

#include "guest.h"

#define FIXTURE_TIMEOUT_MS 20000

struct fixture {
    struct mock *mock;
    struct mock_guest *guest;
    struct mock_daemon *daemon;
    char domid[8];
    char records[128]; /* the daemon's --record-dir, in the mock's directory */
    const char *arch, *type; /* "x86" or "arm"; NULL: no --type */
};

/* What main returns: runs the suite as the environment says (CK_...). */
int fixture_main(Suite *suite);

/* A mock and a guest of 16 MiB; ends the test on failure. */
void fixture_start(struct fixture *fixture, enum mock_profile profile, unsigned vcpus);
/* Ends the daemon if it still runs, checks that the mock saw no panic and that no mapping is left, frees all. */
void fixture_stop(struct fixture *fixture);
/*
 * Spawns `ioreqd --record-dir ... --no-xenstore --arch ... --domain ID [--type ...] ARGUMENTS...` (the list ends with
 * NULL) and waits until it says that the guest is running.
 */
void fixture_run(struct fixture *fixture, ...) __attribute__((sentinel));
/* The same without waiting; the caller owns the daemon. */
struct mock_daemon *fixture_spawn(struct fixture *fixture, ...) __attribute__((sentinel));
/* SIGTERM; checks that it ends with status 0. */
void fixture_terminate(struct fixture *fixture);
/* SIGKILL, and forget it. */
void fixture_kill(struct fixture *fixture);
/* Waits until the daemon ends and returns its exit status; -1: a signal ended it. */
int fixture_status(struct mock_daemon *daemon);
/* Fails the test unless the daemon's log holds the text. */
void fixture_expect_log(struct mock_daemon *daemon, const char *text);
/*
 * A file in the mock's directory of `size` bytes with a pattern (byte i of sector n is n * 7 + i); its path
 * is static.
 */
const char *fixture_image(struct fixture *fixture, const char *name, uint64_t size);
uint8_t fixture_pattern(uint64_t offset);
/* Waits until the domain's info satisfies: no server, no mapping. */
void fixture_expect_clean(struct fixture *fixture);

/*
 * Begins an access that must block, and lets the vCPU wait for its end in a thread (a vCPU takes its answer
 * only there).
 */
struct fixture_vcpu;
struct fixture_vcpu *fixture_access(struct fixture *fixture, unsigned vcpu, const struct mock_access *access);
/* Waits for its end and frees it; value may be NULL. */
enum mock_status fixture_join(struct fixture_vcpu *vcpu, uint64_t *value);

#endif
