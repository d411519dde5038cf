#!/bin/sh
# bench/million.sh - a million idle WebSocket connections on one host, both ends of them.
#
#   make && bench/million.sh                 # MILLION=1000000 HOLD=600 PORT=7700
#   MILLION=50000 HOLD=60 bench/million.sh   # a smaller one
#
# A process may have some 20,000 descriptors here, so there are as many `roost serve` as that takes, all on one port, each
# on an address of its own in 127.0.0.0/8, and as many `roost bench idle`, one for each. Each server has a bus of its own:
# what is published through one reaches its own connections.
# Pings go out each 25 s (`--ping-interval`) and are answered. After HOLD seconds one publication through each process's API.
# Changes nothing on the host; ends what it has started; stops by itself if memory gets short or nothing moves any more.
set -eu

want=${MILLION:-1000000} hold=${HOLD:-600} port=${PORT:-7700} each=${EACH:-18500} ping=${PING:-25s}
roost=${ROOST:-$(cd "$(dirname "$0")/.." && pwd)/roost}
keep_kb=$((2 * 1024 * 1024)) # of memory, for the rest of the host
work=$(mktemp -d)
pids=
say() { echo "million: $*"; }
end() { trap - EXIT INT TERM; for p in $pids; do kill -INT "$p" 2>/dev/null || true; done; sleep 1; for p in $pids; do kill -KILL "$p" 2>/dev/null || true; done; rm -rf "$work"; }
trap end EXIT
trap 'end; exit 130' INT TERM
test -x "$roost" || { say "no binary at $roost: make first"; exit 1; }

processes=$(((want + each - 1) / each))
per=$((want / processes))
available() { awk '/^MemAvailable/ { print $2 }' /proc/meminfo; }
kernel_kb() { awk '/^(Slab|KernelStack|PageTables|Percpu):/ { n += $2 } END { print n }' /proc/meminfo; }
say "$processes servers and $processes clients, $per connections each; $(($(available) / 1024)) MiB of memory are free"

ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') ROOST_HTTP_API_KEY=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY ROOST_HTTP_API_KEY
ROOST_TOKEN=$("$roost" token make --sub million --sub-to million --exp 6h)
export ROOST_TOKEN

# address I: of the I-th server, from 0
address() { echo "127.$(($1 / 250 + 1)).0.$(($1 % 250 + 1))"; }
servers= clients=
i=0
while [ $i -lt $processes ]; do
    "$roost" serve --workers 1 --listen "ws://$(address $i):$port" --admin-listen "unix:$work/$i.sock" --ping-interval "$ping" --log-level warn > "$work/server.$i" 2>&1 &
    servers="$servers $!" pids="$pids $!" i=$((i + 1))
done
for i in $(seq 0 $((processes - 1))); do
    for _ in $(seq 100); do curl -fs --unix-socket "$work/$i.sock" http://a/readyz > /dev/null && break; sleep 0.1; done
