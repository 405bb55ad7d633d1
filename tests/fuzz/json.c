/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as JSON. What is taken is written out again and must be taken again, as the same text.
 */
#include <math.h>
#include <stdlib.h>

#include <jansson.h>

#undef json_is_object
#undef json_is_array
#include "text/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_value(JsonW *w, const char *key, const json_t *v);

static void write_members(JsonW *w, const json_t *v) {
    const char *key;
    json_t *m;
    json_object_foreach((json_t *)v, key, m) write_value(w, key, m);
}

static void write_value(JsonW *w, const char *key, const json_t *v) {
    size_t i;
    json_t *m;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        jw_obj(w, key);
        write_members(w, v);
        jw_end_obj(w);
        break;
    case JSON_ARRAY:
        jw_arr(w, key);
        json_array_foreach(v, i, m) write_value(w, NULL, m);
        jw_end_arr(w);
        break;
    case JSON_STRING: jw_str(w, key, json_str((const Json *)v)); break;
    case JSON_INTEGER: jw_int(w, key, json_integer_value(v)); break;
    case JSON_REAL: jw_num(w, key, json_real_value(v)); break;
    case JSON_NULL: jw_null(w, key); break;
    default: jw_bool(w, key, json_is_true(v));
    }
}

static void write_text(StrBuf *b, const Json *j) {
    JsonW w;
    sb_clear(b);
    jw_init(&w, b);
    write_value(&w, NULL, (const json_t *)j);
    if (b->failed) abort();
}

/* The typed getters, on whatever members there are. */
static void ask(const Json *j) {
    static const char *const keys[] = {"a", "prompt", "max_tokens", "n"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        Slice s = {"", 0};
        int64_t n = 0;
        double d = 0;
        bool b = false;
        Err e = {0};
        if (json_opt_str(&s, j, keys[i], &e) != OK && !e.msg[0]) abort();
        if (json_opt_int(&n, j, keys[i], -5, 5, NULL) == OK && (n < -5 || n > 5)) abort();
        if (json_opt_num(&d, j, keys[i], 0, 1, NULL) == OK && !(d >= 0 && d <= 1)) abort();
        if (json_opt_bool(&b, j, keys[i], NULL) == OK && json_get(j, keys[i]) &&
            json_is_str(json_get(j, keys[i])))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Json *j = NULL, *again = NULL;
    StrBuf one = {0}, two = {0};
    Err e = {0};
    if (json_parse(&j, (Slice){(const char *)data, size}, &e) != OK) {
        if (!e.msg[0]) abort();
        return 0;
    }
    ask(j);
    write_text(&one, j);
    if (json_parse(&again, (Slice){one.p, one.n}, &e) != OK) abort();
    write_text(&two, again);
    if (!slice_eq((Slice){one.p, one.n}, (Slice){two.p, two.n})) abort();
    json_free(j);
    json_free(again);
    sb_deinit(&one);
    sb_deinit(&two);
    return 0;
}
