/* SPDX-License-Identifier: Apache-2.0
 * Inside api/, of keys: their text, and rows of the file. */
#ifndef INGOT_API_KEYS_INTERNAL_H
#define INGOT_API_KEYS_INTERNAL_H

#include "api/keys.h"
#include "base/sha.h"
#include "store/store.h"

enum {
    KEYS_ID_LEN = 8,
    KEYS_SECRET_LEN = 32,
    KEYS_CRC_LEN = 6,
    KEYS_TEXT_LEN = 3 + KEYS_ID_LEN + 1 + KEYS_SECRET_LEN + KEYS_CRC_LEN,
    KEYS_MAX_ROWS = 100000,
    KEYS_MAX_BASIC = 1024 /* bytes of user and password */
};

/* A row with its digest. */
typedef struct KeyEntry {
    KeyRow row;
    Sha256 digest;
} KeyEntry;

/* What keys.db is. */
extern const StoreSchema keys__schema;

/* ---- keys_text.c ---- */
/* A key nobody has seen yet, and its id. ERR_IO. */
MUST_CHECK Status keys__make(char text[KEYS_MAX_TEXT], char id[KEYS_MAX_ID], Err *e);
/* The password in "Basic BASE64(USER:PASSWORD)": its bytes in out; empty if the header is none, is not well-formed
 * (RFC 4648, RFC 7617) or too long. */
Slice keys__basic(char out[KEYS_MAX_BASIC], Slice header);
/* True and its id if this is a key of ours by form and check characters. */
bool keys__parse(char id[KEYS_MAX_ID], Slice text);
/* Whether text is an id by form. */
bool keys__is_id(Slice text);
/* 1 to 64 bytes of UTF-8 without control characters? */
MUST_CHECK Status keys__check_name(Slice name, Err *e);
/* Names with commas between, or empty? */
MUST_CHECK Status keys__check_models(Slice models, Err *e);
/* Is model one of the names, or are there none? */
bool keys__model_allowed(const char *models, Slice model);

/* ---- keys_file.c ---- */
/* keys.db for reading, as store_open_read; one of an earlier version is brought up to date first, where it may be written. */
MUST_CHECK Status keys__open_read(Store **out, const char *path, Err *e);
/* Every row of an open file, oldest first; fn's failure ends it. ERR_FORMAT a row that none of ours could be. */
MUST_CHECK Status keys__read(Store *s, Status (*fn)(void *ctx, const KeyEntry *k, Err *e),
                             void *ctx, Err *e);

#endif
