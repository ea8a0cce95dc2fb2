# SPDX-License-Identifier: Apache-2.0
"""The errors are split by what the caller should do, and each carries its exit code.

The exit codes are a contract (README, "Exit codes"): scripts depend on them.

>>> print(HostError("tracefs is not mounted", "mount -t tracefs tracefs /sys/kernel/tracing"))
tracefs is not mounted
  mount -t tracefs tracefs /sys/kernel/tracing
>>> HostError.exit_code
3
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FINDING = 1
EXIT_USAGE = 2
EXIT_INCONCLUSIVE = 3
EXIT_INTERNAL = 4


class GhesraceError(Exception):
    """This is the base of every error that a user can meet.

    *what* says in one sentence what went wrong and where, and *hint* what to do next.
    """

    exit_code = EXIT_INTERNAL

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}\n  {self.hint}" if self.hint else self.what


class UsageError(GhesraceError, ValueError):
    """The command line or a configuration is wrong: the user has to fix it and call again."""

    exit_code = EXIT_USAGE


class InputError(GhesraceError, ValueError):
    """A file that was given to us cannot be read as what it should be, and was not judged."""

    exit_code = EXIT_USAGE


class HostError(GhesraceError, OSError):
    """This host can't do it (it has no kprobes, tracefs or slot): retrying does not help."""

    exit_code = EXIT_INCONCLUSIVE


class TransientError(GhesraceError, OSError):
    """The host failed this time (it is busy or full, or an instance is gone): a retry may help."""

    exit_code = EXIT_INCONCLUSIVE
