// SPDX-License-Identifier: Apache-2.0
// The alerts, recording rules and dashboards as a mixin. rules.yml is this with the defaults
// (python -m dashboards.build). A site sets what differs:
//
//   (import 'mixin.libsonnet') + { _config+:: {
//     selector: 'cluster="a"',
//     runbookUrl: 'https://wiki.example/ghesrace/%s',
//   } }
local packaged = 'file:///usr/share/doc/ghesrace/runbooks/%s.md';

{
  _config+:: {
    // Matchers that every series of ghesrace has at this site, as in 'cluster="a"'; '' for none.
    selector: '',
    // The scrape job of daemons, for GhesraceDown alone: a textfile's series have node_exporter's.
    job: 'ghesrace',
    // Where runbooks are; %s is the name of one. The package has them on each host.
    runbookUrl: packaged,
    // The same for links of dashboards, where Grafana's variables may be used. Nobody's browser opens
    // files from there: unless runbookUrl is a site's own, the daemon that was clicked on has them.
    panelRunbookUrl: if self.runbookUrl == packaged
    then 'http://${__field.labels.instance}/runbooks/%s' else self.runbookUrl,
    // How long a race is told after it was found, and how old a daemon is no more new.
    raceWindow: '15m',
    newSeconds: 900,
    // A daemon without a batch for so long is blind.
    blindSeconds: 60,
    blindFor: '1m',
    downFor: '2m',
    // Over how long losses are counted, and how long there must be some.
    losingWindow: '15m',
    losingFor: '10m',
    // Losses that say nothing of the tracing: a CPU came up (what it did before was not seen), and
    // a module that the daemon plans anew for. probe_gone is GhesraceBlind's.
    harmlessLosses: 'probe_gone|cpu_online|unwatched',
    clockUncertainSeconds: '1e-05',
    // Over how long rare things are counted: steps of the clock, starts, captures that show nothing.
    rareWindow: '1h',
    clockFor: '5m',
    restartsPerHour: 3,
    refusedFor: '5m',
    recorderFor: '1m',
    // What is a property of the host, and wakes nobody up.
    hostFor: '15m',
  },

  local config = $._config,
  local matchers(list) = std.join(',', std.filter(function(one) one != '', list)),
  // A series of a daemon or of a capture.
  local any(name, more='') =
    local all = matchers([config.selector, more]);
    'ghesrace_' + name + (if all == '' then '' else '{' + all + '}'),
  // A series of a daemon. What `capture --textfile` leaves is labelled mode="capture": it watched
  // for a while and is over, and nothing of it is blind or down.
  local daemon(name, more='') = any(name, matchers(['mode!="capture"', more])),
  local alert(name, expr, severity, runbook, summary, description, wait=null) = {
    alert: name,
    expr: expr,
    [if wait != null then 'for']: wait,
    labels: { severity: severity },
    annotations: {
      summary: '{{ $labels.instance }}: ' + summary,
      description: description,
      runbook_url: config.runbookUrl % runbook,
    },
  },
  local race(certainty) =
    'increase(%s[%s]) > 0\nor\ninstance_pattern_certainty:ghesrace_findings_since_start{%s} > 0' % [
      any('findings_total', 'certainty="%s"' % certainty),
      config.raceWindow,
      matchers([config.selector, 'certainty="%s"' % certainty]),
    ],

  prometheusRules+:: {
    groups+: [{
      name: 'ghesrace-recording',
      rules: [
        {
          record: 'instance:ghesrace_events:rate5m',
          expr: 'sum by (job, instance) (rate(%s[5m]))' % any('events_total'),
        },
        {
          record: 'instance:ghesrace_lost_events:rate5m',
          expr: 'sum by (job, instance) (rate(%s[5m]))' % any('lost_events_total'),
        },
        {
          record: 'instance:ghesrace_process_cpu:rate5m',
          expr: 'rate(%s[5m])' % daemon('process_cpu_seconds_total'),
        },
        // Findings of a run that is new: the first scrape of a counter that is not 0 is no increase.
        {
          record: 'instance_pattern_certainty:ghesrace_findings_since_start',
          expr: '%s\nand on (job, instance, mode) (time() - %s < %d)' % [
            any('findings_total'),
            any('start_timestamp_seconds'),
            config.newSeconds,
          ],
        },
      ],
    }],
  },

  prometheusAlerts+:: {
    groups+: [{
      name: 'ghesrace-alerts',
      rules: [
        alert(
          'GhesraceRaceObserved',
          race('observed'),
          'critical',
          'race-observed',
          'the race {{ $labels.pattern }} was observed',
          'An unprotected window of pattern {{ $labels.pattern }} was observed on '
          + '{{ $labels.instance }} in the last %s. The exemplar of ghesrace_findings_total '
            % config.raceWindow
          + 'names the capture that shows it.',
        ),
        alert(
          'GhesraceRacePredicted',
          race('predicted'),
          'warning',
          'race-predicted',
          'the race {{ $labels.pattern }} is possible',
          'On {{ $labels.instance }} only luck or the order of events kept pattern '
          + '{{ $labels.pattern }} from happening in the last %s.' % config.raceWindow,
        ),
        alert(
          'GhesraceBlind',
          '%s > 0\nor\n%s == 0\nor\ntime() - %s > %d' % [
            daemon('probe_points_failed'),
            daemon('probe_points_attached'),
            daemon('heartbeat_timestamp_seconds'),
            config.blindSeconds,
          ],
          'critical',
          'blind',
          'ghesrace sees nothing, or not all that it should',
          'Probes fire no more, or no batch went through the engine for %d s. That nothing is '
            % config.blindSeconds
          + 'found on {{ $labels.instance }} means nothing while this lasts.',
          config.blindFor,
        ),
        alert(
          'GhesraceUnsupported',
          '%s == 0' % daemon('supported'),
          'info',
          'unsupported',
          "this host can't be traced",
          'ghesrace runs on {{ $labels.instance }} and watches nothing: {{ $labels.reason }}. What '
          + 'others find says nothing of this host.',
          config.hostFor,
        ),
        alert(
          'GhesraceCoverageMissing',
          '%s > 0\nor\n%s == 0' % [daemon('probe_points_missing'), daemon('pattern_checked')],
          'info',
          'coverage-missing',
          'this kernel hides something that ghesrace needs',
          "Probe points that a pattern needs could not be resolved on {{ $labels.instance }}. "
          + '`ghesrace plan` there says which and why.',
          config.hostFor,
        ),
        alert(
          'GhesraceLosingEvents',
          'sum by (job, instance, stage, cause) (increase(%s[%s])) > 0' % [
            daemon('losses_total', 'cause!~"%s"' % config.harmlessLosses),
            config.losingWindow,
          ],
          'warning',
          'losing-events',
          'ghesrace loses events ({{ $labels.cause }})',
          'Events were lost on {{ $labels.instance }} at {{ $labels.stage }}, cause '
          + '{{ $labels.cause }}. A race in these moments may have gone unseen.',
          config.losingFor,
        ),
        alert(
          'GhesraceClockUncertain',
          '%s > %s\nor\nincrease(%s[%s]) > 0\nor\nincrease(%s[%s]) > 3' % [
            daemon('order_uncertainty_seconds'),
            config.clockUncertainSeconds,
            daemon('late_events_total'),
            config.rareWindow,
            daemon('clock_steps_total'),
            config.rareWindow,
          ],
          'warning',
          'clock-uncertain',
          'the order of events is not certain',
          "The clocks of {{ $labels.instance }}'s CPUs differ by too much, events come late, or "
          + 'the wall clock is set again and again.',
          config.clockFor,
        ),
        alert(
          'GhesraceRecorderFailing',
          '(%s == 0 and %s == 1)\nor\nmin_over_time(%s[10m]) > 0\nor\nincrease(%s[%s]) > 0' % [
            daemon('recorder_healthy'),
            daemon('recorder_enabled'),
            daemon('recorder_pending'),
            daemon('recorder_verified_total', 'reproduced="no"'),
            config.rareWindow,
          ],
          'warning',
          'recorder-failing',
          "findings can't be kept as evidence",
          "The flight recorder of {{ $labels.instance }} can't write, or what it wrote does not "
          + 'show the finding. Findings are still counted.',
          config.recorderFor,
        ),
        alert(
          'GhesraceConfigRefused',
          '%s == 0' % daemon('config_last_reload_successful'),
          'warning',
          'config-refused',
          'ghesrace refused its configuration',
          'The last reload on {{ $labels.instance }} failed; the old configuration holds until a '
          + 'restart, which would fail.',
          config.refusedFor,
        ),
        alert(
          'GhesraceRestarting',
          'changes(%s[%s]) > %d' % [
            daemon('start_timestamp_seconds'),
            config.rareWindow,
            config.restartsPerHour,
          ],
          'warning',
          'restarting',
          'ghesrace starts again and again',
          '{{ $value }} starts in an hour on {{ $labels.instance }}. Between them nobody watched.',
        ),
        alert(
          'GhesraceDown',
          'up{%s} == 0' % matchers([config.selector, 'job="%s"' % config.job]),
          'critical',
          'down',
          'ghesrace is down',
          "Prometheus can't scrape ghesrace on {{ $labels.instance }}: nobody watches there.",
          config.downFor,
        ),
      ],
    }],
  },

  // What is rendered links to runbooks of the name that its links end with.
  local runbook(link) =
    local parts = std.split(link.url, '/');
    link { url: config.panelRunbookUrl % parts[std.length(parts) - 1] },
  local linked(dashboard) = dashboard {
    panels: [
      panel { fieldConfig+: { defaults+: { links: [runbook(link) for link in super.links] } } }
      for panel in dashboard.panels
    ],
  },

  grafanaDashboards+:: {
    'ghesrace-fleet.json': linked(import '../grafana/fleet.json'),
    'ghesrace-host.json': linked(import '../grafana/host.json'),
  },
}
