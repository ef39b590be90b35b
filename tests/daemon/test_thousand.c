/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A thousand guests in one daemon, from one configuration file: each does I/O with checksums; what each costs in
 * descriptors is counted, in ioreqd and in the mock hypervisor; half of them die, the others go on.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"
#include "virtio_blk_driver.h"

enum {
    GUESTS = 1000,
    RAM = 1 << 20,
    BASE = 0x2000000,
    IMAGE_SIZE = 64 << 10,
    IOREQD_PER_GUEST = 3,
    MOCKXEN_PER_GUEST = 8,
    OWN_DESCRIPTORS = 64, /* of a process without guests, and to spare */
};

struct player {
    struct mock_guest *guest;
    struct virtio_driver driver;
    struct virtio_blk blk;
};

static struct fixture f;
static struct player players[GUESTS];

static unsigned descriptors(pid_t pid)
{
    char path[64];
    unsigned count = 0;
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    ck_assert_ptr_nonnull(folder);
    while (readdir(folder)) {
        count++;
    }
    closedir(folder);
    return count - 2; /* . and .. */
}

/* The mock hypervisor is our child. */
static pid_t mockxen_pid(void)
{
    DIR *folder = opendir("/proc");
    pid_t found = 0;
    for (struct dirent *entry; !found && (entry = readdir(folder));) {
        char path[300], text[512] = "";
        int pid = atoi(entry->d_name), parent;
        char name[32];
        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        FILE *file = pid > 0 ? fopen(path, "re") : NULL;
        if (!file) {
            continue;
        }
        if (fgets(text, sizeof(text), file) &&
            sscanf(text, "%d (%31[^)]) %*c %d", &pid, name, &parent) == 3 && parent == getpid() &&
            !strcmp(name, "mockxen")) {
            found = pid;
        }
        fclose(file);
    }
    closedir(folder);
    ck_assert_int_gt(found, 0);
    return found;
}

/* One file, and one image a guest. */
static const char *write_configuration(void)
{
    static char path[300];
    snprintf(path, sizeof(path), "%s/thousand.conf", mock_dir(f.mock));
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "guests = (\n");
    for (unsigned i = 0; i < GUESTS; i++) {
        char image[300];
        snprintf(image, sizeof(image), "%s/%u.img", mock_dir(f.mock), i);
        int fd = open(image, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        ck_assert_int_eq(ftruncate(fd, IMAGE_SIZE), 0);
        close(fd);
        fprintf(file, "  { domain = %u; type = \"pvh\"; "
                      "devices = [ \"virtio-blk,bus=mmio,base=0x%x,irq=none,path=%s\" ]; }%s\n",
                mock_domid(players[i].guest), BASE, image, i + 1 < GUESTS ? "," : "");
    }
    fprintf(file, ");\n");
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

static void start_daemon(void)
{
    char *argv[] = {getenv("IOREQD"), (char *)"--record-dir", f.records, (char *)"--no-xenstore",
                    (char *)"--log", (char *)"warning", (char *)"--ready-fd", NULL, (char *)"--config",
                    (char *)write_configuration(), NULL};
    int ends[2];
    char number[16], word[8] = "";
    ck_assert_int_eq(pipe(ends), 0);
    snprintf(number, sizeof(number), "%d", ends[1]);
    argv[7] = number;
    f.daemon = mock_spawn_daemon(f.mock, argv);
    ck_assert_ptr_nonnull(f.daemon);
    close(ends[1]);
    ck_assert_msg(read(ends[0], word, sizeof(word)) > 0, "it never was ready: %s", mock_daemon_log(f.daemon));
    close(ends[0]);
}

static void open_disk(struct player *player)
{
    struct virtio_arena arena =
        virtio_arena_make(player->guest, mock_ram_base(player->guest) + RAM / 4, RAM / 2);
    int result = virtio_mmio_open(&player->driver, player->guest, 0, BASE, VIRTIO_ID_BLOCK_DEVICE,
                                  VIRTIO_POLL, 0, arena);
    ck_assert_msg(result == 0, "guest %u finds no disk: %s", mock_domid(player->guest), strerror(-result));
    ck_assert_int_eq(virtio_blk_start(&player->blk, &player->driver, VIRTIO_BLK_ALL, 1, 16), 0);
}

/* What only this guest would write there. */
static void fill(uint8_t *data, unsigned guest, unsigned round)
{
    for (unsigned i = 0; i < 4096; i++) {
        data[i] = (uint8_t)(i * 31 + guest * 7 + (guest >> 8) + round * 13);
    }
}

static void work(unsigned i, unsigned round)
{
    static uint8_t data[4096], back[4096];
    fill(data, i, round);
    int wrote = virtio_blk_write(&players[i].blk, round * 8, data, sizeof(data));
    int read = virtio_blk_read(&players[i].blk, round * 8, back, sizeof(back));
    bool good = wrote == 0 && read == 0 && memcmp(data, back, sizeof(data)) == 0;
    if (!good) {
        ck_abort_msg("guest %u: write %d, read %d, or other data", mock_domid(players[i].guest), wrote, read);
    }
}

START_TEST(each_does_its_io)
{
    struct mock_domain_info info;
    fixture_start(&f, MOCK_PVH, 1);
    for (unsigned i = 0; i < GUESTS; i++) {
        players[i].guest = mock_domain_new(f.mock, MOCK_PVH, RAM, 1);
        ck_assert_ptr_nonnull(players[i].guest);
    }
    start_daemon();
    for (unsigned i = 0; i < GUESTS; i++) {
        open_disk(&players[i]);
        work(i, 0);
    }
    unsigned ours = descriptors(mock_daemon_pid(f.daemon)), mocks = descriptors(mockxen_pid());
    printf("%u guests: ioreqd has %u descriptors, mockxen %u\n", GUESTS, ours, mocks);
    ck_assert_uint_le(ours, IOREQD_PER_GUEST * GUESTS + OWN_DESCRIPTORS);
    ck_assert_uint_le(mocks, MOCKXEN_PER_GUEST * GUESTS + OWN_DESCRIPTORS);
    for (unsigned i = 0; i < GUESTS; i += 2) {
        ck_assert_int_eq(mock_domain_kill(players[i].guest), 0);
    }
    for (unsigned i = 1; i < GUESTS; i += 2) {
        work(i, 1);
        work(i, 0);
    }
    mock_daemon_signal(f.daemon, SIGTERM);
    ck_assert_msg(fixture_status(f.daemon) == 0, "%s", mock_daemon_log(f.daemon));
    mock_daemon_free(f.daemon);
    f.daemon = NULL;
    for (unsigned i = 0; i < GUESTS; i++) {
        ck_assert_int_eq(mock_domain_info(players[i].guest, &info), 0);
        if (info.server_mask || info.bound_ports || info.foreign_pages + info.resource_pages + info.grant_pages) {
            ck_abort_msg("guest %u: something of it is left", mock_domid(players[i].guest));
        }
        virtio_blk_finish(&players[i].blk);
        virtio_close(&players[i].driver);
        mock_guest_free(players[i].guest);
    }
    fixture_stop(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("thousand");
    TCase *tcase = tcase_create("thousand");

    tcase_set_timeout(tcase, 240);
    tcase_add_test(tcase, each_does_its_io);
    suite_add_tcase(suite, tcase);
    return fixture_main(suite);
}
