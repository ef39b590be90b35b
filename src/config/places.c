/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/places.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

enum { WHERE = 600 };

/* ---- what a spec says ---- */

void place_of(const struct guest_spec *guest, const struct device_spec *device, struct place *place)
{
    const char *bus = device_spec_get(device, "bus");
    const char *base = device_spec_get(device, "base"), *irq = device_spec_get(device, "irq");
    uint64_t number;
    *place = (struct place){.irq = -1, .node = device_spec_get(device, "node")};
    place->mmio = bus ? strncmp(bus, "mmio", 4) == 0 : guest->arch == ARCH_ARM;
    place->virtio = strncmp(device->name, "virtio-", 7) == 0;
    if (base && option_parse_number(base, &number) == 0) {
        place->has_base = true;
        place->base = number;
    }
    if (irq && strcmp(irq, "none") == 0) {
        place->has_irq = true;
    } else if (irq && option_parse_number(irq, &number) == 0 && number <= INT32_MAX) {
        place->has_irq = true;
        place->irq = (int)number;
    }
}

/* `,key=value`, commas doubled. */
static void write_pair(FILE *to, const struct option_pair *pair)
{
    fprintf(to, ",%s=", pair->key);
    for (const char *at = pair->value; *at; at++) {
        if (*at == ',') {
            fputc(',', to);
        }
        fputc(*at, to);
    }
}

int place_set(struct device_spec *device, uint64_t base, int irq)
{
    struct device_spec placed;
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    if (!to) {
        return -ENOMEM;
    }
    fputs(device->name, to);
    for (unsigned i = 0; i < device->count; i++) {
        const char *key = device->pairs[i].key;
        if (strcmp(key, "node") && strcmp(key, "base") && strcmp(key, "irq")) {
            write_pair(to, &device->pairs[i]);
        }
    }
    fprintf(to, ",base=0x%" PRIx64 ",irq=", base);
    fprintf(to, irq < 0 ? "none" : "%d", irq);
    int ret = fclose(to) || !text ? -ENOMEM : device_spec_parse(&placed, text, NULL);
    free(text);
    if (!ret && device->origin) {
        ret = device_spec_from(&placed, device->origin);
    }
    if (ret) {
        return -ENOMEM;
    }
    device_spec_finish(device);
    *device = placed;
    return 0;
}

/* ---- what the tree adds ---- */

bool places_add_devices(struct guest_spec *guest, const struct device_tree *tree, struct findings *findings)
{
    unsigned before = findings->count;
    for (unsigned i = 0; i < tree->count; i++) {
        const struct tree_node *node = &tree->nodes[i];
        char where[WHERE];
        struct iod_error error = {0};
        struct place place;
        if (!node->device) {
            continue;
        }
        snprintf(where, sizeof(where), "%.300s:%.290s", tree->name, node->path);
        if (guest_spec_add_device(guest, node->device, &error)) {
            findings_add(findings, true, where, "see ioreqd --help device=?", "%s", error.text);
            continue;
        }
        struct device_spec *device = &guest->devices[guest->device_count - 1];
        place_of(guest, device, &place);
        if (place.has_base || place.has_irq || place.node) {
            findings_add(findings, true, where, "leave them out of " DEVICE_PROPERTY,
                         "base, irq and node are this node's own");
        } else if (node->problem) {
            findings_add(findings, true, where, NULL, "%s", node->problem);
        } else if (device_spec_from(device, where) || place_set(device, node->base, node->irq)) {
            findings->cut = true;
        }
    }
    return findings->count == before && !findings->cut;
}

/* ---- devices to nodes ---- */

struct resolving {
    struct guest_spec *guest;
    const struct device_tree *tree;
    const struct device_spec **owners; /* by node of the tree */
    struct findings *findings;
};

static const char *where_of(const struct resolving *resolving, const struct device_spec *device)
{
    return device->origin ? device->origin : resolving->guest->origin ? resolving->guest->origin : "device";
}

