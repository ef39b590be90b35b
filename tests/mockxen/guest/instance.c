/* SPDX-License-Identifier: BSD-2-Clause */
/* The mock instance: its process, its environment, counters, faults, and the way of an event to an emulator.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MOCKXEN_BUILD
#define MOCKXEN_BUILD "."
#endif
#define START_MS 5000

extern char **environ;

/** Where the mockxen program and the shims are: the build folder, unless $MOCKXEN_BUILD says otherwise. */
static const char *build_dir(void)
{
    const char *dir = getenv("MOCKXEN_BUILD");

    return dir ? dir : MOCKXEN_BUILD;
}

int mock_rpc(struct mock *m, const struct mx_req *req, const void *data, size_t len, struct mx_rep *rep,
             void *out, size_t cap, int fds[2])
{
    ssize_t n;

    pthread_mutex_lock(&m->lock);
    n = mx_call(m->fd, req, data, len, rep, out, cap, fds);
    pthread_mutex_unlock(&m->lock);
    return n < 0 ? (int)n : (int)rep->v[0];
}

/** Our end of an emulator's event stream; -1 if it went. A number once given stays open: a thread may be
 * about to use it while another puts the stream of the next handle behind it. */
static int file_of(struct mock *m, uint32_t handle)
{
    uint32_t gen = atomic_load(&m->g->handles[handle].gen);
    struct mx_req req = { .op = MX_HANDLE_FD, .a = { handle } };
    struct mx_rep rep;
    int fds[2];

    if (gen && atomic_load(&m->files[handle].gen) == gen) {
        return m->files[handle].fd;
    }
    pthread_mutex_lock(&m->lock);
    if (gen && atomic_load(&m->files[handle].gen) != gen &&
        mx_call(m->fd, &req, NULL, 0, &rep, NULL, 0, fds) >= 0) {
        if (m->files[handle].open) {
            (void)dup3(fds[0], m->files[handle].fd, O_CLOEXEC);
            close(fds[0]);
        } else {
            m->files[handle].fd = fds[0];
            m->files[handle].open = true;
        }
        atomic_store(&m->files[handle].gen, (uint32_t)rep.v[0]);
    }
    pthread_mutex_unlock(&m->lock);
    return gen && atomic_load(&m->files[handle].gen) == gen ? m->files[handle].fd : -1;
}

void guest_notify(struct mock_guest *g, uint32_t port)
{
    uint32_t lport = atomic_load(&g->d->gport[port].peer), handle;
    struct mx_global *gl = g->mock->g;
    uint64_t one = 1;
    int fd;

    if (!lport || atomic_load(&g->pub->drop_all)) {
        return; /* unbound: the notification is lost, as on Xen */
    }
    handle = atomic_load(&gl->lports[lport].handle);
    fd = handle ? file_of(g->mock, handle - 1) : -1;
    if (fd >= 0 && mx_evt_raise(gl, lport, handle - 1, fd)) {
        (void)!write(g->mock->kick, &one, sizeof(one));
    }
}

static int make_dir(struct mock *m, const char *dir)
{
    const char *tmp = getenv("TMPDIR");

    if (dir) {
        snprintf(m->dir, sizeof(m->dir), "%s", dir);
        return mkdir(m->dir, 0700) < 0 && errno != EEXIST ? -1 : 0;
    }
    snprintf(m->dir, sizeof(m->dir), "%s/mock.XXXXXX", tmp && strlen(tmp) < 64 ? tmp : "/tmp");
    m->own_dir = true;
    return mkdtemp(m->dir) ? 0 : -1;
}

static void child(struct mock *m, const char *program, bool verbose)
{
    char *argv[8] = { (char *)program, (char *)"--socket", m->socket };
    char log[128];
    int n = 3, fd;

    snprintf(log, sizeof(log), "%s/mockxen.log", m->dir);
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) {
        dup2(fd, STDERR_FILENO);
    }
    if (m->xenstore) {
        argv[n++] = (char *)"--xenstore-dir";
        argv[n++] = m->xs;
    }
    if (verbose) {
        argv[n++] = (char *)"--verbose";
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    execv(program, argv);
    _exit(127);
}

static int connect_to(struct mock *m)
{
    int64_t until = mx_deadline(START_MS);

    while (mx_now() < until) {
        m->fd = mx_connect(m->socket, 0, &m->g, &m->kick);
        if (m->fd >= 0) {
            return 0;
        }
        if (waitpid(m->pid, NULL, WNOHANG) == m->pid) {
            m->pid = 0;
            return -1;
        }
        usleep(2000);
    }
    return -1;
}

static char *joined(const char *name, const char *fmt_value)
{
    char *s = NULL;

    return asprintf(&s, "%s=%s", name, fmt_value) < 0 ? NULL : s;
}

