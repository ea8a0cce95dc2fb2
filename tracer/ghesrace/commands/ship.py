# SPDX-License-Identifier: Apache-2.0
"""`ghesrace ship` sends new captures of this host to a store."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ghesrace.errors import EXIT_INCONCLUSIVE, EXIT_OK, TransientError
from ghesrace.fleet.manifest import describe_host
from ghesrace.fleet.ship import config, run

DEFAULT_CONFIG = Path("/etc/ghesrace/ship.toml")
EXIT_AGAIN = 75  # as the daemon's: systemd starts it again


def ship(args: argparse.Namespace) -> int:
    """Send what is new as the configuration says that the command line *args* names, and return the
    exit code. Raises UsageError.

        ghesrace ship --config ship.toml
    """
    settings = config.load(args.config or DEFAULT_CONFIG)
    credentials = config.credentials()
    if args.check_config:
        print(f"{args.config or DEFAULT_CONFIG} is good: captures go to {settings.to}")
        return EXIT_OK
    try:
        dropped = run.ship(settings, credentials, describe_host(), _say)
    except TransientError as error:
        print(f"ghesrace: {error}", file=sys.stderr)
        return EXIT_AGAIN
    return EXIT_INCONCLUSIVE if dropped else EXIT_OK


def _say(text: str) -> None:
    print(f"ghesrace: {text}", file=sys.stderr, flush=True)
