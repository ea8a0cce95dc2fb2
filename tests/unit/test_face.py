# SPDX-License-Identifier: Apache-2.0
"""The stable face: what tests and tools that others write may count on (CONTRIBUTING.md)."""

from __future__ import annotations

import numpy as np

from ghesrace.checker.engine import Engine
from ghesrace.events import Cause, Kind
from ghesrace.sources.files import open_file
from tests.build import trace as build
from tests.build.paths import REPO
from tests.litmus import parse
from tests.soak import replay


def word(engine: Engine) -> str:
    engine.finish()
    return engine.report().verdict.word


def test_the_stable_face_is_there() -> None:
    """A name of CONTRIBUTING's "A stable face" went away or takes other arguments: tests and tools
    of others, which this repository does not see, stop working."""
    # tests.litmus.parse.load: a case with its plan, its stream and the verdict that it expects.
    case = parse.load(REPO / "tests/litmus/cases/race-2015.litmus")
    engine = Engine(case.plan)
    engine.feed(case.stream)
    assert word(engine) == case.expect == "race-observed"

    # tests.build.trace: V, plan, Trace with add, page, report, lose and stream.
    trace = build.Trace()
    for cpu in (0, 1, 0, 1):
        trace.report(cpu, build.A, build.B, flush=True)
    trace.page(0, build.A, address=build.V, flush=True)
    trace.add(0, Kind.INV_PAGE, addr=build.V)
    engine = Engine(build.plan(cpus=2))
    engine.feed(trace.stream())
    assert word(engine) == "clean"
    trace.lose(1, trace.now, cause=Cause.OVERRUN, cpu=1)
    assert len(trace.stream()) == len(trace.records) + 1

    # tests.soak.replay: one block of traffic of so many CPUs, closed by its MARK.
    block = replay.block()
    assert set(np.unique(block["cpu"][:-1])) == set(range(replay.CPUS))

    # The fixture v6.dat: a trace.dat of version 6 that `check` reads.
    source = open_file(REPO / "tests/unit/fixtures/foreign/v6.dat")
    engine = Engine(source.plan)
    for batch in source.batches():
        engine.feed(batch)
    assert word(engine)
