/* SPDX-License-Identifier: BSD-2-Clause */
#include "launch/dm_args.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/options.h"
#include "core/spec.h"
#include "launch/list_file.h"

#define LIMIT_DEFAULT_S 30 /* libxl gives the whole device model 60 s */
#define LIMIT_MAX_S 3600
#define DOMID_LIMIT 0x7ff0u /* DOMID_FIRST_RESERVED */

/* Where the QEMU that libxl would take, or that is built for Xen, usually is. */
static const char *const qemu_places[] = {
    "/usr/libexec/xen-qemu-system-i386",        /* Debian 12: qemu-system-xen */
    "/usr/lib/xen/bin/qemu-system-i386",        /* Xen's own build, and other distributions */
    "/usr/libexec/xen/bin/qemu-system-i386",
    "/usr/local/lib/xen/bin/qemu-system-i386",
    "/usr/lib/xen-4.17/bin/qemu-system-i386",
    "/usr/bin/qemu-system-i386",
    "/usr/bin/qemu-system-x86_64",
};

/* ---- QEMU's option text ---- */

/* The end of the part that begins at text: its comma, or the NUL. A doubled comma is no end. */
static const char *part_end(const char *text)
{
    while (*text && (text[0] != ',' || text[1] == ',')) {
        text += text[0] == ',' ? 2 : 1;
    }
    return text;
}

static bool part_is(const char *part, const char *end, const char *key)
{
    size_t length = strlen(key);

    return (size_t)(end - part) >= length && !strncmp(part, key, length) &&
           (part + length == end || part[length] == '=');
}

static char *unescaped(const char *from, const char *end)
{
    char *value = malloc((size_t)(end - from) + 1), *to = value;

    while (value && from < end) {
        *to++ = *from;
        from += from[0] == ',' ? 2 : 1;
    }
    if (value) {
        *to = '\0';
    }
    return value;
}

char *dm_option_value(const char *text, const char *key)
{
    for (const char *part = text, *end;; part = end + 1) {
        end = part_end(part);
        if (part_is(part, end, key)) {
            part += strlen(key) + (part + strlen(key) < end);
            return unescaped(part, end);
        }
        if (!*end) {
            return NULL;
        }
    }
}

static bool option_is(const char *text, const char *key, const char *expected)
{
    char *value = dm_option_value(text, key);
    bool is = value && !strcmp(value, expected);

    free(value);
    return is;
}

static bool option_given(const char *text, const char *key)
{
    char *value = dm_option_value(text, key);
    bool given = value != NULL;

    free(value);
    return given;
}

/* "server", "server=on" */
static bool option_on(const char *text, const char *key)
{
    char *value = dm_option_value(text, key);
    bool on = value && (!value[0] || !strcmp(value, "on") || !strcmp(value, "yes"));

    free(value);
    return on;
}

/* The text without its parts path= and fd=. */
static char *without_place(const char *text)
{
    char *rest = malloc(strlen(text) + 1), *to = rest;

    for (const char *part = text, *end; rest; part = end + 1) {
        end = part_end(part);
        if (!part_is(part, end, "path") && !part_is(part, end, "fd")) {
            if (to > rest) {
                *to++ = ',';
            }
            memcpy(to, part, (size_t)(end - part));
            to += end - part;
        }
        if (!*end) {
            *to = '\0';
            break;
        }
    }
    return rest;
}

/* ---- QMP ---- */

/* Is the chardev a monitor's that speaks QMP? */
static bool is_qmp(const struct dm_args *args, const char *id)
{
    for (unsigned i = 1; i + 1 < args->qemu_count; i++) {
        const char *value = args->qemu[i + 1];
        if (!strcmp(args->qemu[i], "-mon") && option_is(value, "mode", "control") &&
            (option_is(value, "chardev", id) || !strncmp(value, id, (size_t)(part_end(value) - value)))) {
            return true;
        }
    }
    return false;
}

static int add_qmp(struct dm_args *args, unsigned argument, struct iod_error *error)
{
    const char *text = args->qemu[argument];
    struct dm_qmp *qmp = &args->qmps[args->qmp_count];
    char *fd = dm_option_value(text, "fd");
    uint64_t number = 0;
    bool good;

    if (args->qmp_count == DM_QMPS_MAX) {
        free(fd);
        return iod_fail(error, E2BIG, "more than %u QMP monitors on sockets", DM_QMPS_MAX);
    }
    *qmp = (struct dm_qmp){.argument = argument, .rest = without_place(text), .fd = -1,
                           .path = dm_option_value(text, "path")};
    args->qmp_count++;
    good = qmp->rest && (fd ? !option_parse_number(fd, &number) && number <= INT_MAX : qmp->path != NULL);
    if (good && fd) {
        free(qmp->path);
        qmp->path = NULL;
        qmp->fd = (int)number;
    }
    free(fd);
    return good ? 0 : iod_fail(error, EINVAL, "-chardev %.120s: expected path= or fd=", text);
}

/* -qmp unix:PATH,server,nowait, as xenopsd writes it, becomes the -chardev and -mon that it is short for. */
static int spell_out(struct dm_args *args, unsigned option, struct iod_error *error)
{
    const char *text = args->qemu[option + 1], *path_end = part_end(text);
    bool waits = !option_given(text, "nowait") && !option_is(text, "wait", "off");
    char *chardev, *monitor, *words[4] = {NULL};

    if (asprintf(&chardev, "socket,id=ioreqd-dm-%u,path=%.*s,server=on%s", option,
                 (int)(path_end - text - 5), text + 5, waits ? "" : ",wait=off") < 0) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    if (asprintf(&monitor, "chardev=ioreqd-dm-%u,mode=control%s", option,
                 strcmp(args->qemu[option], "-qmp-pretty") ? "" : ",pretty=on") < 0) {
        free(chardev);
        return iod_fail(error, ENOMEM, "out of memory");
    }
    words[0] = strdup("-chardev");
    words[1] = chardev;
    words[2] = strdup("-mon");
    words[3] = monitor;
    for (unsigned i = 0; i < 2; i++) {
        free(args->qemu[option + i]);
        args->qemu[option + i] = words[i];
        args->qemu[args->qemu_count++] = words[2 + i];
    }
    return words[0] && words[2] ? 0 : iod_fail(error, ENOMEM, "out of memory");
}

static int spell_out_all(struct dm_args *args, struct iod_error *error)
{
    unsigned count = args->qemu_count;
    int result = 0;

    for (unsigned i = 1; i + 1 < count && !result; i++) {
        bool qmp = !strcmp(args->qemu[i], "-qmp") || !strcmp(args->qemu[i], "-qmp-pretty");
        const char *text = args->qemu[i + 1];
        if (qmp && !strncmp(text, "unix:", 5) && option_on(text, "server") && !option_on(text, "abstract")) {
            result = spell_out(args, i, error);
        }
    }
    return result;
}

static int find_qmps(struct dm_args *args, struct iod_error *error)
{
    int result = spell_out_all(args, error);

    for (unsigned i = 1; i + 1 < args->qemu_count && !result; i++) {
        const char *text = args->qemu[i + 1];
        if (strcmp(args->qemu[i], "-chardev") || strncmp(text, "socket,", 7) || !option_on(text, "server")) {
            continue;
        }
        char *id = dm_option_value(text, "id");
        char *host = dm_option_value(text, "host");
        if (id && !host && !option_on(text, "abstract") && is_qmp(args, id)) {
            result = add_qmp(args, i + 1, error);
        }
        free(id);
        free(host);
    }
    return result;
}

int dm_args_set_qmp(struct dm_args *args, const struct dm_qmp *qmp, int fd)
{
    char *text;

    if (asprintf(&text, "%s,fd=%d", qmp->rest, fd) < 0) {
        return -ENOMEM;
    }
    free(args->qemu[qmp->argument]);
    args->qemu[qmp->argument] = text;
    return 0;
}

/* ---- the vector ---- */

static int add(const char ***list, unsigned *count, const char *text)
{
    const char **longer = reallocarray(*list, *count + 1, sizeof(**list));

    if (!longer) {
        return -ENOMEM;
    }
    *list = longer;
    longer[(*count)++] = text;
    return 0;
}

