/* SPDX-License-Identifier: BSD-2-Clause */
/* Disks that are plugged into a guest while it runs, used, grown, shown, and taken off again. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"
#include "host.h"
#include "virtio_blk_driver.h"

#define SLOT 6
#define MMIO_BASE 0x2000000u

static struct fixture f;
static struct host host;

static void start_hvm(void)
{
    fixture_start(&f, MOCK_HVM, 2);
    mock_adopt_env(f.mock);
    host_start_with(&host, f.records);
}

static void start_arm(void)
{
    fixture_start(&f, MOCK_ARM64, 2);
    mock_adopt_env(f.mock);
    host_start(&host);
}

static void stop(void)
{
    host_stop(&host);
    fixture_expect_clean(&f);
    fixture_stop(&f);
}

/* ---- verbs, on the loop ---- */

struct verb {
    const char *text; /* a device, or its id */
    enum removal how;
    int result;
    struct iod_error error;
};

static void answered(void *self, int error, const char *why)
{
    struct verb *verb = host.argument;
    (void)self;
    verb->result = error;
    snprintf(verb->error.text, sizeof(verb->error.text), "%s", why);
    sem_post(&host.done);
}

static void refused(struct host *on, struct verb *verb)
{
    if (verb->result) {
        sem_post(&on->done);
    }
}

static void job_plug(struct host *on, void *argument)
{
    struct verb *verb = argument;
    struct device_spec spec;
    ck_assert_int_eq(device_spec_parse(&spec, verb->text, &verb->error), 0);
    verb->result = daemon_add_device(on->daemon, f.domid, &spec, answered, NULL, &verb->error);
    device_spec_finish(&spec);
    refused(on, verb);
}

static void job_unplug(struct host *on, void *argument)
{
    struct verb *verb = argument;
    verb->result = daemon_remove_device(on->daemon, f.domid, verb->text, verb->how, answered, NULL, &verb->error);
    refused(on, verb);
}

static void job_resize(struct host *on, void *argument)
{
    struct verb *verb = argument;
    verb->result = daemon_resize_device(on->daemon, f.domid, verb->text, &verb->error);
    sem_post(&on->done);
}

static void plug(const char *text)
{
    struct verb verb = {.text = text};
    host_do(&host, job_plug, &verb);
    ck_assert_msg(verb.result == 0, "%s", verb.error.text);
}

static struct verb unplug(const char *id, enum removal how)
{
    struct verb verb = {.text = id, .how = how};
    host_do(&host, job_unplug, &verb);
    return verb;
}

/* ---- the guest's side ---- */

static struct virtio_driver driver;
static struct virtio_blk blk;

static void drive(void)
{
    struct virtio_arena arena = virtio_arena_make(f.guest, mock_ram_base(f.guest) + 0x100000, 0x800000);
    bool arm = mock_guest_profile(f.guest) == MOCK_ARM64;
    int result = arm ? virtio_mmio_open(&driver, f.guest, 0, MMIO_BASE, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_SPI, 34, arena)
                     : virtio_pci_open(&driver, f.guest, 0, SLOT << 3, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_MSIX, 0xe0000000,
                                       arena);
    ck_assert_int_eq(result, 0);
    ck_assert_int_eq(virtio_blk_start(&blk, &driver, VIRTIO_BLK_ALL, 1, 0), 0);
}

static void use(void)
{
    uint8_t sector[512];
    ck_assert_int_eq(virtio_blk_read(&blk, 5, sector, sizeof(sector)), VIRTIO_BLK_S_OK);
    for (unsigned i = 0; i < sizeof(sector); i++) {
        if (sector[i] != fixture_pattern(5 * 512 + i)) {
            ck_abort_msg("byte %u of sector 5", i);
        }
    }
}

