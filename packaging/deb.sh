#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# deb.sh [ARCH SUITE]: ghesrace_VERSION+debNN_ARCH.deb, which needs no network to be installed, in
# build/ (or $out).
# Two runs on the same bundle, or on two bundles made alike, write the same bytes.
set -eu
arch=${1:-$(dpkg --print-architecture)}
suite=${2:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
case $suite in
bookworm) number=12 python=3.11 ;;
trixie) number=13 python=3.13 ;;
*)
    echo "packaging/deb.sh: Debian $suite is not known here: bookworm, trixie" >&2
    exit 2
    ;;
esac
version=$(sed -n 's/^version = //p' setup.cfg)+deb$number
: "${out:=build}"
root=$out/deb-$suite-$arch doc=$root/usr/share/doc/ghesrace
SOURCE_DATE_EPOCH=$(packaging/epoch.sh)
export SOURCE_DATE_EPOCH
umask 022

rm -rf "$root"
mkdir -p "$root/DEBIAN"
DESTDIR=$root prefix=/usr sysconfdir=/etc bytecode=no packaging/install.sh install
# Debian has these texts; debian/copyright says where.
rm -f "$doc"/LICENSE "$doc"/Apache-2.0.txt "$doc"/GPL-2.0-only.txt
# Debian's own form of the changelog: one entry for each release.
sed -n 's/^## \[\([0-9.]*\)\] - \(.*\)/\1 \2/p' CHANGELOG.md | while read -r number date; do
    printf 'ghesrace (%s) unstable; urgency=medium\n\n' "$number+${version##*+}"
    printf '  * Release %s: /usr/share/doc/ghesrace/CHANGELOG.md says what changed.\n\n' "$number"
    printf ' -- %s  %s\n\n' "$(sed -n 's/^Maintainer: //p' packaging/debian/control)" \
        "$(LC_ALL=C date -u -d "$date" -R)"
done | gzip -9n >"$doc/changelog.gz"
install -D -m 644 packaging/debian/lintian-overrides "$root/usr/share/lintian/overrides/ghesrace"

sed -e "s/@version@/$version/" -e "s/@arch@/$arch/" -e "s/@python@/$python/g" \
    -e "s/@size@/$(du -k --apparent-size -s "$root/usr" | cut -f1)/" \
    packaging/debian/control >"$root/DEBIAN/control"
for script in postinst prerm postrm; do
    install -m 755 "packaging/debian/$script" "$root/DEBIAN/$script"
done
echo /etc/ghesrace/ghesrace.toml >"$root/DEBIAN/conffiles"
chmod -R u=rwX,go=rX "$root"
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz --build "$root" "$out/ghesrace_${version}_$arch.deb"
