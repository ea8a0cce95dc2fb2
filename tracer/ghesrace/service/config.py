# SPDX-License-Identifier: Apache-2.0
"""This module reads the daemon's configuration: it takes TOML and returns a checked `Config`.
systemd/ghesrace.toml is an example.

msgspec converts values and checks types and ranges. What it says is turned into a sentence that
names the file, the key and, for a key that does not exist, the nearest one that does.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ghesrace.errors import UsageError

DEFAULT = Path("/etc/ghesrace/ghesrace.toml")
PORT = 10049

Seconds = Annotated[float, msgspec.Meta(ge=0, le=31_536_000)]
Interval = Annotated[float, msgspec.Meta(ge=1, le=2_592_000)]
MiB = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class SourceSettings(_Section, frozen=True):
    """These settings say where events come from. A change needs a restart. `buffer_kb` is in KiB
    per CPU; 0 chooses it by the host's memory. `pack` is a program pack for the bpf backend, which
    is taken if its SHA-256 is `pack_sha256` or if the key in the file `pack_key` signed it."""

    backend: Literal["auto", "ftrace", "bpf"] = "auto"
    strict: bool = False
    buffer_kb: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = 0
    pack: str = ""
    pack_sha256: str = ""
    pack_key: str = ""

    def pack_given(self) -> tuple[Path | None, str, Path | None]:
        """Return the pack, its SHA-256 and the file of its maker's key; None where there is
        none."""
        pack, key = (Path(text) if text else None for text in (self.pack, self.pack_key))
        return pack, self.pack_sha256, key


class WindowSettings(_Section, frozen=True):
    """These settings are those of the running window, whose verdict is a metric."""

    seconds: Interval = 3600.0


class RecorderSettings(_Section, frozen=True):
    """These settings are those of the flight recorder. Sizes are in MiB."""

    enabled: bool = True
    directory: str = "/var/lib/ghesrace/captures"
    memory_mib: MiB = 32
    after_seconds: Seconds = 5.0
    budget_mib: MiB = 1024
    repeat_seconds: Seconds = 3600.0
    captures_per_hour: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 12


class WebSettings(_Section, frozen=True):
    """These settings are those of the HTTP server of the metrics. `config_file` is a web
    configuration as Prometheus' exporter-toolkit has it (metrics/access.py)."""

    listen: tuple[str, ...] = (f"127.0.0.1:{PORT}",)
    config_file: str = ""
    connections: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 64
    runbooks: str = "/usr/share/doc/ghesrace/runbooks"


class TextfileSettings(_Section, frozen=True):
    """These settings say where metrics are written for node_exporter's textfile collector. Without
    a `directory` they are not."""

    directory: str = ""
    seconds: Interval = 15.0


class MetricsSettings(_Section, frozen=True):
    """These settings say which metrics are exported."""

    per_cpu: bool = False


class LogSettings(_Section, frozen=True):
    """These settings say what is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(_Section, frozen=True):
    """This is the whole configuration. A section or key that is missing in the file has its
    default.

    >>> Config().window.seconds
    3600.0
    """

    source: SourceSettings = SourceSettings()
    window: WindowSettings = WindowSettings()
    recorder: RecorderSettings = RecorderSettings()
    web: WebSettings = WebSettings()
    textfile: TextfileSettings = TextfileSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()


_PATHS = (
    *("source.pack", "source.pack_key", "recorder.directory", "web.config_file"),
    *("textfile.directory", "web.runbooks"),
)
# These are read at the start only. A reload that changes one says so and keeps the old value.
FIXED = ("source", "web.listen", "web.connections", "recorder.memory_mib")


def keys() -> list[str]:
    """Return every key as SECTION.KEY, in order.

    >>> keys()[0]
    'source.backend'
    """
    return [
        f"{section.name}.{key.name}"
        for section in msgspec.structs.fields(Config)
        for key in msgspec.structs.fields(section.type)
    ]


def load(path: Path) -> Config:
    """Read and check the file at *path*. Raises UsageError, which says what is wrong, where, and
    what to do.

        settings = load(Path("/etc/ghesrace/ghesrace.toml"))
    """
    try:
        return parse(path.read_bytes().decode(), str(path))
    except OSError as error:
        raise UsageError(
            f"can't read the configuration {path}: {error.strerror}",
            "name another with --config, or copy the commented example",
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8: {error.reason}", "save it as UTF-8") from error


def load_or_default(path: Path | None) -> Config:
    """Return the configuration at *path*. Without a *path* it is that of the default file, or the
    defaults if there is no such file. Raises UsageError if the file can't be read or is wrong.

        settings = load_or_default(Path("ghesrace.toml"))
    """
    if path is None and not DEFAULT.exists():
        return Config()
    return load(path or DEFAULT)


def addresses(config: Config) -> list[tuple[str, int]]:
    """Return the hosts and ports of web.listen.

    >>> addresses(Config())
    [('127.0.0.1', 10049)]
    """
    return [split_address(address, "web.listen") for address in config.web.listen]


def parse(text: str, name: str = "configuration") -> Config:
    """Read and check the TOML *text*, which messages call *name*. Raises UsageError.

    >>> parse("[window]\\nseconds = 60").window.seconds
    60.0
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name}: not TOML: {error}", "see https://toml.io") from error
    unknown(data, name)
    try:
        config = msgspec.convert(data, Config)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise UsageError(
            f"{name}: {where.rstrip('`') or 'top level'}: {what}",
            "the commented example says what each key takes",
        ) from error
    _distinct([split_address(address, name) for address in config.web.listen], name)
    if not config.recorder.directory:
        raise UsageError(f"{name}: recorder.directory is empty", "give an absolute path")
    for key in _PATHS:
        value = getattr(getattr(config, key.partition(".")[0]), key.partition(".")[2])
        if value and not value.startswith("/"):
            raise UsageError(f"{name}: {key}: {value!r} is relative", "give an absolute path")
    return config


