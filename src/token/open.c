/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokenizers out of files.
 */
#include "token/internal.h"

enum { JSON_MAX = 256 << 20 };

static Status open_gguf(Tokenizer **out, const char *path, Err *e) {
    Gguf *g = NULL;
    TRY(gguf_open(&g, path, e));
    Status st = tok_load(out, g, e);
    gguf_close(g);
    if (st != OK) err_in(e, path);
    return st;
}

/* tokenizer_config.json beside path, if it is there. */
static Status read_config(StrBuf *b, const char *path, Err *e) {
    StrBuf name = {0};
    const char *slash = strrchr(path, '/');
    sb_put(&name, path, slash ? (size_t)(slash - path) + 1 : 0);
    sb_puts(&name, "tokenizer_config.json");
    Status st = sb_check(&name, e);
    if (st == OK && io_exists(name.p)) st = io_read_file(b, name.p, JSON_MAX, e);
    sb_deinit(&name);
    return st;
}

static Status open_json(Tokenizer **out, const char *path, Err *e) {
    StrBuf text = {0}, config = {0};
    Status st = io_read_file(&text, path, JSON_MAX, e);
    if (st == OK) st = read_config(&config, path, e);
    if (st == OK) {
        st = tok_load_json(out, (Slice){sb_str(&text), text.n}, (Slice){sb_str(&config), config.n},
                           e);
        if (st != OK) err_in(e, path);
    }
    sb_deinit(&text);
    sb_deinit(&config);
    return st;
}

Status tok_open(Tokenizer **out, const char *path, Err *e) {
    size_t n = strlen(path);
    bool json = n > 5 && !strcmp(path + n - 5, ".json");
    return json ? open_json(out, path, e) : open_gguf(out, path, e);
}
