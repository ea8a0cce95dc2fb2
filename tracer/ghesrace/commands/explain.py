# SPDX-License-Identifier: Apache-2.0
"""`ghesrace explain` says what a word of a report means, and what to do."""

from __future__ import annotations

import argparse
from difflib import get_close_matches

from ghesrace.errors import EXIT_OK, UsageError
from ghesrace.render.layout import Page, new_console
from ghesrace.render.words import WORDS, by_sort, meanings, spelled


def explain(args: argparse.Namespace) -> int:
    """Print what the word of the command line *args* means, or all words if there is none, and
    return the exit code. Raises UsageError for a word that no report uses.

        ghesrace explain map-flush
    """
    page = Page(new_console(colour=args.color))
    if not args.word:
        for title, names in by_sort():
            page.line(title[:1].upper() + title[1:], "bold")
            page.say(", ".join(dict.fromkeys(names)), "  ")
        return EXIT_OK
    name = " ".join(args.word)
    found = meanings(name)
    if not found:
        known = sorted({word.name for word in WORDS})
        near = get_close_matches(spelled(name), known, n=3)
        hint = f"do you mean {' or '.join(near)}?" if near else "`ghesrace explain` lists all words"
        raise UsageError(f"no report uses the word {name!r}", hint)
    for number, word in enumerate(found):
        if number:
            page.line()
        page.line(f"{word.name} ({word.sort})", "bold")
        page.say(word.what, "  ")
        page.say(f"What to do: {word.do}", "  ")
    return EXIT_OK
