/* SPDX-License-Identifier: BSD-2-Clause */
/* src/main/command_line.c: what each option does to the guest_specs, and what is refused with which words. */
#include <fcntl.h>
#include <unistd.h>

#include "main/command_line.h"

#include "unit.h"

static struct command_line line;
static struct iod_error error;

/* `ioreqd TEXT`, split at blanks. */
static int parse(const char *text)
{
    static char words[1024];
    char *argv[64] = {(char *)"ioreqd"};
    int argc = 1;

    ck_assert_uint_lt(strlen(text), sizeof(words));
    strcpy(words, text);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    error = (struct iod_error){0};
    return command_line_parse(&line, argc, argv, &error);
}

static void refused(const char *text, const char *says)
{
    ck_assert_int_lt(parse(text), 0);
    ck_assert_msg(strstr(error.text, says), "'%s': \"%s\" does not say \"%s\"", text, error.text, says);
    command_line_finish(&line);
}

START_TEST(options_belong_to_the_domain_before_them)
{
    ck_assert_int_eq(
        parse("--log debug --module a.so --module b.so --record-dir /r --domain 5 --type hvm --beside "
              "--on-exit leave --map-limit 64M --bufioreq atomic --device debugcon,base=0x402 --device "
              "uart16550 --domain web --wait --device virtio-blk,path=a,,b"),
        0);
    ck_assert_int_eq(line.command, COMMAND_RUN);
    ck_assert_int_eq(line.log_level, IOD_LOG_DEBUG);
    ck_assert_str_eq(line.record_dir, "/r");
    ck_assert_uint_eq(line.module_count, 2);
    ck_assert_str_eq(line.modules[1], "b.so");
    ck_assert_uint_eq(line.guest_count, 2);
    const struct guest_spec *first = &line.guests[0], *second = &line.guests[1];
    ck_assert_str_eq(first->domain, "5");
    ck_assert_int_eq(first->type, GUEST_HVM);
    ck_assert(first->beside && !first->wait);
    ck_assert_int_eq(first->on_exit, ON_EXIT_LEAVE);
    ck_assert_uint_eq(first->map_limit, 64u << 20);
    ck_assert_int_eq(first->bufioreq, BUF_ATOMIC);
    ck_assert_uint_eq(first->device_count, 2);
    ck_assert_str_eq(device_spec_get(&first->devices[0], "base"), "0x402");
    ck_assert_str_eq(second->domain, "web");
    ck_assert(second->wait && !second->beside);
    ck_assert_int_eq(second->type, GUEST_UNKNOWN);
    ck_assert_int_eq(second->on_exit, ON_EXIT_DEFAULT);
    ck_assert_int_eq(second->bufioreq, BUF_DEFAULT);
    ck_assert_str_eq(device_spec_get(&second->devices[0], "path"), "a,b");
    command_line_finish(&line);
}
END_TEST

START_TEST(defaults)
{
    ck_assert_int_eq(parse("--domain 5 --device x"), 0);
    ck_assert_str_eq(line.record_dir, "/run/ioreqd");
    ck_assert_int_eq(line.log_level, IOD_LOG_INFO);
    ck_assert_int_eq(line.ready_fd, -1);
    ck_assert(!line.no_xenstore && !line.exit_when_gone);
    command_line_finish(&line);
    ck_assert_int_eq(parse("--record-dir none --exit-when-gone --domain 5 --device x"), 0);
    ck_assert_ptr_null(line.record_dir);
    ck_assert(line.exit_when_gone);
    command_line_finish(&line);
}
END_TEST

START_TEST(arch_is_of_all_or_of_one)
{
    ck_assert_int_eq(
        parse("--arch arm --domain 1 --device x --domain 2 --arch x86 --device x --domain 3 --device x"), 0);
    ck_assert_int_eq(line.guests[0].arch, ARCH_ARM);
    ck_assert_int_eq(line.guests[1].arch, ARCH_X86);
    ck_assert_int_eq(line.guests[2].arch, ARCH_ARM);
    command_line_finish(&line);
}
END_TEST

START_TEST(xenstore_only_where_needed)
{
    static const struct {
        const char *text;
        bool needed;
    } lines[] = {
        {"--arch x86 --domain 5 --type pvh --device x", false},
        {"--arch x86 --domain 5 --device x", true},
        {"--arch x86 --domain web --type pvh --device x", true},
        {"--arch x86 --domain 5 --type pvh --wait --device x", true},
        {"--arch x86 --no-xenstore --domain 5 --wait --device x", false},
        {"--arch arm --domain 5 --device x", false},
        {"--arch arm --domain 5 --device x --domain web --device x", true},
    };
    ck_assert_int_eq(parse(lines[_i].text), 0);
    ck_assert_int_eq(command_line_needs_store(&line), lines[_i].needed);
    command_line_finish(&line);
}
END_TEST

