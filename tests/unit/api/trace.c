/* SPDX-License-Identifier: Apache-2.0 */
#include "api/trace.h"

#include "test.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

TEST(a_valid_header_is_taken) {
    ApiTrace t;
    char out[API_TRACEPARENT];
    const uint64_t random[3] = {1, 2, 0xabcdef};
    TRUE_(api_trace_read(&t, slice_of("00-" TRACE "-" PARENT "-01")));
    EQ_STR(t.trace, TRACE);
    EQ_STR(t.parent, PARENT);
    TRUE_(t.sampled);
    api_trace_fill(&t, random);
    EQ_STR(t.trace, TRACE);
    api_trace_format(out, &t);
    EQ_STR(out, "00-" TRACE "-0000000000abcdef-01");
    TRUE_(api_trace_read(&t, slice_of("00-" TRACE "-" PARENT "-00")));
    FALSE_(t.sampled);
    TRUE_(api_trace_read(&t, slice_of("cc-" TRACE "-" PARENT "-03-what comes later")));
    TRUE_(t.sampled);
}

TEST(others_begin_a_new_trace) {
    static const char *const bad[] = {
        "",
        "00",
        "00-" TRACE "-" PARENT,
        "00-" TRACE "-" PARENT "-01-",
        "00-" TRACE "-" PARENT "-0",
        "ff-" TRACE "-" PARENT "-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-" TRACE "-" PARENT "-0g",
        "00_" TRACE "-" PARENT "-01",
        "cc-" TRACE "-" PARENT "-01x",
        "0x-" TRACE "-" PARENT "-01",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        ApiTrace t;
        if (api_trace_read(&t, slice_of(bad[i]))) FAIL("\"%s\" was taken", bad[i]);
        TRUE_(!t.trace[0] && !t.parent[0]);
    }
}
