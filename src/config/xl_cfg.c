/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/xl_cfg.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { VALUES_MAX = 4096, NESTING_MAX = 8 };

struct parser {
    struct xl_cfg *cfg;
    const char *at;
    unsigned line;
};

/* ---- tokens ---- */

/* Blanks and comments; in a list lines end nothing. */
static void skip_blank(struct parser *parser, bool lines)
{
    for (;; parser->at++) {
        if (*parser->at == '#') {
            parser->at += strcspn(parser->at, "\n");
        }
        bool end = *parser->at == '\n';
        if (!*parser->at || !isspace((unsigned char)*parser->at) || (end && !lines)) {
            return;
        }
        parser->line += end;
    }
}

/* Room for one more value; it doubles each time that it is used up. */
static bool make_room(struct xl_cfg *cfg)
{
    unsigned count = cfg->count;
    if (count >= VALUES_MAX) {
        return false;
    }
    if (count & (count - 1)) {
        return true;
    }
    struct xl_value *values = reallocarray(cfg->values, count ? 2 * count : 1, sizeof(*values));
    cfg->values = values ? values : cfg->values;
    return values != NULL;
}

/* Takes the text over. */
static bool add_value(struct parser *parser, const char *name, size_t name_length, char *text, unsigned line)
{
    struct xl_cfg *cfg = parser->cfg;
    char *copy = text && make_room(cfg) ? strndup(name, name_length) : NULL;
    if (!copy) {
        free(text);
        return false;
    }
    cfg->values[cfg->count++] = (struct xl_value){.name = copy, .text = text, .line = line};
    return true;
}

/* In single or double quotes, of one line; a backslash takes the next character as it is. */
static char *take_string(struct parser *parser)
{
    const char *from = parser->at + 1;
    size_t length = 0, to = 0;
    while (from[length] && from[length] != *parser->at && from[length] != '\n') {
        length += from[length] == '\\' && from[length + 1] && from[length + 1] != '\n' ? 2 : 1;
    }
    char *text = from[length] == *parser->at ? malloc(length + 1) : NULL;
    if (!text) {
        return NULL;
    }
    for (size_t i = 0; i < length; i++) {
        i += from[i] == '\\';
        text[to++] = from[i];
    }
    text[to] = '\0';
    parser->at = from + length + 1;
    return text;
}

static bool take_scalar(struct parser *parser, const char *name, size_t name_length)
{
    unsigned line = parser->line;
    if (*parser->at == '"' || *parser->at == '\'') {
        return add_value(parser, name, name_length, take_string(parser), line);
    }
    size_t length = strspn(parser->at, "0123456789abcdefABCDEFxX-");
    const char *number = parser->at;
    parser->at += length;
    return length && add_value(parser, name, name_length, strndup(number, length), line);
}

static bool take_list(struct parser *parser, const char *name, size_t name_length, unsigned depth)
{
    parser->at++; /* the bracket */
    for (;;) {
        skip_blank(parser, true);
        if (*parser->at == ']') {
            parser->at++;
            return true;
        }
        bool good = *parser->at == '[' && depth < NESTING_MAX
                        ? take_list(parser, name, name_length, depth + 1)
                        : take_scalar(parser, name, name_length);
        skip_blank(parser, true);
        if (!good || (*parser->at != ',' && *parser->at != ']')) {
            return false;
        }
        parser->at += *parser->at == ',';
    }
}

/* ---- settings ---- */

/* A later `name =` replaces what was said before. */
static void forget(struct xl_cfg *cfg, const char *name, size_t length)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < cfg->count; i++) {
        struct xl_value value = cfg->values[i];
        if (strncmp(value.name, name, length) == 0 && !value.name[length]) {
            free(value.name);
            free(value.text);
        } else {
            cfg->values[kept++] = value;
        }
    }
    cfg->count = kept;
}

static bool take_setting(struct parser *parser)
{
    const char *name = parser->at;
    size_t length = 0;
    while (isalnum((unsigned char)name[length]) || name[length] == '_' || name[length] == '-') {
        length++;
    }
    parser->at += length;
    skip_blank(parser, false);
    bool more = parser->at[0] == '+' && parser->at[1] == '=';
    if (!length || (!more && *parser->at != '=')) {
        return false;
    }
    parser->at += more ? 2 : 1;
    skip_blank(parser, false);
    if (!more) {
        forget(parser->cfg, name, length);
    }
    return *parser->at == '[' ? take_list(parser, name, length, 0) : take_scalar(parser, name, length);
}

