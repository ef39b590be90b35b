/* SPDX-License-Identifier: BSD-2-Clause */
/* The main file and conf.d, joined to one configuration. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/file_guest.h"
#include "config/host_tree.h"
#include "config/places.h"
#include "config/source.h"

#define RUNNING_TREE "/sys/firmware/fdt" /* the tree that this machine was booted with */

enum {
    FILE_MAX = 4 << 20,
    FILES_MAX = 1024,     /* in conf.d */
    BYTES_MAX = 32 << 20, /* of all files */
    GUESTS_MAX = 4096,
    MODULES_MAX = 256,
};

/* Settings of the daemon that are one text each, in the order of `names`. */
enum daemon_setting {
    SET_LOG,
    SET_RECORD_DIR,
    SET_CONTROL,
    SET_CONTROL_GROUP,
    SET_XENSTORE,
    SET_DEVICE_TREE,
    SET_COUNT
};
static const char *const names[] = {
    "log", "record-dir", "control", "control-group", "xenstore", "device-tree", "modules", "guests", NULL};

struct loading {
    struct config *config;
    struct findings *findings;
    struct file_guest *guests;
    unsigned count;
    char *texts[SET_COUNT];
    char *said_at[SET_COUNT];
    size_t bytes;
};

static void no_memory(struct loading *loading)
{
    loading->findings->cut = true;
}

/* ---- the daemon's settings ---- */

/* The setting as a text that two files can be compared by. */
static bool normal_text(const struct settings *settings, const config_setting_t *setting,
                        enum daemon_setting which, const char **text)
{
    static const char *const levels[] = {"error", "warning", "info", "debug", NULL};
    unsigned chosen;
    bool on;
    switch (which) {
    case SET_LOG:
        if (!setting_choice(settings, setting, levels, &chosen)) {
            return false;
        }
        *text = levels[chosen];
        return true;
    case SET_XENSTORE:
        if (!setting_bool(settings, setting, &on)) {
            return false;
        }
        *text = on ? "true" : "false";
        return true;
    default: return setting_text(settings, setting, text);
    }
}

static void take_setting(struct loading *loading, const struct settings *settings,
                         const config_setting_t *setting, enum daemon_setting which)
{
    char where[WHERE_MAX];
    const char *text = "";
    if (!normal_text(settings, setting, which, &text)) {
        return;
    }
    setting_where(settings, setting, where);
    if (!text[0]) {
        findings_add(loading->findings, true, where, "leave it out, or give it a value", "%s is empty",
                     names[which]);
        return;
    }
    bool path = which == SET_DEVICE_TREE && strcmp(text, "running") != 0;
    if (which == SET_DEVICE_TREE && !path) {
        text = RUNNING_TREE;
        if (access(text, F_OK)) {
            findings_add(loading->findings, true, where, "name the .dtb file that Xen was booted with",
                         "device-tree = \"running\": this machine was booted without one (%s: %s)", text,
                         strerror(errno));
            return;
        }
    }
    char *value = path ? source_beside(settings->file, text) : strdup(text);
    if (loading->texts[which] && value && strcmp(loading->texts[which], value) != 0) {
        findings_add(loading->findings, true, where, "one file says it", "%s differs from what %s says",
                     names[which], loading->said_at[which]);
    }
    if (loading->texts[which] || !value) {
        free(value);
        return;
    }
    loading->texts[which] = value;
    loading->said_at[which] = strdup(where);
    if (!loading->said_at[which]) {
        no_memory(loading);
    }
}

static void add_module(struct loading *loading, const struct settings *settings,
                       const config_setting_t *element)
{
    struct config *config = loading->config;
    const char *text;
    if (!setting_text(settings, element, &text)) {
        return;
    }
    char **modules = reallocarray(config->modules, config->module_count + 1, sizeof(*modules));
    if (modules) {
        config->modules = modules;
        modules[config->module_count] = strdup(text);
    }
    if (!modules || !modules[config->module_count]) {
        no_memory(loading);
        return;
    }
    config->module_count++;
}

static void take_modules(struct loading *loading, const struct settings *settings,
                         const config_setting_t *list)
{
    char where[WHERE_MAX];
    if (!setting_list(settings, list, "texts: paths of modules")) {
        return;
    }
    for (int i = 0; i < config_setting_length(list); i++) {
        if (loading->config->module_count >= MODULES_MAX) {
            setting_where(settings, list, where);
            findings_add(loading->findings, true, where, NULL, "more than %d modules", MODULES_MAX);
            return;
        }
        add_module(loading, settings, config_setting_get_elem((config_setting_t *)list, (unsigned)i));
    }
}

/* ---- guests ---- */

static void take_guest(struct loading *loading, const struct settings *settings,
                       const config_setting_t *group)
{
    struct file_guest guest;
    if (!file_guest_read(settings, group, &guest)) {
        file_guest_finish(&guest);
        return;
    }
    struct file_guest *guests = reallocarray(loading->guests, loading->count + 1, sizeof(*guests));
    char *tree = guest.tree ? source_beside(settings->file, guest.tree) : NULL;
    loading->guests = guests ? guests : loading->guests;
    if (!guests || (guest.tree && !tree)) {
        no_memory(loading);
        file_guest_finish(&guest);
        free(tree);
        return;
    }
    free(guest.tree);
    guest.tree = tree;
    guests[loading->count++] = guest;
}

