/* SPDX-License-Identifier: Apache-2.0
 * Who presents wrong keys too often: failures of an address in the last minute, in a table of fixed size. An IPv6 client
 * has a /64 at least and counts as one. When the table is full, the entry that is oldest of those in the same place goes.
 * Not locked: one thread, or under the caller's lock. */
#ifndef INGOT_API_AUTH_LIMIT_H
#define INGOT_API_AUTH_LIMIT_H

#include "base/err.h"

typedef struct AuthLimit AuthLimit;

/* Refuse an address after this many failures in a minute. */
MUST_CHECK Status auth_limit_new(AuthLimit **out, int max_fails, Err *e);
void auth_limit_free(AuthLimit *l);
/* A peer as http_peer names it, with or without a port. */
bool auth_limit_blocked(const AuthLimit *l, const char *peer, int64_t now_s);
void auth_limit_fail(AuthLimit *l, const char *peer, int64_t now_s);
/* Who a peer counts as: an IPv4 address as its mapped IPv6 one, of others the first 64 bits; all zero: not an address. */
void auth_address(uint8_t out[16], const char *peer);

#endif
