# SPDX-License-Identifier: Apache-2.0
"""This finds out whether the kernel's code does what a probe point's symbol is said to imply."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType

from ghesrace.host.facts import Facts
from ghesrace.host.kallsyms import Symbol
from ghesrace.plan import Fetch, Slot
from ghesrace.points import Candidate

from . import arm64, judge, x86
from .judge import Answer
from .paths import Act, Lost, State, Surroundings, Value, ends

_STEPS: dict[str, ModuleType] = {"x86_64": x86, "arm64": arm64}
_NEAR = 1 << 16  # bytes of a function, at most
# Stands for the page where a function is given an address: any kernel page does.
_ANY_PAGE = {"x86_64": 0xFFFF_C900_0123_4000, "arm64": 0xFFFF_8000_1234_5000}


@dataclass(frozen=True, slots=True)
class Question:
    """The question is whether `symbol`, which serves by `candidate`, does `what` to each of these
    `slots`. `flushes` are the functions whose call is the event of another probe."""

    candidate: Candidate
    symbol: Symbol
    what: str
    slots: tuple[Slot, ...]
    flushes: Mapping[int, str]


def prove(facts: Facts, question: Question) -> Answer:
    """Return what the code of the kernel that *facts* describes says to *question*; the text names
    the place by its symbol. Whatever the bytes are, it returns an answer.

    >>> question = Question(Candidate("f"), Symbol("f", 4096, ""), "page-after-clear", (), {})
    >>> prove(Facts("arm64", "6.12", problems={"kernel code": "No such file"}), question).text
    "the kernel's code can't be read: No such file"
    """
    if why := _unreadable(facts, question.symbol):
        return Answer(None, 0, why)
    slots = question.slots or (None,)
    answers = [_of_slot(facts, question, slot) for slot in slots]
    return _told(facts, _worst(answers))


def invalidates(facts: Facts, candidate: Candidate, symbol: Symbol) -> Answer:
    """Return whether the function *symbol*, which serves by *candidate* as the sight of a local
    invalidation, does invalidate the kernel page that it is given, on every path and whichever page
    that is.

    >>> candidate = Candidate("f", fields={"addr": Fetch(1)})
    >>> facts = Facts("x86_64", "6.12", problems={"kernel code": "No such file"})
    >>> invalidates(facts, candidate, Symbol("f", 4096, "")).text
    "the kernel's code can't be read: No such file"
    """
    if why := _unreadable(facts, symbol):
        return Answer(None, 0, why)
    return _told(facts, _of_any_page(facts, candidate, symbol))


def called_late(facts: Facts, candidate: Candidate, symbol: Symbol, by: str, behind: str) -> Answer:
    """Return whether the function *symbol*, which serves by *candidate*, calls the function *by*
    only behind a call of *behind*, and that behind a removal from a list.

    >>> facts = Facts("x86_64", "6.12", problems={"kernel code": "No such file"})
    >>> called_late(facts, Candidate("f"), Symbol("f", 4096, ""), "iounmap", "synchronize_rcu").text
    "the kernel's code can't be read: No such file"
    """
    if why := _unreadable(facts, symbol):
        return Answer(None, 0, why)
    question = Question(candidate, symbol, "", (), {})
    asked = {s.address: name for name in (by, behind) for s in facts.symbols.get(name, ())}
    around = Surroundings(
        facts.code,  # type: ignore[arg-type]  # `_unreadable` asked
        frozenset(_addresses(facts, question)),
        asked,
        tables=True,
    )
    steps = _STEPS[facts.arch]
    try:
        paths = ends(steps.entry(symbol.address, {}), around, steps.step)
    except Lost as lost:
        return Answer(None, lost.at, str(lost))
    return _told(facts, judge.of_order(paths, by, behind))


def _of_any_page(facts: Facts, candidate: Candidate, symbol: Symbol) -> Answer:
    page = _ANY_PAGE[facts.arch]
    at = candidate.fields["addr"]
    given: dict[int, Value] = {}
    if isinstance(at, Fetch) and isinstance(at.argument, int):
        given[at.argument] = page
    question = Question(candidate, symbol, "", (), {})
    through = frozenset(_addresses(facts, question))
    entries = through | {symbol.address}
    around = Surroundings(facts.code, through)  # type: ignore[arg-type]  # `_unreadable` asked
    steps = _STEPS[facts.arch]

    def step(state: State, around: Surroundings) -> tuple[State, ...]:
        # It may tell pages apart: what it compares the address with decides nothing here. What
        # comes behind an invalidation does not undo it, so a path ends there.
        behind: tuple[State, ...] = steps.step(replace(state, flags=None, limit=None), around)
        if not behind:
            behind = (replace(state.does(Act("trap", state.pc)), pc=0),)
        return tuple(replace(s, pc=0) if judge.covers(s.acts, page) else s for s in behind)

    try:
        paths = ends(steps.entry(symbol.address, given), around, step)
    except Lost as lost:
        return Answer(None, lost.at, str(lost))
    return judge.of_invalidation(paths, page, entries)


def _worst(answers: Iterable[Answer]) -> Answer:
    return min(answers, key=lambda one: (one.held is not False, one.held is not None, one.watched))


def _unreadable(facts: Facts, symbol: Symbol) -> str:
    """Return why the code of *symbol* can't be read, or ""."""
    if facts.code is None:
        return f"the kernel's code can't be read: {facts.problems.get('kernel code', 'not tried')}"
    if not symbol.address:
        return "kallsyms hides addresses (kernel.kptr_restrict)"
    if facts.arch not in _STEPS:
        return f"code of {facts.arch} can't be followed"
    return ""


