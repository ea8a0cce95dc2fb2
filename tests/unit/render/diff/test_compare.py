# SPDX-License-Identifier: Apache-2.0
"""What "worse" means: docs/diff.md, rule by rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.render.diff.compare import Comparison, Fate, Outcome, compare
from ghesrace.render.diff.document import side_of
from tests.build.reports import PATTERNS, finding, report, slot

CLEAN = report()
RACE = report(finding(), slots=(slot(none=2),))
LIKELY = report(finding(severity="predicted"), slots=(slot(incidental=2),))
TORN = finding("torn_edit", slot="GHES_IRQ", why="CPU 0 (nmi) maps 0x1000; it met CPU 1")
LOSSES = ("losses: overrun",)


def compared(a: dict[str, Any], b: dict[str, Any], *accepted: str) -> Comparison:
    return compare(side_of(a, "a"), side_of(b, "b"), accepted)


def outcome(a: dict[str, Any], b: dict[str, Any], *accepted: str) -> Outcome:
    return compared(a, b, *accepted).outcome


def fates(a: dict[str, Any], b: dict[str, Any]) -> list[Fate]:
    return [change.fate for change in compared(a, b).changes]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (CLEAN, CLEAN, Outcome.SAME),
        (CLEAN, RACE, Outcome.WORSE),
        (CLEAN, LIKELY, Outcome.WORSE),
        (LIKELY, RACE, Outcome.WORSE),
        (LIKELY, LIKELY, Outcome.SAME),
        (RACE, RACE, Outcome.SAME),
        (RACE, LIKELY, Outcome.BETTER),
        (RACE, CLEAN, Outcome.BETTER),
        (LIKELY, CLEAN, Outcome.BETTER),
    ],
)
def test_verdicts_are_ordered(a: dict[str, Any], b: dict[str, Any], expected: Outcome) -> None:
    """The first thing that anybody asks of two kernels."""
    assert outcome(a, b) is expected


def test_exit_codes() -> None:
    """Scripts branch on these."""
    codes = {one: one.exit_code for one in Outcome}
    assert codes == {
        Outcome.WORSE: 1,
        Outcome.UNKNOWN: 3,
        Outcome.BETTER: 0,
        Outcome.SAME: 0,
    }


def test_another_fault_of_the_same_verdict_is_worse() -> None:
    """If this fails, a race that is there anyway hides every new one."""
    assert outcome(RACE, report(finding(), TORN)) is Outcome.WORSE
    assert outcome(RACE, report(finding(), finding(slot="GHES_NMI"), slots=(
        slot(none=1), slot("GHES_NMI", none=1)))) is Outcome.WORSE  # fmt: skip


def test_one_fault_for_another_is_worse() -> None:
    """What went away does not pay for what came."""
    both = compared(RACE, report(TORN))
    assert both.outcome is Outcome.WORSE
    assert {c.fate for c in both.changes} == {Fate.NEW, Fate.GONE}


def test_a_write_is_graver_than_a_read() -> None:
    """A write through a stale entry corrupts the old page."""
    write = report(finding(access="write"))
    assert outcome(RACE, write) is Outcome.WORSE
    assert outcome(write, RACE) is Outcome.BETTER


def test_cpus_frames_and_addresses_tell_no_faults_apart() -> None:
    """With KASLR every boot has other addresses, and CPUs come as they come: each second run would
    be worse than the first."""
    other = finding("torn_edit", slot="GHES_IRQ", why="CPU 7 (nmi) maps 0xfeed000; it met CPU 12")
    assert fates(report(TORN), report(other)) == [Fate.SAME]
    several = report(TORN, other, finding(), finding(why="CPU 3 is another variant", count=9))
    assert fates(report(TORN, finding()), several) == [Fate.SAME, Fate.SAME]
    changed = finding("torn_edit", slot="GHES_IRQ", why="CPU 7 (irq) maps 0xfeed000; it met CPU 1")
    assert outcome(report(TORN), report(changed)) is Outcome.WORSE


def test_how_often_is_not_how_bad() -> None:
    """A longer recording of the same kernel would be worse than a shorter one."""
    assert outcome(report(finding(count=1)), report(finding(count=10_000))) is Outcome.SAME


def test_predicted_by_the_same_words_with_a_condition_is_the_same_fault() -> None:
    """A torn edit whose end was not traced is predicted "unless ...": traced, it is graver, not
    another one."""
    likely = finding("torn_edit", "predicted", "GHES_IRQ", why="CPU 0 met 0x1, unless it was over")
    sure = finding("torn_edit", "observed", "GHES_IRQ", why="CPU 2 met 0x5")
    assert fates(report(likely), report(sure)) == [Fate.GRAVER]
    assert fates(report(sure), report(likely)) == [Fate.MILDER]


@pytest.mark.parametrize("other", [CLEAN, RACE])
def test_inconclusive_is_no_comparison(other: dict[str, Any]) -> None:
    """What nobody knows is neither better nor worse."""
    nothing = report(reasons=("no-traffic",), slots=(slot(),))
    lossy = report(reasons=LOSSES)
    for unsure in (nothing, lossy):
        assert outcome(unsure, other) is Outcome.UNKNOWN
        assert outcome(other, unsure) is Outcome.UNKNOWN


def test_a_race_that_a_surely_lacks_is_worse_even_if_a_is_inconclusive() -> None:
    """A doubt about the NMI slot would hide that the IRQ slot's protection went away."""
    slots = (slot(map_flush=4), slot("GHES_NMI", map_flush=2, uncertain=1))
    a = report(reasons=("uncertain: GHES_NMI: 1 loss",), slots=slots)
    b = report(finding(), slots=(slot(none=4), slots[1]))
    assert outcome(a, b) is Outcome.WORSE
    there = report(finding(slot="GHES_NMI"), slots=(slots[0], slot("GHES_NMI", none=1)))
    assert outcome(a, there) is Outcome.UNKNOWN


