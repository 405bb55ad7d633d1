/* SPDX-License-Identifier: Apache-2.0
 * collect on folders made here: what is kept, in which order, and why the rest is not. */
#include "data/internal.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Tree {
    char root[128], out[160];
    CollectOpts o;
    CollectStats st;
    const char *dirs[3];
    StrBuf skipped; /* "reason path\n", paths below root */
} Tree;

static void note_skip(void *ctx, const char *path, CollectSkip why) {
    Tree *t = ctx;
    sb_printf(&t->skipped, "%s: %s\n", data_skip_name(why), path + strlen(t->root) + 1);
}

static void tree_init(Tree *t) {
    *t = (Tree){0};
    snprintf(t->root, sizeof t->root, "%s/tree", test_tmpdir());
    snprintf(t->out, sizeof t->out, "%s/docs.jsonl", test_tmpdir());
    EQ(mkdir(t->root, 0777), 0);
    t->dirs[0] = t->root;
    t->o = (CollectOpts){.dirs = {t->dirs, 1},
                         .min_chars = 20,
                         .max_bytes = 1 << 20,
                         .near_dup = 0.8,
                         .on_skip = note_skip,
                         .on_skip_ctx = t};
}

static void put(const Tree *t, const char *name, const void *bytes, size_t n) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", t->root, name);
    char *slash = strrchr(path, '/');
    *slash = 0;
    OK_(io_mkdirs(path, TERR));
    *slash = '/';
    FILE *f = fopen(path, "wb");
    TRUE_(f != NULL);
    EQ(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void put_str(const Tree *t, const char *name, const char *s) { put(t, name, s, strlen(s)); }

/* 60 lines that only `seed` has. */
static void put_code(const Tree *t, const char *name, int seed, const char *extra) {
    StrBuf b = {0};
    for (int i = 0; i < 60; i++)
        sb_printf(&b, "x%d_%d = f%d(y%d, %d)\n", seed, i, i, seed, i * seed);
    sb_puts(&b, extra);
    put(t, name, b.p, b.n);
    sb_deinit(&b);
}

/* "path path path" of the output. */
static void expect_docs(const Tree *t, const char *want) {
    DocReader *r = NULL;
    StrBuf got = {0};
    Slice path, text;
    OK_(data_docs_open(&r, t->out, TERR));
    for (bool more = true;;) {
        OK_(data_docs_next(r, &more, &path, &text, TERR));
        if (!more) break;
        if (got.n) sb_putc(&got, ' ');
        sb_put(&got, path.p, path.n);
    }
    EQ_STR(sb_str(&got), want);
    sb_deinit(&got);
    data_docs_close(r);
}

static void run(Tree *t) { OK_(data_collect(&t->st, &t->o, t->out, TERR)); }

TEST(walks_in_sorted_order_below_the_folders_name) {
    Tree t;
    tree_init(&t);
    put_code(&t, "b/z.py", 1, "");
    put_code(&t, "b/a.py", 2, "");
    put_code(&t, "a.py", 3, "");
    put_code(&t, "c.py", 4, "");
    put_code(&t, "b.py", 5, "");
    run(&t);
    expect_docs(&t, "tree/a.py tree/b/a.py tree/b/z.py tree/b.py tree/c.py");
    EQ(t.st.n_seen, 5);
    EQ(t.st.n_kept, 5);
    sb_deinit(&t.skipped);
}

TEST(says_why_a_file_is_not_kept) {
    Tree t;
    char from[256], to[256];
    tree_init(&t);
    put_code(&t, "keep.py", 1, "");
    put_str(&t, ".git/hook.py", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    put_str(&t, ".venv/lib/x.py", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    put_str(&t, "a/__pycache__/x.py", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    put_str(&t, "a/node_modules/x.py", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    put_str(&t, "empty.py", "");
    put_str(&t, "latin.py", "# caf\xe9 is not UTF-8, whatever else this line says\n");
    put(&t, "nul.py", "0123456789 0123456789\0 0123456789", 33);
    put_str(&t, "short.py", "x = 1\n");
    put_str(&t, "readme.md", "not looked at, not listed");
    t.o.max_bytes = 4000;
    char *big = mem_new_n(char, 5000);
    memset(big, 'x', 5000);
    put(&t, "big.py", big, 5000);
    mem_free(big);
    snprintf(from, sizeof from, "%s/keep.py", t.root);
    snprintf(to, sizeof to, "%s/link.py", t.root);
    EQ(symlink(from, to), 0);
    snprintf(to, sizeof to, "%s/loop.py", t.root);
    EQ(symlink(t.root, to), 0);
    snprintf(to, sizeof to, "%s/pipe.py", t.root);
    EQ(mkfifo(to, 0666), 0);
    run(&t);
    expect_docs(&t, "tree/keep.py");
    EQ_STR(sb_str(&t.skipped), "excluded folder: .git\n"
                               "excluded folder: .venv\n"
                               "excluded folder: a/__pycache__\n"
                               "excluded folder: a/node_modules\n"
                               "too large: big.py\n"
                               "too short: empty.py\n"
                               "not UTF-8 text: latin.py\n"
                               "link or special: link.py\n"
                               "link or special: loop.py\n"
                               "not UTF-8 text: nul.py\n"
                               "link or special: pipe.py\n"
                               "too short: short.py\n");
    EQ(t.st.n_skip[SKIP_SUFFIX], 1);
    EQ(t.st.n_skip[SKIP_FOLDER], 4);
    sb_deinit(&t.skipped);
}

TEST(length_is_in_characters_and_must_be_more) {
    Tree t;
    tree_init(&t);
    t.o.min_chars = 10;
    t.o.near_dup = 0;
    put_str(&t, "ten.py", "0123456789");
    put_str(&t, "eleven.py", "0123456789a");
    put_str(&t, "wide.py",
            "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9");
    put_str(&t, "wider.py",
            "\xf0\x9f\x98\x80\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3"
            "\xa9z");
    run(&t);
    expect_docs(&t, "tree/eleven.py tree/wider.py");
    EQ(t.st.n_chars, 22);
    EQ(t.st.n_bytes, 11 + 4 + 18 + 1);
    sb_deinit(&t.skipped);
}

TEST(first_of_duplicates_is_kept) {
    Tree t;
    tree_init(&t);
    put_code(&t, "a.py", 7, "");
    put_code(&t, "b.py", 7, "");           /* the same bytes */
    put_code(&t, "c.py", 7, "print(1)\n"); /* one line more */
    put_code(&t, "d.py", 8, "");           /* another text */
    put_code(&t, "e/a.py", 8, "# a remark at the end\n");
    run(&t);
    expect_docs(&t, "tree/a.py tree/d.py");
    EQ_STR(sb_str(&t.skipped),
           "exact duplicate: b.py\nnear duplicate: c.py\nnear duplicate: e/a.py\n");
    t.o.near_dup = 0;
    run(&t);
    expect_docs(&t, "tree/a.py tree/c.py tree/d.py tree/e/a.py");
    sb_deinit(&t.skipped);
}

TEST(several_folders_and_endings) {
    Tree t;
    char one[256], two[256];
    static const char *ends[] = {".py", "txt"};
    tree_init(&t);
    put_code(&t, "one/a.py", 1, "");
    put_code(&t, "one/b.txt", 2, "");
    put_code(&t, "one/c.md", 3, "");
    put_code(&t, "one/footxt", 4, ""); /* "txt" means ".txt" */
    put_code(&t, "two/a.py", 5, "");
    put_code(&t, "two/z.py", 1, ""); /* the same as one/a.py */
    snprintf(one, sizeof one, "%s/one///", t.root);
    snprintf(two, sizeof two, "%s/one/../two/.", t.root);
    t.dirs[0] = one;
    t.dirs[1] = two;
    t.o.dirs.n = 2;
    t.o.exts = (OptList){ends, 2};
    run(&t);
    expect_docs(&t, "one/a.py one/b.txt two/a.py");
    EQ(t.st.n_skip[SKIP_SUFFIX], 2);
    EQ(t.st.n_skip[SKIP_EXACT], 1);
    sb_deinit(&t.skipped);
}

TEST(absent_folder_leaves_the_old_output) {
    Tree t;
    tree_init(&t);
    put_code(&t, "a.py", 1, "");
    run(&t);
    t.dirs[1] = "/nonexistent/folder";
    t.o.dirs.n = 2;
    FAILS(ERR_NOT_FOUND, data_collect(&t.st, &t.o, t.out, TERR));
    TRUE_(strstr(test_err.msg, "/nonexistent/folder") != NULL);
    expect_docs(&t, "tree/a.py");
    sb_deinit(&t.skipped);
}

TEST(a_file_is_not_a_folder) {
    Tree t;
    char file[256];
    tree_init(&t);
    put_code(&t, "a.py", 1, "");
    snprintf(file, sizeof file, "%s/a.py", t.root);
    t.dirs[0] = file;
    FAILS(ERR_IO, data_collect(&t.st, &t.o, t.out, TERR));
    FALSE_(io_exists(t.out));
}

TEST(nothing_kept_is_an_error) {
    Tree t;
    tree_init(&t);
    put_str(&t, "a.py", "");
    FAILS(ERR_NOT_FOUND, data_collect(&t.st, &t.o, t.out, TERR));
    EQ(t.st.n_skip[SKIP_SHORT], 1);
    FALSE_(io_exists(t.out));
    sb_deinit(&t.skipped);
}

TEST(stops_when_asked_and_leaves_nothing) {
    Tree t;
    atomic_int stop = 1;
    char tmp[256];
    tree_init(&t);
    put_code(&t, "a.py", 1, "");
    t.o.progress.stop = &stop;
    FAILS(ERR_CANCELLED, data_collect(&t.st, &t.o, t.out, TERR));
    snprintf(tmp, sizeof tmp, "%s.tmp", t.out);
    FALSE_(io_exists(t.out));
    FALSE_(io_exists(tmp));
}

TEST(odd_names) {
    Tree t;
    tree_init(&t);
    put_code(&t, "new\nline.py", 1, "");
    put_code(&t, "quo\"te.py", 2, "");
    put_code(&t, "bad\xff name.py", 3, "");
    put_code(&t, ".py", 4, ""); /* no name before the ending */
    run(&t);
    expect_docs(&t, "tree/bad\xef\xbf\xbd name.py tree/new\nline.py tree/quo\"te.py");
    sb_deinit(&t.skipped);
}

TEST(folders_deeper_than_a_path_may_be_long) {
    Tree t;
    char name[201];
    tree_init(&t);
    put_code(&t, "a.py", 1, "");
    memset(name, 'd', 200);
    name[200] = 0;
    char *home = getcwd(NULL, 0);
    EQ(chdir(t.root), 0);
    for (int i = 0; i < 30; i++) {
        EQ(mkdir(name, 0777), 0);
        EQ(chdir(name), 0);
    }
    EQ(chdir(home), 0);
    free(home);
    run(&t);
    expect_docs(&t, "tree/a.py");
    EQ(t.st.n_skip[SKIP_UNREADABLE], 1);
    sb_deinit(&t.skipped);
}

TEST(text_comes_back_byte_for_byte) {
    Tree t;
    DocReader *r = NULL;
    Slice path, text;
    bool more = false;
    static const char all[] =
        "\x01\x02\t\r\n\"\\/\x7f\xc2\x80\xe2\x80\xa8\xf0\x9f\x98\x80 end of the text, that is all";
    tree_init(&t);
    put_str(&t, "a.py", all);
    run(&t);
    OK_(data_docs_open(&r, t.out, TERR));
    OK_(data_docs_next(r, &more, &path, &text, TERR));
    EQ(text.n, strlen(all));
    EQ_MEM(text.p, all, text.n);
    data_docs_close(r);
    sb_deinit(&t.skipped);
}

TEST(skip_names_are_all_there) {
    for (int i = 0; i < SKIP_REASONS; i++)
        TRUE_(data_skip_name((CollectSkip)i) && data_skip_name((CollectSkip)i)[0]);
    EQ_STR(data_skip_name(SKIP_NEAR), "near duplicate");
}
