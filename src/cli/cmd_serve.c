/* SPDX-License-Identifier: Apache-2.0
 * ingot serve: a model behind HTTP (server/server.h). Here: the memory plan, loading, what is printed, and
 * stopping: the first SIGINT or SIGTERM lets running answers finish, the second one kills. The options are in
 * serve_opts.c. */
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "cli/lora.h"
#include "cli/model.h"
#include "cli/serve.h"
#include "engine/engine.h"
#include "net/outbox.h"
#include "server/server.h"
#include "store/store.h"

enum {
    WARM_BYTES = 256 << 20, /* of the KV cache, there before the first request */
    SPARE_LINES = 2,        /* of batches, beyond those that are generated */
    OUTBOX_GRACE_MS = 2000,
    LOG_QUEUE = 1 << 20, /* bytes of lines that wait for whoever reads them */
    LOG_GRACE_MS = 1000,
    LOADER_GRACE_MS = 300 /* of a model that is still being loaded when the server stops */
};

/* What one run of the command holds. */
typedef struct Serving {
    const ServeCmd *c;
    const char *path;
    CliModel m;
    CliLoras loras;
    const char **adapters; /* owned; names borrowed from loras */
    char name[128];        /* of the model in requests */
    EngineOpts eo;
    Chat *chat;          /* owned */
    GrammarVocab *vocab; /* owned */
    Engine *en;          /* owned */
    Server *server;      /* owned */
    Keys *keys;          /* owned */
    Feedback *feedback;  /* owned; NULL: no folder for it */
    Batches *batches;    /* owned; NULL: the same */
    char unbatched[240]; /* why there are none */
    const char **plain;  /* owned; keys given in words or variables, borrowed */
    char unkept[240];    /* why ratings are not kept */
    NetOutbox *outbox;   /* owned; NULL: nothing is posted */
    char traces[512];    /* where spans go */
    Status loaded;       /* of the loading thread */
    Err err;             /* its error */
    CliSpeculate spec;
    ServeReload *reload; /* owned */
    ServeConfine confine;
} Serving;

/* ---- signals ---- */

static Server *volatile stop_target; /* set while the handlers are */

static void on_signal(int sig) {
    (void)sig;
    server_stop(stop_target);
}

static void on_hangup(int sig) {
    (void)sig;
    server_reload(stop_target);
}

/* SIG_BLOCK: signals that end the program wait until somebody is there to see to them; SIG_UNBLOCK: now. */
static void hold_signals(int how) {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    pthread_sigmask(how, &ends, NULL);
}

static void catch_signals(Server *s) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    stop_target = s;
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    a = (struct sigaction){.sa_handler = on_hangup, .sa_flags = (int)SA_RESTART};
    sigemptyset(&a.sa_mask);
    sigaction(SIGHUP, &a, NULL);
    hold_signals(SIG_UNBLOCK);
}

static void release_signals(void) {
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    hold_signals(SIG_UNBLOCK);
}

/* ---- what is printed ---- */

