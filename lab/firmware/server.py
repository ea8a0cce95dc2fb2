# SPDX-License-Identifier: Apache-2.0
"""Answer on the host, in a thread of its own, the requests that the guest's client makes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ghesrace.errors import TransientError, UsageError
from lab import paths

from .firmware import Firmware
from .hest import Notify
from .scenario import Player, named

_POLL_S = 0.02
_RETRY_S = 2.0  # A notification may be lost or merged, and is raised again after so long.
_TRIES = 15
_SETTLE_S = 5.0
_BETWEEN_S = 0.005

_LOADS = 10.0

_KINDS = {"nmi": Notify.NMI, "irq": Notify.EXTERNAL, "hed": Notify.GPIO}


@dataclass(frozen=True, slots=True)
class _Told:
    """This tells the guest whether to move the GHES IRQ, how many SEAs a second to take, and
    whether all CPUs take theirs at once."""

    scenario: str | None = None
    bounce: bool = False
    loads: float = 0
    together: bool = False


class Control:
    """Serves the requests that lab.inside.client puts into *share* until `close`.

    A request that makes no sense is answered with an error, which the client raises.

        control = Control(share, firmware, Player(firmware))
        ...  # the guest runs
        control.close()
    """

    def __init__(self, share: Path, firmware: Firmware, player: Player) -> None:
        self._share = share
        self._firmware = firmware
        self._player = player
        self._told = _Told()
        self._end = threading.Event()
        self._verbs: dict[str, Callable[..., dict[str, Any]]] = {
            "start": self.start,
            "stop": self.stop,
            "report": self.report,
            "post": self._post,
            "notify": self._notify,
            "counts": self._firmware.counts,
        }
        paths.requests(share).mkdir(parents=True, exist_ok=True)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving; a request that is being served is finished first."""
        self._end.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._end.wait(_POLL_S):
            for request in sorted(paths.requests(self._share).glob("*.request")):
                answer = self._answer(request.read_text())
                request.unlink()
                paths.publish(request.with_suffix(".reply"), json.dumps(answer))

    def _answer(self, text: str) -> dict[str, Any]:
        try:
            request = json.loads(text)
            verb = self._verbs[request["verb"]]
            return {"result": verb(**request["arguments"])}
        except (UsageError, TransientError) as error:
            return {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"not a request that this lab knows: {error!r}"}

    def start(self, scenario: str) -> dict[str, Any]:
        """Play *scenario* and tell the guest its part in it. Raises UsageError if there is none."""
        self._player.start(scenario)
        told = named(scenario)
        self._tell(_Told(scenario, told.bounce, told.loads, told.together))
        return {}

    def stop(self) -> dict[str, Any]:
        """Stop playing, give the kernel 5 s to finish what is posted, and return the counts."""
        self._player.stop()
        self._tell(_Told())
        end = time.monotonic() + _SETTLE_S
        for placed in self._firmware.placed:
            self._firmware.wait(placed.source.name, max(0.0, end - time.monotonic()))
        return self._firmware.counts()

    def report(self, source: str, count: int = 1) -> dict[str, Any]:
        """Let *source* report *count* errors, each after the kernel acknowledged the last.

        Returns {"acknowledged": how many were}. Raises UsageError if there is no such source.
        """
        done, told = 0, self._told
        if self._firmware.source(source).source.notify is Notify.SEA:
            self._tell(replace(told, loads=max(told.loads, _LOADS)))
        for _ in range(count):
            self._firmware.wait(source, _RETRY_S)
            for _ in range(_TRIES):
                self._firmware.report(source)
                if self._firmware.wait(source, _RETRY_S):
                    done += 1
                    break
        self._tell(told)
        return {"acknowledged": done}

    def _post(self, source: str) -> dict[str, Any]:
        return {"posted": self._firmware.post(source)}

    def _notify(self, kind: str, count: int = 1) -> dict[str, Any]:
        for _ in range(count):
            self._firmware.raise_(_KINDS[kind])
            time.sleep(_BETWEEN_S)
        return {}

    def _tell(self, what: _Told) -> None:
        if what != self._told:
            self._told = what
            paths.publish(paths.playing(self._share), json.dumps(asdict(what)))
