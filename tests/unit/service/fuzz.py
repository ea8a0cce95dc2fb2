# SPDX-License-Identifier: Apache-2.0
"""Mutated requests, web configurations, configurations, environments and program packs of the
daemon.

python -m tests.unit.service.fuzz [CASES [SEED [NAME...]]]

By default 100000 cases of each of `TARGETS`. Fails on any exception that is not typed, an answer of
500, none at all, or one that gives a stranger what is for known clients; it prints name, seed and
case, which make the same bytes again.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import bcrypt

from ghesrace.errors import HostError, InputError, UsageError
from ghesrace.render.live import Told
from ghesrace.service import config
from ghesrace.service.health import Health, HealthState
from ghesrace.service.metrics import access
from ghesrace.service.metrics.access import WebConfig
from ghesrace.service.metrics.families import publish
from ghesrace.service.metrics.server import Bulletin, Page, _Handler
from ghesrace.service.sdnotify import Notifier
from ghesrace.service.watch import Watch
from ghesrace.sources.bpf import cache
from ghesrace.sources.bpf.numbers import FIRST
from ghesrace.sources.bpf.pack import Pack
from tests.build.paths import REPO
from tests.build.trace import plan
from tests.unit.sources.bpf import test_pack
from tests.unit.sources.foreign.fuzz import mutate

Target = Callable[[bytes], str]
KEPT = "ghesrace-20260101T000000Z-stale-1.arrows"
_TRAPS = tuple(f"ghesrace-20260101T000000Z-stale-{n}.arrows" for n in (2, 3, 4))
SECRET, EVIDENCE = b"what lies beside the captures", b"what the captures show"
_WORD = b"eve:the right word"
_RIGHT = b"Basic " + base64.b64encode(_WORD)
_WRONG = b"Basic " + base64.b64encode(b"eve:another word")
_PATHS = (
    b"/",
    b"/metrics",
    b"/-/ready",
    b"/-/healthy",
    b"/runbooks/blind",
    b"/runbooks/../../secret.arrows",
    b"/captures",
    b"/captures/" + KEPT.encode(),
    b"/captures/../secret.arrows",
    b"/captures/%2e%2e%2fsecret.arrows",
    b"//[::1/metrics",
    b"http://[x/metrics",
    b"http://x/metrics",
)
_HEADS = (
    b"Host: x",
    b"Accept: application/openmetrics-text; version=1.0.0; q=0.5, */*;q=0.1",
    b"Accept-Encoding: gzip",
    b"Content-Length: 7",
    b"Range: bytes=0-3",
    b"Transfer-Encoding: chunked",
    b"Connection: keep-alive",
)
_WEB = """\
tls_server_config:
  cert_file: cert.pem
  key_file: key.pem
  client_ca_file: cert.pem
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: ["a.test", 192.0.2.1]
  min_version: TLS12
  max_version: TLS13
http_server_config: {http2: true}
basic_auth_users:
  eve: $2b$04$CwTycUXWue0Thq9StjUM0uJ8eYyFdLdlEQmIhqoLJDGrVJoyKv4LG
