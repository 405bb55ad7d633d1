/* SPDX-License-Identifier: Apache-2.0
 * Reading bodies by the table, and the table as JSON Schema. */
#include "api/field.h"

#include <math.h>
#include <stdio.h>

static bool limited(const ApiField *f) { return f->min != 0 || f->max != 0; }

static void *at(void *out, const ApiField *f) { return (char *)out + f->offset; }

/* ---- defaults ---- */

static bool put_default(void *out, const ApiField *f) {
    switch (f->type) {
    case API_INT: return str_to_i64(at(out, f), f->def);
    case API_NUM: return str_to_f64(at(out, f), f->def);
    case API_BOOL: *(bool *)at(out, f) = strcmp(f->def, "true") == 0; return true;
    case API_STR: *(Slice *)at(out, f) = slice_of(f->def); return true;
    case API_STRS:
    case API_JSON: break;
    }
    return false;
}

static void put_zero(void *out, const ApiField *f) {
    switch (f->type) {
    case API_INT: *(int64_t *)at(out, f) = 0; return;
    case API_NUM: *(double *)at(out, f) = 0; return;
    case API_BOOL: *(bool *)at(out, f) = false; return;
    case API_STR: *(Slice *)at(out, f) = (Slice){0}; return;
    case API_STRS:
    case API_JSON: *(const Json **)at(out, f) = NULL; return;
    }
}

/* ---- one field ---- */

static Status read_int(void *out, const ApiField *f, const Json *body, Err *e) {
    int64_t lo = limited(f) ? (int64_t)f->min : INT64_MIN;
    int64_t hi = limited(f) ? (int64_t)f->max : INT64_MAX;
    return json_opt_int(at(out, f), body, f->key, lo, hi, e);
}

static Status read_num(void *out, const ApiField *f, const Json *body, Err *e) {
    double *v = at(out, f);
    TRY(json_opt_num(v, body, f->key, limited(f) ? f->min : -HUGE_VAL,
                     limited(f) ? f->max : HUGE_VAL, e));
    if (f->above_min && *v <= f->min)
        return err_set(e, ERR_ARG, "%s: %g is out of range, above %g up to %g", f->key, *v, f->min,
                       f->max);
    return OK;
}

/* Whether s is one of "a|b|c". */
static bool is_choice(Slice s, const char *choices) {
    for (const char *p = choices; *p;) {
        size_t n = strcspn(p, "|");
        if (slice_eq(s, (Slice){p, n})) return true;
        p += n + (p[n] == '|');
    }
    return false;
}

static Status read_str(void *out, const ApiField *f, const Json *body, Err *e) {
    Slice *v = at(out, f);
    TRY(json_opt_str(v, body, f->key, e));
    if (limited(f) && (double)v->n > f->max)
        return err_set(e, ERR_ARG, "%s: %zu bytes, the limit is %g", f->key, v->n, f->max);
    if (f->choices && !is_choice(*v, f->choices))
        return err_set(e, ERR_ARG, "%s: \"%.*s\" is none of %s", f->key, (int)MIN(v->n, 40), v->p,
                       f->choices);
    return OK;
}

static Status check_count(const ApiField *f, const Json *v, Err *e) {
    size_t n = json_len(v);
    if (!limited(f) || !json_is_array(v)) return OK;
    if ((double)n < f->min || (double)n > f->max)
        return err_set(e, ERR_ARG, "%s: %zu elements, %g to %g are allowed", f->key, n, f->min,
                       f->max);
    return OK;
}

static Status read_strs(void *out, const ApiField *f, const Json *v, Err *e) {
    bool ok = json_is_str(v) || json_is_array(v);
    TRY(check_count(f, v, e));
    for (size_t i = 0; ok && json_is_array(v) && i < json_len(v); i++)
        ok = json_is_str(json_at(v, i));
    if (!ok) return err_set(e, ERR_ARG, "%s: a string or a list of strings is needed", f->key);
    *(const Json **)at(out, f) = v;
    return OK;
}

