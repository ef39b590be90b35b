/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/options.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The value of one entry of the schema. */
struct option_value {
    char *text;      /* string; or NULL */
    uint64_t number; /* number, size, bool (0, 1), choice (index) */
    bool given;
};

struct iod_options {
    const struct iod_option *schema;
    unsigned count;
    struct option_value values[];
};

/* The keys that never reach a device (ioreqd/option.h). */
static const char *const core_keys[] = {"id", "bus", "slot", "addr", "base", "irq", "type"};

/* ---- values ---- */

/* A number and where it ended. strtoull alone would take signs and blanks. */
static int parse_digits(const char *text, uint64_t *value, const char **end)
{
    if (!isdigit((unsigned char)text[0])) {
        return -EINVAL;
    }
    char *stop;
    errno = 0;
    unsigned long long number = strtoull(text, &stop, 0);
    if (errno) {
        return -ERANGE;
    }
    *value = number;
    *end = stop;
    return 0;
}

int option_parse_number(const char *text, uint64_t *value)
{
    uint64_t number;
    const char *end;
    int result = parse_digits(text, &number, &end);
    if (result) {
        return result;
    }
    if (*end) {
        return -EINVAL;
    }
    *value = number;
    return 0;
}

int option_parse_size(const char *text, uint64_t *value)
{
    static const char suffixes[] = "KMGT";
    uint64_t number;
    const char *end;
    int result = parse_digits(text, &number, &end);
    if (result) {
        return result;
    }
    unsigned shift = 0;
    if (*end) {
        const char *suffix = strchr(suffixes, toupper((unsigned char)*end));
        if (!suffix || end[1]) {
            return -EINVAL;
        }
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (number > UINT64_MAX >> shift) {
        return -ERANGE;
    }
    *value = number << shift;
    return 0;
}

int option_parse_bool(const char *text, bool *value)
{
    static const char *const words[] = {"on", "off", "yes", "no", "true", "false", "1", "0"};
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(text, words[i]) == 0) {
            *value = i % 2 == 0;
            return 0;
        }
    }
    return -EINVAL;
}

/* Appends to a text of fixed size; what does not fit is cut off. */
static void append(char *text, size_t size, const char *more)
{
    size_t length = strlen(text);
    snprintf(text + length, size - length, "%s", more);
}

static void list_choices(const struct iod_option *option, char *text, size_t size)
{
    text[0] = '\0';
    for (unsigned i = 0; option->choices[i]; i++) {
        append(text, size, i ? "|" : "");
        append(text, size, option->choices[i]);
    }
}

/* Where an option stands, for messages. */
struct place {
    const char *what, *prefix;
    const struct iod_option *option;
};

static int refuse(const struct place *at, const char *text, const char *expected, struct iod_error *error)
{
    return iod_fail(error, EINVAL, "%s: %s%s=%.60s: expected %s", at->what, at->prefix, at->option->name,
                    text, expected);
}

static int set_number(struct option_value *value, const struct place *at, const char *text,
                      struct iod_error *error)
{
    const struct iod_option *option = at->option;
    bool size = option->type == IOD_OPTION_SIZE;
    int result = size ? option_parse_size(text, &value->number) : option_parse_number(text, &value->number);
    if (result == -EINVAL) {
        return refuse(at, text, size ? "a size in bytes, or with K, M, G or T" : "a number", error);
    }
    if (result == 0 && value->number >= option->min && (!option->max || value->number <= option->max)) {
        return 0;
    }
    char range[80];
    if (option->max) {
        snprintf(range, sizeof(range), "%" PRIu64 " to %" PRIu64, option->min, option->max);
    } else {
        snprintf(range, sizeof(range), "at least %" PRIu64 " and less than 2^64", option->min);
    }
    return refuse(at, text, range, error);
}

static int set_choice(struct option_value *value, const struct place *at, const char *text,
                      struct iod_error *error)
{
    const struct iod_option *option = at->option;
    for (unsigned i = 0; option->choices[i]; i++) {
        if (strcmp(text, option->choices[i]) == 0) {
            value->number = i;
            return 0;
        }
    }
    char choices[120];
    list_choices(option, choices, sizeof(choices));
    return refuse(at, text, choices, error);
}

static int set_value(struct option_value *value, const struct place *at, const char *text,
                     struct iod_error *error)
{
    bool on;
    switch (at->option->type) {
    case IOD_OPTION_STRING:
        value->text = strdup(text);
        return value->text ? 0 : iod_fail(error, ENOMEM, "%s: out of memory", at->what);
    case IOD_OPTION_BOOL:
        if (option_parse_bool(text, &on)) {
            return refuse(at, text, "on or off", error);
        }
        value->number = on;
        return 0;
    case IOD_OPTION_NUMBER:
    case IOD_OPTION_SIZE: return set_number(value, at, text, error);
    case IOD_OPTION_CHOICE: return set_choice(value, at, text, error);
    }
    return iod_fail(error, EINVAL, "%s: option %s has a type that this ioreqd does not know", at->what,
                    at->option->name);
}

