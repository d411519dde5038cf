#!/bin/sh
# callgrind_units.sh [FOLDER]: instructions an operation, counted by valgrind's callgrind, and the
# check that a tick of the timer wheel costs the same with 1,000 and with 1,000,000 timers armed
# (5 % at most). Counts do not depend on the machine's load. Takes some 20 s. CC and CFLAGS count.
# Leaves with 0 if valgrind is not there.
set -eu
command -v valgrind >/dev/null || { echo 'callgrind_units: no valgrind, left out'; exit 0; }
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf "$out"' EXIT
bin=$out/callgrind_units
${CC:-cc} -std=c11 -D_GNU_SOURCE -pthread ${CFLAGS:--O2 -g} -I"$root" -o "$bin" \
	"$root/tests/callgrind_units.c" "$root/mem.c" "$root/frame.c" "$root/wheel.c" "$root/mailbox.c"

# per_operation MODE N ROUNDS [PROGRAM]: instructions an operation, in hundredths
per_operation() {
	operations=$(timeout 120 valgrind --tool=callgrind --callgrind-out-file=/dev/null \
		--toggle-collect=measured "${4:-$bin}" "$1" "$2" "$3" 2>"$out/valgrind.log")
	collected=$(sed -n 's/.*Collected : //p' "$out/valgrind.log")
	echo $((collected * 100 / operations))
}

show() {
	printf '%-44s %5d.%02d instructions\n' "$1" $(($2 / 100)) $(($2 % 100))
}

# within_5_percent WHAT FEW MANY: many timers must not cost more than few
within_5_percent() {
	show "$1, 1,000 armed" "$2"
	show "$1, 1,000,000 armed" "$3"
	[ $(($3 * 100)) -le $(($2 * 105)) ] || { echo "FAILED: $1 costs above 5 % more"; exit 1; }
}

few=$(per_operation idle 1000 20000)
many=$(per_operation idle 1000000 20000)
within_5_percent 'wheel: tick' "$few" "$many"
few=$(per_operation ping 1000 31250)
many=$(per_operation ping 1000000 3125)
within_5_percent 'wheel: ping fired and armed again' "$few" "$many"
show 'wheel_arm, 25 s' "$(per_operation arm 100000 1)"
show 'mem_alloc and mem_free, 144 bytes' "$(per_operation alloc 144 100000)"
show 'frame_new and frame_unref, 128 bytes' "$(per_operation frame 128 100000)"
show 'mailbox_push, 1/16 of a mailbox_take' "$(per_operation post 1 160000)"
fanout=$root/build/release/callgrind_fanout
make -s -C "$root" "${fanout#"$root/"}" >/dev/null
show 'delivery to 1,000 raw subscribers' "$(per_operation raw 1000 50 "$fanout")"
show 'delivery to 1,000 clients' "$(per_operation client 1000 50 "$fanout")"
