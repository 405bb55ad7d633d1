/* SPDX-License-Identifier: Apache-2.0
 * What a client asks of files and batches, and the objects it is answered with. io thread. */
#include <stdio.h>
#include <time.h>

#include "api/batches_internal.h"
#include "net/http.h"
#include "net/multipart.h"
#include "text/utf8.h"

enum { MAX_PAIRS = 16, MAX_KEY = 64, MAX_VALUE = 512, MAX_WINDOW_S = 7 * 86400 };

/* ---- POST /v1/batches ---- */

typedef struct NewBatch {
    Slice input, endpoint, window;
    const Json *metadata;
} NewBatch;

static const ApiField new_rows[] = {
    {.key = "input_file_id",
     .type = API_STR,
     .offset = offsetof(NewBatch, input),
     .min = 1,
     .max = 64,
     .required = true,
     .help = "a file that was uploaded with purpose batch"},
    {.key = "endpoint",
     .type = API_STR,
     .offset = offsetof(NewBatch, endpoint),
     .min = 1,
     .max = BATCHES_MAX_ENDPOINT - 1,
     .required = true,
     .help = "the url of all its lines: /v1/chat/completions, /v1/completions, /v1/embeddings, "
             "/v1/responses"},
    {.key = "completion_window",
     .type = API_STR,
     .offset = offsetof(NewBatch, window),
     .min = 2,
     .max = 8,
     .def = "24h",
     .help = "after so long what is not done expires: a number with m, h or d, up to 7d"},
    {.key = "metadata",
     .type = API_JSON,
     .offset = offsetof(NewBatch, metadata),
     .kinds = API_KIND(OBJECT),
     .max = MAX_PAIRS,
     .help = "up to 16 texts by name, kept with it"},
};

const ApiSchema batches_schema = {"BatchRequest", {{new_rows, (int)COUNT_OF(new_rows)}}};

static int64_t window_s(Slice w) {
    char digits[8] = "";
    int64_t n = 0, unit = 0;
    if (w.n < 2 || w.n > sizeof digits) return 0;
    memcpy(digits, w.p, w.n - 1);
    switch (w.p[w.n - 1]) {
    case 'm': unit = 60; break;
    case 'h': unit = 3600; break;
    case 'd': unit = 86400; break;
    default: return 0;
    }
    if (!str_to_i64(&n, digits) || n < 1 || n > MAX_WINDOW_S) return 0;
    return n * unit <= MAX_WINDOW_S ? n * unit : 0;
}

static Status check_metadata(const Json *m, Err *e) {
    Slice key;
    const Json *v;
    for (void *it = NULL; (it = json_next(m, it, &key, &v));) {
        if (key.n > MAX_KEY || !json_is_str(v) || json_str(v).n > MAX_VALUE)
            return err_set(e, ERR_ARG,
                           "metadata: names of up to %d bytes with texts of up to %d are taken",
                           MAX_KEY, MAX_VALUE);
    }
    return OK;
}

/* ---- objects ---- */

static void put_file(JsonW *w, const FileRow *f) {
    jw_obj(w, NULL);
    jw_cstr(w, "id", f->id);
    jw_cstr(w, "object", "file");
    jw_int(w, "bytes", f->bytes);
    jw_int(w, "created_at", f->created);
    jw_null(w, "expires_at");
    jw_cstr(w, "filename", f->name);
    jw_cstr(w, "purpose", f->purpose);
    jw_cstr(w, "status", "processed");
    jw_null(w, "status_details");
    jw_end_obj(w);
}

static const char *state_name(BatchState s) {
    static const char *const names[BATCH_N_STATES] = {"validating", "in_progress", "cancelling",
                                                      "completed",  "failed",      "expired",
                                                      "cancelled"};
    return names[s];
}

