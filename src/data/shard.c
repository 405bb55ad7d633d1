/* SPDX-License-Identifier: Apache-2.0
 * Token shards and the meta.json beside them. Both are untrusted: the file's size must be what
 * meta.json says, and every id read is held against the vocabulary. A Shard is immutable: any
 * thread may read it. */
#include "data/internal.h"

enum { META_MAX_BYTES = 1 << 20, META_FORMAT = 1 };

const char *const data__part_name[2] = {"train", "val"};

/* ---- meta.json ---- */

void data__meta_format(const Meta *m, StrBuf *b) {
    const PrepareStats *c = &m->count;
    JsonW w;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_int(&w, "format", META_FORMAT);
    jw_cstr(&w, "dtype", m->id_bytes == 2 ? "uint16" : "uint32");
    jw_int(&w, "n_vocab", m->n_vocab);
    jw_int(&w, "eot", m->eot);
    jw_int(&w, "seed", (int64_t)m->seed);
    jw_num(&w, "val_share", m->val_share);
    for (int p = 0; p < 2; p++) {
        jw_obj(&w, data__part_name[p]);
        jw_int(&w, "files", (int64_t)c->n_docs[p]);
        jw_int(&w, "characters", (int64_t)c->n_chars[p]);
        jw_int(&w, "bytes", (int64_t)c->n_bytes[p]);
        jw_int(&w, "tokens", (int64_t)c->n_tok[p]);
        jw_end_obj(&w);
    }
    jw_end_obj(&w);
    sb_putc(b, '\n');
}

/* A member that must be there. */
static Status need_int(int64_t *out, const Json *j, const char *key, int64_t min, int64_t max,
                       Err *e) {
    if (!json_get(j, key)) return err_set(e, ERR_FORMAT, "no member \"%s\"", key);
    return json_opt_int(out, j, key, min, max, e);
}

static Status opt_count(uint64_t *out, const Json *j, const char *key, Err *e) {
    int64_t v = 0;
    TRY(json_opt_int(&v, j, key, 0, INT64_MAX, e));
    *out = (uint64_t)v;
    return OK;
}

static Status meta_part(PrepareStats *c, int p, const Json *root, Err *e) {
    const Json *j = json_get(root, data__part_name[p]);
    int64_t n_tok = 0;
    if (!j) return err_set(e, ERR_FORMAT, "no member \"%s\"", data__part_name[p]);
    if (!json_is_object(j)) return err_set(e, ERR_FORMAT, "%s: not an object", data__part_name[p]);
    TRY(opt_count(&c->n_docs[p], j, "files", e));
    TRY(opt_count(&c->n_chars[p], j, "characters", e));
    TRY(opt_count(&c->n_bytes[p], j, "bytes", e));
    TRY(need_int(&n_tok, j, "tokens", 1, INT64_MAX / 4, e));
    c->n_tok[p] = (uint64_t)n_tok;
    return OK;
}

static Status meta_dtype(Meta *m, const Json *root, Err *e) {
    Slice s = {"", 0};
    TRY(json_opt_str(&s, root, "dtype", e));
    m->id_bytes = slice_eq_str(s, "uint16") ? 2 : slice_eq_str(s, "uint32") ? 4 : 0;
    if (m->id_bytes) return OK;
    return err_set(e, ERR_FORMAT, "dtype \"%.*s\", must be uint16 or uint32", (int)MIN(s.n, 40),
                   s.p);
}

static Status meta_members(Meta *m, const Json *root, Err *e) {
    int64_t format = 0, n_vocab = 0, eot = 0;
    if (!json_is_object(root)) return err_set(e, ERR_FORMAT, "not a JSON object");
    TRY(need_int(&format, root, "format", META_FORMAT, META_FORMAT, e));
    TRY(meta_dtype(m, root, e));
    TRY(need_int(&n_vocab, root, "n_vocab", 1, m->id_bytes == 2 ? 65536 : INT32_MAX, e));
    TRY(need_int(&eot, root, "eot", 0, n_vocab - 1, e));
    TRY(opt_count(&m->seed, root, "seed", e));
    TRY(json_opt_num(&m->val_share, root, "val_share", 0, 1, e));
    m->n_vocab = (int32_t)n_vocab;
    m->eot = (int32_t)eot;
    TRY(meta_part(&m->count, 0, root, e));
    return meta_part(&m->count, 1, root, e);
}

