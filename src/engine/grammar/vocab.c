/* SPDX-License-Identifier: Apache-2.0
 * The vocabulary as a trie of bytes in one array, in order of first visit: going over it is going forward, and
 * leaving out everything below a node is one jump. */
#include <stdlib.h>

#include "engine/grammar/internal.h"
#include "token/token.h"

typedef struct Entry {
    Slice s;
    int32_t id;
} Entry;

static int by_bytes(const void *x, const void *y) {
    const Entry *a = x, *b = y;
    int d = memcmp(a->s.p, b->s.p, MIN(a->s.n, b->s.n));
    if (d) return d;
    if (a->s.n != b->s.n) return a->s.n < b->s.n ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static size_t common(Slice a, Slice b) {
    size_t i = 0, n = MIN(a.n, b.n);
    while (i < n && a.p[i] == b.p[i]) i++;
    return i;
}

/* How many nodes and doubles the sorted entries make. */
static void count(GrammarVocab *v, const Entry *es, size_t n) {
    Slice last = {"", 0};
    v->n = 1;
    for (size_t i = 0; i < n; i++) {
        size_t same = common(last, es[i].s);
        v->n += (uint32_t)(es[i].s.n - same);
        v->max_depth = MAX(v->max_depth, (uint32_t)es[i].s.n);
        if (i && slice_eq(last, es[i].s)) v->n_same += 3; /* at most: two ids and a -1 */
        last = es[i].s;
    }
}

static Status alloc_trie(GrammarVocab *v, Err *e) {
    v->byte = mem_new_n(uint8_t, v->n);
    v->depth = mem_new_n(uint16_t, v->n);
    v->tok = mem_new_n(int32_t, v->n);
    v->end = mem_new_n(uint32_t, v->n);
    v->same = mem_new_n(int32_t, (size_t)v->n_same + 1);
    if (!v->byte || !v->depth || !v->tok || !v->end || !v->same)
        return err_set(e, ERR_NOMEM, "grammar: vocabulary of %d tokens", (int)v->n_vocab);
    return OK;
}

/* Ids of one text, es[0..n), at the node. */
static void put_ids(GrammarVocab *v, uint32_t node, const Entry *es, size_t n) {
    v->tok[node] = es[0].id;
    if (n == 1) return;
    v->tok[node] = -2 - (int32_t)v->n_same;
    for (size_t i = 0; i < n; i++) v->same[v->n_same++] = es[i].id;
    v->same[v->n_same++] = -1;
}

/* path[d]: the open node at depth d. */
static void fill(GrammarVocab *v, const Entry *es, size_t n, uint32_t *path) {
    Slice last = {"", 0};
    uint32_t i_node = 1;
    v->n_same = 0;
    v->tok[0] = -1;
    path[0] = 0;
    for (size_t i = 0, k; i < n; i = k) {
        size_t same = common(last, es[i].s);
        for (size_t d = last.n; d > same; d--) v->end[path[d]] = i_node;
        for (size_t d = same; d < es[i].s.n; d++) {
            v->byte[i_node] = (uint8_t)es[i].s.p[d];
            v->depth[i_node] = (uint16_t)(d + 1);
            v->tok[i_node] = -1;
            path[d + 1] = i_node++;
        }
        for (k = i + 1; k < n && slice_eq(es[k].s, es[i].s);) k++;
        put_ids(v, path[es[i].s.n], es + i, k - i);
        last = es[i].s;
    }
    for (size_t d = last.n; d > 0; d--) v->end[path[d]] = i_node;
    v->end[0] = i_node;
}

static Status make_trie(GrammarVocab *v, Err *e) {
    Entry *es = mem_new_n(Entry, (size_t)v->n_vocab);
    uint32_t *path = NULL;
    Status st = OK;
    size_t n = 0;
    if (!es) return err_set(e, ERR_NOMEM, "grammar: vocabulary of %d tokens", (int)v->n_vocab);
    for (int32_t i = 0; i < v->n_vocab; i++) {
        Slice s = {v->text + v->first[i], v->first[i + 1] - v->first[i]};
        if (s.n && !v->is_end[i]) es[n++] = (Entry){s, i};
    }
    qsort(es, n, sizeof *es, by_bytes);
    count(v, es, n);
    path = mem_new_n(uint32_t, (size_t)v->max_depth + 1);
    st = path ? alloc_trie(v, e) : err_set(e, ERR_NOMEM, "grammar: vocabulary");
    if (st == OK) fill(v, es, n, path);
    mem_free(es);
    mem_free(path);
    return st;
}

/* Room for n tokens, no text yet. */
static Status begin(GrammarVocab **out, int32_t n, Err *e) {
    GrammarVocab *v = mem_new(GrammarVocab);
    *out = v;
    if (!v) return err_set(e, ERR_NOMEM, "grammar: vocabulary");
    v->n_vocab = n;
    v->words = ((size_t)n + 31) / 32;
    v->first = mem_new_n(uint32_t, (size_t)n + 1);
    v->is_end = mem_new_n(bool, (size_t)n);
    v->ends = mem_new_n(int32_t, (size_t)n);
    if (!v->first || !v->is_end || !v->ends) return err_set(e, ERR_NOMEM, "grammar: vocabulary");
    return OK;
}

static Status finish(GrammarVocab **out, GrammarVocab *v, StrBuf *text, Status st, Err *e) {
    if (st == OK && text->n > UINT32_MAX / 2)
        st = err_set(e, ERR_ARG, "grammar: vocabulary of %zu bytes", text->n);
    if (st == OK) sb_putc(text, 0); /* so that there is something to take */
    if (st == OK) st = sb_check(text, e);
    if (st == OK) {
        v->text = sb_take(text);
        for (int32_t i = 0; i < v->n_vocab; i++)
            if (v->is_end[i]) v->ends[v->n_ends++] = i;
        st = make_trie(v, e);
    }
    sb_deinit(text);
    if (st == OK) *out = v;
    else grammar_vocab_free(v);
    return st;
}

static Status add_piece(GrammarVocab *v, StrBuf *text, int32_t i, Slice s, bool is_end, Err *e) {
    if (s.n > UINT16_MAX)
        return err_set(e, ERR_ARG, "grammar: token %d has %zu bytes, limit %d", (int)i, s.n,
                       UINT16_MAX);
    if (!is_end) sb_put(text, s.p, s.n);
    v->is_end[i] = is_end;
    v->first[i + 1] = (uint32_t)text->n;
    return OK;
}

Status grammar_vocab_new(GrammarVocab **out, const Tokenizer *t, Err *e) {
    GrammarVocab *v = NULL;
    StrBuf text = {0};
    Status st = begin(&v, tok_n_vocab(t), e);
    for (int32_t i = 0; st == OK && i < v->n_vocab; i++) {
        TokType type = tok_type(t, i);
        Slice s = tok_piece(t, i);
        if (type == TOK_CONTROL || type == TOK_UNKNOWN || type == TOK_UNUSED) s.n = 0;
        st = add_piece(v, &text, i, s, tok_is_end(t, i), e);
    }
    return finish(out, v, &text, st, e);
}

Status grammar_vocab_from_pieces(GrammarVocab **out, const Slice *pieces, const bool *is_end,
                                 int32_t n, Err *e) {
    GrammarVocab *v = NULL;
    StrBuf text = {0};
    Status st = begin(&v, n, e);
    for (int32_t i = 0; st == OK && i < n; i++)
        st = add_piece(v, &text, i, pieces[i], is_end && is_end[i], e);
    return finish(out, v, &text, st, e);
}

void grammar_vocab_free(GrammarVocab *v) {
    if (!v) return;
    mem_free(v->byte);
    mem_free(v->depth);
    mem_free(v->tok);
    mem_free(v->end);
    mem_free(v->same);
    mem_free(v->first);
    mem_free(v->text);
    mem_free(v->is_end);
    mem_free(v->ends);
    mem_free(v);
}

size_t grammar_vocab_words(const GrammarVocab *v) { return v->words; }
int32_t grammar_vocab_size(const GrammarVocab *v) { return v->n_vocab; }

size_t grammar_vocab_bytes(const GrammarVocab *v) {
    return v->n * (size_t)11 + v->n_same * sizeof(int32_t) + v->first[v->n_vocab] +
           (size_t)v->n_vocab * 9 + sizeof *v;
}
