#!/bin/sh
# run.sh BUILD - `make bench`: the modes of `roost bench` against a server of their own, raw and as
# Centrifuge SDKs speak, and the bare loops of bench/bare_*.c in the same run. SECONDS_EACH and REPEAT (interleaved runs) may be set.
# Ends with 1 if anything was lost.
set -eu
build=${1:-build/release}
roost=$build/roost
seconds=${SECONDS_EACH:-3}
status=0

run() {
    "$roost" bench "$@" --seconds "$seconds" || status=1
    echo
}

i=0
while [ "$i" -lt "${REPEAT:-1}" ]; do
    i=$((i + 1))
    run echo
    run echo --bare "$build/bare_echo"
    run echo --connections 1000
    run echo --connections 1000 --bare "$build/bare_echo"
    run echo --size 16384
    run echo --size 16384 --bare "$build/bare_echo"
    run echo --window 16
    run echo --window 16 --bare "$build/bare_echo"
    run echo --dialect raw
    run echo --dialect centrifuge
    for connections in 1000 10000; do
        for window in 1 16; do
            run fanout --connections "$connections" --window "$window"
            run fanout --connections "$connections" --window "$window" --bare "$build/bare_fanout"
            run fanout --connections "$connections" --window "$window" --dialect centrifuge
            run fanout --connections "$connections" --window "$window" --dialect centrifuge --history 100
        done
    done
    run connect
    run connect --dialect centrifuge
    run connect --dialect centrifuge --no-subscribe
    run echo --tls
    run fanout --tls
    run connect --tls
    run idle
    run idle --dialect centrifuge --leave 4
    run idle --dialect centrifuge --no-subscribe
    run idle --tls --connections 5000
done
exit "$status"
