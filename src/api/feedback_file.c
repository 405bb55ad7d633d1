/* SPDX-License-Identifier: Apache-2.0
 * feedback.db: its tables and what one batch does to them. io thread. */
#include "api/feedback_internal.h"

static const char *const steps[] = {
    "CREATE TABLE requests ("
    "  n       INTEGER PRIMARY KEY," /* rises: the lowest are the oldest */
    "  id      TEXT NOT NULL UNIQUE,"
    "  model   TEXT NOT NULL,"
    "  version TEXT NOT NULL,"
    "  prompt  BLOB NOT NULL," /* SHA-256 of the prompt */
    "  time    INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE ratings ("
    "  n       INTEGER PRIMARY KEY,"
    "  request TEXT NOT NULL,"
    "  user    TEXT NOT NULL," /* id of the key; '' without keys */
    "  rating  INTEGER NOT NULL CHECK (rating BETWEEN 1 AND 5),"
    "  comment TEXT NOT NULL,"
    "  model   TEXT," /* of its request; NULL: not known */
    "  version TEXT,"
    "  prompt  BLOB,"
    "  time    INTEGER NOT NULL,"
    "  UNIQUE (request, user)"
    ") STRICT;",
};

static const StoreSchema schema = {.what = "feedback",
                                   .app_id = 0x494e4746 /* INGF */,
                                   .steps = steps,
                                   .n_steps = COUNT_OF(steps)};

/* lint: long - one statement after the other */
static Status prepare(FeedbackFile *f, Err *e) {
    Store *s = f->store;
    TRY(store_prepare(&f->add_request, s,
                      "INSERT OR REPLACE INTO requests (id, model, version, prompt, time) "
                      "VALUES (?1, ?2, ?3, ?4, ?5)",
                      e));
    TRY(store_prepare(&f->cut_requests, s,
                      "DELETE FROM requests WHERE n <= (SELECT max(n) FROM requests) - ?1", e));
    TRY(store_prepare(&f->find_request, s,
                      "SELECT model, version, prompt FROM requests WHERE id = ?1", e));
    TRY(store_prepare(&f->find_rating, s,
                      "SELECT model, version FROM ratings WHERE request = ?1 AND user = ?2", e));
    TRY(store_prepare(&f->put_rating, s,
                      "INSERT INTO ratings (request, user, rating, comment, model, version, "
                      "prompt, time) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) "
                      "ON CONFLICT (request, user) DO UPDATE SET rating = excluded.rating, "
                      "comment = excluded.comment, model = coalesce(excluded.model, model), "
                      "version = coalesce(excluded.version, version), "
                      "prompt = coalesce(excluded.prompt, prompt), time = excluded.time",
                      e));
    return store_prepare(&f->cut_ratings, s,
                         "DELETE FROM ratings WHERE n <= (SELECT max(n) FROM ratings) - ?1", e);
}

Status feedback__file_open(FeedbackFile *f, const char *path, Err *e) {
    FeedbackFile n = {0};
    Status st = store_open(&n.store, path, &schema, e);
    if (st == OK) st = prepare(&n, e);
    if (st != OK) {
        feedback__file_close(&n);
        return st;
    }
    *f = n;
    return OK;
}

void feedback__file_close(FeedbackFile *f) {
    StoreStmt *const all[] = {f->add_request, f->cut_requests, f->find_request,
                              f->find_rating, f->put_rating,   f->cut_ratings};
    for (size_t i = 0; i < COUNT_OF(all); i++) store_stmt_free(all[i]);
    store_close(f->store);
    *f = (FeedbackFile){0};
}

static Status write_note(FeedbackFile *f, const FeedbackRecord *n, Err *e) {
    StoreStmt *q = f->add_request;
    store_bind_text(q, 1, slice_of(n->id));
    store_bind_text(q, 2, slice_of(n->model));
    store_bind_text(q, 3, slice_of(n->version));
    store_bind_blob(q, 4, &n->prompt, sizeof n->prompt);
    store_bind_int(q, 5, n->time_s);
    return store_run(q, e);
}

static void take(char *out, size_t cap, Slice s) {
    size_t n = MIN(s.n, cap - 1);
    memcpy(out, s.p, n);
    out[n] = '\0';
}

/* What is known of the rating's request: from its own row, or from an earlier rating that outlived it. */
static Status find_known(FeedbackFile *f, FeedbackTicket *t, Sha256 *prompt, bool *has_prompt,
                         Err *e) {
    bool row = false;
    store_bind_text(f->find_rating, 1, slice_of(t->request));
    store_bind_text(f->find_rating, 2, slice_of(t->user));
    TRY(store_step(&row, f->find_rating, e));
    t->d.replaced = row;
    t->d.known = row && !store_is_null(f->find_rating, 0);
    if (t->d.known) {
        take(t->d.model, sizeof t->d.model, store_text(f->find_rating, 0));
        take(t->d.version, sizeof t->d.version, store_text(f->find_rating, 1));
    }
    store_bind_text(f->find_request, 1, slice_of(t->request));
    TRY(store_step(&row, f->find_request, e));
    if (!row) return OK;
    t->d.known = true;
    take(t->d.model, sizeof t->d.model, store_text(f->find_request, 0));
    take(t->d.version, sizeof t->d.version, store_text(f->find_request, 1));
    Slice p = store_blob(f->find_request, 2);
    *has_prompt = p.n == sizeof *prompt;
    if (*has_prompt) memcpy(prompt, p.p, sizeof *prompt);
    return OK;
}

static Status put_rating(FeedbackFile *f, const FeedbackTicket *t, const Sha256 *prompt, Err *e) {
    StoreStmt *q = f->put_rating;
    store_bind_text(q, 1, slice_of(t->request));
    store_bind_text(q, 2, slice_of(t->user));
    store_bind_int(q, 3, t->d.rating);
    store_bind_text(q, 4, slice_of(t->comment));
    if (t->d.known) {
        store_bind_text(q, 5, slice_of(t->d.model));
        store_bind_text(q, 6, slice_of(t->d.version));
    }
    if (prompt) store_bind_blob(q, 7, prompt, sizeof *prompt);
    store_bind_int(q, 8, t->time_s);
    return store_run(q, e);
}

static Status write_ticket(FeedbackFile *f, FeedbackTicket *t, Err *e) {
    Sha256 prompt;
    bool has_prompt = false;
    Status st = find_known(f, t, &prompt, &has_prompt, e);
    store_reset(f->find_rating);
    store_reset(f->find_request);
    return st == OK ? put_rating(f, t, has_prompt ? &prompt : NULL, e) : st;
}

static Status cut(StoreStmt *q, int64_t most, Err *e) {
    store_bind_int(q, 1, most);
    return store_run(q, e);
}

static Status write_all(FeedbackFile *f, const FeedbackBatch *b, const FeedbackConfig *c, Err *e) {
    for (int i = 0; i < b->n_notes; i++) TRY(write_note(f, &b->notes[i], e));
    for (FeedbackTicket *t = b->tickets; t; t = t->next) TRY(write_ticket(f, t, e));
    if (b->n_notes > 0) TRY(cut(f->cut_requests, c->max_requests, e));
    return b->tickets ? cut(f->cut_ratings, c->max_ratings, e) : OK;
}

Status feedback__file_write(FeedbackFile *f, const FeedbackBatch *b, const FeedbackConfig *c,
                            Err *e) {
    TRY(store_begin(f->store, e));
    Status st = write_all(f, b, c, e);
    if (st == OK) return store_commit(f->store, e);
    store_rollback(f->store);
    return st;
}
