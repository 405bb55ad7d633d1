/* SPDX-License-Identifier: Apache-2.0
 * The handle of a model: loading, tokens, and what all of embed/ needs to speak to its callers. */
#include <limits.h>

#include "embed/internal.h"

enum { DEFAULT_CTX = 4096, DEFAULT_PARALLEL = 4 };

_Static_assert(INGOT_NOMEM == (int)ERR_NOMEM && INGOT_ARG == (int)ERR_ARG &&
                   INGOT_CANCELLED == (int)ERR_CANCELLED && INGOT_INTERNAL == (int)ERR_INTERNAL,
               "the codes are those of Status");
_Static_assert(sizeof((IngotError){0}.text) >= sizeof((Err){0}.msg), "a message fits");

const char *ingot_version(void) { return INGOT_VERSION; }

Status ingot__take_struct(void *out, size_t n_out, size_t n_first, const void *in, const char *name,
                          Err *e) {
    size_t n;
    if (!in) return err_set(e, ERR_ARG, "%s: it is NULL", name);
    memcpy(&n, in, sizeof n);
    if (n != n_out && n != n_first)
        return err_set(e, ERR_ARG, "%s: its size is %zu, not %zu: set it to sizeof(%s)", name, n,
                       n_out, name);
    memcpy(out, in, n);
    return OK;
}

int ingot__give(Status st, const Err *err, IngotError *e) {
    if (st == OK || !e) return (int)st;
    size_t n = strlen(err->msg);
    e->code = (int)st;
    memcpy(e->text, err->msg, n + 1);
    return (int)st;
}

/* ---- loading ---- */

static Status check_options(const IngotOptions *o, Err *e) {
    if (o->threads < 0 || o->threads > 4096)
        return err_set(e, ERR_ARG, "threads %d is out of range: 0 to 4096", o->threads);
    if (o->parallel < 0) return err_set(e, ERR_ARG, "parallel %d is below 0", o->parallel);
    if (o->context < 0) return err_set(e, ERR_ARG, "context %d is below 0", o->context);
    if (o->kv_type < INGOT_KV_F16 || o->kv_type > INGOT_KV_F32)
        return err_set(e, ERR_ARG, "kv_type %d is out of range: %d to %d", o->kv_type, INGOT_KV_F16,
                       INGOT_KV_F32);
    return OK;
}

static KvType kv_type_of(int option) {
    return option == INGOT_KV_F32 ? KV_F32 : option == INGOT_KV_Q8_0 ? KV_Q8_0 : KV_F16;
}

static Status check_memory(const IngotModel *m, const EngineOpts *eo, Err *e) {
    size_t bytes = 0, limit = mem_limit_bytes();
    TRY(engine_plan_bytes(&bytes, &m->m->cfg, eo, e));
    if (bytes <= limit) return OK;
    return err_set(
        e, ERR_NOMEM,
        "%d requests of %d tokens take %zu MB, this machine has %zu MB: choose a smaller "
        "context",
        eo->max_seqs, eo->max_ctx, bytes >> 20, limit >> 20);
}

static Status open_parts(IngotModel *m, const char *path, const IngotOptions *o, Err *e) {
    DeviceOpts d = {.cpu = o->cpu,
                    .n_threads = o->threads,
                    .batch_invariant = o->batch_invariant != 0,
                    .no_pack = o->no_pack != 0};
    TRY(device_cpu_new(&m->dev, &d, e));
    TRY(model_load(&m->m, m->dev, path, e));
    TRY(tok_load(&m->tok, m->m->file, e));
    EngineOpts eo = {.max_seqs = o->parallel ? o->parallel : DEFAULT_PARALLEL,
                     .max_ctx = o->context ? o->context : MIN(m->m->cfg.ctx, DEFAULT_CTX),
                     .kv_type = kv_type_of(o->kv_type),
                     .tok = m->tok};
    TRY(check_memory(m, &eo, e));
    if (!o->no_grammars) TRY(grammar_vocab_new(&m->vocab, m->tok, e));
    eo.vocab = m->vocab;
    TRY(engine_new(&m->en, m->m, &eo, e));
    m->door = engine_door(m->en);
    return OK;
}

static Status load(IngotModel **out, const char *path, const IngotOptions *options, Err *e) {
    IngotOptions o = {0};
    if (!path) return err_set(e, ERR_ARG, "path is NULL");
    if (options) TRY(ingot__take_struct(&o, sizeof o, sizeof o, options, "IngotOptions", e));
    TRY(check_options(&o, e));
    IngotModel *m = mem_new(IngotModel);
    if (!m) return err_set(e, ERR_NOMEM, "model");
    Status st = open_parts(m, path, &o, e);
    if (st != OK) {
        if (!strstr(e->msg, path)) err_in(e, path);
        ingot_free(m);
        return st;
    }
    *out = m;
    return OK;
}

int ingot_load(IngotModel **out, const char *path, const IngotOptions *options, IngotError *e) {
    Err err = {0};
    return ingot__give(load(out, path, options, &err), &err, e);
}

void ingot_free(IngotModel *m) {
    if (!m) return;
    engine_free(m->en);
    grammar_vocab_free(m->vocab);
    tok_free(m->tok);
    model_free(m->m);
    device_free(m->dev);
    mem_free(m);
}

int ingot_context(const IngotModel *m) { return m->door.max_ctx; }

int ingot_vocab_size(const IngotModel *m) { return tok_n_vocab(m->tok); }

/* ---- tokens ---- */

static Status check_range(size_t n, Err *e) {
    return n <= INT_MAX ? OK
                        : err_set(e, ERR_ARG, "a text of %zu bytes, the limit is %d", n, INT_MAX);
}

int ingot_tokenize(const IngotModel *m, const char *text, long n_text, int flags, int *ids,
                   size_t max_ids, size_t *n_ids, IngotError *e) {
    Err err = {0};
    TokBuf b = {0};
    Slice s = {text, n_text < 0 ? strlen(text) : (size_t)n_text};
    Status st = check_range(s.n, &err);
    if ((flags & INGOT_BEGIN) && tok_bos(m->tok) >= 0) tokbuf_push(&b, tok_bos(m->tok));
    if (st == OK) st = tok_encode(m->tok, s, (flags & INGOT_SPECIAL) != 0, &b, &err);
    if (st == OK && b.failed) st = err_set(&err, ERR_NOMEM, "tokens of %zu bytes of text", s.n);
    for (size_t i = 0; st == OK && i < MIN(b.n, max_ids); i++) ids[i] = b.v[i];
    if (st == OK) *n_ids = b.n;
    tokbuf_deinit(&b);
    return ingot__give(st, &err, e);
}

int ingot_detokenize(const IngotModel *m, const int *ids, size_t n_ids, char *text, size_t max_text,
                     size_t *n_text, IngotError *e) {
    _Static_assert(sizeof(int) == sizeof(int32_t), "ids are taken as they lie");
    Err err = {0};
    StrBuf b = {0};
    Status st = tok_decode(m->tok, ids, n_ids, &b, &err);
    if (st == OK && max_text > 0) memcpy(text, sb_str(&b), MIN(b.n + 1, max_text));
    if (st == OK) *n_text = b.n;
    sb_deinit(&b);
    return ingot__give(st, &err, e);
}
