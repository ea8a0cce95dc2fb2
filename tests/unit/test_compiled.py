# SPDX-License-Identifier: Apache-2.0
"""What is compiled is what the source says, and without a compiler the source runs."""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ghesrace import compiled
from tests.build.modes import both

ROOT = Path(__file__).resolve().parents[2]
TRACER = ROOT / "tracer"
WHERE = "import {0}; print({0}.__file__)"
ALL = "import importlib\nfor name in {!r}: print(importlib.import_module(name).__file__)\n"
ALL = ALL.format(compiled.MODULES)
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
RECORDS = "ghesrace.sources.ring.records"
RULE = "ghesrace.checker.core.rule"  # its types are in a .pxd


def run(code: str, tracer: Path = TRACER, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python with `ghesrace` from *tracer*."""
    environ = {k: v for k, v in os.environ.items() if k != compiled.PURE} | environment
    environ["PYTHONPATH"] = os.pathsep.join((str(tracer), str(ROOT)))
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, cwd=ROOT
    )


def without(*ends: str) -> Callable[[str, list[str]], list[str]]:
    """For copytree. (Python writes .pyc files that come and go while others import.)"""
    return lambda folder, names: [
        name for name in names if name.endswith(ends) or name == "__pycache__"
    ]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package with its extensions, to be spoilt."""
    if compiled.missing():
        pytest.skip("nothing is compiled here")
    shutil.copytree(TRACER / "ghesrace", tmp_path / "ghesrace", ignore=without(".pyc"))
    return tmp_path


def change(source: Path) -> None:
    source.write_text(source.read_text() + "\nCHANGED = True\n")


def files(done: subprocess.CompletedProcess[str]) -> list[Path]:
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


def test_the_extensions_run() -> None:
    """All would be as slow as before, and nobody notice."""
    if compiled.missing():
        pytest.skip("nothing is compiled here")
    extensions = [compiled.extension_of(compiled.source_of(name)) for name in compiled.MODULES]
    assert files(run(ALL)) == extensions


def test_pure_runs_the_sources() -> None:
    """GHESRACE_PURE would compare the extension with itself."""
    sources = [compiled.source_of(name) for name in compiled.MODULES]
    assert files(run(ALL, GHESRACE_PURE="1")) == sources


@pytest.mark.parametrize("name", compiled.MODULES)
def test_both_say_which_they_are(name: str) -> None:
    """Tests that compare the two would compare one with itself."""
    extension, source = both(name)
    assert str(source.__file__).endswith(".py")
    assert str(extension.__file__).endswith(".so")


@pytest.mark.slow
@pytest.mark.parametrize("name", [RECORDS, RULE])
def test_a_stale_extension_never_runs(name: str, copy: Path) -> None:
    """Somebody edits the rule, and the old one goes on judging."""
    change(compiled.source_of(name, copy))
    done = run(WHERE.format(name), copy)
    assert done.returncode == 1
    assert "StaleError" in done.stderr
    assert "make quick" in done.stderr
    assert run(WHERE.format(name) + f"; print({name}.CHANGED)", copy, GHESRACE_PURE="1").stdout
    assert compiled.stale(copy) == [name]


def test_every_module_can_be_found_to_be_stale(copy: Path) -> None:
    """One that was left out of the check could be edited and never built anew."""
    for name in compiled.MODULES:
        change(compiled.source_of(name, copy))
    assert compiled.stale(copy) == list(compiled.MODULES)


def test_an_extension_that_the_list_lacks_never_runs(copy: Path) -> None:
    """Python takes an extension before the source: what is compiled no more would stay old."""
    source = copy / "ghesrace/errors.py"
    extension = compiled.extension_of(compiled.source_of(RECORDS, copy))
    assert extension is not None
    orphan = extension.rename(source.with_name(extension.name.replace("records", "errors")))
    done = run("import ghesrace.errors", copy)
    assert (done.returncode, "StaleError" in done.stderr) == (1, True)
    assert run("import ghesrace.errors", copy, GHESRACE_PURE="1").returncode == 0
    assert compiled.orphans(copy) == [orphan]
    assert compiled.orphans() == []


@pytest.mark.slow
def test_the_command_says_that_it_is_stale(copy: Path) -> None:
    """A developer would get a traceback, and be told to report it."""
    change(compiled.source_of(RECORDS, copy))
    command = "from ghesrace.cli import main; raise SystemExit(main({}))"
    capture = ROOT / "tests/unit/fixtures/foreign/v6.dat"
    done = run(command.format(["check", str(capture)]), copy)
    assert done.returncode == 3
    assert done.stderr.startswith("ghesrace: ")
    assert "Traceback" not in done.stderr
    done = run(command.format(["--version"]), copy)
    assert "compiled from another source" in done.stdout


def test_a_declaration_makes_it_stale_too(copy: Path) -> None:
    """The layout that another module was compiled with would not be this one's."""
    declared = compiled.source_of(RULE, copy).with_name("state.pxd")
    declared.write_text(declared.read_text() + "# changed\n")
    assert compiled.stale(copy) == [n for n in compiled.MODULES if ".checker." in n]


def test_an_extension_of_nobody_is_stale(copy: Path) -> None:
    """One that was built without setup.py carries no hash."""
    extension = compiled.extension_of(compiled.source_of(RECORDS, copy))
    assert extension is not None
    extension.write_bytes(extension.read_bytes().replace(compiled.MARKER, b"x" * 22))
    assert compiled.stale(copy) == [RECORDS]


def test_without_extensions_the_source_runs_and_it_is_said(copy: Path) -> None:
    """A host without a compiler could judge nothing, or be slow without a word."""
    for extension in copy.rglob("*.so"):
        extension.unlink()
    done = run(WHERE.format(RECORDS), copy)
    assert Path(done.stdout.strip()) == compiled.source_of(RECORDS, copy)
    version = "from ghesrace.cli import main; main(['--version'])"
    assert "uncompiled, which is slow" in run(version, copy).stdout


@pytest.mark.slow
def test_cython_is_not_needed_to_run() -> None:
    """A host would need Cython, which is a build requirement only."""
    gone = "import sys; sys.modules.update(dict.fromkeys(('cython', 'Cython')))\n"
    for pure in "01":
        assert len(files(run(gone + ALL, GHESRACE_PURE=pure))) == len(compiled.MODULES)


def test_no_source_ever_imports_cython() -> None:
    """Where Cython is installed the source would run on another stand-in than where it is not."""
    asked = f"{ALL}import sys; print({{'cython', 'Cython'}} & sys.modules.keys())"
    assert run(asked, GHESRACE_PURE="1").stdout.endswith("set()\n")


def test_coverage_measures_the_source() -> None:
    """Lines that are compiled are never seen to run: coverage would leave the rule out."""
    done = run("import sys, types; sys.modules['coverage'] = types.ModuleType('coverage');"
               f"import tests.conftest; {WHERE.format(RECORDS)}")  # fmt: skip
    assert Path(done.stdout.strip()).suffix == ".py", done.stderr


def test_mutation_measures_the_source() -> None:
    """A mutant would be refused as stale, or not run at all, and so pass for killed."""
    runner = ROOT / "tests" / "mutate"
    if not runner.exists():
        pytest.skip("no mutation tests here")
    assert any(compiled.PURE in path.read_text() for path in runner.glob("*.py"))


@pytest.mark.slow
def test_it_runs_where_memory_is_never_written_and_executed() -> None:
    """The unit's MemoryDenyWriteExecute= would end the daemon at the first import."""
    if compiled.missing():
        pytest.skip("nothing is compiled here")
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0:  # PR_GET_MDWE
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    done = run(
        "import ctypes, mmap\n"
        f"assert ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0) == 0\n"
        "try:\n"
        "    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "    raise SystemExit('memory may be written and executed')\n"
        "except PermissionError:\n"
        "    pass\n"
        f"{ALL}"
        "from pathlib import Path\n"
        "from ghesrace.checker.engine import Engine\n"
        "from ghesrace.sources.foreign.source import ForeignSource\n"
        "source = ForeignSource(Path('tests/unit/fixtures/foreign/v6.dat'))\n"
        "engine = Engine(source.plan)\n"
        "for batch in source.batches(): engine.feed(batch)\n"
        "print(engine.report().events)\n"
    )
    *where, counted = files(done)
    assert {path.suffix for path in where} == {".so"}
    assert int(str(counted)) > 1000


def test_the_list_is_what_is_there() -> None:
    """A name that was misspelt, or types without a module, would run uncompiled for ever."""
    assert sorted(compiled.MODULES) == list(compiled.MODULES)
    sources = [compiled.source_of(name) for name in compiled.MODULES]
    for name, source in zip(compiled.MODULES, sources, strict=True):
        typed = source.with_suffix(".pxd").exists()
        assert typed or "from ghesrace import uncompiled as cython\n" in source.read_text()
        assert importlib.util.find_spec(name) is not None
    declared = {path.with_suffix(".py") for path in (TRACER / "ghesrace").rglob("*.pxd")}
    constants = TRACER / "ghesrace/checker/core/words.py"  # its .pxd are C's #defines
    assert declared - set(sources) == {constants}


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """setup.py's part of an installation."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(folder)]
    environ = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=ROOT)


@pytest.mark.slow
def test_only_what_is_stale_is_built(tmp_path: Path) -> None:
    """`make quick` would take a minute more for each line that is edited."""
    if compiled.missing():
        pytest.skip("nothing is compiled here")
    log = tmp_path / "log"
    compiler = tmp_path / "cc"
    compiler.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *-fsyntax*) ;; *) false; esac\n'
    )
    compiler.chmod(0o755)
    kept_out = without(".py", ".json")
    shutil.copytree(TRACER / "ghesrace", tmp_path / "lib/ghesrace", ignore=kept_out)
    for extension in tmp_path.rglob("*.so"):
        extension.touch()
    assert build(tmp_path / "lib", CC=str(compiler)).returncode == 0
    assert [line for line in log.read_text().splitlines() if "-fsyntax-only" not in line] == []
    spoilt = compiled.extension_of(compiled.source_of(RULE, tmp_path / "lib"))
    assert spoilt is not None
    orphan = spoilt.with_name(spoilt.name.replace("rule", "gone"))
    shutil.copy(spoilt, orphan)
    spoilt.write_bytes(spoilt.read_bytes().replace(compiled.MARKER, b"x" * 22))
    assert build(tmp_path / "lib", CC=str(compiler)).returncode != 0
    [line] = [line for line in log.read_text().splitlines() if "-fsyntax-only" not in line]
    assert "core/rule.c" in line
    assert not orphan.exists()


def test_without_a_compiler_it_is_installed_and_said(tmp_path: Path) -> None:
    """`make venv` and `pip install .` would fail where there is no compiler, or be silent."""
    done = build(tmp_path, CC="no-such-compiler")
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("ghesrace: ")]
    assert "installed uncompiled, which is slow" in line
    assert list(tmp_path.rglob("*.so")) == []


def test_a_compiler_without_pythons_headers_is_none(tmp_path: Path) -> None:
    """gcc without python3-dev would end the installation in an error of gcc's."""
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    done = build(tmp_path / "lib", CC=str(compiler))
    assert (done.returncode, "uncompiled" in done.stdout) == (0, True)


def test_a_package_is_never_built_without_its_parts(tmp_path: Path) -> None:
    """The Debian package would be slow on every host, and nobody know why."""
    done = build(tmp_path, CC="no-such-compiler", GHESRACE_COMPILE="always")
    assert done.returncode != 0
    assert "python3-dev" in done.stderr


def test_never_means_never(tmp_path: Path) -> None:
    """The package for arm64 would get this host's parts beside arm64's."""
    done = build(tmp_path, GHESRACE_COMPILE="never")
    assert (done.returncode, list(tmp_path.rglob("*.so"))) == (0, [])


def test_who_builds_packages_asks_for_the_parts() -> None:
    """A bundle without a compiler on the build machine would pass for whole."""
    text = (ROOT / "packaging/bundle.sh").read_text()
    assert "GHESRACE_COMPILE=$compile" in text
    assert "compiled.stale() or compiled.missing()" in text
    makefile = (ROOT / "Makefile").read_text()
    assert "GHESRACE_COMPILE=always $(VENV)/bin/python setup.py -q build_ext --inplace" in makefile
