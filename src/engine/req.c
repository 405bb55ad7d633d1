/* SPDX-License-Identifier: Apache-2.0
 * A request as the engine keeps it: checked and copied by the thread that submits, so that the engine's thread
 * allocates nothing and depends on nobody's memory. */
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/internal.h"

Status engine__req_check(const Engine *en, const EngineReq *r, Err *e) {
    int max = en->o.max_ctx - 1;
    if (r->n_prompt < 1) return err_set(e, ERR_ARG, "the prompt is empty");
    if (r->n_prompt > max)
        return err_set(e, ERR_ARG, "the prompt has %d tokens, the limit is %d", r->n_prompt, max);
    if (r->max_new < 1) return err_set(e, ERR_ARG, "max_new %d: at least 1", r->max_new);
    for (int i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || r->prompt[i] >= en->V)
            return err_set(e, ERR_ARG, "prompt token %d is %d, the vocabulary has %d", i,
                           r->prompt[i], en->V);
    if (!(r->timeout_s >= 0.0 && r->timeout_s <= 1e9))
        return err_set(e, ERR_ARG, "timeout %g s is outside 0 to 1e9", r->timeout_s);
    if (r->grammar && !en->o.vocab)
        return err_set(e, ERR_ARG, "a grammar, and the engine has no vocabulary for one");
    return sample_check_vocab(&r->sample, en->n_vocab, e);
}

void engine__req_free(Req *r) {
    if (!r) return;
    mem_free((void *)(uintptr_t)r->in.sample.bias);
    mem_free((void *)(uintptr_t)r->in.sample.stop_ids);
    mem_free(r->hist);
    grammar_state_deinit(&r->spec.ahead);
    grammar_state_deinit(&r->place);
    grammar_free(r->grammar);
    mem_free(r);
}

void engine__req_own(Req *r) { r->grammar = r->in.grammar; }

/* The lists of the options, and the history. r->in.sample has no lists yet. */
static bool copy_sampling(Req *r, const SampleOpts *o) {
    size_t n_bias = (size_t)o->n_bias * sizeof *o->bias;
    size_t n_stop = (size_t)o->n_stop_ids * sizeof *o->stop_ids;
    SampleBias *bias = n_bias ? mem_alloc_n(1, n_bias) : NULL;
    int32_t *stop = n_stop ? mem_alloc_n(1, n_stop) : NULL;
    r->in.sample.bias = bias;
    r->in.sample.stop_ids = stop;
    if ((n_bias && !bias) || (n_stop && !stop)) return false;
    if (bias) memcpy(bias, o->bias, n_bias);
    if (stop) memcpy(stop, o->stop_ids, n_stop);
    if (!sample_needs_hist(o)) return true;
    void *mem = mem_alloc_n(1, sample_hist_bytes(r->max_tok));
    if (!mem) return false;
    r->hist = sample_hist_init(mem, r->max_tok, o->repeat_last_n);
    for (int i = 0; i < r->in.n_prompt; i++) sample_hist_push(r->hist, r->tok[i], false);
    return true;
}

static void copy_fields(Req *r, const EngineReq *in, int max_tok) {
    memcpy(r->tok, in->prompt, (size_t)in->n_prompt * sizeof(int32_t));
    r->in = *in;
    r->in.prompt = r->tok;
    r->in.sample.bias = NULL;
    r->in.sample.stop_ids = NULL;
    r->n_tok = in->n_prompt;
    r->max_tok = max_tok;
    r->in.salt = NULL;
    if (in->timeout_s > 0.0) r->deadline = clock_now_s() + in->timeout_s;
}

/* Where the hashes of its blocks begin: of a form that no block's own hash has. */
static Status set_root(Req *r, const Sha256 *salt, Err *e) {
    static const char form[] = "ingot kv root";
    uint8_t in[sizeof form + sizeof *salt];
    if (!salt) return OK;
    memcpy(in, form, sizeof form);
    memcpy(in + sizeof form, salt, sizeof *salt);
    return sha_256(&r->root, in, sizeof in, e);
}

Status engine__req_new(Req **out, const Engine *en, const EngineReq *in, Err *e) {
    int max_tok = in->n_prompt + MIN(in->max_new, en->o.max_ctx - in->n_prompt);
    Req *r = mem_alloc_n(1, sizeof(Req) + (size_t)max_tok * sizeof(int32_t));
    Status st = OK;
    if (r) copy_fields(r, in, max_tok);
    if (!r || !copy_sampling(r, &in->sample))
        st = err_set(e, ERR_NOMEM, "request of %d tokens", in->n_prompt);
    if (st == OK) st = set_root(r, in->salt, e);
    if (st == OK && in->grammar) st = grammar_state_init(&r->place, in->grammar, en->o.vocab, e);
    if (st == OK) st = spec__start(en, r, e);
    if (st != OK) {
        engine__req_free(r);
        return st;
    }
    *out = r;
    return OK;
}
