/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guests that come, go and change, over the fake hypervisor: a device class whose steps the test holds, an
 * xenstore that says what the test says, and all events as text. Each test is a process of its own.
 */
#ifndef CHANGE_RIG_H
#define CHANGE_RIG_H

#include "core/inside.h"
#include "fake_xen.h"
#include "unit.h"

enum { KNOB = 0xf0000000 }; /* where tests put their first knob: base=0xf0000000 */

/*
 * The class "knob": base= (required), value= (what a read gives), lock= (a name; -EBUSY while another knob of that name
 * is open), open=now|later|fail.
 */
struct knob {
    struct iod_device *device;
    struct device_part part;
    const char *lock;
    unsigned serial; /* the nth that was made */
    bool locked, io; /* io: a quiesce waits for knob_finish */
    bool driven;     /* its driver is at work: not removable */
    bool asks;       /* but can be asked to let go of it (the guest wrote 2) */
};
extern struct knobs {
    unsigned created, destroyed, started;
    bool slow; /* a quiesce ends by knob_finish alone */
} knobs;

struct fake_xen *rig_start(bool with_store);
void rig_stop(struct fake_xen *fake);

/* xenstore's list: "7=web/uuid-1 8=db" in that order; "" none. */
void rig_domains(const char *list);
void rig_store_lost(void);

/* One guest: devices are texts. The origin may be NULL. */
struct guest_spec rig_spec(const char *domain, bool wait, const char *origin, const char *const *devices,
                           unsigned count);
#define RIG_SPEC(domain, wait, origin, ...)                                                                      \
    rig_spec(domain, wait, origin, (const char *const[]){__VA_ARGS__},                                           \
             sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))
void rig_add(struct fake_xen *fake, struct guest_spec spec);              /* must be taken; the spec is freed */
void rig_refused(struct fake_xen *fake, struct guest_spec spec, const char *says);

/* The verbs, run to their answer. `says` NULL: without error, else part of the error's text. */
void rig_add_device(struct fake_xen *fake, const char *domain, const char *device, const char *says);
void rig_remove_device(struct fake_xen *fake, const char *domain, const char *id, enum removal how, const char *says);
void rig_remove_guest(struct fake_xen *fake, const char *domain);
/* Begins a verb whose answer is rig_answer. */
struct rig_answer {
    bool done;
    int error;
    char why[240];
};
daemon_done rig_done;

struct knob *rig_knob(struct fake_xen *fake, const char *domain, const char *id); /* NULL: not there */
void knob_opened(struct knob *knob, int error); /* ends open=later */
void knob_finish(struct knob *knob);            /* ends a slow quiesce */

/* Waits until the guest's state and `served` are so. */
void rig_expect(struct fake_xen *fake, const char *domain, const char *state, bool served);
void rig_expect_within(struct fake_xen *fake, const char *domain, const char *state, bool served, unsigned ms);
struct guest_status rig_status(struct fake_xen *fake, const char *domain);
const char *rig_events(void); /* since the last call: "web:running web/knob0:added ..." */

#endif
