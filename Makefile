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
	run bench bench-quick bench-engine check check-install soak clean

all: module lib tests		## (default) module, lib and tests

# The kernel builds beside the sources, so each kernel gets a copy of them. What
# left the tree must leave the copy. Two builds of one copy must not meet.
define kbuild
	@mkdir -p $(build)/$(1)
	@kdir=$(2) && exec 9>$(build)/$(1).lock && flock 9 && \
	for f in `cd $(build)/$(1) && find kmod uapi -name '*.[ch]' ! -name 'core_*' 2>/dev/null`; do \
		[ -e $$f ] || rm $(build)/$(1)/$$f; done && \
	cp -pRu Kbuild kmod uapi $(build)/$(1)/ && \
	$(MAKE) --no-print-directory -s -C $$kdir M=$(build)/$(1) $(3) modules
endef

module:				## build/mafc.ko for KDIR (default: the running kernel)
ifneq ($(wildcard $(KDIR)/Makefile),)
	$(call kbuild,ko,$(KDIR))
	@cp -u $(build)/ko/mafc.ko $(build)/
else
	@echo "mafc.ko: not built, no kernel headers in $(KDIR) (set KDIR=)"
endif

ko-stock ko-6.1: ko-%:		## the module for a guest kernel: ko-stock, ko-debug, ko-6.1
	@$(deps) build
	$(call kbuild,$@,$$(selftests/vm/kernel $* --kdir))

ko-debug:
	@$(deps) build
	$(call kbuild,$@,$$(selftests/vm/kernel debug --kdir),MAFC_KUNIT=1)

.PHONY: ko-stock ko-debug ko-6.1

lib:				## build/libmafc.so and the tools
	@$(sub) userlib

tests: lib			## build/selftests
	@$(sub) selftests

load:				## insmod build/mafc.ko, device mode MODE (default 0666)
	insmod $(build)/mafc.ko $(MODARGS)
	chmod $(MODE) /dev/mafc

unload:				## rmmod mafc
	rmmod mafc

install: lib			## library, headers, tools, unit, udev rule below DESTDIR/PREFIX
	@$(sub) userlib/packaging install

uninstall:			## remove what install installed
	@$(sub) userlib/packaging uninstall

deb:				## Debian packages, in build/deb
	@$(deps) packaging
	@$(sub) userlib/packaging deb

modules_install: module		## mafc.ko below DESTDIR/lib/modules
	$(MAKE) -C $(KDIR) M=$(build)/ko INSTALL_MOD_PATH=$(DESTDIR) \
		$(if $(wildcard $(KDIR)/certs/signing_key.pem),,CONFIG_MODULE_SIG_ALL=) modules_install

run:				## redis-server under five allocators, in a guest; ends with a table
	@$(deps) build vm
	@$(MAKE) --no-print-directory lib ko-stock
	@selftests/run/run

bench:				## M-AFC and other allocators side by side, 15 minutes at most
	@$(deps) build vm bench
	@$(MAKE) --no-print-directory lib ko-stock
	@selftests/bench/run

bench-quick:			## the native half of it, 3 minutes at most
	@$(deps) build bench
	@$(MAKE) --no-print-directory lib
	@selftests/bench/run --quick

bench-engine:			## what compaction gains and costs, in guests
	@$(deps) build vm
	@$(MAKE) --no-print-directory lib ko-stock
	@selftests/engine/run

check:				## all tests; the last line is their sum
	@selftests/check host kunit kernel programs tools

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
