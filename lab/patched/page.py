# SPDX-License-Identifier: Apache-2.0
"""Write docs/mutants.md out of what was measured; only its frame is written by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from .expected import NOT_RUN, Result, as_expected, false_clean
from .verdict import Judged

HEAD = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
# Mutants of the kernel

Written by `make kernel-mutants`. It builds Linux with each patch of `lab/mutants/`,
boots it in the lab, records calm traffic and a storm with each backend, and judges the captures.
What must come was written down before, in [expected.toml](../lab/mutants/expected.toml). Do not
edit.

The source is Debian 12's, Linux 6.1; of `x86-newest-` and `x86-status-` it is Debian's newest.

- *safe*: whether the kernel is, by the argument in the last table.
- *expected*, *said*: of an unsafe kernel the one verdict over all four recordings; of a safe one
  that of the two calm ones. Nothing may be found in a safe one's storm, which may be inconclusive
  for what an emulated machine loses.
- *found by*: the pattern, and whether it was observed or predicted; *hand-offs*: by class, over all
  recordings.

A mutant that was not run on the machine that wrote this keeps the rows that it had here before.
"""
_VERDICTS, _RECORDINGS = "## Verdicts", "## Each recording, and what it took"
_CODE = "## What the code was read to do"
_MEASURED = (_VERDICTS, _RECORDINGS, _CODE)


def render(
    results: Iterable[Result], debian: Iterable[Iterable[str]] = (), before: str = ""
) -> str:
    """Return the page as Markdown.

    *debian* are the rows of `lab.patched.debian.implications`. *before* is the page as it was: a
    mutant that was not run now keeps what was measured of it then.
    """
    known = list(results)
    old = _Old(before)
    parts = (
        _verdicts(known, old), _otherwise(known), _recordings(known, old), _code(known, old),
        _debian(debian), _why(known),
    )  # fmt: skip
    return "\n".join([HEAD, *chain.from_iterable(parts)]) + "\n"


class _Old:
    """The rows of measured mutants of the page as it was, by section and mutant."""

    def __init__(self, text: str) -> None:
        self._rows: dict[tuple[str, str], list[str]] = {}
        section = ""
        for line in text.splitlines():
            if line.startswith("#"):
                section = line
            elif line.startswith("| ") and section in _MEASURED:
                self._rows.setdefault((section, line.split(" | ")[0][2:]), []).append(line)

    def of(self, section: str, result: Result) -> list[str]:
        """Return what the *section* has of the mutant of *result*, if only that measured it."""
        name = result.mutant.name
        wanted = result.error == NOT_RUN and (_RECORDINGS, name) in self._rows
        return self._rows.get((section, name), []) if wanted else []


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _table(*names: str) -> list[str]:
    return [_row(names), _row("---" for _ in names)]


def _said(result: Result) -> str:
    """Return the verdict that is held against the expected one."""
    if result.judged is None:
        return f"not measured: {result.error}"
    judged = result.judged
    rests = sorted({word for one in judged.recordings for word in one.rests_on})
    word = judged.of("calm") if result.mutant.safe else judged.verdict
    return f"{word}, resting on {', '.join(rests)}" if rests else word


def _mark(result: Result) -> str:
    if result.judged is None:
        return "-"
    if false_clean(result.mutant, result.judged):
        return "**no: a false clean**"
    return "yes" if as_expected(result.mutant, result.judged) else "**no**"


def _found_by(judged: Judged) -> str:
    found = {f"{pattern} ({how})" for one in judged.recordings for pattern, how, _ in one.findings}
    return ", ".join(sorted(found)) or "-"


def _hand_offs(judged: Judged) -> str:
    whole = Counter[str]()
    for one in judged.recordings:
        whole.update(one.classes)
    return ", ".join(f"{count} {name}" for name, count in sorted(whole.items())) or "none"


def _verdicts(results: list[Result], old: _Old) -> Iterator[str]:
    yield _VERDICTS
    yield ""
    yield from _table(
        "mutant", "arch", "safe", "expected", "said", "as expected", "found by", "hand-offs"
    )
    for result in results:
        one, judged = result.mutant, result.judged
        if rows := old.of(_VERDICTS, result):
            yield from rows
            continue
        yield _row([
            one.name, one.arch, "yes" if one.safe else "no", one.expected,
            _said(result), _mark(result),
            _found_by(judged) if judged else "-", _hand_offs(judged) if judged else "-",
        ])  # fmt: skip
    yield ""


def _otherwise(results: list[Result]) -> Iterator[str]:
    """Yield what running a mutant showed besides its verdict: written afterwards."""
    told = [result for result in results if result.mutant.otherwise]
    if not told:
        return
    yield "## What running them showed"
    yield ""
    yield "Written afterwards, where it came otherwise or died; what was expected stays as it was."
    yield ""
    yield from _table("mutant", "expected", "what came, and why")
    for result in told:
        yield _row([result.mutant.name, result.mutant.expected, result.mutant.otherwise])
    yield ""


def _recordings(results: list[Result], old: _Old) -> Iterator[str]:
    yield _RECORDINGS
    yield ""
    yield "Built: files compiled and wall-clock seconds, on a machine that did other things, too."
    yield ""
    order = ("calm, ftrace", "calm, bpf", "storm, ftrace", "storm, bpf")
    yield from _table("mutant", *order, "why not clean", "built", "image", "guest")
    for result in results:
        built, judged = result.built, result.judged
        yield from old.of(_RECORDINGS, result)
        if judged is None:
            continue
        said = {one.name: one.verdict for one in judged.recordings}
        why = {reason for one in judged.recordings for reason in one.reasons}
        yield _row([
            result.mutant.name, *(said.get(name, "-") for name in order),
            "; ".join(sorted(why)) or "-",
            f"{built.files} files, {built.seconds:.0f} s" if built else "-",
            f"{built.image_bytes / 1e6:.1f} MB" if built else "-",
            f"{judged.seconds:.0f} s" + (f": {judged.failure}" if judged.failure else ""),
        ])  # fmt: skip
    yield ""


def _code(results: list[Result], old: _Old) -> Iterator[str]:
    yield _CODE
    yield ""
    yield "Each implication of the plans (docs/rules.md), by what this kernel's bytes say."
    yield ""
    yield from _table("mutant", "backend", "symbol", "what", "state", "where, or why")
    for result in results:
        yield from old.of(_CODE, result)
        seen = set()
        for one in result.judged.recordings if result.judged else ():
            for _, symbol, what, state, where in one.implied:
                if (one.backend, symbol, what) not in seen:
                    seen.add((one.backend, symbol, what))
                    yield _row([result.mutant.name, one.backend, symbol, what, state, where])
    yield ""


def _debian(rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield "### Debian's own kernels"
    yield ""
    yield "The same of the images behind [kernels.md](kernels.md), before boot patches them, for"
    yield "the plans of both backends."
    yield ""
    yield from _table("kernel", "symbol", "what", "state", "where, or why")
    yield from (_row(cells) for cells in rows)
    yield ""


def _why(results: list[Result]) -> Iterator[str]:
    yield "## Why that was expected"
    yield ""
    yield from _table("mutant", "expected", "argument")
    for result in results:
        yield _row([result.mutant.name, result.mutant.expected, result.mutant.why])


def progress(result: Result) -> str:
    """Return a line for the terminal."""
    good = _mark(result).replace("*", "")
    by = _found_by(result.judged) if result.judged else "-"
    one = result.mutant
    return f"{one.name}: expected {one.expected}, said {_said(result)} by {by}; as expected: {good}"