bool xl_cfg_parse(struct xl_cfg *cfg, const char *text, const char *path, struct findings *findings)
{
    struct parser parser = {.cfg = cfg, .at = text, .line = 1};
    *cfg = (struct xl_cfg){.path = path};
    for (;;) {
        skip_blank(&parser, true);
        if (!*parser.at) {
            return true;
        }
        bool good = *parser.at == ';' || take_setting(&parser);
        skip_blank(&parser, false);
        if (!good || (*parser.at && *parser.at != '\n' && *parser.at != ';')) {
            char where[600];
            snprintf(where, sizeof(where), "%.500s:%u", path, parser.line);
            findings_add(findings, true, where, "expected NAME = VALUE, as xl.cfg(5) says", "syntax error");
            return false;
        }
        parser.at += *parser.at == ';';
    }
}

void xl_cfg_finish(struct xl_cfg *cfg)
{
    for (unsigned i = 0; i < cfg->count; i++) {
        free(cfg->values[i].name);
        free(cfg->values[i].text);
    }
    free(cfg->values);
    *cfg = (struct xl_cfg){0};
}

const struct xl_value *xl_cfg_get(const struct xl_cfg *cfg, const char *name)
{
    for (unsigned i = 0; i < cfg->count; i++) {
        if (strcmp(cfg->values[i].name, name) == 0) {
            return &cfg->values[i];
        }
    }
    return NULL;
}

/* ---- disks ---- */

static char *trim(char *text)
{
    text += strspn(text, " \t");
    for (size_t length = strlen(text); length && strchr(" \t", text[length - 1]); length--) {
        text[length - 1] = '\0';
    }
    return text;
}

static void take_key(struct xl_disk *disk, const char *key, const char *value)
{
    const struct {
        const char *key, **value;
    } keys[] = {
        {"format", &disk->format},
        {"vdev", &disk->vdev},
        {"access", &disk->access},
        {"backendtype", &disk->backendtype},
        {"specification", &disk->specification},
    };
    for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (strcmp(keys[i].key, key) == 0) {
            *keys[i].value = value;
        }
    }
    disk->cdrom = disk->cdrom || (strcmp(key, "devtype") == 0 && strcmp(value, "cdrom") == 0);
}

/* "file:" and the like, of old: what follows has no format. */
static char *strip_prefix(char *target)
{
    size_t length = strspn(target, "abcdefghijklmnopqrstuvwxyz2");
    return length && target[length] == ':' ? target + length + 1 : target;
}

void xl_disk_parse(struct xl_disk *disk, char *element)
{
    const char **positions[] = {&disk->target, &disk->format, &disk->vdev, &disk->access};
    unsigned position = 0;
    *disk = (struct xl_disk){0};
    for (char *field = element; field;) {
        field = trim(field);
        if (strncmp(field, "target=", 7) == 0) { /* the rest, commas and all */
            disk->target = field + 7;
            return;
        }
        char *comma = strchr(field, ',');
        if (comma) {
            *comma++ = '\0';
        }
        field = trim(field);
        char *equals = strchr(field, '=');
        if (equals) {
            *equals = '\0';
            take_key(disk, field, equals + 1);
            position = 4;
        } else if (strcmp(field, "cdrom") == 0) {
            disk->cdrom = true;
        } else if (position < 4) {
            char *bare = position == 0 ? strip_prefix(field) : field;
            *positions[position] = bare;
            position += bare != field ? 2 : 1;
        }
        field = comma;
    }
}

int xl_disk_index(const char *vdev, bool *scsi)
{
    size_t prefix = strncmp(vdev, "xvd", 3) == 0 ? 3 : 2;
    int index = 0;
    if (prefix == 2 && strncmp(vdev, "hd", 2) != 0 && strncmp(vdev, "sd", 2) != 0) {
        return -1;
    }
    *scsi = vdev[0] == 's';
    vdev += prefix;
    for (unsigned i = 0; islower((unsigned char)vdev[i]); i++) {
        if (i >= 3) {
            return -1;
        }
        index = index * 26 + vdev[i] - 'a' + 1;
    }
    return index - 1;
}
