#!/bin/sh
# dist.sh BINARY NAME - packs the static BINARY with its papers as NAME.tar.gz.
# STRIP: the strip of the target. The same sources give the same bytes.
set -eu

binary=$1 name=$2
limit=$((3 * 1024 * 1024))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/$name"
${STRIP:-strip} -o "$work/$name/roost" "$binary"
size=$(wc -c < "$work/$name/roost")
if [ "$size" -gt $limit ]; then
    echo "dist: the stripped binary has $size bytes; $limit is the limit" >&2
    exit 1
fi
if readelf -lW "$work/$name/roost" | grep -q INTERP; then
    echo "dist: $binary is not static" >&2
    exit 1
fi
# shellcheck disable=SC2046
cp LICENSE NOTICE $(ls README.md CHANGELOG.md 2>/dev/null) docs/roost.8 contrib/roost.service contrib/roost.socket "$work/$name/"
mkdir "$work/$name/docs" "$work/$name/bench" "$work/$name/contrib" # where the README has its links
cp docs/*.md docs/roost.8 "$work/$name/docs/"
cp bench/*.md "$work/$name/bench/"
cp contrib/kubernetes.yaml contrib/keda.yaml contrib/alerts.yml contrib/grafana-roost.json "$work/$name/contrib/"
mkdir "$work/$name/licenses" # that NOTICE speaks of; every Debian and Ubuntu has them here
cp -L /usr/share/common-licenses/Apache-2.0 /usr/share/common-licenses/LGPL-2.1 \
    /usr/share/common-licenses/LGPL-3 /usr/share/common-licenses/GPL-3 "$work/$name/licenses/"
chmod 755 "$work/$name" "$work/$name/roost"
time=$(git log -1 --format=%ct 2>/dev/null || echo 0)
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$time" -C "$work" -cf - "$name" | gzip -9n > "$name.tar.gz"
echo "$name.tar.gz: $(wc -c < "$name.tar.gz") bytes; the binary: $size"
