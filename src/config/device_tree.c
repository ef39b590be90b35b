/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One walk over the tree. Its bytes are not trusted: libfdt checks the whole structure first and each step
 * again; depth, paths and counts are bounded here.
 */
#include "config/device_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <libfdt.h>

#include "config/source.h"

enum {
    TREE_BYTES = 4 << 20,
    DEPTH_MAX = 16,
    PATH_LENGTH = 512,
    NODES_MAX = 8192, /* with a reg; a host's tree has hundreds */
    DOMAINS_MAX = 256,
    DEVICES_MAX = 4096, /* of one domain */
    SPI_FIRST = 32,
    SPI_LAST = 1019,
};

/* What a node says to those below it, and where it is. */
struct level {
    size_t path; /* length of its path */
    unsigned address_cells, size_cells;
    uint32_t interrupt_parent; /* phandle; 0: none */
    const fdt32_t *ranges;     /* its `ranges` */
    int ranges_length;         /* -1: has none; 0: addresses are its parent's */
    bool chosen;               /* it is /chosen */
};

/* The properties of the node at hand. */
struct properties {
    const fdt32_t *reg, *interrupts, *extended;
    int reg_length, interrupts_length, extended_length;
    const char *compatible, *status, *device, *domain_tree;
    int compatible_length, status_length, device_length, domain_tree_length;
    int domain_devices; /* bytes of "ioreqd,devices", -1: none */
    const char *domain_device_list;
};

struct walk {
    const void *fdt;
    struct device_tree *tree;
    struct findings *findings;
    struct level levels[DEPTH_MAX]; /* by depth; [0] is the root */
    char path[PATH_LENGTH];
    uint32_t known_phandle, known_cells; /* the last interrupt controller that was looked at */
    bool failed;
};

/* ---- properties ---- */

static uint32_t cell(const char *value, int length, uint32_t fallback)
{
    fdt32_t word;
    if (length != (int)sizeof(word)) {
        return fallback;
    }
    memcpy(&word, value, sizeof(word));
    return fdt32_to_cpu(word);
}

static void take_property(struct level *level, struct properties *p, const char *name, const char *value,
                          int length)
{
    const fdt32_t *cells = (const void *)value;
    if (!strcmp(name, "#address-cells")) {
        level->address_cells = cell(value, length, 0);
    } else if (!strcmp(name, "#size-cells")) {
        level->size_cells = cell(value, length, 0);
    } else if (!strcmp(name, "interrupt-parent")) {
        level->interrupt_parent = cell(value, length, 0);
    } else if (!strcmp(name, "ranges")) {
        level->ranges = cells;
        level->ranges_length = length;
    } else if (!strcmp(name, "reg")) {
        p->reg = cells;
        p->reg_length = length;
    } else if (!strcmp(name, "interrupts")) {
        p->interrupts = cells;
        p->interrupts_length = length;
    } else if (!strcmp(name, "interrupts-extended")) {
        p->extended = cells;
        p->extended_length = length;
    } else if (!strcmp(name, "compatible")) {
        p->compatible = value;
        p->compatible_length = length;
    } else if (!strcmp(name, "status")) {
        p->status = value;
        p->status_length = length;
    } else if (!strcmp(name, DEVICE_PROPERTY)) {
        p->device = value;
        p->device_length = length;
    } else if (!strcmp(name, "ioreqd,devices")) {
        p->domain_device_list = value;
        p->domain_devices = length;
    } else if (!strcmp(name, "ioreqd,device-tree")) {
        p->domain_tree = value;
        p->domain_tree_length = length;
    }
}

static void take_properties(struct walk *walk, int node, struct level *level, struct properties *properties)
{
    int offset;
    *properties = (struct properties){.domain_devices = -1};
    fdt_for_each_property_offset (offset, walk->fdt, node) {
        const char *name;
        int length;
        const char *value = fdt_getprop_by_offset(walk->fdt, offset, &name, &length);
        if (value && name) {
            take_property(level, properties, name, value, length);
        }
    }
}

