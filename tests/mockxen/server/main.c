/* SPDX-License-Identifier: BSD-2-Clause */
/* mockxen: a process that plays Xen for device emulators. One thread; see ../README.md. */
#include "server.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* epoll tags: event channel files are 1.., the rest carry a kind above 32 bits */
enum tag { TAG_FILE, TAG_LISTEN, TAG_KICK, TAG_SIGNAL, TAG_CONN, TAG_PROC };
#define TAG(kind, value) ((uint64_t)(kind) << 56 | (uint64_t)(value))
#define TAG_KIND(u64) ((enum tag)((u64) >> 56))
#define TAG_PTR(u64) ((void *)(uintptr_t)((u64) & 0x00ffffffffffffffull))

int fault_fires(struct mx *mx, unsigned kind)
{
    struct fault *f;

    if (kind >= MOCK_CALL_MAX) {
        return 0;
    }
    atomic_fetch_add(&mx->g->calls[kind], 1);
    f = &mx->fault[kind];
    if (!atomic_load(&mx->g->armed[kind])) {
        return 0;
    }
    if (f->countdown > 1) {
        f->countdown--;
        return 0;
    }
    f->fired = true;
    if (!f->for_ever && --f->times == 0) {
        atomic_store(&mx->g->armed[kind], 0);
    }
    return -f->err;
}

static int watch(struct mx *mx, int fd, uint32_t events, uint64_t tag)
{
    struct epoll_event ev = { .events = events, .data.u64 = tag };

    return epoll_ctl(mx->epfd, EPOLL_CTL_ADD, fd, &ev);
}

static struct proc *proc_get(struct mx *mx, pid_t pid)
{
    struct proc *p;

    for (p = mx->procs; p; p = p->next) {
        if (p->pid == pid) {
            p->conns++;
            return p;
        }
    }
    p = calloc(1, sizeof(*p));
    if (!p) {
        return NULL;
    }
    p->pid = pid;
    p->conns = 1;
    p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (p->pidfd >= 0) {
        (void)watch(mx, p->pidfd, EPOLLIN, TAG(TAG_PROC, (uintptr_t)p));
    }
    p->next = mx->procs;
    mx->procs = p;
    return p;
}

static void proc_free(struct mx *mx, struct proc *p)
{
    struct proc **at = &mx->procs;

    proc_release(mx, p);
    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
    if (p->pidfd >= 0) {
        close(p->pidfd);
    }
    free(p);
}

/** The pid is gone: no mapping of it is left, whatever copies of its sockets forked children hold. */
static void proc_died(struct mx *mx, struct proc *p)
{
    proc_release(mx, p);
    close(p->pidfd);
    p->pidfd = -1;
    p->pid = 0;
    if (!p->conns) {
        proc_free(mx, p);
    }
}

static void accept_conn(struct mx *mx)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    struct conn *c = calloc(1, sizeof(*c));
    int fd = accept4(mx->listen, NULL, NULL, SOCK_CLOEXEC);

    if (!c || fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
        free(c);
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    c->fd = fd;
    c->restricted = c->handle = -1;
    c->proc = proc_get(mx, cred.pid);
    c->next = mx->conns;
    mx->conns = c;
    (void)watch(mx, fd, EPOLLIN, TAG(TAG_CONN, (uintptr_t)c));
}

static void free_conns(struct mx *mx)
{
    struct conn **at = &mx->conns, *c;

    while ((c = *at)) {
        if (!c->closed) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        close(c->fd);
        /* The process may have exec'ed: its mappings went with its last connection. */
        if (c->proc && --c->proc->conns == 0) {
            proc_free(mx, c->proc);
        }
        free(c->held);
        free(c);
    }
}

static int set_fault(struct call *c)
{
    uint64_t kind = c->req->a[0];
    struct fault *f;

    if (kind >= MOCK_CALL_MAX) {
        return -EINVAL;
    }
    f = &c->mx->fault[kind];
    if (c->req->a[4]) {
        c->rep->v[0] = f->fired;
        return 0;
    }
    *f = (struct fault){ .countdown = (uint32_t)c->req->a[1], .times = (uint32_t)c->req->a[2],
                         .for_ever = !c->req->a[2], .err = (int)c->req->a[3] };
    atomic_store(&c->mx->g->armed[kind], f->countdown != 0);
    return 0;
}