static const char *const kind_names[] = {"null",   "boolean", "integer", "number",
                                         "string", "array",   "object"};

static Status read_json(void *out, const ApiField *f, const Json *v, Err *e) {
    if (!(f->kinds >> json_kind(v) & 1)) {
        char want[96] = "";
        for (unsigned k = 0; k < COUNT_OF(kind_names); k++) {
            if (!(f->kinds >> k & 1)) continue;
            size_t n = strlen(want);
            snprintf(want + n, sizeof want - n, "%s%s", n ? " or " : "", kind_names[k]);
        }
        return err_set(e, ERR_ARG, "%s: %s is needed, not %s", f->key, want,
                       kind_names[json_kind(v)]);
    }
    TRY(check_count(f, v, e));
    *(const Json **)at(out, f) = v;
    return OK;
}

static Status read_field(void *out, const ApiField *f, const Json *body, Err *e) {
    const Json *v = json_get(body, f->key);
    switch (f->type) {
    case API_INT: return read_int(out, f, body, e);
    case API_NUM: return read_num(out, f, body, e);
    case API_BOOL: return json_opt_bool(at(out, f), body, f->key, e);
    case API_STR: return read_str(out, f, body, e);
    case API_STRS: return read_strs(out, f, v, e);
    case API_JSON: return read_json(out, f, v, e);
    }
    return err_set(e, ERR_INTERNAL, "field %s has type %d", f->key, (int)f->type);
}

/* ---- a body ---- */

const ApiField *api_find(const ApiSchema *s, Slice key) {
    for (int l = 0; l < API_MAX_LISTS && s->lists[l].v; l++) {
        for (int i = 0; i < s->lists[l].n; i++) {
            if (slice_eq_str(key, s->lists[l].v[i].key)) return &s->lists[l].v[i];
        }
    }
    return NULL;
}

const char *api_field_of(const ApiSchema *s, const char *msg) {
    size_t n = strcspn(msg, ".[: ");
    const ApiField *f = msg[n] == '\0' || msg[n] == ' ' ? NULL : api_find(s, (Slice){msg, n});
    return f ? f->key : NULL;
}

static Status put_defaults(void *out, const ApiSchema *s, const Json *body, const char **param,
                           Err *e) {
    for (int l = API_MAX_LISTS - 1; l >= 0; l--) { /* rows of earlier lists win over shared ones */
        for (int i = 0; i < s->lists[l].n; i++) {
            const ApiField *f = &s->lists[l].v[i];
            if (f->def && !put_default(out, f))
                return err_set(e, ERR_INTERNAL, "default of %s: \"%s\"", f->key, f->def);
            if (!f->required || json_get(body, f->key)) continue;
            *param = f->key;
            return err_set(e, ERR_ARG, "%s: field required", f->key);
        }
    }
    return OK;
}

Status api_read(void *out, const ApiSchema *s, const Json *body, const char **param, Err *e) {
    Slice key;
    const Json *v;
    *param = NULL;
    if (!json_is_object(body)) return err_set(e, ERR_ARG, "body: an object is needed");
    TRY(put_defaults(out, s, body, param, e));
    for (void *it = NULL; (it = json_next(body, it, &key, &v));) {
        const ApiField *f = api_find(s, key);
        if (!f) continue;
        *param = f->key;
        if (json_kind(v) != JSON_KIND_NULL) TRY(read_field(out, f, body, e));
        else if (f->null_is_zero) put_zero(out, f);
    }
    *param = NULL;
    return OK;
}

/* ---- as JSON Schema ---- */

static void put_def(JsonW *w, const ApiField *f) {
    int64_t i;
    double d;
    if (!f->def) return;
    if (f->type == API_INT && str_to_i64(&i, f->def)) jw_int(w, "default", i);
    if (f->type == API_NUM && str_to_f64(&d, f->def)) jw_num(w, "default", d);
    if (f->type == API_BOOL) jw_bool(w, "default", strcmp(f->def, "true") == 0);
    if (f->type == API_STR && *f->def) jw_cstr(w, "default", f->def);
}

