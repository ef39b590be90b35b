/* SPDX-License-Identifier: BSD-2-Clause */
#include "main/command_line.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

#define RECORD_DIR "/run/ioreqd"
#define DOMID_LIMIT 0x7ff0u /* DOMID_FIRST_RESERVED */

enum flag {
    FLAG_MODULE = 256, /* past any character */
    FLAG_RECORD_DIR,
    FLAG_LOG,
    FLAG_READY_FD,
    FLAG_NO_XENSTORE,
    FLAG_EXIT_WHEN_GONE,
    FLAG_ARCH,
    FLAG_DOMAIN,
    FLAG_WAIT,
    FLAG_TYPE,
    FLAG_BESIDE,
    FLAG_ON_EXIT,
    FLAG_MAP_LIMIT,
    FLAG_BUFIOREQ,
    FLAG_DEVICE,
    FLAG_HELP,
    FLAG_VERSION,
};

static const struct option options[] = {
    {"module", required_argument, NULL, FLAG_MODULE},
    {"record-dir", required_argument, NULL, FLAG_RECORD_DIR},
    {"log", required_argument, NULL, FLAG_LOG},
    {"ready-fd", required_argument, NULL, FLAG_READY_FD},
    {"no-xenstore", no_argument, NULL, FLAG_NO_XENSTORE},
    {"exit-when-gone", no_argument, NULL, FLAG_EXIT_WHEN_GONE},
    {"arch", required_argument, NULL, FLAG_ARCH},
    {"domain", required_argument, NULL, FLAG_DOMAIN},
    {"wait", no_argument, NULL, FLAG_WAIT},
    {"type", required_argument, NULL, FLAG_TYPE},
    {"beside", no_argument, NULL, FLAG_BESIDE},
    {"on-exit", required_argument, NULL, FLAG_ON_EXIT},
    {"map-limit", required_argument, NULL, FLAG_MAP_LIMIT},
    {"bufioreq", required_argument, NULL, FLAG_BUFIOREQ},
    {"device", required_argument, NULL, FLAG_DEVICE},
    {"help", optional_argument, NULL, FLAG_HELP},
    {"version", no_argument, NULL, FLAG_VERSION},
    {NULL, 0, NULL, 0},
};

void command_line_usage(FILE *to)
{
    fputs("Usage: ioreqd [OPTION]... --domain ID|NAME [GUEST OPTION]... --device SPEC... [--domain ...]...\n"
          "Emulates devices for Xen guests.\n"
          "\n"
          "Options:\n"
          "  --module FILE.so        load a device module; may be repeated\n"
          "  --record-dir DIR        where to note what was made in Xen (" RECORD_DIR "); none: nowhere\n"
          "  --log LEVEL             error, warning, info (the default) or debug\n"
          "  --ready-fd N            write a line to this descriptor when all guests are running\n"
          "  --exit-when-gone        end when all guests are gone, also those with --wait\n"
          "  --no-xenstore           never ask xenstore\n"
          "  --help [device=?|device=NAME]\n"
          "  --version\n"
          "For the guest of the last --domain (--arch before the first one: for all):\n"
          "  --arch x86|arm          the guest's architecture (default: this host's)\n"
          "  --wait                  the domain need not exist yet, and is waited for again when it is gone\n"
          "  --type hvm|pvh          of an x86 guest (default: ask xenstore)\n"
          "  --beside                another emulator (QEMU) serves the guest too\n"
          "  --on-exit leave|destroy what becomes of its ioreq server when ioreqd ends\n"
          "  --map-limit SIZE        guest memory kept mapped, in bytes or with K, M, G\n"
          "  --bufioreq off|legacy|atomic\n"
          "  --device NAME[,KEY=VALUE]...\n"
          "See ioreqd(8).\n",
          to);
}

/* ---- values ---- */

/* The index of text in choices (ends with NULL), or -EINVAL. */
static int choice(const char *option, const char *text, const char *const *choices, struct iod_error *error)
{
    char known[80] = "";

    for (int i = 0; choices[i]; i++) {
        if (strcmp(text, choices[i]) == 0) {
            return i;
        }
        snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i ? ", " : "", choices[i]);
    }
    return iod_fail(error, EINVAL, "--%s %.60s: expected one of %s", option, text, known);
}

static int no_memory(struct iod_error *error)
{
    return iod_fail(error, ENOMEM, "out of memory");
}

static int set_log(struct command_line *line, const char *text, struct iod_error *error)
{
    static const char *const levels[] = {"error", "warning", "info", "debug", NULL};
    static const enum iod_log_level values[] = {IOD_LOG_ERROR, IOD_LOG_WARNING, IOD_LOG_INFO, IOD_LOG_DEBUG};
    int level = choice("log", text, levels, error);

    if (level < 0) {
        return level;
    }
    line->log_level = values[level];
    return 0;
}