def _distinct(addresses: list[tuple[str, int]], name: str) -> None:
    """Raise UsageError if the second of two addresses could never be listened on."""
    for at, (host, port) in enumerate(addresses):
        for other, again in addresses[:at]:
            if port and port == again and (host == other or "" in (host, other)):
                raise UsageError(
                    f"{name}: web.listen: port {port} of {host or other or 'every address'} twice",
                    "an address without a host takes the port of all",
                )


def unknown(data: dict[str, object], name: str) -> None:
    """Raise UsageError for the first key of *data* that `Config` does not have.

    >>> unknown({"window": {"seconds": 60}}, "configuration")
    """
    known = keys()
    sections = list(dict.fromkeys(key.partition(".")[0] for key in known))
    for section, content in data.items():
        if section not in sections:
            raise _no_such(name, f"[{section}]" if isinstance(content, dict) else section, known)
        for key in content if isinstance(content, dict) else ():
            if f"{section}.{key}" not in known:
                raise _no_such(name, f"{section}.{key}", known)


def _no_such(name: str, wanted: str, known: list[str]) -> UsageError:
    hint = f"keys are {', '.join(known)}"
    section, _, key = wanted.strip("[]").rpartition(".")
    if wanted.startswith("["):
        names = list(dict.fromkeys(k.partition(".")[0] for k in known))
        near = [f"[{n}]" for n in difflib.get_close_matches(key, names, 1, 0.5)]
    else:
        near = difflib.get_close_matches(wanted, known, 1, 0.7)
        # It may be a right key in the wrong section, or be similar to one.
        tails = {k.partition(".")[2]: k for k in known}
        near = near or [tails[t] for t in difflib.get_close_matches(key, tails, 1, 0.6)]
        near = near or [
            k for k in known if k.startswith(f"{section}.") and k.count("_") and key in k
        ]
    if near:
        hint = f"did you mean {near[0]}?"
    return UsageError(f"{name}: unknown key {wanted}", hint)


def split_address(address: str, name: str) -> tuple[str, int]:
    """Return the host and the port of "HOST:PORT" or "[V6]:PORT". Raises UsageError, which calls
    the configuration *name*.

    >>> split_address("[::1]:10049", "configuration")
    ('::1', 10049)
    """
    found = re.fullmatch(r"(\[[0-9a-fA-F:.%\w]+\]|[^:\[\]]*):(\d{1,5})", address)
    if not found or int(found[2]) > 65535:
        raise UsageError(
            f"{name}: web.listen: {address!r} is no address and port",
            f'write it like "127.0.0.1:{PORT}" or "[::1]:{PORT}"',
        )
    return found[1].strip("[]"), int(found[2])


def keep_fixed(old: Config, new: Config) -> tuple[Config, list[str]]:
    """Return *new* with the values of *old* for what only a restart can change, and the keys of
    such values that differed.

    >>> _, changed = keep_fixed(Config(), parse('[source]\\nbackend = "bpf"'))
    >>> changed
    ['source']
    """
    changed = []
    for name in FIXED:
        section, _, key = name.partition(".")
        before, after = getattr(old, section), getattr(new, section)
        if key and getattr(before, key) != getattr(after, key):
            after = msgspec.structs.replace(after, **{key: getattr(before, key)})
        elif not key and before != after:
            after = before
        else:
            continue
        changed.append(name)
        new = msgspec.structs.replace(new, **{section: after})
    return new, changed
