/* SPDX-License-Identifier: Apache-2.0
 *
 * Learning merges. All distinct chunks lie one after the other in `sym`, one slot per byte, with a
 * separator slot before, between and after them:
 *
 *   sym:  SEP  h  e  l  l  o  SEP ...      one id per byte at first
 *   sym:  SEP  he -2 ll -2 o  SEP ...      after (h,e) and (l,l): the id stands in the first slot of a
 *                                          symbol and minus its length in the last, so that both
 *                                          neighbours are found without links
 *
 * Each pair keeps its count (weighted by the chunks' counts) and the places where it stood when it came
 * up; a place that has changed since is recognised by looking. A merge visits the places of its pair
 * only. The heap is lazy: once queued, counts only fall, so an item is checked when it comes to the top.
 * Cost: about the sum of all places visited. Ties go to the smaller pair of ids.
 *
 * No two merges make the same bytes. As long as no merge has crossed the bounds of a stretch of symbols,
 * what became of it depends on its own bytes alone (a run of equal symbols pairs up from the left, and an
 * odd one out at either end would cross). So when one stretch of these bytes was about to become a token,
 * every other one stood as the same pair and became it too. For the same reason a pair's places are
 * noted within one step, in rising order, and a pair that is merged never comes up again.
 */
#include "token/train_internal.h"

enum { SEP = INT32_MIN, GONE = INT32_MIN + 1, PROGRESS_EVERY = 64 };

typedef struct Pair {
    uint64_t key; /* tok__pair */
    uint64_t count;
    uint32_t *at; /* owned; slots of the left symbol */
    size_t n, cap;
} Pair;

typedef struct HeapItem {
    uint64_t count, key;
    uint32_t pair;
} HeapItem;

typedef struct Learner {
    const WordCounts *words; /* borrowed */
    int32_t *sym;            /* owned [n_sym] */
    uint32_t *word_of;       /* owned [n_sym] */
    size_t n_sym;
    Pair *pair; /* owned */
    size_t n_pair, cap_pair;
    uint32_t *slot; /* owned [mask + 1] index + 1 into pair; 0 is empty */
    size_t mask;
    uint64_t odd;
    HeapItem *heap; /* owned */
    size_t n_heap, cap_heap;
    size_t n_queued; /* pairs from here on came up in this step */
    bool failed;     /* memory is out; sticky */
} Learner;

/* v with room for one more element than n; NULL when memory is out, and v is as it was. */
static void *grown(Learner *x, void *v, size_t n, size_t *cap, size_t size) {
    if (n < *cap) return v;
    size_t want = MAX(2 * *cap, (size_t)8);
    void *q = x->failed ? NULL : mem_realloc_n(v, want, size);
    if (!q) {
        x->failed = true;
        return NULL;
    }
    *cap = want;
    return q;
}

/* ---- pairs ---- */

static size_t pair_slot(const Learner *x, uint64_t key) {
    size_t i = (size_t)((key * x->odd) >> 20) & x->mask;
    while (x->slot[i] && x->pair[x->slot[i] - 1].key != key) i = (i + 1) & x->mask;
    return i;
}

/* Room for one more pair; the table stays at most half full. */
static bool reserve_pair(Learner *x) {
    Pair *pair = grown(x, x->pair, x->n_pair, &x->cap_pair, sizeof *pair);
    if (!pair || x->n_pair == UINT32_MAX) return false;
    x->pair = pair;
    if (x->slot && 2 * (x->n_pair + 1) <= x->mask + 1) return true;
    size_t n = x->slot ? 2 * (x->mask + 1) : 1 << 14;
    uint32_t *slot = mem_new_n(uint32_t, n);
    if (!slot) return false;
    mem_free(x->slot);
    x->slot = slot;
    x->mask = n - 1;
    x->odd = tok__seed(slot) | 1;
    for (size_t i = 0; i < x->n_pair; i++) slot[pair_slot(x, x->pair[i].key)] = (uint32_t)i + 1;
    return true;
}

/* The pair with this key, made if need be; NULL when memory is out. */
static Pair *pair_get(Learner *x, uint64_t key) {
    size_t i = x->slot ? pair_slot(x, key) : 0;
    if (x->slot && x->slot[i]) return &x->pair[x->slot[i] - 1];
    if (!reserve_pair(x)) {
        x->failed = true;
        return NULL;
    }
    x->pair[x->n_pair++] = (Pair){.key = key};
    x->slot[pair_slot(x, key)] = (uint32_t)x->n_pair;
    return &x->pair[x->n_pair - 1];
}

