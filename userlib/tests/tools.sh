#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# tools.sh BUILD - Valgrind on the library, its probes, and a set-user-ID program
#
# KTAP.  A tool that is not installed is skipped.

lib=$1/libmafc.so
program=$1/userlib/tests/memcheck
n=0
bad=0

# result NAME STATUS
result() {
	n=$((n + 1))
	[ "$2" = 0 ] && echo "ok $n $1" && return
	bad=1
	echo "not ok $n $1"
}

skip() {
	n=$((n + 1))
	echo "ok $n $1 # SKIP $2"
}

# memcheck NAME KIND WHAT: Valgrind must say WHAT, or nothing where WHAT is empty
memcheck() {
	if ! command -v valgrind >/dev/null; then
		skip "$1" "valgrind is not installed"
		return
	fi
	said=$(LD_PRELOAD=$lib MAFC_REQUIRE='' valgrind -q --leak-check=full \
		--soname-synonyms=somalloc="libmafc.so*" "$program" "$2" 2>&1)
	if [ -z "$3" ]; then
		[ -z "$said" ]
	else
		grep -q "$3" <<<"$said" && ! grep -q '^mafc:' <<<"$said"
	fi
	status=$?
	[ $status = 0 ] || head -n 5 <<<"$said" | sed 's/^/# /'
	result "$1" $status
}

# probe NAME: in the notes, and a nop with a semaphore that is none
probe() {
	at=$(readelf -nW "$lib" | awk -v name="$1" '$1 == "Name:" { found = $2 == name }
		$1 == "Location:" && found { sub(",", "", $2); print $2, $NF }' | head -n 1)
	if [ -z "$at" ] && ! echo '#include <sys/sdt.h>' | cc -E - >/dev/null 2>&1; then
		skip "probe $1" "built without sys/sdt.h"
		return
	fi
	[ "${at#* }" = 0x0000000000000000 ] &&
		objdump -d --no-show-raw-insn --start-address="${at% *}" --stop-address=$((${at% *} + 1)) "$lib" |
			grep -q $'\tnop'
	result "probe $1" $?
}

# The environment counts in an ordinary program only.
privileged() {
	name="options are ignored in a set-user-ID program"
	dir=$(mktemp -d)
	cp "$1" "$dir/program" && chmod 755 "$dir" "$dir/program"
	stats() { (cd "$dir" && MAFC_STATS=1 ./program 2>&1 >/dev/null | grep -c '^mafc: heap on'); }
	plain=$(stats)
	if [ "$(id -u)" != 0 ] || ! chown nobody "$dir/program" || ! chmod u+s "$dir/program" ||
		[ "$(cd "$dir" && cp /usr/bin/id id && chown nobody id && chmod u+s id && ./id -u)" = 0 ]; then
		skip "$name" "no set-user-ID programs here"
	else
		[ "$plain" = 1 ] && [ "$(stats)" = 0 ]
		result "$name" $?
	fi
	rm -rf "$dir"
}

echo "KTAP version 1"
echo "1..11"
memcheck "valgrind: every function, clean" 0 ''
memcheck "valgrind: read after free" 1 'Invalid read of size 1'
memcheck "valgrind: write behind a block" 2 'Invalid write of size 1'
memcheck "valgrind: a leak" 3 'definitely lost in loss record'
memcheck "valgrind: double free" 4 'Invalid free'
memcheck "valgrind: contents never written" 5 'depends on uninitialised'
for name in refill flush large_alloc trim; do
	probe $name
done
privileged "$1/userlib/tests/cxx-static"
exit $bad
