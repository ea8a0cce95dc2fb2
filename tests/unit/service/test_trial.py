# SPDX-License-Identifier: Apache-2.0
"""What `--check-config` tries before the daemon does."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghesrace.errors import UsageError
from ghesrace.service import trial
from ghesrace.service.trial import check_config
from tests.unit.sources.bpf.test_pack import PACK


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ghesrace.toml"


def written(file: Path, text: str = "", listen: str = "127.0.0.1:0", recorder: str = "") -> Path:
    folder = file.parent / "captures"
    file.write_text(
        f'{text}\n[web]\nlisten = ["{listen}"]\n[recorder]\n{recorder}\n'
        + ("" if "directory" in recorder else f'directory = "{folder}"\n')
    )
    return file


def refused(file: Path) -> str:
    with pytest.raises(UsageError) as caught:
        check_config(file)
    assert caught.value.hint
    return caught.value.what


def test_a_good_one(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, nobody trusts a refusal; or trying leaves something behind."""
    check_config(written(file))
    assert capsys.readouterr().out == f"{file}: good\n"
    assert sorted(file.parent.iterdir()) == [file]


def test_a_missing_file_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a typo in the path is called good."""
    assert "No such file" in refused(file)
    monkeypatch.setattr("ghesrace.service.config.DEFAULT", file)
    with pytest.raises(UsageError, match="No such file"):
        check_config(None)


def test_folders_are_tried(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the first race finds that its evidence can't be kept."""
    (file.parent / "occupied").write_text("")
    for bad in (f"{file.parent}/occupied", f"{file.parent}/occupied/captures"):
        assert "is no folder" in refused(written(file, recorder=f'directory = "{bad}"'))
    textfile = f'[textfile]\ndirectory = "{file.parent}/none"'
    assert "textfile.directory" in refused(written(file, textfile))
    monkeypatch.setattr(trial.os, "access", lambda path, mode: False)
    assert "can't be written" in refused(written(file))


def test_sizes_are_held_against_the_host(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the kernel kills the daemon once its memory is full, hours later."""
    monkeypatch.setattr(trial, "limit_bytes", lambda: 512 << 20)
    check_config(written(file, recorder="memory_mib = 256"))
    assert "memory_mib" in refused(written(file, recorder="memory_mib = 257"))
    check_config(written(file, recorder="enabled = false\nmemory_mib = 257"))
    assert "budget_mib" in refused(written(file, recorder="budget_mib = 1000000"))
    cgroup = file.parent / "unit"
    cgroup.mkdir()
    (cgroup / "memory.max").write_text(f"{64 << 20}\n")
    monkeypatch.setattr(trial, "_CGROUP", cgroup)
    assert "64 MiB" in refused(written(file, recorder="memory_mib = 33"))
    (cgroup / "memory.max").write_text("max\n")
    check_config(written(file, recorder="memory_mib = 33"))


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_addresses_are_tried(
    file: Path, taken: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a daemon waits for a port that another program has."""
    busy = written(file, listen=f"127.0.0.1:{taken}")
    monkeypatch.setattr(trial, "_ours", lambda port: False)
    assert str(taken) in refused(busy)
    monkeypatch.setattr(trial, "_ours", lambda port: port == taken)
    check_config(busy)
    assert "runs already" in capsys.readouterr().out
    assert "can't listen on 192.0.2.1" in refused(written(file, listen="192.0.2.1:0"))
    check_config(written(file, listen="0.0.0.0:0"))
    assert "IPAddressAllow=" in capsys.readouterr().out


def test_whose_port_it_is(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a check beside a running daemon is always refused, or never."""
    assert not trial._ours(taken + 1)
    for command, mine in ((["python3", "-m", "ghesrace", "daemon"], True), (["nginx"], False)):
        monkeypatch.setattr(trial.psutil.Process, "cmdline", lambda self, c=command: c)
        assert trial._ours(taken) is mine


def test_the_web_configuration_is_read(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, TLS that can't work is called good; or what is ignored goes untold."""
    web = file.parent / "web.yml"
    written(file)
    file.write_text(file.read_text().replace("[web]", f'[web]\nconfig_file = "{web}"'))
    web.write_text("tls_server_config: {cert_file: a.crt, key_file: a.key}\n")
    assert "certificates" in refused(file)
    web.write_text("http_server_config: {http2: false}\n")
    check_config(file)
    assert "http_server_config.http2 has no effect" in capsys.readouterr().out


def test_a_pack_is_tried(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a pack that is not taken, or is for another kernel, is found at the next
    start: the host is watched by ftrace, or not at all."""
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr("ghesrace.packs.given", lambda *of: given.append(of) or PACK)
    source = '[source]\npack = "/a.pack"\npack_key = "/a.pem"\npack_sha256 = "00"'
    monkeypatch.setattr(trial.platform, "release", lambda: PACK.entries[0].release)
    check_config(written(file, source))
    assert capsys.readouterr().out == f"{file}: good\n"
    assert given == [(Path("/a.pack"), "00", Path("/a.pem"))]
    monkeypatch.setattr(trial.platform, "release", lambda: "9.9")
    check_config(written(file, source))
    assert "nothing in it is for the Linux that runs now, 9.9" in capsys.readouterr().out
    check_config(written(file, f'{source}\nbackend = "ftrace"'))
    assert "the ftrace backend takes none" in capsys.readouterr().out
    monkeypatch.undo()
    assert "can't read /none" in refused(
        written(file, f'[source]\npack = "/none"\npack_sha256 = "{"0" * 64}"')
    )
    assert "no program pack" in refused(written(file, '[source]\npack_key = "/a.pem"'))
    assert "source.pack: 'a' is relative" in refused(written(file, '[source]\npack = "a"'))


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "good"),
    [
        (0, 0, 0o40700, True),
        (0, 0, 0o40577, False),
        (1000, 0, 0o40770, True),
        (1000, 0, 0o40757, False),
        (1000, 1000, 0o40775, False),
        (1000, 1000, 0o41777, True),
    ],
)
def test_roots_capabilities_do_not_count(uid: int, gid: int, mode: int, good: bool) -> None:
    """If this fails, a folder is called good that the daemon can't write once it runs."""
    assert trial._for_root(os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))) is good