/* A property that is one text, ended by its only 0. */
static bool is_text(const char *value, int length)
{
    return value && length > 1 && strnlen(value, (size_t)length) == (size_t)length - 1;
}

static bool is_compatible(const struct properties *properties, const char *with)
{
    return properties->compatible && properties->compatible_length > 0 &&
           fdt_stringlist_contains(properties->compatible, properties->compatible_length, with);
}

/* ---- addresses ---- */

/* A number of one or two cells, at the cell `at`. */
static uint64_t read_cells(const fdt32_t *cells, unsigned at, unsigned count)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++) {
        fdt32_t word;
        memcpy(&word, cells + at + i, sizeof(word));
        value = value << 32 | fdt32_to_cpu(word);
    }
    return value;
}

static bool cells_are_good(const struct level *level)
{
    return level->address_cells >= 1 && level->address_cells <= 2 && level->size_cells >= 1 &&
           level->size_cells <= 2;
}

/* One step up: from addresses below `level` to those that it has itself. NULL, or why not. */
static const char *translate(const struct level *level, const struct level *parent, uint64_t size,
                             uint64_t *address)
{
    if (level->ranges_length < 0) {
        return "a node above it has no ranges";
    }
    if (level->ranges_length == 0) {
        return NULL;
    }
    if (!cells_are_good(level) || !cells_are_good(parent)) {
        return "a node above it has odd #address-cells or #size-cells";
    }
    unsigned child = level->address_cells, up = parent->address_cells, sizes = level->size_cells;
    unsigned entry = child + up + sizes, count = (unsigned)level->ranges_length / (4 * entry);
    for (unsigned i = 0; i < count; i++) {
        uint64_t from = read_cells(level->ranges, i * entry, child);
        uint64_t to = read_cells(level->ranges, i * entry + child, up);
        uint64_t length = read_cells(level->ranges, i * entry + child + up, sizes);
        if (*address >= from && *address - from < length && size <= length - (*address - from)) {
            *address = to + (*address - from);
            return NULL;
        }
    }
    return "no ranges of a node above it hold it";
}

/* reg's first entry, as the guest's physical address. `depth`: of the node. */
static const char *read_reg(const struct walk *walk, unsigned depth, const struct properties *properties,
                            struct tree_node *node)
{
    const struct level *parent = &walk->levels[depth - 1];
    if (!cells_are_good(parent)) {
        return "the node above it has odd #address-cells or #size-cells";
    }
    unsigned cells = parent->address_cells + parent->size_cells;
    if (properties->reg_length < (int)(4 * cells)) {
        return "its reg is too short";
    }
    node->base = read_cells(properties->reg, 0, parent->address_cells);
    node->size = read_cells(properties->reg, parent->address_cells, parent->size_cells);
    for (unsigned i = depth - 1; i >= 1; i--) {
        const char *why = translate(&walk->levels[i], &walk->levels[i - 1], node->size, &node->base);
        if (why) {
            return why;
        }
    }
    return node->size && node->base + (node->size - 1) >= node->base ? NULL
                                                                     : "its reg is empty or wraps around";
}

/* ---- interrupts ---- */

/* The #interrupt-cells of the controller; Xen makes the guest's GIC itself, so that it need not be in a
 * partial tree. */
static uint32_t interrupt_cells(struct walk *walk, uint32_t phandle)
{
    if (walk->known_phandle != phandle) {
        int node = fdt_node_offset_by_phandle(walk->fdt, phandle);
        int length = 0;
        const char *value = node >= 0 ? fdt_getprop(walk->fdt, node, "#interrupt-cells", &length) : NULL;
        walk->known_phandle = phandle;
        walk->known_cells = value ? cell(value, length, 0) : phandle == GIC_PHANDLE ? 3 : 0;
    }
    return walk->known_cells;
}

