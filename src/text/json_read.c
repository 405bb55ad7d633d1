/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading JSON: jansson does the parsing, this file bounds it and gives typed members. A Json is a
 * json_t under another name, so members cost nothing. Depth is counted over the text before jansson
 * sees it, because its own limit is a fixed 2048 levels of recursion.
 */
#include "text/json.h"

#include <jansson.h>
#include <math.h>

#undef json_is_object /* jansson's macros of the same names */
#undef json_is_array

static const json_t *node(const Json *j) { return (const json_t *)j; }
static const Json *wrap(const json_t *j) { return (const Json *)j; }

/* Deepest nesting of brackets outside of strings, as far as it is within the limit. */
static bool depth_ok(Slice s) {
    int depth = 0;
    bool in_str = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (in_str) {
            if (c == '\\') i++;
            else if (c == '"') in_str = false;
        } else if (c == '"') {
            in_str = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_MAX_DEPTH) return false;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return true;
}

/* jansson quotes the text around an error: keep what fits in one plain line. */
static Status parse_failed(json_error_t *je, Err *e) {
    for (char *p = je->text; *p; p++) {
        if (*p < 0x20 || *p > 0x7e) *p = '?';
    }
    if (json_error_code(je) == json_error_out_of_memory) {
        return err_set(e, ERR_NOMEM, "json: out of memory");
    }
    return err_set(e, ERR_FORMAT, "json: line %d, column %d: %s", je->line, je->column, je->text);
}

Status json_parse(Json **out, Slice text, Err *e) {
    enum { FLAGS = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL };
    json_error_t je;
    if (text.n == 0) return err_set(e, ERR_FORMAT, "json: empty text");
    /* legal nowhere, but jansson loses one that follows a number */
    const char *zero = memchr(text.p, 0, text.n);
    if (zero) return err_set(e, ERR_FORMAT, "json: byte %zu is zero", (size_t)(zero - text.p));
    if (!depth_ok(text)) {
        return err_set(e, ERR_FORMAT, "json: nested deeper than %d levels", (int)JSON_MAX_DEPTH);
    }
    json_t *root = json_loadb(text.p, text.n, FLAGS, &je);
    if (!root) return parse_failed(&je, e);
    *out = (Json *)root;
    return OK;
}

void json_free(Json *root) { json_decref((json_t *)root); }

static bool is_type(const Json *j, json_type t) { return j && json_typeof(node(j)) == t; }

bool json_is_object(const Json *j) { return is_type(j, JSON_OBJECT); }
bool json_is_array(const Json *j) { return is_type(j, JSON_ARRAY); }
bool json_is_str(const Json *j) { return is_type(j, JSON_STRING); }

const Json *json_get(const Json *obj, const char *key) {
    if (!json_is_object(obj)) return NULL;
    const json_t *v = json_object_get(node(obj), key);
    return v && json_typeof(v) != JSON_NULL ? wrap(v) : NULL;
}

size_t json_len(const Json *j) {
    return json_is_object(j) ? json_object_size(node(j)) : json_array_size(node(j));
}

const Json *json_at(const Json *arr, size_t i) { return wrap(json_array_get(node(arr), i)); }

Slice json_str(const Json *j) {
    if (!json_is_str(j)) return (Slice){"", 0};
    return (Slice){json_string_value(node(j)), json_string_length(node(j))};
}

JsonKind json_kind(const Json *j) {
    switch (j ? json_typeof(node(j)) : JSON_NULL) {
    case JSON_OBJECT: return JSON_KIND_OBJECT;
    case JSON_ARRAY: return JSON_KIND_ARRAY;
    case JSON_STRING: return JSON_KIND_STR;
    case JSON_INTEGER: return JSON_KIND_INT;
    case JSON_REAL: return JSON_KIND_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return JSON_KIND_BOOL;
    default: return JSON_KIND_NULL;
    }
}

int64_t json_int(const Json *j) {
    return is_type(j, JSON_INTEGER) ? json_integer_value(node(j)) : 0;
}

double json_num(const Json *j) { return j ? json_number_value(node(j)) : 0; }

bool json_bool(const Json *j) { return is_type(j, JSON_TRUE); }

void *json_next(const Json *obj, void *it, Slice *key, const Json **v) {
    json_t *o = (json_t *)(uintptr_t)obj; /* iterators want it writable, and write nothing */
    if (!json_is_object(obj)) return NULL;
    it = it ? json_object_iter_next(o, it) : json_object_iter(o);
    if (!it) return NULL;
    const char *k = json_object_iter_key(it);
    *key = (Slice){k, strlen(k)};
    *v = wrap(json_object_iter_value(it));
    return it;
}

static const char *type_name(const json_t *v) {
    static const char *const names[] = {"an object", "an array",  "a string",  "an integer",
                                        "a number",  "a boolean", "a boolean", "null"};
    return names[json_typeof(v)];
}

static Status wrong_type(const char *key, const Json *v, const char *want, Err *e) {
    return err_set(e, ERR_ARG, "%s: %s, not %s", key, want, type_name(node(v)));
}

Status json_opt_str(Slice *out, const Json *obj, const char *key, Err *e) {
    const Json *v = json_get(obj, key);
    if (!v) return OK;
    if (!json_is_str(v)) return wrong_type(key, v, "a string is needed", e);
    *out = json_str(v);
    return OK;
}

/* 256.0 and 1e3 are integers too: clients of some languages write them so. */
static bool read_int(int64_t *out, const json_t *v) {
    if (json_typeof(v) == JSON_INTEGER) {
        *out = json_integer_value(v);
        return true;
    }
    double d = json_typeof(v) == JSON_REAL ? json_real_value(v) : 0.5;
    if (d != floor(d) || fabs(d) > 0x1p53) return false;
    *out = (int64_t)d;
    return true;
}

int64_t json_int_or(const Json *j, int64_t min, int64_t max) {
    int64_t v = -1;
    return j && read_int(&v, node(j)) && v >= min && v <= max ? v : -1;
}

Status json_opt_int(int64_t *out, const Json *obj, const char *key, int64_t min, int64_t max,
                    Err *e) {
    const Json *v = json_get(obj, key);
    int64_t i;
    if (!v) return OK;
    if (!read_int(&i, node(v))) return wrong_type(key, v, "an integer is needed", e);
    if (i < min || i > max) {
        return err_set(e, ERR_ARG, "%s: %lld is out of range, %lld to %lld", key, (long long)i,
                       (long long)min, (long long)max);
    }
    *out = i;
    return OK;
}

Status json_opt_num(double *out, const Json *obj, const char *key, double min, double max, Err *e) {
    const Json *v = json_get(obj, key);
    if (!v) return OK;
    if (!is_type(v, JSON_INTEGER) && !is_type(v, JSON_REAL))
        return wrong_type(key, v, "a number is needed", e);
    double d = json_number_value(node(v));
    if (!(d >= min && d <= max)) {
        return err_set(e, ERR_ARG, "%s: %g is out of range, %g to %g", key, d, min, max);
    }
    *out = d;
    return OK;
}

Status json_opt_bool(bool *out, const Json *obj, const char *key, Err *e) {
    const Json *v = json_get(obj, key);
    if (!v) return OK;
    bool yes = is_type(v, JSON_TRUE);
    if (!yes && !is_type(v, JSON_FALSE)) return wrong_type(key, v, "a boolean is needed", e);
    *out = yes;
    return OK;
}
