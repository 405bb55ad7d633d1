/* SPDX-License-Identifier: Apache-2.0
 * Answers over an engine that plays a script, and over a real one with a tiny model. */
#include "engine/answer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/fault.h"
#include "support/tiny_model.h"
#include "support/vocab_build.h"
#include "test.h"

/* ---- an engine by script: submit plays it at once ---- */

enum { MAX_SENT = 8 };

typedef struct Script {
    const char *text;   /* its bytes are the tokens; NULL: nothing happens until cancel */
    const int32_t *ids; /* instead of text, n_ids of them */
    int n_ids;
    int n_submits;
    FinishReason why;
    const char *err;
    int32_t stop_id;
    int n_cached, fail_at; /* submit number fail_at (from 1) is refused */
    EngineReq sent[MAX_SENT];
    bool open[MAX_SENT];
    int n_sent, n_cancels;
} Script;

static void finish(Script *s, int i, FinishReason why) {
    Err e = {0};
    const EngineReq *r = &s->sent[i];
    s->open[i] = false;
    if (s->stop_id >= 0) r->usage->stop_id = s->stop_id;
    if (s->err) err_set(&e, ERR_INTERNAL, "%s", s->err);
    grammar_free(r->grammar);
    r->on_done(r->ctx, why, why == FINISH_ERROR ? &e : NULL);
}

static void play(Script *s, int i) {
    const EngineReq *r = &s->sent[i];
    int n = s->ids ? s->n_ids : (int)strlen(s->text);
    for (int k = 0; k < n; k++) {
        SampleOut t = {.id = s->ids ? s->ids[k] : (unsigned char)s->text[k]};
        if (r->sample.logprobs) {
            t.logprob = -0.5 * k;
            t.rank = k + 1;
            t.n_top = (int)r->sample.top_logprobs;
            for (int j = 0; j < t.n_top; j++) t.top[j] = (SampleTop){100 * k + j, -j};
        }
        r->on_token(r->ctx, &t);
    }
    finish(s, i, s->why);
}

static Status script_submit(void *self, const EngineReq *r, uint64_t *id, Err *e) {
    Script *s = self;
    if (++s->n_submits == s->fail_at) return err_set(e, ERR_FULL, "no place");
    *id = (uint64_t)s->n_sent + 1;
    s->sent[s->n_sent] = *r;
    s->open[s->n_sent] = true;
    r->usage->n_cached = s->n_cached;
    if (s->text || s->ids) play(s, s->n_sent);
    s->n_sent++;
    return OK;
}

static void script_cancel(void *self, uint64_t id) {
    Script *s = self;
    s->n_cancels++;
    if (id > 0 && s->open[id - 1]) finish(s, (int)id - 1, FINISH_CANCELLED);
}

static Tokenizer *bytes_tok(void) { /* 256 bytes, then the end of text */
    TokTrainOpts o = {.n_vocab = 257};
    TokTrainer *t;
    Tokenizer *tok;
    OK_(tok_train_new(&t, &o, TERR));
    OK_(tok_train_finish(t, &tok, TERR));
    tok_train_free(t);
    return tok;
}

/* Ids of bytes in that vocabulary are not the bytes: through the tokenizer. */
static TokBuf ids_of(const Tokenizer *t, const char *text) {
    TokBuf b = {0};
    OK_(tok_encode(t, slice_of(text), false, &b, TERR));
    return b;
}

static const int32_t prompt[] = {1, 2, 3};

static EngineReq request(int max_new) {
    return (EngineReq){.prompt = prompt, .n_prompt = 3, .max_new = max_new, .sample = {.top_p = 1}};
}

static EngineDoor door_of(Script *s) {
    return (
        EngineDoor){.self = s, .submit = script_submit, .cancel = script_cancel, .max_ctx = 1000};
}

/* The text of each part with a bar behind it, and the sample as it ended. */
static AnswerSample read_all(Answer *a, StrBuf *parts) {
    AnswerPart p;
    while (answer_next(a, &p)) {
        sb_put(parts, p.text.p, p.text.n);
        sb_putc(parts, '|');
        if (answer_sample(a, p.sample)->ended != p.end) FAIL("end of part and sample differ");
    }
    TRUE_(answer_done(a));
    return *answer_sample(a, 0);
}

typedef struct StopCase {
    const char *text, *stop[3];
    bool include;
    const char *parts, *whole;
    int hit, n_tok, min_tokens;
} StopCase;

