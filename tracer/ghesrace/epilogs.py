# SPDX-License-Identifier: Apache-2.0
"""What `--help` says below the options: formats, exit codes, an example.

One form for all, because the man pages and the reference are made of it (handbook/epilog.py): a
heading at the margin that ends with a colon; below it, indented by two, a term, two spaces or more
and its text, or a command. What stands before the first heading is prose. Lines have at most 79
columns.
"""

from __future__ import annotations

_ENDINGS = """\
  4    internal error
  130  interrupted by Ctrl-C
  141  whoever read the output has seen enough
"""

TOP = f"""\
exit codes (each command's --help has its own):
  0    clean (check), recorded (capture), possible (plan, doctor)
  1    a finding at or above --fail-on
  2    bad usage or bad input
  3    inconclusive, clean only if something holds that the recording can't
       tell (see --accept-unknown), or this host can't
{_ENDINGS}
example:
  ghesrace check host.arrows
"""

CAPTURE = """\
formats of the report, with --check:
  text  for people: verdict, findings, table, what could change the verdict
  json  check.schema.json documents it

exit codes:
  0    recorded, Ctrl-C included; with --check: clean
  1    with --check: a finding at or above --fail-on
  2    bad usage
  3    this host can't be traced, or not now; with --check: inconclusive, or
       clean only if something holds that the recording can't tell
  4    internal error
  130  interrupted by Ctrl-C before anything was recorded
  141  whoever read the output has seen enough

examples:
  ghesrace capture -d 60 --check
  ghesrace capture -o host.arrows
  ghesrace capture -d 600 --textfile /var/lib/prometheus/node-exporter
  ghesrace capture --pack /etc/fleet.pack --pack-key /etc/fleet.pub
"""

CHECK = f"""\
formats:
  text      for people: verdict, findings, table, what could change the verdict
  json      check.schema.json documents it; of several FILEs an array
  junit     for CI: a suite per file, a test per pattern, one for the verdict
  html      one file with pictures, to attach to a bug report; needs Jinja2
  perfetto  a trace of one FILE for ui.perfetto.dev; needs -o and the package
            perfetto

exit codes, whatever --format; of several FILEs the first of 4, 2, 1, 3, 0:
  0    clean
  1    a finding at or above --fail-on
  2    bad usage or bad input
  3    inconclusive, truncated, or clean only if something holds that the
       recording can't tell (see --accept-unknown)
{_ENDINGS}
examples:
  ghesrace check host.arrows
  ghesrace check --format json -o report.json host.arrows trace.dat
"""

SHOW = f"""\
Times: a stamp is in seconds, as `trace-cmd report` prints it (--ns: as
`trace-cmd report -t`), and since counts us from the first event, or from the
first step of the finding. 321.624551 is a stamp, +150.5 is us from the first
event; ns, us, ms and s may follow.

formats:
  text  for people; a line of losses stands where they end
  json  one object a line, times in ns, addresses in hexadecimal
  csv   the same columns, with a head

exit codes:
  0    shown
  2    bad usage (no such finding or slot) or bad input
  3    shown, but the file is truncated
{_ENDINGS}
example:
  ghesrace show --around 1:20,100 --format csv host.arrows
"""

DIFF = f"""\
B is worse if it shows a finding that A surely lacks, or one that is graver
there: observed where it was predicted, a write where it was a read. A finding
is one fault, whatever its CPUs, frames and addresses. What a file leaves open
(losses, no traffic at a slot, a pattern that was not checked) is never taken
for the absence of a finding: docs/diff.md has the rules.

formats:
  text  for people: the outcome and why, findings, what protected each slot
  json  diff.schema.json documents it
  html  one page, to attach to a report; needs Jinja2

exit codes:
  0    not worse (better, or the same)
  1    worse
  2    bad usage or bad input
  3    A or B is inconclusive, or they can't be compared
{_ENDINGS}
example:
  ghesrace diff --format json before.arrows after.arrows
"""

