/* SPDX-License-Identifier: Apache-2.0
 * Names that requests choose by: the model's own, and those of its adapters. */
#include "server/internal.h"

Status server__read_model(const char **adapter, const Server *s, const Json *j, Err *e) {
    const ServerConfig *c = &s->cfg;
    Slice name = {0};
    *adapter = NULL;
    if (c->n_adapters == 0) return OK;
    TRY(json_opt_str(&name, j, "model", e));
    if (!name.p || (c->model && slice_eq_str(name, c->model))) return OK;
    for (int i = 0; i < c->n_adapters; i++) {
        if (!slice_eq_str(name, c->adapters[i])) continue;
        *adapter = c->adapters[i];
        return OK;
    }
    return err_set(e, ERR_NOT_FOUND, "model: \"%.*s\" does not exist", (int)MIN(name.n, 64),
                   name.p);
}
