/* SPDX-License-Identifier: Apache-2.0
 * ingot top: a server's dashboard in a terminal. It asks GET /dashboard/data again and again; between two questions it
 * waits for a key. */
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/top.h"
#include "net/client.h"

typedef struct TopCmd {
    double interval;
    int64_t window;
    const char *api_key, *cacert;
    bool once, json;
} TopCmd;

#define AT(field) offsetof(TopCmd, field)
static const OptSpec opts[] = {
    {.key = "interval",
     .type = OPT_FLOAT,
     .offset = AT(interval),
     .def = "1",
     .min = 0.1,
     .max = 3600,
     .metavar = "S",
     .help = "seconds between two looks"},
    {.key = "window",
     .type = OPT_INT,
     .offset = AT(window),
     .def = "5",
     .min = 1,
     .max = 60,
     .metavar = "MIN",
     .help = "minutes that the plots show at first: 1, 5, 15 or 60"},
    {.key = "once", .type = OPT_BOOL, .offset = AT(once), .help = "look once and end"},
    {.key = "json",
     .type = OPT_BOOL,
     .offset = AT(json),
     .help = "print the server's numbers as they are, a JSON object a look"},
    {.key = "api_key",
     .type = OPT_STR,
     .offset = AT(api_key),
     .metavar = "KEY",
     .help = "a key with the scope admin; default: INGOT_API_KEY"},
    {.key = "cacert",
     .type = OPT_STR,
     .offset = AT(cacert),
     .metavar = "FILE",
     .help = "certificates to trust instead of the system's"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot top [URL] [options]",
    .about =
        "Watches a server: requests, tokens, times to the first and the next token, KV cache,\n"
        "errors, memory, and what it works on now. URL: http://127.0.0.1:8000.\n"
        "On a terminal the screen is drawn anew; w: another window, space: hold, q: end.\n"
        "Elsewhere a line is printed for each look. The same numbers are at URL/dashboard.\n"
        "\n"
        "example:\n"
        "  ingot top http://127.0.0.1:8000\n"
        "  ingot top --interval 10 >> server.log",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .max_pos = 1,
};

static const int windows[] = {60, 300, 900, 3600};

typedef struct Watch {
    const TopCmd *c;
    TopView view;
    NetClient *net;
    StrBuf url, auth;
    const char *secret[1];
    int n_secret;
    Json *data;  /* owned; the newest answer */
    StrBuf lost; /* why there is no newer one */
    bool screen, held;
    struct termios before; /* of the terminal */
} Watch;

/* ---- asking ---- */

static Status open_watch(Watch *w, const char *url, Err *e) {
    ConfigNet env;
    config_load_net(&env);
    NetConfig nc = {.http_proxy = env.http_proxy,
                    .https_proxy = env.https_proxy,
                    .all_proxy = env.all_proxy,
                    .no_proxy = env.no_proxy,
                    .ca_file = w->c->cacert ? w->c->cacert : env.ca_file,
                    .ca_dir = w->c->cacert ? NULL : env.ca_dir,
                    .connect_timeout_ms = 3000,
                    .stall_timeout_ms = 5000,
                    .stop = cli_stop_flag()};
    const char *key = w->c->api_key        ? w->c->api_key
                      : cli_env.n_api_keys ? cli_env.api_key[0]
                                           : NULL;
    size_t n = strlen(url);
    TRY(net_check_url(url, e));
    while (n > 0 && url[n - 1] == '/') n--;
    sb_put(&w->url, url, n);
    if (key) sb_printf(&w->auth, "Authorization: Bearer %s", key);
    w->secret[0] = sb_str(&w->auth);
    w->n_secret = key != NULL;
    w->view.url = sb_str(&w->url);
    TRY(sb_check(&w->url, e));
    TRY(sb_check(&w->auth, e));
    return net_client_new(&w->net, &nc, e);
}

/* Take an answer over; what is no answer of ingot serve is ERR_FORMAT. */
static Status take(Watch *w, const NetAnswer *a, Err *e) {
    Slice body = {sb_str(&a->body), a->body.n};
    Json *j = NULL;
    if (a->status == 401 || a->status == 403)
        return err_set(e, ERR_AUTH,
                       "%s wants a key with the scope admin: --api-key, or INGOT_API_KEY",
                       w->view.url);
    if (a->status != 200)
        return err_set(e, ERR_FORMAT, "%s/dashboard/data: status %d: is this ingot serve?",
                       w->view.url, a->status);
    TRY(json_parse(&j, body, e));
    if (!json_is_array(json_get(j, "names")) || !json_is_array(json_get(j, "rows"))) {
        json_free(j);
        return err_set(e, ERR_FORMAT, "%s/dashboard/data: this is not of ingot serve", w->view.url);
    }
    json_free(w->data);
    w->data = j;
    return OK;
}

/* One question: the rows of the window, TOP_CELLS of them. */
static Status ask(Watch *w, Err *e) {
    StrBuf url = {0};
    NetAnswer a = {0};
    int step = w->view.window_s / TOP_CELLS;
    double now = w->data ? json_num(json_get(w->data, "now")) : 0;
    sb_printf(&url, "%s/dashboard/data?step=%d&since=%.3f", sb_str(&w->url), step,
              MAX(now - w->view.window_s, 0));
    NetRequest rq = {.url = sb_str(&url),
                     .secrets = w->secret,
                     .n_secrets = w->n_secret,
                     .max_reply = 4 << 20,
                     .timeout_ms = 10000,
                     .no_redirects = true};
    Status st = sb_check(&url, e);
    if (st == OK) st = net_ask(&a, w->net, &rq, e);
    if (st == OK) st = take(w, &a, e);
    net_answer_deinit(&a);
    sb_deinit(&url);
    return st;
}

/* ---- the terminal ---- */

static void open_screen(Watch *w) {
    struct termios raw;
    w->screen = !w->c->once && !w->c->json && isatty(STDOUT_FILENO);
    if (!w->screen) return;
    setlocale(LC_CTYPE, "");
    w->view.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &w->before) == 0) {
        raw = w->before;
        raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    fputs("\033[?1049h\033[?25l", stdout);
}

