# SPDX-License-Identifier: Apache-2.0
"""The daemon's start on a host, step by step."""

from __future__ import annotations

import io
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ghesrace.errors import HostError, UsageError
from ghesrace.host.facts import Facts
from ghesrace.plan import Unseen
from ghesrace.service.config import SourceSettings
from ghesrace.service.health import (
    Health,
    missing_points,
)
from ghesrace.service.journal import Log
from ghesrace.service.startup import Untraceable, attach_host, check_coverage
from tests.build.trace import plan


def test_strict_refuses_what_only_warns_otherwise() -> None:
    """If this fails, strict starts blind, or a host with a blind spot can't be watched at all."""
    lacking = Unseen("the read", "no symbol", ("stale",), ("irq",))
    always = Unseen("page walks", "no event", ("stale",), ("irq",))
    p = replace(plan(), unseen=(lacking, always))
    health = Health(missing=missing_points(p, frozenset({"the read"})))
    assert health.missing == (lacking,)
    log = io.StringIO()
    check_coverage(p, health, False, Log("info", log))
    assert "the read" in log.getvalue()
    with pytest.raises(HostError, match="the read"):
        check_coverage(p, health, True, Log("info", log))
    check_coverage(plan(), Health(), True, Log("info", log))


def test_what_a_verdict_rests_on_is_logged() -> None:
    """If this fails, a daemon that can't read the kernel's code takes its flushes for proven."""
    log = io.StringIO()
    check_coverage(replace(plan(), unknowns=("implications",)), Health(), True, Log("info", log))
    assert "verdict-rests-on" in log.getvalue()
    assert "it was not read" in log.getvalue()


@pytest.mark.parametrize("strict", [False, True])
def test_a_host_that_can_not_be_traced(monkeypatch: pytest.MonkeyPatch, strict: bool) -> None:
    """If this fails, strict runs on blind; or a daemon that only tells so keeps root's powers."""
    dropped: list[str] = []

    def refuse(*_: Any, **__: Any) -> None:
        raise HostError("no slot can be observed", "see `ghesrace doctor`")

    monkeypatch.setattr("ghesrace.backends.attach", refuse)
    monkeypatch.setattr("ghesrace.host.facts.read_facts", lambda: Facts("x86_64", "6.12"))
    monkeypatch.setattr("ghesrace.service.privileges.drop", lambda: dropped.append("all"))
    settings = SourceSettings(strict=strict)
    with ExitStack() as stack, pytest.raises(HostError, match="no slot") as caught:
        attach_host(stack, settings, Health(), lambda *_: None, Log("info", io.StringIO()), bool)
    assert isinstance(caught.value, Untraceable) is not strict
    assert bool(dropped) is not strict


def test_the_pack_that_is_configured_is_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a daemon with a pack asks for bcc all the same; or one whose pack can't be
    trusted runs on, and nobody looks who changed it."""
    seen: list[Any] = []

    def attach(*_: Any, pack: Any, **__: Any) -> None:
        seen.append(pack)
        raise HostError("no slot can be observed", "")

    monkeypatch.setattr("ghesrace.backends.attach", attach)
    monkeypatch.setattr("ghesrace.host.facts.read_facts", lambda: Facts("x86_64", "6.12"))
    monkeypatch.setattr("ghesrace.service.privileges.drop", lambda: None)

    def start(settings: SourceSettings) -> None:
        with ExitStack() as stack:
            log = Log("info", io.StringIO())
            attach_host(stack, settings, Health(), lambda *_: None, log, bool)

    with monkeypatch.context() as patch:
        patch.setattr("ghesrace.packs.given", lambda *given: given)
        with pytest.raises(Untraceable):
            start(SourceSettings(pack="/a.pack", pack_sha256="00"))
    assert seen == [(Path("/a.pack"), "00", None)]
    with pytest.raises(UsageError, match="can't read /none"):
        start(SourceSettings(pack="/none", pack_sha256="0" * 64))
    with pytest.raises(Untraceable):
        start(SourceSettings())
    assert seen[1:] == [None]
