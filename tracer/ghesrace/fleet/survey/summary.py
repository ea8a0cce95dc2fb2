# SPDX-License-Identifier: Apache-2.0
"""This makes a survey's answers of the data set, a file at a time. What it remembers of a capture
is some hundred bytes; all else grows with kernels, hosts and shapes only."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ghesrace.checker.report import Verdict
from ghesrace.render.survey.answers import (
    VERDICTS,
    Broken,
    Group,
    Outlier,
    Period,
    Shape,
    Survey,
)

from .dataset import Dataset
from .tables import INTERNAL, KILLED

# The exit code of a capture by its verdict, whether it is in doubt, and what it rests on.
CodeOf = Callable[[Verdict, bool, list[str]], int]

_PRECEDENCE = (4, 2, 1, 3, 0)  # as `check` has it for several files
_DAYS = 31  # A trend of more of them is by month.
_KERNELS = 10  # that a finding names
_WORDS = {verdict.word: verdict for verdict in Verdict}
_RUN = [
    *("run", "url", "judged", "host", "arch", "kernel", "firmware", "recorded"),
    *("verdict", "truncated", "reasons", "qualified_by", "implications"),
    *("episodes", "handoffs", "lost", "error", "what"),
]
_SHAPE = ("pattern", "severity", "title", "witness")
_Key = tuple[str | None, str | None, str | None]


@dataclass(slots=True)
class _Seen:
    """What is remembered of each run that counts: its group and its host, by number."""

    of: dict[str, tuple[int, int]] = field(default_factory=dict)
    hosts: dict[str, int] = field(default_factory=dict)
    keys: dict[_Key, int] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)


def summarised(data: Dataset, code_of: CodeOf, unread: int = 0) -> Survey:
    """Return the answers of *data*; of a capture that was judged twice the last answer counts.
    *code_of* says how grave a verdict is, and *unread* counts what could not be read. Raises
    InputError if the data set is damaged.

        summarised(data, code_of).verdicts
    """
    survey, seen = Survey(unread=unread), _Seen()
    codes = {3} if unread else set()
    hosts_of: dict[int, set[int]] = defaultdict(set)
    days: dict[str, Period] = {}
    hosts_on: dict[str, set[int]] = defaultdict(set)
    broken: dict[tuple[str, str], Broken] = {}
    for run in _current(data):
        survey.captures += 1
        host = seen.hosts.setdefault(run["host"], len(seen.hosts))
        if run["error"] is not None:
            codes.add(4 if run["error"] in (INTERNAL, KILLED) else 2)
            _count_broken(broken, run)
            continue
        survey.judged += 1
        number = _count_run(seen, run, host)
        hosts_of[number].add(host)
        if run["recorded"] is not None:
            _count_day(days, hosts_on, run, host)
        in_doubt = bool(run["truncated"] or run["reasons"])
        codes.add(code_of(_WORDS[run["verdict"]], in_doubt, run["qualified_by"]))
    for number, hosts in hosts_of.items():
        seen.groups[number].hosts = len(hosts)
    survey.hosts = len(seen.hosts)
    survey.verdicts = dict(_total(group.verdicts for group in seen.groups))
    survey.outliers = _slots(data, seen)
    survey.findings = _shapes(data, seen)
    survey.losses = _losses(data, seen)
    survey.trend = _periods(days, hosts_on)
    survey.groups = sorted(seen.groups, key=_group_order)
    survey.broken = sorted(broken.values(), key=lambda one: (-one.captures, one.error, one.what))
    survey.exit_code = next((code for code in _PRECEDENCE if code in codes), 3)
    return survey


def _current(data: Dataset) -> Iterator[dict[str, Any]]:
    """Yield the runs that count: of each capture the one that was judged last."""
    last: dict[str, tuple[datetime, str]] = {}
    for rows in data.rows("runs", ["run", "url", "judged"]):
        for row in rows:
            new = (row["judged"], row["run"])
            if row["url"] not in last or new > last[row["url"]]:
                last[row["url"]] = new
    for rows in data.rows("runs", _RUN):
        for row in rows:
            if last[row["url"]] == (row["judged"], row["run"]):
                yield row


def _count_run(seen: _Seen, run: dict[str, Any], host: int) -> int:
    """Add a *run* to its group, and return that group's number."""
    key = run["kernel"], run["arch"], run["firmware"]
    number = seen.keys.setdefault(key, len(seen.keys))
    if number == len(seen.groups):
        seen.groups.append(Group(*key))
    group = seen.groups[number]
    seen.of[run["run"]] = number, host
    group.captures += 1
    _add(group.verdicts, run["verdict"])
    _add(group.implications, run["implications"])
    group.episodes += run["episodes"]
    group.handoffs += run["handoffs"]
    group.lost = None if group.lost is None or run["lost"] is None else group.lost + run["lost"]
    return number


def _count_day(
    days: dict[str, Period], hosts: dict[str, set[int]], run: dict[str, Any], host: int
) -> None:
    name = run["recorded"].strftime("%Y-%m-%d")
    day = days.setdefault(name, Period(name))
    day.captures += 1
    day.handoffs += run["handoffs"]
    _add(day.verdicts, run["verdict"])
    hosts[name].add(host)


def _count_broken(broken: dict[tuple[str, str], Broken], run: dict[str, Any]) -> None:
    # Where the fault is differs from file to file; what it is does not.
    words = re.sub(r"\d+|0x[0-9a-f]+", "_", str(run["what"]).replace(run["url"], ""))
    one = broken.setdefault(
        (run["error"], words), Broken(run["error"], str(run["what"]), 0, run["url"])
    )
    one.captures += 1


