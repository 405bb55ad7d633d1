/* SPDX-License-Identifier: Apache-2.0
 * Batches at work: each is moved on by a little at a time, so that nobody who asks something waits for long. io thread. */
#include <stdio.h>
#include <time.h>

#include "api/batches_internal.h"
#include "base/clock.h"
#include "base/log.h"

enum { CHECK_LINES = 64, REST_MS = 500, MAX_TRIES = 20, UNAVAILABLE = 503 };

static uint64_t after_ms(int ms) { return clock_now_ns() + (uint64_t)ms * 1000000u; }

static void file_path(StrBuf *out, const Batches *b, const char *id) {
    sb_clear(out);
    batches__path(out, b, id);
}

Active *batches__find_active(const Batches *b, const char *id) {
    for (int i = 0; i < BATCHES_MAX_ACTIVE; i++) {
        if (b->active[i] && strcmp(b->active[i]->row.id, id) == 0) return b->active[i];
    }
    return NULL;
}

void batches__active_free(Batches *b, int i) {
    Active *a = b->active[i];
    b->active[i] = NULL;
    if (!a) return;
    batches_run_close(a->run);
    batches__row_deinit(&a->row);
    sb_deinit(&a->errors);
    mem_free(a);
}

void batches__work_free(BatchesWork *w) {
    if (!w) return;
    batches_task_deinit(&w->task);
    sb_deinit(&w->body);
    mem_free(w);
}

void batches__wind_up(Batches *b, Active *a, BatchState end) {
    (void)b;
    if (a->phase >= ACTIVE_DRAINS) return;
    a->phase = ACTIVE_DRAINS;
    a->end = end;
    atomic_store(&a->dropped, true);
}

/* The disk failed: what is on it counts, all else is done again later. */
static void pause_run(const Batches *b, Active *a, const Err *e) {
    log_error("batch %s: %s; it is tried again in %d s", a->row.id, e->msg, b->cfg.retry_ms / 1000);
    batches_run_close(a->run);
    a->run = NULL;
    a->retry_ns = after_ms(b->cfg.retry_ms);
    if (a->phase == ACTIVE_RUNS) atomic_store(&a->dropped, true);
}

static void take_counts(Active *a) {
    BatchCounts n = batches_run_counts(a->run);
    a->row.n_total = n.n_lines;
    a->row.n_ok = n.n_ok;
    a->row.n_failed = n.n_failed;
}

static void sync_run(Batches *b, Active *a) {
    Err e = {0};
    if (!a->touched || !a->run) return;
    a->touched = false;
    if (batches_run_sync(a->run, &e) == OK) take_counts(a);
    else pause_run(b, a, &e);
}

/* ---- the end ---- */

static const BatchTime end_time[BATCH_N_STATES] = {[BATCH_COMPLETED] = BATCH_T_COMPLETED,
                                                   [BATCH_FAILED] = BATCH_T_FAILED,
                                                   [BATCH_EXPIRED] = BATCH_T_EXPIRED,
                                                   [BATCH_CANCELLED] = BATCH_T_CANCELLED};

/* An output becomes a file, if there is anything in it. */
static Status add_output(bool *has, Batches *b, const Active *a, const char *id, const char *word,
                         Err *e) {
    StrBuf path = {0};
    uint64_t bytes = 0;
    FileRow f = {.purpose = "batch_output", .created = (int64_t)time(NULL)};
    batches__path(&path, b, id);
    Status st = sb_check(&path, e);
    if (st == OK && io_exists(sb_str(&path))) st = io_file_size(&bytes, sb_str(&path), e);
    sb_deinit(&path);
    *has = st == OK && bytes > 0;
    if (!*has) return st;
    snprintf(f.id, sizeof f.id, "%s", id);
    snprintf(f.owner, sizeof f.owner, "%s", a->row.owner);
    snprintf(f.name, sizeof f.name, "%s_%s.jsonl", a->row.id, word);
    f.bytes = (int64_t)bytes;
    return batches__file_add(b->store, &f, e);
}

