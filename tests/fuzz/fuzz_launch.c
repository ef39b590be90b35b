/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * By byte 0: bytes as what a QMP client sends through ioreqd-dm (cut into values, each judged), as the arguments that a
 * device model is given (one a line), or as the file of ioreqd --list.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <jansson.h>

#include "launch/dm_args.h"
#include "launch/json_cut.h"
#include "launch/list_file.h"
#include "launch/qmp_filter.h"

#include "fuzz.h"

#define CUT_LIMIT 512 /* of a value, so that the bytes can pass it */

/* ---- QMP ---- */

static void judge(const struct json_cut *cut)
{
    char *reply;
    int verdict = qmp_filter_judge(cut->text, cut->length, &reply);
    FUZZ_CHECK(verdict == 0 || verdict == 1);
    if (verdict) {
        json_t *value = json_loads(reply, 0, NULL);
        FUZZ_CHECK(json_object_get(value, "error") && !strcmp(reply + strlen(reply) - 2, "\r\n"));
        json_decref(value);
    } else {
        json_t *value = json_loadb(cut->text, cut->length, JSON_DECODE_INT_AS_REAL, NULL);
        const char *name = json_string_value(json_object_get(value, "execute"));
        FUZZ_CHECK(json_is_object(value) && (!name || strcmp(name, "xen-save-devices-state")));
        json_decref(value);
    }
    free(reply);
}

/* A number for the values that are cut off when the bytes come in pieces of `step`. */
static uint64_t cut_in(const uint8_t *bytes, size_t length, size_t step, bool judged)
{
    struct json_cut cut;
    uint64_t sum = 1469598103934665603u;
    json_cut_init(&cut, CUT_LIMIT);
    for (size_t at = 0; at < length;) {
        bool whole;
        size_t part = length - at < step ? length - at : step;
        size_t taken = json_cut_feed(&cut, (const char *)bytes + at, part, &whole);
        FUZZ_CHECK(taken <= part && (whole || taken == part) && cut.length <= CUT_LIMIT);
        at += taken;
        if (whole) {
            sum = (sum ^ cut.overlong) * 1099511628211u;
            for (size_t i = 0; i < cut.length; i++) {
                sum = (sum ^ (uint8_t)cut.text[i]) * 1099511628211u;
            }
            if (judged && !cut.overlong) {
                judge(&cut);
            }
            json_cut_next(&cut);
        }
    }
    json_cut_finish(&cut);
    return sum;
}

static void qmp(const uint8_t *bytes, size_t length)
{
    uint64_t sum = cut_in(bytes, length, length + 1, true);
    FUZZ_CHECK(cut_in(bytes, length, 1, false) == sum && cut_in(bytes, length, 7, false) == sum);
}

/* ---- arguments ---- */

static void check_qemu(const struct dm_args *args, char **argv, int argc)
{
    for (unsigned i = 1; i < args->qemu_count; i++) {
        FUZZ_CHECK(args->qemu[i]);
    }
    FUZZ_CHECK(!args->qemu[args->qemu_count] && args->qemu_count <= 2 * (unsigned)argc + 1);
    for (unsigned i = 0; i < args->qmp_count; i++) {
        FUZZ_CHECK(args->qmps[i].argument < args->qemu_count && args->qmps[i].rest);
        FUZZ_CHECK(args->qmps[i].path || args->qmps[i].fd >= 0);
    }
}

static void arguments(const uint8_t *bytes, size_t length)
{
    char text[4097], *argv[512], *rest = text;
    struct dm_args args;
    struct iod_error error = {0};
    int argc = 0;
    length = length < sizeof(text) - 1 ? length : sizeof(text) - 1;
    memcpy(text, bytes, length);
    text[length] = '\0';
    argv[argc++] = (char *)(uintptr_t) "ioreqd-dm";
    for (char *word; argc < 511 && (word = strsep(&rest, "\n"));) {
        argv[argc++] = word;
    }
    argv[argc] = NULL;
    if (!dm_args_parse(&args, argc, argv, &error)) {
        check_qemu(&args, argv, argc);
        for (unsigned i = 0; i < args.qmp_count; i++) {
            FUZZ_CHECK(!dm_args_set_qmp(&args, &args.qmps[i], 7));
        }
        for (unsigned i = 0; i < args.ioreqd_count; i++) {
            char **command = dm_args_ioreqd(&args, i, "ioreqd");
            FUZZ_CHECK(command && !strcmp(command[0], "ioreqd"));
            dm_args_free_command(command);
        }
    } else {
        FUZZ_CHECK(error.code > 0 && error.text[0]);
    }
    dm_args_finish(&args);
}

/* ---- the list ---- */

static void list_file(const uint8_t *bytes, size_t length)
{
    struct list_file list;
    struct iod_error error = {0};
    char path[32];
    int fd = memfd_create("list", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (!list_file_read(&list, path, &error)) {
        FUZZ_CHECK(list.count > 0 && list.count <= LIST_ENTRIES_MAX);
        for (unsigned i = 0; i < list.count; i++) {
            const struct list_entry *entry = &list.entries[i];
            FUZZ_CHECK(entry->name && entry->limit_ns > 0);
            FUZZ_CHECK((entry->program != NULL) + (entry->pid > 0) + (entry->socket != NULL) == 1);
            FUZZ_CHECK(!entry->program || (entry->arguments && !strcmp(entry->arguments[0], entry->program)));
            FUZZ_CHECK(entry->ready < LIST_READY_PIDFILE || entry->path);
        }
    } else {
        FUZZ_CHECK(error.code > 0 && error.text[0]);
    }
    list_file_finish(&list);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    if (length > 0) {
        void (*const parts[])(const uint8_t *, size_t) = {qmp, arguments, list_file};
        parts[bytes[0] % 3](bytes + 1, length - 1);
    }
    return 0;
}
