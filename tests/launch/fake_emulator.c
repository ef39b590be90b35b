/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An emulator of nothing, for ioreqd --list: fake-emulator [WORD]... ends by SIGTERM with status 0; the words
 * say what it does first: fd N (writes a line to it), pidfile PATH, socket PATH (listens), fork (goes to the
 * background), sleep MS, note PATH (appends its arguments, its descriptors and "end" at SIGTERM), say TEXT
 * (on stderr), exit STATUS, stubborn.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int note = -1;

static void terminated(int signo)
{
    if (note >= 0 && write(note, "end\n", 4) != 4) {
        _exit(9);
    }
    _exit(0);
}

static void write_pid(const char *path)
{
    char other[200];
    snprintf(other, sizeof(other), "%s.new", path);
    FILE *file = fopen(other, "w");
    fprintf(file, "%d\n", getpid());
    fclose(file);
    rename(other, path);
}

static void listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    unlink(path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8)) {
        perror(path);
        exit(8);
    }
}

static void take_note(const char *path, int argc, char **argv)
{
    DIR *folder = opendir("/proc/self/fd");
    note = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (int i = 1; i < argc; i++) {
        dprintf(note, "arg: %s\n", argv[i]);
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && fd != note && fd != dirfd(folder)) {
            dprintf(note, "fd: %d\n", fd);
        }
    }
    dprintf(note, "\npid: %d\n", getpid());
    closedir(folder);
}

int main(int argc, char **argv)
{
    signal(SIGTERM, terminated);
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = argv[i + 1];
        if (!strcmp(word, "stubborn")) {
            signal(SIGTERM, SIG_IGN);
        } else if (!strcmp(word, "fork")) {
            if (fork()) {
                _exit(0);
            }
            setsid();
        } else if (value && ++i) {
            if (!strcmp(word, "fd")) {
                dprintf(atoi(value), "ready\n");
                close(atoi(value));
            } else if (!strcmp(word, "pidfile")) {
                write_pid(value);
            } else if (!strcmp(word, "socket")) {
                listen_at(value);
            } else if (!strcmp(word, "sleep")) {
                usleep((useconds_t)atoi(value) * 1000);
            } else if (!strcmp(word, "note")) {
                take_note(value, argc, argv);
            } else if (!strcmp(word, "say")) {
                fprintf(stderr, "%s\n", value);
            } else if (!strcmp(word, "exit")) {
                return atoi(value);
            }
        }
    }
    for (;;) {
        pause();
    }
}
