/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/xenstore_node.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

#define SPEC_MAX (2 * STORE_VALUE_MAX + 512)
#define LIBXL_PATIENCE_S "8" /* it waits ten seconds for a disk; then the reason would come too late */
#define IDE_DISKS 4u  /* hda to hdd: QEMU's own, whatever their names */
#define AHCI_DISKS 6u

bool xenstore_name_valid(enum xenstore_kind kind, const char *name, size_t length)
{
    static const char own[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    const char *characters = kind == XENSTORE_OWN ? own : "0123456789";

    if (length == 0 || length > XENSTORE_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!name[i] || !strchr(characters, name[i])) {
            return false;
        }
    }
    return true;
}

/* ---- looking ---- */

struct reader {
    struct xenstore_node *node;
    enum xenstore_kind kind;
    const char *name;
    const struct store_branch *branch;
    const struct xenstore_place *place;
    char spec[SPEC_MAX];
    size_t length;
    bool full; /* the spec does not fit */
};

static const struct store_node *find(const struct reader *reader, const char *key)
{
    size_t length = strlen(reader->name);

    for (unsigned i = 0; i < reader->branch->count; i++) {
        const char *path = reader->branch->nodes[i].path;
        if (strncmp(path, reader->name, length) == 0 && path[length] == '/' &&
            strcmp(path + length + 1, key) == 0) {
            return &reader->branch->nodes[i];
        }
    }
    return NULL;
}

/* Its text; NULL if there is none, or none that could be read. */
static const char *get(const struct reader *reader, const char *key)
{
    const struct store_node *node = find(reader, key);

    return node ? node->value : NULL;
}

static bool is(const struct reader *reader, const char *key, const char *value)
{
    const char *text = get(reader, key);

    return text && strcmp(text, value) == 0;
}

/* Always false, so that a check can end with it. */
static __attribute__((format(printf, 2, 3))) bool refuse(struct reader *reader, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reader->node->why, sizeof(reader->node->why), format, arguments);
    va_end(arguments);
    reader->node->verdict = XENSTORE_REFUSE;
    return false;
}

/* ---- the spec's text ---- */

static void put(struct reader *reader, char character)
{
    if (reader->length + 1 < SPEC_MAX) {
        reader->spec[reader->length++] = character;
        reader->spec[reader->length] = '\0';
    } else {
        reader->full = true;
    }
}

static void put_text(struct reader *reader, const char *text)
{
    while (*text) {
        put(reader, *text++);
    }
}

static void put_option(struct reader *reader, const char *key, const char *value)
{
    put(reader, ',');
    put_text(reader, key);
    put(reader, '=');
    for (; *value; value++) {
        put(reader, *value);
        if (*value == ',') {
            put(reader, ',');
        }
    }
}

static void set_id(struct reader *reader, const char *prefix, const char *name)
{
    snprintf(reader->node->id, sizeof(reader->node->id), "%s%.*s", prefix, XENSTORE_NAME_MAX, name);
    put_option(reader, "id", reader->node->id);
}

/* ---- libxl's devices ---- */

/* DISK's base is decimal, VIRTIO's hexadecimal: the text says which. Both zero, or none: no description. */
static bool put_place(struct reader *reader)
{
    static const char *const keys[] = {"base", "irq"};
    uint64_t numbers[2] = {0, 0};
    char text[24];

    for (unsigned i = 0; i < 2; i++) {
        const struct store_node *node = find(reader, keys[i]);
        if (node && (!node->value || option_parse_number(node->value, &numbers[i]))) {
            return refuse(reader, "%s=%.40s: expected a number", keys[i], node->value ? node->value : "");
        }
    }
    if ((numbers[0] == 0) != (numbers[1] == 0)) {
        return refuse(reader, "base=0x%llx, irq=%llu: expected both, or neither of them",
                      (unsigned long long)numbers[0], (unsigned long long)numbers[1]);
    }
    reader->node->pci = numbers[0] == 0;
    if (numbers[0] == 0) {
        return reader->place->arch == ARCH_X86 ||
               refuse(reader,
                      "base=0 and irq=0: no virtio-mmio description; expected what libxl writes for an "
                      "Arm guest (there is no virtio-pci on Arm)");
    }
    put_option(reader, "bus", "mmio");
    snprintf(text, sizeof(text), "0x%llx", (unsigned long long)numbers[0]);
    put_option(reader, "base", text);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)numbers[1]);
    put_option(reader, "irq", text);
    return true;
}

/* Who uses grants gives addresses that are grant references (bit 63 is set); we map by frame. */
static bool check_grants(struct reader *reader)
{
    const struct store_node *node = find(reader, "grant_usage");

    if (!node) {
        return reader->place->own == 0 ||
               refuse(reader,
                      "no grant_usage, and the backend is domain %u: libxl makes the guest use grants "
                      "then, which ioreqd does not map; run ioreqd in domain 0, or with Xen 4.19 or newer "
                      "set grant_usage=0",
                      reader->place->own);
    }
    return (node->value && strcmp(node->value, "0") == 0) ||
           refuse(reader, "grant_usage=%.20s: ioreqd does not map grants; set grant_usage=0",
                  node->value ? node->value : "?");
}

