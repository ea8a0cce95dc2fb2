# SPDX-License-Identifier: Apache-2.0
"""HTTP: pages, access, TLS, and clients that behave badly."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ghesrace.errors import TransientError, UsageError
from ghesrace.render.live import Told
from ghesrace.service.health import Health, HealthState
from ghesrace.service.metrics import server as module
from ghesrace.service.metrics.access import WebConfig
from ghesrace.service.metrics.families import publish
from ghesrace.service.metrics.server import Bulletin, Page, WebServer
from ghesrace.service.watch import Watch
from tests.build.judging import judge
from tests.build.trace import A, bounce, plan

pytestmark = pytest.mark.slow

Start = Callable[..., tuple[Bulletin, int]]
FOUND = tuple(judge(plan(), bounce().stream()).findings)
NAME = "ghesrace-20260101T000000Z-stale-1.arrows"


@pytest.fixture
def start() -> Iterator[Start]:
    servers = []

    def make(
        config: str = "", connections: int = 64, runbooks: str = "", captures: str = ""
    ) -> tuple[Bulletin, int]:
        board = Bulletin(lambda: (True, "fine"), lambda: (False, "attaching"), runbooks)
        shown = publish(Watch(plan(), 3600), Health(HealthState.WATCHING, "ftrace"))
        board.page = Page(shown, Told(facts=(("Kernel", "clean & <quiet>"),), findings=FOUND))
        board.captures.directory = captures
        server = WebServer([("127.0.0.1", 0)], board, WebConfig(config), connections)
        servers.append(server)
        server.serve()
        return board, server.ports[0]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def port(start: Start) -> int:
    """Of one server for all examples: starting and ending one takes a third of a second."""
    return start()[1]


def get(port: int, path: str, **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.getheader("Content-Type") or "", body


def test_pages(start: Start, tmp_path: Path) -> None:
    """If this fails, a scrape, a probe, or a person who looks gets nothing."""
    (tmp_path / "race-observed.md").write_text("# what to do")
    board, port = start(runbooks=str(tmp_path))
    status, kind, body = get(port, "/metrics")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert "ghesrace_watching 1.0" in body
    for name in ("cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "open_fds"):
        assert f"\nprocess_{name} " in body, name
    status, kind, body = get(port, "/metrics", Accept="application/openmetrics-text")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")
    assert get(port, "/-/healthy")[::2] == (200, "fine\n")
    assert get(port, "/-/ready")[::2] == (503, "attaching\n")
    status, kind, body = get(port, "/")
    assert "clean &amp; &lt;quiet&gt;" in body
    assert 'href="/runbooks/race-observed"' in body
    assert get(port, "/runbooks/race-observed")[2] == "# what to do"
    for bad in ("/nope", "/runbooks/none", "/runbooks/..%2f..%2fetc%2fpasswd", "/runbooks/"):
        assert get(port, bad)[0] == 404
    assert board.codes["200"] == 5


def test_only_get_and_head(start: Start) -> None:
    """If this fails, a method that we never meant does something."""
    _, port = start()
    for method, code in (("HEAD", 200), ("POST", 501), ("DELETE", 501)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request(method, "/metrics")
        answer = connection.getresponse()
        assert answer.status == code
        assert method != "HEAD" or answer.read() == b""
        connection.close()


def test_fifty_clients_at_once(start: Start) -> None:
    """If this fails, a second Prometheus costs scrapes."""
    board, port = start()
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda: codes.append(get(port, "/metrics")[0])) for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 50
    assert len(board.page.encoded) == 1


def test_too_many_connections_get_503_and_nobody_waits(start: Start) -> None:
    """If this fails, idle clients keep a scraper out, or threads grow without end."""
    board, port = start(connections=2)
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
    time.sleep(0.2)
    assert get(port, "/metrics")[0] == 503
    for client in idle:
        client.close()
    time.sleep(0.2)
    assert get(port, "/metrics")[0] == 200
    assert board.codes["503"] == 1


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    junk=st.binary(max_size=300)
    | st.sampled_from(
        [
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            b"GET /" + b"a" * 70_000,
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
            b"GET //[ HTTP/1.0\r\n\r\n",
        ]
    )
)
def test_malformed_requests_harm_nobody(port: int, junk: bytes) -> None:
    """If this fails, a port scanner takes the metrics down."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(junk)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(10)
        try:
            while client.recv(4096):
                pass
        except ConnectionError:
            pass
    assert get(port, "/-/healthy")[0] == 200


