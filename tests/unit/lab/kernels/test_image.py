# SPDX-License-Identifier: Apache-2.0
"""The code in kernel images, of every kind that Debian's packages have."""

from __future__ import annotations

import gzip
import lzma
import struct

import pyarrow as pa
import pytest

from ghesrace.errors import InputError
from lab.kernels.image import Image

BASE = 0xFFFFFFFF81000000
CODE = b"\xf3\x0f\x1e\xfa" * 64
ELF = (
    b"\x7fELF".ljust(32, b"\0")
    + struct.pack("<Q", 64).ljust(22, b"\0")
    + struct.pack("<HH", 56, 1).ljust(10, b"\0")
    + struct.pack("<IIQQQQQQ", 1, 5, 120, BASE, 0, len(CODE), len(CODE), 1)
    + CODE
)
FLAT = b"MZ".ljust(0x38, b"\0") + b"ARM\x64" + CODE


def bzimage(payload: bytes) -> bytes:
    """A boot sector, one sector of set-up, 16 bytes, then the payload and its size."""
    data = bytearray(1024 + 16)
    data[0x1F1] = 1
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", data, 0x248, 16, len(payload))
    return bytes(data) + payload


def zboot(payload: bytes) -> bytes:
    return b"MZ\0\0zimg" + struct.pack("<II", 64, len(payload)).ljust(56, b"\0") + payload


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes() + struct.pack("<I", len(data))


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress, zstd])
def test_x86(compress):
    """If this fails, no x86 kernel's code is among the fixtures."""
    image = Image(bzimage(compress(ELF)))
    assert image.read(BASE + 4, 4) == CODE[4:8]
    assert image.read(BASE + len(CODE) - 1, 9) == CODE[-1:]
    assert image.read(BASE - 1, 4) == b""


@pytest.mark.parametrize("data", [FLAT, gzip.compress(FLAT, mtime=0), zboot(zstd(FLAT))])
def test_arm64(data: bytes):
    """If this fails, no arm64 kernel's code is among the fixtures."""
    assert Image(data, 0xFFFF800080000000).read(0xFFFF80008000003C, 4) == CODE[:4]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MZ" * 300,
        bzimage(b"??????????"),
        bzimage(zstd(ELF)[:5]),
        gzip.compress(b"x", mtime=0),
    ],
)
def test_what_is_no_image_is_told(data: bytes):
    """If this fails, a package that holds something else ends in a traceback."""
    with pytest.raises(InputError):
        Image(data)
