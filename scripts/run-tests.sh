#!/bin/sh
# run-tests.sh PROGRAM... - runs test programs (cmocka) one after the other, each bounded in time, and
# adds up their counts. Prints a passing program's last line only; a failing one's output whole.
# RUNNER: what runs them (qemu-aarch64 ...). TEST_SECONDS: the bound for one program.
set -u

passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
count() { sed -n "s/^\[  $1 *\] \([0-9]*\) test(s).*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }

for program in "$@"; do
    # shellcheck disable=SC2086 # words
    timeout -k 5 "${TEST_SECONDS:-120}" ${RUNNER:-} "$program" > "$log" 2>&1 < /dev/null
    status=$?
    ok=$(count PASSED) bad=$(count FAILED) not=$(count SKIPPED)
    if [ $status = 0 ] && [ $((ok + not)) -gt 0 ]; then
        printf '  ok    %-28s %4d passed%s\n' "$(basename "$program")" "$ok" "$(test "$not" = 0 || echo ", $not skipped")"
    else
        cat "$log"
        case $status in
        0) echo "  FAIL  $program: ran no test" ;;
        124 | 137) echo "  FAIL  $program: still running after ${TEST_SECONDS:-120} s" ;;
        *) echo "  FAIL  $program: status $status" ;;
        esac
        test "$bad" -gt 0 || bad=1
    fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + not))
done
test $((passed + failed)) -gt 0 || { echo "no test was run"; failed=1; }
echo "$passed passed, $failed failed, $skipped skipped"
test $failed = 0
