# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have: what each gives, and what it is without."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace import options


def parse(add: str, *words: str) -> dict[str, object]:
    parser = options.Parser(exit_on_error=False)
    getattr(options, add)(parser)
    return vars(parser.parse_args(list(words)))


@pytest.mark.parametrize(
    ("add", "words", "given"),
    [
        ("map_option", ["--map", "a.toml"], {"map": Path("a.toml")}),
        ("size_option", ["--max-size", "2M"], {"max_size": 2 << 20}),
        ("file_options", ["--run", "2"], {"run": 2, "map": None, "max_size": None}),
        ("backend_option", ["--summary"], {"backend": "auto", "summary": True}),
        ("accept_option", [], {"accept_unknown": ()}),
        ("redact_option", ["--redact"], {"redact": True}),
        ("colour_option", [], {"color": "auto"}),
        ("pack_options", [], {"pack": None, "pack_sha256": "", "pack_key": None}),
    ],
)
def test_what_an_option_gives(add: str, words: list[str], given: dict[str, object]) -> None:
    """If this fails, a command is called with another value than was given, or has none."""
    assert parse(add, *words) == given


def test_a_report_says_more_only_if_asked() -> None:
    """If this fails, a script's exit codes change without a flag, or addresses are handed on."""
    assert parse("report_options") == {
        "format": "text",
        "fail_on": "predicted",
        "accept_unknown": (),
        "all": False,
        "redact": False,
        "color": "auto",
    }
