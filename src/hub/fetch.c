/* SPDX-License-Identifier: Apache-2.0
 * Getting files: several requests at a time, over pieces of one file or over several files, whatever is next. One
 * loop on one thread: start what can be started, let the client work, hash what is there from the start without a
 * gap, write the states now and then. A request that fails is tried again from where it stopped; the first failure
 * that cannot be borne ends all, and what is there stays for the next run. */
#include "hub/fetch_internal.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"

#define FETCH_PROGRESS ((uint64_t)64 << 10) /* bytes after which earlier failures are forgotten */
#define FETCH_ROOM_LEFT ((uint64_t)16 << 20)
#define FETCH_MAX_WORDS ((size_t)4096)
#define FETCH_MAX_REFUSED ((uint64_t)1 << 20)
enum {
    FETCH_HASH_STEP = 1 << 20,
    FETCH_HASH_TURN = 4, /* steps */
    FETCH_MAX_RESTARTS = 3,
    FETCH_SAVE_MS = 3000,
    FETCH_SHOW_MS = 100
};

static uint64_t now_ms(void) { return clock_now_ns() / 1000000; }

/* The first failure ends the run. */
static void give_up(Fetch *x, const Err *e) {
    if (x->failed) return;
    x->failed = true;
    x->err = *e;
}

/* ---- one file ---- */

static Status make_parent(const char *path, Err *e) {
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return OK;
    char *dir = mem_dup(path, (size_t)(slash - path));
    if (!dir) return err_set(e, ERR_NOMEM, "out of memory for a folder");
    Status st = io_mkdirs(dir, e);
    mem_free(dir);
    return st;
}

/* Bytes of another size or for another digest are of no use. */
static bool is_other(const Get *g) {
    const HubPart *p = &g->part;
    if (!p->done) return false;
    return (g->f->size != HUB_UNKNOWN && g->f->size != p->size) ||
           (g->f->sha256[0] && p->sha256[0] && strcmp(g->f->sha256, p->sha256) != 0);
}

static Status get_open(Get *g, Err *e) {
    TRY(make_parent(g->f->path, e));
    TRY(hub__part_open(&g->part, g->f->path, e));
    g->open = true;
    if (is_other(g)) TRY(hub__part_reset(&g->part, e));
    g->on_resume = g->part.n_done;
    return OK;
}

static Status get_begin(Get *g, Err *e) {
    if (!g->open) TRY(get_open(g, e));
    g->restart = NULL;
    if (g->f->size == 0) TRY(hub__part_layout(&g->part, 0, 1, e));
    mem_free(g->busy);
    g->busy = mem_new_n(bool, MAX(g->part.n_pieces, (size_t)1));
    if (!g->busy) return err_set(e, ERR_NOMEM, "out of memory for a file");
    bool whole = g->part.done && g->part.n_done == g->part.size;
    g->state = whole ? GET_CHECK : GET_FIRST;
    return OK;
}

/* Bytes of the whole file, once that is certain. */
static uint64_t final_size(const Get *g) { return g->part.done ? g->part.size : g->streamed; }

static uint64_t bytes_there(const Get *g) {
    if (g->state == GET_DONE) return g->f->size == HUB_UNKNOWN ? 0 : g->f->size;
    return g->part.done ? g->part.n_done : g->streamed;
}

static void forget_hash(Get *g) {
    digest_free(g->digest);
    g->digest = NULL;
    g->hashed = 0;
}

static bool is_git(const Get *g) { return !g->f->sha256[0] && g->f->git_sha1[0]; }

static Status start_hash(Get *g, Err *e) {
    char head[40];
    TRY(digest_new(&g->digest, is_git(g) ? DIGEST_SHA1 : DIGEST_SHA256, e));
    int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)final_size(g));
    if (is_git(g)) digest_add(g->digest, head, (size_t)n + 1);
    return OK;
}

/* Hash on, up to a few steps; *more: there is more to hash now. */
static Status hash_some(Get *g, char *buf, bool *more, Err *e) {
    uint64_t upto = g->state == GET_CHECK ? final_size(g) : hub__part_prefix(&g->part);
    if (g->state != GET_CHECK && !g->part.done) return OK;
    if (!g->digest) TRY(start_hash(g, e));
    for (int i = 0; i < FETCH_HASH_TURN && g->hashed < upto; i++) {
        size_t n = (size_t)MIN(upto - g->hashed, (uint64_t)FETCH_HASH_STEP);
        TRY(hub__part_read(&g->part, g->hashed, buf, n, e));
        digest_add(g->digest, buf, n);
        g->hashed += n;
    }
    *more |= g->hashed < upto;
    return OK;
}

