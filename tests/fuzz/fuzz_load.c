/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes as the saved state of a real device: uart16550, virtio-blk on virtio-pci and on virtio-mmio, with
 * their parts (PCI function, MSI-X, transport, queues). The state is the device's own with patches out of the
 * input, or raw bytes. What loads must live: start, accesses, I/O, stop; what is refused must say why, and a
 * reset makes the device good again.
 */
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include <ioreqd/block.h>
#include <ioreqd/dma.h>
#include <ioreqd/loop.h>

#include "backend/backends.h"
#include "core/state.h"
#include "fuzz.h"
#include "machine.h"

extern const struct iod_module iod_module_uart16550, iod_module_virtio_blk;

struct input {
    const uint8_t *bytes;
    size_t left;
};

static uint8_t next_byte(struct input *input)
{
    if (!input->left) {
        return 0;
    }
    input->left--;
    return *input->bytes++;
}

static uint32_t next_number(struct input *input, unsigned bytes)
{
    uint32_t value = 0;
    while (bytes--) {
        value = value << 8 | next_byte(input);
    }
    return value;
}

/* ---- a disk that takes all and keeps nothing ---- */

struct own {
    struct iod_block_request *next;
};

struct disk {
    struct iod_block *block;
    struct iod_task *task;
    struct iod_block_request *first;
    bool quiescing;
};

static void complete_all(void *self)
{
    struct disk *disk = self;
    while (disk->first) {
        struct iod_block_request *request = disk->first;
        disk->first = ((struct own *)iod_block_request_own(disk->block, request))->next;
        iod_block_complete(disk->block, request, 0);
    }
    if (disk->quiescing) {
        disk->quiescing = false;
        iod_block_done(disk->block, 0);
    }
}

static int disk_open(struct iod_block *block, struct iod_block *below, struct iod_error *error)
{
    struct disk *disk = iod_block_self(block);
    struct iod_block_limits limits = {.capacity = 1 << 20,
                                      .sector = 512,
                                      .physical = 512,
                                      .max_discard = 1 << 20,
                                      .max_zero = 1 << 20,
                                      .depth = 16};
    disk->block = block;
    disk->task = iod_task_add(iod_block_device(block), complete_all, disk);
    FUZZ_CHECK(disk->task);
    iod_block_set_limits(block, &limits);
    return 0;
}

static void disk_submit(struct iod_block *block, struct iod_block_request *request)
{
    struct disk *disk = iod_block_self(block);
    FUZZ_CHECK(request->offset % 512 == 0 && request->length % 512 == 0 &&
               request->offset + request->length <= 1 << 20);
    if (request->data) {
        FUZZ_CHECK(iod_mapping_length(request->data) == request->length);
        unsigned count;
        const struct iovec *iov = iod_mapping_iov(request->data, &count);
        for (unsigned i = 0; request->op == IOD_BLOCK_READ && i < count; i++) {
            memset(iov[i].iov_base, 0x77, iov[i].iov_len);
        }
    }
    ((struct own *)iod_block_request_own(block, request))->next = disk->first;
    disk->first = request;
    iod_task_queue(disk->task);
}

static enum iod_when disk_quiesce(struct iod_block *block, enum iod_drain drain)
{
    struct disk *disk = iod_block_self(block);
    disk->quiescing = disk->first != NULL;
    return disk->quiescing ? IOD_LATER : IOD_NOW;
}

static const struct iod_block_class disk_class = {
    .size = sizeof(disk_class),
    .name = "keeps-nothing",
    .self_size = sizeof(struct disk),
    .request_size = sizeof(struct own),
    .open = disk_open,
    .submit = disk_submit,
    .quiesce = disk_quiesce,
};
static const struct iod_block_class *const blocks[] = {&disk_class, NULL};
static const struct iod_module disk_module = {.size = sizeof(disk_module), .abi = IOD_ABI, .blocks = blocks};

/* ---- the guest ---- */

