/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char key_characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

static int no_memory(struct iod_error *error)
{
    return iod_fail(error, ENOMEM, "out of memory");
}

/*
 * Takes the value that begins at `from` (a doubled comma stands for one) and returns where it ended: at its
 * comma or at the end of the text. *value is NULL when out of memory.
 */
static const char *take_value(const char *from, char **value)
{
    *value = malloc(strlen(from) + 1);
    if (!*value) {
        return from;
    }
    char *to = *value;
    while (*from && !(from[0] == ',' && from[1] != ',')) {
        from += from[0] == ',';
        *to++ = *from++;
    }
    *to = '\0';
    return from;
}

static int add_pair(struct device_spec *spec, char *key, char *value, struct iod_error *error)
{
    struct option_pair *pairs =
        key && value ? realloc(spec->pairs, (spec->count + 1) * sizeof(*pairs)) : NULL;
    if (!pairs) {
        free(key);
        free(value);
        return no_memory(error);
    }
    spec->pairs = pairs;
    spec->pairs[spec->count++] = (struct option_pair){.key = key, .value = value};
    return 0;
}

/* Parses `key=value` at *at and leaves *at behind it. */
static int parse_pair(struct device_spec *spec, const char **at, struct iod_error *error)
{
    const char *key = *at;
    size_t length = strspn(key, key_characters);
    if (length == 0 || key[length] != '=') {
        int shown = (int)strcspn(key, ",");
        return iod_fail(error, EINVAL, "device '%.40s': '%.*s' is not an option; expected key=value%s",
                        spec->name, shown > 60 ? 60 : shown, key,
                        spec->count ? " (a comma in a value is doubled)" : "");
    }
    char *value;
    *at = take_value(key + length + 1, &value);
    return add_pair(spec, strndup(key, length), value, error);
}

/* It stands in records, events and messages, and in buffers of a known size. */
static int check_id(const struct device_spec *spec, struct iod_error *error)
{
    const char *id = device_spec_get(spec, "id");
    size_t length = id ? strlen(id) : 1;
    bool good = length > 0 && length <= DEVICE_ID_MAX;
    for (const char *at = id; at && good && *at; at++) {
        good = *at > 0x20 && *at < 0x7f;
    }
    return good ? 0
                : iod_fail(error, EINVAL, "device '%.40s': id=%.60s: expected 1 to %u printable characters, no blanks",
                           spec->name, id, DEVICE_ID_MAX);
}

int device_spec_parse(struct device_spec *spec, const char *text, struct iod_error *error)
{
    *spec = (struct device_spec){0};
    size_t length = strspn(text, key_characters);
    if (length == 0 || (text[length] && text[length] != ',')) {
        return iod_fail(error, EINVAL, "device '%.60s': expected NAME,key=value,...", text);
    }
    spec->text = strdup(text);
    spec->name = strndup(text, length);
    if (!spec->text || !spec->name) {
        return no_memory(error);
    }
    for (const char *at = text + length; *at;) {
        at++; /* the comma */
        int result = parse_pair(spec, &at, error);
        if (result) {
            return result;
        }
    }
    return check_id(spec, error);
}

void device_spec_finish(struct device_spec *spec)
{
    for (unsigned i = 0; i < spec->count; i++) {
        free(spec->pairs[i].key);
        free(spec->pairs[i].value);
    }
    free(spec->pairs);
    free(spec->name);
    free(spec->text);
    free(spec->origin);
    *spec = (struct device_spec){0};
}

int device_spec_copy(struct device_spec *to, const struct device_spec *from)
{
    *to = (struct device_spec){0};
    to->text = from->text ? strdup(from->text) : NULL;
    to->name = from->name ? strdup(from->name) : NULL;
    to->origin = from->origin ? strdup(from->origin) : NULL;
    to->named = from->named;
    if ((from->text && !to->text) || (from->name && !to->name) || (from->origin && !to->origin)) {
        goto failed;
    }
    for (unsigned i = 0; i < from->count; i++) {
        if (add_pair(to, strdup(from->pairs[i].key), strdup(from->pairs[i].value), NULL)) {
            goto failed;
        }
    }
    return 0;
failed:
    device_spec_finish(to);
    return -ENOMEM;
}

int device_spec_from(struct device_spec *spec, const char *origin)
{
    char *copy = strdup(origin);
    if (!copy) {
        return -ENOMEM;
    }
    free(spec->origin);
    spec->origin = copy;
    return 0;
}

bool device_spec_equal(const struct device_spec *one, const struct device_spec *other)
{
    return strcmp(one->text, other->text) == 0;
}

const char *device_spec_get(const struct device_spec *spec, const char *key)
{
    for (unsigned i = spec->count; i-- > 0;) {
        if (strcmp(spec->pairs[i].key, key) == 0) {
            return spec->pairs[i].value;
        }
    }
    return NULL;
}

void guest_spec_init(struct guest_spec *spec)
{
    *spec = (struct guest_spec){0};
#if defined(__aarch64__) || defined(__arm__)
    spec->arch = ARCH_ARM;
#else
    spec->arch = ARCH_X86;
#endif
}

/* Room for one more device, zeroed and not yet counted. */
static struct device_spec *next_device(struct guest_spec *spec)
{
    struct device_spec *devices = realloc(spec->devices, (spec->device_count + 1) * sizeof(*devices));
    if (!devices) {
        return NULL;
    }
    spec->devices = devices;
    devices[spec->device_count] = (struct device_spec){0};
    return &devices[spec->device_count];
}

int guest_spec_add_device(struct guest_spec *spec, const char *text, struct iod_error *error)
{
    struct device_spec *device = next_device(spec);
    if (!device) {
        return no_memory(error);
    }
    int result = device_spec_parse(device, text, error);
    if (result) {
        device_spec_finish(device);
        return result;
    }
    spec->device_count++;
    return 0;
}

int guest_spec_add_slots(struct guest_spec *spec, const char *name, struct iod_error *error)
{
    unsigned before = spec->device_count;
    for (unsigned i = 0; i < spec->slots; i++) {
        char text[160];
        snprintf(text, sizeof(text), "%.80s,id=slot-%u,number=%u", name, i + 1, i + 1);
        int result = guest_spec_add_device(spec, text, error);
        if (result) {
            return result;
        }
        struct device_spec slot = spec->devices[before + i];
        memmove(spec->devices + i + 1, spec->devices + i, before * sizeof(slot));
        spec->devices[i] = slot;
    }
    return 0;
}

int guest_spec_copy(struct guest_spec *to, const struct guest_spec *from)
{
    *to = *from;
    to->devices = NULL;
    to->device_count = 0;
    to->domain = from->domain ? strdup(from->domain) : NULL;
    to->origin = from->origin ? strdup(from->origin) : NULL;
    if ((from->domain && !to->domain) || (from->origin && !to->origin)) {
        goto failed;
    }
    for (unsigned i = 0; i < from->device_count; i++) {
        struct device_spec *device = next_device(to);
        if (!device || device_spec_copy(device, &from->devices[i])) {
            goto failed;
        }
        to->device_count++;
    }
    return 0;
failed:
    guest_spec_finish(to);
    return -ENOMEM;
}

void guest_spec_finish(struct guest_spec *spec)
{
    for (unsigned i = 0; i < spec->device_count; i++) {
        device_spec_finish(&spec->devices[i]);
    }
    free(spec->devices);
    free(spec->domain);
    free(spec->origin);
    *spec = (struct guest_spec){0};
}
