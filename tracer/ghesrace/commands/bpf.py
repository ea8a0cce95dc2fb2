# SPDX-License-Identifier: Apache-2.0
"""`ghesrace bpf` builds program packs for other hosts, and shows what is in one."""

from __future__ import annotations

import argparse
import hashlib
import sys
from contextlib import ExitStack
from pathlib import Path

from ghesrace.errors import EXIT_OK, UsageError

from .output import opened, spare_inputs, unwritable


def bpf(args: argparse.Namespace) -> int:
    """Do what the command line *args* says, and return 0. Raises UsageError, InputError or
    HostError.

    ghesrace bpf build -o this-host.pack
    """
    if args.action != "show" and args.pack is not None:
        raise UsageError(f"`bpf {args.action}` takes no pack: {args.pack}", "name a file with -o")
    if args.action != "show" and args.output is None:
        raise UsageError(f"where `bpf {args.action}` writes is not said", "name a file with -o")
    if args.action != "build" and (args.facts or args.summary):
        raise UsageError("--for and --summary are for `bpf build`", "leave them out")
    if args.action == "build":
        _build(args.facts or [], args.output, args.summary)
    elif args.action == "facts":
        _facts(args.output)
    else:
        _show(args.pack, args.output)
    return EXIT_OK


def _build(facts: list[Path], output: Path, summary: bool) -> None:
    from ghesrace import packs
    from ghesrace.host import taken

    spare_inputs(output, facts)
    with ExitStack() as stack:
        roots = [stack.enter_context(taken.planted(archive)) for archive in facts]
        text = packs.pack_of(roots or [Path("/")], summary=summary).to_json()
    with opened(output) as file:
        file.write(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    print(f"ghesrace: {output}: {len(text):,} bytes, SHA-256 {digest}", file=sys.stderr)


def _facts(output: Path) -> None:
    from ghesrace.host import taken
    from ghesrace.host.facts import read_facts

    facts = read_facts()
    try:
        taken.save(taken.take(facts), output)
    except OSError as error:
        raise unwritable(output, error) from error
    for what, why in facts.problems.items():
        print(f"ghesrace: not taken: {what}: {why}", file=sys.stderr)


def _show(path: Path | None, output: Path | None) -> None:
    from ghesrace.sources.bpf.pack import Pack

    if path is None or output is not None:
        raise UsageError("`bpf show` prints one pack", "name it, and leave -o out")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}", "name a pack") from error
    pack = Pack.read(data, str(path))
    print(f"SHA-256 {hashlib.sha256(data).hexdigest()}")
    print(f"made by {pack.made_by}")
    for entry in pack.entries:
        what = "summary" if entry.summary else "events"
        maps = ", ".join(one.name for one in entry.compiled.maps)
        print(f"\n{entry.arch} Linux {entry.release}, BTF {entry.btf}: {what}; maps: {maps}")
        for program in entry.programs:
            size = len(entry.compiled.code[program.function]) // 8
            said = f"{program.mechanism} on {program.symbol}"
            print(f"  {program.function:4} {program.type:14} {said}, {size:,} instructions")
