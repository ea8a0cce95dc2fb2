# SPDX-License-Identifier: Apache-2.0
# Two commands for a newcomer: `make demo` and `make test`. Everything they need is installed by
# them: Debian packages (the kernel to test on, QEMU, bcc) and a virtual environment in .venv/.
# One .venv, filled in two steps, a stamp each: `make venv` is enough to judge captures,
# `make test-venv` adds what lint and unit tests need; `make lab-venv` adds the lab's Debian packages.

PYTHON := /usr/bin/python3
VENV := .venv
VENV_PACKAGES := python3-venv
# What compiles the parts that are compiled (tracer/ghesrace/compiled.py). `make venv` uses it if there.
BUILD_PACKAGES := python3-venv gcc libc6-dev python3-dev elfutils
# What the unit tests run besides: iasl, openssl, groff. promtool and systemd-analyze: if there.
TEST_PACKAGES := $(BUILD_PACKAGES) acpica-tools openssl groff-base
# What ghesrace needs where `make install` puts it.
RUN_PACKAGES := python3-bpfcc python3-psutil python3-prometheus-client python3-bcrypt python3-yaml \
	python3-rich python3-jinja2
PACKAGES := $(TEST_PACKAGES) $(RUN_PACKAGES) qemu-system-x86 linux-image-amd64 linux-headers-amd64 \
	build-essential kmod udev iproute2 file busybox-static trace-cmd linux-perf prometheus \
	prometheus-node-exporter zsh fish mandoc chromium-headless-shell
# What tries packages (packaging/test.sh).
PACKAGE_PACKAGES := lintian mmdebstrap
# For arm64 guests; their own kernels and userland are fetched into build/arm64 by lab/kernels/arm64.py.
ARM64_PACKAGES := qemu-system-arm qemu-efi-aarch64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross cpio

# What builds a kernel (lab/patched); for arm64, ARM64_PACKAGES too.
KERNEL_PACKAGES := git build-essential flex bison bc libelf-dev libssl-dev dwarves xz-utils

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
say = @printf '\n== %s\n' '$(1)'

# What Python compiled is kept, whatever the environment says: without it pytest makes each file of tests
# anew in each worker (10 s of 50), and each command that a test starts compiles all that it loads.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test quick lint unit guest-test lab-test pack-test arm64-test matrix alert-test daemon-test venv \
	test-venv lab-venv venv-packages build-packages test-packages run-packages packages arm64-packages kernel-packages package-packages \
	kernel-mutants forms examples clean install uninstall fuzz deb deb-arm64 deb-trixie deb-trixie-arm64 sdist package-test \
	docs soak sanitize nightly oracle worlds mutate

help:
	@echo 'make demo      watch a real kernel in a guest, then the control; ends with two verdicts'
	@echo 'make test      lint, unit tests, then the tests that need a live kernel'
	@echo 'make quick     lint and unit tests with few examples: before each commit; under a minute'
	@echo 'make lint      ruff, mypy, import rules, licences'
	@echo 'make unit      unit tests only, all examples: a minute or two, no root'
	@echo 'make guest-test  the tests that need a live kernel, two guests at once: amd64 and arm64'
	@echo 'make lab-test  those on amd64'
	@echo 'make pack-test a program pack that is built in one boot and loaded in the next, without bcc'
	@echo 'make arm64-test  real arm64 kernels in a guest: SEA, interrupts, GPIO and GSIV'
	@echo 'make matrix    Debian 5.10 to the newest, amd64 and arm64: writes docs/kernels.md; an hour'
	@echo 'make kernel-mutants  kernels with a fault in GHES or under it, built and judged: writes docs/mutants.md'
	@echo 'make forms     one run in every form that tools print: writes a table of docs/foreign-traces.md'
	@echo 'make alert-test  five daemons, a Prometheus, each alert once: three minutes'
	@echo 'make daemon-test  the package and the daemon under a real systemd, in a guest, and alert-test: 20 minutes'
	@echo 'make examples  record examples/*.arrows again, amd64 and arm64, and draw docs/pictures'
	@echo 'make venv      .venv/ with what check, plan, doctor and capture need: no kernel, no compiler'
	@echo 'make test-venv   and what lint and unit tests need; make lab-venv   and the lab: all of it'
	@echo 'make docs      man pages, completion, the site of docs/ with its links checked: build/handbook'
	@echo 'make install   with DESTDIR and prefix (/usr/local); make uninstall'
	@echo 'make deb       a Debian package for this host that needs no network: build/*.deb'
	@echo 'make deb-trixie  the same for trixie and its Python; make deb-arm64, make deb-trixie-arm64 cross-compiled'
	@echo 'make sdist     the source archive: build/sdist'
	@echo 'make package-test  two builds alike, lintian, clean roots: install, upgrade, downgrade, remove, purge'
	@echo 'make oracle    the checker beside every world of small records; goes on where it stopped'
	@echo 'make nightly   what takes hours and goes on where it stood: oracle, worlds, mutate, sanitize, matrix, kernel-mutants, fuzz, pack-test'
	@echo 'make mutate    faults in the rule, one at a time: who notices? Resumable, 3 hours at most'
	@echo 'make soak      half an hour of mixed load in a guest, 10^8 events replayed'
	@echo 'make worlds N=  N worlds of each mode whose truth is known; goes on where it stopped'
	@echo 'make fuzz      100,000 cases of each kind of capture and trace; goes on where it stopped; hours'
	@echo 'make sanitize  fuzzers on compiled parts built with AddressSanitizer, UBSan, overflow checks'
	@echo 'make clean     .venv, build and caches away'

