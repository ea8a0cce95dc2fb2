# SPDX-License-Identifier: Apache-2.0
"""Tell the firmware on the host, from within the guest, what to do.

    from lab.inside.client import Client
    client = Client()                     # the share is in $LAB_SHARE
    client.start("mixed"); ...; client.stop()
    client.report("nmi-cross")            # one record and its NMI, waits for the kernel

Each request is a file in the shared folder, and so is its answer; the module needs nothing but
Python. `lab.firmware.server` is the other end.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from ghesrace.errors import HostError, TransientError, UsageError
from lab import paths

_POLL_S = 0.02


class Client:
    """A client talks to the firmware through the shared folder *share*, by default $LAB_SHARE.

        client = Client()
        client.report("nmi", 100)
        assert client.counts()["sources"]["nmi"]["acknowledged"] == 100

    Every call raises UsageError if the firmware rejects it, TransientError if the host does
    not answer within *patience_s*; the constructor raises HostError outside a lab guest.
    """

    def __init__(self, share: Path | None = None, patience_s: float = 120) -> None:
        if share is None:
            if paths.ENV not in os.environ:
                raise HostError(
                    f"${paths.ENV} is not set: this is not a lab guest",
                    "run it in one: python -m lab run -- COMMAND",
                )
            share = Path(os.environ[paths.ENV])
        self._requests = paths.requests(share)
        self._patience_s = patience_s

    def call(self, verb: str, **arguments: object) -> dict[str, Any]:
        """Send one request, wait for its answer and return the answer's result (a JSON object)."""
        request = self._requests / f"{uuid.uuid4().hex}.request"
        reply = request.with_suffix(".reply")
        paths.publish(request, json.dumps({"verb": verb, "arguments": arguments}))
        end = time.monotonic() + self._patience_s
        while not reply.exists():
            if time.monotonic() > end:
                raise TransientError(
                    f"the lab's host did not answer {verb!r} within {self._patience_s:.0f} s"
                )
            time.sleep(_POLL_S)
        answer: dict[str, Any] = json.loads(reply.read_text())
        reply.unlink()
        if "error" in answer:
            raise UsageError(f"the lab's firmware rejects {verb!r}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def start(self, scenario: str) -> None:
        """Play *scenario* in place of the current one."""
        self.call("start", scenario=scenario)

    def stop(self) -> dict[str, Any]:
        """Stop the scenario; return `counts` once the kernel acknowledged all, or after 5 s."""
        return self.call("stop")

    def report(self, source: str, count: int = 1) -> int:
        """Let *source* report *count* errors one after the other.

        Returns how many of them the kernel acknowledged. A lost notification is repeated.
        """
        return int(self.call("report", source=source, count=count)["acknowledged"])

    def post(self, source: str) -> bool:
        """Put one record into *source*'s block without a notification.

        Returns False, and posts nothing, if the kernel has not acknowledged the last record.
        """
        return bool(self.call("post", source=source)["posted"])

    def notify(self, kind: str, count: int = 1) -> None:
        """Raise *count* notifications of *kind* ("nmi", "irq" or "hed"); post nothing."""
        self.call("notify", kind=kind, count=count)

    def counts(self) -> dict[str, Any]:
        """Return the ground truth so far; `Firmware.counts` of the host says what is in it."""
        return self.call("counts")
