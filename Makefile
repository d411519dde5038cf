# roost - a WebSocket server. `make run` and `make test` are all it takes; `make help` lists the rest.

VERSION := 0.1.0

# VARIANT: release, debug, asan (with UBSan), tsan, fuzz or static; variants never share objects
VARIANT ?= release
# CROSS: a GNU triplet, such as aarch64-linux-gnu, to build for another machine
CROSS   ?=
# MINIMAL=1: mbedTLS and jsmn alone
MINIMAL ?=
# B: where everything goes; two makes at once in one tree want two
B       ?= build/$(VARIANT)$(if $(CROSS),-$(CROSS))$(if $(MINIMAL),-minimal)
PREFIX  ?= /usr/local

ifneq ($(CROSS),)
CC := $(CROSS)-gcc
AR := $(CROSS)-ar
else ifeq ($(VARIANT),fuzz)
CC := clang
endif
ARCH := $(or $(firstword $(subst -, ,$(CROSS))),$(shell uname -m))
MAKEFLAGS += --no-print-directory $(if $(filter 0,$(MAKELEVEL)),-j$(shell nproc))
Q := $(if $(V),,@)
comma := ,

# ---- flags ------------------------------------------------------------------------------------

HARDEN := -fstack-protector-strong -fno-plt -fstack-clash-protection -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
HARDEN += $(if $(filter x86_64,$(ARCH)),-fcf-protection) $(if $(filter aarch64,$(ARCH)),-mbranch-protection=standard)
CHECKS := -O1 -fno-omit-frame-pointer -fno-sanitize-recover=all

MODE_release := -O2 -ffunction-sections -fdata-sections $(HARDEN)
MODE_static  := $(MODE_release)
MODE_debug   := -Og -DROOST_FAULTS -DROOST_KEYLOG
MODE_asan    := $(CHECKS) -DROOST_FAULTS -fsanitize=address,undefined
MODE_tsan    := $(CHECKS) -fsanitize=thread
MODE_fuzz    := $(CHECKS) -fsanitize=fuzzer-no-link,address,undefined
LINK_release := -pie -Wl,--gc-sections
LINK_static  := -static-pie -Wl,--gc-sections

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum -Wvla -Wconversion
WARN += $(if $(WERROR),-Werror)

override CPPFLAGS += -D_GNU_SOURCE -DROOST_VERSION='"$(VERSION)"' $(if $(MINIMAL),-DROOST_MINIMAL) -I.
override CPPFLAGS += -isystem $B/mbedtls/include -DMBEDTLS_USER_CONFIG_FILE='"roost_mbedtls_config.h"'
override CFLAGS   += -std=c11 -g -fPIE -pthread $(MODE_$(VARIANT))
# Nettle's curves (curves/hogweed.c), linked statically; without them mbedTLS's own are used
HOGWEED := $(if $(MINIMAL)$(CROSS),,$(wildcard /usr/include/nettle/ecdsa.h))
override CPPFLAGS += $(if $(HOGWEED),-DROOST_HOGWEED)
# curves go to faster code (curves.c) wherever mbedTLS multiplies or signs
override LDFLAGS  += $(or $(LINK_$(VARIANT)),-pie) -Wl,-z,relro,-z,now -Wl,--wrap=mbedtls_ecp_mul,--wrap=mbedtls_ecp_mul_restartable,--wrap=mbedtls_ecdsa_write_signature
# a group, because mbedTLS calls back into ours (SHA-256, Curve25519)
LIBS := -Wl,--start-group $B/libroost.a $B/mbedtls/libmbedtls.a -Wl,--end-group
LIBS += $(if $(HOGWEED),-l:libhogweed.a -l:libnettle.a -l:libgmp.a)
# for another machine scripts/cross-libs.sh brings cmocka
CMOCKA := $(if $(CROSS),-L$B/lib -Wl$(comma)-rpath$(comma)$(abspath $B/lib)) -lcmocka

# ---- what is built: a new .c file or test needs no edit here --------------------------------------

