/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The partial device tree of a guest, as Xen takes it: of it only /gic, /aliases and /passthrough count. The
 * nodes have neither xen,reg nor xen,path, so that Xen maps nothing there and each access comes to the ioreq
 * server. A guest whose tree never refers to the GIC hangs without a word, so each node does.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/places.h"

/* A device's node. */
struct print_node {
    const struct device_spec *device;
    struct place place;
};

struct printing {
    const struct guest_spec *guest;
    struct print_node *nodes;
    unsigned count;
    struct findings *findings;
};

static void complain(const struct printing *printing, bool fatal, const struct device_spec *device,
                     const char *what, const char *remedy)
{
    const char *where = device && device->origin  ? device->origin
                        : printing->guest->origin ? printing->guest->origin
                                                  : printing->guest->domain;
    findings_add(printing->findings, fatal, where, remedy, "%.60s: %s",
                 device ? device->name : printing->guest->domain, what);
}

/* ---- places for those that have none ---- */

static bool base_taken(const struct printing *printing, uint64_t base)
{
    for (unsigned i = 0; i < printing->count; i++) {
        const struct place *place = &printing->nodes[i].place;
        if (place->has_base && base < place->base + WINDOW_STEP && place->base < base + WINDOW_STEP) {
            return true;
        }
    }
    return false;
}

static bool irq_taken(const struct printing *printing, int irq)
{
    for (unsigned i = 0; i < printing->count; i++) {
        if (printing->nodes[i].place.has_irq && printing->nodes[i].place.irq == irq) {
            return true;
        }
    }
    return false;
}

static bool choose_base(const struct printing *printing, struct place *place)
{
    for (uint64_t base = WINDOW_BASE; !place->has_base && base < WINDOW_BASE + WINDOW_SIZE;
         base += WINDOW_STEP) {
        if (!base_taken(printing, base)) {
            place->base = base;
            place->has_base = true;
        }
    }
    return place->has_base;
}

static bool choose_irq(const struct printing *printing, struct place *place)
{
    for (int irq = WINDOW_SPI_FIRST; !place->has_irq && irq <= WINDOW_SPI_LAST; irq++) {
        if (!irq_taken(printing, irq)) {
            place->irq = irq;
            place->has_irq = true;
        }
    }
    return place->has_irq;
}

static bool complete(struct printing *printing)
{
    for (unsigned i = 0; i < printing->count; i++) {
        struct print_node *node = &printing->nodes[i];
        if (!choose_base(printing, &node->place) || !choose_irq(printing, &node->place)) {
            complain(printing, true, node->device,
                     "no place and SPI is left for it in Xen's virtio-mmio window",
                     "the window has 11: give it base= and irq=, or take devices away");
            return false;
        }
        if (node->place.irq < 32) {
            complain(printing, true, node->device, "virtio-mmio needs an interrupt in the tree",
                     "expected irq= an INTID from 32, or leave it out");
            return false;
        }
    }
    return true;
}

/* ---- collecting and printing ---- */

static bool collect(struct printing *printing)
{
    const struct guest_spec *guest = printing->guest;
    printing->nodes = calloc(guest->device_count + 1, sizeof(*printing->nodes));
    if (!printing->nodes) {
        printing->findings->cut = true;
        return false;
    }
    for (unsigned i = 0; i < guest->device_count; i++) {
        struct print_node node = {.device = &guest->devices[i]};
        place_of(guest, node.device, &node.place);
        if (node.place.mmio && node.place.virtio) {
            printing->nodes[printing->count++] = node;
        } else {
            complain(printing, false, node.device, "is not virtio-mmio: its node is yours to write", NULL);
        }
    }
    if (!printing->count) {
        complain(printing, true, NULL, "has no virtio-mmio device", NULL);
    }
    return printing->count != 0;
}

/* A name in a comment must not end it. */
static void print_name(FILE *to, const char *name)
{
    for (; *name; name++) {
        fputc(strchr("*/\\", *name) ? '?' : *name, to);
    }
}

static void print_node(FILE *to, const struct print_node *node)
{
    uint64_t base = node->place.base;
    fprintf(to, "\n\t\tvirtio@%" PRIx64 " { /* %s */\n", base, node->device->name);
    fprintf(to, "\t\t\tcompatible = \"virtio,mmio\";\n");
    fprintf(to, "\t\t\treg = <0x%" PRIx64 " 0x%" PRIx64 " 0x0 0x%" PRIx64 ">;\n", base >> 32,
            base & UINT32_MAX, WINDOW_STEP);
    fprintf(to, "\t\t\tinterrupt-parent = <&gic>;\n");
    fprintf(to, "\t\t\tinterrupts = <0 %d 1>; /* INTID %d, edge rising */\n", node->place.irq - 32,
            node->place.irq);
    fprintf(to, "\t\t\tdma-coherent;\n\t\t};\n");
}

static void print_tree(FILE *to, const struct printing *printing)
{
    fprintf(to, "/dts-v1/;\n\n/* ioreqd --print-dt ");
    print_name(to, printing->guest->domain);
    fprintf(to,
            " */\n/ {\n\t#address-cells = <2>;\n\t#size-cells = <2>;\n\n"
            "\tgic: gic { /* Xen makes it: here only its phandle counts */\n\t\t#address-cells = "
            "<0>;\n\t\t#interrupt-cells = <3>;\n"
            "\t\tinterrupt-controller;\n\t\tphandle = <0x%x>;\n\t};\n\n"
            "\tpassthrough {\n\t\tcompatible = \"simple-bus\";\n"
            "\t\t#address-cells = <2>;\n\t\t#size-cells = <2>;\n\t\tranges;\n",
            GIC_PHANDLE);
    for (unsigned i = 0; i < printing->count; i++) {
        print_node(to, &printing->nodes[i]);
    }
    fprintf(to, "\t};\n};\n");
}

int config_print_dt(const struct config *config, const char *domain, FILE *to, struct findings *findings)
{
    struct printing printing = {.findings = findings};
    bool good = false;
    for (unsigned i = 0; i < config->count; i++) {
        if (strcmp(config->guests[i].domain, domain) == 0) {
            printing.guest = &config->guests[i];
        }
    }
    if (!printing.guest) {
        findings_add(findings, true, domain, "expected a guest as the configuration names it",
                     "no such guest");
        return -ENOENT;
    }
    if (printing.guest->arch != ARCH_ARM) {
        complain(&printing, true, NULL, "is an x86 guest, which has no device tree",
                 "arch = \"arm\" if it is not");
    } else if (collect(&printing) && complete(&printing)) {
        print_tree(to, &printing);
        good = true;
    }
    free(printing.nodes);
    return good ? 0 : -EINVAL;
}
