/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

#ifndef MODULE_DIR /* the build says where modules are installed */
#define MODULE_DIR "/usr/lib/ioreqd/modules"
#endif

/* All kinds of classes have these members at the same meaning; one view of them serves all kinds. */
struct class_view {
    const char *name, *summary;
    const struct iod_option *options;
    const void *class;
    bool filter;
};

enum kind { DEVICE, BLOCK, CHARDEV, NETDEV, KINDS };

struct class_list {
    struct class_view *views;
    unsigned count;
};

struct modules {
    struct class_list lists[KINDS];
    void **handles; /* of dlopen */
    unsigned handle_count;
    bool builtin; /* classes that are there already are skipped */
};

static const char *const kind_names[KINDS] = {"device", "block backend", "character backend",
                                              "network backend"};

struct modules *modules_create(void)
{
    return calloc(1, sizeof(struct modules));
}

void modules_destroy(struct modules *modules)
{
    if (!modules) {
        return;
    }
    for (unsigned kind = 0; kind < KINDS; kind++) {
        free(modules->lists[kind].views);
    }
    while (modules->handle_count > 0) {
        dlclose(modules->handles[--modules->handle_count]);
    }
    free(modules->handles);
    free(modules);
}

/* ---- checks of a module's tables ---- */

/* What a table must at least hold: the members of the first release that have this ABI number. */
#define SIZE_THROUGH(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

static int check_fields(const struct iod_device_class *class, const char *from, struct iod_error *error)
{
    if (class->regs_size && !class->fields) {
        return iod_fail(error, EINVAL, "%s: device '%s' has regs but no fields: they could not be saved",
                        from, class->name);
    }
    for (const struct iod_field *field = class->fields; field && field->name; field++) {
        if (field->offset + (size_t)field->width * field->count > class->regs_size) {
            return iod_fail(error, EINVAL, "%s: device '%s': field '%s' lies outside of regs", from,
                            class->name, field->name);
        }
        if (field->since < 1 || field->since > class->version) {
            return iod_fail(error, EINVAL,
                            "%s: device '%s': field '%s' is since version %u; expected 1 to %u", from,
                            class->name, field->name, field->since, class->version);
        }
        for (const struct iod_field *other = class->fields; other < field; other++) {
            if (strcmp(other->name, field->name) == 0) {
                return iod_fail(error, EINVAL, "%s: device '%s': field '%s' occurs twice", from, class->name,
                                field->name);
            }
        }
    }
    return 0;
}

static int check_counters(const struct iod_device_class *class, const char *from, struct iod_error *error)
{
    const struct iod_counter *counter = TABLE_GET(class, counters);
    for (; counter && counter->name; counter++) {
        if (!counter->name[0] || strspn(counter->name, "abcdefghijklmnopqrstuvwxyz0123456789-") !=
                                     strlen(counter->name)) {
            return iod_fail(error, EINVAL, "%s: device '%s': '%.60s' is no name for a counter", from, class->name,
                            counter->name);
        }
        if (counter->offset % sizeof(uint64_t) || counter->offset > class->self_size ||
            class->self_size - counter->offset < sizeof(uint64_t)) {
            return iod_fail(error, EINVAL, "%s: device '%s': counter '%s' lies outside of self", from, class->name,
                            counter->name);
        }
    }
    return 0;
}

static int check_table(size_t size, size_t least, enum kind kind, const char *from, struct iod_error *error)
{
    if (size >= least) {
        return 0;
    }
    return iod_fail(error, EINVAL, "%s: the table of a %s has %zu bytes; expected at least %zu", from,
                    kind_names[kind], size, least);
}

static int view_device(const struct iod_device_class *class, const char *from, struct class_view *view,
                       struct iod_error *error)
{
    int result =
        check_table(class->size, SIZE_THROUGH(struct iod_device_class, destroy), DEVICE, from, error);
    if (result) {
        return result;
    }
    *view = (struct class_view){
        .name = class->name, .summary = class->summary, .options = class->options, .class = class};
    if (!class->name || !class->create) {
        return iod_fail(error, EINVAL, "%s: device '%s' lacks its name or create", from,
                        class->name ? class->name : "?");
    }
    result = check_fields(class, from, error);
    return result ? result : check_counters(class, from, error);
}

