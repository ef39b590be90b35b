/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/list.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/emulator.h"

#define SECOND UINT64_C(1000000000)
#define LOOK_NS (SECOND / 2)      /* between looks at the domain */
#define END_LIMIT_NS (10 * SECOND) /* then SIGKILL */
#define KILL_LIMIT_NS (2 * SECOND)

struct list_run {
    struct list_config config;
    struct loop *loop;
    struct emulator *emulators[LIST_ENTRIES_MAX];
    unsigned started;
    struct loop_timer *look, *limit;
    struct loop_task *report;
    char uuid[40]; /* of the domain, once xenstore told of it */
    bool seen, ending, killed;
    enum list_result result;
};

static void begin_end(struct list_run *run, enum list_result result);

static void __attribute__((format(printf, 4, 5)))
say(struct list_run *run, enum iod_log_level level, const char *name, const char *format, ...)
{
    char text[1000];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    run->config.log(run->config.log_self, level, name, text);
}

/* ---- the guest ---- */

static bool guest_exists(const struct list_run *run)
{
    struct hypervisor *hv = run->config.hypervisor;
    unsigned count;

    return hv->ops->nr_vcpus(hv, run->config.file->domid, &count) != -ESRCH;
}

static void guest_gone(struct list_run *run)
{
    if (!run->ending) {
        say(run, IOD_LOG_INFO, NULL, "domid %u: the domain is gone", run->config.file->domid);
        begin_end(run, LIST_ENDED);
    }
}

static void look(void *self)
{
    struct list_run *run = self;

    if (!guest_exists(run)) {
        guest_gone(run);
    } else if (!run->ending) {
        run->loop->ops->timer_set(run->look, run->loop->ops->now_ns(run->loop) + LOOK_NS);
    }
}

/* A domain that somebody still maps is there for Xen, not for xenstore: its emulators are to let it go. */
static void domains_told(void *self, const struct store_domain *domains, unsigned count)
{
    struct list_run *run = self;

    for (unsigned i = 0; i < count; i++) {
        if (domains[i].domid == run->config.file->domid &&
            (!run->seen || !strcmp(domains[i].uuid, run->uuid))) {
            run->seen = true;
            snprintf(run->uuid, sizeof(run->uuid), "%s", domains[i].uuid);
            return;
        }
    }
    if (run->seen) {
        guest_gone(run);
    }
}

static void store_lost(void *self, const char *why)
{
    say(self, IOD_LOG_WARNING, NULL, "xenstore: %s", why);
}

/* ---- the end ---- */

static bool all_ended(const struct list_run *run)
{
    for (unsigned i = 0; i < run->started; i++) {
        if (run->emulators[i] && !emulator_has_ended(run->emulators[i])) {
            return false;
        }
    }
    return true;
}

static void signal_all(struct list_run *run, int signo)
{
    for (unsigned i = 0; i < run->started; i++) {
        if (run->emulators[i]) {
            emulator_end(run->emulators[i], signo);
        }
    }
}

static void set_limit(struct list_run *run, uint64_t from_now)
{
    run->loop->ops->timer_set(run->limit, run->loop->ops->now_ns(run->loop) + from_now);
}

static void kill_all(struct list_run *run)
{
    run->killed = true;
    signal_all(run, SIGKILL);
    set_limit(run, KILL_LIMIT_NS);
}

static void begin_end(struct list_run *run, enum list_result result)
{
    if (run->ending) {
        return;
    }
    run->ending = true;
    run->result = result;
    run->loop->ops->timer_cancel(run->look);
    signal_all(run, SIGTERM);
    set_limit(run, END_LIMIT_NS);
    if (all_ended(run)) {
        run->loop->ops->task_soon(run->report);
    }
}

static void limit_reached(void *self)
{
    struct list_run *run = self;

    for (unsigned i = 0; i < run->started; i++) {
        if (run->emulators[i] && !emulator_has_ended(run->emulators[i])) {
            say(run, IOD_LOG_WARNING, emulator_name(run->emulators[i]), "%s",
                run->killed ? "does not end though it was killed: left to the kernel"
                            : "did not end within 10 s: killing it");
        }
    }
    if (run->killed) {
        run->loop->ops->task_soon(run->report);
    } else {
        kill_all(run);
    }
}

