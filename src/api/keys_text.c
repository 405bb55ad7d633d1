/* SPDX-License-Identifier: Apache-2.0
 * The text of keys, of their scopes and models. */
#include <strings.h>

#include "api/keys_internal.h"
#include "base/rng.h"
#include "text/utf8.h"

static const char digits62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static bool is_digit62(char ch) {
    return (ch >= '0' && ch <= '9') || (ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z');
}

static bool all_digit62(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!is_digit62(p[i])) return false;
    }
    return true;
}

/* n random digits. A byte of 248 and more is thrown away: 248 = 4 * 62, so that all digits are equally likely. */
static Status random_digits(char *p, size_t n, Err *e) {
    uint8_t b[64];
    for (size_t i = 0; i < n;) {
        TRY(rng_secret(b, sizeof b, e));
        for (size_t j = 0; j < sizeof b && i < n; j++) {
            if (b[j] < 248) p[i++] = digits62[b[j] % 62];
        }
    }
    return OK;
}

/* CRC-32 of IEEE 802.3, as zlib's. */
static uint32_t crc32_of(const char *p, size_t n) {
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        c ^= (uint8_t)p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

static void put_crc(char *out, const char *text) {
    uint32_t c = crc32_of(text, KEYS_TEXT_LEN - KEYS_CRC_LEN);
    for (int i = KEYS_CRC_LEN - 1; i >= 0; i--, c /= 62) out[i] = digits62[c % 62];
}

Status keys__make(char text[KEYS_MAX_TEXT], char id[KEYS_MAX_ID], Err *e) {
    char t[KEYS_MAX_TEXT] = "sk-";
    TRY(random_digits(t + 3, KEYS_ID_LEN, e));
    t[3 + KEYS_ID_LEN] = '-';
    TRY(random_digits(t + 3 + KEYS_ID_LEN + 1, KEYS_SECRET_LEN, e));
    put_crc(t + KEYS_TEXT_LEN - KEYS_CRC_LEN, t);
    memcpy(text, t, sizeof t);
    memcpy(id, t + 3, KEYS_ID_LEN);
    id[KEYS_ID_LEN] = '\0';
    return OK;
}

bool keys__is_id(Slice text) { return text.n == KEYS_ID_LEN && all_digit62(text.p, text.n); }

bool keys__parse(char id[KEYS_MAX_ID], Slice text) {
    char crc[KEYS_CRC_LEN];
    if (text.n != KEYS_TEXT_LEN || memcmp(text.p, "sk-", 3) != 0) return false;
    if (text.p[3 + KEYS_ID_LEN] != '-' || !all_digit62(text.p + 3, KEYS_ID_LEN)) return false;
    if (!all_digit62(text.p + 12, KEYS_SECRET_LEN + KEYS_CRC_LEN)) return false;
    put_crc(crc, text.p);
    if (memcmp(crc, text.p + KEYS_TEXT_LEN - KEYS_CRC_LEN, KEYS_CRC_LEN) != 0) return false;
    memcpy(id, text.p + 3, KEYS_ID_LEN);
    id[KEYS_ID_LEN] = '\0';
    return true;
}

/* ---- "Basic", which browsers send for pages ---- */

/* Value of a base64 digit, or -1. */
static int digit64(char ch) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = ch ? strchr(digits, ch) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Bytes that t stands for, in out; -1 if it is no base64 with its padding, or over max bytes. */
static int decode64(char *out, int max, Slice t) {
    int n = 0;
    size_t pad = t.n > 1 && t.p[t.n - 1] == '=' ? 1 + (t.p[t.n - 2] == '=') : 0;
    uint32_t bits = 0;
    if (t.n % 4 != 0 || t.n / 4 * 3 > (size_t)max + pad) return -1;
    for (size_t i = 0; i < t.n - pad; i++) {
        int d = digit64(t.p[i]);
        if (d < 0) return -1;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4 != 0) out[n++] = (char)(bits >> (6 - 2 * (i % 4)) & 0xff);
    }
    return n;
}

Slice keys__basic(char out[KEYS_MAX_BASIC], Slice header) {
    static const char word[] = "basic";
    const Slice none = {"", 0};
    size_t at = sizeof word - 1;
    if (header.n <= at || strncasecmp(header.p, word, at) != 0 || header.p[at] != ' ') return none;
    while (at < header.n && header.p[at] == ' ') at++;
    int n = decode64(out, KEYS_MAX_BASIC, (Slice){header.p + at, header.n - at});
    const char *colon = n > 0 ? memchr(out, ':', (size_t)n) : NULL;
    return colon ? (Slice){colon + 1, (size_t)(out + n - colon - 1)} : none;
}