/* The files and the last state, all or nothing. */
static Status save_end(Batches *b, Active *a, BatchRow *r, Err *e) {
    TRY(store_begin(b->store, e));
    Status st = OK;
    if (a->end != BATCH_FAILED) {
        st = add_output(&r->has_out, b, a, r->out, "output", e);
        if (st == OK) st = add_output(&r->has_err, b, a, r->err, "error", e);
    }
    if (st == OK) st = batches__row_save(b->store, r, e);
    if (st == OK) return store_commit(b->store, e);
    store_rollback(b->store);
    return st;
}

/* True: it is over and gone. */
static bool end_batch(Batches *b, int i) {
    Active *a = b->active[i];
    Err e = {0};
    BatchRow r = a->row; /* its texts are borrowed */
    int64_t now = (int64_t)time(NULL);
    r.state = a->end;
    r.t[end_time[a->end]] = now;
    if (a->end != BATCH_FAILED) r.t[BATCH_T_FINALIZING] = now;
    if (a->end == BATCH_FAILED && a->errors.n > 0) r.errors = a->errors.p;
    if (save_end(b, a, &r, &e) != OK) {
        pause_run(b, a, &e);
        return false;
    }
    if (!r.has_out && !a->keeps) batches__remove_file(b, r.out);
    if (!r.has_err && !a->keeps) batches__remove_file(b, r.err);
    batches__active_free(b, i);
    b->look = true;
    return true;
}

/* It cannot be run at all. */
static void fail_batch(Active *a, const char *code, const char *message) {
    JsonW w;
    a->phase = ACTIVE_ENDS;
    a->end = BATCH_FAILED;
    if (!code) return; /* its lines say why */
    sb_clear(&a->errors);
    jw_init(&w, &a->errors);
    jw_obj(&w, NULL);
    jw_cstr(&w, "code", code);
    jw_null(&w, "line");
    jw_cstr(&w, "message", message);
    jw_null(&w, "param");
    jw_end_obj(&w);
}

/* ---- the beginning ---- */

typedef struct Pick {
    Batches *b;
    BatchRow row; /* the one to begin with; id "" none */
    bool failed;
} Pick;

static bool owner_runs(const Batches *b, const char *owner) {
    for (int i = 0; i < BATCHES_MAX_ACTIVE; i++) {
        if (b->active[i] && strcmp(b->active[i]->row.owner, owner) == 0) return true;
    }
    return false;
}

/* The first whose owner has none at work, or the first of all. */
static bool pick(void *ctx, const BatchRow *r) {
    Pick *p = ctx;
    bool fresh = !owner_runs(p->b, r->owner);
    if (batches__find_active(p->b, r->id) || (p->row.id[0] && !fresh)) return true;
    batches__row_deinit(&p->row);
    p->row = *r;
    p->row.metadata = mem_dup(r->metadata, strlen(r->metadata));
    p->row.errors = mem_dup(r->errors, strlen(r->errors));
    p->failed = !p->row.metadata || !p->row.errors;
    return !fresh && !p->failed;
}

static int free_place(const Batches *b) {
    for (int i = 0; i < BATCHES_MAX_ACTIVE; i++) {
        if (!b->active[i]) return i;
    }
    return -1;
}

/* True: one more is at work. */
static bool begin_batch(Batches *b) {
    Pick p = {.b = b};
    Err e = {0};
    int i = free_place(b);
    if (!b->look || i < 0) return false;
    Status st = batches__rows_open(b->store, pick, &p, &e);
    Active *a = st == OK && p.row.id[0] && !p.failed ? mem_new(Active) : NULL;
    if (!a) {
        if (st != OK) log_error("batches: %s", e.msg);
        b->look = st != OK || p.row.id[0]; /* not now, but at the next turn */
        batches__row_deinit(&p.row);
        return false;
    }
    a->row = p.row;
    b->active[i] = a;
    return true;
}

static void opened(Batches *b, Active *a, Status st, const Err *e) {
    char text[64];
    atomic_store(&a->dropped, false);
    a->dry = false;
    snprintf(text, sizeof text, "more than %lld lines", (long long)b->cfg.max_lines);
    switch (st) {
    case OK: take_counts(a); break;
    case ERR_NOT_FOUND:
        a->keeps = true; /* what was answered stays */
        fail_batch(a, "input_file_missing", "the input file is gone");
        break;
    case ERR_ARG: fail_batch(a, "too_many_tasks", text); break;
    case ERR_FORMAT:
        log_error("batch %s: %s", a->row.id, e->msg);
        a->keeps = true;
        fail_batch(a, "output_damaged", "its output was damaged on the server's disk");
        break;
    default: pause_run(b, a, e);
    }
}