demo: lab-venv
	$(call say,a real kernel in a guest: stock then control)
	$(VENV)/bin/python -m lab.demo

# lab-venv first: with Debian's packages there, no unit test is skipped.
test: lab-venv lint unit guest-test

quick: export HYPOTHESIS_PROFILE = quick
quick: NOT_SLOW = -m 'not slow'
quick: lint unit

lint: test-venv
	$(call say,lint)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports importlinter.ini
	$(VENV)/bin/reuse lint --lines

unit: test-venv
	$(call say,unit tests)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal -rs $(NOT_SLOW) tests/unit

# Two take the files of tests in turn. With more of them than cores, their kernels complain of lockups.
LAB_TEST = $(VENV)/bin/python -m lab test --guests 2 --timeout 2700
# Packs are compiled in ten minutes: pack-test has them.
LAB_TESTS = --durations=15 tests/lab --ignore=$(DAEMON) --ignore=$(ARM64) --ignore=$(PACKS)
DAEMON := tests/lab/daemon

guest-test: lab-venv arm64-packages
	$(call say,tests in guests)
	$(VENV)/bin/python -m lab.kernels.extensions
	$(LAB_TEST) $(ARM64_KERNELS:%=--arm64 %) -- $(LAB_TESTS)

lab-test: lab-venv
	$(call say,tests in two guests)
	$(LAB_TEST) -- $(LAB_TESTS)

# A pack is built in one guest and loaded in the next, whose kernel lies elsewhere.
PACK_SHARE := build/pack-test
PACKS := tests/lab/test_packs.py
pack-test: lab-venv
	$(call say,a program pack of another boot)
	rm -rf $(PACK_SHARE) && mkdir -p $(PACK_SHARE)
	$(VENV)/bin/python -m lab run --share $(PACK_SHARE) -- sh -c 'grep " _text$$" /proc/kallsyms \
	  > "$$LAB_SHARE/other-boot.text" && python3 -m ghesrace bpf build --summary -o "$$LAB_SHARE/other-boot.pack"'
	$(VENV)/bin/python -m lab test --share $(PACK_SHARE) -- $(PACKS)

ARM64_KERNELS := bookworm
ARM64 := tests/lab/test_arm64.py

arm64-test: lab-venv arm64-packages
	$(call say,arm64 tests in a guest)
	$(VENV)/bin/python -m lab.kernels.extensions
	for kernel in $(ARM64_KERNELS); do \
	  $(VENV)/bin/python -m lab test --arch arm64 --kernel $$kernel --memory 1024 -- $(ARM64) || exit; \
	done

matrix: lab-venv arm64-packages
	$(call say,every kernel in a guest)
	$(VENV)/bin/python -m lab.kernels.extensions
	$(VENV)/bin/python -m lab.matrix

