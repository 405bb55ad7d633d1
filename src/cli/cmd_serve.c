/* SPDX-License-Identifier: Apache-2.0
 * ingot serve: a model behind HTTP (server/server.h). Here: options, the memory plan, loading, what is
 * printed, and stopping: the first SIGINT or SIGTERM lets running answers finish, the second one kills. */
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/lora.h"
#include "cli/model.h"
#include "engine/engine.h"
#include "server/server.h"

enum { DEFAULT_CTX = 4096 };

typedef struct ServeCmd {
    const char *model_key;
    const char *host, *kv, *kv_memory, *log_level;
    int64_t port, threads, max_seqs, max_queue, max_connections, ctx, chunk;
    int64_t itl_target;
    bool batch_invariant, no_pack;
    double utilization, timeout, grace;
    OptList lora;
    const char *speculate;
    int64_t speculate_tokens;
} ServeCmd;

#define AT(field) offsetof(ServeCmd, field)
static const OptSpec opts[] = {
    {.key = "host",
     .type = OPT_STR,
     .offset = AT(host),
     .def = "127.0.0.1",
     .metavar = "ADDR",
     .help = "address to listen on; 0.0.0.0: every one of this machine"},
    {.key = "port",
     .letter = 'p',
     .type = OPT_INT,
     .offset = AT(port),
     .def = "8000",
     .min = 0,
     .max = 65535,
     .help = "0: any free one"},
    {.key = "max_seqs",
     .type = OPT_INT,
     .offset = AT(max_seqs),
     .def = "8",
     .min = 1,
     .max = 4096,
     .help = "requests generated together in one step"},
    {.key = "max_queue",
     .type = OPT_INT,
     .offset = AT(max_queue),
     .def = "256",
     .min = 1,
     .max = 1 << 20,
     .help = "requests waiting beyond those; more are answered 429"},
    {.key = "max_connections",
     .type = OPT_INT,
     .offset = AT(max_connections),
     .def = "512",
     .min = 1,
     .max = 65536,
     .help = "clients connected at one time; more are answered 503"},
    {.key = "ctx",
     .letter = 'c',
     .type = OPT_INT,
     .offset = AT(ctx),
     .def = "0",
     .min = 0,
     .max = MODEL_MAX_CTX,
     .help = "tokens of prompt and answer together; 0: the model's context length, at most 4096"},
    {.key = "kv_cache_type",
     .type = OPT_CHOICE,
     .offset = AT(kv),
     .def = "f16",
     .choices = CLI_KV_TYPES,
     .help = "type of the KV cache"},
    {.key = "kv_cache_memory",
     .type = OPT_STR,
     .offset = AT(kv_memory),
     .metavar = "SIZE",
     .help = "memory of the KV cache, such as 4G; without it, room for max_seqs full sequences as "
             "far as "
             "memory_utilization allows"},
    {.key = "memory_utilization",
     .type = OPT_FLOAT,
     .offset = AT(utilization),
     .def = "0.9",
     .min = 0.05,
     .max = 1,
     .help = "share of the memory that weights, KV cache and activations may take together"},
    {.key = "prefill_chunk",
     .type = OPT_INT,
     .offset = AT(chunk),
     .def = "256",
     .min = 1,
     .max = 65536,
     .help = "prompt tokens computed together"},
    {.key = "itl_target_ms",
     .type = OPT_INT,
     .offset = AT(itl_target),
     .def = "100",
     .min = 1,
     .max = 3600000,
     .help = "while answers are being written, a step takes prompt tokens for about so long"},
    {.key = "timeout",
     .type = OPT_FLOAT,
     .offset = AT(timeout),
     .def = "120",
     .min = 0,
     .max = 1e6,
     .metavar = "SECONDS",
     .help = "a request that takes longer, waiting included, is answered 504; 0: none"},
    CLI_SPECULATE_OPTS(AT(speculate), AT(speculate_tokens)),
    {.key = "batch_invariant",
     .type = OPT_BOOL,
     .offset = AT(batch_invariant),
     .help = "the same bits whatever is computed beside a request; prompts take longer"},
    {.key = "lora",
     .type = OPT_LIST,
     .offset = AT(lora),
     .metavar = "[NAME=]FILE[:SCALE]",
     .help = CLI_LORA_HELP ", for requests "
                           "whose \"model\" is NAME; may be given several times"},
    {.key = "no_pack",
     .type = OPT_BOOL,
     .offset = AT(no_pack),
     .help = "use quantized weights where they lie in the file: less memory, slower"},
    {.key = "threads",
     .type = OPT_INT,
     .offset = AT(threads),
     .def = "0",
     .min = 0,
     .max = 4096,
     .help = "0: all processors"},
    {.key = "grace",
     .type = OPT_FLOAT,
     .offset = AT(grace),
     .def = "10",
     .min = 0,
     .max = 3600,
     .metavar = "SECONDS",
     .help = "time that running answers have to finish after SIGINT or SIGTERM"},
    {.key = "log_level",
     .type = OPT_CHOICE,
     .offset = AT(log_level),
     .def = "info",
     .choices = "error|warn|info|debug",
     .help = "info and debug: a line for every answer"},
    CLI_MODEL_KEY_OPT(AT(model_key)),
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot serve MODEL.gguf [options]",
    .about =
        "Answers HTTP requests with a model. Requests of all clients are generated together; one "
        "that\n"
        "leaves frees its place at once.\n"
        "\n"
        "  POST /complete     {\"code\": text, \"max_tokens\": 50, \"temperature\": 0.8, "
        "\"top_k\": 200|null,\n"
        "                      \"top_p\": 1, \"seed\": n, \"stop\": text or list, \"n\": samples,\n"
        "                      \"model\": name}\n"
        "                     -> {\"completion\", \"tokens\", \"latency_ms\"}\n"
        "  GET  /health       status, memory, processor use; also /health/live and /health/ready\n"
        "  GET  /             all routes\n"
        "\n"
        "example:\n"
        "  ingot serve model.gguf --port 8000\n"
        "  curl -s http://127.0.0.1:8000/complete -d '{\"code\": \"def add(a, b):\"}'",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = 1,
};