static Status get_finish(Fetch *x, Get *g, Err *e) {
    char hex[DIGEST_HEX];
    const char *want = is_git(g) ? g->f->git_sha1 : g->f->sha256;
    uint64_t n = final_size(g);
    TRY(digest_finish(hex, g->digest, e));
    if (want[0] && strcmp(hex, want) != 0) {
        hub__part_discard(&g->part);
        g->open = false;
        return err_set(e, ERR_FORMAT, "%.80s: %s is %.16s..., want %.16s...: thrown away",
                       g->f->name, is_git(g) ? "git's sha1" : "sha256", hex, want);
    }
    TRY(hub__part_finish(&g->part, n, g->modified, e));
    g->open = false;
    g->f->size = n;
    if (!is_git(g)) memcpy(g->f->sha256, hex, sizeof hex);
    forget_hash(g);
    g->state = GET_DONE;
    x->n_done++;
    return OK;
}

/* ---- one request ---- */

static Status slot_sign(void *ctx, StrBuf *lines, Err *e) {
    const Slot *s = ctx;
    HubS3Request rq = {.method = "GET", .url = s->g->f->url, .payload = HUB_EMPTY_SHA256};
    return hub__s3_sign(lines, &s->x->f->run->s3, &rq, hub__s3_now(), e);
}

/* The first words of a refusal are kept; one without end is cut off. */
static Status take_words(Slot *s, Slice part, Err *e) {
    sb_put(&s->words, part.p, MIN(part.n, FETCH_MAX_WORDS - MIN(s->words.n, FETCH_MAX_WORDS)));
    s->refused += part.n;
    return s->refused < FETCH_MAX_REFUSED ? OK : err_set(e, ERR_FULL, "a refusal without end");
}

/* Of a file that comes without a length. */
static Status check_room(const Slot *s, size_t n, Err *e) {
    if (s->g->f->size != HUB_UNKNOWN && s->at + n > s->g->f->size)
        return err_set(e, ERR_FORMAT, "%.120s: more bytes came than the list says", s->g->f->name);
    if (s->g->part.done || s->at + n + FETCH_ROOM_LEFT <= s->x->free_bytes) return OK;
    return err_set(e, ERR_FULL, "%.100s: no end after %llu bytes, and the disk is full",
                   s->g->f->name, (unsigned long long)s->at);
}

static Status on_body(void *ctx, NetCall *c, Slice part, Err *e) {
    Slot *s = ctx;
    Get *g = s->g;
    int status = net_status(c);
    if (status != 200 && status != 206) return take_words(s, part, e);
    if (s->end != HUB_UNKNOWN && part.n > s->end - s->at)
        return err_set(e, ERR_FORMAT, "%.120s: more bytes came than were promised", g->f->name);
    TRY(check_room(s, part.n, e));
    TRY(hub__part_write(&g->part, s->at, part.p, part.n, e));
    s->at += part.n;
    s->x->got += part.n;
    g->progress_mark += part.n;
    if (g->state == GET_STREAM) g->streamed = s->at;
    if (g->progress_mark >= FETCH_PROGRESS) g->n_fails = 0;
    return OK;
}

static void slot_free(Slot *s) {
    if (s->g && s->g->state == GET_RANGES && s->piece < s->g->part.n_pieces)
        s->g->busy[s->piece] = false;
    s->g = NULL;
    s->call = NULL;
}

static void drop_calls(Fetch *x, const Get *g) {
    for (int i = 0; i < x->n_slots; i++) {
        Slot *s = &x->slots[i];
        if (!s->g || (g && s->g != g)) continue;
        net_cancel(s->call);
        slot_free(s);
    }
}

/* ---- the end of a request ---- */

static void get_restart(Fetch *x, Get *g) {
    Err e = {0};
    drop_calls(x, g);
    if (++g->n_restarts > FETCH_MAX_RESTARTS)
        err_set(&e, ERR_FORMAT, "%.120s: %s, again and again", g->f->name, g->restart);
    else if (hub__part_reset(&g->part, &e) == OK)
        hub__note(&x->f->o->hub, "%s: %s; starting over", g->f->name, g->restart);
    if (e.code != OK) give_up(x, &e);
    forget_hash(g);
    mem_free(g->final_url);
    g->final_url = NULL;
    g->streamed = 0;
    g->restart = NULL;
    g->state = GET_WAIT;
}