done
# pss PID...: proportional set size in KB. cpu PID...: user and system time, in ticks.
pss() { for p; do awk '/^Pss:/ { print $2 }' "/proc/$p/smaps_rollup" 2>/dev/null; done | awk '{ n += $1 } END { print n + 0 }'; }
cpu() { for p; do sed 's/.*) //' "/proc/$p/stat" 2>/dev/null; done | awk '{ n += $12 + $13 } END { print n + 0 }'; }
# of I NAME: a metric of the I-th server. sum NAME: of all of them.
of() { curl -s --unix-socket "$work/$1.sock" http://a/metrics | awk -v n="roost_$2" '$1 == n { s += $2 } END { printf "%d\n", s }'; }
sum() { for i in $(seq 0 $((processes - 1))); do curl -s --unix-socket "$work/$i.sock" http://a/metrics; done | awk -v n="roost_$1" '$1 == n { s += $2 } END { printf "%d\n", s }'; }

pss_before=$(pss $servers) kernel_before=$(kernel_kb) cpu_before=$(cpu $servers) began=$(date +%s)
# Four clients at a time: with all at once they would come so late to their pings that these are not answered in 8 s.
i=0
while [ $i -lt $processes ]; do
    "$roost" bench idle "ws://$(address $i):$port" --channel million --connections $per --seconds 36000 --ramp 16 --quiet > "$work/client.$i" 2>&1 &
    clients="$clients $!" pids="$pids $!" i=$((i + 1))
    for _ in $(seq 120); do [ "$(of $((i > 4 ? i - 4 : 0)) connections_open)" -lt $per ] || break; [ $i -ge 4 ] || break; sleep 0.5; done
    [ $((i % 8)) -ne 0 ] || say "$(sum connections_open) open after $(($(date +%s) - began)) s, $(($(available) / 1024)) MiB free"
    [ "$(available)" -ge $keep_kb ] || break
done

total=$((per * processes)) open=0 last=-1 still=0 why=
while [ "$open" -lt $total ]; do
    sleep 5
    open=$(sum connections_open)
    say "$open open after $(($(date +%s) - began)) s, $(($(available) / 1024)) MiB free"
    if [ "$(available)" -lt $keep_kb ]; then why="memory: less than $((keep_kb / 1024)) MiB are free"; break; fi
    if [ "$open" = "$last" ]; then still=$((still + 1)); else still=0; fi
    if [ $still -ge 12 ]; then why="nothing has moved for a minute"; break; fi
    last=$open
done
took=$(($(date +%s) - began)) cpu_open=$(cpu $servers)
say "$open of $total connections are open after $took s${why:+; stopped by: $why}"
grep -hE 'FAILED|limit|warn' "$work"/client.* "$work"/server.* 2>/dev/null | sort | uniq -c | sort -rn | head -5 || true

held=$(date +%s)
cpu_held=$(cpu $servers) cpu_clients=$(cpu $clients) pings=$(sum pings_sent_total)
while [ $(($(date +%s) - held)) -lt "$hold" ]; do
    sleep 10
    say "held for $(($(date +%s) - held)) of $hold s: $(sum connections_open) open"
done
span=$(($(date +%s) - held))
cpu_after=$(cpu $servers) cpu_clients_after=$(cpu $clients) pss_after=$(pss $servers) kernel_after=$(kernel_kb)
pings=$(($(sum pings_sent_total) - pings)) lost=$(sum 'timeouts_total{what="pong"}') now=$(sum connections_open) closed=$(sum connections_closed_total)

before=$(sum messages_sent_total)
published=$(date +%s)
for i in $(seq 0 $((processes - 1))); do
    curl -fs --unix-socket "$work/$i.sock" -H "X-API-Key: $ROOST_HTTP_API_KEY" -d '{"channel":"million","data":"to all"}' http://a/api/publish > /dev/null || say "publishing through process $i failed"
done
for _ in $(seq 60); do reached=$(($(sum messages_sent_total) - before)); [ "$reached" -lt "$now" ] || break; sleep 1; done
waiting=$(sum queued_bytes)

awk -v n="$now" -v pb="$pss_before" -v pa="$pss_after" -v kb="$kernel_before" -v ka="$kernel_after" -v span="$span" -v hz="$(getconf CLK_TCK)" \
    -v c="$((cpu_after - cpu_held))" -v cc="$((cpu_clients_after - cpu_clients))" -v co="$((cpu_open - cpu_before))" -v pings="$pings" -v lost="$lost" -v closed="$closed" -v reached="$reached" \
    -v waiting="$waiting" -v pub="$(($(date +%s) - published))" -v procs="$processes" 'BEGIN {
    printf "\n%d connections on %d server processes, held for %d s\n", n, procs, span
    printf "  server CPU, user and system     %.2f cores (clients: %.2f)\n", c / hz / span, cc / hz / span
    printf "  pings sent meanwhile            %d (%d a second); not answered: %d\n", pings, pings / span, lost
    printf "  closed                          %d\n", closed
    printf "  user memory of the servers      %.0f bytes a connection (PSS growth)\n", (pa - pb) * 1024 / n
    printf "  kernel memory, both ends        %.0f bytes a connection (slab, page tables)\n", (ka - kb) * 1024 / n
    printf "  opening them cost the servers   %.1f us each\n", co / hz * 1e6 / n
    printf "  one publication each            reached %d in %d s; %d bytes wait\n", reached, pub, waiting }'
[ "$lost" = 0 ] && [ "$closed" = 0 ] && [ "$reached" -ge "$now" ] && [ "$now" = "$total" ]