/* The node's one SPI: a type of 0, the number after 32, flags. NULL, or why it can't be told. */
static const char *read_interrupt(struct walk *walk, const struct level *level,
                                  const struct properties *properties, struct tree_node *node)
{
    const fdt32_t *cells = properties->interrupts;
    int length = properties->interrupts_length;
    uint32_t parent = level->interrupt_parent;
    if (properties->extended && properties->extended_length >= 4) {
        parent = (uint32_t)read_cells(properties->extended, 0, 1);
        cells = properties->extended + 1;
        length = properties->extended_length - 4;
    }
    if (!cells) {
        return node->virtio ? "it has no interrupts" : NULL;
    }
    if (!parent) {
        return "it has no interrupt-parent (a guest hangs whose tree never refers to the GIC)";
    }
    if (interrupt_cells(walk, parent) != 3) {
        return "its interrupt-parent is no GIC of this tree with 3 #interrupt-cells";
    }
    if (length != 12) {
        return "its interrupts are not one <type number flags>";
    }
    uint64_t number = read_cells(cells, 1, 1);
    if (read_cells(cells, 0, 1) != 0 || number > SPI_LAST - SPI_FIRST) {
        return "its interrupt is no SPI: expected <0 number 1>";
    }
    node->irq = (int)number + SPI_FIRST;
    node->edge = read_cells(cells, 2, 1) == 1;
    return NULL;
}

/* ---- nodes ---- */

static void out_of_memory(struct walk *walk)
{
    walk->findings->cut = true;
    walk->failed = true;
}

static void complain(struct walk *walk, const char *what, const char *remedy)
{
    char where[1200];
    snprintf(where, sizeof(where), "%.500s:%s", walk->tree->name, walk->path);
    findings_add(walk->findings, true, where, remedy, "%s", what);
    walk->failed = true;
}

static void add_node(struct walk *walk, unsigned depth, const struct properties *properties)
{
    struct device_tree *tree = walk->tree;
    struct tree_node node = {.irq = -1};
    const char *problem;
    node.virtio = is_compatible(properties, "virtio,mmio");
    if (tree->count >= NODES_MAX) {
        complain(walk, "the tree has too many nodes", NULL);
        return;
    }
    problem = read_reg(walk, depth, properties, &node);
    if (!problem && node.virtio) { /* others have what interrupts they like */
        problem = read_interrupt(walk, &walk->levels[depth], properties, &node);
    }
    node.disabled = is_text(properties->status, properties->status_length) &&
                    strcmp(properties->status, "okay") != 0 && strcmp(properties->status, "ok") != 0;
    if (properties->device && !is_text(properties->device, properties->device_length)) {
        complain(walk, DEVICE_PROPERTY " is not one text", "expected \"NAME,key=value,...\"");
        return;
    }
    struct tree_node *nodes = reallocarray(tree->nodes, tree->count + 1, sizeof(*nodes));
    if (nodes) {
        tree->nodes = nodes;
    }
    node.path = strdup(walk->path);
    node.device = properties->device ? strdup(properties->device) : NULL;
    node.problem = problem ? strdup(problem) : NULL;
    if (!nodes || !node.path || (properties->device && !node.device) || (problem && !node.problem)) {
        free(node.path);
        free(node.device);
        free(node.problem);
        out_of_memory(walk);
        return;
    }
    node.unit = strrchr(node.path, '/') + 1;
    nodes[tree->count++] = node;
}

static void add_devices(struct walk *walk, struct tree_domain *domain, const struct properties *properties)
{
    const char *list = properties->domain_device_list;
    int left = properties->domain_devices;
    while (left > 0) {
        size_t length = strnlen(list, (size_t)left);
        if (length == (size_t)left || !length || domain->device_count >= DEVICES_MAX) {
            complain(walk, "ioreqd,devices is no list of texts, or too long",
                     "expected \"NAME,key=value,...\", ...");
            return;
        }
        char **devices = reallocarray(domain->devices, domain->device_count + 1, sizeof(*devices));
        if (devices) {
            domain->devices = devices;
            devices[domain->device_count] = strdup(list);
        }
        if (!devices || !devices[domain->device_count]) {
            out_of_memory(walk);
            return;
        }
        domain->device_count++;
        list += length + 1;
        left -= (int)length + 1;
    }
}

