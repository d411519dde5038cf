#!/bin/sh
# run-fuzz.sh PROGRAM... - runs each libFuzzer target for FUZZ_SECONDS over tests/corpus/NAME. What it
# finds new stays in build/fuzz-corpus/NAME; a crashing input is kept and named.
set -u

passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$@"; do
    name=$(basename "$program" | sed 's/^fuzz_//')
    new=build/fuzz-corpus/$name
    mkdir -p "$new" build/fuzz-crashes "tests/corpus/$name"
    timeout -k 5 $((FUZZ_SECONDS * 2 + 120)) "$program" -max_total_time="$FUZZ_SECONDS" -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="build/fuzz-crashes/$name-" \
        "$new" "tests/corpus/$name" > "$log" 2>&1
    status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ $status = 0 ] && [ "${runs:-0}" -gt 0 ]; then
        printf '  ok    %-28s %s runs\n' "fuzz_$name" "$runs"
        passed=$((passed + 1))
    else
        tail -n 60 "$log"
        echo "  FAIL  fuzz_$name: status $status; the input is in build/fuzz-crashes/"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
test $failed = 0 && test $passed -gt 0
