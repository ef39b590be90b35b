/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/list_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#define FILE_MAX (1024 * 1024)
#define LIMIT_DEFAULT_S 30
#define LIMIT_MAX_S 3600
#define DOMID_LIMIT 0x7ff0 /* DOMID_FIRST_RESERVED */
#define SECOND UINT64_C(1000000000)

/* Where we are, for messages. */
struct reader {
    struct list_file *list;
    const char *file;
    char where[80]; /* "emulators[2] (qemu)" */
    struct iod_error *error;
};

static int wrong(const struct reader *reader, const char *key, const char *expected)
{
    return iod_fail(reader->error, EINVAL, "%.100s: %s%s%s: expected %s", reader->file, reader->where,
                    reader->where[0] ? ": " : "", key, expected);
}

static int no_memory(const struct reader *reader)
{
    return iod_fail(reader->error, ENOMEM, "%.100s: out of memory", reader->file);
}

/* ---- values ---- */

static int check_keys(const struct reader *reader, const json_t *object, const char *const *known)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        unsigned i = 0;
        while (known[i] && strcmp(known[i], key)) {
            i++;
        }
        if (!known[i]) {
            char name[48];
            snprintf(name, sizeof(name), "%.40s", key);
            return iod_fail(reader->error, EINVAL, "%.100s: %s%sno such key: %s (see ioreqd-dm(8))", reader->file,
                            reader->where, reader->where[0] ? ": " : "", name);
        }
    }
    return 0;
}

/* The text with each `from` replaced by `to`; NULL: out of memory. */
static char *replaced(const char *text, const char *from, const char *to)
{
    size_t count = 0;

    for (const char *at = text; (at = strstr(at, from)); at += strlen(from)) {
        count++;
    }
    char *result = malloc(strlen(text) + count * strlen(to) + 1), *end = result;
    while (result && *text) {
        if (!strncmp(text, from, strlen(from))) {
            end = stpcpy(end, to);
            text += strlen(from);
        } else {
            *end++ = *text++;
        }
    }
    if (result) {
        *end = '\0';
    }
    return result;
}

/* A text that is not empty, {domid} replaced, into *to. A key that is not there is fine. */
static int take_text(const struct reader *reader, const json_t *object, const char *key, char **to)
{
    const json_t *value = json_object_get(object, key);
    char domid[8];

    if (!value) {
        return 0;
    }
    if (json_string_length(value) == 0) {
        return wrong(reader, key, "a text");
    }
    snprintf(domid, sizeof(domid), "%u", reader->list->domid);
    *to = replaced(json_string_value(value), "{domid}", domid);
    return *to ? 0 : no_memory(reader);
}

static int take_number(const struct reader *reader, const json_t *object, const char *key, json_int_t max,
                       const char *expected, json_int_t *to)
{
    const json_t *value = json_object_get(object, key);

    if (value &&
        (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > max)) {
        return wrong(reader, key, expected);
    }
    *to = value ? json_integer_value(value) : *to;
    return 0;
}

/* ---- one entry ---- */

static int take_arguments(const struct reader *reader, const json_t *object, struct list_entry *entry)
{
    const json_t *list = json_object_get(object, "arguments");
    size_t count = json_array_size(list);
    char domid[8];

    if (list && (!json_is_array(list) || count > LIST_ARGUMENTS_MAX)) {
        return wrong(reader, "arguments", "a list of at most 1024 texts");
    }
    entry->arguments = calloc(count + 2, sizeof(*entry->arguments));
    if (!entry->arguments || !(entry->arguments[0] = strdup(entry->program))) {
        return no_memory(reader);
    }
    snprintf(domid, sizeof(domid), "%u", reader->list->domid);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text) {
            return wrong(reader, "arguments", "texts only (numbers in quotes)");
        }
        entry->arguments[i + 1] = replaced(text, "{domid}", domid);
        if (!entry->arguments[i + 1]) {
            return no_memory(reader);
        }
    }
    return 0;
}

