# SPDX-License-Identifier: Apache-2.0
"""This says of what a function's paths do whether an invalidation of a page lies behind the write
of its page-table entry, on all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .paths import ALL, Act, Acts, Value

_PAGE_SHIFTS = (12, 14, 16)  # of arm64's granules; x86 has the first
_ENTRY = 8
_VALID = 1  # of an entry, on arm64
_MARK = 4  # bytes of ENDBR64, which may lie before the hook of an entry
# What list_del_rcu() writes into an entry (include/linux/poison.h), on x86-64 and arm64.
LIST_POISON2 = 0xDEAD_0000_0000_0122


@dataclass(frozen=True, slots=True)
class Answer:
    """`held` is true if the code does it, false if it does not, and None if that can't be read.
    `at` is the address of the instruction that says so (0: none does), and `text` what it is or
    why. `early` says that the invalidation lies before the write, and `watched` that on every path
    it is a call of what has a probe of its own."""

    held: bool | None
    at: int = 0
    text: str = ""
    early: bool = False
    watched: bool = False


def of_paths(
    paths: Iterable[Acts], address: Value, *, everywhere: bool, arm64: bool, clears: bool = False
) -> Answer:
    """Return whether each path that writes a page-table entry invalidates the page at *address*
    (None: whichever it is) behind that, on all CPUs if *everywhere*; where it *clears*, the entry
    must be invalid then.

    >>> write, flush = Act("write", 8), Act("flush", 12, 0xfff000, "invlpg")
    >>> of_paths([(write, flush)], 0xfff000, everywhere=False, arm64=False).held
    True
    >>> of_paths([(flush, write)], 0xfff000, everywhere=False, arm64=False).text
    'invlpg lies before the write of the entry'
    """
    answers = [(acts, _of_path(acts, address, everywhere, arm64)) for acts in paths]
    if clears:
        answers = [(acts, _cleared(acts, address, one) if one else one) for acts, one in answers]
    before = {at for acts, one in answers if one and one.held for at in _calls_before_write(acts)}
    found = [one for acts, one in answers if one and not _gives_up(acts, before)]
    if found and any(one is None and not _prints(acts) for acts, one in answers):
        # Such a path is not always dead: what it leaves mapped would be taken for cleared.
        found.append(Answer(None, 0, "a path of it writes no page-table entry"))
    for held in (False, None):
        for answer in found:
            if answer.held is held:
                return answer
    none = Answer(None, 0, "no path writes a page-table entry")
    return min(found, key=lambda answer: answer.watched, default=none)


def of_invalidation(paths: Iterable[Acts], address: int, entries: Collection[int]) -> Answer:
    """Return whether each of *paths* invalidates the page at *address* on this CPU. They are those
    of the functions at *entries*, of which a call is that of a hook.

    >>> of_invalidation([(Act("flush", 12, 0xfff000, "invlpg"),)], 0xfff000, ()).held
    True
    >>> of_invalidation([(Act("flush", 12, 0xfff000, "invlpg"),), ()], 0xfff000, ()).text
    'a path of it invalidates nothing'
    """
    found = [_of_invalidation(acts, address, entries) for acts in paths]
    for held in (False, None):
        for answer in found:
            if answer.held is held:
                return answer
    return found[0] if found else Answer(None, 0, "no path of it returns")


def of_order(paths: Iterable[Acts], by: str, behind: str) -> Answer:
    """Return whether each of *paths* calls *by* only behind a call of *behind*, before which it
    took something off a list (list_del_rcu() leaves a mark). The calls are flushes, by name.

    >>> gone, wait = Act("write", 4, None, data=LIST_POISON2), Act("flush", 8, None, "call wait")
    >>> of_order([(gone, wait, Act("flush", 12, None, "call f"))], "f", "wait").held
    True
    >>> of_order([(gone, Act("flush", 8, None, "call f"), wait)], "f", "wait").text
    'call f does not lie behind wait'
    """
    last = Answer(None, 0, f"no path calls {by}")
    open_: Answer | None = None
    for acts in paths:
        gone = waited = False
        for act in acts:
            name = act.text.rpartition(" ")[2] if act.kind == "flush" else ""
            gone |= act.kind == "write" and act.data == LIST_POISON2
            waited |= gone and name == behind
            if act.kind == "call" and act.value is None:
                open_ = Answer(None, act.at, "a call or jump that is not followed may do it")
            if name == by and not waited:
                return Answer(False, act.at, f"{act.text} does not lie behind {behind}")
            if name == by:
                last = Answer(True, act.at, f"{act.text} lies behind {behind}")
    return open_ or last


def covers(acts: Acts, address: int) -> Act | None:
    """Return the first of *acts* that invalidates the page at *address* on this CPU, if any.

    >>> covers((Act("flush", 12, 0xffe000, "invlpg"),), 0xfff000)
    """
    return next(
        (
            act
            for act in acts
            if act.kind == "flush"
            and (act.value == ALL or (act.value is not None and act.value >> 12 == address >> 12))
        ),
        None,
    )


def _of_invalidation(acts: Acts, address: int, entries: Collection[int]) -> Answer:
    if act := covers(acts, address):
        return Answer(True, act.at, act.text)
    flushes = [act for act in acts if act.kind == "flush"]
    for act in flushes:
        if act.value is None:
            return Answer(None, act.at, f"{act.text} {_WHERE}")
    if acts and acts[-1].kind == "trap":
        return Answer(None, acts[-1].at, _TRAP)
    # What hooks a function's entry is ftrace, and invalidates nothing.
    for act in acts:
        if act.kind == "call" and not any(e <= act.at <= e + _MARK for e in entries):
            return Answer(None, act.at, "a call that is not followed may do it")
    if flushes:
        return Answer(False, flushes[-1].at, f"{flushes[-1].text} is of another page")
    return Answer(False, 0, "a path of it invalidates nothing")


def _calls_before_write(acts: Acts) -> list[int]:
    last = max((n for n, act in enumerate(acts) if act.kind == "write"), default=0)
    return [act.at for act in acts[:last] if act.kind == "call"]


def _cleared(acts: Acts, address: Value, answer: Answer) -> Answer:
    """Return *answer*, or another where the last write before its invalidation leaves the entry
    valid: it may be filled again behind that."""
    if not answer.held:
        return answer
    acts = _without_others(acts, [page for page in [address] if page is not None])
    flush = max(n for n, act in enumerate(acts) if act.at == answer.at and act.kind == "flush")
    last = next((act for act in reversed(acts[:flush]) if act.kind in ("write", "call")), None)
    if last is None or last.data is None:
        return Answer(None, last.at if last else 0, "what is written into the entry is not known")
    if last.data & _VALID:
        return Answer(False, last.at, "this write leaves the entry valid")
    return answer


def _prints(acts: Acts) -> bool:
    return any(act.kind == "message" for act in acts)


def _gives_up(acts: Acts, before: set[int]) -> bool:
    """Say whether a path prints a message and writes nothing: what it calls is called by those that
    write, too, *before* they do."""
    if not _prints(acts) or any(act.kind in ("write", "flush") for act in acts):
        return False
    return all(act.at in before for act in acts if act.kind == "call")


def _of_path(acts: Acts, address: Value, everywhere: bool, arm64: bool) -> Answer | None:
    """Return the answer of one path; None if it writes nothing."""
    pages = [a.value for a in acts if a.kind == "flush"] if address is None else [address]
    acts = _without_others(acts, [page for page in pages if page not in (None, ALL)])
    writes = [n for n, act in enumerate(acts) if act.kind == "write"]
    changes = [n for n, act in enumerate(acts) if act.kind in ("write", "call")]
    if not changes:
        return None
    if acts[-1].kind == "trap":
        return Answer(None, acts[-1].at, _TRAP)
    why: list[Answer] = []
    for number, act in enumerate(acts):
        if act.kind != "flush":
            continue
        reason = _useless(acts, number, address, everywhere, arm64, changes)
        if not reason:
            return Answer(True, act.at, act.text, watched=act.watched)
        open_ = reason == _WHERE
        held = None if open_ else False
        why.append(Answer(held, act.at, f"{act.text} {reason}", reason == _EARLY))
    behind = [act for act in acts[writes[0] + 1 :] if act.kind == "call"] if writes else []
    if any(answer.held is None for answer in why):
        return next(answer for answer in why if answer.held is None)
    if not writes or behind:
        call = behind[0] if behind else acts[changes[-1]]
        return Answer(None, call.at, "a call that is not followed may do it")
    if any(_could(acts, n, writes, address, everywhere, arm64) for n in range(len(acts))):
        return Answer(None, acts[writes[-1]].at, "which write is that of the entry is not known")
    if why:
        return why[-1]
    return Answer(False, acts[writes[-1]].at, "nothing behind this write invalidates the page")


_TRAP = "what follows this trap is not known, as it may be that of a warning"
_WHERE = "is of an address that is not known"
_EARLY = "lies before the write of the entry"


def _could(
    acts: Acts, number: int, writes: list[int], address: Value, everywhere: bool, arm64: bool
) -> bool:
    """Say whether a flush would do if one of several writes before it were the entry's."""
    if acts[number].kind != "flush" or number < writes[0]:
        return False
    return _useless(acts, number, address, everywhere, arm64, writes[:1]) in ("", _WHERE)


