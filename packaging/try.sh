#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# try.sh DEB SUITE: install, upgrade, downgrade, remove and purge DEB in a clean root of SUITE, as
# root. Says each step; ends with 1 at the first thing that is wrong. Runs no service: that is
# `make daemon-test`'s. The root is made once for what the package depends on, and kept in build/roots.
set -eu
deb=$1 suite=$2
arch=$(dpkg-deb -f "$deb" Architecture)
depends=$(dpkg-deb -f "$deb" Depends | sed 's/([^)]*)//g; s/ //g')
base=build/roots/$suite-$arch-$(echo "$depends" | md5sum | cut -c1-8).tar
root=$(mktemp -d -t ghesrace-root.XXXXXX)
trap 'umount -q "$root/proc" "$root/dev/null" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT

say() { printf 'try.sh: %s\n' "$*"; }
fail() { say "WRONG: $*" && exit 1; }
in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
has() { [ -e "$root$1" ] || fail "$1 is not there $2"; }
# A link may lead to a place that only the root has.
lacks() { { [ ! -e "$root$1" ] && [ ! -L "$root$1" ]; } || fail "$1 is there $2"; }
version() { in_root dpkg-query -W -f '${Version}' ghesrace; }

# What the package depends on, in a root of its own.
if [ ! -e "$base" ]; then
    mkdir -p build/roots
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' | head -n 1)
    say "a clean root of $suite for $arch"
    mmdebstrap --quiet --variant=minbase --arch="$arch" --include="$depends,adduser" "$suite" "$base.part.tar" "$mirror"
    mv "$base.part.tar" "$base"
fi
tar -xf "$base" -C "$root" --exclude='./dev/*'
mount -t proc proc "$root/proc"
: >"$root/dev/null"
mount --bind /dev/null "$root/dev/null"

# The same package under an older and a newer number, for upgrades and downgrades.
renumbered() {
    rm -rf "$root/other" && dpkg-deb -R "$deb" "$root/other"
    sed -i "s/^Version: .*/Version: $1/" "$root/other/DEBIAN/control"
    dpkg-deb -Znone --root-owner-group --build "$root/other" "$root/other-$1.deb" >/dev/null
    rm -rf "$root/other"
}
new=$(dpkg-deb -f "$deb" Version)
older='0.0.1' newer="$new.1"
renumbered $older
renumbered "$newer"
cp "$deb" "$root/this.deb"

works() {
    in_root ghesrace --version | grep -q '(compiled)' || fail "--version says not compiled $1"
    in_root ghesrace daemon --check-config >"$root/said" 2>&1 || fail "--check-config $1: $(cat "$root/said")"
    code=0
    in_root ghesrace check /capture.arrows >"$root/said" 2>&1 || code=$?
    [ $code = 1 ] && grep -q race-observed "$root/said" || fail "check $1: $code $(cat "$root/said")"
}
wants=/etc/systemd/system
links="$wants/multi-user.target.wants/ghesrace.service $wants/multi-user.target.wants/ghesrace-ship.path
    $wants/timers.target.wants/ghesrace-ship.timer"
units='ghesrace.service ghesrace-ship.path ghesrace-ship.timer'
idle() { for link in $links; do lacks "$link" "$1"; done; }
enabled() { for unit in $units; do in_root systemctl --quiet is-enabled $unit || fail "$unit is not enabled $1"; done; }
cp examples/control.arrows "$root/capture.arrows"

say "install $older"
in_root dpkg -i "/other-$older.deb" >"$root/said" 2>&1 || fail "install: $(cat "$root/said")"
[ "$(version)" = $older ] || fail "the version is $(version)"
works 'as installed'
idle 'after installation: it starts by itself'
has /usr/lib/ghesrace/ghesrace/__pycache__ 'after installation: each start compiles anew'
in_root getent group ghesrace >/dev/null || fail 'no group ghesrace'
echo '# the administrator was here' >>"$root/etc/ghesrace/ghesrace.toml"
mkdir -p "$root/var/lib/ghesrace/captures"
echo evidence >"$root/var/lib/ghesrace/captures/kept.arrows"

for step in "upgrade $new this" "upgrade $newer other-$newer" "downgrade $new this"; do
    # shellcheck disable=SC2086
    set -- $step
    say "$1 to $2"
    in_root dpkg -i --force-confold "/$3.deb" >"$root/said" 2>&1 || fail "$1: $(cat "$root/said")"
    [ "$(version)" = "$2" ] || fail "the version is $(version)"
    works "after $1"
    idle "after $1: it starts by itself"
    grep -q 'administrator was here' "$root/etc/ghesrace/ghesrace.toml" || fail "$1 took the configuration"
done

say 'enable everything, upgrade'
# shellcheck disable=SC2086
in_root systemctl --quiet enable $units
in_root dpkg -i --force-confold "/other-$newer.deb" >"$root/said" 2>&1 || fail "upgrade: $(cat "$root/said")"
enabled 'after upgrade: nobody watches, or ships, from the next boot on'

say remove
in_root dpkg -r ghesrace >"$root/said" 2>&1 || fail "remove: $(cat "$root/said")"
for gone in /usr/bin/ghesrace /usr/lib/ghesrace /usr/lib/systemd/system/ghesrace.service /usr/share/ghesrace; do
    lacks "$gone" 'after removal'
done
for unit in $units; do
    ! in_root systemctl --quiet is-enabled $unit 2>/dev/null || fail "$unit is enabled after removal"
done
has /etc/ghesrace/ghesrace.toml 'after removal: it is the administrator'\''s'
has /var/lib/ghesrace/captures/kept.arrows 'after removal: it is evidence'

say 'install again, then purge'
in_root dpkg -i --force-confold /this.deb >"$root/said" 2>&1 || fail "install again: $(cat "$root/said")"
works 'after installing again'
enabled 'after installing again, as it was before'
in_root dpkg -P ghesrace >"$root/said" 2>&1 || fail "purge: $(cat "$root/said")"
for gone in /usr/lib/ghesrace /etc/ghesrace /var/lib/ghesrace /var/log/ghesrace; do
    lacks "$gone" 'after purge'
done
left=$(find "$root/usr" "$root/etc" "$root/var/lib" -name '*ghesrace*' | sed "s|^$root||")
[ -z "$left" ] || fail "left after purge: $left"
say "good: $new on $suite ($arch)"
