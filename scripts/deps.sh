#!/bin/sh
# deps.sh GROUP... - sees to it that the packages of these groups (scripts/packages) are installed.
# Asks apt only if one is missing. Without root it prints the command and ends with 1.
set -eu

list=$(dirname "$0")/packages
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' | sed -n 's/^installed //p')
needed= optional=
for group in "$@"; do
    grep -q "^$group " "$list" || { echo "deps: no such group: $group" >&2; exit 1; }
done
while read -r group package unless; do
    case " $* " in
    *" $group "*) ;;
    *) continue ;;
    esac
    name=${package%\?}
    case "
$installed
" in
    *"
$name
"*) continue ;;
    esac
    if [ -n "$unless" ] && sh -c "$unless" >/dev/null 2>&1; then continue; fi
    if [ "$name" = "$package" ]; then needed="$needed $name"; else optional="$optional $name"; fi
done < "$list"

test -n "$needed$optional" || exit 0

install="apt-get install -y --no-install-recommends"
if [ "$(id -u)" != 0 ]; then
    if [ -z "$needed" ]; then # what is optional may be just what this distribution has not
        echo "deps: going on without$optional"
        exit 0
    fi
    echo "deps: packages are missing. As root, run:" >&2
    echo "    apt-get update && $install$needed$optional" >&2
    exit 1
fi

echo "deps: apt installs$needed$optional (one to five minutes)"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() { "$@" > "$log" 2>&1 < /dev/null || { cat "$log"; echo "deps: $* failed" >&2; exit 1; }; }

apt apt-get update -q -o DPkg::Lock::Timeout=600
for name in $optional; do
    if apt-cache show "$name" >/dev/null 2>&1; then
        needed="$needed $name"
    else
        echo "deps: this distribution has no $name; going on without it"
    fi
done
# shellcheck disable=SC2086 # words
test -z "$needed" || apt $install -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=600 $needed
