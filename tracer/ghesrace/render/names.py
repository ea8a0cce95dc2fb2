# SPDX-License-Identifier: Apache-2.0
"""These functions name the HEST sources of frames and slots, for every output."""

from __future__ import annotations

from typing import Any

from ghesrace.events import PAGE_SIZE

_BY_SLOT = {"nmi": ("NMI",), "sea": ("SEA",), "sdei": ("SDEI",)}


def frame_source(host: dict[str, Any], frame: int) -> str | None:
    """Return the HEST source whose error status block lies in the page at *frame* (physical
    address, bytes), or None. *host* holds the facts of a capture's metadata.

    >>> source = {"id": 1, "notification": "NMI", "block": 0x7F000040, "length": 4_096}
    >>> frame_source({"hest": [source]}, 0x7F000000)
    'HEST source 1 (NMI)'
    """
    for source in _sources(host):
        block, length = source.get("block"), source.get("length")
        if isinstance(block, int) and isinstance(length, int):
            first = block & ~(PAGE_SIZE - 1)
            if first <= frame < block + max(length, 1):
                return _name(source)
    return None


def slot_sources(host: dict[str, Any], slot: str) -> list[str]:
    """Return the HEST sources that are read through the slot, as far as its name tells.

    A slot of a module ("module:slot") serves no source of this HEST that we know of.

    >>> slot_sources({"hest": [{"id": 1, "notification": "NMI"}]}, "GHES_NMI")
    ['HEST source 1 (NMI)']
    """
    if ":" in slot:
        return []
    own = next((v for k, v in _BY_SLOT.items() if k in slot.lower()), None)
    special = {n for names in _BY_SLOT.values() for n in names}
    result = []
    for source in _sources(host):
        kind = str(source.get("notification"))
        if (own is not None and kind in own) or (own is None and kind not in special):
            result.append(_name(source))
    return result


def _sources(host: dict[str, Any]) -> list[dict[str, Any]]:
    found = host.get("hest")
    return [s for s in found if isinstance(s, dict)] if isinstance(found, list) else []


def _name(source: dict[str, Any]) -> str:
    return f"HEST source {source.get('id')} ({source.get('notification')})"
