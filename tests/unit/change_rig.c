/* SPDX-License-Identifier: BSD-2-Clause */
#include "change_rig.h"

#include <errno.h>
#include <stdio.h>

#include <ioreqd/module.h>
#include <ioreqd/option.h>
#include <ioreqd/region.h>

#include "core/state.h"

struct knobs knobs;

/* ---- the class ---- */

static struct knob *all[4096];

static uint64_t knob_read(void *self, uint64_t offset, unsigned width)
{
    return iod_option_number(iod_device_options(((struct knob *)self)->device), "value");
}

static void knob_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    ((struct knob *)self)->driven = value != 0;
    ((struct knob *)self)->asks = value == 2;
}

static const struct iod_region_ops knob_ops = {
    .size = sizeof(knob_ops), .widths = 4, .read = knob_read, .write = knob_write
};

static bool part_removable(struct device_part *part, struct iod_error *error)
{
    struct knob *knob = list_entry(part, struct knob, part);
    if (knob->driven) {
        iod_fail(error, knob->asks ? EINPROGRESS : EBUSY, "the guest turns it");
    }
    return !knob->driven;
}

static void part_destroy(struct device_part *part)
{
}

static const struct device_part_ops part_ops = {
    .name = "part", .removable = part_removable, .destroy = part_destroy
};

static int knob_create(struct iod_device *device, struct iod_error *error)
{
    struct knob *knob = iod_self(device);
    knob->device = device;
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (all[i] == NULL) {
            all[i] = knob;
            break;
        }
    }
    knob->serial = ++knobs.created;
    struct iod_region *region = iod_region_add(device, "registers", 16, &knob_ops, knob);
    if (region == NULL || device_part_add(device, &knob->part, &part_ops) != 0) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    return iod_region_place_base(region, IOD_MMIO, UINT64_MAX, error);
}

static int knob_open(struct iod_device *device, struct iod_error *error)
{
    struct knob *knob = iod_self(device);
    knob->lock = iod_option_string(iod_device_options(device), "lock");
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]) && knob->lock != NULL; i++) {
        if (all[i] != NULL && all[i]->locked && strcmp(all[i]->lock, knob->lock) == 0) {
            return iod_fail(error, EBUSY, "%s: is in use", knob->lock);
        }
    }
    knob->locked = knob->lock != NULL;
    unsigned open = iod_option_choice(iod_device_options(device), "open");
    return open == 2 ? iod_fail(error, EIO, "it is stuck") : (int)open;
}

static void knob_start(struct iod_device *device)
{
    knobs.started++;
}

static enum iod_when knob_quiesce(struct iod_device *device, enum iod_drain drain)
{
    ((struct knob *)iod_self(device))->io = knobs.slow;
    return knobs.slow ? IOD_LATER : IOD_NOW;
}

static void knob_destroy(struct iod_device *device)
{
    knobs.destroyed++;
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        all[i] = all[i] == iod_self(device) ? NULL : all[i];
    }
}

static const char *const opens[] = { "now", "later", "fail", NULL };
static const struct iod_option knob_options[] = {
    { .name = "value", .type = IOD_OPTION_NUMBER, .max = 1000, .help = "what it says" },
    { .name = "lock", .type = IOD_OPTION_STRING, .help = "held while it is open" },
    { .name = "open", .type = IOD_OPTION_CHOICE, .choices = opens, .fallback = "now", .help = "how it opens" },
    { .name = NULL },
};
static const struct iod_device_class knob_class = {
    .size = sizeof(knob_class), .name = "knob", .summary = "as the test wants", .version = 1,
    .self_size = sizeof(struct knob), .options = knob_options, .create = knob_create, .open = knob_open,
    .start = knob_start, .quiesce = knob_quiesce, .destroy = knob_destroy,
};
static const struct iod_device_class *const classes[] = { &knob_class, NULL };
static const struct iod_module module = { .size = sizeof(module), .abi = IOD_ABI, .devices = classes };

