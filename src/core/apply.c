/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A source's whole list of guests, made so with the least change. First the whole plan is checked and
 * everything that needs memory is made; then it is carried out: specs are exchanged, and guest_reconcile
 * does the rest.
 *
 * What would hurt a guest that runs is refused, and with it the list: a device whose driver is still at
 * work (as REMOVAL_ASK does; a changed device is one that goes and one that comes), and options that a
 * running guest can't change.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/inside.h"
#include "core/options.h"

struct name;

struct plan {
    struct daemon *daemon;
    const char *source;
    const struct guest_spec *guests;
    unsigned count;
    struct name *listed, *known; /* by name: the list, and the source's guests that are there */
    unsigned known_count;
    struct guest **there;      /* by guest of the list; NULL: a new one */
    struct guest **made;       /* the new ones */
    struct guest_spec *wanted; /* of those that are there: with the ids that their devices have */
};

/* Whose the error is, and where that stands. */
static int name_guest(const struct guest_spec *spec, struct iod_error *error)
{
    struct iod_error plain = *error;
    return iod_fail(error, plain.code, "%.100s%sguest %.60s: %.300s", spec->origin ? spec->origin : "",
                    spec->origin ? ": " : "", spec->domain, plain.text);
}

/* ---- who is who ---- */

/* What a source calls a domain: numbers are equal by value, uuids whatever their case, names as they stand. */
struct name {
    const char *text;
    bool number;
    uint64_t value;
    unsigned index;      /* of the list */
    struct guest *guest; /* or of one that is there */
};

static struct name name_of(const char *domain)
{
    struct name name = {.text = domain};
    name.number = !option_parse_number(domain, &name.value);
    return name;
}

static int kind_of(const struct name *name)
{
    return name->number ? 0 : !strncmp(name->text, "uuid:", 5) ? 1 : 2;
}

static int compare_names(const void *one, const void *other)
{
    const struct name *x = one, *y = other;
    int kind = kind_of(x);
    if (kind != kind_of(y)) {
        return kind - kind_of(y);
    }
    if (kind == 0) {
        return x->value < y->value ? -1 : x->value > y->value;
    }
    return kind == 1 ? strcasecmp(x->text, y->text) : strcmp(x->text, y->text);
}

static const struct name *find_name(const struct name *names, unsigned count, const char *domain)
{
    struct name key = name_of(domain);
    return count ? bsearch(&key, names, count, sizeof(*names), compare_names) : NULL;
}

static bool of_source(const struct guest *guest, const char *source)
{
    return guest->source && !strcmp(guest->source, source) && !guest->forget;
}

/* Both lists by name: there may be a thousand of each. */
static int sort_names(struct plan *plan, struct iod_error *error)
{
    struct guest *guest;
    unsigned guests = 0;
    list_for_each(guest, &plan->daemon->guests, struct guest, link) {
        guests += of_source(guest, plan->source);
    }
    plan->listed = calloc(plan->count + 1, sizeof(*plan->listed));
    plan->known = calloc(guests + 1, sizeof(*plan->known));
    if (!plan->listed || !plan->known) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    for (unsigned i = 0; i < plan->count; i++) {
        plan->listed[i] = name_of(plan->guests[i].domain);
        plan->listed[i].index = i;
    }
    list_for_each(guest, &plan->daemon->guests, struct guest, link) {
        if (of_source(guest, plan->source)) {
            plan->known[plan->known_count] = name_of(guest->spec.domain);
            plan->known[plan->known_count++].guest = guest;
        }
    }
    qsort(plan->listed, plan->count, sizeof(*plan->listed), compare_names);
    qsort(plan->known, plan->known_count, sizeof(*plan->known), compare_names);
    return 0;
}

static struct guest *find_there(const struct plan *plan, const char *domain)
{
    const struct name *name = find_name(plan->known, plan->known_count, domain);
    return name ? name->guest : NULL;
}

static bool listed(const struct plan *plan, const struct guest *guest)
{
    return find_name(plan->listed, plan->count, guest->spec.domain);
}

