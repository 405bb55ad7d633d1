/* SPDX-License-Identifier: Apache-2.0
 * The input is mapped and cut into lines once; of each line there is its place and its state. Custom ids are kept as
 * 128-bit hashes under random keys: enough to see two that are alike. */
#include "api/batch_run.h"

#include <errno.h>
#include <sys/random.h>

#include "base/io.h"
#include "base/sha.h"

enum { MAX_LINES = 10000000, MAX_ERRORS = 100 };

enum { LINE_OPEN, LINE_OUT, LINE_DONE };

typedef struct Line {
    uint64_t at;
    uint32_t n;
    uint8_t state;
    bool named; /* its custom_id is in the set */
    uint8_t n_tries;
} Line;

typedef struct Key {
    uint64_t a, b; /* both 0: free */
} Key;

/* One output. */
typedef struct Output {
    char *path; /* owned; NULL: there is none */
    uint64_t keep;
    IoWriter w;
    bool is_open;
} Output;

struct BatchRun {
    BatchRules rules;
    char *endpoint; /* owned */
    IoMap in;
    Line *line; /* owned */
    int64_t n_line, cap, cursor, max;
    int64_t checked; /* lines that batches_run_check has looked at */
    Key *key;        /* owned; [cap_key], a power of two */
    size_t n_key, cap_key;
    uint64_t seed[2];
    Output out, errors;
    int lock;
    int n_errors;
    BatchCounts counts;
    StrBuf scratch;
};

/* ---- the input ---- */

static bool is_blank(Slice s) {
    for (size_t i = 0; i < s.n; i++) {
        if (!strchr(" \t\r", s.p[i]) || !s.p[i]) return false;
    }
    return true;
}

static Slice text_of(const BatchRun *r, int64_t i) {
    return (Slice){(const char *)r->in.p + r->line[i].at, r->line[i].n};
}

static Status add_line(BatchRun *r, Slice text, Err *e) {
    if (r->n_line == r->max) return err_set(e, ERR_ARG, "more than %lld lines", (long long)r->max);
    if (text.n > UINT32_MAX) return err_set(e, ERR_ARG, "a line of %zu bytes", text.n);
    if (r->n_line == r->cap) {
        int64_t cap = r->cap ? 2 * r->cap : 1024;
        Line *v = mem_realloc_n(r->line, (size_t)cap, sizeof *v);
        if (!v) return err_set(e, ERR_NOMEM, "%lld lines", (long long)cap);
        r->line = v;
        r->cap = cap;
    }
    bool blank = is_blank(text);
    r->line[r->n_line++] = (Line){.at = (uint64_t)((const uint8_t *)text.p - r->in.p),
                                  .n = (uint32_t)text.n,
                                  .state = blank ? LINE_DONE : LINE_OPEN};
    r->counts.n_lines += !blank;
    return OK;
}

static Status index_lines(BatchRun *r, Err *e) {
    const char *p = (const char *)r->in.p, *end = p + r->in.n;
    if (r->in.n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) p += 3;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        TRY(add_line(r, (Slice){p, n}, e));
        p += n + 1;
    }
    return OK;
}

/* ---- custom ids ---- */

static Key key_of(const BatchRun *r, const char *id) {
    size_t n = strlen(id);
    Key k = {sha_hash64(id, n, r->seed[0]), sha_hash64(id, n, r->seed[1])};
    k.a |= 1;
    return k;
}

static Key *find_key(Key *v, size_t cap, Key k) {
    size_t i = k.a >> 1 & (cap - 1);
    while (v[i].a && (v[i].a != k.a || v[i].b != k.b)) i = (i + 1) & (cap - 1);
    return &v[i];
}

static Status grow_keys(BatchRun *r, Err *e) {
    size_t cap = r->cap_key ? 2 * r->cap_key : 256;
    Key *v = mem_new_n(Key, cap);
    if (!v) return err_set(e, ERR_NOMEM, "%zu custom_ids", cap);
    for (size_t i = 0; i < r->cap_key; i++) {
        if (r->key[i].a) *find_key(v, cap, r->key[i]) = r->key[i];
    }
    mem_free(r->key);
    r->key = v;
    r->cap_key = cap;
    return OK;
}

