#!/bin/sh
# install.sh FOLDER: the peers that packages have: nginx with nchan, libwebsockets, and from npm ws and uWebSockets.js.
# What can not be had is left out by run.mjs, which says so.
set -u
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
missing=
for package in nodejs npm openssl nginx-core libnginx-mod-nchan libwebsockets-dev; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "bench-peers: installing$missing"
    if [ "$(id -u)" = 0 ]; then
        apt-get update -qq
        # shellcheck disable=SC2086 # a list; a server that the package starts by itself would be in the way
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing > /dev/null || echo "bench-peers: not all of them could be installed"
    else
        echo "bench-peers: without root; run: apt-get install$missing"
    fi
fi
test -d "$folder/node_modules/uwebsockets" ||
    (cd "$folder" && echo '{"private":true}' > package.json && npm install --no-audit --no-fund --loglevel=error ws@8.23.0 uwebsockets@3.0.6)
test -x "$folder/lws" && [ "$folder/lws" -nt "$here/lws.c" ] || cc -O2 -o "$folder/lws" "$here/lws.c" -lwebsockets
exit 0
