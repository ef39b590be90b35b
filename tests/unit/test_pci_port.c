/* SPDX-License-Identifier: BSD-2-Clause */
/* A root port as the guest's pciehp sees it: bus numbers, presence, link, power, button, messages. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>

#include <ioreqd/module.h>
#include <ioreqd/pci.h>

#include "core/inspect.h"
#include "fake_guest.h"
#include "pci/modules.h"
#include "pci/port.h"
#include "unit.h"

#define BUS 7
#define PORT_SLOT 4 /* the first default one of bus 0 */
#define CHILD (BUS << 8)

static struct guest *guest;
static struct iod_device *port_device;
static const struct iod_device_class *class;
static const struct iod_pci_ids ids = {.vendor = 0x1af4, .device = 0x1042, .class_code = 0x010000};
static unsigned capability;

static uint32_t read_port(unsigned offset, unsigned width)
{
    return fake_config_read(guest, PORT_SLOT, capability + offset, width);
}

static void write_port(unsigned offset, unsigned width, uint32_t value)
{
    fake_config_write(guest, PORT_SLOT, capability + offset, width, value);
}

static uint32_t read_child(unsigned offset, unsigned width)
{
    struct iod_device *owner = guest->bus_ops->owner(guest->bus, CHILD);

    return owner ? guest->bus_ops->read(guest->bus, CHILD, offset, width) : UINT32_MAX;
}

static void make_port(uint64_t number)
{
    struct iod_error error = {0};

    port_device = fake_device(guest, "slot-1");
    port_device->self = calloc(1, class->self_size);
    port_device->option = number;
    ck_assert_msg(class->create(port_device, &error) == 0, "%s", error.text);
    fake_start(port_device);
    class->start(port_device);
}

static unsigned find_capability(uint8_t id)
{
    unsigned at = fake_config_read(guest, PORT_SLOT, PCI_CAPABILITY_LIST, 1);

    while (at && fake_config_read(guest, PORT_SLOT, at, 1) != id) {
        at = fake_config_read(guest, PORT_SLOT, at + 1, 1);
    }
    return at;
}