/* A line for the operator. */
static void say(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void say(const char *fmt, ...) {
    StrBuf b = {0};
    va_list ap;
    va_start(ap, fmt);
    sb_vprintf(&b, fmt, ap);
    va_end(ap);
    if (!b.failed) log_raw(sb_str(&b));
    sb_deinit(&b);
}

static void print_line(void *ctx, const char *line) {
    (void)ctx;
    log_raw(line);
}

static void print_loaded(const Serving *s, const char *path, double seconds, size_t plan_bytes) {
    char line[96], a[32], b[32], w[32], span[24];
    say("%s", device_describe(s->m.dev, line));
    say("loaded %s (%s, %s parameters) in %s", path, s->m.m->cfg.arch->name,
        cli_commas(a, model_n_params(&s->m.m->cfg)), clock_format_span(span, seconds));
    say("%d sequences of %d tokens, %s besides the weights' %s", s->eo.max_seqs,
        engine_max_ctx(s->en), cli_bytes(b, (double)plan_bytes),
        cli_bytes(w, (double)model_weight_bytes(s->m.m)));
}

static void print_adapters(const Serving *s) {
    char n[32];
    for (int i = 0; i < s->loras.n; i++) {
        const CliLora *l = &s->loras.v[i];
        say("adapter \"%s\" at %g: %s, rank %d, %s parameters", l->name, l->scale, l->path,
            l->info.rank, cli_commas(n, l->info.n_params));
    }
}

static void format_url(char url[300], const Serving *s, const char *host) {
    bool v6 = strchr(host, ':') != NULL;
    snprintf(url, 300, v6 ? "%s://[%s]:%d" : "%s://%s:%d", s->c->tls_cert ? "https" : "http", host,
             server_port(s->server));
}

/* As servers say it that log access lines of this form. */
static void print_started(const char *url) {
    say("INFO:     Started server process [%d]", (int)getpid());
    say("INFO:     Waiting for application startup.");
    say("INFO:     Application startup complete.");
    say("INFO:     Server running on %s (Press CTRL+C to quit)", url);
}

static void print_ready(const Serving *s) {
    const char *host = s->c->host;
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    char url[300];
    format_url(url, s, host);
    if (!keys_required(s->keys)) say("no keys: everybody who reaches %s is answered", host);
    if (s->c->log_resources) print_started(url);
    say("%s", sb_str(&s->confine.said));
    if (s->confine.is_root)
        say("running as root: --user NAME gives its rights up once the port is bound");
    if (s->unkept[0]) say("ratings are not kept: %s", s->unkept);
    if (s->unbatched[0]) say("files and batches are not kept: %s", s->unbatched);
    say("listening on %s", url);
    format_url(url, s, any ? "127.0.0.1" : host);
    say("try: curl -s %s/complete -d '{\"code\": \"def add(a, b):\"}'", url);
}

/* ---- loading, serving ---- */

/* As large a KV cache as fits into `most` bytes beside the rest of the engine. */
static Status fit_cache(Serving *s, size_t *bytes, double most, Err *e) {
    size_t block = engine_block_bytes(&s->m.m->cfg, &s->eo), rest = 0;
    s->eo.n_blocks = 1;
    TRY(engine_plan_bytes(&rest, &s->m.m->cfg, &s->eo, e));
    double left = (most - (double)rest) / (double)block;
    if (left >= 1) s->eo.n_blocks = (int)MIN(left, 1e8);
    for (;;) { /* longer sequences take larger tables: step back until all fits */
        TRY(engine_plan_bytes(bytes, &s->m.m->cfg, &s->eo, e));
        if ((double)*bytes <= most || s->eo.n_blocks == 1) return OK;
        double over = ((double)*bytes - most) / (double)block;
        s->eo.n_blocks -= (int)MIN(over + 1, s->eo.n_blocks - 1);
    }
}

static Status plan(size_t *bytes, Serving *s, Err *e) {
    const ServeCmd *c = s->c;
    char a[32], b[32];
    s->eo = (EngineOpts){.max_seqs = (int)c->max_seqs,
                         .max_ctx = cli_ctx(c->ctx, s->m.m->cfg.ctx),
                         .prefill_chunk = (int)c->chunk,
                         .max_queue = (int)c->max_queue,
                         .itl_target_ms = (int)c->itl_target,
                         .warm_bytes = WARM_BYTES,
                         .kv_type = cli_kv_type(c->kv),
                         .vocab = s->vocab,
                         .tok = s->m.tok};
    s->spec = (CliSpeculate){.how = c->speculate, .n_tok = c->speculate_tokens};
    TRY(cli_speculate(&s->eo, &s->spec, &s->m, e));
    if (c->kv_memory) TRY(cli_size(&s->eo.kv_bytes, "--kv-cache-memory", c->kv_memory, e));
    TRY(cli_loras_plan(&s->eo, &s->loras, &s->m.m->cfg, e));
    TRY(engine_plan_bytes(bytes, &s->m.m->cfg, &s->eo, e));
    double most = c->utilization * (double)mem_limit_bytes() - (double)model_weight_bytes(s->m.m);
    if (s->spec.draft.m) most -= (double)model_weight_bytes(s->spec.draft.m);
    if ((double)*bytes <= most) return OK;
    size_t fitted = *bytes;
    if (!c->kv_memory) TRY(fit_cache(s, &fitted, most, e));
    if ((double)fitted <= most) {
        *bytes = fitted;
        return OK;
    }
    return err_set(
        e, ERR_NOMEM,
        "%d sequences of %d tokens take %s besides the weights, %s may be taken: choose a "
        "smaller --max-seqs, --ctx or --kv-cache-memory",
        s->eo.max_seqs, s->eo.max_ctx, cli_bytes(a, (double)*bytes), cli_bytes(b, most));
}

/* What requests call the model and its adapters. */
static Status list_names(Serving *s, const char *path, Err *e) {
    TRY(cli_loras_parse(&s->loras, &s->c->lora, e));
    if (s->c->model_name) snprintf(s->name, sizeof s->name, "%s", s->c->model_name);
    else cli_lora_stem(s->name, sizeof s->name, path);
    s->adapters = mem_new_n(const char *, (size_t)s->loras.n + 1);
    if (!s->adapters) return err_set(e, ERR_NOMEM, "names of adapters");
    for (int i = 0; i < s->loras.n; i++) {
        s->adapters[i] = s->loras.v[i].name;
        if (strcmp(s->adapters[i], s->name) == 0)
            return err_set(e, ERR_ARG, "--lora: \"%s\" is the model's own name", s->name);
    }
    return OK;
}

static Status open_template(Serving *s, Err *e) {
    enum { MAX_TEMPLATE = 1 << 20 };
    StrBuf text = {0};
    if (!s->c->chat_template) return chat_new(&s->chat, s->m.tok, e);
    Status st = io_read_file(&text, s->c->chat_template, MAX_TEMPLATE, e);
    if (st == OK) st = chat_new_text(&s->chat, (Slice){sb_str(&text), text.n}, s->m.tok, e);
    if (st != OK) err_in(e, s->c->chat_template);
    sb_deinit(&text);
    return st;
}

static Status open_model(Serving *s, Err *e) {
    DeviceOpts o = {.n_threads = cli_threads(s->c->threads),
                    .batch_invariant = s->c->batch_invariant,
                    .no_pack = s->c->no_pack};
    TRY(cli_model_open(&s->m, s->path, o, e));
    TRY(open_template(s, e));
    return grammar_vocab_new(&s->vocab, s->m.tok, e);
}

static ServerConfig model_part(const Serving *s) {
    return (ServerConfig){.engine = engine_door(s->en),
                          .tok = s->m.tok,
                          .chat = s->chat,
                          .vocab = s->vocab,
                          .model = s->name,
                          .adapters = s->adapters,
                          .n_adapters = s->loras.n,
                          .n_embd = s->m.m->cfg.C,
                          .batch_lines = s->eo.max_seqs + SPARE_LINES};
}

static void print_resources(const Serving *s, const char *operation) {
    StrBuf b = {0};
    if (!s->c->log_resources) return;
    server_resources(&b, operation);
    say("%s", sb_str(&b));
    sb_deinit(&b);
}

static Status load(Serving *s, Err *e) {
    size_t bytes = 0;
    double t0 = clock_now_s();
    print_resources(s, "Before model load");
    TRY(open_model(s, e));
    TRY(plan(&bytes, s, e));
    TRY(engine_new(&s->en, s->m.m, &s->eo, e));
    TRY(cli_loras_load(s->en, &s->loras, e));
    print_resources(s, "After model load");
    ServerConfig part = model_part(s);
    TRY(server_attach(s->server, &part, e));
    print_loaded(s, s->path, clock_now_s() - t0, bytes);
    say("chat template: %s", chat_describe(s->chat));
    print_adapters(s);
    print_ready(s);
    return OK;
}

/* ---- keys, ratings ---- */

static bool is_loopback(const char *host) {
    return str_starts_with(host, "127.") || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0;
}

/* Path of a file in the state folder. */
static Status state_path(StrBuf *out, const ServeCmd *c, const char *name, bool make, Err *e) {
    TRY(config_state_dir(out, &cli_env, c->state_dir, e));
    if (make) TRY(store_make_dir(sb_str(out), e));
    sb_printf(out, "/%s", name);
    return sb_check(out, e);
}

static Status open_keys(Serving *s, Err *e) {
    const ServeCmd *c = s->c;
    StrBuf path = {0};
    KeysConfig kc = {0};
    TRY(cli_serve_plain(&kc, &s->plain, c, e));
    if (state_path(&path, c, "keys.db", false, NULL) == OK) kc.path = sb_str(&path);
    Status st = keys_open(&s->keys, &kc, e);
    sb_deinit(&path);
    TRY(st);
    if (keys_required(s->keys)) return OK;
    if (!is_loopback(c->host) && !c->no_auth)
        return err_set(e, ERR_ARG,
                       "--host %s: others reach this address, and there are no keys; make one with "
                       "`ingot keys create`, or say --no-auth",
                       c->host);
    return OK;
}

static void wake_server(void *ctx) {
    Serving *s = ctx;
    if (s->server) server_wake(s->server);
}

/* When keys were used last, from the thread that writes anyway. */
static void flush_keys(void *ctx) {
    Err e = {0};
    if (keys_flush(ctx, &e) != OK) log_warn("keys: %s", e.msg);
}

/* Without a folder to write to there are no ratings, and serving goes on. */
static void open_feedback(Serving *s) {
    StrBuf path = {0};
    Err e = {0};
    FeedbackConfig fc = {.wake = wake_server,
                         .wake_ctx = s,
                         .on_second = flush_keys,
                         .second_ctx = s->keys};
    Status st = state_path(&path, s->c, "feedback.db", true, &e);
    fc.path = sb_str(&path);
    if (st == OK) st = feedback_new(&s->feedback, &fc, &e);
    if (st != OK) snprintf(s->unkept, sizeof s->unkept, "%s", e.msg);
    sb_deinit(&path);
}

/* The same for files and batches. */
static Status open_batches(Serving *s, Err *e) {
    StrBuf dir = {0};
    Err why = {0};
    BatchesConfig bc = {.allows = server_call_allows, .wake = wake_server, .wake_ctx = s};
    TRY(cli_size(&bc.max_file, "--max-file-size", s->c->max_file, e));
    Status st = config_state_dir(&dir, &cli_env, s->c->state_dir, &why);
    if (st == OK) st = sb_check(&dir, &why);
    bc.dir = sb_str(&dir);
    if (st == OK) st = batches_open(&s->batches, &bc, &why);
    if (st != OK) snprintf(s->unbatched, sizeof s->unbatched, "%s", why.msg);
    sb_deinit(&dir);
    return OK;
}

static bool post(Serving *s, const char *url, Slice body) {
    static const char *const headers[] = {"Content-Type: application/json"};
    Err e = {0};
    if (net_outbox_post(s->outbox, url, headers, 1, body, &e) == OK) return true;
    log_warn("%s: %s", url, e.msg);
    return false;
}

static bool post_spans(void *ctx, Slice body) {
    Serving *s = ctx;
    return post(s, s->traces, body);
}

static void post_rating(Serving *s, const FeedbackDone *d) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "event", "low_rating");
    jw_int(&w, "rating", d->rating);
    jw_cstr(&w, "model", d->model);
    jw_cstr(&w, "model_version", d->version);
    jw_end_obj(&w);
    if (!b.failed) post(s, s->c->webhook, (Slice){sb_str(&b), b.n});
    sb_deinit(&b);
}

