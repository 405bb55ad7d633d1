/* SPDX-License-Identifier: Apache-2.0
 * Options from environment variables. One thread. */
#include <ctype.h>

#include "base/config.h"
#include "base/internal.h"

enum { NAME_MAX_BYTES = 96 };

/* The value of a list stands between commas. */
static Status put_list(OptSet *o, int i, const char *value, Err *e) {
    for (const char *p = value; *p;) {
        size_t n = strcspn(p, ",");
        char *part = mem_dup(p, n);
        Status st = part ? opt__put(o, i, part, e) : err_set(e, ERR_NOMEM, "an option's value");
        mem_free(part);
        TRY(st);
        p += n + (p[n] == ',');
    }
    return OK;
}

static Status put_from(OptSet *o, int i, const char *name, bool *found, Err *e) {
    const char *value = config_get(name);
    OptType type = opt__spec(o, i)->type;
    if (!value) return OK;
    if (type == OPT_INT && str_starts_with(value, "tcp://"))
        return OK; /* a link to a service of this name */
    if (type == OPT_BOOL && strcmp(value, "1") == 0) value = "true";
    if (type == OPT_BOOL && strcmp(value, "0") == 0) value = "false";
    *found = true;
    Status st = type == OPT_LIST ? put_list(o, i, value, e) : opt__put(o, i, value, e);
    if (st != OK) err_in(e, name);
    return st;
}

static Status load_one(OptSet *o, int i, const char *prefix, Err *e) {
    const OptSpec *s = opt__spec(o, i);
    char name[NAME_MAX_BYTES];
    bool found = false;
    size_t n = 0;
    for (const char *p = prefix; *p && n + 1 < sizeof name; p++) name[n++] = *p;
    for (const char *p = s->key; *p && n + 1 < sizeof name; p++)
        name[n++] = (char)toupper((unsigned char)*p);
    name[n] = '\0';
    TRY(put_from(o, i, name, &found, e));
    for (int k = 0; !found; k++) {
        const char *other = opt__variable(o, s->key, k);
        if (!other) break;
        TRY(put_from(o, i, other, &found, e));
    }
    return OK;
}

Status opt_load_env(OptSet *o, const char *prefix, Err *e) {
    opt__begin_source(o);
    for (int i = 0; i < opt__n_specs(o); i++) TRY(load_one(o, i, prefix, e));
    return OK;
}
