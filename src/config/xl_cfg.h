/* SPDX-License-Identifier: BSD-2-Clause */
/* As much of xl.cfg(5) as a check needs: which values each setting has, and where they stand. */
#ifndef CONFIG_XL_CFG_H
#define CONFIG_XL_CFG_H

#include "config/config.h"

/* One text or number; the elements of a list are as many values of the same name. */
struct xl_value {
    char *name, *text;
    unsigned line;
};
struct xl_cfg {
    const char *path; /* the caller's */
    struct xl_value *values;
    unsigned count;
};

/* False with a finding. To be given to xl_cfg_finish either way. */
bool xl_cfg_parse(struct xl_cfg *cfg, const char *text, const char *path, struct findings *findings);
void xl_cfg_finish(struct xl_cfg *cfg);
/* The (first) value, or NULL. */
const struct xl_value *xl_cfg_get(const struct xl_cfg *cfg, const char *name);

/* A disk=[] element, as xl-disk-configuration(5) has it. The texts are the caller's element, taken apart. */
struct xl_disk {
    const char *target, *format, *vdev, *access, *backendtype, *specification;
    bool cdrom;
};
/* Changes `element`. */
void xl_disk_parse(struct xl_disk *disk, char *element);
/* Which disk of its bus the name means (hda and xvda: 0); -1: it is no such name. *scsi: an sd name. */
int xl_disk_index(const char *vdev, bool *scsi);

#endif
