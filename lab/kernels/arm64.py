# SPDX-License-Identifier: Apache-2.0
"""Make the files of an arm64 guest: a kernel, a userland, and the initrd that joins the two.

They are made once from Debian packages and wheels and kept in build/kernels/ and build/arm64/;
delete these folders to make them anew.
"""

from __future__ import annotations

import compileall
import configparser
import lzma
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.paths import REPO

from .debian import Apt, unpack
from .fetch import Kernel, fetch, made, run, say
from .fetch import kernel as fetched_kernel

CACHE = REPO / "build" / "arm64"

# A guest gets the userland of this suite, whose Python is the host's, so that byte code fits.
USERLAND = "bookworm"
_PACKAGES = (
    "busybox-static",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "kmod",
    "mount",
    "util-linux",
    "procps",
    "python3",
    "python3-bpfcc",
    "sed",
    "trace-cmd",
)
# These are the userland's Python and the C libraries its wheels may want (Debian 12 has 2.36).
_PYTHON = "3.11"
_WHEELS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64", "any")
_SITE = "usr/local/lib/python3.11/dist-packages"

# The initrd needs these before it sees a file system, in the order of their insertion.
_BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_BUSYBOX = "usr/bin/busybox"

_INIT = """\
#!/bin/busybox sh
busybox="/bin/busybox"
$busybox mkdir -p /proc /sys /kernel /user /rw /new
$busybox mount -t proc proc /proc
for module in $($busybox cat /modules/order); do $busybox insmod /modules/$module; done
nine() { $busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,$3 $1 $2; }
nine kernel /kernel ro,cache=loose
nine user /user ro,cache=loose
$busybox mount -t tmpfs rw /rw
$busybox mkdir /rw/upper /rw/work
$busybox mount -t overlay \
    -o lowerdir=/kernel:/user,upperdir=/rw/upper,workdir=/rw/work overlay /new
for word in $($busybox cat /proc/cmdline); do case $word in
    lab.repo=*) repo=${word#*=};; lab.share=*) share=${word#*=};; esac; done
$busybox mkdir -p /new/proc /new/sys /new/dev /new/run /new/tmp /new$repo
nine repo /new$repo ro,cache=loose
# The share may be inside the repository
$busybox mkdir -p /new$share 2>/dev/null
nine share /new$share rw,cache=none
for kind in proc sysfs devtmpfs tmpfs; do
    $busybox mount -t $kind $kind /new/$(case $kind in sysfs) echo sys;; devtmpfs) echo dev;;
        tmpfs) echo run;; *) echo proc;; esac)
done
$busybox umount /proc
exec $busybox switch_root /new /bin/sh -c '
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH='"$repo"'
cd / && python3 -m lab.inside.agent '"$share"' >'"$share"'/.lab/agent 2>&1
busybox poweroff -f'
"""


def kernel(suite: str = USERLAND) -> Kernel:
    """Return the arm64 kernel of *suite* with its initrd; fetch it if the cache lacks it.

        kernel("bookworm").image  # what -kernel is given

    Raises HostError if a package can't be fetched or a tool is missing.
    """

    def finish(folder: Path, release: str) -> None:
        make_initrd(folder, release)
        _make_kbuild(folder, release, suite)

    return fetched_kernel(suite, "arm64", finish)


def userland(cache: Path = CACHE) -> Path:
    """Return the folder with Python, bcc and what ghesrace needs; make it if *cache* lacks it.

    Raises HostError if a package or a wheel can't be fetched.
    """
    return made(cache / "user", lambda folder: _make_userland(folder, cache))


