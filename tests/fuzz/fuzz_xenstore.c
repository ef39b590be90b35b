/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes as the nodes of one branch: a byte of flags, then lines PATH=VALUE (without "=": a value that is no
 * text), read as libxl's disks, libxl's devices or our own tree. What is served must be a spec that says just
 * what the nodes say.
 */
#include <stdlib.h>
#include <string.h>

#include "config/xenstore_node.h"

#include "fuzz.h"

#define NODES 64

struct input {
    struct store_node nodes[NODES];
    struct store_branch branch;
    struct xenstore_place place;
    enum xenstore_kind kind;
};

/* As src/xen lets it through. */
static bool is_text(const char *text, size_t max)
{
    size_t length = strlen(text);

    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return false;
        }
    }
    return length <= max;
}

static void split(struct input *input, char *text)
{
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line && input->branch.count < NODES;
         line = strtok_r(NULL, "\n", &rest)) {
        char *value = strchr(line, '=');
        if (value) {
            *value++ = '\0';
        }
        if (line[0] && is_text(line, STORE_PATH_MAX)) {
            input->nodes[input->branch.count++] = (struct store_node){
                .path = line, .value = value && is_text(value, STORE_VALUE_MAX) ? value : NULL};
        }
    }
    input->branch.nodes = input->nodes;
    input->branch.name = "5";
    input->branch.whole = true;
}

static const char *value_of(const struct input *input, const char *name, const char *key)
{
    for (unsigned i = 0; i < input->branch.count; i++) {
        const char *at = input->nodes[i].path;
        size_t length = strlen(name);
        if (strncmp(at, name, length) == 0 && at[length] == '/' && strcmp(at + length + 1, key) == 0) {
            return input->nodes[i].value;
        }
    }
    return NULL;
}

/* No key but these, and the image is the one that was named: a comma in a path begins no other option. */
static void check_disk(const struct input *input, const char *name, const struct device_spec *spec)
{
    static const char known[] = " id path readonly discard open-timeout bus base irq ";
    const char *path = device_spec_get(spec, "path"), *params = value_of(input, name, "params");

    FUZZ_CHECK(path && params && strcmp(path, params) == 0 && path[0] == '/');
    FUZZ_CHECK(strcmp(spec->name, "virtio-blk") == 0);
    for (unsigned i = 0; i < spec->count; i++) {
        char word[32] = " ";
        FUZZ_CHECK(strlen(spec->pairs[i].key) < 16);
        strcat(strcat(word, spec->pairs[i].key), " ");
        FUZZ_CHECK(strstr(known, word));
    }
}

static void check(const struct input *input, const char *name, const struct xenstore_node *node)
{
    struct device_spec spec;
    struct iod_error error = {0};

    FUZZ_CHECK((node->verdict == XENSTORE_SERVE) == (node->spec != NULL));
    FUZZ_CHECK((node->verdict == XENSTORE_REFUSE) == (node->why[0] != '\0'));
    FUZZ_CHECK(is_text(node->why, sizeof(node->why) - 1));
    if (node->verdict != XENSTORE_SERVE) {
        return;
    }
    FUZZ_CHECK(device_spec_parse(&spec, node->spec, &error) == 0);
    FUZZ_CHECK(device_spec_get(&spec, "id") && strcmp(device_spec_get(&spec, "id"), node->id) == 0);
    if (input->kind == XENSTORE_DISK) {
        check_disk(input, name, &spec);
    }
    if (input->kind != XENSTORE_OWN) {
        FUZZ_CHECK(node->state[0] >= '1' && node->state[0] <= '4' && !node->state[1]);
        FUZZ_CHECK(node->pci == !device_spec_get(&spec, "base"));
        FUZZ_CHECK(input->place.arch == ARCH_X86 || !node->pci);
    }
    device_spec_finish(&spec);
}

static void read_all(struct input *input)
{
    for (unsigned i = 0; i < input->branch.count; i++) {
        const char *path = input->nodes[i].path;
        size_t length = strcspn(path, "/");
        char name[XENSTORE_NAME_MAX + 1];
        struct xenstore_node node;
        struct xenstore_options options;
        struct iod_error error = {0};
        if (xenstore_name_valid(input->kind, path, length)) {
            FUZZ_CHECK(length < sizeof(name));
            memcpy(name, path, length);
            name[length] = '\0';
            if (xenstore_node_read(&node, input->kind, name, &input->branch, &input->place) == 0) {
                check(input, name, &node);
            }
            free(node.spec);
        }
        if (xenstore_options_read(&options, input->nodes[i].value, &error)) {
            FUZZ_CHECK(error.code && error.text[0]);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct input input = {.place.domid = 5};
    char *text = length ? malloc(length) : NULL;

    if (!text) {
        return 0;
    }
    input.kind = (enum xenstore_kind)((bytes[0] & 3) % XENSTORE_KINDS);
    input.place.arch = bytes[0] & 4 ? ARCH_ARM : ARCH_X86;
    input.place.type = bytes[0] & 8 ? GUEST_HVM : GUEST_PVH;
    input.place.pv = bytes[0] & 16;
    input.place.own = bytes[0] & 32 ? 1 : 0;
    memcpy(text, bytes + 1, length - 1);
    text[length - 1] = '\0';
    split(&input, text);
    read_all(&input);
    free(text);
    return 0;
}
