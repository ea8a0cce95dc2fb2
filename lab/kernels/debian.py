# SPDX-License-Identifier: Apache-2.0
"""Fetch and unpack packages of another architecture or suite beside this host's own.

apt works on a folder of its own here, with its own lists, its own archives and an empty list of
installed packages. Only the addresses of the mirrors come from the host, and nothing of the
host's is changed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from ghesrace.errors import HostError

_TAIL_LINES = 15
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_CONFIG = """\
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Binary::apt-get::APT::Keep-Downloaded-Packages "true";
DPkg::Post-Invoke {{ }};
APT::Update::Post-Invoke {{ }};
Dir::State "{home}/state";
Dir::State::status "{home}/status";
Dir::Bin::dpkg "/bin/false";
Dir::Cache "{home}/cache";
Dir::Etc::sourcelist "{home}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"""
# Debian merged /usr: these are links into it, and a package's ./lib must land behind the link.
_MERGED = ("bin", "sbin", "lib")


def mirrors() -> tuple[str, str]:
    """Return the addresses of the archive and of its security updates, as this host's apt has them.

    Raises HostError where apt knows no Debian mirror.
    """
    listed = _out(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)",
         "Created-By: Packages", "Origin: Debian"]
    )  # fmt: skip
    found = [line.split() for line in listed.splitlines()]
    plain = [uri for uri, name in found if "-" not in name]
    security = [uri for uri, name in found if name.endswith("-security")]
    if not plain:
        raise HostError("this host's apt knows no Debian mirror", "apt-get update")
    return plain[0], (security or plain)[0]


class Apt:
    """This apt has the packages of *suite* for *arch*; *suite* is a code name or NAME-backports.

    Its state is kept in *home* (a folder), which may be deleted at any time.

        apt = Apt(Path("build/apt"), "trixie", "arm64")
        unpack(apt.fetch(["busybox-static"]), Path("build/tree"))
    """

    def __init__(self, home: Path, suite: str, arch: str = "arm64") -> None:
        self._home = home.resolve()
        self._suite = suite
        self._arch = arch

    def _prepare(self, with_security: bool = True) -> None:
        archive, security = mirrors()
        base = self._suite.removesuffix("-backports")
        lines = [(archive, base), (archive, f"{base}-updates")]
        if with_security:
            lines.append((security, f"{base}-security"))
        if base != self._suite:
            lines.append((archive, self._suite))
        if base == "sid":
            del lines[1:]
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self._home / folder).mkdir(parents=True, exist_ok=True)
        (self._home / "status").touch()
        (self._home / "sources.list").write_text(
            "".join(f"deb [signed-by={_KEYRING}] {uri} {name} main\n" for uri, name in lines)
        )
        (self._home / "apt.conf").write_text(_CONFIG.format(home=self._home, arch=self._arch))
        self._apt("update")

    def _apt(self, *arguments: str) -> str:
        return _out(["apt-get", "-q", "-y", *arguments], self._environment())

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self._home / "apt.conf"), "LC_ALL": "C"}

    def fetch(self, packages: Iterable[str], *, security: bool = True) -> list[Path]:
        """Download *packages* and all that they depend on; return the paths of the .deb files.

        Without *security* they are those of the suite's release. Raises HostError if apt fails.
        """
        self._prepare(security)
        archives = self._home / "cache/archives"
        for old in archives.glob("*.deb"):
            old.unlink()
        target = ["-t", self._suite] if self._suite.endswith("-backports") else []
        self._apt(*target, "--download-only", "install", *packages)
        return sorted(archives.glob("*.deb"))

    def kernel_image(self) -> Path:
        """Download the package of the newest generic kernel's image, and nothing else.

        A mirror may list a version whose file it no longer has; the next older one is taken then.
        Returns the path of the .deb. Raises HostError if there is none.
        """
        self._prepare()
        problem = HostError(f"{self._suite} has no kernel for {self._arch}")
        for package in self._kernels():
            try:
                return self._download(package)
            except HostError as error:
                problem = error
        raise problem

    def kernel_source(self) -> Path:
        """Download the package with the source of the suite's newest kernel, and nothing else.

        It is linux-source-VERSION, on which linux-source depends, and holds a tarball with Debian's
        patches applied. Returns the path of the .deb. Raises HostError if there is none.
        """
        self._prepare()
        problem = HostError(f"{self._suite} has no kernel source")
        for version in self._versions("linux-source"):
            try:
                return self._download(self._dependency("linux-source", version, "source"))
            except HostError as error:
                problem = error
        raise problem

    def one(self, package: str) -> Path:
        """Download *package* without what it depends on and return the path of the .deb.

        Raises HostError if apt fails.
        """
        self._prepare()
        return self._download(package)

    def _download(self, package: str) -> Path:
        into = self._home / "debs"
        into.mkdir(exist_ok=True)
        for old in into.glob(f"{package.partition('=')[0]}_*.deb"):
            old.unlink()
        _out(["apt-get", "-q", "download", package], self._environment(), cwd=into)
        return next(into.glob(f"{package.partition('=')[0]}_*.deb"))

    def _kernels(self) -> Iterator[str]:
        """Yield `package=version` of each kernel image that the mirror lists, the newest first.

        linux-image-ARCH depends on linux-image-RELEASE, which since Linux 7.0 depends on
        linux-binary-RELEASE for the image itself.
        """
        meta = f"linux-image-{self._arch}"
        for version in self._versions(meta):
            image = self._dependency(meta, version, "image")
            yield self._dependency(image.partition("=")[0], version, "binary")

    def _versions(self, package: str) -> Iterable[str]:
        """Return the versions of *package* that the mirror lists, the newest first."""
        listed = _out(["apt-cache", "madison", package], self._environment())
        return dict.fromkeys(line.split("|")[1].strip() for line in listed.splitlines())

    def _dependency(self, package: str, version: str, kind: str) -> str:
        """Return `package=version` of linux-KIND-NUMBER, on which *package* depends; of *package*
        itself if it depends on none."""
        shown = _out(["apt-cache", "show", f"{package}={version}"], self._environment())
        depends = re.search(rf"^Depends:.*?\b(linux-{kind}-\d\S*)", shown, re.MULTILINE)
        return f"{depends.group(1).rstrip(',') if depends else package}={version}"


def unpack(archives: Iterable[Path], tree: Path) -> None:
    """Unpack *archives* (.deb) into the folder *tree* without running any of their scripts.

    Raises HostError if one of them does not unpack.
    """
    for name in _MERGED:
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (tree / name).is_symlink():
            (tree / name).symlink_to(f"usr/{name}")
    for archive in archives:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE
        ) as tar:
            _out(
                ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(tree)],
                stdin=tar.stdout,
            )
        if tar.returncode:
            raise HostError(f"{archive} does not unpack")


def _out(
    command: list[str],
    environment: dict[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    cwd: Path | None = None,
) -> str:
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=stdin,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        raise HostError(f"{command[0]} is not installed: this needs a Debian host") from None
    except subprocess.CalledProcessError as error:
        tail = "\n".join(f"  | {line}" for line in error.stderr.splitlines()[-_TAIL_LINES:])
        raise HostError(f"{' '.join(command[:3])} failed:\n{tail}") from None
    return done.stdout
