# SPDX-License-Identifier: Apache-2.0
"""Record this guest's kernel with each backend, into the share.

    python -m lab.inside.matrix ARCH [PART [WHAT...]] [--remove DEVICE]

PART of the usual time (1 by default). WHAT is a backend, or a recording as recordings_of() names
them: those that are named are made, or all. While a storm lasts, DEVICE (GHES.0) is unbound from
its driver and bound again, about once a second.

It runs in a guest and imports nothing that only the host has. `lab.matrix` judges the captures.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from lab import paths

from .recording import capture_while, removing, storm

BACKENDS = ("ftrace", "bpf")
# The scenarios are those of lab.firmware.scenario; SECONDS says for how long each is played.
TRAFFIC = {
    "amd64": {"calm": "in-turn", "storm": "mixed"},
    "arm64": {"calm": "in-turn-sea", "storm": "every-at-once"},
}
SECONDS = {"calm": 15.0, "storm": 30.0}


def recordings_of(arch: str, backends: Sequence[str] = BACKENDS) -> list[str]:
    """Return the names of what is recorded of *arch* with *backends*, in that order.

    >>> recordings_of("amd64", ["bpf"])
    ['bpf-calm', 'bpf-storm']
    """
    return [f"{backend}-{kind}" for backend in backends for kind in TRAFFIC[arch]]


def main() -> None:
    """Record each kind of traffic with each backend; what `capture` says goes to a .log beside."""
    parser = argparse.ArgumentParser(prog="python -m lab.inside.matrix", description=__doc__)
    parser.add_argument("arch", choices=TRAFFIC)
    parser.add_argument("part", nargs="?", type=float, default=1.0)
    parser.add_argument("what", nargs="*", default=BACKENDS)
    parser.add_argument("--remove", metavar="DEVICE", default="")
    args = parser.parse_intermixed_args()
    share = Path(os.environ[paths.ENV])
    for name in recordings_of(args.arch):
        backend, _, kind = name.partition("-")
        if backend not in args.what and name not in args.what:
            continue
        path = share / f"{name}.arrows"
        traffic = storm(TRAFFIC[args.arch][kind], args.part * SECONDS[kind])
        if args.remove and kind == "storm":
            traffic = removing(args.remove, traffic)
        with path.with_suffix(".log").open("w") as log, contextlib.redirect_stderr(log):
            capture_while(traffic, path, "--backend", backend)


if __name__ == "__main__":
    main()
