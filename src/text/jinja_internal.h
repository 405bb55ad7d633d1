/* SPDX-License-Identifier: Apache-2.0
 * Between the parts of the template engine: tokens (jinja_lex.c), tree (jinja_parse.c, jinja_expr.c), values
 * (jinja_value.c, jinja_repr.c), evaluation (jinja_eval.c, jinja_exec.c, jinja_macro.c, jinja_call.c), and the tables
 * of filters, tests and methods. Everything of a render lives in one arena and goes with it. */
#ifndef INGOT_TEXT_JINJA_INTERNAL_H
#define INGOT_TEXT_JINJA_INTERNAL_H

#include "base/arena.h"
#include "text/jinja.h"

enum {
    JINJA_MAX_SOURCE = 4 << 20,
    JINJA_MAX_NAME = 256,
    JINJA_MAX_NEST = 120,    /* expressions in expressions, blocks in blocks */
    JINJA_MAX_DEPTH = 1000,  /* nodes being evaluated, through macros */
    JINJA_MAX_VALUE = 100,   /* lists in lists that are printed or compared */
    JINJA_MAX_RANGE = 100000 /* as in Jinja's sandbox */
};

/* ---- tokens ---- */

typedef enum JTokKind {
    JT_END,
    JT_TEXT,
    JT_VAR_BEGIN,
    JT_VAR_END,
    JT_BLOCK_BEGIN,
    JT_BLOCK_END,
    JT_NAME,
    JT_STR,
    JT_INT,
    JT_REAL,
    JT_OP
} JTokKind;

typedef struct JTok {
    JTokKind kind;
    uint32_t line, col;
    Slice s; /* text, name, string with its escapes resolved, operator */
    int64_t i;
    double d;
} JTok;

typedef struct JToks {
    JTok *v; /* in the arena */
    size_t n, cap;
} JToks;

/* All tokens of a source, JT_END last. Slices lie in the arena. */
MUST_CHECK Status jinja__lex(JToks *out, Arena *mem, Slice source, Err *e);

/* ---- tree ---- */

typedef enum JNodeKind {
    JN_TEXT,     /* s */
    JN_PRINT,    /* a */
    JN_IF,       /* a: condition, b: body, c: else */
    JN_FOR,      /* a: target, b: list, c: body, d: else, f: condition; op: recursive */
    JN_SET,      /* a: target, b: value */
    JN_SETBLOCK, /* a: target, b: filters or NULL, c: body */
    JN_MACRO,  /* s: name, a: parameters (names, their default in a), c: body; i: JINJA_SEES_... */
    JN_CALLER, /* a: call, b: parameters, c: body; i: as above */
    JN_FILTERED, /* b: filters, c: body */
    JN_WITH,     /* a: targets and values in turn, c: body */
    JN_SPANNED,  /* c: body of generation */
    JN_BREAK,
    JN_CONTINUE,
    JN_STR, /* s */
    JN_INT,
    JN_REAL,
    JN_BOOL, /* i */
    JN_NONE,
    JN_NAME,    /* s */
    JN_LIST,    /* a: items */
    JN_TUPLE,   /* a: items */
    JN_DICT,    /* a: keys and values in turn */
    JN_ATTR,    /* a, s */
    JN_ITEM,    /* a, b */
    JN_SLICE,   /* a: start, b: stop, c: step, each may be NULL */
    JN_CALL,    /* a: callee, b: arguments */
    JN_KWARG,   /* s, a */
    JN_SPREAD,  /* a; op: * for a list of arguments, p (**) for named ones */
    JN_FILTER,  /* s, a: operand (NULL: the text of the block), b: arguments */
    JN_TEST,    /* s, a, b: arguments; op: negated */
    JN_NEG,     /* a */
    JN_POS,     /* a */
    JN_NOT,     /* a */
    JN_AND,     /* a, b */
    JN_OR,      /* a, b */
    JN_BIN,     /* a, b, op: + - * / f(//) % p(**) ~ */
    JN_COMPARE, /* a, b: chain of JN_CMP */
    JN_CMP,     /* a: right side; op: = ! < > l(<=) g(>=) i(in) n(not in) */
    JN_COND     /* a: condition, b: then, c: else or NULL */
} JNodeKind;

/* Names that make a macro take what it has no parameter for. */
enum { JINJA_SEES_VARARGS = 1, JINJA_SEES_KWARGS = 2, JINJA_SEES_CALLER = 4 };

typedef struct JNode JNode;
struct JNode {
    JNodeKind kind;
    char op;
    uint32_t line, col;
    Slice s;
    int64_t i;
    double real;
    JNode *a, *b, *c, *d, *f;
    JNode *next; /* in a list of siblings */
};

