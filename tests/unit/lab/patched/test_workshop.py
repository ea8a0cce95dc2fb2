# SPDX-License-Identifier: Apache-2.0
"""A source, patches, and what a developer's own tree must never see."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ghesrace.errors import InputError, TransientError, UsageError
from lab.patched.workshop import Workshop

FIX = """\
Say two.

--- a/mm/init.c
+++ b/mm/init.c
@@ -1,3 +1,3 @@
 first
-one
+two
 last
"""
NEW = """\
--- /dev/null
+++ b/mm/new.c
@@ -0,0 +1 @@
+new
"""


def git(tree: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", "-C", str(tree), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def linux(tmp_path: Path) -> Path:
    """A developer's tree that looks like Linux's, with one commit."""
    tree = tmp_path / "linux"
    (tree / "mm").mkdir(parents=True)
    (tree / "Kconfig").write_text("mainmenu\n")
    (tree / ".gitignore").write_text("*.o\n")
    (tree / "mm/init.c").write_text("first\none\nlast\n")
    (tree / "mm/other.c").write_text("other\n")
    git(tree.parent, "init", "-q", str(tree))
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "all")
    return tree


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "workshop")


def patch(folder: Path, text: str, name: str = "fix.patch") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_tree_is_taken_with_what_is_not_committed(linux: Path, workshop: Workshop) -> None:
    """If this fails, a developer's last change is not in the kernel that is judged."""
    committed = workshop.take(linux)
    assert committed == git(linux, "rev-parse", "HEAD^{tree}")
    (linux / "mm/init.c").write_text("first\nedited\nlast\n")
    (linux / "mm/added.c").write_text("added\n")
    (linux / "mm/init.o").write_text("an object\n")
    assert workshop.take(linux) != committed
    assert (workshop.tree / "mm/init.c").read_text() == "first\nedited\nlast\n"
    assert (workshop.tree / "mm/added.c").exists()
    assert not (workshop.tree / "mm/init.o").exists()


