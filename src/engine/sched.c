/* SPDX-License-Identifier: Apache-2.0
 * One step of the engine: drop what is over, give rows to those that run, admit, run the model, sample.
 *
 *   decoding    one row for each sequence that knows all its tokens but the next
 *   prompts     rows of those that do not, in the order of their turn, as many as fit in the time that streams
 *               may wait (pace.h), up to prefill_chunk; without streams, prefill_chunk
 *   choices     that are asked about (ask.c), beside one another, in what is left, if nobody was preempted
 *   admission   from the queue, likewise: all tokens so far have to fit into free blocks, and one more block for
 *               each sequence that runs
 *   guesses     of the tokens that come next (spec.c), in what is left
 *
 * A sequence takes blocks as it grows. Where none is free, the one whose turn is last loses all of its blocks and
 * queues again, in its old place: its tokens are kept, and computed again from what the prefix cache still has.
 * The first in turn never waits, so everything ends.
 *
 * Full blocks are committed when their rows are certain to be in this step's batch, before the model ran: every
 * layer writes K and V of all rows before any row reads them, so a sequence admitted in this very step may share
 * them. And since nobody is admitted before all prompts that run have got their rows, a prefix that many bring at
 * once is computed once.
 *
 * A failure of the model ends all that run (their KV is in doubt) and none that wait; a failure of the sampler
 * ends one. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "engine/internal.h"

static void count_blocks(Engine *en) {
    metrics_set(&en->m.blocks_used, kv_n_blocks(en->pool) - kv_n_free(en->pool));
    metrics_set(&en->m.blocks_cached, kv_n_findable(en->pool));
}

/* Tokens that are still to come, at most. */
static void count_left(Engine *en) {
    int64_t n = 0;
    for (int i = 0; i < en->n_run; i++) n += en->run[i]->max_tok - en->run[i]->n_kv;
    atomic_store_explicit(&en->m.left_tok, n, memory_order_relaxed);
}

/* ---- leaving ---- */

static void count_end(Engine *en, const Req *r, FinishReason why) {
    ReqFacts f = {.t = r->t,
                  .n_prompt = r->in.n_prompt,
                  .n_cached = r->n_cached,
                  .n_new = r->n_tok - r->in.n_prompt,
                  .n = r->in.sibling ? 0 : MAX(r->in.n, 1),
                  .max_new = r->in.max_new};
    metrics_finish(&en->m, (int)why, why == FINISH_STOP || why == FINISH_LENGTH, &f,
                   engine__now(en));
}

void engine__finish(Engine *en, Req *r, FinishReason why, const Err *why_err) {
    count_end(en, r, why);
    if (r->in.usage) r->in.usage->times = r->t;
    engine__adapter_drop(r); /* whoever is told that it is over may unload it */
    if (r->in.on_done) r->in.on_done(r->in.ctx, why, why == FINISH_ERROR ? why_err : NULL);
    engine__req_free(r);
}

/* Out of `run`, into the queue if it is to come again: in one go, so that engine_cancel finds it here or there. Its
 * blocks are let go, and what is left of this step looks at its adapter no more: nobody may hold that from now on. */
static Req *leave_run(Engine *en, int i, bool again) {
    Req *r = en->run[i];
    pthread_mutex_lock(&en->mu);
    en->n_run--;
    memmove(&en->run[i], &en->run[i + 1], (size_t)(en->n_run - i) * sizeof en->run[0]);
    if (again) engine__put(&en->waiting, r);
    engine__count_queue(en);
    pthread_mutex_unlock(&en->mu);
    kv_seq_release(en->pool, r->kv);
    if (en->uses) en->uses[r->i_seq] = (LoraUse){0};
    engine__ask_drop_branches(en, r);
    count_blocks(en);
    return r;
}

void engine__finish_run(Engine *en, int i, FinishReason why, const Err *why_err) {
    engine__finish(en, leave_run(en, i, false), why, why_err);
}

static void fail_all(Engine *en, const Err *why) {
    while (en->n_run > 0) engine__finish_run(en, 0, FINISH_ERROR, why);
    kv_forget(en->pool);
}

static void preempt(Engine *en, int i) {
    Req *r = leave_run(en, i, true);
    r->n_kv = r->n_rows = r->spec.n_kv = 0;
    en->n_dropped++;
    metrics_add(&en->m.preemptions, 1);
}

static bool is_idle(const Req *r) { return r->in.priority >= ENGINE_IDLE; }