/* Line i has this custom_id; *twice: another one has it already. */
static Status name_line(bool *twice, BatchRun *r, int64_t i, const char *id, Err *e) {
    *twice = false;
    if (r->line[i].named) return OK;
    if (2 * (r->n_key + 1) > r->cap_key) TRY(grow_keys(r, e));
    Key k = key_of(r, id), *at = find_key(r->key, r->cap_key, k);
    *twice = at->a != 0;
    if (*twice) return OK;
    *at = k;
    r->n_key++;
    r->line[i].named = true;
    return OK;
}

/* ---- what is done ---- */

static Status not_ours(const Output *o, int64_t n, const char *why, Err *e) {
    return err_set(e, ERR_FORMAT,
                   "%s: line %lld %s: it is not the output of this input; give another", o->path,
                   (long long)n, why);
}

/* One whole line of an output. */
static Status take_done(BatchRun *r, const Output *o, int64_t n, const Json *root, Err *e) {
    char want[BATCHES_ID_BYTES];
    bool twice;
    Slice id = json_str(json_get(root, "id")), custom = json_str(json_get(root, "custom_id"));
    int64_t i = batches_line_of(id);
    if (i < 0) return not_ours(o, n, "has no id of a batch", e);
    if (i >= r->n_line) return not_ours(o, n, "answers a line that is not there", e);
    TRY(batches_line_id(want, i, text_of(r, i), e));
    if (!slice_eq_str(id, want)) return not_ours(o, n, "answers a line that reads otherwise", e);
    if (r->line[i].state != LINE_OPEN) return not_ours(o, n, "answers a line a second time", e);
    r->line[i].state = LINE_DONE;
    bool ok = json_int(json_get(json_get(root, "response"), "status_code")) == 200;
    if (ok) r->counts.n_ok++;
    else r->counts.n_failed++;
    r->counts.n_found++;
    Slice code = json_str(json_get(json_get(root, "error"), "code"));
    if (custom.n == 0 || slice_eq_str(code, "duplicate_custom_id")) return OK;
    return name_line(&twice, r, i, custom.p, e);
}

/* What a kill left of a line: nothing else may be cut off. */
static bool is_torn_line(Slice s) {
    static const char begin[] = "{\"id\":\"batch_req_";
    size_t n = MIN(s.n, sizeof begin - 1);
    return memcmp(s.p, begin, n) == 0;
}

static Status read_lines(BatchRun *r, Output *o, Slice all, Err *e) {
    const char *p = all.p, *end = all.p + all.n;
    for (int64_t n = 1; p < end; n++) {
        Json *root = NULL;
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        Slice text = {p, (size_t)((nl ? nl : end) - p)};
        if (!nl) return is_torn_line(text) ? OK : not_ours(o, n, "is no answer", e);
        Status st = json_parse(&root, text, NULL);
        if (st == ERR_NOMEM) st = err_set(e, st, "%s: line %lld", o->path, (long long)n);
        else if (st != OK) st = not_ours(o, n, "is no JSON", e);
        if (st == OK) st = take_done(r, o, n, root, e);
        json_free(root);
        TRY(st);
        p = nl + 1;
        o->keep = (uint64_t)(p - all.p);
    }
    return OK;
}

static Status read_output(BatchRun *r, Output *o, Err *e) {
    IoMap m;
    if (!o->path || !io_exists(o->path)) return OK;
    TRY(io_map(&m, o->path, e));
    Status st = m.n > 0 ? read_lines(r, o, (Slice){(const char *)m.p, m.n}, e) : OK;
    io_unmap(&m);
    return st;
}

/* ---- life ---- */