/* ---- from the spec to the values ---- */

/* Does the pair set prefix + name (or, with bare, plain name)? */
static bool pair_sets(const struct option_pair *pair, const char *prefix, bool bare, const char *name)
{
    size_t length = strlen(prefix);
    if (strncmp(pair->key, prefix, length) == 0 && strcmp(pair->key + length, name) == 0) {
        return true;
    }
    return bare && !pair->used && strcmp(pair->key, name) == 0;
}

/* The text that the user gave, of several the last; all of them are used now. NULL: none. */
static const char *take_text(struct device_spec *spec, const char *prefix, bool bare, const char *name)
{
    const char *text = NULL;
    for (unsigned i = 0; i < spec->count; i++) {
        if (pair_sets(&spec->pairs[i], prefix, bare, name)) {
            spec->pairs[i].used = true;
            text = spec->pairs[i].value;
        }
    }
    return text;
}

static unsigned schema_length(const struct iod_option *schema)
{
    unsigned count = 0;
    while (schema && schema[count].name) {
        count++;
    }
    return count;
}

struct iod_options *options_parse(const struct iod_option *schema, const char *what, struct device_spec *spec,
                                  const char *prefix, bool bare, struct iod_error *error)
{
    unsigned count = schema_length(schema);
    struct iod_options *options = calloc(1, sizeof(*options) + count * sizeof(options->values[0]));
    if (!options) {
        iod_fail(error, ENOMEM, "%s: out of memory", what);
        return NULL;
    }
    options->schema = schema;
    options->count = count;
    for (unsigned i = 0; i < count; i++) {
        struct place at = {.what = what, .prefix = prefix, .option = &schema[i]};
        const char *text = take_text(spec, prefix, bare, schema[i].name);
        options->values[i].given = text != NULL;
        if ((!text || !text[0]) && schema[i].required) { /* path= with nothing behind it is a slip, too */
            iod_fail(error, EINVAL, "%s: %s%s= is missing (%s)", what, prefix, schema[i].name,
                     schema[i].help ? schema[i].help : "required");
            goto failed;
        }
        text = text ? text : schema[i].fallback;
        if (text && set_value(&options->values[i], &at, text, error)) {
            goto failed;
        }
    }
    return options;
failed:
    options_destroy(options);
    return NULL;
}

void options_destroy(struct iod_options *options)
{
    for (unsigned i = 0; options && i < options->count; i++) {
        free(options->values[i].text);
    }
    free(options);
}

static const struct option_value *value_of(const struct iod_options *options, const char *name,
                                           unsigned types)
{
    for (unsigned i = 0; options && i < options->count; i++) {
        if (strcmp(options->schema[i].name, name) == 0) {
            return options->schema[i].type <= IOD_OPTION_CHOICE && types >> options->schema[i].type & 1
                       ? &options->values[i]
                       : NULL;
        }
    }
    return NULL;
}

const char *iod_option_string(const struct iod_options *options, const char *name)
{
    const struct option_value *value = value_of(options, name, 1 << IOD_OPTION_STRING);
    return value ? value->text : NULL;
}

uint64_t iod_option_number(const struct iod_options *options, const char *name)
{
    const struct option_value *value = value_of(options, name, 1 << IOD_OPTION_NUMBER | 1 << IOD_OPTION_SIZE);
    return value ? value->number : 0;
}

bool iod_option_bool(const struct iod_options *options, const char *name)
{
    const struct option_value *value = value_of(options, name, 1 << IOD_OPTION_BOOL);
    return value && value->number;
}

unsigned iod_option_choice(const struct iod_options *options, const char *name)
{
    const struct option_value *value = value_of(options, name, 1 << IOD_OPTION_CHOICE);
    return value ? (unsigned)value->number : 0;
}

bool iod_option_given(const struct iod_options *options, const char *name)
{
    const struct option_value *value = value_of(options, name, ~0u);
    return value && value->given;
}

/* ---- unknown keys ---- */

#define KEY_COMPARED 48 /* characters of a key that the nearest one is sought by */

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned least = a < b ? a : b;
    return least < c ? least : c;
}

/* How many characters must be put in, taken out or replaced to make one of the other (Levenshtein). */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[KEY_COMPARED + 1];
    size_t columns = strnlen(b, KEY_COMPARED);
    for (unsigned j = 0; j <= columns; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; i <= KEY_COMPARED && a[i - 1]; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= columns; j++) {
            unsigned above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[columns];
}

struct nearest {
    const char *name;
    unsigned distance;
    bool suffix; /* it is near to what stands behind the key's last dot */
};

