/* SPDX-License-Identifier: Apache-2.0
 * Whom a request comes from when a proxy passed it on. X-Forwarded-For is believed of connections from the proxies that
 * the operator named, and read from its end: each proxy appends whom it heard it from, so the last address that is no proxy of
 * ours is the client, and whatever stands before it is his own claim. */
#include <arpa/inet.h>
#include <strings.h>

#include "net/internal.h"

enum { HOST_BYTES = 64, V4_BITS = 96 };

/* "1.2.3.4", "::1", with a port as "1.2.3.4:5" or "[::1]:5"; IPv4 as its mapped IPv6. False: no address. */
static bool read_address(uint8_t out[16], Slice text) {
    char host[HOST_BYTES];
    if (text.n > 0 && text.p[0] == '[') text.p++, text.n--;
    if (text.n == 0 || text.n >= sizeof host) return false;
    memcpy(host, text.p, text.n);
    host[text.n] = '\0';
    host[strcspn(host, "]")] = '\0';
    memset(out, 0, 16);
    if (inet_pton(AF_INET6, host, out) == 1) return true;
    host[strcspn(host, ":")] = '\0';
    memset(out + 10, 0xff, 2);
    return inet_pton(AF_INET, host, out + 12) == 1;
}

/* "10.0.0.0/8", or one address. */
static bool read_range(HttpRange *out, const char *text) {
    size_t n = strcspn(text, "/");
    uint64_t bits = 0;
    if (!read_address(out->ip, (Slice){text, n})) return false;
    bool v4 = memchr(text, ':', n) == NULL;
    out->bits = 128;
    if (text[n] == '\0') return true;
    if (!str_to_u64(&bits, text + n + 1) || bits > (v4 ? 32 : 128)) return false;
    out->bits = (int)bits + (v4 ? V4_BITS : 0);
    return true;
}

Status http__read_proxies(HttpServer *s, Err *e) {
    int n = s->cfg.n_proxies;
    if (n == 0) return OK;
    s->proxies = mem_new_n(HttpRange, (size_t)n);
    if (!s->proxies) return err_set(e, ERR_NOMEM, "%d proxies", n);
    for (int i = 0; i < n; i++) {
        if (!read_range(&s->proxies[i], s->cfg.proxies[i]))
            return err_set(e, ERR_ARG, "proxy \"%.60s\": want an address, or a range as 10.0.0.0/8",
                           s->cfg.proxies[i]);
    }
    return OK;
}

static bool in_range(const HttpRange *r, const uint8_t ip[16]) {
    size_t whole = (size_t)r->bits / 8;
    int rest = r->bits % 8;
    if (memcmp(r->ip, ip, whole) != 0) return false;
    return rest == 0 || ((r->ip[whole] ^ ip[whole]) >> (8 - rest)) == 0;
}

bool http__is_proxy(const HttpServer *s, const uint8_t ip[16]) {
    for (int i = 0; i < s->cfg.n_proxies; i++) {
        if (in_range(&s->proxies[i], ip)) return true;
    }
    return false;
}

/* Cut the last element off a list with commas between. */
static Slice take_last(Slice *list) {
    size_t from = list->n;
    while (from > 0 && list->p[from - 1] != ',') from--;
    Slice last = {list->p + from, list->n - from};
    list->n = from > 0 ? from - 1 : 0;
    while (last.n > 0 && (last.p[0] == ' ' || last.p[0] == '\t')) last.p++, last.n--;
    while (last.n > 0 && (last.p[last.n - 1] == ' ' || last.p[last.n - 1] == '\t')) last.n--;
    return last;
}

/* True: all of the list are proxies of ours, and what stands before it is to be read. */
static bool take_list(HttpReq *r, Slice list) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    uint8_t ip[16];
    while (list.n > 0) {
        if (!read_address(ip, take_last(&list)))
            return false; /* nonsense: as far as it was believed */
        bool v4 = memcmp(ip, mapped, sizeof mapped) == 0;
        inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? ip + 12 : ip, r->client, sizeof r->client);
        if (!http__is_proxy(r->conn->server, ip)) return false;
    }
    return true;
}

/* Proxies add to the end of the header, or a line of their own after those there are: either way the last is theirs. */
void http__take_client(HttpReq *r) {
    static const char name[] = "X-Forwarded-For";
    const HttpServer *s = r->conn->server;
    if (s->cfg.n_proxies == 0 || !http__is_proxy(s, r->conn->ip)) return;
    for (int i = r->parse.n_fields - 1; i >= 0; i--) {
        const HttpField *f = &r->parse.fields[i];
        if (f->name.n != sizeof name - 1 || strncasecmp(f->name.p, name, f->name.n) != 0) continue;
        if (!take_list(r, f->value)) return;
    }
}
