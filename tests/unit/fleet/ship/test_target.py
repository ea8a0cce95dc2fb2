# SPDX-License-Identifier: Apache-2.0
"""Files put into stores of each kind, and what is told of those that refuse."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from ghesrace.errors import TransientError, UsageError
from ghesrace.fleet.ship.target import Target
from ghesrace.fleet.stores import fetched, items
from tests.build.servers import Sshd, sshd, web

# The clients leave their connections to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SECRET = "hunter2-secret"


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()  # so that what they left open is told here, where it is ignored


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "a.arrows"
    path.write_bytes(b"bytes" * 1000)
    return path


def put(capture: Path, url: str, options: Any = None, credentials: Any = None) -> None:
    with Target(url, options or {}, credentials or {}) as target:
        target.put(capture, "b.arrows")
        target.put(capture, "c.arrows")


def test_a_folder_has_it_whole(tmp_path: Path, capture: Path) -> None:
    """If this fails, whoever reads the folder meanwhile finds half of a capture."""
    place = tmp_path / "store/host"
    put(capture, place.as_uri())
    put(capture, str(place))  # The same again changes nothing.
    assert {path.name for path in place.iterdir()} == {"b.arrows", "c.arrows"}
    assert (place / "b.arrows").read_bytes() == capture.read_bytes()


def test_a_folder_that_can_not_be_written_is_tried_again(tmp_path: Path, capture: Path) -> None:
    """If this fails, a mount that is gone ends the service for good."""
    (tmp_path / "file").touch()
    with pytest.raises(TransientError, match=r"can't put b\.arrows"):
        put(capture, str(tmp_path / "file/store"))


def test_what_the_store_cut_is_not_confirmed(
    tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a full store costs captures: the copy here is removed."""
    from fsspec.implementations.local import LocalFileSystem

    def cut(self: object, source: str, place: str, **_: object) -> None:
        Path(place).write_bytes(Path(source).read_bytes()[:7])

    monkeypatch.setattr(LocalFileSystem, "put_file", cut)
    with pytest.raises(TransientError, match="the store has 7 bytes of 5,000"):
        put(capture, str(tmp_path / "store"))
    assert not (tmp_path / "store/b.arrows").exists()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def test_an_sshd_has_it_whole(server: Sshd, tmp_path: Path, capture: Path) -> None:
    """If this fails, nothing can be sent by sftp, or `survey` can't read what was sent."""
    place = tmp_path / "store/host"
    options = {"known_hosts": str(server.known_hosts), "username": "root"}
    put(capture, f"{server.url}{place}", options, {"private_key": server.private_key})
    assert {path.name for path in place.iterdir()} == {"b.arrows", "c.arrows"}
    assert (place / "b.arrows").read_bytes() == capture.read_bytes()


def test_an_sshd_that_is_not_known_gets_nothing(
    server: Sshd, tmp_path: Path, capture: Path
) -> None:
    """If this fails, whoever is in between gets kernel addresses."""
    place = tmp_path / "store"
    with pytest.raises(TransientError, match="not found in known_hosts"):
        put(capture, f"{server.url}{place}", {}, {"private_key": server.private_key})
    assert not place.exists()


def test_a_store_behind_sftp_is_surveyed(
    server: Sshd, tmp_path: Path, capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, URLs of captures behind sftp lack their host."""
    from fsspec.config import conf

    options = {"known_hosts": str(server.known_hosts), "private_key": server.private_key}
    monkeypatch.setitem(conf, "sftp", {**options, "username": "root"})
    [item] = items(f"{server.url}{capture.parent}")
    assert item.url == f"{server.url}{capture}"
    with fetched(item) as spool:
        assert spool.path.read_bytes() == capture.read_bytes()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.mark.slow
def test_a_bucket_has_it(s3: str, capture: Path) -> None:
    """If this fails, nothing can be sent to s3, or `survey` can't read it there."""
    import s3fs

    keys = {"key": "AKIAEXAMPLE", "secret": SECRET}
    system = s3fs.S3FileSystem(endpoint_url=s3, **keys, skip_instance_cache=True)
    system.mkdir("evidence")
    put(capture, "s3://evidence/host", {"endpoint_url": s3}, keys)
    assert system.cat("evidence/host/b.arrows") == capture.read_bytes()
    assert len(system.ls("evidence/host", refresh=True)) == 2
    with pytest.raises(TransientError, match=r"can't put b\.arrows to s3://nowhere") as raised:
        put(capture, "s3://nowhere/host", {"endpoint_url": s3}, keys)
    assert SECRET not in str(raised.value)


@pytest.mark.slow
def test_a_web_server_has_it(capture: Path) -> None:
    """If this fails, PUT sends nothing, or without the password."""
    token = {"client_kwargs": {"headers": {"Authorization": f"Bearer {SECRET}"}}}
    with web() as server:
        put(capture, f"{server.url}/host", {}, token)
        assert server.put == dict.fromkeys(
            ("/host/b.arrows", "/host/c.arrows"), capture.read_bytes()
        )
        assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 404, 409, 500, 503])
def test_a_web_server_that_refuses_is_tried_again(capture: Path, status: int) -> None:
    """If this fails, an answer that is no success counts as one, and the capture is removed."""
    token = {"client_kwargs": {"headers": {"Authorization": f"Bearer {SECRET}"}}}
    with web() as server:
        server.fail = [status]
        with pytest.raises(TransientError, match=r"can't put b\.arrows") as raised:
            put(capture, server.url, {}, token)
        assert SECRET not in str(raised.value)
        assert raised.value.__cause__ is None
        assert server.put == {}


@pytest.mark.slow
def test_a_store_that_is_away_is_tried_again(capture: Path) -> None:
    """If this fails, a store that is away ends the service for good."""
    with web() as server:
        url = server.url
    with pytest.raises(TransientError, match="can't put"):
        put(capture, url)


def test_a_secret_that_a_client_tells_is_taken_out(
    capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a client's message brings a password into the journal."""

    def tell(*_: object, **__: object) -> None:
        raise RuntimeError(f"401: Bearer {SECRET} was refused, so was {SECRET}")

    monkeypatch.setattr(fsspec, "url_to_fs", tell)
    token = {"client_kwargs": {"headers": {"Authorization": f"Bearer {SECRET}"}}}
    with pytest.raises(TransientError) as raised:
        put(capture, "http://127.0.0.1:1", {}, token)
    assert "401: *** was refused, so was ***" in str(raised.value)


@pytest.mark.slow
def test_a_store_that_can_not_be_is_told(capture: Path) -> None:
    """If this fails, a mistyped URL is tried for ever."""
    with pytest.raises(UsageError, match="can't open the store nosuch://a"):
        put(capture, "nosuch://a")