/* A file that is there after a power loss, too, before anything says that it is. */
static Status make_file(const char *path, Err *e) {
    IoWriter w;
    if (io_exists(path)) return OK;
    TRY(io_writer_open(&w, path, true, e));
    return io_writer_close(&w, e);
}

static Status open_output(Output *o, Err *e) {
    if (o->is_open) return OK;
    TRY(make_file(o->path, e));
    TRY(io_writer_open_at(&o->w, o->path, o->keep, e));
    o->is_open = true;
    return OK;
}

static Status copy_config(BatchRun *r, const BatchRunConfig *c, Err *e) {
    r->out.path = mem_dup(c->out, strlen(c->out));
    if (c->errors) r->errors.path = mem_dup(c->errors, strlen(c->errors));
    if (c->endpoint) r->endpoint = mem_dup(c->endpoint, strlen(c->endpoint));
    if (!r->out.path || (c->errors && !r->errors.path) || (c->endpoint && !r->endpoint))
        return err_set(e, ERR_NOMEM, "a batch");
    r->rules = (BatchRules){.endpoint = r->endpoint, .allows = c->allows};
    r->max = c->max_lines > 0 ? c->max_lines : MAX_LINES;
    if (getrandom(r->seed, sizeof r->seed, 0) != (ssize_t)sizeof r->seed)
        return err_set(e, ERR_IO, "getrandom: %s", strerror(errno));
    return OK;
}

static Status run_init(BatchRun *r, const BatchRunConfig *c, Err *e) {
    TRY(copy_config(r, c, e));
    if (io_same_file(c->in, c->out))
        return err_set(e, ERR_ARG, "%s: input and output are one file", c->out);
    TRY(io_map(&r->in, c->in, e));
    Status st = index_lines(r, e);
    if (st != OK) {
        err_in(e, c->in);
        return st;
    }
    if (c->locked) {
        TRY(make_file(c->out, e));
        TRY(io_lock(&r->lock, c->out, e));
    }
    TRY(read_output(r, &r->out, e));
    TRY(read_output(r, &r->errors, e));
    TRY(open_output(&r->out, e));
    return r->errors.path && io_exists(r->errors.path) ? open_output(&r->errors, e) : OK;
}

Status batches_run_open(BatchRun **out, const BatchRunConfig *c, Err *e) {
    BatchRun *r = mem_new(BatchRun);
    if (!r) return err_set(e, ERR_NOMEM, "a batch");
    r->lock = -1;
    Status st = run_init(r, c, e);
    if (st != OK) {
        batches_run_close(r);
        return st;
    }
    *out = r;
    return OK;
}

void batches_run_close(BatchRun *r) {
    if (!r) return;
    io_writer_abort(&r->out.w);
    io_writer_abort(&r->errors.w);
    io_unlock(r->lock);
    io_unmap(&r->in);
    mem_free(r->out.path);
    mem_free(r->errors.path);
    mem_free(r->endpoint);
    mem_free(r->line);
    mem_free(r->key);
    sb_deinit(&r->scratch);
    mem_free(r);
}

BatchCounts batches_run_counts(const BatchRun *r) { return r->counts; }

/* ---- writing ---- */

static Status put_line(BatchRun *r, int64_t i, const char *custom_id, const BatchAnswer *a,
                       Err *e) {
    char id[BATCHES_ID_BYTES];
    bool ok = a->status == 200;
    Output *o = ok || !r->errors.path ? &r->out : &r->errors;
    sb_clear(&r->scratch);
    TRY(batches_line_id(id, i, text_of(r, i), e));
    TRY(batches_line_put(&r->scratch, id, custom_id, a, e));
    TRY(open_output(o, e));
    TRY(io_write(&o->w, sb_str(&r->scratch), r->scratch.n, e));
    r->line[i].state = LINE_DONE;
    if (ok) r->counts.n_ok++;
    else r->counts.n_failed++;
    return OK;
}

Status batches_run_put(BatchRun *r, const BatchTask *t, const BatchAnswer *a, Err *e) {
    return put_line(r, t->i_line, t->custom_id, a, e);
}

