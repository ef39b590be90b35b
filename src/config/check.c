/* SPDX-License-Identifier: BSD-2-Clause */
/* `ioreqd --check`: all that can be known of a configuration before a guest meets it. */
#include "config/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    SERVERS = 8,  /* that a domain can have (MAX_NR_IOREQ_SERVERS) */
    RANGES = 256, /* of one type, of one server (MAX_NR_IO_RANGES) */
    TRIALS = 32,  /* findings of the core's about one guest */
};

/* ---- servers ---- */

void check_servers(const struct guest_spec *guest, struct findings *findings)
{
    unsigned mmio = 0, pci = guest->slots, ports = 0;
    for (unsigned i = 0; i < guest->device_count; i++) {
        struct place place;
        place_of(guest, &guest->devices[i], &place);
        const char *bus = device_spec_get(&guest->devices[i], "bus");
        bool on_pci = bus ? strcmp(bus, "pci") == 0 : !place.mmio && place.virtio;
        mmio += place.mmio || on_pci; /* a function has registers in memory, too */
        pci += on_pci;
        ports += !place.mmio && !on_pci;
    }
    unsigned most = mmio > pci ? mmio : pci;
    most = most > ports ? most : ports;
    unsigned servers = (most + RANGES - 1) / RANGES, free_servers = guest->beside ? SERVERS - 1 : SERVERS;
    if (servers > free_servers) {
        findings_add(findings, true, guest->origin, "take devices away",
                     "domain %.60s: %u ranges need %u ioreq servers of %d; Xen has %u for it", guest->domain,
                     most, servers, RANGES, free_servers);
    }
}

/* A PVH guest finds PCI devices through a host bridge, which another emulator gives it if we don't. */
static void check_host_bridge(const struct guest_spec *guest, struct findings *findings)
{
    unsigned on_pci = guest->slots;
    if (guest->arch != ARCH_X86 || guest->type != GUEST_PVH || guest->beside) {
        return;
    }
    for (unsigned i = 0; i < guest->device_count; i++) {
        struct place place;
        place_of(guest, &guest->devices[i], &place);
        if (strcmp(guest->devices[i].name, "pci-host") == 0) {
            return;
        }
        on_pci += place.virtio && !place.mmio;
    }
    if (on_pci) {
        findings_add(findings, false, guest->origin,
                     "add \"pci-host\", or beside = true if another emulator has it",
                     "domain %.60s: without a pci-host it does not find its PCI devices (%u)", guest->domain,
                     on_pci);
    }
}

/* ---- the core's trial ---- */

struct trial {
    const struct config_check *check;
    struct guest_spec spec;        /* the guest with devices of our choice; borrowed, and without origins */
    const char *origin, **origins; /* of the guest, and by device: ours to say */
    struct iod_error error;
};

static bool passes(struct trial *trial, unsigned count)
{
    trial->spec.device_count = count;
    trial->error = (struct iod_error){0};
    return trial->check->check_guest(trial->check->self, &trial->spec, &trial->error) == 0;
}