static void put_times(JsonW *w, const BatchRow *r) {
    static const char *const names[BATCH_N_TIMES] = {"created_at",   "in_progress_at",
                                                     "expires_at",   "finalizing_at",
                                                     "completed_at", "failed_at",
                                                     "expired_at",   "cancelling_at",
                                                     "cancelled_at"};
    for (int i = 0; i < BATCH_N_TIMES; i++) {
        if (r->t[i] > 0) jw_int(w, names[i], r->t[i]);
        else jw_null(w, names[i]);
    }
}

static void put_or_null(JsonW *w, const char *key, const char *text, bool is_there) {
    if (is_there) jw_cstr(w, key, text);
    else jw_null(w, key);
}

static void put_errors(JsonW *w, const BatchRow *r) {
    if (!r->errors || !r->errors[0]) {
        jw_null(w, "errors");
        return;
    }
    jw_obj(w, "errors");
    jw_cstr(w, "object", "list");
    jw_arr(w, "data");
    sb_puts(w->b, r->errors);
    jw_end_arr(w);
    jw_end_obj(w);
}

static void put_batch(JsonW *w, const BatchRow *r) {
    jw_obj(w, NULL);
    jw_cstr(w, "id", r->id);
    jw_cstr(w, "object", "batch");
    jw_cstr(w, "endpoint", r->endpoint);
    put_errors(w, r);
    jw_cstr(w, "input_file_id", r->input);
    jw_cstr(w, "completion_window", r->window);
    jw_cstr(w, "status", state_name(r->state));
    put_or_null(w, "output_file_id", r->out, r->has_out);
    put_or_null(w, "error_file_id", r->err, r->has_err);
    put_times(w, r);
    jw_obj(w, "request_counts");
    jw_int(w, "total", r->n_total);
    jw_int(w, "completed", r->n_ok);
    jw_int(w, "failed", r->n_failed);
    jw_end_obj(w);
    if (r->metadata && r->metadata[0]) jw_raw(w, "metadata", slice_of(r->metadata));
    else jw_null(w, "metadata");
    jw_end_obj(w);
}

/* The row of a batch at work knows more than the table. */
static const BatchRow *newest(const Batches *b, const BatchRow *r) {
    const Active *a = batches__find_active(b, r->id);
    return a ? &a->row : r;
}

static void answer_file(BatchesTicket *t, const FileRow *f) {
    JsonW w;
    jw_init(&w, &t->out);
    put_file(&w, f);
}

static void answer_batch(const Batches *b, BatchesTicket *t, const BatchRow *r) {
    JsonW w;
    jw_init(&w, &t->out);
    put_batch(&w, newest(b, r));
}

/* ---- lists ---- */

typedef struct Listing {
    Batches *b;
    JsonW w;
    char first[BATCHES_MAX_ID], last[BATCHES_MAX_ID];
    int n, limit;
} Listing;

/* Note a row; false: it is the one beyond the page. */
static bool list_row(Listing *l, const char *id) {
    if (l->n++ == l->limit) return false;
    if (l->n == 1) snprintf(l->first, sizeof l->first, "%s", id);
    snprintf(l->last, sizeof l->last, "%s", id);
    return true;
}

static void list_file(void *ctx, const FileRow *f) {
    Listing *l = ctx;
    if (list_row(l, f->id)) put_file(&l->w, f);
}

static void list_batch(void *ctx, const BatchRow *r) {
    Listing *l = ctx;
    if (list_row(l, r->id)) put_batch(&l->w, newest(l->b, r));
}

static void begin_list(Listing *l, Batches *b, BatchesTicket *t, int limit) {
    *l = (Listing){.b = b, .limit = limit};
    jw_init(&l->w, &t->out);
    jw_obj(&l->w, NULL);
    jw_cstr(&l->w, "object", "list");
    jw_arr(&l->w, "data");
}

static void end_list(Listing *l) {
    jw_end_arr(&l->w);
    put_or_null(&l->w, "first_id", l->first, l->n > 0);
    put_or_null(&l->w, "last_id", l->last, l->n > 0);
    jw_bool(&l->w, "has_more", l->n > l->limit);
    jw_end_obj(&l->w);
}

