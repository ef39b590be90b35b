/* SPDX-License-Identifier: BSD-2-Clause */
/* The character layer and its backends, under the real core. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <ioreqd/chardev.h>

#include "core/device.h"
#include "fake_xen.h"
#include "unit.h"

/* ---- a device that does what the test says ---- */

struct console {
    struct iod_device *device;
    struct iod_chardev *chardev;
    uint8_t bytes[1 << 16];
    size_t count, wanted;
    unsigned writable, came, went;
    bool started, inside, called_inside;
};

static struct console *console;
static size_t start_accept;

static void receive(void *self, const uint8_t *bytes, size_t count)
{
    struct console *to = self;
    to->called_inside |= to->inside;
    ck_assert_uint_le(to->count + count, sizeof(to->bytes));
    memcpy(to->bytes + to->count, bytes, count);
    to->count += count;
}

static void writable(void *self)
{
    struct console *to = self;
    to->called_inside |= to->inside;
    to->writable++;
}

static void connected(void *self, int is_connected)
{
    struct console *to = self;
    to->called_inside |= to->inside;
    to->came += is_connected != 0;
    to->went += is_connected == 0;
}

static const struct iod_chardev_events events = {
    .size = sizeof(events), .receive = receive, .writable = writable, .connected = connected,
};

static int console_create(struct iod_device *device, struct iod_error *error)
{
    struct console *self = iod_self(device);
    self->device = device;
    self->chardev = iod_chardev_attach(device, "chardev", "null", &events, self, error);
    return self->chardev != NULL ? 0 : -EINVAL;
}

static int console_open(struct iod_device *device, struct iod_error *error)
{
    console = iod_self(device);
    return 0;
}

static void console_start(struct iod_device *device)
{
    struct console *self = iod_self(device);
    self->started = true;
    self->inside = true;
    iod_chardev_accept(self->chardev, start_accept);
    self->inside = false;
}

static const struct iod_device_class console_class = {
    .size = sizeof(console_class),
    .name = "test-console",
    .summary = "a console for tests",
    .version = 1,
    .self_size = sizeof(struct console),
    .create = console_create,
    .open = console_open,
    .start = console_start,
};
static const struct iod_device_class *const classes[] = { &console_class, NULL };
static const struct iod_module module = { .size = sizeof(module), .abi = IOD_ABI, .devices = classes };

static size_t put(const void *bytes, size_t count)
{
    console->inside = true;
    size_t taken = iod_chardev_write(console->chardev, bytes, count);
    console->inside = false;
    return taken;
}

static void take(size_t count)
{
    console->inside = true;
    iod_chardev_accept(console->chardev, count);
    console->inside = false;
}

static bool has_wanted(void *self)
{
    return console->count >= console->wanted;
}

static bool has_came(void *self)
{
    return console->came >= *(unsigned *)self;
}

static bool has_gone(void *self)
{
    return console->went >= *(unsigned *)self;
}

static bool is_writable(void *self)
{
    return console->writable > 0;
}

static void await(struct fake_xen *fake, bool (*reached)(void *self), unsigned count)
{
    fake_run(fake, reached, &count);
}

static char directory[64], path[96];

static void make_directory(void)
{
    snprintf(directory, sizeof(directory), "/tmp/test_chardev.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/it", directory);
    start_accept = sizeof(console->bytes);
    console = NULL;
}

static void finish(struct fake_xen *fake)
{
    ck_assert(!console->called_inside);
    fake_stop(fake);
    unlink(path);
    ck_assert_int_eq(rmdir(directory), 0);
}

static struct fake_xen *start(const char *options)
{
    struct iod_error error = { 0 };
    char text[256];
    const char *devices[] = { text };
    snprintf(text, sizeof(text), options, path);
    struct fake_xen *fake = fake_start(&module, GUEST_HVM, devices, 1, &error);
    ck_assert_msg(fake != NULL, "%s", error.text);
    ck_assert_msg(fake_running(fake), "%s", fake_log(fake));
    return fake;
}

/* ---- socket ---- */

static int join(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? fd : -1;
}

static char told[256];