static void consider(struct nearest *nearest, const char *key, const char *name)
{
    const char *dot = strrchr(key, '.');
    unsigned whole = edit_distance(key, name);
    unsigned behind = dot ? edit_distance(dot + 1, name) : whole;
    unsigned distance = behind < whole ? behind : whole;
    if (!nearest->name || distance < nearest->distance) {
        *nearest = (struct nearest){.name = name, .distance = distance, .suffix = behind < whole};
    }
}

const char *options_nearest(const char *name, const char *const *names)
{
    struct nearest nearest = {0};
    for (; *names; names++) {
        consider(&nearest, name, *names);
    }
    return nearest.name;
}

static int fail_unknown(const char *key, const char *what, const struct iod_option *const *schemas,
                        unsigned count, struct iod_error *error)
{
    struct nearest nearest = {0};
    for (unsigned i = 0; i < count; i++) {
        for (const struct iod_option *option = schemas[i]; option && option->name; option++) {
            consider(&nearest, key, option->name);
        }
    }
    for (unsigned i = 0; i < sizeof(core_keys) / sizeof(core_keys[0]); i++) {
        consider(&nearest, key, core_keys[i]);
    }
    int prefix = nearest.suffix ? (int)(strrchr(key, '.') + 1 - key) : 0;
    return iod_fail(error, EINVAL, "%s: unknown option '%.60s'; the nearest known one is '%.*s%s'", what, key,
                    prefix, key, nearest.name);
}

int options_check_unused(const struct device_spec *spec, const char *what,
                         const struct iod_option *const *schemas, unsigned count, struct iod_error *error)
{
    for (unsigned i = 0; i < spec->count; i++) {
        if (!spec->pairs[i].used) {
            return fail_unknown(spec->pairs[i].key, what, schemas, count, error);
        }
    }
    return 0;
}

/* ---- schemas ---- */

static bool name_is_good(const char *name)
{
    return name[0] && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == strlen(name);
}

static int check_option(const struct iod_option *schema, unsigned index, const char *what,
                        struct iod_error *error)
{
    const struct iod_option *option = &schema[index];
    if (!name_is_good(option->name)) {
        return iod_fail(error, EINVAL, "%s: bad option name '%.60s'", what, option->name);
    }
    for (unsigned i = 0; i < sizeof(core_keys) / sizeof(core_keys[0]); i++) {
        if (strcmp(option->name, core_keys[i]) == 0) {
            return iod_fail(error, EINVAL, "%s: option name '%s' belongs to the core", what, option->name);
        }
    }
    for (unsigned i = 0; i < index; i++) {
        if (strcmp(option->name, schema[i].name) == 0) {
            return iod_fail(error, EINVAL, "%s: option '%s' is declared twice", what, option->name);
        }
    }
    if (option->type == IOD_OPTION_CHOICE && (!option->choices || !option->choices[0])) {
        return iod_fail(error, EINVAL, "%s: option '%s' has no choices", what, option->name);
    }
    struct option_value value = {0};
    struct place at = {.what = what, .prefix = "the default of ", .option = option};
    int result = option->fallback ? set_value(&value, &at, option->fallback, error) : 0;
    free(value.text);
    return result;
}

int options_check_schema(const struct iod_option *schema, const char *what, struct iod_error *error)
{
    for (unsigned i = 0; schema && schema[i].name; i++) {
        int result = check_option(schema, i, what, error);
        if (result) {
            return result;
        }
    }
    return 0;
}

static void describe_type(const struct iod_option *option, char *text, size_t size)
{
    static const char *const types[] = {
        [IOD_OPTION_STRING] = "TEXT",
        [IOD_OPTION_BOOL] = "on|off",
        [IOD_OPTION_NUMBER] = "NUMBER",
        [IOD_OPTION_SIZE] = "SIZE",
    };
    if (option->type == IOD_OPTION_CHOICE) {
        list_choices(option, text, size);
    } else {
        snprintf(text, size, "%s", option->type < IOD_OPTION_CHOICE ? types[option->type] : "?");
    }
}

void options_help(FILE *to, const struct iod_option *schema, const char *prefix)
{
    for (const struct iod_option *option = schema; option && option->name; option++) {
        char left[200], type[120];
        describe_type(option, type, sizeof(type));
        snprintf(left, sizeof(left), "%s%s=%s", prefix, option->name, type);
        fprintf(to, "  %-32s %s", left, option->help ? option->help : "");
        if (option->max) {
            fprintf(to, "; %" PRIu64 " to %" PRIu64, option->min, option->max);
        } else if (option->min) {
            fprintf(to, "; at least %" PRIu64, option->min);
        }
        if (option->required) {
            fprintf(to, " (required)");
        } else if (option->fallback) {
            fprintf(to, " (default: %s)", option->fallback);
        }
        fputc('\n', to);
    }
}
