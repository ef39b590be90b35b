/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line: a command, its arguments, its options in any order. */
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ioreqctl.h"

static enum status say(enum status status, const char *format, va_list more)
{
    fputs("ioreqctl: ", stderr);
    vfprintf(stderr, format, more);
    fputc('\n', stderr);
    return status;
}

enum status say_usage(const char *format, ...)
{
    va_list more;

    va_start(more, format);
    say(STATUS_USAGE, format, more);
    va_end(more);
    return STATUS_USAGE;
}

enum status say_failed(const char *format, ...)
{
    va_list more;

    va_start(more, format);
    say(STATUS_FAILED, format, more);
    va_end(more);
    return STATUS_FAILED;
}

/* ---- the commands ---- */

static void set_text(json_t *arguments, const char *key, const char *text)
{
    if (text) {
        json_object_set_new(arguments, key, json_string(text));
    }
}

static void set_flag(json_t *arguments, const char *key, bool flag)
{
    if (flag) {
        json_object_set_new(arguments, key, json_true());
    }
}

/* A whole number that the daemon checks; one that is none becomes text, which it refuses by name. */
static void set_number(json_t *arguments, const char *key, const char *text)
{
    char *end;

    if (text) {
        errno = 0;
        long long number = strtoll(text, &end, 10);
        bool good = *text >= '0' && *text <= '9' && !*end && !errno;
        json_object_set_new(arguments, key, good ? json_integer(number) : json_string(text));
    }
}

static json_t *guest_arguments(const struct options *options)
{
    json_t *arguments = json_object();

    set_text(arguments, "guest", options->count ? options->words[0] : NULL);
    return arguments;
}

/* One call whose answer says nothing but that it is done. */
static enum status call(struct connection *connection, const struct options *options, const char *command,
                        json_t *arguments)
{
    json_t *value;
    enum status status = connection_call(connection, command, arguments, &value);

    if (!status && options->json) {
        print_json(value);
    }
    json_decref(value);
    return status;
}

static enum status run_list(struct connection *connection, const struct options *options)
{
    json_t *value;
    enum status status = connection_list(connection, "list", NULL, "guests", &value);

    if (!status && options->json) {
        print_json(value);
    } else if (!status) {
        print_list(value);
    }
    json_decref(value);
    return status;
}

static enum status run_show(struct connection *connection, const struct options *options)
{
    json_t *value;
    enum status status = connection_call(connection, "show", guest_arguments(options), &value);

    if (!status && options->json) {
        print_json(value);
    } else if (!status) {
        print_tree(value, "guest");
    }
    json_decref(value);
    return status;
}

static enum status run_guest(struct connection *connection, const struct options *options,
                             const char *command)
{
    return call(connection, options, command, guest_arguments(options));
}

static enum status run_detach(struct connection *connection, const struct options *options)
{
    return run_guest(connection, options, "detach");
}

static enum status run_pause(struct connection *connection, const struct options *options)
{
    return run_guest(connection, options, "pause");
}

static enum status run_resume(struct connection *connection, const struct options *options)
{
    return run_guest(connection, options, "resume");
}

static enum status run_reload(struct connection *connection, const struct options *options)
{
    return call(connection, options, "reload", NULL);
}

static enum status run_wait(struct connection *connection, const struct options *options)
{
    json_t *arguments = guest_arguments(options);

    if (options->timeout >= 0) {
        json_object_set_new(arguments, "timeout", json_real(options->timeout));
    }
    return call(connection, options, "wait", arguments);
}

static enum status run_attach(struct connection *connection, const struct options *options)
{
    json_t *arguments = guest_arguments(options), *devices = json_array();

    for (unsigned i = 0; i < options->device_count; i++) {
        json_array_append_new(devices, json_string(options->devices[i]));
    }
    json_object_set_new(arguments, "devices", devices);
    set_flag(arguments, "wait", options->wait);
    set_flag(arguments, "beside", options->beside);
    set_flag(arguments, "unlimited", options->unlimited);
    set_text(arguments, "arch", options->arch);
    set_text(arguments, "type", options->type);
    set_text(arguments, "on-exit", options->on_exit);
    set_text(arguments, "bufioreq", options->bufioreq);
    set_text(arguments, "map-limit", options->map_limit);
    set_text(arguments, "stuck", options->stuck);
    set_number(arguments, "stuck-limit", options->stuck_limit);
    set_number(arguments, "slots", options->slots);
    return call(connection, options, "attach", arguments);
}

