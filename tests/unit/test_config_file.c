/* SPDX-License-Identifier: BSD-2-Clause */
/* src/config: what each setting of the file does to guest_specs, what is refused, with which words and line.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/xl_cfg.h"

#include "unit.h"

static struct config config;
static struct findings findings;

static int load(const char *text)
{
    findings_finish(&findings);
    return config_load_text(text, "F", &config, &findings);
}

/* All findings as findings_print says them. */
static const char *said(void)
{
    static char text[16384];
    FILE *to = fmemopen(text, sizeof(text), "w");
    findings_print(&findings, to);
    fclose(to);
    return text;
}

static void refused(const char *text, const char *exactly)
{
    ck_assert_int_eq(load(text), -EINVAL);
    ck_assert_str_eq(said(), exactly);
    ck_assert_uint_eq(config.count, 0);
    ck_assert_ptr_null(config.guests);
}

static void accepted(const char *text)
{
    ck_assert_msg(load(text) == 0, "%s: %s", text, said());
}

/* ---- what is taken ---- */

START_TEST(every_setting_of_a_guest)
{
    accepted(
        "guests = (\n"
        "  { domain = \"web\"; type = \"pvh\"; arch = \"x86\"; beside = true; on-exit = \"destroy\";\n"
        "    map-limit = \"64M\"; bufioreq = \"atomic\"; slots = 4; stuck = \"ones\"; stuck-limit = 10000;\n"
        "    unlimited = true;\n"
        "    devices = [ \"virtio-blk,path=a,,b\",\n"
        "      \"virtio-rng\"\n"
        "    ]; },\n"
        "  { domain = 7; devices = ( \"debugcon\" ); }\n"
        ");\n");
    ck_assert_str_eq(said(), "");
    ck_assert_uint_eq(config.count, 2);
    const struct guest_spec *web = &config.guests[0], *seven = &config.guests[1];
    ck_assert_str_eq(web->domain, "web");
    ck_assert_str_eq(web->origin, "F:2");
    ck_assert_int_eq(web->type, GUEST_PVH);
    ck_assert_int_eq(web->arch, ARCH_X86);
    ck_assert(web->beside && web->wait && web->unlimited);
    ck_assert_int_eq(web->on_exit, ON_EXIT_DESTROY);
    ck_assert_int_eq(web->bufioreq, BUF_ATOMIC);
    ck_assert_uint_eq(web->map_limit, 64 << 20);
    ck_assert_uint_eq(web->slots, 4);
    ck_assert_int_eq(web->stuck, STUCK_ONES);
    ck_assert_uint_eq(web->stuck_ms, 10000);
    ck_assert_uint_eq(web->device_count, 2);
    ck_assert_str_eq(device_spec_get(&web->devices[0], "path"), "a,b");
    ck_assert_str_eq(web->devices[0].origin, "F:5");
    /* libconfig itself says the line of the bracket */
    ck_assert_str_eq(web->devices[1].origin, "F:6");
    ck_assert_str_eq(seven->domain, "7");
    ck_assert(seven->wait && !seven->beside && !seven->unlimited);
    ck_assert_int_eq(seven->type, GUEST_UNKNOWN);
    ck_assert_int_eq(seven->on_exit, ON_EXIT_DEFAULT);
    ck_assert_int_eq(seven->bufioreq, BUF_DEFAULT);
    ck_assert_int_eq(seven->stuck, STUCK_WAIT);
    config_finish(&config);
}
END_TEST

START_TEST(settings_of_the_daemon)
{
    accepted(
        "log = \"debug\"; record-dir = \"/r\"; control = \"/c\"; control-group = \"xen\"; xenstore = false;\n"
        "modules = [ \"a.so\", \"b.so\" ];");
    ck_assert(config.has_log_level && config.log_level == IOD_LOG_DEBUG);
    ck_assert_str_eq(config.record_dir, "/r");
    ck_assert_str_eq(config.control, "/c");
    ck_assert_str_eq(config.control_group, "xen");
    ck_assert(config.has_xenstore && !config.xenstore);
    ck_assert_uint_eq(config.module_count, 2);
    ck_assert_str_eq(config.modules[1], "b.so");
    config_finish(&config);
    accepted("log = \"error\"; xenstore = \"on\";");
    ck_assert(config.log_level == IOD_LOG_ERROR && config.has_xenstore && config.xenstore);
    config_finish(&config);
    accepted("");
    ck_assert(!config.has_log_level && !config.has_xenstore && !config.record_dir && !config.count);
    config_finish(&config);
}
END_TEST

