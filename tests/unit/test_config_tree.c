/* SPDX-License-Identifier: BSD-2-Clause */
/* src/config: what is read out of device trees that dtc made, what is refused, and trees printed and read
 * back. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "config/config.h"
#include "config/device_tree.h"

#include "unit.h"

static struct config config;
static struct findings findings;
static char folder[] = "/tmp/test_config_tree.XXXXXX";

static void make_folder(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
}

static void remove_folder(void)
{
    char command[100];
    findings_finish(&findings);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static const char *said(void)
{
    static char text[16384];
    FILE *to = fmemopen(text, sizeof(text), "w");
    findings_print(&findings, to);
    fclose(to);
    return text;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

/* NAME.dtb out of the source. */
static void compile(const char *name, const char *source)
{
    char command[200], path[100];
    snprintf(path, sizeof(path), "%s.dts", name);
    write_file(path, source);
    snprintf(command, sizeof(command), "dtc -q -I dts -O dtb -o %s.dtb %s.dts", name, name);
    ck_assert_msg(system(command) == 0, "dtc: %s", source);
}

static int load(const char *text)
{
    findings_finish(&findings);
    return config_load_text(text, "./F", &config, &findings);
}

static struct device_tree *read_tree(const char *source)
{
    findings_finish(&findings);
    compile("t", source);
    return device_tree_read("t.dtb", &findings);
}

#define GIC "gic: gic { #interrupt-cells = <3>; interrupt-controller; };"
#define NODE(at, spi)                                                                                        \
    "virtio@" at " { compatible = \"virtio,mmio\"; reg = <0x0 0x" at " 0x0 0x200>;"                          \
    " interrupt-parent = <&gic>; interrupts = <0 " spi " 1>; dma-coherent; };"
#define PARTIAL(nodes)                                                                                       \
    "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>; " GIC                                            \
    " passthrough { compatible = \"simple-bus\"; #address-cells = <2>; #size-cells = <2>; ranges;" nodes     \
    "}; };"

/* ---- reading ---- */

START_TEST(the_labs_tree)
{
    struct device_tree *tree = read_tree(PARTIAL(NODE("2000000", "1") NODE("2000200", "2")));
    const char *why;
    ck_assert_ptr_nonnull(tree);
    ck_assert_str_eq(said(), "");
    ck_assert_uint_eq(tree->count, 2);
    const struct tree_node *node = &tree->nodes[0];
    ck_assert_str_eq(node->path, "/passthrough/virtio@2000000");
    ck_assert_str_eq(node->unit, "virtio@2000000");
    ck_assert(node->virtio && node->edge && !node->disabled);
    ck_assert_ptr_null(node->problem);
    ck_assert_uint_eq(node->base, 0x2000000);
    ck_assert_uint_eq(node->size, 0x200);
    ck_assert_int_eq(node->irq, 33);
    ck_assert_int_eq(tree->nodes[1].irq, 34);
    ck_assert_ptr_eq(device_tree_find(tree, "virtio@2000200", &why), &tree->nodes[1]);
    ck_assert_ptr_eq(device_tree_find(tree, "/passthrough/virtio@2000200", &why), &tree->nodes[1]);
    ck_assert_ptr_null(device_tree_find(tree, "/virtio@2000200", &why));
    ck_assert_ptr_eq(device_tree_at(tree, 0x2000200), &tree->nodes[1]);
    ck_assert_ptr_null(device_tree_at(tree, 0x2000100));
    device_tree_destroy(tree);
}
END_TEST