static int hello(struct call *c)
{
    int rc = fault_fires(c->mx, MOCK_CALL_OPEN);

    c->conn->caller = (uint16_t)c->req->a[0];
    c->fds[0] = c->mx->g_fd;
    c->fds[1] = c->mx->kick;
    c->nr_fds = rc ? 0 : 2;
    return rc;
}

/** Calls that only the guest library makes. */
static int guest_call(struct call *c)
{
    struct domain *d = domain_find(c->mx, c->req->domid);
    uint64_t h = c->req->a[0];

    switch (c->req->op) {
    case MX_DOM_CREATE:
        return domain_create(c);
    case MX_DOM_INFO:
        return domain_info(c);
    case MX_SET_FAULT:
        return set_fault(c);
    case MX_SET_DELAY:
        c->mx->delay_ms = (uint32_t)c->req->a[0];
        return 0;
    case MX_HANDLE_FD:
        if (h >= MX_MAX_HANDLES || c->mx->files[h].fd < 0) {
            return -ENOENT;
        }
        c->fds[0] = c->mx->files[h].fd;
        c->nr_fds = 1;
        c->rep->v[0] = atomic_load(&c->mx->g->handles[h].gen);
        return 0;
    default:
        break;
    }
    if (!d) {
        return -ESRCH;
    }
    switch (c->req->op) {
    case MX_DOM_KILL:
        return domain_kill(c->mx, d);
    case MX_DOM_SHUTDOWN:
        return domain_shutdown(c->mx, d, (unsigned)c->req->a[0]);
    case MX_DOM_TARGET:
        d->pub->target_of = (uint32_t)c->req->a[0];
        return 0;
    case MX_VCPU_ADD:
        return domain_add_vcpu(c->mx, d);
    case MX_P2M_REMOVE:
        return p2m_remove(c, d);
    case MX_P2M_ADD:
        return p2m_add(c, d);
    case MX_GPORT_ALLOC:
        return gport_alloc(d, MX_GP_GUEST, (uint16_t)c->req->a[0], 0);
    default:
        return -EOPNOTSUPP;
    }
}

static int restrict_conn(struct call *c)
{
    if (c->conn->restricted >= 0 && (uint32_t)c->conn->restricted != c->req->domid) {
        return -EINVAL;
    }
    c->conn->restricted = (int)c->req->domid;
    return 0;
}

static int dom_fd(struct call *c)
{
    struct domain *d = c->req->a[0] < MX_MAX_DOMS ? c->mx->doms[c->req->a[0]] : NULL;

    if (!d) {
        return -ESRCH;
    }
    c->fds[0] = d->shm_fd;
    c->nr_fds = 1;
    return 0;
}

static int dispatch(struct call *c)
{
    switch (c->req->op) {
    case MX_HELLO:
        return hello(c);
    case MX_DM_OP:
        if (c->conn->restricted >= 0 && (uint32_t)c->conn->restricted != c->req->domid) {
            return -EPERM;
        }
        return dm_op(c);
    case MX_RESTRICT:
        return restrict_conn(c);
    case MX_FAULT:
        return fault_fires(c->mx, (unsigned)c->req->a[0]);
    case MX_DOM_FD:
        return dom_fd(c);
    case MX_MAP: case MX_UNMAP: case MX_FRAMES_FD: case MX_RES_MAP: case MX_RES_SIZE: case MX_GNT_MAP:
    case MX_GNT_UNMAP:
        return mem_call(c);
    case MX_EVT_BIND:
    case MX_EVT_ALLOC:
    case MX_EVT_VIRQ: {
        int rc = fault_fires(c->mx, MOCK_CALL_BIND);

        return rc ? rc : evt_call(c);
    }
    case MX_EVT_UNBIND: {
        int rc = fault_fires(c->mx, MOCK_CALL_UNBIND);

        return rc ? rc : evt_call(c);
    }
    case MX_EVT_OPEN: case MX_EVT_ADOPT: case MX_EVT_RESTRICT: case MX_EVT_NOTIFY:
        return evt_call(c);
    default:
        return guest_call(c);
    }
}