/* What one run of the command holds. */
typedef struct Serving {
    const ServeCmd *c;
    CliModel m;
    CliLoras loras;
    const char **adapters; /* owned; names borrowed from loras */
    char name[128];        /* of the model in requests */
    EngineOpts eo;
    Engine *en;     /* owned */
    Server *server; /* owned */
    CliSpeculate spec;
} Serving;

/* ---- signals ---- */

static Server *volatile stop_target; /* set while the handlers are */

static void on_signal(int sig) {
    (void)sig;
    server_stop(stop_target);
}

static void catch_signals(Server *s) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    stop_target = s;
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

static void release_signals(void) {
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

/* ---- what is printed ---- */

static LogLevel level_of(const char *word) {
    static const char *const words[] = {"error", "warn", "info", "debug"};
    for (int i = 0; i < (int)COUNT_OF(words); i++) {
        if (strcmp(words[i], word) == 0) return (LogLevel)i;
    }
    return LOG_INFO;
}

static void print_access(void *ctx, const char *line) {
    (void)ctx;
    fprintf(stderr, "INFO:     %s\n", line);
}

static void print_loaded(const Serving *s, const char *path, double seconds, size_t plan_bytes) {
    char line[96], a[32], b[32], w[32], span[24];
    fprintf(stderr, "%s\n", device_describe(s->m.dev, line));
    fprintf(stderr, "loaded %s (%s, %s parameters) in %s\n", path, s->m.m->cfg.arch->name,
            cli_commas(a, model_n_params(&s->m.m->cfg)), clock_format_span(span, seconds));
    fprintf(stderr, "%d sequences of %d tokens, %s besides the weights' %s\n", s->eo.max_seqs,
            engine_max_ctx(s->en), cli_bytes(b, (double)plan_bytes),
            cli_bytes(w, (double)model_weight_bytes(s->m.m)));
}

static void print_adapters(const Serving *s) {
    char n[32];
    for (int i = 0; i < s->loras.n; i++) {
        const CliLora *l = &s->loras.v[i];
        fprintf(stderr, "adapter \"%s\" at %g: %s, rank %d, %s parameters\n", l->name, l->scale,
                l->path, l->info.rank, cli_commas(n, l->info.n_params));
    }
}

static void print_ready(const Serving *s) {
    const char *host = s->c->host;
    int port = server_port(s->server);
    bool v6 = strchr(host, ':') != NULL;
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    fprintf(stderr, v6 ? "listening on http://[%s]:%d\n" : "listening on http://%s:%d\n", host,
            port);
    fprintf(stderr,
            v6 && !any
                ? "try: curl -s http://[%s]:%d/complete -d '{\"code\": \"def add(a, b):\"}'\n"
                : "try: curl -s http://%s:%d/complete -d '{\"code\": \"def add(a, b):\"}'\n",
            any ? "127.0.0.1" : host, port);
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
                         .max_ctx = c->ctx ? (int)c->ctx : MIN(s->m.m->cfg.ctx, DEFAULT_CTX),
                         .prefill_chunk = (int)c->chunk,
                         .max_queue = (int)c->max_queue,
                         .itl_target_ms = (int)c->itl_target,
                         .kv_type = cli_kv_type(c->kv),
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
    cli_lora_stem(s->name, sizeof s->name, path);
    s->adapters = mem_new_n(const char *, (size_t)s->loras.n + 1);
    if (!s->adapters) return err_set(e, ERR_NOMEM, "names of adapters");
    for (int i = 0; i < s->loras.n; i++) {
        s->adapters[i] = s->loras.v[i].name;
        if (strcmp(s->adapters[i], s->name) == 0)
            return err_set(e, ERR_ARG, "--lora: \"%s\" is the model's own name", s->name);
    }
    return OK;
}

static Status load(Serving *s, const char *path, Err *e) {
    size_t bytes = 0;
    double t0 = clock_now_s();
    DeviceOpts o = {.n_threads = cli_threads(s->c->threads),
                    .batch_invariant = s->c->batch_invariant,
                    .no_pack = s->c->no_pack};
    TRY(cli_model_open(&s->m, path, o, e));
    TRY(plan(&bytes, s, e));
    TRY(engine_new(&s->en, s->m.m, &s->eo, e));
    TRY(cli_loras_load(s->en, &s->loras, e));
    print_loaded(s, path, clock_now_s() - t0, bytes);
    print_adapters(s);
    return OK;
}

static Status listen_and_serve(Serving *s, LogLevel level, Err *e) {
    ServerConfig sc = {.host = s->c->host,
                       .port = (int)s->c->port,
                       .limits = {.max_connections = (int)s->c->max_connections},
                       .engine = engine_door(s->en),
                       .tok = s->m.tok,
                       .model = s->name,
                       .adapters = s->adapters,
                       .n_adapters = s->loras.n,
                       .device = "cpu",
                       .timeout_s = s->c->timeout,
                       .on_access = level >= LOG_INFO ? print_access : NULL};
    TRY(server_new(&s->server, &sc, e));
    catch_signals(s->server);
    print_ready(s);
    Status st = server_run(s->server, (int)(s->c->grace * 1000), e);
    release_signals();
    if (st == OK) fputs("stopped\n", stderr);
    return st;
}

static int serve(const ServeCmd *c, const char *path) {
    Err e = {0};
    Serving s = {.c = c};
    LogLevel level = level_of(c->log_level);
    log_set_level(level);
    Status st = list_names(&s, path, &e);
    if (st == OK) st = load(&s, path, &e);
    if (st == OK) st = listen_and_serve(&s, level, &e);
    engine_free(s.en); /* its callbacks knock at the server, so it goes first */
    server_free(s.server);
    cli_model_close(&s.spec.draft);
    cli_model_close(&s.m);
    cli_loras_deinit(&s.loras);
    mem_free(s.adapters);
    return st == OK ? CLI_OK : cli_fail(&e);
}

int cmd_serve(int argc, char **argv) {
    ServeCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0) rc = serve(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}
