# SPDX-License-Identifier: Apache-2.0
"""This module lists the panels of both dashboards with their texts, units, kinds and queries.

A query says `SEL` where the selector of job and instance goes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel shows the results of one or more queries as a graph, a number or a table.

    *unit* and *kind* are Grafana's names of a unit and of a panel type; *queries* maps a legend to
    PromQL. *width* is in columns, of which a row has 24. *runbook*, if there is one, is the name
    of the runbook to link.

    >>> Panel("Findings", "By pattern.", "none", findings("pattern")).kind
    'timeseries'
    """

    title: str
    text: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    width: int = 8
    runbook: str = ""


def findings(by: str, most: int = 0) -> dict[str, str]:
    """Return the query for the increase of findings, summed *by* these labels; with *most*, of no
    more series than that.

    >>> list(findings("pattern"))
    ['{{instance}} {{pattern}} {{certainty}}']
    """
    query = f"sum by ({by}) (increase(ghesrace_findings_total{{SEL}}[$__rate_interval]))"
    return {
        "{{instance}} {{pattern}} {{certainty}}": f"topk({most}, {query} > 0)" if most else query
    }


FLEET = [
    Panel(
        "Hosts by verdict",
        "Verdict of each host's running window. Inconclusive with no traffic "
        "is the usual state of a healthy host; see Blind hosts beside it.",
        "none",
        {"{{verdict}}": "sum by (verdict) (ghesrace_window_verdict{SEL})"},
        "bargauge",
    ),
    Panel(
        "Races observed, last hour",
        "Times that an unprotected window was observed.",
        "none",
        {
            "{{instance}} {{pattern}}": "sum by (job, instance, pattern) (increase("
            'ghesrace_findings_total{SEL,certainty="observed"}[1h])) > 0'
        },
        "stat",
        8,
        "race-observed",
    ),
    Panel(
        "Blind hosts",
        "Probes failed, none attached, or no batch for a minute: nothing found "
        "there means nothing.",
        "none",
        {
            "{{instance}}": '(ghesrace_probe_points_failed{SEL,mode!="capture"} > 0) or '
            '(ghesrace_probe_points_attached{SEL,mode!="capture"} == 0) or '
            '(time() - ghesrace_heartbeat_timestamp_seconds{SEL,mode!="capture"} > 60)'
        },
        "stat",
        8,
        "blind",
    ),
    Panel(
        "Findings",
        "The ten hosts, patterns and certainties with most. Exemplars name the capture.",
        "none",
        findings("job, instance, pattern, certainty", most=10),
        runbook="race-observed",
    ),
    Panel(
        "Lost events",
        "Known to be lost, by cause: the ten hosts that lose most.",
        "eps",
        {
            "{{instance}} {{cause}}": "topk(10, sum by (job, instance, cause) (rate("
            "ghesrace_lost_events_total{SEL}[$__rate_interval])) > 0)"
        },
        runbook="losing-events",
    ),
    Panel(
        "Windows that ended",
        "By verdict.",
        "none",
        {
            "{{verdict}}": "sum by (verdict) (increase(ghesrace_windows_total{SEL}"
            "[$__rate_interval]))"
        },
    ),
    Panel(
        "Daemons that don't watch",
        "Starting, stopping, or on a host that can't be traced. None is what you want.",
        "none",
        {"{{instance}}": 'ghesrace_watching{SEL,mode!="capture"} == 0'},
        "table",
        runbook="down",
    ),
    Panel(
        "Started",
        "The ten daemons that started last.",
        "dateTimeFromNow",
        {"{{instance}}": "topk(10, ghesrace_start_timestamp_seconds{SEL}) * 1000"},
        "table",
        runbook="restarting",
    ),
    Panel(
        "Recorders that fail",
        "These hosts can't keep evidence.",
        "none",
        {"{{instance}}": "ghesrace_recorder_healthy{SEL} == 0"},
        "table",
        runbook="recorder-failing",
    ),
    Panel(
        "Missing probe points",
        "What the kernels do not offer.",
        "none",
        {"{{instance}}": "ghesrace_probe_points_missing{SEL} > 0"},
        "table",
        runbook="coverage-missing",
    ),
    Panel(
        "Not supported",
        "Hosts that can't be traced, and why: nothing is watched there.",
        "none",
        {"{{instance}} {{reason}}": "ghesrace_supported{SEL} == 0"},
        "table",
        runbook="unsupported",
    ),
    Panel(
        "Versions",
        "Hosts by version of ghesrace and its Python.",
        "none",
        {
            "{{version}} {{python}}": "count by (version, python) (ghesrace_build_info{SEL})",
        },
        "table",
    ),
    Panel(
        "Kernels",
        "Hosts by kernel, and by backend.",
        "none",
        {
            "{{release}} {{arch}}": "count by (release, arch) (ghesrace_kernel_info{SEL})",
            "{{backend}} {{clock}}": "count by (backend, clock) (ghesrace_source_info{SEL})",
        },
        "table",
    ),
]