forms: lab-venv
	$(call say,every form of one run)
	$(VENV)/bin/python -m lab.forms

# Resumable: what is built and judged is kept below build/patched. KERNEL_MUTANTS="--arch amd64 --part 0.5"
KERNEL_MUTANTS :=
kernel-mutants: lab-venv arm64-packages kernel-packages
	$(call say,mutants of the kernel)
	$(VENV)/bin/python -m lab.kernels.extensions
	$(VENV)/bin/python -m lab.patched.mutants $(KERNEL_MUTANTS)

# On this machine, no guest: needs root, as the daemon does.
alert-test: lab-venv
	$(call say,each alert on a fleet of one machine)
	$(SUDO) $(VENV)/bin/python -m pytest -n 0 tests/alerts

daemon-test: lab-venv deb alert-test
	$(call say,the daemon in a guest)
	$(VENV)/bin/python -m lab test -- $(DAEMON)

examples: lab-venv arm64-packages
	$(VENV)/bin/python -m lab.kernels.extensions
	$(VENV)/bin/python -m lab.examples examples
	$(VENV)/bin/python -m lab.pictures

venv: $(VENV)/.ghesrace

# What is compiled is built anew when its source has changed.
test-venv: test-packages $(VENV)/.test
	@$(VENV)/bin/python tracer/ghesrace/compiled.py || \
	  { printf '\n== compile\n'; GHESRACE_COMPILE=always $(VENV)/bin/python setup.py -q build_ext --inplace; }

lab-venv: packages test-venv

# The virtual environment sees the system's packages, because bcc (python3-bpfcc) lives there.
$(VENV)/.ghesrace: setup.cfg setup.py pyproject.toml | venv-packages
	$(call say,virtual environment)
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip 'setuptools>=66'
	$(VENV)/bin/python -m pip install --progress-bar on --editable .
	@$(VENV)/bin/python -m ghesrace --version
	touch $@

$(VENV)/.test: $(VENV)/.ghesrace
	$(VENV)/bin/python -m pip install --progress-bar on --editable '.[daemon,lab,test]' $(BUILD_REQUIRES)
	touch $@

# What pyproject.toml says that a build needs, for builds in place.
BUILD_REQUIRES = $$($(VENV)/bin/python -c \
	"import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'])")

# What `make install` and `make deb` put beside Debian's own packages.
build/bundle/.done: $(VENV)/.ghesrace setup.cfg setup.py packaging/bundle.txt packaging/build.txt | build-packages
build/bundle/.done: $(shell find tracer probes -name '*.py' -o -name '*.toml' -o -name '*.json' -o -name '*.bpf.c' \
	-o -name '*.pxd' -o -name '*.j2' -o -name '*.css' -o -name '*.js') packaging/bundle.sh
	$(call say,bundle)
	packaging/bundle.sh $(VENV)/bin/python build/bundle
	touch $@

# Man pages, completion and the site, which `make install` and `make deb` put beside the bundle.
docs: build/handbook/.done

build/handbook/.done: $(VENV)/.docs $(shell find docs handbook tracer probes -name '*.md' -o -name '*.py' \
	-o -name '*.toml' -o -name '*.json') README.md CONTRIBUTING.md CHANGELOG.md systemd/ghesrace.toml
	$(call say,man pages and completion and the site)
	rm -rf build/handbook
	SOURCE_DATE_EPOCH=$$(packaging/epoch.sh) $(VENV)/bin/python -m handbook build/handbook
	touch $@

$(VENV)/.docs: $(VENV)/.ghesrace
	$(VENV)/bin/python -m pip install --progress-bar on $(DOCS_REQUIRES)
	touch $@

# What setup.cfg's extras say that it takes: the pages are made of the daemon's tables, too.
DOCS_REQUIRES = $$($(VENV)/bin/python -c \
	"import configparser as c; p = c.ConfigParser(); p.read('setup.cfg'); e = p['options.extras_require']; \
	print(*e['daemon'].split(), *e['docs'].split())")

install: run-packages build/bundle/.done build/handbook/.done
	packaging/install.sh install

uninstall:
	packaging/install.sh uninstall

deb: build/bundle/.done build/handbook/.done
	$(call say,Debian package)
	packaging/deb.sh

