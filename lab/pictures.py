# SPDX-License-Identifier: Apache-2.0
"""Draw the examples for the documentation, one SVG each: python -m lab.pictures

A picture is that of the HTML report: the first finding or, where nothing was found, the classes
over time of the slot that was handed on most. It stands alone: it brings its style, and loads
nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ghesrace.checker.engine import Engine
from ghesrace.errors import EXIT_OK, GhesraceError, InputError
from ghesrace.render.html.page import page, resource
from ghesrace.render.html.timeline import Timeline
from ghesrace.render.judgement import Judgement
from ghesrace.sources.files import open_file

from .examples import EXAMPLES
from .paths import REPO

CAPTURES, PICTURES = REPO / "examples", REPO / "docs" / "pictures"
# In two parts, as it is the pictures' licence line and not one of this file.
_LICENCE = "<!-- SPDX-" + "License-Identifier: Apache-2.0 -->"
_HATCHING = re.compile(r"<defs>.*?</defs>", re.S)
_FINDING = re.compile(r'<figure class="picture">.*?(<svg viewBox=.*</svg>)\s*</div>', re.S)
_OVER_TIME = re.compile(
    r'<figure class="over-time">\s*<figcaption>(.*?):.*?(<svg viewBox=.*?</svg>)', re.S
)
_KEYS = ("fresh", "broadcast", "map-flush", "same-frame", "incidental", "none", "uncertain")


def drawn(capture: Path) -> str:
    """Return the picture of a *capture* as SVG text. Raises InputError if there is nothing to draw.

    drawn(Path("examples/control.arrows"))
    """
    text, slots = _report(capture)
    found = _FINDING.search(text)
    if found is not None:
        # The figure's own picture ends where the next figure's caption begins.
        first = found[1].partition("</div>")[0].rpartition("</svg>")[0] + "</svg>"
        return _alone(first, text)
    spans: dict[str, str] = dict(_OVER_TIME.findall(text))
    name = max(slots, key=lambda slot: slots[slot])
    chosen = [svg for head, svg in spans.items() if head.partition(",")[0] == name]
    if not chosen:
        raise InputError(f"{capture} has nothing to draw", "record it again")
    return _alone(_with_key(chosen[0]), text)


def _report(capture: Path) -> tuple[str, dict[str, int]]:
    """Return the HTML report of a *capture*, and how often each slot was handed on."""
    source = open_file(capture)
    engine, timeline = Engine(source.plan), Timeline()
    for batch in source.batches():
        timeline.note(batch)
        timeline.add(engine.feed(batch))
    timeline.add(engine.finish())
    report = engine.report()
    judged = Judgement(capture.name, report, source.plan, dict(source.host))
    return page([judged], [timeline]), {slot.name: slot.handoffs for slot in report.slots}


def _with_key(svg: str) -> str:
    """Return the bars of classes over time, in their own proportions, with their key below."""
    used = [word for word in _KEYS if f'class="class-{word}"' in svg]
    key = "".join(
        f'<rect class="class-{word}" x="{10 + 130 * n}" y="102" width="12" height="12"/>'
        f'<text x="{27 + 130 * n}" y="112">{word}</text>'
        for n, word in enumerate(used)
    )
    svg = svg.replace('viewBox="0 0 1000 92" preserveAspectRatio="none"', 'viewBox="0 0 1000 120"')
    return svg.removesuffix("</svg>") + key + "</svg>"


def _alone(svg: str, text: str) -> str:
    """Return an *svg* element of the page *text* as a file of its own."""
    hatching = _HATCHING.search(text)
    assert hatching is not None
    colours, _, rules = resource("style.css").partition("*/")[2].partition("* { box-sizing")
    rules = "\n".join(line for line in rules.splitlines() if line.startswith(("svg ", "#stale")))
    style = f"{colours.strip()}\n{rules}\nsvg {{ background: var(--paper); }}"
    head, _, rest = svg.partition(">")
    head = head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f"{_LICENCE}\n{head}>\n<style>\n{style}\n</style>\n{hatching[0]}{rest}\n"


def main(argv: list[str] | None = None) -> int:
    """Draw all examples and return the exit code: main([])"""
    parser = argparse.ArgumentParser("python -m lab.pictures", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=PICTURES, metavar="DIR")
    args = parser.parse_args(argv)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for example in EXAMPLES:
            path = args.out / f"{example.name}.svg"
            path.write_text(drawn(CAPTURES / example.file), encoding="utf-8")
            print(path)
    except GhesraceError as error:
        print(f"pictures: {error}", file=sys.stderr)
        return error.exit_code
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
