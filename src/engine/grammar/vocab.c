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
    v->plain = mem_new_n(uint8_t, v->n);
    v->upto = mem_new_n(uint32_t, (size_t)v->n + 1);
    v->order = mem_new_n(int32_t, (size_t)v->n_vocab);
    if (!v->plain || !v->upto || !v->order || !v->byte || !v->depth || !v->tok || !v->end ||
        !v->same)
        return err_set(e, ERR_NOMEM, "grammar: vocabulary of %d tokens", (int)v->n_vocab);
    return OK;
}

/* Ids of one text, es[0..n), at the node. */
static void put_ids(GrammarVocab *v, uint32_t node, const Entry *es, size_t n) {
    v->tok[node] = es[0].id;
    if (n == 1) return;
    v->tok[node] = -1 - (int32_t)v->n_same;
    for (size_t i = 0; i < n; i++) v->same[v->n_same++] = es[i].id;
    v->same[v->n_same++] = -1;
}

static int32_t no_token(const GrammarVocab *v) { return (int32_t)(v->words * 32); }

/* path[d]: the open node at depth d. */
static void fill(GrammarVocab *v, const Entry *es, size_t n, uint32_t *path) {
    Slice last = {"", 0};
    uint32_t i_node = 1;
    v->n_same = 0;
    v->tok[0] = no_token(v);
    path[0] = 0;
    for (size_t i = 0, k; i < n; i = k) {
        size_t same = common(last, es[i].s);
        for (size_t d = last.n; d > same; d--) v->end[path[d]] = i_node;
        for (size_t d = same; d < es[i].s.n; d++) {
            v->byte[i_node] = (uint8_t)es[i].s.p[d];
            v->depth[i_node] = (uint16_t)(d + 1);
            v->tok[i_node] = no_token(v);
            path[d + 1] = i_node++;
        }
        for (k = i + 1; k < n && slice_eq(es[k].s, es[i].s);) k++;
        put_ids(v, path[es[i].s.n], es + i, k - i);
        last = es[i].s;
    }
    for (size_t d = last.n; d > 0; d--) v->end[path[d]] = i_node;
    v->end[0] = i_node;
}

/* ---- plain characters ---- */

const Utf8Form grammar__forms[GRAMMAR_N_FORMS] = {
    {{0xc2, 0x80}, {0xdf, 0xbf}, 2},
    {{0xe0, 0xa0, 0x80}, {0xe0, 0xbf, 0xbf}, 3},
    {{0xe1, 0x80, 0x80}, {0xec, 0xbf, 0xbf}, 3},
    {{0xed, 0x80, 0x80}, {0xed, 0x9f, 0xbf}, 3},
    {{0xee, 0x80, 0x80}, {0xef, 0xbf, 0xbf}, 3},
    {{0xf0, 0x90, 0x80, 0x80}, {0xf0, 0xbf, 0xbf, 0xbf}, 4},
    {{0xf1, 0x80, 0x80, 0x80}, {0xf3, 0xbf, 0xbf, 0xbf}, 4},
    {{0xf4, 0x80, 0x80, 0x80}, {0xf4, 0x8f, 0xbf, 0xbf}, 4},
};

static const Utf8Form *form_of(uint8_t lead) {
    for (int i = 0; i < GRAMMAR_N_FORMS; i++)
        if (lead >= grammar__forms[i].lo[0] && lead <= grammar__forms[i].hi[0])
            return &grammar__forms[i];
    return NULL;
}

/* Characters below node i, which ends `at` bytes into a character of this form. Those below are known. */
static uint32_t plain_below(const GrammarVocab *v, uint32_t i, const Utf8Form *f, int at) {
    uint32_t most = 0;
    if (f && at == f->n) return v->plain[i];
    for (uint32_t c = i + 1; c < v->end[i]; c = v->end[c]) {
        uint8_t b = v->byte[c];
        uint32_t n;
        if (f)
            n = b >= f->lo[at] && b <= f->hi[at] ? plain_below(v, c, f, at + 1) : GRAMMAR_NOT_PLAIN;
        else if (b < 0x80)
            n = b < 0x20 || b > 0x7e || b == '"' || b == '\\' ? GRAMMAR_NOT_PLAIN : v->plain[c];
        else n = form_of(b) ? plain_below(v, c, form_of(b), 1) : GRAMMAR_NOT_PLAIN;
        if (n == GRAMMAR_NOT_PLAIN) return n;
        most = MAX(most, f ? n : n + 1);
    }
    return most;
}

static void find_plain(GrammarVocab *v) {
    for (uint32_t i = v->n; i-- > 0;) v->plain[i] = (uint8_t)plain_below(v, i, NULL, 0);
}

static void put_order(GrammarVocab *v) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        v->upto[i] = n;
        if (v->tok[i] == no_token(v)) continue;
        if (v->tok[i] >= 0) v->order[n++] = v->tok[i];
        else
            for (const int32_t *p = v->same + (-1 - v->tok[i]); *p >= 0; p++) v->order[n++] = *p;
    }
    v->upto[v->n] = n;
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
    if (st == OK) {
        fill(v, es, n, path);
        find_plain(v);
        put_order(v);
    }
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
    mem_free(v->plain);
    mem_free(v->upto);
    mem_free(v->order);
    mem_free(v->first);
    mem_free(v->text);
    mem_free(v->is_end);
    mem_free(v->ends);
    mem_free(v);
}

size_t grammar_vocab_words(const GrammarVocab *v) { return v->words; }
int32_t grammar_vocab_size(const GrammarVocab *v) { return v->n_vocab; }

size_t grammar_vocab_bytes(const GrammarVocab *v) {
    return v->n * (size_t)16 + v->n_same * sizeof(int32_t) + v->first[v->n_vocab] +
           (size_t)v->n_vocab * 13 + sizeof *v;
}
