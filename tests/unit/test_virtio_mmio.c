/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-mmio, version 2 and legacy: registers, status, features, interrupt status, resets that wait, load.
 */
#include <errno.h>
#include <linux/virtio_mmio.h>

#include "fake_virtio.h"
#include "virtio/virtio.h"

static struct guest *guest;
static struct iod_device *device;
static struct fake_virtio fake;
static struct iod_region *region;

static void make(const char *bus)
{
    struct iod_error error = {0};

    guest = fake_guest(ARCH_ARM, GUEST_UNKNOWN);
    device = fake_device(guest, "test");
    device->keys.has_base = device->keys.has_irq = true;
    device->keys.base = 0x02000000;
    device->keys.irq = 33;
    device->keys.bus = bus;
    ck_assert_msg(fake_virtio_add(&fake, device, &error) != NULL, "%s", error.text);
    region = fake_region(device, 0);
    fake_start(device);
}

static void setup(void)
{
    make(NULL);
}

static void setup_legacy(void)
{
    make("mmio-legacy");
}

static void teardown(void)
{
    fake_device_free(device);
    fake_guest_free(guest);
}

static uint32_t get(unsigned offset)
{
    return (uint32_t)fake_read(region, offset, 4);
}

static void put(unsigned offset, uint32_t value)
{
    fake_write(region, offset, 4, value);
}

static void features(uint32_t low, uint32_t high)
{
    put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    put(VIRTIO_MMIO_DRIVER_FEATURES, low);
    put(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    put(VIRTIO_MMIO_DRIVER_FEATURES, high);
}

static void enable_queue(void)
{
    put(VIRTIO_MMIO_QUEUE_SEL, 0);
    put(VIRTIO_MMIO_QUEUE_NUM, FAKE_SIZE);
    put(VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)FAKE_DESC);
    put(VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)FAKE_AVAIL);
    put(VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)FAKE_USED);
    put(VIRTIO_MMIO_QUEUE_READY, 1);
}

static void bring_up(void)
{
    put(VIRTIO_MMIO_STATUS, 0);
    put(VIRTIO_MMIO_STATUS, 3);
    features(1u << FAKE_FEATURE, 1);
    put(VIRTIO_MMIO_STATUS, 11);
    enable_queue();
    put(VIRTIO_MMIO_STATUS, 15);
    fake_tasks(device);
}

static void one_request(void)
{
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    fake_offer(guest, 0);
    put(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    fake_tasks(device);
}

START_TEST(identity)
{
    ck_assert_uint_eq(get(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    ck_assert_uint_eq(get(VIRTIO_MMIO_VERSION), 2);
    ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_ID), 42);
    ck_assert_uint_eq(region->base, 0x02000000);
    ck_assert_uint_eq(region->length, 0x200);
    put(VIRTIO_MMIO_QUEUE_SEL, 1);
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 16);
    put(VIRTIO_MMIO_QUEUE_SEL, 2);
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    put(VIRTIO_MMIO_QUEUE_SEL, 0x10000); /* not queue 0 */
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    put(VIRTIO_MMIO_QUEUE_READY, 1);
    ck_assert_uint_eq(get(VIRTIO_MMIO_SHM_LEN_LOW), UINT32_MAX);
    ck_assert_uint_eq(fake_read(region, 1, 1), 0x69);
    ck_assert_uint_eq(fake_read(region, 2, 2), 0x7472);
    fake_write(region, VIRTIO_MMIO_STATUS, 1, 3);
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 0);
    ck_assert_uint_eq(device->guest_errors, 1);
}
END_TEST

START_TEST(feature_negotiation)
{
    put(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_FEATURES), 1u << FAKE_FEATURE | 3u << 28);
    put(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_FEATURES), 1 | 1u << (VIRTIO_F_RING_RESET - 32));
    put(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_FEATURES), 0);
    put(VIRTIO_MMIO_STATUS, 3);
    features(1u << FAKE_FEATURE | 1, 1); /* bit 0 is not offered */
    put(VIRTIO_MMIO_STATUS, 11);
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 3);
    ck_assert_uint_eq(iod_virtio_features(fake.virtio), 0);
    features(1u << FAKE_FEATURE, 0); /* without VERSION_1 */
    put(VIRTIO_MMIO_STATUS, 11);
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 3);
    put(VIRTIO_MMIO_STATUS, 15);
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 3); /* nor by a leap */
    ck_assert(!iod_virtio_live(fake.virtio));
    features(1u << FAKE_FEATURE, 1);
    put(VIRTIO_MMIO_STATUS, 11);
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 11);
    features(0, 0); /* too late */
    ck_assert_uint_eq(iod_virtio_features(fake.virtio), UINT64_C(1) << 32 | 1u << FAKE_FEATURE);
    put(VIRTIO_MMIO_STATUS, 15);
    ck_assert(iod_virtio_live(fake.virtio));
    ck_assert_uint_eq(fake.driver_oks, 1);
    put(VIRTIO_MMIO_STATUS, 15);
    ck_assert_uint_eq(fake.driver_oks, 1);
    put(VIRTIO_MMIO_STATUS, 4); /* bits don't go but by a reset */
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 15);
    put(VIRTIO_MMIO_STATUS, 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 15); /* that bit is ours */
}
END_TEST