/* Idle requests go back to the queue, the last one first, where others wait for places or blocks. Before rows are given:
 * blocks of a step are found by others as soon as it has them. */
static void make_way(Engine *en) {
    int n = 0;
    pthread_mutex_lock(&en->mu);
    const Req *head = en->waiting.head;
    bool stuck = head && head->id == en->stuck_id && !is_idle(head);
    for (const Req *r = head; r && !is_idle(r) && n < en->o.max_seqs; r = r->next) n++;
    pthread_mutex_unlock(&en->mu);
    int n_go = MAX(n - (en->o.max_seqs - en->n_run), stuck);
    for (; n_go > 0 && en->n_run > 0 && is_idle(en->run[en->n_run - 1]); n_go--)
        preempt(en, en->n_run - 1);
}

static void drop_dead(Engine *en) {
    FinishReason why;
    double now = engine__now(en);
    for (int i = 0; i < en->n_run;)
        if (engine__is_dead(en->run[i], now, &why)) engine__finish_run(en, i, why, NULL);
        else i++;
    pthread_mutex_lock(&en->mu);
    Queue dead = engine__take_dead(&en->waiting, now);
    engine__count_queue(en);
    pthread_mutex_unlock(&en->mu);
    for (Req *r; (r = engine__pop(&dead));) {
        engine__is_dead(r, now, &why);
        engine__finish(en, r, why, NULL);
    }
}

/* ---- rows for those that run ---- */

/* The next n tokens of r are rows of this step, in blocks of its own, one of which may still be to be copied. False:
 * there are not enough. */
static bool take_rows(Engine *en, Req *r, int n) {
    if (kv_seq_grow(en->pool, r->kv, r->n_kv + n, NULL) != OK) return false;
    if (kv_seq_own(en->pool, r->kv, r->n_kv, &r->copy_src, &r->copy_dst, NULL) != OK) return false;
    r->n_rows = n;
    return true;
}

/* Before src has another owner and before the model runs. */
static void copy_block(Engine *en, Req *r) {
    const EngineBack *b[] = {&en->back, &en->spec.back};
    for (size_t i = 0; r->copy_src >= 0 && i < COUNT_OF(b); i++)
        if (b[i]->kv_copy) b[i]->kv_copy(b[i]->ctx, r->copy_dst, r->copy_src);
    r->copy_src = -1;
}

/* The same for run[i], at the cost of those behind it in turn if need be. False: it had to go itself. */
static bool make_room(Engine *en, int i, int n) {
    while (!take_rows(en, en->run[i], n)) {
        int last = en->n_run - 1;
        preempt(en, last);
        if (last == i) return false;
    }
    copy_block(en, en->run[i]);
    return true;
}

/* Rows that decode, and what they are in work. */
static double decode_rows(Engine *en) {
    for (int i = 0; i < en->n_run; i++)
        if (en->run[i]->n_tok - en->run[i]->n_kv == 1 && !make_room(en, i, 1)) break;
    double work = 0.0; /* counted last: some may have been preempted meanwhile */
    for (int i = 0; i < en->n_run; i++)
        if (en->run[i]->n_rows > 0) work += pace_work(&en->pace, 1, en->run[i]->n_kv);
    return work;
}

/* Prompt rows of this step, if the first of them stands at `from`. It aims at four fifths of the target: steps of the
 * same work differ by as much, and the target is what streams are to see. */
static int prompt_budget(const Engine *en, double work, int from) {
    if (work == 0.0) return en->o.prefill_chunk;
    return pace_rows(&en->pace, work, from, 0.8e-3 * en->o.itl_target_ms, en->o.prefill_chunk);
}

/* Prompt rows that this step may still have, counted as rows at position `from` without logits. */
typedef struct Room {
    int left, from; /* from < 0: nobody waits, and a row is a row */
} Room;

static Room room_of(const Engine *en, double work, int from) {
    return (Room){prompt_budget(en, work, from), work == 0.0 ? -1 : from};
}

/* What a row of r costs: more where it has more to look back on. */
static double row_price(const Engine *en, const Req *r, Room m) {
    double deeper =
        m.from < 0 ? 1.0 : pace_work(&en->pace, 1, r->n_kv) / pace_work(&en->pace, 1, m.from);
    return MAX(deeper, 1.0) + (engine__ask_is_dense(r) ? en->head_work : 0.0);
}