static const struct {
    const char *source;
    uint64_t base;
    int irq;
    const char *problem; /* NULL: it is well */
} forms[] = {
    /* one cell each, at the root */
    {"/ { #address-cells = <1>; #size-cells = <1>; interrupt-parent = <&gic>; " GIC
     " v@1000 { compatible = \"x\", \"virtio,mmio\"; reg = <0x1000 0x200>; interrupts = <0 16 1>; }; };",
     0x1000, 48, NULL},
    /* the root's defaults are 2 and 1 */
    {"/ { interrupt-parent = <&gic>; " GIC
     " v@1 { compatible = \"virtio,mmio\"; reg = <0x1 0x1000 0x200>; interrupts = <0 0 1>; }; };",
     0x100001000, 32, NULL},
    {"/ { #address-cells = <1>; #size-cells = <1>; " GIC
     " v@1000 { compatible = \"virtio,mmio\"; reg = <0x1000 0x200>; interrupts-extended = <&gic 0 5 1>; }; "
     "};",
     0x1000, 37, NULL},
    /* Xen's own phandle needs no node */
    {"/ { #address-cells = <1>; #size-cells = <1>;"
     " v@1000 { compatible = \"virtio,mmio\"; reg = <0x1000 0x200>; interrupt-parent = <0xfde8>;"
     " interrupts = <0 5 1>; }; };",
     0x1000, 37, NULL},
    /* addresses of a bus */
    {"/ { #address-cells = <2>; #size-cells = <2>; interrupt-parent = <&gic>; " GIC
     " bus { #address-cells = <1>; #size-cells = <1>; ranges = <0x0 0x0 0x5000 0x100 0x1000 0x1 0x0 0x1000>;"
     " v@1200 { compatible = \"virtio,mmio\"; reg = <0x1200 0x200>; interrupts = <0 5 1>; }; }; };",
     0x100000200, 37, NULL},
    {"/ { #address-cells = <1>; #size-cells = <1>; interrupt-parent = <&gic>; " GIC
     " bus { #address-cells = <1>; #size-cells = <1>; ranges = <0x0 0x5000 0x100>;"
     " v@0 { compatible = \"virtio,mmio\"; reg = <0x0 0x200>; interrupts = <0 5 1>; }; }; };",
     0, -1, "no ranges of a node above it hold it"},
    {"/ { #address-cells = <1>; #size-cells = <1>; interrupt-parent = <&gic>; " GIC
     " bus { #address-cells = <1>; #size-cells = <1>;"
     " v@0 { compatible = \"virtio,mmio\"; reg = <0x0 0x200>; interrupts = <0 5 1>; }; }; };",
     0, -1, "a node above it has no ranges"},
    {"/ { #address-cells = <3>; #size-cells = <1>; interrupt-parent = <&gic>; " GIC
     " v@0 { compatible = \"virtio,mmio\"; reg = <0 0x1000 0 0x200>; interrupts = <0 5 1>; }; };",
     0, -1, "the node above it has odd #address-cells or #size-cells"},
    {"/ { #address-cells = <2>; #size-cells = <2>; interrupt-parent = <&gic>; " GIC
     " v@0 { compatible = \"virtio,mmio\"; reg = <0x1000 0x200>; interrupts = <0 5 1>; }; };",
     0, -1, "its reg is too short"},
    {"/ { #address-cells = <2>; #size-cells = <1>; interrupt-parent = <&gic>; " GIC
     " v@0 { compatible = \"virtio,mmio\"; reg = <0xffffffff 0xffffffff 0x200>; interrupts = <0 5 1>; }; };",
     0, -1, "its reg is empty or wraps around"},
    {"/ { #address-cells = <1>; #size-cells = <1>; interrupt-parent = <&gic>; " GIC
     " v@0 { compatible = \"virtio,mmio\"; reg = <0x0 0x200>; }; };",
     0, -1, "it has no interrupts"},
    {"/ { #address-cells = <1>; #size-cells = <1>; " GIC
     " v@0 { compatible = \"virtio,mmio\"; reg = <0x0 0x200>; interrupts = <0 5 1>; }; };",
     0, -1, "it has no interrupt-parent (a guest hangs whose tree never refers to the GIC)"},
    {"/ { #address-cells = <1>; #size-cells = <1>; interrupt-parent = <0x77>; "
     " v@0 { compatible = \"virtio,mmio\"; reg = <0x0 0x200>; interrupts = <0 5 1>; }; };",
     0, -1, "its interrupt-parent is no GIC of this tree with 3 #interrupt-cells"},
    {"/ { #address-cells = <1>; #size-cells = <1>; interrupt-parent = <&gic>; " GIC
     " v@0 { compatible = \"virtio,mmio\"; reg = <0x0 0x200>; interrupts = <0 5>; }; };",
     0, -1, "its interrupts are not one <type number flags>"},
    {"/ { #address-cells = <1>; #size-cells = <1>; interrupt-parent = <&gic>; " GIC
     " v@0 { compatible = \"virtio,mmio\"; reg = <0x0 0x200>; interrupts = <1 5 1>; }; };",
     0, -1, "its interrupt is no SPI: expected <0 number 1>"},
    {"/ { #address-cells = <1>; #size-cells = <1>; interrupt-parent = <&gic>; " GIC
     " v@0 { compatible = \"virtio,mmio\"; reg = <0x0 0x200>; interrupts = <0 988 1>; }; };",
     0, -1, "its interrupt is no SPI: expected <0 number 1>"},
};