static void add_domain(struct walk *walk, const struct properties *properties)
{
    struct device_tree *tree = walk->tree;
    if (tree->domain_count >= DOMAINS_MAX) {
        complain(walk, "the tree has too many domains", NULL);
        return;
    }
    if (properties->domain_tree && !is_text(properties->domain_tree, properties->domain_tree_length)) {
        complain(walk, "ioreqd,device-tree is not one text", "expected the path of a .dtb file");
        return;
    }
    struct tree_domain *domains = reallocarray(tree->domains, tree->domain_count + 1, sizeof(*domains));
    if (!domains) {
        out_of_memory(walk);
        return;
    }
    tree->domains = domains;
    struct tree_domain *domain = &domains[tree->domain_count++];
    *domain = (struct tree_domain){.domid = tree->domain_count, .path = strdup(walk->path)};
    domain->tree = properties->domain_tree ? strdup(properties->domain_tree) : NULL;
    if (!domain->path || (properties->domain_tree && !domain->tree)) {
        out_of_memory(walk);
        return;
    }
    add_devices(walk, domain, properties);
}

/* ---- the walk ---- */

/* Makes walk->path the node's. False: it is too long. */
static bool enter_path(struct walk *walk, int node, unsigned depth)
{
    struct level *level = &walk->levels[depth];
    size_t above = depth ? walk->levels[depth - 1].path : 0;
    int length;
    const char *name = fdt_get_name(walk->fdt, node, &length);
    if (depth == 0) {
        strcpy(walk->path, "/");
        level->path = 0;
        return true;
    }
    if (!name || length < 1 || above + 1 + (size_t)length >= PATH_LENGTH) {
        walk->path[above] = '\0';
        return false;
    }
    walk->path[above] = '/';
    memcpy(walk->path + above + 1, name, (size_t)length);
    level->path = above + 1 + (size_t)length;
    walk->path[level->path] = '\0';
    return true;
}

static void visit(struct walk *walk, int node, unsigned depth)
{
    struct properties properties;
    struct level *level = &walk->levels[depth];
    if (!enter_path(walk, node, depth)) {
        complain(walk, "a node below it has no name, or too long a path", NULL);
        return;
    }
    level->address_cells = 2; /* the specification's defaults */
    level->size_cells = 1;
    level->ranges_length = -1;
    level->interrupt_parent = depth ? walk->levels[depth - 1].interrupt_parent : 0;
    level->chosen = depth == 1 && strcmp(walk->path, "/chosen") == 0;
    take_properties(walk, node, level, &properties);
    if (depth == 2 && walk->levels[1].chosen && is_compatible(&properties, "xen,domain")) {
        add_domain(walk, &properties);
    } else if (depth >= 1 && properties.reg) {
        add_node(walk, depth, &properties);
    } else if (properties.device) {
        complain(walk, "a node with " DEVICE_PROPERTY " has no reg",
                 "expected the reg of a virtio,mmio node");
    }
}

static void walk_tree(struct walk *walk)
{
    int depth = 0;
    for (int node = 0; node >= 0 && depth >= 0 && !walk->failed;
         node = fdt_next_node(walk->fdt, node, &depth)) {
        if (depth < DEPTH_MAX) {
            visit(walk, node, (unsigned)depth);
        } else {
            complain(walk, "the tree is too deep", NULL);
        }
    }
}

/* How many bytes the item at `block` has, with its tag and padding; 0: it reaches past the `left` ones. */
static size_t item_length(const char *block, size_t left)
{
    uint32_t tag = (uint32_t)read_cells((const void *)block, 0, 1);
    size_t length = 4;
    if (tag == FDT_BEGIN_NODE) {
        length += strnlen(block + 4, left - 4) + 1;
    } else if (tag == FDT_PROP && left >= 12) {
        length = 12 + (size_t)read_cells((const void *)block, 1, 1);
    } else if (tag == FDT_PROP) {
        return 0;
    }
    length = (length + 3) / 4 * 4;
    return length <= left ? length : 0;
}