SRC   := $(filter-out main.c tests/% bench/bare% bench/bench_record% bench/bench_handshake%,$(wildcard *.c */*.c))
OBJ   := $(SRC:%.c=$B/%.o) $B/web_files.o
TESTS := $(patsubst tests/%.c,$B/%,$(wildcard tests/test_*.c))
FUZZ  := $(patsubst tests/%.c,$B/%,$(wildcard tests/fuzz_*.c))
SOURCES := $(wildcard *.c */*.c)
# a test that wants linker flags of its own says so in a line: /* link: -Wl,--wrap=malloc */
LINK_OF = $(shell sed -n 's|^/\* link: \(.*\) \*/|\1|p' $(1))

all: roost

roost: $B/roost
	@cp $< $@.new && mv $@.new $@

$B/roost: $B/main.o $B/libroost.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIBS) $(LDLIBS)

$B/libroost.a: $(OBJ)
	$(Q)rm -f $@ && $(AR) qcs $@ $^

$B/test_%: $B/tests/test_%.o $B/libroost.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(call LINK_OF,tests/test_$*.c) -o $@ $< $(LIBS) $(LDLIBS) $(CMOCKA)

# counted by tests/callgrind_units.sh
$B/callgrind_%: $B/tests/callgrind_%.o $B/libroost.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIBS) $(LDLIBS) $(CMOCKA)

$B/fuzz_%: $B/tests/fuzz_%.o $B/libroost.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -fsanitize=fuzzer -o $@ $< $(LIBS) $(LDLIBS)

$B/%.o: %.c $B/mbedtls/libmbedtls.a Makefile
	@mkdir -p $(@D) && echo "  CC    $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) -MMD -MP -c -o $@ $<

# the ceilings that a server is compared with: not in the product
$B/bare_%: $B/bench/bare_%.o $B/bench/bare.o $B/libroost.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS) $(LDLIBS)

# what a TLS record costs, and a handshake; beside OpenSSL, which is nowhere else, if its headers are there
OPENSSL := $(if $(CROSS),,$(wildcard /usr/include/openssl/ssl.h))
$B/bench_record $B/bench_handshake: $B/%: bench/%.c $B/libroost.a
	@echo "  LD    $@"
	$(Q)$(CC) $(CPPFLAGS) $(if $(OPENSSL),-DBENCH_OPENSSL) $(CFLAGS) $(WARN) $(LDFLAGS) -o $@ $< $(LIBS) $(LDLIBS) $(if $(OPENSSL),-lssl -lcrypto)

bench-record: $B/bench_record ## nanoseconds per TLS record, by AEAD kernel, and OpenSSL's beside them
	@$<

bench-handshake: $B/bench_handshake ## microseconds of a server's CPU time per TLS handshake, OpenSSL's beside them
	@$<

# the folder web/, inside the binary (web.h)
$B/web_files.c: scripts/embed.sh $(shell find web ! -name '.*' 2>/dev/null)
	@mkdir -p $(@D)
	$(Q)scripts/embed.sh web > $@

$B/web_files.o: $B/web_files.c web.h
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) -c -o $@ $<

# mbedTLS 3.6 (scripts/mbedtls.sh): headers in $B/mbedtls/include, code in $B/mbedtls/libmbedtls.a
$B/mbedtls/libmbedtls.a: scripts/mbedtls.sh scripts/mbedtls_config.h
	@CC='$(CC)' AR='$(AR)' MBEDTLS_CFLAGS='-g -fPIE $(MODE_$(VARIANT)) -O3' scripts/mbedtls.sh $(@D)

mbedtls: $B/mbedtls/libmbedtls.a

# ---- the commands -------------------------------------------------------------------------------

run: ## installs what is missing, builds, serves on loopback with a console to try it (ARGS="...")
	@scripts/deps.sh build
	@echo "Building roost; the first time takes a minute or so (mbedTLS is compiled as well)."
	@$(MAKE) all
	@exec ./roost serve --dev $(ARGS)

test: ## installs what is missing, builds all variants, runs every test; says how long it may take
	@scripts/test.sh

