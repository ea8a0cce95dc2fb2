# SPDX-License-Identifier: Apache-2.0
"""Build the kernel of a workshop's tree with a small configuration, once for each tree.

What is built is kept by what it was built from: the git tree of source and patches, the
configuration, and the compiler. The object files of a workshop are kept too, so that a patch costs
the files that it changes and the link.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ghesrace.errors import HostError
from lab.kernels.fetch import Kernel, made, run, say

from .workshop import Workshop

CONFIGS = Path(__file__).resolve().parent / "configs"
_TAIL_LINES = 25
_MADE = "made.json"
_PACKAGES = "apt-get install build-essential git flex bison bc libelf-dev libssl-dev dwarves kmod"
# A fragment that has this line wants LLVM's tools in place of GNU's.
_CLANG = "CONFIG_CC_IS_CLANG=y"
_LLVM = ("ld.lld", "llvm-ar", "llvm-nm", "llvm-objcopy")


@dataclass(frozen=True, slots=True)
class Target:
    """A target is what `make` is told of an architecture, and the image that it leaves."""

    compiler: str
    variables: tuple[str, ...]
    goal: str
    image: str


TARGETS = {
    "amd64": Target("gcc", ("ARCH=x86_64",), "bzImage", "arch/x86/boot/bzImage"),
    "arm64": Target(
        "aarch64-linux-gnu-gcc",
        ("ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"),
        "Image",
        "arch/arm64/boot/Image",
    ),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe says for which architecture ("amd64", "arm64") to build, and with which
    configuration: `fragments` are merged into `make tinyconfig`, the last one wins."""

    arch: str
    fragments: tuple[Path, ...]

    @property
    def target(self) -> Target:
        """Return what `make` is told."""
        usual = TARGETS[self.arch]
        if self._clang:
            return replace(usual, compiler="clang", variables=(*usual.variables, "LLVM=1"))
        return usual

    @property
    def _clang(self) -> bool:
        return _CLANG in self.configuration().splitlines()

    def configuration(self) -> str:
        """Return the fragments as one text."""
        return "".join(fragment.read_text() for fragment in self.fragments)

    def digest(self) -> str:
        """Return 12 hex digits that differ between configurations and compilers.

        Raises HostError if there is no compiler.
        """
        self._check()
        compiler = run(self.target.compiler, "--version").splitlines()[0]
        return _digest(self.arch, self.configuration(), compiler)

    def _check(self) -> None:
        tools = ("make", "flex", "bison", "bc", "depmod", self.target.compiler)
        llvm = _LLVM if self._clang else ()
        # pahole writes the BTF, without which configuration drops it in silence.
        missing = [tool for tool in (*tools, *llvm, "pahole") if not shutil.which(tool)]
        if missing:
            cross = "" if self.arch == "amd64" else " gcc-aarch64-linux-gnu"
            more = " clang lld llvm" if llvm else cross
            raise HostError(f"{', '.join(missing)} is not installed", f"{_PACKAGES}{more}")


def recipe(arch: str, *variants: str) -> Recipe:
    """Return the lab's recipe for *arch* with the *variants*, names in lab/patched/configs.

    >>> [path.name for path in recipe("amd64", "preempt-rt").fragments]
    ['common.config', 'amd64.config', 'preempt-rt.config']
    """
    return Recipe(arch, tuple(CONFIGS / f"{name}.config" for name in ("common", arch, *variants)))


@dataclass(slots=True)
class Built:
    """A built kernel: where it is, and what building it took.

    `key` names what it was built from. `refused` are lines of the configuration that this source
    does not have or did not take. `seconds` are wall-clock, `image_bytes` the size of the image.
    """

    key: str
    tree: Path
    release: str
    seconds: float = 0.0
    image_bytes: int = 0
    files: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def kernel(self) -> Kernel:
        """Return it as the boards take it."""
        return Kernel(self.tree, self.release)


def key(tree: str, wanted: Recipe) -> str:
    """Return the name of what the git tree *tree* gives with the recipe *wanted*."""
    return f"{wanted.arch}-{_digest(tree, wanted.digest())}"


def known(cache: Path, name: str) -> Built | None:
    """Return the kernel called *name* if *cache* has it."""
    place = cache / "kernels" / name
    if not place.exists():
        return None
    told = json.loads((place / _MADE).read_text())
    return Built(**{**told, "tree": place})


