/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guests of a dom0less system. Xen 4.17 leaves their nodes in the tree that it makes for the hardware domain,
 * but takes their modules out: the partial tree of a domain is not in reach, so that its file is named.
 */
#include "config/host_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/places.h"
#include "config/source.h"

static void where_is(const struct device_tree *tree, const struct tree_domain *domain, char where[600])
{
    snprintf(where, 600, "%.300s:%.290s", tree->name, domain->path);
}

static unsigned find_guest(const struct config *config, const char *domain)
{
    unsigned i = 0;
    while (i < config->count && strcmp(config->guests[i].domain, domain) != 0) {
        i++;
    }
    return i;
}

/* The guest of this domid, a new one if need be; NULL: out of memory. */
static struct guest_spec *guest_of(struct config *config, const struct tree_domain *domain, const char *where)
{
    char domid[16];
    snprintf(domid, sizeof(domid), "%u", domain->domid);
    unsigned index = find_guest(config, domid);
    if (index < config->count) {
        return &config->guests[index];
    }
    struct guest_spec *guests = reallocarray(config->guests, config->count + 1, sizeof(*guests));
    config->guests = guests ? guests : config->guests;
    struct device_tree **trees = reallocarray(config->trees, config->count + 1, sizeof(struct device_tree *));
    config->trees = trees ? trees : config->trees;
    if (!guests || !trees) {
        return NULL;
    }
    struct guest_spec *guest = &guests[config->count];
    guest_spec_init(guest);
    guest->wait = true;
    guest->arch = ARCH_ARM;
    guest->domain = strdup(domid);
    guest->origin = strdup(where);
    if (!guest->domain || !guest->origin) {
        guest_spec_finish(guest);
        return NULL;
    }
    trees[config->count++] = NULL;
    return guest;
}

static void add_devices(struct guest_spec *guest, const struct tree_domain *domain, const char *where,
                        struct findings *findings)
{
    for (unsigned i = 0; i < domain->device_count; i++) {
        struct iod_error error = {0};
        if (guest_spec_add_device(guest, domain->devices[i], &error)) {
            findings_add(findings, true, where, "see ioreqd --help device=?", "ioreqd,devices: %s",
                         error.text);
        } else if (device_spec_from(&guest->devices[guest->device_count - 1], where)) {
            findings->cut = true;
        }
    }
}

static void add_tree(struct config *config, struct guest_spec *guest, const char *path, const char *where,
                     struct findings *findings)
{
    struct device_tree **tree = &config->trees[guest - config->guests];
    if (*tree) { /* the file's word counts: it may be nearer to the guest's truth */
        if (strcmp((*tree)->name, path) != 0) {
            findings_add(findings, true, where, "one of them says it",
                         "ioreqd,device-tree = %.200s differs from the %.200s of %.200s", path, (*tree)->name,
                         guest->origin);
        }
        return;
    }
    *tree = device_tree_read(path, findings);
    if (*tree) {
        places_add_devices(guest, *tree, findings);
    } else {
        findings_add(findings, true, where, "mend ioreqd,device-tree",
                     "the domain's device tree can't be used");
    }
}

static void join_domain(struct config *config, const struct device_tree *host,
                        const struct tree_domain *domain, struct findings *findings)
{
    char where[600];
    where_is(host, domain, where);
    if (!domain->device_count && !domain->tree) {
        return; /* not ours, or the file's alone */
    }
    struct guest_spec *guest = guest_of(config, domain, where);
    if (!guest) {
        findings->cut = true;
        return;
    }
    if (guest->arch != ARCH_ARM) {
        findings_add(findings, true, guest->origin, "arch = \"arm\"",
                     "domain %s is a dom0less guest on Arm (%s)", guest->domain, where);
        return;
    }
    add_devices(guest, domain, where, findings);
    if (domain->tree) {
        add_tree(config, guest, domain->tree, where, findings);
    }
}

bool host_tree_join(const char *path, struct config *config, struct findings *findings)
{
    unsigned before = findings->count;
    struct device_tree *host = device_tree_read(path, findings);
    for (unsigned i = 0; host && i < host->domain_count; i++) {
        join_domain(config, host, &host->domains[i], findings);
    }
    if (host && !host->domain_count) {
        findings_add(
            findings, false, path, "name the .dtb file that Xen was booted with",
            "has no domains in /chosen: Xen 4.18 and later take them out of the hardware domain's tree");
    }
    device_tree_destroy(host);
    return !findings_fatal_since(findings, before);
}

int device_tree_load(const char *path, struct config *config, struct findings *findings)
{
    bool good = host_tree_join(path, config, findings);
    for (unsigned i = 0; i < config->count; i++) {
        good = places_resolve(&config->guests[i], config->trees[i], findings) && good;
    }
    return good ? 0 : -EINVAL;
}
