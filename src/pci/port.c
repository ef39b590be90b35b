/* SPDX-License-Identifier: BSD-2-Clause */
#include "pci/port.h"

#include <errno.h>

#include <ioreqd/module.h>
#include <ioreqd/option.h>

#include "core/limit.h"
#include "pci/bus.h"
#include "pci/modules.h"

#define CLASS_BRIDGE_PCI 0x060400u
#define CAPABILITY_LENGTH 0x3cu /* version 2 */
#define SLOT_MAX 32

/* What the guest clears by writing ones. */
#define SLOT_EVENTS (PCI_EXP_SLTSTA_ABP | PCI_EXP_SLTSTA_PFD | PCI_EXP_SLTSTA_MRLSC | PCI_EXP_SLTSTA_PDC | \
                     PCI_EXP_SLTSTA_CC | PCI_EXP_SLTSTA_DLLSC)

struct pci_port {
    struct list link; /* of the bus */
    struct iod_device *device;
    struct iod_pci *pci;
    unsigned number;
    uint8_t capability;    /* offset of the PCI Express capability */
    struct iod_pci *child; /* what is plugged in; NULL: the slot is empty */
    bool present;          /* and the guest may see it */
    bool signalled;        /* the condition for an interrupt held when it was looked at last */
    bool resetting;        /* the power is off; the device behind it is being reset */
};

unsigned pci_port_number(const struct pci_port *port)
{
    return port->number;
}

static uint16_t get16(const struct pci_port *port, unsigned offset)
{
    return pci_get16(port->pci, port->capability + offset);
}

