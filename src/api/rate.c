/* SPDX-License-Identifier: Apache-2.0
 * Buckets hold what was taken and did not come back yet, not what is left: an empty slot is a full bucket, and limits may
 * change between two requests of a client. */
#include "api/rate.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>

#include "api/auth_limit.h"
#include "base/rng.h"
#include "base/sha.h"

enum { SETS = 1024, WAYS = 8, WHO_BYTES = 20, DAY_S = 86400 };

/* A key's id, or 0 and an address. */
typedef struct Who {
    char b[WHO_BYTES];
} Who;

typedef enum { REQUESTS, TOKENS, N_BUCKETS } BucketKind;

typedef struct Bucket {
    double taken;     /* units, at the time */
    uint64_t at_ns;   /* of the last look */
    uint64_t full_ns; /* all of them are back then */
} Bucket;

typedef struct Slot {
    Who who;
    bool used;
    Bucket bucket[N_BUCKETS];
} Slot;

struct ApiRates {
    uint64_t seed; /* [const] random: nobody chooses who falls into whose set */
    pthread_mutex_t mu;
    Slot slot[SETS][WAYS]; /* [mu] */
};

/* ---- "10/minute" ---- */

static bool read_window(double *out, const char *word) {
    static const struct {
        const char *letter, *word;
        double s;
    } units[] = {{"s", "second", 1}, {"m", "minute", 60}, {"h", "hour", 3600}, {"d", "day", DAY_S}};
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (strcmp(word, units[i].letter) != 0 && strcmp(word, units[i].word) != 0) continue;
        *out = units[i].s;
        return true;
    }
    return false;
}

Status api_rate_parse(ApiRate *out, const char *what, const char *text, Err *e) {
    const double most = 1e12;
    char number[32] = {0};
    size_t n = strcspn(text, "/");
    ApiRate r = {.window_s = 60};
    bool ok = n < sizeof number;
    if (ok) memcpy(number, text, n);
    ok = ok && str_to_f64(&r.limit, number) && r.limit >= 0 && r.limit <= most &&
         floor(r.limit) == r.limit;
    if (ok && text[n] == '/') ok = read_window(&r.window_s, text + n + 1);
    if (!ok)
        return err_set(e, ERR_ARG,
                       "%s: \"%.40s\" is no rate, want 10/minute (second, hour, day), or 0", what,
                       text);
    *out = r;
    return OK;
}

/* ---- the table ---- */

Status api_rates_new(ApiRates **out, Err *e) {
    ApiRates *r = mem_new(ApiRates);
    if (!r) return err_set(e, ERR_NOMEM, "rate limits");
    Status st = rng_secret(&r->seed, sizeof r->seed, e);
    if (st != OK) {
        mem_free(r);
        return st;
    }
    pthread_mutex_init(&r->mu, NULL);
    *out = r;
    return OK;
}

void api_rates_free(ApiRates *r) {
    if (!r) return;
    pthread_mutex_destroy(&r->mu);
    mem_free(r);
}

static Who who_of(const ApiRateAsk *a) {
    Who w = {{0}};
    uint8_t address[16];
    if (a->key && a->key[0]) {
        snprintf(w.b, sizeof w.b, "%s", a->key);
        return w;
    }
    auth_address(address, a->peer ? a->peer : "");
    memcpy(w.b + 1, address, sizeof address);
    return w;
}

static uint64_t full_at(const Slot *s) {
    return MAX(s->bucket[REQUESTS].full_ns, s->bucket[TOKENS].full_ns);
}

/* The client's slot, or NULL. */
static Slot *find(ApiRates *r, const Who *w) {
    Slot *set = r->slot[sha_hash64(w->b, sizeof w->b, r->seed) % SETS];
    for (int i = 0; i < WAYS; i++) {
        if (set[i].used && memcmp(&set[i].who, w, sizeof *w) == 0) return &set[i];
    }
    return NULL;
}

/* The client's slot, made if there is none. */
static Slot *find_or_make(ApiRates *r, const Who *w) {
    Slot *s = find(r, w);
    if (s) return s;
    Slot *set = r->slot[sha_hash64(w->b, sizeof w->b, r->seed) % SETS];
    s = &set[0];
    for (int i = 0; i < WAYS; i++) {
        if (!set[i].used) {
            s = &set[i];
            break;
        }
        if (full_at(&set[i]) < full_at(s)) s = &set[i];
    }
    *s = (Slot){.who = *w, .used = true};
    return s;
}

/* ---- one bucket ---- */