HOST = [
    Panel(
        "Verdict",
        "Of the running window.",
        "none",
        {"{{verdict}}": "ghesrace_window_verdict{SEL} == 1"},
        "stat",
        6,
        "race-observed",
    ),
    Panel(
        "What keeps it from clean",
        "Reasons of the running window, and what its verdict rests on besides.",
        "none",
        {
            "{{reason}}": "ghesrace_window_reason{SEL} == 1",
            "rests on {{unknown}}": "ghesrace_verdict_rests_on{SEL} == 1",
        },
        "stat",
        6,
    ),
    Panel(
        "State", "The daemon's step.", "none", {"{{state}}": "ghesrace_state{SEL} == 1"}, "stat", 6
    ),
    Panel(
        "Window began",
        "When the running window began.",
        "dateTimeFromNow",
        {"began": "ghesrace_window_start_timestamp_seconds{SEL} * 1000"},
        "stat",
        6,
    ),
    Panel(
        "Findings",
        "By pattern and certainty; exemplars name the capture.",
        "none",
        findings("job, instance, pattern, certainty"),
        runbook="race-observed",
    ),
    Panel(
        "Distinct findings",
        "That differ in slot, CPUs or frames.",
        "none",
        {"{{pattern}} {{certainty}}": "ghesrace_distinct_findings{SEL}"},
    ),
    Panel(
        "Episodes by what saved them",
        "None and incidental are the bad ones.",
        "eps",
        {"{{slot}} {{class}}": "rate(ghesrace_episodes_total{SEL}[$__rate_interval])"},
    ),
    Panel(
        "Hand-offs",
        "Successive episodes of a slot on two CPUs.",
        "eps",
        {"{{slot}}": "rate(ghesrace_handoffs_total{SEL}[$__rate_interval])"},
    ),
    Panel(
        "Latent entries",
        "Episodes whose CPU may have held another frame's translation.",
        "eps",
        {"{{slot}}": "rate(ghesrace_latent_entries_total{SEL}[$__rate_interval])"},
    ),
    Panel(
        "Unmap to re-map elsewhere",
        "How long the stale entry had to survive: quantiles.",
        "s",
        {
            q: f"histogram_quantile({q}, sum by (job, instance, le) (rate("
            "ghesrace_unmap_to_remap_seconds_bucket{SEL}[$__rate_interval])))"
            for q in ("0.5", "0.99")
        },
    ),
    Panel(
        "Events",
        "By kind and context.",
        "eps",
        {"{{kind}} {{context}}": "rate(ghesrace_events_total{SEL}[$__rate_interval]) > 0"},
    ),
    Panel(
        "Since the last event",
        "Of any kind, and of a notification.",
        "s",
        {
            "event": "time() - (ghesrace_last_event_timestamp_seconds{SEL} > 0)",
            "notification": "time() - (ghesrace_last_notification_timestamp_seconds{SEL} > 0)",
        },
    ),
    Panel(
        "Heartbeat age",
        "Since the last batch went through the engine; one a second is due.",
        "s",
        {"age": "time() - ghesrace_heartbeat_timestamp_seconds{SEL}"},
        runbook="blind",
    ),
    Panel(
        "Probe points",
        "Attached, failed, missing.",
        "none",
        {
            "attached": "ghesrace_probe_points_attached{SEL}",
            "failed": "ghesrace_probe_points_failed{SEL}",
            "missing": "ghesrace_probe_points_missing{SEL}",
        },
        runbook="blind",
    ),
    Panel(
        "Patterns checked",
        "0: the plan lacks what the pattern needs.",
        "bool_on_off",
        {"{{pattern}}": "ghesrace_pattern_checked{SEL}"},
        runbook="coverage-missing",
    ),
    Panel(
        "Lost events",
        "Known to be lost.",
        "eps",
        {"{{stage}} {{cause}}": "rate(ghesrace_lost_events_total{SEL}[$__rate_interval]) > 0"},
        runbook="losing-events",
    ),
    Panel(
        "Losses",
        "Records of a loss, those of unknown size included.",
        "eps",
        {"{{stage}} {{cause}}": "rate(ghesrace_losses_total{SEL}[$__rate_interval]) > 0"},
        runbook="losing-events",
    ),
    Panel(
        "Missed probe hits",
        "By probe point.",
        "eps",
        {"{{probe}}": "rate(ghesrace_missed_probe_hits_total{SEL}[$__rate_interval]) > 0"},
        runbook="losing-events",
    ),
    Panel(
        "Order",
        "Uncertainty of the order of two CPUs.",
        "s",
        {"uncertainty": "ghesrace_order_uncertainty_seconds{SEL}"},
        runbook="clock-uncertain",
    ),
    Panel(
        "Late events, clock steps, sleeps",
        "What shakes order or time.",
        "none",
        {
            "late": "increase(ghesrace_late_events_total{SEL}[$__rate_interval])",
            "clock steps": "increase(ghesrace_clock_steps_total{SEL}[$__rate_interval])",
            "sleeps": "increase(ghesrace_suspends_total{SEL}[$__rate_interval])",
        },
        runbook="clock-uncertain",
    ),
    Panel(
        "Captures",
        "Written, verified, deleted; findings not on disk yet.",
        "none",
        {
            "written": "increase(ghesrace_recorder_captures_total{SEL}[$__rate_interval])",
            "reproduced {{reproduced}}": "increase(ghesrace_recorder_verified_total{SEL}"
            "[$__rate_interval])",
            "deleted": "increase(ghesrace_recorder_deleted_total{SEL}[$__rate_interval])",
            "pending": "ghesrace_recorder_pending{SEL}",
            "files": "ghesrace_recorder_files{SEL}",
        },
        runbook="recorder-failing",
    ),
    Panel(
        "Recorder's room",
        "Captures, their budget, the disk, recent events in memory.",
        "bytes",
        {
            "captures": "ghesrace_recorder_bytes{SEL}",
            "budget": "ghesrace_recorder_budget_bytes{SEL}",
            "free": "ghesrace_recorder_free_bytes{SEL}",
            "memory": "ghesrace_recorder_memory_bytes{SEL}",
        },
        runbook="recorder-failing",
    ),
    Panel(
        "Recorder's errors and restraint",
        "Failed tries, and findings not recorded again.",
        "none",
        {
            "error {{cause}}": "increase(ghesrace_recorder_errors_total{SEL}[$__rate_interval])",
            "suppressed {{reason}}": "increase(ghesrace_recorder_suppressed_total{SEL}"
            "[$__rate_interval])",
            "on": "ghesrace_recorder_enabled{SEL}",
        },
        runbook="recorder-failing",
    ),
    Panel(
        "CPU time by stage",
        "Share of one CPU, of the engine's thread.",
        "percentunit",
        {"{{stage}}": "rate(ghesrace_stage_cpu_seconds_total{SEL}[$__rate_interval])"},
    ),
    Panel(
        "The daemon's cost",
        "CPU of the whole process.",
        "percentunit",
        {"CPU": "rate(ghesrace_process_cpu_seconds_total{SEL}[$__rate_interval])"},
    ),
    Panel("Memory", "RSS.", "bytes", {"RSS": "ghesrace_process_resident_memory_bytes{SEL}"}),
    Panel(
        "Threads and CPUs",
        "Threads of the daemon, CPUs online of the host.",
        "none",
        {"threads": "ghesrace_process_threads{SEL}", "CPUs": "ghesrace_host_cpus_online{SEL}"},
    ),
    Panel(
        "HTTP",
        "Answers by status code.",
        "reqps",
        {"{{code}}": "rate(ghesrace_http_requests_total{SEL}[$__rate_interval]) > 0"},
    ),
    Panel(
        "Configuration",
        "Reloads taken over and refused.",
        "none",
        {
            "taken over": "increase(ghesrace_config_reloads_total{SEL}[$__rate_interval])",
            "refused": "increase(ghesrace_config_reload_failures_total{SEL}[$__rate_interval])",
            "last one good": "ghesrace_config_last_reload_successful{SEL}",
        },
        runbook="config-refused",
    ),
    Panel(
        "Events by CPU",
        "Only with metrics.per_cpu.",
        "eps",
        {
            "CPU {{cpu}}": "rate(ghesrace_cpu_events_total{SEL}[$__rate_interval])",
            "CPU {{cpu}} lost": "rate(ghesrace_cpu_lost_events_total{SEL}[$__rate_interval]) > 0",
        },
    ),
]