static void report(void *self)
{
    struct list_run *run = self;

    run->loop->ops->timer_cancel(run->limit);
    run->config.ended(run->config.self, run->result);
}

void list_end(struct list_run *run)
{
    if (!run->ending) {
        begin_end(run, LIST_ENDED);
    } else if (!run->killed) {
        kill_all(run);
    }
}

/* ---- the emulators ---- */

static void start_next(struct list_run *run);

static void fail(struct list_run *run, const char *name, const char *why)
{
    say(run, IOD_LOG_ERROR, name, "%s", why);
    begin_end(run, LIST_FAILED);
}

static void emulator_line(void *self, enum iod_log_level level, const char *name, const char *text)
{
    say(self, level, name, "%s", text);
}

static void emulator_ready(void *self, struct emulator *emulator, const char *why)
{
    struct list_run *run = self;

    if (why) {
        fail(run, emulator_name(emulator), why);
    } else {
        say(run, IOD_LOG_DEBUG, emulator_name(emulator), "ready");
        start_next(run);
    }
}

static void emulator_ended(void *self, struct emulator *emulator)
{
    struct list_run *run = self;
    bool early = !emulator_is_ready(emulator), well = !early && emulator_ended_well(emulator);

    if (!run->ending && !guest_exists(run)) {
        guest_gone(run);
    } else if (!run->ending) {
        say(run, well ? IOD_LOG_INFO : IOD_LOG_ERROR, emulator_name(emulator), "%s%s",
            emulator_reason(emulator), early ? ", before it was ready" : "; ending the others");
        begin_end(run, well ? LIST_ENDED : LIST_FAILED);
    }
    if (all_ended(run)) {
        run->loop->ops->task_soon(run->report);
    }
}

static void start_next(struct list_run *run)
{
    struct iod_error error = {0};
    unsigned index = run->started;

    if (run->ending) {
        return;
    }
    if (index == run->config.file->count) {
        run->config.ready(run->config.self);
        return;
    }
    run->emulators[index] =
        emulator_start(&(struct emulator_config){.loop = run->loop,
                                                 .store = run->config.store,
                                                 .entry = &run->config.file->entries[index],
                                                 .line = emulator_line,
                                                 .ready = emulator_ready,
                                                 .ended = emulator_ended,
                                                 .self = run},
                       &error);
    run->started++;
    if (!run->emulators[index]) {
        fail(run, NULL, error.text);
    }
}

/* ---- making ---- */

static int begin(struct list_run *run, struct iod_error *error)
{
    static const struct store_events events = {.domains = domains_told, .lost = store_lost};
    struct store *store = run->config.store;

    if (!guest_exists(run)) {
        return iod_fail(error, ESRCH, "domid %u: no such domain", run->config.file->domid);
    }
    int result = store ? store->ops->watch(store, &events, run) : 0;
    if (result) {
        return iod_fail(error, -result, "xenstore: %s", strerror(-result));
    }
    run->loop->ops->timer_set(run->look, run->loop->ops->now_ns(run->loop) + LOOK_NS);
    start_next(run);
    return 0;
}

struct list_run *list_start(const struct list_config *config, struct iod_error *error)
{
    struct list_run *run = calloc(1, sizeof(*run));

    if (run) {
        run->config = *config;
        run->loop = config->loop;
        run->look = run->loop->ops->timer_add(run->loop, look, run);
        run->limit = run->loop->ops->timer_add(run->loop, limit_reached, run);
        run->report = run->loop->ops->task_add(run->loop, report, run);
    }
    if (!run || !run->look || !run->limit || !run->report) {
        list_destroy(run);
        iod_fail(error, ENOMEM, "out of memory");
        return NULL;
    }
    if (begin(run, error)) {
        list_destroy(run);
        return NULL;
    }
    return run;
}

void list_destroy(struct list_run *run)
{
    if (!run) {
        return;
    }
    for (unsigned i = 0; i < run->started; i++) {
        emulator_destroy(run->emulators[i]);
    }
    run->loop->ops->timer_remove(run->look);
    run->loop->ops->timer_remove(run->limit);
    run->loop->ops->task_remove(run->report);
    free(run);
}
