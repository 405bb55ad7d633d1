/* SPDX-License-Identifier: Apache-2.0 */
#include "api/batch_line.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/sha.h"

static const char head[] = "batch_req_";
enum { HEAD_LEN = sizeof head - 1, HASH_LEN = 16 };

void batches_task_deinit(BatchTask *t) {
    mem_free(t->custom_id);
    mem_free(t->url);
    sb_deinit(&t->body);
    *t = (BatchTask){0};
}

/* ---- reading ---- */

static char *dup_text(Slice s, Err *e) {
    char *p = mem_dup(s.p, s.n);
    return p || err_set(e, ERR_NOMEM, "a line of a batch") == OK ? p : NULL;
}

static Status read_custom_id(BatchTask *out, const Json *root, const char **code, Err *e) {
    Slice id = json_str(json_get(root, "custom_id"));
    *code = "missing_required_parameter";
    if (id.n == 0) return err_set(e, ERR_ARG, "custom_id: a text is needed");
    *code = "invalid_custom_id";
    if (id.n > BATCHES_MAX_CUSTOM)
        return err_set(e, ERR_ARG, "custom_id: %zu bytes, the limit is %d", id.n,
                       BATCHES_MAX_CUSTOM);
    if (memchr(id.p, 0, id.n)) return err_set(e, ERR_ARG, "custom_id: has a zero byte");
    *code = NULL;
    out->custom_id = dup_text(id, e);
    return out->custom_id ? OK : ERR_NOMEM;
}

static Status check_url(Slice url, const BatchRules *r, const char **code, Err *e) {
    int n = (int)MIN(url.n, 64);
    *code = "mismatched_endpoint";
    if (r->endpoint && !slice_eq_str(url, r->endpoint))
        return err_set(e, ERR_ARG, "url: \"%.*s\", the batch is of %s", n, url.p, r->endpoint);
    *code = "invalid_url";
    if (r->allows && !r->allows(url))
        return err_set(e, ERR_ARG, "url: \"%.*s\" is none of a batch's", n, url.p);
    return OK;
}

static Status read_rest(BatchTask *out, const Json *root, const BatchRules *r, const char **code,
                        Err *e) {
    const Json *method = json_get(root, "method"), *body = json_get(root, "body");
    Slice url = json_str(json_get(root, "url"));
    JsonW w;
    *code = "invalid_method";
    if (!slice_eq_str(json_str(method), "POST"))
        return err_set(e, ERR_ARG, "method: want \"POST\"");
    *code = "missing_required_parameter";
    if (url.n == 0) return err_set(e, ERR_ARG, "url: a text is needed");
    TRY(check_url(url, r, code, e));
    *code = "missing_required_parameter";
    if (!json_is_object(body)) return err_set(e, ERR_ARG, "body: an object is needed");
    *code = NULL;
    jw_init(&w, &out->body);
    jw_json(&w, NULL, body);
    out->url = dup_text(url, e);
    return out->url ? sb_check(&out->body, e) : ERR_NOMEM;
}

Status batches_line_read(BatchTask *out, Slice text, const BatchRules *rules, const char **code,
                         Err *e) {
    Json *root = NULL;
    *code = "line_too_long";
    if (text.n > BATCHES_MAX_LINE)
        return err_set(e, ERR_ARG, "a line of %zu bytes, the limit is %d", text.n,
                       BATCHES_MAX_LINE);
    *code = "invalid_json_line";
    Status st = json_parse(&root, text, e);
    if (st == OK && !json_is_object(root)) st = err_set(e, ERR_ARG, "a line is to be an object");
    if (st == ERR_NOMEM) *code = NULL;
    if (st == OK) st = read_custom_id(out, root, code, e);
    if (st == OK) st = read_rest(out, root, rules, code, e);
    json_free(root);
    return st;
}

/* ---- ids ---- */

Status batches_line_id(char out[BATCHES_ID_BYTES], int64_t i_line, Slice text, Err *e) {
    Sha256 sum;
    char hex[65];
    TRY(sha_256(&sum, text.p, text.n, e));
    snprintf(out, BATCHES_ID_BYTES, "%s%" PRId64 "_%.*s", head, i_line + 1, HASH_LEN,
             sha_hex(hex, &sum));
    return OK;
}

int64_t batches_line_of(Slice id) {
    char digits[20] = "";
    int64_t n = 0;
    if (id.n <= HEAD_LEN || memcmp(id.p, head, HEAD_LEN) != 0) return -1;
    id.p += HEAD_LEN;
    id.n -= HEAD_LEN;
    const char *end = memchr(id.p, '_', id.n);
    size_t k = end ? (size_t)(end - id.p) : 0;
    if (k == 0 || k >= sizeof digits || id.n - k - 1 != HASH_LEN) return -1;
    memcpy(digits, id.p, k);
    return str_to_i64(&n, digits) && n > 0 ? n - 1 : -1;
}

/* ---- writing ---- */

static void put_response(JsonW *w, const BatchAnswer *a) {
    if (a->status == 0) {
        jw_null(w, "response");
        return;
    }
    jw_obj(w, "response");
    jw_int(w, "status_code", a->status);
    jw_cstr(w, "request_id", a->request_id);
    jw_raw(w, "body", a->body);
    jw_end_obj(w);
}

static void put_error(JsonW *w, const BatchAnswer *a) {
    if (a->status != 0) {
        jw_null(w, "error");
        return;
    }
    jw_obj(w, "error");
    jw_cstr(w, "code", a->code);
    jw_cstr(w, "message", a->message);
    jw_end_obj(w);
}

Status batches_line_put(StrBuf *b, const char *id, const char *custom_id, const BatchAnswer *a,
                        Err *e) {
    JsonW w;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "id", id);
    if (custom_id) jw_cstr(&w, "custom_id", custom_id);
    else jw_null(&w, "custom_id");
    put_response(&w, a);
    put_error(&w, a);
    jw_end_obj(&w);
    sb_putc(b, '\n');
    return sb_check(b, e);
}