static bool check_guest(struct reader *reader)
{
    const char *text = get(reader, "frontend-id");
    uint64_t domid;

    if (reader->place->pv) {
        return refuse(reader, "a PV guest has no emulated devices; expected type=\"pvh\" or \"hvm\"");
    }
    if (!text || option_parse_number(text, &domid) || domid != reader->place->domid) {
        return refuse(reader, "frontend-id=%.20s: expected %u", text ? text : "", reader->place->domid);
    }
    return check_grants(reader);
}

/* The index of the disk that a vdev number means (libxl__device_disk_dev_number's scheme). */
static unsigned disk_index(uint64_t devid, bool *scsi)
{
    uint64_t major = devid >> 8;

    *scsi = major == 8;
    if (devid & (1u << 28)) {
        return (unsigned)((devid & 0xfffffff) >> 8);
    }
    if (major == 3 || major == 22) {
        return (unsigned)((major == 22 ? 2 : 0) + ((devid >> 6) & 1));
    }
    return (unsigned)((devid >> 4) & 0xf);
}

/* libxl gives the first disks of an HVM guest to QEMU, too, which would write the same image. */
static bool check_vdev(struct reader *reader)
{
    bool scsi;
    unsigned index = disk_index(strtoull(reader->name, NULL, 10), &scsi);
    const char *dev = get(reader, "dev");

    if (reader->place->type != GUEST_HVM || (!scsi && index >= IDE_DISKS)) {
        return true;
    }
    return refuse(
        reader, "vdev=%.20s: libxl gives the same image to QEMU as %s disk; use vdev=xvde or later%s",
        dev ? dev : reader->name, scsi ? "a SCSI" : "an IDE", scsi ? "" : " (with hdtype=ahci: xvdg)");
}

static bool read_disk(struct reader *reader)
{
    const char *params = get(reader, "params"), *mode = get(reader, "mode"), *dev = get(reader, "dev");

    if (!check_guest(reader) || !check_vdev(reader)) {
        return false;
    }
    if (!params || params[0] != '/') {
        return refuse(reader, "params=%.60s: expected the absolute path of a raw image or block device",
                      params ? params : "");
    }
    if (!mode || (strcmp(mode, "w") && strcmp(mode, "r"))) {
        return refuse(reader, "mode=%.20s: expected w or r", mode ? mode : "");
    }
    put_text(reader, "virtio-blk");
    bool named = dev && dev[0] >= 'a' && dev[0] <= 'z' && strlen(dev) <= 16 &&
                 strspn(dev, "abcdefghijklmnopqrstuvwxyz0123456789") == strlen(dev);
    set_id(reader, named ? "" : "virtio_disk-", named ? dev : reader->name);
    put_option(reader, "path", params);
    put_option(reader, "readonly", mode[0] == 'r' ? "on" : "off");
    if (is(reader, "discard-enable", "0")) {
        put_option(reader, "discard", "off");
    }
    put_option(reader, "open-timeout", LIBXL_PATIENCE_S);
    return put_place(reader);
}

/* A type is "virtio,deviceX", X the device's number in hexadecimal. */
static bool read_virtio(struct reader *reader)
{
    static const char prefix[] = "virtio,device";
    const char *type = get(reader, "type"), *digits = type ? type + sizeof(prefix) - 1 : NULL;

    if (!check_guest(reader)) {
        return false;
    }
    if (!type || strncmp(type, prefix, sizeof(prefix) - 1) || strlen(digits) == 0 || strlen(digits) > 4 ||
        strspn(digits, "0123456789abcdefABCDEF") != strlen(digits)) {
        return refuse(reader, "type=%.40s: expected virtio,device and a number in hexadecimal",
                      type ? type : "");
    }
    unsigned long number = strtoul(digits, NULL, 16);
    if (number == 4) {
        put_text(reader, "virtio-rng");
        set_id(reader, "virtio-", reader->name);
    } else if (number == 3) {
        put_text(reader, "virtio-console");
        set_id(reader, "virtio-", reader->name);
        put_option(reader, "chardev", "pty");
    } else if (number == 2) {
        return refuse(reader, "type=%.40s: no image is named; use disk=[ 'specification=virtio, ...' ]",
                      type);
    } else if (number == 1) {
        return refuse(reader,
                      "type=%.40s: no network is named; give the device in ioreqd/%u/N or in the file", type,
                      reader->place->domid);
    } else {
        return refuse(reader,
                      "type=%.40s: ioreqd has no virtio device %lu; expected 3 (console) or 4 (entropy)",
                      type, number);
    }
    return put_place(reader);
}