static Status query_word(char out[BATCHES_MAX_ID], const BatchesTicket *t, const char *name,
                         Err *e) {
    StrBuf b = {0};
    bool found;
    Slice query = {sb_str(&t->query), t->query.n};
    Status st = http_query_get(&b, &found, query, name, e);
    if (st == ERR_FORMAT || b.n >= BATCHES_MAX_ID) {
        st = ERR_ARG;
        *e = (Err){0};
        if (err_set(e, st, "%s: is not understood", name) == OK) st = OK;
    }
    snprintf(out, BATCHES_MAX_ID, "%s", st == OK && found ? sb_str(&b) : "");
    sb_deinit(&b);
    return st;
}

/* limit and after; `after` is an id of the table. */
static Status read_page(BatchesPage *p, Batches *b, BatchesTicket *t, const char *sql, int most,
                        int def, Err *e) {
    char limit[BATCHES_MAX_ID], after[BATCHES_MAX_ID];
    int64_t n = def;
    p->owner = t->owner;
    TRY(query_word(limit, t, "limit", e));
    TRY(query_word(after, t, "after", e));
    if (limit[0] && (!str_to_i64(&n, limit) || n < 1 || n > most)) {
        t->r.param = "limit";
        return err_set(e, ERR_ARG, "limit: want 1 to %d", most);
    }
    p->limit = (int)n + 1; /* one more shows whether there are more */
    if (!after[0]) return OK;
    TRY(batches__count(&p->after, b->store, sql, after, e));
    if (p->after > 0) return OK;
    t->r.param = "after";
    return err_set(e, ERR_ARG, "after: \"%s\" does not exist", after);
}

static Status do_file_list(Batches *b, BatchesTicket *t, Err *e) {
    BatchesPage p = {0};
    Listing l;
    char order[BATCHES_MAX_ID], purpose[BATCHES_MAX_ID];
    TRY(read_page(&p, b, t, "SELECT n FROM files WHERE id = ?1", 10000, 10000, e));
    TRY(query_word(order, t, "order", e));
    TRY(query_word(purpose, t, "purpose", e));
    p.ascending = strcmp(order, "asc") == 0;
    p.purpose = purpose;
    begin_list(&l, b, t, p.limit - 1);
    TRY(batches__files_list(b->store, &p, list_file, &l, e));
    end_list(&l);
    return OK;
}

static Status do_list(Batches *b, BatchesTicket *t, Err *e) {
    BatchesPage p = {0};
    Listing l;
    TRY(read_page(&p, b, t, "SELECT n FROM batches WHERE id = ?1", 100, 20, e));
    begin_list(&l, b, t, p.limit - 1);
    TRY(batches__rows_list(b->store, &p, list_batch, &l, e));
    end_list(&l);
    return OK;
}

/* ---- files ---- */

static Status no_such(const BatchesTicket *t, const char *what, Err *e) {
    return err_set(e, ERR_NOT_FOUND, "%s \"%s\" does not exist", what, t->id);
}

static Status find_file(FileRow *f, Batches *b, const BatchesTicket *t, Err *e) {
    bool found;
    TRY(batches__file_find(&found, f, b->store, t->owner, slice_of(t->id), e));
    return found ? OK : no_such(t, "file", e);
}

/* What stands behind the last slash, if it can stand in a list. */
static void clean_name(char out[BATCHES_MAX_FILENAME], Slice given) {
    Slice s = given.p ? given : slice_of("");
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '/' && s.p[i] != '\\') continue;
        s = (Slice){s.p + i + 1, s.n - i - 1};
        i = (size_t)-1;
    }
    bool good = s.n > 0 && utf8_valid(s);
    for (size_t i = 0; i < s.n; i++) good = good && (unsigned char)s.p[i] >= 0x20 && s.p[i] != 0x7f;
    if (!good) s = slice_of("batch.jsonl");
    s.n = MIN(s.n, BATCHES_MAX_FILENAME - 1);
    s.n = utf8_valid_prefix(s);
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
}