/* As Linux does it: bus numbers, MSI, hot-plug interrupts for button, presence and link. */
static void drive_port(void)
{
    unsigned msi = find_capability(PCI_CAP_ID_MSI);

    fake_config_write(guest, PORT_SLOT, PCI_PRIMARY_BUS, 4, BUS << 16 | BUS << 8);
    fake_config_write(guest, PORT_SLOT, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
    fake_config_write(guest, PORT_SLOT, msi + 4, 4, 0xfee00000);
    fake_config_write(guest, PORT_SLOT, msi + 12, 2, 0x41);
    fake_config_write(guest, PORT_SLOT, msi + 2, 2, PCI_MSI_FLAGS_ENABLE);
    write_port(PCI_EXP_SLTCTL, 2,
               PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_DLLSCE);
    write_port(PCI_EXP_SLTSTA, 2, 0xffff);
    guest->message_count = 0;
}

static void setup(void)
{
    class = iod_module_pci.devices[0];
    guest = fake_guest(ARCH_X86, GUEST_PVH);
    make_port(1);
    capability = find_capability(PCI_CAP_ID_EXP);
    drive_port();
}

static void teardown(void)
{
    class->destroy(port_device);
    free(port_device->self);
    fake_device_free(port_device);
    fake_guest_free(guest);
}

static struct iod_device *plug(const char *id)
{
    struct iod_error error = {0};
    struct iod_device *device = fake_device(guest, id);

    device->hot = true;
    struct iod_pci *pci = iod_pci_add(device, &ids, -1, NULL, NULL, &error);
    ck_assert_msg(pci != NULL, "%s", error.text);
    return device;
}

static bool link_up(void)
{
    return read_port(PCI_EXP_LNKSTA, 2) & PCI_EXP_LNKSTA_DLLLA;
}

/* ---- what an operator sees ---- */

static char shown_addr[16];
static uint64_t shown_slot;

static void show_text(struct inspector *inspector, const char *key, const char *value)
{
    if (key && strcmp(key, "addr") == 0) {
        snprintf(shown_addr, sizeof(shown_addr), "%s", value);
    }
}

static void show_number(struct inspector *inspector, const char *key, uint64_t value)
{
    shown_slot = key && strcmp(key, "slot") == 0 ? value : shown_slot;
}

static void show_boolean(struct inspector *inspector, const char *key, bool value)
{
}

static void show_begin(struct inspector *inspector, const char *key)
{
}

static void show_end(struct inspector *inspector)
{
}

static void expect_shown(struct iod_device *device, const char *addr, uint64_t slot)
{
    struct inspector inspector = {.begin_object = show_begin, .begin_list = show_begin, .end = show_end,
                                  .text = show_text, .number = show_number, .boolean = show_boolean};
    const struct device_part *part = fake_part(device, "pci");

    shown_slot = 0;
    part->ops->inspect(part, &inspector);
    ck_assert_str_eq(shown_addr, addr);
    ck_assert_uint_eq(shown_slot, slot);
}

START_TEST(it_is_a_root_port)
{
    ck_assert_uint_eq(fake_config_read(guest, PORT_SLOT, PCI_HEADER_TYPE, 1), PCI_HEADER_TYPE_BRIDGE);
    ck_assert_uint_eq(fake_config_read(guest, PORT_SLOT, PCI_CLASS_REVISION, 4) >> 8, 0x060400);
    ck_assert_uint_eq(fake_config_read(guest, PORT_SLOT, 0x10, 4), 0);
    ck_assert_uint_eq(read_port(PCI_EXP_FLAGS, 2) & PCI_EXP_FLAGS_TYPE, PCI_EXP_TYPE_ROOT_PORT << 4);
    ck_assert(read_port(PCI_EXP_FLAGS, 2) & PCI_EXP_FLAGS_SLOT);
    ck_assert_uint_eq(read_port(PCI_EXP_SLTCAP, 4) >> 19, 1);
    ck_assert(read_port(PCI_EXP_LNKCAP, 4) & PCI_EXP_LNKCAP_DLLLARC);
    ck_assert(!link_up());
    ck_assert(!(read_port(PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_PDS));
    /* What must not change, and windows that must. */
    fake_config_write(guest, PORT_SLOT, PCI_MEMORY_BASE, 4, UINT32_MAX);
    ck_assert_uint_eq(fake_config_read(guest, PORT_SLOT, PCI_MEMORY_BASE, 4), 0xfff0fff0);
    write_port(PCI_EXP_LNKSTA, 2, 0xffff);
    write_port(PCI_EXP_SLTSTA, 2, 0);
    ck_assert(!link_up());
}
END_TEST

START_TEST(a_card_comes)
{
    struct iod_device *device = plug("disk");

    ck_assert_uint_eq(read_child(0, 4), UINT32_MAX); /* not before it runs */
    ck_assert_uint_eq(guest->message_count, 0);
    fake_start(device);
    ck_assert_uint_eq(guest->message_count, 1);
    ck_assert_uint_eq(guest->messages[0].data, 0x41);
    uint16_t status = (uint16_t)read_port(PCI_EXP_SLTSTA, 2);
    ck_assert_uint_eq(status, PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
    write_port(PCI_EXP_SLTSTA, 2, PCI_EXP_SLTSTA_PDC);
    ck_assert_uint_eq(read_port(PCI_EXP_SLTSTA, 2), PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_DLLSC);
    write_port(PCI_EXP_SLTSTA, 2, PCI_EXP_SLTSTA_DLLSC);
    ck_assert(link_up());
    ck_assert_uint_eq(read_child(0, 4), 0x10421af4);
    ck_assert(guest->claimed[CHILD]);
    expect_shown(device, "07:00.0", 1);
    expect_shown(port_device, "04.0", 0);
    /* On another bus it is elsewhere; the old place is given up. */
    fake_config_write(guest, PORT_SLOT, PCI_SECONDARY_BUS, 1, BUS + 1);
    ck_assert(!guest->claimed[CHILD] && guest->claimed[(BUS + 1) << 8]);
    ck_assert_uint_eq(read_child(0, 4), UINT32_MAX);
    fake_config_write(guest, PORT_SLOT, PCI_SECONDARY_BUS, 1, 0);
    ck_assert(!guest->claimed[(BUS + 1) << 8] && !guest->claimed[0]);
    fake_config_write(guest, PORT_SLOT, PCI_SECONDARY_BUS, 1, BUS);
    ck_assert_uint_eq(read_child(0, 4), 0x10421af4);
    fake_device_free(device); /* surprise */
    ck_assert_uint_eq(guest->message_count, 2);
    ck_assert_uint_eq(read_port(PCI_EXP_SLTSTA, 2), PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);
    ck_assert(!link_up() && !guest->claimed[CHILD]);
}
END_TEST

START_TEST(the_guest_lets_go)
{
    struct iod_device *device = plug("disk");
    struct device_part *part;
    struct iod_error error = {0};

    fake_start(device);
    write_port(PCI_EXP_SLTSTA, 2, 0xffff);
    part = fake_part(port_device, "pci");
    ck_assert(!part->ops->removable(part, &error));
    part = fake_part(device, "pci");
    ck_assert(part->ops->removable(part, &error)); /* nobody drives it */
    guest->bus_ops->write(guest->bus, CHILD, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
    ck_assert(!part->ops->removable(part, &error));
    ck_assert_int_eq(error.code, EINPROGRESS);
    ck_assert(read_port(PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_ABP);
    ck_assert_uint_eq(guest->message_count, 2);
    write_port(PCI_EXP_SLTSTA, 2, PCI_EXP_SLTSTA_ABP);
    device->asked = true;
    ck_assert(!part->ops->removable(part, &error)); /* asked once: a second press takes the first one back */
    ck_assert(!(read_port(PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_ABP));
    device->asked = false; /* the guest let its time pass: it is asked again */
    ck_assert(!part->ops->removable(part, &error));
    ck_assert(read_port(PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_ABP);
    device->asked = true;
    /* Power off: the device is reset, then it may go. */
    device->slow = true;
    write_port(PCI_EXP_SLTCTL, 2, read_port(PCI_EXP_SLTCTL, 2) | PCI_EXP_SLTCTL_PCC);
    ck_assert(!link_up());
    ck_assert_uint_eq(read_child(0, 4), UINT32_MAX);
    ck_assert_uint_eq(device->let_go, 0);
    fake_quiet(device);
    ck_assert_uint_eq(device->resets, 1);
    ck_assert_uint_eq(device->let_go, 1);
    fake_device_free(device);
    ck_assert(!(read_port(PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_PDS));
    part = fake_part(port_device, "pci");
    ck_assert(part->ops->removable(part, &error));
}
END_TEST

START_TEST(power_comes_back_during_the_reset)
{
    struct iod_device *device = plug("disk");

    fake_start(device);
    device->slow = true;
    write_port(PCI_EXP_SLTCTL, 2, read_port(PCI_EXP_SLTCTL, 2) | PCI_EXP_SLTCTL_PCC);
    write_port(PCI_EXP_SLTCTL, 2, read_port(PCI_EXP_SLTCTL, 2) & ~PCI_EXP_SLTCTL_PCC);
    ck_assert(!link_up()); /* not before the old requests have ended */
    write_port(PCI_EXP_SLTSTA, 2, 0xffff);
    fake_quiet(device);
    ck_assert(link_up());
    ck_assert(read_port(PCI_EXP_SLTSTA, 2) & PCI_EXP_SLTSTA_DLLSC);
    ck_assert_uint_eq(device->let_go, 0);
    fake_device_free(device);
}
END_TEST

/* The port is taken off while the card behind it, switched off, still waits for its I/O. */
START_TEST(the_port_goes_first)
{
    struct iod_error error = {0};
    struct iod_device *device = plug("disk"), *zero = fake_device(guest, "zero");

    zero->keys.has_slot = true; /* at 00.0 */
    ck_assert_ptr_nonnull(iod_pci_add(zero, &ids, -1, NULL, NULL, &error));
    fake_start(device);
    device->slow = true;
    write_port(PCI_EXP_SLTCTL, 2, read_port(PCI_EXP_SLTCTL, 2) | PCI_EXP_SLTCTL_PCC);
    struct device_part *part = fake_part(port_device, "pci");
    ck_assert(!part->ops->removable(part, &error)); /* but by force */
    ck_says(error, "disk is plugged in there");
    class->destroy(port_device);
    free(port_device->self);
    fake_device_free(port_device);
    ck_assert(!guest->claimed[CHILD]);
    fake_quiet(device);
    ck_assert_uint_eq(device->let_go, 0);
    fake_device_free(device);
    ck_assert(guest->claimed[0]); /* the card had no place on bus 0 */
    ck_assert_uint_eq(fake_config_read(guest, 0, 0, 4), 0x10421af4);
    fake_device_free(zero);
    make_port(1); /* for the teardown */
}
END_TEST

START_TEST(two_ports_of_one_number)
{
    struct iod_device *first = plug("first"), *one = port_device;

    make_port(2);
    struct iod_device *second = plug("second");
    fake_start(first);
    fake_start(second);
    fake_config_write(guest, PORT_SLOT + 1, PCI_SECONDARY_BUS, 1, BUS);
    fake_config_write(guest, PORT_SLOT, PCI_SECONDARY_BUS, 1, BUS + 1);
    ck_assert(guest->claimed[CHILD] && guest->claimed[(BUS + 1) << 8]);
    ck_assert_uint_eq(read_child(0, 4), 0x10421af4);
    fake_config_write(guest, PORT_SLOT, PCI_SECONDARY_BUS, 1, BUS);
    fake_device_free(first);
    ck_assert(guest->claimed[CHILD]);
    fake_device_free(second);
    ck_assert(!guest->claimed[CHILD]);
    class->destroy(port_device);
    free(port_device->self);
    fake_device_free(port_device);
    port_device = one;
}
END_TEST

START_TEST(power_off_is_charged)
{
    struct iod_device *device = plug("disk");

    fake_start(device);
    for (unsigned i = 0; i < 3; i++) {
        write_port(PCI_EXP_SLTCTL, 2, read_port(PCI_EXP_SLTCTL, 2) | PCI_EXP_SLTCTL_PCC);
        write_port(PCI_EXP_SLTCTL, 2, read_port(PCI_EXP_SLTCTL, 2) & ~PCI_EXP_SLTCTL_PCC);
    }
    ck_assert_uint_eq(port_device->deeds[DEED_RESET], 3);
    fake_device_free(device);
}
END_TEST

START_TEST(a_card_comes_to_a_slot_without_power)
{
    write_port(PCI_EXP_SLTCTL, 2, PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_PCC);
    struct iod_device *device = plug("disk");

    fake_start(device);
    ck_assert_uint_eq(guest->message_count, 1);
    ck_assert_uint_eq(read_port(PCI_EXP_SLTSTA, 2), PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_ABP);
    ck_assert(!link_up());
    write_port(PCI_EXP_SLTCTL, 2, PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_ABPE);
    ck_assert(link_up());
    ck_assert_uint_eq(read_child(0, 4), 0x10421af4);
    fake_device_free(device);
}
END_TEST

START_TEST(a_guest_that_does_not_listen)
{
    struct iod_device *device = plug("disk");
    struct device_part *part = fake_part(device, "pci");
    struct iod_error error = {0};

    fake_start(device);
    write_port(PCI_EXP_SLTCTL, 2, 0);
    guest->bus_ops->write(guest->bus, CHILD, PCI_COMMAND, 2, PCI_COMMAND_MASTER);
    ck_assert(!part->ops->removable(part, &error));
    ck_assert_int_eq(error.code, EBUSY);
    ck_says(error, "--force");
    /* Enabled with an event that waits: it is told now. */
    guest->message_count = 0;
    write_port(PCI_EXP_SLTCTL, 2, PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_PDCE);
    ck_assert_uint_eq(guest->message_count, 1);
    fake_device_free(device);
}
END_TEST

START_TEST(places)
{
    struct iod_device *first = plug("first"), *second = fake_device(guest, "second");
    struct iod_error error = {0};

    second->hot = true;
    ck_assert_ptr_null(iod_pci_add(second, &ids, -1, NULL, NULL, &error));
    ck_says(error, "no slot is empty");
    fake_device_free(second);
    second = fake_device(guest, "second");
    second->keys.has_port = true;
    second->keys.port = 1;
    ck_assert_ptr_null(iod_pci_add(second, &ids, -1, NULL, NULL, &error));
    ck_says(error, "slot 1 is taken by first");
    fake_device_free(second);
    second = fake_device(guest, "second");
    second->keys.has_port = true;
    second->keys.port = 9;
    ck_assert_ptr_null(iod_pci_add(second, &ids, -1, NULL, NULL, &error));
    ck_says(error, "no such slot");
    fake_device_free(second);
    fake_device_free(first);
    second = fake_device(guest, "cold"); /* at boot, without slot=: on bus 0 */
    ck_assert_ptr_nonnull(iod_pci_add(second, &ids, -1, NULL, NULL, &error));
    ck_assert_uint_eq(fake_config_read(guest, PORT_SLOT + 1, 0, 4), 0x10421af4);
    fake_device_free(second);
}
END_TEST

START_TEST(not_for_hvm)
{
    struct guest *hvm = fake_guest(ARCH_X86, GUEST_HVM);
    struct iod_device *device = fake_device(hvm, "slot-1");
    struct iod_error error = {0};

    device->self = calloc(1, class->self_size);
    device->option = 1;
    ck_assert_int_lt(class->create(device, &error), 0);
    ck_says(error, "PVH");
    class->destroy(device);
    free(device->self);
    fake_device_free(device);
    fake_guest_free(hvm);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pci-port");
    TCase *tcase = tcase_create("port");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, it_is_a_root_port);
    tcase_add_test(tcase, a_card_comes);
    tcase_add_test(tcase, the_guest_lets_go);
    tcase_add_test(tcase, power_comes_back_during_the_reset);
    tcase_add_test(tcase, the_port_goes_first);
    tcase_add_test(tcase, two_ports_of_one_number);
    tcase_add_test(tcase, power_off_is_charged);
    tcase_add_test(tcase, a_card_comes_to_a_slot_without_power);
    tcase_add_test(tcase, a_guest_that_does_not_listen);
    tcase_add_test(tcase, places);
    tcase_add_test(tcase, not_for_hvm);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
