# SPDX-License-Identifier: Apache-2.0
"""The exported metrics: the table, the label sets, the formats, the exemplars."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as om_families
from prometheus_client.parser import text_string_to_metric_families

from ghesrace.checker.model import Class
from ghesrace.events import Cause, Context, loss, mark
from ghesrace.service.metrics.families import CODES, PREFIX, TABLE, Exemplars, Published
from ghesrace.service.tally import EVENT_KINDS
from ghesrace.service.watch import Watch
from tests.build.trace import plan
from tests.unit.service.metrics.watched import published, racing


def _ordered(labels: dict[str, str]) -> tuple[str, ...]:
    wanted = ("slot", "class", "kind", "context", "stage", "cause", "pattern", "certainty")
    rank = {name: number for number, name in enumerate(wanted)}
    return tuple(labels[name] for name in sorted(labels, key=lambda n: rank.get(n, 99)))


def values(shown: Published) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (s.name.removeprefix(PREFIX), _ordered(s.labels)): s.value
        for family in text_string_to_metric_families(generate_latest(shown).decode())
        for s in family.samples
    }


def test_exactly_the_table_is_exported(tmp_path: Path) -> None:
    """If this fails, docs, rules and dashboards are held to a list that is not the truth."""
    shown = published(Watch(plan(), 3600), tmp_path, per_cpu=True)
    assert {family.name for family in shown.collect()} == {PREFIX + name for name in TABLE}
    for family in shown.collect():
        kind, text, labels = TABLE[family.name.removeprefix(PREFIX)]
        assert (family.type, family.documentation) == (kind, text)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(labels)


def test_every_label_set_is_there_before_anything_happened(tmp_path: Path) -> None:
    """If this fails, a rate() over the first loss or finding is empty, and no alert fires."""
    found = values(published(Watch(plan(), 3600), tmp_path))
    for cause in Cause:
        assert any(
            name == "losses_total" and labels[1] == cause.name.lower() for name, labels in found
        )
    for kind in EVENT_KINDS:
        for context in Context:
            assert found["events_total", (kind.name.lower(), context.name.lower())] == 0
    for cls in Class:
        word = cls.name.lower().replace("_", "-")
        assert found["episodes_total", ("irq", word)] == 0
    for severity in ("observed", "predicted"):
        assert found["findings_total", ("stale", severity)] == 0
    for code in CODES:
        assert found["http_requests_total", (code,)] == 0


def test_label_sets_stay_the_same_under_traffic(tmp_path: Path) -> None:
    """If this fails, cardinality grows with what happens."""
    assert set(values(published(racing(), tmp_path))) == set(
        values(published(Watch(plan(), 3600), tmp_path))
    )


def test_values(tmp_path: Path) -> None:
    """If this fails, a metric says something else than the engine."""
    found = values(published(racing(), tmp_path))
    assert found["findings_total", ("stale", "observed")] == 5
    assert found["episodes_total", ("irq", "none")] == 5
    assert found["handoffs_total", ("irq",)] == 5
    assert found["missed_probe_hits_total", ("unmap",)] == 3
    assert found["lost_events_total", ("probe", "missed")] == 3
    assert found["window_verdict", ("race-observed",)] == 1
    assert sum(v for (n, _), v in found.items() if n == "window_verdict") == 1
    assert found["unmap_to_remap_seconds_count", ()] == 5
    assert found["order_uncertainty_seconds", ()] == pytest.approx(1e-6)
    assert found["watching", ()] == 1
    assert found["process_resident_memory_bytes", ()] > 1e7


def test_what_verdicts_rest_on_is_told(tmp_path: Path) -> None:
    """If this fails, Prometheus sees "clean" of a host whose flushes were never looked at."""
    for unknowns in ((), ("implications",)):
        watch = Watch(replace(plan(), unknowns=unknowns), 3600)
        found = values(published(watch, tmp_path))
        rests = {labels[0] for (n, labels), v in found.items() if n == "verdict_rests_on" and v}
        assert rests == set(unknowns)


def test_quiet_and_blind_differ(tmp_path: Path) -> None:
    """If this fails, a daemon whose probes are gone looks like one on a quiet host."""
    quiet, blind = Watch(plan(), 3600), Watch(plan(), 3600)
    quiet.feed(mark(10**9))
    blind.feed(np.concatenate([loss(1, 5, Cause.PROBE_GONE), mark(10**9)]))
    for watch in (quiet, blind):
        watch.look(now=True)
    a, b = (values(published(w, tmp_path)) for w in (quiet, blind))
    assert a["probe_points_attached", ()] == len(plan().probes)
    assert (b["probe_points_attached", ()], b["probe_points_failed", ()]) == (0, len(plan().probes))
    assert (a["window_reason", ("probe-failed",)], b["window_reason", ("probe-failed",)]) == (0, 1)


def test_exemplar_names_the_capture_in_openmetrics_only(tmp_path: Path) -> None:
    """If this fails, nobody finds from a graph to the evidence, or old Prometheus can't scrape."""
    exemplars = Exemplars()
    exemplars.add("stale", "observed", "ghesrace-20260101T000000Z-stale-1")
    shown = published(racing(), tmp_path, exemplars=exemplars)
    text = openmetrics(shown).decode()
    [sample] = [s for family in om_families(text) for s in family.samples if s.exemplar is not None]
    assert sample.labels == {"pattern": "stale", "certainty": "observed"}
    assert sample.exemplar.labels == {"capture_id": "ghesrace-20260101T000000Z-stale-1"}
    assert "capture_id" not in generate_latest(shown).decode()


def test_per_cpu_only_when_asked(tmp_path: Path) -> None:
    """If this fails, a host with 256 CPUs has thousands of series."""
    assert not any(n.startswith("cpu_") for n, _ in values(published(racing(), tmp_path)))
    found = values(published(racing(), tmp_path, per_cpu=True))
    assert found["cpu_events_total", ("0",)] > 0
    assert found["cpu_lost_events_total", ("1",)] == 0


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool (Debian: prometheus)")
def test_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    """If this fails, the names break Prometheus' conventions."""
    text = generate_latest(published(racing(), tmp_path, per_cpu=True))
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (done.returncode, done.stderr.decode(), done.stdout.decode()) == (0, "", "")
