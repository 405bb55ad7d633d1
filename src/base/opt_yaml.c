/* SPDX-License-Identifier: Apache-2.0
 * Options from YAML through libyaml's events. The accepted language is small on purpose: one
 * document, one flat mapping, scalars, and a sequence of scalars for a list option. Anchors,
 * aliases, tags, nested collections and repeated keys are refused with their place.
 *
 * A file is first read into one Entry per option, then the file it includes is loaded, then the
 * entries are stored: what the including file says wins wherever its include line stands. libyaml
 * has its own heap; the 1 MB limit on files bounds it. One thread. */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <yaml.h>

#include "base/arena.h"
#include "base/internal.h"
#include "base/io.h"

#define YAML_MAX_BYTES ((size_t)1 << 20)
#define YAML_MAX_DEPTH 8
#define YAML_SHOWN 100 /* bytes of a file name in a message */
#define YAML_ARENA ((size_t)16 << 10)

typedef struct Place {
    size_t line, column; /* from 1 */
} Place;

typedef struct Entry {
    bool seen, is_null;
    OptList items; /* strings in the arena; n = 1 for a scalar */
    int cap;
    Place place;
} Entry;

/* One file being loaded. */
typedef struct YamlFile {
    OptSet *o;
    const char *name;             /* for messages */
    const struct YamlFile *outer; /* that includes this one, or NULL */
    bool from_disk;               /* include is possible */
    dev_t dev;                    /* with ino: who this is, for cycles */
    ino_t ino;
    yaml_parser_t parser;
    Arena arena;    /* entries and strings, until the file is stored */
    Entry *entries; /* one per spec, and one for include at the end */
} YamlFile;

