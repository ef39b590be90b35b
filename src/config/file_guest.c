/* SPDX-License-Identifier: BSD-2-Clause */
#include "config/file_guest.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

#define DOMID_LIMIT 0x7ff0u /* DOMID_FIRST_RESERVED */
#define UUID "uuid:"

enum {
    STUCK_MAX_MS = 86400000, /* a day */
};

/* In the order of `names`. */
enum member {
    GUEST_DOMAIN,
    GUEST_TYPE,
    GUEST_ARCH,
    GUEST_BESIDE,
    GUEST_ON_EXIT,
    GUEST_MAP_LIMIT,
    GUEST_BUFIOREQ,
    GUEST_SLOTS,
    GUEST_STUCK,
    GUEST_STUCK_LIMIT,
    GUEST_UNLIMITED,
    GUEST_DEVICE_TREE,
    GUEST_DEVICES,
};
static const char *const names[] = {"domain",    "type",        "arch",    "beside", "on-exit",
                                    "map-limit", "bufioreq",    "slots",   "stuck",  "stuck-limit",
                                    "unlimited", "device-tree", "devices", NULL};

/* ---- the domain ---- */

static bool is_uuid(const char *text)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    for (unsigned i = 0; i < sizeof(form); i++) {
        if (form[i] == 'x' ? !isxdigit((unsigned char)text[i]) : text[i] != form[i]) {
            return false;
        }
    }
    return true;
}

char *domain_normal_form(const char *text, const char **why)
{
    char *normal = NULL;
    uint64_t domid;
    *why = "out of memory";
    if (!text[0] || text[0] == '-' || strlen(text) >= 128) {
        *why = "expected a domid, \"uuid:...\", or a name of 1 to 127 characters";
        return NULL;
    }
    for (const char *at = text; *at; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            *why = "expected a name without control characters";
            return NULL;
        }
    }
    if (!option_parse_number(text, &domid)) {
        if (domid >= DOMID_LIMIT) {
            *why = "expected a domid less than 32752";
            return NULL;
        }
        return asprintf(&normal, "%" PRIu64, domid) < 0 ? NULL : normal;
    }
    if (strncasecmp(text, UUID, strlen(UUID)) == 0 && !is_uuid(text + strlen(UUID))) {
        *why = "expected uuid:xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
        return NULL;
    }
    normal = strdup(text);
    for (char *at = normal; at && strncasecmp(text, UUID, strlen(UUID)) == 0 && *at; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    return normal;
}

static bool read_domain(const struct settings *settings, const config_setting_t *setting,
                        struct guest_spec *spec)
{
    char number[24], where[WHERE_MAX];
    const char *text = number, *why;
    uint64_t domid;
    if (config_setting_is_number(setting)) {
        if (!setting_number(settings, setting, 0, DOMID_LIMIT - 1, &domid)) {
            return false;
        }
        snprintf(number, sizeof(number), "%" PRIu64, domid);
    } else if (!setting_text(settings, setting, &text)) {
        return false;
    }
    spec->domain = domain_normal_form(text, &why);
    if (!spec->domain) {
        setting_where(settings, setting, where);
        findings_add(settings->findings, true, where, why, "domain = '%.60s'", text);
    }
    return spec->domain != NULL;
}

/* ---- the other settings ---- */

static bool read_device(const struct settings *settings, const config_setting_t *element,
                        struct guest_spec *spec)
{
    char where[WHERE_MAX];
    const char *text;
    struct iod_error error = {0};
    if (!setting_text(settings, element, &text)) {
        return false;
    }
    setting_where(settings, element, where);
    if (spec->device_count >= CONFIG_DEVICES_MAX) {
        findings_add(settings->findings, true, where, NULL, "a guest has at most %d devices",
                     CONFIG_DEVICES_MAX);
        return false;
    }
    if (guest_spec_add_device(spec, text, &error) ||
        device_spec_from(&spec->devices[spec->device_count - 1], where)) {
        findings_add(settings->findings, true, where, "see ioreqd --help device=?", "%s",
                     error.code ? error.text : "out of memory");
        return false;
    }
    return true;
}

static bool read_devices(const struct settings *settings, const config_setting_t *list,
                         struct guest_spec *spec)
{
    bool good = setting_list(settings, list, "texts: \"NAME,key=value,...\"");
    for (int i = 0; good && i < config_setting_length(list); i++) {
        const config_setting_t *element = config_setting_get_elem((config_setting_t *)list, (unsigned)i);
        if (!read_device(settings, element, spec) && spec->device_count >= CONFIG_DEVICES_MAX) {
            return false;
        }
    }
    return good;
}

