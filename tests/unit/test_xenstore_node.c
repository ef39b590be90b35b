/* SPDX-License-Identifier: BSD-2-Clause */
/* From xenstore's nodes to device specs: what libxl writes, what it never would, and our own tree. */
#include <stdio.h>

#include "config/xenstore_node.h"

#include "unit.h"

#define NODES 32

static struct store_node nodes[NODES];
static char paths[NODES][64], values[NODES][64];
static struct store_branch branch;
static struct xenstore_place place;
static struct xenstore_node node;

static void teardown(void)
{
    free(node.spec);
    node = (struct xenstore_node){0};
}

/* Sets KEY of the device; a value of NULL is one that is no text. */
static void set(const char *name, const char *key, const char *value)
{
    char path[64];
    unsigned i = 0;

    snprintf(path, sizeof(path), "%s%s%s", name, key[0] ? "/" : "", key);
    while (i < branch.count && strcmp(paths[i], path)) {
        i++;
    }
    ck_assert_uint_lt(i, NODES);
    snprintf(paths[i], sizeof(paths[i]), "%s", path);
    snprintf(values[i], sizeof(values[i]), "%s", value ? value : "");
    nodes[i] = (struct store_node){.path = paths[i], .value = value ? values[i] : NULL};
    branch.count += i == branch.count;
}

static void unset(const char *path)
{
    for (unsigned i = 0; i < branch.count; i++) {
        if (strcmp(paths[i], path) == 0) {
            snprintf(paths[i], sizeof(paths[i]), "gone-%u", i);
        }
    }
}

static void setup(void)
{
    branch = (struct store_branch){.name = "5", .nodes = nodes, .whole = true};
    place = (struct xenstore_place){.domid = 5, .arch = ARCH_X86, .type = GUEST_PVH};
}

/* As libxl 4.17 writes it. */
static void disk(const char *devid, const char *dev)
{
    static const char *const keys[][2] = {
        {"frontend-id", "5"}, {"online", "1"},        {"state", "1"},        {"params", "/srv/a.img"},
        {"base", "0"},        {"irq", "0"},           {"type", "standalone"}, {"transport", "mmio"},
        {"mode", "w"},        {"specification", "virtio"}, {"discard-enable", "1"}};

    for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        set(devid, keys[i][0], keys[i][1]);
    }
    set(devid, "dev", dev);
}

static void read_node(enum xenstore_kind kind, const char *name)
{
    teardown();
    ck_assert_int_eq(xenstore_node_read(&node, kind, name, &branch, &place), 0);
}

static void expect_spec(enum xenstore_kind kind, const char *name, const char *spec)
{
    read_node(kind, name);
    ck_assert_msg(node.verdict == XENSTORE_SERVE, "verdict %d: %s", node.verdict, node.why);
    ck_assert_str_eq(node.spec, spec);
}

static void expect_refusal(enum xenstore_kind kind, const char *name, const char *why)
{
    read_node(kind, name);
    ck_assert_msg(node.verdict == XENSTORE_REFUSE, "verdict %d", node.verdict);
    ck_assert_msg(strstr(node.why, why) != NULL, "'%s' does not say '%s'", node.why, why);
    ck_assert_ptr_null(node.spec);
}

static void expect_verdict(enum xenstore_kind kind, const char *name, enum xenstore_verdict verdict)
{
    read_node(kind, name);
    ck_assert_int_eq(node.verdict, verdict);
    ck_assert_ptr_null(node.spec);
}

START_TEST(disks)
{
    disk("51712", "xvda");
    expect_spec(XENSTORE_DISK, "51712", "virtio-blk,id=xvda,path=/srv/a.img,readonly=off,open-timeout=8");
    ck_assert(node.pci);
    ck_assert_str_eq(node.id, "xvda");
    ck_assert_str_eq(node.state, "1");
    set("51712", "mode", "r");
    set("51712", "discard-enable", "0");
    set("51712", "dev", "51712"); /* vdev as a number */
    expect_spec(XENSTORE_DISK, "51712",
                "virtio-blk,id=virtio_disk-51712,path=/srv/a.img,readonly=on,discard=off,open-timeout=8");
    place.arch = ARCH_ARM;
    set("51712", "base", "33554432");
    set("51712", "irq", "33");
    expect_spec(XENSTORE_DISK, "51712",
                "virtio-blk,id=virtio_disk-51712,path=/srv/a.img,readonly=on,discard=off,open-timeout=8,"
                "bus=mmio,base=0x2000000,irq=33");
    ck_assert(!node.pci);
    set("51712", "params", "/srv/a,readonly=off"); /* one path, no option */
    read_node(XENSTORE_DISK, "51712");
    ck_assert_ptr_nonnull(strstr(node.spec, "path=/srv/a,,readonly=off,readonly=on"));
}
END_TEST

