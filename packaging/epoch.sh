#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# epoch.sh: the time that everything in a package bears, as SOURCE_DATE_EPOCH has it: the newest
# release's date in CHANGELOG.md. So a package built tomorrow has the bytes of today's.
date -u -d "$(sed -n 's/^## \[[0-9.]*\] - //p' CHANGELOG.md | head -n 1)" +%s