static int parse_limit(struct dm_args *args, const char *text, struct iod_error *error)
{
    uint64_t seconds;

    if (option_parse_number(text, &seconds) || !seconds || seconds > LIMIT_MAX_S) {
        return iod_fail(error, EINVAL, "-ioreqd-timeout %.40s: expected seconds, 1 to %d", text, LIMIT_MAX_S);
    }
    args->limit_ns = seconds * UINT64_C(1000000000);
    return 0;
}

static int begin_ioreqd(struct dm_args *args, struct iod_error *error)
{
    if (args->ioreqd_count == DM_IOREQDS_MAX) {
        return iod_fail(error, E2BIG, "-ioreqd-extra: a guest has %u ioreqds at most", DM_IOREQDS_MAX);
    }
    args->ioreqd_count++;
    return 0;
}

/* A spec that can't be right is told before anything runs; whether it fits the device is ioreqd's to say. */
static int add_spec(struct dm_args *args, const char *text, struct iod_error *error)
{
    struct dm_ioreqd *ioreqd = &args->ioreqds[args->ioreqd_count - 1];
    struct device_spec spec = {0};
    int result = device_spec_parse(&spec, text, error);

    device_spec_finish(&spec);
    return result ? result
           : add(&ioreqd->specs, &ioreqd->spec_count, text) ? iod_fail(error, ENOMEM, "out of memory")
                                                            : 0;
}

static int take_own(struct dm_args *args, const char *option, const char *value, struct iod_error *error)
{
    if (!value) {
        return iod_fail(error, EINVAL, "%s: expected a value", option);
    }
    if (!strcmp(option, "-ioreqd-qemu")) {
        args->qemu_program = value;
        return 0;
    }
    if (!strcmp(option, "-ioreqd-program")) {
        args->ioreqd_program = value;
        return 0;
    }
    if (!strcmp(option, "-ioreqd-timeout")) {
        return parse_limit(args, value, error);
    }
    if (!args->ioreqd_count && begin_ioreqd(args, error)) {
        return -error->code;
    }
    if (!strcmp(option, "-ioreqd")) {
        return add_spec(args, value, error);
    }
    if (!strcmp(option, "-ioreqd-arg")) {
        struct dm_ioreqd *ioreqd = &args->ioreqds[args->ioreqd_count - 1];
        return add(&ioreqd->arguments, &ioreqd->argument_count, value)
                   ? iod_fail(error, ENOMEM, "out of memory")
                   : 0;
    }
    return iod_fail(error, EINVAL, "%.60s: no such option; see ioreqd-dm(8)", option);
}

/* What QEMU gets, and what of it we must know. */
static int take_qemu(struct dm_args *args, const char *option, const char *value, struct iod_error *error)
{
    uint64_t domid;

    args->qemu[args->qemu_count] = strdup(option);
    if (!args->qemu[args->qemu_count++]) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    if (!strcmp(option, "-xen-attach")) {
        args->paravirtual = true;
    }
    if (strcmp(option, "-xen-domid")) {
        return 0;
    }
    if (!value || option_parse_number(value, &domid) || domid >= DOMID_LIMIT) {
        return iod_fail(error, EINVAL, "-xen-domid %.40s: expected a domid", value ? value : "");
    }
    args->has_domid = true;
    args->domid = (uint16_t)domid;
    return 0;
}

/* Their values are free text, which may look like an option. */
static bool has_free_text(const char *option)
{
    return !strcmp(option, "-name") || !strcmp(option, "-append");
}

static int take_all(struct dm_args *args, int argc, char **argv, struct iod_error *error)
{
    int result = 0;

    for (int i = 1; i < argc && !result; i++) {
        bool verbatim = i > 1 && has_free_text(argv[i - 1]);
        if (!verbatim && !strcmp(argv[i], "-ioreqd-extra")) {
            result = begin_ioreqd(args, error);
        } else if (!verbatim && !strncmp(argv[i], "-ioreqd", 7)) {
            result = take_own(args, argv[i], argv[i + 1], error);
            i++;
        } else {
            result = take_qemu(args, argv[i], argv[i + 1], error);
        }
    }
    return result;
}

