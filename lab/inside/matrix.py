# SPDX-License-Identifier: Apache-2.0
"""Record this guest's kernel with each backend, into the share.

    python -m lab.inside.matrix ARCH [PART [BACKEND...]]

PART of the usual time (1 by default), with the backends that are named, or with all.

It runs in a guest and imports nothing that only the host has. `lab.matrix` judges the captures.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from lab import paths

from .recording import capture_while, storm

BACKENDS = ("ftrace", "bpf")
# The scenarios are those of lab.firmware.scenario; SECONDS says for how long each is played.
TRAFFIC = {
    "amd64": {"calm": "in-turn", "storm": "mixed"},
    "arm64": {"calm": "in-turn-sea", "storm": "every-at-once"},
}
SECONDS = {"calm": 15.0, "storm": 30.0}


def main() -> None:
    """Record each kind of traffic with each backend; what `capture` says goes to a .log beside."""
    share = Path(os.environ[paths.ENV])
    part = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    for backend in sys.argv[3:] or BACKENDS:
        for kind, scenario in TRAFFIC[sys.argv[1]].items():
            path = share / f"{backend}-{kind}.arrows"
            with path.with_suffix(".log").open("w") as log, contextlib.redirect_stderr(log):
                capture_while(storm(scenario, part * SECONDS[kind]), path, "--backend", backend)


if __name__ == "__main__":
    main()
