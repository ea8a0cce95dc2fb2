# SPDX-License-Identifier: Apache-2.0
"""Record one run of the control module in a guest, print it in every form that ftrace, trace-cmd
and perf have, judge each, and write the table of docs/foreign-traces.md.

python -m lab.forms [--share DIR] [--judge]

The texts go into tests/unit/fixtures/forms.tar.xz, where the tests find them; --judge takes those
that are there. --share keeps what the guest recorded. The exit code is 0, or 1 if some form has
other findings than the live run and does not say why.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ghesrace.errors import EXIT_FINDING, EXIT_OK, GhesraceError, TransientError
from lab import boot
from lab.boards.board import Settings
from lab.boards.pc import Pc
from lab.paths import REPO

from . import archive, page
from .judging import judge_all
from .printing import print_all

ARCHIVE = REPO / "tests" / "unit" / "fixtures" / "forms.tar.xz"
PAGE = REPO / "docs" / "foreign-traces.md"


def _record(share: Path) -> None:
    command = [sys.executable, "-m", "lab.inside.forms"]
    if boot.run(Pc(), Settings(share), command):
        raise TransientError("the guest could not record the run", f"see {share}/stderr")


def main(argv: list[str] | None = None) -> int:
    """Record, print, judge, and write the page; return the exit code.

    main(["--judge"])
    """
    parser = argparse.ArgumentParser(prog="python -m lab.forms", description=__doc__)
    parser.add_argument("--share", type=Path, metavar="DIR", help="keep the recordings there")
    parser.add_argument("--judge", action="store_true", help="judge the texts that are there")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="ghesrace-forms-") as folder:
        try:
            if not args.judge:
                share = (args.share or Path(folder) / "share").resolve()
                _record(share)
                archive.pack(print_all(share), share, ARCHIVE)
            judged = judge_all(archive.unpack(ARCHIVE, Path(folder)), Path(folder))
        except GhesraceError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    PAGE.write_text(page.with_table(PAGE.read_text(), judged))
    print(page.table(judged))
    return EXIT_OK if all(one.honest for one in judged) else EXIT_FINDING


if __name__ == "__main__":
    sys.exit(main())