static void take_guests(struct loading *loading, const struct settings *settings,
                        const config_setting_t *list)
{
    char where[WHERE_MAX];
    if (!setting_list(settings, list, "groups: ( { domain = ...; }, ... )")) {
        return;
    }
    for (int i = 0; i < config_setting_length(list) && !loading->findings->cut; i++) {
        const config_setting_t *group = config_setting_get_elem((config_setting_t *)list, (unsigned)i);
        if (loading->count >= GUESTS_MAX) {
            setting_where(settings, group, where);
            findings_add(loading->findings, true, where, NULL, "more than %d guests", GUESTS_MAX);
            return;
        }
        take_guest(loading, settings, group);
    }
}

/* Each guest knows where it stands among the others, so that the sort keeps the files' order. */
static int compare_guests(const void *one, const void *other)
{
    const struct file_guest *const *first = one, *const *second = other;
    int order = strcmp((*first)->spec.domain, (*second)->spec.domain);
    return order ? order : (*first > *second) - (*first < *second);
}

/* What several places say of one domain becomes one guest, at the first place. */
static void join_guests(struct loading *loading)
{
    struct file_guest **sorted = reallocarray(NULL, loading->count + 1, sizeof(struct file_guest *));
    unsigned kept = 0;
    if (!sorted) {
        no_memory(loading);
        return;
    }
    for (unsigned i = 0; i < loading->count; i++) {
        sorted[i] = &loading->guests[i];
    }
    qsort(sorted, loading->count, sizeof(struct file_guest *), compare_guests);
    for (unsigned i = 0, first = 0; i < loading->count; i++) {
        if (i && strcmp(sorted[first]->spec.domain, sorted[i]->spec.domain) == 0) {
            file_guest_join(sorted[first], sorted[i], loading->findings);
        } else {
            first = i;
        }
    }
    free(sorted);
    for (unsigned i = 0; i < loading->count; i++) {
        if (loading->guests[i].spec.domain) { /* a joined one is empty */
            loading->guests[kept++] = loading->guests[i];
        }
    }
    loading->count = kept;
}

/* ---- texts and files ---- */

static int load_text(struct loading *loading, const char *text, const char *name)
{
    struct settings settings;
    int ret = settings_parse(&settings, text, name, loading->findings);
    if (!ret) {
        const config_setting_t *root = config_root_setting(&settings.parsed), *setting;
        settings_check_names(&settings, root, "ioreqd", names);
        for (unsigned which = 0; which < SET_COUNT; which++) {
            setting = config_setting_get_member((config_setting_t *)root, names[which]);
            if (setting) {
                take_setting(loading, &settings, setting, which);
            }
        }
        if ((setting = config_setting_get_member((config_setting_t *)root, "modules"))) {
            take_modules(loading, &settings, setting);
        }
        if ((setting = config_setting_get_member((config_setting_t *)root, "guests"))) {
            take_guests(loading, &settings, setting);
        }
    }
    settings_finish(&settings);
    return ret;
}

static int load_file(struct loading *loading, const char *path)
{
    int ret;
    size_t size;
    char *text = source_read(path, FILE_MAX, &size, &ret, loading->findings);
    if (!text) {
        return ret;
    }
    loading->bytes += size;
    if (loading->bytes > BYTES_MAX) {
        findings_add(loading->findings, true, path, NULL, "all files together have more than %d bytes",
                     BYTES_MAX);
        ret = -EFBIG;
    } else if (memchr(text, '\0', size)) {
        findings_add(loading->findings, true, path, "expected text", "has a byte 0");
        ret = -EINVAL;
    } else {
        ret = load_text(loading, text, path);
    }
    free(text);
    return ret;
}

static int is_part(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0;
}

/* The C locale's order, whatever ours is: a configuration means the same everywhere. */
static int by_bytes(const struct dirent **one, const struct dirent **other)
{
    return strcmp((*one)->d_name, (*other)->d_name);
}

static void load_folder(struct loading *loading, const char *folder)
{
    struct dirent **parts;
    int count = scandir(folder, &parts, is_part, by_bytes);
    if (count < 0) {
        if (errno != ENOENT) {
            findings_add(loading->findings, true, folder, NULL, "can't be read: %s", strerror(errno));
        }
        return;
    }
    if (count > FILES_MAX) {
        findings_add(loading->findings, true, folder, NULL, "more than %d files", FILES_MAX);
    }
    for (int i = 0; i < count; i++) {
        char *path = NULL;
        if (i < FILES_MAX && asprintf(&path, "%s/%s", folder, parts[i]->d_name) > 0) {
            load_file(loading, path);
            free(path);
        }
        free(parts[i]);
    }
    free(parts);
}

/* ---- the whole ---- */