static Status find_parts(const HttpPart **file, HttpPart *parts, const Batches *b, BatchesTicket *t,
                         Err *e) {
    int n;
    const HttpPart *purpose = NULL;
    Slice body = {sb_str(&t->body), t->body.n}, type = {sb_str(&t->type), t->type.n};
    TRY(http_multipart(parts, &n, type, body, e));
    *file = NULL;
    for (int i = 0; i < n; i++) {
        if (slice_eq_str(parts[i].name, "file")) *file = &parts[i];
        if (slice_eq_str(parts[i].name, "purpose")) purpose = &parts[i];
    }
    t->r.param = "purpose";
    if (!purpose || !slice_eq_str(purpose->data, "batch"))
        return err_set(e, ERR_ARG, "purpose: want \"batch\"");
    t->r.param = "file";
    if (!*file || (*file)->data.n == 0)
        return err_set(e, ERR_ARG, "file: there is none, or nothing in it");
    if ((*file)->data.n > b->cfg.max_file) {
        t->r.http = 413;
        return err_set(e, ERR_ARG, "file: %zu bytes, the limit is %zu", (*file)->data.n,
                       b->cfg.max_file);
    }
    t->r.param = NULL;
    return OK;
}

static Status check_room(const Batches *b, BatchesTicket *t, size_t bytes, Err *e) {
    int64_t n = 0;
    uint64_t left = 0;
    TRY(batches__count(&n, b->store, "SELECT count(*) FROM files WHERE owner = ?1", t->owner, e));
    if (n >= b->cfg.max_files) {
        t->r.http = 429;
        return err_set(e, ERR_ARG, "%lld files are here, the limit is %d: delete some",
                       (long long)n, b->cfg.max_files);
    }
    TRY(io_disk_free(&left, b->dir, e));
    if (left >= bytes + b->cfg.reserve) return OK;
    t->r.http = 507;
    return err_set(e, ERR_ARG, "there is no room for files at the moment");
}

static Status write_file(const Batches *b, const char *id, Slice data, Err *e) {
    IoWriter w = {0};
    StrBuf path = {0};
    batches__path(&path, b, id);
    Status st = sb_check(&path, e);
    if (st == OK) st = io_writer_open(&w, sb_str(&path), true, e);
    if (st == OK) st = io_write(&w, data.p, data.n, e);
    if (st == OK) st = io_writer_close(&w, e);
    else io_writer_abort(&w);
    sb_deinit(&path);
    return st;
}

static Status do_file_put(Batches *b, BatchesTicket *t, Err *e) {
    HttpPart parts[HTTP_MAX_PARTS];
    const HttpPart *file;
    FileRow f = {.purpose = "batch", .created = (int64_t)time(NULL)};
    TRY(find_parts(&file, parts, b, t, e));
    TRY(check_room(b, t, file->data.n, e));
    TRY(batches__new_id(f.id, "file-", e));
    snprintf(f.owner, sizeof f.owner, "%s", t->owner);
    clean_name(f.name, file->filename);
    f.bytes = (int64_t)file->data.n;
    Status st = write_file(b, f.id, file->data, e);
    if (st == OK) st = batches__file_add(b->store, &f, e);
    if (st != OK) {
        batches__remove_file(b, f.id);
        return st;
    }
    answer_file(t, &f);
    return OK;
}

static Status do_file_get(Batches *b, BatchesTicket *t, Err *e) {
    FileRow f;
    TRY(find_file(&f, b, t, e));
    answer_file(t, &f);
    return OK;
}