static int check_twice(const struct plan *plan, struct iod_error *error)
{
    for (unsigned i = 1; i < plan->count; i++) {
        const struct name *one = &plan->listed[i - 1], *other = &plan->listed[i];
        if (!compare_names(one, other)) {
            unsigned first = one->index < other->index ? one->index : other->index;
            const char *origin = plan->guests[first].origin;
            iod_fail(error, EEXIST, "is in the list twice (the other: %.100s)", origin ? origin : "above");
            return name_guest(&plan->guests[one->index + other->index - first], error);
        }
    }
    return 0;
}

/* ---- one guest's new spec ---- */

/* The old device of this text, if none of the new ones before it is that one. */
static const struct device_spec *old_of(const struct guest_spec *old, const struct guest_spec *wanted,
                                        unsigned index)
{
    const char *text = wanted->devices[index].text;
    unsigned earlier = 0;
    for (unsigned i = 0; i < index; i++) {
        earlier += !strcmp(wanted->devices[i].text, text);
    }
    for (unsigned i = 0; i < old->device_count; i++) {
        if (!strcmp(old->devices[i].text, text) && earlier-- == 0) {
            return &old->devices[i];
        }
    }
    return NULL;
}

/* Devices that stay keep the ids that they were given, wherever they stand now. */
static int keep_ids(const struct guest_spec *old, struct guest_spec *wanted)
{
    for (unsigned i = 0; i < wanted->device_count; i++) {
        const struct device_spec *same = old_of(old, wanted, i);
        if (same && same->named && spec_set_id(&wanted->devices[i], device_spec_get(same, "id"))) {
            return -ENOMEM;
        }
    }
    return spec_name_devices(wanted);
}

static const char *fixed_difference(const struct guest_spec *one, const struct guest_spec *other)
{
    return one->arch != other->arch             ? "arch"
           : one->type != other->type           ? "type"
           : one->beside != other->beside       ? "beside"
           : one->bufioreq != other->bufioreq   ? "bufioreq"
           : one->map_limit != other->map_limit ? "map-limit"
           : one->slots != other->slots         ? "slots"
                                                : NULL;
}

static bool is_live(const struct guest *guest)
{
    return guest->state >= GUEST_CLEANING && guest->state <= GUEST_STOPPING;
}

/* Would its devices that the spec (NULL: none) does not have let themselves be taken off? */
static int check_removals(struct guest *guest, const struct guest_spec *wanted, struct iod_error *error)
{
    struct guest *host = guest_host(guest);
    struct iod_device *device;
    if (host->state != GUEST_RUNNING || host->dead) {
        return 0;
    }
    list_for_each(device, &host->devices, struct iod_device, link) {
        const struct device_spec *spec = wanted ? spec_find(wanted, device->id) : NULL;
        bool same = spec && device_spec_equal(spec, &device->spec);
        if (device->owner != guest || device->hidden || device->detach || same) {
            continue;
        }
        if (!device_is_removable(device, error)) {
            if (error->code == EINPROGRESS && !device->asking) {
                ask_begin(device, NULL); /* when the guest has let it go, the same list finds it gone */
            }
            struct iod_error why = *error;
            return iod_fail(error, EBUSY, "%.60s of guest %.60s would go, but: %.300s", device->id,
                            guest->spec.domain, why.text);
        }
    }
    return 0;
}

static bool is_unchanged(const struct guest_spec *old, const struct guest_spec *wanted)
{
    bool same = !fixed_difference(old, wanted) && old->device_count == wanted->device_count;
    for (unsigned i = 0; i < wanted->device_count && same; i++) {
        const struct device_spec *spec = spec_find(old, device_spec_get(&wanted->devices[i], "id"));
        same = spec && device_spec_equal(spec, &wanted->devices[i]);
    }
    return same;
}

static int check_change(struct plan *plan, struct guest *guest, const struct guest_spec *wanted,
                        struct iod_error *error)
{
    struct guest_spec trial = *wanted;
    if (is_unchanged(&guest->spec, wanted)) {
        return 0;
    }
    if (trial.type == GUEST_UNKNOWN && is_live(guest)) {
        trial.type = guest->type;
    }
    if (guest_check_spec(plan->daemon, &trial, error)) {
        return -error->code; /* it says where */
    }
    const char *fixed = fixed_difference(&guest->spec, wanted);
    if (fixed && is_live(guest)) {
        iod_fail(error, EBUSY, "it is %s: its %s can't be changed before it is shut down or detached",
                 guest->shown_state, fixed);
        return name_guest(wanted, error);
    }
    return 0;
}

