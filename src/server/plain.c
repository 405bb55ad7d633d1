/* SPDX-License-Identifier: Apache-2.0
 * Answers of the short routes: /complete, /generate, /inference, /v1/generate. With "stream": true each piece of
 * text is an event {"text"}, and the whole answer the last one before [DONE]. */
#include "base/clock.h"
#include "server/internal.h"

static double seconds(const Job *j) { return (double)(clock_now_ns() - j->t_start_ns) * 1e-9; }

static double rounded(double v, double per) { return (double)(int64_t)(v * per + 0.5) / per; }

static void put_text(JsonW *w, const char *key, const AnswerSample *a) {
    jw_str(w, key, (Slice){sb_str(&a->text), a->text.n});
}

/* The n texts of a request for several. */
static void put_texts(JsonW *w, const char *key, const Job *j) {
    if (server__n_choices(j) < 2) return;
    jw_arr(w, key);
    for (int i = 0; i < server__n_choices(j); i++) put_text(w, NULL, server__choice(j, i));
    jw_end_arr(w);
}

static void part(Job *j, int choice, const AnswerPart *p) {
    JsonW w;
    if (!j->q.stream || p->text.n == 0) return;
    sb_puts(&j->out, "data: ");
    jw_init(&w, &j->out);
    jw_obj(&w, NULL);
    if (j->n_samples > 1) jw_int(&w, "index", choice);
    jw_str(&w, "text", p->text);
    jw_end_obj(&w);
    sb_puts(&j->out, "\n\n");
}

static void open_answer(JsonW *w, Job *j) {
    if (j->q.stream) sb_puts(&j->out, "data: ");
    jw_init(w, &j->out);
    jw_obj(w, NULL);
}

static void close_answer(JsonW *w, Job *j) {
    jw_cstr(w, "request_id", j->request_id);
    jw_end_obj(w);
    if (j->q.stream) sb_puts(&j->out, "\n\ndata: [DONE]\n\n");
}

static void end_complete(Job *j) {
    JsonW w;
    open_answer(&w, j);
    put_text(&w, "completion", server__choice(j, 0));
    put_texts(&w, "completions", j);
    jw_int(&w, "tokens", server__usage(j).completion);
    jw_num(&w, "latency_ms", rounded(seconds(j) * 1000, 100));
    close_answer(&w, j);
}

static void end_generate(Job *j) {
    JsonW w;
    Usage u = server__usage(j);
    open_answer(&w, j);
    put_text(&w, "output", server__choice(j, 0));
    put_text(&w, "text", server__choice(j, 0));
    put_texts(&w, "outputs", j);
    jw_cstr(&w, "finish_reason", server__finish_word(server__choice(j, 0)->why));
    jw_cstr(&w, "model", j->adapter ? j->adapter : j->server->cfg.model);
    server__put_usage(&w, "usage", &u);
    jw_num(&w, "latency_ms", rounded(seconds(j) * 1000, 100));
    close_answer(&w, j);
}

static void end_inference(Job *j) {
    JsonW w;
    open_answer(&w, j);
    put_text(&w, "response", server__choice(j, 0));
    put_texts(&w, "responses", j);
    jw_num(&w, "inference_time", rounded(seconds(j), 1e6));
    jw_int(&w, "tokens_generated", server__usage(j).completion);
    jw_cstr(&w, "model", j->adapter ? j->adapter : j->server->cfg.model);
    close_answer(&w, j);
}

const JobWriter server__write_complete = {.part = part, .end = end_complete};
const JobWriter server__write_generate = {.part = part, .end = end_generate};
const JobWriter server__write_inference = {.part = part, .end = end_inference};