START_TEST(forms_of_a_node)
{
    char source[1200];
    snprintf(source, sizeof(source), "/dts-v1/; %s", forms[_i].source);
    struct device_tree *tree = read_tree(source);
    ck_assert_ptr_nonnull(tree);
    ck_assert_uint_eq(tree->count, 1);
    if (forms[_i].problem) {
        ck_assert_ptr_nonnull(tree->nodes[0].problem);
        ck_assert_str_eq(tree->nodes[0].problem, forms[_i].problem);
    } else {
        ck_assert_msg(!tree->nodes[0].problem, "%s", tree->nodes[0].problem);
        ck_assert_uint_eq(tree->nodes[0].base, forms[_i].base);
        ck_assert_int_eq(tree->nodes[0].irq, forms[_i].irq);
    }
    device_tree_destroy(tree);
}
END_TEST

START_TEST(what_is_no_tree)
{
    write_file("garbage.dtb", "this is no device tree at all, but it is long enough for a header");
    ck_assert_ptr_null(device_tree_read("garbage.dtb", &findings));
    ck_assert_str_eq(said(), "garbage.dtb: is no device tree: FDT_ERR_BADMAGIC; "
                             "expected a flattened device tree, as dtc makes it (.dtb)\n");
    findings_finish(&findings);
    write_file("empty.dtb", "");
    ck_assert_ptr_null(device_tree_read("empty.dtb", &findings));
    ck_assert_str_eq(said(), "empty.dtb: is no device tree: FDT_ERR_TRUNCATED; "
                             "expected a flattened device tree, as dtc makes it (.dtb)\n");
    findings_finish(&findings);
    compile("t", PARTIAL(NODE("2000000", "1")));
    ck_assert_int_eq(truncate("t.dtb", 300), 0);
    ck_assert_ptr_null(device_tree_read("t.dtb", &findings));
    findings_finish(&findings);
    ck_assert_ptr_null(device_tree_read("missing.dtb", &findings));
    ck_assert_str_eq(said(), "missing.dtb: No such file or directory\n");
    findings_finish(&findings);
    ck_assert_ptr_null(read_tree("/dts-v1/; / { v { ioreqd,device = \"virtio-blk\"; }; };"));
    ck_assert_str_eq(said(), "t.dtb:/v: a node with ioreqd,device has no reg; "
                             "expected the reg of a virtio,mmio node\n");
}
END_TEST

/* ---- guests ---- */

#define ARM(devices)                                                                                         \
    "guests = ( { domain = 1; arch = \"arm\"; device-tree = \"t.dtb\"; devices = [ " devices " ]; } );"

