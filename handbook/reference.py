# SPDX-License-Identifier: Apache-2.0
"""Makes the pages of the reference from what the code itself says, as Markdown."""

from __future__ import annotations

import argparse
import json
import re
from importlib import resources
from typing import Any

from ghesrace.points import Family, families
from ghesrace.render.words import SORTS, WORDS
from ghesrace.service.metrics.families import PREFIX, TABLE

from . import epilog
from .parsers import arguments, commands, summaries
from .settings import settings


def pages() -> dict[str, str]:
    """Return the text of each page by the name of its file.

    >>> list(pages())
    ['commands.md', 'exit-codes.md', 'words.md', 'json.md', 'configuration.md', 'metrics.md', \
'probes.md']
    """
    return {
        "commands.md": _commands(),
        "exit-codes.md": _exit_codes(),
        "words.md": _words(),
        "json.md": _json(),
        "configuration.md": _configuration(),
        "metrics.md": _metrics(),
        "probes.md": _probes(),
    }


def cell(text: object) -> str:
    r"""Return *text* as it can stand in a cell of a table, in one line; what stands in backticks is
    code.

    >>> print(cell("a|b <c>\n[d] `e_f`"))
    a\|b &lt;c&gt; \[d\] `e_f`
    """
    parts = re.split(r"(`[^`]+`)", " ".join(str(text).split()))
    for number, part in enumerate(parts):
        if number % 2:
            parts[number] = part.replace("|", r"\|")
            continue
        plain = part.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        parts[number] = re.sub(r"([\\`|\[\]*_~])", r"\\\1", plain)
    return "".join(parts)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table of Markdown; its cells are Markdown already.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: object) -> str:
    r"""Return *text* as code in a cell.

    >>> code("a|b")
    '`a\\|b`'
    """
    return f"`{str(text).replace('|', chr(92) + '|')}`"