def _useless(
    acts: Acts,
    number: int,
    address: Value,
    everywhere: bool,
    arm64: bool,
    changes: list[int],
) -> str:
    """Return why the flush *number* does not end what the last of *changes* left, or ""."""
    act = acts[number]
    if act.value is None:
        return _WHERE
    if number < changes[-1]:
        return _EARLY
    if act.value != ALL and address is not None and act.value >> 12 != address >> 12:
        return "is of another page"
    if act.value != ALL and address is None:
        written = [acts[n].value for n in changes if n < number and acts[n].value is not None]
        if not written:
            return _WHERE
        if not any(_is_entry(place, act.value) for place in written if place is not None):
            return "is of another page than the entry"
    if everywhere and not act.everywhere:
        return "tells this CPU alone"
    if not arm64:
        return ""
    between = [a for a in acts[changes[-1] : number] if a.kind in ("barrier", "store-barrier")]
    if not any(a.everywhere or not everywhere for a in between):
        return "has no DSB between it and the write"
    if not any(a.kind == "barrier" and (a.everywhere or not everywhere) for a in acts[number:]):
        return "has no DSB behind it"
    return ""


def _without_others(acts: Acts, pages: list[Value]) -> Acts:
    """Leave out writes to known addresses that are no entry of the *pages*, if one remains."""

    def other(act: Act) -> bool:
        if act.kind != "write" or act.value is None or not pages:
            return False
        return not any(_is_entry(act.value, page) for page in pages if page is not None)

    kept = tuple(act for act in acts if not other(act))
    return kept if any(act.kind in ("write", "call") for act in kept) else acts


def _is_entry(place: int, page: int) -> bool:
    """Say whether *place* can be the entry of *page*: where in its table an entry is, the address
    says."""
    return any(
        place >> 3 & (1 << shift - 3) - 1 == page >> shift & (1 << shift - 3) - 1
        and place % _ENTRY == 0
        for shift in _PAGE_SHIFTS
    )
