#!/bin/bash
# lint.sh FILE... - cppcheck over the sources, a look at the scripts and the man page; clean or it fails.
set -u
cd "$(dirname "$0")/.." || exit 1
status=0

echo "lint: cppcheck (some seconds)"
cppcheck --quiet --std=c11 --language=c --enable=warning,performance,portability --inline-suppr \
    --suppress=missingIncludeSystem --suppressions-list=scripts/cppcheck.suppressions --error-exitcode=1 -j "$(nproc)" \
    -D__x86_64__ -D__linux__ -D_GNU_SOURCE -DROOST_VERSION='"0"' -I. "$@" || status=1

echo "lint: scripts and the man page"
for script in scripts/*.sh tests/*.sh; do bash -n "$script" || status=1; done
groff -man -Tutf8 -wall -z docs/roost.8 2>&1 | grep . && status=1

test $status = 0 && echo "lint: clean"
exit $status
