# SPDX-License-Identifier: Apache-2.0
"""What is sent where: ship.toml, and the credentials, which systemd hands over in a file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ghesrace.errors import UsageError
from ghesrace.fleet.stores import refuse_password

CREDENTIAL = "ghesrace-ship"  # the file's name in $CREDENTIALS_DIRECTORY
_MAX_BYTES = 1 << 20
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SECRETS = ("key", "secret", "token", "password", "pass", "private_key", "passphrase", "headers")
_SECRET_WORDS = {"secret", "token", "password", "authorization"}  # as in aws_secret_access_key


@dataclass(frozen=True, slots=True)
class Settings:
    """These are the settings of ship.toml. `to` is the URL of a folder in the store, `captures` the
    folder of the daemon's captures, `state` that of the outbox, and `budget` (bytes) bounds what
    waits in it. A capture is sent once nobody has written it for `settle` seconds. `options` go to
    the store's client."""

    to: str
    captures: Path = Path("/var/lib/ghesrace/captures")
    state: Path = Path("/var/lib/ghesrace-ship")
    budget: int = 1 << 30
    settle: float = 15.0
    options: dict[str, Any] = field(default_factory=dict)


def load(path: Path) -> Settings:
    """Return the settings in *path*. Raises UsageError if they can't be read or are wrong.

    load(Path("/etc/ghesrace/ship.toml")).to
    """
    try:
        found = tomllib.loads(_text(path))
    except ValueError as error:
        raise UsageError(f"{path}: {error}", "it is TOML: docs/ship.md has an example") from error
    kinds: dict[str, type | tuple[type, ...]] = {
        "to": str,
        "captures": str,
        "state": str,
        "budget": (str, int),
        "settle": (int, float),
        "options": dict,
    }
    for name, value in found.items():
        if name not in kinds:
            raise UsageError(f"{path}: unknown key {name!r}", f"known are {', '.join(kinds)}")
        if not isinstance(value, kinds[name]) or isinstance(value, bool):
            raise UsageError(f"{path}: {name} can't be {value!r}", "docs/ship.md has an example")
    if not found.get("to"):
        raise UsageError(f"{path}: it does not say where to", 'such as to = "s3://evidence/here"')
    refuse_password(found["to"])
    for name in _names(found.get("options", {})):
        last = name.rpartition(".")[2].lower()
        if last in _SECRETS or _SECRET_WORDS & set(re.split(r"[_-]", last)):
            raise UsageError(
                f"{path}: options.{name} is a credential",
                f"put it into the credential {CREDENTIAL}: docs/ship.md says how",
            )
    made: dict[str, Any] = {
        name: Path(value) if name in ("captures", "state") else value
        for name, value in found.items()
    }
    if "budget" in made:
        made["budget"] = _size(path, made["budget"])
    if made.get("settle", 0) < 0:
        raise UsageError(f"{path}: settle is negative", "it is a number of seconds")
    state = os.environ.get("STATE_DIRECTORY")
    if state:
        made.setdefault("state", Path(state.partition(":")[0]))
    return Settings(**made)


def _names(options: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yield the names of all options, those of tables in tables with the tables' before them."""
    for name, value in options.items():
        yield above + name
        if isinstance(value, dict):
            yield from _names(value, f"{above}{name}.")


def credentials() -> dict[str, Any]:
    """Return the credentials that systemd handed over (LoadCredential=), which go to the store's
    client; none if there are none. Raises UsageError, without a word of what is in them.

    >>> import os
    >>> _ = os.environ.pop("CREDENTIALS_DIRECTORY", None)
    >>> credentials()
    {}
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return {}
    path = Path(folder, CREDENTIAL)
    try:
        path.stat()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(
            f"can't read the credential {CREDENTIAL}: {error.strerror}",
            "systemd hands it over: the unit's LoadCredential= names its file",
        ) from error
    try:
        return tomllib.loads(_text(path))
    except ValueError:
        # Not from the error: it tells a part of the text.
        raise UsageError(
            f"the credential {CREDENTIAL} is no TOML", "docs/ship.md has an example for each store"
        ) from None


def secrets(found: object) -> list[str]:
    """Return all texts in the credentials that were *found*, the longest first: what must not be
    told.

    >>> secrets({"key": "a", "client_kwargs": {"headers": {"Authorization": "Bearer abc"}}})
    ['Bearer abc', 'abc', 'a']
    """
    if isinstance(found, dict):
        texts = [text for value in found.values() for text in secrets(value)]
    elif isinstance(found, list):
        texts = [text for value in found for text in secrets(value)]
    else:
        whole = str(found)
        texts = [whole, *whole.split()[1:]]
    return sorted({text for text in texts if text}, key=lambda text: (-len(text), text))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"can't read {path}: {error.strerror}", "docs/ship.md has an example"
        ) from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"{path} has more than {_MAX_BYTES:,} bytes", "it is another file")
    return data.decode()


def _size(path: Path, value: str | int) -> int:
    found = re.fullmatch(r"(\d{1,12})([KMGT]?)(?:i?B)?", str(value).strip(), re.I)
    if found is None or not int(found[1]):
        raise UsageError(f"{path}: budget {value!r} is no size", "such as 500M or 8G")
    return int(found[1]) << _UNITS[found[2].upper()]
