/* SPDX-License-Identifier: Apache-2.0
 * The table of functions for a real engine. A file of its own, so that a test with a stand-in needs no
 * engine to link. */
#include "server/server.h"

static Status submit(void *self, const EngineReq *r, uint64_t *id, Err *e) {
    return engine_submit(self, r, id, e);
}

static void cancel(void *self, uint64_t id) { engine_cancel(self, id); }

ServerEngine server_engine_of(Engine *en) {
    return (ServerEngine){.self = en,
                          .submit = submit,
                          .cancel = cancel,
                          .max_ctx = engine_max_ctx(en),
                          .metrics = engine_metrics(en)};
}
