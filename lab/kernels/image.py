# SPDX-License-Identifier: Apache-2.0
"""Read the code of a kernel's image by address, as it is linked, without booting it.

What boot changes is not in it: alternatives stand as their default, ftrace's sites still call, and
addresses are those of a kernel without KASLR.
"""

from __future__ import annotations

import io
import lzma
import struct

import pyarrow as pa

from ghesrace.errors import InputError

_SETUP_SECTORS, _PAYLOAD = 0x1F1, 0x248  # Documentation/arch/x86/boot.rst
_SECTOR = 512
_ARM64_MAGIC = 0x38  # Documentation/arch/arm64/booting.rst
_ZBOOT = 4  # drivers/firmware/efi/libstub/zboot-header.S
_MAGICS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_XZ = b"\xfd7zXZ\x00"
_PHDR = struct.Struct("<IIQQQQQQ")
_PT_LOAD = 1


class Image:
    """An image gives the bytes at the virtual addresses at which it is linked.

    *begin* is the address of its first byte, which only arm64's image does not say itself. Raises
    InputError if it is no image that we know.

        Image(Path("vmlinuz-6.1.0-9-amd64").read_bytes()).read(0xffffffff81089ec0, 64)
    """

    def __init__(self, data: bytes, begin: int = 0) -> None:
        kernel = unpacked(data)
        if kernel[:4] == b"\x7fELF":
            self._parts = [(v, kernel[at : at + size]) for v, at, size in _loads(kernel)]
        else:
            self._parts = [(begin, kernel)]

    def read(self, address: int, size: int) -> bytes:
        """Return up to *size* bytes at *address*; b"" where the image has none."""
        for first, part in self._parts:
            if first <= address < first + len(part):
                return part[address - first : address - first + size]
        return b""


def unpacked(data: bytes) -> bytes:
    """Return the ELF (x86) or the flat kernel (arm64) in an image. Raises InputError if there is
    none."""
    try:
        if data[0x202:0x206] == b"HdrS":
            start, size = struct.unpack_from("<II", data, _PAYLOAD)
            start += (data[_SETUP_SECTORS] + 1) * _SECTOR
            kernel = _decompressed(data[start : start + size])
            if kernel.startswith(b"\x7fELF"):
                return kernel
        if data[_ZBOOT : _ZBOOT + 4] == b"zimg":
            start, size = struct.unpack_from("<II", data, _ZBOOT + 4)
            return unpacked(_decompressed(data[start : start + size]))
        if data[_ARM64_MAGIC : _ARM64_MAGIC + 4] == b"ARM\x64":
            return data
        if data[:2] in _MAGICS:
            return unpacked(_decompressed(data))
    except (struct.error, IndexError, OSError, EOFError, pa.ArrowException) as error:
        raise InputError(f"the kernel image is damaged: {error}") from error
    raise InputError("this is no kernel image of x86 or arm64")


def _decompressed(data: bytes) -> bytes:
    if data.startswith(_XZ):
        return lzma.LZMADecompressor().decompress(data)
    for magic, codec in _MAGICS.items():
        if data.startswith(magic):
            # The kernel's Makefile appends the size of what was compressed, but for gzip.
            body = data if codec == "gzip" else data[:-4]
            with pa.CompressedInputStream(io.BytesIO(body), codec) as stream:
                return bytes(stream.read())
    raise InputError(f"the kernel in the image is compressed in an unknown way: {data[:6].hex()}")


def _loads(elf: bytes) -> list[tuple[int, int, int]]:
    """Return (address, offset, size) of each segment of *elf*."""
    offset, entry, number = (
        struct.unpack_from("<Q", elf, 32)[0],
        *struct.unpack_from("<HH", elf, 54),
    )
    found = []
    for i in range(number):
        kind, _, at, address, _, size, _, _ = _PHDR.unpack_from(elf, offset + i * entry)
        if kind == _PT_LOAD:
            found.append((address, at, size))
    return found
