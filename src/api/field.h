/* SPDX-License-Identifier: Apache-2.0
 * Fields of JSON bodies: one table row gives the name, the type, the range, the default and the words. The same row
 * reads and checks a request, stands in /openapi.json and is what tests walk over. Values land in a caller's
 * struct at `offset`.
 *
 * Unknown members are ignored: clients send what newer servers know. null is the default, unless the row says that
 * it is zero. A wrong type or a value out of range is ERR_ARG in one line that begins with the field's name. */
#ifndef INGOT_API_FIELD_H
#define INGOT_API_FIELD_H

#include "text/json.h"

typedef enum ApiType {
    API_INT,  /* int64_t; 3.0 is one too */
    API_NUM,  /* double */
    API_BOOL, /* bool */
    API_STR,  /* Slice, borrowed from the body */
    API_STRS, /* const Json *: a string or an array of strings, borrowed */
    API_JSON  /* const Json *: one of `kinds`, borrowed */
} ApiType;

typedef struct ApiField {
    const char *key;
    ApiType type;
    size_t offset;     /* of the value in the target struct */
    double min, max;   /* INT, NUM: the value; STR: bytes; STRS and arrays: elements. Both 0: any */
    const char *def;   /* default as text; NULL leaves the field as it was */
    bool above_min;    /* NUM: min itself is out of range */
    bool null_is_zero; /* null switches it off */
    bool required;     /* absent or null is ERR_ARG "field required" */
    const char *choices; /* STR: "a|b|c" */
    unsigned kinds;      /* JSON: API_KIND() of those allowed */
    const char *schema;  /* its JSON Schema as text; NULL: made from the row */
    const char *help;    /* one line; NULL: understood as an alias and not shown */
} ApiField;

#define API_KIND(k) (1u << JSON_KIND_##k)

/* Rows that several requests share are lists of their own: a request is a list of lists. */
typedef struct ApiFields {
    const ApiField *v;
    int n;
} ApiFields;

enum { API_MAX_LISTS = 6 };
typedef struct ApiSchema {
    const char *name; /* in /openapi.json: "ChatRequest" */
    ApiFields lists[API_MAX_LISTS];
} ApiSchema;

/* Store the defaults and read `body`. On failure *param is the field's name (static), or NULL if the body as a
 * whole is wrong. `out` borrows from body. */
MUST_CHECK Status api_read(void *out, const ApiSchema *s, const Json *body, const char **param,
                           Err *e);
/* The row of a name, or NULL. */
const ApiField *api_find(const ApiSchema *s, Slice key);
/* The field (static) that a message of the form "field: ..." or "field.part: ..." speaks of, or NULL. */
const char *api_field_of(const ApiSchema *s, const char *msg);
/* Append the JSON Schema object of a request. */
void api_put_schema(JsonW *w, const char *key, const ApiSchema *s);

#endif
