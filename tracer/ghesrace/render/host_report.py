# SPDX-License-Identifier: Apache-2.0
"""This makes the file of `ghesrace doctor --report`: what a host is, what would be attached on it,
and what it did for a minute, without its name and its addresses. host-report.schema.json documents
its shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ghesrace import __version__
from ghesrace.errors import GhesraceError
from ghesrace.host.clocks import ASSUMED_NS, Comparison
from ghesrace.host.facts import Facts
from ghesrace.plan import Plan

from . import as_json
from .judgement import Judgement
from .redact import Redactor

# host-report.schema.json has the same `$id`.
SCHEMA = "urn:ghesrace:host-report:1"
SCHEMA_VERSION = "1.0"
_KERNEL = 1 << 63
_PHYSICAL = ("block", "register")  # keys of a HEST source whose values are physical addresses
_NAME = "(this host)"


@dataclass(frozen=True, slots=True)
class Counted:
    """This is what a source saw for `seconds`: records by kind, loss records, its own counters, and
    what the engine judged of them."""

    seconds: float
    kinds: Mapping[str, int]
    losses: int
    counters: Mapping[str, int]
    judged: Judgement

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form."""
        judged = as_json.document(self.judged)
        return {
            "seconds": round(self.seconds, 3),
            "backend": self.judged.plan.backend,
            "events": dict(self.kinds),
            "losses": self.losses,
            "counters": dict(self.counters),
            "judged": {**judged, "redacted": True},
        }


@dataclass(frozen=True, slots=True)
class Host:
    """This is what was found out. Where a part could not be had, its error stands in its place."""

    facts: Facts
    machine: Mapping[str, str]
    ready: bool
    checks: Sequence[Mapping[str, Any]]
    plan: Plan | GhesraceError
    clocks: Comparison | GhesraceError
    counted: Counted | GhesraceError
    names: frozenset[str] = field(default=frozenset())


def document(host: Host) -> dict[str, Any]:
    """Return the JSON-ready report on *host*. It has no address but relative ones, and nowhere one
    of `host.names`.

        json.dump(document(host), file, indent=1)
    """
    made = {
        "schema": {"id": SCHEMA, "version": SCHEMA_VERSION},
        "tool": {"name": "ghesrace", "version": __version__},
        "redacted": True,
        "ready": host.ready,
        "machine": dict(host.machine),
        "facts": _facts(host.facts),
        "checks": [dict(check) for check in host.checks],
        "plan": _or_problem(host.plan, Plan, Plan.to_dict),
        "clocks": _or_problem(host.clocks, Comparison, _clocks),
        "counted": _or_problem(host.counted, Counted, Counted.to_dict),
    }
    redacted: dict[str, Any] = _Redacted(host.names).value(made)
    return redacted


def _or_problem(found: Any, wanted: type[Any], to_dict: Any) -> dict[str, Any]:
    if isinstance(found, wanted):
        made: dict[str, Any] = to_dict(found)
        return {"problem": None, **made}
    return {"problem": {"what": found.what, "hint": found.hint}}


def _facts(facts: Facts) -> dict[str, Any]:
    traceable, blacklist = facts.traceable, facts.blacklist
    return {
        **facts.to_host(),
        "symbols": [
            {
                "name": name,
                "module": symbol.module,
                "traceable": None if traceable is None else (symbol.module, name) in traceable,
                "blacklisted": None if blacklist is None else name in blacklist,
                "parameters": facts.arity(symbol),
            }
            for name, found in sorted(facts.symbols.items())
            for symbol in found
        ],
        "tracepoints": sorted(facts.tracepoints),
        "btf": facts.btf is not None,
        "clocks": list(facts.clocks),
        "areas": [{"module": a.module, "caller": a.caller, "begin": a.begin} for a in facts.areas],
        "code_from": facts.code_from,
    }


def _clocks(found: Comparison) -> dict[str, Any]:
    return {
        "bound_ns": found.bound_ns,
        "warp_ns": found.warp_ns,
        "error_ns": found.error_ns,
        "assumed_ns": ASSUMED_NS,
    }


class _Redacted:
    """This goes through a JSON value and leaves out addresses and *names*."""

    def __init__(self, names: Iterable[str]) -> None:
        self._redactor = Redactor()
        # Where a name is a part of another one, the longer one goes first.
        words = sorted((re.escape(name) for name in names if name), key=len, reverse=True)
        either = "|".join(words)
        self._named = re.compile(rf"(?<!\w)(?:{either})(?!\w)", re.I) if words else None

    def value(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {self._text(name): self.value(inner, name) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(inner, key) for inner in value]
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int) and not isinstance(value, bool):
            if value >= _KERNEL:
                return self._redactor.virtual(value)
            return self._redactor.physical(value) if key in _PHYSICAL else value
        return value

    def _text(self, text: str) -> str:
        if self._named is not None:
            text = self._named.sub(_NAME, text)
        return self._redactor.text(text)