/* The thread that posts, where something is to be posted. */
static Status open_outbox(Serving *s, Err *e) {
    static ConfigNet env;
    const ServeCmd *c = s->c;
    if (!c->otlp && !c->webhook) return OK;
    config_load_net(&env);
    NetOutboxConfig oc = {.net = {.http_proxy = env.http_proxy,
                                  .https_proxy = env.https_proxy,
                                  .all_proxy = env.all_proxy,
                                  .no_proxy = env.no_proxy,
                                  .ca_file = env.ca_file,
                                  .ca_dir = env.ca_dir}};
    if (c->otlp) {
        size_t n = strlen(c->otlp);
        while (n > 0 && c->otlp[n - 1] == '/') n--;
        snprintf(s->traces, sizeof s->traces, "%.*s/v1/traces", (int)MIN(n, 480), c->otlp);
    }
    return net_outbox_new(&s->outbox, &oc, e);
}

static void warn_low(void *ctx, const FeedbackDone *d) {
    Serving *s = ctx;
    if (s->c->webhook) post_rating(s, d);
    log_warn("a rating of %d for %s %s", d->rating, d->model[0] ? d->model : "an unknown request",
             d->version);
}

static void *load_thread(void *ctx) {
    Serving *s = ctx;
    s->loaded = load(s, &s->err);
    if (s->loaded != OK) server_stop(s->server);
    return NULL;
}

