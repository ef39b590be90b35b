/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

/* ---- parsing ---- */

/* Where the strings of a text begin. Strings with nothing but blanks and comments between them are one value.
 */
struct lexer {
    const char *at;
    unsigned line;
};

static void skip_to(struct lexer *lexer, const char *end)
{
    for (; lexer->at < end && *lexer->at; lexer->at++) {
        lexer->line += *lexer->at == '\n';
    }
}

/* Blanks and comments. */
static void skip_blank(struct lexer *lexer)
{
    for (;;) {
        skip_to(lexer, lexer->at + strspn(lexer->at, " \t\r\n\f\v"));
        if (lexer->at[0] == '#' || (lexer->at[0] == '/' && lexer->at[1] == '/')) {
            skip_to(lexer, lexer->at + strcspn(lexer->at, "\n"));
        } else if (lexer->at[0] == '/' && lexer->at[1] == '*') {
            const char *end = strstr(lexer->at + 2, "*/");
            skip_to(lexer, end ? end + 2 : lexer->at + strlen(lexer->at));
        } else {
            return;
        }
    }
}

static void skip_string(struct lexer *lexer)
{
    const char *end = lexer->at + 1;
    while (*end && *end != '"') {
        end += end[0] == '\\' && end[1] ? 2 : 1;
    }
    skip_to(lexer, *end ? end + 1 : end);
}

/* The line of the next string value; 0: there is none. */
static unsigned next_string(struct lexer *lexer)
{
    for (;;) {
        skip_blank(lexer);
        if (!*lexer->at) {
            return 0;
        }
        if (*lexer->at == '"') {
            break;
        }
        lexer->at++;
    }
    unsigned line = lexer->line;
    while (*lexer->at == '"') {
        skip_string(lexer);
        skip_blank(lexer);
    }
    return line;
}

/* How many strings there are below the setting; their hooks become the lines from the lexer (may be NULL). */
static unsigned place_strings(config_setting_t *setting, struct lexer *lexer)
{
    if (config_setting_type(setting) == CONFIG_TYPE_STRING) {
        if (lexer) {
            config_setting_set_hook(setting, (void *)(uintptr_t)next_string(lexer));
        }
        return 1;
    }
    unsigned count = 0;
    if (config_setting_is_aggregate(setting)) {
        for (int i = 0; i < config_setting_length(setting); i++) {
            count += place_strings(config_setting_get_elem(setting, (unsigned)i), lexer);
        }
    }
    return count;
}

/*
 * libconfig gives an element of a list the line where its parser had got to, which is the next one if the
 * comma or bracket stands there. So the lines of strings are looked for in the text: the n-th string there is
 * the n-th here.
 */
static void correct_lines(config_setting_t *root, const char *text)
{
    struct lexer lexer = {.at = text, .line = 1};
    unsigned count = 0;
    while (next_string(&lexer)) {
        count++;
    }
    if (count == place_strings(root, NULL)) {
        lexer = (struct lexer){.at = text, .line = 1};
        place_strings(root, &lexer);
    }
}

int settings_parse(struct settings *settings, const char *text, const char *file, struct findings *findings)
{
    char where[WHERE_MAX];
    settings->file = file;
    settings->findings = findings;
    config_init(&settings->parsed);
    /* No folder: so that no @include finds anything. */
    config_set_include_dir(&settings->parsed, "/proc/self/no-includes");
    if (config_read_string(&settings->parsed, text)) {
        correct_lines(config_root_setting(&settings->parsed), text);
        return 0;
    }
    const char *why = config_error_text(&settings->parsed);
    snprintf(where, sizeof(where), "%.500s:%d", file, config_error_line(&settings->parsed));
    if (why && strstr(why, "include")) {
        findings_add(findings, true, where, "put the file into conf.d", "@include is not served");
    } else if (why && strstr(why, "duplicate")) {
        findings_add(findings, true, where, "each setting stands once in its group",
                     "a setting stands here twice");
    } else {
        findings_add(findings, true, where, "expected libconfig's syntax: name = value; (see ioreqd.conf(5))",
                     "%s", why ? why : "syntax error");
    }
    return -EINVAL;
}

void settings_finish(struct settings *settings)
{
    config_destroy(&settings->parsed);
}

/* ---- places and names ---- */

void setting_where(const struct settings *settings, const config_setting_t *setting, char where[WHERE_MAX])
{
    unsigned line = (unsigned)(uintptr_t)config_setting_get_hook(setting);
    /* A named one has the line of its name, which is right. */
    if (!line || config_setting_name(setting)) {
        line = config_setting_source_line(setting);
    }
    snprintf(where, WHERE_MAX, "%.500s:%u", settings->file, line);
}

void settings_check_names(const struct settings *settings, const config_setting_t *group, const char *of,
                          const char *const *names)
{
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem((config_setting_t *)group, (unsigned)i);
        const char *name = config_setting_name(setting);
        unsigned known = 0;
        while (names[known] && strcmp(names[known], name) != 0) {
            known++;
        }
        if (!names[known]) {
            char where[WHERE_MAX], remedy[100];
            setting_where(settings, setting, where);
            snprintf(remedy, sizeof(remedy), "the nearest known one is %s", options_nearest(name, names));
            findings_add(settings->findings, true, where, remedy, "%.60s is not a setting of %s", name, of);
        }
    }
}

