# SPDX-License-Identifier: Apache-2.0
"""Kernels to boot, and what can be read of their images."""
