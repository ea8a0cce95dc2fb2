# SPDX-License-Identifier: Apache-2.0
"""A real systemd in a guest: PID 1 of a PID, mount and cgroup namespace, on the guest's kernel.

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
# virtme-ng covers files that a package's scripts replace by renaming; systemd must not empty /tmp
# at "boot", as the share with the host can be below it; and a host that forbids packages to start
# and stop services (policy-rc.d, as containers have it) has no say here.
_INIT = """
mount --make-rprivate /
for file in /etc/shadow /etc/fstab /etc/sudoers /etc/hosts /var/lib/dpkg/lock \
    /var/lib/dpkg/lock-frontend /var/lib/dpkg/triggers/Lock; do umount $file 2>/dev/null; done
mount -t proc proc /proc
mount -t tmpfs -o mode=755 run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
: >/etc/tmpfiles.d/tmp.conf
[ ! -e /usr/sbin/policy-rc.d ] || mount --bind /bin/true /usr/sbin/policy-rc.d
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=0
"""
_PATIENCE_S = 180.0


class Box:
    """Use as a context manager; *log* gets what systemd says before its journal is up."""

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
            os.kill(self.pid, signal.SIGKILL)  # PID 1 takes its namespace with it
        if self._outer is not None:
            self._outer.kill()
            self._outer.wait()

    def _state(self) -> str:
        assert self._outer is not None
        if not self.pid:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
            self.pid = int((children.read_text().split() or ["0"])[0])
            return ""
        return self.run("systemctl", "is-system-running", timeout=20).stdout.strip()

    def run(self, *command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run *command* where systemd is; its output and exit code, whatever they are."""
        inside = ["nsenter", "-t", str(self.pid), *_NAMESPACES, *command]
        return subprocess.run(
            inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )

    def do(self, *command: str, timeout: float = 120) -> str:
        """Run *command* and return its output. Raises TransientError if it fails."""
        done = self.run(*command, timeout=timeout)
        if done.returncode:
            said = done.stdout + done.stderr
            raise TransientError(f"{' '.join(command)}: exit {done.returncode}: {said}")
        return done.stdout

    def spawn(self, command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start *command* there, in the background; the caller ends it."""
        inside = ["nsenter", "-t", str(self.pid), *_NAMESPACES, *command]
        with log.open("wb") as out:
            return subprocess.Popen(
                inside, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