def _told(facts: Facts, answer: Answer) -> Answer:
    """Return *answer* with a text that names its place, and where the code was read from."""
    text = _placed(facts, answer)
    if facts.code_from:
        text += f" (read from {facts.code_from})"
    return replace(answer, text=text)


def _of_slot(facts: Facts, question: Question, slot: Slot | None) -> Answer:
    steps = _STEPS[facts.arch]
    address = slot.address if slot else None
    given: dict[int, Value] = {}
    fields = question.candidate.fields
    if isinstance(at := fields.get("index"), Fetch) and isinstance(at.argument, int):
        if slot is None or slot.index is None:
            return Answer(None, 0, "no BTF tells the slot's index, so no page can be followed")
        given[at.argument] = slot.index
    if isinstance(at := fields.get("addr"), Fetch) and isinstance(at.argument, int):
        address = given[at.argument] = address or _ANY_PAGE[facts.arch]
    around = Surroundings(
        facts.code,  # type: ignore[arg-type]  # `prove` asked
        frozenset(_addresses(facts, question)),
        dict(question.flushes),
    )
    answers = []
    for clears in _edits(question.what):
        registers = dict(given)
        for name in ("phys", "prot") if clears else ():
            if isinstance(at := fields.get(name), Fetch) and isinstance(at.argument, int):
                registers[at.argument] = 0
        try:
            paths = ends(steps.entry(question.symbol.address, registers), around, steps.step)
        except Lost as lost:
            answers.append(Answer(None, lost.at, str(lost)))
            continue
        arm64_ = facts.arch == "arm64"
        answers.append(
            judge.of_paths(
                paths,
                address,
                everywhere=question.what.startswith("broadcast"),
                arm64=arm64_,
                # x86's entries may carry bits that only the running kernel knows.
                clears=clears and arm64_,
            )
        )
    return _worst(answers)


def _edits(what: str) -> tuple[bool, ...]:
    """Return of which edits *what* is said: True of the clear, False of the set."""
    if what.endswith("after-set"):
        return (False,)
    return (True,) if what.endswith("after-clear") else (True, False)


def _addresses(facts: Facts, question: Question) -> Iterable[int]:
    module = question.symbol.module
    for name in question.candidate.through:
        for symbol in facts.symbols.get(name, ()):
            if symbol.module == module and symbol.address:
                yield symbol.address


def _placed(facts: Facts, answer: Answer) -> str:
    """Return the answer's text with its place as SYMBOL+OFFSET; an address would tell where the
    kernel lies."""
    if not answer.at:
        return answer.text
    known = sorted((s.address, s.name) for found in facts.symbols.values() for s in found)
    number = bisect_right(known, (answer.at, "\x7f")) - 1
    if number < 0 or answer.at - known[number][0] > _NEAR:
        return f"{answer.text}, outside of the functions that are known"
    address, name = known[number]
    return f"{name}+{answer.at - address:#x}: {answer.text}"
