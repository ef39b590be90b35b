/* SPDX-License-Identifier: BSD-2-Clause */
#include "client.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

#define TIMEOUT_S 10

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        int result = -errno;
        close(fd);
        return result;
    }
    return fd;
}

static bool send_all(int fd, const void *from, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, from, length, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        from = (const char *)from + sent;
        length -= (size_t)sent;
    }
    return true;
}

static bool receive_all(int fd, void *to, size_t length)
{
    return length == 0 || recv(fd, to, length, MSG_WAITALL) == (ssize_t)length;
}

/* The errno of the name that xenstored sent. */
static int error_of(const char *name)
{
    for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++) {
        if (strcmp(xsd_errors[i].errstring, name) == 0) {
            return -xsd_errors[i].errnum;
        }
    }
    return -EIO;
}

static int exchange(int fd, uint32_t type, const void *payload, size_t length, void *answer, size_t room)
{
    struct xsd_sockmsg header = {.type = type, .len = (uint32_t)length};
    char body[XENSTORE_PAYLOAD_MAX + 1];
    if (!send_all(fd, &header, sizeof(header)) || !send_all(fd, payload, length) ||
        !receive_all(fd, &header, sizeof(header)) || header.len > XENSTORE_PAYLOAD_MAX ||
        !receive_all(fd, body, header.len)) {
        return -EPIPE;
    }
    body[header.len] = '\0';
    if (header.type == XS_ERROR) {
        return error_of(body);
    }
    if (header.len > room) {
        return -ERANGE;
    }
    if (header.len) {
        memcpy(answer, body, header.len);
    }
    return (int)header.len;
}

int xs_request(const char *socket_path, uint32_t type, const void *payload, size_t length, void *answer,
               size_t room)
{
    if (length > XENSTORE_PAYLOAD_MAX) {
        return -E2BIG;
    }
    int fd = connect_to(socket_path);
    if (fd < 0) {
        return fd;
    }
    int result = exchange(fd, type, payload, length, answer, room);
    close(fd);
    return result;
}

int xs_request_strings(const char *socket_path, uint32_t type, const char *const *strings, void *answer,
                       size_t room)
{
    char payload[XENSTORE_PAYLOAD_MAX];
    size_t length = 0;
    for (; *strings; strings++) {
        size_t size = strlen(*strings) + 1;
        if (size > sizeof(payload) - length) {
            return -E2BIG;
        }
        memcpy(payload + length, *strings, size);
        length += size;
    }
    return xs_request(socket_path, type, payload, length, answer, room);
}
