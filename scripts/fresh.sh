#!/bin/bash
# fresh.sh - does a fresh clone do what the README says on a fresh machine? A Debian folder made by
# debootstrap gets git, gcc and make and a clone of this repository; inside, `make run` must come up
# and carry a message, and `make test` must pass. Root only. An hour, 90 minutes at most.
#
# SUITE=bookworm (or trixie). KEEP=1 leaves the folder. FRESH_ONLY=run leaves `make test` out.
# What is committed is tested, not what is only in the working tree.
set -eu

suite=${SUITE:-bookworm}
here=$(cd "$(dirname "$0")" && pwd)
die() { echo "fresh: $*" >&2; exit 1; }
test "$(id -u)" = 0 || die "this needs root (debootstrap, chroot)"
"$here/deps.sh" fresh

work=$(mktemp -d /var/tmp/roost-fresh.XXXXXX)
trap 'test -n "${KEEP:-}" && echo "fresh: kept in $work" || rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
. "$here/apt.sh"
mirror=${DEBIAN_MIRROR:-$(host_mirror)}
security=${DEBIAN_SECURITY_MIRROR:-$(host_security_mirror)}
root=$work/root

echo "fresh: debootstrap of $suite (a minute)"
debootstrap --variant=minbase --include=git,gcc,make --keyring="$(keyring debian)" "$suite" "$root" "$mirror" \
    > "$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log"; die "debootstrap failed"; }
test -z "$security" || echo "deb $security $suite-security main" >> "$root/etc/apt/sources.list"
# what this machine needs to reach its mirrors, the folder needs too
apt-config dump | grep -E '^Acquire::(http|https|ftp)::Proxy' > "$root/etc/apt/apt.conf.d/proxy" || true
cp /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
pass=(${STAGES:+"STAGES=$STAGES"}) # variables for inside
registry=$(npm config get registry 2>/dev/null || true)
test -z "$registry" || pass+=("NPM_CONFIG_REGISTRY=$registry")
trusted=${NODE_EXTRA_CA_CERTS:-$(npm config get cafile 2>/dev/null || true)}
if [ -r "$trusted" ]; then
    cp "$trusted" "$root/root/ca.pem"
    pass+=("NODE_EXTRA_CA_CERTS=/root/ca.pem")
fi

git clone -q --no-hardlinks "$here/.." "$root/root/roost"
cp "$here/fresh-run.sh" "$root/root/"

inside() # SECONDS COMMAND - in the folder, in namespaces of its own: whatever it starts or mounts ends with it
{
    timeout -s KILL "$1" unshare --mount --pid --fork --kill-child bash -c '
        root=$1 command=$2
        shift 2
        mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc" && mount -t tmpfs tmpfs "$root/tmp" &&
        exec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@" \
            chroot "$root" /bin/bash -c "cd /root/roost && $command"' - "$root" "$2" "${pass[@]}"
}

echo "fresh: make run"
inside 1200 "/root/fresh-run.sh" || die "make run did not carry a message"
test "${FRESH_ONLY:-}" != run || exit 0

echo "fresh: make test"
inside 5400 "make test" || die "make test failed"
echo "fresh: both commands work in a fresh $suite"