/** environ without what we set, then our variables. */
static int make_env(struct mock *m)
{
    static const char *const ours[] = { "LD_LIBRARY_PATH=",  "LD_PRELOAD=",     "MOCKXEN_SOCKET=",
                                        "XENSTORED_RUNDIR=", "XENSTORED_PATH=", "ASAN_OPTIONS=" };
    const char *lib = getenv("LD_LIBRARY_PATH"), *asan = getenv("ASAN_OPTIONS"), *pre = getenv("LD_PRELOAD");
    size_t n = 0, i, k;
    char buf[1024];

    while (environ[n]) {
        n++;
    }
    m->env = calloc(n + 8, sizeof(*m->env));
    if (!m->env) {
        return -1;
    }
    for (i = n = 0; environ[i]; i++) {
        for (k = 0; k < sizeof(ours) / sizeof(ours[0]) && strncmp(environ[i], ours[k], strlen(ours[k]));
             k++) {
        }
        if (k == sizeof(ours) / sizeof(ours[0])) {
            m->env[n++] = strdup(environ[i]);
        }
    }
    snprintf(buf, sizeof(buf), "%s/shim%s%s", build_dir(), lib ? ":" : "", lib ? lib : "");
    m->env[n++] = joined("LD_LIBRARY_PATH", buf);
    snprintf(buf, sizeof(buf), "%s/shim/libmockdirect.so%s%s", build_dir(), pre ? ":" : "", pre ? pre : "");
    m->env[n++] = joined("LD_PRELOAD", buf);
    m->env[n++] = joined("MOCKXEN_SOCKET", m->socket);
    /* The preload stands before the sanitizer's runtime; it interposes nothing the sanitizer needs first. */
    snprintf(buf, sizeof(buf), "%s%sverify_asan_link_order=0", asan ? asan : "", asan ? ":" : "");
    m->env[n++] = joined("ASAN_OPTIONS", buf);
    if (m->xenstore) {
        m->env[n++] = joined("XENSTORED_RUNDIR", m->xs);
        snprintf(buf, sizeof(buf), "%s/socket", m->xs);
        m->env[n++] = joined("XENSTORED_PATH", buf);
    }
    return 0;
}

struct mock *mock_start(const struct mock_options *opt)
{
    static const struct mock_options none;
    struct mock *m = calloc(1, sizeof(*m));
    char program[512];

    opt = opt ? opt : &none;
    if (!m || make_dir(m, opt->dir) < 0) {
        fprintf(stderr, "mock: can't make a directory: %s\n", strerror(errno));
        free(m);
        return NULL;
    }
    m->fd = m->kick = -1;
    pthread_mutex_init(&m->lock, NULL);
    m->xenstore = opt->xenstore;
    snprintf(m->socket, sizeof(m->socket), "%s/mockxen", m->dir);
    snprintf(m->xs, sizeof(m->xs), "%s/xs", m->dir);
    snprintf(program, sizeof(program), "%s/mockxen", build_dir());
    m->pid = fork();
    if (m->pid == 0) {
        child(m, program, opt->verbose);
    }
    if (m->pid < 0 || connect_to(m) < 0 || make_env(m) < 0) {
        fprintf(stderr, "mock: %s did not start: %s\n", program, strerror(errno));
        mock_stop(m);
        return NULL;
    }
    return m;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void mock_stop(struct mock *m)
{
    if (!m) {
        return;
    }
    if (m->pid > 0) {
        kill(m->pid, SIGTERM);
        (void)waitpid(m->pid, NULL, 0);
    }
    for (unsigned i = 0; i < MX_MAX_HANDLES; i++) {
        if (m->files[i].open) {
            close(m->files[i].fd);
        }
    }
    for (unsigned i = 0; m->env && m->env[i]; i++) {
        free(m->env[i]);
    }
    free(m->env);
    if (m->g && m->fd >= 0) {
        munmap(m->g, sizeof(*m->g));
        close(m->fd);
        close(m->kick);
    }
    if (m->own_dir) {
        (void)nftw(m->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

const char *mock_dir(const struct mock *m)
{
    return m->dir;
}

const char *mock_socket(const struct mock *m)
{
    return m->socket;
}

char *const *mock_env(struct mock *m)
{
    return m->env;
}

void mock_adopt_env(struct mock *m)
{
    setenv("MOCKXEN_SOCKET", m->socket, 1);
}

const char *mock_xenstore_dir(const struct mock *m)
{
    return m->xenstore ? m->xs : NULL;
}

uint64_t mock_call_count(struct mock *m, enum mock_call kind)
{
    return atomic_load(&m->g->calls[kind]);
}

unsigned mock_panics(struct mock *m)
{
    return atomic_load(&m->g->panics);
}

const char *mock_panic_text(struct mock *m, unsigned i)
{
    if (i >= mock_panics(m) || i >= MX_PANICS) {
        return NULL;
    }
    memcpy(m->panic, m->g->panic_text[i], sizeof(m->panic));
    m->panic[sizeof(m->panic) - 1] = '\0';
    return m->panic;
}

int mock_fail(struct mock *m, enum mock_call kind, unsigned nth, unsigned times, int err)
{
    struct mx_req req = { .op = MX_SET_FAULT, .a = { kind, nth, times, (uint64_t)err, 0 } };
    struct mx_rep rep;

    return mock_rpc(m, &req, NULL, 0, &rep, NULL, 0, NULL);
}

bool mock_fail_fired(struct mock *m, enum mock_call kind)
{
    struct mx_req req = { .op = MX_SET_FAULT, .a = { kind, 0, 0, 0, 1 } };
    struct mx_rep rep;

    return mock_rpc(m, &req, NULL, 0, &rep, NULL, 0, NULL) == 1;
}

int mock_delay_maps(struct mock *m, unsigned ms)
{
    struct mx_req req = { .op = MX_SET_DELAY, .a = { ms } };
    struct mx_rep rep;

    return mock_rpc(m, &req, NULL, 0, &rep, NULL, 0, NULL);
}