/* Kept from the xenstore helper, so that a reader of the other end sees it close with us. */
static int set_ready_fd(struct command_line *line, const char *text, struct iod_error *error)
{
    uint64_t fd;

    if (option_parse_number(text, &fd) || fd > INT_MAX || fcntl((int)fd, F_SETFD, FD_CLOEXEC)) {
        return iod_fail(error, EINVAL, "--ready-fd %.60s: expected the number of an open descriptor", text);
    }
    line->ready_fd = (int)fd;
    return 0;
}

static int add_module(struct command_line *line, const char *path, struct iod_error *error)
{
    const char **modules = reallocarray(line->modules, line->module_count + 1, sizeof(*modules));

    if (!modules) {
        return no_memory(error);
    }
    line->modules = modules;
    modules[line->module_count++] = path;
    return 0;
}

/* 1 and 0x1 are one domid. */
static bool same_domain(const char *one, const char *other)
{
    uint64_t first, second;

    if (!option_parse_number(one, &first) && !option_parse_number(other, &second)) {
        return first == second;
    }
    return strcmp(one, other) == 0;
}

static int add_guest(struct command_line *line, enum guest_arch arch, const char *domain,
                     struct iod_error *error)
{
    struct guest_spec *guests;
    uint64_t domid;

    if (!domain[0] || domain[0] == '-' || strlen(domain) >= 128) { /* -: the next option, its value forgotten */
        return iod_fail(error, EINVAL, "--domain '%.60s': expected a domid or a name of 1 to 127 characters",
                        domain);
    }
    if (!option_parse_number(domain, &domid) && domid >= DOMID_LIMIT) {
        return iod_fail(error, EINVAL, "--domain %.60s: a domid is less than %u", domain, DOMID_LIMIT);
    }
    for (unsigned i = 0; i < line->guest_count; i++) {
        if (same_domain(line->guests[i].domain, domain)) {
            return iod_fail(error, EINVAL, "--domain %.60s: given twice", domain);
        }
    }
    guests = reallocarray(line->guests, line->guest_count + 1, sizeof(*guests));
    if (!guests) {
        return no_memory(error);
    }
    line->guests = guests;
    guest_spec_init(&guests[line->guest_count]);
    guests[line->guest_count].arch = arch;
    guests[line->guest_count].domain = strdup(domain);
    if (!guests[line->guest_count].domain) {
        return no_memory(error);
    }
    line->guest_count++;
    return 0;
}

/* ---- options of one guest ---- */

static int set_chosen(struct guest_spec *guest, int flag, const char *text, struct iod_error *error)
{
    static const char *const types[] = {"hvm", "pvh", NULL};
    static const char *const ends[] = {"leave", "destroy", NULL};
    static const char *const kinds[] = {"off", "legacy", "atomic", NULL};
    int chosen;

    switch (flag) {
    case FLAG_TYPE:
        chosen = choice("type", text, types, error);
        guest->type = chosen == 0 ? GUEST_HVM : GUEST_PVH;
        break;
    case FLAG_ON_EXIT:
        chosen = choice("on-exit", text, ends, error);
        guest->on_exit = chosen == 0 ? ON_EXIT_LEAVE : ON_EXIT_DESTROY;
        break;
    default:
        chosen = choice("bufioreq", text, kinds, error);
        guest->bufioreq = chosen == 0 ? BUF_OFF : chosen == 1 ? BUF_LEGACY : BUF_ATOMIC;
    }
    return chosen < 0 ? chosen : 0;
}

static int set_map_limit(struct guest_spec *guest, const char *text, struct iod_error *error)
{
    if (option_parse_size(text, &guest->map_limit) || !guest->map_limit) {
        return iod_fail(error, EINVAL, "--map-limit %.60s: expected bytes above 0, or with K, M, G or T",
                        text);
    }
    return 0;
}

static int set_of_guest(struct command_line *line, int flag, const char *name, const char *text,
                        struct iod_error *error)
{
    struct guest_spec *guest;

    if (!line->guest_count) {
        return iod_fail(error, EINVAL, "--%s: belongs to a guest: expected after its --domain", name);
    }
    guest = &line->guests[line->guest_count - 1];
    switch (flag) {
    case FLAG_WAIT:
        guest->wait = true;
        return 0;
    case FLAG_BESIDE:
        guest->beside = true;
        return 0;
    case FLAG_MAP_LIMIT:
        return set_map_limit(guest, text, error);
    case FLAG_DEVICE:
        return guest_spec_add_device(guest, text, error);
    default:
        return set_chosen(guest, flag, text, error);
    }
}

/* ---- the whole line ---- */

static int set_help(struct command_line *line, const char *about, struct iod_error *error)
{
    if (!about) {
        line->command = COMMAND_HELP;
        return 0;
    }
    if (strncmp(about, "device=", 7) || !about[7]) {
        return iod_fail(error, EINVAL, "--help %.60s: expected device=? or device=NAME", about);
    }
    line->command = strcmp(about + 7, "?") ? COMMAND_HELP_DEVICE : COMMAND_HELP_DEVICES;
    line->help_device = about + 7;
    return 0;
}