static int plan_guest(struct plan *plan, unsigned index, struct iod_error *error)
{
    const struct guest_spec *spec = &plan->guests[index];
    struct guest *guest = plan->there[index] = find_there(plan, spec->domain);
    struct guest_spec *wanted = &plan->wanted[index];
    if (guest) {
        bool made = !guest_spec_copy(wanted, spec) && !keep_ids(&guest->spec, wanted);
        return made ? check_change(plan, guest, wanted, error) : iod_fail(error, ENOMEM, "out of memory");
    }
    if (guest_check_spec(plan->daemon, spec, error)) {
        return -error->code;
    }
    guest = plan->made[index] = guest_create(plan->daemon, spec, error);
    if (guest) {
        guest->source = strdup(plan->source);
    }
    return guest && guest->source ? 0 : iod_fail(error, ENOMEM, "out of memory");
}

/* The removals come last: a guest may be asked to let go of a device then, which a bad list must not do. */
static int check(struct plan *plan, struct iod_error *error)
{
    struct guest *guest;
    int result = sort_names(plan, error);
    result = result ? result : check_twice(plan, error);
    for (unsigned i = 0; i < plan->count && !result; i++) {
        result = plan_guest(plan, i, error);
    }
    for (unsigned i = 0; i < plan->count && !result; i++) {
        if (plan->there[i] && check_removals(plan->there[i], &plan->wanted[i], error)) {
            result = name_guest(&plan->guests[i], error);
        }
    }
    list_for_each(guest, &plan->daemon->guests, struct guest, link) {
        if (!result && of_source(guest, plan->source) && !listed(plan, guest)) {
            result = check_removals(guest, NULL, error);
        }
    }
    return result;
}

/* ---- doing it: nothing here can fail ---- */

static void change_guest(struct guest *guest, struct guest_spec *wanted)
{
    struct guest_spec old = guest->spec;
    guest->spec = *wanted;
    *wanted = old; /* freed with the plan */
    if (guest->state == GUEST_WAITING) {
        guest->type = guest->spec.type;
    }
    additions_retry(guest);
    guest_try_again(guest);
    guest_reconcile(guest);
}

static void carry_out(struct plan *plan)
{
    struct guest *guest;
    list_for_each(guest, &plan->daemon->guests, struct guest, link) {
        if (of_source(guest, plan->source) && !listed(plan, guest)) {
            guest_forget(guest);
        }
    }
    for (unsigned i = 0; i < plan->count; i++) {
        if (plan->there[i]) {
            change_guest(plan->there[i], &plan->wanted[i]);
        }
    }
    for (unsigned i = 0; i < plan->count; i++) {
        if (plan->made[i]) {
            daemon_take_on(plan->daemon, plan->made[i]);
            plan->made[i] = NULL;
        }
    }
}

int daemon_apply(struct daemon *daemon, const char *source, const struct guest_spec *guests, unsigned count,
                 struct iod_error *error)
{
    struct plan plan = {.daemon = daemon, .source = source, .guests = guests, .count = count};
    if (daemon->stopping) {
        return iod_fail(error, EBUSY, "the daemon is ending");
    }
    plan.there = calloc(count + 1, sizeof(*plan.there));
    plan.made = calloc(count + 1, sizeof(*plan.made));
    plan.wanted = calloc(count + 1, sizeof(*plan.wanted));
    int result = plan.there && plan.made && plan.wanted ? check(&plan, error)
                                                        : iod_fail(error, ENOMEM, "out of memory");
    if (!result) {
        carry_out(&plan);
    }
    for (unsigned i = 0; i < count; i++) {
        if (plan.made) {
            guest_destroy(plan.made[i]);
        }
        if (plan.wanted) {
            guest_spec_finish(&plan.wanted[i]);
        }
    }
    free(plan.listed);
    free(plan.known);
    free(plan.there);
    free(plan.made);
    free(plan.wanted);
    return result;
}
