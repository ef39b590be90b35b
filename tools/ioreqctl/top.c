/* SPDX-License-Identifier: BSD-2-Clause */
/* `top`: the screen, its keys, and the batch mode. */
#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <ncurses.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "top.h"

#define INTERVAL 3.0 /* seconds, as xentop's */
#define HEAD 3       /* lines above the rows */

struct screen {
    struct top top;
    struct connection *connection;
    double interval;
    size_t first;     /* row on the screen */
    bool disks, nets; /* lines of them below each guest */
    unsigned left;    /* samples yet to be shown; 0: no limit */
    bool quit, json;
    const char *note; /* of the last key */
};

static int parse_sort(const char *name, enum top_sort *sort)
{
    for (unsigned i = 0; i < SORT_COUNT; i++) {
        if (!strcmp(name, top_sort_names[i])) {
            *sort = (enum top_sort)i;
            return 0;
        }
    }
    return (int)say_usage("--sort %.40s: expected guest, accesses, disk, net, latency, stuck or mapped",
                          name);
}

/* ---- batch ---- */

static void wait_seconds(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds,
                            .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};

    while (nanosleep(&time, &time) && errno == EINTR) {
    }
}

static void print_rows(const struct top *top, unsigned columns)
{
    char line[TOP_LINE_MAX];

    top_title(top, line, columns);
    puts(line);
    top_head(line, columns);
    puts(line);
    for (size_t i = 0; i < top->count; i++) {
        top_line(&top->rows[i], line, columns);
        puts(line);
    }
    fflush(stdout);
}

static json_t *row_json(const struct top_row *row)
{
    const struct {
        const char *key;
        double value;
    } rates[] = {{"accesses", row->rates.accesses},          {"reads", row->rates.reads},
                 {"writes", row->rates.writes},              {"disk-bytes", row->rates.request_bytes},
                 {"bytes-received", row->rates.receive_bytes}, {"bytes-sent", row->rates.send_bytes}};
    json_t *object = json_pack("{s:s,s:s,s:I,s:I}", "domain", row->guest, "state", row->state, "waiting",
                               (json_int_t)row->stuck, "mapped", (json_int_t)row->mapped);

    if (strcmp(row->domid, "-")) {
        json_object_set_new(object, "domid", json_integer(atoi(row->domid)));
    }
    for (unsigned i = 0; row->rated && i < sizeof(rates) / sizeof(rates[0]); i++) {
        json_object_set_new(object, rates[i].key, json_real(rates[i].value));
    }
    if (row->p50_ns) {
        json_object_set_new(object, "p50-ns", json_integer((json_int_t)row->p50_ns));
        json_object_set_new(object, "p99-ns", json_integer((json_int_t)row->p99_ns));
    }
    return object;
}

