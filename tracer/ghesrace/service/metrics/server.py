# SPDX-License-Identifier: Apache-2.0
"""This module serves HTTP: /metrics, /-/healthy, /-/ready, the runbooks, the page for people, and
the captures for known clients.

Each connection has a thread and a time limit, and their number is limited. What a scrape gets was
made by the engine's thread and is encoded once per format, so that fifty scrapers cost little more
than one.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from prometheus_client.exposition import choose_encoder

from ghesrace import __version__
from ghesrace.errors import TransientError
from ghesrace.render.live import Told, plain_page

from .access import WebConfig
from .captures import REFUSED, Busy, Captures, TooBig
from .families import CODES, Published, standard

_PATIENCE_S = 10.0
_TEXT = "text/plain; charset=utf-8"
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True)
class Page:
    """A page is what the server tells. The engine's thread replaces it as a whole.

    `told` is what the page for people says, and `encoded` has the metrics by format and that page
    by whether its reader is known.
    """

    published: Published = field(default_factory=Published)
    told: Told = field(default_factory=Told)
    encoded: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Bulletin:
    """The engine's thread leaves the newest page here. `healthy` and `ready` answer the two probes,
    with a sentence that says why (not)."""

    healthy: Callable[[], tuple[bool, str]]
    ready: Callable[[], tuple[bool, str]]
    runbooks: str = ""
    captures: Captures = field(default_factory=lambda: Captures(""))
    page: Page = field(default_factory=Page)
    codes: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    drawing: threading.Lock = field(default_factory=threading.Lock)

    def count(self, code: int) -> None:
        """Count an answer by its status code."""
        name = str(code) if str(code) in CODES else "other"
        with self.lock:
            self.codes[name] = self.codes.get(name, 0) + 1

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Return the newest metrics in the format that *accept* (the header) asks for, and the name
        of that format."""
        page = self.page
        encoder, kind = choose_encoder(accept)
        with self.lock:
            if kind not in page.encoded:
                shown = Published([*page.published.families, *standard()])
                page.encoded[kind] = encoder(shown.registry)
            return page.encoded[kind], kind

    def people(self, guarded: bool) -> tuple[bytes, str]:
        """Return the page for people, and the policy to send with it. Unless its readers are
        *guarded*, which is to say known, addresses in it are relative and no capture is listed."""
        page = self.page
        name = f"people, {guarded}"
        with self.drawing:
            if name not in page.encoded:
                told = page.told
                if guarded:
                    told = replace(told, captures=self.captures.listed())
                else:
                    told = replace(told.redact(), captures_refused=REFUSED)
                page.encoded[name] = drawn(told).encode()
            return page.encoded[name], _policy()