static int view_block(const struct iod_block_class *class, const char *from, struct class_view *view,
                      struct iod_error *error)
{
    int result = check_table(class->size, SIZE_THROUGH(struct iod_block_class, close), BLOCK, from, error);
    if (result) {
        return result;
    }
    *view = (struct class_view){.name = class->name,
                                .summary = class->summary,
                                .options = class->options,
                                .class = class,
                                .filter = class->filter};
    if (!class->name || !class->open || !class->submit) {
        return iod_fail(error, EINVAL, "%s: block backend '%s' lacks its name, open or submit", from,
                        class->name ? class->name : "?");
    }
    return 0;
}

static int view_chardev(const struct iod_chardev_class *class, const char *from, struct class_view *view,
                        struct iod_error *error)
{
    int result =
        check_table(class->size, SIZE_THROUGH(struct iod_chardev_class, close), CHARDEV, from, error);
    if (result) {
        return result;
    }
    *view = (struct class_view){
        .name = class->name, .summary = class->summary, .options = class->options, .class = class};
    if (!class->name || !class->open || !class->write) {
        return iod_fail(error, EINVAL, "%s: character backend '%s' lacks its name, open or write", from,
                        class->name ? class->name : "?");
    }
    return 0;
}

static int view_netdev(const struct iod_netdev_class *class, const char *from, struct class_view *view,
                       struct iod_error *error)
{
    int result = check_table(class->size, SIZE_THROUGH(struct iod_netdev_class, close), NETDEV, from, error);
    if (result) {
        return result;
    }
    *view = (struct class_view){
        .name = class->name, .summary = class->summary, .options = class->options, .class = class};
    if (!class->name || !class->open || !class->send || !class->receive_again) {
        return iod_fail(error, EINVAL, "%s: network backend '%s' lacks its name, open, send or receive_again",
                        from, class->name ? class->name : "?");
    }
    return 0;
}

/* ---- adding ---- */

static const struct class_view *find(const struct class_list *list, const char *name)
{
    for (unsigned i = 0; i < list->count; i++) {
        if (strcmp(list->views[i].name, name) == 0) {
            return &list->views[i];
        }
    }
    return NULL;
}

static int add_view(struct modules *modules, enum kind kind, const struct class_view *view, const char *from,
                    struct iod_error *error)
{
    struct class_list *list = &modules->lists[kind];
    char what[120];
    snprintf(what, sizeof(what), "%.60s: %s", from, view->name);
    if (!view->name[0] ||
        strspn(view->name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != strlen(view->name)) {
        return iod_fail(error, EINVAL, "%s: '%.60s' is no name for a %s", from, view->name, kind_names[kind]);
    }
    if (find(list, view->name) && modules->builtin) {
        return 0; /* one loaded from a file stands in its place */
    }
    if (find(list, view->name)) {
        return iod_fail(error, EEXIST, "%s: there is a %s '%s' already", from, kind_names[kind], view->name);
    }
    int result = options_check_schema(view->options, what, error);
    if (result) {
        return result;
    }
    struct class_view *views = realloc(list->views, (list->count + 1) * sizeof(*views));
    if (!views) {
        return iod_fail(error, ENOMEM, "%s: out of memory", from);
    }
    list->views = views;
    views[list->count++] = *view;
    return 0;
}

static int add_classes(struct modules *modules, const struct iod_module *module, const char *from,
                       struct iod_error *error)
{
    struct class_view view;
    int result = 0;
    for (unsigned i = 0; !result && module->devices && module->devices[i]; i++) {
        result = view_device(module->devices[i], from, &view, error);
        result = result ? result : add_view(modules, DEVICE, &view, from, error);
    }
    for (unsigned i = 0; !result && module->blocks && module->blocks[i]; i++) {
        result = view_block(module->blocks[i], from, &view, error);
        result = result ? result : add_view(modules, BLOCK, &view, from, error);
    }
    for (unsigned i = 0; !result && module->chardevs && module->chardevs[i]; i++) {
        result = view_chardev(module->chardevs[i], from, &view, error);
        result = result ? result : add_view(modules, CHARDEV, &view, from, error);
    }
    for (unsigned i = 0; !result && TABLE_HAS(module, netdevs) && module->netdevs[i]; i++) {
        result = view_netdev(module->netdevs[i], from, &view, error);
        result = result ? result : add_view(modules, NETDEV, &view, from, error);
    }
    return result;
}

int modules_add(struct modules *modules, const struct iod_module *module, const char *from,
                struct iod_error *error)
{
    if (module->size < SIZE_THROUGH(struct iod_module, abi) || module->abi != IOD_ABI) {
        return iod_fail(error, EINVAL, "%s: built for module ABI %u; this ioreqd has %u", from,
                        module->size < SIZE_THROUGH(struct iod_module, abi) ? 0 : module->abi, IOD_ABI);
    }
    if (module->size < SIZE_THROUGH(struct iod_module, chardevs)) {
        return iod_fail(error, EINVAL, "%s: the module's table has %zu bytes; expected at least %zu", from,
                        module->size, SIZE_THROUGH(struct iod_module, chardevs));
    }
    unsigned before[KINDS];
    for (unsigned kind = 0; kind < KINDS; kind++) {
        before[kind] = modules->lists[kind].count;
    }
    int result = add_classes(modules, module, from, error);
    for (unsigned kind = 0; result && kind < KINDS; kind++) {
        modules->lists[kind].count = before[kind]; /* all of a module's classes or none */
    }
    return result;
}

int modules_add_builtin(struct modules *modules, const struct iod_module *module, const char *from,
                        struct iod_error *error)
{
    modules->builtin = true;
    int result = modules_add(modules, module, from, error);
    modules->builtin = false;
    return result;
}

/* ---- shared objects ---- */

/* From [lib]NAME.so to iod_module_NAME. */
static int symbol_name(const char *path, char *symbol, size_t size, struct iod_error *error)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    name += strncmp(name, "lib", 3) == 0 ? 3 : 0;
    size_t length = strlen(name);
    if (length <= 3 || strcmp(name + length - 3, ".so") != 0) {
        return iod_fail(error, EINVAL, "module '%.120s': expected a file NAME.so or libNAME.so", path);
    }
    int written = snprintf(symbol, size, "iod_module_%.*s", (int)(length - 3), name);
    if (written < 0 || (size_t)written >= size) {
        return iod_fail(error, ENAMETOOLONG, "module '%.120s': the name is too long", path);
    }
    for (char *at = symbol; *at; at++) {
        *at = *at == '-' ? '_' : *at;
    }
    return 0;
}

