/* SPDX-License-Identifier: BSD-2-Clause */
/* What libxl does to xenstore in a domain's life (xen/toolstack: create, rename, destroy). */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <xen/io/xs_wire.h>

#include "client.h"
#include "mock_xenstore.h"

/* A domain's own xenstore port; its page is grant 1, the gfn only has to be a number. */
#define GUEST_PORT "1"
#define GUEST_GFN "1"

int mock_xenstore_write(struct mock *mock, const char *path, const char *value)
{
    char payload[XENSTORE_PAYLOAD_MAX], socket_path[128], answer[16];
    size_t path_size = strlen(path) + 1, length = strlen(value);
    if (path_size + length > sizeof(payload)) {
        return -E2BIG;
    }
    memcpy(payload, path, path_size);
    memcpy(payload + path_size, value, length); /* without a NUL of its own */
    mock_xenstore_socket(mock, socket_path, sizeof(socket_path));
    int result = xs_request(socket_path, XS_WRITE, payload, path_size + length, answer, sizeof(answer));
    return result < 0 ? result : 0;
}

/* A request whose answer is of no interest beyond its success. */
static int order(struct mock *mock, uint32_t type, const char *const *strings)
{
    char socket_path[128], answer[XENSTORE_PAYLOAD_MAX];
    mock_xenstore_socket(mock, socket_path, sizeof(socket_path));
    int result = xs_request_strings(socket_path, type, strings, answer, sizeof(answer));
    return result < 0 ? result : 0;
}

int mock_xenstore_read(struct mock *mock, const char *path, char *value, size_t size)
{
    const char *const strings[] = {path, NULL};
    char socket_path[128];
    mock_xenstore_socket(mock, socket_path, sizeof(socket_path));
    int length = xs_request_strings(socket_path, XS_READ, strings, value, size - 1);
    if (length < 0) {
        return length;
    }
    value[length] = '\0';
    return 0;
}

int mock_xenstore_remove(struct mock *mock, const char *path)
{
    const char *const strings[] = {path, NULL};
    return order(mock, XS_RM, strings);
}

static void format_uuid(const struct mock_guest *g, char text[37])
{
    const uint8_t *uuid = mock_domain_uuid(g);
    for (unsigned i = 0; i < 16; i++) {
        text += sprintf(text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
    }
}

static int write_node(struct mock_guest *g, const char *name, const char *value)
{
    char path[128];
    snprintf(path, sizeof(path), "/local/domain/%u/%s", mock_domid(g), name);
    return mock_xenstore_write(mock_of(g), path, value);
}

/* The domain's directory: owned by dom0, readable by the domain. */
static int make_directory(struct mock_guest *g)
{
    char path[64], reader[16];
    snprintf(path, sizeof(path), "/local/domain/%u", mock_domid(g));
    snprintf(reader, sizeof(reader), "r%u", mock_domid(g));
    const char *const make[] = {path, NULL};
    const char *const permit[] = {path, "n0", reader, NULL};
    int result = order(mock_of(g), XS_MKDIR, make);
    return result ? result : order(mock_of(g), XS_SET_PERMS, permit);
}

static int write_vm(struct mock_guest *g)
{
    char uuid[37], vm[64], path[80];
    format_uuid(g, uuid);
    snprintf(vm, sizeof(vm), "/vm/%s", uuid);
    snprintf(path, sizeof(path), "%s/uuid", vm);
    int result = mock_xenstore_write(mock_of(g), path, uuid);
    snprintf(path, sizeof(path), "%s/name", vm);
    result = result ? result : mock_xenstore_write(mock_of(g), path, mock_domain_name(g));
    return result ? result : write_node(g, "vm", vm);
}

static int write_type(struct mock_guest *g)
{
    char path[64];
    snprintf(path, sizeof(path), "/libxl/%u/type", mock_domid(g));
    return mock_xenstore_write(mock_of(g), path, mock_guest_profile(g) == MOCK_HVM ? "hvm" : "pvh");
}

int mock_xenstore_nodes(struct mock_guest *g, bool type)
{
    char domid[8];
    snprintf(domid, sizeof(domid), "%u", mock_domid(g));
    int result = make_directory(g);
    result = result ? result : write_vm(g);
    result = result ? result : write_node(g, "name", mock_domain_name(g));
    result = result ? result : write_node(g, "domid", domid);
    return result || !type ? result : write_type(g);
}

int mock_xenstore_rename(struct mock_guest *g, const char *name)
{
    return write_node(g, "name", name);
}

int mock_xenstore_introduce(struct mock_guest *g)
{
    char domid[8];
    snprintf(domid, sizeof(domid), "%u", mock_domid(g));
    const char *const strings[] = {domid, GUEST_GFN, GUEST_PORT, NULL};
    return order(mock_of(g), XS_INTRODUCE, strings);
}

int mock_xenstore_create_domain(struct mock_guest *g)
{
    int result = mock_xenstore_nodes(g, true);
    return result ? result : mock_xenstore_introduce(g);
}

int mock_xenstore_release(struct mock_guest *g)
{
    char domid[8];
    snprintf(domid, sizeof(domid), "%u", mock_domid(g));
    const char *const strings[] = {domid, NULL};
    return order(mock_of(g), XS_RELEASE, strings);
}

int mock_xenstore_remove_nodes(struct mock_guest *g)
{
    char path[64], uuid[37];
    format_uuid(g, uuid);
    snprintf(path, sizeof(path), "/vm/%s", uuid);
    int result = mock_xenstore_remove(mock_of(g), path);
    snprintf(path, sizeof(path), "/local/domain/%u", mock_domid(g));
    int second = mock_xenstore_remove(mock_of(g), path);
    snprintf(path, sizeof(path), "/libxl/%u", mock_domid(g));
    int third = mock_xenstore_remove(mock_of(g), path);
    third = third == -ENOENT ? 0 : third; /* a domain of unknown type has none */
    return result ? result : second ? second : third;
}

int mock_xenstore_introduced(struct mock_guest *g)
{
    char domid[8], socket_path[128], answer[8] = "";
    snprintf(domid, sizeof(domid), "%u", mock_domid(g));
    const char *const strings[] = {domid, NULL};
    mock_xenstore_socket(mock_of(g), socket_path, sizeof(socket_path));
    int result =
        xs_request_strings(socket_path, XS_IS_DOMAIN_INTRODUCED, strings, answer, sizeof(answer) - 1);
    return result < 0 ? result : strcmp(answer, "T") == 0;
}