/* ---- values ---- */

static const char *type_name(const config_setting_t *setting)
{
    static const char *const names[] = {
        [CONFIG_TYPE_GROUP] = "a group",  [CONFIG_TYPE_INT] = "a number",
        [CONFIG_TYPE_INT64] = "a number", [CONFIG_TYPE_FLOAT] = "a fraction",
        [CONFIG_TYPE_STRING] = "a text",  [CONFIG_TYPE_BOOL] = "true or false",
        [CONFIG_TYPE_ARRAY] = "an array", [CONFIG_TYPE_LIST] = "a list",
    };
    int type = config_setting_type(setting);
    return type > 0 && type < (int)(sizeof(names) / sizeof(names[0])) ? names[type] : "nothing";
}

/* "log", or "an element of devices". */
static void name_of(const config_setting_t *setting, char *name, size_t size)
{
    if (config_setting_name(setting)) {
        snprintf(name, size, "%.60s", config_setting_name(setting));
    } else {
        const config_setting_t *parent = config_setting_parent(setting);
        const char *of = parent && config_setting_name(parent) ? config_setting_name(parent) : "a list";
        snprintf(name, size, "an element of %.60s", of);
    }
}

static bool refuse_type(const struct settings *settings, const config_setting_t *setting,
                        const char *expected)
{
    char where[WHERE_MAX], name[100], remedy[200];
    setting_where(settings, setting, where);
    name_of(setting, name, sizeof(name));
    snprintf(remedy, sizeof(remedy), "expected %s", expected);
    findings_add(settings->findings, true, where, remedy, "%s is %s", name, type_name(setting));
    return false;
}

static bool refuse_value(const struct settings *settings, const config_setting_t *setting, const char *text,
                         const char *expected)
{
    char where[WHERE_MAX], name[100], remedy[200];
    setting_where(settings, setting, where);
    name_of(setting, name, sizeof(name));
    snprintf(remedy, sizeof(remedy), "expected %s", expected);
    findings_add(settings->findings, true, where, remedy, "%s = %.60s", name, text);
    return false;
}

bool setting_text(const struct settings *settings, const config_setting_t *setting, const char **text)
{
    *text = config_setting_get_string(setting);
    return *text ? true : refuse_type(settings, setting, "a text in quotes");
}

bool setting_bool(const struct settings *settings, const config_setting_t *setting, bool *value)
{
    const char *text = config_setting_get_string(setting);
    if (config_setting_type(setting) == CONFIG_TYPE_BOOL) {
        *value = config_setting_get_bool(setting);
        return true;
    }
    if (!text) {
        return refuse_type(settings, setting, "true or false");
    }
    return option_parse_bool(text, value) == 0 || refuse_value(settings, setting, text, "true or false");
}

static bool is_number(const config_setting_t *setting)
{
    return config_setting_type(setting) == CONFIG_TYPE_INT ||
           config_setting_type(setting) == CONFIG_TYPE_INT64;
}

bool setting_number(const struct settings *settings, const config_setting_t *setting, uint64_t min,
                    uint64_t max, uint64_t *value)
{
    char expected[80], text[40];
    snprintf(expected, sizeof(expected), "a number from %llu to %llu", (unsigned long long)min,
             (unsigned long long)max);
    if (!is_number(setting)) {
        return refuse_type(settings, setting, expected);
    }
    long long number = config_setting_get_int64(setting);
    if (number < 0 || (uint64_t)number < min || (uint64_t)number > max) {
        snprintf(text, sizeof(text), "%lld", number);
        return refuse_value(settings, setting, text, expected);
    }
    *value = (uint64_t)number;
    return true;
}

bool setting_size(const struct settings *settings, const config_setting_t *setting, uint64_t *value)
{
    const char *text = config_setting_get_string(setting);
    if (is_number(setting)) {
        return setting_number(settings, setting, 1, INT64_MAX, value);
    }
    if (!text) {
        return refuse_type(settings, setting, "bytes, or a text with K, M, G or T");
    }
    if (option_parse_size(text, value) || !*value) {
        return refuse_value(settings, setting, text, "bytes above 0, or with K, M, G or T");
    }
    return true;
}

bool setting_choice(const struct settings *settings, const config_setting_t *setting,
                    const char *const *choices, unsigned *chosen)
{
    char known[120] = "one of";
    const char *text = config_setting_get_string(setting);
    for (unsigned i = 0; choices[i]; i++) {
        if (text && strcmp(text, choices[i]) == 0) {
            *chosen = i;
            return true;
        }
        size_t length = strlen(known);
        snprintf(known + length, sizeof(known) - length, "%s \"%s\"", i ? "," : "", choices[i]);
    }
    return text ? refuse_value(settings, setting, text, known) : refuse_type(settings, setting, known);
}

bool setting_list(const struct settings *settings, const config_setting_t *setting, const char *of)
{
    int type = config_setting_type(setting);
    char expected[80];
    snprintf(expected, sizeof(expected), "a list of %s", of);
    return type == CONFIG_TYPE_LIST || type == CONFIG_TYPE_ARRAY || refuse_type(settings, setting, expected);
}
