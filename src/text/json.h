/* SPDX-License-Identifier: Apache-2.0
 * JSON: reading through jansson with bounded depth, writing through a StrBuf. One thread per object. */
#ifndef INGOT_TEXT_JSON_H
#define INGOT_TEXT_JSON_H

#include "base/str.h"

enum { JSON_MAX_DEPTH = 64 };

typedef struct Json Json; /* a parsed value; the root is owned, members are borrowed from it */

/* Parse exactly one value. Refused: duplicate keys, bad UTF-8, NaN, trailing bytes, depth over
 * JSON_MAX_DEPTH. ERR_FORMAT with line and column. */
MUST_CHECK Status json_parse(Json **out, Slice text, Err *e);
void json_free(Json *root);
bool json_is_object(const Json *j);
bool json_is_array(const Json *j);
bool json_is_str(const Json *j);
/* Member of an object, borrowed; NULL if absent or null. */
const Json *json_get(const Json *obj, const char *key);
/* Elements of an array or members of an object; 0 for everything else. */
size_t json_len(const Json *j);
/* Element i of an array, borrowed; NULL past the end or if arr is no array. */
const Json *json_at(const Json *arr, size_t i);
/* An integer from min to max, else -1 (min >= 0). */
int64_t json_int_or(const Json *j, int64_t min, int64_t max);
/* Bytes of a string value, borrowed; empty if it is none. May hold NUL bytes. */
Slice json_str(const Json *j);
typedef enum JsonKind {
    JSON_KIND_NULL,
    JSON_KIND_BOOL,
    JSON_KIND_INT,
    JSON_KIND_REAL,
    JSON_KIND_STR,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT
} JsonKind;
/* What a value is; null for NULL. */
JsonKind json_kind(const Json *j);
/* Value of an integer, a number, a boolean; 0 or false for everything else. */
int64_t json_int(const Json *j);
double json_num(const Json *j);
bool json_bool(const Json *j);
/* Walk an object in the order of its text: it NULL at first, then what the last call returned; NULL at the
 * end, and then *key and *v are as they were. Both are borrowed, null members are given too. */
void *json_next(const Json *obj, void *it, Slice *key, const Json **v);
/* Typed members: an absent or null one leaves *out as it was and is OK; another type or a value out of
 * range is ERR_ARG naming the key. Strings are borrowed. */
MUST_CHECK Status json_opt_str(Slice *out, const Json *obj, const char *key, Err *e);
MUST_CHECK Status json_opt_int(int64_t *out, const Json *obj, const char *key, int64_t min,
                               int64_t max, Err *e);
MUST_CHECK Status json_opt_num(double *out, const Json *obj, const char *key, double min,
                               double max, Err *e);
MUST_CHECK Status json_opt_bool(bool *out, const Json *obj, const char *key, Err *e);

/* Writer: commas by itself, one compact line. Sticky failure through the StrBuf. */
typedef struct JsonW {
    StrBuf *b;           /* borrowed */
    uint64_t need_comma; /* one bit per open level */
    int depth;
} JsonW;

/* Start writing at the end of b, which must outlive w. */
void jw_init(JsonW *w, StrBuf *b);
void jw_obj(JsonW *w, const char *key); /* key NULL at top level and in arrays */
void jw_end_obj(JsonW *w);
void jw_arr(JsonW *w, const char *key);
void jw_end_arr(JsonW *w);
/* Bad UTF-8 is replaced by U+FFFD. */
void jw_str(JsonW *w, const char *key, Slice v);
void jw_cstr(JsonW *w, const char *key, const char *v);
void jw_int(JsonW *w, const char *key, int64_t v);
/* Shortest text that reads back as the same double; NaN and infinities become null. */
void jw_num(JsonW *w, const char *key, double v);
/* Shortest text that reads back as the same float. */
void jw_f32(JsonW *w, const char *key, float v);
void jw_bool(JsonW *w, const char *key, bool v);
void jw_null(JsonW *w, const char *key);
/* JSON text of one value, put in as it is. */
void jw_raw(JsonW *w, const char *key, Slice json);
/* A parsed value, compact; members stay in their order. */
void jw_json(JsonW *w, const char *key, const Json *v);

#endif