static void tell(struct daemon_listener *listener, const struct daemon_event *event)
{
    if (event->kind == EVENT_BACKEND) {
        snprintf(told + strlen(told), sizeof(told) - strlen(told), "%.4s ", event->text);
    }
}

START_TEST(socket_talks)
{
    char text[16] = { 0 };
    struct fake_xen *fake = start("test-console,chardev=socket,chardev.path=%s");
    struct daemon_listener listener = { .event = tell };
    daemon_listen(fake_daemon(fake), &listener);
    ck_assert_uint_eq(put("lost", 4), 0); /* nobody is there */
    int fd = join();
    ck_assert_int_ge(fd, 0);
    await(fake, has_came, 1);
    ck_assert_uint_eq(put("hello", 5), 5);
    ck_assert_int_eq(read(fd, text, sizeof(text)), 5);
    ck_assert_str_eq(text, "hello");
    ck_assert_int_eq(write(fd, "world", 5), 5);
    console->wanted = 5;
    await(fake, has_wanted, 0);
    ck_assert_mem_eq(console->bytes, "world", 5);
    /* The next one waits his turn. */
    int second = join();
    ck_assert_int_ge(second, 0);
    fake_run_ms(fake, 30);
    ck_assert_uint_eq(console->came, 1);
    close(fd);
    await(fake, has_gone, 1);
    await(fake, has_came, 2);
    ck_assert_uint_eq(put("you", 3), 3);
    ck_assert_int_eq(read(second, text, sizeof(text)), 3);
    close(second);
    await(fake, has_gone, 2);
    ck_assert_str_eq(told, "lost back lost "); /* the first one had not been lost */
    daemon_unlisten(&listener);
    finish(fake);
}
END_TEST

/* A peer that closes under a write: no SIGPIPE, and it is told as gone, also when no input is accepted. */
START_TEST(socket_peer_breaks)
{
    start_accept = 0;
    struct fake_xen *fake = start("test-console,chardev=socket,chardev.path=%s");
    int fd = join();
    await(fake, has_came, 1);
    close(fd);
    ck_assert_uint_eq(put("x", 1), 0);
    await(fake, has_gone, 1);
    fd = join();
    await(fake, has_came, 2);
    ck_assert_uint_eq(put("x", 1), 1);
    close(fd);
    finish(fake);
}
END_TEST

START_TEST(socket_is_bounded)
{
    uint8_t block[4096] = { 0 };
    start_accept = 3;
    struct fake_xen *fake = start("test-console,chardev=socket,chardev.path=%s");
    int fd = join();
    await(fake, has_came, 1);
    size_t total = 0, taken;
    while ((taken = put(block, sizeof(block))) > 0) {
        total += taken;
        ck_assert_uint_lt(total, 16 << 20);
    }
    ck_assert_uint_eq(put(block, 1), 0);
    while (total > 0) {
        ssize_t got = read(fd, block, sizeof(block));
        ck_assert_int_gt(got, 0);
        total -= (size_t)got;
    }
    await(fake, is_writable, 0);
    ck_assert_uint_eq(put(block, 1), 1);
    /* And the other way: never more than the device accepts. */
    ck_assert_int_eq(write(fd, "abcdefgh", 8), 8);
    fake_run_ms(fake, 30);
    ck_assert_uint_eq(console->count, 3);
    take(4);
    fake_run_ms(fake, 30);
    ck_assert_uint_eq(console->count, 7);
    ck_assert_mem_eq(console->bytes, "abcdefg", 7);
    close(fd);
    finish(fake);
}
END_TEST

START_TEST(socket_name)
{
    struct iod_error error = { 0 };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    strcpy(address.sun_path, path);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(dead, (struct sockaddr *)&address, sizeof(address)), 0);
    close(dead); /* leaves its name behind */
    struct fake_xen *fake = start("test-console,chardev=socket,chardev.path=%s");
    struct console *first = console;
    char text[160];
    const char *devices[] = { text };
    snprintf(text, sizeof(text), "test-console,chardev=socket,path=%s", path);
    struct fake_xen *second = fake_start(&module, GUEST_HVM, devices, 1, &error);
    ck_assert_ptr_nonnull(second);
    ck_assert(!fake_running(second));
    ck_assert_int_eq(fake_logged(second, "another process listens there"), 1);
    fake_stop(second);
    int fd = join(); /* the first one still has it */
    ck_assert_int_ge(fd, 0);
    console = first;
    await(fake, has_came, 1);
    close(fd);
    finish(fake);
}
END_TEST