/* ---- reloading ---- */

static Status begin_reload(void *ctx, ServerLive *live, Err *e) {
    Serving *s = ctx;
    return cli_serve_reload_begin(s->reload, live, e);
}

static void end_reload(void *ctx, const Err *e) {
    Serving *s = ctx;
    cli_serve_reload_end(s->reload, e);
}

/* ---- life ---- */

/* Bind the port; nothing runs yet. */
static Status make_server(Serving *s, Err *e) {
    const ServeCmd *c = s->c;
    ServerConfig sc = {.host = c->host,
                       .port = (int)c->port,
                       .keys = s->keys,
                       .model_version = c->model_version,
                       .cost_per_hour = c->cost_per_hour,
                       .tls_cert = c->tls_cert,
                       .tls_key = c->tls_key,
                       .hsts_s = (int)c->hsts,
                       .proxies = c->proxies.v,
                       .n_proxies = c->proxies.n,
                       .cors = {.origins = c->cors.v, .n_origins = c->cors.n},
                       .on_low_rating = warn_low,
                       .on_reload = begin_reload,
                       .on_reloaded = end_reload,
                       .log_resources = c->log_resources,
                       .on_spans = c->otlp ? post_spans : NULL,
                       .device = "cpu",
                       .version = CLI_VERSION,
                       .title = c->title,
                       .max_prompt = (int)c->max_prompt,
                       .max_total = (int)c->max_total,
                       .n_prep = (int)c->prep_threads,
                       .json_log = strcmp(c->log_format, "json") == 0,
                       .on_line = print_line,
                       .ctx = s};
    TRY(cli_serve_live(&sc.live, c, e));
    return server_new(&s->server, &sc, e);
}

