/* SPDX-License-Identifier: Apache-2.0 */
#include "net/otlp.h"

#include <inttypes.h>
#include <stdio.h>

static void put_u64(JsonW *w, const char *key, uint64_t v) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, v);
    jw_cstr(w, key, text);
}

void otlp_begin(OtlpBatch *b, const OtlpSpan *s) {
    JsonW *w = &b->w;
    if (b->n++ > 0) sb_putc(&b->spans, ',');
    jw_init(w, &b->spans);
    jw_obj(w, NULL);
    jw_cstr(w, "traceId", s->trace);
    jw_cstr(w, "spanId", s->span);
    if (s->parent && *s->parent) jw_cstr(w, "parentSpanId", s->parent);
    jw_cstr(w, "name", s->name);
    jw_int(w, "kind", (int)s->kind);
    put_u64(w, "startTimeUnixNano", s->start_ns);
    put_u64(w, "endTimeUnixNano", s->end_ns);
    if (s->error) {
        jw_obj(w, "status");
        jw_int(w, "code", 2);
        jw_cstr(w, "message", s->error);
        jw_end_obj(w);
    }
    jw_arr(w, "attributes");
}

static void open_attribute(OtlpBatch *b, const char *key) {
    jw_obj(&b->w, NULL);
    jw_cstr(&b->w, "key", key);
    jw_obj(&b->w, "value");
}

static void close_attribute(OtlpBatch *b) {
    jw_end_obj(&b->w);
    jw_end_obj(&b->w);
}

void otlp_str(OtlpBatch *b, const char *key, Slice v) {
    open_attribute(b, key);
    jw_str(&b->w, "stringValue", v);
    close_attribute(b);
}

void otlp_int(OtlpBatch *b, const char *key, int64_t v) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, v);
    open_attribute(b, key);
    jw_cstr(&b->w, "intValue", text);
    close_attribute(b);
}

void otlp_num(OtlpBatch *b, const char *key, double v) {
    open_attribute(b, key);
    jw_num(&b->w, "doubleValue", v);
    close_attribute(b);
}

void otlp_end(OtlpBatch *b) {
    jw_end_arr(&b->w);
    jw_end_obj(&b->w);
}

static void put_resource(JsonW *w, const char *key, const char *v) {
    jw_obj(w, NULL);
    jw_cstr(w, "key", key);
    jw_obj(w, "value");
    jw_cstr(w, "stringValue", v);
    jw_end_obj(w);
    jw_end_obj(w);
}

void otlp_take(OtlpBatch *b, StrBuf *out, const char *service, const char *version) {
    JsonW w;
    jw_init(&w, out);
    jw_obj(&w, NULL);
    jw_arr(&w, "resourceSpans");
    jw_obj(&w, NULL);
    jw_obj(&w, "resource");
    jw_arr(&w, "attributes");
    put_resource(&w, "service.name", service);
    put_resource(&w, "service.version", version);
    jw_end_arr(&w);
    jw_end_obj(&w);
    jw_arr(&w, "scopeSpans");
    jw_obj(&w, NULL);
    jw_obj(&w, "scope");
    jw_cstr(&w, "name", "ingot");
    jw_end_obj(&w);
    jw_arr(&w, "spans");
    sb_put(out, sb_str(&b->spans), b->spans.n);
    jw_end_arr(&w);
    jw_end_obj(&w);
    jw_end_arr(&w);
    jw_end_obj(&w);
    jw_end_arr(&w);
    jw_end_obj(&w);
    if (b->spans.failed) out->failed = true;
    sb_clear(&b->spans);
    b->n = 0;
}

void otlp_deinit(OtlpBatch *b) { sb_deinit(&b->spans); }
