/* SPDX-License-Identifier: Apache-2.0 */
#include "load/answer.h"

#include <stdio.h>
#include <strings.h>

#include "load/wire.h"

enum { MAX_BODY = 8 << 20, MAX_REFUSAL = 4096 };

static const struct {
    const char *name, *words;
} ends[LOAD_ENDS] = {
    [LOAD_OK] = {"ok", "answered"},
    [LOAD_UNKNOWN_HOST] = {"unknown_host", "the name is not known"},
    [LOAD_REFUSED] = {"refused", "connection refused"},
    [LOAD_UNREACHED] = {"unreached", "cannot connect"},
    [LOAD_TLS] = {"tls", "TLS, the certificate"},
    [LOAD_TIMEOUT] = {"timeout", "no answer in time"},
    [LOAD_BROKEN] = {"broken", "the connection broke"},
    [LOAD_429] = {"status_429", "429, too many requests"},
    [LOAD_503] = {"status_503", "503, not available"},
    [LOAD_4XX] = {"status_4xx", "refused as wrong (4xx)"},
    [LOAD_5XX] = {"status_5xx", "failed in the server (5xx)"},
    [LOAD_STATUS] = {"status_other", "another status"},
    [LOAD_CUT] = {"cut", "the answer was cut off"},
    [LOAD_BAD_JSON] = {"bad_json", "bad JSON"},
    [LOAD_NO_DONE] = {"no_done", "a stream without [DONE]"},
    [LOAD_ERROR_EVENT] = {"error_event", "an error within the stream"},
    [LOAD_EMPTY] = {"empty", "no text"},
    [LOAD_TOO_LONG] = {"too_long", "an answer over the limit"},
    [LOAD_STOPPED] = {"stopped", "stopped here"},
    [LOAD_OTHER] = {"other", "something else"},
};

const char *load_end_name(LoadEnd end) { return ends[end].name; }
const char *load_end_words(LoadEnd end) { return ends[end].words; }

int64_t load_one_tokens(const LoadOne *o) { return o->n_out >= 0 ? o->n_out : o->n_event; }

uint64_t load_one_tpot(const LoadOne *o) {
    int64_t n = load_one_tokens(o);
    if (o->first == 0 || n < 2) return 0;
    return (o->last - o->first) / (uint64_t)(n - 1);
}

void load_answer_start(LoadAnswer *a, uint64_t id, uint64_t plan, LoadHist *itl) {
    load_sse_clear(&a->sse);
    sb_clear(&a->body);
    a->one = (LoadOne){.id = id, .plan = plan, .n_prompt = -1, .n_out = -1};
    a->itl = itl;
    a->streaming = a->done = false;
    a->n_text = 0;
}

void load_answer_deinit(LoadAnswer *a) {
    load_sse_deinit(&a->sse);
    sb_deinit(&a->body);
}

void load_answer_head(LoadAnswer *a, int status, Slice type) {
    static const char SSE[] = "text/event-stream";
    a->one.status = status;
    a->streaming =
        status == 200 && type.n >= sizeof SSE - 1 && strncasecmp(type.p, SSE, sizeof SSE - 1) == 0;
}

static void fail(LoadAnswer *a, LoadEnd end, const char *why) {
    if (a->one.end != LOAD_OK) return;
    a->one.end = end;
    snprintf(a->one.why, sizeof a->one.why, "%s", why);
}

static void take_tokens(LoadOne *o, const LoadSaid *s) {
    if (s->n_prompt >= 0) o->n_prompt = s->n_prompt;
    if (s->n_out >= 0) o->n_out = s->n_out;
}

static void take_text(LoadAnswer *a) {
    LoadOne *o = &a->one;
    if (o->first == 0) o->first = a->now;
    else {
        uint64_t gap = a->now - o->last;
        o->gap_max = MAX(o->gap_max, gap);
        if (a->itl) load_hist_add(a->itl, gap);
    }
    o->last = a->now;
    o->n_event++;
    a->n_text++;
}