static void refill(Bucket *b, const ApiRate *l, uint64_t now_ns) {
    double s = now_ns > b->at_ns ? 1e-9 * (double)(now_ns - b->at_ns) : 0;
    b->taken = MAX(0, b->taken - s * l->limit / l->window_s);
    b->at_ns = MAX(b->at_ns, now_ns);
}

static void take(Bucket *b, const ApiRate *l, double n) {
    b->taken = MAX(0, b->taken + n);
    b->full_ns = b->at_ns + (uint64_t)MIN(b->taken / l->limit * l->window_s * 1e9, 1e18);
}

/* Seconds until n units are there; 0: they are. */
static double wait_for(const Bucket *b, const ApiRate *l, double n) {
    double over = b->taken + MIN(n, l->limit) - l->limit;
    return over > 1e-9 * l->limit ? over * l->window_s / l->limit : 0;
}

static double take_units(ApiRates *r, const ApiRateAsk *a, BucketKind k, double n) {
    const ApiRate *l = k == REQUESTS ? &a->requests : &a->tokens;
    Who w = who_of(a);
    if (l->limit <= 0) return 0;
    pthread_mutex_lock(&r->mu);
    Bucket *b = &find_or_make(r, &w)->bucket[k];
    refill(b, l, a->now_ns);
    double wait_s = wait_for(b, l, n);
    if (wait_s <= 0) take(b, l, n);
    pthread_mutex_unlock(&r->mu);
    return wait_s;
}

/* ---- asking ---- */

Status api_rate_request(double *wait_s, ApiRates *r, const ApiRateAsk *a, Err *e) {
    *wait_s = take_units(r, a, REQUESTS, 1);
    if (*wait_s <= 0) return OK;
    return err_set(e, ERR_FULL, "rate limit: %.0f requests in %.0f s, try again in %.0f s",
                   a->requests.limit, a->requests.window_s, ceil(*wait_s));
}

Status api_rate_reserve(double *wait_s, ApiRates *r, const ApiRateAsk *a, int64_t n, Err *e) {
    *wait_s = take_units(r, a, TOKENS, (double)n);
    if (*wait_s <= 0) return OK;
    return err_set(
        e, ERR_FULL,
        "rate limit: %.0f tokens in %.0f s, prompt and answer may take %lld; try again in "
        "%.0f s",
        a->tokens.limit, a->tokens.window_s, (long long)n, ceil(*wait_s));
}

void api_rate_settle(ApiRates *r, const ApiRateAsk *a, int64_t unused) {
    Who w = who_of(a);
    if (a->tokens.limit <= 0 || unused == 0) return;
    pthread_mutex_lock(&r->mu);
    Slot *s = unused > 0 ? find(r, &w) : find_or_make(r, &w);
    if (s) { /* of one that was dropped there is nothing to give back */
        refill(&s->bucket[TOKENS], &a->tokens, a->now_ns);
        take(&s->bucket[TOKENS], &a->tokens, -(double)unused);
    }
    pthread_mutex_unlock(&r->mu);
}

/* ---- headers ---- */

/* "1.5s", "6m0s", "2h0m0s": as clients of such headers read it. */
static void put_span(StrBuf *b, double s) {
    long long whole = (long long)s;
    if (s < 60) sb_printf(b, "%.3gs", ceil(s * 100) / 100);
    else if (s < 3600) sb_printf(b, "%lldm%llds", whole / 60, whole % 60);
    else sb_printf(b, "%lldh%lldm%llds", whole / 3600, whole / 60 % 60, whole % 60);
}

static void put_headers(StrBuf *b, Bucket at, const ApiRate *l, const char *what, uint64_t now_ns) {
    if (l->limit <= 0) return;
    refill(&at, l, now_ns);
    double left = MAX(0, l->limit - at.taken);
    sb_printf(b, "x-ratelimit-limit-%s: %.0f\r\nx-ratelimit-remaining-%s: %.0f\r\n", what, l->limit,
              what, floor(left + 1e-6));
    sb_printf(b, "x-ratelimit-reset-%s: ", what);
    put_span(b, at.taken * l->window_s / l->limit);
    sb_puts(b, "\r\n");
}

void api_rate_headers(StrBuf *b, ApiRates *r, const ApiRateAsk *a) {
    Who w = who_of(a);
    if (a->requests.limit <= 0 && a->tokens.limit <= 0) return;
    pthread_mutex_lock(&r->mu);
    const Slot *s = find(r, &w);
    Slot now = s ? *s : (Slot){0};
    pthread_mutex_unlock(&r->mu);
    put_headers(b, now.bucket[REQUESTS], &a->requests, "requests", a->now_ns);
    put_headers(b, now.bucket[TOKENS], &a->tokens, "tokens", a->now_ns);
}
