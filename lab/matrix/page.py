# SPDX-License-Identifier: Apache-2.0
"""Write docs/kernels.md out of what was measured; only its frame is written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .cells import NO_WAY, NOTIFICATIONS, WAYS, CellCounts

HEAD = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
# Kernels

Written by `make matrix`, which boots each kernel in the lab, lets the firmware report errors in
every way that the machine has, records them with each backend, and judges the captures. Do not
edit.

- *hand-offs*: successive episodes of one slot on different CPUs, by what protected the second
  (`ghesrace check` explains the classes).
- *calm*: the verdict while errors come one after the other; *storm*: while many come at once, where
  probes and clocks reach their limits. Emulated CPUs' clocks are far less exact than a real host's.
- *lost*: losses accounted for during the storm, by cause.
"""


def render(results: list[dict[str, Any]]) -> str:
    """Return the page as Markdown.

    *results* has a JSON object for each kernel and backend, as `lab.matrix.__main__` keeps them.

        files = sorted(Path("build/matrix").glob("*.json"))
        text = render([json.loads(file.read_text()) for file in files])
    """
    return "\n".join([HEAD, *_table(results), *_details(results)]) + "\n"


def _table(results: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Safe, and by what"
    yield ""
    yield "| kernel | arch | backend | notification | hand-offs | safe by | calm | storm | lost |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for result in results:
        head = [result["release"] or result["suite"], result["arch"], result["backend"]]
        for notification in NOTIFICATIONS:
            yield _row([*head, notification, *_cell(result, notification)])
    yield ""


def _cell(result: dict[str, Any], notification: str) -> list[str]:
    if why := NO_WAY.get((result["arch"], notification)):
        return ["-", why, "-", "-", "-"]
    if result["error"]:
        return ["-", result["error"].splitlines()[0], "-", "-", "-"]
    calm, storm = result["calm"], result["storm"]
    counts = CellCounts(**storm["ways"][notification])
    seen = ", ".join(f"{n} {name}" for name, n in sorted(counts.classes.items()))
    lost = ", ".join(f"{n} {cause}" for cause, n in sorted(storm["losses"].items())) or "nothing"
    nothing = "no hand-off between CPUs" if counts.episodes else "no notification arrived"
    return [seen or nothing, counts.mechanism or "-", calm["verdict"], storm["verdict"], lost]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _details(results: list[dict[str, Any]]) -> Iterator[str]:
    yield "## What served each probe point"
    for result in results:
        yield ""
        yield f"### {result['release'] or result['suite']} ({result['arch']}), {result['backend']}"
        yield ""
        if result["error"]:
            yield f"Not measured: {result['error']}"
            continue
        storm = result["storm"]
        yield "| probe point | served by |"
        yield "| --- | --- |"
        for point, symbols in storm["probes"].items():
            yield _row([point, ", ".join(symbols)])
        yield ""
        for kind in ("calm", "storm"):
            reasons = "; ".join(result[kind]["reasons"])
            yield f"- {kind}: {result[kind]['verdict']}{f': {reasons}' if reasons else ''}"
        for what, why in storm["unseen"]:
            yield f"- unseen: {what}: {why}"
        for pattern, why in storm["not_checked"].items():
            yield f"- not checked: {pattern}: {why}"


def progress(result: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each way to notify, for the terminal."""
    for notification in WAYS[result["arch"]]:
        name = result["release"] or result["suite"]
        hand_offs, by, calm, storm, _ = _cell(result, notification)
        where = f"{name} {result['arch']} {result['backend']} {notification}"
        yield f"{where}: {hand_offs}; safe by {by}; calm {calm}, storm {storm}"