static Status fail_at(const YamlFile *f, Place at, Err *e, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* A file's name as it stands in a message. */
static const char *shown(const YamlFile *f) { return str__tail(f->name, YAML_SHOWN); }

/* ERR_ARG "name:line:column: ..." */
static Status fail_at(const YamlFile *f, Place at, Err *e, const char *fmt, ...) {
    char what[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(e, ERR_ARG, "%s:%zu:%zu: %s", shown(f), at.line, at.column, what);
}

static Place place_of(const yaml_mark_t *m) { return (Place){m->line + 1, m->column + 1}; }

static Status no_memory(const YamlFile *f, Err *e) {
    return err_set(e, ERR_NOMEM, "%s: out of memory", shown(f));
}

/* ---- events ---- */

static Status next_event(YamlFile *f, yaml_event_t *ev, Err *e) {
    yaml_parser_t *p = &f->parser;
    if (yaml_parser_parse(p, ev)) return OK;
    const char *problem = p->problem ? p->problem : "cannot be parsed";
    if (p->error == YAML_MEMORY_ERROR) return no_memory(f, e);
    if (p->error == YAML_READER_ERROR)
        return err_set(e, ERR_ARG, "%s: byte %zu: %s", shown(f), p->problem_offset, problem);
    return fail_at(f, place_of(&p->problem_mark), e, "%s", problem);
}

static const char *event_name(yaml_event_type_t type) {
    switch (type) {
    case YAML_ALIAS_EVENT: return "an alias";
    case YAML_SEQUENCE_START_EVENT: return "a sequence";
    case YAML_MAPPING_START_EVENT: return "a mapping";
    case YAML_DOCUMENT_START_EVENT: return "a second document";
    case YAML_SCALAR_EVENT: return "a single value";
    default: return "the end of the file";
    }
}

static Status refuse_event(const YamlFile *f, const yaml_event_t *ev, const char *want, Err *e) {
    return fail_at(f, place_of(&ev->start_mark), e, "%s where %s is expected", event_name(ev->type),
                   want);
}

/* The text of a scalar, copied into the arena; *is_null for a bare empty value, null or ~. */
static Status take_scalar(YamlFile *f, const yaml_event_t *ev, const char **out, bool *is_null,
                          Err *e) {
    Place at = place_of(&ev->start_mark);
    const char *s = (const char *)ev->data.scalar.value;
    size_t n = ev->data.scalar.length;
    if (ev->data.scalar.anchor) return fail_at(f, at, e, "anchors are not supported");
    if (ev->data.scalar.tag) return fail_at(f, at, e, "tags are not supported");
    if (memchr(s, '\0', n)) return fail_at(f, at, e, "value has a zero byte");
    *is_null = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
               (n == 0 || strcmp(s, "~") == 0 || strcmp(s, "null") == 0);
    *out = arena_dup(&f->arena, s, n);
    return *out ? OK : no_memory(f, e);
}

/* ---- the mapping ---- */

static Status add_item(YamlFile *f, Entry *en, const char *text, Err *e) {
    if (en->items.n == en->cap) {
        int cap = MAX(1, en->cap * 2);
        const char **v = arena_new_n(&f->arena, const char *, (size_t)cap);
        if (!v) return no_memory(f, e);
        if (en->cap > 0) memcpy(v, en->items.v, (size_t)en->cap * sizeof *v);
        en->items.v = v;
        en->cap = cap;
    }
    en->items.v[en->items.n++] = text;
    return OK;
}

static const char *entry_key(const YamlFile *f, const Entry *en) {
    int i = (int)(en - f->entries);
    return i < opt__n_specs(f->o) ? opt__spec(f->o, i)->key : "include";
}

static bool is_list(const YamlFile *f, const Entry *en) {
    int i = (int)(en - f->entries);
    return i < opt__n_specs(f->o) && opt__spec(f->o, i)->type == OPT_LIST;
}

/* One item of a sequence; *more is false at its end. */
static Status parse_item(YamlFile *f, Entry *en, bool *more, Err *e) {
    yaml_event_t ev;
    const char *text;
    bool is_null = false;
    TRY(next_event(f, &ev, e));
    Status st = OK;
    *more = ev.type != YAML_SEQUENCE_END_EVENT;
    if (*more && ev.type != YAML_SCALAR_EVENT) st = refuse_event(f, &ev, "a list item", e);
    else if (*more) st = take_scalar(f, &ev, &text, &is_null, e);
    if (st == OK && is_null)
        st = fail_at(f, place_of(&ev.start_mark), e, "%s: empty list item", entry_key(f, en));
    if (st == OK && *more) st = add_item(f, en, text, e);
    yaml_event_delete(&ev);
    return st;
}

static Status parse_sequence(YamlFile *f, Entry *en, const yaml_event_t *start, Err *e) {
    Place at = place_of(&start->start_mark);
    bool more = true;
    if (!is_list(f, en))
        return fail_at(f, at, e, "%s: takes one value, not a list", entry_key(f, en));
    if (start->data.sequence_start.anchor) return fail_at(f, at, e, "anchors are not supported");
    if (start->data.sequence_start.tag) return fail_at(f, at, e, "tags are not supported");
    while (more) TRY(parse_item(f, en, &more, e));
    return OK;
}

static Status parse_value(YamlFile *f, Entry *en, Err *e) {
    yaml_event_t ev;
    const char *text;
    Status st = OK;
    TRY(next_event(f, &ev, e));
    en->place = place_of(&ev.start_mark);
    if (ev.type == YAML_SEQUENCE_START_EVENT) st = parse_sequence(f, en, &ev, e);
    else if (ev.type != YAML_SCALAR_EVENT) st = refuse_event(f, &ev, "a value", e);
    else {
        st = take_scalar(f, &ev, &text, &en->is_null, e);
        if (st == OK && !en->is_null) st = add_item(f, en, text, e);
    }
    yaml_event_delete(&ev);
    return st;
}

/* The entry that a key names, marked as seen. */
static Status find_entry(YamlFile *f, const yaml_event_t *ev, Entry **out, Err *e) {
    const char *key;
    bool is_null;
    Place at = place_of(&ev->start_mark);
    if (ev->type != YAML_SCALAR_EVENT) return refuse_event(f, ev, "a key", e);
    TRY(take_scalar(f, ev, &key, &is_null, e));
    int i = opt__find(f->o, key, strlen(key));
    if (i < 0 && strcmp(key, "include") == 0) i = opt__n_specs(f->o);
    if (i < 0) {
        Err why = {0};
        opt__unknown(f->o, "", key, &why);
        return fail_at(f, at, e, "%s", why.msg);
    }
    Entry *en = &f->entries[i];
    if (en->seen)
        return fail_at(f, at, e, "%s: given twice, first in line %zu", key, en->place.line);
    en->seen = true;
    *out = en;
    return OK;
}

/* One key and its value; *more is false at the end of the mapping. */
static Status parse_pair(YamlFile *f, bool *more, Err *e) {
    yaml_event_t ev;
    Entry *en = NULL;
    TRY(next_event(f, &ev, e));
    Status st = OK;
    *more = ev.type != YAML_MAPPING_END_EVENT;
    if (*more) st = find_entry(f, &ev, &en, e);
    yaml_event_delete(&ev);
    return st == OK && *more ? parse_value(f, en, e) : st;
}

/* ---- the document ---- */

static Status parse_mapping(YamlFile *f, const yaml_event_t *start, Err *e) {
    Place at = place_of(&start->start_mark);
    bool more = true;
    if (start->type != YAML_MAPPING_START_EVENT)
        return refuse_event(f, start, "a mapping of key: value lines", e);
    if (start->data.mapping_start.anchor) return fail_at(f, at, e, "anchors are not supported");
    if (start->data.mapping_start.tag) return fail_at(f, at, e, "tags are not supported");
    while (more) TRY(parse_pair(f, &more, e));
    return OK;
}

/* Step over one event, or be told that the stream ended. */
static Status skip_event(YamlFile *f, yaml_event_type_t *type, Err *e) {
    yaml_event_t ev;
    TRY(next_event(f, &ev, e));
    *type = ev.type;
    yaml_event_delete(&ev);
    return OK;
}

/* STREAM-START, then nothing or DOCUMENT-START mapping DOCUMENT-END, then STREAM-END. */
static Status parse_stream(YamlFile *f, Err *e) {
    yaml_event_t ev;
    yaml_event_type_t type;
    TRY(skip_event(f, &type, e));
    TRY(skip_event(f, &type, e));
    if (type == YAML_STREAM_END_EVENT) return OK; /* an empty file sets nothing */
    TRY(next_event(f, &ev, e));
    Status st = parse_mapping(f, &ev, e);
    yaml_event_delete(&ev);
    TRY(st);
    TRY(skip_event(f, &type, e));
    TRY(next_event(f, &ev, e));
    if (ev.type != YAML_STREAM_END_EVENT) st = refuse_event(f, &ev, "the end of the file", e);
    yaml_event_delete(&ev);
    return st;
}

static Status parse_entries(YamlFile *f, const char *p, size_t n, Err *e) {
    f->entries = arena_new_n(&f->arena, Entry, (size_t)opt__n_specs(f->o) + 1);
    if (!f->entries || !yaml_parser_initialize(&f->parser)) return no_memory(f, e);
    yaml_parser_set_input_string(&f->parser, (const unsigned char *)p, n);
    Status st = parse_stream(f, e);
    yaml_parser_delete(&f->parser);
    return st;
}

/* ---- storing ---- */

static Status put_items(OptSet *o, int i, const Entry *en, Err *e) {
    if (en->is_null) return opt__reset(o, i, e);
    if (opt__spec(o, i)->type == OPT_LIST) opt__clear_list(o, i);
    for (int j = 0; j < en->items.n; j++) TRY(opt__put(o, i, en->items.v[j], e));
    return OK;
}

static Status put_entries(YamlFile *f, Err *e) {
    opt__begin_source(f->o);
    for (int i = 0; i < opt__n_specs(f->o); i++) {
        const Entry *en = &f->entries[i];
        Err why = {0};
        Status st = en->seen ? put_items(f->o, i, en, &why) : OK;
        if (st == ERR_NOMEM) return no_memory(f, e);
        if (st != OK) return fail_at(f, en->place, e, "%s", why.msg);
    }
    opt__begin_source(f->o);
    return OK;
}

/* ---- files ---- */

static Status load_file(OptSet *o, const char *path, const YamlFile *outer, Err *e);

/* path, seen from the folder of the file that names it. */
static void put_relative(StrBuf *b, const char *base, const char *path) {
    const char *slash = strrchr(base, '/');
    if (path[0] != '/' && slash) sb_put(b, base, (size_t)(slash - base) + 1);
    sb_puts(b, path);
}

static Status load_include(YamlFile *f, Err *e) {
    const Entry *en = &f->entries[opt__n_specs(f->o)];
    if (!en->seen || en->is_null) return OK;
    if (!f->from_disk) return fail_at(f, en->place, e, "include: only files can include files");
    int depth = 1;
    for (const YamlFile *g = f; g; g = g->outer) depth++;
    if (depth > YAML_MAX_DEPTH)
        return fail_at(f, en->place, e, "include: files nest deeper than %d", YAML_MAX_DEPTH);
    StrBuf path = {0};
    put_relative(&path, f->name, en->items.v[0]);
    Err why = {0};
    Status st = path.failed ? ERR_NOMEM : load_file(f->o, path.p, f, &why);
    if (st == ERR_ARG || st == OK) { /* with its own place already */
        if (st != OK && e && e->code == OK) *e = why;
    } else if (st == ERR_NOMEM) st = no_memory(f, e);
    else {
        fail_at(f, en->place, e, "include: %s", why.msg);
        st = ERR_ARG;
    }
    sb_deinit(&path);
    return st;
}

static Status load_bytes(YamlFile *f, const char *p, size_t n, Err *e) {
    arena_init(&f->arena, YAML_ARENA);
    Status st = parse_entries(f, p, n, e);
    if (st == OK) st = load_include(f, e);
    if (st == OK) st = put_entries(f, e);
    arena_deinit(&f->arena);
    return st;
}

/* Same device and inode: a file that is already open further out, under whatever name. */
static Status check_cycle(YamlFile *f, Err *e) {
    struct stat s;
    if (stat(f->name, &s) < 0) return OK; /* reading it gives the message */
    f->dev = s.st_dev;
    f->ino = s.st_ino;
    for (const YamlFile *g = f->outer; g; g = g->outer) {
        if (g->dev != f->dev || g->ino != f->ino) continue;
        return err_set(e, ERR_ARG, "%s: includes itself through %s", shown(f), shown(f->outer));
    }
    return OK;
}

static Status load_file(OptSet *o, const char *path, const YamlFile *outer, Err *e) {
    YamlFile f = {.o = o, .name = path, .outer = outer, .from_disk = true};
    StrBuf text = {0};
    Status st = check_cycle(&f, e);
    if (st == OK) st = io_read_file(&text, path, YAML_MAX_BYTES, e);
    if (st == OK) st = load_bytes(&f, sb_str(&text), text.n, e);
    sb_deinit(&text);
    return st;
}

Status opt_load_yaml(OptSet *o, const char *path, Err *e) { return load_file(o, path, NULL, e); }

Status opt__parse_yaml(OptSet *o, const char *name, const char *p, size_t n, Err *e) {
    YamlFile f = {.o = o, .name = name};
    return load_bytes(&f, p, n, e);
}