static Status do_file_delete(Batches *b, BatchesTicket *t, Err *e) {
    FileRow f;
    JsonW w;
    int64_t n = 0;
    TRY(find_file(&f, b, t, e));
    TRY(batches__count(&n, b->store, "SELECT count(*) FROM batches WHERE input = ?1 AND state < 3",
                       f.id, e));
    if (n > 0) {
        t->r.http = 409;
        return err_set(e, ERR_ARG, "file \"%s\": a batch reads it", f.id);
    }
    TRY(batches__file_remove(b->store, f.id, e));
    batches__remove_file(b, f.id);
    jw_init(&w, &t->out);
    jw_obj(&w, NULL);
    jw_cstr(&w, "id", f.id);
    jw_cstr(&w, "object", "file");
    jw_bool(&w, "deleted", true);
    jw_end_obj(&w);
    return OK;
}

/* What is mapped stays readable when the file is deleted meanwhile. */
static Status do_file_read(BatchesTicket *t, Err *e) {
    const IoMap *m = &t->r.content;
    uint64_t from = MIN(t->offset, m->n), n = MIN(m->n - from, (uint64_t)BATCHES_CHUNK);
    if (n > 0) sb_put(&t->out, m->p + from, (size_t)n);
    return sb_check(&t->out, e);
}

static Status do_file_open(Batches *b, BatchesTicket *t, Err *e) {
    FileRow f;
    StrBuf path = {0};
    TRY(find_file(&f, b, t, e));
    batches__path(&path, b, f.id);
    Status st = sb_check(&path, e);
    if (st == OK) st = io_map(&t->r.content, sb_str(&path), e);
    if (st == OK) st = do_file_read(t, e);
    if (st != OK) io_unmap(&t->r.content);
    sb_deinit(&path);
    return st;
}

/* ---- batches ---- */

static Status find_batch(BatchRow *r, Batches *b, const BatchesTicket *t, Err *e) {
    bool found;
    TRY(batches__row_find(&found, r, b->store, t->owner, slice_of(t->id), e));
    return found ? OK : no_such(t, "batch", e);
}

static Status check_new(const NewBatch *n, const Batches *b, BatchesTicket *t, Err *e) {
    FileRow f;
    bool found;
    int64_t n_open = 0;
    t->r.param = "endpoint";
    if (b->cfg.allows && !b->cfg.allows(n->endpoint))
        return err_set(e, ERR_ARG, "endpoint: \"%.*s\" is none of a batch's", (int)n->endpoint.n,
                       n->endpoint.p);
    t->r.param = "completion_window";
    if (window_s(n->window) == 0)
        return err_set(e, ERR_ARG, "completion_window: want a number with m, h or d, up to 7d");
    t->r.param = "metadata";
    TRY(check_metadata(n->metadata, e));
    t->r.param = "input_file_id";
    TRY(batches__file_find(&found, &f, b->store, t->owner, n->input, e));
    if (!found || strcmp(f.purpose, "batch") != 0)
        return err_set(e, ERR_ARG, "input_file_id: \"%.*s\" is no file of purpose batch",
                       (int)n->input.n, n->input.p);
    t->r.param = NULL;
    TRY(batches__count(&n_open, b->store,
                       "SELECT count(*) FROM batches WHERE owner = ?1 AND state < 3", t->owner, e));
    if (n_open < b->cfg.max_batches) return OK;
    t->r.http = 429;
    return err_set(e, ERR_ARG, "%lld batches are not over, the limit is %d", (long long)n_open,
                   b->cfg.max_batches);
}

static Status fill_row(BatchRow *r, const NewBatch *n, const BatchesTicket *t, Err *e) {
    StrBuf meta = {0};
    JsonW w;
    int64_t now = (int64_t)time(NULL);
    TRY(batches__new_id(r->id, "batch_", e));
    TRY(batches__new_id(r->out, "file-", e));
    TRY(batches__new_id(r->err, "file-", e));
    snprintf(r->owner, sizeof r->owner, "%s", t->owner);
    snprintf(r->input, sizeof r->input, "%.*s", (int)n->input.n, n->input.p);
    snprintf(r->endpoint, sizeof r->endpoint, "%.*s", (int)n->endpoint.n, n->endpoint.p);
    snprintf(r->window, sizeof r->window, "%.*s", (int)n->window.n, n->window.p);
    r->t[BATCH_T_CREATED] = now;
    r->t[BATCH_T_EXPIRES] = now + window_s(n->window);
    if (!n->metadata) return OK;
    jw_init(&w, &meta);
    jw_json(&w, NULL, n->metadata);
    r->metadata = sb_take(&meta);
    return r->metadata ? OK : err_set(e, ERR_NOMEM, "metadata");
}