"""
_ENVIRONMENT = {
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "WATCHDOG_USEC": "30000000",
    "WATCHDOG_PID": "",
    "RUNTIME_DIRECTORY": "/run/ghesrace",
    "JOURNAL_STREAM": "8:12345",
}


class _Wire:
    """A connection whose client said *request* and hears `said`."""

    def __init__(self, request: bytes) -> None:
        self._request, self.said = request, b""

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._request)

    def sendall(self, data: bytes) -> None:
        self.said += data

    def settimeout(self, _: float) -> None:
        pass


class _Server:
    """What a handler asks of its server."""

    def __init__(self, folder: Path, web: str) -> None:
        runbooks = folder / "runbooks"
        self.board = Bulletin(lambda: (True, "fine"), lambda: (False, "no"), str(runbooks))
        shown = publish(Watch(plan(), 3600), Health(HealthState.WATCHING, "ftrace"))
        self.board.page = Page(shown, Told(facts=(("Kernel", "clean"),)))
        self.board.captures.directory = str(folder / "captures")
        self.web = WebConfig(web)


def http(folder: Path) -> Target:
    """Requests; by turns of strangers where everybody may read, of strangers, of known clients."""
    for name in ("captures", "runbooks"):
        (folder / name).mkdir()
    (folder / "captures" / KEPT).write_bytes(EVIDENCE)
    (folder / "secret.arrows").write_bytes(SECRET)
    (folder / "runbooks/blind.md").write_text("# what to do")
    guard = folder / "web.yml"
    access._NOBODY = bcrypt.hashpw(b"nobody", bcrypt.gensalt(4))  # as slow as it must be elsewhere
    hashed = bcrypt.hashpw(_WORD.partition(b":")[2], bcrypt.gensalt(4)).decode()
    guard.write_text(f"basic_auth_users: {{eve: '{hashed}'}}\n")
    opened, guarded = _Server(folder, ""), _Server(folder, str(guard))

    def one(data: bytes) -> str:
        who, data = data[0] % 3, data[1:]
        if who == 2:  # The line behind the first one is not mutated: the client is known.
            first, _, rest = data.partition(b"\n")
            data = first + b"\nAuthorization: " + _RIGHT + b"\r\n" + rest
        wire = _Wire(data)
        _Handler(wire, ("192.0.2.1", 7), guarded if who else opened)  # type: ignore[arg-type]
        status = re.match(rb"HTTP/1\.[01] (\d{3}) ", wire.said)
        if SECRET in wire.said or (EVIDENCE in wire.said and who != 2):
            raise AssertionError("a stranger reads what is not his")
        if who == 1 and b"ghesrace_build_info" in wire.said:
            raise AssertionError("a stranger reads metrics")
        if status is not None and status[1] == b"500":
            raise AssertionError("an internal error")
        return "no status" if status is None else status[1].decode()

    return one


def request(rng: random.Random) -> bytes:
    """A request that is nearly one."""
    path = rng.choice(_PATHS)
    lines = [b"%b %b HTTP/1.%d" % (rng.choice((b"GET", b"HEAD", b"POST")), path, rng.randint(0, 1))]
    lines += rng.sample(_HEADS, rng.randint(0, 3))
    if rng.random() < 0.5:
        lines.append(b"Authorization: " + rng.choice((_WRONG, b"Basic !", b"Bearer x")))
    made = b"\r\n".join(lines) + b"\r\n\r\n"
    return rng.randbytes(1) + (mutate(made, rng) if rng.random() < 0.7 else made)


def captures(folder: Path) -> Target:
    """Requests for captures, where things of their names are none: a link, a folder, a pipe."""
    one = http(folder)
    kept = folder / "captures"
    (kept / _TRAPS[0]).symlink_to(folder / "secret.arrows")
    (kept / _TRAPS[1]).mkdir()
    os.mkfifo(kept / _TRAPS[2])
    (kept / "beside.arrows").write_bytes(SECRET)
    return one


def download(rng: random.Random) -> bytes:
    """A request for a capture, or for what is near it."""
    pieces = [
        *_TRAPS,
        *4 * (KEPT,),
        "beside.arrows",
        "secret.arrows",
        "..",
        "%2e%2e",
        "",
        ".",
        "%00",
    ]
    names = rng.choices(pieces, k=rng.choice((1, 1, 2, 3)))
    path = "/captures/" + rng.choice(("/", "%2f", "")).join(names)
    lines = [f"{rng.choice(('GET', 'GET', 'HEAD'))} {path} HTTP/1.{rng.randint(0, 1)}".encode()]
    lines += rng.sample(_HEADS, rng.randint(0, 3))
    made = b"\r\n".join(lines) + b"\r\n\r\n"
    return rng.randbytes(1) + (mutate(made, rng) if rng.random() < 0.5 else made)


def web(folder: Path) -> Target:
    """Web configurations: taken, or refused in a sentence."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    file = folder / "fuzzed.yml"

    def one(data: bytes) -> str:
        file.write_bytes(data)
        try:
            made = access.load(file)
        except UsageError as error:
            return "refused" if str(file) in error.what else "refused somewhere"
        return "guarded" if made.guarded else "open"

    return one


def settings(folder: Path) -> Target:
    """The daemon's own configuration."""
    file = folder / "fuzzed.toml"

    def one(data: bytes) -> str:
        file.write_bytes(data)
        try:
            config.load(file)
        except UsageError:
            return "refused"
        return "taken"

    return one