nightly: oracle worlds mutate sanitize matrix kernel-mutants fuzz pack-test

# Prints each kind of wrong answer; fails on one that tests/oracle/known.txt does not name.
ORACLE_RECORDS := 1000000
oracle: test-venv
	$(call say,the checker beside every world of small records)
	mkdir -p build
	$(VENV)/bin/python -m tests.oracle --small --state build/oracle-small.json
	$(VENV)/bin/python -m tests.oracle --sample $(ORACLE_RECORDS) --state build/oracle.json
mutate: test-venv
	$(call say,mutants of the rule)
	$(VENV)/bin/python -m tests.mutate

FUZZ_CASES := 100000
fuzz: test-venv
	$(call say,fuzzer of captures and traces: $(FUZZ_CASES) cases of each kind)
	$(VENV)/bin/python -m tests.unit.sources.foreign.fuzz_on --until $(FUZZ_CASES)

# The same for others, made here: wheels of theirs, and parts compiled for their Python.
deb-arm64: OTHER = arm64 bookworm
deb-trixie: OTHER = amd64 trixie
deb-trixie-arm64: OTHER = arm64 trixie
deb-arm64 deb-trixie-arm64: arm64-packages
deb-arm64 deb-trixie deb-trixie-arm64: test-venv build/handbook/.done
	$(call say,Debian package for $(OTHER))
	packaging/bundle.sh $(VENV)/bin/python build/bundle-other $(OTHER)
	bundle=build/bundle-other packaging/deb.sh $(OTHER)

sdist: test-venv
	$(VENV)/bin/python -c 'import setuptools.build_meta as m; print(m.build_sdist("build/sdist"))'

# As root, half an hour: builds two more bundles, and a root for each suite.
package-test: lab-venv package-packages deb deb-trixie
	$(call say,packages in clean roots)
	packaging/test.sh $(VENV)/bin/python

soak: lab-venv
	$(call say,soak: half an hour in a guest)
	$(VENV)/bin/python -m tests.soak

# Goes on where it stopped; begins anew with `rm build/worlds.json`. Fails if anything is wrong.
N := 20000
worlds: test-venv
	$(call say,worlds: $(N) of each mode)
	mkdir -p build
	$(VENV)/bin/python -m tests.worlds --worlds $(N) --resume build/worlds.json --shrink build/worlds

# Each case is several times as slow as without sanitizers; the seed is the day of the year.
SANITIZE_CASES := 2000
SANITIZED := build/sanitize
SANITIZERS = $$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)
sanitized = PYTHONPATH=$(SANITIZED) PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
	LD_PRELOAD="$(SANITIZERS)" $(VENV)/bin/python

sanitize: test-venv
	$(call say,sanitizers)
	rm -rf $(SANITIZED)
	GHESRACE_SANITIZE=1 GHESRACE_COMPILE=always $(VENV)/bin/python setup.py -q build \
	  --build-lib $(SANITIZED) --build-temp $(SANITIZED)/temp
	$(sanitized) -m pytest -n 0 -p no:cacheprovider tests/unit/sources/ring tests/unit/sources/bpf/test_order.py \
	  tests/unit/sources/bpf/test_rings.py
	$(sanitized) -m tests.unit.sources.foreign.fuzz $(SANITIZE_CASES) $$(date +%j)

export DESTDIR prefix sysconfdir

venv-packages: WANTED = $(VENV_PACKAGES)
build-packages: WANTED = $(BUILD_PACKAGES)
test-packages: WANTED = $(TEST_PACKAGES)
run-packages: WANTED = $(RUN_PACKAGES)
packages: WANTED = $(PACKAGES)
arm64-packages: WANTED = $(ARM64_PACKAGES)
kernel-packages: WANTED = $(KERNEL_PACKAGES)
package-packages: WANTED = $(PACKAGE_PACKAGES)
venv-packages build-packages test-packages run-packages packages arm64-packages kernel-packages \
package-packages:
	@missing=$$(for p in $(WANTED); do \
	  dpkg-query -W -f '$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  printf '\n== Debian packages:'; printf ' %s' $$missing; echo; \
	  $(SUDO) apt-get update -q && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	fi

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
