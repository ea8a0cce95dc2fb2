# SPDX-License-Identifier: Apache-2.0
"""`python -m lab patched`: is this GHES, with this patch, safe?

It builds a kernel out of a source and patches, boots it in the lab, records calm traffic and a
storm with each backend, and prints one verdict.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ghesrace.errors import UsageError
from lab.kernels import arm64
from lab.kernels.debian import Apt
from lab.kernels.fetch import say
from lab.paths import REPO

from .build import Built, Recipe, build, key, known, recipe
from .verdict import judge, lines
from .workshop import Workshop

CACHE = REPO / "build" / "patched"


def run(args: argparse.Namespace) -> int:
    """Do what the command line *args* says and return the exit code, which is `ghesrace check`'s.

    Raises UsageError, InputError or HostError if no kernel comes of it.
    """
    if args.part <= 0:
        raise UsageError(f"--part {args.part}: a part of the time of recording is more than 0")
    wanted = recipe(args.arch)
    for fragment in args.config:
        if not fragment.is_file():
            raise UsageError(f"there is no configuration {fragment}")
    wanted = Recipe(args.arch, (*wanted.fragments, *args.config))
    built = make(source(args.source), args.patches, args.arch, wanted)
    for line in built.refused:
        say(f"this source does not take {line}")
    say(f"{built.release} is in {built.tree}")
    share = args.share or Path(tempfile.mkdtemp(prefix="ghesrace-share-"))
    share.mkdir(parents=True, exist_ok=True)
    judged = judge(built, args.arch, share, args.part)
    print("\n".join(lines(judged)))
    print(f"lab: captures are in {share}", file=sys.stderr)
    return judged.code


def source(named: str) -> Path:
    """Return what *named* stands for: a package, a folder, or the source of a suite of Debian.

    Raises UsageError if it is none of them, HostError if the suite's can't be fetched.
    """
    path = Path(named)
    if path.exists():
        return path
    if not named.replace("-", "").isalnum():
        raise UsageError(
            f"there is no {named}", "name a linux-source-*.deb, a git work tree, or a Debian suite"
        )
    return debian_source(named)


def debian_source(suite: str, cache: Path = CACHE) -> Path:
    """Return the package with the newest kernel source of *suite*, once fetched into *cache*.

    Delete it to fetch a newer one. Raises HostError if there is none.
    """
    place = cache / "sources" / suite
    if found := sorted(place.glob("*.deb")):
        return found[-1]
    say(f"fetching the kernel source of {suite}")
    fetched = Apt(cache / "apt" / suite, suite, "amd64").kernel_source()
    place.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(fetched, place / fetched.name))


def make(
    origin: Path,
    patches: Sequence[Path],
    arch: str,
    wanted: Recipe | None = None,
    cache: Path = CACHE,
) -> Built:
    """Return the kernel of *origin* with *patches*; build it if *cache* lacks it.

    Raises UsageError or InputError if source or patches are not as they should be, HostError if a
    tool is missing or the build fails, TransientError if another build is under way.
    """
    wanted = wanted or recipe(arch)
    workshop = Workshop(cache / "trees" / _name(origin))
    with workshop.locked():
        number = workshop.apply(workshop.take(origin), patches)
        built = known(cache, key(number, wanted)) or build(cache, workshop, number, wanted)
    if arch == "arm64" and not built.kernel.initrd.exists():
        arm64.make_initrd(built.tree, built.release)
    return built


def _name(origin: Path) -> str:
    """Return the name of the workshop of *origin*."""
    if origin.is_file():
        return origin.stem
    where = str(origin.resolve())
    return f"{origin.resolve().name}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"
