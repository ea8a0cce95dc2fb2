# SPDX-License-Identifier: Apache-2.0
"""`ghesrace ship` as systemd runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ghesrace import cli
from ghesrace.commands import ship as module
from ghesrace.fleet.ship import run
from tests.build.paths import EXAMPLES
from tests.build.servers import web

SECRET = "hunter2-secret"

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def config(tmp_path: Path, to: str, more: str = "") -> Path:
    captures = tmp_path / "captures"
    captures.mkdir(exist_ok=True)
    path = captures / "a.arrows"
    path.write_bytes((EXAMPLES / "stock.arrows").read_bytes())
    os.utime(path, (1, 1))
    text = f'to = "{to}"\ncaptures = "{captures}"\nstate = "{tmp_path / "state"}"\n{more}'
    (tmp_path / "ship.toml").write_text(text)
    return tmp_path / "ship.toml"


def ship(*arguments: object) -> int:
    return cli.main(["ship", *map(str, arguments)])


def test_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """systemd starts it again, or leaves it for somebody who looks, by these."""
    monkeypatch.setattr(run, "PATIENCE_S", 0.0)
    (tmp_path / "file").touch()
    assert ship("--config", config(tmp_path, f"{tmp_path}/file/x")) == module.EXIT_AGAIN
    assert "can't put a-" in capsys.readouterr().err
    assert ship("--config", config(tmp_path, f"{tmp_path}/store"), "--check-config") == 0
    assert not (tmp_path / "store").exists()
    assert ship("--config", config(tmp_path, f"{tmp_path}/store")) == 0
    assert len(list((tmp_path / "store").rglob("*.arrows"))) == 1
    assert ship("--config", tmp_path / "none.toml") == 2
    assert ship("--config", config(tmp_path, "nosuch://a", "budget = 0")) == 2
    (tmp_path / "captures/b.arrows").write_bytes(b"large")
    os.utime(tmp_path / "captures/b.arrows", (2, 2))
    small = config(tmp_path, f"{tmp_path}/store", "budget = 4")
    assert ship("--config", small) == 3
    assert "dropped b-" in capsys.readouterr().err


@pytest.mark.slow
def test_credentials_are_in_no_output_and_no_argument(tmp_path: Path) -> None:
    """If this fails, who reads the journal or the list of processes can write the store."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "ghesrace-ship").write_text(
        f'[client_kwargs.headers]\nAuthorization = "Bearer {SECRET}"\n'
    )
    with web() as server:
        server.fail = [401]
        path = config(tmp_path, server.url)
        command = [sys.executable, "-m", "ghesrace", "ship", "--config", str(path)]
        environment = {**os.environ, "CREDENTIALS_DIRECTORY": str(folder)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {SECRET}"}
    assert "401" in done.stderr
    assert "sent a-" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    kept = [file.read_bytes() for file in (tmp_path / "state").rglob("*") if file.is_file()]
    assert not any(SECRET.encode() in data for data in kept)


def test_it_loads_no_dask(tmp_path: Path) -> None:
    """If this fails, a host that only sends needs what the cluster needs."""
    script = (
        "import sys, ghesrace.cli\n"
        f"code = ghesrace.cli.main(['ship', '--config', '{config(tmp_path, '/x')}', "
        "'--check-config'])\n"
        "assert not {'dask', 'distributed', 'duckdb'} & set(sys.modules), code\n"
        "sys.exit(code)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
