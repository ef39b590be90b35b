/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * virtio-pci: found by its capabilities as a driver finds it, driven by BAR 0 and by the window in config
 * space.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>

#include "fake_virtio.h"

#define BAR 0xf0000000u
#define MSIX_BAR 0xf0010000u

static struct guest *guest;
static struct iod_device *device;
static struct fake_virtio fake;
static struct iod_region *region, *table;
static uint32_t common, isr, config, notify; /* offsets in BAR 0 */
static unsigned window, msix;                /* offsets in configuration space */

static uint32_t cfg(unsigned offset, unsigned width)
{
    return fake_config_read(guest, 4, offset, width);
}

static void set_cfg(unsigned offset, unsigned width, uint32_t value)
{
    fake_config_write(guest, 4, offset, width, value);
}

static void take_capability(unsigned at)
{
    uint32_t offset = cfg(at + 8, 4);

    switch (cfg(at + 3, 1)) {
    case VIRTIO_PCI_CAP_COMMON_CFG:
        common = offset;
        break;
    case VIRTIO_PCI_CAP_ISR_CFG:
        isr = offset;
        break;
    case VIRTIO_PCI_CAP_DEVICE_CFG:
        config = offset;
        ck_assert_uint_eq(cfg(at + 12, 4), 8);
        break;
    case VIRTIO_PCI_CAP_NOTIFY_CFG:
        notify = offset;
        ck_assert_uint_eq(cfg(at + 2, 1), 20);
        ck_assert_uint_eq(cfg(at + 16, 4), 4);
        break;
    case VIRTIO_PCI_CAP_PCI_CFG:
        window = at;
        break;
    default:
        ck_abort();
    }
}

static void find_capabilities(void)
{
    common = isr = config = notify = UINT32_MAX;
    window = msix = 0;
    for (unsigned at = cfg(PCI_CAPABILITY_LIST, 1); at; at = cfg(at + 1, 1)) {
        if (cfg(at, 1) == PCI_CAP_ID_VNDR) {
            take_capability(at);
        } else {
            ck_assert_uint_eq(cfg(at, 1), PCI_CAP_ID_MSIX);
            msix = at;
        }
    }
    ck_assert(common != UINT32_MAX && isr != UINT32_MAX && config != UINT32_MAX && notify != UINT32_MAX);
    ck_assert(window && msix);
}

static void make(enum guest_type type)
{
    struct iod_error error = {0};

    guest = fake_guest(ARCH_X86, type);
    device = fake_device(guest, "test");
    ck_assert_msg(fake_virtio_add(&fake, device, &error) != NULL, "%s", error.text);
    region = fake_region(device, 0);
    table = fake_region(device, 1);
    fake_start(device);
    find_capabilities();
    set_cfg(0x10, 4, BAR);
    set_cfg(0x14, 4, MSIX_BAR);
    set_cfg(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void setup_hvm(void)
{
    make(GUEST_HVM);
}

static void setup_pvh(void)
{
    make(GUEST_PVH);
}

static void teardown(void)
{
    fake_device_free(device);
    fake_guest_free(guest);
}

static uint32_t get(unsigned field, unsigned width)
{
    return (uint32_t)fake_read(region, common + field, width);
}

static void put(unsigned field, unsigned width, uint32_t value)
{
    fake_write(region, common + field, width, value);
}

static void bring_up(void)
{
    put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
    put(VIRTIO_PCI_COMMON_STATUS, 1, 3);
    put(VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
    put(VIRTIO_PCI_COMMON_GF, 4, 1u << FAKE_FEATURE);
    put(VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
    put(VIRTIO_PCI_COMMON_GF, 4, 1);
    put(VIRTIO_PCI_COMMON_STATUS, 1, 11);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
    put(VIRTIO_PCI_COMMON_Q_DESCLO, 4, (uint32_t)FAKE_DESC);
    put(VIRTIO_PCI_COMMON_Q_AVAILLO, 4, (uint32_t)FAKE_AVAIL);
    put(VIRTIO_PCI_COMMON_Q_USEDLO, 4, (uint32_t)FAKE_USED);
    put(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    put(VIRTIO_PCI_COMMON_STATUS, 1, 15);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 15);
    fake_tasks(device);
}

static void one_request(void)
{
    fake_set(guest, 0, FAKE_BASE, 4, 0, 0);
    fake_offer(guest, 0);
    fake_write(region, notify, 2, 0);
    fake_tasks(device);
}

static void msix_on(void)
{
    for (unsigned vector = 0; vector < 3; vector++) {
        fake_write(table, 16 * vector, 4, 0xfee00000);
        fake_write(table, 16 * vector + 8, 4, 0x40 + vector);
        fake_write(table, 16 * vector + 12, 4, 0);
    }
    set_cfg(msix + 2, 2, PCI_MSIX_FLAGS_ENABLE);
}

START_TEST(identity)
{
    ck_assert_uint_eq(cfg(0, 4), 0x106a1af4);
    ck_assert_uint_eq(cfg(PCI_REVISION_ID, 1), 1);
    ck_assert(region->shown && region->base == BAR && region->space == IOD_MMIO);
    ck_assert_uint_eq(cfg(msix + 2, 2), 2); /* two queues and the configuration */
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_NUMQ, 2), 2);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_NOFF, 2), 1);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
    put(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0xffff);
    put(VIRTIO_PCI_COMMON_Q_RESET, 2, 1);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
}
END_TEST