static void close_screen(const Watch *w) {
    if (!w->screen) return;
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (isatty(STDIN_FILENO)) tcsetattr(STDIN_FILENO, TCSANOW, &w->before);
}

static void measure(TopView *v) {
    struct winsize size = {0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    v->columns = known ? size.ws_col : 100;
    v->lines = known ? size.ws_row : 40;
}

static void next_window(Watch *w) {
    size_t i = 0;
    while (i < COUNT_OF(windows) && windows[i] <= w->view.window_s) i++;
    w->view.window_s = windows[i % COUNT_OF(windows)];
}

/* Wait for the next look. False: the end. */
static bool wait_for_next(Watch *w) {
    double until = clock_now_s() + w->c->interval;
    const atomic_int *stop = cli_stop_flag();
    while (!atomic_load(stop)) {
        struct pollfd p = {.fd = w->screen && isatty(STDIN_FILENO) ? STDIN_FILENO : -1,
                           .events = POLLIN};
        double left = until - clock_now_s();
        char key = 0;
        if (left <= 0) return true;
        if (poll(&p, 1, (int)(left * 1000) + 1) != 1) continue;
        if (read(STDIN_FILENO, &key, 1) != 1 || key == 'q') return false;
        if (key == ' ') w->held = !w->held;
        if (key == 'w') next_window(w);
        return true;
    }
    return false;
}

/* ---- showing ---- */

static int show(Watch *w, const Json *data) {
    StrBuf b = {0};
    if (w->c->json) {
        JsonW j;
        jw_init(&j, &b);
        jw_json(&j, NULL, data);
        int rc = cli_print_json(&b);
        sb_deinit(&b);
        return rc;
    }
    measure(&w->view);
    if (w->screen) sb_puts(&b, "\033[H\033[J");
    if (w->screen || w->c->once) cli_top_draw(&b, &w->view, data);
    else if (data) cli_top_line(&b, data);
    fwrite(sb_str(&b), 1, b.n, stdout);
    sb_deinit(&b);
    return cli_flush_stdout();
}

/* A server that does not answer may come back, once it has answered. */
static int watch(Watch *w) {
    Err e = {0};
    int rc = CLI_OK;
    do {
        bool had = w->data != NULL;
        e = (Err){0};
        Status st = w->held ? OK : ask(w, &e);
        if (st != OK && !had) return cli_fail(&e);
        if (!had) open_screen(w);
        sb_clear(&w->lost);
        if (st != OK) sb_printf(&w->lost, "%s", e.msg);
        w->view.lost = st != OK ? sb_str(&w->lost) : NULL;
        if (st != OK && !w->screen) fprintf(stderr, "ingot: %s\n", e.msg);
        else rc = show(w, w->data);
    } while (rc == CLI_OK && !w->c->once && wait_for_next(w));
    return rc;
}

int cmd_top(int argc, char **argv) {
    TopCmd c = {0};
    CliArgs a;
    Err e = {0};
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    Watch w = {.c = &c, .view = {.window_s = (int)c.window * 60}};
    if (rc < 0 && c.window != 1 && c.window != 5 && c.window != 15 && c.window != 60)
        rc = cli_usage(&spec, "--window %lld: choose 1, 5, 15 or 60", (long long)c.window);
    if (rc < 0 && open_watch(&w, a.pos.n ? a.pos.v[0] : "http://127.0.0.1:8000", &e) != OK)
        rc = cli_fail(&e);
    if (rc < 0) rc = watch(&w);
    close_screen(&w);
    net_client_free(w.net);
    json_free(w.data);
    sb_deinit(&w.url);
    sb_deinit(&w.auth);
    sb_deinit(&w.lost);
    cli_args_deinit(&a);
    return rc;
}