def _make_kbuild(folder: Path, release: str, suite: str) -> None:
    """Make a folder in which this host can build modules for the kernel.

    The tools that come with the headers are arm64 programs, so the host's own replace them. Links
    are relative, as *folder* is not yet where it will be.
    """
    headers = folder / "usr" / "src" / f"linux-headers-{release}"
    words = (headers / "Makefile").read_text().split()
    common = words[words.index("include") + 1].removeprefix("/")
    tools = (headers / "scripts").readlink().parent.name  # ../../lib/linux-kbuild-6.1/scripts
    native = run("dpkg", "--print-architecture").strip()
    fetched = fetch(suite, native, (tools,))
    unpack((f for f in fetched if f.name.startswith(tools)), folder / "native")
    kbuild = folder / "kbuild"
    shutil.copytree(headers, kbuild, symlinks=True)
    (kbuild / "Makefile").write_text(
        "include $(dir $(lastword $(MAKEFILE_LIST)))../" + common + "\n"
    )
    # If vmlinux were there, the build would want pahole to give modules their own BTF, which
    # nothing here needs.
    (kbuild / "vmlinux").unlink(missing_ok=True)
    for name in ("scripts", "tools"):
        (kbuild / name).unlink()
        (kbuild / name).symlink_to(f"../native/usr/lib/{tools}/{name}")


def _make_userland(folder: Path, cache: Path) -> None:
    say(f"fetching the arm64 userland of {USERLAND}")
    unpack(Apt(cache / "apt" / "user", USERLAND).fetch(_PACKAGES), folder)
    site = folder / _SITE
    site.mkdir(parents=True, exist_ok=True)
    config = configparser.ConfigParser()
    config.read(REPO / "setup.cfg")
    needs = (config["options"]["install_requires"], config["options.extras_require"]["daemon"])
    wanted = [line for line in "\n".join(needs).split("\n") if line and not line.startswith("#")]
    say(f"fetching wheels for Python {_PYTHON} on arm64")
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site),
        "--only-binary=:all:", "--implementation=cp", f"--python-version={_PYTHON}",
        *(f"--platform={platform}" for platform in _WHEELS), *wanted, "pytest>=8",
    )  # fmt: skip
    # This is what an editable installation would do (setup.cfg: package_dir).
    (site / "ghesrace").symlink_to(REPO / "tracer" / "ghesrace")
    (site / "ghesrace_probes").symlink_to(REPO / "probes")
    if f"{sys.version_info.major}.{sys.version_info.minor}" == _PYTHON:
        for part in ("usr/lib/python3.11", "usr/lib/python3", _SITE):
            compileall.compile_dir(folder / part, quiet=2, workers=2, stripdir=str(folder))


def make_initrd(folder: Path, release: str, busybox: Path | None = None) -> None:
    """Write the initrd of the kernel *release* into its tree *folder*.

    It has the modules that the kernel needs to see its root, if they are not built in, and
    *busybox*, by default the userland's. Raises HostError if that can't be fetched.
    """
    busybox = busybox or userland() / _BUSYBOX
    with _staging(folder) as stage:
        (stage / "bin").mkdir()
        shutil.copy(busybox, stage / "bin" / "busybox")
        (stage / "modules").mkdir()
        order = []
        for path in _boot_modules(folder, release):
            name = path.name.removesuffix(".xz")
            data = path.read_bytes()
            (stage / "modules" / name).write_bytes(
                lzma.decompress(data) if path.suffix == ".xz" else data
            )
            order.append(name)
        (stage / "modules" / "order").write_text("\n".join(order) + "\n")
        (stage / "init").write_text(_INIT)
        (stage / "init").chmod(0o755)
        names = "\0".join(str(p.relative_to(stage)) for p in sorted(stage.rglob("*")))
        with (folder / "initrd").open("wb") as out:
            subprocess.run(
                ["cpio", "--quiet", "-0", "-o", "-H", "newc", "-R", "0:0"],
                input=names.encode(), cwd=stage, stdout=out, check=True,
            )  # fmt: skip


def _boot_modules(folder: Path, release: str) -> list[Path]:
    """Return the paths of the boot modules and what they depend on, in the order of insertion."""
    found: list[Path] = []
    for name in _BOOT_MODULES:
        said = run("modprobe", "-d", str(folder), "-S", release, "--show-depends", name)
        for line in said.splitlines():
            word, _, path = line.partition(" ")
            if word == "insmod" and Path(path.strip()) not in found:
                found.append(Path(path.strip()))
    return found


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    stage = folder / "initrd.d"
    stage.mkdir()
    try:
        yield stage
    finally:
        shutil.rmtree(stage)