static void open_run(Batches *b, Active *a) {
    StrBuf in = {0}, out = {0}, err = {0};
    Err e = {0};
    file_path(&in, b, a->row.input);
    file_path(&out, b, a->row.out);
    file_path(&err, b, a->row.err);
    BatchRunConfig c = {.in = sb_str(&in),
                        .out = sb_str(&out),
                        .errors = sb_str(&err),
                        .endpoint = a->row.endpoint,
                        .allows = b->cfg.allows,
                        .max_lines = b->cfg.max_lines};
    Status st = ERR_NOMEM;
    if (in.failed || out.failed || err.failed) e = (Err){.msg = "out of memory"};
    else st = batches_run_open(&a->run, &c, &e);
    sb_deinit(&in);
    sb_deinit(&out);
    sb_deinit(&err);
    opened(b, a, st, &e);
}

/* Open it, or open it again, and go on where it was. */
static void enter(Batches *b, Active *a) {
    if (a->n_out > 0 || clock_now_ns() < a->retry_ns) return;
    open_run(b, a);
    if (!a->run || a->phase != ACTIVE_CHECKS) return;
    if (a->row.state == BATCH_CANCELLING) batches__wind_up(b, a, BATCH_CANCELLED);
    else if (a->row.state == BATCH_IN_PROGRESS) a->phase = ACTIVE_RUNS;
}

/* ---- looking at lines ---- */

static void begin_lines(Batches *b, Active *a) {
    Err e = {0};
    BatchRow r = a->row;
    r.state = BATCH_IN_PROGRESS;
    r.t[BATCH_T_IN_PROGRESS] = (int64_t)time(NULL);
    if (batches__row_save(b->store, &r, &e) != OK) {
        pause_run(b, a, &e);
        return;
    }
    a->row = r;
    a->phase = ACTIVE_RUNS;
}

static void check_lines(Batches *b, Active *a) {
    Err e = {0};
    bool over = false;
    Status st = batches_run_check(&over, a->run, CHECK_LINES, &a->errors, &e);
    if (st != OK) {
        sb_clear(&a->errors);
        pause_run(b, a, &e);
    } else if (over && a->errors.n > 0) {
        fail_batch(a, NULL, NULL);
    } else if (over && a->row.n_total == 0) {
        fail_batch(a, "empty_file", "the input file has no lines");
    } else if (over) {
        begin_lines(b, a);
    }
}

/* ---- handing out ---- */

static BatchesWork *make_work(Active *a, Err *e) {
    bool any = false;
    BatchesWork *w = mem_new(BatchesWork);
    if (!w) return err_set(e, ERR_NOMEM, "a line") == OK ? w : NULL;
    if (batches_run_next(&any, &w->task, a->run, e) == OK && any) {
        w->active = a;
        w->dropped = &a->dropped;
        snprintf(w->owner, sizeof w->owner, "%s", a->row.owner);
        return w;
    }
    batches__work_free(w);
    return NULL;
}

/* One line of this batch; false: it has none to give now. */
static bool hand_out(Batches *b, Active *a) {
    Err e = {0};
    if (!a || !a->run || a->phase != ACTIVE_RUNS || a->dry || clock_now_ns() < a->rest_ns)
        return false;
    a->touched = true; /* lines that cannot be read are put on the way */
    BatchesWork *w = make_work(a, &e);
    if (e.code == ERR_NOMEM) {
        a->rest_ns = after_ms(REST_MS);
    } else if (e.code != OK) {
        pause_run(b, a, &e);
    } else if (!w) {
        a->dry = true;
    } else {
        a->n_out++;
        b->n_out++;
        batches__push_line(b, w);
    }
    return w != NULL;
}

static void hand_out_lines(Batches *b) {
    int idle = 0;
    while (b->n_out < atomic_load(&b->window) && idle < BATCHES_MAX_ACTIVE) {
        b->turn = (b->turn + 1) % BATCHES_MAX_ACTIVE;
        idle = hand_out(b, b->active[b->turn]) ? 0 : idle + 1;
    }
}

