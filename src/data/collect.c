/* SPDX-License-Identifier: Apache-2.0
 * collect: folders of source files -> docs.jsonl. Each file is read, judged and written in its
 * turn; what stays in memory is its digest and signature (dedup.c), never its text. Of
 * duplicates the first in sorted order is kept. The output appears whole or not at all. One
 * thread. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "data/internal.h"
#include "text/utf8.h"

typedef struct Collect {
    const CollectOpts *o;
    CollectStats *st;
    IoWriter out;
    ExactSet exact;
    NearSet near;
    StrBuf text; /* the file at hand */
    StrBuf line; /* its line of docs.jsonl */
    StrBuf name; /* prefix/below */
    size_t n_prefix;
} Collect;

const char *data_skip_name(CollectSkip why) {
    static const char *const name[SKIP_REASONS] = {
        [SKIP_FOLDER] = "excluded folder",  [SKIP_SUFFIX] = "other ending",
        [SKIP_SHORT] = "too short",         [SKIP_LARGE] = "too large",
        [SKIP_NOT_UTF8] = "not UTF-8 text", [SKIP_UNREADABLE] = "unreadable",
        [SKIP_SPECIAL] = "link or special", [SKIP_EXACT] = "exact duplicate",
        [SKIP_NEAR] = "near duplicate",
    };
    return (unsigned)why < SKIP_REASONS ? name[why] : "?";
}

bool data__can_replace(const char *path) {
    struct stat s;
    return lstat(path, &s) != 0 || S_ISREG(s.st_mode);
}

bool data__stopped(const DataProgress *p) {
    return p->stop && atomic_load_explicit(p->stop, memory_order_relaxed);
}

uint64_t data_count_chars(Slice text) {
    uint64_t n = 0;
    for (size_t i = 0; i < text.n; i++) n += ((unsigned char)text.p[i] & 0xc0) != 0x80;
    return n;
}

static void skip(Collect *c, const char *path, CollectSkip why) {
    c->st->n_skip[why]++;
    if (why != SKIP_SUFFIX && c->o->on_skip) c->o->on_skip(c->o->on_skip_ctx, path, why);
}

/* An ending given without its dot gets one. */
static bool has_ending(const char *name, const char *ext) {
    size_t n = strlen(name), k = strlen(ext), dot = ext[0] != '.';
    return n > k + dot && str_ends_with(name, ext) && (!dot || name[n - k - 1] == '.');
}

static bool is_wanted(const CollectOpts *o, const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (o->exts.n == 0) return has_ending(name, ".py");
    for (int i = 0; i < o->exts.n; i++) {
        if (has_ending(name, o->exts.v[i])) return true;
    }
    return false;
}

/* SKIP_REASONS: judge by the text. */
static Status read_text(Collect *c, const char *path, CollectSkip *why, Err *e) {
    Err own = {0};
    struct stat s;
    *why = SKIP_UNREADABLE;
    /* lstat once more: what was a file when the folder was listed may be a pipe now, and would
     * block */
    if (lstat(path, &s) != 0 || !S_ISREG(s.st_mode)) return OK;
    sb_clear(&c->text);
    Status st = io_read_file(&c->text, path, (size_t)c->o->max_bytes, &own);
    if (st == ERR_NOMEM) return err_set(e, ERR_NOMEM, "%s", own.msg);
    if (st == OK) *why = SKIP_REASONS;
    if (st == ERR_FULL) *why = SKIP_LARGE;
    return OK;
}

static CollectSkip judge_text(const Collect *c, Slice text) {
    if (!utf8_valid(text) || (text.n && memchr(text.p, 0, text.n))) return SKIP_NOT_UTF8;
    if (data_count_chars(text) <= (uint64_t)c->o->min_chars) return SKIP_SHORT;
    return SKIP_REASONS;
}

static Status judge_duplicate(Collect *c, Slice text, CollectSkip *why, Err *e) {
    Sha256 digest;
    Sig sig;
    bool was_there;
    *why = SKIP_EXACT;
    TRY(sha_256(&digest, text.p, text.n, e));
    TRY(data__exact_add(&c->exact, &digest, &was_there, e));
    if (was_there) return OK;
    *why = SKIP_REASONS;
    if (c->o->near_dup <= 0) return OK;
    data__sig(&sig, text);
    if (!data__near_find(&c->near, &sig)) return data__near_add(&c->near, &sig, e);
    *why = SKIP_NEAR;
    return OK;
}

