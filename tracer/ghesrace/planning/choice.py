# SPDX-License-Identifier: Apache-2.0
"""Which symbol serves a probe point on this kernel: the first candidate of probes/ that fits."""

from __future__ import annotations

from dataclasses import dataclass

from ghesrace.host.facts import Facts
from ghesrace.host.kallsyms import Symbol
from ghesrace.plan import Backend, Mechanism
from ghesrace.points import Candidate, Point

from . import mechanism as mechanisms
from .implied.judge import Answer
from .implied.prove import invalidates


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice is a point as resolved in one scope ("" for vmlinux, else the module)."""

    point: Point
    candidate: Candidate
    symbol: Symbol | None  # None for a tracepoint
    mechanism: Mechanism
    scope: str
    note: str = ""  # why no better mechanism
    # What the code says of the symbols that were asked whether they invalidate, the refused ones,
    # too.
    asked: tuple[tuple[str, Answer], ...] = ()

    @property
    def bare(self) -> bool:
        """This is true if the compiler changed the function's arguments: none is fetched then."""
        return self.symbol is not None and self.symbol.changed


Choices = dict[tuple[str, str], Choice]  # by (point, scope)


def choose(facts: Facts, point: Point, scope: str, backend: Backend) -> tuple[Choice | None, str]:
    """Return the first candidate that fits in *scope* and "" (or why it has no better mechanism);
    or None and why none fits ("" if the point cannot matter here)."""
    if not set(point.host) <= facts.host:
        return None, ""
    reasons: list[str] = []
    asked: list[tuple[str, Answer]] = []
    anywhere = point.scope != "any"
    for candidate in point.candidates:
        if candidate.arch and facts.arch not in candidate.arch:
            continue
        if any(
            (w[1:] in facts.host) if w[0] == "!" else w not in facts.host for w in candidate.when
        ):
            continue
        struct, _, member = candidate.member.partition(".")
        if member and facts.btf and member not in facts.btf.offsets(struct):
            continue  # Without the member this cannot matter.
        reason = _companions(facts, candidate, scope, anywhere)
        if reason:
            reasons.append(reason)
            continue
        if candidate.tracepoint:
            if candidate.tracepoint in facts.tracepoints:
                form: Mechanism = "raw-tracepoint" if backend == "bpf" else "tracepoint"
                return Choice(point, candidate, None, form, scope), ""
            reasons.append(f"no tracepoint {candidate.tracepoint}")
            continue
        symbol, mechanism, reason = _symbol(facts, point, candidate, scope, backend)
        if symbol and mechanism:
            if candidate.invalidates:
                answer = invalidates(facts, candidate, symbol)
                asked.append((symbol.name, answer))
                if answer.held is False:
                    reasons.append(f"{symbol.name} does not do what its name says: {answer.text}")
                    continue
            return Choice(point, candidate, symbol, mechanism, scope, reason, tuple(asked)), ""
        reasons.append(reason)
    return None, "; ".join(dict.fromkeys(reasons))


def _companions(facts: Facts, candidate: Candidate, scope: str, anywhere: bool) -> str:
    """Return why a symbol that is beside the candidate, or is not, forbids it, or ""."""
    if candidate.member and facts.btf is None:
        return f"no BTF tells whether there is {candidate.member}"

    def there(name: str) -> bool:
        return any(anywhere or s.module == scope for s in facts.symbols.get(name, ()))

    for name in candidate.without:
        if there(name):
            return f"{candidate.symbol or candidate.tracepoint} does not fit beside {name}"
    for name in candidate.with_:
        if not there(name):
            return f"no {name}"
    return ""


def _symbol(
    facts: Facts, point: Point, candidate: Candidate, scope: str, backend: Backend
) -> tuple[Symbol | None, Mechanism | None, str]:
    name = candidate.symbol
    found = [s for s in facts.symbols.get(name, ()) if s.module == scope]
    plain = [s for s in found if not s.changed]
    copies = [s.name for s in found if s.changed and ".part." not in s.name]
    if not found:
        return None, None, f"no {name}: not in this kernel, or inlined"
    # What one copy does would be seen and what the other does would not.
    if copies and len(found) > 1:
        names = ", ".join(sorted(s.name for s in found))
        return None, None, f"the compiler made copies, of which one does not tell all: {names}"
    symbol = (plain or found)[0]
    if not plain and not point.bare:
        return None, None, f"only {symbol.name} exists, whose arguments the compiler changed"
    if len(plain) > 1:
        return None, None, f"{len(plain)} functions are called {name}"
    arity = facts.arity(symbol)
    if candidate.arity is not None and arity != candidate.arity:
        if arity is not None:
            return None, None, f"{name} takes {arity} arguments, not {candidate.arity}"
        if not candidate.unknown_arity:
            return None, None, f"BTF does not say what {name} takes"
    if facts.traceable is not None and (scope, symbol.name) not in facts.traceable:
        return None, None, f"ftrace cannot hook {symbol.name}"
    bare = symbol.changed
    mechanism, reason = mechanisms.choose(facts, candidate, symbol, backend, bare=bare)
    return symbol, mechanism, reason