/* Rows that r still needs, as far as there is room. */
static int fit_rows(const Engine *en, const Req *r, Room m) {
    return MIN(r->n_tok - r->n_kv, MAX(1, (int)(m.left / row_price(en, r, m))));
}

/* The room that is left when r, which stands where it stood, has got its rows. */
static Room pay_rows(const Engine *en, const Req *r, Room m) {
    m.left = MAX(0, m.left - (int)(r->n_rows * row_price(en, r, m) + 0.5));
    return m;
}

/* Returns the room that is left for admission. */
static Room prompt_rows(Engine *en, double work) {
    Room m = {-1, 0};
    for (int i = 0; i < en->n_run; i++) {
        Req *r = en->run[i];
        if (r->n_tok - r->n_kv <= 1) continue;
        if (m.left < 0) m = room_of(en, work, r->n_kv);
        if (m.left == 0 || !make_room(en, i, fit_rows(en, r, m))) break;
        m = pay_rows(en, r, m);
    }
    return m.left < 0 ? room_of(en, work, 0) : m;
}

/* Choices read beside those that have rows. */
static Room branch_rows(Engine *en, Room m) {
    double price = 1.0 + en->head_work;
    for (int i = 0; i < en->n_run; i++) {
        int n = engine__ask_branch(en, en->run[i], (int)(m.left / price));
        m.left = MAX(0, m.left - (int)(n * price + 0.5));
    }
    return m;
}

/* ---- admission ---- */

static Req *find_running(const Engine *en, uint64_t id) {
    for (int i = 0; id && i < en->n_run; i++)
        if (en->run[i]->id == id) return en->run[i];
    return NULL;
}

/* A fresh request with the prompt of another. The caller says so; it is looked at all the same, since sharing
 * what is not alike would show one request's text to another. */
static bool is_twin(const Req *a, const Req *r) {
    return r->n_tok == r->in.n_prompt && a->in.n_prompt == r->in.n_prompt &&
           memcmp(&a->root, &r->root, sizeof a->root) == 0 &&
           memcmp(a->tok, r->tok, (size_t)r->in.n_prompt * sizeof r->tok[0]) == 0;
}

typedef enum Admission { ADMITTED, LATER, NO_ROOM } Admission;

/* Blocks for r, as far as others have them already; its sequence is open. */
static Admission find_blocks(Engine *en, Req *r) {
    int n_idle = 0, spare = en->n_run;
    const Req *twin = find_running(en, r->in.sibling);
    if (twin && is_twin(twin, r) && engine__ask_reusable(r) >= r->in.n_prompt - 1) {
        if (twin->n_kv < r->in.n_prompt) return LATER;
        if (kv_n_free(en->pool) < 1 + spare) return NO_ROOM;
        kv_seq_share(en->pool, r->kv, twin->kv, r->in.n_prompt);
        r->n_kv = r->in.n_prompt - 1;
        r->spec.n_kv = MIN(twin->spec.n_kv, r->n_kv);
        return ADMITTED;
    }
    int most = MIN(engine__ask_reusable(r) + 1, r->n_tok);
    int hit = kv_seq_find(en->pool, r->kv, r->tok, most, &n_idle);
    int need = kv_blocks_for(r->n_tok) - hit / KV_BLOCK_TOK + n_idle;
    if (need + spare > kv_n_free(en->pool)) return NO_ROOM;
    kv_seq_attach(en->pool, r->kv, hit);
    r->n_kv = r->spec.n_kv = hit;
    return ADMITTED;
}

static void commit(Engine *en, const Req *r) {
    kv_seq_commit(en->pool, r->kv, r->tok, engine__ask_committable(r, r->n_kv + r->n_rows));
}

/* r was admitted with n_kv tokens found. */
static void count_hits(Engine *en, Req *r) {
    Metrics *m = &en->m;
    bool again = r->admitted; /* after a preemption */
    if (!again) r->n_cached = r->n_kv;
    if (en->o.no_prefix && r->n_kv == 0) return; /* nothing was looked up */
    metrics_add(again ? &m->resumed_queries : &m->prefix_queries, (uint64_t)r->n_tok);
    metrics_add(again ? &m->resumed_hits : &m->prefix_hits, (uint64_t)r->n_kv);
}

