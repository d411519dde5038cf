#!/bin/sh
# mbedtls.sh OUT - puts mbedTLS 3.6 (include/, libmbedtls.a, VERSION) into the folder OUT.
#
# Source: $MBEDTLS_SRC (an unpacked mbedTLS 3.6 tree) if set; else the release tarball in the cache;
# else Debian 13's source package by apt, from the mirror this machine's apt already uses or from
# $DEBIAN_MIRROR. Trust: apt checks the tarball against the index that Debian's archive key signed;
# the version we tested is pinned below as well, and anything older is refused.
# MBEDTLS_REFRESH=1 asks apt again although a tarball is in the cache.
#
# The archive is compiled once for each (source, configuration, compiler, flags) and kept in
# $ROOST_CACHE (default ~/.cache/roost), so that variants and fresh clones copy it. From the Makefile:
# CC, AR, JOBS, MBEDTLS_CFLAGS.
set -eu

pin_version=3.6.6
pin_sha256=8fb65fae8dcae5840f793c0a334860a411f884cc537ea290ce1c52bb64ca007a

out=${1:?usage: mbedtls.sh OUT}
here=$(cd "$(dirname "$0")" && pwd)
cc=${CC:-cc}
ar=${AR:-ar}
jobs=${JOBS:-$(nproc)}
cflags="${MBEDTLS_CFLAGS:--O3 -g} -pthread"
cache=${ROOST_CACHE:-${XDG_CACHE_HOME:-${HOME:-build}/.cache}/roost}
mkdir -p "$cache" 2>/dev/null || { cache=build/cache && mkdir -p "$cache"; }
cache=$(cd "$cache" && pwd)

say() { echo "mbedtls: $*" >&2; }
die() { say "$*"; exit 1; }

work=
trap 'test -z "$work" || rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
need_work() { test -n "$work" || work=$(mktemp -d "$cache/tmp.XXXXXX"); }

# ---- source -------------------------------------------------------------------------------------

. "$here/apt.sh"

# a.b.c as one number, so that versions compare
number() { echo "$1" | awk -F. '{ print $1 * 1000000 + $2 * 1000 + $3 }'; }

write_sources()
{
    : > "$work/sources.list"
    host=$(. /etc/os-release && echo "$ID")
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        main=$DEBIAN_MIRROR security=${DEBIAN_SECURITY_MIRROR:-}
    elif [ "$host" = ubuntu ]; then
        # No Ubuntu has 3.6.6 yet: it comes from Debian, by the mirror that debootstrap knows.
        main=$(sed -n 's/^DEF_MIRROR="\(.*\)"/\1/p' /usr/sbin/debootstrap 2>/dev/null) security=
        [ -n "$main" ] || die "debootstrap, which names Debian's mirror, is missing; set DEBIAN_MIRROR or MBEDTLS_SRC"
    else
        main=$(host_mirror) security=$(host_security_mirror)
        [ -n "$main" ] || die "apt has no sources on this machine; set DEBIAN_MIRROR or MBEDTLS_SRC"
    fi
    key=$(keyring debian)
    echo "deb-src [signed-by=$key] $main trixie main" >> "$work/sources.list"
    test -z "$security" ||
        echo "deb-src [signed-by=$key] $security trixie-security main" >> "$work/sources.list"
}

fetch()
{
    need_work
    mkdir -p "$work/get"
    write_sources
    say "fetching Debian's source package through apt (16 MB, some seconds)"
    private_apt apt-get update || die "apt could not read the package index; see above. Offline: MBEDTLS_SRC=DIR"
    (cd "$work/get" && private_apt apt-get source --download-only --tar-only mbedtls >/dev/null) || true
    got=$(ls "$work/get" | sed -n 's/^mbedtls_\([0-9.]*\)\.orig\.tar\..*/\1/p' | head -n 1)
    case $got in
    3.6.*) ;;
    *) got=0.0.0 ;;
    esac
    if [ "$(number "$got")" -lt "$(number $pin_version)" ]; then
        die "this mirror has no mbedTLS $pin_version or later 3.6. Set DEBIAN_MIRROR to a Debian mirror
         (the part before /dists), or MBEDTLS_SRC to an unpacked mbedTLS 3.6 tree"
    fi
    set -- "$work"/get/mbedtls_*.orig.tar.*
    if [ "$got" = $pin_version ]; then
        echo "$pin_sha256  $1" | sha256sum -c --quiet - >&2 || die "the tarball is not the one we tested"
    else
        say "using $got; the signed index vouches for it ($pin_version is the version we tested)"
    fi
    mv "$1" "$cache/"
}