static void read_libxl(struct reader *reader)
{
    struct xenstore_node *node = reader->node;
    const char *state = get(reader, "state"), *type = get(reader, "type");

    if (!state || strlen(state) != 1 || state[0] < '1' || state[0] > '6') {
        return;
    }
    snprintf(node->state, sizeof(node->state), "%s", state);
    if (reader->kind == XENSTORE_DISK && type && strcmp(type, "standalone")) {
        return; /* another backend's */
    }
    if (is(reader, "online", "0") || state[0] >= '5') {
        node->verdict = XENSTORE_CLOSE;
        return;
    }
    if (reader->kind == XENSTORE_DISK ? read_disk(reader) : read_virtio(reader)) {
        node->verdict = XENSTORE_SERVE;
    }
}

/* ---- our own ---- */

static bool is_pci(const struct device_spec *spec, enum guest_arch arch)
{
    const char *bus = device_spec_get(spec, "bus");

    return bus ? strcmp(bus, "pci") == 0
               : arch == ARCH_X86 && strncmp(spec->name, "virtio-", 7) == 0;
}

static void read_own(struct reader *reader)
{
    const struct store_node *found = NULL;
    struct device_spec spec;
    struct iod_error error;

    for (unsigned i = 0; i < reader->branch->count && !found; i++) {
        if (strcmp(reader->branch->nodes[i].path, reader->name) == 0) {
            found = &reader->branch->nodes[i];
        }
    }
    if (!found || (found->value && !found->value[0])) {
        return; /* a toolstack may make the node before it writes it */
    }
    if (!found->value) {
        refuse(reader, "expected one line of at most %u characters, NAME,KEY=VALUE,...", STORE_VALUE_MAX);
        return;
    }
    if (device_spec_parse(&spec, found->value, &error)) {
        refuse(reader, "%s", error.text);
    } else {
        const char *id = device_spec_get(&spec, "id");
        put_text(reader, found->value);
        if (id && strlen(id) >= sizeof(reader->node->id)) {
            refuse(reader, "id=%.40s...: expected at most %zu characters", id, sizeof(reader->node->id) - 1);
        } else {
            reader->node->verdict = XENSTORE_SERVE;
            reader->node->pci = is_pci(&spec, reader->place->arch);
            if (id) {
                snprintf(reader->node->id, sizeof(reader->node->id), "%s", id);
            } else {
                set_id(reader, "xenstore-", reader->name);
            }
        }
    }
    device_spec_finish(&spec);
}

int xenstore_node_read(struct xenstore_node *node, enum xenstore_kind kind, const char *name,
                       const struct store_branch *branch, const struct xenstore_place *place)
{
    struct reader reader = {.node = node, .kind = kind, .name = name, .branch = branch, .place = place};

    *node = (struct xenstore_node){0};
    if (kind == XENSTORE_OWN) {
        read_own(&reader);
    } else {
        read_libxl(&reader);
    }
    if (node->verdict == XENSTORE_SERVE && reader.full) {
        refuse(&reader, "the device's options are longer than %u characters", SPEC_MAX - 1);
    }
    if (node->verdict == XENSTORE_SERVE && !(node->spec = strdup(reader.spec))) {
        return -ENOMEM;
    }
    return 0;
}

/* ---- options of the guest ---- */

static int set_option(struct xenstore_options *options, const struct option_pair *pair,
                      struct iod_error *error)
{
    const char *key = pair->key, *value = pair->value;
    uint64_t number;

    if (strcmp(key, "type") == 0 && (strcmp(value, "hvm") == 0 || strcmp(value, "pvh") == 0)) {
        options->type = value[0] == 'h' ? GUEST_HVM : GUEST_PVH;
    } else if (strcmp(key, "beside") == 0 && option_parse_bool(value, &options->beside) == 0) {
        options->has_beside = true;
    } else if (strcmp(key, "pci-host") == 0 && option_parse_bool(value, &options->pci_host) == 0) {
        options->has_pci_host = true;
    } else if (strcmp(key, "slots") == 0 && option_parse_number(value, &number) == 0 && number <= GUEST_SLOTS_MAX) {
        options->slots = (unsigned)number;
    } else if (strcmp(key, "map-limit") == 0 && option_parse_size(value, &number) == 0 && number > 0) {
        options->map_limit = number;
    } else {
        return iod_fail(error, EINVAL,
                        "%.20s=%.40s: expected type=hvm|pvh, beside=on|off, pci-host=on|off, slots=N or "
                        "map-limit=SIZE",
                        key, value);
    }
    return 0;
}

int xenstore_options_read(struct xenstore_options *options, const char *text, struct iod_error *error)
{
    struct device_spec spec;
    char line[STORE_VALUE_MAX + sizeof(XENSTORE_OPTIONS) + 1];
    int result;

    *options = (struct xenstore_options){0};
    if (!text || !text[0]) {
        return 0;
    }
    snprintf(line, sizeof(line), "%s,%s", XENSTORE_OPTIONS, text);
    result = device_spec_parse(&spec, line, error);
    for (unsigned i = 0; !result && i < spec.count; i++) {
        result = set_option(options, &spec.pairs[i], error);
    }
    device_spec_finish(&spec);
    return result;
}
