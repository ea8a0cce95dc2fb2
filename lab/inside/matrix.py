# SPDX-License-Identifier: Apache-2.0
"""In a guest, `python -m lab.inside.matrix ARCH`: record it with each backend, into the share.

Imports nothing that the host alone has.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from lab import paths

from .recording import capture_while, storm

BACKENDS = ("ftrace", "bpf")
# Scenarios of lab.firmware.scenario, and how long they are played, in seconds.
TRAFFIC = {
    "amd64": {"calm": "in-turn", "storm": "mixed"},
    "arm64": {"calm": "in-turn-sea", "storm": "every"},
}
SECONDS = {"calm": 15.0, "storm": 30.0}


def main() -> None:
    """What `capture` says goes to a .log beside each capture."""
    share = Path(os.environ[paths.ENV])
    for backend in BACKENDS:
        for kind, scenario in TRAFFIC[sys.argv[1]].items():
            path = share / f"{backend}-{kind}.arrows"
            with path.with_suffix(".log").open("w") as log, contextlib.redirect_stderr(log):
                capture_while(storm(scenario, SECONDS[kind]), path, "--backend", backend)


if __name__ == "__main__":
    main()
