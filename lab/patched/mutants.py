# SPDX-License-Identifier: Apache-2.0
"""Build each mutant of the kernel, judge it, and write docs/mutants.md beside what was expected.

python -m lab.patched.mutants [--only NAME] [--arch ARCH] [--again] [--page]
    [--backend BACKEND] [--part PART]

What was measured is kept in build/patched/results/, one file a mutant, so a run that was ended goes
on where it was; a mutant whose patch, source or configuration changed is measured anew, and so is
every one with --again. --page only writes the page, in which a mutant that was not measured here
keeps the rows that it had. The exit code is 0 if every mutant was called what was expected, else 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ghesrace.errors import EXIT_FINDING, EXIT_OK, GhesraceError
from lab.inside.matrix import BACKENDS
from lab.kernels.fetch import kernel, say
from lab.paths import REPO

from . import debian, page
from .build import Built, known, recipe
from .command import CACHE, debian_source, make
from .expected import NOT_RUN, Mutant, Result, as_expected, expected, false_clean
from .verdict import Judged, from_json, judge

RESULTS = CACHE / "results"
PAGE = REPO / "docs" / "mutants.md"
_EXIT_INTERRUPTED = 130


def _made(one: Mutant) -> Built:
    """Return the kernel of the mutant *one*; build or fetch it if need be."""
    if not one.flavour:
        source = debian_source(one.suite)
        return make(source, one.patches, one.arch, recipe(one.arch, *one.configs))
    fetched = kernel(one.suite, one.arch, flavour=one.flavour.removeprefix("generic"))
    size = fetched.image.stat().st_size
    return Built(fetched.release, fetched.tree, fetched.release, image_bytes=size)


def measure(
    one: Mutant, building: Future[Built], again: bool, part: float, backends: Sequence[str]
) -> Result:
    """Return what is known of the mutant *one*.

    When it is built it is judged with those of *backends* that it was not recorded with yet, or
    with all of them *again*. What could not be recorded is tried again in the next run.
    """
    try:
        built = building.result()
        kept = RESULTS / f"{one.name}.json"
        told = json.loads(kept.read_text()) if kept.exists() else {}
        judged = from_json(told["judged"]) if told.get("key") == built.key else Judged([])
        if missing := [name for name in backends if again or not judged.recorded(name)]:
            judged = judged.without(missing)
            say(f"{one.name}: judging with {' and '.join(missing)}")
            share = CACHE / "captures" / one.name
            share.mkdir(parents=True, exist_ok=True)
            judged = judged.with_more(judge(built, one.arch, share, part, missing, one.removed))
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps({"key": built.key, "judged": judged.json()}, indent=1))
        return Result(one, built, judged)
    except GhesraceError as error:
        return Result(one, None, None, error.what.splitlines()[0])


def _measure_all(wanted: Sequence[Mutant], args: argparse.Namespace) -> dict[str, Result]:
    """Measure the mutants *wanted* as *args* say, say each, and return the results by name.

    One process of `make` builds the next mutants while a guest runs.
    """
    found = {}
    with ThreadPoolExecutor(max_workers=1) as builder:
        try:
            builds = [builder.submit(_made, one) for one in wanted]
            for one, building in zip(wanted, builds, strict=True):
                found[one.name] = measure(
                    one, building, args.again, args.part, args.backend or BACKENDS
                )
                print(page.progress(found[one.name]), flush=True)
        finally:
            builder.shutdown(cancel_futures=True)
    return found


def _known(one: Mutant) -> Result | None:
    """Return what is kept of the mutant *one*, without its source."""
    kept = RESULTS / f"{one.name}.json"
    if not kept.exists():
        return None
    told = json.loads(kept.read_text())
    return Result(one, known(CACHE, told["key"]), from_json(told["judged"]))


def main(argv: list[str] | None = None) -> int:
    """Measure what is not known yet, write the page, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lab.patched.mutants", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("--arch", choices=("amd64", "arm64"))
    parser.add_argument("--again", action="store_true", help="judge anew what is known")
    parser.add_argument("--page", action="store_true", help="write the page of what is known")
    parser.add_argument("--part", type=float, default=1.0, help="of the usual time of recording")
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="default: all")
    args = parser.parse_args(argv)
    all_of_them = expected()
    wanted = [
        one
        for one in all_of_them
        if (not args.only or one.name in args.only) and args.arch in (None, one.arch)
    ]
    try:
        measured = {} if args.page else _measure_all(wanted, args)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    results = [
        measured.get(one.name) or _known(one) or Result(one, None, None, NOT_RUN)
        for one in all_of_them
    ]
    before = PAGE.read_text() if PAGE.exists() else ""
    PAGE.write_text(page.render(results, debian.implications(), before))
    for result in results:
        if result.judged and false_clean(result.mutant, result.judged):
            say(f"{result.mutant.name} is unsafe and was called clean: THE WORST BUG THERE IS")
    good = all(r.judged and as_expected(r.mutant, r.judged) for r in results)
    return EXIT_OK if good else EXIT_FINDING


if __name__ == "__main__":
    sys.exit(main())