void knob_opened(struct knob *knob, int error)
{
    iod_device_done(knob->device, error);
}

void knob_finish(struct knob *knob)
{
    knob->io = false;
    iod_device_done(knob->device, 0);
}

struct knob *rig_knob(struct fake_xen *fake, const char *domain, const char *id)
{
    struct iod_error error;
    struct guest *guest = guest_find(fake_daemon(fake), domain, &error);
    struct iod_device *device = guest != NULL ? guest_device(guest_host(guest), id) : NULL;
    return device != NULL ? iod_self(device) : NULL;
}

/* ---- events ---- */

static char events[1 << 16];

static void event(struct daemon_listener *listener, const struct daemon_event *event)
{
    static const char *const kinds[] = { "", "added", "removed", "error", "backend", "stuck", "limited" };
    size_t length = strlen(events);
    snprintf(events + length, sizeof(events) - length, "%s%s%s%s:%s", length != 0 ? " " : "", event->domain,
             event->device != NULL ? "/" : "", event->device != NULL ? event->device : "",
             event->kind == EVENT_GUEST_STATE ? event->text : kinds[event->kind]);
}

static struct daemon_listener listener = { .event = event };

const char *rig_events(void)
{
    static char taken[sizeof(events)];
    memcpy(taken, events, sizeof(taken));
    events[0] = '\0';
    return taken;
}

/* ---- xenstore ---- */

static const struct store_events *news;
static void *news_self;

static int store_watch(struct store *store, const struct store_events *told, void *self)
{
    news = told;
    news_self = self;
    return 0;
}

static const struct store_ops store_ops = { .watch = store_watch };
static struct store store = { .ops = &store_ops };

void rig_domains(const char *list)
{
    struct store_domain domains[16] = { 0 };
    unsigned count = 0;
    char copy[400], *rest = copy;
    snprintf(copy, sizeof(copy), "%s", list);
    for (char *word; (word = strtok_r(rest, " ", &rest)) != NULL; count++) {
        char *name = strchr(word, '='), *uuid = strchr(word, '/');
        *name++ = '\0';
        if (uuid != NULL) {
            *uuid++ = '\0';
        }
        domains[count].domid = (uint16_t)atoi(word);
        snprintf(domains[count].name, sizeof(domains[count].name), "%s", name);
        snprintf(domains[count].uuid, sizeof(domains[count].uuid), "%s", uuid != NULL ? uuid : "");
        strcpy(domains[count].type, "hvm");
    }
    news->domains(news_self, domains, count);
}

void rig_store_lost(void)
{
    news->lost(news_self, "xenstored is gone");
}

/* ---- the daemon ---- */

struct fake_xen *rig_start(bool with_store)
{
    struct iod_error error;
    struct fake_xen *fake = fake_create(&module, with_store ? &store : NULL, &error);
    daemon_listen(fake_daemon(fake), &listener);
    return fake;
}

void rig_stop(struct fake_xen *fake)
{
    knobs.slow = false;
    fake_stop(fake);
    ck_assert_uint_eq(knobs.created, knobs.destroyed);
}

struct guest_spec rig_spec(const char *domain, bool wait, const char *origin, const char *const *devices,
                           unsigned count)
{
    struct guest_spec spec;
    struct iod_error error;
    guest_spec_init(&spec);
    spec.domain = strdup(domain);
    spec.arch = ARCH_X86;
    spec.type = GUEST_HVM;
    spec.wait = wait;
    spec.origin = origin != NULL ? strdup(origin) : NULL;
    for (unsigned i = 0; i < count; i++) {
        ck_assert_msg(guest_spec_add_device(&spec, devices[i], &error) == 0, "%s", error.text);
    }
    return spec;
}

void rig_add(struct fake_xen *fake, struct guest_spec spec)
{
    struct iod_error error;
    ck_assert_msg(daemon_add_guest(fake_daemon(fake), &spec, &error) == 0, "%s", error.text);
    guest_spec_finish(&spec);
}