def build(cache: Path, workshop: Workshop, number: str, wanted: Recipe) -> Built:
    """Return the kernel of the git tree *number*, which is what *workshop* holds now.

    Raises HostError if a tool is missing or the build fails; the whole log is in the workshop.
    """
    name = key(number, wanted)
    if found := known(cache, name):
        return found
    objects = workshop.home / f"objects-{wanted.digest()}"

    def make(folder: Path) -> None:
        say(f"building {name} in {objects}")
        started = time.monotonic()
        log = workshop.home / f"{name}.log"
        refused = configure(workshop.tree, objects, wanted)
        jobs = f"-j{os.cpu_count() or 1}"
        _make(workshop.tree, objects, wanted, (jobs, wanted.target.goal, "modules"), log)
        told = _install(folder, workshop.tree, objects, wanted)
        told.key, told.refused = name, refused
        told.seconds = round(time.monotonic() - started, 1)
        told.files = sum(
            line.startswith(("  CC ", "  AS ")) for line in log.read_text().splitlines()
        )
        (folder / _MADE).write_text(json.dumps({**asdict(told), "tree": ""}, indent=1))

    place = cache / "kernels" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    made(place, make)
    found = known(cache, name)
    assert found is not None
    return found


def configure(tree: Path, objects: Path, wanted: Recipe) -> list[str]:
    """Write the configuration into *objects* if it has none; return the lines that were refused.

    Raises HostError if `make` fails.
    """
    config = objects / ".config"
    if not config.exists():
        objects.mkdir(parents=True, exist_ok=True)
        _make(tree, objects, wanted, ("tinyconfig",))
        with config.open("a") as file:
            file.write(wanted.configuration())
        _make(tree, objects, wanted, ("olddefconfig",))
    return refused(wanted.configuration(), config.read_text())


def refused(asked: str, given: str) -> list[str]:
    """Return the lines of *asked* that the configuration *given* does not have; the last line of an
    option counts.

    >>> refused("CONFIG_SMP=y\\nCONFIG_FPROBE=y\\n", "CONFIG_SMP=y\\n# CONFIG_FPROBE is not set\\n")
    ['CONFIG_FPROBE=y']
    """
    wanted = {}
    for line in asked.splitlines():
        words = line.removeprefix("# ").replace("=", " ").split()
        if words and words[0].startswith("CONFIG_"):
            wanted[words[0]] = line
    has = set(given.splitlines())
    named = {line.partition("=")[0] for line in has}
    return [
        line
        for option, line in wanted.items()
        if line not in has and not (line.startswith("#") and option not in named)
    ]


def _make(
    tree: Path, objects: Path, wanted: Recipe, goals: Iterable[str], log: Path | None = None
) -> None:
    command = ["make", "-C", str(tree), f"O={objects}", *wanted.target.variables, *goals]
    # Times and names of who builds would let every link differ.
    fixed = {"KBUILD_BUILD_TIMESTAMP": "@0", "KBUILD_BUILD_USER": "lab", "KBUILD_BUILD_HOST": "lab"}
    done = subprocess.run(
        command,
        env={**os.environ, **fixed, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if log:
        log.write_text(done.stdout)
    if done.returncode:
        tail = "\n".join(f"  | {line}" for line in _complaint(done.stdout))
        raise HostError(
            f"the kernel does not build:\n{tail}", f"the whole log is in {log}" if log else ""
        )


def _complaint(said: str) -> list[str]:
    """Return what a failed `make` says of its failure: from the first error on."""
    lines = said.splitlines()
    first = next((n for n, line in enumerate(lines) if "error:" in line or "***" in line), None)
    start = max(0, len(lines) - _TAIL_LINES) if first is None else first
    return lines[start : start + _TAIL_LINES]


def _install(folder: Path, tree: Path, objects: Path, wanted: Recipe) -> Built:
    """Put image and module lists into *folder*, as Debian's packages have them.

    bcc compiles against the workshop's own headers, by links: they are not copied.
    """
    release = (objects / "include/config/kernel.release").read_text().strip()
    (folder / "usr" / "lib").mkdir(parents=True)
    (folder / "lib").symlink_to("usr/lib")
    _make(
        tree,
        objects,
        wanted,
        (f"INSTALL_MOD_PATH={folder}", "INSTALL_MOD_STRIP=1", "modules_install"),
    )
    modules = folder / "usr/lib/modules" / release
    for name, target in (("build", objects), ("source", tree)):
        (modules / name).unlink(missing_ok=True)
        (modules / name).symlink_to(target)
    (folder / "boot").mkdir()
    image = folder / "boot" / f"vmlinuz-{release}"
    shutil.copy(objects / wanted.target.image, image)
    shutil.copy(objects / ".config", folder / "boot" / f"config-{release}")
    return Built("", folder, release, image_bytes=image.stat().st_size)


def _digest(*parts: str) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.encode() + b"\0")
    return whole.hexdigest()[:12]
