/* SPDX-License-Identifier: BSD-2-Clause */
/* Bytes as a flattened device tree: what is read out of it can be used, and devices get places that are in
 * it. */
#include <stdlib.h>
#include <string.h>

#include "config/places.h"

#include "fuzz.h"

static void check_node(const struct device_tree *tree, const struct tree_node *node)
{
    const char *why;
    FUZZ_CHECK(node->path[0] == '/' && node->unit > node->path && node->unit[-1] == '/');
    FUZZ_CHECK(node->irq == -1 || (node->irq >= 32 && node->irq <= 1019));
    if (!node->problem) {
        FUZZ_CHECK(node->size && node->base + (node->size - 1) >= node->base);
        FUZZ_CHECK(!node->virtio || node->irq >= 32);
        FUZZ_CHECK(device_tree_at(tree, node->base));
    }
    FUZZ_CHECK(device_tree_find(tree, node->unit, &why) || why);
}

static void check_places(const struct device_tree *tree)
{
    static const char *const devices[] = {"virtio-rng", "virtio-blk,node=v", "virtio-rng,base=0x2000000",
                                          "uart16550,node=/a/v@2000200"};
    struct findings findings = {0};
    struct guest_spec guest;
    guest_spec_init(&guest);
    guest.arch = ARCH_ARM;
    for (unsigned i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        FUZZ_CHECK(guest_spec_add_device(&guest, devices[i], NULL) == 0);
    }
    bool added = places_add_devices(&guest, tree, &findings);
    FUZZ_CHECK(guest.device_count >= 4 && guest.device_count <= 4 + tree->count);
    if (places_resolve(&guest, tree, &findings) && added) {
        for (unsigned i = 0; i < guest.device_count; i++) {
            struct place place;
            place_of(&guest, &guest.devices[i], &place);
            FUZZ_CHECK(!place.node && (!place.mmio || place.has_base));
            FUZZ_CHECK(!place.mmio || device_tree_at(tree, place.base));
        }
    } else {
        FUZZ_CHECK(findings.count);
    }
    guest_spec_finish(&guest);
    findings_finish(&findings);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct findings findings = {0};
    struct device_tree *tree = device_tree_parse(bytes, length, "F", &findings);
    if (tree) {
        for (unsigned i = 0; i < tree->count; i++) {
            check_node(tree, &tree->nodes[i]);
        }
        for (unsigned i = 0; i < tree->domain_count; i++) {
            FUZZ_CHECK(tree->domains[i].domid == i + 1 && tree->domains[i].path[0] == '/');
        }
        check_places(tree);
    } else {
        FUZZ_CHECK(findings_fatal(&findings));
    }
    device_tree_destroy(tree);
    findings_finish(&findings);
    return 0;
}
