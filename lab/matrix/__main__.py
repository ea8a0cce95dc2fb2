# SPDX-License-Identifier: Apache-2.0
"""Boot every kernel, measure it, and write docs/kernels.md.

python -m lab.matrix [--only SUITE/ARCH] [--again]

What was measured is kept in build/matrix/, one file for each kernel and backend, so a run that was
ended goes on where it was; --again measures anew. The exit code is 0, or 1 if some kernel could
not be measured (the page says why).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ghesrace.errors import EXIT_FINDING, EXIT_OK, GhesraceError
from lab import boot
from lab.boards.board import Board, Settings
from lab.boards.pc import Pc
from lab.boards.virt import Virt
from lab.inside.matrix import BACKENDS, TRAFFIC
from lab.kernels.fetch import kernel, known
from lab.paths import REPO

from . import cells, page

BUILD = REPO / "build" / "matrix"
PAGE = REPO / "docs" / "kernels.md"
SUITES = ("bullseye", "bookworm", "trixie", "trixie-backports")
PYTHON = {"amd64": sys.executable, "arm64": "python3"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab.matrix", description=__doc__)
    parser.add_argument("--only", action="append", metavar="SUITE/ARCH")
    parser.add_argument("--again", action="store_true", help="measure anew what is known")
    return parser


def _measure(suite: str, arch: str) -> list[dict[str, Any]]:
    """Boot one kernel and return what came of it, an object for each backend."""
    with tempfile.TemporaryDirectory(prefix="ghesrace-matrix-") as folder:
        share, why = Path(folder), ""
        command = [PYTHON[arch], "-m", "lab.inside.matrix", arch]
        try:
            board: Board = Virt(suite) if arch == "arm64" else Pc(kernel(suite, arch).image)
            code = boot.run(board, Settings(share), command)
            why = f"its guest ended with {code}" if code else ""
        except GhesraceError as error:
            why = str(error)
        return [_result(share, suite, arch, backend, why) for backend in BACKENDS]


def _result(share: Path, suite: str, arch: str, backend: str, why: str) -> dict[str, Any]:
    result: dict[str, Any] = {"suite": suite, "arch": arch, "backend": backend, "error": ""}
    result["release"] = kernel(suite, arch).release if known(suite, arch) else ""
    for kind in TRAFFIC[arch]:
        path = share / f"{backend}-{kind}.arrows"
        log = path.with_suffix(".log")
        try:
            result[kind] = cells.measure(path, arch)
        except GhesraceError:
            said = log.read_text().strip() if log.exists() else ""
            known_as = why or said.removeprefix("ghesrace: ") or "nothing was recorded"
            result["error"] = known_as.replace(f"{REPO}/", "").replace(f"{share}/", "")
    return result


def main() -> int:
    """Measure what is not known yet, write the page, say what was found; return the exit code."""
    args = _parser().parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for suite, arch in ((suite, arch) for arch in TRAFFIC for suite in SUITES):
        files = [BUILD / f"{suite}-{arch}-{backend}.json" for backend in BACKENDS]
        wanted = not args.only or f"{suite}/{arch}" in args.only
        if wanted and (args.again or not all(file.exists() for file in files)):
            for file, result in zip(files, _measure(suite, arch), strict=True):
                file.write_text(json.dumps(result, indent=1))
        here = [json.loads(file.read_text()) for file in files if file.exists()]
        results += here
        for line in (line for result in here if wanted for line in page.progress(result)):
            print(line, flush=True)
    PAGE.write_text(page.render(results))
    return EXIT_FINDING if any(result["error"] for result in results) else EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
