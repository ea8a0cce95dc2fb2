# SPDX-License-Identifier: Apache-2.0
"""Kernels whose facts are fixtures."""

from __future__ import annotations

from lab import facts

KERNEL = sorted(facts.KERNELS.glob("6.1.*-amd64.json"))[0]