/* Up to here there is one thread, with all rights it was given; from here on threads, without. */
static Status begin(Serving *s, Err *e) {
    TRY(list_names(s, s->path, e));
    TRY(cli_serve_confine_begin(&s->confine, s->c, e));
    TRY(open_keys(s, e));
    TRY(make_server(s, e));
    TRY(cli_serve_confine(&s->confine, s->c, e));
    TRY(log_writer_start(s->c->log_file, LOG_QUEUE, e));
    TRY(open_outbox(s, e));
    open_feedback(s);
    TRY(open_batches(s, e));
    server_use_feedback(s->server, s->feedback);
    server_use_batches(s->server, s->batches);
    catch_signals(s->server); /* before anybody is told that there is a server */
    return OK;
}

/* A model that takes long to load does not keep a server that was told to stop: what must reach the disk or the
 * operator does, and the process ends with the loading thread still in it. */
static void leave_loading(Serving *s, pthread_t loader) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LOADER_GRACE_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    if (pthread_timedjoin_np(loader, NULL, &until) == 0) return;
    if (s->feedback) feedback_free(s->feedback);
    batches_free(s->batches);
    say("stopped while the model was being loaded");
    log_writer_stop(LOG_GRACE_MS);
    _exit(CLI_OK);
}

static Status run(Serving *s, Err *e) {
    pthread_t loader;
    if (pthread_create(&loader, NULL, load_thread, s) != 0)
        return err_set(e, ERR_IO, "the thread that loads the model cannot be started");
    Status st = server_run(s->server, (int)(s->c->grace * 1000), e);
    if (st == OK) leave_loading(s, loader);
    else pthread_join(loader, NULL);
    if (s->loaded != OK) {
        *e = s->err;
        return s->loaded;
    }
    if (st == OK) say("stopped");
    return st;
}