START_TEST(a_domain_has_one_form)
{
    static const struct {
        const char *given, *form;
    } domains[] = {
        {"5", "5"},
        {"\"0x10\"", "16"},
        {"\"web\"", "web"},
        {"\"5x\"", "5x"},
        {"\"uuid:00112233-4455-6677-8899-AABBCCDDEEFF\"", "uuid:00112233-4455-6677-8899-aabbccddeeff"},
    };
    for (unsigned i = 0; i < sizeof(domains) / sizeof(domains[0]); i++) {
        char text[200];
        snprintf(text, sizeof(text), "guests = ( { domain = %s; devices = [ \"d\" ]; } );", domains[i].given);
        accepted(text);
        ck_assert_str_eq(config.guests[0].domain, domains[i].form);
        config_finish(&config);
    }
}
END_TEST

/* ---- what is refused ---- */

#define GUEST(settings) "guests = ( { domain = \"a\"; devices = [ \"d\" ];\n" settings " } );"

static const struct {
    const char *text, *says;
} bad[] = {
    {"gests = ( );", "F:1: gests is not a setting of ioreqd; the nearest known one is guests\n"},
    {"\n\nlog = 5;", "F:3: log is a number; expected one of \"error\", \"warning\", \"info\", \"debug\"\n"},
    {"log = \"loud\";", "F:1: log = loud; expected one of \"error\", \"warning\", \"info\", \"debug\"\n"},
    {"xenstore = \"perhaps\";", "F:1: xenstore = perhaps; expected true or false\n"},
    {"control = \"\";", "F:1: control is empty; leave it out, or give it a value\n"},
    {"modules = \"a.so\";", "F:1: modules is a text; expected a list of texts: paths of modules\n"},
    {"modules = [ 1 ];", "F:1: an element of modules is a number; expected a text in quotes\n"},
    {"guests = 5;", "F:1: guests is a number; expected a list of groups: ( { domain = ...; }, ... )\n"},
    {"guests = ( 5 );",
     "F:1: an element of guests is no group; expected { domain = ...; devices = [ ... ]; }\n"},
    {"guests = (\n{\n} );",
     "F:2: a guest without domain; expected domain = a name, a domid or \"uuid:...\"\n"},
    {"guests = ( { domain = 32752; } );", "F:1: domain = 32752; expected a number from 0 to 32751\n"},
    {"guests = ( { domain = \"32752\"; } );", "F:1: domain = '32752'; expected a domid less than 32752\n"},
    {"guests = ( { domain = \"\"; } );",
     "F:1: domain = ''; expected a domid, \"uuid:...\", or a name of 1 to 127 characters\n"},
    {"guests = ( { domain = \"a\nb\"; } );",
     "F:1: domain = 'a?b'; expected a name without control characters\n"},
    {"guests = ( { domain = \"uuid:1\"; } );",
     "F:1: domain = 'uuid:1'; expected uuid:xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx\n"},
    {"guests = ( { domain = \"a\"; } );",
     "F:1: domain a has no device; expected devices = [ \"NAME,key=value,...\" ]\n"},
    {GUEST("type = \"pv\";"), "F:2: type = pv; expected one of \"hvm\", \"pvh\"\n"},
    {GUEST("arch = \"mips\";"), "F:2: arch = mips; expected one of \"x86\", \"arm\"\n"},
    {GUEST("on_exit = \"leave\";"),
     "F:2: on_exit is not a setting of a guest; the nearest known one is on-exit\n"},
    {GUEST("on-exit = \"stay\";"), "F:2: on-exit = stay; expected one of \"leave\", \"destroy\"\n"},
    {GUEST("beside = 1.5;"), "F:2: beside is a fraction; expected true or false\n"},
    {GUEST("map-limit = \"64X\";"), "F:2: map-limit = 64X; expected bytes above 0, or with K, M, G or T\n"},
    {GUEST("map-limit = 0;"), "F:2: map-limit = 0; expected a number from 1 to 9223372036854775807\n"},
    {GUEST("bufioreq = \"on\";"), "F:2: bufioreq = on; expected one of \"off\", \"legacy\", \"atomic\"\n"},
    {GUEST("slots = 29;"), "F:2: slots = 29; expected a number from 0 to 28\n"},
    {GUEST("slots = -1;"), "F:2: slots = -1; expected a number from 0 to 28\n"},
    {GUEST("stuck = \"kill\";"), "F:2: stuck = kill; expected one of \"wait\", \"ones\", \"detach\"\n"},
    {GUEST("stuck-limit = 0;"), "F:2: stuck-limit = 0; expected a number from 1 to 86400000\n"},
    {GUEST("unlimited = {};"), "F:2: unlimited is a group; expected true or false\n"},
    {GUEST("slots = 2; type = \"hvm\";"), "F:1: domain a: slots: hvmloader corrupts PCI bridges; "
                                          "leave slots out: the guest can rescan its bus\n"},
    {GUEST("slots = 2; arch = \"arm\";"),
     "F:1: domain a: slots are PCIe root ports, of PVH guests only; leave slots out\n"},
    {GUEST("type = \"hvm\"; arch = \"arm\";"), "F:1: domain a: type is of x86 guests only; leave type out\n"},
    {GUEST("bufioreq = \"legacy\"; arch = \"arm\";"),
     "F:1: domain a: Xen has no buffered ring on Arm; bufioreq = \"off\"\n"},
    {GUEST("device-tree = \"x.dtb\"; arch = \"x86\";"),
     "F:1: domain a: device-tree is of Arm guests only; arch = \"arm\", or leave it out\n"},
    {"guests = ( { domain = \"a\"; devices = \"d\"; } );",
     "F:1: devices is a text; expected a list of texts: \"NAME,key=value,...\"\n"},
    {"guests = ( { domain = \"a\"; devices = [ \"d\",\n\"e,f\",\n\"=\" ]; } );",
     "F:2: device 'e': 'f' is not an option; expected key=value; see ioreqd --help device=?\n"
     "F:3: device '=': expected NAME,key=value,...; see ioreqd --help device=?\n"},
    {"guests = ( { domain = \"a\"; devices = [ \"virtio-blk,node=/x\" ]; } );",
     "F:1: virtio-blk: node= without a device tree; expected device-tree = \"FILE.dtb\" in the guest\n"},
    {"xenstore = false;\n" GUEST(""),
     "F:2: domain a: a name or uuid needs xenstore; expected a domid, or xenstore = true\n"},
    {"log = \"info\"\n;;",
     "F:2: syntax error; expected libconfig's syntax: name = value; (see ioreqd.conf(5))\n"},
    {"a = 1;\nlog = \"info\";\nlog = \"info\";",
     "F:3: a setting stands here twice; each setting stands once in its group\n"},
    {"@include \"/etc/passwd\"\n", "F:1: @include is not served; put the file into conf.d\n"},
    {"@include \"/../../../../../etc/passwd\"\n", "F:1: @include is not served; put the file into conf.d\n"},
};

