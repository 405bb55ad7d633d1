/* SPDX-License-Identifier: Apache-2.0 */
#include "net/multipart.h"

#include <stdio.h>

#include "test.h"

static HttpPart parts[HTTP_MAX_PARTS];
static int n_parts;

static Status cut(const char *type, const char *body) {
    return http_multipart(parts, &n_parts, slice_of(type), slice_of(body), TERR);
}

static void part_is(int i, const char *name, const char *filename, const char *data) {
    TRUE_(slice_eq_str(parts[i].name, name));
    EQ(parts[i].filename.p != NULL, filename != NULL);
    if (filename) TRUE_(slice_eq_str(parts[i].filename, filename));
    TRUE_(slice_eq_str(parts[i].data, data));
}

#define TYPE "multipart/form-data; boundary=xyz"

TEST(a_field_and_a_file) {
    OK_(cut(TYPE, "--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
                  "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n"
                  "Content-Type: application/x\r\n\r\n{\"a\": \"--xyz\"}\n\r\n--xyz--\r\n"));
    EQ(n_parts, 2);
    part_is(0, "purpose", NULL, "batch");
    part_is(1, "file", "a.jsonl", "{\"a\": \"--xyz\"}\n");
}

TEST(other_ways_to_write_it) {
    OK_(cut("Multipart/Form-Data; charset=utf-8; BOUNDARY=\"x y\"",
            "preamble\r\n--x y "
            "\t\r\ncontent-disposition:form-data;name=a;filename=b\r\n\r\n\r\n--x y--"));
    EQ(n_parts, 1);
    part_is(0, "a", "b", "");
    OK_(cut(
        TYPE,
        "--xyz\r\nContent-Disposition: form-data; filename=\"a\\\"; name=x\"; name=\"f\"\r\n\r\n"
        "1\r\n--xyz--"));
    part_is(0, "f", "a\\\"; name=x", "1");
    OK_(cut(TYPE, "--xyz--"));
    EQ(n_parts, 0);
}

TEST(what_is_no_form) {
    static const char whole[] =
        "--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--xyz--";
    FAILS(ERR_FORMAT, cut("application/json", whole));
    FAILS(ERR_FORMAT, cut("multipart/form-data", whole));
    FAILS(ERR_FORMAT, cut("multipart/form-data; boundary=", whole));
    FAILS(ERR_FORMAT, cut("multipart/form-data; boundary=\"a\x01\"", whole));
    FAILS(ERR_FORMAT, cut("multipart/form-data; boundary="
                          "12345678901234567890123456789012345678901234567890123456789012345678901",
                          whole));
    FAILS(ERR_FORMAT, cut("multipart/form-data; boundary=other", whole));
    FAILS(ERR_FORMAT, cut(TYPE, ""));
    FAILS(ERR_FORMAT, cut(TYPE, "--xyz\r\nContent-Type: x\r\n\r\nb\r\n--xyz--"));
    FAILS(ERR_FORMAT, cut(TYPE, "--xyz\r\nContent-Disposition: form-data\r\n\r\nb\r\n--xyz--"));
    FAILS(ERR_FORMAT, cut(TYPE, "--xyz\r\nContent-Disposition: form-data; name=a\r\n--xyz--"));
    FAILS(ERR_FORMAT, cut(TYPE, "--xyzb\r\n\r\n--xyz--"));
    OK_(cut(TYPE, whole));
    for (size_t n = 0; n + 2 < sizeof whole; n++) { /* every cut of it */
        Slice body = {whole, n};
        FAILS(ERR_FORMAT, http_multipart(parts, &n_parts, slice_of(TYPE), body, TERR));
    }
}

TEST(too_many_parts_and_headers) {
    StrBuf b = {0};
    for (int i = 0; i <= HTTP_MAX_PARTS; i++)
        sb_puts(&b, "--xyz\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n");
    sb_puts(&b, "--xyz--");
    FAILS(ERR_FORMAT, cut(TYPE, sb_str(&b)));
    EQ(n_parts, HTTP_MAX_PARTS);
    sb_clear(&b);
    sb_puts(&b, "--xyz\r\nContent-Disposition: form-data; name=a\r\nX: ");
    for (int i = 0; i < HTTP_MAX_PART_HEAD; i++) sb_putc(&b, 'x');
    sb_puts(&b, "\r\n\r\nb\r\n--xyz--");
    FAILS(ERR_FORMAT, cut(TYPE, sb_str(&b)));
    sb_deinit(&b);
}
