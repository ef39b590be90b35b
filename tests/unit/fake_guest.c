/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest: what it is, its bus and interrupts, and its memory. */
#include "fake_guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct iod_window {
    struct iod_device *device;
    uint64_t address;
    size_t length;
};

/* ---- the guest ---- */

struct guest *fake_guest(enum guest_arch arch, enum guest_type type)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    if (!guest) {
        abort();
    }
    guest->arch = arch;
    guest->type = type;
    return guest;
}

void fake_guest_free(struct guest *guest)
{
    if (guest->bus) {
        guest->bus_ops->destroy(guest->bus);
    }
    free(guest);
}

enum guest_arch guest_arch(const struct guest *guest)
{
    return guest->arch;
}

enum guest_type guest_type(const struct guest *guest)
{
    return guest->type;
}

bool guest_beside(const struct guest *guest)
{
    return guest->beside;
}

void *guest_bus(const struct guest *guest)
{
    return guest->bus;
}

void guest_bus_set(struct guest *guest, void *bus, const struct config_space_ops *ops)
{
    guest->bus = bus;
    guest->bus_ops = ops;
}

int guest_claim_function(struct guest *guest, uint16_t sbdf)
{
    guest->claimed[sbdf] = true;
    return 0;
}

const char *guest_function_owner(const struct guest *guest, uint16_t sbdf, char *text, size_t size)
{
    return guest->foreign && guest->foreign == sbdf ? "somebody else" : NULL;
}

void guest_release_function(struct guest *guest, uint16_t sbdf)
{
    guest->claimed[sbdf] = false;
}

int guest_msi(struct guest *guest, uint64_t address, uint32_t data)
{
    if (guest->message_count < FAKE_MESSAGES) {
        guest->messages[guest->message_count].address = address;
        guest->messages[guest->message_count].data = data;
    }
    guest->message_count++;
    return 0;
}

int guest_intx(struct guest *guest, uint8_t slot, uint8_t pin, bool level)
{
    guest->intx[slot][pin] = level;
    guest->intx_calls++;
    return 0;
}

/* ---- its memory ---- */

void *fake_at(struct guest *guest, uint64_t address, size_t length)
{
    if (address < FAKE_BASE || length > FAKE_MEMORY || address - FAKE_BASE > FAKE_MEMORY - length) {
        abort();
    }
    return guest->memory + (address - FAKE_BASE);
}

static uint8_t *there(struct iod_device *device, uint64_t address, size_t length)
{
    if (address < FAKE_BASE || length > FAKE_MEMORY || address - FAKE_BASE > FAKE_MEMORY - length) {
        return NULL;
    }
    return device->guest->memory + (address - FAKE_BASE);
}

int iod_dma_read(struct iod_device *device, uint64_t address, void *to, size_t length)
{
    const uint8_t *from = there(device, address, length);

    if (!from) {
        return -EFAULT;
    }
    memcpy(to, from, length);
    return 0;
}

int iod_dma_write(struct iod_device *device, uint64_t address, const void *from, size_t length)
{
    uint8_t *to = there(device, address, length);

    if (!to) {
        return -EFAULT;
    }
    memcpy(to, from, length);
    return 0;
}

struct iod_window *iod_window_open(struct iod_device *device, uint64_t address, size_t length)
{
    struct iod_window *window = malloc(sizeof(*window));

    if (window) {
        *window = (struct iod_window){device, address, length};
    }
    return window;
}

int iod_window_read(struct iod_window *window, size_t offset, void *to, size_t length)
{
    if (offset > window->length || length > window->length - offset) {
        return -EFAULT;
    }
    return iod_dma_read(window->device, window->address + offset, to, length);
}

int iod_window_write(struct iod_window *window, size_t offset, const void *from, size_t length)
{
    if (offset > window->length || length > window->length - offset) {
        return -EFAULT;
    }
    return iod_dma_write(window->device, window->address + offset, from, length);
}

void iod_window_close(struct iod_window *window)
{
    free(window);
}
