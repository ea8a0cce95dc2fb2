# SPDX-License-Identifier: Apache-2.0
"""This package reads and writes our own captures, each of which is an Arrow IPC stream."""
