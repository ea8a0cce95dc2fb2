# SPDX-License-Identifier: Apache-2.0
"""Keep a work tree of one kernel source, and apply patches to it and take them back.

Git does the work, in a repository of the workshop's own: it refuses a patch that does not fit,
says by one number what a tree holds, and touches only the files that differ, so that `make` builds
only what a patch changes. A developer's own tree is read and never written (git renews the times of
objects that another repository uses, no more).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ghesrace.errors import HostError, InputError, TransientError, UsageError

_TAIL_LINES = 15
_TARBALL = "*.tar.*"


class Workshop:
    """A workshop is the work tree `tree` in the folder *home*, and the repository beside it.

    What is built of the tree is kept in *home* too (`lab.patched.build`). *home* may be deleted at
    any time when nobody works in it.

        workshop = Workshop(Path("build/patched/trees/linux"))
        with workshop.locked():
            pristine = workshop.take(Path("/usr/src/linux"))
            patched = workshop.apply(pristine, [Path("fix.patch")])
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.tree = self.home / "tree"
        self._repository = self.home / "repo"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others out of the workshop. Raises TransientError if somebody is in it."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise TransientError(
                    f"another build is under way in {self.home}", "wait until it has ended"
                ) from None
            yield

    def take(self, source: Path) -> str:
        """Let the tree be what *source* is now, and return the number that git gives it.

        *source* is a git work tree, with what is not committed, or a linux-source package (.deb).
        Raises UsageError if it is neither, InputError if it can't be read.
        """
        if source.is_dir():
            number = self._snapshot(source.resolve())
        elif source.suffix == ".deb" and source.is_file():
            number = self._unpacked(source)
        else:
            raise UsageError(
                f"{source} is neither a folder nor a package",
                "name a kernel's git work tree or a linux-source-*.deb",
            )
        self._bring(number)
        return number

    def apply(self, pristine: str, patches: Iterable[Path]) -> str:
        """Apply *patches* in turn to the tree *pristine*, and return the number of what comes out.

        If one does not fit, the tree is pristine again. Raises InputError then, and UsageError if
        there is no such file.
        """
        self._bring(pristine)
        for patch in patches:
            if not patch.is_file():
                raise UsageError(f"there is no patch {patch}")
            try:
                self._git("apply", "--index", str(patch.resolve()))
            except HostError as error:
                self._bring(pristine)
                raise InputError(
                    f"{patch.name} does not fit the source:\n{error.what.partition(chr(10))[2]}",
                    "rebase it; it is applied with `git apply` (-p1) and no fuzz",
                ) from None
        return self._git("write-tree")

    def _bring(self, number: str) -> None:
        """Let tree and index be the git tree *number*; files that do not differ are not touched."""
        # Without it, a file whose time alone has changed counts as changed.
        self._git("update-index", "-q", "--refresh", failing=True)
        self._git("read-tree", "--reset", "-u", number)

    def _snapshot(self, source: Path) -> str:
        """Return the git tree of what lies in the git work tree *source*."""
        said = _run(["git", "-C", str(source), "rev-parse", "--show-toplevel"], failing=True)
        if said.strip() != str(source) or not (source / "Kconfig").is_file():
            raise UsageError(
                f"{source} is no git work tree of Linux",
                "name its top folder; of a tarball: git init && git add -A && git commit -m source",
            )
        where = ["git", "-C", str(source), "rev-parse", "--path-format=absolute", "--git-path"]
        index, objects = (_run([*where, name]).strip() for name in ("index", "objects"))
        self._create()
        alternates = self._repository / "objects" / "info" / "alternates"
        alternates.write_text(f"{objects}\n")
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            copy = Path(folder) / "index"
            if Path(index).exists():
                shutil.copy(index, copy)
            seen = {"GIT_INDEX_FILE": str(copy), "GIT_WORK_TREE": str(source)}
            self._git("add", "--all", environment=seen, cwd=source)
            return self._git("write-tree", environment=seen, cwd=source)

    def _unpacked(self, package: Path) -> str:
        """Return the git tree of what the linux-source *package* holds; unpack it if need be."""
        pristine = self.home / "pristine"
        if pristine.exists():
            return pristine.read_text().strip()
        shutil.rmtree(self.tree, ignore_errors=True)
        self.tree.mkdir(parents=True)
        _unpack(package, self.tree)
        self._create()
        # Blobs over this size go into one pack as they are, so none is a file of its own.
        packing = ("-c", "core.bigFileThreshold=1", "-c", "pack.compression=0")
        self._git(*packing, "add", "--all", "--force")
        number = self._git("write-tree")
        pristine.write_text(number + "\n")
        return number

    def _create(self) -> None:
        self.tree.mkdir(parents=True, exist_ok=True)
        if not self._repository.exists():
            _run(["git", "init", "-q", "--bare", str(self._repository)])
            self._git("config", "core.bare", "false")
            self._git("config", "core.autocrlf", "false")

    def _git(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        failing: bool = False,
    ) -> str:
        own = {
            **os.environ,
            "GIT_DIR": str(self._repository),
            "GIT_WORK_TREE": str(self.tree),
            "GIT_INDEX_FILE": str(self._repository / "index"),
            **(environment or {}),
        }
        return _run(["git", *arguments], own, cwd or self.tree, failing=failing).strip()


def _unpack(package: Path, tree: Path) -> None:
    """Unpack the tarball in *package* into *tree*. Raises InputError if there is none."""
    with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
        try:
            _run(["dpkg-deb", "--extract", str(package), folder])
        except HostError as error:
            raise InputError(f"{package} does not unpack: {error.what}") from None
        found = sorted(Path(folder, "usr/src").glob(_TARBALL))
        if not found:
            raise InputError(f"{package.name} holds no usr/src/{_TARBALL}: no linux-source package")
        _run(["tar", "-x", "-f", str(found[0]), "--strip-components=1", "-C", str(tree)])


def _run(
    command: list[str],
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    failing: bool = False,
) -> str:
    """Return what *command* prints. Raises HostError if it fails, unless *failing* is allowed."""
    try:
        done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError:
        raise HostError(f"{command[0]} is not installed", "apt-get install git dpkg") from None
    if done.returncode and not failing:
        tail = "\n".join(f"  | {line}" for line in done.stderr.splitlines()[-_TAIL_LINES:])
        raise HostError(f"{' '.join(command[:3])} failed:\n{tail}")
    return done.stdout