def test_address_in_use_may_be_free_later(start: Start) -> None:
    """If this fails, a second daemon ends in a traceback."""
    board, port = start()
    with pytest.raises(TransientError, match=str(port)):
        WebServer([("127.0.0.1", port)], board, WebConfig(""), 1)


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def basic(name: str, password: str) -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


def test_basic_auth(start: Start, tmp_path: Path) -> None:
    """If this fails, a password opens nothing, or anything does."""
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  eve: {hashed('right')}\n")
    _, port = start(str(config))
    assert get(port, "/metrics")[0] == 401
    for header in (basic("eve", "wrong"), basic("bob", "right"), "Basic %%", "Bearer x", "Basic"):
        assert get(port, "/metrics", Authorization=header)[0] == 401
    for _ in range(2):
        assert get(port, "/metrics", Authorization=basic("eve", "right"))[0] == 200
    assert get(port, "/", Authorization=basic("eve", "wrong"))[0] == 401
    assert get(port, "/-/healthy")[0] == 200
    config.write_text(f"basic_auth_users:\n  eve: {hashed('new')} \n")
    assert get(port, "/metrics", Authorization=basic("eve", "right"))[0] == 401
    assert get(port, "/metrics", Authorization=basic("eve", "new"))[0] == 200
    config.write_text("basic_auth: {}\n")  # broken: the last good one holds
    assert get(port, "/metrics")[0] == 401
    assert get(port, "/metrics", Authorization=basic("eve", "new"))[0] == 200


@pytest.fixture
def kept(tmp_path: Path) -> str:
    folder = tmp_path / "captures"
    folder.mkdir()
    (folder / NAME).write_bytes(b"evidence")
    (tmp_path / "secret").write_bytes(b"root's")
    return str(folder)


def test_captures_are_not_for_everybody(start: Start, kept: str, tmp_path: Path) -> None:
    """If this fails, whoever reaches the port learns kernel and physical addresses."""
    board, port = start(captures=kept)
    for path in ("/captures", "/captures/", f"/captures/{NAME}", "/captures/none"):
        status, _, body = get(port, path)
        assert status == 403
        assert "basic_auth_users" in body
    page = get(port, "/")[2]
    assert NAME not in page
    assert "basic_auth_users" in page
    assert f"{A:#x}" not in page
    assert board.codes["403"] == 4


def test_captures_are_for_who_has_a_password(start: Start, kept: str, tmp_path: Path) -> None:
    """If this fails, evidence can't be fetched, or other files can, or without the password."""
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  eve: {hashed('right')}\n")
    _, port = start(str(config), captures=kept)
    known = {"Authorization": basic("eve", "right")}
    assert get(port, "/captures")[0] == get(port, f"/captures/{NAME}")[0] == 401
    assert get(port, "/captures", **known)[2] == f"{NAME}\n"
    status, kind, body = get(port, f"/captures/{NAME}", **known)
    assert (status, kind, body) == (200, "application/vnd.apache.arrow.stream", "evidence")
    for bad in ("..%2fsecret", "%2e%2e/secret", f"{NAME}%00", "none", f"..%2fcaptures%2f{NAME}"):
        assert get(port, f"/captures/{bad}", **known)[0] == 404
    page = get(port, "/", **known)[2]
    assert f'href="/captures/{NAME}"' in page
    assert f"{A:#x}" in page