/* One line a sample, for programs. */
static void print_rows_json(const struct top *top)
{
    json_t *guests = json_array();
    json_t *sample = json_pack("{s:I,s:o}", "time", (json_int_t)time(NULL), "guests", guests);

    for (size_t i = 0; i < top->count; i++) {
        json_array_append_new(guests, row_json(&top->rows[i]));
    }
    json_dumpf(sample, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    fflush(stdout);
    json_decref(sample);
}

/* A first sample that is not shown: rates need two. */
static enum status run_batch(struct screen *screen)
{
    enum status status = top_sample(&screen->top, screen->connection);

    status = status ? status : top_measure(&screen->top, screen->connection, 0, SIZE_MAX);
    for (unsigned shown = 0; !status && (!screen->left || shown < screen->left) && !ferror(stdout); shown++) {
        wait_seconds(screen->interval);
        status = top_sample(&screen->top, screen->connection);
        status = status ? status : top_measure(&screen->top, screen->connection, 0, SIZE_MAX);
        if (!status && screen->json) {
            print_rows_json(&screen->top);
        } else if (!status) {
            print_rows(&screen->top, terminal_columns());
        }
    }
    return status;
}

/* ---- the screen ---- */

static size_t page(void)
{
    return LINES > HEAD + 1 ? (size_t)(LINES - HEAD - 1) : 1;
}

static int draw_devices(const struct screen *screen, const struct top_row *row, int y)
{
    char line[TOP_LINE_MAX];
    json_t *device;
    size_t i;

    json_array_foreach(json_object_get(row->now, "devices"), i, device)
    {
        bool shown = (screen->disks && top_is_disk(device)) || (screen->nets && top_is_net(device));
        if (shown && y < LINES - 1) {
            top_device_line(&screen->top, row, device, line, (unsigned)COLS);
            mvaddstr(y++, 0, line);
        }
    }
    return y;
}

static void draw(const struct screen *screen)
{
    const struct top *top = &screen->top;
    char line[TOP_LINE_MAX];
    int y = HEAD;

    erase();
    top_title(top, line, (unsigned)COLS);
    mvaddstr(0, 0, line);
    attron(A_REVERSE);
    top_head(line, (unsigned)COLS);
    mvprintw(HEAD - 1, 0, "%-*.*s", COLS, COLS, line);
    attroff(A_REVERSE);
    for (size_t i = screen->first; i < top->count && y < LINES - 1; i++) {
        const struct top_row *row = &top->rows[i];
        bool bad = row->stuck || !strcmp(row->state, "failed") || !strcmp(row->state, "limited");
        top_line(row, line, (unsigned)COLS);
        attrset(bad ? A_BOLD : A_NORMAL);
        mvaddstr(y++, 0, line);
        attrset(A_NORMAL);
        y = draw_devices(screen, row, y);
    }
    snprintf(line, sizeof(line), "%s",
             screen->note ? screen->note
                          : "Q quit  D delay  S sort  B disks  N networks  arrows, PgUp, PgDn");
    mvprintw(LINES - 1, 0, "%.*s", COLS - 1, line);
    refresh();
}

static void ask_delay(struct screen *screen)
{
    char text[16] = "";

    mvprintw(LINES - 1, 0, "seconds between updates: ");
    clrtoeol();
    timeout(-1);
    echo();
    curs_set(1);
    getnstr(text, sizeof(text) - 1);
    curs_set(0);
    noecho();
    double seconds = strtod(text, NULL);
    if (seconds >= 0.1 && seconds <= 86400) {
        screen->interval = seconds;
        screen->note = NULL;
    } else {
        screen->note = "expected seconds, at least 0.1";
    }
}

static void scroll_to(struct screen *screen, long long first)
{
    long long last = (long long)screen->top.count - (long long)page();

    first = first > last ? last : first;
    screen->first = first < 0 ? 0 : (size_t)first;
}

static void press(struct screen *screen, int key)
{
    long long first = (long long)screen->first;

    screen->note = NULL;
    switch (key < 256 ? tolower(key) : key) {
    case 'q':
    case 27:
        screen->quit = true;
        break;
    case 's':
        screen->top.sort = (screen->top.sort + 1) % SORT_COUNT;
        top_sort_rows(&screen->top);
        break;
    case 'd':
        ask_delay(screen);
        break;
    case 'b':
        screen->disks = !screen->disks;
        break;
    case 'n':
        screen->nets = !screen->nets;
        break;
    case KEY_RESIZE:
        clearok(stdscr, TRUE); /* what the terminal made of the old picture is not known */
        break;
    case KEY_UP:
        scroll_to(screen, first - 1);
        break;
    case KEY_DOWN:
        scroll_to(screen, first + 1);
        break;
    case KEY_PPAGE:
        scroll_to(screen, first - (long long)page());
        break;
    case KEY_NPAGE:
        scroll_to(screen, first + (long long)page());
        break;
    default:
        break;
    }
}

static double seconds_now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Keys until it is time for the next sample. */
static void watch_keys(struct screen *screen, double seconds)
{
    double end = seconds_now() + seconds;

    while (!screen->quit) {
        double left = end - seconds_now();
        if (left <= 0) {
            return;
        }
        timeout((int)(left * 1000) + 1);
        int key = getch();
        if (key != ERR) {
            press(screen, key);
            draw(screen);
        }
    }
}

static enum status refresh_rows(struct screen *screen)
{
    enum status status = top_sample(&screen->top, screen->connection);

    scroll_to(screen, (long long)screen->first);
    return status ? status : top_measure(&screen->top, screen->connection, screen->first, page());
}

static enum status run_screen(struct screen *screen)
{
    enum status status = refresh_rows(screen);
    bool first = true;

    for (unsigned shown = 0; !status && !screen->quit && (!screen->left || shown < screen->left); shown++) {
        draw(screen);
        watch_keys(screen,
                   first && screen->interval > 1 ? 1 : screen->interval); /* rates need a second sample */
        first = false;
        status = screen->quit ? STATUS_OK : refresh_rows(screen);
    }
    return status;
}

/* What is said on stderr while the screen is ours would be lost: it goes to a file and is said at the end. */
static enum status with_screen(struct screen *screen)
{
    FILE *said = tmpfile();
    int terminal = dup(STDERR_FILENO);
    char line[512];

    unsetenv("COLUMNS"); /* exported ones would outlive a change of the size */
    unsetenv("LINES");
    if (!said || terminal < 0 || !newterm(NULL, stdout, stdin)) {
        const char *term = getenv("TERM");
        return say_failed("top: the terminal (TERM=%s) is not one that ncurses knows; see -b", term ? term : "");
    }
    fflush(stderr);
    dup2(fileno(said), STDERR_FILENO);
    cbreak();
    noecho();
    nonl();
    keypad(stdscr, TRUE);
    set_escdelay(50);
    curs_set(0);
    enum status status = run_screen(screen);
    endwin();
    fflush(stderr);
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    rewind(said);
    while (fgets(line, sizeof(line), said)) {
        fputs(line, stderr);
    }
    fclose(said);
    return status;
}

enum status run_top(struct connection *connection, const struct options *options)
{
    struct screen screen = {.connection = connection,
                            .interval = options->interval > 0 ? options->interval : INTERVAL,
                            .left = options->iterations,
                            .json = options->json};
    bool batch = options->batch || options->json;

    screen.top.sort = SORT_ACCESSES;
    if (options->sort && parse_sort(options->sort, &screen.top.sort)) {
        return STATUS_USAGE;
    }
    if (!batch && (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO))) {
        return say_usage("top: not a terminal: expected -b");
    }
    enum status status = batch ? run_batch(&screen) : with_screen(&screen);
    top_finish(&screen.top);
    return status;
}
