/* SPDX-License-Identifier: Apache-2.0
 * What the head of an answer says: is this the file that was asked for, is it the one of which there are bytes
 * already, which bytes come. Everything the server says is held against what is known; what does not agree is
 * refused, or begins anew where the file may have changed. */
#include "hub/fetch_internal.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/io.h"

#define PIECE_MIN ((uint64_t)8 << 20)
#define PIECE_MAX ((uint64_t)64 << 20)
#define ROOM_LEFT ((uint64_t)16 << 20) /* of the disk, for others */

uint64_t hub__fetch_piece(const HubFetch *f, uint64_t size) {
    uint64_t asked = f->o->hub.piece_bytes;
    if (size == HUB_UNKNOWN) return asked > 0 ? asked : PIECE_MIN;
    uint64_t p = MIN(MAX(ROUND_UP(size / 64, (uint64_t)1 << 20), PIECE_MIN), PIECE_MAX);
    return MAX(asked > 0 ? asked : p, size >> 19); /* no more pieces than half a million */
}

static Status fail(const Get *g, Err *e, const char *what) {
    return err_set(e, ERR_FORMAT, "%.120s: %s", g->f->name, what);
}

/* The file is not the one that was begun: everything from the start, see fetch.c. */
static Status begin_anew(Get *g, const char *why, Err *e) {
    g->restart = why;
    return err_set(e, ERR_IO, "%.120s: %s", g->f->name, why);
}

/* ---- numbers ---- */

static bool parse_u64(uint64_t *out, Slice s) {
    char num[24] = {0};
    if (s.n == 0 || s.n >= sizeof num) return false;
    memcpy(num, s.p, s.n);
    return str_to_u64(out, num) && *out <= HUB_MAX_SIZE;
}

/* "bytes 0-99/1000" */
static bool parse_range(uint64_t *from, uint64_t *to, uint64_t *total, Slice s) {
    if (s.n < 6 || memcmp(s.p, "bytes ", 6) != 0) return false;
    s = (Slice){s.p + 6, s.n - 6};
    const char *dash = memchr(s.p, '-', s.n), *slash = memchr(s.p, '/', s.n);
    if (!dash || !slash || dash > slash) return false;
    Slice a = {s.p, (size_t)(dash - s.p)}, b = {dash + 1, (size_t)(slash - dash - 1)};
    Slice t = {slash + 1, (size_t)(s.p + s.n - slash - 1)};
    return parse_u64(from, a) && parse_u64(to, b) && parse_u64(total, t) && *from <= *to &&
           *to < *total && (*to)++ < HUB_MAX_SIZE;
}

/* ---- identity ---- */

static bool visible(Slice s, size_t cap) {
    if (s.n == 0 || s.n >= cap) return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] > 0x7E) return false;
    return true;
}

static void copy(char *out, Slice s, size_t cap) {
    bool ok = visible(s, cap);
    if (ok) memcpy(out, s.p, s.n);
    out[ok ? s.n : 0] = '\0';
}

/* A strong ETag only: a weak one may stand for other bytes. */
static void get_etag(char *out, size_t cap, const NetCall *c) {
    Slice s = net_header(c, "etag");
    if (s.n < 2 || s.p[0] != '"' || s.p[s.n - 1] != '"') s.n = 0;
    copy(out, s, cap);
}

static void take_sha256(Get *g, Slice hex) {
    if (!g->f->sha256[0]) digest_parse_hex(g->f->sha256, hex, HUB_SHA256_HEX);
}

/* Of S3: what ingot push wrote with the object. */
static void take_promises(Slot *s, const NetCall *c) {
    if (s->x->f->s3) take_sha256(s->g, net_header(c, "x-amz-meta-sha256"));
}

Status hub__fetch_hop(void *slot, NetCall *c, Err *e) {
    Slot *s = slot;
    Slice etag = net_header(c, "x-linked-etag");
    (void)e;
    if (s->by_final || !net_same_origin(net_url(c), s->g->f->url)) return OK;
    if (etag.n == HUB_SHA256_HEX + 2 && etag.p[0] == '"')
        take_sha256(s->g, (Slice){etag.p + 1, HUB_SHA256_HEX});
    return OK;
}

/* With a digest to end up with, it does not matter which server says what about identity. */
static bool same_as_begun(const Get *g, const NetCall *c, uint64_t total) {
    char etag[sizeof g->part.etag], modified[sizeof g->part.modified];
    if (g->part.size != total) return false;
    if (g->f->sha256[0]) return true;
    get_etag(etag, sizeof etag, c);
    copy(modified, net_header(c, "last-modified"), sizeof modified);
    if (g->part.etag[0]) return strcmp(g->part.etag, etag) == 0;
    return g->part.modified[0] && strcmp(g->part.modified, modified) == 0;
}

static Status check_promised(const Get *g, uint64_t total, Err *e) {
    if (g->f->size == HUB_UNKNOWN || total == HUB_UNKNOWN || g->f->size == total) return OK;
    return err_set(e, ERR_FORMAT, "%.100s: has %llu bytes there, the list says %llu", g->f->name,
                   (unsigned long long)total, (unsigned long long)g->f->size);
}

static Status check_room(const Slot *s, uint64_t total, Err *e) {
    uint64_t room = s->x->free_bytes;
    if (s->g->f->size != HUB_UNKNOWN || total == HUB_UNKNOWN) return OK; /* counted before */
    if (total + ROOM_LEFT <= room) return OK;
    return err_set(e, ERR_FULL, "%.100s: needs %llu bytes, the disk has %llu free", s->g->f->name,
                   (unsigned long long)total, (unsigned long long)room);
}

