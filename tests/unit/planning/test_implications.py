# SPDX-License-Identifier: Apache-2.0
"""What a plan believes, and what becomes of what it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace.plan import Plan
from ghesrace.planning.resolve import resolve
from ghesrace.render.plan import render_plan_text
from tests.build import trees
from tests.build.kernelcode import ARM64, NOP_ARM64, X86, facts, implied, planned
from tests.build.plans import one, plan_of

TLBI, BROADCAST = "__set_fixmap+0xa0", "broadcast-after-clear"


@pytest.mark.parametrize("release", [*X86, *ARM64])
def test_where_the_code_was_read_a_verdict_rests_on_nothing(release: str):
    """If this fails, clean is exit code 3 on a kernel that was proven to do what is said of it."""
    made = planned(release)
    assert made.unknowns == ()
    setter = one(made, "fixmap-set")
    assert setter.implies
    assert all(made.proves(setter, what) for what in setter.implies)
    assert Plan.from_dict(made.to_dict()) == made
    assert "; proven: " in " ".join(render_plan_text(made).split())


def test_what_is_contradicted_is_dropped_and_named():
    """If this fails, an arm64 kernel that no longer broadcasts is called clean."""
    made = planned(ARM64[1], {TLBI: NOP_ARM64})
    setter = one(made, "fixmap-set")
    assert setter.implies == ()
    assert not made.proves(setter, BROADCAST)
    assert implied(made, BROADCAST).state == "contradicted"
    named = [u for u in made.unseen if "__set_fixmap" in u.what]
    assert [u.patterns for u in named] == [("stale",)]
    assert "nothing behind this write invalidates the page" in named[0].why
    assert made.unknowns == ()
    assert made.not_checked.keys() == planned(ARM64[1]).not_checked.keys()


def test_what_cannot_be_read_is_assumed_and_said():
    """If this fails, nobody learns that a clean verdict rests on a function's name."""
    made = resolve(replace(facts(ARM64[1]), code=None, problems={"kernel code": "No such file"}))
    found = implied(made, BROADCAST)
    assert (found.state, made.unknowns) == ("assumed", ("implications",))
    assert one(made, "fixmap-set").implies == (BROADCAST,)
    assert "No such file" in found.where
    assert not made.proves(one(made, "fixmap-set"), BROADCAST)


def test_what_is_not_about_invalidations_is_not_asked(tmp_path: Path):
    """If this fails, an edit that may allocate is looked for in the code."""
    made = plan_of(tmp_path, vmlinux_btf=trees.x86_btf())
    assert one(made, "edit-map", "EDIT").implies == ("may-allocate", "may-free")
    assert {i.what for i in made.implications} == {"flush-inside", "invalidates"}