/* A file that is no socket refuses connections like a dead one's name, but it may be an image. */
START_TEST(socket_spares_files)
{
    struct iod_error error = { 0 };
    char text[160];
    const char *devices[] = { text };
    snprintf(text, sizeof(text), "test-console,chardev=socket,path=%s", path);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, "data", 4), 4);
    close(fd);
    struct fake_xen *fake = fake_start(&module, GUEST_HVM, devices, 1, &error);
    ck_assert(!fake_running(fake));
    ck_assert_int_eq(fake_logged(fake, "it is not a socket"), 1);
    fake_stop(fake);
    struct stat status;
    ck_assert_int_eq(lstat(path, &status), 0);
    ck_assert(S_ISREG(status.st_mode) && status.st_size == 4);
    ck_assert_int_eq(unlink(path), 0);
    rmdir(directory);
}
END_TEST

/* While the device is stopped nothing comes in; the bytes wait. */
static void set_true(void *self)
{
    *(bool *)self = true;
}

START_TEST(stopped_hears_nothing)
{
    bool quiet = false;
    struct fake_xen *fake = start("test-console,chardev=socket,chardev.path=%s");
    int fd = join();
    await(fake, has_came, 1);
    struct device_stop stop;
    device_stop(console->device, &stop, IOD_FINISH, set_true, &quiet);
    ck_assert(quiet);
    ck_assert_int_eq(write(fd, "later", 5), 5);
    fake_run_ms(fake, 30);
    ck_assert_uint_eq(console->count, 0);
    device_resume(console->device);
    console->wanted = 5;
    await(fake, has_wanted, 0);
    close(fd);
    finish(fake);
}
END_TEST

/* ---- pty ---- */

START_TEST(pty_talks)
{
    char text[32] = { 0 };
    struct termios settings;
    struct fake_xen *fake = start("test-console,chardev=pty,chardev.link=%s");
    ck_assert_int_eq(fake_logged(fake, "console at /dev/pts/"), 1);
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(console->came, 0);
    ck_assert_uint_eq(put("lost", 4), 0);
    for (unsigned round = 1; round <= 2; round++) { /* who comes back finds it as before */
        int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        await(fake, has_came, round);
        ck_assert_int_eq(tcgetattr(fd, &settings), 0);
        ck_assert_int_eq(settings.c_lflag & (ECHO | ICANON), 0);
        ck_assert_uint_eq(put("hi\n", 3), 3);
        ck_assert_int_eq(read(fd, text, sizeof(text)), 3);
        ck_assert_mem_eq(text, "hi\n", 3); /* no \r comes of it */
        ck_assert_int_eq(write(fd, "\003ab", 3), 3);
        console->wanted = 3 * round;
        await(fake, has_wanted, 0);
        close(fd);
        await(fake, has_gone, round);
    }
    finish(fake);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(pty_link_in_the_way)
{
    struct iod_error error = { 0 };
    char text[160];
    const char *devices[] = { text };
    snprintf(text, sizeof(text), "test-console,chardev=pty,chardev.link=%s", path);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    struct fake_xen *fake = fake_start(&module, GUEST_HVM, devices, 1, &error);
    ck_assert(!fake_running(fake));
    ck_assert_int_eq(fake_logged(fake, "something else with that name"), 1);
    fake_stop(fake);
    ck_assert_int_eq(unlink(path), 0);
    rmdir(directory);
}
END_TEST

/* ---- file ---- */

static size_t file_size(void)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return (size_t)st.st_size;
}