void rig_refused(struct fake_xen *fake, struct guest_spec spec, const char *says)
{
    struct iod_error error;
    ck_assert_int_ne(daemon_add_guest(fake_daemon(fake), &spec, &error), 0);
    ck_says(error, says);
    guest_spec_finish(&spec);
}

void rig_done(void *self, int error, const char *why)
{
    struct rig_answer *answer = self;
    ck_assert(!answer->done);
    answer->done = true;
    answer->error = error;
    snprintf(answer->why, sizeof(answer->why), "%s", why);
}

static bool is_done(void *self)
{
    return ((struct rig_answer *)self)->done;
}

/* The call has returned `result`: its answer is awaited, and compared. */
static void finish(struct fake_xen *fake, int result, struct rig_answer *answer, struct iod_error *error,
                   const char *says)
{
    ck_assert(!answer->done); /* never inside the call */
    if (result == 0) {
        fake_run(fake, is_done, answer);
        result = answer->error;
        snprintf(error->text, sizeof(error->text), "%s", answer->why);
    }
    if (says == NULL) {
        ck_assert_msg(result == 0, "%s", error->text);
    } else {
        ck_assert_int_ne(result, 0);
        ck_says(*error, says);
    }
}

void rig_add_device(struct fake_xen *fake, const char *domain, const char *device, const char *says)
{
    struct iod_error error = { 0 };
    struct rig_answer answer = { 0 };
    struct device_spec spec;
    ck_assert_int_eq(device_spec_parse(&spec, device, &error), 0);
    int result = daemon_add_device(fake_daemon(fake), domain, &spec, rig_done, &answer, &error);
    device_spec_finish(&spec);
    finish(fake, result, &answer, &error, says);
}

void rig_remove_device(struct fake_xen *fake, const char *domain, const char *id, enum removal how, const char *says)
{
    struct iod_error error = { 0 };
    struct rig_answer answer = { 0 };
    finish(fake, daemon_remove_device(fake_daemon(fake), domain, id, how, rig_done, &answer, &error), &answer, &error,
           says);
}

void rig_remove_guest(struct fake_xen *fake, const char *domain)
{
    struct iod_error error = { 0 };
    struct rig_answer answer = { 0 };
    finish(fake, daemon_remove_guest(fake_daemon(fake), domain, rig_done, &answer, &error), &answer, &error, NULL);
}

struct guest_status rig_status(struct fake_xen *fake, const char *domain)
{
    struct guest_status status;
    struct iod_error error;
    ck_assert_msg(daemon_guest_status(fake_daemon(fake), domain, &status, &error) == 0, "%s", error.text);
    return status;
}

struct wanted {
    struct fake_xen *fake;
    const char *domain, *state;
    bool served;
    unsigned left;
};

static bool is_so(void *self)
{
    struct wanted *wanted = self;
    struct guest_status status;
    struct iod_error error;
    bool found = daemon_guest_status(fake_daemon(wanted->fake), wanted->domain, &status, &error) == 0;
    bool so = found && strcmp(status.state, wanted->state) == 0 && status.served == wanted->served;
    ck_assert_msg(wanted->left-- != 0, "%s is %s, served %d (%s), not %s, served %d; the log:\n%s", wanted->domain,
                  found ? status.state : "unknown", found && status.served, found ? status.why : "", wanted->state,
                  wanted->served, fake_log(wanted->fake));
    return so;
}

void rig_expect_within(struct fake_xen *fake, const char *domain, const char *state, bool served, unsigned ms)
{
    struct wanted wanted = { fake, domain, state, served, ms };
    fake_run(fake, is_so, &wanted);
}

void rig_expect(struct fake_xen *fake, const char *domain, const char *state, bool served)
{
    rig_expect_within(fake, domain, state, served, 3000);
}