static void close_all(Serving *s) {
    release_signals();
    if (s->feedback) feedback_free(s->feedback);
    batches_free(s->batches);
    engine_free(s->en); /* its callbacks knock at the server, so it goes first */
    server_free(s->server);
    if (s->outbox) net_outbox_free(s->outbox, OUTBOX_GRACE_MS);
    chat_free(s->chat);
    grammar_vocab_free(s->vocab);
    cli_model_close(&s->spec.draft);
    cli_model_close(&s->m);
    cli_loras_deinit(&s->loras);
    keys_free(s->keys);
    cli_serve_reload_free(s->reload);
    cli_serve_confine_deinit(&s->confine);
    mem_free(s->plain);
    mem_free(s->adapters);
    log_writer_stop(LOG_GRACE_MS);
}

/* As many descriptors as connections may be, if that is allowed. */
static void raise_files(int64_t n_conns) {
    enum { BESIDES = 128 };
    struct rlimit l;
    rlim_t want = (rlim_t)n_conns + BESIDES;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur >= want) return;
    l.rlim_cur = MIN(want, l.rlim_max);
    setrlimit(RLIMIT_NOFILE, &l);
    if (l.rlim_cur < want)
        log_warn("--max-connections %lld: only %llu files may be open", (long long)n_conns,
                 (unsigned long long)l.rlim_cur);
}

static int serve(const ServeCmd *c, const CliArgs *a, int argc, char **argv) {
    Err e = {0};
    Serving s = {.c = c, .path = c->model};
    signal(SIGHUP, SIG_IGN); /* until there is something to read again */
    signal(SIGPIPE, SIG_IGN);
    hold_signals(SIG_BLOCK);
    raise_files(c->max_connections);
    log_set_level(cli_serve_level(c));
    Status st = cli_serve_reload_new(&s.reload, a->set, argc, argv, &e);
    if (st == OK) st = begin(&s, &e);
    if (st == OK) st = run(&s, &e);
    close_all(&s);
    return st == OK ? CLI_OK : cli_fail(&e);
}

int cmd_serve(int argc, char **argv) {
    ServeCmd c = {0};
    CliArgs a;
    Err e = {0};
    int rc = cli_parse(&a, &cli_serve_spec, &c, argc, argv);
    if (rc < 0 && cli_serve_settle(&c, &a, false, &e) != OK) rc = cli_fail(&e);
    if (rc < 0 && c.check_config) rc = cli_serve_print(&a);
    if (rc < 0 && !c.model)
        rc = cli_usage(&cli_serve_spec, "an argument is missing: %s", cli_serve_spec.usage);
    if (rc < 0) rc = serve(&c, &a, argc, argv);
    cli_args_deinit(&a);
    return rc;
}
