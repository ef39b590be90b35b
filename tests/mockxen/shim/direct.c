/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Preload: what Linux can't do with Xen's foreign mappings (VM_IO | VM_PFNMAP), it can't do here either.
 * Pages of such a mapping can't be pinned, so O_DIRECT, registered buffers and zero-copy sends on them end
 * with EFAULT; copying reads and writes work. A queued request is pointed at an address that truly faults,
 * and the kernel says the rest.
 */
/* With 64-bit offsets asked for, the headers would rename pread to pread64: both names are wanted. */
#undef _FILE_OFFSET_BITS

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

/* From the foreignmemory shim; absent in a program without it. */
extern bool mockxen_is_foreign(uintptr_t addr, size_t len) __attribute__((weak));

#define MAX_FDS 65536
#define MAX_RINGS 64
#define BAD_ADDRESS ((void *)4096)  /* below mmap_min_addr: never mapped */

/** The function that this preload stands before, looked up once. */
#define NEXT(name) \
    ({ \
        static _Atomic(void *) next_; \
        void *found_ = atomic_load_explicit(&next_, memory_order_relaxed); \
        if (!found_) { \
            found_ = dlsym(RTLD_NEXT, #name); \
            atomic_store_explicit(&next_, found_, memory_order_relaxed); \
        } \
        (__typeof__(&(name)))found_; \
    })

/* Is a descriptor O_DIRECT? Asked once until it is closed or changed, for a system call per request would
 * spoil any count of them. 0 unknown, 1 no, 2 yes. */
static _Atomic unsigned char direct_of[MAX_FDS];

static void forget(int fd)
{
    if (fd >= 0 && fd < MAX_FDS) {
        atomic_store_explicit(&direct_of[fd], 0, memory_order_relaxed);
    }
}

static bool is_direct(int fd)
{
    unsigned char known;
    int flags;

    if (fd < 0 || fd >= MAX_FDS) {
        return false;
    }
    known = atomic_load_explicit(&direct_of[fd], memory_order_relaxed);
    if (!known) {
        flags = NEXT(fcntl)(fd, F_GETFL);
        known = flags >= 0 && (flags & O_DIRECT) ? 2 : 1;
        atomic_store_explicit(&direct_of[fd], known, memory_order_relaxed);
    }
    return known == 2;
}

static bool foreign(uintptr_t addr, size_t len)
{
    return mockxen_is_foreign && mockxen_is_foreign(addr, len);
}

static bool foreign_vec(const struct iovec *iov, size_t nr)
{
    for (size_t i = 0; mockxen_is_foreign && i < nr; i++) {
        if (mockxen_is_foreign((uintptr_t)iov[i].iov_base, iov[i].iov_len)) {
            return true;
        }
    }
    return false;
}

/** Refuse a plain call? Sets errno. */
static bool refused(int fd, const struct iovec *iov, int nr)
{
    if (nr > 0 && foreign_vec(iov, (size_t)nr) && is_direct(fd)) {
        errno = EFAULT;
        return true;
    }
    return false;
}

/** The address as a number: what it points to is not read here. */
static bool refused_one(int fd, uintptr_t buf, size_t len)
{
    if (foreign(buf, len) && is_direct(fd)) {
        errno = EFAULT;
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------ descriptors */

int close(int fd)
{
    forget(fd);
    return NEXT(close)(fd);
}

int dup2(int from, int to)
{
    forget(to);
    return NEXT(dup2)(from, to);
}

int dup3(int from, int to, int flags)
{
    forget(to);
    return NEXT(dup3)(from, to, flags);
}

int fcntl(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (cmd == F_SETFL) {
        forget(fd);
    }
    return NEXT(fcntl)(fd, cmd, arg);
}

#ifndef fcntl64
int fcntl64(int fd, int cmd, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, cmd);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (cmd == F_SETFL) {
        forget(fd);
    }
    return NEXT(fcntl64)(fd, cmd, arg);
}
#endif

/* ------------------------------------------------------------------ plain reads and writes */

ssize_t read(int fd, void *buf, size_t len)
{
    return refused_one(fd, (uintptr_t)buf, len) ? -1 : NEXT(read)(fd, buf, len);
}

ssize_t write(int fd, const void *buf, size_t len)
{
    return refused_one(fd, (uintptr_t)buf, len) ? -1 : NEXT(write)(fd, buf, len);
}

ssize_t readv(int fd, const struct iovec *iov, int nr)
{
    return refused(fd, iov, nr) ? -1 : NEXT(readv)(fd, iov, nr);
}

ssize_t writev(int fd, const struct iovec *iov, int nr)
{
    return refused(fd, iov, nr) ? -1 : NEXT(writev)(fd, iov, nr);
}

/* Each has a twin whose name ends in 64; off_t is 64 bits wide either way. */
#define PREAD(name) \
    ssize_t name(int fd, void *buf, size_t len, off_t at) \
    { \
        return refused_one(fd, (uintptr_t)buf, len) ? -1 : NEXT(name)(fd, buf, len, at); \
    }
#define PWRITE(name) \
    ssize_t name(int fd, const void *buf, size_t len, off_t at) \
    { \
        return refused_one(fd, (uintptr_t)buf, len) ? -1 : NEXT(name)(fd, buf, len, at); \
    }
#define VEC(name) \
    ssize_t name(int fd, const struct iovec *iov, int nr, off_t at) \
    { \
        return refused(fd, iov, nr) ? -1 : NEXT(name)(fd, iov, nr, at); \
    }
#define VEC2(name) \
    ssize_t name(int fd, const struct iovec *iov, int nr, off_t at, int flags) \
    { \
        return refused(fd, iov, nr) ? -1 : NEXT(name)(fd, iov, nr, at, flags); \
    }

PREAD(pread)
PREAD(pread64)
PWRITE(pwrite)
PWRITE(pwrite64)
VEC(preadv)
VEC(preadv64)
VEC(pwritev)
VEC(pwritev64)
VEC2(preadv2)
VEC2(preadv64v2)
VEC2(pwritev2)
VEC2(pwritev64v2)

/* ------------------------------------------------------------------ io_uring: registered files */

static struct { int ring; unsigned nr; bool *direct; } rings[MAX_RINGS];
static pthread_mutex_t rings_lock = PTHREAD_MUTEX_INITIALIZER;

static void files_set(int ring, unsigned at, const int *fds, unsigned nr)
{
    unsigned r = 0;
    bool *more;

    pthread_mutex_lock(&rings_lock);
    while (r < MAX_RINGS && rings[r].nr && rings[r].ring != ring) {
        r++;
    }
    if (r < MAX_RINGS && at + nr > rings[r].nr) {
        more = realloc(rings[r].direct, at + nr);
        if (more) {
            for (unsigned i = rings[r].nr; i < at + nr; i++) {
                more[i] = false;
            }
            rings[r].ring = ring;
            rings[r].direct = more;
            rings[r].nr = at + nr;
        }
    }
    for (unsigned i = 0; r < MAX_RINGS && fds && i < nr && at + i < rings[r].nr; i++) {
        if (fds[i] != IORING_REGISTER_FILES_SKIP) {
            rings[r].direct[at + i] = is_direct(fds[i]);
        }
    }
    pthread_mutex_unlock(&rings_lock);
}

static bool file_direct(int ring, unsigned index)
{
    bool direct = false;

    pthread_mutex_lock(&rings_lock);
    for (unsigned r = 0; r < MAX_RINGS && rings[r].nr; r++) {
        if (rings[r].ring == ring) {
            direct = index < rings[r].nr && rings[r].direct[index];
        }
    }
    pthread_mutex_unlock(&rings_lock);
    return direct;
}

int io_uring_register_files(struct io_uring *ring, const int *files, unsigned nr)
{
    int rc = NEXT(io_uring_register_files)(ring, files, nr);

    if (rc >= 0) {
        files_set(ring->ring_fd, 0, files, nr);
    }
    return rc;
}

int io_uring_register_files_tags(struct io_uring *ring, const int *files, const __u64 *tags, unsigned nr)
{
    int rc = NEXT(io_uring_register_files_tags)(ring, files, tags, nr);

    if (rc >= 0) {
        files_set(ring->ring_fd, 0, files, nr);
    }
    return rc;
}

int io_uring_register_files_update(struct io_uring *ring, unsigned off, const int *files, unsigned nr)
{
    int rc = NEXT(io_uring_register_files_update)(ring, off, files, nr);

    if (rc >= 0) {
        files_set(ring->ring_fd, off, files, nr);
    }
    return rc;
}

int io_uring_register_files_update_tag(struct io_uring *ring, unsigned off, const int *files,
                                       const __u64 *tags, unsigned nr)
{
    int rc = NEXT(io_uring_register_files_update_tag)(ring, off, files, tags, nr);

    if (rc >= 0) {
        files_set(ring->ring_fd, off, files, nr);
    }
    return rc;
}

/* ------------------------------------------------------------------ io_uring: requests */

static const struct iovec bad_vec = { BAD_ADDRESS, 4096 };

/** Does the kernel have to pin this request's memory, and is it foreign? */
static bool must_fail(int ring, const struct io_uring_sqe *sqe)
{
    uintptr_t addr = (uintptr_t)sqe->addr;
    bool hit = false;

    switch (sqe->opcode) {
    case IORING_OP_SEND_ZC:
        return foreign(addr, sqe->len);
    case IORING_OP_READ:
    case IORING_OP_WRITE:
        hit = !(sqe->flags & IOSQE_BUFFER_SELECT) && foreign(addr, sqe->len);
        break;
    case IORING_OP_READV:
    case IORING_OP_WRITEV:
        hit = foreign_vec((const struct iovec *)addr, sqe->len);
        break;
    default:
        return false;
    }
    if (!hit) {
        return false;
    }
    return sqe->flags & IOSQE_FIXED_FILE ? file_direct(ring, (unsigned)sqe->fd) : is_direct(sqe->fd);
}

/** Go through what the next submit hands to the kernel. */
static void vet(struct io_uring *ring)
{
    unsigned shift = ring->flags & IORING_SETUP_SQE128 ? 1 : 0;

    for (unsigned i = ring->sq.sqe_head; mockxen_is_foreign && i != ring->sq.sqe_tail; i++) {
        struct io_uring_sqe *sqe = &ring->sq.sqes[(i & *ring->sq.kring_mask) << shift];

        if (!must_fail(ring->ring_fd, sqe)) {
            continue;
        }
        if (sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV) {
            sqe->addr = (uintptr_t)&bad_vec;
            sqe->len = 1;
        } else {
            sqe->addr = (uintptr_t)BAD_ADDRESS;
        }
    }
}

int io_uring_submit(struct io_uring *ring)
{
    vet(ring);
    return NEXT(io_uring_submit)(ring);
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
    vet(ring);
    return NEXT(io_uring_submit_and_wait)(ring, wait_nr);
}

int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe_ptr, unsigned wait_nr,
                                     struct __kernel_timespec *ts, sigset_t *sigmask)
{
    vet(ring);
    return NEXT(io_uring_submit_and_wait_timeout)(ring, cqe_ptr, wait_nr, ts, sigmask);
}

int io_uring_submit_and_get_events(struct io_uring *ring)
{
    vet(ring);
    return NEXT(io_uring_submit_and_get_events)(ring);
}

/* ------------------------------------------------------------------ io_uring: registered buffers */

int io_uring_register_buffers(struct io_uring *ring, const struct iovec *iovecs, unsigned nr)
{
    return foreign_vec(iovecs, nr) ? -EFAULT : NEXT(io_uring_register_buffers)(ring, iovecs, nr);
}

int io_uring_register_buffers_tags(struct io_uring *ring, const struct iovec *iovecs, const __u64 *tags,
                                   unsigned nr)
{
    return foreign_vec(iovecs, nr) ? -EFAULT : NEXT(io_uring_register_buffers_tags)(ring, iovecs, tags, nr);
}

int io_uring_register_buffers_update_tag(struct io_uring *ring, unsigned off, const struct iovec *iovecs,
                                         const __u64 *tags, unsigned nr)
{
    return foreign_vec(iovecs, nr) ? -EFAULT
                                   : NEXT(io_uring_register_buffers_update_tag)(ring, off, iovecs, tags, nr);
}

int io_uring_register(unsigned int fd, unsigned int opcode, const void *arg, unsigned int nr_args)
{
    const struct io_uring_rsrc_register *reg = arg;
    const struct io_uring_rsrc_update2 *update = arg;

    if ((opcode == IORING_REGISTER_BUFFERS && foreign_vec(arg, nr_args)) ||
        (opcode == IORING_REGISTER_BUFFERS2 && reg->data &&
         foreign_vec((void *)(uintptr_t)reg->data, reg->nr)) ||
        (opcode == IORING_REGISTER_BUFFERS_UPDATE &&
         foreign_vec((void *)(uintptr_t)update->data, update->nr))) {
        return -EFAULT;
    }
    return NEXT(io_uring_register)(fd, opcode, arg, nr_args);
}
