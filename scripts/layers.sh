#!/bin/sh
# layers.sh - checks every #include "..." of ours against the rows in scripts/layers.
set -euf
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n '/^[0-9]/p; /^[a-z]/p' scripts/layers > "$work/rules"

# FILE MODULE ROW of each file (without .c or .h); ROW is missing if no line names the module
set +f
ls ./*.[ch] ./*/*.[ch] | grep -v '^./tests/\|^./scripts/' > "$work/files"
set -f
sed 's|^\./||; s|\.[ch]$||' "$work/files" | sort -u | while read -r file; do
    module=$file row=
    while read -r key word rest; do
        if [ "$word" = has ]; then
            # shellcheck disable=SC2254 # a pattern
            case $file in $rest) module=$key ;; esac
        fi
    done < "$work/rules"
    while read -r key word rest; do
        if [ "$word" = has ]; then continue; fi
        for p in $word $rest; do
            # shellcheck disable=SC2254
            case $module in $p) row=${row:-$key} ;; esac
        done
    done < "$work/rules"
    echo "$file $module $row"
done > "$work/table"

xargs grep -n '^ *# *include *"' < "$work/files" |
    sed -n 's|^\./||; s|^\(.*\)\.[ch]:\([0-9]*\):.*"\(.*\)\.h".*|\1 \2 \3|p' > "$work/includes"

awk -v pairs="$work/pairs" '
    FILENAME ~ /table$/ {
        module[$1] = $2; row[$1] = $3
        if ($3 == "") { print "layers: no row in scripts/layers names " $1 "; add it"; bad = 1 }
        next
    }
    { # FILE LINE INCLUDED
        to = $3; n++
        if (!(to in module) && $1 ~ /^bench\//) to = "bench/" to
        if (!(to in module)) { print "layers: " $1 " line " $2 " includes " $3 ".h: not a file of ours"; bad = 1 }
        else if (row[to] > row[$1]) {
            print "layers: " $1 " (row " row[$1] ") line " $2 " includes " to ".h (row " row[to] ")"; bad = 1
        } else print module[$1], module[to] > pairs
    }
    END { if (bad) exit 1; print "layers: " n " includes, none upwards" }' "$work/table" "$work/includes"

sort -u "$work/pairs" | awk '$1 != $2' | tsort > /dev/null ||
    { echo "layers: these modules include each other in a circle"; exit 1; }
