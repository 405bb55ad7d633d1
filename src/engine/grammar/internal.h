/* SPDX-License-Identifier: Apache-2.0
 * How a grammar gets from text to masks:
 *
 *   text --[schema*.c gbnf.c regex.c]--> tree (Node) --[build.c]--> automaton (Nfa)
 *        --[auto.c, as bytes come]--> states (Auto) --[mask.c]--> masks
 *
 * The tree and the compiler (Comp) live in an arena that goes when compiling is done. The automaton is
 * immutable. Auto and the masks are caches: they can be dropped and made again. */
#ifndef INGOT_ENGINE_GRAMMAR_INTERNAL_H
#define INGOT_ENGINE_GRAMMAR_INTERNAL_H

#include "base/arena.h"
#include "engine/grammar/grammar.h"

enum { GRAMMAR_MAX_CP = 0x10ffff, GRAMMAR_INF = -1 };

/* ---- tree ---- */
/* A place in the source. Schemas: a chain of member names and indexes. Texts: an offset, up is NULL. */
typedef struct Where {
    const struct Where *up;
    Slice key; /* member name; empty key.p: an index or an offset */
    size_t at;
} Where;

typedef struct CpRange {
    uint32_t lo, hi; /* inclusive */
} CpRange;

/* Sorted, disjoint, not adjacent, no surrogates. */
typedef struct CharSet {
    CpRange *r;
    uint32_t n;
} CharSet;

typedef enum NodeKind {
    NODE_EMPTY,  /* the empty text */
    NODE_FAIL,   /* no text */
    NODE_BYTES,  /* these bytes */
    NODE_SET,    /* one code point of a set */
    NODE_SEQ,    /* kids in order */
    NODE_ALT,    /* one of the kids */
    NODE_REPEAT, /* kid[0], min to max times */
    NODE_WORDS,  /* one of words[] */
    NODE_MEMBERS, /* kids in order, each optional or not, with `sep` between those that are there; then
                   * `more` any number of times if there is one */
    NODE_REF      /* a rule */
} NodeKind;

typedef struct Node Node;
struct Node {
    NodeKind kind;
    const Where *where;
    Slice bytes;
    CharSet set;
    Slice *words; /* sorted by bytes, distinct */
    Node **kid;
    bool *needed; /* NODE_MEMBERS: [n] */
    Node *sep, *more;
    uint32_t n; /* kids, words */
    int64_t min, max;
    uint32_t rule;
    uint32_t seen; /* by build.c: the last rule + 1 whose references were collected here */
};

typedef struct Rule {
    Slice name;
    const Where *where;
    Node *body;     /* NULL: not defined */
    bool must_call; /* never written in place: its states are shared by all who use it */
    bool called;    /* decided by build.c */
} Rule;

/* A compilation. Sticky: after the first failure the builders return harmless nodes. */
typedef struct Comp {
    Arena arena;
    GrammarLimits lim;
    Slice text; /* for line:column; empty p in schemas */
    uint64_t deadline_ns;
    uint32_t n_nodes;
    Rule *rules; /* owned */
    uint32_t n_rules, cap_rules;
    Status st;
    Err *e;
} Comp;

