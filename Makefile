# SPDX-License-Identifier: Apache-2.0
# Sources are found, not listed: a file under src/, tests/ or bench/ is built by being there.
# Every variant (V=gcc clang asan tsan fuzz) has its own folder under build/. `make help` lists the targets.

V       ?= gcc
BUILD   ?= build
PREFIX  ?= /usr/local
SECONDS ?= 60
SOAK_S  ?= 1800
SETUP   ?= tools/setup
LINT    :=
B       := $(BUILD)/$(V)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
comma := ,
Q = $(if $(VERBOSE),,@)
say = $(if $(VERBOSE),,@echo "  $1 $@")

# ---- flags --------------------------------------------------------------------------------------
WARN     := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wundef -Wdouble-promotion \
            -Wstrict-prototypes -Wmissing-prototypes
LDLIBS   := -Wl,--as-needed -levent -levent_openssl -levent_pthreads -lhttp_parser -ljansson -lpcre2-8 -lyaml \
            -lutf8proc -lsqlite3 -lcurl -lssl -lcrypto -ledit -lz -lzstd -lm

# variant: compiler, optimisation, sanitizer. Sanitizers bring false warnings, so no -Werror there.
CLANG     := clang-14
CC_gcc    := gcc
CC_clang  := $(CLANG)
CC_asan   := gcc
CC_tsan   := gcc
CC_fuzz   := $(CLANG)
OPT_gcc   := -O2 -Werror
OPT_clang := -O2 -Werror
OPT_asan  := -O1 -fno-omit-frame-pointer
OPT_tsan  := -O1 -fno-omit-frame-pointer
OPT_fuzz  := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link
SAN_asan  := -fsanitize=address,undefined -fno-sanitize-recover=all
SAN_tsan  := -fsanitize=thread
SAN_fuzz  := -fsanitize=address,undefined -fno-sanitize-recover=all

# What bounds the damage of a mistake costs nothing that can be measured; sanitizers look for themselves.
HARD     := $(if $(filter gcc clang,$(V)),-D_FORTIFY_SOURCE=2 -fstack-protector-strong)

CC       := $(CC_$(V))
CPPFLAGS := -D_GNU_SOURCE -Isrc -Iinclude
CFLAGS   := -std=c11 -g $(WARN) -ffp-contract=off -fvisibility=hidden -fPIC -pthread \
            $(OPT_$(V)) $(HARD) $(SAN_$(V)) $(EXTRA)
LDFLAGS  := -pthread -Wl,-z,relro -Wl,-z,now $(SAN_$(V)) $(EXTRA)

# Only these files may use instructions above baseline x86-64.
AVX2     := $(if $(filter gcc clang,$(V)),-O3,-O1) -mavx2 -mfma -mf16c   # -O3 with sanitizers takes minutes
AVX512   := $(AVX2) -mavx512f -mavx512bw -mavx512dq -mavx512vl
AMX      := $(AVX512) -mavx512bf16 -mavx512vnni -mamx-tile -mamx-bf16 -mamx-int8
isa       = $(if $(filter src/kernel/avx2/%,$1),$(AVX2)) \
            $(if $(filter src/kernel/avx512/%,$1),$(AVX512)) \
            $(if $(filter src/kernel/avx512/%_bf16.c,$1),-mavx512bf16) \
            $(if $(filter src/kernel/avx512/%_vnni.c,$1),-mavx512vnni) \
            $(if $(filter src/kernel/avx2/%_vnni.c,$1),-mavxvnni) \
            $(if $(filter src/kernel/amx/%,$1),$(AMX))