/* Does each item end within the block? libfdt 1.6 adds lengths without a look, and goes round for ever. */
static bool items_fit(const char *bytes, size_t size)
{
    size_t begin = fdt_off_dt_struct(bytes), length = fdt_size_dt_struct(bytes);
    if (begin % 4 || length % 4 || begin > size || length > size - begin) {
        return false;
    }
    for (size_t at = 0; at < length;) {
        size_t item = item_length(bytes + begin + at, length - at);
        if (!item) {
            return false;
        }
        at += item;
    }
    return true;
}

/* Versions before 17 have no size_dt_struct, and nobody has written one for 15 years. */
static int check_blob(const void *bytes, size_t size)
{
    if (size < sizeof(struct fdt_header)) {
        return -FDT_ERR_TRUNCATED;
    }
    int error = fdt_check_header(bytes);
    if (!error && fdt_version(bytes) < 17) {
        error = -FDT_ERR_BADVERSION;
    }
    if (!error && !items_fit(bytes, size)) {
        error = -FDT_ERR_BADSTRUCTURE;
    }
    return error ? error : fdt_check_full(bytes, size);
}

struct device_tree *device_tree_parse(const void *bytes, size_t size, const char *name,
                                      struct findings *findings)
{
    int error = check_blob(bytes, size);
    if (error) {
        findings_add(findings, true, name, "expected a flattened device tree, as dtc makes it (.dtb)",
                     "is no device tree: %s", fdt_strerror(error));
        return NULL;
    }
    struct device_tree *tree = calloc(1, sizeof(*tree));
    struct walk walk = {.fdt = bytes, .tree = tree, .findings = findings};
    if (tree) {
        tree->name = strdup(name);
    }
    if (!tree || !tree->name) {
        out_of_memory(&walk);
    } else {
        walk_tree(&walk);
    }
    if (walk.failed) {
        device_tree_destroy(tree);
        return NULL;
    }
    return tree;
}

struct device_tree *device_tree_read(const char *path, struct findings *findings)
{
    size_t size;
    int error;
    char *bytes = source_read(path, TREE_BYTES, &size, &error, findings);
    struct device_tree *tree = bytes ? device_tree_parse(bytes, size, path, findings) : NULL;
    free(bytes);
    return tree;
}

void device_tree_destroy(struct device_tree *tree)
{
    if (!tree) {
        return;
    }
    for (unsigned i = 0; i < tree->count; i++) {
        free(tree->nodes[i].path);
        free(tree->nodes[i].device);
        free(tree->nodes[i].problem);
    }
    for (unsigned i = 0; i < tree->domain_count; i++) {
        struct tree_domain *domain = &tree->domains[i];
        for (unsigned k = 0; k < domain->device_count; k++) {
            free(domain->devices[k]);
        }
        free(domain->devices);
        free(domain->path);
        free(domain->tree);
    }
    free(tree->nodes);
    free(tree->domains);
    free(tree->name);
    free(tree);
}

/* ---- looking up ---- */

const struct tree_node *device_tree_find(const struct device_tree *tree, const char *name, const char **why)
{
    const struct tree_node *found = NULL;
    for (unsigned i = 0; i < tree->count; i++) {
        const struct tree_node *node = &tree->nodes[i];
        if (strcmp(name[0] == '/' ? node->path : node->unit, name) == 0) {
            if (found) {
                *why = "has several nodes of this name: expected a whole path";
                return NULL;
            }
            found = node;
        }
    }
    *why = found ? NULL : "has no node of this name with a reg";
    return found;
}

const struct tree_node *device_tree_at(const struct device_tree *tree, uint64_t base)
{
    for (unsigned i = 0; i < tree->count; i++) {
        if (!tree->nodes[i].problem && tree->nodes[i].base == base) {
            return &tree->nodes[i];
        }
    }
    return NULL;
}
