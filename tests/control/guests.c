/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control-guests IOREQD SOCKET DIRECTORY: guests at work for the scripts of this folder. A mock hypervisor,
 * ioreqd with the control socket, one guest that reads its disk as fast as it can, one that writes and sends
 * a frame now and then, one that does not exist. Says "ready", and ends when its standard input does.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "virtio_blk_driver.h"
#include "virtio_net_driver.h"

#define RAM (64u << 20)
#define IMAGE (16u << 20)
#define GUESTS 2

struct guest {
    struct mock_guest *domain;
    char domid[8], disk[300];
    struct virtio_driver driver;
    struct virtio_blk blk;
    struct virtio_driver nic; /* of the second one */
    struct virtio_net net;
};

static struct mock *mock;
static struct mock_daemon *ioreqd;

static void fail(const char *what)
{
    fprintf(stderr, "control-guests: %s\n%s", what, ioreqd ? mock_daemon_log(ioreqd) : "");
    exit(1);
}

static void make_guest(struct guest *guest, const char *directory, unsigned number)
{
    char path[200];
    int fd;

    snprintf(path, sizeof(path), "%s/disk%u", directory, number);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, IMAGE)) {
        fail(path);
    }
    close(fd);
    guest->domain = mock_domain_new(mock, MOCK_HVM, RAM, 2);
    if (!guest->domain) {
        fail("no domain");
    }
    snprintf(guest->domid, sizeof(guest->domid), "%u", mock_domid(guest->domain));
    snprintf(guest->disk, sizeof(guest->disk), "virtio-blk,path=%s,id=disk0", path);
}

static void start(struct guest *guests, const char *program, const char *socket, const char *directory)
{
    char records[200], uart[260];

    snprintf(records, sizeof(records), "%s/records", directory);
    snprintf(uart, sizeof(uart), "uart16550,id=com1,chardev=file,chardev.path=%s/uart", directory);
    const char *arguments[] = {program,
                               "--no-xenstore",
                               "--record-dir",
                               records,
                               "--control",
                               socket,
                               "--domain",
                               guests[0].domid,
                               "--type",
                               "hvm",
                               "--device",
                               "pci-host,id=host",
                               "--device",
                               guests[0].disk,
                               "--device",
                               uart,
                               "--domain",
                               guests[1].domid,
                               "--type",
                               "hvm",
                               "--device",
                               "pci-host,id=host",
                               "--device",
                               guests[1].disk,
                               "--device",
                               "virtio-net,id=nic0,netdev=null",
                               "--domain",
                               "99",
                               "--type",
                               "hvm",
                               "--wait",
                               "--device",
                               "debugcon,id=debug",
                               NULL};
    ioreqd = mock_spawn_daemon(mock, (char *const *)(uintptr_t)arguments);
    if (!ioreqd || mock_daemon_wait_log(ioreqd, ": running", 20000) ||
        mock_daemon_wait_log(ioreqd, ": running", 20000)) {
        fail("ioreqd does not get the guests running");
    }
}

static void open_disk(struct guest *guest)
{
    int sbdf = virtio_pci_find(guest->domain, 0, VIRTIO_ID_BLOCK_DEVICE, -1);

    if (sbdf < 0 ||
        virtio_pci_open(&guest->driver, guest->domain, 0, (uint16_t)sbdf, VIRTIO_ID_BLOCK_DEVICE, VIRTIO_MSIX,
                        0xe0000000, virtio_arena_make(guest->domain, 0x100000, RAM / 2)) ||
        virtio_blk_start(&guest->blk, &guest->driver, VIRTIO_BLK_ALL, 1, 0)) {
        fail("a guest finds no disk");
    }
}

static void open_nic(struct guest *guest)
{
    int sbdf = virtio_pci_find(guest->domain, 0, VIRTIO_ID_NETWORK_CARD, -1);

    if (sbdf < 0 ||
        virtio_pci_open(&guest->nic, guest->domain, 0, (uint16_t)sbdf, VIRTIO_ID_NETWORK_CARD, VIRTIO_MSIX,
                        0xe1000000,
                        virtio_arena_make(guest->domain, RAM / 2 + 0x100000, RAM / 2 - 0x100000)) ||
        virtio_net_start(&guest->net, &guest->nic, VIRTIO_NET_ALL, 1, 0)) {
        fail("the second guest finds no network card");
    }
}

/* To everybody, of a type that is reserved for experiments. The first is no frame at all: too short. */
static void send_frame(struct guest *guest, unsigned number)
{
    uint8_t frame[100] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, (uint8_t)number};

    if (virtio_net_send(&guest->net, 0, NULL, frame, number ? sizeof(frame) : 6)) {
        fail("a frame is not sent");
    }
}

static bool over(void)
{
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;

    return poll(&fd, 1, 0) == 1 && read(STDIN_FILENO, &byte, 1) <= 0;
}

static void work(struct guest *guests)
{
    static uint8_t bytes[65536];

    for (unsigned round = 0; !over(); round++) {
        for (unsigned i = 0; i < 8; i++) {
            if (virtio_blk_read(&guests[0].blk, (uint64_t)rand() % 30000, bytes, 4096 << (i & 3)) !=
                VIRTIO_BLK_S_OK) {
                fail("a read fails");
            }
        }
        if (round % 20 == 0 &&
            virtio_blk_write(&guests[1].blk, round % 1000, bytes, 512) != VIRTIO_BLK_S_OK) {
            fail("a write fails");
        }
        if (round % 5 == 0) {
            send_frame(&guests[1], round / 5);
        }
        usleep(500); /* two processors are shared with others */
    }
}

static void stop(struct guest *guests)
{
    int status;

    virtio_net_finish(&guests[1].net);
    virtio_close(&guests[1].nic);
    for (unsigned i = 0; i < GUESTS; i++) {
        virtio_blk_finish(&guests[i].blk);
        virtio_close(&guests[i].driver);
    }
    mock_daemon_signal(ioreqd, SIGTERM);
    if (mock_daemon_wait(ioreqd, 20000, &status) || !WIFEXITED(status) || WEXITSTATUS(status)) {
        fail("ioreqd does not end well");
    }
    if (mock_panics(mock)) {
        fail("real Xen would have died");
    }
    mock_daemon_free(ioreqd);
    for (unsigned i = 0; i < GUESTS; i++) {
        mock_guest_free(guests[i].domain);
    }
    mock_stop(mock);
}

int main(int argc, char **argv)
{
    static struct guest guests[GUESTS];

    if (argc != 4) {
        fprintf(stderr, "usage: control-guests IOREQD SOCKET DIRECTORY\n");
        return 2;
    }
    mock = mock_start(NULL);
    if (!mock) {
        fail("the mock hypervisor does not start");
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        make_guest(&guests[i], argv[3], i);
    }
    start(guests, argv[1], argv[2], argv[3]);
    for (unsigned i = 0; i < GUESTS; i++) {
        open_disk(&guests[i]);
    }
    open_nic(&guests[1]);
    puts("ready");
    fflush(stdout);
    work(guests);
    stop(guests);
    return 0;
}