/* The pair (l, r) came up with l in slot `at`. */
static void pair_add(Learner *x, int32_t l, int32_t r, uint32_t at) {
    Pair *p = pair_get(x, tok__pair(l, r));
    uint32_t *v = p ? grown(x, p->at, p->n, &p->cap, sizeof *v) : NULL;
    if (!v) return;
    p->at = v;
    p->at[p->n++] = at;
    p->count += x->words->word[x->word_of[at]].count;
}

/* The pair (l, r) with l in slot `at` is no more. */
static void pair_sub(Learner *x, int32_t l, int32_t r, uint32_t at) {
    Pair *p = pair_get(x, tok__pair(l, r));
    if (p) p->count -= x->words->word[x->word_of[at]].count;
}

/* ---- heap: highest count first, then the smaller pair ---- */

static bool before(const HeapItem *a, const HeapItem *b) {
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static void heap_push(Learner *x, uint32_t pair) {
    HeapItem *heap = grown(x, x->heap, x->n_heap, &x->cap_heap, sizeof *heap);
    if (!heap) return;
    x->heap = heap;
    HeapItem it = {x->pair[pair].count, x->pair[pair].key, pair};
    size_t i = x->n_heap++;
    for (; i > 0 && before(&it, &x->heap[(i - 1) / 2]); i = (i - 1) / 2)
        x->heap[i] = x->heap[(i - 1) / 2];
    x->heap[i] = it;
}

static HeapItem heap_pop(Learner *x) {
    HeapItem top = x->heap[0], it = x->heap[--x->n_heap];
    size_t i = 0;
    for (;;) {
        size_t kid = 2 * i + 1;
        if (kid >= x->n_heap) break;
        if (kid + 1 < x->n_heap && before(&x->heap[kid + 1], &x->heap[kid])) kid++;
        if (!before(&x->heap[kid], &it)) break;
        x->heap[i] = x->heap[kid];
        i = kid;
    }
    x->heap[i] = it;
    return top;
}

/* Queue the pairs that came up in this step, now that their counts are complete. */
static void queue_new(Learner *x) {
    for (; x->n_queued < x->n_pair; x->n_queued++) {
        if (x->pair[x->n_queued].count > 0) heap_push(x, (uint32_t)x->n_queued);
    }
}

/* The most frequent pair; NULL when none is left. */
static Pair *take_best(Learner *x) {
    while (x->n_heap > 0 && !x->failed) {
        HeapItem it = heap_pop(x);
        Pair *p = &x->pair[it.pair];
        if (p->count == it.count) return p;
        if (p->count > 0) heap_push(x, it.pair); /* fallen since */
    }
    return NULL;
}

/* ---- symbols ---- */

static bool lay_out(Learner *x) {
    const WordCounts *w = x->words;
    x->sym = mem_new_n(int32_t, x->n_sym);
    x->word_of = mem_new_n(uint32_t, x->n_sym);
    if (!x->sym || !x->word_of) return false;
    size_t at = 0;
    x->sym[at++] = SEP;
    for (size_t i = 0; i < w->n; i++) {
        for (uint32_t k = 0; k < w->word[i].n; k++, at++) {
            x->sym[at] = (uint8_t)w->bytes[w->word[i].at + k];
            x->word_of[at] = (uint32_t)i;
        }
        x->sym[at++] = SEP;
    }
    for (size_t i = 1; i + 1 < x->n_sym; i++) {
        if (x->sym[i] != SEP && x->sym[i + 1] != SEP)
            pair_add(x, x->sym[i], x->sym[i + 1], (uint32_t)i);
    }
    queue_new(x);
    return !x->failed;
}

/* Slot of the symbol that ends before p, or 0 if p is the first of its chunk. */
static uint32_t slot_before(const Learner *x, uint32_t p) {
    int32_t v = x->sym[p - 1];
    if (v == SEP) return 0;
    return v >= 0 ? p - 1 : p - (uint32_t)-v;
}

typedef struct Join {
    int32_t l, r, id;
    uint32_t n_l, n_r; /* bytes */
} Join;

/* Put j.id in place of the pair at slot p, if it still stands there. */
static void join_at(Learner *x, const Join *j, uint32_t p) {
    uint32_t q = p + j->n_l, n = j->n_l + j->n_r;
    if (x->sym[p] != j->l || x->sym[q] != j->r) return;
    uint32_t prev = slot_before(x, p);
    int32_t next = x->sym[q + j->n_r];
    if (prev) {
        pair_sub(x, x->sym[prev], j->l, prev);
        pair_add(x, x->sym[prev], j->id, prev);
    }
    if (next != SEP) {
        pair_sub(x, j->r, next, q);
        pair_add(x, j->id, next, p);
    }
    x->sym[p] = j->id;
    x->sym[q] = GONE;
    x->sym[p + n - 1] = -(int32_t)n;
}

/* A token of the bytes of l and r; -1 when memory is out. */
static int32_t add_token(Learned *out, int32_t l, int32_t r) {
    Slice a = out->token[l], b = out->token[r];
    char *p = arena_alloc(&out->mem, a.n + b.n, 1);
    if (!p) return -1;
    memcpy(p, a.p, a.n);
    memcpy(p + a.n, b.p, b.n);
    out->token[out->n_tokens] = (Slice){p, a.n + b.n};
    return out->n_tokens++;
}

static void learn_pair(Learner *x, Learned *out, Pair *best) {
    Join j = {.l = (int32_t)(best->key >> 32), .r = (int32_t)(best->key & UINT32_MAX)};
    j.n_l = (uint32_t)out->token[j.l].n;
    j.n_r = (uint32_t)out->token[j.r].n;
    j.id = add_token(out, j.l, j.r);
    if (j.id < 0) {
        x->failed = true;
        return;
    }
    out->merge[out->n_merges++] = best->key;
    uint32_t *at = best->at;
    size_t n = best->n, i_best = (size_t)(best - x->pair);
    best->at = NULL; /* pairs may move while the places are visited */
    best->n = best->cap = 0;
    for (size_t i = 0; i < n && !x->failed; i++) join_at(x, &j, at[i]);
    mem_free(at);
    x->pair[i_best].count = 0;
    queue_new(x);
}

static Status learn_all(Learner *x, Learned *out, const TokTrainOpts *o, int32_t n_tokens, Err *e) {
    while (out->n_tokens < n_tokens && !x->failed) {
        Pair *best = take_best(x);
        if (!best) break;
        learn_pair(x, out, best);
        if (o->progress && out->n_merges % PROGRESS_EVERY == 0) {
            o->progress(o->progress_ctx, out->n_tokens, n_tokens);
        }
    }
    if (x->failed) return err_set(e, ERR_NOMEM, "tokenizer training: out of memory");
    if (o->progress) o->progress(o->progress_ctx, out->n_tokens, n_tokens);
    return OK;
}

static void learner_deinit(Learner *x) {
    for (size_t i = 0; i < x->n_pair; i++) mem_free(x->pair[i].at);
    mem_free(x->pair);
    mem_free(x->slot);
    mem_free(x->heap);
    mem_free(x->sym);
    mem_free(x->word_of);
}

void tok__learned_deinit(Learned *l) {
    mem_free(l->merge);
    mem_free(l->token);
    arena_deinit(&l->mem);
}

/* Tables of the result, with the 256 bytes as first tokens. */
static bool learned_init(Learned *out, int32_t n_tokens) {
    arena_init(&out->mem, 64 << 10);
    out->merge = mem_new_n(uint64_t, (size_t)n_tokens);
    out->token = mem_new_n(Slice, (size_t)n_tokens);
    char *p = arena_alloc(&out->mem, 256, 1);
    if (!out->merge || !out->token || !p) return false;
    for (int b = 0; b < 256; b++) {
        p[b] = (char)b;
        out->token[b] = (Slice){p + b, 1};
    }
    out->n_tokens = 256;
    return true;
}

Status tok__learn(Learned *out, const WordCounts *w, const TokTrainOpts *o, int32_t n_tokens,
                  Err *e) {
    Learner x = {.words = w, .n_sym = w->n_bytes + w->n + 1};
    if (x.n_sym > UINT32_MAX - 1) {
        return err_set(e, ERR_FULL, "tokenizer training: %zu bytes of different chunks, limit %u",
                       x.n_sym, (unsigned)UINT32_MAX);
    }
    Status st = learned_init(out, n_tokens) && lay_out(&x)
                    ? learn_all(&x, out, o, n_tokens, e)
                    : err_set(e, ERR_NOMEM, "tokenizer training: out of memory");
    learner_deinit(&x);
    return st;
}