static Admission try_admit(Engine *en, Req *r, Room m) {
    r->kv = kv_seq_open(en->pool, en->o.no_prefix ? NULL : &r->root);
    assert(r->kv >= 0); /* as many sequences as places to run */
    Admission a = find_blocks(en, r);
    if (a != ADMITTED) {
        kv_seq_release(en->pool, r->kv);
        return a;
    }
    if (!take_rows(en, r, fit_rows(en, r, m))) { /* never: find_blocks counted them */
        kv_seq_release(en->pool, r->kv);
        return NO_ROOM;
    }
    count_hits(en, r);
    if (r->in.usage && !r->admitted) r->in.usage->n_cached = r->n_kv;
    r->admitted = true;
    commit(en, r);
    return ADMITTED;
}

/* From the queue to its place among those that run, in one go: engine_cancel finds it here or there. */
static void join_run(Engine *en, Req *r) {
    pthread_mutex_lock(&en->mu);
    engine__take(&en->waiting, r);
    int i = en->n_run++;
    for (; i > 0 && engine__before(r, en->run[i - 1]); i--) en->run[i] = en->run[i - 1];
    en->run[i] = r;
    pthread_mutex_unlock(&en->mu);
}

/* The one that waits behind `after`; NULL: the first. Only this thread takes requests out of the queue, so what it
 * returns stays there. */
static Req *next_waiting(Engine *en, const Req *after) {
    pthread_mutex_lock(&en->mu);
    Req *r = after ? after->next : en->waiting.head;
    pthread_mutex_unlock(&en->mu);
    return r;
}

/* Requests stay in the queue while they are looked at, without the lock: hashing a long prompt takes its time, and
 * whoever submits or cancels does not wait for it. */
static void admit(Engine *en, Room m) {
    int n_deferred = 0;
    Req *later = NULL, *r; /* later: the last one that was passed over */
    const Req *head = next_waiting(en, NULL);
    if (head && head->id == en->stuck_id && kv_n_free(en->pool) <= en->stuck_free) return;
    en->stuck_id = 0;
    while (m.left > 0 && en->n_run < en->o.max_seqs && (r = next_waiting(en, later))) {
        Admission a = try_admit(en, r, m);
        if (a == NO_ROOM) { /* not to be looked at again, prompt and all, before there is more */
            en->stuck_id = r->id;
            en->stuck_free = kv_n_free(en->pool);
            break;
        }
        n_deferred += a == LATER;
        if (a == LATER) {
            later = r;
            continue;
        }
        join_run(en, r);
        m = pay_rows(en, r, m);
    }
    metrics_set(&en->m.waiting_deferred, n_deferred);
    pthread_mutex_lock(&en->mu);
    engine__count_queue(en);
    pthread_mutex_unlock(&en->mu);
    count_blocks(en);
}

/* ---- batch ---- */

/* The next n_rows tokens of request i. The newest known gets logits, and so does each guess behind it. */
static void add_rows(Engine *en, int i) {
    Req *r = en->run[i];
    Batch *b = &en->batch;
    en->blocks[i] = kv_seq_blocks(en->pool, r->kv);
    if (en->uses) en->uses[i] = r->use;
    r->i_seq = i;
    r->out_row = -1;
    r->row0 = b->T;
    r->asked = engine__ask_in_step(r);
    for (int p = r->n_kv; p < r->n_kv + r->n_rows; p++, b->T++) {
        en->tok[b->T] = r->tok[p];
        en->pos[b->T] = p;
        en->seq[b->T] = i;
    }
    int n_prompt = MIN(r->n_kv + r->n_rows, r->in.n_prompt) - r->n_kv;
    if (n_prompt > 0) metrics_add(&en->m.prompt_rows, (uint64_t)n_prompt);
    if (r->asked || r->n_rows == 0 || r->n_kv + r->n_rows < r->n_tok) return;
    r->out_row = b->n_out;
    for (int n = r->spec.n_draft + 1; n > 0; n--) en->out[b->n_out++] = b->T - n;
}

/* Rows of the choices that stand in sequences of their own. */
static void add_branches(Engine *en, const Req *r) {
    Batch *b = &en->batch;
    for (int i = 0; i < en->n_branch; i++) {
        Branch *x = &en->branch[i];
        if (x->r != r) continue;
        x->row0 = b->T;
        x->i_seq = en->n_run + i;
        en->blocks[x->i_seq] = kv_seq_blocks(en->pool, x->kv);
        if (en->uses) en->uses[x->i_seq] = r->use;
        const int32_t *tok = engine__ask_choice(r, x->i_choice);
        for (int k = 0; k < x->n_rows; k++, b->T++) {
            en->tok[b->T] = tok[k];
            en->pos[b->T] = r->in.n_prompt + k;
            en->seq[b->T] = x->i_seq;
        }
    }
}

