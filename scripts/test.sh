#!/bin/bash
# test.sh - what `make test` does: every variant, every test, one closing line with the counts.
#
# A stage is a make target or a script with a bound in seconds. If its output closes with
# "N passed, N failed" those are its counts; else it counts as one. A stage that ends with 77 could
# not run here: it is a visible SKIP. Full output: build/test/STAGE.log. STAGES="unit asan" runs only those.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MAKELEVEL MFLAGS # of the make that called: it would say -j1
export FUZZ_SECONDS=${FUZZ_SECONDS:-5}
# a busy machine must not decide: an end-to-end test that fails is run once more and, if it passes then, told as FLAKY
export RETRY=${RETRY-1} E2E_JOBS=${E2E_JOBS:-2}
# CI wants no warning; somebody's newer compiler may have some
test -n "${CI:-}" && export WERROR=${WERROR-1}

scripts/deps.sh build test || exit 1
mkdir -p build/test
passed=0 failed=0 skipped=0 summary= started=$SECONDS

# ThreadSanitizer of gcc 12 does not start where addresses are very random (vm.mmap_rnd_bits 32)
steady=
setarch -R true 2>/dev/null && steady="setarch -R"

stage() # NAME SECONDS WHAT COMMAND...
{
    local name=$1 bound=$2 what=$3 log=build/test/$1.log from=$SECONDS status line result
    shift 3
    test -z "${STAGES:-}" || [[ " $STAGES " = *" $name "* ]] || return 0
    echo "== $name: $what"
    timeout -k 20 "$bound" "$@" < /dev/null 2>&1 | tee "$log" | grep --line-buffered -v '^  CC\|^  LD'
    status=${PIPESTATUS[0]}
    line=$(grep -aE '^([a-z0-9-]+: )?[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
    [[ $line =~ ([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)? ]]
    local ok=${BASH_REMATCH[1]:-0} bad=${BASH_REMATCH[2]:-0} not=${BASH_REMATCH[4]:-0}
    case $status in
    0) result=ok; test -n "$line" || ok=1 ;;
    77) result=SKIP not=$((not + 1)) ;;
    *) result=FAILED; test "$bad" -gt 0 || bad=1 ;;
    esac
    if [ $status = 124 ] || [ $status = 137 ]; then result="FAILED (not over after $bound s)"; fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + not))
    summary+=$(printf '  %-10s %-7s %5d passed %3d failed %3d skipped %5d s' "$name" "$result" "$ok" "$bad" "$not" $((SECONDS - from)))$'\n'
    test $status = 0 || test $status = 77 || echo "== $name FAILED; its output is in $log"
}

echo "roost: the whole test suite takes about half an hour on two cores, the first time some minutes more. STAGES=\"build unit\" make test runs those alone."

stage build     900 "the release build (about a minute, mbedTLS the first time)"  make all
stage layers     60 "who includes whom"                                           make layers
stage unit      900 "unit tests, release"                                         make check
stage minimal   600 "MINIMAL=1: mbedTLS and jsmn alone"                           make MINIMAL=1 build/release-minimal/roost
stage asan     1200 "unit tests under ASan and UBSan"                             make VARIANT=asan check
stage tsan     1200 "unit tests under ThreadSanitizer"                            $steady make VARIANT=tsan check
for script in tests/*.sh; do
    test -x "$script" && stage "$(basename "$script" .sh)" 600 "$script" "$script"
done
stage fuzz      900 "each fuzz target for $FUZZ_SECONDS s (clang)"                make fuzz
stage e2e      1500 "the release binary and real clients"          make e2e
stage e2e-asan 1500 "the same under ASan and UBSan"                make VARIANT=asan e2e
stage e2e-tsan 1500 "the same under ThreadSanitizer"               $steady make VARIANT=tsan e2e
stage dist      600 "the tarball, started in an empty root"                       scripts/dist-test.sh
stage arm64     900 "unit tests on arm64 by qemu"                                 scripts/cross-test.sh aarch64-linux-gnu

echo
echo "$summary"
test $((passed + failed)) -gt 0 || { echo "no test was run"; failed=1; }
echo "the whole run took $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s"
echo "$passed passed, $failed failed, $skipped skipped"
test $failed = 0