static void keep_url(Get *g, const NetCall *c) {
    if (g->final_url || strcmp(net_url(c), g->f->url) == 0) return;
    g->final_url = mem_dup(net_url(c), strlen(net_url(c))); /* NULL: asked for again */
}

static void request_done(Fetch *x, Get *g, const NetCall *c) {
    if (!x->f->s3) keep_url(g, c);
    bool whole = g->state == GET_STREAM || g->part.n_done == g->part.size;
    if (!whole) return;
    g->state = GET_CHECK;
    uint64_t n = final_size(g);
    Err e = {0};
    if (g->f->size == HUB_UNKNOWN || g->f->size == n) return;
    err_set(&e, ERR_FORMAT, "%.100s: has %llu bytes there, the list says %llu", g->f->name,
            (unsigned long long)n, (unsigned long long)g->f->size);
    give_up(x, &e);
}

/* What a failed request means, with a hint. */
static void describe(Fetch *x, const Slot *s, const Get *g, const NetCall *c, const Err *err,
                     Err *out) {
    StrBuf why = {0};
    int status = net_status(c);
    Slice region = net_header(c, "x-amz-bucket-region"), words = net_header(c, "x-error-message");
    bool refused = status != 0 && status != 200 && status != 206 &&
                   !(status < 400 && err->code != OK); /* a redirect that leads nowhere */
    if (!refused) {
        *out = *err;
        if (out->code == OK) err_set(out, ERR_IO, "%.120s: it ended early", g->f->name);
        hub__hint(x->f->run, out, net_fault(c), net_url(c));
        return;
    }
    if (x->f->s3) hub__s3_error(&why, (Slice){sb_str(&s->words), s->words.n});
    if (x->f->s3 && region.n > 0 && (status == 301 || status == 307 || status == 400))
        sb_printf(&why, " (the bucket is in %.*s: set AWS_REGION)", (int)MIN(region.n, (size_t)32),
                  region.p);
    if (why.n > 0) words = (Slice){why.p, why.n};
    hub__say_status(x->f->run, g->f->name, net_url(c), status, words, out);
    sb_deinit(&why);
}

/* A stream cannot go on in the middle. */
static void rewind_stream(Fetch *x, Get *g) {
    Err e = {0};
    if (g->state == GET_STREAM && hub__part_reset(&g->part, &e) != OK) give_up(x, &e);
    if (g->state == GET_STREAM) forget_hash(g);
    if (g->state == GET_STREAM || g->state == GET_FIRST) g->state = GET_WAIT;
    g->streamed = 0;
}

/* Where a redirect led may be good for a while only (links of content networks run out). */
static bool link_ran_out(const Slot *s, int status) {
    return s->by_final && status >= 400 && status < 500 && status != 429 && status != 408;
}

static void request_failed(Fetch *x, const Slot *s, Get *g, NetCall *c, const Err *err) {
    int64_t asked = net_retry_after(c);
    if (link_ran_out(s, net_status(c))) {
        mem_free(g->final_url);
        g->final_url = NULL;
        rewind_stream(x, g);
        return;
    }
    bool short_body = err->code == OK && (net_status(c) == 200 || net_status(c) == 206);
    bool again = (net_may_retry(c) || short_body) && !(net_fault(c) == NET_RESOLVE && x->got == 0);
    int ms = net_backoff_ms(++g->n_fails, asked, clock_now_ns());
    Err e = {0};
    describe(x, s, g, c, err, &e);
    log_debug("pull %s: %s", g->f->name, e.msg);
    if (!again || g->n_fails > x->f->o->hub.retries || ms < 0) {
        give_up(x, &e);
        return;
    }
    x->f->out->n_retries++;
    g->progress_mark = 0;
    g->not_before_ms = now_ms() + (uint64_t)ms;
    rewind_stream(x, g);
}

static void get_present(Fetch *x, Get *g) {
    hub__part_discard(&g->part);
    g->open = false;
    g->state = GET_DONE;
    x->n_done++;
}

