# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables come from `run`
#
# For the cases. `run` starts each with bash -euo pipefail, in a scratch directory of its own, with
#   TOP      the source tree              LOAD     the driver of selftests/run
#   LIBS     the libraries to preload     WITNESS  the file that witness.so writes to
#   DEVICE   yes in the guest, empty with --native
# A case prints what it did, and its last line is the detail shown behind its result.

fail() {
	echo "FAIL: $*"
	exit 1
}

# What to put before a command that shall run on M-AFC; a function for most, the words themselves for a
# command in the background, whose process id is then the command's own.
on_mafc=(env LD_PRELOAD="$LIBS" MAFC_WITNESS="$WITNESS" ${DEVICE:+MAFC_REQUIRE=1})
preloaded() { "${on_mafc[@]}" "$@"; }

# same WHAT FILE FILE
same() {
	cmp "$2" "$3" || fail "$1 differs between the plain and the preloaded run"
}

# on_device PROGRAM...: fails unless each was started with its heap on the device, and nothing without.
on_device() {
	where=library
	[ -z "$DEVICE" ] || where=device
	for program; do
		grep -qx "$program $where" "$WITNESS" || fail "no $program had its heap on the $where"
	done
	! grep -v " $where\$" "$WITNESS" || fail "programs without their heap on the $where"
}

# Waits up to SECONDS for a command to succeed.
await() {
	tries=$(($1 * 10))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.1
	done
}