/** Keep a reply back; the caller sleeps in its receive as it would in the kernel. */
static void hold(struct mx *mx, struct conn *conn, const struct mx_rep *rep, const void *out, size_t len)
{
    conn->held = malloc(sizeof(*rep) + len);
    if (!conn->held) {
        (void)mx_send(conn->fd, rep, sizeof(*rep), out, len, NULL, 0);
        return;
    }
    memcpy(conn->held, rep, sizeof(*rep));
    memcpy((char *)conn->held + sizeof(*rep), out, len);
    conn->held_len = sizeof(*rep) + len;
    conn->due = mx_now() + mx->delay_ms * 1000000ll;
}

static void serve(struct mx *mx, struct conn *conn)
{
    static _Alignas(16) uint8_t in[MX_MSG_MAX], out[2 * MX_MSG_MAX]; /* one thread: one message at a time */
    struct mx_req req;
    struct mx_rep rep;
    struct call c = { .mx = mx, .conn = conn, .req = &req, .data = in, .rep = &rep, .out = out };
    int fds[2];
    ssize_t n = mx_recv(conn->fd, &req, sizeof(req), in, sizeof(in), fds);

    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    if (n < 0) {
        conn->closed = true;
        return;
    }
    c.len = (size_t)n;
    memset(&rep, 0, sizeof(rep));
    rep.err = dispatch(&c);
    if (mx->log) {
        fprintf(mx->log, "pid %d op %u domid %u a %llx %llx %llx -> %d\n", conn->proc ? conn->proc->pid : 0,
                req.op, req.domid, (unsigned long long)req.a[0], (unsigned long long)req.a[1],
                (unsigned long long)req.a[2], rep.err);
    }
    if (rep.err > 0) {
        rep.v[0] = (uint64_t)rep.err; /* a number, not an error */
        rep.err = 0;
    }
    if (c.slow && mx->delay_ms && !rep.err) {
        hold(mx, conn, &rep, out, c.out_len);
        return;
    }
    if (mx_send(conn->fd, &rep, sizeof(rep), out, c.out_len, c.nr_fds ? c.fds : NULL, (int)c.nr_fds) < 0) {
        conn->closed = true;
    }
    if (req.op == MX_EVT_OPEN && !rep.err) {
        close(c.fds[0]);
    }
}

/** Send replies that are due; returns the epoll timeout until the next. */
static int release_held(struct mx *mx)
{
    int64_t now = mx_now(), next = INT64_MAX;

    for (struct conn *c = mx->conns; c; c = c->next) {
        if (!c->held) {
            continue;
        }
        if (c->due <= now) {
            (void)mx_send(c->fd, c->held, c->held_len, NULL, 0, NULL, 0);
            free(c->held);
            c->held = NULL;
        } else if (c->due < next) {
            next = c->due;
        }
    }
    return next == INT64_MAX ? -1 : (int)((next - now) / 1000000 + 1);
}

/** One epoll event; false at a signal that ends the process. */
static bool handle_event(struct mx *mx, const struct epoll_event *ev)
{
    uint64_t count;

    switch (TAG_KIND(ev->data.u64)) {
    case TAG_FILE:
        if (ev->events & EPOLLHUP) {
            evt_hup(mx, (unsigned)(ev->data.u64 - 1));
        } else {
            evt_watch(mx);
        }
        return true;
    case TAG_LISTEN:
        accept_conn(mx);
        return true;
    case TAG_KICK:
        (void)!read(mx->kick, &count, sizeof(count));
        evt_watch(mx);
        return true;
    case TAG_CONN:
        serve(mx, TAG_PTR(ev->data.u64));
        return true;
    case TAG_PROC:
        proc_died(mx, TAG_PTR(ev->data.u64));
        return true;
    default:
        return false;
    }
}

static void loop(struct mx *mx)
{
    struct epoll_event ev;
    int n, timeout;

    /* One event a round: a handler may free what a second event of the batch names. */
    for (;;) {
        timeout = release_held(mx);
        n = epoll_wait(mx->epfd, &ev, 1, timeout);
        if (n < 0 && errno != EINTR) {
            return;
        }
        if (n == 1 && !handle_event(mx, &ev)) {
            return;
        }
        free_conns(mx);
    }
}