START_TEST(devices_get_their_places)
{
    compile("t",
            PARTIAL(NODE("2000000", "1") NODE("2000200", "2") NODE("2000400", "3") NODE("2000600", "4")));
    ck_assert_msg(load(ARM("\"virtio-rng,id=a\", \"virtio-blk,path=/a,,b,node=virtio@2000000\",\n"
                           "\"virtio-console,base=0x2000400\", \"virtio-rng,base=0x2000600,irq=36\"")) == 0,
                  "%s", said());
    const struct guest_spec *guest = &config.guests[0];
    ck_assert_uint_eq(guest->device_count, 4);
    /* the first one takes what those with a place leave */
    ck_assert_str_eq(guest->devices[0].text, "virtio-rng,id=a,base=0x2000200,irq=34");
    ck_assert_str_eq(guest->devices[1].text, "virtio-blk,path=/a,,b,base=0x2000000,irq=33");
    ck_assert_str_eq(device_spec_get(&guest->devices[1], "path"), "/a,b");
    ck_assert_ptr_null(device_spec_get(&guest->devices[1], "node"));
    ck_assert_str_eq(guest->devices[2].text, "virtio-console,base=0x2000400,irq=35");
    ck_assert_str_eq(guest->devices[2].origin, "./F:2");
    ck_assert_str_eq(guest->devices[3].text, "virtio-rng,base=0x2000600,irq=36");
    config_finish(&config);
}
END_TEST

static const struct {
    const char *devices, *says;
} misplaced[] = {
    {"\"virtio-blk,node=virtio@3\"",
     "./F:1: virtio-blk: node=virtio@3: ./t.dtb has no node of this name with a reg\n"},
    {"\"virtio-blk,base=0x3000\"", "./F:1: virtio-blk: base=0x3000: ./t.dtb has no node there; "
                                   "the guest would not find it: expected the base of one of its nodes\n"},
    {"\"virtio-blk,base=0x2000000,irq=40\"",
     "./F:1: virtio-blk: irq=40 differs from the 33 of "
     "./t.dtb:/passthrough/virtio@2000000; leave irq out, or mend the tree\n"},
    {"\"virtio-blk,base=0x2000200,node=virtio@2000000\"",
     "./F:1: virtio-blk: base=0x2000200 differs from the "
     "0x2000000 of /passthrough/virtio@2000000; leave base out\n"},
    {"\"virtio-blk,base=0x2000000\",\n\"virtio-rng,node=virtio@2000000\"",
     "./F:2: virtio-rng: "
     "/passthrough/virtio@2000000 is taken by virtio-blk (./F:1); a node is one device's\n"},
    {"\"virtio-rng\", \"virtio-rng\",\n\"virtio-blk\"",
     "./F:2: virtio-blk: ./t.dtb has no virtio,mmio node left; "
     "add a node to the tree (ioreqd --print-dt), or take a device away\n"},
    {"\"virtio-rng,node=uart@9000000\"",
     "./F:1: virtio-rng: ./t.dtb:/passthrough/uart@9000000 is no virtio,mmio; "
     "expected a node that is compatible with \"virtio,mmio\"\n"},
    {"\"virtio-rng,node=virtio@2000400\"", "./F:1: virtio-rng: ./t.dtb:/passthrough/virtio@2000400: "
                                           "it has no interrupts; mend the tree\n"},
};

START_TEST(misplaced_devices)
{
    compile("t", PARTIAL(NODE("2000000", "1") NODE(
                     "2000200",
                     "2") "virtio@2000400 { compatible = \"virtio,mmio\"; reg = <0 0x2000400 0 0x200>; };"
                          "uart@9000000 { compatible = \"ns16550a\"; reg = <0x0 0x9000000 0x0 0x1000>; };"));
    char text[600];
    snprintf(text, sizeof(text), ARM("%s"), misplaced[_i].devices);
    ck_assert_int_eq(load(text), -EINVAL);
    ck_assert_str_eq(said(), misplaced[_i].says);
}
END_TEST

