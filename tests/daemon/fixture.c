/* SPDX-License-Identifier: BSD-2-Clause */
#include "fixture.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUEST_RAM (16u << 20)
#define ARGUMENTS_MAX 40

int fixture_main(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}

void fixture_start(struct fixture *fixture, enum mock_profile profile, unsigned vcpus)
{
    memset(fixture, 0, sizeof(*fixture));
    fixture->mock = mock_start(NULL);
    ck_assert_ptr_nonnull(fixture->mock);
    fixture->guest = mock_domain_new(fixture->mock, profile, GUEST_RAM, vcpus);
    ck_assert_ptr_nonnull(fixture->guest);
    snprintf(fixture->domid, sizeof(fixture->domid), "%u", mock_domid(fixture->guest));
    snprintf(fixture->records, sizeof(fixture->records), "%s/records", mock_dir(fixture->mock));
    fixture->arch = profile == MOCK_ARM64 ? "arm" : "x86";
    fixture->type = profile == MOCK_HVM ? "hvm" : profile == MOCK_PVH ? "pvh" : NULL;
}

/*
 * $IOREQD_MODULES: files that every daemon loads, with a colon between them; the classes in them stand before what is
 * built in (tests/out-of-tree/run). Kept for the process.
 */
static unsigned add_modules(const char **arguments, unsigned count)
{
    const char *modules = getenv("IOREQD_MODULES");
    if (!modules || !modules[0]) {
        return count;
    }
    char *text = strdup(modules), *rest = NULL;
    arguments[count++] = "--log";
    arguments[count++] = "debug";
    for (char *file = strtok_r(text, ":", &rest); file; file = strtok_r(NULL, ":", &rest)) {
        ck_assert_uint_lt(count, ARGUMENTS_MAX / 2);
        arguments[count++] = "--module";
        arguments[count++] = file;
    }
    return count;
}

/* A device whose class is in a loaded module, NAME.so for NAME, must have come from there. */
static void expect_modules_used(struct fixture *fixture)
{
    char text[256], name[64];
    const char *log = mock_daemon_log(fixture->daemon);
    const char *file = getenv("IOREQD_MODULES");
    while (file && file[0]) {
        size_t length = strcspn(file, ":");
        const char *base = memrchr(file, '/', length);
        base = base ? base + 1 : file;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(base, "."), base);
        for (char *at = name; *at; at++) {
            *at = *at == '_' ? '-' : *at;
        }
        snprintf(text, sizeof(text), "device class %s from ", name);
        const char *used = strstr(log, text);
        ck_assert_msg(!used || !strncmp(used + strlen(text), file, length), "%s is not the module's:\n%s", name, log);
        file += length + (file[length] == ':');
    }
}

static struct mock_daemon *spawn(struct fixture *fixture, va_list more)
{
    const char *program = getenv("IOREQD");
    const char *arguments[ARGUMENTS_MAX] = {program ? program : "ioreqd", "--record-dir", fixture->records,
                                            "--no-xenstore", "--arch", fixture->arch, "--domain",
                                            fixture->domid};
    unsigned count = 8;
    if (fixture->type) {
        arguments[count++] = "--type";
        arguments[count++] = fixture->type;
    }
    count = add_modules(arguments, count);
    const char *argument;
    while ((argument = va_arg(more, const char *))) {
        ck_assert_uint_lt(count, ARGUMENTS_MAX - 1);
        arguments[count++] = argument;
    }
    struct mock_daemon *daemon = mock_spawn_daemon(fixture->mock, (char *const *)(uintptr_t)arguments);
    ck_assert_ptr_nonnull(daemon);
    return daemon;
}

struct mock_daemon *fixture_spawn(struct fixture *fixture, ...)
{
    va_list more;
    va_start(more, fixture);
    struct mock_daemon *daemon = spawn(fixture, more);
    va_end(more);
    return daemon;
}

void fixture_run(struct fixture *fixture, ...)
{
    va_list more;
    va_start(more, fixture);
    fixture->daemon = spawn(fixture, more);
    va_end(more);
    int result = mock_daemon_wait_log(fixture->daemon, ": running", FIXTURE_TIMEOUT_MS);
    ck_assert_msg(result == 0, "ioreqd did not get the guest running (%d):\n%s", result,
                  mock_daemon_log(fixture->daemon));
    expect_modules_used(fixture);
}