def _page(title: str, intro: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", intro, *parts]) + "\n"


def _argument(action: argparse.Action) -> str:
    if not action.option_strings:
        return code(action.metavar)
    value = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    names = (name if action.nargs == 0 else f"{name} {value}" for name in action.option_strings)
    return ", ".join(map(code, names))


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    rows = [[_argument(action), cell(action.help or "")] for action in arguments(parser)]
    parts = [f"## ghesrace {name}", cell(parser.description or ""), table(["argument", ""], rows)]
    prose, found = epilog.read(parser.epilog or "")
    parts += [cell(prose)] if prose else []
    for section in found:
        title = f"{section.heading[0].upper()}{section.heading[1:]}{section.note}"
        if section.commands:
            lines = "\n".join(section.commands)
            parts.append(f"{title}:\n\n```text\n{lines}\n```")
        else:
            rows = [[code(term), cell(text)] for term, text in section.entries]
            parts.append(f"{title}:\n\n{table(['', ''], rows)}")
    return "\n\n".join(parts)


def _commands() -> str:
    listed = [[f"[{name}](#ghesrace-{name})", cell(text)] for name, text in summaries().items()]
    parts = [_command(name, parser) for name, parser in commands().items()]
    return _page("Commands", table(["command", ""], listed), *parts)


def _exit_codes() -> str:
    told: dict[str, dict[str, str]] = {}
    for name, parser in commands().items():
        for section in epilog.read(parser.epilog or "")[1]:
            if section.heading == "exit codes":
                for term, text in section.entries:
                    told.setdefault(term, {})[name] = text
    parts = []
    for term in sorted(told, key=int):
        rows = [[code(name), cell(text)] for name, text in told[term].items()]
        parts.append(f"## {term}\n\n{table(['command', ''], rows)}")
    return _page("Exit codes", "What each command ends with. A contract: scripts may ask.", *parts)


def _words() -> str:
    parts = []
    for sort, title in SORTS.items():
        rows = [[code(w.name), cell(w.what), cell(w.do)] for w in WORDS if w.sort == sort]
        parts.append(f"## {title.capitalize()}\n\n{table(['word', '', 'what to do'], rows)}")
    return _page("Words of a report", "What `ghesrace explain WORD` says.", *parts)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return ", ".join(json.dumps(value) for value in schema["enum"])
    found = schema.get("type", "")
    return ", ".join(found) if isinstance(found, list) else str(found)


def _fields(schema: dict[str, Any], prefix: str = "") -> list[list[str]]:
    """Return a row for each field of *schema*, and of what is inside it."""
    rows = []
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        rows.append([code(path), cell(_type(field)), cell(field.get("description", ""))])
        rows += _fields(field, f"{path}.")
        items = field.get("items", {})
        if items.get("description") and not items.get("properties"):
            rows.append([code(f"{path}[]"), cell(_type(items)), cell(items["description"])])
        rows += _fields(items, f"{path}[].")
    return rows


def _json() -> str:
    parts = []
    for name in ("check", "plan", "host-report"):
        text = resources.files("ghesrace").joinpath(f"{name}.schema.json").read_text()
        schema = json.loads(text)
        head = ["field", "type, values", ""]
        parts.append(f"## {schema['title']}\n\n{cell(schema['description'])}")
        parts.append(table(head, _fields(schema)))
        for kind, inner in schema.get("$defs", {}).items():
            rows = _fields(inner)
            parts.append(f"### {kind}\n\n{cell(inner.get('description', ''))}")
            parts.append(table(head, rows) if rows else cell(_type(inner)))
    intro = (
        "Every field of `--format json`, from the schemas themselves: "
        "[check.schema.json](../../tracer/ghesrace/check.schema.json), "
        "[plan.schema.json](../../tracer/ghesrace/plan.schema.json), "
        "[host-report.schema.json](../../tracer/ghesrace/host-report.schema.json)."
    )
    return _page("JSON", intro, *parts)


def _configuration() -> str:
    parts = []
    for section, keys in settings().items():
        rows = [[code(key.name), code(key.default), cell(key.text)] for key in keys]
        parts.append(f"## [{section}]\n\n{table(['key', 'default', ''], rows)}")
    intro = (
        "The keys of `/etc/ghesrace/ghesrace.toml`, from the "
        "[commented example](../../systemd/ghesrace.toml). (R): only a restart takes a change over."
    )
    return _page("Configuration of the daemon", intro, *parts)


def _metrics() -> str:
    rows = []
    for name, (kind, text, labels) in TABLE.items():
        suffix = "_total" if kind == "counter" else ""
        rows.append([code(f"{PREFIX}{name}{suffix}"), kind, cell(", ".join(labels)), cell(text)])
    intro = "What `/metrics` and the textfile have; [the daemon](../daemon.md#metrics) says more."
    return _page("Metrics", intro, table(["metric", "type", "labels", ""], rows))


def _probes() -> str:
    intro = (
        "The logical events that ghesrace wants to see, and the symbols that can serve each: the "
        "first that fits this kernel wins, which `ghesrace plan` shows. A page of `probes/` is a "
        "family of points; without any of them the pattern that it names can't be checked."
    )
    return _page("Probe points", intro, *map(_family, families()))


def _family(family: Family) -> str:
    """Return the part of one probe file."""
    pattern = f", pattern {code(family.pattern)}" if family.pattern else ""
    parts = [f"## {family.name}\n\nFile {code(f'probes/{family.name}.toml')}{pattern}."]
    for point in family.points:
        rows = []
        for one in point.candidates:
            where = ", ".join([*one.arch, *one.when])
            implied = ", ".join(i.what for i in one.implies)
            name = code(one.symbol or one.tracepoint)
            rows.append([name, cell(where), cell(implied), cell(one.why)])
        head = ["symbol or tracepoint", "where", "implies", ""]
        text = f"{cell(point.what)}. Event {code(point.kind)}."
        parts.append(f"### {point.name}\n\n{text}\n\n{table(head, rows)}")
    return "\n\n".join(parts)