START_TEST(disks_that_can_not_be)
{
    disk("51712", "xvda");
    place.own = 1; /* 4.17: a backend that is not dom0 gets grants */
    expect_refusal(XENSTORE_DISK, "51712", "use grants");
    set("51712", "grant_usage", "0");
    read_node(XENSTORE_DISK, "51712");
    ck_assert_int_eq(node.verdict, XENSTORE_SERVE);
    place.own = 0;
    set("51712", "grant_usage", "1");
    expect_refusal(XENSTORE_DISK, "51712", "grant_usage=1");
    set("51712", "grant_usage", NULL);
    expect_refusal(XENSTORE_DISK, "51712", "grant_usage");
    set("51712", "grant_usage", "0");
    set("51712", "frontend-id", "6");
    expect_refusal(XENSTORE_DISK, "51712", "frontend-id=6: expected 5");
    set("51712", "frontend-id", "5");
    place.pv = true;
    expect_refusal(XENSTORE_DISK, "51712", "PV guest");
    place.pv = false;
    set("51712", "params", "relative.img");
    expect_refusal(XENSTORE_DISK, "51712", "absolute path");
    set("51712", "params", NULL);
    expect_refusal(XENSTORE_DISK, "51712", "absolute path");
    set("51712", "params", "/srv/a");
    set("51712", "mode", "rw");
    expect_refusal(XENSTORE_DISK, "51712", "mode=rw");
    set("51712", "mode", "w");
    set("51712", "irq", "33");
    expect_refusal(XENSTORE_DISK, "51712", "expected both");
    set("51712", "irq", "x");
    expect_refusal(XENSTORE_DISK, "51712", "irq=x");
    set("51712", "irq", "0");
    place.arch = ARCH_ARM;
    expect_refusal(XENSTORE_DISK, "51712", "no virtio-mmio description");
}
END_TEST

/* On HVM libxl gives hda to hdd, xvda to xvdd and each sdX to QEMU, too. */
START_TEST(disks_that_qemu_has)
{
    static const struct {
        const char *devid, *dev;
        bool refused;
    } cases[] = {
        {"51712", "xvda", true},  {"51760", "xvdd", true},  {"51761", "xvdd1", true},
        {"51776", "xvde", false}, {"51952", "xvdp", false}, {"268439552", "xvdq", false},
        {"768", "hda", true},     {"5696", "hdd", true},    {"2048", "sda", true},
        {"2288", "sdp", true},
    };

    place.type = GUEST_HVM;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        branch.count = 0;
        disk(cases[i].devid, cases[i].dev);
        read_node(XENSTORE_DISK, cases[i].devid);
        ck_assert_msg(node.verdict == (cases[i].refused ? XENSTORE_REFUSE : XENSTORE_SERVE), "%s",
                      cases[i].dev);
        ck_assert(!cases[i].refused || strstr(node.why, "use vdev=xvde or later"));
    }
    place.type = GUEST_PVH;
    disk("51712", "xvda");
    read_node(XENSTORE_DISK, "51712");
    ck_assert_int_eq(node.verdict, XENSTORE_SERVE);
}
END_TEST

START_TEST(states)
{
    static const char *const odd[] = {"", "0", "7", "1 ", "11", "x"};

    disk("51712", "xvda");
    set("51712", "state", "2"); /* an earlier ioreqd's answer */
    read_node(XENSTORE_DISK, "51712");
    ck_assert_int_eq(node.verdict, XENSTORE_SERVE);
    set("51712", "state", "5");
    expect_verdict(XENSTORE_DISK, "51712", XENSTORE_CLOSE);
    set("51712", "state", "2");
    set("51712", "online", "0");
    expect_verdict(XENSTORE_DISK, "51712", XENSTORE_CLOSE);
    set("51712", "online", "1");
    for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        set("51712", "state", odd[i]);
        expect_verdict(XENSTORE_DISK, "51712", XENSTORE_IGNORE);
        ck_assert_str_eq(node.state, "");
    }
    set("51712", "state", NULL);
    expect_verdict(XENSTORE_DISK, "51712", XENSTORE_IGNORE);
    unset("51712/state"); /* as we leave a refused one */
    expect_verdict(XENSTORE_DISK, "51712", XENSTORE_IGNORE);
    set("51712", "state", "1");
    set("51712", "type", "phy"); /* not ours */
    expect_verdict(XENSTORE_DISK, "51712", XENSTORE_IGNORE);
    expect_verdict(XENSTORE_DISK, "5171", XENSTORE_IGNORE); /* the beginning of a name is another name */
}
END_TEST

static void virtio(const char *type)
{
    static const char *const keys[][2] = {{"frontend-id", "5"}, {"online", "1"},      {"state", "1"},
                                          {"base", "0x2000000"}, {"irq", "33"},       {"transport", "mmio"},
                                          {"grant_usage", "0"}};

    for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        set("0", keys[i][0], keys[i][1]);
    }
    set("0", "type", type);
}

