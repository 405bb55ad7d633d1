/* SPDX-License-Identifier: Apache-2.0
 * Shared between the files of base/ only. */
#ifndef INGOT_BASE_INTERNAL_H
#define INGOT_BASE_INTERNAL_H

#include "base/log.h"
#include "base/opt.h"

/* Room for n more bytes and a NUL at b->p + b->n; false and b->failed when memory is out. */
bool sb__reserve(StrBuf *b, size_t n);

/* s, or its end of about `max` bytes: the end of a long path says more than its start. */
const char *str__tail(const char *s, size_t max);

/* "2026-01-31 12:00:00 LEVEL " into line; its length. */
size_t log__put_head(char *line, size_t cap, LogLevel level);
/* Give a whole line to the writer; false: there is none. */
bool log__queue(const char *line, size_t n);

/* Call fn(ctx, dir) for the control group of this process under `controller` and for each of its
 * ancestors, versions 1 and 2; dir is borrowed for the call. Silent when there are none. */
void cgroup__visit(const char *controller, void (*fn)(void *ctx, const char *dir), void *ctx);
/* First bytes of dir/file as a NUL-terminated line; false if it cannot be read. */
bool cgroup__read(char *buf, size_t cap, const char *dir, const char *file);

/* Index of the option called key (dashes are underscores), or -1. */
int opt__find(const OptSet *o, const char *key, size_t n_key);
int opt__n_specs(const OptSet *o);
const OptSpec *opt__spec(const OptSet *o, int i);
/* ERR_ARG "unknown option ...", with the nearest known key. `dashes` goes before each key. */
Status opt__unknown(const OptSet *o, const char *dashes, const char *key, Err *e);
/* Later list items replace what earlier sources (defaults, files, flags) gave, then append. */
/* The n-th environment variable that stands for a key besides the prefixed one, or NULL. */
const char *opt__variable(const OptSet *o, const char *key, int n);
void opt__begin_source(OptSet *o);
/* Store text as the value of option i; lists append within one source. */
MUST_CHECK Status opt__put(OptSet *o, int i, const char *text, Err *e);
/* Empty the list of option i and mark it as given by the present source. */
void opt__clear_list(OptSet *o, int i);
/* Room for n strings, zeroed, as long as o; NULL when memory is out. */
const char **opt__new_list(OptSet *o, int n);
/* Back to the default, as if never given. */
MUST_CHECK Status opt__reset(OptSet *o, int i, Err *e);
/* Options from n bytes of YAML; name stands in messages. `include` is refused. For tests. */
MUST_CHECK Status opt__parse_yaml(OptSet *o, const char *name, const char *p, size_t n, Err *e);

#endif
