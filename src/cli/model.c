/* SPDX-License-Identifier: Apache-2.0
 * Opening a model for a command. */
#include "cli/model.h"

#include "cli/cli.h"
#include "trust/trust.h"

/* ---- signatures ---- */

/* The bytes that were mapped to be run, or (g NULL) those of the path. */
static Status check_signed(const Gguf *g, const char *path, Err *e) {
    SignKey *key = NULL;
    CliBar bar;
    if (!cli_env.model_key) return OK;
    cli_bar_init(&bar, "verify", "MB", 1e-6, false);
    TrustOpts o = {.n_threads = cli_threads(0), .progress = cli_bar_count, .progress_ctx = &bar};
    TRY(sign_load_public(&key, cli_env.model_key, e));
    Status st = g ? trust_check_model(g, path, key, &o, e) : trust_check_file(path, key, &o, e);
    cli_bar_finish(&bar);
    sign_key_free(key);
    return st;
}

Status cli_model_check_file(const char *path, Err *e) { return check_signed(NULL, path, e); }

/* ---- models ---- */

static Status load(CliModel *out, const char *path, Err *e) {
    Gguf *g = NULL;
    TRY(gguf_open(&g, path, e));
    Status st = check_signed(g, path, e);
    if (st != OK) {
        gguf_close(g);
        return st;
    }
    TRY(model_load_file(&out->m, out->dev, g, e));
    return tok_load(&out->tok, out->m->file, e);
}

Status cli_model_open(CliModel *out, const char *path, DeviceOpts o, Err *e) {
    *out = (CliModel){0};
    o.cpu = cli_env.cpu;
    TRY(device_cpu_new(&out->dev, &o, e));
    Status st = load(out, path, e);
    if (st != OK && e && !strstr(e->msg, path)) err_in(e, path);
    return st;
}

Status cli_model_open_beside(CliModel *out, const CliModel *m, const char *path, Err *e) {
    *out = (CliModel){.dev = m->dev, .is_beside = true};
    Status st = load(out, path, e);
    if (st != OK && e && !strstr(e->msg, path)) err_in(e, path);
    return st;
}

void cli_model_close(CliModel *m) {
    tok_free(m->tok);
    model_free(m->m);
    if (!m->is_beside) device_free(m->dev);
    *m = (CliModel){0};
}

Status cli_model_encode(TokBuf *out, const CliModel *m, Slice text, bool parse_special, Err *e) {
    if (text.n == 0) return err_set(e, ERR_ARG, "the text is empty");
    if (tok_bos(m->tok) >= 0) tokbuf_push(out, tok_bos(m->tok));
    return tok_encode(m->tok, text, parse_special, out, e);
}

Status cli_speculate(EngineOpts *o, CliSpeculate *s, const CliModel *m, Err *e) {
    enum { LONGEST = 4 };
    if (!s->how) return OK;
    o->spec_k = (int)s->n_tok;
    if (strcmp(s->how, "ngram") == 0) {
        o->spec_ngram = LONGEST;
        return OK;
    }
    TRY(cli_model_open_beside(&s->draft, m, s->how, e));
    o->draft = s->draft.m;
    o->draft_tok = s->draft.tok;
    return OK;
}