def _slots(data: Dataset, seen: _Seen) -> list[Outlier]:
    """Add what protected each slot to the groups, and return the hosts that differ."""
    # By group and slot, by host: on what it rested, and a capture that shows it.
    rested: dict[tuple[int, str], dict[int, dict[str, str]]] = defaultdict(dict)
    for rows in data.rows("slots", ["run", "slot", "mechanism", "episodes"]):
        for row in rows:
            if row["run"] not in seen.of or not row["episodes"]:
                continue
            number, host = seen.of[row["run"]]
            _add(seen.groups[number].mechanisms.setdefault(row["slot"], {}), row["mechanism"])
            if row["mechanism"]:
                words = rested[number, row["slot"]].setdefault(host, {})
                for word in row["mechanism"].split(", "):
                    words.setdefault(word, row["run"])
    for group in seen.groups:
        group.mechanisms = dict(sorted(group.mechanisms.items()))
    names = {number: name for name, number in seen.hosts.items()}
    found: list[Outlier] = []
    for (number, slot), hosts in sorted(rested.items()):
        found += _differing(seen.groups[number], slot, hosts, names)
    _name_examples(data, found)
    return found


def _differing(
    group: Group, slot: str, hosts: dict[int, dict[str, str]], names: dict[int, str]
) -> Iterator[Outlier]:
    """Yield the hosts at whose *slot* something else protects than at more than half of them."""
    by_host = {host: ", ".join(sorted(words)) for host, words in hosts.items()}
    usual, like = Counter(by_host.values()).most_common(1)[0]
    if 2 * like <= len(hosts):
        return
    for host, words in sorted(by_host.items(), key=lambda one: names[one[0]]):
        if words != usual:
            odd = [run for word, run in hosts[host].items() if word not in usual.split(", ")]
            run = (odd or list(hosts[host].values()))[0]
            yield Outlier(
                names[host], group.kernel, group.arch, group.firmware, slot, words, usual, like,
                len(hosts), run,
            )  # fmt: skip


def _name_examples(data: Dataset, found: list[Outlier]) -> None:
    """Put URLs in the place of runs, which the examples of *found* are until then."""
    wanted = {one.example for one in found}
    urls = {
        row["run"]: row["url"]
        for rows in (data.rows("runs", ["run", "url"]) if wanted else ())
        for row in rows
        if row["run"] in wanted
    }
    for one in found:
        one.example = urls[one.example]


def _shapes(data: Dataset, seen: _Seen) -> list[Shape]:
    shapes: dict[tuple[Any, ...], Shape] = {}
    where: dict[tuple[Any, ...], tuple[set[int], set[str]]] = defaultdict(lambda: (set(), set()))
    examples: dict[str, list[Shape]] = defaultdict(list)
    for rows in data.rows(
        "findings",
        [
            "run",
            "name",
            "pattern",
            "severity",
            "title",
            "witness",
            "observed",
            "predicted",
            "explanation",
        ],
    ):
        for row in rows:
            if row["run"] not in seen.of:
                continue
            key = tuple(row[name] for name in _SHAPE)
            shape = shapes.get(key)
            if shape is None:
                told = {name: row[name] for name in (*_SHAPE, "explanation", "name")}
                shape = shapes[key] = Shape(**told)
                examples[row["run"]].append(shape)
            shape.captures += 1
            shape.observed += row["observed"]
            shape.predicted += row["predicted"]
            number, host = seen.of[row["run"]]
            where[key][0].add(host)
            where[key][1].add(seen.groups[number].kernel or "unknown")
    for key, shape in shapes.items():
        shape.hosts = len(where[key][0])
        kernels = sorted(where[key][1])
        left = len(kernels) - _KERNELS
        shape.kernels = kernels[:_KERNELS] + ([f"{left} more"] if left > 0 else [])
    for rows in data.rows("runs", ["run", "url"]) if examples else ():
        for row in rows:
            for shape in examples.get(row["run"], ()):
                shape.example = row["url"]
    return sorted(
        shapes.values(), key=lambda s: (s.severity, -s.hosts, -s.captures, s.title, s.witness)
    )


def _losses(data: Dataset, seen: _Seen) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for rows in data.rows("losses", ["run", "cause", "count"]):
        for row in rows:
            if row["run"] in seen.of:
                captures, events = found.get(row["cause"], (0, 0))
                found[row["cause"]] = captures + 1, events + (row["count"] or 0)
    return dict(sorted(found.items(), key=lambda one: -one[1][1]))


def _periods(days: dict[str, Period], hosts: dict[str, set[int]]) -> list[Period]:
    """Return the trend by day, or by month if it has many days."""
    length = len("2026-01-02" if len(days) <= _DAYS else "2026-01")
    found: dict[str, Period] = {}
    seen: dict[str, set[int]] = defaultdict(set)
    for name, day in sorted(days.items()):
        period = found.setdefault(name[:length], Period(name[:length]))
        period.captures += day.captures
        period.handoffs += day.handoffs
        for word, n in day.verdicts.items():
            _add(period.verdicts, word, n)
        seen[name[:length]] |= hosts[name]
    for name, period in found.items():
        period.hosts = len(seen[name])
    return list(found.values())


def _group_order(group: Group) -> tuple[Any, ...]:
    """The worst first, then by the number of captures."""
    return (
        VERDICTS.index(group.worst),
        -group.captures,
        group.kernel or "",
        group.arch or "",
        group.firmware or "",
    )


def _total(counts: Iterator[dict[str, int]] | Any) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def _add(counts: dict[str, int], word: str, n: int = 1) -> None:
    counts[word] = counts.get(word, 0) + n
