/* SPDX-License-Identifier: Apache-2.0
 * Requests to S3 stores: where keys come from, URLs, Signature Version 4. Signed here and not by libcurl, whose
 * version in Debian 12 neither sorts nor escapes queries as the signature wants them.
 *
 *   canonical request: method, path, query, headers in order, their names, SHA-256 of the body
 *   key: HMAC over date, region, "s3", "aws4_request", beginning with the secret
 *   signature: HMAC over "AWS4-HMAC-SHA256", time, scope, SHA-256 of the canonical request */
#include "hub/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/io.h"

enum { S3_MAX_HEADERS = 16, S3_MAX_INI = 1 << 20, S3_MAX_BUCKET = 63 };

int64_t hub__s3_now(void) { return (int64_t)time(NULL); }

/* ---- keys ---- */

static Slice trim(Slice s) {
    while (s.n > 0 && strchr(" \t\r", s.p[0])) s = (Slice){s.p + 1, s.n - 1};
    while (s.n > 0 && strchr(" \t\r", s.p[s.n - 1])) s.n--;
    return s;
}

static bool is_section(Slice line, const char *profile) {
    Slice s = trim((Slice){line.p + 1, line.n - 1});
    if (s.n == 0 || s.p[s.n - 1] != ']') return false;
    s = trim((Slice){s.p, s.n - 1});
    if (s.n > 8 && memcmp(s.p, "profile ", 8) == 0) s = trim((Slice){s.p + 8, s.n - 8});
    return slice_eq_str(s, profile);
}

/* Value of a key in [profile] of an INI text; NULL: absent. */
static const char *ini_get(Slice text, const char *profile, const char *key, Arena *a) {
    bool inside = false;
    for (const char *p = text.p, *end = text.p + text.n; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        Slice line = trim((Slice){p, (size_t)((nl ? nl : end) - p)});
        p += (nl ? nl : end) - p + 1;
        if (line.n > 0 && line.p[0] == '[') inside = is_section(line, profile);
        const char *eq = line.n > 0 ? memchr(line.p, '=', line.n) : NULL;
        if (!inside || !eq || !slice_eq_str(trim((Slice){line.p, (size_t)(eq - line.p)}), key))
            continue;
        Slice v = trim((Slice){eq + 1, (size_t)(line.p + line.n - eq - 1)});
        return v.n > 0 ? arena_dup(a, v.p, v.n) : NULL;
    }
    return NULL;
}

/* The text of a file of settings; an absent one is empty. */
static Status read_ini(StrBuf *b, const char *path, const char *home, const char *name, Err *e) {
    StrBuf p = {0};
    Err why = {0};
    if (path) sb_puts(&p, path);
    else if (home) sb_printf(&p, "%s/.aws/%s", home, name);
    Status st = p.n > 0 ? io_read_file(b, sb_str(&p), S3_MAX_INI, &why) : ERR_NOT_FOUND;
    bool absent = st == ERR_NOT_FOUND && !path;
    sb_deinit(&p);
    return st == OK || absent ? OK : err_set(e, st, "%s", why.msg);
}

static Status keys_of_file(HubS3 *s, const ConfigNet *env, const char *profile, Arena *a, Err *e) {
    StrBuf b = {0};
    Status st = read_ini(&b, env->aws_credentials, env->home, "credentials", e);
    Slice text = {sb_str(&b), b.n};
    if (st == OK) {
        s->key_id = ini_get(text, profile, "aws_access_key_id", a);
        s->secret = ini_get(text, profile, "aws_secret_access_key", a);
        s->token = ini_get(text, profile, "aws_session_token", a);
    }
    sb_deinit(&b);
    if (st == OK && !s->key_id && env->aws_profile)
        st = err_set(e, ERR_ARG, "AWS_PROFILE=%.64s: no aws_access_key_id for it", profile);
    return st;
}