tarball() # newest in the cache
{
    find "$cache" -maxdepth 1 -name 'mbedtls_3.6.*.orig.tar.*' | sort -V | tail -n 1
}

if [ -n "${MBEDTLS_SRC:-}" ]; then
    src=$(cd "$MBEDTLS_SRC" && pwd) || die "no such folder: $MBEDTLS_SRC"
    source_id=$(cd "$src" && cat include/mbedtls/*.h include/psa/*.h library/*.[ch] 3rdparty/everest/library/*.c | sha256sum)
else
    test -n "$(tarball)" && test -z "${MBEDTLS_REFRESH:-}" || fetch
    source_id=$(sha256sum < "$(tarball)")
fi

# ---- archive ------------------------------------------------------------------------------------

id=$({
    echo "$source_id"
    cat "$here/mbedtls_config.h" "$0"
    $cc --version | head -n 1
    $cc -dumpmachine
    echo "$cflags"
} | sha256sum | cut -c1-16)
built=$cache/mbedtls-$id

build()
{
    need_work
    if [ -z "${MBEDTLS_SRC:-}" ]; then
        src=$work/src
        mkdir "$src"
        tar -xf "$(tarball)" -C "$src" --strip-components=1
    fi
    version=$(sed -n 's/^#define MBEDTLS_VERSION_STRING *"\(.*\)"/\1/p' "$src/include/mbedtls/build_info.h")
    case $version in
    3.6.*) ;;
    *) die "$src holds mbedTLS ${version:-?}; 3.6 is wanted" ;;
    esac
    everest=$src/3rdparty/everest
    mkdir -p "$work/obj" "$work/out"
    cp -r "$src/include" "$work/out/include"
    cp -r "$everest/include/everest" "$work/out/include/"
    cp "$here/mbedtls_config.h" "$work/out/include/roost_mbedtls_config.h"
    echo "$version" > "$work/out/VERSION"

    say "compiling $version with $cc $cflags (once; about 15 seconds on two cores)"
    case $($cc -dumpmachine) in
    x86_64*) simd="-maes -mpclmul -msse4.1" ;; # any CPU that has AES-NI has the others
    *) simd= ;;
    esac
    cat > "$work/compile" <<END
set -e
case \$1 in
*/aesni.c|*/aes.c|*/gcm.c) simd="$simd" ;;
*) simd= ;;
esac
$cc $cflags \$simd -w -DMBEDTLS_USER_CONFIG_FILE='"roost_mbedtls_config.h"' \\
    -I$work/out/include -I$src/library -I$everest/include -I$everest/include/everest \\
    -I$everest/include/everest/kremlib -I$everest/library \\
    -ffile-prefix-map=$src=mbedtls -c -o $work/obj/\$(basename \$1 .c).o \$1
END
    ls "$src"/library/*.c "$everest"/library/everest.c "$everest"/library/x25519.c \
        "$everest"/library/Hacl_Curve25519_joined.c |
        xargs -P "$jobs" -n 1 sh "$work/compile" || die "mbedTLS did not compile; see above"
    $ar rcs "$work/out/libmbedtls.a" "$work"/obj/*.o
    mv -T "$work/out" "$built" 2>/dev/null || test -r "$built/libmbedtls.a" # or another run was first
}

test -r "$built/libmbedtls.a" || build
touch "$built" # used today
find "$cache" -maxdepth 1 \( -name 'mbedtls-*' -o -name 'tmp.*' \) -mtime +30 -exec rm -rf {} +
rm -rf "$out.new"
mkdir -p "$out.new"
cp -r "$built"/* "$out.new"
rm -rf "$out"
mv "$out.new" "$out"