/* Rows of request i and of all behind it with the same adapter, unless one before it has brought them along. */
static void add_rows_alike(Engine *en, int i) {
    for (int k = 0; k < i; k++)
        if (engine__same_use(en->run[k], en->run[i])) return;
    for (int k = i; k < en->n_run; k++)
        if (engine__same_use(en->run[k], en->run[i])) {
            add_rows(en, k);
            add_branches(en, en->run[k]);
        }
}

static double build_batch(Engine *en) {
    double work = 0.0;
    en->batch.T = en->batch.n_out = 0;
    en->batch.n_seq = en->n_run + en->n_branch;
    en->batch.lora = en->uses;
    en->batch.only_out = true;
    for (int i = 0; i < en->n_run; i++) {
        add_rows_alike(en, i);
        if (en->run[i]->asked) en->batch.only_out = false;
        work += pace_work(&en->pace, en->run[i]->n_rows, en->run[i]->n_kv) +
                en->head_work * engine__ask_n_logits(en->run[i]);
    }
    for (int i = 0; i < en->n_branch; i++) {
        const Branch *b = &en->branch[i];
        work += pace_work(&en->pace, b->n_rows, b->r->in.n_prompt) + en->head_work * b->n_rows;
    }
    return work;
}

/* ---- results ---- */

bool engine__ends_text(const Engine *en, const Req *r, int32_t id) {
    for (int i = 0; i < r->in.sample.n_stop_ids; i++)
        if (r->in.sample.stop_ids[i] == id) return true;
    return en->o.tok && !r->in.ignore_end && tok_is_end(en->o.tok, id);
}

/* Give the new token to its request; false when that was its last. */
static bool take_token(Engine *en, Req *r, const SampleOut *t, double now, FinishReason *why) {
    *why = FINISH_STOP;
    if (engine__ends_text(en, r, t->id)) {
        if (r->in.usage) r->in.usage->stop_id = t->id;
        return false;
    }
    r->tok[r->n_tok++] = t->id;
    if (r->hist) sample_hist_push(r->hist, t->id, true);
    metrics_tokens(&en->m, &r->t, 1, now);
    if (r->in.on_token) r->in.on_token(r->in.ctx, t);
    if (r->grammar && grammar_is_done(&r->place)) return false;
    *why = FINISH_LENGTH;
    return r->n_tok < r->max_tok;
}

/* Its rows of this step are written. */
static void rows_done(Engine *en, Req *r) {
    r->n_kv += r->n_rows;
    r->n_rows = 0;
    if (r->is_read || r->n_kv < r->in.n_prompt) return;
    r->is_read = true;
    metrics_prompt(&en->m, r->in.n_prompt, r->n_cached);
}

/* The token that a row of logits gives to r; false when r is to end. */
static bool next_token(Engine *en, Req *r, const float *row, double now, FinishReason *why,
                       Err *e) {
    SampleOut out = {0};
    if (engine__is_dead(r, now, why)) return false;
    *why = FINISH_ERROR;
    return engine__pick(&out, en, r, row, e) == OK && take_token(en, r, &out, now, why);
}

/* After the model ran: advance request i by a token, and one more for each guess that was right; false when it is
 * done and gone. */
static bool advance(Engine *en, int i, const float *logits, double now) {
    Req *r = en->run[i];
    FinishReason why;
    Err err = {0};
    int n_draft = r->spec.n_draft, n_right = 0;
    if (r->asked) return true;
    r->n_rows -= n_draft;
    rows_done(en, r);
    if (r->out_row < 0) return true;
    const float *row = logits + (size_t)r->out_row * (size_t)en->V;
    for (;; row += en->V, n_right++, r->n_kv++) {
        int32_t guess = n_right < n_draft ? r->tok[r->n_tok] : -1; /* the token is put over it */
        if (!next_token(en, r, row, now, &why, &err)) break;
        if (r->tok[r->n_tok - 1] == guess) continue;
        spec__learn(en, r, n_right);
        return true;
    }
    r->spec.n_draft = n_right; /* nobody looked at the others */
    spec__learn(en, r, n_right);
    engine__finish_run(en, i, why, &err);
    return false;
}

