# Two commands for a newcomer: `make demo` and `make test`. Everything they need is installed by
# them: Debian packages (the kernel to test on, QEMU, bcc) and a virtual environment in .venv/.

PYTHON := /usr/bin/python3
VENV := .venv
PACKAGES := python3-venv python3-bpfcc qemu-system-x86 linux-image-amd64 linux-headers-amd64 \
	build-essential kmod udev iproute2 file busybox-static acpica-tools trace-cmd \
	prometheus openssl python3-psutil python3-prometheus-client python3-bcrypt python3-yaml python3-rich
# For arm64 guests; their own kernels and userland are fetched into build/arm64 by lab/kernels/arm64.py.
ARM64_PACKAGES := qemu-system-arm qemu-efi-aarch64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross cpio

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
say = @printf '\n== %s\n' '$(1)'

.PHONY: help demo test lint unit lab-test arm64-test matrix daemon-test venv packages arm64-packages examples \
	clean install uninstall deb soak nightly oracle

help:
	@echo 'make demo      watch a real kernel in a guest, then the control; ends with two verdicts'
	@echo 'make test      ruff, mypy, import rules, unit tests, then the tests that need a live kernel'
	@echo 'make unit      unit tests only: seconds, no root'
	@echo 'make lab-test  the tests that need a live kernel, in a guest'
	@echo 'make arm64-test  real arm64 kernels in a guest: SEA, interrupts, GPIO and GSIV'
	@echo 'make matrix    Debian 5.10 to the newest, amd64 and arm64: writes docs/kernels.md; an hour'
	@echo 'make daemon-test  the package and the daemon under a real systemd, in a guest: 15 minutes'
	@echo 'make examples  record examples/*.arrows again'
	@echo 'make venv      .venv/ with ghesrace in it'
	@echo 'make install   with DESTDIR and prefix (/usr/local); make uninstall'
	@echo 'make deb       a Debian package that needs no network: build/*.deb'
	@echo 'make nightly   what takes hours and goes on where it stood: the oracle of worlds'
	@echo 'make oracle    the checker beside every world of ORACLE_RECORDS records'
	@echo 'make soak      half an hour of mixed load in a guest, 10^8 events replayed'

demo: venv
	$(call say,a real kernel in a guest: stock then control)
	$(VENV)/bin/python -m lab.demo

test: lint unit lab-test arm64-test

lint: venv
	$(call say,ruff and mypy)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports importlinter.ini

unit: venv
	$(call say,unit tests)
	$(VENV)/bin/python -m pytest -n auto --dist worksteal tests/unit

LAB_TEST = $(VENV)/bin/python -m lab test --timeout 2700 -- tests/lab --ignore=$(DAEMON) --ignore=$(ARM64)
DAEMON := tests/lab/test_daemon.py

lab-test: venv
	$(call say,tests in a guest)
	$(LAB_TEST)

ARM64_KERNELS := bookworm
ARM64 := tests/lab/test_arm64.py

arm64-test: venv arm64-packages
	$(call say,arm64 tests in a guest)
	for kernel in $(ARM64_KERNELS); do \
	  $(VENV)/bin/python -m lab test --arch arm64 --kernel $$kernel --memory 1024 -- $(ARM64) || exit; \
	done

matrix: venv arm64-packages
	$(call say,every kernel in a guest)
	$(VENV)/bin/python -m lab.matrix

daemon-test: venv deb
	$(call say,the daemon in a guest)
	$(VENV)/bin/python -m lab test -- $(DAEMON)

nightly: oracle

# It prints each kind of wrong answer, fails if one is unsound, and goes on from build/oracle.json.
ORACLE_RECORDS := 1000000
oracle: venv | build
	$(call say,the checker beside the worlds of small records)
	$(VENV)/bin/python -m tests.oracle --small --state build/oracle-small.json
	$(VENV)/bin/python -m tests.oracle --sample $(ORACLE_RECORDS) --state build/oracle.json

build:
	mkdir -p build

examples: venv
	$(VENV)/bin/python -m lab.demo --record examples

venv: $(VENV)/.done

# The virtual environment sees the system's packages, because bcc (python3-bpfcc) lives there.
$(VENV)/.done: setup.cfg pyproject.toml | packages
	$(call say,virtual environment)
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip 'setuptools>=66'
	$(VENV)/bin/python -m pip install --progress-bar on --editable '.[lab,test]'
	touch $@

# What `make install` and `make deb` put beside Debian's own packages.
build/bundle/.done: $(VENV)/.done setup.cfg $(shell find tracer probes -name '*.py' -o -name '*.toml' -o -name '*.json' -o -name '*.bpf.c')
	$(call say,bundle)
	packaging/bundle.sh $(VENV)/bin/python build/bundle
	touch $@

install: build/bundle/.done
	packaging/install.sh install

uninstall:
	packaging/install.sh uninstall

deb: build/bundle/.done
	$(call say,Debian package)
	packaging/deb.sh

soak: venv
	$(call say,soak: half an hour in a guest)
	$(VENV)/bin/python -m tests.soak

export DESTDIR prefix sysconfdir

packages: WANTED = $(PACKAGES)
arm64-packages: WANTED = $(ARM64_PACKAGES)
packages arm64-packages:
	@missing=$$(for p in $(WANTED); do \
	  dpkg-query -W -f '$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  printf '\n== Debian packages:'; printf ' %s' $$missing; echo; \
	  $(SUDO) apt-get update -q && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	fi

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis
