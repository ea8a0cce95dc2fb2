# SPDX-License-Identifier: Apache-2.0
"""Take the facts from which a plan is resolved out of real kernels, for the unit tests.

    python -m lab.facts --suite bookworm --arch arm64   # Debian's newest kernel of a suite
    python -m lab.facts linux-image-….deb vmlinuz-…     # a package or an image
    python -m lab.facts build/facts/*.tar.gz            # cut again what was taken before
    python -m lab.facts --code linux-image-….deb        # take the code anew, without a boot
    python -m lab.facts --plans                         # write the expected plans again

The image is booted under QEMU with nothing but busybox, and every fact is what the kernel's own
files say. A boot is needed because only then does the kernel decide which functions ftrace can
hook, and part of what kprobes refuse. The code is that of the image, which boot changes in places:
there alternatives are their default, and paravirt's and ftrace's calls are still calls.
RELEASE.json and RELEASE.plan are written to tests/unit/fixtures/kernels.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ghesrace.errors import GhesraceError, HostError, InputError, TransientError
from ghesrace.host.code import Blocks
from ghesrace.host.facts import Facts, read_facts
from ghesrace.plan import Plan, Probe
from ghesrace.planning.mechanism import no_bpf
from ghesrace.planning.resolve import resolve
from lab.kernels import kernelfile
from lab.kernels.corefile import Recording, core
from lab.kernels.debian import Apt, unpack
from lab.kernels.image import Image
from lab.paths import REPO

KERNELS = REPO / "tests/unit/fixtures/kernels"
BUILD = REPO / "build/facts"
ARCHES = {"amd64": "x86_64", "arm64": "arm64"}
_QEMU = {
    "amd64": ("qemu-system-x86_64", "-cpu", "max"),
    "arm64": ("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a57"),
}
_CONSOLE = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
_PACKAGE = {"amd64": "qemu-system-x86", "arm64": "qemu-system-arm"}
_BOOT_S = 300
_SUITE = "bookworm"  # A kernel is booted with the busybox of this suite.
_BEGIN, _END = b"\nFACTS-BEGIN", b"\nFACTS-END"
_FILES = (
    "proc/kallsyms",
    "proc/version",
    "proc/sys/kernel/osrelease",
    "sys/kernel/btf/vmlinux",
    "sys/kernel/debug/kprobes/blacklist",
    f"{kernelfile.TRACEFS}/README",
    f"{kernelfile.TRACEFS}/trace_clock",
    f"{kernelfile.TRACEFS}/available_filter_functions",
)
_INIT = f"""#!/bin/busybox sh
/bin/busybox --install /bin
mkdir -p /dev /proc /sys /facts
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tracefs tracefs /{kernelfile.TRACEFS}
mount -t debugfs debugfs /sys/kernel/debug
exec </dev/console >/dev/console 2>&1
dmesg -n 1
stty raw
for file in {" ".join(_FILES)}; do
  mkdir -p "/facts/${{file%/*}}"
  cat "/$file" > "/facts/$file"
done
grep -r . /{kernelfile.TRACEFS}/events/*/*/id > /facts/{kernelfile.EVENT_IDS}
ls /{kernelfile.TRACEFS} > /facts/{kernelfile.TRACEFS_NAMES}
printf '{_BEGIN.decode().strip()}\\n' | sed 's/^/\\n/'
tar -c -C /facts . | gzip -1 | base64
printf '{_END.decode().strip()}\\n' | sed 's/^/\\n/'
poweroff -f
"""


def take(image: Path, arch: str, busybox: Path) -> bytes:
    """Boot *image* with the static *busybox* of *arch* and return its files as a .tar.gz.

    *arch* is "amd64" or "arm64". Raises HostError if there is no QEMU, and TransientError if the
    guest does not give its files within 5 minutes.

        taken = take(Path("/boot/vmlinuz-6.1.0-9-amd64"), "amd64", Path("/bin/busybox"))
        kernel = cut(taken, "amd64", "linux-image-6.1.0-9-amd64 6.1.27-1")
        print(render(kernel))
    """
    command = _QEMU[arch]
    if not shutil.which(command[0]):
        raise HostError(f"{command[0]} is not installed", f"apt-get install {_PACKAGE[arch]}")
    with tempfile.TemporaryDirectory(prefix="ghesrace-facts-") as folder:
        home = Path(folder)
        root = home / "root"
        (root / "bin").mkdir(parents=True)
        shutil.copy(busybox, root / "bin/busybox")
        (root / "init").write_text(_INIT)
        (root / "init").chmod(0o755)
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        initrd = subprocess.run(
            ["cpio", "--create", "--format=newc", "--quiet"],
            cwd=root,
            input=names.encode(),
            stdout=subprocess.PIPE,
            check=True,
        )
        (home / "initrd").write_bytes(initrd.stdout)
        try:
            subprocess.run(
                [
                    *command,
                    *("-smp", "1", "-m", "1G", "-nodefaults", "-display", "none", "-no-reboot"),
                    *("-serial", f"file:{home / 'console'}"),
                    *("-kernel", str(image), "-initrd", str(home / "initrd")),
                    *("-append", f"console={_CONSOLE[arch]} loglevel=4 panic=-1 nokaslr"),
                ],
                check=True,
                capture_output=True,
                timeout=_BOOT_S,
            )
        except subprocess.TimeoutExpired:
            raise TransientError(_silent(image, home / "console")) from None
        except subprocess.CalledProcessError as error:
            raise TransientError(f"QEMU: {error.stderr.decode(errors='replace')}") from None
        said = (home / "console").read_bytes()
        text, end, _ = said.partition(_BEGIN)[2].partition(_END)
        try:
            if not end:
                raise TransientError(_silent(image, home / "console"))
            return base64.b64decode(b"".join(text.split()), validate=True)
        except binascii.Error as error:
            raise TransientError(f"{image}: something else wrote to the console") from error


def _silent(image: Path, console: Path) -> str:
    last = console.read_text(errors="replace").splitlines()[-8:] if console.exists() else []
    return "\n  | ".join([f"{image} did not give its facts; its console says last:", *last])


def cut(
    taken: bytes, arch: str, package: str, image: bytes = b"", code: dict[int, bytes] | None = None
) -> dict[str, object]:
    """Return the kernel file, ready for `kernelfile.save`, of what `take` returned.

    *package* says where the kernel came from; its code is in *image*, or is *code*, by address,
    as it was taken from there before. Raises InputError if the kernel file leads to other plans
    than the whole files.
    """
    with tempfile.TemporaryDirectory(prefix="ghesrace-facts-") as folder:
        whole, planted = Path(folder, "whole"), Path(folder, "planted")
        with tarfile.open(fileobj=io.BytesIO(taken)) as archive:
            _unpack(archive, whole)
        if image:
            (whole / "proc/sys/kernel/arch").write_text({"arm64": "aarch64"}.get(arch, "x86_64"))
            code = code_of(read_facts(whole), image)
        if code:
            (whole / "proc/kcore").write_bytes(core(code))
        kernel = kernelfile.cut(whole, ARCHES[arch], package)
        kernelfile.plant(kernel, planted)
        shutil.copy(planted / "proc/sys/kernel/arch", whole / "proc/sys/kernel/arch")
        for name in kernel["tracefs"]:
            path = whole / kernelfile.TRACEFS / name
            path.mkdir(exist_ok=True) if name == "instances" else path.touch()
        for name in kernel["tracepoints"]:
            path = Path(kernelfile.TRACEFS, "events", name.replace(":", "/"), "id")
            (whole / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(planted / path, whole / path)
        if plans(read_facts(whole)) != plans(read_facts(planted)):
            raise InputError(f"the cut of {kernel['release']} leads to another plan than the whole")
        return kernel


def plans(facts: Facts) -> tuple[Plan, Plan]:
    """Return the plans of ftrace and BPF. Raises HostError if no slot can be observed."""
    return resolve(facts, backend="ftrace"), resolve(facts, backend="bpf")


def facts_of(kernel: dict[str, object]) -> Facts:
    """Return what `read_facts` finds on a host that runs *kernel* on bare metal without a HEST.

    >>> facts_of(kernelfile.load(KERNELS / "5.10.0-46-amd64.json")).arch
    'x86_64'
    """
    with tempfile.TemporaryDirectory(prefix="ghesrace-facts-") as folder:
        facts = read_facts(kernelfile.plant(kernel, Path(folder)))
    code = Blocks(kernelfile.blocks(kernel)) if kernel["code"] else None
    return replace(facts, tracefs=Path("/", kernelfile.TRACEFS), code=code, code_from="")


def code_of(facts: Facts, image: bytes) -> dict[int, bytes]:
    """Return the code in *image* that planning for *facts* reads, by address.

    Raises InputError if *image* is no kernel's, HostError if no slot can be observed.

        code_of(facts_of(kernel), Path("vmlinuz-6.1.0-9-amd64").read_bytes())
    """
    found = [facts.symbols[name][0] for name in ("_text", "_stext") if name in facts.symbols]
    # arm64's _stext follows a head of SEGMENT_ALIGN, which is 64 KiB.
    begin = found[0].address - (0x10000 if found[0].name == "_stext" else 0) if found else 0
    recording = Recording(Image(image, begin))
    plans(replace(facts, code=recording))
    return recording.blocks


def render(kernel: dict[str, object]) -> str:
    """Return both plans of *kernel* as text: what serves each probe point, by which mechanism."""
    facts = facts_of(kernel)
    head = [f"{kernel['release']} ({kernel['arch']}): {kernel['package']}"]
    if reason := no_bpf(facts):
        head.append(f"bpf is refused: {reason}")
    lines = [*head, "", *_lines(*plans(facts))]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _lines(ftrace: Plan, bpf: Plan) -> Iterator[str]:
    for slot in ftrace.slots:
        at = "at an address not disclosed" if slot.address is None else f"at {slot.address:#x}"
        yield f"slot {slot.name}: index {slot.index}, {at}, lock {slot.lock}"
    row = "{:20} {:24} {:30} {:10} {:15} {}"
    yield ""
    yield row.format("point", "kinds", "symbol", "ftrace", "bpf", "implies")
    sides = [{(p.point, p.kind): p for p in made.probes} for made in (ftrace, bpf)]
    for name, probe in (sides[1] | sides[0]).items():
        if probe.why == "its return":
            continue
        back = next((p.kind for p in ftrace.probes if _is_return(p, probe)), None)
        yield row.format(
            probe.point,
            " ".join(kind for kind in (probe.kind, probe.clear_kind, back) if kind),
            probe.symbol,
            *(_mechanism(side.get(name), probe) for side in sides),
            " ".join(probe.implies),
        )
    yield ""
    for one in ftrace.implications:
        yield f"{one.state}: {one.symbol} {one.what}: {one.where}"
    if (ftrace.unseen, ftrace.not_checked) == (bpf.unseen, bpf.not_checked):
        yield from _blind("unseen", ftrace)
    else:
        yield from _blind("unseen by ftrace", ftrace)
        yield from _blind("unseen by bpf", bpf)
    reasons: dict[str, list[str]] = {}
    for probe in bpf.probes:
        if why := probe.why.partition("; not fentry: ")[2].partition(";")[0]:
            reasons.setdefault(why, []).append(probe.symbol)
    for why, symbols in reasons.items():
        yield f"not fentry: {why}: {', '.join(symbols)}"


def _blind(title: str, plan: Plan) -> Iterator[str]:
    for unseen in plan.unseen:
        slots = "" if len(unseen.slots) == len(plan.slots) else f" of {', '.join(unseen.slots)}"
        patterns = f" [{', '.join(unseen.patterns)}]" if unseen.patterns else ""
        yield f"{title}: {unseen.what}{slots}: {unseen.why}{patterns}"
    for pattern, why in plan.not_checked.items():
        yield f"{title}: pattern {pattern} is not checked: {why}"


def _is_return(other: Probe, probe: Probe) -> bool:
    return other.point == probe.point and other.why == "its return"


def _mechanism(mine: Probe | None, probe: Probe) -> str:
    if mine is None:
        return "-"
    return mine.mechanism if mine.symbol == probe.symbol else f"{mine.mechanism} {mine.symbol}"


def add(
    taken: bytes, arch: str, package: str, image: bytes = b"", code: dict[int, bytes] | None = None
) -> None:
    """Write the kernel file and the expected plans of what `take` returned.

    Raises InputError as `cut` does.
    """
    kernel = cut(taken, arch, package, image, code)
    KERNELS.mkdir(parents=True, exist_ok=True)
    release = str(kernel["release"])
    kernelfile.save(kernel, KERNELS / f"{release}.json")
    write_plan(kernel)
    print(f"{release}: {KERNELS / release}.json, .plan")


def write_plan(kernel: dict[str, object]) -> None:
    """Write the expected plans of *kernel* to RELEASE.plan, over what was there."""
    (KERNELS / f"{kernel['release']}.plan").write_text(render(kernel))


@contextmanager
def _image(path: Path) -> Iterator[Path]:
    """Yield the path of the kernel image in the package at *path*, or *path* if it is no package.

    The image is boot/vmlinuz-RELEASE in a package, and since Linux 7.0
    usr/lib/modules/RELEASE/vmlinuz.
    """
    if path.suffix != ".deb":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ghesrace-facts-") as folder:
        # Only the image is unpacked, as the modules are a hundred megabytes.
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE
        ) as deb:
            assert deb.stdout is not None
            with tarfile.open(fileobj=deb.stdout, mode="r|") as archive:
                _unpack(archive, Path(folder), "vmlinuz")
        found = sorted(Path(folder).rglob("vmlinuz*"))
        if not found:
            raise InputError(
                f"{path} holds no kernel image", "name linux-image-… or linux-binary-…"
            )
        yield found[0]


def _unpack(archive: tarfile.TarFile, root: Path, prefix: str = "") -> None:
    """Write the files whose name begins with *prefix* below *root*, and nothing outside of it."""
    for member in archive:
        path = Path(member.name)
        source = archive.extractfile(member) if member.isfile() else None
        if source and path.name.startswith(prefix) and ".." not in path.parts:
            target = root / path.relative_to(path.anchor)
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file)


def _busybox(arch: str, suite: str) -> Path:
    """Return the path of a static busybox for *arch*, fetched from *suite* if it is not here."""
    unpacked = BUILD / f"busybox-{arch}"
    if not (unpacked / "bin/busybox").exists():
        unpack([_apt(suite, arch).one("busybox-static")], unpacked)
    return unpacked / "bin/busybox"


def _boot(path: Path, arch: str, package: str, suite: str) -> None:
    with _image(path) as image:
        taken = take(image, arch, _busybox(arch, suite))
        data = image.read_bytes()
    kernel = cut(taken, arch, package, data)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / f"{kernel['release']}.tar.gz").write_bytes(taken)
    add(taken, arch, package, data)


def _take_code(path: Path, package: str) -> None:
    """Take the code of a kernel whose file is there anew, from its image at *path*."""
    for place in sorted(KERNELS.glob("*.json")):
        kernel = kernelfile.load(place)
        if str(kernel["package"]).removeprefix("Debian ").replace("_", " ").startswith(package):
            with _image(path) as image:
                found = code_of(facts_of(kernel), image.read_bytes())
            kernel["code"] = {f"{at:016x}": code.hex() for at, code in sorted(found.items())}
            kernelfile.save(kernel, place)
            write_plan(kernel)
            print(f"{place}: {len(found)} blocks of code")
            return
    raise InputError(f"no kernel file is of {package}", "boot it: python -m lab.facts DEB")


def _apt(suite: str, arch: str) -> Apt:
    return Apt(BUILD / f"apt-{suite}-{arch}", suite, arch)


def _package(path: Path) -> str:
    """Return "package version", read from the name of a .deb, or else the name of the file."""
    name = path.name.removesuffix(".deb").replace("%3a", ":")
    return " ".join(name.split("_")[:2])


def _arch(path: Path) -> str:
    found = re.search(r"(amd64|arm64)(\.deb|\.tar\.gz)?$", path.name)
    if not found:
        raise InputError(f"{path}: which architecture?", f"give --arch {' or '.join(ARCHES)}")
    return found.group(1)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse *argv*, take or cut the kernels it names, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.facts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="DEB_OR_IMAGE")
    parser.add_argument("--suite", default="", help="a Debian suite: its newest generic kernel")
    parser.add_argument("--arch", choices=list(ARCHES), help="default: as the file's name ends")
    parser.add_argument("--code", action="store_true", help="of known kernels: take only the code")
    parser.add_argument("--plans", action="store_true", help="write the expected plans again")
    args = parser.parse_args(argv)
    if not (args.files or args.plans or (args.suite and args.arch)):
        parser.error("name a package or an image, or --suite and --arch, or --plans")
    try:
        for path in args.files:
            if args.code:
                _take_code(path, _package(path))
                continue
            arch = args.arch or _arch(path)
            if path.name.endswith(".tar.gz"):
                known = kernelfile.load(KERNELS / f"{path.name.removesuffix('.tar.gz')}.json")
                code = kernelfile.blocks(known)
                add(path.read_bytes(), arch, str(known["package"]), code=code)
            else:
                _boot(path, arch, _package(path), args.suite or _SUITE)
        if args.suite and not args.files:
            deb = _apt(args.suite, args.arch).kernel_image()
            _boot(deb, args.arch, _package(deb), args.suite)
        if args.plans:
            for path in sorted(KERNELS.glob("*.json")):
                write_plan(kernelfile.load(path))
    except (GhesraceError, subprocess.CalledProcessError) as error:
        print(f"lab.facts: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