static void on_done(void *ctx, NetCall *c, Status st, const Err *err) {
    Slot *s = ctx;
    Fetch *x = s->x;
    Get *g = s->g;
    int status = net_status(c);
    /* a range that is all there is good, whatever the connection did then */
    bool whole = s->at == s->end || s->end == HUB_UNKNOWN;
    bool good = (st == OK && status == 200 && whole) ||
                (status == 206 && g->state == GET_RANGES && s->at == s->end);
    if (x->failed) {
        slot_free(s);
        return;
    }
    bool restart = g->restart != NULL;
    slot_free(s);
    if (g->f->present) get_present(x, g);
    else if (restart) get_restart(x, g);
    else if (good) request_done(x, g, c);
    else request_failed(x, s, g, c, err);
    sb_clear(&s->words);
}

/* ---- the beginning of a request ---- */

static int put_range(char *range, char *condition, const Slot *s, size_t cap) {
    const HubPart *p = &s->g->part;
    if (!s->ranged) return 0;
    snprintf(range, cap, "Range: bytes=%llu-%llu", (unsigned long long)s->at,
             (unsigned long long)s->end - 1);
    const char *what = p->etag[0] ? p->etag : p->modified;
    if (s->g->f->sha256[0] || p->n_done == 0 || !what[0]) return 1;
    snprintf(condition, cap, "If-Range: %s", what);
    return 2;
}

static Status slot_start(Slot *s, Err *e) {
    const HubFetch *f = s->x->f;
    Get *g = s->g;
    char range[300], condition[300];
    const char *headers[HUB_MAX_CONNECTIONS];
    int n = put_range(range, condition, s, sizeof range);
    headers[0] = range;
    headers[1] = condition;
    s->by_final = g->final_url != NULL;
    sb_clear(&s->words);
    s->refused = 0;
    NetRequest rq = {.url = s->by_final ? g->final_url : g->f->url,
                     .headers = headers,
                     .n_headers = n,
                     .no_redirects = f->s3,
                     .sign = f->s3 ? slot_sign : NULL,
                     .on_hop = hub__fetch_hop,
                     .on_head = hub__fetch_head,
                     .on_body = on_body,
                     .on_done = on_done,
                     .ctx = s};
    if (!s->by_final || net_same_origin(rq.url, g->f->url)) {
        rq.secrets = f->secrets;
        rq.n_secrets = f->n_secrets;
    }
    return net_start(&s->call, f->run->net, &rq, e);
}

/* The first piece that nobody has and that is not whole; false: none. */
static bool find_piece(const Get *g, size_t *piece) {
    for (size_t i = 0; i < g->part.n_pieces; i++) {
        if (g->busy[i] || g->part.done[i] >= hub__part_piece_len(&g->part, i)) continue;
        *piece = i;
        return true;
    }
    return false;
}

static void aim_at_piece(Slot *s, size_t i) {
    const HubPart *p = &s->g->part;
    s->piece = i;
    s->at = (uint64_t)i * p->piece + p->done[i];
    s->end = (uint64_t)i * p->piece + hub__part_piece_len(p, i);
    s->ranged = true;
}

static void aim_at_start(Slot *s) {
    const Get *g = s->g;
    uint64_t piece = hub__fetch_piece(s->x->f, g->f->size);
    s->piece = 0;
    s->at = 0;
    s->ranged = !g->plain && !(g->f->size != HUB_UNKNOWN && g->f->size <= piece);
    s->end = s->ranged ? MIN(piece, g->f->size) : HUB_UNKNOWN;
}

/* Something for slot s to do for g; false: nothing now. */
static bool aim(Slot *s, Get *g, Err *e) {
    size_t piece;
    s->g = NULL;
    if (g->state == GET_WAIT) {
        if (get_begin(g, e) != OK || g->state != GET_FIRST) return false;
        s->g = g;
        if (g->part.n_done > 0 && find_piece(g, &piece)) aim_at_piece(s, piece);
        else aim_at_start(s);
        return true;
    }
    if (g->state != GET_RANGES || !find_piece(g, &piece)) return false;
    s->g = g;
    aim_at_piece(s, piece);
    g->busy[piece] = true;
    return true;
}

static Status fill_slot(Fetch *x, Slot *s, uint64_t now, Err *e) {
    for (size_t i = 0; i < x->n_gets; i++) {
        Get *g = &x->gets[i];
        if (g->state == GET_DONE || g->not_before_ms > now) continue;
        bool something = aim(s, g, e);
        if (e->code != OK) return e->code;
        if (!something) continue;
        Status st = slot_start(s, e);
        if (st != OK) slot_free(s);
        return st;
    }
    return OK;
}

static Status start_calls(Fetch *x, Err *e) {
    uint64_t now = now_ms();
    for (int i = 0; i < x->n_slots; i++)
        if (!x->slots[i].g) TRY(fill_slot(x, &x->slots[i], now, e));
    return OK;
}