void grammar__comp_init(Comp *c, const GrammarLimits *limits, Slice text, Err *e);
void grammar__comp_deinit(Comp *c);
/* Fail with "place: words". Returns the status. */
Status grammar__fail(Comp *c, const Where *at, Status code, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* True after a failure, of memory too. Looks at the clock now and then. */
bool grammar__failed(Comp *c);
const Where *grammar__where(Comp *c, const Where *up, Slice key, size_t at);
/* Append "/a/b/0" or "3:14". */
void grammar__put_where(StrBuf *b, const Comp *c, const Where *w);

Node *grammar__empty(Comp *c);
Node *grammar__none(Comp *c);
Node *grammar__bytes(Comp *c, Slice s);
Node *grammar__str(Comp *c, const char *s);
Node *grammar__set(Comp *c, CharSet s);
/* A set of bytes under 0x80, one or more of "a-z_" style ranges. */
Node *grammar__chars(Comp *c, const char *ranges);
/* n kids, copied; simplified where they are empty or one. */
Node *grammar__seq(Comp *c, Node *const *kids, size_t n);
Node *grammar__alt(Comp *c, Node *const *kids, size_t n);
Node *grammar__repeat(Comp *c, Node *kid, int64_t min, int64_t max, const Where *at);
/* Copies the slices, sorts, drops doubles. */
Node *grammar__words(Comp *c, const Slice *w, size_t n);
Node *grammar__ref(Comp *c, uint32_t rule, const Where *at);
uint32_t grammar__rule(Comp *c, Slice name, const Where *at);

/* A list of nodes that grows in the arena's company; freed by the caller. */
typedef struct NodeList {
    Node **v; /* owned */
    size_t n, cap;
} NodeList;
void grammar__push(Comp *c, NodeList *l, Node *k);

/* Sets of code points: add ranges in any order, then take. */
typedef struct SetBuild {
    CpRange *r; /* owned */
    size_t n, cap;
} SetBuild;
void grammar__set_add(Comp *c, SetBuild *b, uint32_t lo, uint32_t hi);
/* The set, or all others with negate, in the arena; frees b. */
CharSet grammar__set_take(Comp *c, SetBuild *b, bool negate);

/* A regular expression as a tree; its texts are escaped as the inside of a JSON string if `json`. up is the place
 * of a pattern in a schema, NULL for a text. Without anchors it matches whole texts, with `search` parts. */
Node *grammar__regex(Comp *c, Slice pattern, const Where *up, bool json, bool search);
/* s cut to those that JSON strings hold as they are, and escapes of the rest. */
Node *grammar__json_set(Comp *c, CharSet s);
/* Nodes of JSON's own grammar: called rules, made on first use. */
typedef struct JsonRules {
    uint32_t ws, str, integer, number, value, object, array; /* rule + 1, 0: not yet */
} JsonRules;
/* White space: none, a blank, or one or two line ends and up to 40 blanks and tabs. */
Node *grammar__json_ws(Comp *c, JsonRules *j);
/* One code point of a string, as it is or escaped. */
Node *grammar__json_char(Comp *c);
Node *grammar__json_str(Comp *c, JsonRules *j);
Node *grammar__json_integer(Comp *c, JsonRules *j);
Node *grammar__json_number(Comp *c, JsonRules *j);
Node *grammar__json_value(Comp *c, JsonRules *j);
Node *grammar__json_object(Comp *c, JsonRules *j);
Node *grammar__json_array(Comp *c, JsonRules *j);
/* "," and white space. */
Node *grammar__json_sep(Comp *c, JsonRules *j);
/* k in quotes. */
Node *grammar__json_quoted(Comp *c, Node *k);
/* key ":" value */
Node *grammar__json_member(Comp *c, JsonRules *j, Node *key, Node *value);
/* [ or {, the list, its other end; with white space. */
Node *grammar__json_brackets(Comp *c, JsonRules *j, const char *open, Node *list,
                             const char *close);
/* min to max of item with separators. */
Node *grammar__json_list(Comp *c, JsonRules *j, Node *item, int64_t min, int64_t max,
                         const Where *at);
/* A node behind a call, so that all its uses share states. */
Node *grammar__call(Comp *c, Node *body, const Where *at);

/* ---- numbers of a schema ---- */
typedef struct Bound {
    bool given, strict;
    double v;
    bool exact; /* i is the value */
    int64_t i;
    const Where *at;
} Bound;
/* Integers from lo to hi; no leading zeros. lo > hi gives no text. */
Node *grammar__int_range(Comp *c, int64_t lo, int64_t hi);
/* Integers within the bounds and multiples of m (0: any). */
Node *grammar__integers(Comp *c, JsonRules *j, const Bound *lo, const Bound *hi, int64_t m,
                        const Where *at);
/* Decimal numbers within the bounds, at most n_frac digits after the point. */
Node *grammar__decimals(Comp *c, const Bound *lo, const Bound *hi, int n_frac);

/* ---- automaton ---- */
typedef enum NfaKind { NFA_BYTE, NFA_EPS, NFA_CALL, NFA_FINAL } NfaKind;
typedef struct NfaState {
    uint8_t kind;
    uint8_t live; /* an end can be reached from here */
    uint32_t a;   /* BYTE: first edge, EPS: first of eps, CALL: rule */
    uint32_t b;   /* BYTE, EPS: how many, CALL: state after the call */
} NfaState;
typedef struct NfaEdge {
    uint8_t lo, hi; /* inclusive */
    uint32_t to;
} NfaEdge;

/* State 0 is FINAL, the end of whatever rule one is in. */
typedef struct Nfa {
    NfaState *s;     /* owned */
    NfaEdge *edge;   /* owned */
    uint32_t *eps;   /* owned */
    uint32_t *start; /* owned: [n_rules] first state of a called rule */
    uint32_t n, n_edges, n_eps, n_rules;
    uint32_t cap, cap_edges, cap_eps;
    uint8_t cls[256]; /* bytes that no edge tells apart have one class */
    uint32_t n_cls;
    uint8_t rep[256]; /* [n_cls] a byte of each class */
} Nfa;

/* The automaton of rule 0, or the failure in c. */
Status grammar__build(Nfa *out, Comp *c);
void grammar__nfa_deinit(Nfa *n);
/* on[n]: which of n things that refer to[off[i]..off[i + 1]) are on a cycle or between two. False: no memory. */
bool grammar__cycles(bool *on, uint32_t n, const uint32_t *off, const uint32_t *to);
/* Refuse what never ends and what calls itself before any byte; set live, classes. The failure is in c. */
Status grammar__analyse(Nfa *n, Comp *c);
/* Compile what c holds, rule 0 being the start, and release c. */
Status grammar__finish(Grammar **out, Comp *c);

/* ---- states met ----
 * L: a set of automaton states within one call of a rule, closed over empty moves: what a text of this
 *    rule may go on with, whoever called it.
 * P: a stack: the L to go on with after the call, and the stack below. 0 is the empty one.
 * D: a set of (L, P): everything the text so far can mean.
 * All are interned, so that equal ones have equal ids, and 0 is none. */
enum {
    ST_FINAL = 1,     /* L: the rule can end here. D: the text can */
    ST_BYTES = 2,     /* some byte goes on */
    ST_CALLS = 4,     /* L: has calls */
    ST_EXPANDED = 8,  /* L: its calls are listed */
    ST_ROW = 16,      /* L: its row of moves is filled */
    ST_NO_LOCAL = 32, /* L: too many ways out for a mask of its own */
    ST_CUT = 64,      /* D: something was left out, the stack being full */
};
/* Entries of rows: id, or with these bits. */
#define GRAMMAR_UNKNOWN UINT32_MAX
#define GRAMMAR_OUT ((uint32_t)1 << 31)  /* L: can end or calls: more to see than its row */
#define GRAMMAR_LEAF ((uint32_t)1 << 30) /* no byte goes on from there */
#define GRAMMAR_ID (GRAMMAR_LEAF - 1)

typedef struct Set {
    uint32_t off, n; /* in Table.items */
    uint32_t hash;
    uint32_t flags;
    uint32_t call, n_calls; /* L: pairs (callee L, return L) in Auto.calls */
    uint32_t slot;          /* mask slot + 1 */
    uint32_t run;           /* L: grammar__auto_run + 1, 0: not known */
} Set;

/* Interned lists of numbers with a row of moves each. */
typedef struct Table {
    Set *v;          /* owned; 0 unused */
    uint32_t *row;   /* owned [cap][n_cls] */
    uint32_t *items; /* owned */
    uint32_t *index; /* owned [cap_index], a power of two */
    uint32_t n, cap, n_items, cap_items, cap_index;
} Table;

typedef struct Frame {
    uint32_t ret, up, depth;
} Frame;

typedef struct Auto {
    const Nfa *nfa; /* borrowed */
    Table l, d;
    Frame *p;          /* owned; 0 unused */
    uint32_t *p_index; /* owned */
    uint32_t n_p, cap_p, cap_p_index;
    uint32_t *calls; /* owned */
    uint32_t n_calls, cap_calls;
    /* scratch, all owned */
    uint32_t *mark, epoch;       /* [nfa->n] seen in this epoch */
    uint32_t *todo, *tmp, *from; /* states: to follow, found, to begin with */
    uint32_t cap_todo, cap_tmp, cap_from;
    uint64_t *pairs, *keys, *sorted; /* (L, P); (rule, return), (return, rule) of calls */
    uint32_t n_pairs, cap_pairs, cap_keys, cap_sorted;
    size_t max_bytes;
    uint64_t work, max_work;
    uint32_t max_depth;
    bool nomem, full, cut; /* why the last operation failed */
} Auto;

Status grammar__auto_init(Auto *a, const Nfa *nfa, const GrammarLimits *lim, Err *e);
void grammar__auto_deinit(Auto *a);
size_t grammar__auto_bytes(const Auto *a);
/* D after byte class c; 0: none, or a failure (grammar__auto_status). */
uint32_t grammar__auto_step(Auto *a, uint32_t d, uint32_t cls);
/* D of the beginning; 0 on failure. */
uint32_t grammar__auto_start(Auto *a);
/* Fill the row of L. False on failure. */
bool grammar__auto_row(Auto *a, uint32_t l);
/* List the calls of L. False on failure. */
bool grammar__auto_expand(Auto *a, uint32_t l);
/* D of all that (l, p) can do other than going on within l: its end and its calls. */
uint32_t grammar__auto_out(Auto *a, uint32_t l, uint32_t p);
/* Before an operation: a fresh budget. After one that may have failed: why. */
void grammar__auto_begin(Auto *a);
Status grammar__auto_status(const Auto *a, const GrammarLimits *lim, Err *e);
/* Drop every state but d[0..n), which get their new ids. */
Status grammar__auto_shrink(Auto *a, uint32_t *d, size_t n, const GrammarLimits *lim, Err *e);
Status grammar__auto_check(const Auto *a, Err *e);

/* ---- vocabulary ----
 * Nodes of the trie in order of first visit: a node's children follow it. 0 is the root. */
struct GrammarVocab {
    uint8_t *byte;   /* owned [n] */
    uint16_t *depth; /* owned [n] bytes up to and with this one */
    int32_t *tok;    /* owned [n] token that ends here; none: 32 * words, a bit past the mask;
                      * -1 - i: several, same[i] and on, up to a -1 */
    uint32_t *end;   /* owned [n] the first node after this one's descendants */
    uint8_t *plain;  /* owned [n] GRAMMAR_NOT_PLAIN, or: all that follows is the beginning of plain
                      * characters, at most so many */
    uint32_t *upto;  /* owned [n + 1] how many tokens end before this node */
    int32_t *order;  /* owned: tokens in the order of their nodes */
    int32_t *same;   /* owned */
    uint32_t *first; /* owned [n_vocab + 1] where a token's bytes begin in text */
    char *text;      /* owned */
    bool *is_end;    /* owned [n_vocab] */
    int32_t *ends;   /* owned: ids of end tokens */
    uint32_t n, n_same;
    int32_t n_vocab, n_ends;
    uint32_t max_depth;
    size_t words;
};

/* Plain characters: 0x20 to 0x7e without the quote and the backslash, and all beyond ASCII. */
enum { GRAMMAR_NOT_PLAIN = 255 };
typedef struct Utf8Form {
    uint8_t lo[4], hi[4]; /* bytes of well-formed sequences, in order */
    int n;
} Utf8Form;
enum { GRAMMAR_N_FORMS = 8 };
extern const Utf8Form grammar__forms[GRAMMAR_N_FORMS];
/* How many plain characters in a row L reads, the same way whichever they are and without leaving its rule; 255: at
 * least so many. 0 on failure too. */
uint32_t grammar__auto_run(Auto *a, uint32_t l);

/* ---- grammar ---- */
typedef struct Escape {
    uint32_t node, l; /* at this node of the trie, with this L, the rule can end or calls */
} Escape;
typedef struct MaskSlot {
    uint32_t *bits; /* owned [words] */
    Escape *esc;    /* owned */
    uint32_t n_esc;
    uint32_t owner; /* id of its L or D */
    bool is_l;
    uint64_t used_at;
} MaskSlot;
typedef struct MaskCache {
    const GrammarVocab *v; /* borrowed: whose masks these are */
    MaskSlot *slot;        /* owned */
    uint32_t n, cap, max;
    size_t esc_bytes;
    uint64_t tick;
    uint32_t *bits, *out; /* owned scratch [words + 1] */
    Escape *esc;          /* owned scratch */
    uint32_t *stack;      /* owned scratch [max_depth + 1] */
    uint32_t n_esc, cap_esc;
} MaskCache;

struct Grammar {
    Nfa nfa;
    GrammarLimits lim;
    Auto a;
    MaskCache m;
    uint32_t *pins; /* owned: D of each live state, 0: free */
    uint32_t n_pins, cap_pins, n_live;
    size_t kept_bytes; /* of states after the last shrinking */
};

void grammar__masks_deinit(MaskCache *m);
/* Forget all masks, keep the memory. */
void grammar__masks_clear(Grammar *g);
Status grammar__masks_bind(Grammar *g, const GrammarVocab *v, Err *e);
Status grammar__mask_of(Grammar *g, uint32_t d, uint32_t *mask, Err *e);
size_t grammar__masks_bytes(const MaskCache *m);
/* Double an array of at least `need`; false when memory is out. */
bool grammar__grow(void **p, uint32_t *cap, size_t need, size_t size);

#endif
