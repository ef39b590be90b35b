/* SPDX-License-Identifier: BSD-2-Clause */
#include "watch_rig.h"

#include <errno.h>
#include <stdio.h>

#include <ioreqd/log.h>
#include <ioreqd/region.h>

/* ---- two devices that keep an access for as long as the test wants ---- */

struct keeper *keepers[2];

static uint64_t keeper_read(void *self, uint64_t offset, unsigned width)
{
    struct keeper *keeper = self;
    if (offset == HOLD) {
        keeper->access = iod_access_defer(keeper->device);
    } else if (offset == ERROR) {
        iod_guest_error(keeper->device, "error %u", 7);
    }
    return 0x42;
}

static void keeper_write(void *self, uint64_t offset, unsigned width, uint64_t value)
{
    struct keeper *keeper = self;
    if (offset == HOLD) {
        keeper->access = iod_access_defer(keeper->device);
    }
    keeper->last = value;
}

static const struct iod_region_ops keeper_ops = {
    .size = sizeof(keeper_ops), .widths = 4, .read = keeper_read, .write = keeper_write
};

static int keeper_create(struct iod_device *device, struct iod_error *error)
{
    struct keeper *keeper = iod_self(device);
    keeper->device = device;
    keepers[strcmp(iod_device_id(device), "first") != 0] = keeper;
    struct iod_region *region = iod_region_add(device, "registers", 16, &keeper_ops, keeper);
    return iod_region_place_base(region, IOD_MMIO, FIRST, error);
}

static const struct iod_device_class keeper_class = {
    .size = sizeof(keeper_class), .name = "keeper", .summary = "keeps accesses", .version = 1,
    .self_size = sizeof(struct keeper), .create = keeper_create,
};
static const struct iod_device_class *const classes[] = { &keeper_class, NULL };
static const struct iod_module module = { .size = sizeof(module), .abi = IOD_ABI, .devices = classes };

struct fake_xen *fake;
struct guest *guest;
struct daemon *daemon_;

void rig_begin(void)
{
    static const char *const devices[] = { "keeper,id=first,base=0xf0000000", "keeper,id=second,base=0xf1000000" };
    struct iod_error error = { 0 };
    fake = fake_start(&module, GUEST_HVM, devices, 2, &error);
    ck_assert_msg(fake != NULL, "%s", error.text);
    daemon_ = fake_daemon(fake);
    guest = list_first(&daemon_->guests, struct guest, link);
}

void rig_end(void)
{
    fake_stop(fake);
}

/* ---- an inspector that writes "outer.member=value" lines ---- */

struct lines {
    struct inspector inspector;
    char text[16384], path[400];
    size_t length;
    unsigned depth, index[16];
    size_t starts[16];
};

static struct lines *lines_of(struct inspector *inspector)
{
    return (struct lines *)inspector;
}

static void enter(struct inspector *inspector, const char *key)
{
    struct lines *lines = lines_of(inspector);
    size_t length = strlen(lines->path);
    lines->starts[lines->depth] = length;
    if (key) {
        snprintf(lines->path + length, sizeof(lines->path) - length, "%s.", key);
    } else {
        snprintf(lines->path + length, sizeof(lines->path) - length, "%u.", lines->index[lines->depth]++);
    }
    lines->index[++lines->depth] = 0;
}

static void leave(struct inspector *inspector)
{
    struct lines *lines = lines_of(inspector);
    lines->path[lines->starts[--lines->depth]] = '\0';
}

static void add(struct inspector *inspector, const char *key, const char *value)
{
    struct lines *lines = lines_of(inspector);
    lines->length += (size_t)snprintf(lines->text + lines->length, sizeof(lines->text) - lines->length,
                                      "%s%s=%s\n", lines->path, key, value);
    ck_assert_uint_lt(lines->length, sizeof(lines->text));
}

static void add_number(struct inspector *inspector, const char *key, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    add(inspector, key, text);
}

static void add_boolean(struct inspector *inspector, const char *key, bool value)
{
    add(inspector, key, value ? "true" : "false");
}

struct inspector *make_lines(void)
{
    static struct lines lines;
    memset(&lines, 0, sizeof(lines));
    strcpy(lines.text, "\n");
    lines.length = 1;
    lines.inspector = (struct inspector){ enter, enter, leave, add, add_number, add_boolean };
    return &lines.inspector;
}

const char *shown(show_list *show)
{
    struct iod_error error = { 0 };
    struct lines *lines = lines_of(make_lines());
    ck_assert_int_eq(show(daemon_, "7", "list", &lines->inspector, &error), 0);
    ck_assert_uint_eq(lines->depth, 0);
    return lines->text;
}

void expect(const char *lines, const char *line)
{
    char whole[200];
    snprintf(whole, sizeof(whole), "\n%s\n", line);
    ck_assert_msg(strstr(lines, whole) != NULL, "no line %s in%s", line, lines);
}

uint64_t number_of(const char *lines, const char *key)
{
    char begin[200];
    snprintf(begin, sizeof(begin), "\n%s=", key);
    const char *at = strstr(lines, begin);
    ck_assert_msg(at != NULL, "no %s in%s", key, lines);
    return strtoull(at + strlen(begin), NULL, 10);
}