/* dlopen; a bare file name means this directory, not the library path. */
static void *open_object(const char *path, struct iod_error *error)
{
    size_t size = strlen(path) + 3;
    char *full = malloc(size);
    if (!full) {
        iod_fail(error, ENOMEM, "module '%.120s': out of memory", path);
        return NULL;
    }
    snprintf(full, size, "%s%s", strchr(path, '/') ? "" : "./", path);
    void *handle = dlopen(full, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        iod_fail(error, ENOEXEC, "module '%.80s': %s", path, why ? why : "can't be loaded");
    }
    free(full);
    return handle;
}

static int load_file(struct modules *modules, const char *path, struct iod_error *error)
{
    char symbol[160];
    int result = symbol_name(path, symbol, sizeof(symbol), error);
    if (result) {
        return result;
    }
    void **handles = realloc(modules->handles, (modules->handle_count + 1) * sizeof(*handles));
    if (!handles) {
        return iod_fail(error, ENOMEM, "module '%.120s': out of memory", path);
    }
    modules->handles = handles;
    void *handle = open_object(path, error);
    if (!handle) {
        return -ENOEXEC;
    }
    const struct iod_module *module = dlsym(handle, symbol);
    result = module ? modules_add(modules, module, path, error)
                    : iod_fail(error, ENOEXEC,
                               "module '%.80s': has no symbol %s; see IOD_MODULE in ioreqd/module.h", path,
                               symbol);
    if (result) {
        dlclose(handle);
        return result;
    }
    modules->handles[modules->handle_count++] = handle;
    return 0;
}

int modules_load(struct modules *modules, const char *path, struct iod_error *error)
{
    char installed[PATH_MAX];
    size_t length = strlen(path);
    if (strchr(path, '/') || (length >= 3 && !strcmp(path + length - 3, ".so"))) {
        return load_file(modules, path, error);
    }
    if (snprintf(installed, sizeof(installed), "%s/%s.so", MODULE_DIR, path) >= (int)sizeof(installed)) {
        return iod_fail(error, ENAMETOOLONG, "module '%.120s': the name is too long", path);
    }
    return load_file(modules, installed, error);
}

/* ---- looking up and showing ---- */

static const void *look_up(const struct modules *modules, enum kind kind, const char *name,
                           struct iod_error *error)
{
    const struct class_list *list = &modules->lists[kind];
    const struct class_view *view = find(list, name);
    if (view) {
        return view->class;
    }
    char known[200] = "";
    for (unsigned i = 0; i < list->count; i++) {
        size_t length = strlen(known);
        snprintf(known + length, sizeof(known) - length, "%s%s%s", i ? ", " : "", list->views[i].name,
                 list->views[i].filter ? " (filter)" : "");
    }
    iod_fail(error, ENOENT, "no %s '%.40s'; there are: %s", kind_names[kind], name,
             list->count ? known : "none");
    return NULL;
}

