# SPDX-License-Identifier: Apache-2.0
"""Makes the man pages: options by argparse-manpage from the parsers, the rest from what `--help`
and `ghesrace explain` say, and by hand what no parser knows.

argparse-manpage writes a parser's options as roff; each page is one of its `Manpage`s with more
sections.
"""

from __future__ import annotations

import argparse
import re

from argparse_manpage.manpage import Manpage

from ghesrace import __version__, cli
from ghesrace.render.words import SORTS, WORDS

from . import epilog
from .parsers import arguments, commands, summaries
from .settings import settings

FILES = (
    (
        "/etc/ghesrace/ghesrace.toml",
        "What the daemon does: ghesrace.toml(5). Read again at SIGHUP.",
    ),
    (
        "/var/lib/ghesrace/captures/",
        "Captures of the daemon's flight recorder and of ghesrace-capture@.service. Root writes "
        "them, the group ghesrace may read them.",
    ),
    (
        "/run/ghesrace/bpf/",
        "What bcc compiled since boot (under a unit: $RUNTIME_DIRECTORY/bpf). Only root writes "
        "there.",
    ),
    (
        "/sys/kernel/tracing/instances/ghesrace_*",
        "The tracing instance of a run, which removes it when it ends. What a killed run left is "
        "removed when the next one starts.",
    ),
    (
        "/usr/share/doc/ghesrace/html/index.html",
        "The documentation: tutorial, how-to, reference, rules.",
    ),
    ("/usr/share/ghesrace/dashboards/", "Dashboards for Grafana, rules for Prometheus."),
)
ENVIRONMENT = (
    ("NO_COLOR", "If it is set, no colours unless --color always."),
    ("TMPDIR", "Where compressed files and pipes are expanded, into a file without a name."),
    ("GHESRACE_PURE", "1: run the Python source of the compiled parts, many times slower."),
)
SEE_ALSO = "trace-cmd(1), perf-script(1), systemd(1), rasdaemon(1)"


def roff(text: str) -> str:
    r"""Return *text* with what roff would take for itself escaped, and its words filled.

    >>> print(roff(".so a\\b 'c' --all"))
    \&.so a\eb 'c' \-\-all
    """
    text = re.sub(r"\s+", " ", text).strip().replace("\\", r"\e").replace("-", r"\-")
    text = text.replace("^", r"\(ha").replace("~", r"\(ti").replace("`", r"\(ga")
    return rf"\&{text}" if text.startswith((".", "'")) else text


