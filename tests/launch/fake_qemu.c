/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stands in QEMU's place: speaks QMP on the sockets that its -chardev arguments give it as descriptors, one client at a
 * time, and notes what it was given in the file $FAKE_QEMU_NOTE. $FAKE_QEMU says how it misbehaves: "die" (at once,
 * status 3), "mute" (no QMP), "stubborn" (no signal ends it); $FAKE_QEMU_PCI is what query-pci answers.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>

#define SOCKETS_MAX 8

static int note_fd = -1;
static bool stubborn;

struct client {
    int fd, passed; /* -1: none */
};

static void signalled(int signo)
{
    dprintf(note_fd, "signal: %d\n", signo);
    if (!stubborn) {
        _exit(0);
    }
}

static void note_given(int argc, char **argv, char **envp)
{
    char path[64], target[256];
    DIR *folder = opendir("/proc/self/fd");

    for (int i = 0; i < argc; i++) {
        dprintf(note_fd, "arg: %s\n", argv[i]);
    }
    for (; *envp; envp++) {
        dprintf(note_fd, "env: %s\n", *envp);
    }
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        snprintf(path, sizeof(path), "/proc/self/fd/%.20s", entry->d_name);
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        if (length > 0 && atoi(entry->d_name) != note_fd && atoi(entry->d_name) != dirfd(folder)) {
            dprintf(note_fd, "fd: %s %.*s\n", entry->d_name, (int)length, target);
        }
    }
    struct sigaction pipe_action;
    sigaction(SIGPIPE, NULL, &pipe_action);
    dprintf(note_fd, "sigpipe: %s\npid: %d\n", pipe_action.sa_handler == SIG_DFL ? "default" : "ignored", getpid());
    closedir(folder);
}

/* One byte at a time, so that nothing of the next command is swallowed; the last descriptor that came is kept. */
static size_t take_byte(void *buffer, size_t size, void *data)
{
    struct client *client = data;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(16 * sizeof(int))];
    } control;
    struct iovec part = {buffer, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    ssize_t count = recvmsg(client->fd, &message, MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = count > 0 ? CMSG_FIRSTHDR(&message) : NULL;

    if (header && header->cmsg_type == SCM_RIGHTS) {
        if (client->passed >= 0) {
            close(client->passed);
        }
        memcpy(&client->passed, CMSG_DATA(header), sizeof(int));
    }
    return count > 0 ? (size_t)count : (size_t)-1;
}

static void say(struct client *client, json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT);
    size_t length = strlen(text), at = 0;

    while (at < length) {
        ssize_t count = write(client->fd, text + at, length - at);
        if (count <= 0) {
            break;
        }
        at += (size_t)count;
    }
    if (write(client->fd, "\r\n", 2) < 0) {
        fprintf(stderr, "fake QEMU: a client has gone\n");
    }
    free(text);
    json_decref(value);
}

static json_t *pci(void)
{
    const char *text = getenv("FAKE_QEMU_PCI");

    return text ? json_loads(text, 0, NULL)
                : json_pack("[{s:i,s:[{s:i,s:i,s:i,s:s},{s:i,s:i,s:i,s:s}]}]", "bus", 0, "devices", "bus", 0, "slot", 0,
                            "function", 0, "qdev_id", "", "bus", 0, "slot", 2, "function", 0, "qdev_id", "vga0");
}

/* What came with the descriptor: its first bytes. */
static json_t *add_fd(struct client *client)
{
    char text[64] = "none";

    if (client->passed >= 0) {
        ssize_t count = read(client->passed, text, sizeof(text) - 1);
        text[count > 0 ? count : 0] = '\0';
        close(client->passed);
        client->passed = -1;
    }
    return json_pack("{s:i,s:s}", "fdset-id", 0, "text", text);
}