typedef struct JParser {
    const JTok *t; /* the current token */
    Arena *mem;
    int nest, loops;
    int sees; /* JINJA_SEES_... of the names so far */
    Err *e;
} JParser;

/* A list of siblings being built. */
typedef struct JChain {
    JNode *first, **last;
} JChain;

JNode *jinja__node(JParser *p, JNodeKind kind);
void jinja__chain(JChain *c, JNode *n);
/* ERR_FORMAT at the current token. */
Status jinja__unexpected(JParser *p, const char *wanted);
bool jinja__at_op(const JParser *p, const char *op);
bool jinja__at_name(const JParser *p, const char *name);
bool jinja__skip_op(JParser *p, const char *op);
bool jinja__skip_name(JParser *p, const char *name);
MUST_CHECK Status jinja__want_op(JParser *p, const char *op);
MUST_CHECK Status jinja__parse_expr(JParser *p, JNode **out, bool with_cond);
/* One expression, or several with commas as a tuple; ends before the name `stop` (NULL: none). */
MUST_CHECK Status jinja__parse_tuple(JParser *p, JNode **out, bool with_cond, const char *stop);
/* Something to assign to: names and tuples of names, attributes of a namespace too. */
MUST_CHECK Status jinja__parse_target(JParser *p, JNode **out, bool with_attr);
MUST_CHECK Status jinja__parse_args(JParser *p, JNode **out);
/* name(args) | name ... onto *node, which may be NULL. */
MUST_CHECK Status jinja__parse_filter(JParser *p, JNode **node);
MUST_CHECK Status jinja__nest(JParser *p);
/* The statements of a source. */
MUST_CHECK Status jinja__parse_body(JNode **out, const JToks *toks, Arena *mem, Err *e);

struct Jinja {
    Arena mem;
    JNode *body;
};

/* ---- values ---- */

typedef enum JKind {
    JV_UNDEF, /* s: the name */
    JV_NONE,
    JV_BOOL,
    JV_INT,
    JV_REAL,
    JV_STR,
    JV_LIST,
    JV_DICT,
    JV_SPACE, /* namespace: a dict that can be written to */
    JV_FUNC,
    JV_LOOP
} JKind;

/* What a list is to Python. Up to ranges they have elements by number; a lazy one gives each element once. */
typedef enum JListKind {
    JL_LIST,
    JL_TUPLE,
    JL_GROUP, /* a tuple of groupby: grouper, list */
    JL_RANGE,
    JL_KEYS,
    JL_VALUES,
    JL_ITEMS,
    JL_LAZY
} JListKind;

typedef struct JVal JVal;
typedef struct JList JList;
typedef struct JDict JDict;
typedef struct JFunc JFunc;
typedef struct JLoop JLoop;
struct JVal {
    JKind kind;
    bool safe; /* of a text: Markup, what joins it is escaped */
    union {
        bool b;
        int64_t i;
        double d;
        Slice s;
        JList *list;
        JDict *dict;
        JFunc *func;
        JLoop *loop;
    };
};
struct JList {
    JVal *v;
    size_t n, cap;
    JListKind kind;
    size_t n_taken;   /* of a lazy one */
    int64_t range[3]; /* start, stop, step of a range */
};
struct JDict {
    JVal *key, *val;
    size_t n, cap;
};

typedef struct JVar {
    Slice name;
    JVal v;
    struct JVar *next;
} JVar;
typedef struct JScope {
    struct JScope *up;
    JVar *vars;
} JScope;

typedef enum JFuncKind {
    JF_GLOBAL,
    JF_METHOD,
    JF_MACRO,
    JF_CALLER,
    JF_CYCLER,
    JF_JOINER
} JFuncKind;
struct JFunc {
    JFuncKind kind;
    Slice name;
    JVal self;         /* of a method; the texts of a cycler, of a joiner */
    const JNode *node; /* of a macro */
    JScope *scope;     /* where the macro was made */
    size_t turn;
};
struct JLoop {
    const JList *list;
    size_t i;
    int depth;
    JVal changed; /* what loop.changed saw last */
    const JNode *node;
    JScope *scope;
};

typedef enum JFlow { JINJA_FLOW_ON, JINJA_FLOW_BREAK, JINJA_FLOW_CONTINUE } JFlow;