START_TEST(driver_ok_that_fails)
{
    fake.driver_ok_result = -ENOMEM;
    bring_up();
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
    one_request();
    ck_assert_uint_eq(fake.popped, 0);
}
END_TEST

START_TEST(interrupt_status)
{
    bring_up();
    one_request();
    ck_assert_uint_eq(device->raised, 1);
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    one_request(); /* each cause is raised: an edge-triggered chip needs it */
    ck_assert_uint_eq(device->raised, 2);
    iod_virtio_config_changed(fake.virtio);
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 3);
    ck_assert_uint_eq(get(VIRTIO_MMIO_CONFIG_GENERATION), 1);
    put(VIRTIO_MMIO_INTERRUPT_ACK, 1); /* must not swallow the other cause */
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    ck_assert(device->line);
    ck_assert_uint_eq(device->raised, 4);
    put(VIRTIO_MMIO_INTERRUPT_ACK, 2);
    ck_assert(!device->line);
    one_request();
    put(VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    ck_assert(!device->line);
}
END_TEST

START_TEST(a_reset_waits_until_nothing_is_in_flight)
{
    bring_up();
    fake.keep = true;
    one_request();
    ck_assert_int_eq(fake_pop(&fake), 1);
    device->slow = true;
    ck_assert(!fake_write(region, VIRTIO_MMIO_STATUS, 4, 0));
    ck_assert_uint_eq(device->resets, 1); /* bring_up's own */
    ck_assert(!iod_virtq_ready(iod_virtio_queue(fake.virtio, 0)));
    iod_virtq_push(iod_virtio_queue(fake.virtio, 0), 0, 1);
    ck_assert_ptr_nonnull(device->access);
    fake_quiet(device);
    ck_assert_ptr_null(device->access);
    ck_assert_uint_eq(device->resets, 2);
    ck_assert_uint_eq(fake_used(guest)[1], 1); /* before the write ended */
    ck_assert_uint_eq(get(VIRTIO_MMIO_STATUS), 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    ck_assert(!device->line);
    put(VIRTIO_MMIO_QUEUE_SEL, 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
    /* Whatever the device still does, memory stays as it is. */
    memset(fake_used(guest), 0x5a, 4096);
    iod_virtq_push(iod_virtio_queue(fake.virtio, 0), 0, 1);
    iod_virtq_flush(iod_virtio_queue(fake.virtio, 0));
    for (unsigned i = 0; i < 2048; i++) {
        ck_assert_uint_eq(fake_used(guest)[i], 0x5a5a);
    }
    device->slow = false;
    fake.keep = false;
    memset(fake_used(guest), 0, 4096);
    memset(fake_avail(guest), 0, 4096);
    bring_up(); /* and it lives again */
    one_request();
    ck_assert_uint_eq(fake_used(guest)[1], 1);
}
END_TEST

START_TEST(queue_reset)
{
    bring_up();
    one_request();
    put(0x0c0, 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_READY), 1);
    put(0x0c0, 1);
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_READY), 0);
    ck_assert_uint_eq(get(0x0c0), 0);
    ck_assert_uint_eq(fake.queue_resets, 1);
    put(VIRTIO_MMIO_QUEUE_NOTIFY, 0); /* not enabled */
    put(VIRTIO_MMIO_QUEUE_NOTIFY, 99);
    ck_assert_uint_eq(device->guest_errors, 2);
    memset(fake_avail(guest), 0, 64);
    memset(fake_used(guest), 0, 64);
    enable_queue();
    one_request();
    ck_assert_uint_eq(fake_used(guest)[1], 1);
}
END_TEST