def test_a_race_where_a_lost_events_may_not_be_new() -> None:
    """If this fails, a kernel is called worse for what its predecessor may have had as well."""
    a = report(LIKELY["findings"][0], reasons=LOSSES)
    assert fates(a, RACE) == [Fate.UNCLEAR]
    assert outcome(a, RACE) is Outcome.UNKNOWN
    assert outcome(report(LIKELY["findings"][0], truncated=True), RACE) is Outcome.UNKNOWN


def test_b_that_leaves_something_open_is_not_known_to_be_no_worse() -> None:
    """If this fails, losses in the new kernel's recording make it as good as the old one."""
    assert outcome(RACE, report(finding(), reasons=LOSSES)) is Outcome.UNKNOWN
    assert outcome(RACE, report(finding(), truncated=True)) is Outcome.UNKNOWN
    assert outcome(RACE, report(finding("overlap"), reasons=LOSSES)) is Outcome.WORSE


def test_a_race_in_a_beside_a_whole_clean_b_is_better_whatever_a_lost() -> None:
    """What A lost can only make it worse still."""
    assert outcome(report(finding(), reasons=LOSSES), CLEAN) is Outcome.BETTER


def test_a_pattern_that_only_one_checked() -> None:
    """If this fails, a pattern that was not looked for counts as one that is not there."""
    partial = report(unchecked=("overlap",))
    assert outcome(CLEAN, partial) is Outcome.UNKNOWN
    assert outcome(partial, CLEAN) is Outcome.UNKNOWN
    assert outcome(partial, report(finding("overlap"))) is Outcome.UNKNOWN
    assert outcome(partial, RACE) is Outcome.WORSE
    assert outcome(partial, partial) is Outcome.SAME