TEST(text_is_held_back_as_long_as_it_may_be_a_stop_string) {
    static const StopCase cases[] = {
        {"abc", {0}, false, "a|b|c||", "abc", 0, 3, 0},
        {"abcdef", {"cd"}, false, "a|b|||", "ab", 1, 4, 0},
        {"abcdef", {"cd"}, true, "a|b||cd|", "abcd", 1, 4, 0},
        {"abcxef", {"cd"}, false, "a|b||cx|e|f||", "abcxef", 0, 6, 0},
        {"abc", {"cd"}, false, "a|b||c|", "abc", 0, 3, 0},
        {"aab", {"zz", "ab", "b"}, false, "|a||", "a", 2, 3, 0},
        {"x\xc3\xa9y", {"\xc3\xa9"}, false, "x|||", "x", 1, 3, 0},
        {"x\xc3\xa9y", {0}, false, "x||\xc3\xa9|y||", "x\xc3\xa9y", 0, 4, 0},
        {"x\xc3", {0}, false, "x||\xef\xbf\xbd|", "x\xef\xbf\xbd", 0, 2, 0},
        {"", {"a"}, false, "|", "", 0, 0, 0},
        {"abcb", {"b"}, false, "a||", "a", 1, 2, 1},
        {"abcb", {"b"}, false, "a|b|c||", "abc", 1, 4, 2}, /* its second token is no end yet */
        {"abcb", {"b"}, true, "a|b|c|b|", "abcb", 1, 4, 3},
        {"abcb", {"b"}, false, "a|b|c|b||", "abcb", 0, 4, 4},
        {"abcb", {"cb"}, false, "a|b|||", "ab", 1, 4, 3}, /* began before, ended behind */
        {"x\xc3", {"\xef\xbf\xbd"}, false, "x||\xef\xbf\xbd|", "x\xef\xbf\xbd", 0, 2, 2},
    };
    size_t before = mem_live_bytes();
    Tokenizer *tok = bytes_tok();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const StopCase *c = &cases[i];
        TokBuf ids = ids_of(tok, c->text);
        Script s = {.ids = ids.n ? ids.v : prompt,
                    .n_ids = (int)ids.n,
                    .why = FINISH_LENGTH,
                    .stop_id = -1};
        EngineDoor door = door_of(&s);
        EngineReq r = request(20);
        AnswerOpts o = {.include_stop = c->include};
        r.sample.min_tokens = c->min_tokens;
        Slice stop[3];
        for (; o.n_stop < 3 && c->stop[o.n_stop]; o.n_stop++)
            stop[o.n_stop] = slice_of(c->stop[o.n_stop]);
        o.stop = stop;
        Answer *a;
        StrBuf parts = {0};
        OK_(answer_new(&a, &door, tok, &r, &o, TERR));
        AnswerSample got = read_all(a, &parts);
        EQ_STR(sb_str(&parts), c->parts);
        EQ_STR(sb_str(&got.text), c->whole);
        EQ(got.stop, c->hit);
        EQ(got.why, c->hit ? FINISH_STOP : FINISH_LENGTH);
        EQ(got.ids.n, c->n_tok);
        EQ_MEM(got.ids.v, ids.v, got.ids.n * sizeof ids.v[0]);
        EQ(got.stop_id, -1);
        sb_deinit(&parts);
        tokbuf_deinit(&ids);
        answer_free(a);
    }
    tok_free(tok);
    EQ(mem_live_bytes(), before);
}

TEST(the_first_space_of_a_sentencepiece_text_stays) {
    Tokenizer *tok;
    OK_(spm_build_load(&tok, &spm_small, TERR));
    const int32_t ids[] = {tok_find(tok, slice_of("\u2581the")),
                           tok_find(tok, slice_of("\u2581cat"))};
    Script s = {.ids = ids, .n_ids = 2, .why = FINISH_STOP, .stop_id = 2};
    EngineDoor door = door_of(&s);
    EngineReq r = request(5);
    StrBuf parts = {0};
    Answer *a;
    OK_(answer_new(&a, &door, tok, &r, &(AnswerOpts){0}, TERR));
    AnswerSample got = read_all(a, &parts);
    EQ_STR(sb_str(&got.text), " the cat");
    EQ(got.stop_id, 2);
    EQ(got.why, FINISH_STOP);
    EQ(s.n_cancels, 0);
    sb_deinit(&parts);
    answer_free(a);
    tok_free(tok);
}

