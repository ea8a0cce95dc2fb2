# SPDX-License-Identifier: Apache-2.0
"""docs/mutants.md, out of what was measured."""

from __future__ import annotations

from dataclasses import replace

from lab.patched.expected import NOT_RUN, Result
from lab.patched.page import progress, render
from tests.unit.lab.patched.conftest import Make

UNSAFE = {"safe": False, "expected": "race-observed", "finding": "stale"}


def test_a_row_says_what_was_expected_and_what_was_said(result: Make) -> None:
    """If this fails, the page does not answer what it is there for."""
    text = render([result("clean", "race-observed", ("stale",), **UNSAFE)])
    assert (
        "| x86-some | amd64 | no | race-observed | race-observed | yes | stale (observed) "
        "| 8 map-flush |" in text
    )
    assert (
        "| x86-some | clean | clean | race-observed | race-observed | - | 2 files, 61 s |" in text
    )
    assert "| x86-some | ftrace | setter | flush-inside | proven | setter+0x4: invlpg |" in text
    assert "| x86-some | race-observed | an argument |" in text


def test_what_debian_s_kernels_do_stands_beside_it() -> None:
    """If this fails, nobody can see of which kernel an implication is proven."""
    row = ("6.1.0-amd64", "setter", "flush-inside", "proven", "setter+0x4: invlpg")
    assert f"| {' | '.join(row)} |" in render([], [row])


def test_what_came_out_otherwise_is_told_beside_what_was_expected(result: Make) -> None:
    """If this fails, a wrong expectation is only visible as a bold no."""
    one = result("clean", "inconclusive", **UNSAFE)
    assert "What running them showed" not in render([one])
    changed = replace(one, mutant=replace(one.mutant, otherwise="the guest died"))
    assert "| x86-some | race-observed | the guest died |" in render([changed])


def test_a_false_clean_is_shown_as_one(result: Make) -> None:
    """If this fails, the worst bug looks like a difference of taste."""
    assert "| clean | **no: a false clean** |" in render([result(**UNSAFE)])


def test_the_calm_verdict_of_a_safe_mutant_counts(result: Make) -> None:
    """If this fails, every safe kernel seems wrong where an emulated storm loses events."""
    text = render([result("clean", "inconclusive")])
    assert "| yes | clean | clean | yes | - |" in text
    assert "| x86-some | clean | clean | inconclusive | inconclusive |" in text


def test_what_a_verdict_rests_on_stands_beside_it(result: Make) -> None:
    """If this fails, a clean word that nothing proves looks like one that is proven."""
    one = result()
    assert one.judged
    one.judged.recordings[3].rests_on.append("implications")
    assert "| clean | clean, resting on implications | yes |" in render([one])


def test_what_was_not_measured_is_named(result: Make) -> None:
    """If this fails, a mutant that did not build is missing and nobody sees it."""
    one = result()
    text = render([Result(one.mutant, None, None, "the kernel does not build:")])
    assert "| not measured: the kernel does not build: | - | - | - |" in text
    assert "not measured" in progress(Result(one.mutant, None, None, "no compiler"))


def test_a_mutant_that_was_not_run_here_keeps_its_rows(result: Make) -> None:
    """If this fails, who measures one mutant on a new machine wipes what is known of all others."""
    one, other = result(), result(name="x86-other")
    before = render([one, other])
    text = render([Result(one.mutant, None, None, NOT_RUN), other], before=before)
    assert text == before


def test_no_row_stands_for_a_mutant_that_failed_or_changed_its_word(result: Make) -> None:
    """If this fails, an old clean hides a kernel that does not build any more, or a new verdict."""
    one = result()
    before = render([one])
    failed = Result(one.mutant, None, None, "the kernel does not build:")
    assert render([failed], before=before) == render([failed])
    changed = result("inconclusive")
    assert render([changed], before=before) == render([changed])
    never = Result(one.mutant, None, None, NOT_RUN)
    assert render([never], before=render([failed])) == render([never])


def test_a_guest_that_failed_is_named(result: Make) -> None:
    """If this fails, a crash of the mutant looks like a recording without traffic."""
    one = result(storm="inconclusive")
    assert one.judged
    crashed = replace(one, judged=replace(one.judged, failure="the guest ended"))
    assert "| 90 s: the guest ended |" in render([crashed])


def test_a_cell_never_ends_a_table(result: Make) -> None:
    """If this fails, a reason with a bar in it breaks the page."""
    one = result()
    assert one.judged
    one.judged.recordings[0].reasons.append("a|b")
    assert "| a/b |" in render([one])