START_TEST(another_kind_of_device_on_its_node)
{
    compile("t", PARTIAL("uart@9000000 { compatible = \"ns16550a\"; reg = <0x0 0x9000000 0x0 0x1000>; };"));
    ck_assert_msg(load(ARM("\"uart16550,node=uart@9000000,irq=40\"")) == 0, "%s", said());
    ck_assert_str_eq(config.guests[0].devices[0].text, "uart16550,base=0x9000000,irq=40");
    config_finish(&config);
}
END_TEST

START_TEST(the_tree_names_devices)
{
    compile("t", PARTIAL("virtio@2000200 { compatible = \"virtio,mmio\"; reg = <0 0x2000200 0 0x200>;"
                         "interrupt-parent = <&gic>; interrupts = <0 2 1>;"
                         "ioreqd,device = \"virtio-blk,path=/srv/a.img\"; };" NODE("2000000", "1")));
    ck_assert_msg(
        load("guests = ( { domain = 1; arch = \"arm\"; device-tree = \"t.dtb\"; },\n"
             "{ domain = 2; arch = \"arm\"; device-tree = \"t.dtb\"; devices = [ \"virtio-rng\" ]; } );") ==
            0,
        "%s", said());
    ck_assert_uint_eq(config.guests[0].device_count, 1);
    const struct device_spec *device = &config.guests[0].devices[0];
    ck_assert_str_eq(device->text, "virtio-blk,path=/srv/a.img,base=0x2000200,irq=34");
    ck_assert_str_eq(device->origin, "./t.dtb:/passthrough/virtio@2000200");
    ck_assert_uint_eq(config.guests[1].device_count, 2);
    ck_assert_str_eq(config.guests[1].devices[0].text, "virtio-rng,base=0x2000000,irq=33");
    config_finish(&config);
    compile("t", PARTIAL("virtio@2000200 { compatible = \"virtio,mmio\"; reg = <0 0x2000200 0 0x200>;"
                         "interrupt-parent = <&gic>; interrupts = <0 2 1>;"
                         "ioreqd,device = \"virtio-blk,irq=5\"; };"));
    ck_assert_int_eq(load("guests = ( { domain = 1; arch = \"arm\"; device-tree = \"t.dtb\"; } );"), -EINVAL);
    ck_assert_ptr_nonnull(strstr(said(),
                                 "./t.dtb:/passthrough/virtio@2000200: base, irq and node are this node's "
                                 "own; leave them out of ioreqd,device\n"));
}
END_TEST

/* ---- the host's tree ---- */

static const char host[] =
    "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>; chosen { #address-cells = <2>; #size-cells = <2>;"
    " module@50000000 { compatible = \"xen,linux-zimage\", \"multiboot,module\"; reg = <0 0x50000000 0 "
    "0x1000>; };"
    " domU1 { compatible = \"xen,domain\"; memory = <0 0x30000>; ioreqd,device-tree = \"t.dtb\";"
    " ioreqd,devices = \"virtio-blk,path=/a.img\", \"virtio-rng,node=virtio@2000000\"; };"
    " domU2 { compatible = \"xen,domain\"; };"
    " domU3 { compatible = \"xen,domain\"; ioreqd,devices = \"virtio-blk,base=0x2000000,irq=33\"; }; };"
    " domU4 { compatible = \"xen,domain\"; ioreqd,devices = \"not-in-chosen\"; }; };";

