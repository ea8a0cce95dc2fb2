# SPDX-License-Identifier: Apache-2.0
"""By what a built kernel is kept, and what is asked of a configuration."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ghesrace.errors import HostError
from lab.patched import build
from lab.patched.build import Recipe, key, known, recipe, refused
from lab.patched.workshop import Workshop

# A makefile that leaves what a kernel's build leaves, in no time.
MAKEFILE = """\
tinyconfig olddefconfig:
\t@test -f $(O)/.config || echo 'CONFIG_TINY=y' > $(O)/.config
modules:
modules_install:
\t@mkdir -p $(INSTALL_MOD_PATH)/usr/lib/modules/6.1.0-lab
bzImage:
\t@echo '  CC      one.o'
\t@test ! -f broken || { echo 'one.c:3: error: no such thing'; exit 1; }
\t@mkdir -p $(O)/arch/x86/boot $(O)/include/config
\t@cat source > $(O)/arch/x86/boot/bzImage
\t@echo 6.1.0-lab > $(O)/include/config/kernel.release
"""


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tool is there, and the compiler is of one version."""
    monkeypatch.setattr("shutil.which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(build, "run", lambda *command: f"{command[0]} 12.2\nmore\n")


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    made = Workshop(tmp_path / "workshop")
    made.tree.mkdir(parents=True)
    (made.tree / "Makefile").write_text(MAKEFILE)
    (made.tree / "source").write_text("the kernel\n")
    return made


def some(tmp_path: Path, text: str = "CONFIG_SMP=y\n") -> Recipe:
    fragment = tmp_path / "some.config"
    fragment.write_text(text)
    return Recipe("amd64", (fragment,))


@pytest.mark.usefixtures("tools")
def test_a_key_tells_apart_what_gives_another_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a kernel of another source, configuration or compiler is judged."""
    one = some(tmp_path)
    names = {key("tree", one), key("other tree", one), key("tree", Recipe("arm64", one.fragments))}
    names.add(key("tree", some(tmp_path, "CONFIG_SMP=n\n")))
    monkeypatch.setattr(build, "run", lambda *command: f"{command[0]} 14.2\n")
    names.add(key("tree", some(tmp_path)))
    assert len(names) == 5
    assert key("tree", some(tmp_path)) in names


@pytest.mark.usefixtures("tools")
def test_what_is_built_is_not_built_again(tmp_path: Path, workshop: Workshop) -> None:
    """If this fails, every run of a mutant takes minutes."""
    first = build.build(tmp_path, workshop, "tree", some(tmp_path))
    (workshop.tree / "broken").touch()
    again = build.build(tmp_path, workshop, "tree", some(tmp_path))
    assert first == again == known(tmp_path, first.key)
    assert again.kernel.image.read_text() == "the kernel\n"
    assert (again.files, again.image_bytes) == (1, len("the kernel\n"))
    # bcc finds the headers there.
    modules = again.tree / "lib/modules/6.1.0-lab"
    assert (modules / "source").resolve() == workshop.tree
    assert (modules / "build/.config").read_text().endswith("CONFIG_SMP=y\n")
    assert again.refused == []


@pytest.mark.usefixtures("tools")
def test_a_build_that_fails_says_where_and_leaves_nothing(
    tmp_path: Path, workshop: Workshop
) -> None:
    """If this fails, half a kernel is judged, or nobody learns what did not compile."""
    (workshop.tree / "broken").touch()
    with pytest.raises(HostError, match=r"does not build:\n  \| one.c:3: error") as caught:
        build.build(tmp_path, workshop, "tree", some(tmp_path))
    assert "the whole log is in" in caught.value.hint
    assert known(tmp_path, key("tree", some(tmp_path))) is None


@pytest.mark.usefixtures("tools")
def test_what_a_source_does_not_take_is_told(tmp_path: Path, workshop: Workshop) -> None:
    """If this fails, a kernel without BTF or kprobes passes for one that has them."""
    wanted = some(tmp_path, "CONFIG_SMP=y\n")
    built = build.build(tmp_path, workshop, "tree", wanted)
    told = json.loads((built.tree / "made.json").read_text())
    assert told["refused"] == []
    assert refused("CONFIG_A=y\n# CONFIG_B is not set\n", "CONFIG_A=m\nCONFIG_B=y\n") == [
        "CONFIG_A=y",
        "# CONFIG_B is not set",
    ]
    # What a source never had is off, too; the last word on an option counts.
    assert refused("# CONFIG_B is not set\n", "CONFIG_A=y\n") == []
    assert refused("CONFIG_A=y\n# CONFIG_A is not set\n", "# CONFIG_A is not set\n") == []


def test_a_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a build without pahole drops the BTF and says nothing."""
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "pahole" else tool)
    with pytest.raises(HostError, match="pahole is not installed"):
        some(tmp_path).digest()


def test_a_configuration_can_ask_for_clang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a kernel that was to be clang's is gcc's, and nobody is told."""
    wanted = recipe("amd64", "clang-lto")
    assert wanted.target.compiler == "clang"
    assert "LLVM=1" in wanted.target.variables
    assert "LLVM=1" not in recipe("amd64").target.variables
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "ld.lld" else tool)
    with pytest.raises(HostError, match=r"ld\.lld is not installed") as caught:
        wanted.digest()
    assert "lld" in caught.value.hint


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_the_recipes_are_there_and_make_no_secret_of_their_licence(arch: str) -> None:
    """If this fails, no kernel can be built at all."""
    text = recipe(arch).configuration()
    for option in ("SMP", "ACPI_APEI_GHES", "KPROBE_EVENTS", "DEBUG_INFO_BTF", "PROC_KCORE"):
        assert f"CONFIG_{option}=y\n" in text
    assert all(path.read_text().startswith("# SPDX-") for path in build.CONFIGS.glob("*.config"))


def test_make_is_what_the_tests_take_it_for() -> None:
    """If this fails, the makefile above is not run and the tests look at nothing."""
    assert subprocess.run(["make", "--version"], capture_output=True).returncode == 0