START_TEST(virtio_devices)
{
    place.arch = ARCH_ARM;
    virtio("virtio,device4");
    expect_spec(XENSTORE_VIRTIO, "0", "virtio-rng,id=virtio-0,bus=mmio,base=0x2000000,irq=33");
    virtio("virtio,device3");
    expect_spec(XENSTORE_VIRTIO, "0",
                "virtio-console,id=virtio-0,chardev=pty,bus=mmio,base=0x2000000,irq=33");
    virtio("virtio,device1a");
    expect_refusal(XENSTORE_VIRTIO, "0", "no virtio device 26");
    virtio("virtio,device22");
    expect_refusal(XENSTORE_VIRTIO, "0", "no virtio device 34");
    virtio("virtio,device2");
    expect_refusal(XENSTORE_VIRTIO, "0", "specification=virtio");
    virtio("virtio,device1");
    expect_refusal(XENSTORE_VIRTIO, "0", "no network is named");
    virtio("virtio,device");
    expect_refusal(XENSTORE_VIRTIO, "0", "in hexadecimal");
    virtio("virtio,device-4");
    expect_refusal(XENSTORE_VIRTIO, "0", "in hexadecimal");
    virtio("nonsense");
    expect_refusal(XENSTORE_VIRTIO, "0", "in hexadecimal");
    place.arch = ARCH_X86; /* base 0: PCI */
    virtio("virtio,device4");
    set("0", "base", "0");
    set("0", "irq", "0");
    expect_spec(XENSTORE_VIRTIO, "0", "virtio-rng,id=virtio-0");
}
END_TEST

START_TEST(our_own)
{
    set("0", "", "virtio-blk,path=/srv/a.img");
    expect_spec(XENSTORE_OWN, "0", "virtio-blk,path=/srv/a.img,id=xenstore-0");
    ck_assert(node.pci);
    set("0", "", "virtio-rng,id=mine,bus=mmio,base=0x1000,irq=none");
    expect_spec(XENSTORE_OWN, "0", "virtio-rng,id=mine,bus=mmio,base=0x1000,irq=none");
    ck_assert_str_eq(node.id, "mine");
    ck_assert(!node.pci);
    set("0", "", "");
    expect_verdict(XENSTORE_OWN, "0", XENSTORE_IGNORE);
    set("0", "", NULL);
    expect_refusal(XENSTORE_OWN, "0", "expected one line");
    set("0", "", "virtio-blk path=/x");
    expect_refusal(XENSTORE_OWN, "0", "expected NAME,key=value");
    set("0", "",
        "virtio-rng,id=012345678901234567890123456789012345678901234567"); /* cut by the test's room */
    read_node(XENSTORE_OWN, "0");
    ck_assert_int_eq(node.verdict, XENSTORE_SERVE);
    expect_verdict(XENSTORE_OWN, "1", XENSTORE_IGNORE);
}
END_TEST

START_TEST(names)
{
    ck_assert(xenstore_name_valid(XENSTORE_DISK, "51712", 5));
    ck_assert(!xenstore_name_valid(XENSTORE_DISK, "xvda", 4));
    ck_assert(!xenstore_name_valid(XENSTORE_DISK, "", 0));
    ck_assert(xenstore_name_valid(XENSTORE_OWN, "net-0_a", 7));
    ck_assert(!xenstore_name_valid(XENSTORE_OWN, "a@b", 3));
    ck_assert(!xenstore_name_valid(XENSTORE_OWN, "012345678901234567890123456789012", 33));
    ck_assert(xenstore_name_valid(XENSTORE_OWN, "01234567890123456789012345678901", 32));
}
END_TEST

START_TEST(options_of_the_guest)
{
    struct xenstore_options options;
    struct iod_error error = {0};

    ck_assert_int_eq(xenstore_options_read(&options, NULL, &error), 0);
    ck_assert(!options.has_beside && options.type == GUEST_UNKNOWN);
    ck_assert_int_eq(
        xenstore_options_read(&options, "type=hvm,beside=off,pci-host=on,slots=4,map-limit=64M", &error), 0);
    ck_assert(options.type == GUEST_HVM && options.has_beside && !options.beside && options.has_pci_host);
    ck_assert(options.pci_host && options.slots == 4 && options.map_limit == 64u << 20);
    static const char *const bad[] = {"type=pv", "beside=maybe", "slots=32", "map-limit=0",
                                      "x=y",     "type",         ",,"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        error = (struct iod_error){0};
        ck_assert_msg(xenstore_options_read(&options, bad[i], &error) < 0 && error.text[0], "%s", bad[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("xenstore_node");
    TCase *tc = tcase_create("xenstore_node");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, disks);
    tcase_add_test(tc, disks_that_can_not_be);
    tcase_add_test(tc, disks_that_qemu_has);
    tcase_add_test(tc, states);
    tcase_add_test(tc, virtio_devices);
    tcase_add_test(tc, our_own);
    tcase_add_test(tc, names);
    tcase_add_test(tc, options_of_the_guest);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
