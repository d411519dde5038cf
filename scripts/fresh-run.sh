#!/bin/bash
# fresh-run.sh - inside the folder of fresh.sh: `make run`, and one message from a publisher to a subscriber.
set -eu
cd "$(dirname "$0")/roost"
export XDG_STATE_HOME=/root/state
mkdir -p "$XDG_STATE_HOME"

# ports of its own: the folder shares the machine's loopback
make run ARGS='--listen ws://127.0.0.1:0 --listen wss://127.0.0.1:0' > /root/run.log 2>&1 &
server=$!
for _ in $(seq 1100); do
    grep -q 'msg=ready' /root/run.log && break
    kill -0 $server 2>/dev/null || { cat /root/run.log; echo "make run ended"; exit 1; }
    sleep 1
done
url=$(sed -n 's/.*msg=listening url=\(wss:[^ ]*\).*/\1/p' /root/run.log | head -n 1)
test -n "$url" || { cat /root/run.log; echo "make run is not ready"; exit 1; }
echo "make run is ready at $url"

timeout 60 ./roost sub "$url" chat > /root/got.log 2> /root/sub.log &
subscriber=$!
for _ in $(seq 20); do # the subscriber may take a moment; each line is a message
    echo hello from a fresh machine | timeout 20 ./roost pub "$url" chat || true
    grep -q 'hello from a fresh machine' /root/got.log && break
    sleep 0.5
done
grep 'hello from a fresh machine' /root/got.log || { cat /root/sub.log; echo "no message came"; exit 1; }
kill $subscriber
kill -TERM $server # make hands it on
wait $server || true
tail -n 2 /root/run.log
