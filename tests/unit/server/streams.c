/* SPDX-License-Identifier: Apache-2.0
 * Many streams at one time, from a stand-in engine that emits at a steady rate: none is lost, none crossed, all are
 * whole. With --bench: how long a token takes from the ring to a client's buffer, which bounds what the server
 * itself takes. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/server.h"
#include "support/http_client.h"
#include "test.h"

enum { CLIENTS = 128, MOST = 1024, BUF = 1 << 16 };

/* ---- the engine: every stream gets a token in turn ---- */

typedef struct Stream {
    EngineReq r;
    int32_t prompt[64];
    int n; /* tokens emitted */
    bool open;
} Stream;

static Stream streams[CLIENTS];
static uint64_t emitted_ns[CLIENTS][MOST];
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int n_streams;
static _Atomic bool over;
static double rate; /* tokens a second, of all together */

static Status submit(void *self, const EngineReq *r, uint64_t *id, Err *e) {
    (void)self;
    pthread_mutex_lock(&mu);
    int i = n_streams;
    if (i < CLIENTS) {
        streams[i].r = *r;
        memcpy(streams[i].prompt, r->prompt, (size_t)MIN(r->n_prompt, 64) * sizeof(int32_t));
        streams[i].n = 0;
        streams[i].open = true;
        n_streams++;
    }
    pthread_mutex_unlock(&mu);
    *id = (uint64_t)i + 1;
    return i < CLIENTS ? OK : err_set(e, ERR_FULL, "full");
}

static void cancel(void *self, uint64_t id) {
    (void)self;
    (void)id;
}

/* The prompt is "c" and the client's number, three digits: its tokens say whose stream it is. */
static int client_of(const Stream *s) {
    return (s->prompt[1] - '0') * 100 + (s->prompt[2] - '0') * 10 + s->prompt[3] - '0';
}

static void emit(Stream *s) {
    int c = client_of(s);
    if (s->n < s->r.max_new) {
        SampleOut t = {.id = 'A' + c % 26};
        emitted_ns[c][s->n++] = clock_now_ns();
        s->r.on_token(s->r.ctx, &t);
    } else {
        s->open = false;
        s->r.on_done(s->r.ctx, FINISH_LENGTH, NULL);
    }
}

static void *engine(void *ctx) {
    (void)ctx;
    while (n_streams < CLIENTS && !over) usleep(1000);
    double t0 = clock_now_s();
    uint64_t done = 0;
    for (int at = 0, left = CLIENTS; left > 0 && !over;) {
        double due = t0 + (double)done / rate;
        while (clock_now_s() < due) usleep(200);
        Stream *s = &streams[at++ % CLIENTS];
        if (!s->open) continue;
        emit(s);
        left -= !s->open;
        done++;
    }
    return NULL;
}

/* ---- the clients: one thread, all sockets ---- */

typedef struct Client {
    int fd, n; /* events with text */
    char line[4096];
    size_t n_line;
    bool ended, bad;
} Client;

static Client clients[CLIENTS];
static float took_ms[CLIENTS * MOST];
static int n_took;

static void take_line(Client *c, int who, uint64_t now) {
    char want[16];
    c->line[c->n_line] = '\0';
    snprintf(want, sizeof want, "\"text\":\"%c", 'A' + who % 26);
    if (strstr(c->line, "[DONE]")) c->ended = true;
    else if (strstr(c->line, want)) {
        if (c->n < MOST) took_ms[n_took++] = (float)(1e-6 * (double)(now - emitted_ns[who][c->n]));
        c->n++;
    } else if (strncmp(c->line, "data: ", 6) == 0 && !strstr(c->line, "\"text\":\"\""))
        c->bad = true;
}

static void take_bytes(Client *c, int who, const char *p, size_t n) {
    uint64_t now = clock_now_ns();
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n') {
            take_line(c, who, now);
            c->n_line = 0;
        } else if (c->n_line + 1 < sizeof c->line) c->line[c->n_line++] = p[i];
    }
}

