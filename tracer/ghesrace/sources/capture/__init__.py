# SPDX-License-Identifier: Apache-2.0
"""Captures of our own: an Arrow IPC stream."""