START_TEST(refuses)
{
    refused(bad[_i].text, bad[_i].says);
}
END_TEST

START_TEST(all_findings_of_a_file_are_told)
{
    refused("lag = 1;\nguests = (\n{ domain = \"a\"; tipe = \"pvh\"; devices = [ \"d,\" ]; },\n{ domain = "
            "70000; } );",
            "F:1: lag is not a setting of ioreqd; the nearest known one is log\n"
            "F:3: tipe is not a setting of a guest; the nearest known one is type\n"
            "F:3: device 'd': '' is not an option; expected key=value; see ioreqd --help device=?\n"
            "F:4: domain = 70000; expected a number from 0 to 32751\n");
}
END_TEST

/* Strings in comments, comments in strings, strings in parts: each device keeps its line. */
START_TEST(lines_are_right)
{
    accepted("# \"not a string\n"
             "guests = ( { domain = \"a\\\"/*\"; // \"neither\n"
             "  devices = ( \"one,x=# no comment\", /* \"nor\n"
             "     this */\n"
             "    \"two,\"\n"
             "       \"y=1\"\n"
             "    ,\n"
             "    \"three\"\n"
             "\n"
             "  ); } );");
    const struct guest_spec *guest = &config.guests[0];
    ck_assert_uint_eq(guest->device_count, 3);
    ck_assert_str_eq(guest->devices[0].origin, "F:3");
    ck_assert_str_eq(guest->devices[1].origin, "F:5");
    ck_assert_str_eq(guest->devices[1].text, "two,y=1");
    ck_assert_str_eq(guest->devices[2].origin, "F:8");
    config_finish(&config);
}
END_TEST