static bool read_chosen(const struct settings *settings, const config_setting_t *setting, enum member member,
                        struct guest_spec *spec)
{
    static const char *const types[] = {"hvm", "pvh", NULL};
    static const char *const arches[] = {"x86", "arm", NULL};
    static const char *const ends[] = {"leave", "destroy", NULL};
    static const char *const kinds[] = {"off", "legacy", "atomic", NULL};
    static const char *const policies[] = {"wait", "ones", "detach", NULL};
    unsigned chosen = 0;
    bool good;
    switch (member) {
    case GUEST_TYPE:
        good = setting_choice(settings, setting, types, &chosen);
        spec->type = chosen == 0 ? GUEST_HVM : GUEST_PVH;
        return good;
    case GUEST_ARCH:
        good = setting_choice(settings, setting, arches, &chosen);
        spec->arch = chosen == 0 ? ARCH_X86 : ARCH_ARM;
        return good;
    case GUEST_ON_EXIT:
        good = setting_choice(settings, setting, ends, &chosen);
        spec->on_exit = chosen == 0 ? ON_EXIT_LEAVE : ON_EXIT_DESTROY;
        return good;
    case GUEST_BUFIOREQ:
        good = setting_choice(settings, setting, kinds, &chosen);
        spec->bufioreq = chosen == 0 ? BUF_OFF : chosen == 1 ? BUF_LEGACY : BUF_ATOMIC;
        return good;
    default:
        good = setting_choice(settings, setting, policies, &chosen);
        spec->stuck = chosen == 0 ? STUCK_WAIT : chosen == 1 ? STUCK_ONES : STUCK_DETACH;
        return good;
    }
}

static bool read_tree(const struct settings *settings, const config_setting_t *setting, char **tree)
{
    const char *text;
    if (!setting_text(settings, setting, &text)) {
        return false;
    }
    *tree = strdup(text);
    return *tree != NULL;
}

static bool read_member(const struct settings *settings, const config_setting_t *setting, enum member member,
                        struct file_guest *guest)
{
    struct guest_spec *spec = &guest->spec;
    uint64_t number = 0;
    bool good;
    switch (member) {
    case GUEST_DOMAIN: return read_domain(settings, setting, spec);
    case GUEST_BESIDE: return setting_bool(settings, setting, &spec->beside);
    case GUEST_MAP_LIMIT: return setting_size(settings, setting, &spec->map_limit);
    case GUEST_UNLIMITED: return setting_bool(settings, setting, &spec->unlimited);
    case GUEST_DEVICE_TREE: return read_tree(settings, setting, &guest->tree);
    case GUEST_DEVICES: return read_devices(settings, setting, spec);
    case GUEST_STUCK_LIMIT: return setting_number(settings, setting, 1, STUCK_MAX_MS, &spec->stuck_ms);
    case GUEST_SLOTS:
        good = setting_number(settings, setting, 0, GUEST_SLOTS_MAX, &number);
        spec->slots = (unsigned)number;
        return good;
    default: return read_chosen(settings, setting, member, spec);
    }
}

bool file_guest_read(const struct settings *settings, const config_setting_t *group, struct file_guest *guest)
{
    char where[WHERE_MAX];
    unsigned before = settings->findings->count;
    *guest = (struct file_guest){0};
    guest_spec_init(&guest->spec);
    guest->spec.wait = true;
    setting_where(settings, group, where);
    if (config_setting_type(group) != CONFIG_TYPE_GROUP) {
        findings_add(settings->findings, true, where, "expected { domain = ...; devices = [ ... ]; }",
                     "an element of guests is no group");
        return false;
    }
    settings_check_names(settings, group, "a guest", names);
    for (unsigned member = 0; names[member]; member++) {
        const config_setting_t *setting = config_setting_get_member((config_setting_t *)group, names[member]);
        if (setting && read_member(settings, setting, member, guest)) {
            guest->given |= 1u << member;
        }
        if (member == GUEST_DOMAIN && setting) {
            setting_where(settings, setting, where); /* the line that people look for */
        }
    }
    guest->spec.origin = strdup(where);
    if (!config_setting_get_member((config_setting_t *)group, names[GUEST_DOMAIN])) {
        findings_add(settings->findings, true, where, "expected domain = a name, a domid or \"uuid:...\"",
                     "a guest without domain");
    }
    return guest->spec.origin && guest->spec.domain && settings->findings->count == before &&
           !settings->findings->cut;
}

