# SPDX-License-Identifier: Apache-2.0
"""What the doctor says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "degraded", "missing"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing tried: its state, what was found, what that means, what to do ("" if nothing).

    `needed` says that no capture can run while the state is "missing".
    """

    name: str
    state: State
    found: str
    meaning: str = ""
    remedy: str = ""
    needed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {name: getattr(self, name) for name in self.__slots__}
