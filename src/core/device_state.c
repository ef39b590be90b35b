/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The saved form of one device: class, version, the resolved spec, regs by their fields, the parts, the
 * timers, and what the class itself adds. Loading treats its input as hostile.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/inside.h"
#include "core/state.h"
#include "core/timer.h"

#define PART_NAME_MAX 48

static void save_part(const struct device_part *part, struct iod_writer *writer)
{
    char name[PART_NAME_MAX];
    snprintf(name, sizeof(name), "part.%s", part->ops->name);
    size_t mark = writer_begin(writer, name);
    if (part->ops->fields) {
        fields_save(part->ops->fields, part->regs, writer);
    }
    if (part->ops->save) {
        int error = part->ops->save(part, writer);
        writer->error = writer->error ? writer->error : error;
    }
    writer_end(writer, mark);
}

int device_save(const struct iod_device *device, struct iod_writer *writer)
{
    const struct iod_device_class *class = device->class;
    const struct list *l;
    if (device->state != DEVICE_STOPPED) {
        return -EBUSY;
    }
    iod_put(writer, "class", class->name, strlen(class->name));
    iod_put_number(writer, "version", class->version, 4);
    iod_put(writer, "spec", device->spec.text, strlen(device->spec.text));
    size_t mark = writer_begin(writer, "regs");
    if (class->fields) {
        fields_save(class->fields, device->regs, writer);
    }
    writer_end(writer, mark);
    for (l = device->parts.next; l != &device->parts; l = l->next) {
        save_part(list_entry(l, struct device_part, link), writer);
    }
    mark = writer_begin(writer, "timers");
    timers_save(device, writer);
    writer_end(writer, mark);
    mark = writer_begin(writer, "own");
    if (TABLE_HAS(class, save)) {
        int error = class->save(device, writer);
        writer->error = writer->error ? writer->error : error;
    }
    writer_end(writer, mark);
    return writer->error;
}

static int load_part(struct device_part *part, const struct iod_reader *reader, struct iod_error *error)
{
    char name[PART_NAME_MAX];
    struct iod_reader nested;
    snprintf(name, sizeof(name), "part.%s", part->ops->name);
    int result = reader_nested(reader, name, &nested, error);
    if (result) {
        return result;
    }
    if (part->ops->fields) {
        result = fields_load(part->ops->fields, part->regs, part->ops->regs_size, &nested, error);
    }
    return result || !part->ops->load ? result : part->ops->load(part, &nested, error);
}

static int check_class(const struct iod_device *device, struct iod_reader *reader, struct iod_error *error)
{
    const void *name;
    size_t length;
    uint64_t version;
    const struct iod_device_class *class = device->class;
    if (iod_get_bytes(reader, "class", &name, &length) || iod_get_number(reader, "version", &version, 4)) {
        return iod_fail(error, EINVAL, "%s: saved state: not the state of a device", device->id);
    }
    if (length != strlen(class->name) || memcmp(name, class->name, length)) {
        return iod_fail(error, EINVAL, "%s: saved state: it is of another class than %s", device->id,
                        class->name);
    }
    return 0;
}

static int load_own(struct iod_device *device, const struct iod_reader *reader, struct iod_error *error)
{
    struct iod_reader nested;
    const struct iod_device_class *class = device->class;
    int result = reader_nested(reader, "timers", &nested, error);
    if (result) {
        return result;
    }
    result = timers_load(device, &nested);
    if (result) {
        return iod_fail(error, EINVAL, "%s: saved state: a timer is malformed", device->id);
    }
    result = reader_nested(reader, "own", &nested, error);
    if (result) {
        return result;
    }
    return TABLE_HAS(class, load) ? class->load(device, &nested, error) : 0;
}

int device_load(struct iod_device *device, struct iod_reader *reader, struct iod_error *error)
{
    struct iod_reader nested;
    struct device_part *part;
    const struct iod_device_class *class = device->class;
    if (device->state != DEVICE_STOPPED) {
        return iod_fail(error, EBUSY, "%s: state can be loaded only before the device starts", device->id);
    }
    int result = check_class(device, reader, error);
    if (!result) {
        result = reader_nested(reader, "regs", &nested, error);
    }
    if (!result && class->fields) {
        result = fields_load(class->fields, device->regs, class->regs_size, &nested, error);
    }
    list_for_each(part, &device->parts, struct device_part, link) {
        result = result ? result : load_part(part, reader, error);
    }
    return result ? result : load_own(device, reader, error);
}
