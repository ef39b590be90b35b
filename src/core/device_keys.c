/* SPDX-License-Identifier: BSD-2-Clause */
/* What the user said of a device with the core's own keys: id, bus, addr, slot, base, irq. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/inside.h"
#include "core/options.h"

const char *device_spec_take(struct iod_device *device, const char *key)
{
    const char *value = NULL;
    for (unsigned i = 0; i < device->spec.count; i++) {
        if (!strcmp(device->spec.pairs[i].key, key)) {
            device->spec.pairs[i].used = true;
            value = device->spec.pairs[i].value;
        }
    }
    return value;
}

/* One or two hexadecimal digits, with 0x or without; strtoul alone would take signs and blanks. */
static const char *parse_hex(const char *text, unsigned *value)
{
    char *end;
    text += text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 2 : 0;
    if (!isxdigit((unsigned char)text[0])) {
        return NULL;
    }
    unsigned long number = strtoul(text, &end, 16);
    *value = number > UINT8_MAX ? UINT8_MAX : (unsigned)number;
    return end;
}

static int parse_slot(struct iod_device *device, const char *text, struct iod_error *error)
{
    unsigned slot, function = 0;
    const char *end = parse_hex(text, &slot);
    if (end && *end == '.') {
        end = parse_hex(end + 1, &function);
    }
    if (!end || *end || slot > 31 || function > 7) {
        return iod_fail(error, EINVAL,
                        "%s: addr=%s: expected SLOT[.FN] in hexadecimal, slot 0 to 1f, function 0 to 7",
                        device->class->name, text);
    }
    device->keys.has_slot = true;
    device->keys.slot = slot;
    device->keys.function = function;
    return 0;
}

static int parse_number_key(struct iod_device *device, const char *key, const char *text, uint64_t max,
                            uint64_t *value, struct iod_error *error)
{
    int result = option_parse_number(text, value);
    if (result || *value > max) {
        return iod_fail(error, EINVAL, "%s: %s=%s: expected a number from 0 to 0x%llx", device->class->name,
                        key, text, (unsigned long long)max);
    }
    return 0;
}

/* The keys that are the core's: id, bus, addr, slot, base, irq. */
int device_parse_keys(struct iod_device *device, unsigned index, struct iod_error *error)
{
    struct device_keys *keys = &device->keys;
    const char *text;
    uint64_t number;
    char name[96];
    const char *class = device->class->name;
    bool digit = class[0] && strchr("0123456789", class[strlen(class) - 1]); /* uart16550-0, not uart165500 */
    snprintf(name, sizeof(name), "%.60s%s%u", class, digit ? "-" : "", index);
    text = device_spec_take(device, "id");
    device->id = strdup(text ? text : name);
    if (!device->id) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    if ((text = device_spec_take(device, "bus"))) {
        snprintf(device->bus_name, sizeof(device->bus_name), "%s", text);
        keys->bus = device->bus_name;
    }
    if ((text = device_spec_take(device, "addr")) && parse_slot(device, text, error)) {
        return -EINVAL;
    }
    if ((text = device_spec_take(device, "slot"))) {
        if (parse_number_key(device, "slot", text, 32, &number, error)) {
            return -EINVAL;
        }
        keys->has_port = true;
        keys->port = (unsigned)number;
    }
    if ((text = device_spec_take(device, "base"))) {
        if (parse_number_key(device, "base", text, UINT64_MAX, &number, error)) {
            return -EINVAL;
        }
        keys->has_base = true;
        keys->base = number;
    }
    if ((text = device_spec_take(device, "irq"))) {
        number = 0;
        if (strcmp(text, "none") && parse_number_key(device, "irq", text, 8191, &number, error)) {
            return -EINVAL;
        }
        keys->has_irq = true;
        keys->irq = strcmp(text, "none") ? (int)number : -1;
    }
    return 0;
}