/* As Linux does, which acknowledges the device's existence again when the driver has gone. */
static void let_go(void)
{
    ck_assert_int_eq(virtio_blk_reset(&blk), 0);
    driver.transport->set_status(&driver, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    virtio_blk_finish(&blk);
    virtio_close(&driver);
}

static uint32_t probe(void)
{
    return mock_guest_profile(f.guest) == MOCK_ARM64 ? (uint32_t)vcpu_mmio_read(f.guest, 0, MMIO_BASE, 4)
                                                     : (uint32_t)vcpu_pci_read(f.guest, 0, SLOT << 3, 0, 4);
}

/* A register behind its BARs: of a device that was pulled 0, so that a driver's wait for its reset ends. */
static uint64_t probe_memory(void)
{
    uint64_t address = mock_guest_profile(f.guest) == MOCK_ARM64 ? MMIO_BASE : 0xe0000000;
    return vcpu_mmio_read(f.guest, 0, address, 4) & UINT32_MAX;
}

static const char *image;

static const char *disk(void)
{
    static char text[400];
    bool arm = mock_guest_profile(f.guest) == MOCK_ARM64;
    image = fixture_image(&f, "disk.img", 1 << 20);
    if (arm) {
        snprintf(text, sizeof(text), "virtio-blk,id=disk,base=%u,irq=34,path=%s", MMIO_BASE, image);
    } else {
        snprintf(text, sizeof(text), "virtio-blk,id=disk,addr=%u,path=%s", SLOT, image);
    }
    return text;
}

static const char *other(void)
{
    return mock_guest_profile(f.guest) == MOCK_ARM64 ? "virtio-rng,base=0x2000200,irq=33" : "pci-host";
}

/* ---- tests ---- */

/* Ten times: it answers from the next access, is used, is refused while its driver is at work, and goes. */
START_TEST(ten_times)
{
    bool arm = mock_guest_profile(f.guest) == MOCK_ARM64;
    host_add(&host, f.guest, (const char *const[]){other(), NULL});
    for (unsigned i = 0; i < 10; i++) {
        if (!arm) { /* on Arm the first look at nobody's address would be the guest's end */
            ck_assert_uint_eq(probe(), 0xffffffff);
        }
        plug(disk());
        ck_assert_uint_eq(probe(), arm ? 0x74726976 : 0x10421af4);
        drive();
        use();
        struct verb verb = unplug("disk", REMOVAL_ASK);
        ck_assert_int_eq(verb.result, -EBUSY);
        ck_assert_msg(strstr(verb.error.text, "unbind or unplug it in the guest first") != NULL, "%s", verb.error.text);
        use();
        if (i % 2) {
            verb = unplug("disk", REMOVAL_FORCE);
            virtio_blk_finish(&blk);
            virtio_close(&driver);
        } else {
            let_go();
            verb = unplug("disk", REMOVAL_ASK);
        }
        ck_assert_msg(verb.result == 0, "%s", verb.error.text);
        ck_assert_uint_eq(probe(), arm ? 0 : 0xffffffff);
        ck_assert_uint_eq(probe_memory(), arm || i ? 0 : UINT32_MAX); /* and it stays so, below what comes next */
    }
}
END_TEST

START_TEST(grows)
{
    struct verb verb = {.text = "disk"};
    host_add(&host, f.guest, (const char *const[]){other(), disk(), NULL});
    drive();
    ck_assert_uint_eq(blk.capacity, 2048);
    uint64_t config = 0;
    ck_assert_int_eq(truncate(image, 3 << 20), 0);
    uint32_t generation = driver.transport->config_generation(&driver);
    host_do(&host, job_resize, &verb);
    ck_assert_msg(verb.result == 0, "%s", verb.error.text);
    ck_assert_uint_ne(driver.transport->config_generation(&driver), generation);
    virtio_config(&driver, &config, sizeof(config));
    ck_assert_uint_eq(config, 3 * 2048);
    uint8_t sector[512];
    memset(sector, 0x5a, sizeof(sector));
    ck_assert_int_eq(virtio_blk_write(&blk, 6000, sector, sizeof(sector)), VIRTIO_BLK_S_OK);
    use();
    let_go();
}
END_TEST

/* A guest restored without its devices' state: the driver rings, the device is in reset. */
START_TEST(rings_in_reset)
{
    host_add(&host, f.guest, (const char *const[]){other(), disk(), NULL});
    drive();
    use();
    driver.transport->set_status(&driver, 0);
    for (unsigned i = 0; i < 3; i++) {
        virtio_queue_notify(driver.queues[0]);
    }
    ck_assert_uint_eq(virtio_status(&driver), VIRTIO_CONFIG_S_NEEDS_RESET);
    char *told = strstr(host.log, "was the guest restored or migrated?");
    ck_assert_msg(told != NULL, "%s", host.log);
    ck_assert_ptr_null(strstr(told + 1, "was the guest restored or migrated?"));
    ck_assert_int_eq(virtio_blk_reset(&blk), 0);
    virtio_blk_finish(&blk);
    virtio_close(&driver);
    drive(); /* loaded again, it works */
    use();
    let_go();
}
END_TEST

/* ---- what it shows ---- */

struct printer {
    struct inspector inspector;
    char text[65536];
    size_t length;
};

static void print(struct inspector *inspector, const char *format, const char *key, const char *value)
{
    struct printer *printer = (struct printer *)inspector;
    printer->length += (size_t)snprintf(printer->text + printer->length,
                                        sizeof(printer->text) - printer->length, format,
                                        key != NULL ? key : "", value);
}

static void print_object(struct inspector *inspector, const char *key)
{
    print(inspector, "%s={ ", key, NULL);
}

static void print_list(struct inspector *inspector, const char *key)
{
    print(inspector, "%s=[ ", key, NULL);
}

static void print_end(struct inspector *inspector)
{
    print(inspector, "%s} ", NULL, NULL);
}

static void print_text(struct inspector *inspector, const char *key, const char *value)
{
    print(inspector, "%s=%s ", key, value);
}

static void print_number(struct inspector *inspector, const char *key, uint64_t value)
{
    char number[24];
    snprintf(number, sizeof(number), "%" PRIu64, value);
    print(inspector, "%s=%s ", key, number);
}

static void print_boolean(struct inspector *inspector, const char *key, bool value)
{
    print(inspector, "%s=%s ", key, value ? "on" : "off");
}

static void job_inspect(struct host *on, void *argument)
{
    struct iod_error error;
    ck_assert_int_eq(daemon_inspect(on->daemon, f.domid, argument, &error), 0);
    ck_assert_int_eq(daemon_inspect(on->daemon, "nobody", argument, &error), -ENOENT);
    sem_post(&on->done);
}

static const char *inspect(void)
{
    static struct printer printer;
    printer = (struct printer){.inspector = {.begin_object = print_object, .begin_list = print_list, .end = print_end,
                                             .text = print_text, .number = print_number, .boolean = print_boolean}};
    host_do(&host, job_inspect, &printer);
    return printer.text;
}

START_TEST(shows_itself)
{
    host_add(&host, f.guest, (const char *const[]){"pci-host", disk(), "debugcon,id=console", NULL});
    drive();
    void *memory;
    uint64_t gpa = virtio_arena_take(&driver.arena, 512, 512, &memory);
    struct virtio_blk_request *request = virtio_blk_begin(&blk, VIRTIO_BLK_T_IN, 0);
    struct virtio_buffer data = {.gpa = gpa, .length = 512, .write = true};
    ck_assert_int_ge(virtio_blk_put(&blk, 0, request, &data, 1, false), 0);
    virtio_queue_kick(driver.queues[0]);
    ck_assert_int_eq(virtio_queue_wait(driver.queues[0], 5000), 0);
    ck_assert_uint_eq(vcpu_inb(f.guest, 0, 0x402), 0xe9);
    ck_assert_uint_eq(vcpu_inb(f.guest, 1, 0x402), 0xe9);
    const char *tree = inspect();
    const char *const parts[] = {
        "state=running served=on why= ", "type=hvm arch=x86 ", "vcpus=2 vcpus-bound=2 ",
        "={ space=ports start=1026 end=1026 device=console region=", "hits=2 } ",
        "functions=[ ={ addr=", "={ addr=06.0 device=disk } ", "={ id=disk class=virtio-blk state=running ",
        "pci={ addr=06.0 vendor=6900 device=4162 bus-master=on msi-x=on ", "start=3758096384 ",
        "virtio={ transport=pci device-id=2 status=15 driver-ok=on needs-reset=off ",
        "queues=[ ={ index=0 size=128 ready=on in-flight=0 next-avail=1 used=1 } ",
        "backends=[ ={ kind=block class=file path=", "capacity=1048576 sector=512 readonly=off in-flight=0 } ",
        "memory={ mapped=", "counters={ unclaimed=",
    };
    for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        ck_assert_msg(strstr(tree, parts[i]) != NULL, "'%s' is not in\n%s", parts[i], tree);
    }
    virtio_blk_reap(&blk, 0, 1000, NULL);
    let_go();
    ck_assert_ptr_nonnull(strstr(inspect(), "status=1 driver-ok=off needs-reset=off features=0 "));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hotplug");
    TCase *hvm = tcase_create("hvm"), *arm = tcase_create("arm");
    tcase_add_checked_fixture(hvm, start_hvm, stop);
    tcase_add_checked_fixture(arm, start_arm, stop);
    tcase_set_timeout(hvm, 60);
    tcase_set_timeout(arm, 60);
    tcase_add_test(hvm, ten_times);
    tcase_add_test(hvm, grows);
    tcase_add_test(hvm, rings_in_reset);
    tcase_add_test(hvm, shows_itself);
    tcase_add_test(arm, ten_times);
    tcase_add_test(arm, grows);
    suite_add_tcase(suite, hvm);
    suite_add_tcase(suite, arm);
    return fixture_main(suite);
}
