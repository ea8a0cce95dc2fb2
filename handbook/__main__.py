# SPDX-License-Identifier: Apache-2.0
"""`python -m handbook FOLDER [PART ...]`: man pages, completion and the site, laid out as below a
prefix (share/man, share/bash-completion, share/doc/ghesrace/html, ...)."""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path

from . import completion, man

PARTS = ("man", "completion", "site")


def write_man(folder: Path) -> None:
    """Write the man pages below *folder*, compressed as Debian has them, the same each time.

    write_man(Path("build/handbook"))
    """
    for name, text in man.pages().items():
        place = folder / f"share/man/man{name[-1]}" / f"{name}.gz"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(gzip.compress(text.encode(), mtime=0))


def write_completion(folder: Path) -> None:
    """Write the completion of each shell below *folder*.

    write_completion(Path("build/handbook"))
    """
    for shell, name in completion.PLACES.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(completion.script(shell))


def main(arguments: list[str]) -> int:
    """Make *arguments*' parts (default: all) anew in the folder that it names first, and return the
    exit code: 1 if the site has a broken link or an unlisted page.

    main(["build/handbook", "man"])
    """
    if not arguments or set(arguments[1:]) - set(PARTS):
        print(f"usage: python -m handbook FOLDER [{'|'.join(PARTS)} ...]", file=sys.stderr)
        return 2
    folder, parts = Path(arguments[0]), arguments[1:] or PARTS
    if "man" in parts:
        shutil.rmtree(folder / "share/man", ignore_errors=True)
        write_man(folder)
    if "completion" in parts:
        write_completion(folder)
    if "site" in parts:
        # Sphinx is loaded only where it is needed: man pages are made in half a second.
        from . import site

        return site.build(folder / "share/doc/ghesrace/html")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
