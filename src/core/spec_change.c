/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest's spec that changes: devices come and go by their ids. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"

const struct device_spec *spec_find(const struct guest_spec *spec, const char *id)
{
    for (unsigned i = 0; i < spec->device_count; i++) {
        const char *own = device_spec_get(&spec->devices[i], "id");
        if (own && !strcmp(own, id)) {
            return &spec->devices[i];
        }
    }
    return NULL;
}

/* The text stays as it was given: who compares it finds it unchanged. */
static int give_id(struct device_spec *device, const char *id)
{
    struct option_pair *pairs = realloc(device->pairs, (device->count + 1) * sizeof(*pairs));
    if (!pairs) {
        return -ENOMEM;
    }
    device->pairs = pairs;
    pairs[device->count] = (struct option_pair){.key = strdup("id"), .value = strdup(id)};
    if (!pairs[device->count].key || !pairs[device->count].value) {
        free(pairs[device->count].key);
        free(pairs[device->count].value);
        return -ENOMEM;
    }
    device->count++;
    return 0;
}

static void default_id(char *id, size_t size, const char *name, unsigned number)
{
    bool digit = name[0] && strchr("0123456789", name[strlen(name) - 1]); /* uart16550-0, not uart165500 */
    snprintf(id, size, "%.60s%s%u", name, digit ? "-" : "", number);
}

int spec_set_id(struct device_spec *device, const char *id)
{
    int result = give_id(device, id);
    device->named = !result;
    return result;
}

/* By a device that is there, or that will be: of the host's spec, or of another one that is joined to it. */
static bool taken_at(struct guest *host, const struct guest_spec *spec, const char *id)
{
    struct guest *joined;
    if (!host) {
        return false;
    }
    bool taken = guest_device(host, id) || (spec != &host->spec && spec_find(&host->spec, id));
    list_for_each(joined, &host->joined, struct guest, join_link) {
        taken = taken || (spec != &joined->spec && spec_find(&joined->spec, id));
    }
    return taken;
}

int spec_give_id(struct guest_spec *spec, struct device_spec *device, struct guest *host)
{
    char id[96];
    unsigned number = (unsigned)(device - spec->devices);
    do { /* by place in the spec; a number that is taken is skipped */
        default_id(id, sizeof(id), device->name, number++);
    } while (spec_find(spec, id) || taken_at(host, spec, id));
    return spec_set_id(device, id);
}

int spec_name_devices(struct guest_spec *spec)
{
    for (unsigned i = 0; i < spec->device_count; i++) {
        struct device_spec *device = &spec->devices[i];
        if (!device_spec_get(device, "id") && spec_give_id(spec, device, NULL)) {
            return -ENOMEM;
        }
    }
    return 0;
}

static void take_id(struct device_spec *device)
{
    device->count--;
    free(device->pairs[device->count].key);
    free(device->pairs[device->count].value);
    device->named = false;
}

int spec_rename(struct guest_spec *spec, struct guest *host)
{
    for (unsigned i = 0; i < spec->device_count; i++) {
        struct device_spec *device = &spec->devices[i];
        if (device->named && taken_at(host, spec, device_spec_get(device, "id"))) {
            take_id(device);
            if (spec_give_id(spec, device, host)) {
                return -ENOMEM;
            }
        }
    }
    return 0;
}

int spec_append(struct guest_spec *spec, const struct device_spec *device)
{
    struct device_spec *devices = realloc(spec->devices, (spec->device_count + 1) * sizeof(*devices));
    if (!devices) {
        return -ENOMEM;
    }
    spec->devices = devices;
    if (device_spec_copy(&devices[spec->device_count], device)) {
        return -ENOMEM;
    }
    spec->device_count++;
    return 0;
}

void spec_drop(struct guest_spec *spec, const char *id)
{
    for (unsigned i = 0; i < spec->device_count; i++) {
        const char *own = device_spec_get(&spec->devices[i], "id");
        if (own && !strcmp(own, id)) {
            device_spec_finish(&spec->devices[i]);
            spec->device_count--;
            memmove(&spec->devices[i], &spec->devices[i + 1],
                    (spec->device_count - i) * sizeof(spec->devices[0]));
            return;
        }
    }
}
