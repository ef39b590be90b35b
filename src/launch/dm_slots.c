/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/dm_slots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/record.h"

struct place {
    unsigned slot, function;
};

/* SLOT[.FUNCTION] in hexadecimal, as QEMU and ioreqd write it; what is wrong with its own, ioreqd says. */
static bool parse_place(const char *text, struct place *place)
{
    char rest;
    int found = sscanf(text, "%x.%x%c", &place->slot, &place->function, &rest);

    if (found == 1 && !strchr(text, '.')) {
        place->function = 0;
        return place->slot < 32;
    }
    return found == 2 && place->slot < 32 && place->function < 8;
}

/* The spec of ours at that place, or NULL. */
static const char *spec_at(const struct dm_args *args, const struct place *wanted)
{
    for (unsigned i = 0; i < args->ioreqd_count; i++) {
        for (unsigned k = 0; k < args->ioreqds[i].spec_count; k++) {
            char *text = dm_option_value(args->ioreqds[i].specs[k], "addr");
            struct place place;
            bool same = text && parse_place(text, &place) && place.slot == wanted->slot &&
                        place.function == wanted->function;
            free(text);
            if (same) {
                return args->ioreqds[i].specs[k];
            }
        }
    }
    return NULL;
}

static int refuse(const char *ours, const char *theirs, const struct place *place, struct iod_error *error)
{
    return iod_fail(error, EEXIST,
                    "PCI %02x.%x has two owners: ioreqd (%.70s) and QEMU (%.70s); give one of them "
                    "another addr=",
                    place->slot, place->function, ours, theirs);
}

/* QEMU's first bus, where ioreqd's functions are. */
static bool on_first_bus(const char *device)
{
    char *bus = dm_option_value(device, "bus");
    bool first = !bus || !strcmp(bus, "pci.0");

    free(bus);
    return first;
}

int dm_slots_check_arguments(const struct dm_args *args, struct iod_error *error)
{
    int result = 0;

    for (unsigned i = 1; i + 1 < args->qemu_count && !result; i++) {
        const char *device = args->qemu[i + 1];
        if (strcmp(args->qemu[i], "-device") || device[0] == '{') {
            continue;
        }
        char *text = on_first_bus(device) ? dm_option_value(device, "addr") : NULL;
        struct place place;
        const char *ours = text && parse_place(text, &place) ? spec_at(args, &place) : NULL;
        if (ours) {
            result = refuse(ours, device, &place, error);
        }
        free(text);
    }
    return result;
}

/* ---- beside what QEMU says ---- */

struct search {
    const struct pci_owner *owners;
    unsigned count;
    struct iod_error *error;
    int result;
};

static void check_record(void *self, const struct record *record)
{
    struct search *search = self;

    for (unsigned i = 0; i < record->claim_count && record->alive; i++) {
        const struct record_claim *claim = &record->claims[i];
        for (unsigned k = 0; k < search->count && !search->result; k++) {
            const struct pci_owner *owner = &search->owners[k];
            struct place place = {owner->slot, owner->function};
            uint64_t sbdf = place.slot * 8 + place.function;
            if (claim->kind == CLAIM_FUNCTION && owner->bus == 0 && claim->start == sbdf) {
                search->result = refuse(claim->device, owner->name, &place, search->error);
            }
        }
    }
}

/* Where this ioreqd keeps its records; NULL: nowhere. */
static const char *record_dir_of(const struct dm_ioreqd *ioreqd, const char *usual)
{
    const char *directory = usual;

    for (unsigned i = 0; i + 1 < ioreqd->argument_count; i++) {
        if (!strcmp(ioreqd->arguments[i], "--record-dir")) {
            directory = ioreqd->arguments[i + 1];
        }
    }
    return strcmp(directory, "none") ? directory : NULL;
}

/* Places that were taken without addr= stand in the records alone; without records only addr= is known. */
int dm_slots_check_owners(const struct dm_args *args, const char *record_dir, const struct pci_owner *owners,
                          unsigned count, struct iod_error *error)
{
    struct search search = {.owners = owners, .count = count, .error = error};

    for (unsigned i = 0; i < args->ioreqd_count && !search.result; i++) {
        records_of(record_dir_of(&args->ioreqds[i], record_dir), args->domid, check_record, &search);
    }
    for (unsigned i = 0; i < count && !search.result; i++) {
        struct place place = {owners[i].slot, owners[i].function};
        const char *ours = owners[i].bus == 0 ? spec_at(args, &place) : NULL;
        if (ours) {
            search.result = refuse(ours, owners[i].name, &place, error);
        }
    }
    return search.result;
}
