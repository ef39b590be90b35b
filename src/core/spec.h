/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What every source of configuration produces: a guest and its devices, as text taken apart but not yet
 * understood.
 */
#ifndef CORE_SPEC_H
#define CORE_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include <ioreqd/error.h>

struct option_pair {
    char *key, *value;
    bool used; /* scratch for whoever looks for unknown keys */
};

#define DEVICE_ID_MAX 63u /* characters of an id= */

/* `NAME,key=value,...`; in a value a comma is doubled. */
struct device_spec {
    char *text;   /* as given, for messages */
    char *name;   /* the class */
    char *origin; /* who asked for it: "/etc/ioreqd/ioreqd.conf:12", "xenstore", ...; NULL: nobody says */
    struct option_pair *pairs;
    unsigned count;
    bool named;   /* the core gave it its id: the last pair is not in the text */
};

enum guest_arch { ARCH_X86, ARCH_ARM };
enum guest_type { GUEST_UNKNOWN, GUEST_HVM, GUEST_PVH };
enum on_exit { ON_EXIT_DEFAULT, ON_EXIT_LEAVE, ON_EXIT_DESTROY };

/* What becomes of an access that waits longer than the guest's limit. */
enum stuck_policy {
    STUCK_WAIT,   /* it is reported, no more */
    STUCK_ONES,   /* a read gets all ones; a write waits: its end may let the guest free memory (stuck.h) */
    STUCK_DETACH, /* the device is detached: it is broken */
};

/* Root ports that a guest may have: of a bus of 32, less the bridge at 0 and what sits on the bus itself. */
#define GUEST_SLOTS_MAX 28u

struct guest_spec {
    char *domain;          /* domid, name, or "uuid:" and a uuid */
    char *origin;          /* as a device's */
    bool wait;             /* the domain need not exist yet */
    bool alone;            /* refused where somebody else has added a guest by the same text */
    bool beside;           /* another emulator (QEMU) serves the guest too: PCI slots from 0x1f downwards */
    enum guest_arch arch;
    enum guest_type type;  /* GUEST_UNKNOWN: ask xenstore */
    enum on_exit on_exit;
    enum { BUF_DEFAULT, BUF_OFF, BUF_LEGACY, BUF_ATOMIC } bufioreq;
    uint64_t map_limit;    /* bytes of guest memory kept mapped; 0: the default of the platform */
    unsigned slots;        /* PCIe root ports to plug devices into while the guest runs; 0: none. Not for HVM */
    enum stuck_policy stuck;
    uint64_t stuck_ms;     /* an access that waits longer is reported; 0: the default */
    bool unlimited;        /* no quarantine, whatever the guest does */
    struct device_spec *devices;
    unsigned device_count;
};

/* Parses the text form. The spec is the caller's, to be given to device_spec_finish (also after an error). */
int device_spec_parse(struct device_spec *spec, const char *text, struct iod_error *error);
void device_spec_finish(struct device_spec *spec);
int device_spec_copy(struct device_spec *to, const struct device_spec *from);
/* Notes who asked for it (copied). 0 or -ENOMEM. */
int device_spec_from(struct device_spec *spec, const char *origin);
/* The same text, whoever asked for it? */
bool device_spec_equal(const struct device_spec *one, const struct device_spec *other);
/* The value of a key (the last one given), or NULL. */
const char *device_spec_get(const struct device_spec *spec, const char *key);

void guest_spec_init(struct guest_spec *spec);
int guest_spec_add_device(struct guest_spec *spec, const char *text, struct iod_error *error);
/* Puts spec->slots devices `NAME,id=slot-N,number=N` before the others. 0 or a negative errno with *error filled. */
int guest_spec_add_slots(struct guest_spec *spec, const char *name, struct iod_error *error);
int guest_spec_copy(struct guest_spec *to, const struct guest_spec *from); /* -ENOMEM */
void guest_spec_finish(struct guest_spec *spec);

#endif
