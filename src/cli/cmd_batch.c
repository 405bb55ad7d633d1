/* SPDX-License-Identifier: Apache-2.0
 * ingot batch: a file of requests answered by a model into another file. The lines go the way of a server's requests
 * (server.h, server_call) with nobody listening; the main thread runs its loop, reads lines and writes answers. */
#include <signal.h>
#include <stdio.h>

#include "api/batch_run.h"
#include "base/clock.h"
#include "base/io.h"
#include "cli/cli.h"
#include "cli/lora.h"
#include "cli/model.h"
#include "server/server.h"

enum { SPARE = 4, MAX_TRIES = 5, MAX_QUEUE = 65536 };

typedef struct BatchCmd {
    const char *model, *in, *out, *kv, *model_name, *chat_template, *model_key;
    int64_t threads, max_seqs, ctx, chunk, prep_threads;
    bool batch_invariant, no_pack, json, quiet;
    OptList lora;
    double utilization;
} BatchCmd;

#define AT(field) offsetof(BatchCmd, field)
static const OptSpec opts[] = {
    {.key = "model",
     .letter = 'm',
     .type = OPT_STR,
     .offset = AT(model),
     .metavar = "FILE",
     .help = "the model, if it is not the first word"},
    {.key = "input",
     .letter = 'i',
     .type = OPT_STR,
     .offset = AT(in),
     .metavar = "FILE",
     .help = "the requests, if they are not among the words"},
    {.key = "output",
     .letter = 'o',
     .type = OPT_STR,
     .offset = AT(out),
     .metavar = "FILE",
     .help = "the answers, likewise"},
    {.key = "served_model_name",
     .type = OPT_STR,
     .offset = AT(model_name),
     .metavar = "NAME",
     .help = "what answers call the model; without it, the file's name"},
    {.key = "max_seqs",
     .type = OPT_INT,
     .offset = AT(max_seqs),
     .def = "16",
     .min = 1,
     .max = 4096,
     .help = "requests generated together; fewer where memory does not allow them"},
    CLI_CTX_OPT(AT(ctx)),
    {.key = "prefill_chunk",
     .type = OPT_INT,
     .offset = AT(chunk),
     .def = "512",
     .min = 1,
     .max = 65536,
     .help = "prompt tokens computed together"},
    {.key = "memory_utilization",
     .type = OPT_FLOAT,
     .offset = AT(utilization),
     .def = "0.9",
     .min = 0.05,
     .max = 1,
     .help = "share of the memory that weights, KV cache and activations may take together"},
    CLI_KV_OPT(AT(kv)),
    {.key = "chat_template",
     .type = OPT_STR,
     .offset = AT(chat_template),
     .metavar = "FILE",
     .help = "a Jinja template, instead of the model's own"},
    {.key = "lora",
     .type = OPT_LIST,
     .offset = AT(lora),
     .metavar = "[NAME=]FILE[:SCALE]",
     .help = CLI_LORA_HELP ", for requests whose \"model\" is NAME; may be given several times"},
    {.key = "prep_threads",
     .type = OPT_INT,
     .offset = AT(prep_threads),
     .def = "2",
     .min = 1,
     .max = 64,
     .help = "threads that read requests: JSON, templates, tokens, grammars"},
    {.key = "json", .type = OPT_BOOL, .offset = AT(json), .help = "a summary as JSON, on stdout"},
    CLI_QUIET_OPT(AT(quiet)),
    CLI_INVARIANT_OPT(AT(batch_invariant)),
    CLI_NO_PACK_OPT(AT(no_pack)),
    CLI_THREADS_OPT(AT(threads)),
    CLI_MODEL_KEY_OPT(AT(model_key)),
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot batch MODEL.gguf IN.jsonl OUT.jsonl [options]",
    .about =
        "Answers a file of requests. Each line of the input is one, as OpenAI's batches have it:\n"
        "  {\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", "
        "\"body\": "
        "{...}}\n"
        "with the url and body of /v1/chat/completions, /v1/completions, /v1/embeddings or "
        "/v1/responses. Each\n"
        "gets a line of the output, in the order in which they are done:\n"
        "  {\"id\", \"custom_id\", \"response\": {\"status_code\", \"request_id\", \"body\"}, "
        "\"error\"}\n"
        "A line that is wrong gets an error there, and the others go on. The same command again "
        "goes "
        "on after an\n"
        "interruption of any kind: what is in the output is not done again, what is not is done.\n"
        "\n"
        "example:\n"
        "  ingot batch model.gguf questions.jsonl answers.jsonl",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 0,
    .max_pos = 3,
};

