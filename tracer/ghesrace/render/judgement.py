# SPDX-License-Identifier: Apache-2.0
"""This is what every renderer gets: one file's report and where it comes from, or why it has
none."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ghesrace.checker.report import Report
from ghesrace.errors import GhesraceError
from ghesrace.plan import Plan

from .redact import Redactor


@dataclass(frozen=True, slots=True)
class Judgement:
    """A judgement is the report on one file. `file` is its name, or None if it was judged live,
    `plan` and `host` say how and where it was recorded, and `code` is its exit code. `redacted`
    says that addresses are relative and names left out."""

    file: str | None
    report: Report
    plan: Plan
    host: dict[str, Any] = field(default_factory=dict)
    code: int = 0
    redacted: bool = False

    def redact(self, redactor: Redactor, name: str) -> Judgement:
        """Return the same without addresses and names; *name* stands for the file.

        >>> from ghesrace.checker.engine import Engine
        >>> plan = Plan("x86_64", "6.12", (), ())
        >>> made = Judgement("a-host.arrows", Engine(plan).report(), plan, {"nodename": "a-host"})
        >>> made.redact(Redactor(), "file 1").host
        {}
        """
        report, host = redactor.report(self.report), redactor.host(self.host)
        if "source" in self.host:
            host["source"] = name  # It says that the trace is another tool's.
        file = None if self.file is None else name
        return replace(self, file=file, report=report, host=host, redacted=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure is a file that could not be judged, and why. `kind` is the type of the error, as in
    "InputError"."""

    file: str
    what: str
    hint: str
    code: int
    redacted: bool = False
    kind: str = ""

    @classmethod
    def of(cls, file: str, error: GhesraceError) -> Failure:
        """Return the failure of *file* that *error* tells.

        >>> Failure.of("a.txt", GhesraceError("a.txt is empty", "record again")).what
        'a.txt is empty'
        """
        return cls(file, error.what, error.hint, error.exit_code, kind=type(error).__name__)

    def redact(self, redactor: Redactor, name: str) -> Failure:
        """Return the same without addresses and names; *name* stands for the file.

        >>> Failure("/srv/a-host.txt", "/srv/a-host.txt is empty", "", 2).redact(
        ...     Redactor(), "file 1").what
        'file 1 is empty'
        """
        what, hint = (
            redactor.text(text.replace(self.file, name)) for text in (self.what, self.hint)
        )
        return replace(self, file=name, what=what, hint=hint, redacted=True)
