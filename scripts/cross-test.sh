#!/bin/sh
# cross-test.sh TRIPLET - builds for another machine and runs the unit tests there, by qemu-user.
# Ends with 77 (a SKIP) if the compiler, qemu or the libraries cannot be had here.
set -eu

triplet=$1
arch=${triplet%%-*}
debian_arch=$(echo "$arch" | sed 's/aarch64/arm64/; s/x86_64/amd64/')
cd "$(dirname "$0")/.."
unset MAKEFLAGS MAKELEVEL MFLAGS # of the make that called: it would say -j1
B=build/release-$triplet
if [ "$(uname -m)" = "$arch" ]; then
    echo "this machine is $arch itself: the unit tests ran there already"
    exit 77
fi
scripts/deps.sh cross || exit 77
scripts/cross-libs.sh "$debian_arch" "$B/lib" libcmocka0 libcmocka-dev
make CROSS="$triplet" "$B/roost"
"qemu-$arch" -L "/usr/$triplet" "$B/roost" --version # the whole binary starts there
RUNNER="qemu-$arch -L /usr/$triplet" TEST_SECONDS=300 make CROSS="$triplet" check