static void set16(struct pci_port *port, unsigned offset, uint16_t value)
{
    uint8_t *bytes = pci_regs(port->pci)->config + port->capability + offset;

    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

static bool powered(const struct pci_port *port)
{
    return !(get16(port, PCI_EXP_SLTCTL) & PCI_EXP_SLTCTL_PCC) && !port->resetting;
}

static bool link_up(const struct pci_port *port)
{
    return port->present && powered(port);
}

/* ---- interrupts: one message when the condition becomes true (6.7.3.4) ---- */

static void signal_events(struct pci_port *port)
{
    uint16_t control = get16(port, PCI_EXP_SLTCTL), status = get16(port, PCI_EXP_SLTSTA);
    bool wanted = ((control & PCI_EXP_SLTCTL_ABPE) && (status & PCI_EXP_SLTSTA_ABP)) ||
                  ((control & PCI_EXP_SLTCTL_PDCE) && (status & PCI_EXP_SLTSTA_PDC)) ||
                  ((control & PCI_EXP_SLTCTL_CCIE) && (status & PCI_EXP_SLTSTA_CC)) ||
                  ((control & PCI_EXP_SLTCTL_DLLSCE) && (status & PCI_EXP_SLTSTA_DLLSC));

    wanted = wanted && (control & PCI_EXP_SLTCTL_HPIE);
    if (wanted && !port->signalled) {
        iod_msi_send(port->pci, 0);
    }
    port->signalled = wanted;
}

/* The bits that follow from what is plugged in; a change of the link is an event. */
static void show_link(struct pci_port *port)
{
    uint16_t link = PCI_EXP_LNKSTA_CLS_2_5GB | PCI_EXP_LNKSTA_NLW_X1, status = get16(port, PCI_EXP_SLTSTA);

    if (link_up(port)) {
        link |= PCI_EXP_LNKSTA_DLLLA;
    }
    if ((link ^ get16(port, PCI_EXP_LNKSTA)) & PCI_EXP_LNKSTA_DLLLA) {
        status |= PCI_EXP_SLTSTA_DLLSC;
    }
    status = (uint16_t)((status & ~PCI_EXP_SLTSTA_PDS) | (port->present ? PCI_EXP_SLTSTA_PDS : 0));
    set16(port, PCI_EXP_LNKSTA, link);
    set16(port, PCI_EXP_SLTSTA, status);
}

static void event(struct pci_port *port, uint16_t bit)
{
    set16(port, PCI_EXP_SLTSTA, get16(port, PCI_EXP_SLTSTA) | bit);
    show_link(port);
    signal_events(port);
}

/* ---- bus numbers ---- */

static uint8_t secondary(const struct pci_port *port)
{
    return pci_regs(port->pci)->config[PCI_SECONDARY_BUS];
}

/* Unless the guest gave another port the same bus number: then it is that one's child's too. */
static void give_up_place(struct pci_port *port)
{
    uint16_t sbdf = port->child->claimed;
    struct pci_port *other;

    port->child->claimed = 0;
    list_for_each(other, &port->pci->bus->ports, struct pci_port, link) {
        if (other->child && other->child->claimed == sbdf) {
            return;
        }
    }
    guest_release_function(device_guest(port->device), sbdf);
}

/* The place that the child had, given up, and the one that it has now, claimed. */
static void claim_child(struct pci_port *port)
{
    struct iod_pci *child = port->child;
    struct guest *guest = device_guest(port->device);
    uint16_t sbdf = (uint16_t)(secondary(port) << 8);

    if (!child || child->claimed == sbdf) {
        return;
    }
    if (child->claimed) {
        give_up_place(port);
    }
    if (sbdf && guest_claim_function(guest, sbdf) == 0) {
        child->claimed = sbdf;
    }
}

struct iod_pci *pci_port_child(const struct pci_bus *bus, uint8_t number)
{
    struct pci_port *port;

    list_for_each(port, &bus->ports, struct pci_port, link) {
        if (secondary(port) == number) {
            return link_up(port) ? port->child : NULL;
        }
    }
    return NULL;
}

struct pci_port *pci_port_find(const struct pci_bus *bus, unsigned number)
{
    struct pci_port *port;

    list_for_each(port, &bus->ports, struct pci_port, link) {
        if (number ? port->number == number : !port->child) {
            return port;
        }
    }
    return NULL;
}

/* ---- plugging ---- */

int pci_port_plug(struct pci_port *port, struct iod_pci *child, struct iod_error *error)
{
    if (port->child) {
        return iod_fail(error, EBUSY, "%s: slot %u is taken by %s", iod_device_id(child->device), port->number,
                        iod_device_id(port->child->device));
    }
    port->child = child;
    child->port = port;
    claim_child(port);
    return 0;
}

void pci_port_present(struct pci_port *port)
{
    if (!port->present) {
        port->present = true;
        /*
         * As if somebody plugged it in and pressed the button: where there is one, Linux has the interrupt for presence
         * disabled, and without power no link comes up that could tell.
         */
        event(port, PCI_EXP_SLTSTA_PDC | (powered(port) ? 0 : PCI_EXP_SLTSTA_ABP));
    }
}

void pci_port_unplug(struct pci_port *port)
{
    bool was_present = port->present;

    if (port->child->claimed) {
        give_up_place(port);
    }
    port->child->port = NULL;
    port->child->bus = NULL;
    port->child = NULL;
    port->present = port->resetting = false;
    if (was_present) {
        event(port, PCI_EXP_SLTSTA_PDC);
    }
}

bool pci_port_removable(struct pci_port *port, struct iod_error *error)
{
    const uint16_t listens = PCI_EXP_SLTCTL_HPIE | PCI_EXP_SLTCTL_ABPE;
    uint16_t command = pci_get16(port->child, PCI_COMMAND);

    if (!link_up(port) || !(command & (PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY))) {
        return true;
    }
    if ((get16(port, PCI_EXP_SLTCTL) & listens) != listens) {
        iod_fail(error, EBUSY, "%s: the guest drives it and does not listen to the button of slot %u: remove it in the "
                 "guest first, or use --force", iod_device_id(port->child->device), port->number);
        return false;
    }
    if (!device_asked(port->child->device)) { /* a second press would take the first one back */
        event(port, PCI_EXP_SLTSTA_ABP);
    }
    iod_fail(error, EINPROGRESS, "%s: the guest was asked to let go of slot %u",
             iod_device_id(port->child->device), port->number);
    return false;
}

bool pci_port_empty(const struct iod_pci *pci, struct iod_error *error)
{
    struct pci_port *port;

    if (!pci->bus) {
        return true;
    }
    list_for_each(port, &pci->bus->ports, struct pci_port, link) {
        if (port->pci == pci && port->child) {
            iod_fail(error, EBUSY, "%s: %s is plugged in there: remove that first", iod_device_id(pci->device),
                     iod_device_id(port->child->device));
            return false;
        }
    }
    return true;
}

/* ---- power ---- */

static void power_off_done(void *self)
{
    struct iod_pci *child = self;
    struct pci_port *port = child->port;
    struct iod_device *device = child->device;

    if (!port || !port->resetting) {
        return; /* the port is gone */
    }
    device_reset(device, true);
    device_resume(device);
    port->resetting = false;
    show_link(port); /* the guest may have switched the power on again */
    signal_events(port);
    if (!powered(port)) {
        device_let_go(device); /* if it was asked for */
    }
}

static void power_changed(struct pci_port *port)
{
    if (!powered(port) && port->present && !port->resetting) {
        port->resetting = true;
        show_link(port);
        limit_charge_device(port->device, DEED_RESET, 1);
        device_stop(port->child->device, &port->child->power_stop, IOD_CANCEL, power_off_done, port->child);
    } else {
        show_link(port);
    }
}

/* ---- the port's own configuration space ---- */

static bool touches(unsigned offset, unsigned width, unsigned start, unsigned length)
{
    return offset < start + length && start < offset + width;
}

static void clear_events(struct pci_port *port, unsigned offset, unsigned width, uint32_t value)
{
    unsigned at = port->capability + PCI_EXP_SLTSTA;
    uint16_t ones = 0;

    for (unsigned i = 0; i < width; i++) {
        if (offset + i == at || offset + i == at + 1) {
            ones |= (uint16_t)(((value >> (8 * i)) & 0xff) << (8 * (offset + i - at)));
        }
    }
    set16(port, PCI_EXP_SLTSTA, get16(port, PCI_EXP_SLTSTA) & (uint16_t)~(ones & SLOT_EVENTS));
}

static void port_config_write(void *self, unsigned offset, unsigned width, uint32_t value)
{
    struct pci_port *port = self;

    if (touches(offset, width, PCI_SECONDARY_BUS, 1)) {
        claim_child(port);
    }
    if (touches(offset, width, port->capability + PCI_EXP_SLTCTL, 4)) {
        clear_events(port, offset, width, value);
        power_changed(port);
        signal_events(port);
    }
}

static const struct iod_pci_ops port_ops = {.size = sizeof(port_ops), .config_write = port_config_write};

static void put16(uint8_t *body, unsigned offset, uint16_t value)
{
    body[offset - 2] = (uint8_t)value; /* the body begins behind id and next pointer */
    body[offset - 1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *body, unsigned offset, uint32_t value)
{
    put16(body, offset, (uint16_t)value);
    put16(body, offset + 2, (uint16_t)(value >> 16));
}

static int add_capability(struct pci_port *port, struct iod_error *error)
{
    uint8_t body[CAPABILITY_LENGTH - 2] = {0}, writable[CAPABILITY_LENGTH - 2] = {0};
    int at;

    put16(body, PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ROOT_PORT << 4 | PCI_EXP_FLAGS_SLOT);
    put32(body, PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER);
    put16(writable, PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE | PCI_EXP_DEVCTL_FERE |
                                        PCI_EXP_DEVCTL_URRE | PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_PAYLOAD);
    put32(body, PCI_EXP_LNKCAP, PCI_EXP_LNKCAP_SLS_2_5GB | 1 << 4 | PCI_EXP_LNKCAP_DLLLARC | port->number << 24);
    put16(writable, PCI_EXP_LNKCTL, PCI_EXP_LNKCTL_LD | PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES);
    put16(body, PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_CLS_2_5GB | PCI_EXP_LNKSTA_NLW_X1);
    put32(body, PCI_EXP_SLTCAP, PCI_EXP_SLTCAP_ABP | PCI_EXP_SLTCAP_PCP | PCI_EXP_SLTCAP_PIP | PCI_EXP_SLTCAP_HPS |
                                    PCI_EXP_SLTCAP_HPC | PCI_EXP_SLTCAP_NCCS | port->number << 19);
    put16(body, PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_PWR_IND_ON | PCI_EXP_SLTCTL_ATTN_IND_OFF);
    put16(writable, PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_ABPE | PCI_EXP_SLTCTL_PFDE | PCI_EXP_SLTCTL_MRLSCE |
                                        PCI_EXP_SLTCTL_PDCE | PCI_EXP_SLTCTL_CCIE | PCI_EXP_SLTCTL_HPIE |
                                        PCI_EXP_SLTCTL_AIC | PCI_EXP_SLTCTL_PIC | PCI_EXP_SLTCTL_PCC |
                                        PCI_EXP_SLTCTL_DLLSCE);
    put16(writable, PCI_EXP_RTCTL, PCI_EXP_RTCTL_SECEE | PCI_EXP_RTCTL_SENFEE | PCI_EXP_RTCTL_SEFEE |
                                       PCI_EXP_RTCTL_PMEIE);
    put32(body, PCI_EXP_LNKCAP2, PCI_EXP_LNKCAP2_SLS_2_5GB);
    put16(body, PCI_EXP_LNKCTL2, PCI_EXP_LNKCTL2_TLS_2_5GT);
    at = iod_pci_capability(port->pci, PCI_CAP_ID_EXP, body, writable, sizeof(body));
    if (at < 0) {
        return iod_fail(error, -at, "%s: no room for the PCI Express capability", iod_device_id(port->device));
    }
    port->capability = (uint8_t)at;
    return 0;
}

/* A type 1 header; windows are kept for the guest, and what is behind answers wherever its BARs say. */
static void make_bridge(struct iod_pci *pci)
{
    static const uint8_t type = PCI_HEADER_TYPE_BRIDGE;
    static const uint8_t prefetch[4] = {PCI_PREF_RANGE_TYPE_64, 0, PCI_PREF_RANGE_TYPE_64, 0};
    static const uint8_t numbers[3] = {0xff, 0xff, 0xff}, io[2] = {0xf0, 0xf0}, window[4] = {0xf0, 0xff, 0xf0, 0xff};
    static const uint8_t upper[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t command = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    static const uint8_t control = PCI_BRIDGE_CTL_PARITY | PCI_BRIDGE_CTL_SERR;

    iod_pci_config_set(pci, PCI_HEADER_TYPE, &type, 1);
    iod_pci_config_set(pci, PCI_PREF_MEMORY_BASE, prefetch, sizeof(prefetch));
    iod_pci_config_writable(pci, PCI_COMMAND, &command, 1);
    iod_pci_config_writable(pci, PCI_PRIMARY_BUS, numbers, sizeof(numbers));
    iod_pci_config_writable(pci, PCI_IO_BASE, io, sizeof(io));
    iod_pci_config_writable(pci, PCI_MEMORY_BASE, window, sizeof(window));
    iod_pci_config_writable(pci, PCI_PREF_MEMORY_BASE, window, sizeof(window));
    iod_pci_config_writable(pci, PCI_PREF_BASE_UPPER32, upper, sizeof(upper));
    iod_pci_config_writable(pci, PCI_BRIDGE_CONTROL, &control, 1);
}

/* ---- the device ---- */

static int port_create(struct iod_device *device, struct iod_error *error)
{
    static const struct iod_pci_ids ids = {
        .vendor = 0x1b36, .device = 0x000c, /* Red Hat's generic PCIe root port, as guests know it from QEMU */
        .class_code = CLASS_BRIDGE_PCI,
    };
    struct pci_port *port = iod_self(device);
    struct guest *guest = device_guest(device);
    struct pci_bus *bus;

    list_init(&port->link);
    port->device = device;
    port->number = (unsigned)iod_option_number(iod_device_options(device), "number");
    if (guest_type(guest) == GUEST_HVM) {
        return iod_fail(error, EOPNOTSUPP, "%s: slots are of PVH guests only: the firmware of an HVM guest "
                        "misplaces what is behind a bridge", iod_device_id(device));
    }
    port->pci = iod_pci_add(device, &ids, -1, &port_ops, port, error);
    if (!port->pci) {
        return error->code ? -error->code : -EINVAL;
    }
    make_bridge(port->pci);
    if (add_capability(port, error) || iod_pci_msi(port->pci, 1, error)) {
        return -error->code;
    }
    bus = port->pci->bus;
    if (pci_port_find(bus, port->number)) {
        return iod_fail(error, EBUSY, "%s: there is a slot %u already", iod_device_id(device), port->number);
    }
    list_add_tail(&bus->ports, &port->link);
    return 0;
}

/* Also after a reset or a load: what is plugged in is no state of the guest's. */
static void port_start(struct iod_device *device)
{
    struct pci_port *port = iod_self(device);

    claim_child(port);
    show_link(port);
    signal_events(port);
}

static void port_destroy(struct iod_device *device)
{
    struct pci_port *port = iod_self(device);

    if (port->child) {
        pci_port_unplug(port);
    }
    list_remove(&port->link);
}

static const struct iod_option port_options[] = {
    {.name = "number", .type = IOD_OPTION_NUMBER, .min = 1, .max = SLOT_MAX, .required = true,
     .help = "the slot's number, as the guest sees it and as slot= names it"},
    {.name = NULL},
};

static const struct iod_device_class port_class = {
    .size = sizeof(struct iod_device_class),
    .name = "pcie-root-port",
    .summary = "PCIe root port with a hot-plug slot (PVH); slots=N of a guest makes N of them",
    .self_size = sizeof(struct pci_port),
    .version = 1,
    .options = port_options,
    .create = port_create,
    .start = port_start,
    .destroy = port_destroy,
};

static const struct iod_device_class *const devices[] = {&port_class, NULL};

const struct iod_module iod_module_pci = {
    .size = sizeof(struct iod_module),
    .abi = IOD_ABI,
    .devices = devices,
};
