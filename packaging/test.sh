#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test.sh PYTHON: what packages must be, tried with build/bundle, build/handbook and build/*.deb there
# (`make package-test`), as root. Ends with 1 at the first thing that is wrong.
set -eu
python=$1
version=$(sed -n 's/^version = //p' setup.cfg)
arch=$(dpkg --print-architecture)
say() { printf '\ntest.sh: %s\n' "$*"; }

say 'a second build of everything has the same bytes'
deb=build/ghesrace_$version+deb12_$arch.deb
mkdir -p build/again
packaging/bundle.sh "$python" build/again/bundle
rm -rf build/again/handbook
SOURCE_DATE_EPOCH=$(packaging/epoch.sh) "$python" -m handbook build/again/handbook
mv "$deb" build/again/first.deb
bundle=build/again/bundle handbook=build/again/handbook packaging/deb.sh
cmp build/again/first.deb "$deb"

say 'lintian, installed size'
for each in build/ghesrace_"$version"+deb*.deb; do
    lintian --fail-on error --tag-display-limit 0 "$each"
    size=$(dpkg-deb -f "$each" Installed-Size)
    echo "$each: $((size / 1024)) MiB installed, $(du -m "$each" | cut -f1) MiB to fetch"
    [ "$size" -lt $((166 * 1000)) ]
done

say 'clean roots'
packaging/try.sh "$deb" bookworm
packaging/try.sh "build/ghesrace_$version+deb13_$arch.deb" trixie

say 'the source archive makes a wheel with compiled parts'
rm -rf build/again/source build/sdist build/again/wheel
"$python" -c 'import setuptools.build_meta as m; m.build_sdist("build/sdist")' >/dev/null
mkdir -p build/again/source
tar -xf build/sdist/ghesrace-"$version".tar.gz -C build/again/source --strip-components=1
GHESRACE_COMPILE=always "$python" -m pip wheel --quiet --no-deps \
    --build-constraint packaging/build.txt -w build/again/wheel build/again/source
rm -rf build/again/installed
"$python" -m pip install --quiet --no-deps --target build/again/installed build/again/wheel/*.whl
(cd / && PYTHONPATH=$OLDPWD/build/again/installed "$OLDPWD/$python" -m ghesrace --version) |
    grep -F "ghesrace $version (compiled)"
for needed in dashboards/prometheus/mixin.libsonnet docs/deploy.md probes/fixmap.toml \
    systemd/ghesrace.service packaging/debian/control; do
    [ -e "build/again/source/$needed" ]
done
say good