SURVEY = f"""\
The data set is a folder of Parquet files (docs/survey.md has its tables). Only
whole batches are in it: after Ctrl-C, or whatever ended it, the same command
goes on where it was. Credentials of a store come from its own places (the
configuration of fsspec or of its client), never from the URL.

formats:
  text  for people: kernels, findings, hosts that differ, trend, losses
  json  survey.schema.json documents it
  html  one page, to attach to a report; needs Jinja2

exit codes, of all captures in the data set the first of 4, 2, 1, 3, 0:
  0    all are clean
  1    a finding at or above --fail-on
  2    bad usage, or a capture is broken
  3    inconclusive, truncated, or clean only if something holds that the
       recording can't tell; something could not be read now, or there are no
       workers
{_ENDINGS}
examples:
  ghesrace survey /srv/captures
  ghesrace survey --data fleet --format html -o fleet.html s3://evidence/2026
"""

EXPLAIN = f"""\
exit codes:
  0    explained
  2    no report uses the word
{_ENDINGS}
example:
  ghesrace explain map-flush
"""

PLAN = f"""\
formats:
  text       for people: probes, slots, implications, what stays unseen
  json       plan.schema.json documents it
  trace-cmd  a shell script that records the same events with trace-cmd alone

exit codes:
  0    possible
  2    bad usage
  3    no slot can be observed here
{_ENDINGS}
examples:
  ghesrace plan --backend bpf
  ghesrace plan --format trace-cmd
"""

DOCTOR = f"""\
formats:
  text  for people: each try, and a remedy for what is missing
  json  the same as one object

reports:
  FILE  facts, plan, what the kernel's code is proven to do, the clocks' proof
        and counts of events, as JSON: what we ask for from real hardware. A
        host that can't be traced gets one, too, which says why

exit codes:
  0    a capture can run here
  2    bad usage
  3    a capture can't run
{_ENDINGS}
examples:
  ghesrace doctor --format json
  ghesrace doctor --report host.json
  ghesrace doctor --config /etc/ghesrace/ghesrace.toml
"""

DAEMON = """\
exit codes:
  0    stopped by SIGTERM or SIGINT; the configuration is good (--check-config)
  2    bad usage, or the configuration is bad
  3    this host can't be traced, or source.strict found something missing
  4    internal error
  75   its source went away or is busy, or the plan is out of date: start again

examples:
  ghesrace daemon --check-config
  ghesrace daemon --config /etc/ghesrace/ghesrace.toml
"""

SHIP = """\
Nothing is lost while the store is away: what is new is copied into an outbox,
and stays there until the store has confirmed it. Credentials come from systemd
($CREDENTIALS_DIRECTORY/ghesrace-ship, docs/ship.md), never from a command
line, the environment or ship.toml.

exit codes:
  0    all was sent; the configuration is good (--check-config)
  2    bad usage, or the configuration is bad
  3    sent, but the outbox was full and captures were dropped
  4    internal error
  75   the store is away, or there is no room: start again
  130  interrupted by Ctrl-C

examples:
  ghesrace ship --check-config
  ghesrace ship --config /etc/ghesrace/ship.toml
"""

BPF = """\
`build` needs bcc and this host's kernel headers; FACTS are what `facts` wrote
on another host, or `python -m lab.facts` kept of a kernel. Hosts that load the
pack need neither. They take it only if they know its SHA-256, or the key that
signed it, and if its programs are those of their own plan (docs/packs.md).

exit codes:
  0    done
  2    bad usage, or a file is broken
  3    this host can't compile, or BPF can't watch that kernel
  4    internal error
  130  interrupted by Ctrl-C

examples:
  ghesrace bpf facts -o host.facts.tar.gz
  ghesrace bpf build --for *.facts.tar.gz -o fleet.pack
  ghesrace bpf show fleet.pack
"""

EPILOGS = {
    "capture": CAPTURE,
    "check": CHECK,
    "show": SHOW,
    "diff": DIFF,
    "survey": SURVEY,
    "explain": EXPLAIN,
    "plan": PLAN,
    "doctor": DOCTOR,
    "daemon": DAEMON,
    "ship": SHIP,
    "bpf": BPF,
}
