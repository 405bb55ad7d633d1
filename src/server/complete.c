/* SPDX-License-Identifier: Apache-2.0
 * POST /complete: code in, its continuation out. Fields are checked one by one, the text is cut to its
 * last tokens, and the rest is the engine's. */
#include "base/clock.h"
#include "base/rng.h"
#include "engine/stop.h"
#include "server/internal.h"
#include "text/utf8.h"

enum {
    MAX_PROMPT = 512, /* tokens of the text that are kept, counted from its end */
    MAX_NEW = 4096,
    MAX_SAMPLES = 16,
    TAIL_BYTES = 16 << 10, /* of the text that are looked at first */
    TAIL_SLACK = 64        /* tokens at the cut that may differ from those of the whole text */
};

typedef struct CompleteReq {
    Slice code; /* borrowed from the parsed body */
    int64_t max_tokens, n;
    SampleOpts sample;
    Slice stop[SAMPLE_MAX_STOPS]; /* borrowed from the parsed body */
    int n_stop;
} CompleteReq;

/* ---- reading the request ---- */

static size_t skip_blanks(Slice s, size_t i) {
    while (i < s.n && strchr(" \t\r\n", s.p[i]) && s.p[i] != '\0') i++;
    return i;
}

/* Does valid JSON `s` have the member `quoted` with the value null? Text inside of strings cannot match:
 * there the closing quote is escaped. */
static bool is_null_member(Slice s, const char *quoted) {
    size_t n = strlen(quoted);
    const char *at = s.p;
    while ((at = memmem(at, s.n - (size_t)(at - s.p), quoted, n)) != NULL) {
        size_t i = skip_blanks(s, (size_t)(at - s.p) + n);
        at += n;
        if (i >= s.n || s.p[i] != ':') continue;
        i = skip_blanks(s, i + 1);
        if (s.n - i >= 4 && memcmp(s.p + i, "null", 4) == 0) return true;
    }
    return false;
}

static uint64_t draw_seed(Server *s) {
    uint32_t w[4];
    rng_philox(w, s->seed_base, 0, s->n_seeds++);
    return (uint64_t)w[0] << 32 | w[1];
}

static Status read_sampling(SampleOpts *o, const Json *j, Slice body, Err *e) {
    int64_t seed = (int64_t)o->seed;
    TRY(json_opt_num(&o->temp, j, "temperature", 0, 100, e));
    TRY(json_opt_int(&o->top_k, j, "top_k", 0, INT32_MAX, e));
    if (!json_get(j, "top_k") && is_null_member(body, "\"top_k\"")) o->top_k = 0;
    TRY(json_opt_num(&o->top_p, j, "top_p", 0, 1, e));
    if (!(o->top_p > 0)) return err_set(e, ERR_ARG, "top_p: 0 is out of range, above 0 up to 1");
    TRY(json_opt_int(&seed, j, "seed", INT64_MIN, INT64_MAX, e));
    o->seed = (uint64_t)seed;
    return sample_check(o, e);
}

/* "stop": a string or a list of them. */
static Status read_stop(CompleteReq *q, const Json *j, Err *e) {
    const Json *v = json_get(j, "stop");
    if (!v) return OK;
    bool list = json_is_array(v);
    size_t n = list ? json_len(v) : 1;
    if (n > SAMPLE_MAX_STOPS)
        return err_set(e, ERR_ARG, "stop: %zu strings, the limit is %d", n, SAMPLE_MAX_STOPS);
    for (size_t i = 0; i < n; i++) {
        const Json *s = list ? json_at(v, i) : v;
        if (!json_is_str(s)) return err_set(e, ERR_ARG, "stop: a string or a list of strings");
        q->stop[i] = json_str(s);
    }
    q->n_stop = (int)n;
    return sample_stop_check(q->stop, q->n_stop, e);
}

static Status read_fields(CompleteReq *q, const Json *j, Slice body, Err *e) {
    if (!json_is_object(j)) return err_set(e, ERR_ARG, "body: an object is needed");
    TRY(json_opt_str(&q->code, j, "code", e));
    if (!q->code.p) return err_set(e, ERR_ARG, "code: field required");
    if (q->code.n == 0) return err_set(e, ERR_FORMAT, "No prompt provided");
    TRY(json_opt_int(&q->max_tokens, j, "max_tokens", 1, MAX_NEW, e));
    TRY(json_opt_int(&q->n, j, "n", 1, MAX_SAMPLES, e));
    TRY(read_stop(q, j, e));
    return read_sampling(&q->sample, j, body, e);
}