typedef struct Batching Batching;

/* A line on its way. */
typedef struct Slot {
    Batching *b;
    BatchTask task;
    int n_tries;
    bool busy;
} Slot;

struct Batching {
    const BatchCmd *c;
    CliModel m;
    CliLoras loras;
    const char **adapters; /* owned; names borrowed from loras */
    char name[128];
    EngineOpts eo;
    Chat *chat;
    GrammarVocab *vocab;
    Engine *en;
    Server *server;
    BatchRun *run;
    Slot *slot; /* owned; [n_slot] */
    int n_slot, n_busy;
    CliBar bar;
    double t_start;
    int64_t n_prompt, n_new;
    Status st; /* of writing */
    Err err;
};

/* ---- the model ---- */

static Status open_template(Batching *b, Err *e) {
    enum { MAX_TEMPLATE = 1 << 20 };
    StrBuf text = {0};
    if (!b->c->chat_template) return chat_new(&b->chat, b->m.tok, e);
    Status st = io_read_file(&text, b->c->chat_template, MAX_TEMPLATE, e);
    if (st == OK) st = chat_new_text(&b->chat, (Slice){sb_str(&text), text.n}, b->m.tok, e);
    sb_deinit(&text);
    return st;
}

/* As many requests at a time as memory allows. */
static Status plan(Batching *b, Err *e) {
    const BatchCmd *c = b->c;
    char have[32], want[32];
    size_t bytes = 0;
    double most = c->utilization * (double)mem_limit_bytes() - (double)model_weight_bytes(b->m.m);
    b->eo = (EngineOpts){.max_seqs = (int)c->max_seqs,
                         .max_ctx = cli_ctx(c->ctx, b->m.m->cfg.ctx),
                         .prefill_chunk = (int)c->chunk,
                         .itl_target_ms = 3600000, /* nobody reads along */
                         .max_queue = MAX_QUEUE,
                         .max_queue_tok = INT64_MAX,
                         .kv_type = cli_kv_type(c->kv),
                         .vocab = b->vocab,
                         .tok = b->m.tok};
    TRY(cli_loras_plan(&b->eo, &b->loras, &b->m.m->cfg, e));
    for (;; b->eo.max_seqs /= 2) {
        TRY(engine_plan_bytes(&bytes, &b->m.m->cfg, &b->eo, e));
        if ((double)bytes <= most) return OK;
        if (b->eo.max_seqs == 1)
            return err_set(e, ERR_NOMEM,
                           "a request of %d tokens takes %s besides the weights, %s may be taken: "
                           "choose a smaller --ctx",
                           b->eo.max_ctx, cli_bytes(want, (double)bytes), cli_bytes(have, most));
    }
}

static Status list_names(Batching *b, Err *e) {
    TRY(cli_loras_parse(&b->loras, &b->c->lora, e));
    if (b->c->model_name) snprintf(b->name, sizeof b->name, "%s", b->c->model_name);
    else cli_lora_stem(b->name, sizeof b->name, b->c->model);
    b->adapters = mem_new_n(const char *, (size_t)b->loras.n + 1);
    if (!b->adapters) return err_set(e, ERR_NOMEM, "names of adapters");
    for (int i = 0; i < b->loras.n; i++) b->adapters[i] = b->loras.v[i].name;
    return OK;
}