/* The first token of request i, whose prompt was asked about: `row` of the batch is its last. */
static bool advance_late(Engine *en, int i, int row) {
    Batch b = en->batch;
    Err err = {0};
    const float *logits = NULL;
    en->out[0] = row;
    b.n_out = 1;
    if (en->back.logits(en->back.ctx, &b, &logits, &err) != OK) {
        fail_all(en, &err);
        return false;
    }
    en->run[i]->out_row = 0;
    return advance(en, i, logits, engine__now(en));
}

/* Tell request i what its rows bring; false when it is done and gone. */
static bool tell(Engine *en, int i, double now) {
    Req *r = en->run[i];
    Err err = {0};
    FinishReason why = FINISH_LENGTH;
    int last = r->row0 + r->n_rows - 1;
    r->asked = false;
    AskEnd end = engine__is_dead(r, now, &why) ? ASK_DONE : engine__ask_step(en, r, &err);
    rows_done(en, r);
    if (end == ASK_LOST) {
        fail_all(en, &err);
        return false;
    }
    if (end == ASK_FAILED) why = FINISH_ERROR;
    else if (!engine__is_dead(r, now, &why)) why = FINISH_LENGTH;
    else end = ASK_DONE;
    if (end == ASK_AGAIN) r->n_kv = r->in.n_prompt;
    if (end == ASK_GOES_ON || end == ASK_AGAIN) return true;
    if (end == ASK_GENERATES) return advance_late(en, i, last);
    engine__finish_run(en, i, why, &err);
    return false;
}

/* After all others have got their tokens. Returns the seconds it took. */
static double tell_asked(Engine *en, double now) {
    bool any = false;
    for (int i = 0; i < en->n_run && !any; i++) any = en->run[i]->asked;
    if (!any) return 0.0;
    double t0 = engine__now(en);
    for (int i = 0; i < en->n_run;) i += !en->run[i]->asked || tell(en, i, now);
    return engine__now(en) - t0;
}

/* Rows a second, over the last steps. */
static void count_speed(Engine *en, int rows, double seconds) {
    uint64_t old = metrics_get(&en->m.tok_s);
    double now = rows / MAX(seconds, 1e-6), mean = old ? 0.9 * (double)old + 0.1 * now : now;
    atomic_store_explicit(&en->m.tok_s, (uint64_t)MAX(mean, 1.0), memory_order_relaxed);
}

/* A step with this batch begins. */
static void count_step(Engine *en, double now) {
    metrics_add(&en->m.steps, 1);
    metrics_observe(&en->m.iteration_tok, en->batch.T);
    for (int i = 0; i < en->n_run; i++) {
        Req *r = en->run[i];
        if (r->n_rows > 0 && r->t.scheduled <= 0.0) r->t.scheduled = now;
    }
}

static void give_rows(Engine *en) {
    for (int i = 0; i < en->n_run; i++) en->run[i]->n_rows = 0;
    make_way(en);
    en->n_dropped = 0;
    Room m = prompt_rows(en, decode_rows(en));
    for (int i = 0; i < en->n_run; i++) commit(en, en->run[i]);
    if (en->n_dropped > 0) return;
    admit(en, branch_rows(en, m));
    for (int i = 0; i < en->n_run; i++) copy_block(en, en->run[i]);
}

/* The rows are given: run the model, hand out what it says. */
static void run_batch(Engine *en) {
    Err err = {0};
    const float *logits = NULL;
    double t0 = engine__now(en);
    spec__draft(en);
    double work = build_batch(en);
    count_step(en, t0);
    if (en->back.forward(en->back.ctx, &en->batch, &logits, &err) != OK) {
        fail_all(en, &err);
        return;
    }
    engine__pick_all(en, logits);
    double now = engine__now(en);
    en->n_wrong = 0;
    for (int i = 0; i < en->n_run;) i += advance(en, i, logits, now);
    int n_rows = en->batch.T - en->n_wrong;
    double spent = now - t0 + tell_asked(en, now);
    pace_observe(&en->pace, work, spent);
    count_speed(en, n_rows, spent);
}

void engine__step(Engine *en) {
    Err err = {0};
    drop_dead(en);
    give_rows(en);
    count_left(en);
    if (en->n_run == 0) return;
    run_batch(en);
    engine__ask_drop_branches(en, NULL);
    count_left(en);
    if (en->o.check && kv_check(en->pool, &err) != OK) fail_all(en, &err);
}
