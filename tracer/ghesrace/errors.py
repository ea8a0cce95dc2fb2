# SPDX-License-Identifier: Apache-2.0
"""Typed errors, split by what the caller should do; each carries its exit code.

The exit codes are a contract (README, "Exit codes"): scripts depend on them.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FINDING = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_INTERNAL = 4


class GhesraceError(Exception):
    """Base of every error a user can meet.

    Parameters: *what* went wrong and where (one sentence), *hint*: what to do next.
    """

    exit_code = EXIT_INTERNAL

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  {self.hint}" if self.hint else self.what


class UsageError(GhesraceError, ValueError):
    """The command line or a configuration is wrong: fix it and call again."""

    exit_code = EXIT_USAGE


class InputError(GhesraceError, ValueError):
    """A file given to us cannot be read as what it should be; nothing was judged."""

    exit_code = EXIT_USAGE


class HostError(GhesraceError, OSError):
    """This host can't do it (no kprobes, no tracefs, no slot): retrying does not help."""

    exit_code = EXIT_INCONCLUSIVE


class TransientError(GhesraceError, OSError):
    """The host failed this time (busy, no space, instance gone): a retry may help."""

    exit_code = EXIT_INCONCLUSIVE