/* ---- the loop ---- */

static Status hash_all(Fetch *x, char *buf, bool *more, Err *e) {
    for (size_t i = 0; i < x->n_gets; i++) {
        Get *g = &x->gets[i];
        if (g->state < GET_RANGES || g->state == GET_DONE) continue;
        TRY(hash_some(g, buf, more, e));
        if (g->state == GET_CHECK && g->hashed == final_size(g)) TRY(get_finish(x, g, e));
    }
    return OK;
}

static Status save_all(Fetch *x, Err *e) {
    for (size_t i = 0; i < x->n_gets; i++)
        if (x->gets[i].open) TRY(hub__part_save(&x->gets[i].part, e));
    return OK;
}

static void show(Fetch *x) {
    const HubOpts *o = &x->f->o->hub;
    uint64_t done = 0, total = 0;
    bool known = true;
    if (!o->progress) return;
    for (size_t i = 0; i < x->n_gets; i++) {
        const Get *g = &x->gets[i];
        uint64_t size = g->part.done ? g->part.size : g->f->size;
        done += g->f->present ? g->f->size : bytes_there(g);
        known &= size != HUB_UNKNOWN;
        if (known) total += size;
    }
    o->progress(o->ctx, "pull", done, known ? total : 0);
}

static Status turn(Fetch *x, char *buf, Err *e) {
    bool more = false;
    TRY(start_calls(x, e));
    TRY(hash_all(x, buf, &more, e));
    if (x->n_done < x->n_gets) TRY(net_poll(x->f->run->net, more ? 0 : 100, e));
    uint64_t now = now_ms();
    if (now >= x->save_ms) {
        TRY(save_all(x, e));
        x->save_ms = now + FETCH_SAVE_MS;
    }
    if (now >= x->show_ms) {
        show(x);
        x->show_ms = now + FETCH_SHOW_MS;
    }
    return OK;
}

static Status run(Fetch *x, Err *e) {
    char *buf = mem_new_n(char, FETCH_HASH_STEP);
    Status st = buf ? OK : err_set(e, ERR_NOMEM, "out of memory for a buffer");
    x->save_ms = now_ms() + FETCH_SAVE_MS;
    while (st == OK && !x->failed && x->n_done < x->n_gets)
        st = hub__stopped(&x->f->o->hub) ? hub__fail_stopped(e) : turn(x, buf, e);
    mem_free(buf);
    if (st == OK && x->failed) {
        st = x->err.code;
        if (e) *e = x->err;
    }
    return st;
}

static void get_close(Get *g) {
    if (g->open && bytes_there(g) == 0) hub__part_discard(&g->part);
    else if (g->open) {
        (void)!hub__part_save(&g->part, NULL); /* what cannot be saved is fetched again */
        hub__part_close(&g->part);
    }
    mem_free(g->busy);
    mem_free(g->final_url);
    digest_free(g->digest);
}

static Status init(Fetch *x, HubFetch *f, Err *e) {
    size_t n = 0;
    x->f = f;
    x->n_slots = f->o->hub.connections > 0 ? MIN(f->o->hub.connections, HUB_MAX_CONNECTIONS) : 8;
    x->gets = mem_new_n(Get, f->list->n);
    if (!x->gets) return err_set(e, ERR_NOMEM, "out of memory for %zu files", f->list->n);
    for (size_t i = 0; i < f->list->n; i++)
        if (!f->list->v[i].present) x->gets[n++].f = &f->list->v[i];
    x->n_gets = n;
    for (int i = 0; i < x->n_slots; i++) x->slots[i].x = x;
    return n > 0 ? hub__disk_free(&x->free_bytes, x->gets[0].f->path, e) : OK;
}

Status hub__fetch(HubFetch *f, Err *e) {
    Err own = {0};
    Fetch *x = mem_new(Fetch);
    if (!x) return err_set(e, ERR_NOMEM, "out of memory for a transfer");
    Status st = init(x, f, &own);
    if (st == OK) st = run(x, &own);
    drop_calls(x, NULL);
    f->out->fetched = x->got;
    for (size_t i = 0; i < x->n_gets; i++) get_close(&x->gets[i]);
    for (int i = 0; i < x->n_slots; i++) sb_deinit(&x->slots[i].words);
    mem_free(x->gets);
    mem_free(x);
    if (st != OK) err_set(e, st, "%s", own.msg);
    return st;
}