static void give_settings(struct loading *loading)
{
    static const char letters[] = "ewid"; /* error, warning, info, debug */
    static const enum iod_log_level levels[] = {IOD_LOG_ERROR, IOD_LOG_WARNING, IOD_LOG_INFO, IOD_LOG_DEBUG};
    struct config *config = loading->config;
    char **texts = loading->texts;
    if (texts[SET_LOG]) {
        config->has_log_level = true;
        config->log_level = levels[strchr(letters, texts[SET_LOG][0]) - letters];
    }
    if (texts[SET_XENSTORE]) {
        config->has_xenstore = true;
        config->xenstore = texts[SET_XENSTORE][0] == 't';
    }
    config->record_dir = texts[SET_RECORD_DIR];
    config->control = texts[SET_CONTROL];
    config->control_group = texts[SET_CONTROL_GROUP];
    config->device_tree = texts[SET_DEVICE_TREE];
    texts[SET_RECORD_DIR] = texts[SET_CONTROL] = texts[SET_CONTROL_GROUP] = texts[SET_DEVICE_TREE] = NULL;
}

/* Gives the guests, with the trees that they name, to the configuration. */
static void give_guests(struct loading *loading)
{
    struct config *config = loading->config;
    config->guests = calloc(loading->count + 1, sizeof(*config->guests));
    config->trees = calloc(loading->count + 1, sizeof(*config->trees));
    if (!config->guests || !config->trees) {
        no_memory(loading);
        return;
    }
    for (unsigned i = 0; i < loading->count; i++) {
        struct file_guest *guest = &loading->guests[i];
        if (!file_guest_check(guest, loading->findings)) {
            continue;
        }
        struct device_tree *tree = guest->tree ? device_tree_read(guest->tree, loading->findings) : NULL;
        if (guest->tree && !tree) {
            findings_add(loading->findings, true, guest->spec.origin, "mend its device-tree",
                         "domain %.60s: its device tree can't be used", guest->spec.domain);
        } else {
            config->guests[config->count] = guest->spec;
            config->trees[config->count] = tree;
            guest->spec = (struct guest_spec){0};
            config->count++;
            if (tree) {
                places_add_devices(&config->guests[config->count - 1], tree, loading->findings);
            }
        }
    }
}

static void check_guests(struct loading *loading)
{
    const struct config *config = loading->config;
    for (unsigned i = 0; i < config->count; i++) {
        struct guest_spec *guest = &config->guests[i];
        places_resolve(guest, config->trees[i], loading->findings);
        if (!guest->device_count && !guest->slots) {
            findings_add(loading->findings, true, guest->origin,
                         "expected devices = [ \"NAME,key=value,...\" ]", "domain %.60s has no device",
                         guest->domain);
        }
        if (config->has_xenstore && !config->xenstore &&
            strspn(guest->domain, "0123456789") != strlen(guest->domain)) {
            findings_add(loading->findings, true, guest->origin, "expected a domid, or xenstore = true",
                         "domain %.60s: a name or uuid needs xenstore", guest->domain);
        }
    }
}

static int finish_loading(struct loading *loading, unsigned before, int ret)
{
    if (!ret) {
        join_guests(loading);
        give_settings(loading);
        give_guests(loading);
    }
    if (!ret && loading->config->device_tree) {
        host_tree_join(loading->config->device_tree, loading->config, loading->findings);
    }
    if (!ret) {
        check_guests(loading);
    }
    for (unsigned i = 0; i < loading->count; i++) {
        file_guest_finish(&loading->guests[i]);
    }
    free(loading->guests);
    for (unsigned i = 0; i < SET_COUNT; i++) {
        free(loading->texts[i]);
        free(loading->said_at[i]);
    }
    if (!ret && findings_fatal_since(loading->findings, before)) {
        ret = -EINVAL;
    }
    if (ret) {
        config_finish(loading->config);
    }
    return ret;
}

int config_load(const char *path, struct config *config, struct findings *findings)
{
    struct loading loading = {.config = config, .findings = findings};
    unsigned before = findings->count;
    *config = (struct config){0};
    int ret = load_file(&loading, path);
    char *folder = source_beside(path, "conf.d");
    if (folder) {
        load_folder(&loading, folder);
        free(folder);
    } else {
        no_memory(&loading);
    }
    return finish_loading(&loading, before, ret);
}

int config_load_text(const char *text, const char *name, struct config *config, struct findings *findings)
{
    struct loading loading = {.config = config, .findings = findings};
    unsigned before = findings->count;
    *config = (struct config){0};
    return finish_loading(&loading, before, load_text(&loading, text, name));
}

void config_finish(struct config *config)
{
    for (unsigned i = 0; i < config->count; i++) {
        guest_spec_finish(&config->guests[i]);
        device_tree_destroy(config->trees[i]);
    }
    for (unsigned i = 0; i < config->module_count; i++) {
        free(config->modules[i]);
    }
    free(config->guests);
    free(config->trees);
    free(config->modules);
    free(config->record_dir);
    free(config->control);
    free(config->control_group);
    free(config->device_tree);
    *config = (struct config){0};
}
