/* SPDX-License-Identifier: BSD-2-Clause */
/* A shared object of three classes, for test_module.c: linked against nothing, calls the core's iod_fail. */
#include <errno.h>

#include <ioreqd/block.h>
#include <ioreqd/chardev.h>
#include <ioreqd/module.h>

static int create(struct iod_device *device, struct iod_error *error)
{
    return iod_fail(error, ENODEV, "example: no hardware");
}

static const struct iod_option options[] = {
    {.name = "colour", .type = IOD_OPTION_STRING, .fallback = "blue", .help = "of the lamp"},
    {.name = NULL},
};

static const struct iod_device_class lamp = {
    .size = sizeof(lamp), .name = "example-lamp", .summary = "A lamp", .version = 1, .options = options,
    .create = create, .backends = IOD_BACKEND_BLOCK,
};

static int open_block(struct iod_block *block, struct iod_block *below, struct iod_error *error)
{
    return 0;
}

static void submit(struct iod_block *block, struct iod_block_request *request)
{
}

static const struct iod_option slow_options[] = {{.name = "delay", .type = IOD_OPTION_NUMBER}, {.name = NULL}};
static const struct iod_block_class slow = {
    .size = sizeof(slow), .name = "example-slow", .summary = "A slow filter", .filter = true, .open = open_block,
    .submit = submit, .options = slow_options,
};

static int open_chardev(struct iod_chardev *chardev, struct iod_error *error)
{
    return 0;
}

static size_t write_chardev(struct iod_chardev *chardev, const uint8_t *bytes, size_t count)
{
    return count;
}

static const struct iod_chardev_class hole = {
    .size = sizeof(hole), .name = "example-hole", .summary = "Swallows all", .open = open_chardev,
    .write = write_chardev,
};

static const struct iod_device_class *const devices[] = {&lamp, NULL};
static const struct iod_block_class *const blocks[] = {&slow, NULL};
static const struct iod_chardev_class *const chardevs[] = {&hole, NULL};

IOD_MODULE(module_example) = {
    .size = sizeof(struct iod_module), .abi = IOD_ABI, .devices = devices, .blocks = blocks, .chardevs = chardevs,
};