static void connect_all(int port, int n_tok) {
    for (int i = 0; i < CLIENTS; i++) {
        char body[160], text[400];
        snprintf(body, sizeof body, "{\"prompt\": \"c%03d\", \"max_tokens\": %d, \"stream\": true}",
                 i, n_tok);
        snprintf(text, sizeof text,
                 "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
        clients[i] = (Client){.fd = hc_connect(port)};
        TRUE_(clients[i].fd >= 0 && hc_send(clients[i].fd, text));
        fcntl(clients[i].fd, F_SETFL, O_NONBLOCK);
    }
}

static bool read_one(Client *c, int who) {
    static char buf[BUF];
    ssize_t n = read(c->fd, buf, sizeof buf);
    if (n > 0) take_bytes(c, who, buf, (size_t)n);
    return n != 0;
}

static int read_all(double limit_s) {
    struct pollfd p[CLIENTS];
    double end = clock_now_s() + limit_s;
    int ended = 0;
    while (ended < CLIENTS && clock_now_s() < end) {
        for (int i = 0; i < CLIENTS; i++)
            p[i] = (struct pollfd){.fd = clients[i].ended ? -1 : clients[i].fd, .events = POLLIN};
        poll(p, CLIENTS, 100);
        for (int i = 0; i < CLIENTS; i++) {
            if (!(p[i].revents & (POLLIN | POLLHUP))) continue;
            if (!read_one(&clients[i], i)) clients[i].bad = clients[i].ended = true;
            ended += clients[i].ended;
        }
    }
    return ended;
}

/* ---- a run ---- */

static void *loop(void *ctx) { return server_run(ctx, 100, NULL) == OK ? NULL : "failed"; }

static void run(int n_tok, double tok_s) {
    TokTrainOpts o = {.n_vocab = 257};
    TokTrainer *t;
    Tokenizer *tok;
    Server *s;
    pthread_t thread, en;
    OK_(tok_train_new(&t, &o, TERR));
    OK_(tok_train_finish(t, &tok, TERR));
    tok_train_free(t);
    ServerConfig c = {.host = "127.0.0.1",
                      .engine = {.submit = submit, .cancel = cancel, .max_ctx = 4096},
                      .tok = tok,
                      .device = "cpu"};
    n_streams = 0;
    over = false;
    n_took = 0;
    rate = tok_s;
    OK_(server_new(&s, &c, TERR));
    EQ(pthread_create(&thread, NULL, loop, s), 0);
    EQ(pthread_create(&en, NULL, engine, NULL), 0);
    connect_all(server_port(s), n_tok);
    EQ(read_all(n_tok * CLIENTS / tok_s + 60), CLIENTS);
    over = true;
    pthread_join(en, NULL);
    for (int i = 0; i < CLIENTS; i++) {
        if (clients[i].bad || clients[i].n != n_tok)
            FAIL("stream %d: %d of %d tokens%s", i, clients[i].n, n_tok,
                 clients[i].bad ? ", and others'" : "");
        close(clients[i].fd);
    }
    server_stop(s);
    pthread_join(thread, NULL);
    server_free(s);
    tok_free(tok);
}

TEST(streams_are_whole_and_not_crossed) { run(40, 20000); }

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

BENCH(a_token_from_the_ring_to_the_client) {
    static const double rates[] = {1000, 10000, 50000, 128000};
    for (size_t i = 0; i < COUNT_OF(rates); i++) {
        run(rates[i] > 5000 ? 1000 : 60, rates[i]);
        qsort(took_ms, (size_t)n_took, sizeof took_ms[0], by_value);
        printf("{\"bench\":\"streams\",\"clients\":%d,\"tok_s\":%.0f,\"ms\":{\"p50\":%.3f,\"p99\":%"
               ".3f,\"max\":%.3f}}\n",
               CLIENTS, rates[i], (double)took_ms[n_took / 2], (double)took_ms[n_took * 99 / 100],
               (double)took_ms[n_took - 1]);
    }
}