static bool asks_for_fd(const struct list_entry *entry)
{
    for (unsigned i = 1; entry->arguments[i]; i++) {
        if (strstr(entry->arguments[i], LIST_READY_FD)) {
            return true;
        }
    }
    return false;
}

static int take_ready(const struct reader *reader, const json_t *object, struct list_entry *entry)
{
    static const char *const known[] = {"fd", "pidfile", "socket", "xenstore", "value", NULL};
    static const char expected[] = "\"none\", or an object with one of fd (true), pidfile, socket, xenstore";
    const json_t *ready = json_object_get(object, "ready");
    const char *text = json_string_value(ready);

    if (!ready || (text && !strcmp(text, "none"))) {
        return 0;
    }
    bool with_value = json_object_get(ready, "value") && json_object_get(ready, "xenstore");
    if (!json_is_object(ready) || json_object_size(ready) != (with_value ? 2 : 1)) {
        return wrong(reader, "ready", expected);
    }
    if (check_keys(reader, ready, known)) {
        return -EINVAL;
    }
    if (json_is_true(json_object_get(ready, "fd"))) {
        entry->ready = LIST_READY_FD_LINE;
        return asks_for_fd(entry) ? 0 : wrong(reader, "ready", LIST_READY_FD " in one of the arguments");
    }
    for (unsigned i = 1; i < 4; i++) {
        if (json_object_get(ready, known[i])) {
            entry->ready = i == 1 ? LIST_READY_PIDFILE : i == 2 ? LIST_READY_SOCKET : LIST_READY_XENSTORE;
            int result = take_text(reader, ready, known[i], &entry->path);
            result = result ? result : take_text(reader, ready, "value", &entry->value);
            return result || entry->path[0] == '/' ? result : wrong(reader, known[i], "an absolute path");
        }
    }
    return wrong(reader, "ready", expected);
}

static int take_program(const struct reader *reader, const json_t *object, struct list_entry *entry)
{
    static const char *const known[] = {"name", "program", "arguments", "ready", "timeout", NULL};
    int result = check_keys(reader, object, known);

    result = result ? result : take_text(reader, object, "program", &entry->program);
    if (!result && entry->program[0] != '/') {
        return wrong(reader, "program", "an absolute path");
    }
    result = result ? result : take_arguments(reader, object, entry);
    return result ? result : take_ready(reader, object, entry);
}

static int take_running(const struct reader *reader, const json_t *object, struct list_entry *entry)
{
    static const char *const known[] = {"name", "pid", "socket", "timeout", "end", NULL};
    const json_t *end = json_object_get(object, "end");
    json_int_t pid = 0;
    int result = check_keys(reader, object, known);

    result = result ? result : take_number(reader, object, "pid", INT_MAX, "a process's number", &pid);
    result = result ? result : take_text(reader, object, "socket", &entry->socket);
    if (result) {
        return result;
    }
    if (!pid == !entry->socket) {
        return iod_fail(reader->error, EINVAL, "%.100s: %s: expected one of program, pid and socket",
                        reader->file, reader->where);
    }
    if (end && !json_is_boolean(end)) {
        return wrong(reader, "end", "true or false");
    }
    entry->pid = (pid_t)pid;
    entry->end = end ? json_is_true(end) : pid != 0;
    return 0;
}

static int check_name(const struct reader *reader, const struct list_entry *entry)
{
    for (const char *at = entry->name; at && *at; at++) {
        if ((unsigned char)*at <= 0x20 || (unsigned char)*at >= 0x7f || strlen(entry->name) > 32) {
            return wrong(reader, "name", "at most 32 characters without blanks");
        }
    }
    for (unsigned i = 0; &reader->list->entries[i] != entry; i++) {
        if (entry->name && !strcmp(reader->list->entries[i].name, entry->name)) {
            return wrong(reader, "name", "one that no other emulator has");
        }
    }
    return entry->name ? 0 : wrong(reader, "name", "a name");
}