def environment(folder: Path) -> Target:
    """What systemd tells a service in its environment."""

    def one(data: bytes) -> str:
        lines = (line.partition(b"=") for line in data.split(b"\n"))
        # A variable can't have a zero byte.
        told = {os.fsdecode(k): os.fsdecode(v.replace(b"\0", b"")) for k, _, v in lines}
        notifier = Notifier(told)
        notifier.starting("fuzzed")
        notifier.progress()
        with mock.patch.dict(os.environ):
            os.environ.pop("RUNTIME_DIRECTORY", None)
            if "RUNTIME_DIRECTORY" in told:
                os.environ["RUNTIME_DIRECTORY"] = told["RUNTIME_DIRECTORY"]
            place = cache.place()
        assert place.is_absolute()
        # Nothing is made where a mutated path leads.
        with mock.patch.object(Path, "mkdir"), contextlib.suppress(ValueError):
            cache.Cache(place, "1").get("text")
        notifier.send("READY=1")
        return "kept by default" if place == Path("/run/ghesrace/bpf") else "kept elsewhere"

    return one


def pack(folder: Path) -> Target:
    """Program packs: read and for this host, read and refused, or none."""
    plan, btf, text = test_pack.PLAN, test_pack.BTF, test_pack.TEXT

    def one(data: bytes) -> str:
        try:
            read = Pack.read(data, "fuzzed")
        except InputError:
            return "no pack"
        assert Pack.read(read.to_json().encode(), "again") == read
        try:
            made = read.entry(plan, btf, text).for_boot({FIRST: 7}, records=256, cpus=2)
        except HostError:
            return "not for this host"
        fds = list(range(len(made.maps)))
        assert all(made.with_maps(name, fds) for name in made.code)
        return "loaded"

    return one


def text(seed: str) -> Callable[[random.Random], bytes]:
    """Mutations of *seed*, now and then with lines swapped or left out."""

    def made(rng: random.Random) -> bytes:
        lines = seed.encode().split(b"\n")
        if rng.random() < 0.5:
            del lines[rng.randrange(len(lines))]
        if rng.random() < 0.3:
            rng.shuffle(lines)
        return mutate(b"\n".join(lines), rng)

    return made


def packed(rng: random.Random) -> bytes:
    """A program pack with one of its values exchanged, or with other bytes."""
    seed = test_pack.PACK.to_json()
    if rng.random() < 0.3:
        return mutate(seed.encode(), rng)
    data: Any = json.loads(seed)
    place = data
    while True:
        keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = rng.choice(keys)
        if isinstance(place[key], dict | list) and rng.random() < 0.8:
            place = place[key]
            continue
        code = test_pack.ld_imm64(rng.choice((FIRST, FIRST + 1, 0, 1, 2, 7)), rng.randint(0, 3))
        others = (None, True, 0, 1, 2, -1, 1 << 32, 0.5, "", "p0", "x" * 600, [], {}, seed[:64])
        place[key] = rng.choice((*others, code.hex(), code.hex()[:-2], place[rng.choice(keys)]))
        break
    return json.dumps(data).encode()


_LINES = "\n".join(f"{name}={value}" for name, value in _ENVIRONMENT.items())
TARGETS: dict[str, tuple[Callable[[Path], Target], Callable[[random.Random], bytes]]] = {
    "http": (http, request),
    "captures": (captures, download),
    "web.config_file": (web, text(_WEB)),
    "ghesrace.toml": (settings, text((REPO / "systemd/ghesrace.toml").read_text())),
    "environment": (environment, text(_LINES)),
    "program pack": (pack, packed),
}


def run(name: str, cases: int, seed: int) -> Counter[str]:
    """Try *cases* of one target, and return how often each thing became of one. Raises
    AssertionError, which names the case, at the first that is wrong."""
    outcomes: Counter[str] = Counter()
    prepare, make = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        one = prepare(Path(folder))
        for case in range(cases):
            data = make(random.Random(f"{name} {seed} {case}"))
            try:
                outcomes[one(data)] += 1
            except Exception as error:
                what = f"{name}: seed {seed}, case {case}: {error!r} of {data!r}"
                raise AssertionError(what) from error
            if case % 10_000 == 9_999:
                print(f"{name}: {case + 1:,} {dict(outcomes)}", file=sys.stderr, flush=True)
    return outcomes


if __name__ == "__main__":
    given = sys.argv[1:]
    for target in given[2:] or TARGETS:
        found = run(target, int(given[0]) if given else 100_000, int(given[1]) if given[1:] else 1)
        print(f"{target}: {sum(found.values()):,} cases: {dict(found.most_common())}", flush=True)