static Status take_event(void *ctx, Slice data, Err *e) {
    LoadAnswer *a = ctx;
    LoadSaid s;
    if (a->done) return OK; /* what follows [DONE] is nobody's */
    if (slice_eq_str(data, "[DONE]")) {
        a->done = true;
        return OK;
    }
    Err why = {0};
    if (load_read_said(&s, data, &why) != OK) {
        fail(a, LOAD_BAD_JSON, why.msg);
        return err_set(e, ERR_FORMAT, "an event is no JSON: %s", why.msg);
    }
    if (s.error) {
        fail(a, LOAD_ERROR_EVENT, s.why);
        return err_set(e, ERR_FORMAT, "%s", s.why);
    }
    take_tokens(&a->one, &s);
    if (s.text && !s.last) take_text(a);
    return OK;
}

Status load_answer_bytes(LoadAnswer *a, uint64_t now, Slice in, Err *e) {
    a->now = now;
    if (a->streaming) {
        Status st = load_sse_feed(&a->sse, in, take_event, a, e);
        if (st == ERR_FULL) fail(a, LOAD_TOO_LONG, e ? e->msg : "");
        return st;
    }
    size_t most = a->one.status == 200 ? MAX_BODY : MAX_REFUSAL;
    size_t n = MIN(in.n, most - MIN(most, a->body.n));
    sb_put(&a->body, in.p, n);
    if (n < in.n && a->one.status == 200) {
        fail(a, LOAD_TOO_LONG, "the answer has over 8 MB");
        return err_set(e, ERR_FULL, "the answer has over %d bytes", MAX_BODY);
    }
    return sb_check(&a->body, e);
}

static LoadEnd end_of_status(int status) {
    if (status == 429) return LOAD_429;
    if (status == 503) return LOAD_503;
    if (status >= 400 && status < 500) return LOAD_4XX;
    return status >= 500 ? LOAD_5XX : LOAD_STATUS;
}

static void end_refusal(LoadAnswer *a) {
    LoadSaid s;
    StrBuf b = {0};
    Slice body = {sb_str(&a->body), a->body.n};
    sb_printf(&b, "status %d", a->one.status);
    if (load_read_said(&s, body, NULL) == OK && s.error) sb_printf(&b, ": %s", s.why);
    else if (body.n > 0) {
        sb_puts(&b, ": ");
        sb_put_quoted(&b, body, 120);
    }
    fail(a, end_of_status(a->one.status), sb_str(&b));
    sb_deinit(&b);
}

static void end_whole(LoadAnswer *a) {
    LoadSaid s;
    Err why = {0};
    if (load_read_said(&s, (Slice){sb_str(&a->body), a->body.n}, &why) != OK) {
        fail(a, LOAD_BAD_JSON, why.msg);
        return;
    }
    take_tokens(&a->one, &s);
    if (s.error) fail(a, LOAD_ERROR_EVENT, s.why);
    else if (!s.text && a->one.n_out <= 0) fail(a, LOAD_EMPTY, "the answer has no text");
}

static void end_stream(LoadAnswer *a) {
    if (!a->done) {
        char why[100];
        snprintf(why, sizeof why, "the stream ended without [DONE] after %lld events with text",
                 (long long)a->one.n_event);
        fail(a, LOAD_NO_DONE, why);
    } else if (a->one.first == 0) {
        fail(a, LOAD_EMPTY, "the stream has no text");
    }
}

void load_answer_end(LoadAnswer *a, uint64_t now, LoadEnd fault, const char *why) {
    LoadOne *o = &a->one;
    o->stop = now;
    if (fault == LOAD_BROKEN && o->status == 200) fault = LOAD_CUT;
    if (fault != LOAD_OK) fail(a, fault, why);
    else if (o->status != 200) end_refusal(a);
    else if (a->streaming) end_stream(a);
    else end_whole(a);
}
