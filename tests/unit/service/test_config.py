# SPDX-License-Identifier: Apache-2.0
"""The daemon's configuration: what is refused, with which words, and the example."""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.backends import Wanted
from ghesrace.errors import UsageError
from ghesrace.service import config
from ghesrace.service.config import Config, keep_fixed, keys, load, parse, split_address
from tests.build.paths import REPO

EXAMPLE = REPO / "systemd" / "ghesrace.toml"


def refused(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(text, "x.toml")
    return str(caught.value)


def test_example_has_every_key_with_its_default() -> None:
    """If this fails, the example documents a key that does not exist, or a default that is not."""
    assert load(EXAMPLE) == Config()
    data = tomllib.loads(EXAMPLE.read_text())
    assert [f"{s}.{k}" for s, content in data.items() for k in content] == keys()


def test_example_documents_every_key() -> None:
    """If this fails, a key stands in the example without a word on what it does."""
    lines = EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\w+ = ", line):
            assert lines[number - 1].startswith("# "), line


def test_example_marks_what_needs_a_restart() -> None:
    """If this fails, an operator reloads a change that only a restart takes over."""
    lines = EXAMPLE.read_text().splitlines()
    section, marked, comment = "", set(), ""
    for line in lines:
        if line.startswith("["):
            section = line.strip("[]")
        elif line.startswith("# "):
            comment = comment or line
        elif " = " in line and "(R)" in comment:
            marked.add(f"{section}.{line.partition(' ')[0]}")
        if not line.startswith("# "):
            comment = ""
    source = {k for k in keys() if k.startswith("source.")}
    assert marked == source | {"web.listen", "web.connections", "recorder.memory_mib"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[recorder]\naftr_seconds = 1", ("recorder.aftr_seconds", "recorder.after_seconds?")),
        ("[recoder]\nbudget_mib = 1", ("unknown key [recoder]", "[recorder]?")),
        ("[web]\nbackend = 'bpf'", ("unknown key web.backend", "source.backend?")),
        ("strict = true", ("unknown key strict", "source.strict?")),
        ("[source]\nbackend = 'perf'", ("source.backend", "Invalid enum value 'perf'")),
        ("[recorder]\nmemory_mib = 0", ("recorder.memory_mib", ">= 1")),
        ("[recorder]\nmemory_mib = true", ("recorder.memory_mib", "Expected `int`")),
        ("[window]\nseconds = nan", ("window.seconds",)),
        ("[web]\nlisten = ['9100']", ("web.listen", "'9100'")),
        ("[web]\nlisten = '127.0.0.1:1'", ("web.listen", "Expected `array`")),
        ("[web]\nlisten = [':1', '127.0.0.1:1']", ("web.listen", "port 1", "twice")),
        ("[web]\nlisten = ['[::1]:1', '[::1]:1']", ("port 1 of ::1 twice",)),
        ("[recorder]\ndirectory = ''", ("recorder.directory is empty",)),
        ("[recorder]\ndirectory = 'captures'", ("recorder.directory", "absolute")),
        ("source = 3", ("source", "Expected `object`")),
        ("[source", ("not TOML",)),
    ],
)
def test_refusals_name_file_key_and_remedy(text: str, words: tuple[str, ...]) -> None:
    """If this fails, a typo is silently a default, or its message does not help to find it."""
    message = refused(text)
    for word in ("x.toml", *words):
        assert word in message


@given(st.text(max_size=200) | st.sampled_from(keys()).map(lambda k: f"{k} = [[[{{}}]]]"))
def test_any_text_is_a_config_or_a_usage_error(text: str) -> None:
    """If this fails, a broken file ends in a traceback, or kills a daemon that reloads it."""
    with suppress(UsageError):
        assert isinstance(parse(text), Config)


def test_addresses() -> None:
    """If this fails, the daemon listens somewhere else than it was told."""
    assert split_address("127.0.0.1:10049", "x") == ("127.0.0.1", 10049)
    assert split_address("[::1]:80", "x") == ("::1", 80)
    assert split_address(":10049", "x") == ("", 10049)
    for bad in ("localhost", "::1:80", "h:99999", "h:-1", "", "[x:1"):
        with pytest.raises(UsageError):
            split_address(bad, "x")


def test_reload_keeps_what_needs_a_restart() -> None:
    """If this fails, a reload says it took over what it can't, or drops what it could."""
    new = parse("[source]\nstrict = true\n[recorder]\nmemory_mib = 5\nbudget_mib = 7\n")
    kept, changed = keep_fixed(Config(), new)
    assert changed == ["source", "recorder.memory_mib"]
    assert kept.source == Config().source
    assert (kept.recorder.memory_mib, kept.recorder.budget_mib) == (32, 7)
    assert keep_fixed(kept, kept) == (kept, [])


def test_backends_are_the_same_as_of_a_capture() -> None:
    """If this fails, the configuration takes a backend that nothing attaches, or lacks one."""
    for name in get_args(Wanted):
        assert config.parse(f'[source]\nbackend = "{name}"').source.backend == name