/* ---- joining ---- */

START_TEST(places_of_one_domain_are_joined)
{
    accepted("guests = (\n"
             "{ domain = 5; map-limit = \"1M\"; devices = [ \"a\" ]; },\n"
             "{ domain = 4; devices = [ \"x\" ]; },\n"
             "{ domain = \"0x5\"; beside = true; devices = [ \"b\" ]; },\n"
             "{ domain = \"5\"; map-limit = \"1024K\"; devices = [ \"c\" ]; } );");
    ck_assert_uint_eq(config.count, 2);
    const struct guest_spec *guest = &config.guests[0];
    ck_assert_str_eq(guest->domain, "5");
    ck_assert_str_eq(guest->origin, "F:2");
    ck_assert_uint_eq(guest->map_limit, 1 << 20);
    ck_assert(guest->beside);
    ck_assert_uint_eq(guest->device_count, 3);
    ck_assert_str_eq(guest->devices[1].text, "b");
    ck_assert_str_eq(guest->devices[2].origin, "F:5");
    ck_assert_str_eq(config.guests[1].domain, "4");
    config_finish(&config);
    refused("guests = (\n"
            "{ domain = 5; map-limit = \"1M\"; devices = [ \"a\" ]; },\n"
            "{ domain = 5; map-limit = \"2M\"; devices = [ \"a\" ]; } );",
            "F:3: domain 5: map-limit differs from what F:2 says; the same domain's settings must agree\n");
}
END_TEST

/* ---- files ---- */

static char folder[] = "/tmp/test_config.XXXXXX";

static void make_folder(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
    ck_assert_int_eq(mkdir("conf.d", 0755), 0);
}

static void remove_folder(void)
{
    char command[100];
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    chmod(name, 0644);
}

static int load_file(const char *path)
{
    findings_finish(&findings);
    return config_load(path, &config, &findings);
}

START_TEST(conf_d_is_read_in_the_order_of_bytes)
{
    write_file("main.conf", "guests = ( { domain = 1; devices = [ \"m\" ]; } );");
    write_file("conf.d/b.conf", "guests = ( { domain = 1; devices = [ \"b\" ]; } );");
    write_file("conf.d/B.conf", "log = \"debug\";\nguests = ( { domain = 1; devices = [ \"B\" ]; } );");
    write_file("conf.d/a.conf", "guests = ( { domain = 1; devices = [ \"a\" ]; } );");
    write_file("conf.d/.hidden.conf", "broken");
    write_file("conf.d/c.conf~", "broken");
    write_file("conf.d/.conf", "broken");
    ck_assert_msg(load_file("./main.conf") == 0, "%s", said());
    ck_assert_uint_eq(config.count, 1);
    ck_assert_uint_eq(config.guests[0].device_count, 4);
    static const char order[] = "mBab";
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_int_eq(config.guests[0].devices[i].text[0], order[i]);
    }
    ck_assert_str_eq(config.guests[0].devices[1].origin, "./conf.d/B.conf:2");
    ck_assert_int_eq(config.log_level, IOD_LOG_DEBUG);
    config_finish(&config);
    write_file("conf.d/d.conf", "log = \"info\";\n");
    ck_assert_int_eq(load_file("main.conf"), -EINVAL);
    ck_assert_str_eq(said(),
                     "conf.d/d.conf:1: log differs from what conf.d/B.conf:1 says; one file says it\n");
}
END_TEST

START_TEST(files_that_cant_be_read)
{
    ck_assert_int_eq(load_file("missing.conf"), -ENOENT);
    ck_assert_str_eq(said(), "missing.conf: No such file or directory\n");
    ck_assert_int_eq(load_file("conf.d"), -EINVAL);
    ck_assert_str_eq(said(), "conf.d: is not a file; expected a regular file\n");
    ck_assert_int_eq(mkfifo("fifo", 0644), 0);
    ck_assert_int_eq(load_file("fifo"), -EINVAL);
    write_file("large.conf", "");
    ck_assert_int_eq(truncate("large.conf", (4 << 20) + 1), 0);
    ck_assert_int_eq(load_file("large.conf"), -EFBIG);
    ck_assert_str_eq(said(), "large.conf: is too large; expected at most 4194304 bytes\n");
    ck_assert_int_eq(truncate("large.conf", 1), 0);
    ck_assert_int_eq(load_file("large.conf"), -EINVAL);
    ck_assert_str_eq(said(), "large.conf: has a byte 0; expected text\n");
    write_file("open.conf", "");
    chmod("open.conf", 0666);
    ck_assert_int_eq(load_file("open.conf"), 0);
    ck_assert_str_eq(said(), "open.conf: warning: everyone can write it, and so command ioreqd; chmod o-w\n");
    config_finish(&config);
    write_file("conf.d/x.conf", "broken");
    ck_assert_int_eq(load_file("open.conf"), -EINVAL);
}
END_TEST