int fixture_status(struct mock_daemon *daemon)
{
    int status;
    int result = mock_daemon_wait(daemon, FIXTURE_TIMEOUT_MS, &status);
    ck_assert_msg(result == 0, "ioreqd did not end (%d):\n%s", result, mock_daemon_log(daemon));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void fixture_terminate(struct fixture *fixture)
{
    mock_daemon_signal(fixture->daemon, SIGTERM);
    int status = fixture_status(fixture->daemon);
    ck_assert_msg(status == 0, "exit status %d:\n%s", status, mock_daemon_log(fixture->daemon));
    mock_daemon_free(fixture->daemon);
    fixture->daemon = NULL;
}

void fixture_kill(struct fixture *fixture)
{
    int status;
    mock_daemon_signal(fixture->daemon, SIGKILL);
    ck_assert_int_eq(mock_daemon_wait(fixture->daemon, FIXTURE_TIMEOUT_MS, &status), 0);
    mock_daemon_free(fixture->daemon);
    fixture->daemon = NULL;
}

void fixture_expect_log(struct mock_daemon *daemon, const char *text)
{
    const char *log = mock_daemon_log(daemon);
    ck_assert_msg(strstr(log, text) != NULL, "the log lacks \"%s\":\n%s", text, log);
}

void fixture_expect_clean(struct fixture *fixture)
{
    struct mock_domain_info info;
    ck_assert_int_eq(mock_domain_info(fixture->guest, &info), 0);
    ck_assert_uint_eq(info.server_mask, 0);
    ck_assert_uint_eq(info.foreign_pages, 0);
    ck_assert_uint_eq(info.resource_pages, 0);
    ck_assert_uint_eq(info.bound_ports, 0);
}

void fixture_stop(struct fixture *fixture)
{
    if (fixture->daemon) {
        fixture_terminate(fixture);
    }
    ck_assert_msg(mock_panics(fixture->mock) == 0, "real Xen would have died: %s", mock_panic_text(fixture->mock, 0));
    mock_guest_free(fixture->guest);
    mock_stop(fixture->mock);
}

uint8_t fixture_pattern(uint64_t offset)
{
    return (uint8_t)((offset / 512) * 7 + offset % 512);
}

const char *fixture_image(struct fixture *fixture, const char *name, uint64_t size)
{
    static char path[160];
    uint8_t bytes[4096];
    snprintf(path, sizeof(path), "%s/%s", mock_dir(fixture->mock), name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    for (uint64_t at = 0; at < size; at += sizeof(bytes)) {
        for (unsigned i = 0; i < sizeof(bytes); i++) {
            bytes[i] = fixture_pattern(at + i);
        }
        size_t part = size - at < sizeof(bytes) ? size - at : sizeof(bytes);
        ck_assert_int_eq(write(fd, bytes, part), (ssize_t)part);
    }
    close(fd);
    return path;
}

/* ---- a vCPU in a thread of its own ---- */

struct fixture_vcpu {
    pthread_t thread;
    struct mock_guest *guest;
    unsigned vcpu;
    uint64_t value;
    enum mock_status status;
};

static void *wait_for_access(void *self)
{
    struct fixture_vcpu *vcpu = self;
    vcpu->status = mock_access_wait(vcpu->guest, vcpu->vcpu, FIXTURE_TIMEOUT_MS, &vcpu->value);
    return NULL;
}

struct fixture_vcpu *fixture_access(struct fixture *fixture, unsigned vcpu, const struct mock_access *access)
{
    struct fixture_vcpu *self = calloc(1, sizeof(*self));
    ck_assert_ptr_nonnull(self);
    self->guest = fixture->guest;
    self->vcpu = vcpu;
    ck_assert_int_eq(mock_access_start(fixture->guest, vcpu, access), 0);
    ck_assert_int_eq(mock_access_wait(fixture->guest, vcpu, 100, NULL), MOCK_BLOCKED);
    ck_assert_int_eq(pthread_create(&self->thread, NULL, wait_for_access, self), 0);
    return self;
}

enum mock_status fixture_join(struct fixture_vcpu *vcpu, uint64_t *value)
{
    ck_assert_int_eq(pthread_join(vcpu->thread, NULL), 0);
    enum mock_status status = vcpu->status;
    if (value) {
        *value = vcpu->value;
    }
    free(vcpu);
    return status;
}