static json_t *device_arguments(const struct options *options)
{
    json_t *arguments = guest_arguments(options);

    set_text(arguments, "device", options->words[1]);
    return arguments;
}

static enum status run_add(struct connection *connection, const struct options *options)
{
    return call(connection, options, "add", device_arguments(options));
}

static enum status run_remove(struct connection *connection, const struct options *options)
{
    json_t *arguments = device_arguments(options);

    set_flag(arguments, "force", options->force);
    return call(connection, options, "remove", arguments);
}

static enum status run_resize(struct connection *connection, const struct options *options)
{
    return call(connection, options, "resize", device_arguments(options));
}

static enum status run_log_level(struct connection *connection, const struct options *options)
{
    json_t *arguments = json_object();

    set_text(arguments, "level", options->words[0]);
    return call(connection, options, "log-level", arguments);
}

static enum status run_stats(struct connection *connection, const struct options *options)
{
    json_t *value;

    if (options->prometheus) {
        return options->count || options->json ? say_usage("stats: --prometheus is of all guests, and no JSON")
                                               : run_prometheus(connection);
    }
    enum status status = connection_list(connection, "stats", guest_arguments(options), "guests", &value);
    if (!status && options->json) {
        print_json(value);
    } else if (!status && options->count) {
        print_tree(json_array_get(json_object_get(value, "guests"), 0), "guest");
    } else if (!status) {
        print_stats(value);
    }
    json_decref(value);
    return status;
}

static bool is_action(const char *word)
{
    return !strcmp(word, "on") || !strcmp(word, "off") || !strcmp(word, "reset");
}

/* latency [on|off|reset] [GUEST] */
static enum status run_latency(struct connection *connection, const struct options *options)
{
    int action = options->count && is_action(options->words[0]);
    json_t *arguments = json_object(), *value;

    set_text(arguments, "action", action ? options->words[0] : NULL);
    set_text(arguments, "guest", options->count > action ? options->words[action] : NULL);
    if (options->count > action + 1) {
        json_decref(arguments);
        return say_usage("latency: expected [on|off|reset] [GUEST]");
    }
    if (action) {
        return call(connection, options, "latency", arguments);
    }
    enum status status = connection_list(connection, "latency", arguments, "guests", &value);
    if (!status && options->json) {
        print_json(value);
    } else if (!status) {
        print_latency(value, options->count == 1);
    }
    json_decref(value);
    return status;
}

static enum status run_stuck(struct connection *connection, const struct options *options)
{
    json_t *value;
    enum status status = connection_list(connection, "stuck", guest_arguments(options), "accesses", &value);

    if (!status && options->json) {
        print_json(value);
    } else if (!status) {
        print_stuck(value);
    }
    json_decref(value);
    return status;
}

/* For completion: one name a line. */
static void print_names(const json_t *list, const char *key)
{
    json_t *member;
    size_t i;

    json_array_foreach(list, i, member)
    {
        puts(member_text(member, key));
    }
}

static enum status run_complete(struct connection *connection, const struct options *options)
{
    json_t *value = NULL;
    enum status status;

    if (!strcmp(options->words[0], "guests")) {
        status = connection_list(connection, "list", NULL, "guests", &value);
        print_names(json_object_get(value, "guests"), "domain");
    } else if (!strcmp(options->words[0], "probes")) {
        status = connection_call(connection, "probes", NULL, &value);
        print_names(value, "name");
    } else if (options->count == 2 && !strcmp(options->words[0], "devices")) {
        status = connection_call(connection, "stats",
                                 json_pack("{s:s,s:b}", "guest", options->words[1], "brief", 1), &value);
        print_names(json_object_get(json_array_get(json_object_get(value, "guests"), 0), "devices"), "id");
    } else {
        status = say_usage("complete: expected guests, probes, or devices GUEST");
    }
    json_decref(value);
    return status;
}

