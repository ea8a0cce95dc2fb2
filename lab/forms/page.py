# SPDX-License-Identifier: Apache-2.0
"""Write the table of forms into docs/foreign-traces.md; the rest of the page is written by hand."""

from __future__ import annotations

from collections.abc import Iterator

from .judging import Judged

BEGIN = "<!-- forms: written by `python -m lab.forms` -->"
END = "<!-- end of forms -->"


def table(judged: list[Judged]) -> str:
    """Return the table as Markdown. Forms of one tool that were answered alike share a row.

    >>> from lab.forms.printing import Form
    >>> forms = [Form("perf 6.1", "`perf script -D`", "x"), Form("perf 6.1", "`-F -cpu`", "y")]
    >>> print(table([Judged(form, refused="it is no text") for form in forms]))
    | printed by | as | findings of the live run | verdict |
    | --- | --- | --- | --- |
    | perf 6.1 | `perf script -D`; `-F -cpu` | refused: it is no text | - |
    """
    rows: dict[tuple[str, ...], list[str]] = {}
    for one in judged:
        command = one.form.command + (", with a map file" if one.mapped and one.verdict else "")
        rows.setdefault((one.form.tool, *_answer(one)), []).append(command)
    head = "| printed by | as | findings of the live run | verdict |"
    lines = [_row(tool, "; ".join(commands), *answer) for (tool, *answer), commands in rows.items()]
    return "\n".join([head, "| --- | --- | --- | --- |", *lines])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _answer(one: Judged) -> Iterator[str]:
    if one.refused:
        yield f"refused: {one.refused}"
        yield "-"
        return
    yield "the same" if one.same else f"not all: {'; '.join(one.reasons)}"
    yield f"{one.verdict}, resting on {', '.join(one.rests_on)}" if one.rests_on else one.verdict


def with_table(page: str, judged: list[Judged]) -> str:
    """Return the text *page* with the table of what was *judged* between BEGIN and END."""
    before, _, rest = page.partition(BEGIN)
    _, _, behind = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(judged)}\n\n{END}{behind}"