/* A file without a digest that is there already: the same by size and time, or in the way. */
static Status check_target(Slot *s, uint64_t total, Err *e) {
    Get *g = s->g;
    struct stat st;
    if (s->x->f->o->force || g->f->sha256[0] || g->f->git_sha1[0]) return OK;
    if (stat(g->f->path, &st) < 0) return OK;
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size == total && g->modified > 0 &&
        st.st_mtime == g->modified) {
        g->f->present = true;
        g->f->size = total;
        return err_set(e, ERR_FULL, "%.120s: is there already", g->f->path);
    }
    return err_set(e, ERR_ARG, "%.150s: exists and differs; --force replaces it", g->f->path);
}

/* The first answer for a file of which there is nothing: size, pieces, identity. */
static Status lay_out(Slot *s, const NetCall *c, uint64_t total, Err *e) {
    Get *g = s->g;
    TRY(check_promised(g, total, e));
    TRY(check_target(s, total, e));
    TRY(check_room(s, total, e));
    if (total != HUB_UNKNOWN)
        TRY(hub__part_layout(&g->part, total, hub__fetch_piece(s->x->f, total), e));
    get_etag(g->part.etag, sizeof g->part.etag, c);
    copy(g->part.modified, net_header(c, "last-modified"), sizeof g->part.modified);
    memcpy(g->part.sha256, g->f->sha256, sizeof g->part.sha256);
    mem_free(g->busy);
    g->busy = mem_new_n(bool, MAX(g->part.n_pieces, (size_t)1));
    if (!g->busy) return err_set(e, ERR_NOMEM, "out of memory for a file");
    return OK;
}

static bool has_identity(const Get *g) {
    return g->f->sha256[0] || g->part.etag[0] || g->part.modified[0];
}

/* ---- kinds of answers ---- */

static Status on_partial(Slot *s, NetCall *c, Err *e) {
    Get *g = s->g;
    uint64_t from, to, total;
    if (!s->ranged || !parse_range(&from, &to, &total, net_header(c, "content-range")))
        return fail(g, e, "an answer with a range that was not asked for");
    if (from != s->at || (s->end != HUB_UNKNOWN && to > s->end))
        return fail(g, e, "another range came than was asked for");
    bool begun = g->part.done && g->part.n_done > 0;
    if (begun || g->state == GET_RANGES) {
        if (!same_as_begun(g, c, total)) return begin_anew(g, "changed on the server", e);
    } else TRY(lay_out(s, c, total, e));
    s->piece = (size_t)(s->at / g->part.piece);
    uint64_t piece_end =
        (uint64_t)s->piece * g->part.piece + hub__part_piece_len(&g->part, s->piece);
    s->end = MIN(MIN(to, piece_end), total);
    if (to > s->end) return fail(g, e, "another range came than was asked for");
    if (!has_identity(g) && s->end < total) {
        g->plain = true;
        return begin_anew(g, "cannot be had in parts: the server gives no ETag", e);
    }
    g->state = GET_RANGES;
    g->busy[s->piece] = true;
    return OK;
}

static Status on_whole(Slot *s, NetCall *c, Err *e) {
    Get *g = s->g;
    uint64_t total = HUB_UNKNOWN;
    Slice length = net_header(c, "content-length");
    if (length.n > 0 && !parse_u64(&total, length)) return fail(g, e, "a length that is no number");
    if (s->at > 0 || g->state == GET_RANGES || g->part.n_done > 0) {
        bool same = g->part.done && same_as_begun(g, c, total);
        g->plain |= same;
        return begin_anew(g, same ? "the server does not send parts" : "changed on the server", e);
    }
    TRY(lay_out(s, c, total, e));
    s->end = total;
    s->piece = 0;
    g->state = GET_STREAM;
    g->streamed = 0;
    return OK;
}

static bool is_page(const Get *g, const NetCall *c) {
    Slice type = net_header(c, "content-type");
    size_t n = strlen(g->f->name);
    bool html = type.n >= 9 && memcmp(type.p, "text/html", 9) == 0;
    return html && !(n > 4 && strstr(g->f->name + n - 5, ".htm"));
}

static void take_time(Get *g, const NetCall *c) {
    char date[64];
    copy(date, net_header(c, "last-modified"), sizeof date);
    g->modified = date[0] ? (int64_t)net_parse_date(date) : 0;
}

Status hub__fetch_head(void *slot, NetCall *c, Err *e) {
    Slot *s = slot;
    Get *g = s->g;
    int status = net_status(c);
    Slice encoding = net_header(c, "content-encoding");
    if (status == 416 && s->ranged && !g->plain) {
        g->plain = g->part.n_done == 0; /* of an empty file there is no range */
        return begin_anew(g, g->plain ? "cannot be had in parts" : "changed on the server", e);
    }
    if (status != 200 && status != 206) return OK; /* a refusal: fetch.c reads its words */
    if (encoding.n > 0 && !slice_eq_str(encoding, "identity"))
        return fail(g, e, "the server sends it packed, which was not asked for");
    if (is_page(g, c)) return fail(g, e, "the answer is a web page, not a file");
    take_promises(s, c);
    take_time(g, c);
    return status == 206 ? on_partial(s, c, e) : on_whole(s, c, e);
}
