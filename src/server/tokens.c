/* SPDX-License-Identifier: Apache-2.0
 * /tokenize and /detokenize: made whole while preparing. */
#include "server/prepare.h"

static Status read_tokens(TokBuf *ids, Job *j, Err *e) {
    const Tokenizer *t = j->server->cfg.tok;
    if (j->q.messages) return server__chat_tokens(ids, j, e);
    j->param = "prompt";
    if (!json_get(j->json, "prompt") && !json_get(j->json, "content"))
        return err_set(e, ERR_ARG, "prompt: field required, or messages");
    if (j->q.add_special && tok_bos(t) >= 0) tokbuf_push(ids, tok_bos(t));
    TRY(tok_encode(t, j->q.prompt_text, false, ids, e));
    if (ids->failed) return err_set(e, ERR_NOMEM, "tokens");
    j->param = NULL;
    return OK;
}

Status server__prepare_tokenize(Job *j, Err *e) {
    TokBuf ids = {0};
    JsonW w;
    Status st = read_tokens(&ids, j, e);
    jw_init(&w, &j->out);
    jw_obj(&w, NULL);
    jw_int(&w, "count", (int64_t)ids.n);
    jw_int(&w, "max_model_len", j->server->cfg.engine.max_ctx);
    jw_arr(&w, "tokens");
    for (size_t i = 0; st == OK && i < ids.n; i++) jw_int(&w, NULL, ids.v[i]);
    jw_end_arr(&w);
    if (j->q.return_strs) jw_arr(&w, "token_strs");
    for (size_t i = 0; st == OK && j->q.return_strs && i < ids.n; i++)
        jw_str(&w, NULL, tok_text(j->server->cfg.tok, ids.v[i]));
    if (j->q.return_strs) jw_end_arr(&w);
    jw_end_obj(&w);
    tokbuf_deinit(&ids);
    return st;
}

Status server__prepare_detokenize(Job *j, Err *e) {
    const Tokenizer *t = j->server->cfg.tok;
    TokBuf ids = {0};
    StrBuf text = {0};
    JsonW w;
    Status st = server__read_ids(&ids, j->q.tokens, "tokens", tok_n_vocab(t), e);
    if (st == OK) st = tok_decode(t, ids.v, ids.n, &text, e);
    jw_init(&w, &j->out);
    jw_obj(&w, NULL);
    jw_str(&w, "prompt", (Slice){sb_str(&text), text.n});
    jw_str(&w, "content", (Slice){sb_str(&text), text.n});
    jw_end_obj(&w);
    if (text.failed) j->out.failed = true;
    sb_deinit(&text);
    tokbuf_deinit(&ids);
    return st;
}

static void end(Job *j) { (void)j; }

const JobWriter server__write_made = {.end = end};