check: $(TESTS) ## the unit tests of one VARIANT (tests/test_*.c); `make check TESTS=build/asan/test_ws VARIANT=asan`
	@TEST_SECONDS=$(or $(TEST_SECONDS),$(if $(filter asan tsan,$(VARIANT)),400,150)) scripts/run-tests.sh $(TESTS)

e2e: $B/roost ## the tests against the real binary of one VARIANT (tests/e2e)
	@ROOST=$(abspath $B/roost) VARIANT=$(VARIANT) tests/e2e/run

fuzz: ## each fuzz target for FUZZ_SECONDS (60)
	@$(MAKE) VARIANT=fuzz fuzz-targets
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) scripts/run-fuzz.sh $(patsubst tests/%.c,build/fuzz/%,$(wildcard tests/fuzz_*.c))
fuzz-targets: $(FUZZ)

bench: all $B/bare_echo $B/bare_fanout $B/bare_uring ## the load generator against a server of its own, and the bare loops beside it
	@bench/run.sh $B

bench-peers: all $B/bare_echo $B/bare_fanout ## roost beside uWebSockets.js, ws, libwebsockets, nginx with nchan, and the bare loops: tables and pictures
	@bench/peers/install.sh build/peers && node bench/peers/run.mjs build/peers

lint: ## clang-tidy (.clang-tidy) and cppcheck, clean or it fails; the first time a minute or two
	@scripts/deps.sh build test lint
	@$(MAKE) -k tidy; tidy=$$?; scripts/lint.sh $(SOURCES) && test $$tidy = 0
tidy: $(SOURCES:%=$B/tidy/%)
$B/tidy/%: % .clang-tidy $B/mbedtls/libmbedtls.a $(wildcard *.h)
	@mkdir -p $(@D) && echo "  TIDY  $<"
	$(Q)clang-tidy --quiet $< -- -std=c11 $(CPPFLAGS) 2>/dev/null && touch $@

layers: ## checks who includes whom (scripts/layers)
	@scripts/layers.sh

format: ## clang-format over all sources
	clang-format -i *.[ch] $(wildcard tests/*.[ch] bench/*.[ch])

static: ## one static binary, build/static/roost
	@$(MAKE) VARIANT=static build/static/roost

dist: ## roost-VERSION-linux-ARCH.tar.gz: the static binary and its papers
	@$(MAKE) VARIANT=static $(if $(CROSS),B=build/static-$(CROSS) build/static-$(CROSS)/roost,build/static/roost)
	@STRIP=$(if $(CROSS),$(CROSS)-)strip scripts/dist.sh build/static$(if $(CROSS),-$(CROSS))/roost roost-$(VERSION)-linux-$(ARCH)

cross-arm64: ## builds for arm64 and runs the unit tests there, by qemu
	@scripts/cross-test.sh aarch64-linux-gnu

test-fresh: ## both commands in a debootstrapped Debian 12 folder (root, an hour)
	@scripts/fresh.sh

install: all ## PREFIX=/usr/local, DESTDIR
	install -D -m 755 roost $(DESTDIR)$(PREFIX)/bin/roost
	install -D -m 644 docs/roost.8 $(DESTDIR)$(PREFIX)/share/man/man8/roost.8
	install -D -m 644 contrib/roost.service $(DESTDIR)$(PREFIX)/lib/systemd/system/roost.service
	install -D -m 644 contrib/roost.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/roost.socket

clean: ## removes what was built
	rm -rf build roost roost-*.tar.gz

help: ## this list
	@echo "make [TARGET] [VARIANT=release|debug|asan|tsan|static] [MINIMAL=1] [CC=clang] [WERROR=1] [V=1]"
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

.PHONY: all mbedtls run test check e2e fuzz fuzz-targets bench bench-peers bench-record bench-handshake lint tidy layers format static dist cross-arm64 test-fresh install clean help
# keep the tests' objects
.SECONDARY:
-include $(OBJ:.o=.d) $B/main.d $(wildcard $B/tests/*.d)
