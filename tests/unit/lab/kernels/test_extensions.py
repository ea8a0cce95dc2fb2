# SPDX-License-Identifier: Apache-2.0
"""The compiled parts for arm64: what the cross build sees, and when it is done again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ghesrace import compiled
from ghesrace.errors import HostError
from lab.kernels import extensions


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Arm64's headers, as far as the build asks for them before it compiles."""
    data = tmp_path / "headers/usr/lib/python3.11/_sysconfigdata__aarch64-linux-gnu.py"
    data.parent.mkdir(parents=True)
    data.write_text("build_time_vars = {}\n")
    return tmp_path / "headers"


def test_only_what_the_build_was_configured_with_is_in_reach(tree: Path, tmp_path: Path) -> None:
    """This host's Python would import arm64's standard library instead of its own."""
    folder = tmp_path / "only"
    folder.mkdir()
    found = extensions.environment(tree, folder)
    assert found["PYTHONPATH"] == str(folder)
    assert [path.name for path in folder.iterdir()] == ["_sysconfigdata__aarch64-linux-gnu.py"]
    assert found["_PYTHON_SYSCONFIGDATA_NAME"] == "_sysconfigdata__aarch64-linux-gnu"
    assert f"-I{tree}/usr/include" in found["CFLAGS"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The sources in a folder of their own, with extensions that say what they are made from."""
    for name in compiled.MODULES:
        source = compiled.source_of(name, tmp_path)
        source.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(compiled.source_of(name), source)
        made = compiled.MARKER + compiled.digest(source).encode()
        source.with_suffix(extensions.ARM64.suffix).write_bytes(b"ELF" + made)
    return tmp_path


def test_what_is_there_is_not_built_again(package: Path, tmp_path: Path) -> None:
    """Each run of the lab would compile for arm64, cross compiler or not."""
    assert len(extensions.build(package, tmp_path / "cache")) == len(compiled.MODULES)
    assert not (tmp_path / "cache").exists()


def test_a_changed_source_is_built_anew_or_refused(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package for arm64 would hold parts of another source, which no host of ours imports."""
    with compiled.source_of(compiled.MODULES[0], package).open("a") as source:
        source.write("CHANGED = True\n")
    tried = []

    def refuse(target: extensions.Target, cache: Path) -> Path:
        tried.append((target, cache))
        raise HostError("no mirror")

    monkeypatch.setattr(extensions, "headers", refuse)
    with pytest.raises(HostError, match="no mirror"):
        extensions.build(package, tmp_path / "cache")
    assert tried == [(extensions.ARM64, tmp_path / "cache")]


def test_another_python_has_headers_and_names_of_its_own(tmp_path: Path) -> None:
    """Trixie's package would have parts that only bookworm's Python imports."""
    target = extensions.Target("amd64", "trixie")
    name = "usr/lib/python3.13/_sysconfigdata__x86_64-linux-gnu.py"
    data = tmp_path / "headers" / name
    data.parent.mkdir(parents=True)
    data.touch()
    found = extensions.environment(tmp_path / "headers", tmp_path, target)
    assert found["CFLAGS"].endswith("/python3.13")
    assert found["LDSHARED"] == "x86_64-linux-gnu-gcc -shared"
    assert target.suffix == ".cpython-313-x86_64-linux-gnu.so"