def tagged(entries: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> str:
    """Return *entries* as roff's paragraphs with a tag.

    >>> tagged([("0", "clean")])
    '.TP\\n\\\\fB0\\\\fR\\nclean'
    """
    return "\n".join(f".TP\n\\fB{roff(term)}\\fR\n{roff(text)}" for term, text in entries)


def examples(lines: list[str]) -> str:
    r"""Return commands as roff that no line is filled of.

    >>> print(examples(["ghesrace plan"]))
    .nf
    .RS 4
    ghesrace plan
    .RE
    .fi
    """
    return "\n".join([".nf", ".RS 4", *map(roff, lines), ".RE", ".fi"])


def pages() -> dict[str, str]:
    """Return the text of each man page by the name of its file.

    >>> list(pages())[:2]
    ['ghesrace.1', 'ghesrace-capture.1']
    """
    made = {"ghesrace.1": _overview()}
    for name in commands():
        made[f"ghesrace-{name}.1"] = _command(name)
    made["ghesrace.toml.5"] = _settings()
    return made


def _text(page: Manpage) -> str:
    """Return *page* as roff, set flush left and without hyphens that nobody typed. In its first
    line mandoc takes no escapes."""
    head, _, rest = str(page).partition("\n")
    return f"{head.replace(chr(92), '')}\n.nh\n.ad l\n{rest}"


def _page(title: str, parser: object, summary: str, section: int = 1) -> Manpage:
    data = {
        "project_name": "ghesrace",
        "version": __version__,
        "manual_title": "File Formats" if section == 5 else "User Commands",
        "manual_section": section,
        "description": summary,
    }
    page = Manpage(parser, data)
    page.prog = title
    return page


def _sections(page: Manpage, text: str) -> None:
    """Add what the epilog *text* says to *page*: prose, formats, exit codes, examples."""
    titles = {"formats": "formats", "exit codes": "exit status"}
    prose, found = epilog.read(text)
    if prose:
        page.add_section("notes", ">", roff(prose))
    for section in found:
        note = section.note.strip(" ,()")
        lines = [f"{roff(note[0].upper() + note[1:])}:"] if note else []
        if section.commands:
            page.add_section("examples", ">", examples(section.commands))
        else:
            title = titles.get(section.heading, section.heading)
            page.add_section(title, ">", "\n".join([*lines, tagged(section.entries)]))


def _command(name: str) -> str:
    """Return the page of one command."""
    parser = commands()[name]
    parser._positionals.title = "arguments"
    text, parser.epilog = parser.epilog or "", None
    page = _page(f"ghesrace-{name}", parser, summaries()[name])
    _sections(page, text)
    if any(action.dest == "fail_on" for action in arguments(parser)):
        page.add_section("verdicts", ">", roff("ghesrace(1) has them, with patterns and classes."))
    others = [f"ghesrace-{other}(1)" for other in commands() if other != name]
    more = ["ghesrace.toml(5)"] if name == "daemon" else []
    page.add_section("see also", ">", roff(", ".join(["ghesrace(1)", *others, *more])))
    return _text(page)


def _overview() -> str:
    """Return the page of `ghesrace` itself."""
    parser = cli.parser()
    text, parser.epilog = parser.epilog or "", None
    listed = [(f"ghesrace-{name}(1)", f"{what}.") for name, what in summaries().items()]
    # The commands have pages of their own.
    parser._action_groups = [group for group in parser._action_groups if group.title == "options"]
    page = _page("ghesrace", parser, "watch GHES mappings of a live kernel for stale TLB entries")
    page.synopsis = ["ghesrace", "[-h]", "[--version]", "COMMAND", "..."]
    page.add_section("commands", ">", tagged(listed))
    for sort in ("verdict", "pattern", "class"):
        title = {"verdict": "verdicts", "pattern": "patterns", "class": "classes"}[sort]
        entries = [(word.name, word.what) for word in WORDS if word.sort == sort]
        intro = f"{SORTS[sort].capitalize()}. ghesrace\\-explain(1) says what to do."
        page.add_section(title, ">", f"{intro}\n{tagged(entries)}")
    _sections(page, text)
    page.add_section("files", ">", tagged(FILES))
    page.add_section("environment", ">", tagged(ENVIRONMENT))
    pages_of_commands = ", ".join(f"ghesrace-{name}(1)" for name in commands())
    others = f"{pages_of_commands}, ghesrace.toml(5), {SEE_ALSO}"
    page.add_section("see also", ">", roff(others))
    return _text(page)


def _settings() -> str:
    """Return the page of the daemon's configuration."""
    parser = argparse.ArgumentParser("ghesrace.toml", add_help=False)
    page = _page("ghesrace.toml", parser, "what the daemon of ghesrace does", section=5)
    page.synopsis = ["/etc/ghesrace/ghesrace.toml"]
    page.add_section(
        "description",
        ">",
        roff(
            "TOML, read at the start and again at SIGHUP (systemctl reload ghesrace). A section or "
            "key that is missing has its default, which stands behind it here. (R): only a restart "
            "takes a change over. `ghesrace daemon --check-config` says whether the file is good."
        ),
    )
    for section, keys in settings().items():
        entries = [(f"{key.name} = {key.default}", key.text) for key in keys]
        page.add_section("keys", ">", f".SS [{section}]\n{tagged(entries)}\n")
    page.add_section("see also", ">", roff("ghesrace-daemon(1), systemd.service(5)"))
    return _text(page)
