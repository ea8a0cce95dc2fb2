# SPDX-License-Identifier: Apache-2.0
"""This module starts the daemon on a host: it plans, attaches, drops privileges, and checks what
stays unseen.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ghesrace.errors import HostError, TransientError
from ghesrace.plan import Plan
from ghesrace.sources import StoppableSource
from ghesrace.unknowns import UNKNOWNS

from . import privileges
from .config import SourceSettings as Settings
from .health import Health, HealthState, missing_points
from .journal import Log


class Untraceable(HostError):
    """This host can't be traced, and all capabilities are given up: the daemon can only say so."""


Enter = Callable[[HealthState, str], None]
Attach = Callable[[ExitStack, Settings, Health, Enter, Log, Callable[[], bool]], StoppableSource]


def attach_host(
    stack: ExitStack,
    settings: Settings,
    health: Health,
    enter: Enter,
    log: Log,
    stopped: Callable[[], bool],
) -> StoppableSource:
    """Attach to this kernel, then give up all capabilities, and return the source, which *stack*
    will detach.

    *enter* is told each step, and *stopped* is asked between steps whether to go on. *health* gets
    the backend and what stays unseen. Raises UsageError if the settings don't fit, Untraceable if
    this host can't be traced (HostError if the settings are strict), HostError if it can't run
    safely, or TransientError if it can't now or *stopped* says so.

        with ExitStack() as stack:  # takes root
            source = attach_host(
                stack, Config().source, Health(), lambda state, text: None, Log(), lambda: False
            )
    """
    # These modules read /sys and much else, so only a start on a host imports them.
    from ghesrace import packs
    from ghesrace.backends import attach
    from ghesrace.host.facts import read_facts
    from ghesrace.planning.clock_error import with_clock_error
    from ghesrace.points import families

    pack = packs.given(*settings.pack_given())
    enter(HealthState.PLAN, "reading the kernel, choosing probe points")
    facts = read_facts()
    _unless(stopped())
    try:
        source = attach(
            settings.backend,
            facts,
            finished=with_clock_error,
            started=lambda s: enter(
                HealthState.ATTACH, f"attaching {len(s.plan.probes)} probes by {s.plan.backend}"
            ),
            tell=lambda text: log.say("fallback", "warning", why=text),
            buffer_kb=settings.buffer_kb or None,
            pack=pack,
        )
    except HostError as error:
        if settings.strict:
            raise
        privileges.drop()
        raise Untraceable(error.what, error.hint) from error
    stack.push(source)
    health.backend = source.plan.backend
    _unless(stopped())
    enter(HealthState.DROP, "dropping privileges")
    privileges.drop()
    enter(HealthState.STRICT, "checking what stays unseen")
    whats = frozenset(point.what for family in families() for point in family.points)
    health.missing = missing_points(source.plan, whats)
    check_coverage(source.plan, health, settings.strict, log)
    return source


def check_coverage(plan: Plan, health: Health, strict: bool, log: Log) -> None:
    """Log what stays unseen, and what each verdict will rest on. Raises HostError if anything stays
    unseen and *strict* is set.

    >>> check_coverage(Plan("x86_64", "6.12", (), ()), Health(), strict=True, log=Log())
    """
    lacking = [u.what for u in health.missing]
    lacking += [f"{name}: {why}" for name, why in plan.not_checked.items()]
    for what in lacking:
        log.say("missing", "warning", what=what)
    for name in plan.unknowns:
        log.say("verdict-rests-on", "warning", name=name, what=UNKNOWNS[name])
    if lacking and strict:
        raise HostError(
            f"strict: {len(lacking)} probe points or patterns are missing, first: {lacking[0]}",
            "see `ghesrace plan`; source.strict = false watches what can be seen",
        )


def _unless(stopped: bool) -> None:
    if stopped:
        raise TransientError("stopped while starting")
