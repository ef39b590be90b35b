/* SPDX-License-Identifier: BSD-2-Clause */
/* libconfig's settings, read with findings: each value is asked for with its type, and says where it stands.
 */
#ifndef CONFIG_SETTINGS_H
#define CONFIG_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include <libconfig.h>

#include "config/config.h"

/* One text that is being read. */
struct settings {
    config_t parsed;
    const char *file; /* its name in findings; the caller's */
    struct findings *findings;
};

/*
 * Parses; 0, or -EINVAL with a finding. @include is refused: it would read past every limit. To be given to
 * settings_finish either way.
 */
int settings_parse(struct settings *settings, const char *text, const char *file, struct findings *findings);
void settings_finish(struct settings *settings);

/* "FILE:LINE" of the setting. */
enum { WHERE_MAX = 600 };
void setting_where(const struct settings *settings, const config_setting_t *setting, char where[WHERE_MAX]);

/* Each member of the group whose name is not among `names` (ends with NULL) is a finding. `of` says whose: "a
 * guest". */
void settings_check_names(const struct settings *settings, const config_setting_t *group, const char *of,
                          const char *const *names);

/* These return false, with a fatal finding, when the value is not of the type. */
bool setting_text(const struct settings *settings, const config_setting_t *setting, const char **text);
/* true, false, or one of --device's words for them as a text. */
bool setting_bool(const struct settings *settings, const config_setting_t *setting, bool *value);
bool setting_number(const struct settings *settings, const config_setting_t *setting, uint64_t min,
                    uint64_t max, uint64_t *value);
/* A number, or a text with K, M, G or T; above 0. */
bool setting_size(const struct settings *settings, const config_setting_t *setting, uint64_t *value);
/* The index of the text in `choices` (ends with NULL). */
bool setting_choice(const struct settings *settings, const config_setting_t *setting,
                    const char *const *choices, unsigned *chosen);
/* Is it a list or array? `of` says what of: "texts". */
bool setting_list(const struct settings *settings, const config_setting_t *setting, const char *of);

#endif