enum { UART, BLK_PCI, BLK_MMIO, DEVICES };
#define MMIO 0x200000u
#define BARS 0x300000u
#define SLOT 5u

static void send(struct machine *machine, enum request_type type, uint64_t addr, unsigned size, bool read,
                 uint64_t data)
{
    struct request request = {
        .type = type, .addr = addr, .size = size, .count = 1, .read = read, .data = data};
    for (unsigned i = 0; !machine_send(machine, i % MACHINE_VCPUS, &request); i++) {
        FUZZ_CHECK(i < 100); /* a reset may defer its write, but not for ever */
        machine_pass(machine, 1000000);
    }
    machine_run(machine);
}

static void config(struct machine *machine, unsigned offset, unsigned size, uint32_t value)
{
    send(machine, REQUEST_PCI_CONFIG, (uint64_t)(SLOT << 3) << 32 | offset, size, false, value);
}

/* As far as a driver comes: decoding on, or one queue that works. */
static void set_up(struct machine *machine, unsigned kind)
{
    static const uint32_t steps[][2] = {
        {VIRTIO_MMIO_STATUS, 3},
        {VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1},
        {VIRTIO_MMIO_DRIVER_FEATURES, 1},
        {VIRTIO_MMIO_STATUS, 11},
        {VIRTIO_MMIO_QUEUE_SEL, 0},
        {VIRTIO_MMIO_QUEUE_NUM, 8},
        {VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000},
        {VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x2000},
        {VIRTIO_MMIO_QUEUE_USED_LOW, 0x3000},
        {VIRTIO_MMIO_QUEUE_READY, 1},
        {VIRTIO_MMIO_STATUS, 15},
    };
    for (unsigned i = 0; kind == BLK_PCI && i < 6; i++) {
        config(machine, 0x10 + i * 4, 4, BARS + i * 0x10000);
    }
    if (kind == BLK_PCI) {
        config(machine, 4, 2, 7);
    }
    for (unsigned i = 0; kind == BLK_MMIO && i < sizeof(steps) / sizeof(steps[0]); i++) {
        send(machine, REQUEST_COPY, MMIO + steps[i][0], 4, false, steps[i][1]);
    }
}

static void put(struct machine *machine, uint32_t address, const void *bytes, size_t length)
{
    memcpy(machine->memory + address, bytes, length);
}

/* The rings are the input's bytes; with a good request in them a queue that was loaded has work to do. */
static void fill_rings(struct machine *machine, const struct input *input, bool good)
{
    static const struct vring_desc chain[] = {
        {0x4000, 16, VRING_DESC_F_NEXT, 1},
        {0x5000, 1024, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2},
        {0x6000, 1, VRING_DESC_F_WRITE, 0},
    };
    static const uint16_t avail[] = {0, 8, 0, 0, 0, 0, 0, 0, 0, 0};
    size_t length = input->left < 0x800 ? input->left : 0x800;
    put(machine, 0x1000, input->bytes, length);
    put(machine, 0x2000, input->bytes, length);
    if (good) { /* eight times the same chain: how many are new, the loaded index says */
        put(machine, 0x1000, chain, sizeof(chain));
        put(machine, 0x2000, avail, sizeof(avail));
    }
}

static void touch(struct machine *machine, unsigned kind, struct input *input)
{
    uint8_t what = next_byte(input), place = next_byte(input);
    uint32_t data = next_number(input, what & 8 ? 4 : 1);
    unsigned size = 1u << (what % 4 % 3);
    bool read = what & 0x10;
    if (kind == UART) {
        send(machine, REQUEST_PIO, 0x3f8 + place % 8, 1, read, data);
    } else if (kind == BLK_MMIO) {
        send(machine, REQUEST_COPY, MMIO + (what & 4 ? VIRTIO_MMIO_QUEUE_NOTIFY : place * 2u / 4 * 4), 4,
             read, data);
    } else if (what & 4) {
        send(machine, REQUEST_PCI_CONFIG, (uint64_t)(SLOT << 3) << 32 | (place & ~(size - 1)), size, read,
             data);
    } else {
        send(machine, REQUEST_COPY, BARS + (what >> 5) * 0x10000u + place * 16u + (what & 3) * 4, size, read,
             data);
    }
    if (what & 0x80 && place == 0xff) {
        machine_pass(machine, UINT64_C(100000000));
    }
}