def test_a_tree_of_a_developer_is_never_written(linux: Path, workshop: Workshop) -> None:
    """If this fails, the tool changes files, index or objects of somebody's repository."""
    (linux / "mm/added.c").write_text("added\n")

    def state() -> dict[Path, tuple[int, bytes]]:
        # Git renews the times of objects that another repository uses, so that none is pruned.
        return {
            path: (0 if "objects" in path.parts else path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(linux.rglob("*"))
            if path.is_file()
        }

    before = state()
    workshop.apply(workshop.take(linux), [patch(linux.parent, FIX)])
    assert state() == before


def test_a_patch_touches_only_what_it_changes(linux: Path, workshop: Workshop) -> None:
    """If this fails, each mutant costs a whole build: make goes by times."""
    pristine = workshop.take(linux)
    before = (workshop.tree / "mm/other.c").stat().st_mtime_ns
    patched = workshop.apply(pristine, [patch(linux.parent, FIX)])
    assert patched != pristine
    assert (workshop.tree / "mm/init.c").read_text() == "first\ntwo\nlast\n"
    assert workshop.apply(pristine, []) == pristine
    assert (workshop.tree / "mm/init.c").read_text() == "first\none\nlast\n"
    assert (workshop.tree / "mm/other.c").stat().st_mtime_ns == before


def test_a_file_that_a_patch_adds_goes_away_with_it(linux: Path, workshop: Workshop) -> None:
    """If this fails, one mutant is part of the next one."""
    pristine = workshop.take(linux)
    workshop.apply(pristine, [patch(linux.parent, NEW)])
    assert (workshop.tree / "mm/new.c").read_text() == "new\n"
    workshop.apply(pristine, [])
    assert not (workshop.tree / "mm/new.c").exists()


def test_what_an_interrupted_run_left_goes_away(linux: Path, workshop: Workshop) -> None:
    """If this fails, a kernel is judged under the name of another one."""
    pristine = workshop.take(linux)
    (workshop.tree / "mm/init.c").write_text("first\nleft over\nlast\n")
    assert workshop.apply(pristine, []) == pristine
    assert (workshop.tree / "mm/init.c").read_text() == "first\none\nlast\n"


def test_equal_trees_have_equal_names(linux: Path, workshop: Workshop) -> None:
    """If this fails, what was built before is built again, or a patch in two parts is another."""
    pristine = workshop.take(linux)
    once = workshop.apply(pristine, [patch(linux.parent, FIX)])
    other = patch(linux.parent, FIX.replace("Say two.", "Another subject."), "other.patch")
    assert workshop.apply(pristine, [other]) == once


def test_a_patch_that_does_not_fit_is_refused(linux: Path, workshop: Workshop) -> None:
    """If this fails, an unpatched kernel is judged in place of the patched one."""
    pristine = workshop.take(linux)
    bad = patch(linux.parent, FIX.replace("-one", "-zero"), "bad.patch")
    with pytest.raises(InputError, match=r"bad.patch does not fit the source(.|\n)*mm/init.c"):
        workshop.apply(pristine, [patch(linux.parent, NEW), bad])
    assert not (workshop.tree / "mm/new.c").exists()
    with pytest.raises(InputError, match="does not fit"):
        workshop.apply(pristine, [patch(linux.parent, "no patch\n", "text.patch")])
    with pytest.raises(UsageError, match="there is no patch"):
        workshop.apply(pristine, [linux / "missing.patch"])


def test_what_is_no_source_is_refused(linux: Path, workshop: Workshop, tmp_path: Path) -> None:
    """If this fails, a user's mistake ends in a traceback, or in a build of something else."""
    with pytest.raises(UsageError, match="neither a folder nor a package"):
        workshop.take(linux / "Kconfig")
    with pytest.raises(UsageError, match="no git work tree of Linux"):
        workshop.take(linux / "mm")
    with pytest.raises(UsageError, match="no git work tree of Linux"):
        workshop.take(tmp_path)
    false = tmp_path / "linux-source-6.1.deb"
    false.write_text("no package\n")
    with pytest.raises(InputError, match="does not unpack"):
        workshop.take(false)


def test_a_source_package_is_unpacked_once(workshop: Workshop, tmp_path: Path) -> None:
    """If this fails, Debian's source can't be built, or every run unpacks a gigabyte."""
    content = tmp_path / "content"
    (content / "DEBIAN").mkdir(parents=True)
    (content / "DEBIAN/control").write_text(
        "Package: linux-source-6.1\nVersion: 1\nArchitecture: all\n"
        "Maintainer: a <a@b>\nDescription: source\n"
    )
    (content / "usr/src").mkdir(parents=True)
    source = tmp_path / "linux-source-6.1"
    (source / "mm").mkdir(parents=True)
    (source / "mm/init.c").write_text("first\none\nlast\n")
    (source / ".gitignore").write_text("*.c\n")
    tarball = content / "usr/src/linux-source-6.1.tar.xz"
    subprocess.run(["tar", "-C", str(tmp_path), "-cJf", str(tarball), source.name], check=True)
    package = tmp_path / "linux-source-6.1_1_all.deb"
    subprocess.run(["dpkg-deb", "-b", str(content), str(package)], check=True, capture_output=True)
    pristine = workshop.take(package)
    assert (workshop.tree / "mm/init.c").read_text() == "first\none\nlast\n"
    package.write_text("it is not read again\n")
    workshop.apply(pristine, [patch(tmp_path, FIX)])
    assert workshop.take(package) == pristine
    assert (workshop.tree / "mm/init.c").read_text() == "first\none\nlast\n"


def test_two_builds_do_not_meet(workshop: Workshop) -> None:
    """If this fails, two runs patch one tree, and each judges the other's kernel."""
    with (
        workshop.locked(),
        pytest.raises(TransientError, match="another build"),
        Workshop(workshop.home).locked(),
    ):
        pass