/* ---- the prompt ---- */

/* Ids of the end of `text`: all of them, or at least MAX_PROMPT that stand well clear of the cut. A long
 * text is not encoded whole, so that one request cannot hold the loop. */
static Status encode_tail(TokBuf *out, const Tokenizer *t, Slice text, Err *e) {
    for (size_t n = TAIL_BYTES;; n *= 8) {
        size_t skip = text.n > n ? text.n - n : 0;
        while (skip > 0 && skip < text.n && ((unsigned char)text.p[skip] & 0xc0) == 0x80) skip++;
        out->n = 0;
        TRY(tok_encode(t, (Slice){text.p + skip, text.n - skip}, false, out, e));
        if (skip == 0 || out->n >= MAX_PROMPT + TAIL_SLACK) return OK;
    }
}

/* prompt = [begin-of-text] + the last tokens that fit beside max_new. */
static Status make_prompt(TokBuf *prompt, const Server *s, const CompleteReq *q, Err *e) {
    int32_t bos = tok_bos(s->cfg.tok);
    int64_t room = s->cfg.engine.max_ctx - q->max_tokens - (bos >= 0 ? 1 : 0);
    if (room < 1) {
        return err_set(e, ERR_ARG,
                       "max_tokens: %lld leaves no room for a prompt, at most %lld fit this model",
                       (long long)q->max_tokens, (long long)(q->max_tokens + room - 1));
    }
    TokBuf all = {0};
    Status st = encode_tail(&all, s->cfg.tok, q->code, e);
    size_t keep = MIN(all.n, (size_t)MIN(room, MAX_PROMPT));
    if (st == OK && bos >= 0) tokbuf_push(prompt, bos);
    for (size_t i = all.n - keep; st == OK && i < all.n; i++) tokbuf_push(prompt, all.v[i]);
    if (st == OK && prompt->failed) st = err_set(e, ERR_NOMEM, "prompt of %zu tokens", keep);
    if (st == OK && keep == 0) st = err_set(e, ERR_FORMAT, "No prompt provided");
    tokbuf_deinit(&all);
    return st;
}

/* ---- the handler ---- */

static Status start(Server *s, HttpReq *r, const CompleteReq *q, uint64_t t_start_ns, Err *e) {
    TokBuf prompt = {0};
    Status st = make_prompt(&prompt, s, q, e);
    if (st == OK) {
        EngineReq er = {.prompt = prompt.v,
                        .n_prompt = (int)prompt.n,
                        .max_new = (int)q->max_tokens,
                        .sample = q->sample,
                        .timeout_s = s->cfg.timeout_s};
        AnswerOpts o = {.n = (int)q->n, .stop = q->stop, .n_stop = q->n_stop};
        st = server__job_start(s, r, &er, &o, t_start_ns, e);
    }
    tokbuf_deinit(&prompt);
    return st;
}

void server__post_complete(Server *s, HttpReq *r) {
    uint64_t t_start_ns = clock_now_ns();
    Slice body = http_body(r);
    Err e = {0};
    Json *j = NULL;
    CompleteReq q = {.max_tokens = 50, .n = 1, .sample = {.temp = 0.8, .top_k = 200, .top_p = 1}};
    q.sample.seed = draw_seed(s);
    Status st = json_parse(&j, body, &e);
    if (st == OK) st = read_fields(&q, j, body, &e);
    if (st == OK) st = start(s, r, &q, t_start_ns, &e);
    json_free(j);
    if (st != OK) server__reply_err(r, &e);
}

static void put_text(JsonW *w, const char *key, const AnswerSample *a) {
    jw_str(w, key, (Slice){sb_str(&a->text), a->text.n});
}

void server__complete_reply(Job *j) {
    StrBuf b = {0};
    JsonW w;
    int n = answer_n(j->answer);
    int64_t n_tok = 0;
    double ms = (double)(clock_now_ns() - j->t_start_ns) * 1e-6;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    put_text(&w, "completion", answer_sample(j->answer, 0));
    if (n > 1) jw_arr(&w, "completions");
    for (int i = 0; i < n; i++) {
        const AnswerSample *a = answer_sample(j->answer, i);
        n_tok += (int64_t)a->ids.n;
        if (n > 1) put_text(&w, NULL, a);
    }
    if (n > 1) jw_end_arr(&w);
    jw_int(&w, "tokens", n_tok);
    jw_num(&w, "latency_ms", (double)(int64_t)(ms * 100 + 0.5) / 100);
    jw_end_obj(&w);
    server__reply_json(j->req, 200, &b);
}