START_TEST(an_enabled_queue_is_not_moved)
{
    bring_up();
    put(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
    put(VIRTIO_MMIO_QUEUE_NUM, 2);
    ck_assert_uint_eq(device->guest_errors, 2);
    one_request();
    ck_assert_uint_eq(fake.popped, 1);
}
END_TEST

START_TEST(configuration)
{
    memcpy(fake.config, "abcdefgh", 8);
    ck_assert_uint_eq(fake_read(region, 0x100, 4), 0x64636261);
    ck_assert_uint_eq(fake_read(region, 0x106, 2), 0x6867);
    ck_assert_uint_eq(fake_read(region, 0x107, 1), 0x68);
    ck_assert_uint_eq(fake_read(region, 0x106, 4), 0x6867); /* nothing behind its end */
    ck_assert_uint_eq(fake_read(region, 0x1fc, 4), 0);
    fake_write(region, 0x102, 1, 'X');
    ck_assert_int_eq(memcmp(fake.config, "abXdefgh", 8), 0);
    fake_write(region, 0x106, 4, 0);
    fake_write(region, 0x1fc, 4, 0);
    ck_assert_uint_eq(fake.config_writes, 1);
    ck_assert_uint_eq(device->guest_errors, 2);
}
END_TEST

START_TEST(save_and_load)
{
    struct iod_device *other = fake_device(guest, "other");
    struct fake_virtio second;
    struct iod_error error = {0};
    uint8_t *regs;

    bring_up();
    one_request();
    fake.keep = true;
    one_request(); /* not taken yet */
    fake_stop(device);
    other->keys = device->keys;
    ck_assert_ptr_nonnull(fake_virtio_add(&second, other, &error));
    fake_save_load(device, other);
    fake_start(other);
    ck_assert_uint_eq(second.driver_oks, 1);
    ck_assert_uint_eq(other->raised, 1); /* an unacknowledged cause is told again */
    fake_tasks(other);
    ck_assert_uint_eq(second.popped, 1);
    ck_assert_uint_eq(fake_used(guest)[1], 2);
    ck_assert_uint_eq(fake_read(fake_region(other, 0), VIRTIO_MMIO_STATUS, 4), 15);
    fake_stop(other);

    regs = fake_part(other, "virtio")->regs;
    ((struct virtio_regs *)regs)->driver_features = UINT64_MAX;
    ck_assert_int_lt(fake_load(other, &error), 0);
    ck_says(error, "not offered");
    memset(regs, 0, sizeof(struct virtio_regs));
    ((struct virtio_regs *)regs)->status = 0x10;
    ck_assert_int_lt(fake_load(other, &error), 0);
    memset(regs, 0, sizeof(struct virtio_regs));
    fake_device_free(other);
}
END_TEST

START_TEST(keys)
{
    struct iod_device *other = fake_device(guest, "other");
    struct fake_virtio second;
    struct iod_error error = {0};

    ck_assert_ptr_null(fake_virtio_add(&second, other, &error));
    ck_says(error, "base=");
    fake_device_free(other);
    other = fake_device(guest, "other");
    other->keys.has_base = true;
    ck_assert_ptr_null(fake_virtio_add(&second, other, &error));
    ck_says(error, "irq=");
    fake_device_free(other);
    other = fake_device(guest, "other");
    other->keys.bus = "isa";
    ck_assert_ptr_null(fake_virtio_add(&second, other, &error));
    ck_says(error, "pci, mmio or mmio-legacy");
    fake_device_free(other);
    other = fake_device(guest, "other");
    other->keys = device->keys;
    other->polled = true; /* irq=none */
    ck_assert_ptr_nonnull(fake_virtio_add(&second, other, &error));
    fake_device_free(other);
}
END_TEST

/* ---- legacy ---- */

#define PFN (FAKE_BASE / 4096 + 16)

static void legacy_queue(void)
{
    put(VIRTIO_MMIO_GUEST_PAGE_SIZE, 4096);
    put(VIRTIO_MMIO_QUEUE_SEL, 0);
    put(VIRTIO_MMIO_QUEUE_NUM, FAKE_SIZE);
    put(VIRTIO_MMIO_QUEUE_ALIGN, 4096);
    put(VIRTIO_MMIO_QUEUE_PFN, PFN);
}

/* One buffer in the legacy layout: table, available ring, and at the next page the used ring. */
static void legacy_request(uint16_t number)
{
    struct vring_desc *desc = fake_at(guest, PFN * 4096, 4096);
    uint16_t *avail = (uint16_t *)(desc + FAKE_SIZE);

    desc[0] = (struct vring_desc){.addr = FAKE_BASE, .len = 4};
    avail[2 + (number - 1) % FAKE_SIZE] = 0;
    avail[1] = number;
    put(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    fake_tasks(device);
}

START_TEST(legacy)
{
    const uint16_t *used = fake_at(guest, PFN * 4096 + 4096, 4096);

    ck_assert_uint_eq(get(VIRTIO_MMIO_VERSION), 1);
    put(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    ck_assert_uint_eq(get(VIRTIO_MMIO_DEVICE_FEATURES), 0); /* no VERSION_1 */
    put(VIRTIO_MMIO_STATUS, 3);
    features(UINT32_MAX, UINT32_MAX);
    legacy_queue();
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_PFN), PFN);
    put(VIRTIO_MMIO_STATUS, 7);
    ck_assert(iod_virtio_live(fake.virtio));
    ck_assert_uint_eq(iod_virtio_features(fake.virtio) >> 32, 0);
    ck_assert(iod_virtio_features(fake.virtio) & 1u << FAKE_FEATURE);
    legacy_request(1);
    ck_assert_uint_eq(used[1], 1);
    put(VIRTIO_MMIO_QUEUE_PFN, 0);
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_PFN), 0);
    ck_assert_uint_eq(iod_virtq_size(iod_virtio_queue(fake.virtio, 0)), 0);
}
END_TEST

