#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# deb.sh [ARCH]: build/ghesrace_VERSION_ARCH.deb, which needs no network to be installed.
set -eu
version=$(sed -n 's/^version = //p' setup.cfg)
arch=${1:-$(dpkg --print-architecture)}
root=build/deb
rm -rf "$root"
mkdir -p "$root/DEBIAN"
DESTDIR=$root prefix=/usr sysconfdir=/etc packaging/install.sh install
minor=$(/usr/bin/python3 -c 'import sys; print(sys.version_info[1])')
sed -e "s/@version@/$version/" -e "s/@arch@/$arch/" -e "s/@minor@/$minor/" \
    -e "s/@next@/$((minor + 1))/" -e "s/@size@/$(du -ks "$root/usr" | cut -f1)/" \
    packaging/debian/control >"$root/DEBIAN/control"
for script in postinst prerm postrm; do
    install -m 755 "packaging/debian/$script" "$root/DEBIAN/$script"
done
echo /etc/ghesrace/ghesrace.toml >"$root/DEBIAN/conffiles"
chmod -R u=rwX,go=rX "$root"
dpkg-deb --root-owner-group -Zzstd -z9 --build "$root" "build/ghesrace_${version}_$arch.deb"
