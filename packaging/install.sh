#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh install|uninstall, with DESTDIR, prefix, sysconfdir in the environment (Makefile).
set -eu
: "${DESTDIR:=}" "${prefix:=/usr/local}" "${sysconfdir:=/etc}" "${bundle:=build/bundle}"
: "${handbook:=build/handbook}" "${bytecode:=yes}"
lib=$prefix/lib/ghesrace doc=$prefix/share/doc/ghesrace share=$prefix/share/ghesrace
units='ghesrace.service ghesrace-capture@.service
    ghesrace-ship.service ghesrace-ship.path ghesrace-ship.timer'

uninstall() {
    rm -rf "$DESTDIR$lib" "$DESTDIR$doc" "$DESTDIR$share"
    rm -f "$DESTDIR$prefix/bin/ghesrace"
    for unit in $units; do rm -f "$DESTDIR$prefix/lib/systemd/system/$unit"; done
    rm -f "$DESTDIR$prefix/lib/sysusers.d/ghesrace.conf" \
        "$DESTDIR$prefix/lib/tmpfiles.d/ghesrace.conf"
    rm -f "$DESTDIR$prefix"/share/man/man1/ghesrace.1.gz \
        "$DESTDIR$prefix"/share/man/man1/ghesrace-*.1.gz \
        "$DESTDIR$prefix"/share/man/man5/ghesrace.toml.5.gz \
        "$DESTDIR$prefix/share/bash-completion/completions/ghesrace" \
        "$DESTDIR$prefix/share/zsh/vendor-completions/_ghesrace" \
        "$DESTDIR$prefix/share/zsh/site-functions/_ghesrace" \
        "$DESTDIR$prefix/share/fish/vendor_completions.d/ghesrace.fish"
    # Configuration and captures are the administrator's.
}

install_all() {
    uninstall
    mkdir -p "$DESTDIR$prefix/lib" "$DESTDIR$prefix/bin"
    cp -r "$bundle" "$DESTDIR$lib"
    rm -f "$DESTDIR$lib/.done" # make's stamp
    # A package's own scripts compile, for the Python that is there (bytecode=no).
    [ "$bytecode" = no ] || /usr/bin/python3 -m compileall -q -s "$DESTDIR" "$DESTDIR$lib"
    cat >"$DESTDIR$prefix/bin/ghesrace" <<END
#!/usr/bin/python3 -I
import os, sys
sys.path.insert(0, "$lib")
os.environ["PYTHONPATH"] = "$lib"  # for the process that compiles the BPF programs
from ghesrace.cli import main
sys.exit(main())
END
    chmod 755 "$DESTDIR$prefix/bin/ghesrace"
    mkdir -p "$DESTDIR$prefix/lib/systemd/system"
    for unit in $units; do
        sed "s|@bindir@|$prefix/bin|" "systemd/$unit" \
            >"$DESTDIR$prefix/lib/systemd/system/$unit"
    done
    install -D -m 644 systemd/ghesrace.sysusers "$DESTDIR$prefix/lib/sysusers.d/ghesrace.conf"
    install -D -m 644 systemd/ghesrace.tmpfiles "$DESTDIR$prefix/lib/tmpfiles.d/ghesrace.conf"
    if [ ! -e "$DESTDIR$sysconfdir/ghesrace/ghesrace.toml" ]; then
        install -D -m 644 systemd/ghesrace.toml "$DESTDIR$sysconfdir/ghesrace/ghesrace.toml"
    fi
    mkdir -p "$DESTDIR$doc/runbooks" "$DESTDIR$share/dashboards"
    install -m 644 README.md CHANGELOG.md docs/*.md systemd/ghesrace.toml systemd/ship.toml "$DESTDIR$doc"
    install -m 644 docs/runbooks/*.md "$DESTDIR$doc/runbooks"
    install -m 644 packaging/debian/copyright LICENSE LICENSES/*.txt "$DESTDIR$doc"
    cp -r dashboards/grafana dashboards/prometheus "$DESTDIR$share/dashboards"
    cp -r "$handbook/share/." "$DESTDIR$prefix/share"
    # zsh looks into vendor-completions below /usr only.
    if [ "$prefix" != /usr ]; then
        mkdir -p "$DESTDIR$prefix/share/zsh/site-functions"
        mv "$DESTDIR$prefix/share/zsh/vendor-completions/_ghesrace" \
            "$DESTDIR$prefix/share/zsh/site-functions/_ghesrace"
        rmdir "$DESTDIR$prefix/share/zsh/vendor-completions" 2>/dev/null || true
    fi
}

case $1 in
install) install_all ;;
uninstall) uninstall ;;
*) exit 2 ;;
esac
