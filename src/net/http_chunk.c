/* SPDX-License-Identifier: Apache-2.0
 * The framing of a chunked body, byte by byte: exactly CRLF where CRLF belongs, sizes of 1 to 16 digits,
 * no control bytes, bounded extensions and trailers. Only judges; http-parser takes the bytes apart. */
#include "net/http_parse.h"

static int hex_value(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    if (ch >= 'a' && ch <= 'f') return ch - 'a' + 10;
    if (ch >= 'A' && ch <= 'F') return ch - 'A' + 10;
    return -1;
}

static bool is_text(char ch) {
    unsigned char u = (unsigned char)ch;
    return u == '\t' || (u >= 0x20 && u != 0x7f);
}

static ChunkState size_byte(ChunkScan *c, char ch) {
    int v = hex_value(ch);
    if (v >= 0 && c->n_digits < 16) {
        c->left = c->left << 4 | (uint64_t)v;
        c->n_digits++;
        return CHUNK_SIZE;
    }
    if (c->n_digits == 0) return CHUNK_BAD;
    return ch == '\r' ? CHUNK_SIZE_LF : ch == ';' ? CHUNK_EXT : CHUNK_BAD;
}

/* A byte of an extension or a trailer line; `stay` is the state they are read in. */
static ChunkState extra_byte(ChunkScan *c, char ch, ChunkState stay, ChunkState on_cr) {
    if (ch == '\r') return on_cr;
    return is_text(ch) && ++c->n_extra <= HTTP_MAX_CHUNK_EXTRA ? stay : CHUNK_BAD;
}

static ChunkState next_size(ChunkScan *c) {
    c->left = 0;
    c->n_digits = 0;
    return CHUNK_SIZE;
}

static ChunkState step(ChunkScan *c, char ch) {
    switch (c->state) {
    case CHUNK_SIZE: return size_byte(c, ch);
    case CHUNK_EXT: return extra_byte(c, ch, CHUNK_EXT, CHUNK_SIZE_LF);
    case CHUNK_SIZE_LF: return ch != '\n' ? CHUNK_BAD : c->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
    case CHUNK_DATA: return --c->left > 0 ? CHUNK_DATA : CHUNK_DATA_CR;
    case CHUNK_DATA_CR: return ch == '\r' ? CHUNK_DATA_LF : CHUNK_BAD;
    case CHUNK_DATA_LF: return ch == '\n' ? next_size(c) : CHUNK_BAD;
    case CHUNK_TRAILER:
        if (ch == ' ' || ch == '\t') return CHUNK_BAD;
        return extra_byte(c, ch, CHUNK_TRAILER_LINE, CHUNK_END_LF);
    case CHUNK_TRAILER_LINE: return extra_byte(c, ch, CHUNK_TRAILER_LINE, CHUNK_TRAILER_LF);
    case CHUNK_TRAILER_LF: return ch == '\n' ? CHUNK_TRAILER : CHUNK_BAD;
    case CHUNK_END_LF: return ch == '\n' ? CHUNK_END : CHUNK_BAD;
    case CHUNK_END:
    case CHUNK_BAD: break;
    }
    return c->state;
}

size_t http__chunk_scan(ChunkScan *c, const char *d, size_t n) {
    size_t i = 0;
    while (i < n && c->state != CHUNK_END && c->state != CHUNK_BAD) {
        if (c->state == CHUNK_DATA && c->left > 1) { /* all but the last data byte at once */
            size_t k = (size_t)MIN(c->left - 1, (uint64_t)(n - i));
            c->left -= k;
            i += k;
            continue;
        }
        c->state = step(c, d[i]);
        if (c->state != CHUNK_BAD) i++;
    }
    return i;
}
