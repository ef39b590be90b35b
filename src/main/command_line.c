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
#include <unistd.h>

#include "core/options.h"

#define RECORD_DIR "/run/ioreqd"
#ifndef CONFIG_FILE /* where meson install puts it */
#define CONFIG_FILE "/etc/ioreqd/ioreqd.conf"
#endif
#define CONTROL_SOCKET "/run/ioreqd/control"
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
    FLAG_SERVICE,
    FLAG_CONFIG,
    FLAG_HOST_DTB,
    FLAG_DTB,
    FLAG_CONTROL,
    FLAG_CONTROL_GROUP,
    FLAG_PIDFILE,
    FLAG_CHECK,
    FLAG_PREFLIGHT,
    FLAG_PRINT_DT,
    FLAG_LIST,
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
    {"slots", required_argument, NULL, FLAG_SLOTS},
    {"stuck", required_argument, NULL, FLAG_STUCK},
    {"stuck-limit", required_argument, NULL, FLAG_STUCK_LIMIT},
    {"unlimited", no_argument, NULL, FLAG_UNLIMITED},
    {"device", required_argument, NULL, FLAG_DEVICE},
    {"service", no_argument, NULL, FLAG_SERVICE},
    {"config", required_argument, NULL, FLAG_CONFIG},
    {"host-dtb", required_argument, NULL, FLAG_HOST_DTB},
    {"dtb", required_argument, NULL, FLAG_DTB},
    {"control", required_argument, NULL, FLAG_CONTROL},
    {"control-group", required_argument, NULL, FLAG_CONTROL_GROUP},
    {"pidfile", required_argument, NULL, FLAG_PIDFILE},
    {"check", optional_argument, NULL, FLAG_CHECK},
    {"preflight", optional_argument, NULL, FLAG_PREFLIGHT},
    {"print-dt", required_argument, NULL, FLAG_PRINT_DT},
    {"list", required_argument, NULL, FLAG_LIST},
    {"help", optional_argument, NULL, FLAG_HELP},
    {"version", no_argument, NULL, FLAG_VERSION},
    {NULL, 0, NULL, 0},
};

void command_line_usage(FILE *to)
{
    fputs("Usage: ioreqd [OPTION]... --domain ID|NAME [GUEST OPTION]... --device SPEC... [--domain ...]...\n"
          "       ioreqd --service [--config FILE] [OPTION]...\n"
          "       ioreqd --check [FILE] [--dtb FILE] | --print-dt GUEST | --preflight [DOMID] | --list FILE\n"
          "Emulates devices for Xen guests.\n"
          "\n"
          "Options:\n"
          "  --service               serve guests as they come and go, until a signal ends it\n"
          "  --config FILE           guests of a file and of conf.d beside it\n"
          "                          (with --service: " CONFIG_FILE ", if it exists)\n"
          "  --host-dtb FILE|running guests of a dom0less device tree; running: this machine's own\n"
          "  --control PATH          socket for ioreqctl (with --service: " CONTROL_SOCKET "); none: none\n"
          "  --control-group GROUP   whose members may use it, besides root\n"
          "  --module FILE.so|NAME   load a device module (NAME: an installed one); may be repeated\n"
          "  --record-dir DIR        where to note what was made in Xen (" RECORD_DIR "); none: nowhere\n"
          "  --log LEVEL             error, warning, info (the default) or debug\n"
          "  --ready-fd N            write a line to this descriptor when all guests are running\n"
          "  --pidfile FILE          hold it locked, with our pid in it\n"
          "  --exit-when-gone        end when all guests are gone, also those with --wait\n"
          "  --no-xenstore           never ask xenstore\n",
          to);
    fputs("  --check [FILE]          verify a configuration file, without Xen; --dtb FILE: against this guest tree\n"
          "  --print-dt GUEST        the partial device tree that a guest of the configuration needs\n"
          "  --preflight [DOMID]     what will not work here (for this domain), and why\n"
          "  --list FILE             run several emulators for one guest\n"
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
          "  --slots N               PCIe root ports to plug devices into while it runs (not for HVM)\n"
          "  --stuck wait|ones|detach what becomes of an access that waits too long\n"
          "  --stuck-limit MS        how long is too long (10000)\n"
          "  --unlimited             never slow this guest down, whatever it does\n"
          "  --device NAME[,KEY=VALUE]...\n"
          "See ioreqd(8).\n",
          to);
}

/* ---- values ---- */

static int no_memory(struct iod_error *error)
{
    return iod_fail(error, ENOMEM, "out of memory");
}

