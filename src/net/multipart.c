/* SPDX-License-Identifier: Apache-2.0 */
#include "net/multipart.h"

#include <strings.h>

enum { MAX_BOUNDARY = 70 };

/* ---- parameters of a header: ; name=value or ; name="value" ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

static Slice skip_blanks(Slice s) {
    while (s.n > 0 && is_blank(s.p[0])) s.p++, s.n--;
    return s;
}

/* The value at the beginning of s, without quotes; *rest is behind it. A backslash takes the next character along. */
static Slice take_value(Slice *rest, Slice s) {
    bool quoted = s.n > 0 && s.p[0] == '"';
    size_t from = quoted, i = from;
    while (i < s.n && s.p[i] != (quoted ? '"' : ';')) i += quoted && s.p[i] == '\\' ? 2 : 1;
    i = MIN(i, s.n);
    Slice v = {s.p + from, i - from};
    while (!quoted && v.n > 0 && is_blank(v.p[v.n - 1])) v.n--;
    i = MIN(i + quoted, s.n);
    *rest = (Slice){s.p + i, s.n - i};
    return v;
}

/* The parameter of this name behind the first ';', or p NULL. The first of several. */
static Slice find_param(Slice header, const char *name) {
    size_t n_name = strlen(name);
    Slice rest;
    take_value(&rest, header);
    while (rest.n > 0) {
        if (rest.p[0] == ';') rest.p++, rest.n--;
        rest = skip_blanks(rest);
        const char *eq = memchr(rest.p, '=', rest.n);
        size_t n = eq ? (size_t)(eq - rest.p) : rest.n;
        bool found = eq && n == n_name && strncasecmp(rest.p, name, n) == 0;
        if (!eq) break;
        Slice v = take_value(&rest, (Slice){eq + 1, rest.n - n - 1});
        if (found) return v;
        while (rest.n > 0 && rest.p[0] != ';') rest.p++, rest.n--;
    }
    return (Slice){NULL, 0};
}

/* ---- the body ---- */

static Status find_boundary(char out[MAX_BOUNDARY + 5], size_t *n, Slice type, Err *e) {
    static const char want[] = "multipart/form-data";
    size_t k = sizeof want - 1;
    if (type.n < k || strncasecmp(type.p, want, k) != 0)
        return err_set(e, ERR_FORMAT, "Content-Type: want multipart/form-data");
    Slice b = find_param(type, "boundary");
    if (!b.p || b.n == 0 || b.n > MAX_BOUNDARY)
        return err_set(e, ERR_FORMAT, "Content-Type: want a boundary of 1 to %d bytes",
                       MAX_BOUNDARY);
    for (size_t i = 0; i < b.n; i++) {
        if (b.p[i] < 0x20 || b.p[i] >= 0x7f)
            return err_set(e, ERR_FORMAT, "Content-Type: a bad boundary");
    }
    memcpy(out, "\r\n--", 4);
    memcpy(out + 4, b.p, b.n);
    *n = b.n + 4;
    return OK;
}

static Slice find_header(Slice head, const char *name) {
    size_t n_name = strlen(name);
    while (head.n > 0) {
        const char *cr = memmem(head.p, head.n, "\r\n", 2);
        size_t n = cr ? (size_t)(cr - head.p) : head.n;
        if (n > n_name && head.p[n_name] == ':' && strncasecmp(head.p, name, n_name) == 0)
            return skip_blanks((Slice){head.p + n_name + 1, n - n_name - 1});
        n = MIN(n + 2, head.n);
        head.p += n;
        head.n -= n;
    }
    return (Slice){"", 0};
}

/* A part from its first header to the end of its data. */
static Status read_part(HttpPart *out, Slice part, Err *e) {
    bool bare = part.n >= 2 && memcmp(part.p, "\r\n", 2) == 0; /* no header at all */
    const char *end =
        bare ? part.p : memmem(part.p, MIN(part.n, HTTP_MAX_PART_HEAD), "\r\n\r\n", 4);
    if (!end) return err_set(e, ERR_FORMAT, "body: the head of a part does not end");
    Slice head = {part.p, (size_t)(end - part.p)};
    size_t skip = head.n + (bare ? 2 : 4);
    Slice form = find_header(head, "content-disposition");
    if (form.n < 9 || strncasecmp(form.p, "form-data", 9) != 0)
        return err_set(e, ERR_FORMAT, "body: a part is no form-data");
    out->name = find_param(form, "name");
    out->filename = find_param(form, "filename");
    out->data = (Slice){part.p + skip, part.n - skip};
    return out->name.p ? OK : err_set(e, ERR_FORMAT, "body: a part has no name");
}

/* Behind a boundary: more parts, or "--" for the end? */
static Status after_boundary(bool *more, Slice *rest, Err *e) {
    *more = true;
    if (rest->n >= 2 && memcmp(rest->p, "--", 2) == 0) {
        *more = false;
        return OK;
    }
    *rest = skip_blanks(*rest);
    if (rest->n < 2 || memcmp(rest->p, "\r\n", 2) != 0)
        return err_set(e, ERR_FORMAT, "body: a boundary is not followed by the end of its line");
    rest->p += 2;
    rest->n -= 2;
    return OK;
}

Status http_multipart(HttpPart parts[HTTP_MAX_PARTS], int *n, Slice content_type, Slice body,
                      Err *e) {
    char line[MAX_BOUNDARY + 5];
    size_t n_line = 0;
    bool more;
    *n = 0;
    TRY(find_boundary(line, &n_line, content_type, e));
    /* the first one may stand at the very beginning, without its line end */
    bool first = body.n >= n_line - 2 && memcmp(body.p, line + 2, n_line - 2) == 0;
    const char *end = body.p + body.n, *at = memmem(body.p, body.n, line, n_line);
    if (!first && !at) return err_set(e, ERR_FORMAT, "body: the boundary is not in it");
    Slice rest = {first ? body.p + n_line - 2 : at + n_line, 0};
    rest.n = (size_t)(end - rest.p);
    TRY(after_boundary(&more, &rest, e));
    while (more) {
        if (*n == HTTP_MAX_PARTS)
            return err_set(e, ERR_FORMAT, "body: more than %d parts", HTTP_MAX_PARTS);
        at = memmem(rest.p, rest.n, line, n_line);
        if (!at) return err_set(e, ERR_FORMAT, "body: the last boundary is missing");
        TRY(read_part(&parts[*n], (Slice){rest.p, (size_t)(at - rest.p)}, e));
        ++*n;
        rest = (Slice){at + n_line, (size_t)(end - at) - n_line};
        TRY(after_boundary(&more, &rest, e));
    }
    return OK;
}
