# SPDX-License-Identifier: Apache-2.0
"""This module reads the letters before a stamp, which tell the context of an event."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .forms import Style
from .lines import Text

# These are the TRACE_FLAG_* that stand for what the letters show.
IRQS_OFF, HARDIRQ, SOFTIRQ, NMI = 0x01, 0x08, 0x10, 0x40
_MOST = 1000  # letters that are remembered; there are some dozens
_WHERE = {"Z": NMI | HARDIRQ, "z": NMI, "H": HARDIRQ | SOFTIRQ, "h": HARDIRQ, "s": SOFTIRQ}


class Flags:
    """Flags read the letters of many events, and remember what letters there were.

    >>> from .lines import lines_of
    >>> flags = Flags(Style(kernel=True))
    >>> [hex(bits) for bits in flags.take(lines_of(b"d.h1."))]
    ['0x9']
    >>> flags.contexts
    True
    """

    def __init__(self, style: Style) -> None:
        self._style = style
        self.known: dict[bytes, int] = {}  # letters -> TRACE_FLAG_*
        self.flagged = self._nmis = self._five_columns = False

    @property
    def contexts(self) -> bool:
        """This is false if the letters can't tell contexts, or take an NMI for an interrupt."""
        return self.flagged and (self._nmis or (self._style.kernel and self._five_columns))

    def take(self, letters: Text) -> npt.NDArray[np.int64]:
        """Return the TRACE_FLAG_* of events whose *letters* (shape (n,)) are these."""
        encoded = letters.dictionary_encode()
        table = []
        for raw in encoded.dictionary.to_pylist():
            text = raw.decode("latin-1")
            # The context is the third letter, or the fourth where a lazy resched is before it. What
            # else may be the fourth is a number.
            at = self._style.context if len(text) == self._style.columns else None
            context = text[at : at + 1] if at is not None else text[2:4]
            where = next((c for c in context if c in _WHERE), "")
            self.flagged |= bool(text)
            self._five_columns |= len(text) > 4
            self._nmis |= where in "zZ" and bool(where)
            bits = (IRQS_OFF if text[:1] in ("d", "D") else 0) | _WHERE.get(where, 0)
            table.append(bits)
            if len(self.known) < _MOST:
                self.known[raw] = bits
        flags: npt.NDArray[np.int64] = np.array(table, np.int64)[np.asarray(encoded.indices)]
        return flags