/* The device gets the node's place, if it is the first to ask. */
static void claim(struct resolving *resolving, struct device_spec *device, const struct place *place,
                  const struct tree_node *node)
{
    const struct device_spec **owner = &resolving->owners[node - resolving->tree->nodes];
    const char *where = where_of(resolving, device), *tree = resolving->tree->name;
    if (node->problem) {
        findings_add(resolving->findings, true, where, "mend the tree", "%.60s: %.300s:%.200s: %s",
                     device->name, tree, node->path, node->problem);
    } else if (*owner) {
        findings_add(resolving->findings, true, where, "a node is one device's",
                     "%.60s: %.200s is taken by %.60s (%s)", device->name, node->path, (*owner)->name,
                     where_of(resolving, *owner));
    } else if (place->virtio && !node->virtio) {
        findings_add(resolving->findings, true, where,
                     "expected a node that is compatible with \"virtio,mmio\"",
                     "%.60s: %.300s:%.200s is no virtio,mmio", device->name, tree, node->path);
    } else if (place->has_base && place->base != node->base) {
        findings_add(resolving->findings, true, where, "leave base out",
                     "%.60s: base=0x%" PRIx64 " differs from the 0x%" PRIx64 " of %.200s", device->name,
                     place->base, node->base, node->path);
    } else if (place->has_irq && node->virtio && place->irq != node->irq) {
        findings_add(resolving->findings, true, where, "leave irq out, or mend the tree",
                     "%.60s: irq=%d differs from the %d of %.300s:%.200s", device->name, place->irq,
                     node->irq, tree, node->path);
    } else if (!place->has_base || !place->has_irq) {
        if (place_set(device, node->base, node->virtio ? node->irq : place->irq)) {
            resolving->findings->cut = true;
        }
    }
    if (!*owner) {
        *owner = device;
    }
}

/* Devices that name a node, or a base. */
static void claim_named(struct resolving *resolving, struct device_spec *device)
{
    const struct tree_node *node;
    const char *why;
    struct place place;
    place_of(resolving->guest, device, &place);
    if (place.node) {
        node = device_tree_find(resolving->tree, place.node, &why);
        if (!node) {
            findings_add(resolving->findings, true, where_of(resolving, device), NULL,
                         "%.60s: node=%.200s: %.300s %s", device->name, place.node, resolving->tree->name,
                         why);
            return;
        }
    } else {
        if (!place.mmio || !place.has_base) {
            return;
        }
        node = device_tree_at(resolving->tree, place.base);
        if (!node) {
            findings_add(resolving->findings, true, where_of(resolving, device),
                         "the guest would not find it: expected the base of one of its nodes",
                         "%.60s: base=0x%" PRIx64 ": %.300s has no node there", device->name, place.base,
                         resolving->tree->name);
            return;
        }
    }
    claim(resolving, device, &place, node);
}

/* The others get what is left, in the tree's order. */
static void claim_next(struct resolving *resolving, struct device_spec *device, unsigned *next)
{
    const struct device_tree *tree = resolving->tree;
    struct place place;
    place_of(resolving->guest, device, &place);
    if (!place.mmio || !place.virtio || place.has_base || place.node || device_spec_get(device, "base")) {
        return;
    }
    while (*next < tree->count) {
        const struct tree_node *node = &tree->nodes[*next];
        bool usable = node->virtio && !node->disabled && !node->problem && !resolving->owners[*next];
        ++*next;
        if (usable) {
            claim(resolving, device, &place, node);
            return;
        }
    }
    findings_add(resolving->findings, true, where_of(resolving, device),
                 "add a node to the tree (ioreqd --print-dt), or take a device away",
                 "%.60s: %.300s has no virtio,mmio node left", device->name, tree->name);
}

static bool refuse_nodes(struct resolving *resolving)
{
    bool good = true;
    for (unsigned i = 0; i < resolving->guest->device_count; i++) {
        const struct device_spec *device = &resolving->guest->devices[i];
        if (device_spec_get(device, "node")) {
            findings_add(resolving->findings, true, where_of(resolving, device),
                         "expected device-tree = \"FILE.dtb\" in the guest",
                         "%.60s: node= without a device tree", device->name);
            good = false;
        }
    }
    return good;
}

bool places_resolve(struct guest_spec *guest, const struct device_tree *tree, struct findings *findings)
{
    struct resolving resolving = {.guest = guest, .tree = tree, .findings = findings};
    unsigned before = findings->count, next = 0;
    if (!tree) {
        return refuse_nodes(&resolving);
    }
    resolving.owners = calloc(tree->count + 1, sizeof(*resolving.owners));
    if (!resolving.owners) {
        findings->cut = true;
        return false;
    }
    for (unsigned i = 0; i < guest->device_count; i++) {
        claim_named(&resolving, &guest->devices[i]);
    }
    for (unsigned i = 0; i < guest->device_count; i++) {
        claim_next(&resolving, &guest->devices[i], &next);
    }
    free(resolving.owners);
    return findings->count == before && !findings->cut;
}