# ---- files --------------------------------------------------------------------------------------
# ONLY="base text" leaves the other folders of src/ out of the library, and the program with them.
SRC       := $(sort $(shell find $(if $(ONLY),$(addprefix src/,$(ONLY)),src) -name '*.c'))
CLI_SRC   := $(filter src/cli/%,$(SRC))
LIB_SRC   := $(filter-out src/cli/%,$(SRC))
TEST_SRC  := $(sort $(shell find $(wildcard tests/unit tests/kernel tests/golden tests/fault) -name '*.c'))
SUP_SRC   := $(sort $(wildcard tests/support/*.c))
SOAK_SRC  := $(sort $(wildcard tests/soak/*.c))
FUZZ_SRC  := $(sort $(wildcard tests/fuzz/*.c))
BENCH_SRC := $(sort $(wildcard bench/*.c))
E2E       := $(filter-out %/lib.sh,$(sort $(wildcard tests/e2e/*.sh)))

obj        = $(patsubst %.c,$(B)/obj/%.o,$1)
exe        = $(patsubst %.c,$(B)/%,$1)
# T=... keeps what has it in its path; as V=asan would name it: $(call in,asan,...)
pick       = $(if $(T),$(foreach x,$1,$(if $(findstring $(T),$(x)),$(x))),$1)
in         = $(patsubst $(B)/%,$(BUILD)/$1/%,$2)
LIB       := $(B)/libingot.a
BIN       := $(if $(CLI_SRC),$(B)/ingot)
TESTS     := $(call exe,$(TEST_SRC))
SOAKS     := $(call exe,$(SOAK_SRC))
REPLAYS   := $(call exe,$(FUZZ_SRC))
BENCHES   := $(call exe,$(BENCH_SRC))
# What others link: include/ingot.h over these folders, everything but ingot_* hidden.
EMBED_SRC := $(filter $(addprefix src/,$(addsuffix /%,base text tensor kernel format dist token device \
             model engine embed)),$(LIB_SRC))
EMBED     := $(if $(ONLY),,$(addprefix $(B)/embed/,libingot.a libingot.so))
EXAMPLES  := $(if $(ONLY),,$(call exe,$(wildcard examples/*.c)))
# Pages for browsers: the files of web/ and parts of npm packages, compressed, in the program.
WEB       := $(BUILD)/web
WEB_SRC   := $(wildcard web/*.html web/*.css web/*.js web/*.svg)
WEB_OBJ   := $(if $(filter src/web/%,$(LIB_SRC)),$(addprefix $(B)/obj/web/,table.o bytes.o))
PICKED    := $(call pick,$(TESTS) $(REPLAYS))
UNITS     := $(call pick,$(filter $(B)/tests/unit/%,$(TESTS)))
KERNELS   := $(call pick,$(filter $(B)/tests/kernel/%,$(TESTS)))

.PHONY: all help demo test tests lint bench asan tsan clang fuzz soak clean install web

all: $(LIB) $(BIN) $(EMBED) $(EXAMPLES) $(if $(BIN),$(if $(filter gcc,$(V)),$(BUILD)/ingot))

#: make              the program: build/ingot; the libraries: build/gcc/embed
#: make demo         train a small model, serve it, ask it something
#: make test         build and run all tests; T=token/encode: only paths that contain this
#: make lint         layers, names, lengths, banned words, format; LINT=--strict: warnings fail
#: make bench        build and run bench/ and the kernel benches; T=... as above
#: make asan         all but end-to-end tests under the address and undefined-behaviour sanitizers
#: make tsan         unit tests under the thread sanitizer
#: make fuzz         every fuzz target, or F=gguf alone, for SECONDS=60 each
#: make soak         random load on engine and server, for SOAK_S=1800 seconds each, memory has to stay flat
#: make clang        build everything with clang, warnings are errors
#: make web          fetch the npm packages of the pages again, where that failed
#: make install      to DESTDIR and PREFIX (/usr/local)
#: make clean        remove build/
#: make help         this list
#: V=gcc|clang|asan|tsan|fuzz   the variant that all, test and bench build
#: BUILD=folder  ONLY="base text" (folders of src/)  EXTRA=flags  VERBOSE=1
#: SETUP=true    do not look for Debian packages
help:
	@sed -n 's/^#: //p' $(firstword $(MAKEFILE_LIST))

# Costs a few milliseconds when all is installed.
setup-%:
	@$(SETUP) --quiet $*

# ---- library, program ---------------------------------------------------------------------------
$(B)/obj/%.o: %.c Makefile | setup-build
	@mkdir -p $(@D)
	$(call say,cc)
	$(Q)$(CC) $(CPPFLAGS) $(if $(filter tests/%,$<),-Itests) $(CFLAGS) $(strip $(call isa,$<)) -MMD -MP -c -o $@ $<

# q, not r: files of different folders may have the same name.
$(B)/%.a:
	@mkdir -p $(@D)
	$(call say,ar)
	$(Q)rm -f $@ && ar qcs $@ $^

$(LIB): $(call obj,$(LIB_SRC)) $(WEB_OBJ)
$(B)/tests/libsupport.a: $(call obj,$(SUP_SRC))

$(WEB)/fetched: web/package-lock.json
	@SETUP=$(SETUP) tools/pages fetch $(WEB)

$(WEB)/table.c: $(WEB_SRC) $(WEB)/fetched tools/pages
	$(call say,gen)
	@tools/pages embed $(WEB)

$(B)/obj/web/table.o: $(WEB)/table.c | setup-build
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/obj/web/bytes.o: $(WEB)/table.c | setup-build
	@mkdir -p $(@D)
	$(Q)$(CC) -c -o $@ $(WEB)/bytes.S

web:
	@rm -f $(WEB)/fetched
	@$(MAKE) --no-print-directory all

link = $(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $^ $1 $(LDLIBS)

$(B)/ingot: $(call obj,$(CLI_SRC)) $(LIB)
	$(call say,ld)
	$(call link)

$(B)/embed/libingot.o: $(call obj,$(EMBED_SRC))
	@mkdir -p $(@D)
	$(Q)$(LD) -r -o $@ $^ && objcopy --localize-hidden $@

$(B)/embed/libingot.a: $(B)/embed/libingot.o

$(B)/embed/libingot.so: $(call obj,$(EMBED_SRC))
	$(call say,ld)
	$(call link,-shared -Wl$(comma)-soname$(comma)libingot.so.0)

# As anybody would: the header and the library, nothing of src/.
$(B)/examples/%: examples/%.c include/ingot.h $(B)/embed/libingot.a
	$(call say,cc)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c89 -pedantic -Wall -Wextra -Werror -Iinclude $(LDFLAGS) -o $@ $< $(filter %.a,$^) $(LDLIBS)

$(BUILD)/ingot: $(B)/ingot
	@ln -f $< $@

# ---- tests, fuzz targets, benches: one program per file -----------------------------------------
$(TESTS) $(SOAKS): $(B)/%: $(B)/obj/%.o $(B)/obj/tests/main.o $(B)/tests/libsupport.a $(LIB)
	$(call link,-lcmocka)

$(B)/obj/tests/main.o: | setup-test

# A fuzz target runs under the fuzzer in its variant; in the others it replays its corpus.
$(REPLAYS): $(B)/%: $(B)/obj/%.o $(if $(filter fuzz,$(V)),,$(B)/obj/tests/fuzz_main.o) $(LIB)
	$(call link,$(if $(filter fuzz,$(V)),-fsanitize=fuzzer))

$(BENCHES): $(B)/%: $(B)/obj/%.o $(LIB)
	$(call link)

tests: $(PICKED)

test: all tests | setup-test
	@tests/run $(B) $(PICKED) $(if $(BIN),$(call pick,$(E2E)))

asan:
	@$(MAKE) --no-print-directory V=asan all $(call in,asan,$(PICKED))
	@tests/run $(BUILD)/asan $(call in,asan,$(PICKED))

tsan:
	@$(MAKE) --no-print-directory V=tsan $(BUILD)/tsan/libingot.a $(call in,tsan,$(UNITS))
	@tests/run $(BUILD)/tsan $(call in,tsan,$(UNITS))

clang: | setup-lint
	@$(MAKE) --no-print-directory V=clang all $(call in,clang,$(PICKED))

lint: all | setup-lint
	@tools/lint --build $(B) $(LINT)

fuzz: | setup-lint
	@$(MAKE) --no-print-directory V=fuzz $(call in,fuzz,$(if $(F),$(B)/tests/fuzz/$(F),$(REPLAYS)))
	@for t in $(or $(F),$(basename $(notdir $(FUZZ_SRC)))); do \
	    new=$(BUILD)/fuzz/corpus/$$t; mkdir -p $$new; echo "fuzz $$t, $(SECONDS) s"; \
	    seeds=tests/fuzz/corpus/$$t; [ -d $$seeds ] || seeds=; \
	    $(BUILD)/fuzz/tests/fuzz/$$t -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=4096 \
	        -print_final_stats=1 -artifact_prefix=$(BUILD)/fuzz/$$t- $$new $$seeds || exit 1; \
	done

soak: all $(SOAKS)
	@for t in $(SOAKS); do SOAK_S=$(SOAK_S) $$t || exit 1; done
	@tests/soak/server.py $(BIN) $(SOAK_S)

bench: all $(call pick,$(BENCHES)) $(KERNELS)
	@for b in $(call pick,$(BENCHES)); do $$b || exit 1; done
	@for b in $(KERNELS); do $$b --bench || exit 1; done

demo: all | setup-demo
	@tools/demo $(BUILD)/ingot

# libingot.a is linked with what the shared one brings along: pkg-config --static.
install: all
	install -Dm755 $(B)/ingot $(DESTDIR)$(PREFIX)/bin/ingot
	install -Dm644 include/ingot.h $(DESTDIR)$(PREFIX)/include/ingot.h
	install -Dm644 $(B)/embed/libingot.a $(DESTDIR)$(PREFIX)/lib/libingot.a
	install -Dm755 $(B)/embed/libingot.so $(DESTDIR)$(PREFIX)/lib/libingot.so.0
	ln -sf libingot.so.0 $(DESTDIR)$(PREFIX)/lib/libingot.so
	@mkdir -p $(DESTDIR)$(PREFIX)/lib/pkgconfig
	@printf '%s\n' 'prefix=$(PREFIX)' 'Name: ingot' 'Description: language models in a process' \
	    'Version: '$$(sed -n 's/^#define INGOT_VERSION "\(.*\)"/\1/p' include/ingot.h) \
	    'Cflags: -I$${prefix}/include' 'Libs: -L$${prefix}/lib -lingot' \
	    'Libs.private: $(LDLIBS) -pthread' >$(DESTDIR)$(PREFIX)/lib/pkgconfig/ingot.pc

clean:
	rm -rf $(BUILD)

-include $(shell find $(wildcard $(B)/obj) -name '*.d' -path '$(B)/*')