START_TEST(interrupt_pin_by_type)
{
    ck_assert_uint_eq(cfg(PCI_INTERRUPT_PIN, 1), _i == 0 ? 1 : 0);
}
END_TEST

START_TEST(widths)
{
    put(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
    put(VIRTIO_PCI_COMMON_Q_DESCLO, 4, 0x11223340);
    put(VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x55667788);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_DESCLO + 2, 4), 0x77881122);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_DESCLO + 1, 1), 0x33);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SELECT, 4), 0x00100001); /* with the size behind it */
    put(VIRTIO_PCI_COMMON_Q_DESCLO, 2, 0xffff);
    put(VIRTIO_PCI_COMMON_STATUS, 4, 3);
    ck_assert_uint_eq(device->guest_errors, 2);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0x11223340);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
    put(VIRTIO_PCI_COMMON_Q_NOFF, 2, 9);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_NOFF, 2), 1);
    put(VIRTIO_PCI_COMMON_GFSELECT, 4, 7);
    put(VIRTIO_PCI_COMMON_GF, 4, UINT32_MAX);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_GF, 4), 0);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_RESET + 2, 4), 0); /* behind the structure */
}
END_TEST

START_TEST(intx_and_isr)
{
    bring_up();
    one_request();
    ck_assert(guest->intx[4][0]);
    ck_assert_uint_eq(fake_used(guest)[1], 1);
    ck_assert_uint_eq(fake_read(region, isr, 1), 1);
    ck_assert(!guest->intx[4][0]);
    ck_assert_uint_eq(fake_read(region, isr, 1), 0);
    iod_virtio_config_changed(fake.virtio);
    one_request();
    ck_assert_uint_eq(fake_read(region, isr, 1), 3);
    one_request();
    put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
    ck_assert(!guest->intx[4][0]);
    ck_assert_uint_eq(fake_read(region, isr, 1), 0);
    ck_assert_uint_eq(guest->message_count, 0);
}
END_TEST

START_TEST(messages)
{
    bring_up();
    msix_on();
    put(VIRTIO_PCI_COMMON_Q_MSIX, 2, 1);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 1);
    one_request();
    ck_assert_uint_eq(guest->message_count, 1);
    ck_assert_uint_eq(guest->messages[0].data, 0x41);
    iod_virtio_config_changed(fake.virtio); /* no vector yet: nobody is told */
    ck_assert_uint_eq(guest->message_count, 1);
    put(VIRTIO_PCI_COMMON_MSIX, 2, 2);
    iod_virtio_config_changed(fake.virtio);
    ck_assert_uint_eq(guest->messages[1].data, 0x42);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_CFGGENERATION, 1), 2);
    put(VIRTIO_PCI_COMMON_Q_MSIX, 2, 3); /* there is none */
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
    one_request();
    ck_assert_uint_eq(guest->message_count, 2);
    ck_assert_uint_eq(fake_read(region, isr, 1), 0); /* only without MSI-X */
    ck_assert_uint_eq(guest->intx_calls, 0);
    iod_virtio_broken(fake.virtio, "for a test");
    ck_assert_uint_eq(guest->message_count, 3); /* NEEDS_RESET is a configuration change */
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 15 | VIRTIO_CONFIG_S_NEEDS_RESET);
    put(VIRTIO_PCI_COMMON_STATUS, 1, 0);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
    ck_assert(cfg(msix + 2, 2) & PCI_MSIX_FLAGS_ENABLE); /* the bus's own registers stay */
    ck_assert_uint_eq(cfg(0x10, 4), BAR);
}
END_TEST