TEST(log_probabilities_reach_the_reader) {
    Tokenizer *tok = bytes_tok();
    Script s = {.text = "abc", .why = FINISH_LENGTH, .stop_id = -1, .n_cached = 2};
    EngineDoor door = door_of(&s);
    EngineReq r = request(3);
    AnswerPart p;
    Answer *a;
    for (int n_top = 0; n_top <= SAMPLE_MAX_TOP; n_top += 10) {
        r.sample.logprobs = true;
        r.sample.top_logprobs = n_top;
        OK_(answer_new(&a, &door, tok, &r, &(AnswerOpts){0}, TERR));
        for (int k = 0; k < 3; k++) {
            TRUE_(answer_next(a, &p));
            EQ(p.tok->id, "abc"[k]);
            NEAR(p.tok->logprob, -0.5 * k, 0);
            EQ(p.tok->rank, k + 1);
            EQ(p.tok->n_top, n_top);
            for (int j = 0; j < n_top; j++) EQ(p.tok->top[j].id, 100 * k + j);
        }
        TRUE_(answer_next(a, &p));
        TRUE_(p.end && !p.tok);
        EQ(answer_sample(a, 0)->n_cached, 2);
        FALSE_(answer_next(a, &p));
        answer_free(a);
        s.n_sent = 0;
    }
    tok_free(tok);
}

TEST(samples_differ_in_their_seeds_and_share_a_prompt) {
    Tokenizer *tok = bytes_tok();
    Script s = {.text = "ab", .why = FINISH_LENGTH, .stop_id = -1};
    EngineDoor door = door_of(&s);
    EngineReq r = request(2);
    r.sample.seed = 7;
    Answer *a;
    StrBuf parts = {0};
    OK_(answer_new(&a, &door, tok, &r, &(AnswerOpts){.n = 4}, TERR));
    EQ(answer_n(a), 4);
    EQ(s.n_sent, 4);
    EQ(s.sent[0].sample.seed, 7);
    EQ(s.sent[0].sibling, 0);
    for (int i = 1; i < 4; i++) {
        EQ(s.sent[i].sibling, 1);
        for (int k = 0; k < i; k++) TRUE_(s.sent[i].sample.seed != s.sent[k].sample.seed);
    }
    read_all(a, &parts);
    for (int i = 0; i < 4; i++) EQ(answer_sample(a, i)->text.n, answer_sample(a, 0)->text.n);
    sb_deinit(&parts);
    answer_free(a);
    tok_free(tok);
}

static void count_wake(void *ctx) { ++*(int *)ctx; }

TEST(readers_elsewhere_are_woken) {
    Tokenizer *tok = bytes_tok();
    Script s = {.text = "abcd", .why = FINISH_LENGTH, .stop_id = -1};
    EngineDoor door = door_of(&s);
    EngineReq r = request(4);
    for (int ends_only = 0; ends_only < 2; ends_only++) {
        int n = 0;
        Answer *a;
        AnswerOpts o = {.wake = count_wake, .wake_ctx = &n, .ends_only = ends_only};
        OK_(answer_new(&a, &door, tok, &r, &o, TERR));
        EQ(n, ends_only ? 1 : 5);
        answer_free(a);
    }
    tok_free(tok);
}

TEST(failures_come_with_their_words) {
    Tokenizer *tok = bytes_tok();
    Script s = {.text = "ab", .why = FINISH_ERROR, .err = "a cause", .stop_id = -1};
    EngineDoor door = door_of(&s);
    EngineReq r = request(4);
    StrBuf parts = {0};
    Answer *a;
    OK_(answer_new(&a, &door, tok, &r, &(AnswerOpts){0}, TERR));
    AnswerSample got = read_all(a, &parts);
    EQ(got.why, FINISH_ERROR);
    EQ(got.err.code, ERR_INTERNAL);
    EQ_STR(got.err.msg, "a cause");
    EQ(got.ids.n, 2);
    sb_deinit(&parts);
    answer_free(a);
    tok_free(tok);
}

