# SPDX-License-Identifier: Apache-2.0
"""`ghesrace doctor` tries everything that a capture needs."""

from __future__ import annotations

import argparse
import json

from ghesrace.errors import EXIT_OK
from ghesrace.render.layout import new_console


def doctor(args: argparse.Namespace) -> int:
    """Try and print everything that a capture needs, and return 0 if one can run here.

    For example:

        ghesrace doctor --format json
    """
    from ghesrace.doctor import checks as tries
    from ghesrace.doctor.text import print_check, print_summary

    console, checks = new_console(), []
    for made in tries.run():
        checks.append(made)
        if args.format == "text":
            print_check(made, console)
    code = tries.exit_code(checks)
    if args.format == "json":
        document = {"ready": code == EXIT_OK, "checks": [c.to_dict() for c in checks]}
        print(json.dumps(document, indent=1))
    else:
        print_summary(code == EXIT_OK, console)
    return code