/* ---- names and models ---- */

Status keys__check_name(Slice name, Err *e) {
    if (name.n == 0 || name.n >= KEYS_MAX_NAME)
        return err_set(e, ERR_ARG, "name of a key: %zu bytes, want 1 to %d", name.n,
                       KEYS_MAX_NAME - 1);
    uint32_t cp = 0;
    for (size_t i = 0, k; i < name.n; i += k) {
        k = (size_t)utf8_decode(&cp, name.p + i, name.n - i);
        if (k == 0 || cp < 0x20 || (cp >= 0x7f && cp < 0xa0))
            return err_set(e, ERR_ARG, "name of a key: not printable UTF-8 at byte %zu", i);
    }
    return OK;
}

static bool is_model_byte(char ch) {
    return is_digit62(ch) || (ch != '\0' && strchr("._/:@+-", ch) != NULL);
}

/* The part of *rest before the next comma; *rest goes behind it. True if there was one: another word follows. */
static bool next_word(Slice *word, Slice *rest) {
    const char *comma = rest->n > 0 ? memchr(rest->p, ',', rest->n) : NULL;
    size_t n = comma ? (size_t)(comma - rest->p) : rest->n;
    *word = (Slice){rest->p, n};
    *rest = (Slice){rest->p + n + (comma != NULL), rest->n - n - (comma != NULL)};
    return comma != NULL;
}

static Status check_model(Slice w, Err *e) {
    bool star = w.n > 0 && w.p[w.n - 1] == '*';
    if (w.n == 0) return err_set(e, ERR_ARG, "models of a key: an empty name");
    for (size_t i = 0; i < w.n - star; i++) {
        if (!is_model_byte(w.p[i]))
            return err_set(e, ERR_ARG, "models of a key: byte 0x%02x in a name",
                           (unsigned)(uint8_t)w.p[i]);
    }
    return OK;
}

Status keys__check_models(Slice models, Err *e) {
    if (models.n > KEYS_MAX_MODELS)
        return err_set(e, ERR_ARG, "models of a key: %zu bytes, limit %d", models.n,
                       KEYS_MAX_MODELS);
    Slice w, rest = models;
    for (bool more = models.n > 0; more;) {
        more = next_word(&w, &rest);
        TRY(check_model(w, e));
    }
    return OK;
}

bool keys__model_allowed(const char *models, Slice model) {
    Slice w, rest = slice_of(models);
    for (bool more = true; more;) {
        more = next_word(&w, &rest);
        bool star = w.n > 0 && w.p[w.n - 1] == '*';
        size_t n = w.n - star;
        if (model.n < n || (!star && model.n != n)) continue;
        if (n == 0 || memcmp(model.p, w.p, n) == 0) return true;
    }
    return !models[0];
}

/* ---- scopes ---- */

static const struct {
    const char *word;
    uint32_t bits;
} scopes_table[] = {
    {"inference", KEY_SCOPE_INFERENCE},
    {"batch", KEY_SCOPE_BATCH},
    {"feedback", KEY_SCOPE_FEEDBACK},
    {"admin", KEY_SCOPE_ADMIN},
    {"all", KEY_SCOPE_ALL},
};

Status keys_scopes_parse(uint32_t *out, const char *text, Err *e) {
    uint32_t bits = 0;
    Slice w, rest = slice_of(text);
    for (bool more = true; more;) {
        uint32_t found = 0;
        more = next_word(&w, &rest);
        for (size_t i = 0; i < COUNT_OF(scopes_table); i++) {
            if (slice_eq_str(w, scopes_table[i].word)) found = scopes_table[i].bits;
        }
        if (!found)
            return err_set(e, ERR_ARG,
                           "scope \"%.*s\": want inference, batch, feedback, admin or all",
                           (int)MIN(w.n, 40), w.p);
        bits |= found;
    }
    *out = bits;
    return OK;
}

void keys_scopes_format(StrBuf *b, uint32_t scopes) {
    bool any = false;
    for (size_t i = 0; i < COUNT_OF(scopes_table); i++) {
        uint32_t bits = scopes_table[i].bits;
        if (bits == KEY_SCOPE_ALL || (scopes & bits) != bits) continue;
        if (any) sb_putc(b, ',');
        sb_puts(b, scopes_table[i].word);
        any = true;
    }
}