Status data__meta_parse(Meta *m, Slice text, Err *e) {
    Err own = {0};
    Meta got = {0};
    Json *root = NULL;
    Status st = json_parse(&root, text, &own);
    if (st == OK) st = meta_members(&got, root, &own);
    json_free(root);
    if (st == OK) *m = got;
    if (st == OK) return OK;
    return err_set(e, st == ERR_ARG ? ERR_FORMAT : st, "%s", own.msg);
}

/* ---- shards ---- */

static Status meta_load(Meta *m, const char *path, Err *e) {
    Err own = {0};
    StrBuf text = {0};
    Status st = io_read_file(&text, path, META_MAX_BYTES, e);
    if (st == OK) {
        st = data__meta_parse(m, (Slice){sb_str(&text), text.n}, &own);
        if (st != OK) st = err_set(e, st, "%s: %s", path, own.msg);
    }
    sb_deinit(&text);
    return st;
}

static Status shard_map(Shard *s, const Meta *m, int part, const char *path, Err *e) {
    uint64_t n_tok = m->count.n_tok[part], want = n_tok * (uint64_t)m->id_bytes;
    TRY(io_map(&s->map, path, e));
    if (s->map.n != want) {
        size_t n = s->map.n;
        io_unmap(&s->map);
        return err_set(e, ERR_FORMAT, "%s: %zu bytes, meta.json says %llu tokens of %d bytes", path,
                       n, (unsigned long long)n_tok, m->id_bytes);
    }
    s->id_bytes = m->id_bytes;
    s->n_tok = n_tok;
    s->n_vocab = m->n_vocab;
    s->eot = m->eot;
    return OK;
}

Status data_shard_open(Shard *out, const char *dir, const char *which, Err *e) {
    Meta m;
    Shard s = {0};
    StrBuf path = {0};
    int part = !strcmp(which, data__part_name[0]) ? 0 : !strcmp(which, data__part_name[1]) ? 1 : -1;
    if (part < 0) return err_set(e, ERR_ARG, "shard \"%s\", must be train or val", which);
    sb_printf(&path, "%s/meta.json", dir);
    Status st = sb_check(&path, e);
    if (st == OK) st = meta_load(&m, sb_str(&path), e);
    if (st == OK) {
        sb_clear(&path);
        sb_printf(&path, "%s/%s.bin", dir, which);
        st = sb_check(&path, e);
    }
    if (st == OK) st = shard_map(&s, &m, part, sb_str(&path), e);
    if (st == OK) *out = s;
    sb_deinit(&path);
    return st;
}

void data_shard_close(Shard *s) {
    io_unmap(&s->map);
    *s = (Shard){0};
}

static uint32_t shard_id(const Shard *s, uint64_t i) {
    const uint8_t *p = s->map.p + i * (uint64_t)s->id_bytes;
    uint32_t id = (uint32_t)p[0] | (uint32_t)p[1] << 8;
    if (s->id_bytes == 4) id |= (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return id;
}

Status data_shard_read(const Shard *s, uint64_t from, int32_t *ids, size_t n, Err *e) {
    if (from > s->n_tok || n > s->n_tok - from) {
        return err_set(e, ERR_ARG, "tokens %llu to %llu of a shard of %llu",
                       (unsigned long long)from, (unsigned long long)(from + n),
                       (unsigned long long)s->n_tok);
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t id = shard_id(s, from + i);
        if (id >= (uint32_t)s->n_vocab) {
            return err_set(e, ERR_FORMAT, "token %llu of the shard is %lu, the vocabulary has %d",
                           (unsigned long long)(from + i), (unsigned long)id, s->n_vocab);
        }
        ids[i] = (int32_t)id;
    }
    return OK;
}
