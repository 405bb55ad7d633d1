/* SPDX-License-Identifier: Apache-2.0
 * The adapters of an engine, by name. One is loaded by the thread that asks, on the side, and put into a free place
 * under the lock; a request holds the one it names from submit to its end, and only what nobody holds is unloaded.
 * New holders appear under the lock only, so that "nobody" stays true while it is held.
 *
 * The hashes of a request's blocks begin with the version of its adapter (a digest of the values) and the scale:
 * K and V computed with one content are never taken for another's, whatever the names were. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "engine/internal.h"

struct Adapter {
    char name[ENGINE_ADAPTER_NAME]; /* [const] */
    Lora *lora;                     /* [const] owned */
    double scale;                   /* [const] */
    uint64_t i_load;                /* [const] of how many loads before */
    _Atomic int
        n_held; /* [atomic] rises under mu only; falls with release, looked at with acquire */
};

static void adapter_free(Adapter *a) {
    if (!a) return;
    lora_free(a->lora);
    mem_free(a);
}

/* ---- life ---- */

size_t engine__adapters_bytes(const EngineOpts *r) {
    if (r->max_loras == 0) return 0;
    return r->lora_bytes + lora_work_bytes(engine__max_rows(r), r->max_lora_rank) +
           (size_t)r->max_loras * (sizeof(Adapter) + sizeof(Adapter *)) +
           (size_t)engine__max_tables(r) * sizeof(LoraUse);
}

Status engine__adapters_init(Engine *en, Err *e) {
    const EngineOpts *o = &en->o;
    if (o->max_loras == 0) return OK;
    en->adapters = mem_new_n(Adapter *, (size_t)o->max_loras);
    en->uses = mem_new_n(LoraUse, (size_t)engine__max_tables(o));
    if (!en->adapters || !en->uses)
        return err_set(e, ERR_NOMEM, "places for %d adapters", o->max_loras);
    return en->model ? lora_reserve(en->model, engine__max_rows(o), o->max_lora_rank, e) : OK;
}

void engine__adapters_deinit(Engine *en) {
    for (int i = 0; en->adapters && i < en->o.max_loras; i++) adapter_free(en->adapters[i]);
    mem_free(en->adapters);
    mem_free(en->uses);
}

/* ---- finding; mu held ---- */

static Adapter **find(const Engine *en, const char *name) {
    for (int i = 0; i < en->o.max_loras; i++)
        if (en->adapters[i] && strcmp(en->adapters[i]->name, name) == 0) return &en->adapters[i];
    return NULL;
}

static size_t bytes_held(const Engine *en) {
    size_t n = 0;
    for (int i = 0; i < en->o.max_loras; i++)
        if (en->adapters[i]) n += lora_info(en->adapters[i]->lora)->n_bytes;
    return n;
}

/* A free place for an adapter of that name and size. */
static Status find_place(Adapter ***out, const Engine *en, const char *name, size_t n_bytes,
                         Err *e) {
    size_t held = bytes_held(en);
    if (find(en, name)) return err_set(e, ERR_ARG, "an adapter \"%s\" is loaded already", name);
    if (n_bytes > en->o.lora_bytes || held > en->o.lora_bytes - n_bytes)
        return err_set(e, ERR_FULL, "adapter \"%s\" takes %zu bytes, %zu of %zu are taken", name,
                       n_bytes, held, en->o.lora_bytes);
    for (int i = 0; i < en->o.max_loras; i++) {
        if (en->adapters[i]) continue;
        *out = &en->adapters[i];
        return OK;
    }
    return err_set(e, ERR_FULL, "%d adapters are loaded, the limit is %d", en->o.max_loras,
                   en->o.max_loras);
}

/* ---- loading ---- */

static pthread_mutex_t *lock_of(const Engine *en) { return (pthread_mutex_t *)&en->mu; }

static Status check_args(const Engine *en, const char *name, double scale, Err *e) {
    size_t n = strlen(name);
    if (en->o.max_loras == 0) return err_set(e, ERR_FULL, "no adapters: max_loras is 0");
    if (!en->model) return err_set(e, ERR_UNSUPPORTED, "adapters need a model");
    if (n < 1 || n >= ENGINE_ADAPTER_NAME)
        return err_set(e, ERR_ARG, "an adapter's name of %zu bytes: 1 to %d", n,
                       ENGINE_ADAPTER_NAME - 1);
    if (!(fabs(scale) <= 1e6))
        return err_set(e, ERR_ARG, "adapter \"%s\": scale %g is outside -1e6 to 1e6", name, scale);
    return OK;
}

static Status put(Engine *en, Adapter *a, Err *e) {
    Adapter **place = NULL;
    pthread_mutex_lock(&en->mu);
    Status st = find_place(&place, en, a->name, lora_info(a->lora)->n_bytes, e);
    if (st == OK) {
        a->i_load = en->n_loads++;
        *place = a;
    }
    pthread_mutex_unlock(&en->mu);
    return st;
}

