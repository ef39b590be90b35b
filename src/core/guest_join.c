/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One domain, several specs: say one of xenstore's for the domid and one of a file for the name. The guest
 * that found the domain first serves it (the host); the others are joined to it: their devices are added
 * there, and stay in their own specs. So a source takes only its own away, and after the domain's death
 * each waits again by itself.
 */
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

#define HOST_INTERVAL_NS UINT64_C(100000000) /* the host ends: who comes next has to wait for that */

static struct guest *serving(const struct guest *guest)
{
    struct guest *other;
    list_for_each(other, &guest->daemon->guests, struct guest, link) {
        if (other != guest && other->have_domid && other->domid == guest->domid &&
            other->state >= GUEST_CLEANING && other->state <= GUEST_STOPPING) {
            return other;
        }
    }
    return NULL;
}

bool guest_join(struct guest *guest)
{
    struct guest *host = serving(guest);
    if (!host) {
        return false;
    }
    if (host->state == GUEST_STOPPING) {
        guest_retry_in(guest, HOST_INTERVAL_NS);
        return true;
    }
    guest_log(guest, IOD_LOG_INFO, "is served already, as %s: the devices of %s are added there",
              host->spec.domain,
              guest->spec.domain);
    if (spec_rename(&guest->spec, host)) {
        guest_retry_in(guest, HOST_INTERVAL_NS);
        return true;
    }
    guest->state = GUEST_JOINED;
    guest->host = host;
    list_add_tail(&host->joined, &guest->join_link);
    guest_named_state(guest, host->shown_state);
    guest_reconcile(guest);
    return true;
}

static void disown(struct guest *host, const struct guest *owner)
{
    struct iod_device *device;
    list_for_each(device, &host->devices, struct iod_device, link) {
        if (device->owner == owner) {
            device->owner = NULL;
        }
    }
}

static void unjoin(struct guest *guest)
{
    disown(guest->host, guest);
    additions_end(guest);
    list_remove(&guest->join_link);
    guest->host = NULL;
}

/* By their own timers: we may be anywhere, and one that is not waited for is freed. */
void guest_part(struct guest *host)
{
    struct guest *guest;
    while ((guest = list_first(&host->joined, struct guest, join_link))) {
        unjoin(guest);
        guest->state = GUEST_WAITING;
        guest->dead = host->dead;
        guest->parted = true;
        guest_retry_in(guest, 0);
    }
}

/* ---- one that goes for good ---- */

static bool owns_any(const struct guest *guest)
{
    const struct guest *host = guest->host ? guest->host : guest;
    for (const struct list *l = host->devices.next; l != &host->devices; l = l->next) {
        if (list_entry(l, const struct iod_device, link)->owner == guest) {
            return true;
        }
    }
    return false;
}

/* The first that is joined becomes the host's own spec; its old object takes the one that goes, and ends. */
static void hand_over(struct guest *host)
{
    struct guest *heir = list_first(&host->joined, struct guest, join_link);
    struct guest_spec spec = host->spec;
    char *source = host->source;
    bool named = host->named;
    struct iod_device *device;
    additions_end(host);
    list_for_each(device, &host->devices, struct iod_device, link) {
        device->owner = device->owner == heir ? host : device->owner;
    }
    additions_move(heir, host);
    list_remove(&heir->join_link);
    heir->host = NULL;
    host->spec = heir->spec;
    host->source = heir->source;
    host->named = heir->named;
    host->forget = heir->forget;
    host->ending = heir->ending;
    host->leaving = heir->leaving;
    memcpy(host->why, heir->why, sizeof(host->why));
    heir->spec = spec;
    heir->source = source;
    heir->named = named;
    heir->forget = true;
    struct answer *removal = heir->removal;
    heir->removal = host->removal;
    host->removal = removal;
    guest_log(host, IOD_LOG_INFO, "%s is removed; %s goes on", heir->spec.domain, host->spec.domain);
    guest_finish(heir);
    if (host->leaving) {
        guest_leave_step(host);
    } else {
        guest_reconcile(host);
    }
}

bool guest_leave_step(struct guest *guest)
{
    if (!guest->leaving || owns_any(guest)) {
        return false;
    }
    if (guest->state == GUEST_JOINED) {
        unjoin(guest);
        guest_finish(guest);
    } else if (guest->state == GUEST_RUNNING && !list_empty(&guest->joined)) {
        hand_over(guest);
    } else {
        guest_stop(guest);
    }
    return true;
}

/* Nobody asked the drivers of its devices: what is driven is taken off as if by force (device.c, keeps_range). */
static void pull(struct guest *guest)
{
    struct iod_device *device;
    struct iod_error error;
    list_for_each(device, &guest_host(guest)->devices, struct iod_device, link) {
        if (device->owner == guest && !device->hidden && !device->detach) {
            device->pulled = !device_is_removable(device, &error);
        }
    }
}

void guest_leave(struct guest *guest)
{
    bool shared = guest->state == GUEST_JOINED ||
                  (guest->state == GUEST_RUNNING && !list_empty(&guest->joined));
    if (!shared) {
        guest_stop(guest);
        return;
    }
    while (guest->spec.device_count) {
        device_spec_finish(&guest->spec.devices[--guest->spec.device_count]);
    }
    pull(guest);
    guest_reconcile(guest);
    guest_leave_step(guest);
}

void guest_unjoin(struct guest *guest)
{
    if (guest->host) {
        unjoin(guest);
    }
}
