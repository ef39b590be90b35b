/* SPDX-License-Identifier: BSD-2-Clause */
/* The conformance program's command line and its table of rules. */
#include "conformance.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 8000
#define BROKEN_PATIENCE_MS 1500 /* a mock that is broken on purpose may well never answer */

struct rule {
    const char *name;
    unsigned int profiles; /* ON_* bits; elsewhere the rule prints n/a */
    void (*run)(struct context *, const char *name);
    const char *text;
};

/* In the order in which they run: after R30 the domain is crashed, after R28 it is gone. */
static const struct rule rules[] = {
    { "R1", ON_ALL, rule_ids, "server ids: eight of them, the lowest free one first" },
    { "R2", ON_ALL, rule_targets, "targets and ids that are not there" },
    { "R3", ON_ALL, rule_info, "get_ioreq_server_info without gfns" },
    { "R4", ON_ALL, rule_resource, "the pages of a server as a resource" },
    { "R5", ON_ALL, rule_ranges, "ranges: overlap, limit, parts" },
    { "R6", ON_ALL, rule_vp_eport, "vp_eport before and after enabling" },
    { "R7", ON_ALL, rule_bind, "bind_interdomain" },
    { "R8", ON_ALL, rule_notify, "notify and unmask of ports" },
    { "R9", ON_ALL, rule_masked, "events while the port is masked" },
    { "R10", ON_ALL, rule_fields, "what a request says" },
    { "R11", ON_ALL, rule_answers, "what an answer does" },
    { "R12", ON_ALL, rule_silent_answer, "an answer without a notification" },
    { "R13", ON_ALL, rule_priority, "two servers or none for one address" },
    { "R14", ON_ALL, rule_partial, "an access that leaves the range" },
    { "R15", ON_X86, rule_rep, "string instructions" },
    { "R16", ON_X86, rule_crossing, "accesses across a page" },
    { "R17", ON_X86, rule_config, "PCI configuration by cf8 and cfc" },
    { "R18", ON_X86, rule_config_latch, "the latch of cf8" },
    { "R19", ON_ALL, rule_invalidate, "INVALIDATE after the guest gave a page back" },
    { "R20", ON_ALL, rule_killed, "a killed emulator and its successor" },
    { "R21", ON_ALL, rule_foreign, "foreign maps that fail in part" },
    { "R22", ON_ALL, rule_ballooned, "a page given back while mapped" },
    { "R23", ON_ARM64, rule_spi, "set_irq_level" },
    { "R24", ON_X86, rule_msi, "inject_msi" },
    { "R25", ON_HVM, rule_intx, "INTx at an IO-APIC pin" },
    { "R26", ON_ALL, rule_restrict, "restricted handles" },
    { "R27", ON_HVM, rule_ring, "the buffered ring" },
    { "R29", ON_ALL, rule_two_vcpus, "requests of two vCPUs at once" },
    { "R31", ON_ALL, rule_other_ops, "operations beside the servers" },
    { "R32", ON_X86, rule_mem_type, "a page whose writes go to a server" },
    { "R33", ON_X86, rule_own, "what Xen keeps for itself" },
    { "R34", ON_ALL, rule_event_fd, "several ports in one read or write" },
    { "R35", ON_ALL, rule_exec, "a bound port handed over by exec" },
    { "R36", ON_ALL, rule_misused_slot, "a slot that the emulator left in disorder" },
    { "R37", ON_X86, rule_destroyed_pending, "a server destroyed under a request" },
    { "R30", ON_ALL, rule_bad_state, "an answer with a state that does not exist" },
    { "R28", ON_ALL, rule_gone, "a domain that is gone" },
};

static const char *const profile_names[] = { "hvm", "pvh", "arm64" };

static void usage(FILE *out)
{
    fputs("usage: conformance --domid N --profile hvm|pvh|arm64 [--kill COMMAND] [--rule NAME]\n"
          "           on Xen, in dom0; COMMAND destroys the domain\n"
          "       conformance --mock --profile hvm|pvh|arm64 [--break NAME] [--rule NAME]\n"
          "           against the mock, which may break a rule on purpose\n"
          "       conformance --mock-only    rules that must never run on a real host\n"
          "       conformance --list         all rules\n",
          out);
}

static void list_rules(void)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        printf("%-4s %s\n", rules[i].name, rules[i].text);
    }
    mock_only_list();
}

static int find_profile(const char *name)
{
    for (int i = 0; i < 3; i++) {
        if (strcmp(name, profile_names[i]) == 0) {
            return i;
        }
    }
    fprintf(stderr, "conformance: profile \"%s\": hvm, pvh or arm64 expected\n", name);
    return -1;
}