TEST(a_stop_string_cancels_and_leaving_does_too) {
    Tokenizer *tok = bytes_tok();
    Script s = {.stop_id = -1};
    EngineDoor door = door_of(&s);
    EngineReq r = request(9);
    Slice stop = slice_of("b");
    AnswerPart p;
    Answer *a;
    OK_(answer_new(&a, &door, tok, &r, &(AnswerOpts){.n = 2, .stop = &stop, .n_stop = 1}, TERR));
    FALSE_(answer_next(a, &p));
    TokBuf ids = ids_of(tok, "abc");
    for (size_t i = 0; i < 3; i++) s.sent[1].on_token(s.sent[1].ctx, &(SampleOut){.id = ids.v[i]});
    TRUE_(answer_next(a, &p));
    EQ(s.n_cancels, 0);
    TRUE_(answer_next(a, &p));
    TRUE_(p.end && p.sample == 1);
    EQ(s.n_cancels, 1); /* that sample and no other; its c is dropped, its end too */
    TRUE_(s.open[0] && !s.open[1]);
    FALSE_(answer_next(a, &p));
    EQ(answer_sample(a, 1)->ids.n, 2);
    FALSE_(answer_done(a));
    answer_free(a);
    EQ(s.n_cancels, 2);
    TRUE_(!s.open[0]);
    tokbuf_deinit(&ids);
    tok_free(tok);
}

TEST(what_cannot_be_is_refused_and_nothing_stays) {
    size_t before = mem_live_bytes();
    Tokenizer *tok = bytes_tok();
    EngineReq r = request(4);
    Slice stop = {0};
    Answer *a = NULL;
    Script s = {.fail_at = 3, .stop_id = -1};
    EngineDoor door = door_of(&s);
    FAILS(ERR_FULL, answer_new(&a, &door, tok, &r, &(AnswerOpts){.n = 4}, TERR));
    EQ(s.n_sent, 2);
    EQ(s.n_cancels, 2);
    TRUE_(!s.open[0] && !s.open[1]);
    FAILS(ERR_ARG, answer_new(&a, &door, tok, &r, &(AnswerOpts){.n = -1}, TERR));
    FAILS(ERR_ARG,
          answer_new(&a, &door, tok, &r, &(AnswerOpts){.n = ANSWER_MAX_SAMPLES + 1}, TERR));
    FAILS(ERR_ARG, answer_new(&a, &door, tok, &r, &(AnswerOpts){.stop = &stop, .n_stop = 1}, TERR));
    TRUE_(a == NULL);
    for (int fail_at = 1; fail_at < 5; fail_at++) { /* grammars are taken in every case */
        Grammar *g[3] = {0};
        s = (Script){.fail_at = fail_at, .stop_id = -1, .text = "", .why = FINISH_LENGTH};
        for (int i = 0; i < 3; i++) OK_(grammar_json_object(&g[i], NULL, TERR));
        Status st = answer_new(&a, &door, tok, &r, &(AnswerOpts){.n = 3, .grammars = g}, TERR);
        EQ(st, fail_at < 4 ? ERR_FULL : OK);
        if (st == OK) answer_free(a);
    }
    tok_free(tok);
    EQ(mem_live_bytes(), before);
}

