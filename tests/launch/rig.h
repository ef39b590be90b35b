/* SPDX-License-Identifier: BSD-2-Clause */
/* ioreqd-dm as libxl runs it, with a fake QEMU, and a QMP client. Every function ends the test when it fails. */
#ifndef LAUNCH_RIG_H
#define LAUNCH_RIG_H

#include <stdbool.h>
#include <sys/types.h>

#include <check.h>
#include <jansson.h>

#define RIG_TIMEOUT_MS 20000
#define RIG_ARGUMENTS_MAX 80

struct rig {
    char folder[64];
    char public[96], note[96], log[96]; /* paths in it: QMP's socket, the fake QEMU's note, stderr */
    const char *arguments[RIG_ARGUMENTS_MAX];
    unsigned count;
    char *const *environment; /* NULL: ours */
    pid_t pid;
    char *text;
};

/* A folder; arguments as libxl gives them for domain `domid`, with the fake QEMU. $IOREQD_DM, $FAKE_QEMU_PROGRAM. */
void rig_init(struct rig *rig, const char *domid);
void rig_finish(struct rig *rig); /* kills what still runs, removes the folder */
void rig_add(struct rig *rig, ...) __attribute__((sentinel)); /* arguments; kept by pointer */
/* Sets a variable for what is started; rig->environment must be NULL. */
void rig_start(struct rig *rig);
/* Waits for its end: the status, or -SIGNAL. */
int rig_status(struct rig *rig);
bool rig_runs(struct rig *rig);
/* Waits until the file has the text. */
void rig_wait_text(const char *path, const char *text);
/* Has it now? */
bool rig_has_text(const char *path, const char *text);
/* The number behind "KEY: " in a file's line. */
long rig_number(const char *path, const char *key);
void rig_wait_up(struct rig *rig); /* the fake QEMU runs, and libxl may connect */
void rig_wait_dead(pid_t pid);
void rig_expect_log(struct rig *rig, const char *text);

/* ---- QMP ---- */
struct qmp {
    int fd;
    char buffer[400000];
    size_t length;
};

int rig_connect(const char *path);
void qmp_open(struct qmp *qmp, const char *path); /* connects, takes the greeting */
void qmp_send(struct qmp *qmp, const char *bytes);
void qmp_send_fd(struct qmp *qmp, const char *bytes, int fd);
json_t *qmp_take(struct qmp *qmp); /* the next line; it must end in CR LF */
/* The next line must be like this; text in ' instead of ". */
void qmp_expect(struct qmp *qmp, const char *text);
bool qmp_closed(struct qmp *qmp); /* waits for the end of the connection; false: something else came */
void qmp_close(struct qmp *qmp);

#endif
