/* SPDX-License-Identifier: Apache-2.0
 * Names that requests choose by: the model's own, and those of its adapters. */
#include "server/internal.h"

/* Without adapters there is nothing to choose, and clients send whatever they are set to. */
Status server__read_model(const char **adapter, const Server *s, Slice name, Err *e) {
    const ServerConfig *c = &s->cfg;
    *adapter = NULL;
    if (c->n_adapters == 0 || !name.p || (c->model && slice_eq_str(name, c->model))) return OK;
    for (int i = 0; i < c->n_adapters; i++) {
        if (!slice_eq_str(name, c->adapters[i])) continue;
        *adapter = c->adapters[i];
        return OK;
    }
    return err_set(e, ERR_NOT_FOUND, "model: \"%.*s\" does not exist", (int)MIN(name.n, 64),
                   name.p);
}

static void put_model(JsonW *w, const Server *s, const char *name, bool adapter) {
    jw_obj(w, NULL);
    jw_cstr(w, "id", name);
    jw_cstr(w, "object", "model");
    jw_int(w, "created", s->started);
    jw_cstr(w, "owned_by", "ingot");
    jw_cstr(w, "root", s->cfg.model);
    if (adapter) jw_cstr(w, "parent", s->cfg.model);
    else jw_null(w, "parent");
    jw_int(w, "max_model_len", s->cfg.engine.max_ctx);
    jw_end_obj(w);
}

void server__get_models(Server *s, HttpReq *r) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "object", "list");
    jw_arr(&w, "data");
    if (s->cfg.model) put_model(&w, s, s->cfg.model, false);
    for (int i = 0; i < s->cfg.n_adapters; i++) put_model(&w, s, s->cfg.adapters[i], true);
    jw_end_arr(&w);
    jw_end_obj(&w);
    server__reply_json(r, 200, &b, NULL);
}

void server__get_model(Server *s, HttpReq *r) {
    Slice path = http_path(r);
    size_t skip = strlen("/v1/models/");
    Slice name = {path.p + skip, path.n - skip};
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    if (s->cfg.model && slice_eq_str(name, s->cfg.model)) put_model(&w, s, s->cfg.model, false);
    for (int i = 0; i < s->cfg.n_adapters && b.n == 0; i++) {
        if (slice_eq_str(name, s->cfg.adapters[i])) put_model(&w, s, s->cfg.adapters[i], true);
    }
    if (b.n > 0) {
        server__reply_json(r, 200, &b, NULL);
        return;
    }
    Err e = {0};
    ErrDetail d = {.param = "model", .code = "model_not_found"};
    if (err_set(&e, ERR_NOT_FOUND, "model: \"%.*s\" does not exist", (int)MIN(name.n, 64),
                name.p) != OK)
        server__reply_err(r, API_OPENAI, &d, &e);
}
