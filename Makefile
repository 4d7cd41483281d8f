# SPDX-License-Identifier: GPL-2.0-only
#
# M-AFC. "make help" lists the targets. Everything that is built lands in build/;
# guest kernels and what else is worth keeping in ${XDG_CACHE_HOME:-~/.cache}/mafc.

KDIR	?= /lib/modules/$(shell uname -r)/build
PREFIX	?= /usr/local
DESTDIR	?=
MODE	?= 0666

top	:= $(CURDIR)
build	:= $(top)/build
deps	:= selftests/vm/deps
sub	= $(MAKE) --no-print-directory BUILD=$(build) -C

.PHONY: all module lib tests load unload install uninstall deb modules_install help \
	run bench bench-quick bench-engine soak check # host, kunit, kernel, programs, tools, monitoring, packaging, peers
check-%:			## one group of tests: check-host, check-kunit, ...
	@selftests/check $*

check-install:			## install, use, remove and purge the Debian packages, in a guest
	@selftests/packaging/run install

soak: lib tests ko-debug ko-stock ## an hour of the tests that look for races (SOAK=seconds)
	@$(deps) build vm
	@selftests/soak $(or $(SOAK),3600)

clean:				## remove build/
	rm -rf $(build)

help:
	@sed -n 's/^\([a-z][^:]*\):.*## \(.*\)/\1@\2/p' Makefile | \
		while IFS=@ read -r t d; do printf '%-18s %s\n' "$${t%% *}" "$$d"; done