static void put_choices(JsonW *w, const char *choices) {
    jw_arr(w, "enum");
    for (const char *p = choices; *p;) {
        size_t n = strcspn(p, "|");
        jw_str(w, NULL, (Slice){p, n});
        p += n + (p[n] == '|');
    }
    jw_end_arr(w);
}

static void put_range(JsonW *w, const ApiField *f) {
    bool real = f->type == API_NUM;
    if (!limited(f)) return;
    if (f->type == API_STR) {
        jw_int(w, "maxLength", (int64_t)f->max);
        return;
    }
    if (real) jw_num(w, f->above_min ? "exclusiveMinimum" : "minimum", f->min);
    else jw_int(w, "minimum", (int64_t)f->min);
    if (real) jw_num(w, "maximum", f->max);
    else jw_int(w, "maximum", (int64_t)f->max);
}

static void put_strs(JsonW *w, const ApiField *f) {
    jw_arr(w, "anyOf");
    jw_obj(w, NULL);
    jw_cstr(w, "type", "string");
    jw_end_obj(w);
    jw_obj(w, NULL);
    jw_cstr(w, "type", "array");
    jw_obj(w, "items");
    jw_cstr(w, "type", "string");
    jw_end_obj(w);
    if (limited(f)) jw_int(w, "maxItems", (int64_t)f->max);
    jw_end_obj(w);
    jw_end_arr(w);
}

/* "type": one name, or a list where several kinds or null are allowed. */
static void put_kinds(JsonW *w, unsigned kinds) {
    bool several = (kinds & (kinds - 1)) != 0;
    if (several) jw_arr(w, "type");
    for (unsigned k = 0; k < COUNT_OF(kind_names); k++) {
        if (kinds >> k & 1) jw_cstr(w, several ? NULL : "type", kind_names[k]);
    }
    if (several) jw_end_arr(w);
}

static void put_field(JsonW *w, const ApiField *f) {
    static const unsigned kinds[] = {[API_INT] = API_KIND(INT),
                                     [API_NUM] = API_KIND(REAL),
                                     [API_BOOL] = API_KIND(BOOL),
                                     [API_STR] = API_KIND(STR)};
    if (f->schema) {
        jw_raw(w, f->key, slice_of(f->schema));
        return;
    }
    jw_obj(w, f->key);
    if (f->type == API_STRS) put_strs(w, f);
    else if (f->type == API_JSON) put_kinds(w, f->kinds);
    else put_kinds(w, kinds[f->type] | (f->null_is_zero ? API_KIND(NULL) : 0));
    if (f->type == API_INT || f->type == API_NUM || f->type == API_STR) put_range(w, f);
    if (f->choices) put_choices(w, f->choices);
    put_def(w, f);
    jw_cstr(w, "description", f->help);
    jw_end_obj(w);
}

void api_put_schema(JsonW *w, const char *key, const ApiSchema *s) {
    jw_obj(w, key);
    jw_cstr(w, "type", "object");
    jw_obj(w, "properties");
    for (int l = 0; l < API_MAX_LISTS && s->lists[l].v; l++) {
        for (int i = 0; i < s->lists[l].n; i++) {
            const ApiField *f = &s->lists[l].v[i];
            if (f->help && api_find(s, slice_of(f->key)) == f) put_field(w, f);
        }
    }
    jw_end_obj(w);
    jw_arr(w, "required");
    for (int l = 0; l < API_MAX_LISTS && s->lists[l].v; l++) {
        for (int i = 0; i < s->lists[l].n; i++) {
            if (s->lists[l].v[i].required) jw_cstr(w, NULL, s->lists[l].v[i].key);
        }
    }
    jw_end_arr(w);
    jw_end_obj(w);
}
