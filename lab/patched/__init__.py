# SPDX-License-Identifier: Apache-2.0
"""Kernels that are built here, out of a source and patches, and judged in a guest."""