def test_a_download_is_alone_and_bounded(
    start: Start, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, downloads take the host from what it is for."""
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  eve: {hashed('right')}\n")
    board, port = start(str(config), captures=kept)
    known = {"Authorization": basic("eve", "right")}
    with board.captures.opened(NAME):
        assert get(port, f"/captures/{NAME}", **known)[0] == 429
    monkeypatch.setattr("ghesrace.service.metrics.captures.MOST_BYTES", 3)
    assert get(port, f"/captures/{NAME}", **known)[0] == 413
    assert (board.codes["429"], board.codes["413"]) == (1, 1)


def test_pages_come_with_a_policy(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, what slipped into a page runs; or a host without Jinja2 has no page."""
    _, port = start()
    for without in (False, True):
        if without:
            monkeypatch.setitem(sys.modules, "ghesrace.render.html.live", None)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics" if without else "/")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        policy = answer.getheader("Content-Security-Policy") or ""
        assert policy.startswith("default-src 'none'")
        assert "script-src" not in policy
        assert ("style-src 'sha256-" in policy) != without
    assert "Jinja2" in module.drawn(Told())
    assert module._policy() == module._NOTHING


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, and one for a client, each its own authority."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("server", "client", "other"):
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                f"/CN={name}",
                "-addext",
                "subjectAltName=DNS:localhost",
                "-keyout",
                folder / f"{name}.key",
                "-out",
                folder / f"{name}.crt",
            ],
            check=True,
            capture_output=True,
        )
    return folder


def get_tls(port: int, folder: Path, client: str | None = None) -> int:
    context = ssl.create_default_context(cafile=str(folder / "server.crt"))
    if client:
        context.load_cert_chain(folder / f"{client}.crt", folder / f"{client}.key")
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().status
    finally:
        connection.close()


def test_tls_and_client_certificates(start: Start, certificates: Path) -> None:
    """If this fails, metrics travel in the clear, or anybody reads them."""
    config = certificates / "web.yml"
    config.write_text(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
        "  min_version: TLS13\n"
    )
    _, port = start(str(config))
    assert get_tls(port, certificates) == 200
    with pytest.raises((http.client.HTTPException, OSError)):
        get(port, "/metrics")
    config.write_text(
        config.read_text()
        + "  client_ca_file: client.crt\n  client_auth_type: RequireAndVerifyClientCert\n"
    )
    assert get_tls(port, certificates, "client") == 200
    for client in (None, "other"):
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            get_tls(port, certificates, client)
    assert get_tls(port, certificates, "client") == 200


def test_only_a_certificate_that_is_asked_for_makes_a_client_known(certificates: Path) -> None:
    """If this fails, captures go to whoever comes without a certificate."""
    config = certificates / "guard.yml"
    server = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
    for mode, known in (("VerifyClientCertIfGiven", False), ("RequireAndVerifyClientCert", True)):
        config.write_text(f"{server}  client_ca_file: client.crt\n  client_auth_type: {mode}\n")
        assert WebConfig(str(config)).access().guarded is known
    config.write_text(server)
    assert not WebConfig(str(config)).access().guarded
    assert not WebConfig("").access().guarded


def test_only_clients_of_the_allowed_names_are_served(start: Start, certificates: Path) -> None:
    """If this fails, client_allowed_sans restricts nobody."""
    config = certificates / "sans.yml"
    common = (
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
        "  client_ca_file: client.crt\n"
    )
    config.write_text(f"{common}  client_auth_type: RequireAndVerifyClientCert\n"
                      "  client_allowed_sans: [localhost]\n")  # fmt: skip
    _, port = start(str(config))
    assert get_tls(port, certificates, "client") == 200
    config.write_text(config.read_text().replace("[localhost]", "[other.test]"))
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        get_tls(port, certificates, "client")
    config.write_text(f"{common}  client_auth_type: VerifyClientCertIfGiven\n"
                      "  client_allowed_sans: [localhost]\n")  # fmt: skip
    with pytest.raises(UsageError, match="needs client certificates"):
        WebConfig(str(config))


def test_versions_of_tls(start: Start, certificates: Path) -> None:
    """If this fails, max_version is taken and does nothing, or the pair contradicts itself."""
    config = certificates / "versions.yml"
    common = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
    config.write_text(f"{common}  max_version: TLS12\n")
    _, port = start(str(config))
    for version, good in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, False)):
        context = ssl.create_default_context(cafile=str(certificates / "server.crt"))
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("localhost", port)) as plain:
            if good:
                context.wrap_socket(plain, server_hostname="localhost").close()
            else:
                with pytest.raises(ssl.SSLError):
                    context.wrap_socket(plain, server_hostname="localhost")
    config.write_text(f"{common}  min_version: TLS13\n  max_version: TLS12\n")
    with pytest.raises(UsageError, match="above max_version"):
        WebConfig(str(config))
