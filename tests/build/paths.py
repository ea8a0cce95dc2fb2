# SPDX-License-Identifier: Apache-2.0
"""Where things lie that tests need: this repository, its fixtures, a live kernel's tracefs."""

from __future__ import annotations

from pathlib import Path

from lab.kernels import kernelfile
from lab.paths import REPO

__all__ = ["CORPUS", "EXAMPLES", "FIXTURES", "REPO", "TRACEFS"]

FIXTURES = REPO / "tests" / "unit" / "fixtures"
CORPUS = FIXTURES / "foreign"  # foreign traces: v6.dat and its like
EXAMPLES = REPO / "examples"
TRACEFS = Path("/", kernelfile.TRACEFS)  # of the running kernel