static Status write_doc(Collect *c, const char *below, Slice text, Err *e) {
    JsonW w;
    c->name.n = c->n_prefix;
    sb_puts(&c->name, below);
    sb_clear(&c->line);
    jw_init(&w, &c->line);
    jw_obj(&w, NULL);
    jw_cstr(&w, "path", sb_str(&c->name));
    jw_str(&w, "text", text);
    jw_end_obj(&w);
    sb_putc(&c->line, '\n');
    TRY(sb_check(&c->name, e));
    TRY(sb_check(&c->line, e));
    TRY(io_write(&c->out, c->line.p, c->line.n, e));
    c->st->n_kept++;
    c->st->n_bytes += text.n;
    c->st->n_chars += data_count_chars(text);
    return OK;
}

static Status take_file(Collect *c, const char *path, const char *below, Err *e) {
    CollectSkip why;
    TRY(read_text(c, path, &why, e));
    Slice text = {sb_str(&c->text), c->text.n};
    if (why == SKIP_REASONS) why = judge_text(c, text);
    if (why == SKIP_REASONS) TRY(judge_duplicate(c, text, &why, e));
    if (why == SKIP_REASONS) return write_doc(c, below, text, e);
    skip(c, path, why);
    return OK;
}

static Status take_entry(void *ctx, const char *path, const char *below, WalkKind kind, Err *e) {
    Collect *c = ctx;
    if (data__stopped(&c->o->progress)) return err_set(e, ERR_CANCELLED, "interrupted");
    if (kind == WALK_SKIP_FOLDER || kind == WALK_BAD_FOLDER) {
        skip(c, path, kind == WALK_SKIP_FOLDER ? SKIP_FOLDER : SKIP_UNREADABLE);
        return OK;
    }
    if (!is_wanted(c->o, below)) {
        skip(c, path, SKIP_SUFFIX);
        return OK;
    }
    c->st->n_seen++;
    if (c->o->progress.fn) c->o->progress.fn(c->o->progress.ctx, c->st->n_seen, 0);
    if (kind == WALK_FILE) return take_file(c, path, below, e);
    skip(c, path, SKIP_SPECIAL);
    return OK;
}

/* Last component of dir, with a slash, into c->name; "." and the like by their real name. */
static Status set_prefix(Collect *c, const char *dir, Err *e) {
    char real[PATH_MAX];
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    const char *p = memrchr(dir, '/', n);
    Slice last = p ? (Slice){p + 1, n - (size_t)(p + 1 - dir)} : (Slice){dir, n};
    if (last.n == 0 || slice_eq_str(last, ".") || slice_eq_str(last, "..")) {
        if (!realpath(dir, real)) {
            return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", dir,
                           strerror(errno));
        }
        last = slice_of(strrchr(real, '/') + 1);
    }
    sb_clear(&c->name);
    sb_put(&c->name, last.p, last.n);
    if (last.n) sb_putc(&c->name, '/');
    c->n_prefix = c->name.n;
    return sb_check(&c->name, e);
}

static Status collect_dirs(Collect *c, Err *e) {
    for (int i = 0; i < c->o->dirs.n; i++) {
        TRY(set_prefix(c, c->o->dirs.v[i], e));
        TRY(data__walk(c->o->dirs.v[i], take_entry, c, e));
    }
    if (c->st->n_kept) return OK;
    return err_set(e, ERR_NOT_FOUND,
                   "%s: no file to keep, %llu with the wanted ending were looked at",
                   c->o->dirs.n ? c->o->dirs.v[0] : "no folder", (unsigned long long)c->st->n_seen);
}

Status data_collect(CollectStats *st, const CollectOpts *o, const char *path, Err *e) {
    Collect c = {.o = o, .st = st};
    *st = (CollectStats){0};
    data__near_init(&c.near, o->near_dup);
    Status s = io_writer_open(&c.out, path, data__can_replace(path), e);
    if (s == OK) s = collect_dirs(&c, e);
    if (s == OK) s = io_writer_close(&c.out, e);
    io_writer_abort(&c.out);
    data__exact_deinit(&c.exact);
    data__near_deinit(&c.near);
    sb_deinit(&c.text);
    sb_deinit(&c.line);
    sb_deinit(&c.name);
    return s;
}
