/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest whose domain is not there yet, or not known: by domid, name or uuid, with xenstore and without. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/inside.h"

#define TYPE_WAIT_NS UINT64_C(2000000000)     /* for xenstore's first word; then the type stays unknown */
#define LOOK_INTERVAL_NS UINT64_C(1000000000) /* for one that xenstore may never tell of, or that failed */
#define LOOKS_X86 5u /* it was there so often: a toolstack that builds it would have introduced it */

/* What to do next while its domain, or the domain's type, is not known. */
void guest_await(struct guest *guest)
{
    bool store = guest->daemon->config.store && !guest->daemon->store_lost;
    if (!store && !guest->have_domid && guest->daemon->config.store && guest->spec.wait) {
        guest_note(guest, "xenstore can't be reached, and without it its name or uuid can't be looked up");
    } else if (!store && !guest->have_domid) {
        guest_fail(guest, "the domain's name can't be looked up without xenstore: give its domid");
    } else if (!store) {
        guest_begin(guest);
    } else if (guest->have_domid && !guest->spec.wait && guest->type == GUEST_UNKNOWN) {
        guest_retry_in(guest, TYPE_WAIT_NS);
    } else if (guest->have_domid && !guest->spec.wait) {
        guest_begin(guest);
    } else if (guest->daemon->domains_known) {
        guest_domains(guest, guest->daemon->domains, guest->daemon->domain_count);
    } /* else xenstore's news begin it */
    if (store && guest->state == GUEST_WAITING && guest->spec.wait && !guest->named) {
        guest_retry_in(guest, LOOK_INTERVAL_NS);
    }
}

/* A domain that no toolstack made (dom0less) is never introduced, and serves as well. */
void guest_wait_step(struct guest *guest)
{
    struct hypervisor *hv = guest->daemon->hv;
    bool store = guest->daemon->config.store && !guest->daemon->store_lost;
    unsigned vcpus;
    if (!store || guest->introduced || !guest->spec.wait || guest->named) {
        guest_begin(guest);
        return;
    }
    guest->retries = hv->ops->nr_vcpus(hv, guest->domid, &vcpus) ? 0 : guest->retries + 1;
    if (guest->retries >= (guest_is_arm(guest) ? 1 : LOOKS_X86)) {
        guest_begin(guest);
    } else {
        guest_retry_in(guest, LOOK_INTERVAL_NS);
    }
}

static enum guest_type type_of(const struct store_domain *domain)
{
    return !strcmp(domain->type, "hvm")   ? GUEST_HVM
           : !strcmp(domain->type, "pvh") ? GUEST_PVH
                                          : GUEST_UNKNOWN;
}

static const struct store_domain *find_domain(const struct guest *guest, const struct store_domain *domains,
                                              unsigned count)
{
    const char *key = guest->spec.domain;
    bool by_key = guest->named && (guest->state == GUEST_WAITING || !guest->have_domid);
    for (unsigned i = 0; i < count; i++) {
        const struct store_domain *domain = &domains[i];
        bool found = !by_key                     ? domain->domid == guest->domid
                     : !strncmp(key, "uuid:", 5) ? domain->uuid[0] && !strcasecmp(domain->uuid, key + 5)
                                                 : !strcmp(domain->name, key);
        if (found) {
            return domain;
        }
    }
    return NULL;
}

static void found_domain(struct guest *guest, const struct store_domain *domain)
{
    guest->have_domid = guest->introduced = true;
    guest->domid = domain->domid;
    guest->why[0] = '\0';
    snprintf(guest->name, sizeof(guest->name), "domid %u", guest->domid);
    snprintf(guest->uuid, sizeof(guest->uuid), "%s", domain->uuid);
    if (guest->spec.type == GUEST_UNKNOWN) {
        guest->type = type_of(domain);
    }
    guest_begin(guest);
}

/* Once it is bound, a guest is its domid's, whatever the domain is called by now. */
void guest_domains(struct guest *guest, const struct store_domain *domains, unsigned count)
{
    const struct store_domain *domain = find_domain(guest, domains, count);
    if (domain) {
        snprintf(guest->domain_name, sizeof(guest->domain_name), "%s", domain->name);
    }
    switch (guest->state) {
    case GUEST_WAITING:
        if (guest->parted) {
            break; /* its timer does */
        } else if (domain) {
            found_domain(guest, domain);
        } else if (!guest->spec.wait && guest->have_domid) {
            guest_begin(guest); /* not introduced (no toolstack): its type stays unknown */
        } else if (!guest->spec.wait) {
            guest_fail(guest, "no domain of this name is introduced (--wait waits until one is)");
        }
        break;
    case GUEST_CLEANING:
    case GUEST_OPENING: /* no ioreq server yet that could tell */
        if (guest->introduced && !domain) {
            guest_gone(guest);
        }
        break;
    case GUEST_FAILED:
        if (guest->introduced && !domain) {
            guest->parted = true;
            guest_retry_in(guest, 0);
        }
        break;
    default:
        break;
    }
}

/* Shown until its domain ends: the next one of its name may do better. */
void guest_failed_step(struct guest *guest)
{
    struct hypervisor *hv = guest->daemon->hv;
    unsigned vcpus;
    if (guest->have_domid && hv->ops->nr_vcpus(hv, guest->domid, &vcpus) == -ESRCH) {
        guest_restart(guest, false);
    } else if (guest->have_domid) {
        guest_retry_in(guest, LOOK_INTERVAL_NS);
    }
}