/* ---- the state ---- */

static void set_true(void *self)
{
    *(bool *)self = true;
}

static void stop(struct machine *machine, struct iod_device *device, struct device_stop *stop)
{
    bool quiet = false;
    unsigned seconds = 0;
    device_stop(device, stop, IOD_FINISH, set_true, &quiet);
    while (!quiet) {
        FUZZ_CHECK(seconds++ < 100);
        machine_pass(machine, UINT64_C(1000000000));
    }
    FUZZ_CHECK(device_state(device) == DEVICE_STOPPED || device_state(device) == DEVICE_BROKEN);
}

/* The device's own, changed here and there: most of it then passes the outer checks. */
static void patch(struct input *input, struct iod_writer *writer)
{
    for (unsigned count = next_byte(input) % 16; count && writer->length; count--) {
        size_t at = next_number(input, 2) % writer->length;
        for (unsigned i = next_byte(input) % 9; i && at < writer->length; i--) {
            writer->bytes[at++] = next_byte(input);
        }
    }
}

static void load(struct iod_device *device, const uint8_t *bytes, size_t length)
{
    struct iod_reader reader;
    struct iod_error error = {0};
    if (reader_init(&reader, bytes, length, &error) || device_load(device, &reader, &error)) {
        FUZZ_CHECK(error.code && error.text[0]);
        device_reset(device, true);
        return;
    }
    struct iod_writer again; /* what was taken can be saved, and taken once more */
    writer_init(&again);
    FUZZ_CHECK(device_save(device, &again) == 0);
    device_reset(device, true);
    FUZZ_CHECK(reader_init(&reader, again.bytes, again.length, &error) == 0);
    FUZZ_CHECK(device_load(device, &reader, &error) == 0);
    writer_finish(&again);
}

static void save_and_load(struct machine *machine, struct iod_device *device, struct input *input, bool raw)
{
    struct device_stop how;
    struct iod_writer writer;
    stop(machine, device, &how);
    if (device_state(device) != DEVICE_STOPPED) {
        device_resume(device);
        return;
    }
    writer_init(&writer);
    FUZZ_CHECK(device_save(device, &writer) == 0);
    patch(input, &writer);
    device_reset(device, true);
    load(device, raw ? input->bytes : writer.bytes, raw ? input->left : writer.length);
    writer_finish(&writer);
    device_resume(device);
    machine_run(machine);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const char *const specs[DEVICES][2] = {
        [UART] = {"uart16550"},
        [BLK_PCI] = {"virtio-blk,addr=5,block=keeps-nothing"},
        [BLK_MMIO] = {"virtio-blk,bus=mmio,base=0x200000,irq=6,block=keeps-nothing"},
    };
    static const struct iod_module *const modules[] = {&iod_module_backends, &disk_module,
                                                       &iod_module_uart16550, &iod_module_virtio_blk, NULL};
    struct input input = {.bytes = bytes, .left = length < 4096 ? length : 4096};
    uint8_t choice = next_byte(&input);
    unsigned kind = choice % DEVICES, before = next_byte(&input) % 32, after = next_byte(&input) % 64;
    struct machine *machine = machine_start(modules, specs[kind]);
    struct iod_device *device = list_first(&machine_guest(machine)->devices, struct iod_device, link);
    if (choice & 0x40) {
        set_up(machine, kind);
    }
    while (before--) {
        touch(machine, kind, &input);
    }
    fill_rings(machine, &input, choice & 0x20);
    save_and_load(machine, device, &input, choice & 0x80);
    while (after--) {
        touch(machine, kind, &input);
    }
    machine_pass(machine, UINT64_C(2000000000));
    machine_stop(machine);
    return 0;
}