START_TEST(help_and_version)
{
    ck_assert_int_eq(parse("--help"), 0);
    ck_assert_int_eq(line.command, COMMAND_HELP);
    ck_assert_int_eq(parse("--help device=?"), 0);
    ck_assert_int_eq(line.command, COMMAND_HELP_DEVICES);
    ck_assert_int_eq(parse("--help=device=virtio-blk"), 0);
    ck_assert_int_eq(line.command, COMMAND_HELP_DEVICE);
    ck_assert_str_eq(line.help_device, "virtio-blk");
    ck_assert_int_eq(parse("--module m.so --help device=mine"), 0);
    ck_assert_uint_eq(line.module_count, 1);
    ck_assert_str_eq(line.help_device, "mine");
    command_line_finish(&line);
    ck_assert_int_eq(parse("--version"), 0);
    ck_assert_int_eq(line.command, COMMAND_VERSION);
    refused("--help devices", "device=NAME");
    refused("--help device=", "device=NAME");
}
END_TEST

START_TEST(ready_fd_must_be_open_and_is_not_inherited)
{
    char text[64];
    int fd = open("/dev/null", O_WRONLY);

    ck_assert_int_ge(fd, 0);
    snprintf(text, sizeof(text), "--ready-fd %d --domain 1 --device x", fd);
    ck_assert_int_eq(parse(text), 0);
    ck_assert_int_eq(line.ready_fd, fd);
    ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    command_line_finish(&line);
    close(fd);
    refused(text, "an open descriptor");
    refused("--ready-fd x --domain 1 --device x", "an open descriptor");
    refused("--ready-fd 4294967297 --domain 1 --device x", "an open descriptor");
}
END_TEST

START_TEST(refusals_say_what_was_expected)
{
    refused("", "--domain ID|NAME");
    refused("--domain 5", "at least one --device");
    refused("--device x", "after its --domain");
    refused("--wait --domain 5 --device x", "--wait: belongs to a guest");
    refused("--domain 5 --device x --domain 5 --device y", "given twice");
    refused("--domain 5 --device x --domain 0x5 --device y", "given twice");
    refused("--domain --device x", "expected a domid or a name");
    refused("--domain 32752 --device x", "less than 32752");
    refused("--domain 5 --type pv --device x", "hvm, pvh");
    refused("--domain 5 --on-exit keep --device x", "leave, destroy");
    refused("--domain 5 --bufioreq on --device x", "off, legacy, atomic");
    refused("--domain 5 --map-limit 1X --device x", "--map-limit 1X");
    refused("--domain 5 --map-limit 0 --device x", "above 0");
    refused("--arch mips --domain 5 --device x", "x86, arm");
    refused("--arch arm --domain 5 --type hvm --device x", "x86 guests only");
    refused("--arch arm --domain 5 --bufioreq legacy --device x", "no buffered ring on Arm");
    refused("--no-xenstore --domain web --device x", "a name needs xenstore");
    refused("--log loud --domain 5 --device x", "error, warning, info, debug");
    refused("--nonsense", "--nonsense");
    refused("--domain", "expected an argument");
    refused("--domain 5 --device x y", "y: expected an option");
    refused("--domain 5 --wait=1 --device x", "--wait=1");
    refused("--domain 5 --device x,=", "expected key=value");
    refused("--service --dtb a.dtb", "--dtb a.dtb: is for --check");
    refused("--check a.conf --domain 5 --device x", "expected none with --check");
    refused("--preflight --domain 5 --device x", "expected none with --check, --preflight");
    refused("--control-group g --domain 5 --device x", "there is no control socket");
    refused("--service --control none --control-group g", "there is no control socket");
    ck_assert_int_eq(parse("--service --control-group g"), 0);
    command_line_finish(&line);
    ck_assert_int_eq(parse("--check a.conf --dtb a.dtb"), 0);
    command_line_finish(&line);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("command_line");
    TCase *tc = tcase_create("command_line");

    tcase_add_test(tc, options_belong_to_the_domain_before_them);
    tcase_add_test(tc, defaults);
    tcase_add_test(tc, arch_is_of_all_or_of_one);
    tcase_add_loop_test(tc, xenstore_only_where_needed, 0, 7);
    tcase_add_test(tc, help_and_version);
    tcase_add_test(tc, ready_fd_must_be_open_and_is_not_inherited);
    tcase_add_test(tc, refusals_say_what_was_expected);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