void context_set_profile(struct context *ctx, enum profile profile)
{
    ctx->profile = profile;
    ctx->ram = profile == PROFILE_ARM64 ? 0x40000000 : 0;
    ctx->mmio = profile == PROFILE_ARM64 ? 0x02000000 : 0xfea00000;
    ctx->port = 0x5670;
}

int context_open(struct context *ctx)
{
    ctx->dm = xendevicemodel_open(NULL, 0);
    ctx->evtchn = xenevtchn_open(NULL, 0);
    ctx->memory = xenforeignmemory_open(NULL, 0);
    if (!ctx->dm || !ctx->evtchn || !ctx->memory) {
        perror("conformance: cannot open the Xen interfaces");
        return -1;
    }
    if (xendevicemodel_nr_vcpus(ctx->dm, (domid_t)ctx->domid, &ctx->vcpus)) {
        perror("conformance: cannot ask for the domain's vCPUs");
        return -1;
    }
    return ctx->guest->open(ctx);
}

void context_close(struct context *ctx)
{
    ctx->guest->close(ctx);
    if (ctx->dm) {
        xendevicemodel_close(ctx->dm);
    }
    if (ctx->evtchn) {
        xenevtchn_close(ctx->evtchn);
    }
    if (ctx->memory) {
        xenforeignmemory_close(ctx->memory);
    }
}

static void run_rules(struct context *ctx)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (ctx->only && strcmp(ctx->only, rules[i].name) != 0) {
            continue;
        }
        if (applies(ctx, rules[i].profiles, rules[i].name)) {
            rules[i].run(ctx, rules[i].name);
        }
    }
}

static int run_all(struct context *ctx)
{
    int status = 1;

    if (ctx->mock && mock_prepare(ctx)) {
        return 1;
    }
    if (context_open(ctx) == 0) {
        run_rules(ctx);
        status = 0;
    }
    context_close(ctx);
    mock_finish(ctx);
    return status;
}

static int parse_domid(const char *text, unsigned int *domid)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (!*text || *end || value == 0 || value >= NO_DOMAIN) {
        fprintf(stderr, "conformance: --domid %s: 1 to %d expected\n", text, NO_DOMAIN - 1);
        return -1;
    }
    *domid = (unsigned int)value;
    return 0;
}

/* The program started itself as a second process: NAME DOMID PORT (or FD PORT). */
static int run_child(char **argv)
{
    static const struct {
        const char *name;
        int (*run)(unsigned int, unsigned int);
    } children[] = {
        { "--child-hold", child_hold },
        { "--child-exec", child_exec },
        { "--child-adopt", child_adopt },
        { "--child-restricted", child_restricted },
    };

    for (size_t i = 0; i < sizeof(children) / sizeof(children[0]); i++) {
        if (strcmp(argv[1], children[i].name) == 0) {
            return children[i].run((unsigned int)strtoul(argv[2], NULL, 10),
                                   (unsigned int)strtoul(argv[3], NULL, 10));
        }
    }
    return 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "domid", required_argument, NULL, 'd' }, { "profile", required_argument, NULL, 'p' },
        { "kill", required_argument, NULL, 'k' },  { "rule", required_argument, NULL, 'r' },
        { "mock", no_argument, NULL, 'm' },        { "break", required_argument, NULL, 'b' },
        { "mock-only", no_argument, NULL, 'o' },   { "list", no_argument, NULL, 'l' },
        { "help", no_argument, NULL, 'h' },        { NULL, 0, NULL, 0 },
    };
    struct context ctx = { .guest = &guest_on_xen, .quiet_ms = 300, .patience_ms = PATIENCE_MS };
    int option, profile = -1;

    if (argc == 4 && strncmp(argv[1], "--child-", 8) == 0) {
        return run_child(argv);
    }
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'd':
            if (parse_domid(optarg, &ctx.domid)) {
                return 2;
            }
            break;
        case 'p': profile = find_profile(optarg); break;
        case 'k': ctx.kill_command = optarg; break;
        case 'r': ctx.only = optarg; break;
        case 'm': ctx.mock = true; break;
        case 'b':
            ctx.broken = optarg;
            ctx.patience_ms = BROKEN_PATIENCE_MS;
            break;
        case 'o': return mock_only_run();
        case 'l': list_rules(); return 0;
        case 'h': usage(stdout); return 0;
        default: usage(stderr); return 2;
        }
    }
    if (profile < 0 || optind != argc || ctx.mock != (ctx.domid == 0)) {
        usage(stderr);
        return 2;
    }
    context_set_profile(&ctx, (enum profile)profile);
    return run_all(&ctx);
}