const struct iod_device_class *modules_device(const struct modules *modules, const char *name,
                                              struct iod_error *error)
{
    return look_up(modules, DEVICE, name, error);
}

const struct iod_block_class *modules_block(const struct modules *modules, const char *name,
                                            struct iod_error *error)
{
    return look_up(modules, BLOCK, name, error);
}

const struct iod_chardev_class *modules_chardev(const struct modules *modules, const char *name,
                                                struct iod_error *error)
{
    return look_up(modules, CHARDEV, name, error);
}

const struct iod_netdev_class *modules_netdev(const struct modules *modules, const char *name,
                                              struct iod_error *error)
{
    return look_up(modules, NETDEV, name, error);
}

const char *modules_origin(const void *class)
{
    Dl_info info;
    return dladdr(class, &info) && info.dli_fname ? info.dli_fname : "?";
}

static const char *summary_of(const struct class_view *view)
{
    return view->summary ? view->summary : "";
}

static void list_classes(const struct class_list *list, bool filter, const char *title, FILE *to)
{
    bool any = false;
    for (unsigned i = 0; i < list->count; i++) {
        const struct class_view *view = &list->views[i];
        if (view->filter == filter) {
            fprintf(to, "%s  %-20s %s\n", any ? "" : title, view->name, summary_of(view));
            any = true;
        }
    }
}

void modules_list(const struct modules *modules, FILE *to)
{
    list_classes(&modules->lists[DEVICE], false, "Devices (--device NAME,key=value,...):\n", to);
    list_classes(&modules->lists[BLOCK], false, "Block backends (block=NAME,block.key=...):\n", to);
    list_classes(&modules->lists[BLOCK], true, "Block filters (block.filter=NAME):\n", to);
    list_classes(&modules->lists[CHARDEV], false, "Character backends (chardev=NAME,chardev.key=...):\n", to);
    list_classes(&modules->lists[NETDEV], false, "Network backends (netdev=NAME,netdev.key=...):\n", to);
}

static const char *const backend_keys[KINDS] = {
    [BLOCK] = "block", [CHARDEV] = "chardev", [NETDEV] = "netdev"};

/* The options of a device's possible backends of one kind. */
static void help_backends(const struct class_list *list, const char *key, FILE *to)
{
    for (unsigned i = 0; i < list->count; i++) {
        const struct class_view *view = &list->views[i];
        if (view->options && view->options[0].name) {
            const char *sub = view->filter ? ".filter" : "";
            char prefix[40];
            snprintf(prefix, sizeof(prefix), "%s%s.", key, sub);
            fprintf(to, "With %s%s=%s (%s):\n", key, sub, view->name, summary_of(view));
            options_help(to, view->options, prefix);
        }
    }
}

int modules_help(const struct modules *modules, const char *device, FILE *to, struct iod_error *error)
{
    const struct iod_device_class *class = modules_device(modules, device, error);
    if (!class) {
        return -ENOENT;
    }
    fprintf(to, "%s: %s\n", class->name, class->summary ? class->summary : "");
    options_help(to, class->options, "");
    fprintf(to,
            "Of every device, where they make sense:\n"
            "  %-32s name of the device, unique in its guest (default: NAME and a number)\n"
            "  %-32s pci, mmio or mmio-legacy: where a virtio device sits\n"
            "  %-32s PCI slot and function, hexadecimal\n"
            "  %-32s behind the PCIe root port of this number (slots=N of the guest)\n"
            "  %-32s first port or guest physical address\n"
            "  %-32s interrupt line (x86) or INTID from 32 up (Arm)\n",
            "id=TEXT", "bus=NAME", "addr=SLOT[.FN]", "slot=NUMBER", "base=NUMBER", "irq=NUMBER|none");
    /* A module of before the member: whatever there is. */
    unsigned kinds = class->size > offsetof(struct iod_device_class, backends)
                         ? class->backends
                         : IOD_BACKEND_BLOCK | IOD_BACKEND_CHARDEV | IOD_BACKEND_NETDEV;
    if (kinds) {
        fputs("Of its backend; 'block.', 'chardev.' and 'netdev.' may be left out where the device itself has no\n"
              "option of that name (virtio-blk,path=FILE):\n",
              to);
    }
    for (unsigned kind = BLOCK; kind < KINDS; kind++) {
        if (kinds & 1u << (kind - BLOCK)) {
            help_backends(&modules->lists[kind], backend_keys[kind], to);
        }
    }
    return 0;
}
