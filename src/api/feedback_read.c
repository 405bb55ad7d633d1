/* SPDX-License-Identifier: Apache-2.0
 * The fields of POST /feedback. Its first clients send them in the query string, others a JSON body; thumbs are the two
 * ends of the scale. */
#include "api/feedback.h"
#include "net/http.h"

static bool rating_of_word(int *out, Slice w) {
    static const struct {
        const char *word;
        int rating;
    } words[] = {{"like", 5}, {"dislike", 1}, {"up", 5}, {"down", 1}, {"true", 5}, {"false", 1}};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (!slice_eq_str(w, words[i].word)) continue;
        *out = words[i].rating;
        return true;
    }
    if (w.n != 1 || w.p[0] < '1' || w.p[0] > '5') return false;
    *out = w.p[0] - '0';
    return true;
}

static Status bad_rating(Err *e) {
    return err_set(e, ERR_ARG, "rating: want 1 to 5, \"like\" or \"dislike\"");
}

static Status read_rating(int *out, const Json *body, Err *e) {
    const Json *j = json_get(body, "rating");
    int rating = 0;
    if (!j) return OK;
    if (json_kind(j) == JSON_KIND_BOOL) {
        rating = json_bool(j) ? 5 : 1;
    } else if (json_kind(j) == JSON_KIND_INT && json_int(j) >= 1 && json_int(j) <= 5) {
        rating = (int)json_int(j);
    } else if (json_kind(j) != JSON_KIND_STR || !rating_of_word(&rating, json_str(j))) {
        return bad_rating(e);
    }
    *out = rating;
    return OK;
}

static Status read_body(FeedbackRating *r, const Json *body, Err *e) {
    if (!json_is_object(body)) return err_set(e, ERR_ARG, "body: not a JSON object");
    TRY(json_opt_str(&r->request_id, body, "request_id", e));
    TRY(json_opt_str(&r->comment, body, "comment", e));
    return read_rating(&r->rating, body, e);
}

/* Where one value begins and ends in buf, which may move while others are appended. */
typedef struct Span {
    size_t at, n;
    bool found;
} Span;

static Status query_span(Span *s, StrBuf *buf, Slice query, const char *name, Err *e) {
    Err why = {0};
    s->at = buf->n;
    Status st = http_query_get(buf, &s->found, query, name, &why);
    s->n = buf->n - s->at;
    if (st == OK) return OK;
    return err_set(e, st == ERR_FORMAT ? ERR_ARG : st, "%s: %s", name, why.msg);
}

static void use_span(Slice *out, const Span *s, const StrBuf *buf) {
    if (s->found && out->n == 0) *out = (Slice){sb_str(buf) + s->at, s->n};
}

static Status read_query(FeedbackRating *r, StrBuf *buf, Slice query, Err *e) {
    Span id, rating, comment;
    TRY(query_span(&id, buf, query, "request_id", e));
    TRY(query_span(&rating, buf, query, "rating", e));
    TRY(query_span(&comment, buf, query, "comment", e));
    use_span(&r->request_id, &id, buf);
    use_span(&r->comment, &comment, buf);
    if (!rating.found || r->rating != 0) return OK;
    Slice w = {sb_str(buf) + rating.at, rating.n};
    return rating_of_word(&r->rating, w) ? OK : bad_rating(e);
}

Status feedback_read(FeedbackRating *out, StrBuf *buf, const Json *body, Slice query, Err *e) {
    FeedbackRating r = {.request_id = {"", 0}, .user = {"", 0}, .comment = {"", 0}};
    if (body) TRY(read_body(&r, body, e));
    TRY(read_query(&r, buf, query, e));
    if (r.request_id.n == 0) return err_set(e, ERR_ARG, "request_id: missing");
    if (r.rating == 0) return err_set(e, ERR_ARG, "rating: missing");
    *out = r;
    return OK;
}