/* Linux tells the page size when it finds the device, then its driver resets it. */
START_TEST(legacy_page_size_outlives_reset)
{
    put(VIRTIO_MMIO_GUEST_PAGE_SIZE, 4096);
    put(VIRTIO_MMIO_STATUS, 0);
    put(VIRTIO_MMIO_STATUS, 3);
    put(VIRTIO_MMIO_QUEUE_SEL, 0);
    put(VIRTIO_MMIO_QUEUE_NUM, FAKE_SIZE);
    put(VIRTIO_MMIO_QUEUE_ALIGN, 4096);
    put(VIRTIO_MMIO_QUEUE_PFN, PFN);
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_PFN), PFN);
    fake_system_reset(device); /* but not the machine's own reset */
    put(VIRTIO_MMIO_QUEUE_NUM, FAKE_SIZE);
    put(VIRTIO_MMIO_QUEUE_ALIGN, 4096);
    put(VIRTIO_MMIO_QUEUE_PFN, PFN);
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_PFN), 0);
}
END_TEST

START_TEST(legacy_io_before_driver_ok)
{
    put(VIRTIO_MMIO_STATUS, 3);
    features(0, 0);
    legacy_queue();
    legacy_request(1);
    ck_assert_uint_eq(fake.popped, 1);
    ck_assert_uint_eq(fake.driver_oks, 1);
    put(VIRTIO_MMIO_STATUS, 7);
    ck_assert_uint_eq(fake.driver_oks, 1);
}
END_TEST

START_TEST(legacy_hostile_queues)
{
    const struct {
        uint32_t page, align;
    } bad[] = {{0, 4096}, {4095, 4096}, {4096, 0}, {4096, 2}, {4096, 4095}};

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        put(VIRTIO_MMIO_STATUS, 0);
        put(VIRTIO_MMIO_GUEST_PAGE_SIZE, bad[i].page);
        put(VIRTIO_MMIO_QUEUE_NUM, FAKE_SIZE);
        put(VIRTIO_MMIO_QUEUE_ALIGN, bad[i].align);
        put(VIRTIO_MMIO_QUEUE_PFN, PFN);
        ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_PFN), 0);
        ck_assert_uint_eq(iod_virtq_size(iod_virtio_queue(fake.virtio, 0)), 0);
    }
    put(VIRTIO_MMIO_STATUS, 0);
    put(VIRTIO_MMIO_GUEST_PAGE_SIZE, 0x80000000);
    put(VIRTIO_MMIO_QUEUE_NUM, FAKE_SIZE);
    put(VIRTIO_MMIO_QUEUE_ALIGN, 0x80000000);
    put(VIRTIO_MMIO_QUEUE_PFN, UINT32_MAX);
    ck_assert_uint_eq(get(VIRTIO_MMIO_QUEUE_PFN), UINT32_MAX); /* far away, but no contradiction in itself */
    put(VIRTIO_MMIO_STATUS, 7);
    fake_tasks(device);
    ck_assert(!iod_virtio_live(fake.virtio)); /* found out at the first look */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio-mmio");
    TCase *modern = tcase_create("version 2"), *old = tcase_create("legacy");

    tcase_add_checked_fixture(modern, setup, teardown);
    tcase_add_test(modern, identity);
    tcase_add_test(modern, feature_negotiation);
    tcase_add_test(modern, driver_ok_that_fails);
    tcase_add_test(modern, interrupt_status);
    tcase_add_test(modern, a_reset_waits_until_nothing_is_in_flight);
    tcase_add_test(modern, queue_reset);
    tcase_add_test(modern, an_enabled_queue_is_not_moved);
    tcase_add_test(modern, configuration);
    tcase_add_test(modern, save_and_load);
    tcase_add_test(modern, keys);
    tcase_add_checked_fixture(old, setup_legacy, teardown);
    tcase_add_test(old, legacy);
    tcase_add_test(old, legacy_page_size_outlives_reset);
    tcase_add_test(old, legacy_io_before_driver_ok);
    tcase_add_test(old, legacy_hostile_queues);
    suite_add_tcase(suite, modern);
    suite_add_tcase(suite, old);
    return unit_run(suite);
}