Status engine_adapter_load(Engine *en, const char *name, const char *path, double scale, Err *e) {
    TRY(check_args(en, name, scale, e));
    Adapter *a = mem_new(Adapter);
    if (!a) return err_set(e, ERR_NOMEM, "adapter");
    memcpy(a->name, name, strlen(name));
    a->scale = scale;
    Status st = lora_load(&a->lora, en->model, path, e);
    if (st == OK && lora_info(a->lora)->rank > en->o.max_lora_rank)
        st = err_set(e, ERR_ARG, "%s: rank %d, the limit is %d", path, lora_info(a->lora)->rank,
                     en->o.max_lora_rank);
    if (st == OK) st = put(en, a, e);
    if (st != OK) adapter_free(a);
    return st;
}

Status engine_adapter_unload(Engine *en, const char *name, Err *e) {
    Adapter *gone = NULL;
    Status st = OK;
    pthread_mutex_lock(&en->mu);
    Adapter **place = find(en, name);
    int n = place ? atomic_load_explicit(&(*place)->n_held, memory_order_acquire) : 0;
    if (!place) st = err_set(e, ERR_NOT_FOUND, "no adapter \"%s\" is loaded", name);
    else if (n > 0) st = err_set(e, ERR_FULL, "%d requests use the adapter \"%s\"", n, name);
    else {
        gone = *place;
        *place = NULL;
    }
    pthread_mutex_unlock(&en->mu);
    adapter_free(gone);
    return st;
}

static EngineAdapter describe(const Engine *en, const Adapter *a) {
    EngineAdapter d = {.scale = a->scale,
                       .info = *lora_info(a->lora),
                       .n_requests = atomic_load_explicit(&a->n_held, memory_order_relaxed)};
    memcpy(d.name, a->name, sizeof d.name);
    for (int i = 0; i < en->n_run; i++) d.n_running += en->run[i]->adapter == a;
    for (const Req *r = en->waiting.head; r; r = r->next) d.n_waiting += r->adapter == a;
    return d;
}

/* Loaded after `after` others, and first of those; NULL: none. */
static const Adapter *next_loaded(const Engine *en, uint64_t after) {
    const Adapter *best = NULL;
    for (int i = 0; i < en->o.max_loras; i++) {
        const Adapter *a = en->adapters[i];
        if (a && a->i_load >= after && (!best || a->i_load < best->i_load)) best = a;
    }
    return best;
}

int engine_adapter_list(const Engine *en, EngineAdapter *out, int max) {
    int n = 0;
    pthread_mutex_lock(lock_of(en));
    for (const Adapter *a = next_loaded(en, 0); a; a = next_loaded(en, a->i_load + 1), n++)
        if (n < max) out[n] = describe(en, a);
    pthread_mutex_unlock(lock_of(en));
    return n;
}

int engine_adapter_max(const Engine *en) { return en->o.max_loras; }

/* ---- requests ---- */

/* The root of what is computed with this adapter at this scale, over the root it had. */
static Status mix_root(Sha256 *root, const Sha256 *version, float scale, Err *e) {
    struct {
        char form[20]; /* no block's hash is made of so many bytes */
        Sha256 root, version;
        float scale;
    } in = {.form = "ingot kv adapter", .root = *root, .version = *version, .scale = scale};
    return sha_256(root, &in, sizeof in, e);
}

Status engine__adapter_hold(Req *r, const Engine *en, Err *e) {
    const char *name = r->in.adapter;
    double own = r->in.adapter_scale == 0.0 ? 1.0 : r->in.adapter_scale;
    r->in.adapter = NULL;
    if (!name) return OK;
    if (!(fabs(own) <= 1e6))
        return err_set(e, ERR_ARG, "adapter_scale %g is outside -1e6 to 1e6", own);
    pthread_mutex_lock(lock_of(en));
    Adapter **place = find(en, name);
    if (place) {
        r->adapter = *place;
        atomic_fetch_add_explicit(&r->adapter->n_held, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(lock_of(en));
    if (!place) return err_set(e, ERR_NOT_FOUND, "no adapter \"%s\" is loaded", name);
    r->use = (LoraUse){r->adapter->lora, (float)(own * r->adapter->scale)};
    return mix_root(&r->root, &lora_info(r->use.lora)->version, r->use.scale, e);
}

void engine__adapter_drop(Req *r) {
    if (r->adapter) atomic_fetch_sub_explicit(&r->adapter->n_held, 1, memory_order_release);
    r->adapter = NULL;
}

bool engine__same_use(const Req *a, const Req *b) {
    return a->use.lora == b->use.lora && a->use.scale == b->use.scale;
}
