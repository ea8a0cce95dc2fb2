# SPDX-License-Identifier: Apache-2.0
"""Pack the texts of one run, and the live capture of it, into one small file for the tests, and
unpack it."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import asdict
from pathlib import Path

from lab.inside.forms import LIVE

from .printing import Form

_LIST = "forms.json"


def pack(forms: list[Form], folder: Path, archive: Path) -> None:
    """Write the texts of *forms* and the live capture, which are in *folder*, to *archive*.

    pack(forms, Path("share"), Path("forms.tar.xz"))
    """
    listed = json.dumps([asdict(form) for form in forms], indent=1).encode()
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name in (LIVE, *(form.file for form in forms)):
            _add(tar, name, (folder / name).read_bytes())
        _add(tar, _LIST, listed)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # Nothing of the host: no times, no owners.
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def unpack(archive: Path, folder: Path) -> list[Form]:
    """Unpack *archive* into *folder*; return the forms that are there.

    forms = unpack(Path("forms.tar.xz"), tmp_path)
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            (folder / Path(member.name).name).write_bytes(file.read())
    return [Form(**form) for form in json.loads((folder / _LIST).read_text())]