/* One render. */
typedef struct JRun {
    Arena mem;
    size_t mem_used, max_mem, n_out, max_out;
    uint64_t steps, max_steps;
    int64_t now_s;
    int depth, loop_depth;
    JFlow flow;
    const JNode *at; /* for messages */
    JScope *scope;
    StrBuf *out, *main_out;
    size_t main_seen, main_cp; /* bytes of main_out whose code points were counted */
    JVal piped;                /* the text of a filter block */
    JinjaSpans *spans;
    Err *e;
} JRun;

typedef struct JArgs {
    JVal *v;
    size_t n;
    Slice *name; /* [n_kw] */
    JVal *kw;
    size_t n_kw;
} JArgs;

/* ERR_FORMAT at r->at. */
Status jinja__fail(JRun *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* What is left for texts and values. */
size_t jinja__room(const JRun *r);
/* Count work; ERR_FULL at the limit. */
MUST_CHECK Status jinja__step(JRun *r, size_t n);
/* Zeroed memory of the render. */
MUST_CHECK Status jinja__alloc(JRun *r, void *out, size_t n, size_t size);

JVal jinja__none(void);
JVal jinja__bool(bool b);
JVal jinja__int(int64_t i);
JVal jinja__real(double d);
JVal jinja__undef(Slice name);
/* Borrowed bytes as a value. */
JVal jinja__slice(Slice s);
/* & < > " ' as HTML has them; what is safe stays. The result is safe. */
MUST_CHECK Status jinja__escape(JRun *r, JVal *out, JVal v);
/* Whether a list is a tuple of either kind. */
bool jinja__is_tuple(JVal v);
MUST_CHECK Status jinja__copy(JRun *r, JVal *out, Slice s);
/* The bytes of b, which is emptied and freed in every case. */
MUST_CHECK Status jinja__take(JRun *r, JVal *out, StrBuf *b);
MUST_CHECK Status jinja__list(JRun *r, JVal *out, JListKind kind, size_t cap);
MUST_CHECK Status jinja__push(JRun *r, JList *l, JVal v);
MUST_CHECK Status jinja__pair(JRun *r, JVal *out, JVal a, JVal b);
MUST_CHECK Status jinja__dict(JRun *r, JVal *out, JKind kind);
MUST_CHECK Status jinja__put(JRun *r, JDict *d, JVal key, JVal v);
/* Borrowed; NULL if there is none. */
MUST_CHECK Status jinja__find(JRun *r, JVal **out, const JDict *d, JVal key);
JVal *jinja__find_str(const JDict *d, Slice key);
MUST_CHECK Status jinja__from_json(JRun *r, JVal *out, const Json *j);
bool jinja__truth(JVal v);
bool jinja__is_num(JVal v); /* bool, int, real */
double jinja__num(JVal v);
bool jinja__is_str(JVal v, const char *s);
const char *jinja__type(JVal v);
MUST_CHECK Status jinja__equal(JRun *r, bool *out, JVal a, JVal b);
/* -1, 0, 1; what Python does not order is an error. op is for the message. */
MUST_CHECK Status jinja__order(JRun *r, int *out, JVal a, JVal b, const char *op);
MUST_CHECK Status jinja__in(JRun *r, bool *out, JVal item, JVal box);
/* The elements of anything one can walk over; a lazy list is empty afterwards. */
MUST_CHECK Status jinja__iter(JRun *r, JList **out, JVal v);
/* len() of Python; an error for what has none. */
MUST_CHECK Status jinja__len(JRun *r, int64_t *out, JVal v);

/* str(v), repr(v) onto b. */
MUST_CHECK Status jinja__put_str(JRun *r, StrBuf *b, JVal v);
MUST_CHECK Status jinja__put_repr(JRun *r, StrBuf *b, JVal v, int depth);
void jinja__put_real(StrBuf *b, double d);
/* str(v) as a slice. */
MUST_CHECK Status jinja__text(JRun *r, Slice *out, JVal v);
MUST_CHECK Status jinja__wordwrap(JRun *r, JVal *out, JVal in, const JArgs *a);
MUST_CHECK Status jinja__tojson(JRun *r, JVal *out, JVal in, const JArgs *a);

/* ---- code points ---- */

size_t jinja__n_cp(Slice s);
/* Byte at which code point i begins; s.n past the end. */
size_t jinja__cp_at(Slice s, size_t i);
bool jinja__is_space(uint32_t cp);
/* Whether repr() shows it as it is. */
bool jinja__printable(uint32_t cp);
Slice jinja__strip(Slice s, bool left, bool right);
/* Of the code points in `set`. */
Slice jinja__strip_set(Slice s, Slice set, bool left, bool right);
/* First byte of needle in s from `from` on, or SIZE_MAX. */
size_t jinja__search(Slice s, Slice needle, size_t from);

/* ---- evaluation ---- */

MUST_CHECK Status jinja__eval(JRun *r, JVal *out, const JNode *n);
MUST_CHECK Status jinja__exec(JRun *r, const JNode *list);
MUST_CHECK Status jinja__binary(JRun *r, JVal *out, char op, JVal a, JVal b);
MUST_CHECK Status jinja__slice_of(JRun *r, JVal *out, JVal v, const JVal bound[3]);
MUST_CHECK Status jinja__attr(JRun *r, JVal *out, JVal v, Slice name);
MUST_CHECK Status jinja__item(JRun *r, JVal *out, JVal v, JVal key);
MUST_CHECK Status jinja__args(JRun *r, JArgs *out, const JNode *list);
MUST_CHECK Status jinja__call(JRun *r, JVal *out, JVal f, const JArgs *a);
MUST_CHECK Status jinja__call_macro(JRun *r, JVal *out, const JFunc *f, const JArgs *a);
MUST_CHECK Status jinja__loop(JRun *r, const JNode *n, JVal over, int depth);
MUST_CHECK Status jinja__push_scope(JRun *r, JScope *up);
/* What body writes, as a text. */
MUST_CHECK Status jinja__capture(JRun *r, JVal *out, const JNode *body);
MUST_CHECK Status jinja__exec_macro(JRun *r, const JNode *n);
MUST_CHECK Status jinja__exec_caller(JRun *r, const JNode *n);
MUST_CHECK Status jinja__loop_call(JRun *r, JVal *out, const JLoop *l, const JArgs *a);
MUST_CHECK Status jinja__set(JRun *r, JScope *s, Slice name, JVal v);
MUST_CHECK Status jinja__method(JRun *r, JVal *out, const JFunc *f, const JArgs *a);
/* The method `name` of a text. */
MUST_CHECK Status jinja__text_method(JRun *r, JVal *out, JVal self, const char *name,
                                     const JArgs *a);
/* Whether a value of this kind has the method. */
bool jinja__has_method(JVal v, Slice name);
bool jinja__is_global(Slice name);
MUST_CHECK Status jinja__global(JRun *r, JVal *out, const JFunc *f, const JArgs *a);
MUST_CHECK Status jinja__write(JRun *r, Slice s);
/* % of a string: printf in Python's manner. */
MUST_CHECK Status jinja__percent(JRun *r, JVal *out, JVal fmt, JVal args);
MUST_CHECK Status jinja__format(JRun *r, JVal *out, Slice fmt, const JArgs *a);
/* Lines of a text without their ends (or with them), cut where Python cuts. */
MUST_CHECK Status jinja__lines(JRun *r, JVal *out, Slice s, bool keep);

/* Argument i, or that of this name; NULL if neither is given. */
const JVal *jinja__arg(const JArgs *a, size_t i, const char *name);
MUST_CHECK Status jinja__arg_int(JRun *r, int64_t *out, const JArgs *a, size_t i, const char *name);
MUST_CHECK Status jinja__arg_str(JRun *r, Slice *out, const JArgs *a, size_t i, const char *name);
bool jinja__arg_bool(const JArgs *a, size_t i, const char *name, bool usual);

/* A filter or a method: its parameters' names in order, a "/" in front where they go by place only, "*" for any
 * number; the first `need` have to be given. */
typedef Status (*JCallFn)(JRun *r, JVal *out, JVal in, const JArgs *a);
typedef struct JCallRow {
    const char *name;
    JCallFn fn;
    const char *params;
    int need;
} JCallRow;
/* ERR_FORMAT for arguments that the row does not take. */
MUST_CHECK Status jinja__check_args(JRun *r, const char *name, const char *params, int need,
                                    const JArgs *a);
/* Tables, ended by a row without name. */
extern const JCallRow jinja__text_filters[], jinja__markup_filters[], jinja__list_filters[],
    jinja__text_methods[], jinja__case_methods[];
bool jinja__has_filter(Slice name);
bool jinja__has_test(Slice name);
MUST_CHECK Status jinja__filter(JRun *r, JVal *out, Slice name, JVal in, const JArgs *a);
MUST_CHECK Status jinja__test(JRun *r, bool *out, Slice name, JVal in, const JArgs *a);
/* An attribute as filters name it: "a.b.0". */
MUST_CHECK Status jinja__path(JRun *r, JVal *out, JVal v, JVal path);
/* upper, lower, title, capitalize, swapcase (u l t c s). */
MUST_CHECK Status jinja__case(JRun *r, JVal *out, Slice s, char how);

#endif