/** MOCKXEN_BREAK names one rule to get wrong. */
static uint32_t broken_rules(void)
{
#define MX_BREAK_NAME(id, name) name,
    static const char *const names[] = { MX_BREAKS(MX_BREAK_NAME) };
    const char *want = getenv("MOCKXEN_BREAK");

    for (unsigned i = 0; want && i < MX_BREAK_NR; i++) {
        if (!strcmp(want, names[i])) {
            return 1u << i;
        }
    }
    return 0;
}

static int make_global(struct mx *mx)
{
    mx->g_fd = memfd_create("mock-global", MFD_CLOEXEC);
    if (mx->g_fd < 0 || ftruncate(mx->g_fd, sizeof(*mx->g)) < 0) {
        return -1;
    }
    mx->g = mmap(NULL, sizeof(*mx->g), PROT_READ | PROT_WRITE, MAP_SHARED, mx->g_fd, 0);
    if (mx->g == MAP_FAILED) {
        return -1;
    }
    mx->g->magic = MX_MAGIC;
    mx->g->size = sizeof(*mx->g);
    mx->g->breaks = broken_rules();
    for (unsigned i = 0; i < MX_MAX_HANDLES; i++) {
        mx_lock_init(&mx->g->handles[i].lock);
        mx->files[i].fd = -1;
    }
    return 0;
}

static int make_listen(struct mx *mx, const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof(sa.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(sa.sun_path, path);
    (void)unlink(path);
    mx->listen = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (mx->listen < 0 || bind(mx->listen, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
        listen(mx->listen, 128) < 0) {
        return -1;
    }
    return chmod(path, 0666);
}

static int make_loop(struct mx *mx)
{
    sigset_t set;
    int sig;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    sig = signalfd(-1, &set, SFD_CLOEXEC);
    mx->epfd = epoll_create1(EPOLL_CLOEXEC);
    mx->kick = eventfd(0, EFD_CLOEXEC);
    if (sig < 0 || mx->epfd < 0 || mx->kick < 0) {
        return -1;
    }
    if (watch(mx, mx->listen, EPOLLIN, TAG(TAG_LISTEN, 0)) ||
        watch(mx, mx->kick, EPOLLIN, TAG(TAG_KICK, 0))) {
        return -1;
    }
    return watch(mx, sig, EPOLLIN, TAG(TAG_SIGNAL, 0));
}

static const char usage[] =
    "usage: mockxen [--socket PATH] [--xenstore-dir DIR] [--verbose]\n"
    "Plays Xen for device emulators that run with the shim libraries; stays in the foreground until "
    "SIGTERM.\n"
    "  --socket PATH        control socket (default: $MOCKXEN_SOCKET)\n"
    "  --xenstore-dir DIR   keep the state of a real xenstored there: domN/{ring,evtchn,shutdown,dying}\n"
    "  --verbose            log each call to stderr\n"
    "  --help               this text\n";

int main(int argc, char **argv)
{
    static const struct option options[] = { { "socket", 1, NULL, 's' }, { "xenstore-dir", 1, NULL, 'x' },
                                             { "verbose", 0, NULL, 'v' }, { "help", 0, NULL, 'h' },
                                             { NULL, 0, NULL, 0 } };
    const char *path = getenv("MOCKXEN_SOCKET");
    struct mx *mx = calloc(1, sizeof(*mx));
    int opt;

    while (mx && (opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case 's':
            path = optarg;
            break;
        case 'x':
            mx->xs_dir = optarg;
            break;
        case 'v':
            mx->log = stderr;
            break;
        default:
            fputs(usage, opt == 'h' ? stdout : stderr);
            return opt == 'h' ? 0 : 2;
        }
    }
    if (!mx || !path) {
        fputs("mockxen: no socket: give --socket PATH or set MOCKXEN_SOCKET\n", stderr);
        return 2;
    }
    if (make_global(mx) || make_listen(mx, path) || make_loop(mx)) {
        fprintf(stderr, "mockxen: %s: %s\n", path, strerror(errno));
        return 1;
    }
    mx->lport_top = 1;
    if (mx->xs_dir) {
        (void)mkdir(mx->xs_dir, 0700);
        xs_domain(mx, 0, "create");
    }
    loop(mx);
    (void)unlink(path);
    return 0;
}
