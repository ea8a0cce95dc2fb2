# SPDX-License-Identifier: Apache-2.0
"""Run a real systemd in a guest, as PID 1 of a PID, mount and cgroup namespace of its own.

The guest's own PID 1 is virtme-ng's. systemd gets a fresh /proc and /run, and the guest's /sys,
/dev and network; the overlays that the guest has over /usr, /etc and /var are its disk.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ghesrace.errors import TransientError

_NAMESPACES = ("-m", "-p", "-C")
# virtme-ng mounts over some files; these mounts are undone, as a package's scripts replace such
# files by renaming others. systemd must not empty /tmp at its start, as the share with the host
# may be below it. A host that forbids packages to start services (policy-rc.d, as in containers)
# has no say here. man-db does not read the whole host's pages again because of a package's, which
# takes minutes under emulation. Credentials reach a service by mounts that are passed on (rshared),
# which systemd takes for granted in a container.
_INIT = """
mount --make-rprivate /
for file in /etc/shadow /etc/fstab /etc/sudoers /etc/hosts /var/lib/dpkg/lock \
    /var/lib/dpkg/lock-frontend /var/lib/dpkg/triggers/Lock; do umount $file 2>/dev/null; done
mount -t proc proc /proc
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
: >/etc/tmpfiles.d/tmp.conf
rm -f /var/lib/man-db/auto-update
[ ! -e /usr/sbin/policy-rc.d ] || mount --bind /bin/true /usr/sbin/policy-rc.d
mount --make-rshared /
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=0
"""
_PATIENCE_S = 600.0


class Box:
    """This context manager runs systemd; *log* gets what it says before its journal is up.

        with Box(share / "systemd.log") as box:
            print(box.do("systemctl", "status", "ghesrace"))

    Entering it raises TransientError if systemd is not up within 10 minutes. `pid` is systemd's in
    the guest's own namespace.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._outer: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def __enter__(self) -> Box:
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(
                ["unshare", "--fork", "--pid", "--mount", "--cgroup", "--kill-child",
                 "sh", "-c", _INIT],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        end = time.monotonic() + _PATIENCE_S
        while self._state() not in ("running", "degraded"):
            if time.monotonic() > end or self._outer.poll() is not None:
                self.__exit__()
                raise TransientError(f"systemd did not come up: see {self._log}")
            time.sleep(1)
        return self

    def __exit__(self, *_: object) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)  # The whole namespace ends with its PID 1.
        if self._outer is not None:
            self._outer.kill()
            self._outer.wait()

    def _state(self) -> str:
        assert self._outer is not None
        if not self.pid:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
            self.pid = int((children.read_text().split() or ["0"])[0])
            return ""
        try:
            return self.run("systemctl", "is-system-running", timeout=20).stdout.strip()
        except subprocess.TimeoutExpired:  # Whoever emulates has other things to do as well.
            return ""

    def run(self, *command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run *command* where systemd is; return its output and exit code, whatever they are.

        Raises subprocess.TimeoutExpired after *timeout* seconds.
        """
        inside = ["nsenter", "-t", str(self.pid), *_NAMESPACES, *command]
        return subprocess.run(
            inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )

    def do(self, *command: str, timeout: float = 120) -> str:
        """Run *command* there and return what it prints. Raises TransientError if it fails."""
        done = self.run(*command, timeout=timeout)
        if done.returncode:
            said = done.stdout + done.stderr
            raise TransientError(f"{' '.join(command)}: exit {done.returncode}: {said}")
        return done.stdout

    def spawn(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start *command* there in the background; *log* gets its output, the caller ends it."""
        inside = ["nsenter", "-t", str(self.pid), *_NAMESPACES, *command]
        with log.open("wb") as out:
            return subprocess.Popen(
                inside, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
