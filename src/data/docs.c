/* SPDX-License-Identifier: Apache-2.0
 * docs.jsonl, read. The file is mapped, a line is parsed when its turn comes, and pages behind
 * the reader are given back, so that a file larger than memory is fine. The file is untrusted:
 * every line is checked by the JSON reader, and a bad one is named by number. One thread per
 * reader. */
#include "data/internal.h"

enum { RELEASE_BYTES = 16 << 20 };

struct DocReader {
    IoMap map; /* owned; empty for a reader over bytes */
    Slice all;
    char *name_owned;
    const char *name; /* for messages */
    size_t pos, released;
    uint64_t line_no;
    Json *doc; /* owned: what path and text are borrowed from */
};

static bool is_blank(Slice s) {
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != ' ' && s.p[i] != '\t' && s.p[i] != '\r') return false;
    }
    return true;
}

bool data__next_line(Slice text, size_t *pos, uint64_t *line_no, Slice *line) {
    while (*pos < text.n) {
        const char *p = text.p + *pos;
        const char *nl = memchr(p, '\n', text.n - *pos);
        *line = (Slice){p, nl ? (size_t)(nl - p) : text.n - *pos};
        *pos += line->n + (nl != NULL);
        ++*line_no;
        if (!is_blank(*line)) return true;
    }
    return false;
}

static Status doc_members(const Json *root, Slice *path, Slice *text, Err *e) {
    *path = (Slice){"", 0};
    *text = (Slice){NULL, 0};
    if (!json_is_object(root)) return err_set(e, ERR_FORMAT, "not a JSON object");
    TRY(json_opt_str(path, root, "path", e));
    TRY(json_opt_str(text, root, "text", e));
    return text->p ? OK : err_set(e, ERR_FORMAT, "no member \"text\"");
}

Status data__doc_parse(Json **root, Slice *path, Slice *text, Slice line, const char *name,
                       uint64_t line_no, Err *e) {
    Err own = {0};
    Json *j = NULL;
    Status st = json_parse(&j, line, &own);
    if (st == OK) st = doc_members(j, path, text, &own);
    if (st == OK) {
        *root = j;
        return OK;
    }
    json_free(j);
    if (st == ERR_ARG)
        st = ERR_FORMAT; /* a member of another type: the file's fault, not the caller's */
    return err_set(e, st, "%s:%llu: %s", name, (unsigned long long)line_no, own.msg);
}

Status data_docs_open_bytes(DocReader **out, Slice bytes, const char *name, Err *e) {
    DocReader *r = mem_new(DocReader);
    if (!r) return err_set(e, ERR_NOMEM, "document reader");
    r->all = bytes;
    r->name = name;
    *out = r;
    return OK;
}

Status data_docs_open(DocReader **out, const char *path, Err *e) {
    DocReader *r = NULL;
    TRY(data_docs_open_bytes(&r, (Slice){0}, path, e));
    Status st = io_map(&r->map, path, e);
    r->name_owned = st == OK ? mem_dup(path, strlen(path)) : NULL;
    if (st == OK && !r->name_owned) st = err_set(e, ERR_NOMEM, "document reader");
    if (st != OK) {
        data_docs_close(r);
        return st;
    }
    r->name = r->name_owned;
    r->all = (Slice){(const char *)r->map.p, r->map.n};
    *out = r;
    return OK;
}

void data_docs_close(DocReader *r) {
    if (!r) return;
    json_free(r->doc);
    io_unmap(&r->map);
    mem_free(r->name_owned);
    mem_free(r);
}

static void release_behind(DocReader *r) {
    if (!r->map.p || r->pos - r->released < RELEASE_BYTES) return;
    io_map_release(r->map.p + r->released, r->pos - r->released);
    r->released = r->pos;
}

Status data_docs_next(DocReader *r, bool *more, Slice *path, Slice *text, Err *e) {
    Slice line;
    json_free(r->doc);
    r->doc = NULL;
    release_behind(r);
    *more = data__next_line(r->all, &r->pos, &r->line_no, &line);
    if (!*more) return OK;
    return data__doc_parse(&r->doc, path, text, line, r->name, r->line_no, e);
}

void data_docs_progress(const DocReader *r, uint64_t *done, uint64_t *total) {
    *done = r->pos;
    *total = r->all.n;
}
