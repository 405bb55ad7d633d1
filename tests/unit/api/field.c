/* SPDX-License-Identifier: Apache-2.0
 * Every row of every request: its default, its range, its type; and the description made of it. */
#include "api/field.h"

#include <stdio.h>

#include "api/request.h"
#include "test.h"

static const ApiSchema *const all[] = {
    &api_chat,      &api_completion,  &api_embedding, &api_response,
    &api_tokenize,  &api_detokenize,  &api_complete,  &api_generate,
    &api_inference, &api_v1_generate, &api_feedback,
};

/* A body with the required fields, and `field` with this JSON text. */
static Status read(const ApiSchema *s, const char *field, const char *value, ApiRequest *q,
                   const char **param, Json **j, Err *e) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    for (int l = 0; l < API_MAX_LISTS && s->lists[l].v; l++) {
        for (int i = 0; i < s->lists[l].n; i++) {
            const ApiField *f = &s->lists[l].v[i];
            if (!f->required || (field && strcmp(f->key, field) == 0)) continue;
            jw_raw(&w, f->key,
                   slice_of(f->type == API_STR || f->kinds & API_KIND(STR) ? "\"x\"" : "[1]"));
        }
    }
    if (field) jw_raw(&w, field, slice_of(value));
    jw_end_obj(&w);
    *q = (ApiRequest){0};
    OK_(json_parse(j, (Slice){sb_str(&b), b.n}, TERR));
    sb_deinit(&b);
    return api_read(q, s, *j, param, e);
}

static void refused(const ApiSchema *s, const char *key, const char *value) {
    ApiRequest q;
    const char *param = NULL;
    Json *j = NULL;
    Err e = {0};
    Status st = read(s, key, value, &q, &param, &j, &e);
    if (st != ERR_ARG) FAIL("%s: %s = %s gives %d", s->name, key, value, (int)st);
    TRUE_(param && strcmp(param, key) == 0);
    TRUE_(strncmp(e.msg, key, strlen(key)) == 0);
    json_free(j);
}

static void taken(const ApiSchema *s, const char *key, const char *value) {
    ApiRequest q;
    const char *param = NULL;
    Json *j = NULL;
    Err e = {0};
    Status st = read(s, key, value, &q, &param, &j, &e);
    if (st != OK) FAIL("%s: %s = %s: %s", s->name, key, value, e.msg);
    json_free(j);
}

static void check_row(const ApiSchema *s, const ApiField *f) {
    char text[64];
    bool limited = f->min != 0 || f->max != 0;
    refused(s, f->key, f->type == API_BOOL ? "1" : "true");
    if (!f->required) taken(s, f->key, "null");
    else refused(s, f->key, "null");
    if ((f->type == API_INT || f->type == API_NUM) && limited) {
        snprintf(text, sizeof text, "%.17g", f->max);
        taken(s, f->key, text);
        snprintf(text, sizeof text, "%.17g", f->max + 1);
        refused(s, f->key, text);
        snprintf(text, sizeof text, "%.17g", f->min);
        if (f->above_min) refused(s, f->key, text);
        else taken(s, f->key, text);
        snprintf(text, sizeof text, "%.17g", f->min - 1);
        refused(s, f->key, text);
    }
    if (f->type == API_INT) refused(s, f->key, "1.5");
    if (f->type == API_STR || f->type == API_STRS) refused(s, f->key, "7");
    if (f->choices) refused(s, f->key, "\"another\"");
}

TEST(every_row_of_every_request) {
    for (size_t k = 0; k < COUNT_OF(all); k++) {
        const ApiSchema *s = all[k];
        for (int l = 0; l < API_MAX_LISTS && s->lists[l].v; l++) {
            for (int i = 0; i < s->lists[l].n; i++) {
                const ApiField *f = &s->lists[l].v[i];
                if (api_find(s, slice_of(f->key)) == f) check_row(s, f);
            }
        }
    }
}

TEST(defaults_and_null) {
    ApiRequest q;
    const char *param;
    Json *j = NULL;
    OK_(read(&api_complete, NULL, NULL, &q, &param, &j, TERR));
    EQ(q.max_tokens, 50);
    EQ(q.top_k, 200);
    NEAR(q.temperature, 0.8, 0);
    NEAR(q.top_p, 1, 0);
    json_free(j);
    OK_(read(&api_complete, "top_k", "null", &q, &param, &j, TERR));
    EQ(q.top_k, 0); /* off, as its users expect */
    json_free(j);
    OK_(read(&api_complete, "metadata", "{\"top_k\": null}", &q, &param, &j, TERR));
    EQ(q.top_k, 200); /* another object's null says nothing */
    json_free(j);
    OK_(read(&api_inference, NULL, NULL, &q, &param, &j, TERR));
    NEAR(q.top_p, 0.9, 0); /* its own row stands before the shared one */
    json_free(j);
}

TEST(unknown_fields_are_ignored) {
    ApiRequest q;
    const char *param;
    Json *j = NULL;
    OK_(read(&api_chat, "service_tier", "\"auto\"", &q, &param, &j, TERR));
    json_free(j);
}

TEST(schemas_are_json) {
    for (size_t k = 0; k < COUNT_OF(all); k++) {
        StrBuf b = {0};
        JsonW w;
        Json *j = NULL;
        jw_init(&w, &b);
        api_put_schema(&w, NULL, all[k]);
        OK_(json_parse(&j, (Slice){sb_str(&b), b.n},
                       TERR)); /* a name that came twice would be refused */
        TRUE_(json_len(json_get(j, "properties")) > 0);
        json_free(j);
        sb_deinit(&b);
    }
}
