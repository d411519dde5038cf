#!/bin/sh
# run-tests.sh PROGRAM... - runs test programs (cmocka) one after the other, each bounded in time, and
# adds up their counts. Prints a passing program's one line; a failing one's output whole.
# RUNNER: what runs them (qemu-aarch64 ...); see not-emulated. TEST_SECONDS: the bound for one program.
set -u

here=$(dirname "$0")
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
count() { sed -n "s/^\[  $1 *\] \([0-9]*\) test(s).*/\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'; }

# excused NAME - how many of the failures in the log an emulator may have; all of them, or none count
excused()
{
    test -n "${RUNNER:-}" || { echo 0; return; }
    sed -n '/test(s) run\./,$ s/^\[  FAILED  \] \([a-z_A-Z].*\)/\1/p' "$log" | while read -r test; do
        grep -q "^$1  *$test\$" "$here/not-emulated" && echo x
    done | wc -l
}

for program in "$@"; do
    name=$(basename "$program")
    # shellcheck disable=SC2086 # words
    timeout -k 5 "${TEST_SECONDS:-150}" ${RUNNER:-} "$program" > "$log" 2>&1 < /dev/null
    status=$?
    ok=$(count PASSED) bad=$(count FAILED) not=$(count SKIPPED)
    if [ "$bad" -gt 0 ] && [ "$(excused "$name")" = "$bad" ]; then
        not=$((not + bad)) bad=0 status=0
    fi
    if [ $status = 0 ] && [ $((ok + not)) -gt 0 ]; then
        printf '  ok    %-28s %4d passed%s\n' "$name" "$ok" "$(test "$not" = 0 || echo ", $not SKIP")"
    else
        cat "$log"
        case $status in
        0) echo "  FAIL  $program: ran no test" ;;
        124 | 137) echo "  FAIL  $program: still running after ${TEST_SECONDS:-150} s" ;;
        *) echo "  FAIL  $program: status $status" ;;
        esac
        test "$bad" -gt 0 || bad=1
    fi
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + not))
done
test $((passed + failed)) -gt 0 || { echo "no test was run"; failed=1; }
echo "$passed passed, $failed failed, $skipped skipped"
test $failed = 0