START_TEST(file_takes_all)
{
    char line[100], back[100];
    struct fake_xen *fake = start("test-console,chardev=file,chardev.path=%s,chardev.append=off");
    await(fake, has_came, 1);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(line, sizeof(line), "line %04u\n", i);
        for (size_t at = 0; at < 10;) {
            size_t taken = put(line + at, 10 - at);
            at += taken;
            if (at < 10) {
                console->writable = 0;
                await(fake, is_writable, 0);
            }
        }
    }
    /* A stop flushes what was taken. */
    bool quiet = false;
    struct device_stop stop;
    device_stop(console->device, &stop, IOD_FINISH, set_true, &quiet);
    for (unsigned i = 0; i < 100 && !quiet; i++) {
        fake_run_ms(fake, 10);
    }
    ck_assert(quiet);
    ck_assert_uint_eq(file_size(), 20000);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(line, sizeof(line), "line %04u\n", i);
        ck_assert_int_eq(read(fd, back, 10), 10);
        ck_assert_mem_eq(back, line, 10);
    }
    close(fd);
    finish(fake);
}
END_TEST

START_TEST(file_appends)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, "old", 3), 3);
    close(fd);
    struct fake_xen *fake = start(_i == 0 ? "test-console,chardev=file,chardev.path=%s"
                                          : "test-console,chardev=file,chardev.path=%s,chardev.append=off");
    ck_assert_uint_eq(put("new", 3), 3);
    fake_stop(fake);
    ck_assert_uint_eq(file_size(), _i == 0 ? 6 : 3);
    unlink(path);
    rmdir(directory);
}
END_TEST

/* ---- stdio and null ---- */

START_TEST(stdio_talks)
{
    int in[2], out[2];
    char text[16] = { 0 };
    ck_assert_int_eq(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    int old_in = dup(0), old_out = dup(1);
    dup2(in[0], 0);
    dup2(out[1], 1);
    struct fake_xen *fake = start("test-console,chardev=stdio,id=%s");
    ck_assert_int_eq(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0); /* what others share is as it was */
    ck_assert_uint_eq(put("hello", 5), 5);
    ck_assert_int_eq(read(out[0], text, sizeof(text)), 5);
    ck_assert_int_eq(write(in[1], "world", 5), 5);
    console->wanted = 5;
    await(fake, has_wanted, 0);
    close(in[1]); /* the end of input is not the end of output */
    fake_run_ms(fake, 20);
    ck_assert_uint_eq(put("more", 4), 4);
    ck_assert_uint_eq(console->went, 0);
    close(out[0]); /* no SIGPIPE */
    ck_assert_uint_eq(put("gone", 4), 0);
    dup2(old_in, 0);
    dup2(old_out, 1);
    close(in[0]);
    close(out[1]);
    await(fake, has_gone, 1);
    finish(fake);
}
END_TEST

START_TEST(stdio_for_one)
{
    struct iod_error error = { 0 };
    const char *devices[] = { "test-console,chardev=stdio", "test-console,chardev=stdio" };
    struct fake_xen *fake = fake_start(&module, GUEST_HVM, devices, 2, &error);
    ck_assert_ptr_nonnull(fake);
    ck_assert(!fake_running(fake));
    ck_assert_int_eq(fake_logged(fake, "used by another device"), 1);
    fake_stop(fake);
    rmdir(directory);
}
END_TEST

START_TEST(null_swallows)
{
    struct fake_xen *fake = start("test-console,id=%s");
    await(fake, has_came, 1);
    ck_assert_uint_eq(put("anything", 8), 8);
    finish(fake);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("chardev");
    TCase *c = tcase_create("chardev");
    tcase_set_timeout(c, 60);
    tcase_add_checked_fixture(c, make_directory, NULL);
    tcase_add_test(c, socket_talks);
    tcase_add_test(c, socket_peer_breaks);
    tcase_add_test(c, socket_is_bounded);
    tcase_add_test(c, socket_name);
    tcase_add_test(c, socket_spares_files);
    tcase_add_test(c, stopped_hears_nothing);
    tcase_add_test(c, pty_talks);
    tcase_add_test(c, pty_link_in_the_way);
    tcase_add_test(c, file_takes_all);
    tcase_add_loop_test(c, file_appends, 0, 2);
    tcase_add_test(c, stdio_talks);
    tcase_add_test(c, stdio_for_one);
    tcase_add_test(c, null_swallows);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
