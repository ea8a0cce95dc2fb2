# SPDX-License-Identifier: Apache-2.0
"""Measure a burst on a live kernel: what the daemon keeps, what it loses, and the memory it takes.

    python -m lab run --timeout 3600 -- python -m tests.bench.burst [EVENTS [BACKEND]]

This is for use in a guest. The control module reads on both CPUs without a pause until so many
events (by default 10^7) were seen or lost. Each read comes after a map, so if there are fewer
events and losses than reads the program ends with an error. It prints JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from lab.inside.daemon import daemon, metrics
from lab.module.device import Parameters
from lab.module.run import inserted, run

# The module keeps the truth of this many reads at once.
STORM = Parameters(rounds=8000, turns="free", period_us=0, linger_us=0, walker=False)
_STILL_S = 30.0  # A batch takes less than this.
_POLLED = 1000  # The kernel's own polling makes fewer events in that time.
_KEPT, _LOST = "ghesrace_events_total", "ghesrace_lost_events_total"


def main() -> None:
    """Measure and print the result as JSON. Raises TransientError if the daemon fails."""
    wanted = float(sys.argv[1]) if len(sys.argv) > 1 else 1e7
    backend = sys.argv[2] if len(sys.argv) > 2 else "auto"
    config = f'[source]\nbackend = "{backend}"\n'
    reads = 0
    with (
        inserted(),
        tempfile.TemporaryDirectory() as folder,
        daemon(Path(folder), config) as process,
    ):
        first, begin = process.memory_info().rss, time.monotonic()
        found, most = metrics(), first
        while found[_KEPT] + found[_LOST] < wanted:
            reads += run(STORM).summary["reads"]
            found, most = metrics(), max(most, process.memory_info().rss)
        seconds = time.monotonic() - begin
        before = 0.0
        # Wait until the daemon has read all that is left; the kernel's own polling goes on.
        while found[_KEPT] > before + _POLLED:
            before = found[_KEPT]
            time.sleep(_STILL_S)
            found, most = metrics(), max(most, process.memory_info().rss)
        assert found[_KEPT] + found[_LOST] >= reads, "some reads are neither seen nor lost"
        result = {
            "source": [key for key in found if key.startswith("ghesrace_source_info{")],
            "reads": reads,
            "events": found[_KEPT],
            "lost": {key: n for key, n in found.items() if key.startswith(f"{_LOST}{{") and n},
            "findings": found["ghesrace_findings_total"],
            "seconds": seconds,
            "daemon's CPU seconds": found["ghesrace_process_cpu_seconds_total"],
            "RSS, first, most, last": (first, most, process.memory_info().rss),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