START_TEST(dom0less_guests)
{
    compile("host", host);
    compile("t", PARTIAL(NODE("2000000", "1") NODE("2000200", "2")));
    ck_assert_msg(load("device-tree = \"host.dtb\";\n"
                       "guests = ( { domain = 3; arch = \"arm\"; devices = [ "
                       "\"virtio-rng,base=0x2000200,irq=34\" ]; } );") == 0,
                  "%s", said());
    ck_assert_str_eq(config.device_tree, "./host.dtb");
    ck_assert_uint_eq(config.count, 2);
    const struct guest_spec *three = &config.guests[0], *one = &config.guests[1];
    ck_assert_str_eq(three->domain, "3");
    ck_assert_uint_eq(three->device_count, 2);
    ck_assert_str_eq(three->devices[1].origin, "./host.dtb:/chosen/domU3");
    ck_assert_str_eq(one->domain, "1");
    ck_assert_str_eq(one->origin, "./host.dtb:/chosen/domU1");
    ck_assert(one->wait && one->arch == ARCH_ARM);
    ck_assert_uint_eq(one->device_count, 2);
    ck_assert_str_eq(one->devices[0].text, "virtio-blk,path=/a.img,base=0x2000200,irq=34");
    ck_assert_str_eq(one->devices[1].text, "virtio-rng,base=0x2000000,irq=33");
    config_finish(&config);
    findings_finish(&findings);
    ck_assert_msg(device_tree_load("host.dtb", &config, &findings) == 0, "%s", said());
    ck_assert_uint_eq(config.count, 2);
    ck_assert_str_eq(config.guests[1].domain, "3");
    config_finish(&config);
}
END_TEST

START_TEST(a_host_tree_with_faults)
{
    compile("host",
            "/dts-v1/; / { chosen { a { compatible = \"xen,domain\"; ioreqd,devices = [61 62]; }; }; };");
    ck_assert_int_eq(load("device-tree = \"host.dtb\";"), -EINVAL);
    ck_assert_str_eq(said(), "./host.dtb:/chosen/a: ioreqd,devices is no list of texts, or too long; "
                             "expected \"NAME,key=value,...\", ...\n");
    compile("host",
            "/dts-v1/; / { chosen { a { compatible = \"xen,domain\"; ioreqd,devices = \"d,x\"; }; }; };");
    ck_assert_int_eq(load("device-tree = \"host.dtb\";"), -EINVAL);
    ck_assert_ptr_nonnull(
        strstr(said(), "./host.dtb:/chosen/a: ioreqd,devices: device 'd': 'x' is not an option"));
    compile("host", host);
    ck_assert_int_eq(load("device-tree = \"host.dtb\";"), -EINVAL);
    ck_assert_ptr_nonnull(strstr(said(), "./host.dtb:/chosen/domU1: the domain's device tree can't be used"));
}
END_TEST

/* ---- printing ---- */

/* Prints the tree of domain 1 to p.dts and makes p.dtb of it. */
static void print(void)
{
    FILE *to = fopen("p.dts", "w");
    findings_finish(&findings);
    ck_assert_msg(config_print_dt(&config, "1", to, &findings) == 0, "%s", said());
    fclose(to);
    /* with warnings, of which there are none */
    ck_assert_int_eq(system("dtc -I dts -O dtb -o t.dtb p.dts >warnings 2>&1 && ! test -s warnings || "
                            "{ cat warnings; false; }"),
                     0);
}

#define UNPLACED(devices) "guests = ( { domain = 1; arch = \"arm\"; devices = [ " devices " ]; } );"

START_TEST(a_printed_tree_gives_the_same_places)
{
    struct config first;
    ck_assert_int_eq(
        load(UNPLACED("\"virtio-blk,path=/a,base=0x2000400,irq=40\", \"virtio-rng,base=0x2000000,irq=35\","
                      "\"virtio-console,base=0x123456200,irq=200\"")),
        0);
    print();
    first = config;
    /* the same devices, and the tree says where */
    ck_assert_msg(load(ARM("\"virtio-blk,path=/a\", \"virtio-rng\", \"virtio-console\"")) == 0, "%s", said());
    ck_assert_uint_eq(config.guests[0].device_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_str_eq(config.guests[0].devices[i].text, first.guests[0].devices[i].text);
    }
    config_finish(&config);
    /* the spec as it was agrees with the tree */
    ck_assert_msg(load(ARM("\"virtio-blk,path=/a,base=0x2000400,irq=40\"")) == 0, "%s", said());
    struct device_tree *tree = config.trees[0];
    for (unsigned i = 0; i < tree->count; i++) {
        ck_assert(tree->nodes[i].edge && tree->nodes[i].virtio && tree->nodes[i].size == 0x200);
    }
    config_finish(&config);
    config_finish(&first);
}
END_TEST