class _Handler(BaseHTTPRequestHandler):
    """A handler answers one request. Its methods' names are those of http.server."""

    server: _Listener
    server_version = f"ghesrace/{__version__}"
    sys_version = ""
    timeout = _PATIENCE_S

    def log_message(self, format: str, *args: Any) -> None:
        """Do nothing, because answers are counted, not logged."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Count an answer."""
        self.server.board.count(int(code) if isinstance(code, int | HTTPStatus) else 0)

    def do_HEAD(self) -> None:
        """Answer as to a GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer by the path. The two probes need no password."""
        board = self.server.board
        try:
            path = urlsplit(self.path).path
        except ValueError:  # Half an IPv6 address.
            self._answer(400, _TEXT, b"no such address\n")
            return
        if path in ("/-/healthy", "/-/ready"):
            good, why = board.healthy() if path == "/-/healthy" else board.ready()
            self._answer(200 if good else 503, _TEXT, f"{why}\n".encode())
        elif not self.server.web.access().allowed(self.headers.get("Authorization")):
            self._answer(401, _TEXT, b"no\n", ("WWW-Authenticate", "Basic"))
        elif path == "/metrics":
            body, kind = board.metrics(self.headers.get("Accept", ""))
            self._answer(200, kind, body)
        elif path == "/":
            body, policy = board.people(self.server.web.access().guarded)
            self._answer(200, "text/html; charset=utf-8", body, policy=policy)
        elif path.startswith("/runbooks/"):
            self._runbook(unquote(path.removeprefix("/runbooks/")))
        elif path.startswith("/captures"):
            self._capture(unquote(path.removeprefix("/captures").removeprefix("/")))
        else:
            self._answer(404, _TEXT, b"not here: see /\n")

    def _runbook(self, name: str) -> None:
        if not name.replace("-", "").isalnum() or not self.server.board.runbooks:
            self._answer(404, _TEXT, b"no such runbook\n")
            return
        try:
            text = (Path(self.server.board.runbooks) / f"{name}.md").read_bytes()
        except OSError:
            self._answer(404, _TEXT, b"no such runbook\n")
            return
        self._answer(200, "text/plain; charset=utf-8", text)

    def _capture(self, name: str) -> None:
        captures = self.server.board.captures
        if not self.server.web.access().guarded:
            self._answer(403, _TEXT, f"{REFUSED}\n".encode())
            return
        if not name:
            names = "".join(f"{one.name}\n" for one in captures.listed())
            self._answer(200, _TEXT, names.encode())
            return
        with ExitStack() as stack:
            try:
                file, size = stack.enter_context(captures.opened(name))
            except TooBig:
                self._answer(413, _TEXT, b"too big to be handed out here: copy it from the host\n")
            except Busy:
                self._answer(429, _TEXT, b"one download at a time\n", ("Retry-After", "30"))
            except OSError:
                self._answer(404, _TEXT, b"no such capture\n")
            else:
                disposition = "Content-Disposition", f'attachment; filename="{name}"'
                self._head(200, "application/vnd.apache.arrow.stream", size, disposition)
                for piece in captures.pieces(file, size) if self.command != "HEAD" else ():
                    self.wfile.write(piece)

    def _answer(
        self,
        code: int,
        kind: str,
        body: bytes,
        *headers: tuple[str, str],
        policy: str = _NOTHING,
    ) -> None:
        self._head(code, kind, len(body), *headers, policy=policy)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(
        self, code: int, kind: str, size: int, *headers: tuple[str, str], policy: str = _NOTHING
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", policy)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()


class _Listener(ThreadingHTTPServer):
    """A listener serves one address, with a thread per connection while *slots* has room."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], board: Bulletin, web: WebConfig, slots: threading.Semaphore
    ) -> None:
        self.board, self.web, self._slots = board, web, slots
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for the connection, or answer 503 if there are too many already."""
        if not self._slots.acquire(blocking=False):
            self.board.count(503)
            if self.web.access().tls is None:
                with suppress(OSError):
                    request.settimeout(0.1)
                    request.sendall(_BUSY)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, in its own thread."""
        try:
            access = self.web.access()
            request.settimeout(_PATIENCE_S)
            # The handshake is done in this thread, so that a slow one blocks nobody else.
            if access.tls is not None:
                request = access.tls.wrap_socket(request, server_side=True)
                if not access.named(request.getpeercert()):
                    raise ssl.SSLError("the client's certificate has another name")
            super().process_request_thread(request, client_address)
        except (OSError, ssl.SSLError, ValueError):
            self.shutdown_request(request)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Count a client that went away or spoke no HTTP, which is no error of ours."""
        self.board.count(0)


class WebServer:
    """A web server listens on all *addresses* (host, port) until `close`. Once `serve` was called
    it serves at most so many *connections* at once; before that it has no thread, and clients wait.
    Raises TransientError if it can't listen, as long as another has the port, or this host has not
    got the address yet.

    >>> board = Bulletin(healthy=lambda: (True, "watching"), ready=lambda: (True, "watching"))
    >>> server = WebServer([("127.0.0.1", 0)], board, WebConfig(""), connections=4)
    >>> len(server.ports)
    1
    >>> server.close()
    """

    def __init__(
        self, addresses: list[tuple[str, int]], board: Bulletin, web: WebConfig, connections: int
    ) -> None:
        self._listeners: list[_Listener] = []
        self._serving = False
        slots = threading.Semaphore(connections)
        for address in addresses:
            try:
                listener = _Listener(address, board, web, slots)
            except OSError as error:
                self.close()
                raise TransientError(
                    f"can't listen on {address[0] or '*'}:{address[1]}: {error.strerror}",
                    "choose another address with web.listen",
                ) from error
            self._listeners.append(listener)

    def serve(self) -> None:
        """Answer from now on, in threads. Call it once."""
        for listener in self._listeners:
            threading.Thread(target=listener.serve_forever, daemon=True).start()
        self._serving = True

    @property
    def ports(self) -> list[int]:
        """These are the ports, in the order of the addresses. Where an address has port 0, the
        kernel chose one."""
        return [listener.server_address[1] for listener in self._listeners]

    def reload(self, web: WebConfig) -> None:
        """Take another web configuration for new connections."""
        for listener in self._listeners:
            listener.web = web

    def close(self) -> None:
        """Stop listening. A second call does nothing."""
        for listener in self._listeners:
            if self._serving:
                listener.shutdown()
            listener.server_close()
        self._listeners.clear()


def drawn(told: Told) -> str:
    """Return the page for people: with pictures, if Jinja2 is here.

    >>> "No finding." in drawn(Told())
    True
    """
    try:
        # A daemon whose page nobody opens needs no template engine in memory.
        from ghesrace.render.html.live import live_page
    except ImportError:
        return plain_page(told)
    return live_page(told)


def _policy() -> str:
    try:
        from ghesrace.render.html.live import policy
    except ImportError:
        return _NOTHING
    return policy()
