/* SPDX-License-Identifier: BSD-2-Clause */
/* One guest of one file, before the files are joined. */
#ifndef CONFIG_FILE_GUEST_H
#define CONFIG_FILE_GUEST_H

#include "config/settings.h"

enum { CONFIG_DEVICES_MAX = 4096 }; /* of one guest: more than Xen's 8 servers of 256 ranges could claim */

struct file_guest {
    struct guest_spec
        spec;       /* domain is in its one form: a domid decimal, a uuid in lower case; origin is set */
    unsigned given; /* which settings were: bits of FILE_GUEST_... (file_guest.c) */
    char *tree;     /* path of its device tree, as given; or NULL */
};

/* Understands the group; false with findings. To be given to file_guest_finish either way. */
bool file_guest_read(const struct settings *settings, const config_setting_t *group,
                     struct file_guest *guest);
void file_guest_finish(struct file_guest *guest);

/*
 * Joins what another place says of the same domain: devices are added, settings must agree. `from` is
 * emptied.
 */
void file_guest_join(struct file_guest *to, struct file_guest *from, struct findings *findings);
/* What can't be together in one guest; false with findings. */
bool file_guest_check(const struct file_guest *guest, struct findings *findings);

/* The domain's one form (to be freed), or NULL with *why. */
char *domain_normal_form(const char *text, const char **why);

#endif
