/* SPDX-License-Identifier: Apache-2.0 */
#include "load/probe.h"

#include "base/clock.h"
#include "text/json.h"

enum { SHORT_WORDS = 16, LONG_WORDS = 176, STREAM = 0x70726F62 };

/* Scheme, host and port. */
static void put_origin(StrBuf *b, const char *url) {
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    sb_put(b, url, (size_t)(host - url) + strcspn(host, "/?#"));
}

static NetRequest request_of(const LoadPlan *p, const char *method, const char *url) {
    return (NetRequest){.method = method,
                        .url = url,
                        .headers = p->header,
                        .n_headers = p->n_header,
                        .secrets = p->secret,
                        .n_secrets = p->n_secret,
                        .timeout_ms = (int)(p->timeout_s * 1000),
                        .max_reply = 8 << 20,
                        .no_redirects = true};
}

void load_probe_model(StrBuf *out, NetClient *net, const LoadPlan *p) {
    NetAnswer a = {0};
    StrBuf url = {0};
    Json *j = NULL;
    put_origin(&url, p->url);
    sb_puts(&url, "/v1/models");
    NetRequest rq = request_of(p, "GET", sb_str(&url));
    if (net_ask(&a, net, &rq, NULL) == OK && a.status == 200 &&
        json_parse(&j, (Slice){sb_str(&a.body), a.body.n}, NULL) == OK) {
        Slice id = json_str(json_get(json_at(json_get(j, "data"), 0), "id"));
        sb_put(out, id.p, id.n);
    }
    json_free(j);
    net_answer_deinit(&a);
    sb_deinit(&url);
}

static Status read_answer(int64_t *n_prompt, const LoadPlan *p, const NetAnswer *a, Err *e) {
    LoadAnswer x = {.done = false};
    Slice body = {sb_str(&a->body), a->body.n};
    load_answer_start(&x, 0, 0, NULL);
    load_answer_head(&x, a->status, net_answer_header(a, "content-type"));
    Status st = load_answer_bytes(&x, clock_now_ns(), body, e);
    if (st == OK) load_answer_end(&x, clock_now_ns(), LOAD_OK, "");
    *n_prompt = x.one.n_prompt;
    LoadEnd end = x.one.end;
    if (st == OK && end != LOAD_OK && end != LOAD_EMPTY)
        st = err_set(e, ERR_IO, "%.100s: %s", p->url, x.one.why);
    load_answer_deinit(&x);
    return st;
}

/* Ask a prompt of so many words for one token. */
static Status ask(int64_t *n_prompt, NetClient *net, const LoadPlan *p, int64_t n_words, Err *e) {
    StrBuf text = {0}, body = {0};
    NetAnswer a = {0};
    LoadAsk q = p->ask;
    load_put_words(&text, clock_now_ns(), STREAM, n_words);
    q.prompt = (Slice){sb_str(&text), text.n};
    q.messages = (Slice){"", 0};
    q.max_tokens = 1;
    q.stream = false;
    load_put_body(&body, &q);
    NetRequest rq = request_of(p, "POST", p->url);
    rq.body = (Slice){sb_str(&body), body.n};
    Status st = sb_check(&body, e);
    if (st == OK) st = net_ask(&a, net, &rq, e);
    if (st == OK) st = read_answer(n_prompt, p, &a, e);
    net_answer_deinit(&a);
    sb_deinit(&text);
    sb_deinit(&body);
    return st;
}

Status load_probe_tokens(LoadPrompts *fit, NetClient *net, const LoadPlan *p, Err *e) {
    int64_t few = -1, many = -1;
    TRY(ask(&few, net, p, SHORT_WORDS, e));
    if (few < 0) return OK;
    TRY(ask(&many, net, p, LONG_WORDS, e));
    double per = (double)(many - few) / (LONG_WORDS - SHORT_WORDS);
    if (!(per >= 0.1 && per <= 100)) return OK; /* it cuts long prompts off, or counts otherwise */
    fit->per_word = per;
    fit->overhead = (double)few - per * SHORT_WORDS;
    if (fit->overhead < 0) fit->overhead = 0;
    return OK;
}