static int take_entry(struct reader *reader, const json_t *object, struct list_entry *entry)
{
    json_int_t seconds = LIMIT_DEFAULT_S;

    snprintf(reader->where, sizeof(reader->where), "emulators[%u]", reader->list->count - 1);
    if (!json_is_object(object)) {
        return wrong(reader, "it", "an object");
    }
    int result = take_text(reader, object, "name", &entry->name);
    result = result ? result : check_name(reader, entry);
    if (result) {
        return result;
    }
    snprintf(reader->where, sizeof(reader->where), "emulators[%u] (%s)", reader->list->count - 1,
             entry->name);
    result = take_number(reader, object, "timeout", LIMIT_MAX_S, "seconds, 1 to 3600", &seconds);
    entry->limit_ns = (uint64_t)seconds * SECOND;
    if (result) {
        return result;
    }
    return json_object_get(object, "program") ? take_program(reader, object, entry)
                                              : take_running(reader, object, entry);
}

/* ---- the file ---- */

static int take_list(struct reader *reader, const json_t *root)
{
    static const char *const known[] = {"domid", "emulators", NULL};
    const json_t *emulators = json_object_get(root, "emulators"), *domid = json_object_get(root, "domid");
    size_t count = json_array_size(emulators);
    int result =
        json_is_object(root) ? check_keys(reader, root, known) : wrong(reader, "the file", "an object");

    if (result) {
        return result;
    }
    if (!json_is_integer(domid) || json_integer_value(domid) < 0 ||
        json_integer_value(domid) >= DOMID_LIMIT) {
        return wrong(reader, "domid", "a domain's number");
    }
    if (count == 0 || count > LIST_ENTRIES_MAX) {
        return wrong(reader, "emulators", "a list of 1 to 32 objects");
    }
    reader->list->domid = (uint16_t)json_integer_value(domid);
    reader->list->entries = calloc(count, sizeof(*reader->list->entries));
    if (!reader->list->entries) {
        return no_memory(reader);
    }
    for (size_t i = 0; i < count && !result; i++) {
        reader->list->count++;
        result = take_entry(reader, json_array_get(emulators, i), &reader->list->entries[i]);
    }
    return result;
}

/* The whole of a plain file that is not too long, or NULL. */
static char *read_file(const struct reader *reader, size_t *length)
{
    struct stat status;
    char *text = NULL;
    int fd = open(reader->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || fstat(fd, &status)) {
        iod_fail(reader->error, errno, "%.160s: %s", reader->file, strerror(errno));
    } else if (!S_ISREG(status.st_mode) || status.st_size > FILE_MAX) {
        iod_fail(reader->error, EINVAL, "%.160s: expected a plain file of at most 1 MiB", reader->file);
    } else if (!(text = malloc((size_t)status.st_size + 1))) {
        no_memory(reader);
    } else {
        ssize_t count = read(fd, text, (size_t)status.st_size);
        *length = count > 0 ? (size_t)count : 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    return text;
}

int list_file_read(struct list_file *list, const char *path, struct iod_error *error)
{
    struct reader reader = {.list = list, .file = path, .error = error};
    json_error_t syntax;
    size_t length = 0;
    int result;

    *list = (struct list_file){0};
    char *text = read_file(&reader, &length);
    if (!text) {
        return -error->code;
    }
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &syntax);
    free(text);
    if (!root) {
        return iod_fail(error, EINVAL, "%.100s:%d: %s", path, syntax.line, syntax.text);
    }
    result = take_list(&reader, root);
    json_decref(root);
    return result;
}

void list_file_finish(struct list_file *list)
{
    for (unsigned i = 0; i < list->count; i++) {
        struct list_entry *entry = &list->entries[i];
        for (unsigned k = 0; entry->arguments && entry->arguments[k]; k++) {
            free(entry->arguments[k]);
        }
        free(entry->arguments);
        free(entry->name);
        free(entry->program);
        free(entry->path);
        free(entry->value);
        free(entry->socket);
    }
    free(list->entries);
    *list = (struct list_file){0};
}
