#!/bin/sh
# embed.sh DIR - writes the C source that carries the files below DIR in the binary (web.h) to stdout.
# The bytes come in by the assembler's .incbin, which works for any target and any size.
set -eu

content_type()
{
    case $1 in
    *.html) echo "text/html; charset=utf-8" ;;
    *.css) echo "text/css; charset=utf-8" ;;
    *.js | *.mjs) echo "text/javascript; charset=utf-8" ;;
    *.json) echo "application/json" ;;
    *.svg) echo "image/svg+xml" ;;
    *.png) echo "image/png" ;;
    *.ico) echo "image/x-icon" ;;
    *.woff2) echo "font/woff2" ;;
    *.webmanifest) echo "application/manifest+json" ;;
    *.txt) echo "text/plain; charset=utf-8" ;;
    *) echo "application/octet-stream" ;;
    esac
}

test -d "$1" && files=$(cd "$1" && find . -type f ! -name '.*' ! -name '*~' | sed 's|^\.||' | LC_ALL=C sort) || files=
table= n=0
echo '/* made by scripts/embed.sh */'
echo '#include "web.h"'
for f in $files; do
    cat <<END
__asm__(".section .rodata\n.balign 16\nweb_bytes_$n: .incbin \"$1$f\"\n.byte 0\n.previous");
extern const uint8_t web_bytes_$n[];
END
    hash=$(sha256sum < "$1$f" | cut -c1-32)
    table="$table    {\"$f\", \"$(content_type "$f")\", web_bytes_$n, $(wc -c < "$1$f"), \"\\\"$hash\\\"\"},
"
    n=$((n + 1))
done
printf 'const struct web_file web_files[] = {\n%s    {NULL, NULL, NULL, 0, NULL},\n};\n' "$table"
echo "const size_t web_file_count = $n;"
