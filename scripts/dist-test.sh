#!/bin/bash
# dist-test.sh - `make dist`, then: unpacked into an empty root, does `./roost serve --dev` serve there,
# with nothing installed? And as the image of contrib/Containerfile does it? Asked by chroot as root, by a user namespace else; ends with 77 (a SKIP) if
# neither may be used here.
set -euo pipefail
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL MFLAGS # of the make that called: it would say -j1
make dist | grep -v "is up to date"
tarball=$(ls -t roost-*-linux-"$(uname -m)".tar.gz | head -n 1)
work=$(mktemp -d)
server=
finish() { test -z "$server" || kill "$server" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT
mkdir "$work/root"
tar -xf "$tarball" -C "$work/root" --strip-components=1 --no-same-owner

if [ "$(id -u)" = 0 ]; then
    into=(chroot "$work/root")
elif unshare --map-root-user true 2>/dev/null; then
    into=(unshare --map-root-user --root="$work/root" --wd=/)
else
    echo "dist-test: no chroot and no user namespace for this user"
    exit 77
fi
passed=0
ok() { passed=$((passed + 1)); echo "  ok    $1"; }
fail() { cat "$work/out" "$work/log" 2>/dev/null; echo "  FAIL  $1"; echo "dist: $passed passed, 1 failed"; exit 1; }

links=0
for page in README.md docs/raw.md docs/tokens.md docs/options.md docs/design.md; do
    test -f "$work/root/$page" || fail "$page is not in the tarball"
    for link in $(sed 's/](/\n](/g' "$work/root/$page" | sed -n 's/^](\([^:)#]*\)[^:]*).*/\1/p'); do
        test -e "$work/root/$(dirname "$page")/$link" || fail "$page links to $link, which is not in the tarball"
        links=$((links + 1))
    done
done
test "$links" -gt 10 || fail "only $links links were found"
ok "the documents, $links links"

for file in contrib/kubernetes.yaml contrib/keda.yaml contrib/alerts.yml contrib/grafana-roost.json; do
    test -s "$work/root/$file" || fail "$file is not in the tarball"
done
ok "contrib"

"${into[@]}" /roost --version > "$work/out" 2>&1 || fail "roost --version"
ok "$(head -n 1 "$work/out")"

env -i PATH="$PATH" "${into[@]}" /roost serve --dev --listen ws://127.0.0.1:0 --listen wss://127.0.0.1:0 > "$work/out" 2> "$work/log" &
server=$!
for _ in $(seq 200); do
    grep -q 'msg=ready' "$work/log" && break
    kill -0 $server 2>/dev/null || fail "it ended before it was ready"
    sleep 0.1
done
grep -q 'msg=ready' "$work/log" || fail "not ready after 20 s"
port() { sed -n "s|.*url=$1://127.0.0.1:\([0-9]*\).*|\1|p" "$work/log" | head -n 1; }
state=$(find "$work/root" -name api_key -printf '%h\n' | head -n 1)
test -n "$state" || fail "no state folder was made"
ok "ready in an empty root"

test "$(curl -sS -m 10 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$(port ws)/healthz")" = 200 || fail "GET /healthz"
ok "GET /healthz"
test "$(curl -sS -m 10 --cacert "$state/cert.pem" -o /dev/null -w '%{http_code}' "https://127.0.0.1:$(port wss)/")" = 200 ||
    fail "GET / over TLS, with the certificate it made"
ok "GET / over TLS, with the certificate it made"
answer=$(curl -sS -m 10 --cacert "$state/cert.pem" -H "X-API-Key: $(cat "$state/api_key")" \
    -d '{"channel":"chat","data":"hello"}' "https://127.0.0.1:$(port wss)/api/publish")
[[ $answer = *'"result"'* ]] || fail "POST /api/publish: $answer"
ok "POST /api/publish"

"${into[@]}" /roost ready "http://127.0.0.1:$(port ws)" 2> "$work/out" || fail "roost ready"
if "${into[@]}" /roost ready http://127.0.0.1:1 2> "$work/out"; then fail "roost ready, where nobody is"; fi
ok "roost ready"

stopped() # WHAT: the server ends politely
{
    kill -TERM "$server"
    for _ in $(seq 100); do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
    if kill -0 "$server" 2>/dev/null; then fail "$1: still running 10 s after SIGTERM"; fi
    status=0
    wait "$server" || status=$?
    server=
    test $status = 0 || fail "$1: status $status after SIGTERM"
    ok "$1"
}
stopped "a polite end"

# The image of contrib/Containerfile by hand: one file, and a user without a name who may write nowhere
if [ "$(id -u)" = 0 ]; then
    mkdir "$work/image"
    cp "$work/root/roost" "$work/image/roost"
    chmod 755 "$work" "$work/image"
    user=$(sed -n 's/^USER //p' contrib/Containerfile)
    into=(chroot --userspec="$user" "$work/image")
    env -i PATH="$PATH" ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY=0123456789abcdef0123456789abcdef "${into[@]}" \
        /roost serve --listen ws://0.0.0.0:0 --admin-listen ws://127.0.0.1:0 > "$work/out" 2> "$work/log" &
    server=$!
    for _ in $(seq 200); do
        grep -q 'msg=ready' "$work/log" && break
        kill -0 $server 2>/dev/null || fail "as user $user it ended before it was ready"
        sleep 0.1
    done
    is=$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' "/proc/$server/status"):$(sed -n 's/^Gid:\t\([0-9]*\).*/\1/p' "/proc/$server/status")
    test "$is" = "$user" || fail "the server is $is, not $user"
    env -i PATH="$PATH" "${into[@]}" /roost ready "http://127.0.0.1:$(port ws)" 2> "$work/out" || fail "roost ready, as user $user"
    stopped "as user $user, alone in the image: ready, and a polite end"
fi
echo "dist: $passed passed, 0 failed"