static Status settings_of_file(HubS3 *s, const ConfigNet *env, const char *profile, Arena *a,
                               Err *e) {
    StrBuf b = {0};
    Status st = read_ini(&b, env->aws_config, env->home, "config", e);
    Slice text = {sb_str(&b), b.n};
    if (st == OK && !s->region) s->region = ini_get(text, profile, "region", a);
    if (st == OK && !s->endpoint) s->endpoint = ini_get(text, profile, "endpoint_url", a);
    sb_deinit(&b);
    return st;
}

static Status check_endpoint(HubS3 *s, Arena *a, Err *e) {
    if (!s->endpoint) return OK;
    size_t n = strlen(s->endpoint);
    while (n > 0 && s->endpoint[n - 1] == '/') n--;
    s->endpoint = arena_dup(a, s->endpoint, n);
    if (!s->endpoint) return err_set(e, ERR_NOMEM, "out of memory for an endpoint");
    Status st = net_check_url(s->endpoint, e);
    if (st != OK) err_in(e, "AWS_ENDPOINT_URL");
    return st;
}

static bool region_ok(const char *r) {
    return *r && strlen(r) <= 32 &&
           r[strspn(r, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")] == '\0';
}

Status hub__s3_init(HubS3 *s, const ConfigNet *env, Arena *a, Err *e) {
    const char *profile = env->aws_profile ? env->aws_profile : "default";
    *s = (HubS3){.region = env->aws_region, .endpoint = env->aws_endpoint};
    if (env->aws_key_id) {
        s->key_id = env->aws_key_id;
        s->secret = env->aws_secret;
        s->token = env->aws_token;
    } else TRY(keys_of_file(s, env, profile, a, e));
    if (s->key_id && !s->secret)
        return err_set(e, ERR_ARG, "AWS_ACCESS_KEY_ID without AWS_SECRET_ACCESS_KEY");
    if (!s->region || !s->endpoint) TRY(settings_of_file(s, env, profile, a, e));
    if (!s->region) s->region = "us-east-1";
    if (!region_ok(s->region))
        return err_set(e, ERR_ARG, "AWS_REGION=%.64s: not a name of a region", s->region);
    return check_endpoint(s, a, e);
}

/* ---- names and URLs ---- */

Status hub__s3_split(char **bucket, char **key, const char *text, Arena *a, Err *e) {
    const char *p = text + strlen("s3://");
    size_t n = strcspn(p, "/");
    const char *rest = p[n] ? p + n + 1 : "";
    static const char *const ALLOWED =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    if (n < 3 || n > S3_MAX_BUCKET || strspn(p, ALLOWED) < n || p[0] == '.' || strstr(text, "/../"))
        return err_set(e, ERR_ARG, "\"%.100s\": want s3://BUCKET/KEY, a bucket of 3 to %d bytes",
                       text, (int)S3_MAX_BUCKET);
    if (strlen(rest) > HUB_MAX_NAME)
        return err_set(e, ERR_ARG, "%.64s...: a key of over %d bytes", text, (int)HUB_MAX_NAME);
    *bucket = arena_dup(a, p, n);
    *key = arena_dup(a, rest, strlen(rest));
    return *bucket && *key ? OK : err_set(e, ERR_NOMEM, "out of memory for a name");
}

char *hub__s3_url(const HubS3 *s, const char *bucket, const char *key, const char *query,
                  Arena *a) {
    StrBuf b = {0};
    /* a dot in the bucket's name would not fit the certificate of the host made from it */
    if (s->endpoint) sb_printf(&b, "%s/%s/", s->endpoint, bucket);
    else if (strchr(bucket, '.'))
        sb_printf(&b, "https://s3.%s.amazonaws.com/%s/", s->region, bucket);
    else sb_printf(&b, "https://%s.s3.%s.amazonaws.com/", bucket, s->region);
    net_put_escaped(&b, slice_of(key), "/");
    if (query) sb_printf(&b, "?%s", query);
    char *url = b.failed ? NULL : arena_dup(a, sb_str(&b), b.n);
    sb_deinit(&b);
    return url;
}

/* ---- signing ---- */

typedef struct UrlParts {
    Slice host, path, query;
} UrlParts;

/* Of a URL that hub__s3_url made. */
static UrlParts split_url(const char *url) {
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    size_t n_host = strcspn(host, "/?");
    const char *path = host + n_host;
    size_t n_path = strcspn(path, "?");
    const char *q = path[n_path] ? path + n_path + 1 : "";
    UrlParts u = {{host, n_host}, {path, n_path}, slice_of(q)};
    if (n_path == 0) u.path = slice_of("/");
    /* a port that is the scheme's own is not in the Host that libcurl sends */
    if (str_starts_with(url, "https:") && n_host > 4 && memcmp(path - 4, ":443", 4) == 0)
        u.host.n -= 4;
    if (str_starts_with(url, "http:") && n_host > 3 && memcmp(path - 3, ":80", 3) == 0)
        u.host.n -= 3;
    return u;
}

static int by_name(const void *a, const void *b) {
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    size_t nx = strcspn(x, ":"), ny = strcspn(y, ":");
    int c = memcmp(x, y, MIN(nx, ny));
    return c ? c : (nx > ny) - (nx < ny);
}

typedef struct Signing {
    Arena arena;
    const char *v[S3_MAX_HEADERS]; /* "name: value", in order of names */
    int n;
    char stamp[20], day[12]; /* 20130524T000000Z, 20130524 */
    char scope[80], signature[DIGEST_HEX];
    StrBuf names;
} Signing;

PRINTF_LIKE(2, 3)
static void add_header(Signing *g, const char *fmt, ...) {
    StrBuf b = {0};
    va_list ap;
    va_start(ap, fmt);
    sb_vprintf(&b, fmt, ap);
    va_end(ap);
    if (g->n < S3_MAX_HEADERS) g->v[g->n] = arena_dup(&g->arena, sb_str(&b), b.n);
    if (b.failed || g->n >= S3_MAX_HEADERS) g->arena.failed = true;
    else if (g->v[g->n]) g->n++;
    sb_deinit(&b);
}

static Status gather(Signing *g, const HubS3 *s, const HubS3Request *r, Err *e) {
    Slice host = split_url(r->url).host;
    add_header(g, "host: %.*s", (int)host.n, host.p);
    add_header(g, "x-amz-content-sha256: %s", r->payload);
    add_header(g, "x-amz-date: %s", g->stamp);
    if (s->token) add_header(g, "x-amz-security-token: %s", s->token);
    for (int i = 0; i < r->n_headers; i++) add_header(g, "%s", r->headers[i]);
    if (!arena_ok(&g->arena)) return err_set(e, ERR_NOMEM, "out of memory for a signature");
    qsort(g->v, (size_t)g->n, sizeof g->v[0], by_name);
    for (int i = 0; i < g->n; i++)
        sb_printf(&g->names, "%s%.*s", i ? ";" : "", (int)strcspn(g->v[i], ":"), g->v[i]);
    return OK;
}

static void put_canonical(StrBuf *b, const Signing *g, const HubS3Request *r) {
    UrlParts u = split_url(r->url);
    sb_printf(b, "%s\n%.*s\n%.*s\n", r->method, (int)u.path.n, u.path.p, (int)u.query.n, u.query.p);
    for (int i = 0; i < g->n; i++) {
        size_t n = strcspn(g->v[i], ":");
        sb_printf(b, "%.*s:%s\n", (int)n, g->v[i], g->v[i] + n + 2);
    }
    sb_printf(b, "\n%s\n%s", sb_str(&g->names), r->payload);
}

static Status signing_key(Sha256 *k, const char *secret, const Signing *g, const char *region,
                          Err *e) {
    StrBuf first = {0};
    sb_printf(&first, "AWS4%s", secret);
    const char *steps[] = {g->day, region, "s3", "aws4_request"};
    Status st = sb_check(&first, e);
    for (size_t i = 0; st == OK && i < COUNT_OF(steps); i++) {
        const void *key = i ? (const void *)k->b : sb_str(&first);
        Sha256 next;
        st = digest_hmac(&next, key, i ? sizeof k->b : first.n, steps[i], strlen(steps[i]), e);
        if (st == OK) *k = next;
    }
    sb_deinit(&first);
    return st;
}

static Status make_signature(Signing *g, const HubS3 *s, const HubS3Request *r, Err *e) {
    StrBuf canon = {0}, text = {0};
    Sha256 h, key = {{0}};
    char hex[DIGEST_HEX];
    put_canonical(&canon, g, r);
    Status st = sb_check(&canon, e);
    if (st == OK) st = sha_256(&h, sb_str(&canon), canon.n, e);
    if (st == OK) {
        sha_hex(hex, &h);
        sb_printf(&text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", g->stamp, g->scope, hex);
        st = sb_check(&text, e);
    }
    if (st == OK) st = signing_key(&key, s->secret, g, s->region, e);
    if (st == OK) st = digest_hmac(&h, key.b, sizeof key.b, sb_str(&text), text.n, e);
    if (st == OK) sha_hex(g->signature, &h);
    sb_deinit(&canon);
    sb_deinit(&text);
    return st;
}

static void put_lines(StrBuf *lines, const Signing *g, const HubS3 *s) {
    for (int i = 0; i < g->n; i++)
        if (!str_starts_with(g->v[i], "host:")) sb_printf(lines, "%s\n", g->v[i]);
    sb_printf(lines,
              "Authorization: AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s\n",
              s->key_id, g->scope, sb_str(&g->names), g->signature);
}

Status hub__s3_sign(StrBuf *lines, const HubS3 *s, const HubS3Request *r, int64_t now, Err *e) {
    if (!s->key_id) {
        for (int i = 0; i < r->n_headers; i++) sb_printf(lines, "%s\n", r->headers[i]);
        return sb_check(lines, e);
    }
    Signing g = {.n = 0};
    struct tm tm;
    time_t t = (time_t)now;
    if (!gmtime_r(&t, &tm)) return err_set(e, ERR_INTERNAL, "no date for a signature");
    strftime(g.stamp, sizeof g.stamp, "%Y%m%dT%H%M%SZ", &tm);
    strftime(g.day, sizeof g.day, "%Y%m%d", &tm);
    snprintf(g.scope, sizeof g.scope, "%s/%s/s3/aws4_request", g.day, s->region);
    arena_init(&g.arena, 1024);
    Status st = gather(&g, s, r, e);
    if (st == OK) st = make_signature(&g, s, r, e);
    if (st == OK) put_lines(lines, &g, s);
    if (st == OK) st = sb_check(lines, e);
    sb_deinit(&g.names);
    arena_deinit(&g.arena);
    return st;
}

Status hub__s3_sign_call(void *ctx, StrBuf *lines, Err *e) {
    const HubS3Call *c = ctx;
    return hub__s3_sign(lines, c->s3, &c->rq, hub__s3_now(), e);
}

/* ---- errors ---- */

static Status take_error(void *ctx, const char *path, Slice value, Err *e) {
    StrBuf *b = ctx;
    (void)e;
    if (strcmp(path, "Error/Code") == 0) sb_put_quoted(b, value, 60);
    if (strcmp(path, "Error/Message") == 0 && value.n > 0) {
        sb_puts(b, ": ");
        sb_put_quoted(b, value, 100);
    }
    return OK;
}

void hub__s3_error(StrBuf *b, Slice xml) {
    Err e = {0};
    if (hub__xml_walk(xml, take_error, b, &e) != OK) sb_clear(b);
}
