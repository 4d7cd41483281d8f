#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# programs.sh LIB - real programs under the library, against their own results
#
# KTAP.  A program that is not installed is skipped.

lib=$1
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n=0
bad=0

# try NAME PROGRAM COMMAND: the same output with and without the library
try() {
	n=$((n + 1))
	if ! command -v "$2" >/dev/null; then
		echo "ok $n $1 # SKIP $2 is not installed"
		return
	fi
	(cd "$tmp" && bash -c "$3") >"$tmp/want" 2>&1
	want=$?
	(cd "$tmp" && LD_PRELOAD=$lib bash -c "$3") >"$tmp/got" 2>&1
	got=$?
	if [ $want = $got ] && cmp -s "$tmp/want" "$tmp/got"; then
		echo "ok $n $1"
	else
		bad=1
		diff "$tmp/want" "$tmp/got" | head -5 | sed 's/^/# /'
		echo "not ok $n $1"
	fi
}

echo "KTAP version 1"
echo "1..8"
try "shell pipeline" seq \
	'for i in 1 2 3; do seq 1 50000 | sort -r | uniq -c | tail -$(echo 2); done'
try "perl" perl \
	'perl -e '\''my %h; $h{$_} = "x" x ($_ % 3000) for 1..50000; my $n; $n += length for values %h; print "$n\n"'\'
try "python3" python3 \
	'python3 -c "import json; d = {str(i): [i] * (i % 50) for i in range(20000)}; print(hash(json.dumps(d)) and len(json.dumps(d)))"'
try "python3: threads and subprocess" python3 \
	'python3 -c "
import subprocess, threading
out = []
def f(i): out.append(subprocess.check_output([\"sh\", \"-c\", \"echo %d | cat\" % i]))
t = [threading.Thread(target=f, args=(i,)) for i in range(20)]
[x.start() for x in t]; [x.join() for x in t]
print(sorted(out))"'
try "sqlite3" sqlite3 \
	'sqlite3 :memory: "create table t(a,b); with recursive c(x) as (select 1 union all select x+1 from c where x<100000) insert into t select x, x*x from c; create index i on t(b); select count(*), sum(b) from t; pragma integrity_check"'
try "git" git \
	"git -C '$here' log --stat -5 -- . | head -100"
try "gcc -O2" gcc \
	"echo 'int f(int x) { return x * 7; }' | gcc -O2 -S -x c -o - - | grep -v ident"
try "g++" g++ \
	"echo '#include <regex>
#include <map>' | g++ -O1 -x c++ -c -o x.o - && echo built"
exit $bad
