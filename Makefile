# SPDX-License-Identifier: Apache-2.0
# One Makefile for all folders. Programs land in $(BUILD)/bin, objects in $(BUILD)/obj; nothing is written beside the sources. What runs something
# that it builds (check, fuzz, bench, demo) installs packages that are missing, then calls make again; what only builds installs them when it has no compiler or libraries.
#
#   make            build everything              make demo      the main job on real input
#   make bundle     the worker for containers
#   make check      unit and integration tests    make bench     speed, as JSON and a table
#   make check-clusters           against real Slurm, containers, ...: started on this host by tests/testbed; what cannot be is skipped. Kubernetes
#                                 where its programs are in $WEFT_TESTBED_CACHE; `tests/testbed/kubernetes build` makes them, in 40 minutes
#   make check-asan check-tsan fuzz format lint install dist wheel clean
#
# Variables: BUILD=dir  WERROR=1  SAN=address|thread  DESTDIR= PREFIX=/usr/local  FUZZ_SECONDS=20

BUILD   ?= build
PREFIX  ?= /usr/local
FUZZ_SECONDS ?= 20
VERSION := 0.1.0
CC      ?= cc
PKGS    := libzmq libevent_core libevent_extra libevent_openssl jansson hiredis libcurl openssl yaml-0.1 sqlite3

# pkg-config is asked when it is needed: by then packaging/install-deps has run where it had to.
WARN    := -Wall -Wextra -Wformat=2 -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla $(if $(WERROR),-Werror)
# The checks that sanitizers put in mislead gcc: it takes what they check for NULL for what may be NULL.
WARN    += $(if $(SAN),-Wno-format-overflow -Wno-format-truncation -Wno-stringop-overread -Wno-nonnull)
OPT     ?= -O2 -g
CFLAGS_ALL = -std=gnu11 $(OPT) $(WARN) -D_GNU_SOURCE -DWEFT_VERSION='"$(VERSION)"' -I. -I$(BUILD)/gen \
	  $(if $(SAN),-fsanitize=$(SAN)$(if $(filter address,$(SAN)),$(comma)undefined) -fno-omit-frame-pointer) \
	  $(shell pkg-config --cflags $(PKGS) 2>/dev/null) $(CFLAGS)
LIBS     = -Wl,--as-needed $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lpthread -lm -ldl
LINK     = $(CC) $(if $(SAN),-fsanitize=$(SAN)$(if $(filter address,$(SAN)),$(comma)undefined)) -rdynamic
comma   := ,