def test_a_slot_that_only_a_used() -> None:
    """If this fails, a race is gone because nobody drove over it."""
    two = (slot(map_flush=1), slot("GHES_NMI", none=1))
    a = report(finding(slot="GHES_NMI"), slots=two)
    b = report(slots=(slot(map_flush=1), slot("GHES_NMI")))
    assert outcome(a, b) is Outcome.UNKNOWN
    assert fates(a, b) == [Fate.UNCLEAR]
    assert outcome(report(slots=two), b) is Outcome.UNKNOWN


def test_a_race_at_a_slot_that_a_did_not_use_may_not_be_new() -> None:
    """If this fails, more traffic makes a kernel worse."""
    a = report(slots=(slot(map_flush=1), slot("GHES_NMI")))
    b = report(finding(slot="GHES_NMI"), slots=(slot(map_flush=1), slot("GHES_NMI", none=1)))
    assert outcome(a, b) is Outcome.UNKNOWN


def test_a_race_at_a_slot_that_a_kernel_did_not_have_is_new() -> None:
    """A capture names all slots of its kernel; a foreign trace only those that were in use."""
    b = report(finding(slot="ours:sea"), slots=(slot(map_flush=1), slot("ours:sea", none=1)))
    assert outcome(CLEAN, b) is Outcome.WORSE
    assert outcome({**CLEAN, "host": {"source": "trace.dat"}}, b) is Outcome.UNKNOWN
    assert outcome(report(slots=()), b) is Outcome.UNKNOWN


def test_slots_of_other_names_are_compared() -> None:
    """A kernel of 4.14 and one of 4.15 name the same slot differently."""
    old = report(finding(slot="ghes:irq"), slots=(slot("ghes:irq", none=2),))
    assert outcome(old, CLEAN) is Outcome.BETTER
    assert outcome(CLEAN, old) is Outcome.WORSE
    assert fates(old, RACE) == [Fate.SAME]
    torn = [
        report(
            finding("torn_edit", slot=name, why=f"CPU 0 maps 0x1 at {name}"),
            slots=(slot(name, fresh=1),),
        )
        for name in ("ghes:irq", "GHES_IRQ")
    ]
    assert fates(*torn) == [Fate.SAME]


def test_what_clean_rests_on() -> None:
    """A text without losses is as clean as it is complete, unless somebody vouches for it."""
    text = {**CLEAN, "qualified_by": ["losses"]}
    assert outcome(text, text) is Outcome.UNKNOWN
    assert outcome(text, text, "losses") is Outcome.SAME
    assert outcome(text, RACE) is Outcome.UNKNOWN
    assert outcome(text, RACE, "losses") is Outcome.WORSE
    assert outcome(RACE, text, "clock") is Outcome.UNKNOWN
    assert outcome(RACE, text, "losses", "clock") is Outcome.BETTER


def test_findings_without_a_slot() -> None:
    """A shootdown is no matter of a slot, so no slot has to be tried for it."""
    sent = finding("shootdown", "predicted", None, why="CPU 0 sent a shootdown")
    assert outcome(CLEAN, report(sent)) is Outcome.WORSE
    assert outcome(report(sent), CLEAN) is Outcome.BETTER


def test_notes_tell_what_decides_nothing() -> None:
    """A reader should know that B's slot never changed CPUs, and that the machines differ."""
    b = report(slots=(slot(map_flush=1),), host={"arch": "arm64"})
    notes = compared(CLEAN, b).notes
    assert any("never handed" in note for note in notes)
    assert "the architectures differ" in notes
    assert compared(CLEAN, CLEAN).notes == []