static Status load(Batching *b, Err *e) {
    DeviceOpts o = {.n_threads = cli_threads(b->c->threads),
                    .batch_invariant = b->c->batch_invariant,
                    .no_pack = b->c->no_pack};
    TRY(list_names(b, e));
    TRY(cli_model_open(&b->m, b->c->model, o, e));
    TRY(open_template(b, e));
    TRY(grammar_vocab_new(&b->vocab, b->m.tok, e));
    TRY(plan(b, e));
    TRY(engine_new(&b->en, b->m.m, &b->eo, e));
    TRY(cli_loras_load(b->en, &b->loras, e));
    ServerConfig sc = {.engine = engine_door(b->en),
                       .tok = b->m.tok,
                       .chat = b->chat,
                       .vocab = b->vocab,
                       .model = b->name,
                       .adapters = b->adapters,
                       .n_adapters = b->loras.n,
                       .n_embd = b->m.m->cfg.C,
                       .n_prep = (int)b->c->prep_threads,
                       .version = CLI_VERSION,
                       .live = {.limits = {.max_held_bytes = SIZE_MAX / 8}}}; /* all are ours */
    return server_new(&b->server, &sc, e);
}

/* ---- lines ---- */

static void show(Batching *b) {
    char tail[64];
    BatchCounts n = batches_run_counts(b->run);
    double seconds = MAX(clock_now_s() - b->t_start, 1e-3);
    snprintf(tail, sizeof tail, "%lld errors  %.0f tok/s", (long long)n.n_failed,
             (double)b->n_new / seconds);
    cli_bar_update(&b->bar, (double)(n.n_ok + n.n_failed), (double)n.n_lines, tail);
}

static void on_answer(void *ctx, const ServerAnswer *a);

static Status ask(Slot *s, Err *e) {
    ServerTicket *t;
    ServerCall call = {.path = slice_of(s->task.url),
                       .body = {sb_str(&s->task.body), s->task.body.n},
                       .done = on_answer,
                       .ctx = s};
    return server_call(&t, s->b->server, &call, e);
}

/* The next line into a free slot; without one, the slot stays free. */
static Status begin(Slot *s, Err *e) {
    Batching *b = s->b;
    s->n_tries = 0;
    TRY(batches_run_next(&s->busy, &s->task, b->run, e));
    if (!s->busy) return OK;
    b->n_busy++;
    return ask(s, e);
}

static Status end(Slot *s, const ServerAnswer *a, Err *e) {
    Batching *b = s->b;
    b->n_prompt += a->n_prompt;
    b->n_new += a->n_completion;
    BatchAnswer line = {.status = a->status, .request_id = a->request_id, .body = a->body};
    TRY(batches_run_put(b->run, &s->task, &line, e));
    TRY(batches_run_sync(b->run, e));
    batches_task_deinit(&s->task);
    s->busy = false;
    b->n_busy--;
    show(b);
    return OK;
}

static void on_answer(void *ctx, const ServerAnswer *a) {
    Slot *s = ctx;
    Batching *b = s->b;
    Status st = OK;
    if (b->st != OK) return;
    if (a->again && ++s->n_tries < MAX_TRIES) {
        st = ask(s, &b->err);
    } else {
        st = end(s, a, &b->err);
        if (st == OK) st = begin(s, &b->err);
        if (st == OK && b->n_busy == 0) st = batches_run_sync(b->run, &b->err);
    }
    b->st = st;
    if (st != OK || b->n_busy == 0) server_stop(b->server);
}

static Server *volatile stop_target;

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

static Status answer_all(Batching *b, Err *e) {
    b->n_slot = b->eo.max_seqs + SPARE;
    b->slot = mem_new_n(Slot, (size_t)b->n_slot);
    if (!b->slot) return err_set(e, ERR_NOMEM, "%d lines", b->n_slot);
    b->t_start = clock_now_s();
    cli_bar_init(&b->bar, "batch", "lines", 1, b->c->quiet);
    show(b);
    for (int i = 0; i < b->n_slot; i++) {
        b->slot[i].b = b;
        TRY(begin(&b->slot[i], e));
    }
    TRY(batches_run_sync(b->run, e)); /* errors of lines that could not be read */
    if (b->n_busy == 0) return OK;
    catch_signals(b->server);
    Status st = server_run(b->server, 0, e);
    release_signals();
    if (st == OK && b->st != OK) {
        *e = b->err;
        st = b->st;
    }
    return st;
}

