/* SPDX-License-Identifier: Apache-2.0 */
#include "load/prompt.h"

#include <math.h>

#include "base/io.h"
#include "base/rng.h"
#include "text/json.h"

#define MAX_FILE ((size_t)256 << 20)
enum { PREFIX = 1 << 30 };

/* Short and frequent: one token each in most vocabularies. */
static const char words[][8] = {
    "the",   "of",     "and",   "to",    "in",    "is",     "that",  "it",    "was",   "for",
    "on",    "are",    "as",    "with",  "his",   "they",   "at",    "be",    "this",  "have",
    "from",  "or",     "one",   "had",   "by",    "word",   "but",   "not",   "what",  "all",
    "were",  "we",     "when",  "your",  "can",   "said",   "there", "use",   "an",    "each",
    "which", "she",    "do",    "how",   "their", "if",     "will",  "up",    "other", "about",
    "out",   "many",   "then",  "them",  "these", "so",     "some",  "her",   "would", "make",
    "like",  "him",    "into",  "time",  "has",   "look",   "two",   "more",  "write", "go",
    "see",   "number", "no",    "way",   "could", "people", "my",    "than",  "first", "water",
    "been",  "call",   "who",   "oil",   "its",   "now",    "find",  "long",  "down",  "day",
    "did",   "get",    "come",  "made",  "may",   "part",   "over",  "new",   "sound", "take",
    "only",  "little", "work",  "know",  "place", "year",   "live",  "me",    "back",  "give",
    "most",  "very",   "after", "thing", "our",   "just",   "name",  "good",  "man",   "think",
    "say",   "great",  "where", "help",  "much",  "before", "line",  "right",
};

void load_put_words(StrBuf *b, uint64_t seed, uint64_t stream, int64_t n) {
    uint32_t r[4] = {0};
    for (int64_t i = 0; i < n; i++) {
        if (i % 4 == 0) rng_philox(r, seed, stream, (uint64_t)i);
        if (i > 0) sb_putc(b, ' ');
        sb_puts(b, words[r[i % 4] % COUNT_OF(words)]);
    }
}

static int64_t words_of(const LoadPrompts *p, double tokens) {
    double per = p->per_word > 0 ? p->per_word : 1;
    return (int64_t)fmax(round(tokens / per), 1);
}

static void put_made(StrBuf *b, const LoadPrompts *p, uint64_t i) {
    int64_t n = words_of(p, load_mix_draw(&p->tokens, p->seed, i) - p->overhead);
    int64_t n_prefix = p->n_prefix > 0 ? MIN(words_of(p, (double)p->n_prefix), n - 1) : 0;
    if (n_prefix > 0) {
        uint64_t kinds = (uint64_t)MAX(p->n_kinds, (int64_t)1);
        uint64_t kind = (uint64_t)(rng_uniform(p->seed, PREFIX, i) * (double)kinds);
        load_put_words(b, p->seed, PREFIX + 1 + kind, n_prefix);
        sb_putc(b, ' ');
    }
    load_put_words(b, p->seed, i, n - n_prefix);
}

void load_prompt_fill(LoadAsk *a, StrBuf *b, const LoadPrompts *p, uint64_t i) {
    if (!p->line) {
        put_made(b, p, i);
        a->prompt = (Slice){sb_str(b), b->n};
        return;
    }
    const LoadLine *l = &p->line[i % p->n_line];
    a->prompt = l->prompt;
    a->messages = l->messages;
    if (l->max_tokens > 0) a->max_tokens = l->max_tokens;
}

/* ---- a file ---- */

static Slice keep(LoadPrompts *p, Slice s) {
    char *q = arena_dup(&p->arena, s.p, s.n);
    return (Slice){q ? q : "", q ? s.n : 0};
}

/* What a person says first. */
static Slice first_turn(const Json *list) {
    for (size_t i = 0; i < json_len(list); i++) {
        const Json *t = json_at(list, i);
        Slice from = json_str(json_get(t, "from"));
        if (slice_eq_str(from, "human") || slice_eq_str(from, "user"))
            return json_str(json_get(t, "value"));
    }
    return (Slice){"", 0};
}

static Status take_messages(LoadPrompts *p, LoadLine *l, const Json *list) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_json(&w, NULL, list);
    l->messages = keep(p, (Slice){sb_str(&b), b.n});
    Status st = sb_check(&b, NULL);
    sb_deinit(&b);
    return st;
}

static Status take_object(LoadPrompts *p, LoadLine *l, const Json *j, Err *e) {
    int64_t most = 0;
    TRY(json_opt_int(&most, j, "max_tokens", 1, LOAD_MAX_LENGTH, e));
    l->max_tokens = (int)most;
    const Json *messages = json_get(j, "messages");
    l->prompt = keep(p, json_str(json_get(j, "prompt")));
    if (json_is_array(messages) && json_len(messages) > 0) return take_messages(p, l, messages);
    if (l->prompt.n == 0) l->prompt = keep(p, first_turn(json_get(j, "conversations")));
    if (l->prompt.n > 0) return OK;
    return err_set(e, ERR_FORMAT,
                   "no text: \"prompt\", \"messages\" or \"conversations\" is wanted");
}

static Status take_line(LoadPrompts *p, Slice text, size_t *cap, Err *e) {
    Json *j = NULL;
    if (p->n_line == *cap) {
        size_t n = *cap ? 2 * *cap : 64;
        LoadLine *v = mem_realloc_n(p->line, n, sizeof *v);
        if (!v) return err_set(e, ERR_NOMEM, "out of memory for %zu prompts", n);
        p->line = v;
        *cap = n;
    }
    p->line[p->n_line] = (LoadLine){.max_tokens = 0};
    TRY(json_parse(&j, text, e));
    Status st = json_is_object(j) ? take_object(p, &p->line[p->n_line], j, e)
                                  : err_set(e, ERR_FORMAT, "not an object");
    json_free(j);
    if (st == OK) p->n_line++;
    return st;
}

static Status take_lines(LoadPrompts *p, Slice all, const char *path, Err *e) {
    size_t cap = 0;
    for (size_t at = 0, number = 1; at < all.n; number++) {
        const char *end = memchr(all.p + at, '\n', all.n - at);
        Slice line = {all.p + at, end ? (size_t)(end - all.p) - at : all.n - at};
        Err why = {0};
        size_t blank = 0;
        while (blank < line.n && strchr(" \t\r", line.p[blank])) blank++;
        Status st = blank == line.n ? OK : take_line(p, line, &cap, &why);
        if (st != OK)
            return err_set(e, st == ERR_NOMEM ? st : ERR_FORMAT, "%s:%zu: %s", path, number,
                           why.msg);
        at += line.n + 1;
    }
    if (p->n_line == 0) return err_set(e, ERR_FORMAT, "%s: no prompts", path);
    return arena_ok(&p->arena) ? OK : err_set(e, ERR_NOMEM, "%s: out of memory", path);
}

Status load_prompts_open(LoadPrompts *p, const char *path, Err *e) {
    StrBuf b = {0};
    arena_init(&p->arena, 64 << 10);
    p->filled = true;
    Status st = io_read_file(&b, path, MAX_FILE, e);
    if (st == OK) st = take_lines(p, (Slice){sb_str(&b), b.n}, path, e);
    sb_deinit(&b);
    return st;
}

void load_prompts_deinit(LoadPrompts *p) {
    mem_free(p->line);
    if (p->filled) arena_deinit(&p->arena);
    *p = (LoadPrompts){.n_line = 0};
}