WHYS = ("CPU 0 does it at 0x1000", "CPU 1 does it at 0x2000", "CPU 0 does that")
SLOTS = ("GHES_IRQ", "GHES_NMI")
FINDINGS = st.builds(
    finding,
    st.sampled_from(PATTERNS),
    st.sampled_from(["observed", "predicted"]),
    st.sampled_from(SLOTS),
    st.sampled_from(["read", "write", None]),
    st.sampled_from(WHYS),
)
REASONS = st.sampled_from(
    ["losses: overrun", "uncertain: GHES_IRQ: 3 loss", "uncertain: overlap: x", "truncated"]
)


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    unchecked = draw(st.sets(st.sampled_from(PATTERNS), max_size=1))
    found = [f for f in draw(st.lists(FINDINGS, max_size=4)) if f["pattern"] not in unchecked]
    busy = draw(st.sets(st.sampled_from(SLOTS)))
    slots = tuple(slot(name, **({"fresh": 2} if name in busy else {})) for name in SLOTS)
    reasons = tuple(draw(st.sets(REASONS, max_size=2)))
    rests = draw(st.sampled_from([[], ["losses"]]))
    return report(
        *found, slots=slots, reasons=reasons, unchecked=tuple(unchecked), qualified_by=rests
    )


@pytest.mark.slow
@given(reports())
def test_nothing_is_better_or_worse_than_itself(one: dict[str, Any]) -> None:
    """If this fails, the answer depends on more than what changed."""
    answer = compared(one, one)
    assert answer.outcome in (Outcome.SAME, Outcome.UNKNOWN)
    assert {change.fate for change in answer.changes} <= {Fate.SAME}
    whole = not one["reasons"] and not one["qualified_by"]
    assert (answer.outcome is Outcome.SAME) == whole


@given(reports(), reports(), FINDINGS)
def test_another_finding_in_b_never_helps_it(
    a: dict[str, Any], b: dict[str, Any], more: dict[str, Any]
) -> None:
    """If this fails, a kernel gets a better mark for being worse."""
    if not b["patterns"][more["pattern"]]["checked"] or not b["findings"]:
        return
    rank = [Outcome.BETTER, Outcome.SAME, Outcome.UNKNOWN, Outcome.WORSE]
    before, after = outcome(a, b), outcome(a, {**b, "findings": [*b["findings"], more]})
    assert rank.index(after) >= rank.index(before)


@given(reports(), reports(), REASONS)
def test_a_doubt_in_b_never_makes_it_good_enough(
    a: dict[str, Any], b: dict[str, Any], reason: str
) -> None:
    """If this fails, losing events is a way to pass."""
    assert outcome(a, {**b, "reasons": [*b["reasons"], reason]}).exit_code != 0


@given(reports(), reports(), REASONS)
def test_a_doubt_in_a_never_makes_b_worse(
    a: dict[str, Any], b: dict[str, Any], reason: str
) -> None:
    """If this fails, a kernel is blamed because its predecessor's recording was poor."""
    if outcome({**a, "reasons": [*a["reasons"], reason]}, b) is Outcome.WORSE:
        assert outcome(a, b) is Outcome.WORSE


@given(reports(), reports())
def test_exit_code_0_means_what_it_says(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Held against the words of docs/diff.md: all that B shows A shows, no graver, and B was asked
    all that A was."""
    if outcome(a, b).exit_code:
        return
    grades = {"predicted": 0, "observed": 1}
    shown: dict[tuple[str, str], int] = {}
    for one in a["findings"]:
        key = one["pattern"], one["slot"]
        shown[key] = max(shown.get(key, 0), grades[one["severity"]])
    for one in b["findings"]:
        assert grades[one["severity"]] <= shown[one["pattern"], one["slot"]]
    assert not b["reasons"]
    assert not b["qualified_by"]
    checked = [[p["checked"] for p in x["patterns"].values()] for x in (a, b)]
    assert checked[0] == checked[1]
    used = [{s["name"] for s in x["slots"] if s["episodes"]} for x in (a, b)]
    used[1] |= {f["slot"] for f in b["findings"]}
    assert used[0] <= used[1]


def test_the_outcome_is_told_with_what_decided_it() -> None:
    """If this fails, a reader gets an exit code and no reason."""
    for a in (CLEAN, RACE, LIKELY, report(reasons=LOSSES)):
        for b in (CLEAN, RACE, LIKELY, report(reasons=LOSSES)):
            assert compared(a, b).because
    assert compared(CLEAN, RACE).because[0] == (
        "new in B: stale read at slot GHES_IRQ, observed once"
    )