static int set_arch(struct command_line *line, enum guest_arch *all, const char *text,
                    struct iod_error *error)
{
    static const char *const arches[] = {"x86", "arm", NULL};
    int arch = choice("arch", text, arches, error);

    if (arch < 0) {
        return arch;
    }
    *(line->guest_count ? &line->guests[line->guest_count - 1].arch : all) = arch == 0 ? ARCH_X86 : ARCH_ARM;
    return 0;
}

static int set_flag(struct command_line *line, enum guest_arch *all, int flag, const char *name,
                    const char *text, struct iod_error *error)
{
    switch (flag) {
    case FLAG_MODULE:
        return add_module(line, text, error);
    case FLAG_RECORD_DIR:
        line->record_dir = strcmp(text, "none") ? text : NULL;
        return 0;
    case FLAG_LOG:
        return set_log(line, text, error);
    case FLAG_READY_FD:
        return set_ready_fd(line, text, error);
    case FLAG_NO_XENSTORE:
        line->no_xenstore = true;
        return 0;
    case FLAG_EXIT_WHEN_GONE:
        line->exit_when_gone = true;
        return 0;
    case FLAG_ARCH:
        return set_arch(line, all, text, error);
    case FLAG_DOMAIN:
        return add_guest(line, *all, text, error);
    case FLAG_VERSION:
        line->command = COMMAND_VERSION;
        return 0;
    default:
        return set_of_guest(line, flag, name, text, error);
    }
}

static bool is_domid(const char *domain)
{
    uint64_t number;

    return option_parse_number(domain, &number) == 0;
}

static int check(const struct command_line *line, struct iod_error *error)
{
    if (line->command != COMMAND_RUN) {
        return 0;
    }
    if (!line->guest_count) {
        return iod_fail(error, EINVAL, "no guest: expected --domain ID|NAME; see ioreqd --help");
    }
    for (unsigned i = 0; i < line->guest_count; i++) {
        const struct guest_spec *guest = &line->guests[i];
        if (!guest->device_count) {
            return iod_fail(error, EINVAL, "--domain %.60s: expected at least one --device", guest->domain);
        }
        if (guest->arch == ARCH_ARM && guest->type != GUEST_UNKNOWN) {
            return iod_fail(error, EINVAL, "--domain %.60s: --type is of x86 guests only", guest->domain);
        }
        if (guest->arch == ARCH_ARM && guest->bufioreq != BUF_DEFAULT && guest->bufioreq != BUF_OFF) {
            return iod_fail(error, EINVAL, "--domain %.60s: Xen has no buffered ring on Arm: --bufioreq off",
                            guest->domain);
        }
        if (line->no_xenstore && !is_domid(guest->domain)) {
            return iod_fail(error, EINVAL,
                            "--domain %.60s: a name needs xenstore: expected a domid with --no-xenstore",
                            guest->domain);
        }
    }
    return 0;
}

/* getopt's own message would go past our log. */
static int refuse(char **argv, int flag, struct iod_error *error)
{
    const char *word = argv[optind - 1];

    if (flag == ':') {
        return iod_fail(error, EINVAL, "%.80s: expected an argument", word);
    }
    return iod_fail(error, EINVAL, "%.80s: not an option, or not as given here; see ioreqd --help", word);
}

int command_line_parse(struct command_line *line, int argc, char **argv, struct iod_error *error)
{
    enum guest_arch all;
    struct guest_spec host;
    int flag, which = 0, ret = 0;

    guest_spec_init(&host);
    all = host.arch;
    *line = (struct command_line){.record_dir = RECORD_DIR, .log_level = IOD_LOG_INFO, .ready_fd = -1};
    optind = 0; /* glibc: start anew, also after an earlier line */
    while (!ret && (flag = getopt_long(argc, argv, "+:", options, &which)) != -1) {
        if (flag == '?' || flag == ':') {
            return refuse(argv, flag, error);
        }
        if (flag == FLAG_HELP) { /* --help=device=X, or --help device=X */
            bool next = !optarg && optind < argc && argv[optind][0] != '-';
            return set_help(line, next ? argv[optind] : optarg, error);
        }
        ret = set_flag(line, &all, flag, options[which].name, optarg, error);
    }
    if (!ret && optind < argc) {
        ret = iod_fail(error, EINVAL, "%.80s: expected an option (a value with blanks needs quotes)",
                       argv[optind]);
    }
    return ret ? ret : check(line, error);
}

void command_line_finish(struct command_line *line)
{
    for (unsigned i = 0; i < line->guest_count; i++) {
        guest_spec_finish(&line->guests[i]);
    }
    free(line->guests);
    free(line->modules);
    *line = (struct command_line){.ready_fd = -1};
}

bool command_line_needs_store(const struct command_line *line)
{
    for (unsigned i = 0; i < line->guest_count && !line->no_xenstore; i++) {
        const struct guest_spec *guest = &line->guests[i];
        if (guest->wait || !is_domid(guest->domain) ||
            (guest->arch == ARCH_X86 && guest->type == GUEST_UNKNOWN)) {
            return true;
        }
    }
    return false;
}
