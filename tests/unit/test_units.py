# SPDX-License-Identifier: Apache-2.0
"""The systemd units: verified by systemd, hardened, and each point that is left explained."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.build.paths import REPO

SYSTEMD = REPO / "systemd"
UNITS = ["ghesrace.service", "ghesrace-capture@.service", "ghesrace-ship.service"]

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="needs systemd-analyze"
)


def unit(name: str, folder: Path) -> Path:
    """The unit as it is installed, but for a command that exists here."""
    path = folder / name
    path.write_text((SYSTEMD / name).read_text().replace("@bindir@/ghesrace", "/bin/true"))
    return path


def exposed(path: Path) -> tuple[float, set[str]]:
    """Exposure, and the settings that `systemd-analyze security` still counts."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", path],
        capture_output=True,
        text=True,
    )
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert score, done.stdout + done.stderr
    return float(score[1]), set(re.findall(r"^✗ (\w+)", done.stdout, re.M))


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_systemd_verifies_the_unit(name: str, tmp_path: Path) -> None:
    """If this fails, systemd ignores a setting, which is a hole, or refuses the unit."""
    path = unit(name, tmp_path)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "ghesrace" in line]
    assert (done.returncode, ours) == (0, [])


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_exposure_is_small_and_what_is_left_is_explained(name: str, tmp_path: Path) -> None:
    """If this fails, the unit can do what it need not, or nobody said why it must."""
    score, left = exposed(unit(name, tmp_path))
    assert score < 3.0
    explained = (SYSTEMD / "ghesrace.service").read_text() + (SYSTEMD / name).read_text()
    comments = "\n".join(line for line in explained.splitlines() if line.startswith("#"))
    assert {setting for setting in left if f"{setting}=" not in comments} == set()


@needs_systemd
@pytest.mark.parametrize("name", ["ghesrace-ship.path", "ghesrace-ship.timer"])
def test_systemd_verifies_what_starts_ship(name: str, tmp_path: Path) -> None:
    """If this fails, captures wait for ever."""
    unit("ghesrace-ship.service", tmp_path)
    path = unit(name, tmp_path)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "ghesrace" in line]
    assert (done.returncode, ours) == (0, [])


def test_ship_is_started_again_while_the_store_is_away() -> None:
    """If this fails, systemd gives up after five tries, or starts what can't work again."""
    from ghesrace.commands.ship import DEFAULT_CONFIG, EXIT_AGAIN
    from ghesrace.errors import EXIT_INCONCLUSIVE, EXIT_USAGE
    from ghesrace.fleet.ship.config import CREDENTIAL, Settings

    text = (SYSTEMD / "ghesrace-ship.service").read_text()
    assert f"RestartPreventExitStatus={EXIT_USAGE} {EXIT_INCONCLUSIVE}\n" in text
    assert "Restart=on-failure\n" in text
    assert "StartLimitIntervalSec=0\n" in text
    assert f"({EXIT_AGAIN})" in text
    assert f"LoadCredential={CREDENTIAL}:/etc/ghesrace/ship.credentials\n" in text
    assert f"ConditionPathExists={DEFAULT_CONFIG}\n" in text
    assert "f /etc/ghesrace/ship.credentials 0600 root root" in (
        (SYSTEMD / "ghesrace.tmpfiles").read_text()
    )
    watched = (SYSTEMD / "ghesrace-ship.path").read_text()
    assert f"PathChanged={Settings('x').captures}\n" in watched
    # Nothing of the environment holds what a credential is for.
    assert "Environment=PYTHONDONTWRITEBYTECODE=1\n" in text
    assert "EnvironmentFile" not in text


def test_all_units_are_hardened_alike() -> None:
    """If this fails, the one-shot capture is the weaker door."""
    wanted = ("NoNewPrivileges", "ProtectSystem", "SystemCallFilter", "MemoryDenyWriteExecute")
    for name in UNITS:
        text = (SYSTEMD / name).read_text()
        for setting in wanted:
            assert f"\n{setting}=" in text, (name, setting)


def test_restart_policy_knows_the_exit_codes() -> None:
    """If this fails, systemd restarts what can't work, or leaves down what would."""
    from ghesrace.errors import EXIT_INCONCLUSIVE, EXIT_USAGE
    from ghesrace.service.daemon import EXIT_AGAIN, LISTEN_S

    text = (SYSTEMD / "ghesrace.service").read_text()
    assert f"RestartPreventExitStatus={EXIT_USAGE} {EXIT_INCONCLUSIVE}\n" in text
    assert "Restart=on-failure" in text
    assert str(EXIT_AGAIN) in text
    # Four pauses lie between five starts that can't listen.
    burst, interval = (
        int(text.split(f"\n{name}=")[1].split()[0])
        for name in ("StartLimitBurst", "StartLimitIntervalSec")
    )
    assert (burst - 1) * LISTEN_S > interval
    assert f"{LISTEN_S:.0f} s in each start" in text
