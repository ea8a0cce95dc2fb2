# SPDX-License-Identifier: Apache-2.0
"""How the command is started, and what it says where a part of it is not installed."""

from __future__ import annotations

import configparser
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from ghesrace import __version__, cli, compiled
from tests.build.paths import REPO

DAEMON = ("psutil", "prometheus_client", "msgspec", "bcrypt", "yaml")


def without(packages: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where *packages* can't be imported."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
        f"from ghesrace.cli import main; sys.exit(main({list(arguments)!r}))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)


def test_the_package_is_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a lab guest no script is on PATH: `python -m ghesrace` is how all of it is started."""
    monkeypatch.setattr(sys, "argv", ["ghesrace", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("ghesrace", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"ghesrace {__version__} ({compiled.describe()})\n"


def test_all_packages_of_the_daemon_are_known() -> None:
    """A package that setup.cfg's extra got would be missing with a traceback."""
    config = configparser.ConfigParser()
    config.read(REPO / "setup.cfg")
    extra = re.findall(r"^[\w-]+", config["options.extras_require"]["daemon"], flags=re.M)
    imported = {"prometheus-client": "prometheus_client", "pyyaml": "yaml"}
    assert {imported.get(name, name) for name in extra} == set(DAEMON)


@pytest.mark.slow
def test_check_needs_nothing_of_the_daemon() -> None:
    """`pip install .` and `make venv` would not even judge a capture."""
    done = without((*DAEMON, "bcc", "hypothesis", "qemu"), "check", "examples/stock.arrows")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("package", DAEMON)
def test_a_missing_package_of_the_daemon_is_named(package: str) -> None:
    """After `pip install .` the daemon would end with a traceback instead of the remedy."""
    done = without((package,), "daemon", "--check-config", "--config", "systemd/ghesrace.toml")
    assert done.returncode == 3
    assert f"{package!r}" in done.stderr
    assert "'.[daemon]'" in done.stderr


def test_a_missing_package_of_ours_is_an_internal_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of ours would be told as the user's installation."""

    def broken(_: object) -> int:
        raise ModuleNotFoundError("No module named 'ghesrace.gone'", name="ghesrace.gone")

    monkeypatch.setattr("ghesrace.commands.check.check", broken)
    assert cli.main(["check", str(Path(__file__))]) == 4
    assert "internal error" in capsys.readouterr().err