static int check(const struct dm_args *args, struct iod_error *error)
{
    for (unsigned i = 0; i < args->ioreqd_count; i++) {
        if (!args->ioreqds[i].spec_count) {
            return iod_fail(error, EINVAL, "ioreqd %u of %u: expected at least one -ioreqd SPEC", i + 1,
                            args->ioreqd_count);
        }
    }
    if (args->ioreqd_count && args->paravirtual) {
        return iod_fail(error, EINVAL,
                        "-ioreqd: for HVM guests only, this one is PV or PVH; run ioreqd itself "
                        "(xl create -p, ioreqd --domain NAME, xl unpause)");
    }
    return 0;
}

int dm_args_parse(struct dm_args *args, int argc, char **argv, struct iod_error *error)
{
    *args = (struct dm_args){.limit_ns = LIMIT_DEFAULT_S * UINT64_C(1000000000)};
    args->qemu = calloc(2 * (size_t)argc + 2, sizeof(*args->qemu)); /* a -qmp becomes two options */
    if (!args->qemu) {
        return iod_fail(error, ENOMEM, "out of memory");
    }
    args->qemu_count = 1; /* [0]: dm_args_find_qemu says */
    int result = take_all(args, argc, argv, error);
    result = result ? result : check(args, error);
    return result || !args->ioreqd_count ? result : find_qmps(args, error);
}

void dm_args_finish(struct dm_args *args)
{
    for (unsigned i = 0; i < DM_IOREQDS_MAX; i++) {
        free(args->ioreqds[i].specs);
        free(args->ioreqds[i].arguments);
    }
    for (unsigned i = 1; i < args->qemu_count; i++) {
        free(args->qemu[i]);
    }
    for (unsigned i = 0; i < args->qmp_count; i++) {
        free(args->qmps[i].rest);
        free(args->qmps[i].path);
    }
    free(args->qemu);
    *args = (struct dm_args){0};
}

/* ---- ioreqd's command ---- */

char **dm_args_ioreqd(const struct dm_args *args, unsigned index, const char *program)
{
    const struct dm_ioreqd *ioreqd = &args->ioreqds[index];
    const char *fixed[] = {"--ready-fd", LIST_READY_FD, "--domain",  NULL,     "--type",
                           "hvm",        "--beside",    "--on-exit", "destroy"};
    unsigned fixed_count = sizeof(fixed) / sizeof(fixed[0]), count = 0;
    char domid[8];
    char **command =
        calloc(ioreqd->argument_count + fixed_count + 2 * ioreqd->spec_count + 2, sizeof(*command));
    bool good = command && (command[count++] = strdup(program));

    snprintf(domid, sizeof(domid), "%u", args->domid);
    fixed[3] = domid;
    for (unsigned i = 0; good && i < ioreqd->argument_count; i++) {
        good = (command[count++] = strdup(ioreqd->arguments[i]));
    }
    for (unsigned i = 0; good && i < fixed_count; i++) {
        good = (command[count++] = strdup(fixed[i]));
    }
    for (unsigned i = 0; good && i < ioreqd->spec_count; i++) {
        good = (command[count++] = strdup("--device")) && (command[count++] = strdup(ioreqd->specs[i]));
    }
    if (!good) {
        dm_args_free_command(command);
        return NULL;
    }
    return command;
}

void dm_args_free_command(char **command)
{
    for (unsigned i = 0; command && command[i]; i++) {
        free(command[i]);
    }
    free(command);
}

const char *dm_args_find_qemu(const struct dm_args *args, struct iod_error *error)
{
    unsigned count = sizeof(qemu_places) / sizeof(qemu_places[0]);

    if (args->qemu_program) {
        if (access(args->qemu_program, X_OK)) {
            iod_fail(error, errno, "-ioreqd-qemu %.160s: %s", args->qemu_program, strerror(errno));
            return NULL;
        }
        return args->qemu_program;
    }
    for (unsigned i = 0; i < count; i++) {
        if (!access(qemu_places[i], X_OK)) {
            return qemu_places[i];
        }
    }
    iod_fail(error, ENOENT,
             "no QEMU found (%s and %u other places, see ioreqd-dm(8)): install one, or name it with "
             "-ioreqd-qemu PATH",
             qemu_places[0], count - 1);
    return NULL;
}