Status batches_run_sync(BatchRun *r, Err *e) {
    TRY(io_writer_flush(&r->out.w, true, e));
    return r->errors.is_open ? io_writer_flush(&r->errors.w, true, e) : OK;
}

void batches_run_give_back(BatchRun *r, const BatchTask *t, bool failed) {
    Line *l = &r->line[t->i_line];
    l->state = LINE_OPEN;
    l->n_tries += failed && l->n_tries < UINT8_MAX;
    r->cursor = MIN(r->cursor, t->i_line);
}

/* ---- reading on ---- */

/* Line i as a task. ERR_ARG, ERR_FORMAT: with *code, it cannot be run. */
static Status read_task(BatchTask *out, BatchRun *r, int64_t i, const char **code, Err *e) {
    bool twice = false;
    Status st = batches_line_read(out, text_of(r, i), &r->rules, code, e);
    out->i_line = i;
    out->n_tries = r->line[i].n_tries;
    if (st != OK) return st;
    TRY(name_line(&twice, r, i, out->custom_id, e));
    if (!twice) return OK;
    *code = "duplicate_custom_id";
    return err_set(e, ERR_ARG, "custom_id: an earlier line has the same");
}

static void put_problem(StrBuf *b, int64_t i, const char *code, const char *message) {
    JsonW w;
    if (b->n > 0) sb_putc(b, ',');
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "code", code);
    jw_int(&w, "line", i + 1);
    jw_cstr(&w, "message", message);
    jw_null(&w, "param");
    jw_end_obj(&w);
}

Status batches_run_check(bool *over, BatchRun *r, int n, StrBuf *errors, Err *e) {
    for (; n > 0 && r->checked < r->n_line && r->n_errors < MAX_ERRORS; n--, r->checked++) {
        BatchTask t = {0};
        Err why = {0};
        const char *code = NULL;
        if (r->line[r->checked].state != LINE_OPEN) continue;
        Status st = read_task(&t, r, r->checked, &code, &why);
        batches_task_deinit(&t);
        if (st == OK) continue;
        if (!code) return err_set(e, st, "%s", why.msg);
        put_problem(errors, r->checked, code, why.msg);
        r->n_errors++;
    }
    *over = r->checked == r->n_line || r->n_errors == MAX_ERRORS;
    return sb_check(errors, e);
}

Status batches_run_next(bool *any, BatchTask *out, BatchRun *r, Err *e) {
    *any = false;
    for (; r->cursor < r->n_line; r->cursor++) {
        Err why = {0};
        const char *code = NULL;
        if (r->line[r->cursor].state != LINE_OPEN) continue;
        Status st = read_task(out, r, r->cursor, &code, &why);
        if (st == OK) {
            r->line[r->cursor++].state = LINE_OUT;
            *any = true;
            return OK;
        }
        if (code)
            st = put_line(r, r->cursor, out->custom_id,
                          &(BatchAnswer){.code = code, .message = why.msg}, e);
        else st = err_set(e, st, "%s", why.msg);
        batches_task_deinit(out);
        TRY(st);
    }
    return OK;
}

Status batches_run_refuse(bool *over, BatchRun *r, int n, const char *code, const char *message,
                          Err *e) {
    for (; n > 0 && r->cursor < r->n_line; r->cursor++) {
        BatchTask t = {0};
        const char *unused;
        if (r->line[r->cursor].state != LINE_OPEN) continue;
        Status st = batches_line_read(&t, text_of(r, r->cursor), &r->rules, &unused, NULL);
        st = st == ERR_NOMEM ? err_set(e, st, "a line of a batch")
                             : put_line(r, r->cursor, t.custom_id,
                                        &(BatchAnswer){.code = code, .message = message}, e);
        batches_task_deinit(&t);
        TRY(st);
        n--;
    }
    *over = r->cursor == r->n_line;
    return OK;
}