TEST(any_failed_allocation_is_an_error_and_no_leak) {
    size_t before = mem_live_bytes();
    Tokenizer *tok = bytes_tok();
    Slice stop = slice_of("never");
    int n_refused = 0, n_ended = 0;
    for (uint64_t n = 1;; n++) {
        Script s = {.text = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz", .stop_id = -1};
        EngineDoor door = door_of(&s);
        EngineReq r = request(60);
        AnswerPart p;
        Answer *a;
        s.why = FINISH_LENGTH;
        fault_arm(FAULT_ALLOC, n);
        Status st =
            answer_new(&a, &door, tok, &r, &(AnswerOpts){.n = 2, .stop = &stop, .n_stop = 1}, TERR);
        while (st == OK && answer_next(a, &p)) {}
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        n_refused += st != OK;
        if (st != OK) EQ(st, ERR_NOMEM);
        for (int i = 0; st == OK && i < 2; i++) {
            const AnswerSample *got = answer_sample(a, i);
            TRUE_(got->ended);
            n_ended += got->why == FINISH_ERROR;
            if (got->why == FINISH_ERROR) EQ(got->err.code, ERR_NOMEM);
            else EQ(got->ids.n, 52);
        }
        if (st == OK) answer_free(a);
        if (!fired) break;
    }
    TRUE_(n_refused >= 3 && n_ended >= 4);
    tok_free(tok);
    EQ(mem_live_bytes(), before);
}

/* ---- a real engine ---- */

typedef struct Rig {
    Tokenizer *tok;
    TinyModel t;
    Engine *en;
    EngineDoor door;
} Rig;

static Rig rig_up(int max_seqs) {
    Rig g = {.tok = bytes_tok(), .t = tiny_model_new("llama", 257, 512, NULL, 5)};
    OK_(engine_new(&g.en, g.t.m, &(EngineOpts){.max_seqs = max_seqs, .check = true}, TERR));
    g.door = engine_door(g.en);
    return g;
}

static void rig_down(Rig *g) {
    engine_free(g->en);
    tiny_model_free(&g->t);
    tok_free(g->tok);
}

static void read_to_the_end(Answer *a) {
    AnswerPart p;
    while (!answer_done(a)) {
        while (answer_next(a, &p)) {}
        if (!answer_done(a)) answer_wait(a, 1000);
    }
}

static Answer *ask(Rig *g, int n_prompt, int max_new, double temp, AnswerOpts o) {
    static int32_t ids[400];
    for (int i = 0; i < n_prompt; i++) ids[i] = 1 + i * 7 % 250;
    EngineReq r = {.prompt = ids, .n_prompt = n_prompt, .max_new = max_new};
    r.sample = (SampleOpts){.temp = temp, .top_p = 1, .seed = 11};
    Answer *a = NULL;
    OK_(answer_new(&a, &g->door, g->tok, &r, &o, TERR));
    return a;
}

static bool same_ids(const AnswerSample *a, const AnswerSample *b) {
    return a->ids.n == b->ids.n && memcmp(a->ids.v, b->ids.v, a->ids.n * sizeof a->ids.v[0]) == 0;
}

TEST(samples_of_a_real_engine_are_what_each_is_alone) {
    size_t before = mem_live_bytes();
    Rig g = rig_up(4);
    Answer *one = ask(&g, 70, 20, 0, (AnswerOpts){0});
    read_to_the_end(one);
    EQ(answer_sample(one, 0)->n_cached, 0);
    EQ(answer_sample(one, 0)->ids.n, 20);
    EQ(answer_sample(one, 0)->why, FINISH_LENGTH);
    Answer *many = ask(&g, 70, 20, 0, (AnswerOpts){.n = 6}); /* more than run together */
    read_to_the_end(many);
    for (int i = 0; i < 6; i++) {
        TRUE_(same_ids(answer_sample(many, i), answer_sample(one, 0)));
        TRUE_(answer_sample(many, i)->n_cached >=
              64); /* two blocks, or the sibling's whole prompt */
        TRUE_(answer_sample(many, i)->n_cached < 70);
    }
    answer_free(many);
    many = ask(&g, 70, 20, 1, (AnswerOpts){.n = 3});
    read_to_the_end(many);
    for (int i = 1; i < 3; i++)
        FALSE_(same_ids(answer_sample(many, i), answer_sample(many, i - 1)));
    answer_free(many);
    answer_free(one);
    rig_down(&g);
    EQ(mem_live_bytes(), before);
}

TEST(a_stop_string_frees_the_place_of_its_request) {
    Rig g = rig_up(1);
    Answer *all = ask(&g, 5, 60, 0, (AnswerOpts){0});
    read_to_the_end(all);
    const AnswerSample *whole = answer_sample(all, 0);
    Slice stop = tok_piece(g.tok, whole->ids.v[9]);
    if ((unsigned char)stop.p[0] >= 128) stop = slice_of("\xef\xbf\xbd");
    Answer *a = ask(&g, 5, 400, 0, (AnswerOpts){.stop = &stop, .n_stop = 1});
    read_to_the_end(a);
    const AnswerSample *got = answer_sample(a, 0);
    EQ(got->why, FINISH_STOP);
    EQ(got->stop, 1);
    TRUE_(got->ids.n <= 60);
    EQ_MEM(got->ids.v, whole->ids.v, got->ids.n * sizeof got->ids.v[0]);
    EQ_MEM(got->text.p ? got->text.p : "", sb_str(&whole->text), got->text.n);
    TRUE_(memmem(sb_str(&got->text), got->text.n, stop.p, stop.n) == NULL);
    for (int i = 0; i < 2000 && engine_stats(g.en).n_running > 0; i++) usleep(1000);
    EQ(engine_stats(g.en).n_running, 0);
    answer_free(a);
    answer_free(all);
    rig_down(&g);
}

TEST(a_stop_token_is_named_and_not_shown) {
    Rig g = rig_up(1);
    int32_t ids[] = {5, 6, 7};
    EngineReq r = {.prompt = ids, .n_prompt = 3, .max_new = 40, .sample = {.top_p = 1}};
    Answer *all, *a;
    OK_(answer_new(&all, &g.door, g.tok, &r, &(AnswerOpts){0}, TERR));
    read_to_the_end(all);
    const AnswerSample *whole = answer_sample(all, 0);
    r.sample.stop_ids = &whole->ids.v[6];
    r.sample.n_stop_ids = 1;
    OK_(answer_new(&a, &g.door, g.tok, &r, &(AnswerOpts){0}, TERR));
    read_to_the_end(a);
    const AnswerSample *got = answer_sample(a, 0);
    EQ(got->why, FINISH_STOP);
    EQ(got->stop, 0);
    EQ(got->stop_id, whole->ids.v[6]);
    TRUE_(got->ids.n <= 6 && whole->ids.v[got->ids.n] == got->stop_id);
    answer_free(a);
    answer_free(all);
    rig_down(&g);
}

/* Together they need more blocks than there are. Texts number first and first + 1. */
static void two_that_collide(const Rig *g, int first) {
    Answer *a[2];
    for (int k = 0; k < 2; k++) {
        int32_t ids[40];
        for (int i = 0; i < 40; i++) ids[i] = 1 + first + k + i * (1 + k);
        EngineReq r = {.prompt = ids, .n_prompt = 40, .max_new = 100, .sample = {.top_p = 1}};
        OK_(answer_new(&a[k], &g->door, g->tok, &r, &(AnswerOpts){0}, TERR));
    }
    for (int k = 0; k < 2; k++) {
        read_to_the_end(a[k]);
        EQ(answer_sample(a[k], 0)->ids.n, 100);
        EQ(answer_sample(a[k], 0)->n_cached, 0);
        answer_free(a[k]);
    }
}

/* Blocks that a request gets back after it was preempted are its own: nothing was saved for its sender. */
TEST(cached_tokens_are_those_of_the_first_admission) {
    Rig g = {.tok = bytes_tok(), .t = tiny_model_new("llama", 257, 512, NULL, 5)};
    OK_(engine_new(&g.en, g.t.m, &(EngineOpts){.max_seqs = 2, .n_blocks = 6, .check = true}, TERR));
    g.door = engine_door(g.en);
    int rounds =
        0; /* on a busy machine the first request may be over before the second one comes */
    while (engine_stats(g.en).n_preempted == 0 && rounds < 60) two_that_collide(&g, 2 * rounds++);
    TRUE_(engine_stats(g.en).n_preempted > 0);
    rig_down(&g);
}

static void *cancel_soon(void *ctx) {
    usleep(300);
    answer_cancel(ctx);
    return NULL;
}

TEST(another_thread_cancels) {
    Rig g = rig_up(2);
    int n_cancelled = 0; /* an answer may be over before the other thread comes to it */
    for (int i = 0; i < 20; i++) {
        pthread_t t;
        Answer *a = ask(&g, 5, 500, 1, (AnswerOpts){.n = 3});
        EQ(pthread_create(&t, NULL, cancel_soon, a), 0);
        read_to_the_end(a);
        pthread_join(t, NULL);
        FinishReason why = answer_sample(a, 2)->why; /* it waited for a place */
        TRUE_(why == FINISH_CANCELLED || why == FINISH_LENGTH);
        if (why == FINISH_CANCELLED) EQ_STR(answer_finish_name(why), "cancelled");
        n_cancelled += why == FINISH_CANCELLED;
        answer_free(a);
    }
    TRUE_(n_cancelled > 0);
    rig_down(&g);
}

TEST(readers_leave_at_any_moment) {
    size_t before = mem_live_bytes();
    Rig g = rig_up(3);
    AnswerPart p;
    for (int i = 0; i < 40; i++) {
        Answer *a = ask(&g, 5, 50, 1, (AnswerOpts){.n = 2});
        if (i % 4 > 0) usleep((unsigned)(i * 100));
        if (i % 2) answer_next(a, &p);
        answer_free(a);
    }
    Answer *late = ask(&g, 5, 400, 1, (AnswerOpts){0});
    engine_free(g.en); /* ends all, and an answer may stay longer */
    read_to_the_end(late);
    answer_free(late);
    tiny_model_free(&g.t);
    tok_free(g.tok);
    EQ(mem_live_bytes(), before);
}