/* The fewest of the first devices that fail together (0: without any); `count` do. */
static unsigned fewest_failing(struct trial *trial, unsigned count)
{
    unsigned good = 0, bad = count;
    if (!passes(trial, 0)) {
        return 0;
    }
    while (bad - good > 1) {
        unsigned middle = good + (bad - good) / 2;
        if (passes(trial, middle)) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    passes(trial, bad); /* for its words */
    return bad;
}

/* What the core's words leave open. */
static const char *remedy_for(const struct iod_error *error, const char *device, char remedy[100])
{
    static const char *const enough[] = {"expected", "nearest", "there are", " needs ", ": say "};
    for (unsigned i = 0; i < sizeof(enough) / sizeof(enough[0]); i++) {
        if (strstr(error->text, enough[i])) {
            return NULL;
        }
    }
    if (error->code == EBUSY || error->code == EEXIST) {
        return error->code == EBUSY ? "give it one of its own" : "give it another id";
    }
    snprintf(remedy, 100, "see ioreqd --help device=%.60s", device);
    return remedy;
}

static void leave_out(struct trial *trial, unsigned index, unsigned count)
{
    memmove(&trial->spec.devices[index], &trial->spec.devices[index + 1],
            (count - index - 1) * sizeof(trial->spec.devices[0]));
    memmove(&trial->origins[index], &trial->origins[index + 1],
            (count - index - 1) * sizeof(trial->origins[0]));
}

/* The core stops at the first device that it can't make: it is told, left out, and the rest tried again. */
static void try_devices(struct trial *trial, unsigned count, struct findings *findings)
{
    char remedy[100];
    for (unsigned round = 0; round < TRIALS && !passes(trial, count); round++) {
        unsigned culprit = fewest_failing(trial, count);
        if (!culprit) {
            findings_add(findings, true, trial->origin, NULL, "domain %.60s: %s", trial->spec.domain,
                         trial->error.text);
            return;
        }
        const char *name = trial->spec.devices[culprit - 1].name;
        findings_add(findings, true, trial->origins[culprit - 1], remedy_for(&trial->error, name, remedy),
                     "%s", trial->error.text);
        leave_out(trial, culprit - 1, count--);
    }
}

static void try_guest(const struct config_check *check, const struct guest_spec *guest, const bool *bad,
                      struct findings *findings)
{
    struct trial trial = {.check = check, .spec = *guest, .origin = guest->origin};
    unsigned count = 0;
    trial.spec.origin = NULL;
    trial.spec.devices = calloc(guest->device_count + 1, sizeof(*trial.spec.devices));
    trial.origins = calloc(guest->device_count + 1, sizeof(*trial.origins));
    if (!trial.spec.devices || !trial.origins) {
        findings->cut = true;
    }
    for (unsigned i = 0; i < guest->device_count && !findings->cut; i++) {
        if (!bad[i]) {
            trial.spec.devices[count] = guest->devices[i];
            trial.spec.devices[count].origin = NULL;
            trial.origins[count++] = check_where(guest, &guest->devices[i]);
        }
    }
    if (!findings->cut) {
        try_devices(&trial, count, findings);
    }
    free(trial.spec.devices);
    free(trial.origins);
}

/* ---- the whole ---- */

static void check_guest(const struct config_check *check, const struct config *config, unsigned index,
                        struct findings *findings)
{
    const struct guest_spec *guest = &config->guests[index];
    bool *bad = calloc(guest->device_count + 1, sizeof(*bad));
    if (!bad) {
        findings->cut = true;
        return;
    }
    check_places(guest, config->trees[index], bad, findings);
    check_servers(guest, findings);
    check_host_bridge(guest, findings);
    if (check->check_guest) {
        try_guest(check, guest, bad, findings);
    }
    if (config->has_xenstore && !config->xenstore && guest->arch == ARCH_X86 &&
        guest->type == GUEST_UNKNOWN) {
        findings_add(findings, false, guest->origin, "type = \"hvm\" or \"pvh\"",
                     "domain %.60s: without xenstore its type is not known, and counts as pvh",
                     guest->domain);
    }
    free(bad);
}

/* --dtb is the tree of the Arm guests that name none. */
static void give_tree(const struct config_check *check, struct config *config, struct findings *findings)
{
    unsigned given = 0;
    for (unsigned i = 0; i < config->count; i++) {
        if (config->guests[i].arch == ARCH_ARM && !config->trees[i]) {
            config->trees[i] = device_tree_read(check->dtb, findings);
            given++;
            if (!config->trees[i]) {
                return;
            }
            places_resolve(&config->guests[i], config->trees[i], findings);
        }
    }
    if (!given) {
        findings_add(findings, false, check->dtb, "expected an Arm guest without device-tree",
                     "is no guest's device tree: nothing is compared with it");
    }
}

int config_check(const char *path, const struct config_check *check, struct findings *findings)
{
    struct config config;
    size_t length = strlen(path);
    if (length > 4 && strcmp(path + length - 4, ".cfg") == 0) {
        return check_xl_cfg(path, findings);
    }
    int ret = config_load(path, &config, findings);
    if (ret) {
        return -EINVAL;
    }
    if (check->dtb) {
        give_tree(check, &config, findings);
    }
    for (unsigned i = 0; i < config.count; i++) {
        check_guest(check, &config, i, findings);
    }
    check_images(&config, findings);
    config_finish(&config);
    return findings_fatal(findings) ? -EINVAL : 0;
}