static Status create(BatchRow *r, Batches *b, BatchesTicket *t, const Json *body, Err *e) {
    NewBatch n = {0};
    TRY(api_read(&n, &batches_schema, body, &t->r.param, e));
    TRY(check_new(&n, b, t, e));
    TRY(fill_row(r, &n, t, e));
    return batches__row_add(b->store, r, e);
}

static Status do_new(Batches *b, BatchesTicket *t, Err *e) {
    Json *body = NULL;
    BatchRow r = {.state = BATCH_VALIDATING};
    Status st = json_parse(&body, (Slice){sb_str(&t->body), t->body.n}, e);
    if (st == OK) st = create(&r, b, t, body, e);
    if (st == OK) answer_batch(b, t, &r);
    b->look = b->look || st == OK;
    json_free(body);
    batches__row_deinit(&r);
    return st;
}

static Status do_get(Batches *b, BatchesTicket *t, Err *e) {
    BatchRow r = {0};
    Status st = find_batch(&r, b, t, e);
    if (st == OK) answer_batch(b, t, &r);
    batches__row_deinit(&r);
    return st;
}

static Status cancel(Batches *b, BatchesTicket *t, BatchRow *r, Err *e) {
    Active *a = batches__find_active(b, r->id);
    BatchRow *now = a ? &a->row : r;
    if (now->state >= BATCH_COMPLETED) {
        t->r.http = 409;
        return err_set(e, ERR_ARG, "batch \"%s\" is %s", r->id, state_name(now->state));
    }
    if (now->state == BATCH_CANCELLING) return OK;
    BatchState was = now->state;
    now->state = BATCH_CANCELLING;
    now->t[BATCH_T_CANCELLING] = (int64_t)time(NULL);
    Status st = batches__row_save(b->store, now, e);
    if (st != OK) {
        now->state = was;
        now->t[BATCH_T_CANCELLING] = 0;
        return st;
    }
    if (a) batches__wind_up(b, a, BATCH_CANCELLED);
    b->look = true;
    return OK;
}

static Status do_cancel(Batches *b, BatchesTicket *t, Err *e) {
    BatchRow r = {0};
    Status st = find_batch(&r, b, t, e);
    if (st == OK) st = cancel(b, t, &r, e);
    if (st == OK) answer_batch(b, t, &r);
    batches__row_deinit(&r);
    return st;
}

void batches__do(Batches *b, BatchesTicket *t) {
    Status st = ERR_INTERNAL;
    Err *e = &t->r.err;
    switch (t->op) {
    case BATCHES_FILE_PUT: st = do_file_put(b, t, e); break;
    case BATCHES_FILE_GET: st = do_file_get(b, t, e); break;
    case BATCHES_FILE_LIST: st = do_file_list(b, t, e); break;
    case BATCHES_FILE_DELETE: st = do_file_delete(b, t, e); break;
    case BATCHES_FILE_OPEN: st = do_file_open(b, t, e); break;
    case BATCHES_FILE_READ: st = do_file_read(t, e); break;
    case BATCHES_NEW: st = do_new(b, t, e); break;
    case BATCHES_GET: st = do_get(b, t, e); break;
    case BATCHES_LIST: st = do_list(b, t, e); break;
    case BATCHES_CANCEL: st = do_cancel(b, t, e); break;
    }
    if (st == OK) st = sb_check(&t->out, e);
    t->r.st = st;
    sb_deinit(&t->body);
    t->body = (StrBuf){0};
}