START_TEST(a_thousand_guests_load_quickly)
{
    FILE *file = fopen("many.conf", "w");
    fputs("guests = (\n", file);
    for (unsigned i = 0; i < 4096; i++) {
        fprintf(file, "%s{ domain = \"guest%u\"; devices = [ \"virtio-blk,path=/%u\", \"virtio-rng\" ]; }\n",
                i ? "," : "", i, i);
    }
    fputs(");\n", file);
    fclose(file);
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    ck_assert_msg(load_file("many.conf") == 0, "%s", said());
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    ck_assert_uint_eq(config.count, 4096);
    ck_assert_str_eq(config.guests[4095].devices[1].origin, "many.conf:4097");
    double ms = (double)(after.tv_sec - before.tv_sec) * 1e3 + (double)(after.tv_nsec - before.tv_nsec) / 1e6;
    printf("4096 guests: %.0f ms\n", ms);
    ck_assert_double_lt(ms, 4000); /* 18 were seen, 755 with sanitizers; a quadratic one takes longer */
    config_finish(&config);
    file = fopen("many.conf", "r+");
    fseek(file, 0, SEEK_END);
    fseek(file, -3, SEEK_CUR);
    fputs(",{ domain = \"x\"; devices = [ \"d\" ]; } );", file);
    fclose(file);
    ck_assert_int_eq(load_file("many.conf"), -EINVAL);
    ck_assert_str_eq(said(), "many.conf:4098: more than 4096 guests\n");
}
END_TEST

/* The file that is installed says nothing; without its # before code it says what ioreqd.conf(5) promises. */
START_TEST(the_example_is_right)
{
    static char text[8192];
    char line[200];
    ck_assert_msg(load_file(EXAMPLE) == 0, "%s", said());
    ck_assert(!config.count && !config.has_log_level);
    config_finish(&config);
    FILE *file = fopen(EXAMPLE, "r");
    while (fgets(line, sizeof(line), file)) {
        if (line[0] == '#' && !strstr(line, "device-tree = \"running\"")) {
            bool code = strstr(line, "# ") != line || strncmp(line, "#  ", 3) == 0;
            strcat(text, code ? line + 1 : line);
        }
    }
    fclose(file);
    for (char *tree; (tree = strstr(text, "/etc/ioreqd/dom1.dtb"));) {
        memcpy(tree, "./////missing/dom1.d", 20); /* no file of this machine */
    }
    ck_assert_int_eq(load(text), -EINVAL);
    ck_assert_msg(findings.count == 2 && strstr(said(), "missing/dom1.d: No such file"), "%s", said());
}
END_TEST

/* ---- xl.cfg ---- */

START_TEST(settings_of_an_xl_cfg)
{
    struct xl_cfg cfg;
    findings_finish(&findings);
    ck_assert(xl_cfg_parse(&cfg,
                           "a = 1 # one\n; b='x\\'y' ; c = [ \"p\", # \"no\n [ 'q', 0x10, ], ]\nd=[]\n"
                           "c += [ 'r' ]\na = 2",
                           "F", &findings));
    static const struct {
        const char *name, *text;
        unsigned line;
    } values[] = {
        {"b", "x'y", 2}, {"c", "p", 2}, {"c", "q", 3}, {"c", "0x10", 3}, {"c", "r", 5}, {"a", "2", 6},
    };
    ck_assert_uint_eq(cfg.count, sizeof(values) / sizeof(values[0]));
    for (unsigned i = 0; i < cfg.count; i++) {
        ck_assert_str_eq(cfg.values[i].name, values[i].name);
        ck_assert_str_eq(cfg.values[i].text, values[i].text);
        ck_assert_uint_eq(cfg.values[i].line, values[i].line);
    }
    ck_assert_str_eq(xl_cfg_get(&cfg, "c")->text, "p");
    ck_assert_ptr_null(xl_cfg_get(&cfg, "d"));
    xl_cfg_finish(&cfg);
    static const char *const broken[] = {"a",           "a = ",    "a = 'x", "a = \"x\n\"",
                                         "a = [ 1 2 ]", "a = [ 1", "= 1",    "a = 1 b = 2"};
    for (unsigned i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        findings_finish(&findings);
        ck_assert_msg(!xl_cfg_parse(&cfg, broken[i], "F", &findings) && findings.count == 1, "%s", broken[i]);
        xl_cfg_finish(&cfg);
    }
}
END_TEST

