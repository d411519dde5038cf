# roost - a WebSocket server. `make run` and `make test` are all it takes; `make help` lists the rest.

VERSION := 0.1.0

# VARIANT: release, debug, asan (with UBSan), tsan, fuzz or static; variants never share objects
VARIANT ?= release
# CROSS: a GNU triplet, aarch64-linux-gnu, to build for another machine
CROSS   ?=
# MINIMAL=1: mbedTLS and jsmn alone
MINIMAL ?=
B       ?= build/$(VARIANT)$(if $(CROSS),-$(CROSS))$(if $(MINIMAL),-minimal)

ifneq ($(CROSS),)
CC := $(CROSS)-gcc
AR := $(CROSS)-ar
endif
ifeq ($(VARIANT),fuzz)
CC := clang
endif
ARCH := $(or $(firstword $(subst -, ,$(CROSS))),$(shell uname -m))

# ---- flags ------------------------------------------------------------------------------------

HARDEN := -fPIE -fstack-protector-strong -fno-plt -fstack-clash-protection
HARDEN += $(if $(filter x86_64,$(ARCH)),-fcf-protection) $(if $(filter aarch64,$(ARCH)),-mbranch-protection=standard)
FORTIFY := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2

MODE_release := -O2 -g $(HARDEN) $(FORTIFY)
MODE_static  := $(MODE_release)
MODE_debug   := -Og -g -fPIE -DROOST_DEBUG
MODE_asan    := -O1 -g -fPIE -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
MODE_tsan    := -O1 -g -fPIE -fno-omit-frame-pointer -fsanitize=thread
MODE_fuzz    := -O1 -g -fPIE -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
LINK_static  := -static-pie
LINK_fuzz    := -fsanitize=fuzzer-no-link,address,undefined

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum -Wvla -Wconversion
WARN += $(if $(WERROR),-Werror)

override CPPFLAGS += -D_GNU_SOURCE -DROOST_VERSION='"$(VERSION)"' $(if $(MINIMAL),-DROOST_MINIMAL)
override CPPFLAGS += -I. -isystem $B/mbedtls/include -DMBEDTLS_USER_CONFIG_FILE='"roost_mbedtls_config.h"'
override CFLAGS   += -std=c11 -pthread $(MODE_$(VARIANT)) -MMD -MP
# Curve25519 goes to Everest's code (x25519.c) wherever mbedTLS multiplies
override LDFLAGS  += -pie -Wl,-z,relro,-z,now -Wl,--wrap=mbedtls_ecp_mul -Wl,--wrap=mbedtls_ecp_mul_restartable
override LDFLAGS  += $(LINK_$(VARIANT))
# a group: mbedTLS calls back into ours (SHA-256, Curve25519)
LIBS := -Wl,--start-group $B/libroost.a $B/mbedtls/libmbedtls.a -Wl,--end-group

# ---- what is built ----------------------------------------------------------------------------

SRC   := $(filter-out main.c,$(wildcard *.c)) $(wildcard bench/*.c)
OBJ   := $(SRC:%.c=$B/%.o)
TESTS := $(patsubst tests/%.c,$B/%,$(wildcard tests/test_*.c))

all: roost

roost: $B/roost
	@cp $< $@.new && mv $@.new $@

$B/roost: $B/main.o $B/libroost.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIBS) $(LDLIBS)

$B/libroost.a: $(OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$B/%.o: %.c $B/mbedtls/libmbedtls.a Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) -c -o $@ $<

# mbedTLS 3.6 as scripts/mbedtls.sh says: headers in $B/mbedtls/include, code in $B/mbedtls/libmbedtls.a
$B/mbedtls/libmbedtls.a: scripts/mbedtls.sh scripts/mbedtls_config.h
	@CC='$(CC)' AR='$(AR)' MBEDTLS_CFLAGS='$(patsubst -O%,-O3,$(MODE_$(VARIANT)))' scripts/mbedtls.sh $(@D)

mbedtls: $B/mbedtls/libmbedtls.a

clean:
	rm -rf build roost

# keep the tests' objects
.SECONDARY:
.PHONY: all mbedtls clean
-include $(OBJ:.o=.d) $B/main.d
$B/test_%: $B/tests/test_%.o $B/libroost.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIBS) $(LDLIBS) -lcmocka
