#!/bin/sh
# cross-libs.sh DEBIAN-ARCH OUT PACKAGE... - lays the library files of PACKAGEs for another
# architecture into OUT, by apt with folders of its own: the machine's package system learns nothing
# of that architecture. $CROSS_MIRROR: where it is not on the machine's own mirror (Ubuntu). Ends
# with 77 if that cannot be had here.
set -eu

arch=$1 out=$2
shift 2
test ! -e "$out/done-$*" || exit 0
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() { echo "cross-libs: $*" >&2; exit 77; }
. "$here/apt.sh"

. /etc/os-release
mirror=${CROSS_MIRROR:-$(host_mirror)}
test -n "$mirror" || die "apt has no sources on this machine"
key=$(keyring "$ID")
echo "deb [arch=$arch signed-by=$key] $mirror $VERSION_CODENAME main universe" |
    sed "$([ "$ID" = ubuntu ] || echo 's/ universe//')" > "$work/sources.list"
: > "$work/status"
foreign_apt()
{
    tool=$1; shift
    private_apt "$tool" -o Dir::State::status="$work/status" -o APT::Architecture="$arch" \
        -o APT::Architectures::="$arch" "$@"
}
foreign_apt apt-get update || die "no packages for $arch at this machine's mirror (CROSS_MIRROR=URL names another)"
mkdir -p "$work/get" "$work/root" "$out"
(cd "$work/get" && foreign_apt apt-get download "$@") || die "no $* for $arch"
for deb in "$work"/get/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
find "$work/root/usr/lib" "$work/root/lib" \( -name '*.so*' -o -name '*.a' \) -exec cp -P {} "$out/" \; 2>/dev/null || true
touch "$out/done-$*"