void file_guest_finish(struct file_guest *guest)
{
    guest_spec_finish(&guest->spec);
    free(guest->tree);
    *guest = (struct file_guest){0};
}

/* ---- joining ---- */

/* Takes the setting over from `from`, or compares: do they agree? */
static bool join_member(struct file_guest *to, const struct file_guest *from, enum member member)
{
    struct guest_spec *mine = &to->spec;
    const struct guest_spec *other = &from->spec;
    bool both = to->given >> member & 1;
#define JOIN(field) return both ? mine->field == other->field : (mine->field = other->field, true)
    switch (member) {
    case GUEST_TYPE: JOIN(type);
    case GUEST_ARCH: JOIN(arch);
    case GUEST_BESIDE: JOIN(beside);
    case GUEST_ON_EXIT: JOIN(on_exit);
    case GUEST_MAP_LIMIT: JOIN(map_limit);
    case GUEST_BUFIOREQ: JOIN(bufioreq);
    case GUEST_SLOTS: JOIN(slots);
    case GUEST_STUCK: JOIN(stuck);
    case GUEST_STUCK_LIMIT: JOIN(stuck_ms);
    case GUEST_UNLIMITED: JOIN(unlimited);
    case GUEST_DEVICE_TREE:
        if (both) {
            return strcmp(to->tree, from->tree) == 0;
        }
        to->tree = strdup(from->tree);
        return to->tree != NULL;
    default: return true;
    }
#undef JOIN
}

static void join_devices(struct guest_spec *to, struct guest_spec *from, struct findings *findings)
{
    struct device_spec *devices;
    if (!from->device_count) {
        return;
    }
    if (to->device_count + from->device_count > CONFIG_DEVICES_MAX) {
        findings_add(findings, true, from->origin, NULL, "a guest has at most %d devices (%s has others)",
                     CONFIG_DEVICES_MAX, to->origin);
        return;
    }
    devices = reallocarray(to->devices, to->device_count + from->device_count, sizeof(*devices));
    if (!devices) {
        findings->cut = true;
        return;
    }
    memcpy(devices + to->device_count, from->devices, from->device_count * sizeof(*devices));
    to->devices = devices;
    to->device_count += from->device_count;
    from->device_count = 0;
}

void file_guest_join(struct file_guest *to, struct file_guest *from, struct findings *findings)
{
    for (unsigned member = 0; names[member]; member++) {
        if (from->given >> member & 1 && !join_member(to, from, member)) {
            findings_add(findings, true, from->spec.origin, "the same domain's settings must agree",
                         "domain %.60s: %s differs from what %s says", from->spec.domain, names[member],
                         to->spec.origin);
        }
        to->given |= from->given & 1u << member;
    }
    join_devices(&to->spec, &from->spec, findings);
    file_guest_finish(from);
}

/* ---- what can't be together ---- */

bool file_guest_check(const struct file_guest *guest, struct findings *findings)
{
    const struct guest_spec *spec = &guest->spec;
    unsigned before = findings->count;
    if (spec->arch == ARCH_ARM && spec->type != GUEST_UNKNOWN) {
        findings_add(findings, true, spec->origin, "leave type out",
                     "domain %.60s: type is of x86 guests only", spec->domain);
    }
    if (spec->arch == ARCH_ARM && spec->bufioreq != BUF_DEFAULT && spec->bufioreq != BUF_OFF) {
        findings_add(findings, true, spec->origin, "bufioreq = \"off\"",
                     "domain %.60s: Xen has no buffered ring on Arm", spec->domain);
    }
    if (spec->slots && spec->arch == ARCH_ARM) {
        findings_add(findings, true, spec->origin, "leave slots out",
                     "domain %.60s: slots are PCIe root ports, of PVH guests only", spec->domain);
    }
    if (spec->slots && spec->type == GUEST_HVM) {
        findings_add(findings, true, spec->origin, "leave slots out: the guest can rescan its bus",
                     "domain %.60s: slots: hvmloader corrupts PCI bridges", spec->domain);
    }
    if (guest->tree && spec->arch != ARCH_ARM) {
        findings_add(findings, true, spec->origin, "arch = \"arm\", or leave it out",
                     "domain %.60s: device-tree is of Arm guests only", spec->domain);
    }
    return findings->count == before && !findings->cut;
}