static const struct action {
    const char *name, *arguments, *summary;
    int min, max; /* words */
    enum status (*run)(struct connection *connection, const struct options *options);
} actions[] = {
    {"list", "", "the daemon, and its guests", 0, 0, run_list},
    {"show", "GUEST", "a tree of all its objects", 1, 1, run_show},
    {"add", "GUEST DEVICE,KEY=VALUE...", "plug a device", 2, 2, run_add},
    {"remove", "GUEST ID [--force]", "unplug it; --force: whatever the guest says", 2, 2, run_remove},
    {"attach", "GUEST --device SPEC...", "take a guest on; [--wait] [--beside] ...", 1, 1, run_attach},
    {"detach", "GUEST", "let a guest go", 1, 1, run_detach},
    {"wait", "GUEST [--timeout S]", "until all its devices are served", 1, 1, run_wait},
    {"reload", "", "read the configuration file again", 0, 0, run_reload},
    {"pause", "GUEST", "stop its devices, their I/O finished", 1, 1, run_pause},
    {"resume", "GUEST", "start them again", 1, 1, run_resume},
    {"resize", "GUEST ID", "tell the guest the disk's new size", 2, 2, run_resize},
    {"stats", "[GUEST | --prometheus]", "counters", 0, 1, run_stats},
    {"latency", "[on|off|reset] [GUEST]", "how long vCPUs wait", 0, 2, run_latency},
    {"stuck", "[GUEST]", "accesses that wait now", 0, 1, run_stuck},
    {"trace", "[GUEST] [--pcapng FILE]", "each step of accesses, live", 0, 1, run_trace},
    {"top", "[-d S] [-b [-i N]]", "a live table of guests", 0, 0, run_top},
    {"events", "", "what happens, as it happens", 0, 0, run_events},
    {"log-level", "LEVEL", "error, warning, info or debug", 1, 1, run_log_level},
    {"complete", NULL, NULL, 1, 2, run_complete},
};
#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

static const struct action *find_action(const char *name)
{
    for (unsigned i = 0; i < ACTIONS; i++) {
        if (!strcmp(actions[i].name, name)) {
            return &actions[i];
        }
    }
    return NULL;
}

static void print_usage(void)
{
    puts("Usage: ioreqctl [--socket PATH] [--json] COMMAND [ARGUMENT]... [OPTION]...\n"
         "Shows and changes what ioreqd does while it runs.\n\nCommands:");
    for (unsigned i = 0; i < ACTIONS; i++) {
        if (actions[i].summary) {
            printf("  %-9s %-26s %s\n", actions[i].name, actions[i].arguments, actions[i].summary);
        }
    }
    puts("\nOptions:\n"
         "  --socket PATH   the daemon's control socket (" CONTROL_SOCKET ")\n"
         "  --json          the daemon's answer as it is\n"
         "  --help, --version\n"
         "Exit status: 0 done; 1 failed, with a reason; 2 usage; 3 no daemon. See ioreqctl(1).");
}

/* ---- the line ---- */

static enum status check(const struct action *action, const struct options *options, uint64_t given)
{
    if (options_check(action->name, given)) {
        return STATUS_USAGE;
    }
    if (options->count < action->min || options->count > action->max) {
        const char *words = action->arguments ? action->arguments : "";
        return say_usage("usage: ioreqctl %s%s%s", action->name, words[0] ? " " : "", words);
    }
    return STATUS_OK;
}

static enum status run(struct options *options, int argc, char **argv)
{
    struct connection connection;
    uint64_t given;

    if (options_parse(options, argc, argv, &given)) {
        return STATUS_USAGE;
    }
    if (options->help) {
        print_usage();
        return STATUS_OK;
    }
    if (options->version) {
        puts("ioreqctl " IOREQD_VERSION);
        return STATUS_OK;
    }
    if (optind >= argc) {
        return say_usage("expected a command; see ioreqctl --help");
    }
    const struct action *action = find_action(argv[optind]);
    if (!action) {
        return say_usage("there is no command '%.40s'; see ioreqctl --help", argv[optind]);
    }
    options->words = argv + optind + 1;
    options->count = argc - optind - 1;
    enum status status = check(action, options, given);
    if (status || options_check_texts(options)) {
        return STATUS_USAGE;
    }
    if (!connection_open(&connection, options->socket, !options->json)) {
        return STATUS_NO_DAEMON;
    }
    status = action->run(&connection, options);
    connection_close(&connection);
    return status;
}

/* A full disk is a failure, for what was written is used in place of the last one; `| head` is none. */
static enum status finish_output(enum status status)
{
    errno = 0;
    if ((fflush(stdout) || ferror(stdout)) && errno != EPIPE && !status) {
        return say_failed("the output can't be written%s%s", errno ? ": " : "", errno ? strerror(errno) : "");
    }
    return status;
}

int main(int argc, char **argv)
{
    struct options options = {.socket = CONTROL_SOCKET, .timeout = -1, .interval = -1};

    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    enum status status = finish_output(run(&options, argc, argv));
    free(options.devices);
    free(options.probes);
    return status;
}