START_TEST(no_memory_without_bus_mastering)
{
    bring_up();
    set_cfg(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    one_request();
    ck_assert_uint_eq(fake.popped, 0);
    set_cfg(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    fake_tasks(device);
    ck_assert_uint_eq(fake.popped, 1);
}
END_TEST

START_TEST(reset_and_queue_reset_wait)
{
    bring_up();
    fake.keep = true;
    one_request();
    ck_assert_int_eq(fake_pop(&fake), 1);
    ck_assert(!fake_write(region, common + VIRTIO_PCI_COMMON_Q_RESET, 2, 1));
    iod_virtq_push(iod_virtio_queue(fake.virtio, 0), 0, 0);
    iod_virtq_flush(iod_virtio_queue(fake.virtio, 0));
    ck_assert_ptr_null(device->access);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_RESET, 2), 0);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_Q_SIZE, 2), FAKE_SIZE);
    device->slow = true;
    ck_assert(!fake_write(region, common + VIRTIO_PCI_COMMON_STATUS, 1, 0));
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 15);
    fake_quiet(device);
    ck_assert_ptr_null(device->access);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
}
END_TEST

START_TEST(the_window_in_configuration_space)
{
    memcpy(fake.config, "abcdefgh", 8);
    set_cfg(window + 4, 1, 0);
    set_cfg(window + 8, 4, config + 4);
    set_cfg(window + 12, 4, 4);
    ck_assert_uint_eq(cfg(window + 16, 4), 0x68676665);
    set_cfg(window + 12, 4, 2);
    ck_assert_uint_eq(cfg(window + 16, 2), 0x6665);
    set_cfg(window + 16, 2, 0x3231);
    ck_assert_int_eq(memcmp(fake.config, "abcd12gh", 8), 0);
    /* Where it must not reach. */
    set_cfg(window + 12, 4, 3);
    set_cfg(window + 16, 4, 0);
    set_cfg(window + 12, 4, 4);
    set_cfg(window + 8, 4, config + 2);
    set_cfg(window + 16, 4, 0);
    set_cfg(window + 8, 4, region->length);
    set_cfg(window + 16, 4, 0);
    set_cfg(window + 8, 4, 0xfffffffc);
    set_cfg(window + 16, 4, 0);
    set_cfg(window + 8, 4, config);
    set_cfg(window + 4, 1, 1);
    set_cfg(window + 16, 4, 0);
    ck_assert_int_eq(memcmp(fake.config, "abcd12gh", 8), 0);
    /* A device is reset through it too, and the cycle waits. */
    bring_up();
    device->slow = true;
    set_cfg(window + 4, 1, 0);
    set_cfg(window + 8, 4, common + VIRTIO_PCI_COMMON_STATUS);
    set_cfg(window + 12, 4, 1);
    set_cfg(window + 16, 1, 0);
    ck_assert_ptr_nonnull(device->access);
    fake_quiet(device);
    ck_assert_ptr_null(device->access);
    ck_assert_uint_eq(get(VIRTIO_PCI_COMMON_STATUS, 1), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio-pci");
    TCase *hvm = tcase_create("hvm"), *pvh = tcase_create("pvh");

    tcase_add_checked_fixture(hvm, setup_hvm, teardown);
    tcase_add_test(hvm, identity);
    tcase_add_loop_test(hvm, interrupt_pin_by_type, 0, 1);
    tcase_add_test(hvm, widths);
    tcase_add_test(hvm, intx_and_isr);
    tcase_add_test(hvm, messages);
    tcase_add_test(hvm, no_memory_without_bus_mastering);
    tcase_add_test(hvm, reset_and_queue_reset_wait);
    tcase_add_test(hvm, the_window_in_configuration_space);
    tcase_add_checked_fixture(pvh, setup_pvh, teardown);
    tcase_add_loop_test(pvh, interrupt_pin_by_type, 1, 2);
    tcase_add_test(pvh, messages);
    suite_add_tcase(suite, hvm);
    suite_add_tcase(suite, pvh);
    return unit_run(suite);
}
