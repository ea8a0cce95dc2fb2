# SPDX-License-Identifier: Apache-2.0
"""Watch GHES map/unmap/TLB interleavings of a live kernel; see docs/architecture.md."""

from . import compiled

__version__ = "0.2.0"

compiled.install()