static json_t *result_of(struct client *client, const char *name, json_t *arguments)
{
    if (!strcmp(name, "qmp_capabilities") || !strcmp(name, "quit")) {
        return json_object();
    }
    if (!strcmp(name, "query-pci")) {
        return pci();
    }
    if (!strcmp(name, "add-fd")) {
        return add_fd(client);
    }
    if (!strcmp(name, "echo")) {
        return json_incref(arguments);
    }
    if (!strcmp(name, "xen-save-devices-state")) {
        return json_pack("{s:b}", "saved", 1);
    }
    if (!strcmp(name, "slow")) {
        usleep(200000);
        say(client, json_pack("{s:s,s:{s:i,s:i}}", "event", "STOP", "timestamp", "seconds", 1, "microseconds", 2));
        return json_object();
    }
    if (!strcmp(name, "big")) {
        char *text = malloc(300001);
        memset(text, 'x', 300000);
        text[300000] = '\0';
        json_t *value = json_string(text);
        free(text);
        return value;
    }
    return NULL;
}

static void answer(struct client *client, json_t *command)
{
    const char *name = json_string_value(json_object_get(command, "execute"));
    json_t *result = name ? result_of(client, name, json_object_get(command, "arguments")) : NULL;
    json_t *id = json_object_get(command, "id");
    json_t *reply = result ? json_pack("{s:o}", "return", result)
                           : json_pack("{s:{s:s,s:s}}", "error", "class", "CommandNotFound", "desc", "no such command");

    dprintf(note_fd, "command: %s\n", name ? name : "-");
    if (id) {
        json_object_set(reply, "id", id);
    }
    say(client, reply);
    if (name && !strcmp(name, "quit")) {
        exit(0);
    }
}

static void serve(int listener)
{
    struct client client = {accept4(listener, NULL, NULL, SOCK_CLOEXEC), -1};
    json_t *command;
    json_error_t error;

    say(&client, json_pack("{s:{s:{s:{s:i,s:i,s:i},s:s},s:[]}}", "QMP", "version", "qemu", "major", 7,
                           "minor", 2, "micro", 0, "package", "fake", "capabilities"));
    while ((command = json_load_callback(take_byte, &client, JSON_DISABLE_EOF_CHECK, &error))) {
        answer(&client, command);
        json_decref(command);
    }
    if (json_error_code(&error) != json_error_premature_end_of_input) {
        dprintf(note_fd, "unreadable: %s\n", error.text);
    }
    close(client.fd);
    if (client.passed >= 0) {
        close(client.passed);
    }
}

static int find_sockets(int argc, char **argv, struct pollfd *sockets)
{
    int count = 0;

    for (int i = 1; i + 1 < argc && count < SOCKETS_MAX; i++) {
        const char *fd = !strcmp(argv[i], "-chardev") ? strstr(argv[i + 1], ",fd=") : NULL;
        if (fd) {
            sockets[count] = (struct pollfd){.fd = atoi(fd + 4), .events = POLLIN};
            if (listen(sockets[count].fd, 1)) { /* as QEMU does again */
                perror("fake QEMU: listen");
                exit(4);
            }
            fcntl(sockets[count++].fd, F_SETFL, 0);
        }
    }
    return count;
}

int main(int argc, char **argv, char **envp)
{
    const char *mode = getenv("FAKE_QEMU") ?: "", *note = getenv("FAKE_QEMU_NOTE");
    struct pollfd sockets[SOCKETS_MAX];

    note_fd = open(note ? note : "/dev/null", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    stubborn = !strcmp(mode, "stubborn");
    note_given(argc, argv, envp);
    if (!strcmp(mode, "die")) {
        fprintf(stderr, "fake QEMU: could not initialise\n");
        return 3;
    }
    signal(SIGTERM, signalled);
    signal(SIGHUP, signalled);
    signal(SIGINT, signalled);
    signal(SIGPIPE, SIG_IGN);
    int count = strcmp(mode, "mute") ? find_sockets(argc, argv, sockets) : 0;
    dprintf(note_fd, "up: yes\n");
    for (;;) {
        if (poll(sockets, (nfds_t)count, -1) < 0 && errno != EINTR) {
            return 5;
        }
        for (int i = 0; i < count; i++) {
            if (sockets[i].revents & POLLIN) {
                serve(sockets[i].fd);
            }
        }
    }
}