/* ---- the command ---- */

static int print_json(const Batching *b, BatchCounts n, double seconds) {
    StrBuf s = {0};
    JsonW w;
    jw_init(&w, &s);
    jw_obj(&w, NULL);
    jw_int(&w, "lines", n.n_lines);
    jw_int(&w, "done_before", n.n_found);
    jw_int(&w, "completed", n.n_ok);
    jw_int(&w, "failed", n.n_failed);
    jw_int(&w, "left", n.n_lines - n.n_ok - n.n_failed);
    jw_int(&w, "prompt_tokens", b->n_prompt);
    jw_int(&w, "completion_tokens", b->n_new);
    jw_num(&w, "seconds", (double)(int64_t)(seconds * 1000) / 1000);
    jw_end_obj(&w);
    int rc = cli_print_json(&s);
    sb_deinit(&s);
    return rc;
}

static int report(const Batching *b, Status st, const Err *e) {
    BatchCounts n = batches_run_counts(b->run);
    char span[24];
    double seconds = b->t_start > 0 ? clock_now_s() - b->t_start : 0;
    int rc = st == OK ? CLI_OK : cli_fail(e);
    bool done = batches_is_done(n);
    if (!b->c->quiet && st == OK)
        fprintf(stderr,
                "%s: %lld of %lld lines, %lld of them errors, %lld were done before, in %s\n",
                done ? "done" : "stopped; the same command goes on",
                (long long)(n.n_ok + n.n_failed), (long long)n.n_lines, (long long)n.n_failed,
                (long long)n.n_found, clock_format_span(span, seconds));
    if (b->c->json && print_json(b, n, seconds) != CLI_OK) return CLI_FAIL;
    return rc == CLI_OK && !done ? CLI_FAIL : rc;
}

static void close_all(Batching *b) {
    engine_free(b->en); /* its callbacks knock at the server, so it goes first */
    server_free(b->server);
    for (int i = 0; i < b->n_slot; i++) batches_task_deinit(&b->slot[i].task);
    mem_free(b->slot);
    batches_run_close(b->run);
    chat_free(b->chat);
    grammar_vocab_free(b->vocab);
    cli_model_close(&b->m);
    cli_loras_deinit(&b->loras);
    mem_free(b->adapters);
}

static int batch(const BatchCmd *c) {
    Err e = {0};
    Batching b = {.c = c};
    BatchRunConfig rc = {.in = c->in, .out = c->out, .allows = server_call_allows, .locked = true};
    Status st = batches_run_open(&b.run, &rc, &e);
    if (st != OK) return cli_fail(&e);
    if (!batches_is_done(batches_run_counts(b.run))) {
        st = load(&b, &e);
        if (st == OK) st = answer_all(&b, &e);
        if (b.slot) cli_bar_finish(&b.bar);
    }
    int code = report(&b, st, &e);
    close_all(&b);
    return code;
}

/* MODEL IN OUT, as words from the left for what no option gives. */
static bool take_words(BatchCmd *c, const OptList *words) {
    const char **want[] = {&c->model, &c->in, &c->out};
    int k = 0;
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        if (!*want[i] && k < words->n) *want[i] = words->v[k++];
    }
    return k == words->n;
}

int cmd_batch(int argc, char **argv) {
    BatchCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && !take_words(&c, &a.pos))
        rc = cli_usage(&spec, "one word too many: %s", a.pos.v[a.pos.n - 1]);
    if (rc < 0 && (!c.model || !c.in || !c.out))
        rc = cli_usage(&spec, "an argument is missing: %s", spec.usage);
    if (rc < 0) rc = batch(&c);
    cli_args_deinit(&a);
    return rc;
}