START_TEST(disks_of_an_xl_cfg)
{
    struct xl_disk disk;
    char named[] =
        " format=raw, vdev=xvda ,access=ro,specification=virtio,backendtype=standalone,target=/a,b=c";
    xl_disk_parse(&disk, named);
    ck_assert_str_eq(disk.format, "raw");
    ck_assert_str_eq(disk.vdev, "xvda");
    ck_assert_str_eq(disk.access, "ro");
    ck_assert_str_eq(disk.specification, "virtio");
    ck_assert_str_eq(disk.backendtype, "standalone");
    ck_assert_str_eq(disk.target, "/a,b=c");
    char placed[] = "/dev/vg/a,,hdc,r,devtype=cdrom", old[] = "phy:/dev/b,xvdb,w";
    xl_disk_parse(&disk, placed);
    ck_assert_str_eq(disk.target, "/dev/vg/a");
    ck_assert_str_eq(disk.vdev, "hdc");
    ck_assert_str_eq(disk.access, "r");
    ck_assert(disk.cdrom && !disk.specification);
    xl_disk_parse(&disk, old);
    ck_assert_str_eq(disk.target, "/dev/b");
    ck_assert_str_eq(disk.vdev, "xvdb");
    ck_assert_str_eq(disk.access, "w");
    ck_assert(!disk.cdrom && !disk.format);
    static const struct {
        const char *vdev;
        int index;
        bool scsi;
    } names[] = {
        {"hda", 0, false},  {"xvdd", 3, false},     {"xvde1", 4, false},
        {"sdb", 1, true},   {"xvdaa", 26, false},   {"nvme0", -1, false},
        {"xvd", -1, false}, {"xvdaaaa", -1, false}, {"", -1, false},
    };
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        bool scsi = false;
        ck_assert_int_eq(xl_disk_index(names[i].vdev, &scsi), names[i].index);
        ck_assert(names[i].index < 0 || scsi == names[i].scsi);
    }
}
END_TEST

START_TEST(findings_are_bounded)
{
    FILE *file = fopen("bad.conf", "w");
    for (unsigned i = 0; i < 5000; i++) {
        fprintf(file, "x%u = 1;\n", i);
    }
    fclose(file);
    ck_assert_int_eq(load_file("bad.conf"), -EINVAL);
    ck_assert_uint_eq(findings.count, 1000);
    ck_assert(findings.cut && findings_fatal(&findings));
    struct iod_error error = {0};
    ck_assert_int_eq(findings_error(&findings, &error), -EINVAL);
    ck_says(error, "bad.conf:1: x0 is not a setting of ioreqd; the nearest known one is log");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_file");
    TCase *tests = tcase_create("text"), *files = tcase_create("files");
    tcase_add_test(tests, every_setting_of_a_guest);
    tcase_add_test(tests, settings_of_the_daemon);
    tcase_add_test(tests, a_domain_has_one_form);
    tcase_add_loop_test(tests, refuses, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(tests, all_findings_of_a_file_are_told);
    tcase_add_test(tests, lines_are_right);
    tcase_add_test(tests, places_of_one_domain_are_joined);
    tcase_add_test(tests, settings_of_an_xl_cfg);
    tcase_add_test(tests, disks_of_an_xl_cfg);
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(files, make_folder, remove_folder);
    tcase_set_timeout(files, 60);
    tcase_add_test(files, conf_d_is_read_in_the_order_of_bytes);
    tcase_add_test(files, files_that_cant_be_read);
    tcase_add_test(files, a_thousand_guests_load_quickly);
    tcase_add_test(files, the_example_is_right);
    tcase_add_test(files, findings_are_bounded);
    suite_add_tcase(suite, files);
    return unit_run(suite);
}
