/* SPDX-License-Identifier: Apache-2.0
 *
 * The trainer as callers see it: documents in, a tokenizer out. With several threads documents are
 * gathered into a batch, long ones cut into parts, and counted in parallel, each worker into a table of
 * its own; the tables are joined before learning. What is learned depends on the counts alone, so it is
 * the same for any number of threads.
 */
#include "base/team.h"
#include "token/train_internal.h"

enum { PART_BYTES = 64 << 10, BATCH_BYTES = 4 << 20, MAX_THREADS = 256 };

struct TokTrainer {
    TokTrainOpts o;
    int n_threads;
    Team *team;        /* owned; NULL with one thread */
    WordCounts *words; /* owned [n_threads] */
    Status *failed;    /* owned [n_threads] */
    StrBuf batch;      /* documents not yet counted */
    TokBuf ends;       /* where each part of the batch ends */
};

static Status no_memory(Err *e) {
    return err_set(e, ERR_NOMEM, "tokenizer training: out of memory");
}

static Status trainer_init(TokTrainer *t, const TokTrainOpts *o, Err *e) {
    t->o = *o;
    t->n_threads = MAX(o->n_threads, 1);
    t->words = mem_new_n(WordCounts, (size_t)t->n_threads);
    t->failed = mem_new_n(Status, (size_t)t->n_threads);
    if (!t->words || !t->failed) return no_memory(e);
    return t->n_threads > 1 ? team_new(&t->team, t->n_threads, e) : OK;
}

Status tok_train_new(TokTrainer **out, const TokTrainOpts *o, Err *e) {
    if (o->n_vocab < TOK_TRAIN_MIN_VOCAB || o->n_vocab > TOK_TRAIN_MAX_VOCAB) {
        return err_set(e, ERR_ARG, "vocabulary size %ld is out of range, %d to %d",
                       (long)o->n_vocab, (int)TOK_TRAIN_MIN_VOCAB, (int)TOK_TRAIN_MAX_VOCAB);
    }
    if (o->n_threads < 0 || o->n_threads > MAX_THREADS) {
        return err_set(e, ERR_ARG, "%d threads are out of range, 0 to %d", o->n_threads,
                       (int)MAX_THREADS);
    }
    TokTrainer *t = mem_new(TokTrainer);
    Status st = t ? trainer_init(t, o, e) : no_memory(e);
    if (st != OK) {
        tok_train_free(t);
        return st;
    }
    *out = t;
    return OK;
}

void tok_train_free(TokTrainer *t) {
    if (!t) return;
    for (int i = 0; t->words && i < t->n_threads; i++) tok__words_deinit(&t->words[i]);
    team_free(t->team);
    sb_deinit(&t->batch);
    tokbuf_deinit(&t->ends);
    mem_free(t->words);
    mem_free(t->failed);
    mem_free(t);
}

static Status count_text(WordCounts *w, Slice text, Err *e) {
    static const Splitter gpt2 = {.scan = tok__scan_gpt2};
    Chunks c;
    Slice chunk;
    tok__chunks_init(&c, &gpt2, 1, NULL, text);
    for (ChunkKind k; (k = tok__chunk_next(&c, &chunk)) != CHUNK_END;) {
        if (k == CHUNK_BYTES || chunk.n < 2) continue; /* nothing in it to merge */
        chunk.n = MIN(chunk.n, (size_t)TOK_MAX_CHUNK);
        TRY(tok__words_add(w, chunk, e));
    }
    return OK;
}

static void count_part(void *ctx, int64_t i, int worker) {
    TokTrainer *t = ctx;
    size_t from = i > 0 ? (size_t)t->ends.v[i - 1] : 0;
    Slice part = {t->batch.p + from, (size_t)t->ends.v[i] - from};
    if (t->failed[worker] == OK) t->failed[worker] = count_text(&t->words[worker], part, NULL);
}

/* Count what has been gathered. */
static Status flush(TokTrainer *t, Err *e) {
    if (t->batch.failed || t->ends.failed) return no_memory(e);
    if (t->ends.n > 0) team_run(t->team, (int64_t)t->ends.n, count_part, t);
    sb_clear(&t->batch);
    t->ends.n = 0;
    for (int i = 0; i < t->n_threads; i++) {
        if (t->failed[i] == ERR_NOMEM) return no_memory(e);
        if (t->failed[i] != OK)
            return err_set(e, t->failed[i], "tokenizer training: too many different chunks");
    }
    return OK;
}

static bool is_black(char c) { return c > ' ' && c < 0x7f; }

size_t tok__train_part(Slice doc) {
    for (size_t i = PART_BYTES; i + 2 < doc.n; i++) {
        if (doc.p[i] == '\n' && is_black(doc.p[i - 1]) && is_black(doc.p[i + 1])) return i + 1;
    }
    return doc.n;
}

Status tok_train_add(TokTrainer *t, Slice doc, Err *e) {
    if (!t->team) return count_text(&t->words[0], doc, e);
    while (doc.n > 0) {
        size_t n = tok__train_part(doc);
        if (n > BATCH_BYTES) {
            TRY(count_text(&t->words[0], (Slice){doc.p, n},
                           e)); /* a part without a place to cut it */
        } else {
            sb_put(&t->batch, doc.p, n);
            tokbuf_push(&t->ends, (int32_t)t->batch.n);
        }
        doc = (Slice){doc.p + n, doc.n - n};
        if (t->batch.n >= BATCH_BYTES) TRY(flush(t, e));
    }
    return t->batch.failed || t->ends.failed ? no_memory(e) : OK;
}

/* All counts into the first table. */
static Status join_counts(TokTrainer *t, Err *e) {
    for (int i = 1; i < t->n_threads; i++) {
        TRY(tok__words_join(&t->words[0], &t->words[i], e));
        tok__words_deinit(&t->words[i]);
    }
    return OK;
}

Status tok_train_finish(TokTrainer *t, Tokenizer **out, Err *e) {
    if (t->team) TRY(flush(t, e));
    TRY(join_counts(t, e));
    Learned l = {0};
    Status st = tok__learn(&l, &t->words[0], &t->o, t->o.n_vocab - 1, e);
    if (st == OK) st = tok__learned_load(out, &l, e);
    tok__learned_deinit(&l);
    return st;
}
