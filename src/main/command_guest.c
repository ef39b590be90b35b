/* SPDX-License-Identifier: BSD-2-Clause */
/* The options that belong to one guest: those after its --domain. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/options.h"
#include "main/command_line.h"

#define STUCK_LIMIT_MAX_MS UINT64_C(86400000) /* a day */

int command_choice(const char *option, const char *text, const char *const *choices, struct iod_error *error)
{
    char known[80] = "";

    for (int i = 0; choices[i]; i++) {
        if (strcmp(text, choices[i]) == 0) {
            return i;
        }
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i ? ", " : "", choices[i]);
    }
    return iod_fail(error, EINVAL, "--%s %.60s: expected one of %s", option, text, known);
}

bool command_is_domid(const char *domain)
{
    uint64_t number;

    return option_parse_number(domain, &number) == 0;
}

static int set_chosen(struct guest_spec *guest, enum guest_flag flag, const char *name, const char *text,
                      struct iod_error *error)
{
    static const char *const types[] = {"hvm", "pvh", NULL};
    static const char *const ends[] = {"leave", "destroy", NULL};
    static const char *const kinds[] = {"off", "legacy", "atomic", NULL};
    static const char *const policies[] = {"wait", "ones", "detach", NULL};
    const char *const *choices = flag == FLAG_TYPE      ? types
                                 : flag == FLAG_ON_EXIT ? ends
                                 : flag == FLAG_STUCK   ? policies
                                                        : kinds;
    int chosen = command_choice(name, text, choices, error);

    if (chosen < 0) {
        return chosen;
    }
    if (flag == FLAG_TYPE) {
        guest->type = chosen == 0 ? GUEST_HVM : GUEST_PVH;
    } else if (flag == FLAG_ON_EXIT) {
        guest->on_exit = chosen == 0 ? ON_EXIT_LEAVE : ON_EXIT_DESTROY;
    } else if (flag == FLAG_STUCK) {
        guest->stuck = chosen == 0 ? STUCK_WAIT : chosen == 1 ? STUCK_ONES : STUCK_DETACH;
    } else {
        guest->bufioreq = chosen == 0 ? BUF_OFF : chosen == 1 ? BUF_LEGACY : BUF_ATOMIC;
    }
    return 0;
}

static int set_map_limit(struct guest_spec *guest, const char *text, struct iod_error *error)
{
    if (option_parse_size(text, &guest->map_limit) || !guest->map_limit) {
        return iod_fail(error, EINVAL, "--map-limit %.60s: expected bytes above 0, or with K, M, G or T",
                        text);
    }
    return 0;
}

static int set_number(uint64_t *to, const char *name, const char *text, uint64_t max, struct iod_error *error)
{
    if (option_parse_number(text, to) || *to < 1 || *to > max) {
        return iod_fail(error, EINVAL, "--%s %.60s: expected a number from 1 to %llu", name, text,
                        (unsigned long long)max);
    }
    return 0;
}

int command_guest_set(struct guest_spec *guest, enum guest_flag flag, const char *name, const char *text,
                      struct iod_error *error)
{
    uint64_t slots = 0;
    int ret;

    switch (flag) {
    case FLAG_WAIT:
        guest->wait = true;
        return 0;
    case FLAG_BESIDE:
        guest->beside = true;
        return 0;
    case FLAG_UNLIMITED:
        guest->unlimited = true;
        return 0;
    case FLAG_MAP_LIMIT:
        return set_map_limit(guest, text, error);
    case FLAG_SLOTS:
        ret = set_number(&slots, name, text, GUEST_SLOTS_MAX, error);
        guest->slots = (unsigned)slots;
        return ret;
    case FLAG_STUCK_LIMIT:
        return set_number(&guest->stuck_ms, name, text, STUCK_LIMIT_MAX_MS, error);
    case FLAG_DEVICE:
        return guest_spec_add_device(guest, text, error);
    default:
        return set_chosen(guest, flag, name, text, error);
    }
}

int command_guest_check(const struct guest_spec *guest, bool no_xenstore, struct iod_error *error)
{
    if (!guest->device_count && !guest->slots) {
        return iod_fail(error, EINVAL, "--domain %.60s: expected at least one --device", guest->domain);
    }
    if (guest->arch == ARCH_ARM && guest->type != GUEST_UNKNOWN) {
        return iod_fail(error, EINVAL, "--domain %.60s: --type is of x86 guests only", guest->domain);
    }
    if (guest->arch == ARCH_ARM && guest->bufioreq != BUF_DEFAULT && guest->bufioreq != BUF_OFF) {
        return iod_fail(error, EINVAL, "--domain %.60s: Xen has no buffered ring on Arm: --bufioreq off",
                        guest->domain);
    }
    if (guest->slots && (guest->arch == ARCH_ARM || guest->type == GUEST_HVM)) {
        return iod_fail(error, EINVAL, "--domain %.60s: --slots is of x86 PVH guests only%s", guest->domain,
                        guest->type == GUEST_HVM ? " (hvmloader misplaces what is behind a bridge)" : "");
    }
    if (no_xenstore && !command_is_domid(guest->domain)) {
        return iod_fail(error, EINVAL,
                        "--domain %.60s: a name needs xenstore: expected a domid with --no-xenstore",
                        guest->domain);
    }
    return 0;
}