static int set_log(struct command_line *line, const char *text, struct iod_error *error)
{
    static const char *const levels[] = {"error", "warning", "info", "debug", NULL};
    static const enum iod_log_level values[] = {IOD_LOG_ERROR, IOD_LOG_WARNING, IOD_LOG_INFO, IOD_LOG_DEBUG};
    int level = command_choice("log", text, levels, error);

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

/* The guest of the last --domain, or NULL with *error filled. */
static struct guest_spec *last_guest(struct command_line *line, const char *name, struct iod_error *error)
{
    if (!line->guest_count) {
        iod_fail(error, EINVAL, "--%s: belongs to a guest: expected after its --domain", name);
        return NULL;
    }
    return &line->guests[line->guest_count - 1];
}

/* --check, --preflight, ...: one of them is what the program does. */
static int set_command(struct command_line *line, enum command command, const char *subject,
                       struct iod_error *error)
{
    if (line->command != COMMAND_RUN) {
        return iod_fail(error, EINVAL,
                        "expected one of --service, --check, --preflight, --print-dt and --list");
    }
    line->command = command;
    line->subject = subject;
    return 0;
}

static int set_arch(struct command_line *line, enum guest_arch *all, const char *text,
                    struct iod_error *error)
{
    static const char *const arches[] = {"x86", "arm", NULL};
    int arch = command_choice("arch", text, arches, error);

    if (arch < 0) {
        return arch;
    }
    *(line->guest_count ? &line->guests[line->guest_count - 1].arch : all) = arch == 0 ? ARCH_X86 : ARCH_ARM;
    return 0;
}

static const char *unless_none(const char *text)
{
    return strcmp(text, "none") ? text : NULL;
}

static int set_flag(struct command_line *line, enum guest_arch *all, int flag, const char *name,
                    const char *text, struct iod_error *error)
{
    struct guest_spec *guest;

    switch (flag) {
    case FLAG_MODULE:
        return add_module(line, text, error);
    case FLAG_RECORD_DIR:
        line->record_dir = unless_none(text);
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
    case FLAG_CONFIG:
        line->config = text;
        return 0;
    case FLAG_HOST_DTB:
        line->host_dtb = text;
        return 0;
    case FLAG_DTB:
        line->dtb = text;
        return 0;
    case FLAG_CONTROL:
        line->control = unless_none(text);
        return 0;
    case FLAG_CONTROL_GROUP:
        line->control_group = text;
        return 0;
    case FLAG_PIDFILE:
        line->pidfile = text;
        return 0;
    case FLAG_VERSION:
        line->command = COMMAND_VERSION;
        return 0;
    default:
        guest = last_guest(line, name, error);
        return guest ? command_guest_set(guest, (enum guest_flag)flag, name, text, error) : -EINVAL;
    }
}

/* The options that say what the program does; true if it was one. `next`: a word that may be its argument. */
static bool set_what(struct command_line *line, int flag, const char *text, const char **next,
                     int *result, struct iod_error *error)
{
    enum command command;
    const char *subject = text;

    switch (flag) {
    case FLAG_SERVICE:
        command = COMMAND_SERVICE;
        break;
    case FLAG_CHECK:
        command = COMMAND_CHECK;
        break;
    case FLAG_PREFLIGHT:
        command = COMMAND_PREFLIGHT;
        break;
    case FLAG_PRINT_DT:
        command = COMMAND_PRINT_DT;
        break;
    case FLAG_LIST:
        command = COMMAND_LIST;
        break;
    default:
        return false;
    }
    if (!subject && (command == COMMAND_CHECK || command == COMMAND_PREFLIGHT)) {
        subject = *next; /* --check FILE, as well as --check=FILE */
    } else {
        *next = NULL;
    }
    *result = set_command(line, command, subject, error);
    return true;
}

static void set_defaults(struct command_line *line)
{
    bool service = line->command == COMMAND_SERVICE;

    if (line->command == COMMAND_CHECK && line->subject) {
        line->config = line->subject;
    }
    if (!line->config && (line->command == COMMAND_CHECK || line->command == COMMAND_PRINT_DT ||
                          (service && access(CONFIG_FILE, F_OK) == 0))) {
        line->config = CONFIG_FILE;
    }
    line->config_later = service && !line->config ? CONFIG_FILE : NULL;
    if (service && !line->control_given) {
        line->control = CONTROL_SOCKET;
    }
}

static int check(struct command_line *line, struct iod_error *error)
{
    if (line->dtb && line->command != COMMAND_CHECK) {
        return iod_fail(error, EINVAL,
                        "--dtb %.80s: is for --check; a guest's tree is named in the file of --config",
                        line->dtb);
    }
    if (line->command == COMMAND_HELP || line->command == COMMAND_VERSION) {
        return 0;
    }
    if (line->command != COMMAND_RUN && line->command != COMMAND_SERVICE) {
        return !line->guest_count
                   ? 0
                   : iod_fail(error, EINVAL,
                              "--domain %.60s: expected none with --check, --preflight, --print-dt and "
                              "--list: they take guests from their file or argument",
                              line->guests[0].domain);
    }
    if (line->control_group && !line->control) {
        return iod_fail(error, EINVAL,
                        "--control-group %.60s: there is no control socket: expected --control PATH",
                        line->control_group);
    }
    if (line->command == COMMAND_RUN && !line->guest_count && !line->config && !line->host_dtb) {
        return iod_fail(error, EINVAL,
                        "no guest: expected --domain ID|NAME, --config FILE or --service; see ioreqd --help");
    }
    for (unsigned i = 0; i < line->guest_count; i++) {
        int ret = command_guest_check(&line->guests[i], line->no_xenstore, error);
        if (ret) {
            return ret;
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
        const char *next = !optarg && optind < argc && argv[optind][0] != '-' ? argv[optind] : NULL;
        if (set_what(line, flag, optarg, &next, &ret, error)) {
            optind += next != NULL;
            continue;
        }
        line->record_dir_given = line->record_dir_given || flag == FLAG_RECORD_DIR;
        line->log_given = line->log_given || flag == FLAG_LOG;
        line->control_given = line->control_given || flag == FLAG_CONTROL;
        ret = set_flag(line, &all, flag, options[which].name, optarg, error);
    }
    if (!ret && optind < argc) {
        ret = iod_fail(error, EINVAL, "%.80s: expected an option (a value with blanks needs quotes)",
                       argv[optind]);
    }
    set_defaults(line);
    line->arch = all;
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
    if (line->no_xenstore) {
        return false;
    }
    for (unsigned i = 0; i < line->guest_count; i++) {
        const struct guest_spec *guest = &line->guests[i];
        if (guest->wait || !command_is_domid(guest->domain) ||
            (guest->arch == ARCH_X86 && guest->type == GUEST_UNKNOWN)) {
            return true;
        }
    }
    return line->command == COMMAND_SERVICE || line->config || line->host_dtb;
}
