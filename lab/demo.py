# SPDX-License-Identifier: Apache-2.0
"""`make demo` shows a stock kernel under a storm of GHES notifications, then one that races.

python -m lab.demo

It boots one guest. On the host a firmware posts errors and notifies the guest; in the guest
ghesrace records and judges. The second run loads the control module, whose race is real.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from ghesrace.errors import EXIT_FINDING, EXIT_INTERNAL, EXIT_OK, GhesraceError
from lab.boards.board import Settings
from lab.boards.pc import Pc
from lab.inside.recording import capture_while, storm
from lab.module.device import Parameters
from lab.module.run import inserted, run

from . import boot, paths

STOCK, CONTROL = "stock.arrows", "control.arrows"
_STORM_S = 30.0
_ROUNDS = 60


def _say(text: str) -> None:
    print(f"\n== {text}\n", flush=True)


def _run_control() -> None:
    truth = run(Parameters(rounds=_ROUNDS)).summary
    print(f"the module itself saw {truth['junk_reads']} junk reads of {truth['reads']}", flush=True)


def _inside() -> int:
    """Run the guest's part: both recordings, and a check that each got the expected exit code."""
    out = Path(os.environ[paths.ENV])
    _say("The stock kernel: NMIs now and then, interrupts moving from CPU to CPU, polling")
    stock = capture_while(storm("in-turn", _STORM_S), out / STOCK, "--check")
    _say("The control: a module that runs the mapping protocol of 2015 on this kernel")
    with inserted():
        control = capture_while(_run_control, out / CONTROL, "--check")
    if (stock, control) != (EXIT_OK, EXIT_FINDING):
        print(f"expected exit codes 0 and 1, not {stock} and {control}", file=sys.stderr)
        return EXIT_INTERNAL
    return EXIT_OK


def main(argv: list[str] | None = None) -> int:
    """Run the demo and return its exit code, which is 0 when both verdicts are the expected ones.

    main([])
    """
    parser = argparse.ArgumentParser("python -m lab.demo", description=__doc__)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    try:
        if args.inside:
            return _inside()
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="ghesrace-demo-") as share:
            command = [sys.executable, "-m", "lab.demo", "--inside"]
            _say("Booting Debian's kernel in a guest (software emulation, some 20 s)")
            code = boot.run(Pc(), Settings(Path(share)), command)
        _say(f"Done in {time.monotonic() - begin:.0f} s, exit code {code}")
    except GhesraceError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