/* ---- taking back ---- */

/* Unless it has failed so often that it looks as if it always will; a full queue is no failure. */
static bool may_run_again(const BatchesWork *w) {
    if (w->status == 0) return true;
    return w->again && (w->status != UNAVAILABLE || w->task.n_tries < MAX_TRIES);
}

/* True: its line is done. */
static bool take_answer(Batches *b, BatchesWork *w) {
    Active *a = w->active;
    Err e = {0};
    a->n_out--;
    b->n_out--;
    if (!a->run) return false; /* its disk failed: it is done again */
    if (may_run_again(w)) {
        batches_run_give_back(a->run, &w->task, w->status == UNAVAILABLE);
        a->dry = false;
        a->rest_ns = after_ms(REST_MS);
        return false;
    }
    BatchAnswer line = {.status = w->status,
                        .request_id = w->request_id,
                        .body = {sb_str(&w->body), w->body.n}};
    a->touched = true;
    if (batches_run_put(a->run, &w->task, &line, &e) == OK) return true;
    pause_run(b, a, &e);
    return false;
}

void batches__answers(Batches *b, BatchesWork *list) {
    uint64_t n_ok = 0, n_failed = 0;
    for (BatchesWork *w = list, *next; w; w = next) {
        next = w->next;
        bool done = take_answer(b, w);
        n_ok += done && w->status == 200;
        n_failed += done && w->status != 200;
        batches__work_free(w);
    }
    pthread_mutex_lock(&b->mu);
    b->stats.n_ok += n_ok;
    b->stats.n_failed += n_failed;
    pthread_mutex_unlock(&b->mu);
}

/* ---- moving on ---- */

static bool is_late(const Active *a) {
    return a->phase <= ACTIVE_RUNS && (int64_t)time(NULL) >= a->row.t[BATCH_T_EXPIRES];
}

/* All that was handed out is back: is it done? */
static void finish_lines(Batches *b, Active *a) {
    sync_run(b, a);
    if (!a->run || !batches_is_done(batches_run_counts(a->run))) return;
    a->phase = ACTIVE_ENDS;
    a->end = BATCH_COMPLETED;
}

static void refuse_rest(Batches *b, int i) {
    Active *a = b->active[i];
    Err e = {0};
    bool over = true;
    Status st = OK;
    if (a->end == BATCH_EXPIRED) {
        a->touched = true;
        st = batches_run_refuse(&over, a->run, CHECK_LINES, "batch_expired",
                                "the completion window was over before this line was run", &e);
        if (st == OK && over) sync_run(b, a);
    }
    if (st != OK) pause_run(b, a, &e);
    else if (over && a->run) end_batch(b, i);
}

/* True: at once again. */
static bool move_on(Batches *b, int i) {
    Active *a = b->active[i];
    bool back = a->n_out == 0;
    if (!a->run && a->end != BATCH_FAILED) enter(b, a);
    if (is_late(a)) batches__wind_up(b, a, BATCH_EXPIRED);
    if (a->phase == ACTIVE_CHECKS && a->run) check_lines(b, a);
    if (a->phase == ACTIVE_RUNS && a->run && a->dry && back) finish_lines(b, a);
    if (a->phase == ACTIVE_DRAINS && back) {
        sync_run(b, a);
        a->phase = ACTIVE_ENDS;
    }
    if (a->phase != ACTIVE_ENDS) return a->run && a->phase == ACTIVE_CHECKS;
    if (a->end == BATCH_FAILED) return clock_now_ns() >= a->retry_ns && end_batch(b, i);
    if (a->run) refuse_rest(b, i);
    return !b->active[i] || a->run;
}

bool batches__work(Batches *b) {
    bool more = false;
    int n = 0;
    while (begin_batch(b)) more = true;
    hand_out_lines(b); /* first, so that the engine has work while the disk writes */
    for (int i = 0; i < BATCHES_MAX_ACTIVE; i++) {
        if (!b->active[i]) continue;
        sync_run(b, b->active[i]);
        more = move_on(b, i) || more;
        n += b->active[i] != NULL;
    }
    pthread_mutex_lock(&b->mu);
    b->stats.n_active = n;
    pthread_mutex_unlock(&b->mu);
    return more;
}
