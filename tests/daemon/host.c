/* SPDX-License-Identifier: BSD-2-Clause */
#include "host.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop/event_loop.h"
#include "main/builtin.h"
#include "xen/xen.h"

static void log_line(void *self, enum iod_log_level level, const char *prefix, const char *text)
{
    struct host *host = self;
    size_t length = strlen(host->log);
    (void)level;
    snprintf(host->log + length, sizeof(host->log) - length, "%s: %s\n", prefix, text);
}

static void woken(void *self, unsigned events)
{
    struct host *host = self;
    uint64_t count;
    (void)events;
    ck_assert_int_eq(read(host->wake, &count, sizeof(count)), sizeof(count));
    host->job(host, host->argument);
}

static void *run_loop(void *self)
{
    struct host *host = self;
    event_loop_run(host->loop);
    return NULL;
}

void host_start(struct host *host)
{
    host_start_with(host, NULL);
}

void host_start_with(struct host *host, const char *record_dir)
{
    struct iod_error error;
    memset(host, 0, sizeof(*host));
    sem_init(&host->done, 0, 0);
    host->loop = event_loop_create();
    host->hv = xen_hypervisor_create(&error);
    ck_assert_msg(host->hv != NULL, "%s", error.text);
    host->modules = modules_create();
    ck_assert_int_eq(builtin_modules_add(host->modules, &error), 0);
    ck_assert_int_eq(modules_load(host->modules, getenv("MODULE_TEST_DEFER"), &error), 0);
    struct daemon_config config = {.loop = host->loop, .hypervisor = host->hv, .modules = host->modules,
                                   .record_dir = record_dir, .log_level = IOD_LOG_DEBUG, .log = log_line,
                                   .log_self = host};
    host->daemon = daemon_create(&config, &error);
    ck_assert_ptr_nonnull(host->daemon);
    host->wake = eventfd(0, EFD_CLOEXEC);
    host->watch = host->loop->ops->watch_add(host->loop, host->wake, 1, woken, host);
    ck_assert_int_eq(pthread_create(&host->thread, NULL, run_loop, host), 0);
}

void host_do(struct host *host, void (*job)(struct host *host, void *argument), void *argument)
{
    uint64_t one = 1;
    host->job = job;
    host->argument = argument;
    ck_assert_int_eq(write(host->wake, &one, sizeof(one)), sizeof(one));
    sem_wait(&host->done);
}

static void daemon_is_quiet(void *self)
{
    struct host *host = self;
    event_loop_stop(host->loop);
    sem_post(&host->done);
}

static void job_stop(struct host *host, void *argument)
{
    (void)argument;
    daemon_stop(host->daemon, daemon_is_quiet, host);
}

void host_stop(struct host *host)
{
    host_do(host, job_stop, NULL);
    pthread_join(host->thread, NULL);
    ck_assert_uint_eq(daemon_guests(host->daemon), 0);
    host->loop->ops->watch_remove(host->watch);
    daemon_destroy(host->daemon);
    modules_destroy(host->modules);
    host->hv->ops->destroy(host->hv);
    event_loop_destroy(host->loop);
    close(host->wake);
}

static void job_add(struct host *host, void *argument)
{
    struct iod_error error;
    ck_assert_msg(daemon_add_guest(host->daemon, argument, &error) == 0, "%s", error.text);
    sem_post(&host->done);
}

void host_add(struct host *host, struct mock_guest *guest, const char *const *devices)
{
    struct guest_spec spec;
    struct iod_error error;
    char domid[8];
    snprintf(domid, sizeof(domid), "%u", mock_domid(guest));
    guest_spec_init(&spec);
    spec.domain = strdup(domid);
    spec.arch = mock_guest_profile(guest) == MOCK_ARM64 ? ARCH_ARM : ARCH_X86;
    spec.type = mock_guest_profile(guest) == MOCK_HVM ? GUEST_HVM : GUEST_PVH;
    spec.on_exit = ON_EXIT_DESTROY;
    for (; *devices; devices++) {
        ck_assert_msg(guest_spec_add_device(&spec, *devices, &error) == 0, "%s", error.text);
    }
    host_do(host, job_add, &spec);
    guest_spec_finish(&spec);
    for (unsigned i = 0; !strstr(host->log, "running") && i < 1000; i++) {
        usleep(10000);
    }
    ck_assert_msg(strstr(host->log, "running") != NULL, "%s", host->log);
}

void host_posted(void *self, int error, const char *why)
{
    struct host *host = self;
    ck_assert_msg(error == 0, "%s", why);
    sem_post(&host->done);
}