START_TEST(unplaced_devices_are_given_the_window)
{
    ck_assert_int_eq(
        load(UNPLACED("\"virtio-blk,path=/a\", \"virtio-rng,base=0x2000000,irq=33\", \"virtio-rng\"")), 0);
    print();
    config_finish(&config);
    ck_assert_msg(load(ARM("\"virtio-blk,path=/a\", \"virtio-rng,node=virtio@2000000\", \"virtio-rng\"")) ==
                      0,
                  "%s", said());
    ck_assert_str_eq(config.guests[0].devices[0].text, "virtio-blk,path=/a,base=0x2000200,irq=34");
    ck_assert_str_eq(config.guests[0].devices[2].text, "virtio-rng,base=0x2000400,irq=35");
    config_finish(&config);
}
END_TEST

START_TEST(trees_that_cant_be_printed)
{
    FILE *to = fopen("/dev/null", "w");
    ck_assert_int_eq(load(UNPLACED("\"virtio-rng,base=0x2000000,irq=none\"")), 0);
    ck_assert_int_eq(config_print_dt(&config, "1", to, &findings), -EINVAL);
    ck_assert_str_eq(said(), "./F:1: virtio-rng: virtio-mmio needs an interrupt in the tree; "
                             "expected irq= an INTID from 32, or leave it out\n");
    findings_finish(&findings);
    ck_assert_int_eq(config_print_dt(&config, "2", to, &findings), -ENOENT);
    config_finish(&config);
    char many[400] = "";
    for (unsigned i = 0; i < 12; i++) {
        strcat(many, i ? ", \"virtio-rng\"" : "\"virtio-rng\"");
    }
    char text[600];
    snprintf(text, sizeof(text), UNPLACED("%s"), many);
    ck_assert_int_eq(load(text), 0);
    ck_assert_int_eq(config_print_dt(&config, "1", to, &findings), -EINVAL);
    ck_assert_ptr_nonnull(strstr(said(), "the window has 11"));
    config_finish(&config);
    ck_assert_int_eq(load("guests = ( { domain = 1; arch = \"x86\"; devices = [ \"virtio-rng\" ]; } );"), 0);
    ck_assert_int_eq(config_print_dt(&config, "1", to, &findings), -EINVAL);
    ck_assert_str_eq(said(),
                     "./F:1: 1: is an x86 guest, which has no device tree; arch = \"arm\" if it is not\n");
    config_finish(&config);
    fclose(to);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_tree");
    TCase *tests = tcase_create("trees");
    tcase_add_checked_fixture(tests, make_folder, remove_folder);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_labs_tree);
    tcase_add_loop_test(tests, forms_of_a_node, 0, sizeof(forms) / sizeof(forms[0]));
    tcase_add_test(tests, what_is_no_tree);
    tcase_add_test(tests, devices_get_their_places);
    tcase_add_loop_test(tests, misplaced_devices, 0, sizeof(misplaced) / sizeof(misplaced[0]));
    tcase_add_test(tests, another_kind_of_device_on_its_node);
    tcase_add_test(tests, the_tree_names_devices);
    tcase_add_test(tests, dom0less_guests);
    tcase_add_test(tests, a_host_tree_with_faults);
    tcase_add_test(tests, a_printed_tree_gives_the_same_places);
    tcase_add_test(tests, unplaced_devices_are_given_the_window);
    tcase_add_test(tests, trees_that_cant_be_printed);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