# ---- what is built: a folder a part, found by listing it ------------------------------------------------------
src      = $(sort $(wildcard $(addsuffix /*.c,$(1))))
obj      = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
COMMON   := $(call src,common)
PROTO    := $(call src,proto)
SERVICE  := $(call src,service service/api service/amqp service/registry)
FORWARDER:= $(call src,forwarder)
ENDPOINT := $(call src,endpoint endpoint/providers)
MANAGER  := $(call src,endpoint/manager endpoint/manager/containers)
WORKER   := $(call src,worker worker/runners)
CLIENT   := $(call src,client)
BENCHC   := $(call src,tests/bench)
UNIT     := $(call src,tests/unit/common tests/unit/proto tests/unit/service tests/unit/forwarder tests/unit/endpoint \
              tests/unit/manager tests/unit/worker tests/unit/client)
FUZZ     := $(call src,tests/fuzz)

PROGS    := $(addprefix $(BUILD)/bin/,weft-service weft-forwarder weft-endpoint weft-manager weft-worker weft)
TESTS    := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT))
FUZZERS  := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ))
BENCHES  := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(BENCHC))

.PHONY: all bundle programs tests fuzzers benches deps libraries check check-clusters check-asan check-tsan fuzz bench demo format lint install dist wheel clean
all: programs examples bundle
programs: $(PROGS)
tests: $(TESTS)
fuzzers: $(FUZZERS)
benches: $(BENCHES)

$(BUILD)/lib/libcommon.a: $(call obj,$(COMMON))
$(BUILD)/lib/libproto.a:  $(call obj,$(PROTO))
$(BUILD)/lib/libservice.a:   $(call obj,$(filter-out service/main.c,$(SERVICE)))
$(BUILD)/lib/libforwarder.a: $(call obj,$(filter-out forwarder/main.c,$(FORWARDER)))
$(BUILD)/lib/libendpoint.a:  $(call obj,$(filter-out endpoint/main.c,$(ENDPOINT)))
$(BUILD)/lib/libmanager.a:   $(call obj,$(filter-out endpoint/manager/main.c,$(MANAGER)))
$(BUILD)/lib/libworker.a:    $(call obj,$(filter-out worker/main.c,$(WORKER)))
$(BUILD)/lib/libclient.a:    $(call obj,$(filter-out client/main.c,$(CLIENT)))
$(BUILD)/lib/%.a:
	@mkdir -p $(@D); rm -f $@
	@ar rcs $@ $^

BASE := $(BUILD)/lib/libproto.a $(BUILD)/lib/libcommon.a
$(BUILD)/bin/weft-service:   $(BUILD)/obj/service/main.o   $(BUILD)/lib/libservice.a   $(BASE)
$(BUILD)/bin/weft-forwarder: $(BUILD)/obj/forwarder/main.o $(BUILD)/lib/libforwarder.a $(BASE)
$(BUILD)/bin/weft-endpoint:  $(BUILD)/obj/endpoint/main.o  $(BUILD)/lib/libendpoint.a  $(BASE)
$(BUILD)/bin/weft-manager:   $(BUILD)/obj/endpoint/manager/main.o $(BUILD)/lib/libmanager.a $(BASE)
$(BUILD)/bin/weft-worker:    $(BUILD)/obj/worker/main.o    $(BUILD)/lib/libworker.a    $(BASE)
$(BUILD)/bin/weft:           $(BUILD)/obj/client/main.o    $(BUILD)/lib/libclient.a    $(BASE)
$(PROGS):
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(LINK) -o $@ $^ $(LIBS)

# The worker with all it needs, for containers
bundle: $(BUILD)/bundle/weft-worker
$(BUILD)/bundle/weft-worker: $(BUILD)/bin/weft-worker packaging/bundle
	@echo "  BUNDLE  $(BUILD)/bundle"
	@packaging/bundle $< $(BUILD)/bundle && touch $@

# A unit test links its part's library: tests/unit/service/test_x.c -> libservice.a
.SECONDEXPANSION:
part_of = $(firstword $(subst /, ,$(1)))
part_lib = $(if $(filter-out common proto,$(call part_of,$(1))),$(BUILD)/lib/lib$(call part_of,$(1)).a)
$(BUILD)/unit/%: $(BUILD)/obj/tests/unit/%.o $$(call part_lib,$$*) $(BASE)
	@mkdir -p $(@D)
	@$(LINK) -o $@ $(filter %.o,$^) $(filter-out $(BASE),$(filter %.a,$^)) $(BASE) $(LIBS) -lcmocka

$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(BASE)
	@mkdir -p $(@D)
	@$(LINK) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)

GEN := $(patsubst %,$(BUILD)/gen/%.inc,$(wildcard proto/lua/*.lua service/registry/migrations/*.sql service/openapi.json \
         service/ui/* \
         worker/runners/*.py)) $(BUILD)/gen/worker/runners/plain_text.so.inc $(BUILD)/gen/service/git_sha.inc

# The commit: of an archive, else of this checkout, else unknown. Written only when it is another one.
.PHONY: FORCE
$(BUILD)/gen/service/git_sha.inc: FORCE
	@mkdir -p $(@D); sha=$$(grep -Ex '[0-9a-f]{40}' packaging/git_sha || { test -e .git && git rev-parse HEAD 2>/dev/null; } || echo unknown); \
	  echo "\"$$sha\"" | cmp -s - $@ || echo "\"$$sha\"" > $@

# Fuzzers: clang's libFuzzer over common and proto, and what the file's own line "fuzz-sources: a.c b.c" names.
FUZZ_CC = clang -std=gnu11 -g -O1 -D_GNU_SOURCE -DWEFT_VERSION='"$(VERSION)"' -I. -I$(BUILD)/gen $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
fuzz_obj = $(patsubst %.c,$(BUILD)/fuzz-obj/%.o,$(1))
fuzz_sources = $(shell sed -n 's/.*fuzz-sources: *//p' tests/fuzz/$(1).c)
$(BUILD)/fuzz-obj/%.o: %.c | $(GEN) libraries
	@mkdir -p $(@D)
	@$(FUZZ_CC) -fsanitize=fuzzer-no-link,address,undefined -MMD -MP -c -o $@ $<
$(BUILD)/fuzz/%: $(BUILD)/fuzz-obj/tests/fuzz/%.o $$(call fuzz_obj,$$(call fuzz_sources,$$*) $(COMMON) $(PROTO))
	@mkdir -p $(@D)
	@echo "  FUZZ    $@"
	@$(FUZZ_CC) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LIBS)

# Loaded into interpreters, which may be linked with any C library: it has none, and no sanitizer
$(BUILD)/gen/%.so: %.c %.h | libraries
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(WARN) -std=gnu11 -I. -O3 -fPIC -ffreestanding -fvisibility=hidden -nostdlib -shared -Wl,-z,noexecstack,--build-id=none -s -o $@ $<

# Files compiled into the programs: proto/lua/x.lua -> gen/proto/lua/x.lua.inc, the body of an array
embed = @mkdir -p $(@D); xxd -i < $< > $@ 2>/dev/null || od -An -v -tx1 $< | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g;$$s/,$$//' > $@
$(BUILD)/gen/%.inc: %
	$(embed)
$(BUILD)/gen/%.so.inc: $(BUILD)/gen/%.so
	$(embed)

$(BUILD)/obj/%.o: %.c | libraries
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(call obj,$(PROTO) $(SERVICE) $(WORKER) $(CLIENT)): | $(GEN)

# Objects that only a test needs are kept: the next make is then quick.
.SECONDARY:

-include $(shell find $(BUILD)/obj $(BUILD)/fuzz-obj -name '*.d' 2>/dev/null)

# The example of a shared-object function, see worker/runners/weft_function.h
.PHONY: examples
examples: $(patsubst worker/runners/examples/%.c,$(BUILD)/examples/%.so,$(wildcard worker/runners/examples/*.c))
$(BUILD)/examples/%.so: worker/runners/examples/%.c worker/runners/weft_function.h | libraries
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 -O2 -fPIC -shared -Wall -Wextra -Iworker/runners -o $@ $<

# ---- tests ----------------------------------------------------------------------------------------------------
# As many jobs as there are processors, where the caller has not said how many.
AGAIN = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))
deps:
	@packaging/install-deps
libraries:
	@command -v $(firstword $(CC)) >/dev/null && pkg-config --exists $(PKGS) 2>/dev/null || packaging/install-deps
check: deps
	@+$(AGAIN) all tests BUILD=$(BUILD)
	@tests/run --build $(BUILD) $(CHECK_ARGS)
check-clusters: deps
	@packaging/install-deps --clusters || echo "what needs these packages is skipped"
	@+$(AGAIN) all BUILD=$(BUILD)
	@tests/run --build $(BUILD) --clusters $(CLUSTER_ARGS)
check-asan: deps
	@+$(AGAIN) all tests BUILD=$(BUILD)/asan SAN=address
	@ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 tests/run --build $(BUILD)/asan --asan $(CHECK_ARGS)
check-tsan: deps
	@+$(AGAIN) all tests BUILD=$(BUILD)/tsan SAN=thread
	@TSAN_OPTIONS="halt_on_error=1 history_size=7 suppressions=$(CURDIR)/tests/tsan.supp" tests/run --build $(BUILD)/tsan --unit-only $(CHECK_ARGS)
fuzz: deps
	@+$(AGAIN) fuzzers BUILD=$(BUILD)
	@tests/fuzz/run --build $(BUILD) --seconds $(FUZZ_SECONDS)
bench: deps
	@+$(AGAIN) all benches BUILD=$(BUILD)
	@tests/bench/run --build $(BUILD) $(BENCH_ARGS)
demo: deps
	@+$(AGAIN) all BUILD=$(BUILD)
	@tests/demo/run --build $(BUILD)

# ---- sources --------------------------------------------------------------------------------------------------
CFILES = $(shell git ls-files '*.c' '*.h')
format:
	@clang-format -i $(CFILES)
lint:
	@packaging/install-deps --lint
	@tests/lint $(CFILES)

# ---- install and dist -----------------------------------------------------------------------------------------
install: all
	@packaging/install --build $(BUILD) --destdir "$(DESTDIR)" --prefix "$(PREFIX)" --version $(VERSION)
dist:
	@mkdir -p $(BUILD)
	@git archive --format=tar --prefix=weft-$(VERSION)/ HEAD | gzip -n -9 > $(BUILD)/weft-$(VERSION).tar.gz
	@echo $(BUILD)/weft-$(VERSION).tar.gz
# The Python SDK, without a network: setuptools and wheel of the system
wheel:
	@packaging/wheel --build $(BUILD)
clean:
	rm -rf $(BUILD)
