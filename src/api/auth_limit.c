/* SPDX-License-Identifier: Apache-2.0 */
#include "api/auth_limit.h"

#include <arpa/inet.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/sha.h"
#include "base/str.h"

enum { SETS = 256, WAYS = 8, WINDOW_S = 60, HOST_BYTES = 64 };

/* An address: IPv4 as its mapped IPv6, of others the first 64 bits. All zero: not an address. */
typedef struct Addr {
    uint8_t b[16];
} Addr;

typedef struct Slot {
    Addr who;
    int64_t since_s; /* of the first failure in the window; 0: free */
    int n_fails;
} Slot;

struct AuthLimit {
    int max_fails;
    uint64_t seed; /* random: nobody chooses who falls into whose set */
    Slot slot[SETS][WAYS];
};

Status auth_limit_new(AuthLimit **out, int max_fails, Err *e) {
    AuthLimit *l = mem_new(AuthLimit);
    if (!l) return err_set(e, ERR_NOMEM, "limits of failed keys");
    l->max_fails = max_fails;
    Status st = rng_secret(&l->seed, sizeof l->seed, e);
    if (st != OK) {
        mem_free(l);
        return st;
    }
    *out = l;
    return OK;
}

void auth_limit_free(AuthLimit *l) { mem_free(l); }

/* "1.2.3.4:5", "[::1]:5", "::1": the host without brackets and port. */
static bool host_of(char host[HOST_BYTES], const char *peer) {
    const char *from = peer[0] == '[' ? peer + 1 : peer;
    const char *first = strchr(from, ':');
    size_t n = strlen(from);
    if (peer[0] == '[') {
        n = strcspn(from, "]");
    } else if (first && !strchr(first + 1, ':')) {
        n = (size_t)(first - from);
    }
    if (n >= HOST_BYTES) return false;
    memcpy(host, from, n);
    host[n] = '\0';
    return true;
}

static Addr parse(const char *peer) {
    char host[HOST_BYTES];
    Addr a = {{0}};
    if (!host_of(host, peer)) return a;
    if (inet_pton(AF_INET, host, a.b + 12) == 1) {
        memset(a.b + 10, 0xff, 2);
        return a;
    }
    if (inet_pton(AF_INET6, host, a.b) != 1) return (Addr){{0}};
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(a.b, mapped, sizeof mapped) != 0) memset(a.b + 8, 0, 8);
    return a;
}

void auth_address(uint8_t out[16], const char *peer) {
    Addr a = parse(peer);
    memcpy(out, a.b, sizeof a.b);
}

static uint64_t set_of(const AuthLimit *l, const Addr *a) {
    return sha_hash64(a->b, sizeof a->b, l->seed) % SETS;
}

/* Its failures still count. A clock that was set back ends a window too. */
static bool live(const Slot *s, int64_t now_s) {
    return s->since_s != 0 && now_s >= s->since_s && now_s - s->since_s < WINDOW_S;
}

bool auth_limit_blocked(const AuthLimit *l, const char *peer, int64_t now_s) {
    Addr a = parse(peer);
    const Slot *set = l->slot[set_of(l, &a)];
    for (int i = 0; i < WAYS; i++) {
        if (!live(&set[i], now_s) || memcmp(&set[i].who, &a, sizeof a) != 0) continue;
        return set[i].n_fails >= l->max_fails;
    }
    return false;
}

void auth_limit_fail(AuthLimit *l, const char *peer, int64_t now_s) {
    Addr a = parse(peer);
    Slot *set = l->slot[set_of(l, &a)], *take = &set[0];
    for (int i = 0; i < WAYS; i++) {
        Slot *s = &set[i];
        if (live(s, now_s) && memcmp(&s->who, &a, sizeof a) == 0) {
            if (s->n_fails < l->max_fails) s->n_fails++;
            return;
        }
        bool older = live(take, now_s) && (!live(s, now_s) || s->since_s < take->since_s);
        if (older) take = s;
    }
    *take = (Slot){.who = a, .since_s = now_s > 0 ? now_s : 1, .n_fails = 1};
}
