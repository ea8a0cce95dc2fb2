# SPDX-License-Identifier: Apache-2.0
"""`ghesrace daemon` watches this host for good."""

from __future__ import annotations

import argparse

from ghesrace.errors import EXIT_OK


def daemon(args: argparse.Namespace) -> int:
    """Run the service as the command line *args* says, and return the exit code when it ends.

    For example:

        ghesrace daemon --config /etc/ghesrace/ghesrace.toml --check-config
    """
    from ghesrace.service import daemon as service

    if args.check_config:
        from ghesrace.service.trial import check_config

        check_config(args.config)
        return EXIT_OK
    if args.clean_up:
        service.clean_up()
        return EXIT_OK
    return service.run(args.config)
