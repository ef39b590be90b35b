/* SPDX-License-Identifier: BSD-2-Clause */
/* `ioreqd --check` of a guest's xl.cfg: its disks for ioreqd come by xenstore, and libxl has its own ways
 * with them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/check.h"
#include "config/source.h"
#include "config/xl_cfg.h"

enum {
    CFG_BYTES = 1 << 20,
    IDE_DISKS = 4, /* that QEMU takes of an HVM guest, whatever their names */
    AHCI_DISKS = 6,
};

struct xl_check {
    struct xl_cfg cfg;
    struct guest_spec guest; /* its disks, for check_images */
    bool hvm, ahci;
    struct findings *findings;
};

static bool is(const struct xl_value *value, const char *text)
{
    return value && strcmp(value->text, text) == 0;
}

/* ---- the rules for a disk that ioreqd is to serve ---- */

static void check_vdev(const struct xl_check *check, const struct xl_disk *disk, const char *where)
{
    bool scsi = false;
    int index = xl_disk_index(disk->vdev ? disk->vdev : "", &scsi),
        taken = check->ahci ? AHCI_DISKS : IDE_DISKS;
    if (index < 0) {
        findings_add(check->findings, true, where, "expected xvda, xvdb, ...", "disk: vdev=%.20s",
                     disk->vdev ? disk->vdev : "");
    } else if (check->hvm && (scsi || index < taken)) {
        findings_add(check->findings, true, where,
                     check->ahci ? "use vdev=xvdg or later" : "use vdev=xvde or later",
                     "disk: vdev=%.20s: libxl gives the same image to QEMU as %s disk", disk->vdev,
                     scsi ? "a SCSI" : "an IDE");
    }
}

static void check_virtio(const struct xl_check *check, const struct xl_disk *disk, const char *where)
{
    if (!disk->backendtype || strcmp(disk->backendtype, "standalone") != 0) {
        findings_add(check->findings, true, where, "add backendtype=standalone",
                     "disk: specification=virtio is served by a standalone backend only");
    }
    if (disk->format && disk->format[0] && strcmp(disk->format, "raw") != 0) {
        findings_add(check->findings, true, where, "expected format=raw", "disk: format=%.20s", disk->format);
    }
    if (disk->cdrom) {
        findings_add(check->findings, true, where, "leave specification out",
                     "disk: a CD-ROM can't be virtio");
    }
    check_vdev(check, disk, where);
}

/* ---- a disk as a device, for check_images ---- */

static bool is_readonly(const struct xl_disk *disk)
{
    const char *access = disk->access ? disk->access : "";
    return disk->cdrom || strcmp(access, "r") == 0 || strcmp(access, "ro") == 0;
}

static void add_device(struct xl_check *check, const struct xl_disk *disk, bool virtio, const char *where)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    if (to) {
        fputs(virtio ? "virtio-blk,block.path=" : "disk,block.path=", to);
        for (const char *at = disk->target; *at; at++) {
            fputs(*at == ',' ? ",," : (char[]){*at, '\0'}, to);
        }
        fputs(is_readonly(disk) ? ",block.readonly=on" : "", to);
    }
    if (!to || fclose(to) || guest_spec_add_device(&check->guest, text, NULL) ||
        device_spec_from(&check->guest.devices[check->guest.device_count - 1], where)) {
        check->findings->cut = true;
    }
    free(text);
}

static unsigned check_disks(struct xl_check *check)
{
    unsigned served = 0;
    for (unsigned i = 0; i < check->cfg.count; i++) {
        struct xl_value *value = &check->cfg.values[i];
        struct xl_disk disk;
        char where[600];
        if (strcmp(value->name, "disk") != 0) {
            continue;
        }
        snprintf(where, sizeof(where), "%.500s:%u", check->cfg.path, value->line);
        xl_disk_parse(&disk, value->text);
        bool virtio = disk.specification && strcmp(disk.specification, "virtio") == 0;
        if (virtio) {
            served++;
            check_virtio(check, &disk, where);
        }
        if (disk.target && disk.target[0] == '/') {
            add_device(check, &disk, virtio, where);
        } else if (virtio) {
            findings_add(check->findings, true, where,
                         "expected the absolute path of a raw image or block device", "disk: target=%.60s",
                         disk.target ? disk.target : "");
        }
    }
    return served;
}

/* ---- the guest ---- */

static void read_type(struct xl_check *check)
{
    const struct xl_value *type = xl_cfg_get(&check->cfg, "type");
    check->hvm = type ? is(type, "hvm") : is(xl_cfg_get(&check->cfg, "builder"), "hvm");
    check->ahci = is(xl_cfg_get(&check->cfg, "hdtype"), "ahci");
}

static void check_type(const struct xl_check *check)
{
    const struct xl_value *type = xl_cfg_get(&check->cfg, "type");
    if (is(type, "pv") || (!type && !check->hvm && check->guest.arch == ARCH_X86)) {
        char where[600];
        snprintf(where, sizeof(where), "%.500s:%u", check->cfg.path, type ? type->line : 1);
        findings_add(check->findings, true, where, "type = \"pvh\" or \"hvm\"",
                     "a PV guest has no emulated devices");
    }
}

int check_xl_cfg(const char *path, struct findings *findings)
{
    struct xl_check check = {.findings = findings};
    size_t size;
    int error;
    char *text = source_read(path, CFG_BYTES, &size, &error, findings);
    if (!text) {
        return -EINVAL;
    }
    guest_spec_init(&check.guest);
    if (xl_cfg_parse(&check.cfg, text, path, findings)) {
        const struct xl_value *name = xl_cfg_get(&check.cfg, "name");
        struct config config = {.guests = &check.guest, .count = 1};
        check.guest.domain = strdup(name ? name->text : path);
        read_type(&check);
        if (check_disks(&check)) {
            check_type(&check);
        }
        if (check.guest.domain) {
            check_images(&config, findings);
        }
    }
    xl_cfg_finish(&check.cfg);
    guest_spec_finish(&check.guest);
    free(text);
    return findings_fatal(findings) ? -EINVAL : 0;
}
