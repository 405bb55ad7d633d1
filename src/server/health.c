/* SPDX-License-Identifier: Apache-2.0
 * Health. The numbers come from a timer's samples: resident memory of this process, and the share of all
 * processors' time that was busy since the sample before (of the time since boot in the first one). */
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "server/internal.h"

int64_t server__rss(void) {
    StrBuf b = {0};
    long long size, resident = 0;
    if (io_read_file(&b, "/proc/self/statm", 4096, NULL) != OK ||
        sscanf(sb_str(&b), "%lld %lld", &size, &resident) != 2) {
        resident = 0;
    }
    sb_deinit(&b);
    return (int64_t)resident * sysconf(_SC_PAGESIZE);
}

/* First line of /proc/stat: cpu user nice system idle iowait irq softirq steal ... in clock ticks. */
static bool read_cpu(uint64_t *busy, uint64_t *all) {
    unsigned long long v[8] = {0};
    StrBuf b = {0};
    bool ok = io_read_file(&b, "/proc/stat", 4 << 20, NULL) == OK &&
              sscanf(sb_str(&b), "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
                     &v[3], &v[4], &v[5], &v[6], &v[7]) >= 4;
    sb_deinit(&b);
    *all = 0;
    for (int i = 0; i < 8; i++) *all += v[i];
    *busy = *all - v[3] - v[4];
    return ok;
}

void server__health_sample(Health *h) {
    uint64_t busy, all;
    h->rss_bytes = server__rss();
    if (!read_cpu(&busy, &all) || all <= h->all_ticks || busy < h->busy_ticks) return;
    h->cpu_percent = 100.0 * (double)(busy - h->busy_ticks) / (double)(all - h->all_ticks);
    h->busy_ticks = busy;
    h->all_ticks = all;
}

static void put_engine(JsonW *w, const Metrics *m) {
    jw_int(w, "requests_running", metrics_gauge(&m->running));
    jw_int(w, "requests_waiting", metrics_gauge(&m->waiting));
    jw_int(w, "kv_blocks", m->blocks);
    jw_int(w, "kv_blocks_used", metrics_gauge(&m->blocks_used));
    jw_int(w, "preemptions", (int64_t)metrics_get(&m->preemptions));
    jw_int(w, "new_tokens", (int64_t)metrics_get(&m->new_tok));
}

static const char *status_of(const Server *s) {
    if (http_stopping(s->http)) return "stopping";
    return s->cfg.engine.submit ? "healthy" : "loading";
}

static void put_numbers(JsonW *w, const Server *s) {
    jw_bool(w, "model_loaded", s->cfg.engine.submit != NULL);
    jw_cstr(w, "device", s->cfg.device);
    if (s->cfg.model) jw_cstr(w, "model", s->cfg.model);
    jw_int(w, "memory_usage", s->health.rss_bytes);
    jw_num(w, "cpu_usage", (double)(int64_t)(s->health.cpu_percent * 10 + 0.5) / 10);
    jw_num(w, "gpu_memory_used", 0.0);
    if (s->cfg.engine.metrics) put_engine(w, s->cfg.engine.metrics);
}

/* Without a key, where one is needed, only how it is. */
void server__get_health(Server *s, HttpReq *r) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "status", status_of(s));
    if (server__is_known(s, r, KEY_SCOPE_ANY, false)) put_numbers(&w, s);
    jw_end_obj(&w);
    server__reply_json(r, s->cfg.engine.submit ? 200 : 503, &b, NULL);
}

static void reply_status(HttpReq *r, int status, const char *word) {
    StrBuf b = {0};
    sb_printf(&b, "{\"status\":\"%s\"}", word);
    server__reply_json(r, status, &b, NULL);
}

void server__get_live(Server *s, HttpReq *r) {
    (void)s;
    reply_status(r, 200, "live");
}

void server__get_ready(Server *s, HttpReq *r) {
    bool ready = s->cfg.engine.submit && !http_stopping(s->http);
    reply_status(r, ready ? 200 : 503, ready ? "ready" : status_of(s));
}
