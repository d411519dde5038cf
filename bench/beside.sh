#!/bin/sh
# beside.sh BUILD [ARG...] - what a fan-out does to others on the same worker: the latency of one echo connection, alone and
# then beside a fan-out to CONNECTIONS (10,000). `roost serve` gets ARG... as well. Ends with 1 if anything was lost.
set -eu
roost=${1:-build/release}/roost
[ $# -eq 0 ] || shift
seconds=${SECONDS_EACH:-5}
settle=${SETTLE:-10} # seconds for all to have come
state=$(mktemp -d) # of --dev: the clients find its secret there
export XDG_STATE_HOME="$state"
log=$state/log
server= fanout=
trap 'kill $server $fanout 2>/dev/null || :; rm -rf "$state"' EXIT

"$roost" serve --dev --echo --workers 1 --listen ws://127.0.0.1:0 "$@" 2>"$log" &
server=$!
i=0
until url=$(sed -n 's/.*msg=listening .*url=\([^ ]*\).*/\1/p' "$log" | head -n 1) && [ -n "$url" ]; do
    i=$((i + 1))
    if [ "$i" -gt 300 ] || ! kill -0 "$server"; then
        cat "$log" >&2
        exit 1
    fi
    sleep 0.1
done

status=0
echo "# alone"
"$roost" bench echo "$url" --server-pid "$server" --connections 1 --seconds "$seconds" --quiet || status=1
# the echo begins when all have come, and ends before the fan-out does
"$roost" bench fanout "$url" --server-pid "$server" --connections "${CONNECTIONS:-10000}" --seconds $((seconds + settle)) --warm-up 1 --quiet &
fanout=$!
sleep "$settle"
echo "# beside a fan-out"
"$roost" bench echo "$url" --server-pid "$server" --connections 1 --seconds "$seconds" --quiet || status=1
wait "$fanout" || status=1
fanout=
exit "$status"
